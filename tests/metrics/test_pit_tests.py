"""Tests of uniformity: against scipy.stats, published critical values, loops, and simulation of size and power."""

import jax
import numpy as np
import pytest
from scipy import integrate, stats

import uq
from uq.metrics.pit_tests import _ad_sf, pit_test

TESTS = ("ks", "kuiper", "cvm", "ad", "neyman")


def test_equal_to_scipy():
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 50, 3000):
        u = rng.beta(1.2, 1.0, size)
        ks = stats.kstest(u, "uniform")
        found = pit_test(u, test="ks")
        assert (found.statistic, found.p_value) == pytest.approx((ks.statistic, ks.pvalue))
        assert found.count == size
        if size > 1:
            cvm = stats.cramervonmises(u, "uniform")
            found = pit_test(u, test="cvm")
            assert (found.statistic, found.p_value) == pytest.approx((cvm.statistic, cvm.pvalue))


def test_statistics_against_loops():
    u = np.random.default_rng(1).uniform(0.02, 0.98, 40)
    s, n = np.sort(u), 40
    ad = -n - sum((2 * i - 1) * (np.log(s[i - 1]) + np.log(1 - s[n - i])) for i in range(1, n + 1)) / n
    assert pit_test(u, test="ad").statistic == pytest.approx(ad)
    kuiper = max(i / n - s[i - 1] for i in range(1, n + 1)) + max(s[i - 1] - (i - 1) / n for i in range(1, n + 1))
    assert pit_test(u, test="kuiper").statistic == pytest.approx(kuiper)
    x = 2 * u - 1
    polynomials = [x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2, (35 * x**4 - 30 * x**2 + 3) / 8]
    parts = [(2 * j + 1) * p.sum() ** 2 / n for j, p in enumerate(polynomials, 1)]
    for order in (1, 2, 4):
        found = pit_test(u, test="neyman", order=order)
        assert found.statistic == pytest.approx(sum(parts[:order]))
        assert found.p_value == pytest.approx(stats.chi2.sf(sum(parts[:order]), order))


def limit_of_anderson_darling(x):
    """P(Σ Z_j² / (j (j + 1)) > x) by inverting the characteristic function of a sum of chi-squares."""
    j = np.arange(1, 2000)
    weights = 1 / (j * (j + 1))
    rest = 1 / 2000  # the mean of the terms left out

    def integrand(t):
        phase = 0.5 * np.arctan(weights * t).sum() - 0.5 * (x - rest) * t
        return np.sin(phase) / (t * np.exp(0.25 * np.log1p((weights * t) ** 2).sum()))

    return 0.5 + sum(integrate.quad(integrand, a, a + 4, epsabs=1e-11)[0] for a in range(0, 240, 4)) / np.pi


def test_anderson_darling_against_its_limit():
    for z in (0.3, 0.7, 1.5, 1.933, 2.492, 3.857, 6.0, 7.9):
        assert _ad_sf(10**9, z) == pytest.approx(limit_of_anderson_darling(z), abs=2e-5)
    for z in (8.1, 10.0):
        assert _ad_sf(10**9, z) == pytest.approx(limit_of_anderson_darling(z), rel=0.01)
    assert _ad_sf(10**9, 2.492) == pytest.approx(0.05, rel=2e-3)  # the published critical value
    assert 0 < _ad_sf(50, 400.0) < 1e-100


def test_critical_values_of_kuiper():
    u = np.linspace(0, 1, 10**5)
    for v, p in ((1.620, 0.10), (1.747, 0.05), (2.001, 0.01)):  # Kuiper's V √n, stephens1970
        gap = v / np.sqrt(len(u))
        found = pit_test(np.concatenate([u[u < 0.5] * (1 - 2 * gap), 1 - (1 - u[u >= 0.5])]), test="kuiper")
        assert found.p_value == pytest.approx(p, rel=0.06)


@pytest.mark.parametrize("test", TESTS)
def test_p_values_are_uniform_under_the_null(test):
    rng = np.random.default_rng(2)
    p = np.array([pit_test(rng.uniform(size=30), test=test).p_value for _ in range(600)])
    for level in (0.05, 0.25, 0.5, 0.75):
        share = (p <= level).mean()
        assert abs(share - level) < 3.5 * np.sqrt(level * (1 - level) / len(p)), (level, share)


ALTERNATIVES = {
    "biased": (lambda rng: stats.norm.cdf(rng.normal(0.45, 1.0, 100)), TESTS),
    "too narrow": (lambda rng: stats.norm.cdf(rng.normal(0.0, 1.6, 100)), ("kuiper", "ad", "neyman")),
    "too wide": (lambda rng: stats.norm.cdf(rng.normal(0.0, 0.6, 100)), ("kuiper", "ad", "neyman")),
}


@pytest.mark.parametrize("case", ALTERNATIVES)
def test_power(case):
    draw, tests = ALTERNATIVES[case]
    rng = np.random.default_rng(3)
    samples = [draw(rng) for _ in range(40)]
    for test in tests:
        rejected = np.mean([pit_test(u, test=test).p_value < 0.05 for u in samples])
        assert rejected > 0.8, (test, rejected)


def test_effect_is_the_distance_to_uniform():
    rng = np.random.default_rng(4)
    u = rng.beta(2.0, 1.0, 500)
    grid = (np.arange(200_000) + 0.5) / 200_000
    want = stats.wasserstein_distance(u, grid)
    assert pit_test(u).effect == pytest.approx(want, abs=2e-5)
    assert pit_test(u, test="ad").effect == pit_test(u, test="ks").effect
    tied = np.round(u, 1)
    assert pit_test(tied).effect == pytest.approx(stats.wasserstein_distance(tied, grid), abs=2e-5)
    large = pit_test(rng.beta(1.02, 1.0, 200_000))  # surely rejected, hardly wrong
    assert large.p_value < 1e-3 and large.effect < 0.01


def test_from_predictions_counts_draws_and_several_outputs():
    rng = np.random.default_rng(5)
    loc = rng.normal(50.0, 9.0, 300)
    y = rng.normal(loc, 3.0)
    assert pit_test(stats.norm(loc, 3.0), y).p_value == pytest.approx(pit_test(stats.norm.cdf(y, loc, 3.0)).p_value)
    rate = stats.poisson(rng.uniform(0.5, 3.0, 300))
    counts = rate.rvs(random_state=rng)
    assert pit_test(rate, counts, key=0).p_value > 0.01
    draws = rng.normal(loc, 3.0, (4, 300))
    assert pit_test(draws, y, key=0).p_value > 0.01
    for pred, outcome in ((rate, counts), (draws, y)):
        with pytest.raises(uq.InputError, match="expected a key for counts and draws"):
            pit_test(pred, outcome)
    both = pit_test(stats.norm(np.stack([loc, loc], -1), [3.0, 1.0]), np.stack([y, y], -1), test="ad")
    one = pit_test(stats.norm(loc, 1.0), y, test="ad")
    assert both.p_value.shape == (2,) and both.p_value[1] == pytest.approx(one.p_value) and both.effect.shape == (2,)


def test_an_outcome_of_probability_0():
    u = np.array([0.2, 0.5, 0.0, 0.9])
    found = pit_test(u, test="ad")
    assert found.statistic == np.inf and found.p_value == 0.0
    assert np.isfinite(pit_test(u, test="cvm").statistic)


def test_rows_of_weight_0_are_left_out():
    u = np.array([0.1, np.nan, 0.7, 0.4])
    weight = np.array([1, 0, 1, 1])
    for test in TESTS:
        found = pit_test(u, test=test, weight=weight)
        want = pit_test(u[[3, 0, 2]], test=test)
        assert (found.statistic, found.p_value, found.count) == pytest.approx((want.statistic, want.p_value, 3))


WRONG = [
    (lambda: pit_test([0.1, 1.2]), r"values in \[0, 1\], but row 1 is 1.2"),
    (lambda: pit_test([0.1, np.nan]), "but row 1 is nan"),
    (lambda: pit_test([0.1], test="KS"), "no test 'KS'.* did you mean 'ks'|no test 'KS'"),
    (lambda: pit_test([0.1], test="neyman", order=0), "`order` expected a whole number"),
    (lambda: pit_test([0.1, 0.2], weight=[1.0, 0.5]), "weights 0 or 1"),
    (lambda: pit_test([]), "with N ≥ 1"),
    (lambda: jax.jit(lambda u: pit_test(u).p_value)(np.ones(3)), "cannot run under jit"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence[:30] for _, sentence in WRONG])
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()
