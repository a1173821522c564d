"""Tests of calibration against loops, simulated random walks and scipy; their size and power."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

import uq
from uq.metrics import calibration_tests as tests

TESTS = {
    "spiegelhalter": tests.spiegelhalter_test,
    "kuiper": tests.cumulative_calibration_test,
    "max": lambda p, y, **more: tests.cumulative_calibration_test(p, y, statistic="max", **more),
    "hosmer_lemeshow": tests.hosmer_lemeshow_test,
    "recalibration": lambda p, y, **more: tests.logistic_recalibration(p, y, **more).test,
}


def data(size=120, seed=0):
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(0.7, 2, size), 2).clip(0.01, 0.99)  # skewed, with ties
    return p, (rng.uniform(size=size) < p**1.5).astype(int)


def test_spiegelhalter_against_a_loop():
    p, y = data()
    over = sum((e - q) * (1 - 2 * q) for q, e in zip(p, y, strict=True))
    z = over / np.sqrt(sum((1 - 2 * q) ** 2 * q * (1 - q) for q in p))
    found = tests.spiegelhalter_test(p, y)
    assert float(found.statistic) == pytest.approx(z)
    assert float(found.p_value) == pytest.approx(2 * stats.norm.sf(abs(z))) and found.count == 120


@pytest.mark.parametrize("statistic", ["max", "kuiper"])
def test_cumulative_differences_against_a_loop(statistic):
    p, y = data()
    path, total = [0.0], 0.0
    for value in np.unique(p):
        total += (y[p == value] - value).sum()
        path.append(total)
    reach = max(np.abs(path)) if statistic == "max" else max(path) - min(path)
    found = tests.cumulative_calibration_test(p, y, statistic=statistic)
    assert float(found.statistic) == pytest.approx(reach / np.sqrt((p * (1 - p)).sum()))
    order = np.random.default_rng(0).permutation(len(p))
    again = tests.cumulative_calibration_test(p[order], y[order], statistic=statistic)
    assert float(again.statistic) == pytest.approx(float(found.statistic), rel=1e-12)


def test_tails_of_brownian_motion():
    """Published values, the other series, and simulated walks."""
    assert float(tests.brownian_max_sf(np, 2.241)) == pytest.approx(0.05, abs=2e-4)
    for x in (0.25, 0.5, 1.0, 2.0, 3.0):
        k = np.arange(200)
        below = 4 / np.pi * ((-1.0) ** k / (2 * k + 1) * np.exp(-((2 * k + 1) ** 2) * np.pi**2 / (8 * x * x))).sum()
        assert float(tests.brownian_max_sf(np, x)) == pytest.approx(1 - below, abs=1e-10)
    assert float(tests.brownian_max_sf(np, 9.0)) == pytest.approx(4 * stats.norm.sf(9.0), rel=1e-10)
    assert float(tests.brownian_range_sf(np, 9.0)) == pytest.approx(8 * stats.norm.sf(9.0), rel=1e-10)
    for tail in (tests.brownian_max_sf, tests.brownian_range_sf):
        assert float(tail(np, 0.0)) == 1.0
        values = [float(tail(np, x)) for x in np.linspace(0.05, 4, 80)]
        assert all(0 <= b <= a + 1e-12 <= 1 + 1e-12 for a, b in itertools.pairwise(values))
        small = [float(tail(jnp, jnp.float32(x))) for x in (0.1, 0.35, 1.0, 2.5)]
        np.testing.assert_allclose(small, [float(tail(np, x)) for x in (0.1, 0.35, 1.0, 2.5)], atol=1e-5)
    walk = np.random.default_rng(0).normal(size=(4000, 2500)).cumsum(1) / 50
    walk = np.concatenate([np.zeros((4000, 1)), walk], 1)
    for x in (1.0, 1.6, 2.2):
        share = (np.ptp(walk, axis=1) > x - 1.166 / 50).mean()  # a walk's range is that much short, on average
        assert float(tests.brownian_range_sf(np, x)) == pytest.approx(share, abs=4 * np.sqrt(0.25 / 4000))


def test_hosmer_lemeshow_against_a_loop():
    p = np.linspace(0.05, 0.9, 100)
    y = (np.random.default_rng(0).uniform(size=100) < p**2).astype(int)
    want = sum(
        (y[part].sum() - p[part].sum()) ** 2 / (p[part].sum() * (1 - p[part].mean()))
        for part in np.array_split(np.arange(100), 5)
    )
    found = tests.hosmer_lemeshow_test(p, y, bins=5)
    assert float(found.statistic) == pytest.approx(want)
    assert float(found.p_value) == pytest.approx(stats.chi2.sf(want, 5))


def test_recalibration_against_scipy():
    p, y = data()
    x = special.logit(p)

    def loss(line):
        score = line[0] + line[1] * x
        return (np.logaddexp(0, score) - y * score).sum()

    want = optimize.minimize(loss, [0.0, 1.0], method="BFGS", options={"gtol": 1e-8})
    found = tests.logistic_recalibration(p, y)
    np.testing.assert_allclose([found.intercept, found.slope], want.x, rtol=1e-5)
    rate = special.expit(want.x[0] + want.x[1] * x)
    design = np.stack([np.ones_like(x), x])
    spread = np.sqrt(np.diag(np.linalg.inv((design * rate * (1 - rate)) @ design.T)))
    np.testing.assert_allclose([found.intercept_stderr, found.slope_stderr], spread, rtol=1e-4)
    gain = 2 * (loss([0.0, 1.0]) - want.fun)
    assert float(found.test.statistic) == pytest.approx(gain, rel=1e-5)
    assert float(found.test.p_value) == pytest.approx(stats.chi2.sf(gain, 2), rel=1e-4)


def test_calibration_in_the_large():
    p, y = data()
    found = tests.calibration_in_the_large(p, y)
    assert float(found) == pytest.approx(y.mean() - p.mean())
    assert float(found.stderr) == pytest.approx(np.std(y - p, ddof=1) / np.sqrt(120))
    probs = special.softmax(np.random.default_rng(0).normal(size=(50, 3)), -1)
    labels = np.arange(50) % 3
    confident = tests.calibration_in_the_large(probs, labels)
    assert float(confident) == pytest.approx((probs.argmax(1) == labels).mean() - probs.max(1).mean())


@pytest.mark.parametrize("name", TESTS)
def test_a_weight_of_two_is_two_rows(name):
    p, y = data()
    weight = np.random.default_rng(1).integers(0, 3, len(y))
    again = np.repeat(np.arange(len(y)), weight)
    holed = np.where(weight == 0, np.nan, p)
    got = TESTS[name](holed, np.where(weight == 0, 5, y), weight=weight.astype(float))
    want = TESTS[name](p[again], y[again])
    np.testing.assert_allclose([got.statistic, got.p_value], [want.statistic, want.p_value], rtol=1e-8)
    assert got.count == (weight > 0).sum()
    jitted = jax.jit(TESTS[name])(jnp.asarray(p, jnp.float32), y)
    plain = TESTS[name](p, y)
    np.testing.assert_allclose(jitted[:2], plain[:2], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("name", TESTS)
def test_p_values_are_uniform_under_calibration_and_small_otherwise(name):
    num, size = 400, 1000
    rng = np.random.default_rng(4)
    p = rng.beta(1.2, 2, (num, size)).clip(0.02, 0.98).astype(np.float32)
    y = (rng.uniform(size=p.shape) < p).astype(int)
    wrong = special.expit(1.5 * special.logit(p))  # overconfident
    p_value = jax.jit(jax.vmap(lambda p, y: TESTS[name](p, y).p_value))
    null, power = np.asarray(p_value(p, y)), np.asarray(p_value(wrong, y))
    for level in (0.05, 0.2, 0.5):
        found = int((null <= level).sum())
        assert stats.binomtest(found, num, level).pvalue > 1e-3, (level, found / num)
    assert (power < 0.05).mean() > 0.8


@pytest.mark.parametrize("name", ["spiegelhalter", "kuiper", "max", "hosmer_lemeshow"])
def test_defect_25_certain_predictions_have_an_answer(name):
    right = TESTS[name]([0.0, 1.0, 1.0], [0, 1, 1])
    assert float(right.statistic) == 0.0 and float(right.p_value) == 1.0
    wrong = TESTS[name]([0.0, 1.0, 1.0], [0, 1, 0])
    assert np.isinf(float(wrong.statistic)) and float(wrong.p_value) == 0.0


def test_wrong_inputs_get_a_sentence():
    with pytest.raises(uq.InputError, match=r"strictly between 0 and 1.* row 1 is 1"):
        tests.logistic_recalibration([0.5, 1.0, 0.2], [1, 0, 1])
    for p, y, weight in (([0.3, 0.3], [0, 1], None), ([0.3], [1], None), ([0.3, 0.3, 0.8], [0, 1, 1], [1, 1, 0])):
        with pytest.raises(uq.InputError, match=r"at least two different probabilities.* 0\.3"):
            tests.logistic_recalibration(p, y, weight=weight)
    with pytest.raises(uq.InputError, match="no statistic 'ks'"):
        tests.cumulative_calibration_test([0.5], [1], statistic="ks")
    with pytest.raises(uq.InputError, match="no kind 'classwise'"):
        tests.spiegelhalter_test([0.5], [1], kind="classwise")
