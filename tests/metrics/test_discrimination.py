"""Discrimination against scikit-learn and loops over pairs, with ties, weights and unbounded scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from uq._checks import InputError
from uq.metrics import discrimination as d
from uq.metrics._estimate import Resample

METRICS = (d.auroc, d.average_precision, d.fpr_at_tpr)


def case(seed=0, size=80, levels=9, share=0.3):
    """Tied, unbounded, shifted and imbalanced scores, with whole weights."""
    rng = np.random.default_rng(seed)
    labels = rng.random(size) < share
    labels[:2] = True, False
    scores = 1e3 * (rng.integers(0, levels, size) + labels) - 5e3
    return scores, labels, rng.integers(1, 4, size)


def pairs(scores, labels, weight):
    """Mann–Whitney, pair by pair."""
    won = total = 0.0
    for s, a, v in zip(scores, labels, weight, strict=True):
        for t, b, w in zip(scores, labels, weight, strict=True):
            if a and not b:
                won += v * w * ((s > t) + 0.5 * (s == t))
                total += v * w
    return won / total


def looped_fpr(scores, labels, weight, level):
    for t in sorted(set(scores), reverse=True):
        called = scores >= t
        if weight[called & labels].sum() >= level * weight[labels].sum() - 1e-9:
            return weight[called & ~labels].sum() / weight[~labels].sum()
    raise AssertionError


@given(st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_values_are_those_of_sklearn_with_ties_and_weights(seed, levels):
    scores, labels, weight = case(seed, 40, levels)
    for w in (None, weight, weight / 7.0):
        full = np.ones(40) if w is None else w
        found = float(d.auroc(scores, labels, weight=w))
        assert found == pytest.approx(sk.roc_auc_score(labels, scores, sample_weight=w), abs=1e-12)
        assert found == pytest.approx(pairs(scores, labels, full), abs=1e-12)
        expected = sk.average_precision_score(labels, scores, sample_weight=w)
        assert float(d.average_precision(scores, labels, weight=w)) == pytest.approx(expected, abs=1e-12)
        for level in (0.5, 0.95):
            found = float(d.fpr_at_tpr(scores, labels, level=level, weight=w))
            assert found == pytest.approx(looped_fpr(scores, labels, full, level), abs=1e-12)


def test_curves_are_those_of_sklearn():
    scores, labels, weight = case(3)
    curve = d.roc_curve(scores, labels, weight=weight)
    fpr, tpr, threshold = sk.roc_curve(labels, scores, sample_weight=weight, drop_intermediate=False)
    last = np.append(curve.threshold[1:] != curve.threshold[:-1], True)
    for ours, theirs in zip(curve, (fpr, tpr, threshold), strict=True):
        assert isinstance(ours, np.ndarray) and ours.shape == (81,)
        np.testing.assert_allclose(ours[last], theirs, atol=1e-12)
    assert np.trapezoid(curve.tpr, curve.fpr) == pytest.approx(float(d.auroc(scores, labels, weight=weight)), abs=1e-12)
    assert np.isinf(curve.threshold[0]) and curve.fpr[0] == curve.tpr[0] == 0

    curve = d.precision_recall_curve(scores, labels, weight=weight)
    precision, recall, threshold = sk.precision_recall_curve(labels, scores, sample_weight=weight)
    kept = np.append(curve.threshold[1:] != curve.threshold[:-1], True)
    np.testing.assert_allclose(curve.precision[kept][::-1], precision, atol=1e-12)
    np.testing.assert_allclose(curve.recall[kept][::-1], recall, atol=1e-12)
    np.testing.assert_allclose(curve.threshold[kept][:0:-1], threshold)


# Defects of the field


@pytest.mark.parametrize("first", (True, False))
def test_defect_03_a_constant_score_separates_nothing_in_any_order(first):
    labels = np.r_[np.full(30, first), np.full(70, not first)]
    share = labels.mean()
    assert float(d.auroc(np.full(100, 0.7), labels)) == 0.5
    assert float(d.average_precision(np.full(100, 0.7), labels)) == pytest.approx(share)
    assert float(d.fpr_at_tpr(np.full(100, 0.7), labels)) == 1.0
    noise = np.random.default_rng(0).integers(0, 3, 100)  # three levels, as of a disagreement
    for order in (np.argsort(labels, kind="stable"), np.argsort(~labels, kind="stable")):
        found = float(d.auroc(noise[order], labels[order]))
        assert found == pytest.approx(sk.roc_auc_score(labels, noise), abs=1e-12)


def test_defect_30_and_36_unbounded_scores_are_neither_squashed_nor_put_on_a_grid():
    scores, labels, _ = case(1)
    expected = float(d.auroc(scores, labels))
    squashed = 1 / (1 + np.exp(-np.clip(scores, -700, 700)))
    assert sk.roc_auc_score(labels, squashed) != pytest.approx(expected, abs=1e-3)
    for change in (
        lambda s: s,
        np.arctan,
        lambda s: s / 1e9,
        lambda s: np.exp(s / 1e3),
        lambda s: 1e-12 * s + 1 - 1e-8,
    ):
        assert float(d.auroc(change(scores), labels)) == pytest.approx(expected, abs=1e-12)
    saturated = 1 - np.array([3e-9, 2e-9, 1e-9, 4e-9])  # 200 thresholds on [0, 1] see one value
    assert float(d.auroc(saturated, [0, 1, 1, 0])) == 1.0
    infinite = np.array([-np.inf, 0.0, np.inf, np.inf])
    assert float(d.auroc(infinite, [0, 0, 1, 0])) == pytest.approx(2.5 / 3)


def test_fpr_at_tpr_takes_the_first_threshold_that_reaches_the_level():
    scores, labels = np.r_[np.arange(20.0), 0.5, 7.5, 30.0], np.r_[np.ones(20), np.zeros(3)]
    assert float(d.fpr_at_tpr(scores, labels, level=0.95)) == pytest.approx(2 / 3)  # 19 of 20 are 95 %
    assert float(d.fpr_at_tpr(scores.astype(np.float32), labels, level=0.95)) == pytest.approx(2 / 3)
    assert float(d.fpr_at_tpr(scores, labels, level=0.96)) == 1.0


# Standard errors


def test_influence_is_the_derivative_by_weight():
    scores, labels, weight = case(5, 60)
    _, rows, weight = d._ordered("auroc", scores, labels, weight.astype(float))
    for statistic in (d.AUROC, d.AVERAGE_PRECISION):
        influence = statistic.influence(np, rows, weight, statistic.value(np, rows, weight))
        for k in range(60):
            step = np.where(np.arange(60) == k, 1e-4, 0.0)
            slope = (statistic.value(np, rows, weight + step) - statistic.value(np, rows, weight - step)) / 2e-4
            assert influence[k] == pytest.approx(slope * weight.sum(), abs=1e-6)


def test_standard_errors_are_the_spread_over_test_sets():
    rng = np.random.default_rng(0)
    for metric in (d.auroc, d.average_precision):
        values, errors = [], []
        for _ in range(400):
            labels = rng.random(300) < 0.3
            found = metric(np.round(rng.normal(labels * 1.0, 1.0) * 3) + 100, labels)
            values.append(float(found))
            errors.append(float(found.stderr))
        assert np.mean(errors) == pytest.approx(np.std(values), rel=0.12)


def test_the_standard_error_is_that_of_delong():
    scores, labels, _ = case(2)
    gains = [np.mean((s > scores[~labels]) + 0.5 * (s == scores[~labels])) for s in scores[labels]]
    losses = [np.mean((scores[labels] > s) + 0.5 * (scores[labels] == s)) for s in scores[~labels]]
    m, n = len(gains), len(losses)
    ours = float(d.auroc(scores, labels).stderr) ** 2 * (m + n - 1) / (m + n)
    assert ours == pytest.approx(np.var(gains) / m + np.var(losses) / n, rel=1e-10)
    assert np.isnan(d.auroc([1.0, 2.0, 3.0], [0, 0, 1]).stderr)


def test_bootstrap_interval():
    scores, labels, weight = case(4)
    how = Resample(0, num=200)
    for metric in METRICS:
        found = metric(scores, labels, weight=weight, key=how)
        assert found.interval.lower <= float(found) <= found.interval.upper
        assert found.stderr > 0 and found.null is None
    rare = np.arange(80) < 3  # one resample in twenty has no positive: left out
    assert np.isfinite(d.auroc(scores, rare, key=how).interval).all()


# The contract


@pytest.mark.parametrize("metric", METRICS)
def test_rows_weights_masks_routes(metric):
    scores, labels, weight = case(6)
    expected = metric(scores, labels, weight=weight)
    shuffled = np.random.default_rng(1).permutation(80)
    again = metric(scores[shuffled], labels[shuffled], weight=weight[shuffled])
    repeated = metric(np.repeat(scores, weight), np.repeat(labels, weight))
    padded = metric(np.r_[np.nan, scores, 1e9], np.r_[7, labels, -1], weight=np.r_[0, weight, 0])
    for other in (again, repeated, padded):
        assert float(other) == pytest.approx(float(expected), abs=1e-12)
    for other in (again, padded):
        assert other.count == 80
        if expected.stderr is not None:
            assert other.stderr == pytest.approx(expected.stderr, rel=1e-10)
    before = scores.copy(), labels.copy(), weight.copy()
    device = [jnp.asarray(each, jnp.float32) for each in (scores, labels, weight)]
    compiled = jax.jit(lambda s, y, w: metric(s, y, weight=w))
    traced = compiled(*device)
    assert float(traced) == pytest.approx(float(expected), abs=1e-6) and traced.value.dtype == jnp.float32
    if expected.stderr is not None:
        assert float(traced.stderr) == pytest.approx(float(expected.stderr), rel=1e-4)
    again = compiled(*[jnp.asarray(each, jnp.float32) for each in (scores + 1, labels, weight)])
    assert float(again) == pytest.approx(float(expected), abs=1e-6) and compiled._cache_size() == 1
    masked = jax.jit(lambda w: metric(scores, labels, weight=w))(device[2])  # sorted on the host, once
    assert float(masked) == pytest.approx(float(expected), abs=1e-6)
    assert all((a == b).all() for a, b in zip(before, (scores, labels, weight), strict=True))


def test_traced_padding_is_inert():
    scores, labels, weight = case(6)
    padded = (np.r_[np.nan, scores, 1e9], np.r_[7, labels, -1], np.r_[0, weight, 0])
    found = jax.jit(lambda s, y, w: d.auroc(s, y, weight=w))(*[jnp.asarray(each, jnp.float32) for each in padded])
    assert float(found) == pytest.approx(float(d.auroc(scores, labels, weight=weight)), abs=1e-6)
    assert int(found.count) == 80


def test_curves_under_jit():
    scores, labels, _ = case(3)
    for curve in (d.roc_curve, d.precision_recall_curve):
        traced = jax.jit(curve)(jnp.asarray(scores, jnp.float32), jnp.asarray(labels))
        for ours, eager in zip(traced, curve(scores, labels), strict=True):
            np.testing.assert_allclose(ours, eager, atol=1e-6)


def test_predictions_of_two_classes_score_with_the_second():
    import numpyro.distributions as dist

    p = np.array([0.1, 0.6, 0.4, 0.9], np.float32)
    y = [0, 1, 1, 0]
    expected = float(d.auroc(p, y))
    assert float(d.auroc(np.stack([1 - p, p], 1), y)) == expected
    assert float(d.auroc(dist.Bernoulli(logits=jnp.log(jnp.asarray(p) / (1 - jnp.asarray(p)))), y)) == expected
    assert float(d.auroc(p[:, None], y)) == expected


@pytest.mark.parametrize("metric", (*METRICS, d.roc_curve, d.precision_recall_curve))
def test_bad_input_gets_a_sentence(metric):
    good = [0.1, 0.2, 0.3]
    for scores, labels, words in (
        (good, [1, 1, 1], "both kinds"),
        (good, [0, 0, 0], "both kinds"),
        (good, [0, 1, 2], "row 2 is 2"),
        (good, [-1, 1, 1], "labels 0 and 1"),
        (good, [0, 1], "shape \\(3,\\)"),
        (good, [[0, 1, 1]], "shape \\(3,\\)"),
        ([0.1, np.nan, 0.3], [0, 1, 1], "row 1"),
        ([], [], "N ≥ 1"),
        (np.full((3, 3), 1 / 3), [0, 1, 1], "one class at a time"),
        (np.array([[0.5, 0.7]] * 3), [0, 1, 1], "sum"),
        ("abc", [0, 1, 1], "expected"),
    ):
        with pytest.raises(InputError, match=words):
            metric(scores, labels)
    with pytest.raises(InputError, match="weight"):
        metric(good, [0, 1, 1], weight=[1.0, 2.0])
    with pytest.raises(InputError, match="both kinds"):
        metric(good, [0, 1, 1], weight=[0.0, 2.0, 1.0])


def test_bad_level():
    with pytest.raises(InputError, match="level"):
        d.fpr_at_tpr([0.1, 0.2], [0, 1], level=95)
