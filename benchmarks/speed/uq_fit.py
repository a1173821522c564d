"""`uq.fit`. Variants: "" is its defaults; "all-rows" holds none out; "same-init" starts from the shared weights."""

import flax.linen as nn
import jax
import numpy as np
import optax
from common import HIDDEN, Clock, arguments, data, initial_weights, report, score

import uq

args = arguments()
x, y, x_test, y_test = data(args.rows)


class MLP(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(HIDDEN, name="hidden")(x))
        return nn.Dense(2, name="head")(x)


def fit(seed):
    more = {}
    optimizer = None
    if args.variant == "all-rows":
        more["validation"] = 0
    if args.variant == "same-init":
        w1, b1, w2, b2 = initial_weights(args.members, x.shape[1], seed)
        weights = {"hidden": {"kernel": w1, "bias": b1}, "head": {"kernel": w2, "bias": b2}}
        more |= {"start": weights, "standardize_inputs": True, "standardize_targets": True, "validation": 0}
        optimizer = optax.adam(0.01)
    method = uq.deep_ensemble(MLP(), uq.likelihoods.Gaussian(), optimizer, size=args.members)
    posterior = uq.fit(method, (x, y), key=seed, epochs=args.epochs, batch_size=args.batch, **more)
    jax.block_until_ready(posterior.state)
    return posterior


clock = Clock()
posterior = fit(args.seed)
cold = clock()
clock = Clock()
fit(args.seed + 1)
warm = clock()
pred = posterior.predict(x_test)
members = pred.likelihood.distribution(pred.outputs)
name = "uq.fit" + (f" ({args.variant})" if args.variant else "")
report(
    name,
    args,
    cold,
    warm,
    score(np.asarray(members.mean), np.asarray(members.variance), y_test),
    compile_s=round(posterior.history.compile_seconds, 3),
    versions=f"uq {uq.__version__}, jax {jax.__version__}",
)
