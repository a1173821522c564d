"""Divergences between weight posteriors and priors, against numpyro, quadrature and scipy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.stats

import uq
from uq.prior import closed_kl, kl_normal, kl_normal_laplace, kl_or_estimate, log_prior

MEAN = {"a": jnp.array([5.0, -3.0, 0.1]), "b": jnp.array([[2.0]])}
SCALE = {"a": jnp.array([0.5, 4.0, 0.01]), "b": jnp.array([[1.5]])}


def test_log_prior_sums_over_the_tree() -> None:
    want = scipy.stats.norm(1, 3).logpdf([5, -3, 0.1, 2]).sum()
    np.testing.assert_allclose(log_prior(dist.Normal(1.0, 3.0), MEAN), want, rtol=1e-5)
    mixed = {"a": dist.Laplace(0.0, 2.0), "b": dist.Normal(0.0, 1.0)}
    want = scipy.stats.laplace(0, 2).logpdf([5, -3, 0.1]).sum() + scipy.stats.norm.logpdf(2)
    np.testing.assert_allclose(log_prior(mixed, MEAN), want, rtol=1e-5)


@pytest.mark.parametrize("prior", [None, dist.Normal(0.0, 1.0), dist.Normal(2.0, 3.0)], ids=["none", "unit", "shifted"])
def test_normal_divergence_is_numpyros(prior: Any) -> None:
    known = dist.Normal(0.0, 1.0) if prior is None else prior
    want = sum(float(dist.kl_divergence(dist.Normal(MEAN[name], SCALE[name]), known).sum()) for name in MEAN)
    np.testing.assert_allclose(closed_kl(prior, MEAN, SCALE), want, rtol=1e-5)


@pytest.mark.parametrize("mean", [-4.0, 0.0, 3.0])
@pytest.mark.parametrize("scale", [0.05, 1.0, 7.0])
@pytest.mark.parametrize("loc", [0.0, 2.5])
def test_laplace_divergence_is_its_integral(mean: float, scale: float, loc: float) -> None:
    q, p = scipy.stats.norm(mean, scale), scipy.stats.laplace(loc, 1.7)
    want = scipy.integrate.quad(
        lambda w: q.pdf(w) * (q.logpdf(w) - p.logpdf(w)),
        mean - 12 * scale,
        mean + 12 * scale,
        points=[loc],
        limit=200,
    )[0]
    np.testing.assert_allclose(kl_normal_laplace(jnp.float32(mean), jnp.float32(scale), loc, 1.7), want, rtol=1e-4)


def test_divergence_vanishes_at_the_prior_alone() -> None:
    assert kl_normal(3.0, 2.0, 3.0, 2.0) == 0
    assert kl_normal(3.0, 2.0, 3.0, 2.1) > 0


def test_a_prior_for_each_part() -> None:
    prior = {"a": dist.Laplace(0.0, 2.0), "b": dist.Normal(1.0, 3.0)}
    want = kl_normal_laplace(MEAN["a"], SCALE["a"], 0.0, 2.0).sum() + kl_normal(2.0, 1.5, 1.0, 3.0)
    np.testing.assert_allclose(closed_kl(prior, MEAN, SCALE), want, rtol=1e-6)


def test_without_a_closed_form_it_is_estimated() -> None:
    prior = dist.StudentT(3.0, 1.0, 2.0)
    assert closed_kl(prior, MEAN, SCALE) is None
    mean, scale = {"w": jnp.array([5.0])}, {"w": jnp.array([0.5])}
    draws = {"w": 5.0 + 0.5 * jax.random.normal(jax.random.key(0), (20_000, 1))}

    def log_q(params: Any) -> Any:
        return dist.Normal(mean["w"], scale["w"]).log_prob(params["w"]).sum()

    got = kl_or_estimate(prior, None, log_q, draws)
    q, p = scipy.stats.norm(5, 0.5), scipy.stats.t(3, 1, 2)
    want = scipy.integrate.quad(lambda w: q.pdf(w) * (q.logpdf(w) - p.logpdf(w)), 0, 10)[0]
    np.testing.assert_allclose(got, want, rtol=0.02)
    assert kl_or_estimate(prior, jnp.float32(2.0), log_q, draws) == 2.0


def test_what_is_not_a_prior() -> None:
    with pytest.raises(uq.InputError, match=r"expected numpyro distributions, such as numpyro.distributions.Normal"):
        log_prior({"a": 1.0, "b": dist.Normal(0.0, 1.0)}, MEAN)
    with pytest.raises(uq.InputError, match="The prior is not a prefix of the parameters"):
        log_prior({"c": dist.Normal(0.0, 1.0)}, MEAN)
