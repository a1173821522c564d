"""Low rank against Bayesian linear regression, and its algebra against scipy in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

import uq
from uq.methods.low_rank import _closed_kl, _log_density, _log_determinant

from .linear import fitted, problem


@pytest.fixture(scope="module")
def found() -> Any:
    return fitted(uq.methods.low_rank, rank=2)


def covariance_of(state: Any) -> np.ndarray:
    factor = np.asarray(state.factor, np.float64)
    return np.diag(np.asarray(jax.nn.softplus(state.raw), np.float64) ** 2) + factor @ factor.T


def test_it_finds_the_mean(found: Any) -> None:
    _, _, mean, covariance = problem()
    _, state = found
    assert np.all(np.abs(state.mean["w"] - mean) < 0.1 * np.sqrt(np.diag(covariance)))


def test_it_finds_the_covariance_where_the_rank_is_enough(found: Any) -> None:
    _, _, _, covariance = problem()
    _, state = found
    got = covariance_of(state)
    spread = np.sqrt(np.diag(covariance))
    assert np.abs((got - covariance) / np.outer(spread, spread)).max() < 0.1


def test_draws_follow_the_family(found: Any) -> None:
    method, state = found
    draws = np.asarray(method.sample(jax.random.key(0), state, 8000).variables.params["w"])
    np.testing.assert_allclose(draws.mean(0), state.mean["w"], atol=0.03)
    want = covariance_of(state)
    spread = np.sqrt(np.diag(want))
    assert np.abs((np.cov(draws.T) - want) / np.outer(spread, spread)).max() < 0.06


def family(rank: int) -> tuple[Any, jax.Array, jax.Array, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(rank)
    mean = {
        "a": jnp.asarray(rng.normal(50, 5, (2, 3)), jnp.float32),
        "b": jnp.asarray(rng.normal(-4, 1, 2), jnp.float32),
    }
    scale, factor = rng.uniform(0.2, 3, 8), rng.normal(0, 2, (8, rank))
    flat = np.concatenate([np.asarray(mean["a"]).reshape(-1), np.asarray(mean["b"])]).astype(np.float64)
    covariance = np.diag(scale**2) + factor @ factor.T
    return mean, jnp.asarray(scale, jnp.float32), jnp.asarray(factor, jnp.float32), flat, covariance


@pytest.mark.parametrize("rank", [1, 3, 12])
def test_log_density_is_scipys(rank: int) -> None:
    mean, scale, factor, flat, covariance = family(rank)
    law = scipy.stats.multivariate_normal(flat, covariance)
    np.testing.assert_allclose(_log_determinant(scale, factor), np.linalg.slogdet(covariance)[1], rtol=1e-4)
    for point in law.rvs(5, random_state=0):
        params = {
            "a": jnp.asarray(point[:6].reshape(2, 3), jnp.float32),
            "b": jnp.asarray(point[6:], jnp.float32),
        }
        np.testing.assert_allclose(_log_density(params, mean, scale, factor), law.logpdf(point), rtol=1e-3)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("prior", [None, dist.Normal(40.0, 6.0)], ids=["unit", "shifted"])
def test_the_divergence_is_that_of_two_gaussians(rank: int, prior: Any) -> None:
    mean, scale, factor, flat, covariance = family(rank)
    loc, spread = (0.0, 1.0) if prior is None else (40.0, 6.0)
    gap = flat - loc
    want = 0.5 * (
        np.trace(covariance) / spread**2
        + gap @ gap / spread**2
        - 8
        + 8 * np.log(spread**2)
        - np.linalg.slogdet(covariance)[1]
    )
    np.testing.assert_allclose(_closed_kl(prior, mean, scale, factor), want, rtol=1e-5)


def test_a_prior_for_each_part_and_one_without_a_closed_form() -> None:
    mean, scale, factor, flat, covariance = family(2)
    prior = {"a": dist.Normal(40.0, 6.0), "b": dist.Normal(0.0, 2.0)}
    locs, spreads = np.repeat([40.0, 0.0], [6, 2]), np.repeat([6.0, 2.0], [6, 2])
    gap = (flat - locs) / spreads
    want = 0.5 * (
        (np.diag(covariance) / spreads**2).sum()
        + gap @ gap
        - 8
        + 2 * np.log(spreads).sum()
        - np.linalg.slogdet(covariance)[1]
    )
    np.testing.assert_allclose(_closed_kl(prior, mean, scale, factor), want, rtol=1e-5)
    assert _closed_kl(dist.Laplace(0.0, 1.0), mean, scale, factor) is None


def test_every_member_begins_with_its_own_directions() -> None:
    method = uq.ensemble(
        uq.methods.low_rank(
            (lambda k, x: {"w": jnp.ones(3)}, lambda p, x: x @ p["w"]), uq.likelihoods.Bernoulli(), rank=2
        ),
        3,
    )
    state = method.init(jax.random.key(0), jnp.ones((1, 3)))
    assert not np.array_equal(state.factor[0], state.factor[1])
    total = np.asarray(jax.nn.softplus(state.raw)) ** 2 + np.asarray(state.factor**2).sum(-1)
    np.testing.assert_allclose(np.sqrt(total.mean()), 0.02, rtol=0.3)
