"""Point estimates against closed forms: ridge regression, and one step of SGD by hand."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import uq

from ..nets import Unit
from .linear import LOC, SPREAD, network, problem


def trained(method: uq.Method, batch: uq.Batch, steps: int) -> np.ndarray:
    state = method.init(jax.random.key(0), batch.x)

    def step(state: object, _: None) -> tuple:
        return method.update(jax.random.key(0), state, batch)[0], None

    with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes dtypes
        state, _ = jax.jit(lambda s: jax.lax.scan(step, s, length=steps))(state)
    return np.asarray(state.variables.params["w"])


def test_with_a_prior_it_is_the_posterior_mode() -> None:
    x, y, mean, _ = problem()
    method = uq.methods.map_estimate(network(), Unit(), optax.adam(0.05), prior=dist.Normal(LOC, SPREAD))
    np.testing.assert_allclose(trained(method, uq.Batch(x, y, None, float(len(y))), 800), mean, atol=1e-3)


def test_without_a_prior_it_is_least_squares() -> None:
    x, y, _, _ = problem()
    method = uq.methods.map_estimate(network(), Unit(), optax.adam(0.05))
    want = np.linalg.lstsq(np.asarray(x, np.float64), np.asarray(y, np.float64), rcond=None)[0]
    np.testing.assert_allclose(trained(method, uq.Batch(x, y), 800), want, atol=1e-3)


def test_weights_make_it_weighted_least_squares() -> None:
    x, y, _, _ = problem()
    weight = np.linspace(0.0, 2.0, len(y))
    method = uq.methods.map_estimate(network(), Unit(), optax.adam(0.05))
    got = trained(method, uq.Batch(x, y, jnp.asarray(weight, jnp.float32)), 1000)
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    want = np.linalg.solve(a.T @ (weight[:, None] * a), a.T @ (weight * b))
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_one_step_is_the_gradient_by_hand() -> None:
    x, y, _, _ = problem()
    method = uq.methods.map_estimate(network(), Unit(), optax.sgd(0.5))
    state = method.init(jax.random.key(3), x)
    new, info = method.update(jax.random.key(0), state, uq.Batch(x, y))
    w = np.asarray(state.variables.params["w"], np.float64)
    error = np.asarray(x, np.float64) @ w - np.asarray(y)
    np.testing.assert_allclose(info.loss, (error**2 / 2).mean() + 0.5 * np.log(2 * np.pi), rtol=1e-5)
    want = w - 0.5 * (np.asarray(x).T @ error) / len(error)
    np.testing.assert_allclose(new.variables.params["w"], want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_beta_nll_weights_by_the_variance(beta: float) -> None:
    rng = np.random.default_rng(0)
    outputs = jnp.asarray(rng.normal(5, 2, (7, 2)), jnp.float32)
    y = jnp.asarray(rng.normal(5, 2, 7), jnp.float32)
    kind = uq.likelihoods.Gaussian()
    scale = np.logaddexp(np.asarray(outputs[:, 1], np.float64), 0) + 1e-3
    want = -np.asarray(kind.log_prob(outputs, y)) * scale ** (2 * beta)
    np.testing.assert_allclose(uq.losses.beta_nll(beta)(kind, outputs, y), want, rtol=1e-4)
    if beta == 1:  # the gradient of the mean is that of half the squared error
        grads = jax.grad(lambda z: uq.losses.beta_nll(1.0)(kind, z, y).sum())(outputs)
        np.testing.assert_allclose(grads[:, 0], outputs[:, 0] - y, rtol=1e-4)


def test_beta_nll_of_several_outputs_weights_each() -> None:
    rng = np.random.default_rng(0)
    outputs, y = (
        jnp.asarray(rng.normal(size=(5, 4)), jnp.float32),
        jnp.asarray(rng.normal(size=(5, 2)), jnp.float32),
    )
    got = uq.losses.beta_nll(0.5)(uq.likelihoods.Gaussian(2), outputs, y)
    parts = [uq.losses.beta_nll(0.5)(uq.likelihoods.Gaussian(), outputs[:, i::2], y[:, i]) for i in range(2)]
    np.testing.assert_allclose(got, parts[0] + parts[1], rtol=1e-5)


def test_losses_that_do_not_fit() -> None:
    with pytest.raises(uq.InputError, match=r"`beta` expected a number from 0 to 1, but it is 2"):
        uq.losses.beta_nll(2.0)
    with pytest.raises(uq.InputError, match=r"weights by a predicted variance, but Bernoulli\(\) has none"):
        uq.losses.beta_nll()(uq.likelihoods.Bernoulli(), jnp.ones((3, 1)), jnp.ones(3))


def test_optimizers_run_apart_for_each_member() -> None:
    """Clipping by global norm must not couple members: one huge gradient leaves the others' steps alone."""
    x, y, _, _ = problem()
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), optax.sgd(1.0))
    method = uq.ensemble(uq.methods.map_estimate(network(), Unit(), optimizer), 2)
    state = method.init(jax.random.key(0), x)
    huge = state._replace(variables=uq.Variables({"w": state.variables.params["w"].at[0].set(1e6)}))
    one, _ = method.update(jax.random.key(0), state, uq.Batch(x, y))
    two, _ = method.update(jax.random.key(0), huge, uq.Batch(x, y))
    assert np.array_equal(one.variables.params["w"][1], two.variables.params["w"][1])
    moved = np.linalg.norm(one.variables.params["w"] - state.variables.params["w"], axis=1)
    np.testing.assert_allclose(moved, 0.1, rtol=1e-4)


def test_the_default_optimizer_is_a_chain_of_optaxs_own() -> None:
    params = {"w": jnp.array([3.0, -40.0])}
    peak, steps = 1e-2, 40
    ours = uq.optimizers.one_cycle(peak, weight_decay=0.1, clip=1.0)

    def rate(count: jax.Array) -> jax.Array:
        done = count.astype(jnp.float32) / steps
        fall = 0.5 * (1 + jnp.cos(jnp.pi * (done - 0.1) / 0.9))
        return peak * jnp.where(done < 0.1, done / 0.1, fall)

    theirs = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.99, weight_decay=0.1))
    a, b, first, second = params, params, ours.init(params), theirs.init(params)
    for i in range(steps):
        grads = {"w": jnp.sin(a["w"] + i) * 3}
        step, first = ours.update(grads, first, a, progress=jnp.float32(i / steps))
        with jax.numpy_dtype_promotion("standard"):
            other, second = theirs.update(grads, second, b)
        a, b = optax.apply_updates(a, step), optax.apply_updates(b, other)
    np.testing.assert_allclose(a["w"], b["w"], rtol=1e-5)
    step, _ = ours.update(grads, first, a)  # without progress: at its peak
    full, _ = ours.update(grads, first, a, progress=jnp.float32(0.1))
    np.testing.assert_allclose(step["w"], full["w"], rtol=1e-6)


def test_a_deep_ensemble_of_one_is_warned_of() -> None:
    with pytest.warns(uq.UQWarning, match=r"of size 1 is one network: its epistemic part is 0. Use size=5"):
        uq.deep_ensemble(nn.Dense(2), uq.likelihoods.Gaussian(), size=1)
