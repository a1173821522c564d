"""Paired comparisons against scipy, loops, and their own promises under simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from uq._checks import InputError
from uq.metrics._estimate import Resample
from uq.metrics.class_scores import brier_score
from uq.metrics.compare import compare
from uq.metrics.discrimination import auroc
from uq.metrics.scores import log_score
from uq.table import Table


def case(seed=0, size=300, noise=0.8):
    """Two predictions of a skewed event; the second is noisier."""
    rng = np.random.default_rng(seed)
    x = rng.normal(-1.0, 1.5, size)
    y = (rng.random(size) < 1 / (1 + np.exp(-x))).astype(int)
    a, b = (1 / (1 + np.exp(-x - s * rng.normal(size=size))) for s in (0.2, noise))
    return a, b, y


def shifted(pred, y):
    """A score with one value an example, of plain numbers."""
    return np.abs(pred - y) * 1e3


def area(pred, y, weight=None):
    """AUROC without ties, in numpy alone."""
    weight = np.ones(len(y)) if weight is None else np.asarray(weight)
    positive, negative = weight * (y == 1), weight * (y == 0)
    order = np.argsort(pred)
    return (positive[order] * np.cumsum(negative[order])).sum() / positive.sum() / negative.sum()


def test_paired_t():
    a, b, y = case()
    found = compare(a, b, y, metric="brier_score")
    expected = stats.ttest_rel(brier_score(a, y), brier_score(b, y))
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    np.testing.assert_allclose(found.difference.interval, expected.confidence_interval(), rtol=1e-9)
    assert float(found.difference) == pytest.approx((brier_score(a, y) - brier_score(b, y)).mean())
    assert found.wins == np.mean(brier_score(a, y) < brier_score(b, y))
    assert found.a == pytest.approx(brier_score(a, y).mean()) and found.difference.count == 300
    again = compare(b, a, y, metric=brier_score)
    assert float(again.difference) == -float(found.difference) and again.p_value == pytest.approx(found.p_value)
    assert "brier_score" in repr(found) and "paired t" in repr(found)
    assert compare(a, b, y).metric == "log_score"


def test_the_pairing_takes_off_what_both_share():
    rng = np.random.default_rng(1)
    hard = rng.gamma(1.0, 50.0, 200)
    found = compare(hard + rng.normal(1.0, 1.0, 200), hard, np.zeros(200), metric=shifted)
    assert found.difference.stderr < 0.05 * np.std(hard * 1e3) / np.sqrt(200) and found.p_value < 1e-6


def test_sign_flips_give_p_values_that_are_uniform_without_and_small_with_a_difference():
    rng = np.random.default_rng(2)
    how = Resample(0, num=199)
    same = [compare(*rng.standard_t(2.0, (2, 30)), np.zeros(30), metric=shifted, key=how).p_value for _ in range(200)]
    assert stats.kstest(same, "uniform").pvalue > 1e-3
    a = rng.normal(3.0, 1.0, 30)
    assert compare(a, a + rng.normal(0.5, 0.5, 30), np.zeros(30), metric=shifted, key=how).p_value == 1 / 200
    assert compare(a, a, np.zeros(30), metric=shifted, key=how).p_value == 1.0
    assert compare(a, a, np.zeros(30), metric=shifted).p_value == 1.0


def test_sign_flips_of_few_examples_are_all_of_them():
    gap = np.array([3.0, 1.0, 2.0, -0.5])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    expected = (np.abs(signs.T @ gap) >= gap.sum() - 1e-9).mean()
    found = compare(gap + 5, np.full(4, 5.0), np.zeros(4), metric=shifted, key=Resample(0, num=20_000))
    assert found.p_value == pytest.approx(expected, abs=0.01)


def test_diebold_mariano_counts_correlated_neighbours():
    rng = np.random.default_rng(3)
    noise = rng.normal(size=403)
    gap = 0.3 + noise[3:] + noise[2:-1] + noise[1:-2] + noise[:-3]
    found = compare(gap + 9, np.full(400, 9.0), np.zeros(400), metric=shifted, lags=3)
    d = gap * 1e3 - (gap * 1e3).mean()
    gamma = [sum(d[t] * d[t - k] for t in range(k, 400)) / 400 for k in range(4)]
    variance = gamma[0] + 2 * sum((1 - k / 4) * gamma[k] for k in range(1, 4))
    assert float(found.difference.stderr) == pytest.approx(np.sqrt(variance / 399), rel=1e-9)
    blind = compare(gap + 9, np.full(400, 9.0), np.zeros(400), metric=shifted)
    assert found.difference.stderr > 1.5 * blind.difference.stderr
    assert "3 lags" in found.test


def test_weights_are_cases_and_masks():
    a, b, y = case()
    weight = np.random.default_rng(4).integers(0, 3, 300)
    found = compare(a, b, y, metric="brier_score", weight=weight)
    repeated = compare(*(np.repeat(each, weight) for each in (a, b, y)), metric="brier_score")
    assert float(found.difference) == pytest.approx(float(repeated.difference))
    assert found.wins == pytest.approx(repeated.wins) and found.difference.count == (weight > 0).sum()
    spoilt = [np.where(weight > 0, each, bad) for each, bad in ((a, np.nan), (b, 7.0), (y, -1))]
    for key in (None, 0):
        expected = compare(a, b, y, metric="brier_score", weight=weight, key=key)
        padded = compare(*spoilt, metric="brier_score", weight=weight, key=key)
        assert (padded.a, padded.wins, padded.p_value) == (expected.a, expected.wins, expected.p_value)


# Summaries


def test_summaries_share_their_resamples():
    a, b, y = case(size=200)
    how = Resample(1, num=300)
    found = compare(a, b, y, metric=auroc, key=how)
    assert found.a == float(auroc(a, y)) and found.b == float(auroc(b, y)) and found.wins is None
    rng, draws = np.random.default_rng(0), []
    for _ in range(400):
        rows = rng.integers(0, 200, 200)
        draws.append(float(auroc(a[rows], y[rows])) - float(auroc(b[rows], y[rows])))
    assert found.difference.stderr == pytest.approx(np.std(draws), rel=0.2)
    apart = np.hypot(auroc(a, y).stderr, auroc(b, y).stderr)
    assert found.difference.stderr < 0.8 * apart
    assert found.difference.interval.lower < float(found.difference) < found.difference.interval.upper
    assert compare(a, a, y, metric=auroc, key=how).p_value == 1.0
    again = compare(a, b, y, metric=auroc, key=how)
    assert again.difference.interval == found.difference.interval


def test_a_summary_of_numpy_alone_is_resampled_in_a_loop():
    a, b, y = case(size=60)
    found = compare(a, b, y, metric=area, key=Resample(0, num=50))
    compiled = compare(a, b, y, metric=auroc, key=Resample(0, num=50))
    np.testing.assert_allclose(found.difference.interval, compiled.difference.interval, atol=1e-6)
    assert float(found.difference) == pytest.approx(float(compiled.difference))


def test_p_values_of_summaries_hold_without_a_difference_and_find_one():
    low = []
    for seed in range(20):
        rng = np.random.default_rng(100 + seed)
        a, _, y = case(seed, 150)
        first, second = (1 / (1 + (1 - a) / a * np.exp(0.8 * rng.normal(size=150))) for _ in range(2))
        low.append(compare(first, second, y, metric=area, key=Resample(seed, num=59)).p_value <= 0.1)
    assert np.mean(low) <= 0.25
    a, b, y = case(5, 600, noise=2.0)
    assert compare(a, b, y, metric=auroc, key=Resample(0, num=199)).p_value <= 0.02


# Several metrics, names and bad input


def test_several_metrics_make_a_table():
    a, b, y = case(size=100)
    table = compare(a, b, y, metric=["brier_score", log_score, auroc], key=Resample(0, num=50))
    assert isinstance(table, Table) and table.keys() == ("brier_score", "log_score", "auroc")
    assert table["auroc", "a"] == float(auroc(a, y)) and "not corrected for 3" in str(table)
    assert table["brier_score", "a − b"] == float(compare(a, b, y, metric="brier_score").difference)


def test_jax_arrays_and_float32():
    a, b, y = case()
    found = compare(jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32), jnp.asarray(y), metric="brier_score")
    assert float(found.difference) == pytest.approx(float(compare(a, b, y, metric="brier_score").difference), rel=1e-4)


def test_bad_input_gets_a_sentence():
    a, b, y = case(size=10)
    for change, words in (
        (dict(metric="brier_scores"), "brier_score"),
        (dict(metric=3), "metric"),
        (dict(metric=[]), "at least one"),
        (dict(metric=auroc), "pass `key=`"),
        (dict(lags=2, key=0), "lags"),
        (dict(lags=20), "fewer than the 10"),
        (dict(lags=-1), "lags"),
        (dict(weight=np.ones(3)), "weight"),
        (dict(weight=np.arange(10) == 3), "at least two"),
        (dict(metric=lambda p, y: np.zeros(3)), "one value for each of 10"),
    ):
        with pytest.raises(InputError, match=words):
            compare(a, b, y, **{"metric": "brier_score", **change})
    with pytest.raises(InputError, match="two predictions of classes or two densities"):
        compare(a, stats.norm(a, 1.0), y, metric="log_score")
    with pytest.raises(InputError, match="finite scores, but `log_score` of row"):
        compare(np.where(y == 1, 0.0, a), b, y)


def test_defect_33_the_last_example_is_drawn_as_often_as_any():
    from uq.metrics.compare import _counts

    places = jnp.asarray([0, 2, 3])
    drawn = np.sum([np.asarray(_counts(4, jax.random.key(0), np.int32(i), places)) for i in range(300)], 0)
    assert drawn[1] == 0 and drawn.sum() == 900
    assert (np.abs(drawn[[0, 2, 3]] - 300) < 80).all()
    gap = np.r_[np.zeros(29), 1.0]  # all of the difference is in the last row
    found = compare(gap, np.zeros(30), np.zeros(30), metric=shifted, key=Resample(0, num=100))
    assert found.difference.interval.upper > 30


@pytest.mark.parametrize("name", ["sharpness", "mean", "compare", "reliability_curve", "quantile_score"])
def test_what_cannot_be_compared_by_says_so(name):
    p = np.array([0.2, 0.7, 0.9])
    with pytest.raises(InputError, match=f"cannot compare by `{name}`"):
        compare(p, p, [0, 1, 1], metric=name)
