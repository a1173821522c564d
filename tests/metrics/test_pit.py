"""Transformed outcomes against scipy.stats, loops and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import uq
from tests.metrics.oracle import Mixture, softplus
from uq.metrics.pit import first_level, pit, pit_histogram, randomised, span


def mixture(loc, scale, size=40, num_outputs=1):
    """A predictive of three members of unequal weight, each example's exact mixture, and outcomes."""
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(3, size, 2 * num_outputs)).astype(np.float32)
    weight = np.float32([0.2, 0.5, 0.3])
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(num_outputs), loc, scale)
    means = loc + scale * outputs[..., :num_outputs].astype(np.float64)
    scales = scale * (softplus(outputs[..., num_outputs:]) + 1e-3)
    pred = uq.Predictive(jnp.asarray(outputs), likelihood, jnp.asarray(weight))
    exact = [[Mixture(means[:, n, d], scales[:, n, d], weight) for d in range(num_outputs)] for n in range(size)]
    return pred, exact, loc + 1.5 * scale * rng.normal(size=(size, num_outputs))


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1e4, 0.01), (-300.0, 250.0)])
def test_a_mixture_by_its_own_distribution_function(loc, scale):
    pred, exact, y = mixture(loc, scale)
    want = [row[0].cdf(t) for row, t in zip(exact, y[:, 0], strict=True)]
    for kind in ("exact", "mid", "randomised"):
        np.testing.assert_allclose(pit(pred, y[:, 0], kind=kind, key=1), want, rtol=1e-4, atol=1e-6)
    assert pit(pred, y).shape == (40,)  # (N, 1) is (N,)


def test_several_outputs_have_their_marginal_transforms():
    pred, exact, y = mixture(np.array([1e4, -3.0]), np.array([0.01, 25.0]), size=20, num_outputs=2)
    want = [[m.cdf(t) for m, t in zip(row, ts, strict=True)] for row, ts in zip(exact, y, strict=True)]
    np.testing.assert_allclose(pit(pred, y), want, rtol=1e-4, atol=1e-6)


def test_continuous_families_in_scipy_and_numpyro():
    rng = np.random.default_rng(1)
    loc, scale = rng.normal(-40.0, 3.0, 30), rng.uniform(0.5, 4.0, 30)
    y = loc + scale * rng.standard_t(3, 30)
    frozen = stats.norm(loc, scale)
    np.testing.assert_array_equal(pit(frozen, y), frozen.cdf(y))
    np.testing.assert_array_equal(pit(frozen, y[:, None]), frozen.cdf(y))
    skewed = stats.gamma(2.0, loc=loc, scale=scale)
    np.testing.assert_array_equal(pit(skewed, y), skewed.cdf(y))
    same = dist.Normal(jnp.asarray(loc, jnp.float32), jnp.asarray(scale, jnp.float32))
    np.testing.assert_allclose(pit(same, y), frozen.cdf(y), atol=1e-5)
    on_host = pit(dist.Normal(loc, scale), y)
    np.testing.assert_allclose(on_host, frozen.cdf(y), rtol=1e-12)
    jitted = jax.jit(lambda d, y: pit(d, y))(same, jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(jitted, frozen.cdf(y), atol=1e-5)


def test_moment_matching_a_mixture_is_not_the_mixture():
    """A right mixture passes by its own distribution function and fails by the normal of its mean and variance."""
    rng = np.random.default_rng(2)
    size = 4000
    locs = np.array([-2.0, -1.8, 0.0, 1.9, 2.1])[:, None] + rng.normal(size=size)
    scales = np.array([0.3, 0.3, 1.5, 0.3, 0.3])[:, None] * np.ones(size)
    which = rng.integers(0, 5, size)
    y = rng.normal(locs[which, np.arange(size)], scales[which, np.arange(size)])
    raw = np.log(np.expm1(scales - 1e-3))
    pred = uq.Predictive(jnp.asarray(np.stack([locs, raw], -1), jnp.float32), uq.likelihoods.Gaussian())
    exact = np.asarray(pit(pred, y), np.float64)
    matched = pit(stats.norm(np.asarray(pred.mean), np.asarray(pred.stddev)), y)
    assert stats.kstest(exact, "uniform").pvalue > 0.01
    assert stats.kstest(matched, "uniform").pvalue < 1e-6


def test_counts_are_never_transformed_plainly():
    rate = np.random.default_rng(3).uniform(0.3, 6.0, 3000)
    frozen = stats.poisson(rate)
    y = frozen.rvs(random_state=np.random.default_rng(4))
    with pytest.raises(uq.InputError, match=r'has steps.*"randomised" with a key, or kind="mid"'):
        pit(frozen, y)
    with pytest.raises(uq.InputError, match="expected a key or a seed"):
        pit(frozen, y, kind="randomised")
    u = pit(frozen, y, kind="randomised", key=0)
    assert (u >= frozen.cdf(y - 1)).all() and (u <= frozen.cdf(y)).all()
    assert stats.kstest(u, "uniform").pvalue > 0.01
    assert stats.kstest(frozen.cdf(y), "uniform").pvalue < 1e-20  # what is refused
    middle = pit(frozen, y, kind="mid")
    np.testing.assert_allclose(middle, (frozen.cdf(y - 1) + frozen.cdf(y)) / 2)
    assert abs(middle.mean() - 0.5) < 4 * middle.std() / np.sqrt(3000) and middle.var() < 1 / 12
    np.testing.assert_array_equal(u, pit(frozen, y, kind="randomised", key=0))
    assert not np.array_equal(u, pit(frozen, y, kind="randomised", key=1))


@pytest.mark.parametrize("members", [1, 4, 7])
def test_ranks_among_draws_are_uniform_with_ties(members):
    rng = np.random.default_rng(members)
    centre = rng.normal(100.0, 5.0, 4000)
    draws = np.round(centre + 2 * rng.normal(size=(members, 4000)))
    y = np.round(centre + 2 * rng.normal(size=4000))
    u = pit(draws, y, kind="randomised", key=5)
    assert stats.kstest(u, "uniform").pvalue > 0.01
    n = 17
    below, upto = sum(d[n] < y[n] for d in draws), sum(d[n] <= y[n] for d in draws)
    assert pit(draws, y, kind="mid")[n] == pytest.approx((below + upto + 1) / (2 * (members + 1)))
    with pytest.raises(uq.InputError, match="has steps"):
        pit(draws, y)


def looped_histogram(below, upto, weight, bins):
    shares = np.zeros(bins)
    for a, b, w in zip(below, upto, weight, strict=True):
        for k in range(bins):
            low, high = k / bins, (k + 1) / bins
            if b > a:
                shares[k] += w * max(min(b, high) - max(a, low), 0.0) / (b - a)
            elif low < b <= high or (k == 0 and b == 0):
                shares[k] += w
    return shares / sum(weight)


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_histogram_against_a_loop(bins):
    rng = np.random.default_rng(6)
    rate, y = rng.uniform(0.5, 4.0, 60), rng.poisson(2.0, 60)
    frozen = stats.poisson(rate)
    weight = rng.integers(0, 3, 60)
    got = pit_histogram(frozen, y, bins=bins, weight=weight)
    np.testing.assert_allclose(got.share, looped_histogram(frozen.cdf(y - 1), frozen.cdf(y), weight, bins), atol=1e-12)
    assert int(got.count) == (weight > 0).sum() and float(got.share.sum()) == pytest.approx(1.0)
    normal = stats.norm(rng.normal(size=60), 2.0)
    u = normal.cdf(y)
    got = pit_histogram(normal, y, bins=bins)
    np.testing.assert_allclose(got.share, looped_histogram(u, u, np.ones(60), bins), atol=1e-12)
    assert got.lower <= 1 / bins <= got.upper


def test_histogram_of_draws_is_the_rank_histogram():
    rng = np.random.default_rng(7)
    draws, y = rng.normal(size=(5, 200)), rng.normal(size=200)
    want = np.bincount((draws < y).sum(0), minlength=6) / 200
    np.testing.assert_allclose(pit_histogram(draws, y, bins=6).share, want, atol=1e-12)
    both = pit_histogram(np.stack([draws, draws], -1), np.stack([y, y], -1), bins=6)
    np.testing.assert_allclose(both.share, [want, want], atol=1e-12)


def test_the_band_holds_a_calibrated_model():
    rng = np.random.default_rng(8)
    inside = []
    for _ in range(200):
        u = rng.uniform(size=50)
        found = pit_histogram(stats.uniform(np.zeros(50), 1.0), u, bins=5, confidence=0.9)
        inside.append((found.share >= found.lower) & (found.share <= found.upper))
    law = stats.binom(50, 0.2)
    assert (found.lower, found.upper) == (law.ppf(0.05) / 50, law.isf(0.05) / 50)
    assert 0.88 <= np.mean(inside) <= 0.97  # binomial steps make it a little more than 0.9


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "levels", [np.arange(1, 100) / 100, np.linspace(0, 1, 100), np.array([0.1, 0.5]), np.array([0.05, 0.3, 0.31, 0.9])]
)
def test_levels_are_found_exactly(levels, dtype):
    """u ≤ t has the answer it has in real numbers, on the levels, beside them, and at 0 and 1."""
    near = levels.astype(dtype)
    u = np.concatenate([
        np.random.default_rng(9).uniform(size=2000).astype(dtype), near, np.nextafter(near, dtype(-1)).clip(0),
        np.nextafter(near, dtype(2)).clip(np.finfo(dtype).tiny, 1), np.array([0, 1], dtype),
    ])  # fmt: skip
    want = (levels[None] < u.astype(np.float64)[:, None]).sum(1)
    np.testing.assert_array_equal(first_level(np, u, levels), want)
    if dtype is np.float32:
        np.testing.assert_array_equal(jax.jit(lambda u: first_level(jnp, u, levels))(u), want)


def test_masked_rows_are_inert_and_inputs_stay():
    y = np.array([1.0, np.nan, 3.0])
    draws = np.random.default_rng(10).normal(size=(4, 3))
    draws[:, 1] = np.nan
    before = draws.copy(), y.copy()
    weight = np.array([1.0, 0.0, 2.0])
    got = pit_histogram(draws, y, bins=5, weight=weight).share
    want = pit_histogram(draws[:, [0, 2, 2]], y[[0, 2, 2]], bins=5).share
    np.testing.assert_allclose(got, want, atol=1e-12)
    np.testing.assert_array_equal(draws, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_randomised_within_steps():
    spans = span("test", np.zeros((1, 1000)), np.zeros(1000))
    u = randomised(spans, 3)
    assert 0 <= u.min() < 0.01 and 0.99 < u.max() <= 1


WRONG = [
    (lambda: pit(np.ones(3), np.ones(3)), r"draws of shape \(M, N\)"),
    (lambda: pit(stats.norm(np.zeros(3), 1.0), np.ones(4)), r"`y` of shape \(3,\)"),
    (lambda: pit(stats.norm(np.zeros(3), 1.0), np.ones((3, 3))), r"`y` of shape \(3,\)"),
    (lambda: pit(stats.norm(0.0, 1.0), 0.5), "of N examples"),
    (lambda: pit(stats.norm(np.zeros(2), 1.0), [0.0, np.nan]), "finite numbers"),
    (lambda: pit(stats.norm(np.zeros(2), [1.0, -1.0]), [0.0, 0.0]), "row 1"),
    (lambda: pit(stats.norm(np.zeros(2), 1.0), [0.0, 0.0], kind="rank"), "no kind 'rank'"),
    (lambda: pit_histogram(stats.norm(np.zeros(2), 1.0), [0.0, 0.0], bins=0), "`bins` expected a whole number"),
    (
        lambda: pit_histogram(stats.norm(np.zeros(2), 1.0), [0.0, 0.0], weight=[1.0, -1.0]),
        "not negative and not all 0",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence[:30] for _, sentence in WRONG])
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()
