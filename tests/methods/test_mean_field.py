"""Mean-field against Bayesian linear regression: the right mean, and the known wrong spread."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
import scipy.stats

import uq
from uq.methods.mean_field import _log_density, inverse_softplus

from .linear import fitted, problem


@pytest.fixture(scope="module")
def found() -> Any:
    return fitted(uq.methods.mean_field)


def test_it_finds_the_mean(found: Any) -> None:
    _, _, mean, covariance = problem()
    _, state = found
    assert np.all(np.abs(state.mean["w"] - mean) < 0.1 * np.sqrt(np.diag(covariance)))


def test_its_spread_is_that_of_one_weight_given_the_others(found: Any) -> None:
    """Known to fail: it cannot follow correlations, so its variance is too small by a known factor."""
    _, _, _, covariance = problem()
    _, state = found
    scale = np.asarray(jax.nn.softplus(state.raw["w"]))
    conditional = 1 / np.diag(np.linalg.inv(covariance))
    np.testing.assert_allclose(scale**2, conditional, rtol=0.08)
    assert np.all(scale**2 < np.diag(covariance))


def test_draws_follow_the_family(found: Any) -> None:
    method, state = found
    draws = np.asarray(method.sample(jax.random.key(0), state, 4000).variables.params["w"])
    np.testing.assert_allclose(draws.mean(0), state.mean["w"], atol=0.03)
    np.testing.assert_allclose(draws.std(0), jax.nn.softplus(state.raw["w"]), rtol=0.05)
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.06


def test_log_density_is_scipys() -> None:
    mean, scale = (
        {"a": jnp.array([5.0, -2.0]), "b": jnp.array(1e3)},
        {"a": jnp.array([0.1, 3.0]), "b": jnp.array(7.0)},
    )
    params = {"a": jnp.array([5.1, 0.0]), "b": jnp.array(990.0)}
    want = scipy.stats.norm([5, -2, 1e3], [0.1, 3, 7]).logpdf([5.1, 0, 990]).sum()
    np.testing.assert_allclose(_log_density(params, mean, scale), want, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 0.02, 1.0, 30.0])
def test_the_raw_value_of_a_scale(scale: float) -> None:
    np.testing.assert_allclose(np.logaddexp(inverse_softplus(scale), 0), scale, rtol=1e-9)


def test_it_begins_at_the_networks_own_weights() -> None:
    x = jnp.ones((1, 3))
    method = uq.methods.mean_field(nn.Dense(2), uq.likelihoods.Gaussian(), init_scale=0.3)
    state = method.init(jax.random.key(4), x)
    want = nn.Dense(2).init(jax.random.key(4), x)["params"]
    assert np.array_equal(state.mean["kernel"], want["kernel"])
    np.testing.assert_allclose(jax.nn.softplus(state.raw["kernel"]), 0.3, rtol=1e-6)


@pytest.mark.parametrize("name", ["mean_field", "low_rank"])
def test_the_objective_is_the_bound(name: str) -> None:
    """One update's loss, by hand: mean NLL of the draw it took, plus the divergence over the data size."""
    x, y, _, _ = problem()
    factory = getattr(uq.methods, name)
    values = {}
    for temperature in (0.0, 1.0, 0.5):
        method = factory(
            (lambda key, x: {"w": jnp.ones(3)}, lambda p, x: (x @ p["w"])[:, None] * jnp.array([1.0, 0.0])),
            uq.likelihoods.Gaussian(),
            optax.sgd(0.0),
            prior=dist.Normal(2.0, 3.0),
            init_scale=0.4,
            temperature=temperature,
        )
        state = method.init(jax.random.key(0), x)
        values[temperature] = float(method.update(jax.random.key(1), state, uq.Batch(x, y, None, 40.0))[1].loss)
    if name == "mean_field":
        covariance = np.diag(np.full(3, 0.16))
    else:
        factor = np.asarray(state.factor, np.float64)
        covariance = np.diag(np.asarray(jax.nn.softplus(state.raw), np.float64) ** 2) + factor @ factor.T
    gap = np.ones(3) - 2
    want = 0.5 * (np.trace(covariance) / 9 + gap @ gap / 9 - 3 + 3 * np.log(9) - np.linalg.slogdet(covariance)[1])
    np.testing.assert_allclose(values[1.0] - values[0.0], want / 40, rtol=1e-3)
    np.testing.assert_allclose(values[0.5] - values[0.0], want / 80, rtol=1e-3)


@pytest.mark.parametrize("name", ["mean_field", "low_rank"])
def test_a_prior_without_a_closed_divergence_runs(name: str) -> None:
    x, y, _, _ = problem()
    method = getattr(uq.methods, name)(
        nn.Dense(2),
        uq.likelihoods.Gaussian(),
        optax.sgd(0.1),
        prior=dist.StudentT(3.0, 0.0, 1.0),
        num_samples=2,
    )
    state = method.init(jax.random.key(0), x)
    new, info = jax.jit(method.update)(jax.random.key(1), state, uq.Batch(x, y))
    assert bool(info.finite)
    assert not np.array_equal(new.mean["kernel"], state.mean["kernel"])


@pytest.mark.parametrize("name", ["mean_field", "low_rank"])
def test_settings_that_are_none(name: str) -> None:
    factory = getattr(uq.methods, name)
    with pytest.raises(uq.InputError, match=r"`init_scale` expected a positive number, but it is 0"):
        factory(nn.Dense(2), uq.likelihoods.Gaussian(), init_scale=0.0)
    with pytest.raises(uq.InputError, match=r"`num_samples` expected a whole number of at least 1, but it is 0"):
        factory(nn.Dense(2), uq.likelihoods.Gaussian(), num_samples=0)
    with pytest.raises(uq.InputError, match=r"`rank` expected a whole number of at least 1, but it is 0"):
        uq.methods.low_rank(nn.Dense(2), uq.likelihoods.Gaussian(), rank=0)
