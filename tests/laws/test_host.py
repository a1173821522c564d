"""The float64 route: what it takes, that it compiles nothing, and that it is quick."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import uq
from uq import laws
from uq.laws import host

from .oracle import FrozenMixture

RNG = np.random.default_rng(0)
LOC, SCALE, Y = RNG.normal(300, 50, 10_000), np.exp(RNG.normal(size=10_000)), RNG.normal(300, 60, 10_000)


def test_ten_thousand_rows_compile_nothing_and_are_quick(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("compiled")

    monkeypatch.setattr(laws._functions, "compiled", refuse)
    d = dist.Normal(LOC, SCALE)
    start = time.perf_counter()
    score = host.crps(d, Y)
    spent = time.perf_counter() - start
    assert score.dtype == np.float64 and score.shape == Y.shape
    assert spent < 0.3  # milliseconds on an idle machine
    for frozen in (stats.norm(LOC, SCALE), stats.laplace(LOC, SCALE), stats.t(4.0, LOC, SCALE)):
        assert host.crps(frozen, Y).shape == Y.shape
    np.testing.assert_allclose(score, host.crps(stats.norm(LOC, SCALE), Y), rtol=1e-9)


@pytest.mark.parametrize(
    "law",
    [
        stats.genextreme(0.2, 3.0, 2.0),
        stats.uniform(-1.0, 4.0),
        stats.beta(0.7, 3.0, -1.0, 2.0),
        stats.invgauss(0.7, 1.0, 2.0),
        stats.skewnorm(4.0, -3.0, 2.0),
        stats.invgamma(1.0, scale=2.0),
        stats.truncnorm(8.0, 10.0),
        stats.gamma(2.0, -30.0, 4.0),
    ],
    ids=lambda law: law.dist.name,
)
def test_frozen_continuous_distributions(law):
    for y in (law.ppf(0.02), law.ppf(0.6), law.isf(1e-3), law.ppf(0.01) - 3.0):
        exact = FrozenMixture([law], [1.0])
        # Past the oracle's last cut a tail like 1/x still counts.
        want = exact.crps(float(y)) + (2.0 * 1e-12 if law.dist.name == "invgamma" else 0.0)
        np.testing.assert_allclose(host.crps(law, y), want, rtol=2e-5)
    assert host.cdf(law, 1.0) == law.cdf(1.0) and host.sf(law, 1.0) == law.sf(1.0)
    assert host.icdf(law, 0.3) == law.ppf(0.3)
    assert host.moments(law) == (law.mean(), law.var())


@pytest.mark.parametrize(
    "law", [stats.poisson(3.5), stats.poisson(4000.0), stats.nbinom(4, 0.3), stats.binom(17, 0.8), stats.geom(0.2)],
    ids=lambda law: f"{law.dist.name}{law.args[0]}",
)  # fmt: skip
def test_frozen_counts(law):
    k = np.arange(0, 10_000)
    for y in (0, law.ppf(0.3), law.isf(1e-6)):
        want = ((law.cdf(k) - (k >= y)) ** 2).sum()
        np.testing.assert_allclose(host.crps(law, y), want, rtol=1e-8)
    assert host.log_prob(law, 3) == law.logpmf(3)
    assert host.icdf(law, 0.9) == law.ppf(0.9)


def test_counts_over_a_wide_range_are_interpolated():
    law = stats.nbinom(1.5, 1e-6)
    k = np.arange(0, 60_000_000, 50.0)
    want = np.trapezoid((law.cdf(k) - (k >= 1_000_000)) ** 2, k)
    np.testing.assert_allclose(host.crps(law, 1_000_000.0), want, rtol=1e-4)


def test_both_routes_agree_under_jit_and_keep_dtypes():
    d = dist.StudentT(np.float32(3.0), np.float32(1.0), np.float32(2.0))
    y = np.float32([-4.0, 1.0, 30.0])
    compiled = jax.jit(lambda y: laws.crps(d, y))(jnp.asarray(y))
    assert compiled.dtype == jnp.float32
    np.testing.assert_allclose(compiled, laws.crps(d, y), rtol=1e-6)
    np.testing.assert_allclose(compiled, host.crps(d, y), rtol=1e-5)
    with pytest.raises(uq.InputError, match="cannot run under jit"):
        jax.jit(lambda m: host.crps(dist.Normal(m, 1.0), 0.0))(jnp.float32(1.0))


def test_levels_with_axes_of_their_own():
    d = dist.Laplace(np.array([[0.0, 1.0], [3.0, 4.0]]), np.array([[1.0, 2.0], [1.0, 0.5]]))
    weight, levels = np.array([0.25, 0.75]), np.array([[0.1], [0.5], [0.9]])
    got = host.mixture_icdf(d, weight, levels)
    assert got.shape == (3, 2)
    for k, level in enumerate(levels[:, 0]):
        np.testing.assert_allclose(got[k], host.mixture_icdf(d, weight, level), rtol=1e-12)
    np.testing.assert_allclose(laws.mixture_icdf(d, weight, levels), got, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("law", "far"),
    [
        (stats.poisson(np.array([0.5, 9e4])), 2e5),
        (stats.nbinom(0.5, np.array([0.3, 0.5 / 10000.5])), 5e5),
        (stats.binom(n=50000, p=np.array([0.3, 1e-3])), 5e4),
    ],
)
def test_entropy_of_wide_counts(law, far):
    """Of which scipy sums a part: 3.56 nats for a Poisson of mean 9e4, where it is 7.12."""
    log_pmf = law.logpmf(np.arange(far + 1)[:, None])
    want = -np.where(np.isfinite(log_pmf), np.exp(log_pmf) * log_pmf, 0).sum(0)
    np.testing.assert_allclose(host.entropy(law), want, rtol=1e-6)
    assert np.shape(host.entropy(stats.poisson(4.0))) == ()
    assert host.entropy(dist.Poisson(np.float64(9e4))) == pytest.approx(0.5 * np.log(2 * np.pi * np.e * 9e4), rel=1e-6)


def test_gamma_far_below_the_mean_of_a_large_shape():
    """scipy's lower tail is off by a third at a shape of 1e8 and eight deviations, by a factor of ten at 1e10."""
    nodes, mass = np.polynomial.legendre.leggauss(200)
    for shape in (1e6, 1e8, 1e10):
        for deviations in (5.0, 6.0, 8.0):
            y = shape - deviations * np.sqrt(shape)
            # The integral below y over (y − t) in units of √shape, of exp(−shape (μ − log(1 + μ))) with its own series.
            v = deviations + 4 * (nodes + 1)
            mu = -v / np.sqrt(shape)
            half = sum((-mu) ** k / k for k in range(2, 60))
            density = np.exp(-shape * half - 1 / (12 * shape)) / np.sqrt(2 * np.pi) / (1 + mu)
            want = 4 * (mass * density).sum()
            for law in (dist.Gamma(shape, 1.0), stats.gamma(shape)):
                assert host.cdf(law, y) == pytest.approx(want, rel=1e-8)
                assert host.log_cdf(law, y) == pytest.approx(np.log(want), rel=1e-9)
                assert host.icdf(law, want) == pytest.approx(y, rel=1e-9)
            assert host.sf(dist.InverseGamma(shape, 1.0), 1 / y) == pytest.approx(want, rel=1e-5)  # 1 / y is rounded
            assert host.log_prob(dist.Gamma(shape, 1.0), y) == pytest.approx(
                -shape * sum((deviations / np.sqrt(shape)) ** k / k for k in range(2, 60))
                - 0.5 * np.log(2 * np.pi * shape) - np.log1p(-deviations / np.sqrt(shape)) - 1 / (12 * shape),
                rel=1e-11,
            )  # fmt: skip


def test_poisson_far_above_a_large_mean():
    rate, k = 1e8, 1e8 + 7e4
    terms = np.arange(k + 1, k + 30_000)
    log_terms = -np.log1p((terms - rate) / rate) / 2 - 0.5 * np.log(2 * np.pi * rate)
    mu = (terms - rate) / rate
    log_terms = log_terms - rate * ((1 + mu) * np.log1p(mu) - mu)
    want = np.exp(log_terms).sum()
    assert host.sf(dist.Poisson(rate), k) == pytest.approx(want, rel=1e-6)
    assert host.log_prob(dist.Poisson(rate), k + 1) == pytest.approx(log_terms[0], rel=1e-8)


@pytest.mark.parametrize("name", ["poisson", "binom", "nbinom"])
def test_upper_tails_of_counts_below_the_rounding_of_one(name):
    """scipy looks for the level 1 − q, which is 1: no number for Poisson, the largest count for a binomial."""
    law = {"poisson": stats.poisson(5.0), "binom": stats.binom(50, 0.1), "nbinom": stats.nbinom(3, 0.2)}[name]
    k = np.arange(400)
    for tail in (1e-20, 1e-18, 1e-9, 0.3, 0.9):
        assert host.tail(law, tail, True) == np.flatnonzero(law.sf(k) <= tail)[0]
