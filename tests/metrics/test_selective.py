"""Selective prediction against all orders of tied examples, loops and identities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import uq
from uq._checks import InputError
from uq.metrics import selective as s
from uq.metrics._estimate import Resample
from uq.metrics.class_scores import brier_score
from uq.metrics.discrimination import auroc

METRICS = (
    s.aurc,
    s.eaurc,
    s.augrc,
    s.sparsification_error,
    s.risk_at_coverage,
    lambda *given, **more: s.coverage_at_risk(*given, **more, risk=1.5),
)


def case(seed=0, size=60, levels=9):
    """Tied confidences in odd units and skewed losses, with whole weights."""
    rng = np.random.default_rng(seed)
    confidence = 100 - 7.5 * rng.integers(0, levels, size)
    loss = np.round(rng.gamma(0.7, 2.0, size) * (1 + (100 - confidence) / 40), 1)
    return confidence, loss, rng.integers(1, 4, size)


def orders(confidence):
    """Every order from the most confident on."""
    for order in itertools.permutations(range(len(confidence))):
        if all(confidence[a] >= confidence[b] for a, b in itertools.pairwise(order)):
            yield list(order)


def looped(confidence, loss):
    """Mean over all orders of: risks, AURC, AUGRC."""
    risks, size = [], len(loss)
    for order in orders(confidence):
        total, row = 0.0, []
        for k, i in enumerate(order, 1):
            total += loss[i]
            row.append(total / k)
        risks.append(row)
    risk = np.mean(risks, 0)
    silent = np.r_[0.0, risk * np.arange(1, size + 1) / size]
    return risk, risk.mean(), (silent[1:] + silent[:-1]).sum() / 2 / size


def simple_area(confidence, loss):
    """By groups of ties, in a loop over k."""
    total = base = 0.0
    k = 0
    for c in sorted(set(confidence), reverse=True):
        group = loss[confidence == c]
        for j in range(1, len(group) + 1):
            k += 1
            total += (base + j * group.mean()) / k
        base += group.sum()
    return total / k


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=6))
@settings(max_examples=40, deadline=None)
def test_values_are_means_over_all_orders_of_ties(rows):
    confidence, loss = np.array(rows, float).T
    risk, area, generalized = looped(confidence, loss)
    curve = s.risk_coverage(confidence=confidence, loss=loss)
    np.testing.assert_allclose(curve.risk, risk, atol=1e-12)
    np.testing.assert_allclose(curve.coverage, np.arange(1, len(loss) + 1) / len(loss), atol=1e-12)
    np.testing.assert_allclose(curve.generalized_risk, risk * curve.coverage, atol=1e-12)
    assert float(s.aurc(confidence=confidence, loss=loss)) == pytest.approx(area, abs=1e-11)
    assert float(s.augrc(confidence=confidence, loss=loss)) == pytest.approx(generalized, abs=1e-12)
    best = (np.cumsum(np.sort(loss)) / np.arange(1, len(loss) + 1)).mean()
    assert float(s.eaurc(confidence=confidence, loss=loss)) == pytest.approx(area - best, abs=1e-11)
    if loss.sum():
        found = float(s.sparsification_error(confidence=confidence, loss=loss))
        assert found == pytest.approx((area - best) / loss.mean(), abs=1e-11)
    for k in range(1, len(loss)):
        found = float(s.risk_at_coverage(confidence=confidence, loss=loss, coverage=k / len(loss)))
        assert found == pytest.approx(risk[k - 1], abs=1e-12)
    for allowed in (0.0, 0.5, 1.0, 2.0):
        ends = [confidence >= c for c in set(confidence)]
        share = max((kept.mean() for kept in ends if loss[kept].mean() <= allowed + 1e-12), default=0.0)
        found = float(s.coverage_at_risk(confidence=confidence, loss=loss, risk=allowed))
        assert found == pytest.approx(share, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(1, 30))
@settings(max_examples=30, deadline=None)
def test_identity_of_augrc_with_auroc_holds_exactly_with_ties_and_weights(seed, levels):
    rng = np.random.default_rng(seed)
    confidence, wrong = rng.integers(0, levels, 70) / 3 - 5, rng.random(70) < 0.2
    wrong[:2] = True, False
    for weight in (np.ones(70), rng.gamma(1.0, 3.0, 70)):
        accuracy = np.average(~wrong, weights=weight)
        separation = float(auroc(confidence, ~wrong, weight=weight))
        expected = (1 - separation) * accuracy * (1 - accuracy) + (1 - accuracy) ** 2 / 2
        assert float(s.augrc(confidence=confidence, loss=wrong, weight=weight)) == pytest.approx(expected, abs=1e-14)


def test_harmonic_numbers():
    start = np.array([1.0, 1.5, 3.0, 10.0, 1e5, 1e7])
    for size in (0.25, 1.0, 3.0, 1e4):
        expected = special.digamma(start + size + 1) - special.digamma(start + 1)
        np.testing.assert_allclose(s._harmonic_gap(np, start, size), expected, rtol=1e-9, atol=2e-12)
        found = s._harmonic_gap(jnp, jnp.asarray(start, jnp.float32), jnp.float32(size))
        np.testing.assert_allclose(found, expected, rtol=3e-6)


def test_defect_03_a_confidence_that_knows_nothing_does_not_depend_on_the_order_of_rows():
    wrong = np.r_[np.zeros(70), np.ones(30)]
    for loss in (wrong, wrong[::-1]):
        assert float(s.aurc(confidence=np.full(100, 0.9), loss=loss)) == pytest.approx(0.3, abs=1e-12)
        assert float(s.augrc(confidence=np.full(100, 0.9), loss=loss)) == pytest.approx(0.15, abs=1e-12)
        assert float(s.risk_at_coverage(confidence=np.full(100, 0.9), loss=loss, coverage=0.1)) == pytest.approx(0.3)
        assert float(s.coverage_at_risk(confidence=np.full(100, 0.9), loss=loss, risk=0.2)) == 0.0
        assert float(s.coverage_at_risk(confidence=np.full(100, 0.9), loss=loss, risk=0.3)) == 1.0


def test_defect_21_coverage_at_risk_when_the_most_confident_one_is_wrong():
    confidence, wrong = np.linspace(0.99, 0.5, 50), np.zeros(50)
    wrong[0] = 1
    assert float(s.coverage_at_risk(confidence=confidence, loss=wrong, risk=0.2)) == 1.0
    wrong[10:] = 1
    assert float(s.coverage_at_risk(confidence=confidence, loss=wrong, risk=0.2)) == pytest.approx(
        11 / 50
    )  # 2 wrong of 11
    assert float(s.coverage_at_risk(confidence=confidence, loss=wrong, risk=0.05)) == 0.0
    rng = np.random.default_rng(0)
    for _ in range(200):  # a third of these are NaN elsewhere
        confidence, wrong = rng.random(50), rng.random(50) < 0.2
        order = np.argsort(-confidence)
        risk = np.cumsum(wrong[order]) / np.arange(1, 51)
        expected = max(np.flatnonzero(risk <= 0.2), default=-1) + 1
        assert float(s.coverage_at_risk(confidence=confidence, loss=wrong, risk=0.2)) == pytest.approx(expected / 50)


def test_parts_of_an_example_and_limits():
    loss = np.array([0.0, 1.0, 4.0])
    found = [float(s.risk_at_coverage(confidence=-loss, loss=loss, coverage=c)) for c in (0.2, 0.5, 0.999999)]
    assert found == pytest.approx([0.0, 0.5 / 1.5, 5 / 3], abs=1e-5)
    assert float(s.eaurc(confidence=-loss, loss=loss)) == pytest.approx(0.0, abs=1e-12)
    assert float(s.aurc(confidence=[3.0], loss=[2.5])) == 2.5


# Standard errors


@pytest.mark.parametrize("name", ("AURC", "EAURC", "AUGRC", "SPARSIFICATION"))
def test_influence_is_the_derivative_by_weight(name):
    statistic = getattr(s, name)
    rows, _, weight = s._prepared("m", None, None, *case(1, 200), ranked=True)
    weight = weight.astype(float)
    influence = statistic.influence(np, rows, weight, statistic.value(np, rows, weight))
    for k in range(10, 200, 7):
        step = np.where(np.arange(200) == k, 1e-4, 0.0)
        slope = (statistic.value(np, rows, weight + step) - statistic.value(np, rows, weight - step)) / 2e-4
        assert influence[k] == pytest.approx(slope * weight.sum(), abs=2e-3 * np.abs(influence).max())


def test_standard_errors_are_the_spread_over_test_sets():
    rng = np.random.default_rng(0)
    metrics = (s.aurc, s.eaurc, s.augrc, s.sparsification_error)
    values, errors = np.zeros((400, 4)), np.zeros((400, 4))
    for i in range(400):
        p = np.round(rng.beta(4, 1.2, 400), 2)
        loss = (rng.random(400) > p) * rng.gamma(2.0, 1.0, 400)
        for j, metric in enumerate(metrics):
            found = metric(confidence=p, loss=loss)
            values[i, j], errors[i, j] = float(found), found.stderr
    np.testing.assert_allclose(errors.mean(0), values.std(0), rtol=0.12)


def test_bootstrap():
    confidence, loss, weight = case(2)
    for metric in (METRICS[1], METRICS[2], METRICS[5]):
        found = metric(confidence=confidence, loss=loss, weight=weight, key=Resample(0, num=200))
        low, high = found.interval
        assert low <= float(found) <= high and found.stderr > 0
        spread = stats.norm.ppf(0.975) * found.stderr
        assert high - low == pytest.approx(2 * spread, rel=0.5)


def test_a_thousand_resamples_of_many_rows_in_one_compiled_call():
    rng = np.random.default_rng(0)
    p = rng.random(20_000)
    found = s.aurc(confidence=p, loss=rng.random(20_000) > p, key=0)
    low, high = found.interval
    assert high - low == pytest.approx(2 * 1.96 * found.stderr, rel=0.1)


# Predictions


def test_predictions_of_classes():
    rng = np.random.default_rng(3)
    probs, y = rng.dirichlet([2.0, 1.0, 0.5], 40), rng.integers(0, 3, 40)
    wrong = probs.argmax(1) != y
    for metric in METRICS:
        assert float(metric(probs, y)) == float(metric(confidence=probs.max(1), loss=wrong))
        found = float(metric(probs, y, loss=brier_score))
        assert found == pytest.approx(float(metric(confidence=probs.max(1), loss=brier_score(probs, y))), rel=1e-9)
    surer = -(probs * -np.log(probs)).sum(1)
    assert float(s.aurc(probs, y, confidence=surer)) == float(s.aurc(confidence=surer, loss=wrong))
    assert "error" in s.aurc(probs, y).estimand and "loss" in s.aurc(probs, y, loss=brier_score).estimand
    p = probs[:, 0] / (probs[:, 0] + 2)
    assert float(s.aurc(p, y == 1)) == float(s.aurc(np.stack([1 - p, p], 1), y == 1))


def test_predictions_of_numbers():
    import numpyro.distributions as dist

    rng = np.random.default_rng(4)
    mean, scale = rng.normal(1e2, 5, 40), rng.gamma(2.0, 2.0, 40)
    y = rng.normal(mean, scale)
    expected = float(s.aurc(confidence=-(scale**2), loss=(y - mean) ** 2))
    assert float(s.aurc(stats.norm(mean, scale), y)) == pytest.approx(expected, rel=1e-9)
    assert float(s.aurc(dist.Normal(mean, scale), y)) == pytest.approx(expected, rel=1e-3)


# The contract


@pytest.mark.parametrize("number", range(len(METRICS)))
def test_rows_weights_masks_routes(number):
    metric = METRICS[number]
    confidence, loss, weight = case(6)
    expected = metric(confidence=confidence, loss=loss, weight=weight)
    shuffled = np.random.default_rng(1).permutation(60)
    again = metric(confidence=confidence[shuffled], loss=loss[shuffled], weight=weight[shuffled])
    repeated = metric(confidence=np.repeat(confidence, weight), loss=np.repeat(loss, weight))
    mask = np.r_[0, weight, 0]
    padded = metric(confidence=np.r_[np.nan, confidence, 1e9], loss=np.r_[np.inf, loss, np.nan], weight=mask)
    for other in (again, repeated, padded):
        assert float(other) == pytest.approx(float(expected), abs=1e-11)
    for other in (again, padded):
        assert other.count == 60
        if expected.stderr is not None:
            assert other.stderr == pytest.approx(expected.stderr, rel=1e-9)
    device = [jnp.asarray(each, jnp.float32) for each in (confidence, loss, weight)]
    compiled = jax.jit(lambda c, v, w: metric(confidence=c, loss=v, weight=w))
    traced = compiled(*device)
    assert float(traced) == pytest.approx(float(expected), rel=2e-5) and traced.value.dtype == jnp.float32
    if expected.stderr is not None:
        assert float(traced.stderr) == pytest.approx(float(expected.stderr), rel=1e-3)
    compiled(device[0] + 1, device[1], device[2])
    assert compiled._cache_size() == 1
    masked = jax.jit(lambda w: metric(confidence=confidence, loss=loss, weight=w))(device[2])
    assert float(masked) == pytest.approx(float(expected), rel=2e-5)
    slope = jax.grad(lambda v: metric(confidence=device[0], loss=v, weight=device[2]).value)(device[1])
    assert np.isfinite(slope).all()


def test_traced_padding_is_inert():
    confidence, loss, weight = case(6)
    rows = np.r_[np.nan, confidence, 1e9], np.r_[np.inf, loss, np.nan], np.r_[0, weight, 0]
    rows = [jnp.asarray(each, jnp.float32) for each in rows]
    for metric in METRICS[:2]:
        found = jax.jit(lambda c, v, w, metric=metric: metric(confidence=c, loss=v, weight=w))(*rows)
        expected = float(metric(confidence=confidence, loss=loss, weight=weight))
        assert float(found) == pytest.approx(expected, rel=2e-5) and int(found.count) == 60


def test_weights_below_one_a_row_are_scaled_to_rows():
    confidence, loss, _ = case(7)
    for metric in METRICS:
        expected = float(metric(confidence=confidence, loss=loss))
        assert float(metric(confidence=confidence, loss=loss, weight=np.full(60, 1 / 60))) == pytest.approx(expected)


def test_bad_input_gets_a_sentence():
    good = dict(confidence=[0.9, 0.8, 0.7], loss=[0.0, 1.0, 0.0])
    for metric in (*METRICS, s.risk_coverage):
        for change, words in (
            (dict(confidence=[0.9, np.nan, 0.7]), "row 1 of `confidence`"),
            (dict(loss=[0.0, np.inf, 0.0]), "loss"),
            (dict(loss=[0.0, 1.0]), "one loss"),
            (dict(loss=[[0.0, 1.0, 2.0]]), "loss"),
            (dict(loss=None), "both `confidence=` and `loss=`"),
            (dict(confidence=[], loss=[]), "N ≥ 1"),
            (dict(weight=[-1.0, 1.0, 1.0]), "weight"),
        ):
            with pytest.raises(InputError, match=words):
                metric(**{**good, **change})
    with pytest.raises(InputError, match="coverage"):
        s.risk_at_coverage(**good, coverage=80)
    with pytest.raises(InputError, match="risk"):
        s.coverage_at_risk(**good, risk=np.nan)
    with pytest.raises(InputError, match="positive mean"):
        s.sparsification_error(confidence=[1.0, 2.0], loss=[0.0, 0.0])
    with pytest.raises(InputError, match="one value an example"):
        s.aurc(np.array([0.2, 0.6]), [0, 1], loss=lambda p, y: 1.0)


def test_predictions_of_weight_0_may_hold_anything():
    rng = np.random.default_rng(0)
    outputs, weight = rng.normal(size=(3, 40, 2)).astype(np.float32), rng.integers(0, 3, 40).astype(float)
    broken, y = np.where(weight[:, None] > 0, outputs, np.nan), rng.normal(size=40)
    for kind, outcome in ((uq.likelihoods.Gaussian(), y), (uq.likelihoods.Categorical(2), (y > 0).astype(int))):
        want, got = (uq.metrics.aurc(uq.Predictive(each, kind), outcome, weight=weight) for each in (outputs, broken))
        assert float(got) == float(want) and np.isfinite(float(got))
