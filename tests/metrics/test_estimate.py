"""Estimates: numbers that know their error, and whether they know it rightly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import uq
from uq import metrics
from uq.metrics import Estimate, Resample


def some(value=0.25):
    return Estimate(np.float64(value), np.float64(0.1), 7, "a number")


def test_used_as_the_number_it_is():
    e = some()
    assert float(e) == 0.25 and np.asarray(e) == 0.25 and f"{e:.3f}" == "0.250" and round(e, 1) == 0.2
    assert (e + 1, 1 - e, 2 * e, e / 2, 1 / e, e**2, -e, abs(-e)) == (1.25, 0.75, 0.5, 0.125, 4.0, 0.0625, -0.25, 0.25)
    assert e < 0.3 and e >= 0.25 and e == 0.25 and e != 0.3 and e - some(0.2) == pytest.approx(0.05)
    np.testing.assert_array_equal(np.arange(3) * e, [0, 0.25, 0.5])
    np.testing.assert_array_equal(jnp.arange(3.0) * e, [0, 0.25, 0.5])
    again = jax.jit(lambda e: e)(e)
    assert isinstance(again, Estimate) and float(again) == 0.25 and again.estimand == "a number"
    with pytest.raises(TypeError, match="hash"):
        hash(e)


def test_mean():
    rng = np.random.default_rng(0)
    values, weight = 300 + 20 * rng.normal(size=50), rng.integers(0, 3, 50).astype(float)
    found = metrics.mean(values)
    assert float(found) == pytest.approx(values.mean()) and float(found.stderr) == pytest.approx(stats.sem(values))
    values[weight == 0] = np.nan
    found = metrics.mean(values, weight=weight)
    assert float(found) == pytest.approx(np.average(values[weight > 0], weights=weight[weight > 0]))
    assert int(found.count) == (weight > 0).sum()
    assert float(metrics.mean([1.0, np.inf])) == np.inf  # counted, never clipped
    assert np.isnan(float(metrics.mean([3.0]).stderr)) and float(metrics.mean([True, False])) == 0.5


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: metrics.mean([]), r"N ≥ 1, but got dtype float64 of shape \(0,\)"),
        (lambda: metrics.mean(3.0), r"of shape \(\)"),
        (lambda: metrics.mean("a"), "expected scores"),
        (lambda: metrics.mean(None), "expected scores"),
        (lambda: metrics.mean([1.0, np.nan]), r"not NaN, but row 1 is \(1 of 2\)"),
        (lambda: metrics.mean([1.0, 2.0], weight=[-1.0, 2.0]), "not negative"),
        (lambda: metrics.mean([1.0, 2.0], weight=[0.0, 0.0]), "not all 0"),
        (lambda: metrics.mean([1.0, 2.0], weight=[np.nan, 1.0]), "finite"),
        (lambda: metrics.mean([1.0, 2.0], weight=[1.0]), r"`weight` of shape \(2,\)"),
        (lambda: Resample(0, num=3), "num"),
        (lambda: Resample(0, confidence=95), "confidence"),
    ],
)
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()


def test_a_single_example_and_infinite_scores_have_no_interval():
    one = metrics.mean([3.0], key=0)
    assert np.isnan(one.interval.lower) and np.isnan(one.interval.upper) and str(one) == "3 (n = 1)"
    whole = jax.jit(lambda values: metrics.mean(values, key=0))(jnp.float32([3.0]))
    assert np.isnan(whole.interval.upper) and whole.interval.upper.dtype == jnp.float32
    masked = metrics.mean([3.0, 4.0], weight=[1.0, 0.0], key=0)
    assert np.isnan(masked.interval.lower) and np.isnan(masked.stderr)
    wrong = metrics.mean([1.0, np.inf, np.inf], key=0)
    assert float(wrong) == np.inf and not np.isfinite(wrong.interval.upper)


@pytest.mark.parametrize("name", ["mean", "rmse", "auroc"])
def test_intervals_hold_the_truth_as_often_as_they_say(name):
    """90 % intervals of 300 data sets of 200 rows; standard errors are the spread of the values."""
    rng = np.random.default_rng(1)
    inside, values, errors = 0, [], []
    for seed in range(300):
        key = Resample(seed, num=200, confidence=0.9)
        if name == "auroc":
            labels = np.arange(200) % 4 == 0
            found, truth = metrics.auroc(rng.normal(size=200) + labels, labels.astype(int), key=key), 0.76025
        elif name == "rmse":
            found, truth = metrics.rmse(rng.normal(size=200), np.zeros(200), key=key), 1.0
        else:
            found, truth = metrics.mean(300 + rng.exponential(2.0, 200), key=key), 302.0
        inside += found.interval.lower <= truth <= found.interval.upper
        values.append(float(found))
        errors.append(float(found.stderr))
    assert 0.85 <= inside / 300 <= 0.95
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.15)  # of 300 values: known to 4 %
