"""The threshold-weighted CRPS against quadrature of its definition, written here."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

import uq
from tests.metrics.oracle import Mixture, softplus
from uq.metrics.ensemble_scores import crps_ensemble
from uq.metrics.threshold_scores import threshold_weighted_crps

RANGES = [(-np.inf, np.inf), (11.0, np.inf), (-np.inf, 9.0), (8.5, 12.0), (40.0, np.inf)]
Y = np.array([9.0, 13.5, 4.0, 50.0])  # one of them far out


def by_quadrature(law, y, low, high):
    """∫ (F − 1{t ≥ y})² piece by piece between quantiles."""
    ends = (max(low, min(law.ppf(1e-12), y)), min(high, max(law.isf(1e-12), y)))
    if ends[0] >= ends[1]:
        return 0.0
    cuts = np.clip(np.unique([*ends, y, *law.ppf([1e-6, 1e-3, 0.05, 0.3, 0.7, 0.95, 1 - 1e-3, 1 - 1e-6])]), *ends)
    below = lambda t: law.cdf(t) ** 2  # noqa: E731
    above = lambda t: law.sf(t) ** 2  # noqa: E731
    return sum(
        integrate.quad(below if b <= y else above, a, b, epsabs=1e-13, epsrel=1e-11)[0]
        for a, b in itertools.pairwise(cuts)
        if b > a
    )


LAWS = {
    "normal": stats.norm(10.0, 2.0),
    "t": stats.t(2.5, 10.0, 2.0),
    "gamma": stats.gamma(2.5, loc=5.0, scale=2.0),
    "exponential": stats.expon(loc=8.0, scale=3.0),
    "mixture": None,
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("low", "high"), RANGES)
def test_by_quadrature(name, low, high):
    if name == "mixture":
        outputs = np.float32([[[0.0, 1.0]], [[1.5, -1.0]], [[-1.0, 0.3]]]).repeat(4, 1)
        pred = uq.Predictive(
            jnp.asarray(outputs),
            uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 10.0, 2.0),
            jnp.float32([0.2, 0.5, 0.3]),
        )
        exact = Mixture(10 + 2 * outputs[:, 0, 0], 2 * (softplus(outputs[:, 0, 1]) + 1e-3), [0.2, 0.5, 0.3])
        law = type(
            "Law",
            (),
            {
                "cdf": exact.cdf,
                "sf": exact.sf,
                "ppf": staticmethod(np.vectorize(exact.quantile)),
                "isf": staticmethod(lambda q: exact.quantile(1 - q)),
            },
        )
        got, tolerance = threshold_weighted_crps(pred, Y, lower=low, upper=high), 2e-5
    else:
        law = LAWS[name]
        frozen = (
            type(law)(law.dist, *law.args, **{**law.kwds, "scale": np.full(4, law.kwds.get("scale", 1.0))})
            if law.kwds
            else type(law)(law.dist, *law.args[:-1], np.full(4, law.args[-1]))
        )
        got, tolerance = threshold_weighted_crps(frozen, Y, lower=low, upper=high), 2e-6
        assert isinstance(got, np.ndarray) and got.dtype == np.float64
    want = [by_quadrature(law, t, low, high) for t in Y]
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_jit_and_gradients():
    y = jnp.float32(Y)
    score = lambda loc, scale: threshold_weighted_crps(dist.Normal(loc, scale), y, lower=8.5, upper=12.0)  # noqa: E731
    want = [by_quadrature(stats.norm(10.0, 2.0), t, 8.5, 12.0) for t in Y]
    loc, scale = jnp.full(4, 10.0), jnp.full(4, 2.0)
    np.testing.assert_allclose(jax.jit(score)(loc, scale), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(score(loc, scale), want, rtol=1e-4, atol=1e-5)
    slope = jax.jit(jax.grad(lambda loc: score(loc, scale).sum()))(loc)
    by_hand = [
        (by_quadrature(stats.norm(10.001, 2.0), t, 8.5, 12.0) - by_quadrature(stats.norm(9.999, 2.0), t, 8.5, 12.0))
        / 2e-3
        for t in Y
    ]
    np.testing.assert_allclose(slope, by_hand, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize(("low", "high"), [(-np.inf, np.inf), (4.5, np.inf), (2.0, 6.25), (30.0, np.inf)])
def test_whole_numbers_are_summed(low, high):
    law, y = stats.poisson([3.0, 3.0, 20.0, 20.0]), np.array([2, 60, 18, 0])
    want = []
    for rate, t in zip([3.0, 3.0, 20.0, 20.0], y, strict=True):
        k = np.arange(200)
        width = np.clip(np.minimum(k + 1, high) - np.maximum(k, low), 0, None)
        want.append((width * (stats.poisson(rate).cdf(k) - (k >= t)) ** 2).sum())
    np.testing.assert_allclose(threshold_weighted_crps(law, y, lower=low, upper=high), want, rtol=1e-6, atol=1e-9)
    wide = threshold_weighted_crps(stats.poisson([1e7]), [10_000_123], lower=low, upper=high)
    assert wide[0] == pytest.approx(by_quadrature(stats.norm(1e7 - 0.5, np.sqrt(1e7)), 10_000_123, low, high), rel=1e-3)


def test_draws_are_clipped_to_the_range():
    rng = np.random.default_rng(0)
    draws, y = rng.gamma(2.0, 3.0, size=(6, 5)), rng.gamma(2.0, 3.0, size=5)
    for estimator in ("empirical", "fair"):
        got = threshold_weighted_crps(draws, y, lower=4.0, upper=9.0, estimator=estimator)
        want = crps_ensemble(np.clip(draws, 4, 9), np.clip(y, 4, 9), estimator=estimator)
        np.testing.assert_allclose(got, want, rtol=1e-12)
    grid = np.linspace(4, 9, 20_001)
    steps = ((draws[:, :, None] <= grid).mean(0) - (y[:, None] <= grid)) ** 2
    np.testing.assert_allclose(
        threshold_weighted_crps(draws, y, lower=4.0, upper=9.0), steps.mean(1) * 5, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(threshold_weighted_crps(draws, y), crps_ensemble(draws, y), rtol=1e-12)
    parts = threshold_weighted_crps(draws, y, upper=4.0) + threshold_weighted_crps(draws, y, lower=4.0)
    np.testing.assert_allclose(parts, crps_ensemble(draws, y), rtol=1e-12)
    each = threshold_weighted_crps(draws, y, lower=np.arange(5.0))
    assert each[3] == pytest.approx(threshold_weighted_crps(draws, y, lower=3.0)[3])
    weighted = threshold_weighted_crps(draws, y, lower=4.0, member_weight=np.arange(6))
    assert np.isfinite(weighted).all()


def test_scoringrules_agrees():
    scoringrules = pytest.importorskip("scoringrules")
    rng = np.random.default_rng(0)
    draws, y = rng.gamma(2.0, 3.0, size=(6, 5)), rng.gamma(2.0, 3.0, size=5)
    want = scoringrules.twcrps_ensemble(y, draws.T, a=4.0, b=9.0, estimator="nrg", backend="numpy")
    np.testing.assert_allclose(threshold_weighted_crps(draws, y, lower=4.0, upper=9.0), want, rtol=1e-9)


WRONG = [
    (lambda: threshold_weighted_crps(np.ones((3, 2)), np.ones(2), lower=2.0, upper=1.0), "`lower` below `upper`"),
    (lambda: threshold_weighted_crps(np.ones((3, 2)), np.ones(2), lower=np.nan), "`lower` of shape"),
    (lambda: threshold_weighted_crps(np.ones((3, 2)), np.ones(2), lower=np.ones(3)), r"a number or of shape \(2,\)"),
    (lambda: threshold_weighted_crps(np.ones((3, 2)), np.ones((2, 1))), r"but got \(3, 2\) and \(2, 1\)"),
    (lambda: threshold_weighted_crps(stats.norm(np.ones(2), 1.0), np.ones((2, 1, 1))), r"`y` of shape \(2,\)"),
    (lambda: threshold_weighted_crps(stats.norm(np.ones(2), 1.0), np.ones(2), estimator="fair"), "for draws only"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()
