"""Subgroup calibration against loops over all groups and intervals, and its p-values under simulation."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from uq._checks import InputError
from uq.metrics._estimate import Resample
from uq.metrics.groups import Interval, worst_group_calibration


def case(seed=0, size=60):
    """A skewed event, a feature with ties and a group, none of which matter."""
    rng = np.random.default_rng(seed)
    p = rng.beta(1.0, 3.0, size)
    y = (rng.random(size) < p).astype(int)
    return p, y, rng.integers(0, 12, size) * 10 + 1e3, rng.integers(0, 4, size)


def looped_intervals(residual, variance, feature):
    """Largest |Σ r| over all intervals between values."""
    best, at = -1.0, None
    values = np.unique(feature)
    for i, low in enumerate(values):
        for high in values[i:]:
            inside = (feature >= low) & (feature <= high)
            if abs(residual[inside].sum()) > best + 1e-12:
                best, at = abs(residual[inside].sum()), (low, high, inside)
    return best / np.sqrt(variance.sum()), at


@pytest.mark.parametrize("seed", range(8))
def test_intervals_are_those_of_a_loop_over_all(seed):
    p, y, feature, _ = case(seed)
    found = worst_group_calibration(p, y, features=feature)
    expected, (low, high, inside) = looped_intervals(y - p, p * (1 - p), feature)
    assert found.statistic == pytest.approx(expected, rel=1e-9)
    assert found.worst == Interval("feature", low, high) and found.p_value is None
    assert found.gap == pytest.approx((y - p)[inside].mean()) and found.share == pytest.approx(inside.mean())
    assert f"{low:.4g} ≤ feature ≤ {high:.4g}" in repr(found)


def test_groups_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    probs, group = rng.dirichlet([3.0, 1.0, 0.5], 80), rng.choice(["a", "b", "c"], 80, p=[0.6, 0.3, 0.1])
    y = np.array([rng.choice(3, p=row) for row in probs])
    found = worst_group_calibration(probs, y, groups=group)
    expected = {}
    for g in "abc":
        for c in range(3):
            gap = ((y == c) - probs[:, c])[group == g]
            z = abs(gap.sum()) / np.sqrt((probs[:, c] * (1 - probs[:, c]))[group == g].sum())
            expected[g, f"class {c}"] = z, gap.mean(), (group == g).mean()
    best = max(expected, key=lambda k: expected[k][0])
    assert (found.worst, found.target) == best
    assert (found.statistic, found.gap, found.share) == pytest.approx(expected[best])
    assert found.table.keys() == ("a", "b", "c")
    for g in "abc":
        assert found.table[g, "statistic"] == pytest.approx(max(expected[g, f"class {c}"][0] for c in range(3)))


def test_several_features_and_names():
    p, y, feature, group = case(3)
    both = worst_group_calibration(p, y, features={"age": feature, "dose": group})
    each = [worst_group_calibration(p, y, features={n: v}) for n, v in (("age", feature), ("dose", group))]
    best = max(each, key=lambda one: one.statistic)
    assert both.worst == best.worst and both.statistic == best.statistic and len(both.table) == 2
    stacked = worst_group_calibration(p, y, features=np.stack([feature, group], 1))
    assert stacked.statistic == both.statistic and stacked.worst.feature.startswith("feature ")


@pytest.mark.parametrize("how", ("groups", "features"))
def test_rows_weights_and_masks(how):
    p, y, feature, group = case(4)
    where = {"groups": group, "features": feature}[how]
    weight = np.random.default_rng(0).integers(0, 3, 60)
    expected = worst_group_calibration(p, y, **{how: where}, weight=weight)
    repeated = worst_group_calibration(np.repeat(p, weight), np.repeat(y, weight), **{how: np.repeat(where, weight)})
    assert repeated.worst == expected.worst
    assert (repeated.statistic, repeated.gap, repeated.share) == pytest.approx(
        (expected.statistic, expected.gap, expected.share)
    )
    order = np.random.default_rng(1).permutation(60)
    again = worst_group_calibration(p[order], y[order], **{how: where[order]}, weight=weight[order])
    assert again.worst == expected.worst and again.statistic == pytest.approx(expected.statistic)
    dead = weight == 0
    spoilt = np.where(dead, np.nan, p), np.where(dead, 9, y)
    padded = worst_group_calibration(*spoilt, **{how: np.where(dead, np.nan, where)}, weight=weight)
    assert str(padded.worst) == str(expected.worst if how == "features" else float(expected.worst))
    assert padded.statistic == pytest.approx(expected.statistic)


@pytest.mark.parametrize("null", ("calibrated", "alike"))
@pytest.mark.parametrize("how", ("groups", "features"))
def test_p_values_are_uniform_if_calibrated(null, how):
    values = []
    for seed in range(150):
        p, y, feature, group = case(seed, 100)
        where = {"groups": group, "features": feature}[how]
        found = worst_group_calibration(p, y, **{how: where}, null=null, key=Resample(seed, num=99))
        values.append(found.p_value)
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_power_against_one_miscalibrated_group():
    rng = np.random.default_rng(0)
    hits = []
    for seed in range(12):
        p, _, _, _ = case(seed, 600)
        feature = rng.normal(50.0, 5.0, 600)
        bad = (feature > 48) & (feature < 52)
        y = (rng.random(600) < p + 0.25 * bad * (p < 0.7)).astype(int)
        how = Resample(seed, num=99)
        calibrated = worst_group_calibration(p, y, features=feature, key=how)
        alike = worst_group_calibration(p, y, features=feature, null="alike", key=how)
        grouped = worst_group_calibration(p, y, groups=bad, key=how)
        assert grouped.worst is True
        hits.append([calibrated.p_value <= 0.05, alike.p_value <= 0.05, grouped.p_value <= 0.05])
        assert calibrated.gap > 0 and calibrated.worst.low < 50 < calibrated.worst.high
    assert np.mean(hits, 0).min() > 0.8


def test_everyone_alike_but_miscalibrated_is_told_apart():
    p, _, _, group = case(0, 2000)
    y = (np.random.default_rng(0).random(2000) < np.minimum(1.6 * p, 1)).astype(int)
    how = Resample(0, num=199)
    assert worst_group_calibration(p, y, groups=group, key=how).p_value <= 0.01
    assert worst_group_calibration(p, y, groups=group, null="alike", key=how).p_value > 0.01


# Regressions


def test_regressions_by_levels():
    import numpyro.distributions as dist

    rng = np.random.default_rng(2)
    mean, feature = rng.normal(1e2, 3.0, 300), rng.random(300)
    y = rng.normal(mean, 2.0 + 4.0 * (feature > 0.7))
    found = worst_group_calibration(stats.norm(mean, 2.0), y, features=feature, levels=[0.1, 0.9], key=Resample(0, 199))
    scores = []
    for q in (0.1, 0.9):
        residual = (stats.norm.cdf(y, mean, 2.0) <= q) - q
        scores.append(looped_intervals(residual, np.full(300, q * (1 - q)), feature)[0])
    assert found.statistic == pytest.approx(max(scores)) and found.p_value <= 0.01
    assert found.worst.high > 0.95 and found.target in ("level 0.1", "level 0.9")
    same = worst_group_calibration(
        dist.Normal(jnp.asarray(mean), 2.0), y, features=feature, levels=[0.1, 0.9], key=Resample(0, 199)
    )
    assert same.statistic == pytest.approx(found.statistic, rel=1e-3)
    assert worst_group_calibration(stats.norm(mean, 2.0), y, features=feature).statistic >= found.statistic - 1e-9


def test_several_outputs():
    rng = np.random.default_rng(3)
    y, group = rng.normal(size=(200, 2)) * [1.0, 3.0], np.arange(200) % 3
    found = worst_group_calibration(
        stats.norm(np.zeros((200, 2)), 1.0), y, groups=group, levels=[0.2, 0.8], key=Resample(0, num=99)
    )
    assert found.target.endswith("of output 1") and found.p_value == 0.01


def test_draws_and_counts_are_not_rejected_for_their_steps():
    rng = np.random.default_rng(4)
    values = {"draws": [], "counts": []}
    for seed in range(60):
        group = np.arange(300) % 3
        draws, y = rng.normal(5.0, 2.0, (9, 300)), rng.normal(5.0, 2.0, 300)
        how = Resample(seed, num=99)
        values["draws"].append(worst_group_calibration(draws, y, groups=group, levels=[0.1, 0.5], key=how).p_value)
        rate = rng.gamma(2.0, 0.5, 300)
        law, y = stats.poisson(rate), rng.poisson(rate)
        values["counts"].append(worst_group_calibration(law, y, groups=group, levels=[0.1, 0.5], key=how).p_value)
    for found in values.values():
        assert np.mean(np.array(found) <= 0.05) <= 0.12


def test_certain_predictions():
    p, y = np.array([0.0, 1.0, 0.0, 1.0]), np.array([0, 1, 0, 1])
    found = worst_group_calibration(p, y, groups=[0, 0, 1, 1], key=Resample(0, num=19))
    assert found.statistic == 0.0 and found.p_value == 1.0
    wrong = worst_group_calibration(p, 1 - y, groups=[0, 1, 0, 1], key=Resample(0, num=19))
    assert wrong.statistic == np.inf and wrong.p_value == 1 / 20


def test_bad_input_gets_a_sentence():
    p, y, feature, group = case()
    for change, words in (
        (dict(), "either `groups=` or `features=`"),
        (dict(groups=group, features=feature), "either"),
        (dict(groups=group[:5]), "`groups` of shape \\(60,\\)"),
        (dict(groups=np.where(group == 0, np.nan, group)), "row .* has none \\(it is nan\\)"),
        (dict(groups=np.where(group == 0, None, group)), "row .* has none \\(it is None\\)"),
        (dict(groups=np.array([1, "a"] * 30, object)), "labels that can be put in order, but they are int and str"),
        (dict(features=feature[:5]), "features"),
        (dict(features=feature.astype(str)), "features"),
        (dict(features={"x": np.where(feature > 1050, np.nan, feature)}), "NaN"),
        (dict(groups=group, null="none"), "null"),
        (dict(groups=group, weight=-np.ones(60)), "weight"),
    ):
        with pytest.raises(InputError, match=words):
            worst_group_calibration(p, y, **change)
    with pytest.raises(InputError, match="levels"):
        worst_group_calibration(stats.norm(p, 1.0), p, groups=group, levels=[90])
    with pytest.raises(InputError, match="probabilities"):
        worst_group_calibration(p + 1, y, groups=group)


def test_defect_33_the_last_example_belongs_to_the_search():
    p, feature = np.full(20, 0.02), np.arange(20.0)
    for row in (0, 19):
        found = worst_group_calibration(p, np.arange(20) == row, features=feature)
        assert found.worst == Interval("feature", row, row) and found.gap == pytest.approx(0.98)


def test_groups_of_rows_without_weight_need_no_label():
    p, y, _, group = case()
    weight = np.where(group == 0, 0.0, 1.0)
    want = worst_group_calibration(p, y, groups=group, weight=weight)
    found = worst_group_calibration(p, y, groups=np.where(group == 0, np.nan, group), weight=weight)
    assert (found.statistic, found.worst) == (want.statistic, want.worst)
