"""`Predictive` of every family: mixtures against sums, integrals and draws, also through changes of the target."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import uq
from uq import likelihoods

MEMBERS, SIZE = 3, 4
WEIGHT = np.float32([0.5, 0.3, 0.2])

CONTINUOUS = {
    "StudentT": likelihoods.StudentT(),
    "Laplace": likelihoods.Laplace(),
    "LogNormal": likelihoods.LogNormal(),
    "Gamma": likelihoods.Gamma(),
    "Beta": likelihoods.Beta(),
    "MixtureDensity": likelihoods.MixtureDensity(3),
    "Quantile": likelihoods.Quantile(),
    "Evidential": likelihoods.Evidential(),
    "moved": likelihoods.transformed(likelihoods.StudentT(), 1e4, 25.0),
    "Log": likelihoods.transformed(likelihoods.transformed(likelihoods.Gaussian(), 2.0, 0.5), likelihoods.Log()),
    "BoxCox": likelihoods.transformed(
        likelihoods.transformed(likelihoods.Gaussian(), 4.0, 0.7), likelihoods.BoxCox(0.5)
    ),
}
HEAVY = ("StudentT", "Gamma", "Beta", "Evidential", "NegativeBinomial", "ZeroInflatedPoisson")
"""Families whose special functions take ten seconds and more to compile."""
COUNTS = {
    "Poisson": likelihoods.Poisson(),
    "NegativeBinomial": likelihoods.NegativeBinomial(),
    "ZeroInflatedPoisson": likelihoods.ZeroInflatedPoisson(),
}


def make(likelihood, seed=0):
    width = likelihood.width + likelihood.free
    outputs = 0.7 * np.random.default_rng(seed).normal(size=(MEMBERS, SIZE, width))
    return uq.Predictive(jnp.asarray(outputs, jnp.float32), likelihood, jnp.asarray(WEIGHT))


def density(pred, row):
    """The mixture's density of one example as a function, from the members' own log-densities."""

    def function(t):
        t = np.atleast_1d(t)
        outputs = pred.outputs[:, row][:, None]
        each = np.asarray(pred.likelihood.log_prob(jnp.broadcast_to(outputs, (MEMBERS, len(t), outputs.shape[-1])),
                                                   jnp.asarray(t, jnp.float32)), np.float64)  # fmt: skip
        return np.exp(special.logsumexp(each, axis=0, b=WEIGHT[:, None].astype(np.float64)))

    return function


LEVELS = np.r_[1e-7, 1e-6, 1e-5, 1e-4, 1e-3, np.linspace(0.005, 0.995, 67), 1 - np.array([1e-3, 1e-4, 1e-5, 1e-6])]


def nodes_between(cuts):
    """Gauss–Legendre nodes and weights, eight a piece."""
    nodes, mass = np.polynomial.legendre.leggauss(8)
    half = np.diff(cuts)[:, None] / 2
    return (cuts[:-1, None] + half * (1 + nodes)).ravel(), (half * mass).ravel()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in CONTINUOUS]
)
def test_continuous_families(name):
    pred, row = make(CONTINUOUS[name]), 1
    assert not pred.discrete
    points = np.asarray(pred.quantile(LEVELS), np.float64)
    levels = np.array([0.01, 0.2, 0.5, 0.9])
    for level, y in zip(levels, np.asarray(pred.quantile(levels)), strict=True):
        np.testing.assert_allclose(pred.cdf(y), level, rtol=5e-4)
        np.testing.assert_allclose(pred.sf(y), 1 - level, rtol=2e-3)
    y = np.asarray(pred.quantile(0.2))
    nodes, mass = nodes_between(points[:, row])
    p = density(pred, row)(nodes)
    assert (mass * p).sum() == pytest.approx(1, abs=1e-3 if name != "Quantile" else 5e-3)  # a density with steps
    assert float(pred.log_prob(y)[row]) == pytest.approx(math.log(density(pred, row)(y[row])[0]), abs=3e-4)
    cuts = np.unique(np.r_[points[:, row], y[row]])
    around, lengths = nodes_between(cuts)
    f = density(pred, row)(around)
    below = np.cumsum((lengths * f).reshape(-1, 8).sum(1))
    assert below[np.searchsorted(cuts, y[row]) - 1] == pytest.approx(0.2, abs=2e-3)
    # CRPS = E|X − y| − ½ E|X − X′|, from the density alone.
    share = lengths * f
    order = np.cumsum(share) - 0.5 * share
    want = (share * np.abs(around - y[row])).sum() - (share * around * (2 * order - 1)).sum()
    spread = float(points[60, row] - points[20, row])
    assert float(pred.crps(y)[row]) == pytest.approx(want, rel=0.02, abs=2e-3 * spread)
    if name not in ("StudentT", "moved", "Evidential"):  # whose tails hold much of the moments
        mean = (mass * p * nodes).sum()
        assert float(pred.mean[row]) == pytest.approx(mean, rel=2e-3, abs=2e-3 * spread)
        assert float(pred.variance[row]) == pytest.approx((mass * p * np.square(nodes - mean)).sum(), rel=0.02)
    total = np.asarray(pred.aleatoric + pred.epistemic)
    np.testing.assert_allclose(np.asarray(pred.variance), total, rtol=1e-5)
    positive = p > 0
    want = -(mass[positive] * p[positive] * np.log(p[positive])).sum()
    assert float(pred.entropy[row]) == pytest.approx(want, abs=0.01)
    assert float(pred.mutual_information[row]) >= 0
    draws = np.asarray(pred.sample(0, 4000))
    np.testing.assert_allclose((draws <= y).mean(0), 0.2, atol=5 * math.sqrt(0.16 / 4000))
    lower, upper = pred.interval(0.8)
    np.testing.assert_allclose(pred.width(0.8), upper - lower, rtol=1e-3)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in HEAVY else name for name in COUNTS]
)
def test_counts(name):
    pred = make(COUNTS[name])
    assert pred.discrete
    lattice = np.arange(400, dtype=np.float32)
    p = np.array([np.exp(np.asarray(pred.log_prob(np.full(SIZE, k)), np.float64)) for k in lattice[:120]]).T
    assert p.sum(1) == pytest.approx(np.ones(SIZE), abs=1e-3)
    cdf = p.cumsum(1)
    np.testing.assert_allclose(pred.cdf(np.full(SIZE, 2.0)), cdf[:, 2], rtol=1e-4)
    np.testing.assert_allclose(pred.sf(np.full(SIZE, 2.0)), 1 - cdf[:, 2], rtol=1e-3, atol=1e-5)
    for level in (0.1, 0.5, 0.9):
        want = (cdf < level - 1e-6).sum(1)
        np.testing.assert_array_equal(np.asarray(pred.quantile(level)), want)
    y = np.array([0, 1, 3, 7])
    steps = np.arange(120)
    want = np.square(cdf - (steps >= y[:, None])).sum(1)
    np.testing.assert_allclose(pred.crps(y), want, rtol=2e-3)
    mean = p @ steps
    np.testing.assert_allclose(pred.mean, mean, rtol=2e-3)
    np.testing.assert_allclose(pred.variance, p @ steps**2 - mean**2, rtol=0.02)
    entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(1)
    np.testing.assert_allclose(pred.entropy, entropy, rtol=2e-3)
    draws = np.asarray(pred.sample(0, 3000))
    np.testing.assert_allclose((draws <= 1).mean(0), cdf[:, 1], atol=0.05)


def test_labels_that_do_not_exclude_each_other():
    pred = make(likelihoods.Multilabel(3))
    each = special.expit(np.asarray(pred.outputs, np.float64))
    p = np.einsum("m,mnl->nl", WEIGHT, each)
    np.testing.assert_allclose(pred.probs, p, rtol=1e-5)
    np.testing.assert_allclose(pred.mean, p, rtol=1e-5)
    y = np.array([[0, 1, 1], [1, 1, 0], [0, 0, 0], [1, 0, 1]])
    joint = np.where(y == 1, each, 1 - each).prod(-1)
    np.testing.assert_allclose(pred.log_prob(y), np.log(WEIGHT @ joint), rtol=1e-4)
    np.testing.assert_allclose(pred.entropy, -(p * np.log(p) + (1 - p) * np.log(1 - p)), rtol=1e-4)
    assert pred.sample(0, 5).shape == (5, SIZE, 3)


def test_outputs_that_depend_on_each_other():
    likelihood = likelihoods.transformed(
        likelihoods.FullCovarianceGaussian(2), np.array([1e3, -5.0]), np.array([20.0, 0.5])
    )
    pred = make(likelihood)
    d = likelihood.distribution(pred.outputs)
    mean, covariance = np.asarray(d.mean, np.float64), np.asarray(d.covariance_matrix, np.float64)
    y = mean[0] + np.array([3.0, -0.2])
    each = np.array(
        [
            [stats.multivariate_normal(mean[m, n], covariance[m, n]).logpdf(y[n]) for n in range(SIZE)]
            for m in range(MEMBERS)
        ]
    )
    np.testing.assert_allclose(
        pred.log_prob(y), special.logsumexp(each, axis=0, b=WEIGHT[:, None]), rtol=1e-3, atol=1e-3
    )
    scale = np.sqrt(np.einsum("mnii->mni", covariance))
    cdf = np.einsum("m,mnd->nd", WEIGHT, stats.norm.cdf(y, mean, scale))
    np.testing.assert_allclose(pred.cdf(y), cdf, rtol=2e-3)
    np.testing.assert_allclose(pred.mean, np.einsum("m,mnd->nd", WEIGHT, mean), rtol=1e-5)
    within = np.einsum("m,mnd->nd", WEIGHT, scale**2)
    np.testing.assert_allclose(pred.aleatoric, within, rtol=1e-3)
    draws = np.asarray(pred.sample(0, 4000), np.float64)
    assert draws.shape == (4000, SIZE, 2)
    got = np.corrcoef(draws[:, 0].T)[0, 1]
    assert abs(got) <= 1


def test_clipped_outcomes_have_probability_at_their_limits():
    pred = make(likelihoods.Censored(lower=0.0))
    at = np.asarray(pred.cdf(np.zeros(SIZE)))
    np.testing.assert_allclose(np.exp(np.asarray(pred.log_prob(np.zeros(SIZE)))), at, rtol=1e-4)
    draws = np.asarray(pred.sample(0, 4000))
    assert draws.min() == 0
    np.testing.assert_allclose((draws == 0).mean(0), at, atol=0.04)
    np.testing.assert_allclose(pred.mean, draws.mean(0), atol=0.08)


@pytest.mark.parametrize("name", ["Log", "moved", "Poisson", "MixtureDensity"])
def test_it_is_a_pytree_and_jits(name):
    pred = make({**CONTINUOUS, **COUNTS}[name])
    again = jax.tree.map(lambda leaf: leaf, pred)
    np.testing.assert_array_equal(again.mean, pred.mean)
    inside = jax.jit(lambda pred, y: (pred.mean, pred.crps(y), pred.quantile(0.5)))(pred, jnp.ones(SIZE))
    outside = pred.mean, pred.crps(jnp.ones(SIZE)), pred.quantile(0.5)
    for left, right in zip(inside, outside, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4)


@pytest.mark.parametrize("name", ["Laplace", "Poisson", "Log"])
def test_to_numpyro_is_the_same_mixture(name):
    pred = make({**CONTINUOUS, **COUNTS}[name])
    y = np.asarray(pred.quantile(0.6))
    np.testing.assert_allclose(pred.to_numpyro().log_prob(jnp.asarray(y)), pred.log_prob(y), rtol=1e-3, atol=1e-3)
