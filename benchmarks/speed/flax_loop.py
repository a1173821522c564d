"""Flax as usually written: a Python loop over members with a jitted step a minibatch (linen, TrainState)."""

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from common import HIDDEN, Clock, arguments, data, initial_weights, report, scales, score
from flax.training.train_state import TrainState

args = arguments()
x, y, x_test, y_test = data(args.rows)
x_mean, x_scale, y_mean, y_scale = scales(x, y)


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(HIDDEN, name="hidden")(x))
        return nn.Dense(2, name="head")(x)


model, optimizer = MLP(), optax.adam(0.01)


@jax.jit
def step(state, inputs, targets):
    def loss_of(params):
        out = model.apply({"params": params}, inputs)
        variance = jax.nn.softplus(out[:, 1]) + 1e-6
        return 0.5 * jnp.mean(jnp.log(variance) + (targets - out[:, 0]) ** 2 / variance)

    return state.apply_gradients(grads=jax.grad(loss_of)(state.params))


def fit(seed):
    rng = np.random.default_rng(seed)
    w1, b1, w2, b2 = initial_weights(args.members, x.shape[1], seed)
    inputs, targets = jnp.asarray((x - x_mean) / x_scale), jnp.asarray((y - y_mean) / y_scale)
    nets = []
    for k in range(args.members):
        params = {"hidden": {"kernel": w1[k], "bias": b1[k]}, "head": {"kernel": w2[k], "bias": b2[k]}}
        params = jax.tree.map(jnp.asarray, params)
        state = TrainState.create(apply_fn=model.apply, params=params, tx=optimizer)
        for _ in range(args.epochs):
            order = rng.permutation(len(inputs))
            for i in range(len(inputs) // args.batch):
                rows = order[i * args.batch : (i + 1) * args.batch]
                state = step(state, inputs[rows], targets[rows])
        nets.append(state.params)
    jax.block_until_ready(nets)
    return nets


clock = Clock()
nets = fit(args.seed)
cold = clock()
clock = Clock()
fit(args.seed + 1)
warm = clock()
z = jnp.asarray((x_test - x_mean) / x_scale)
out = np.stack([np.asarray(model.apply({"params": params}, z)) for params in nets])
mean = out[..., 0] * y_scale + y_mean
variance = (np.logaddexp(0, out[..., 1]) + 1e-6) * y_scale**2
versions = f"jax {jax.__version__}, flax {flax.__version__}"
report("Flax loop", args, cold, warm, score(mean, variance, y_test), versions=versions)
