"""Thresholds on confidence above which answers are right often enough."""

import math

import numpy as np
import pytest
from scipy import stats

import uq
from uq import conformal


def sample(rng, num, decimals=8):
    """Confidence, and errors that are rarer where it is high."""
    sure = rng.beta(2, 1, num).round(decimals)
    return sure, (rng.random(num) < 0.5 * (1 - sure) ** 1.5).astype(float)


REFERENCE = sample(np.random.default_rng(77), 1_000_000)


def selective_risk(threshold):
    answered = REFERENCE[0] > threshold
    return REFERENCE[1][answered].mean() if answered.any() else 0.0


HOW = {
    "shares": {},
    "thresholds": {"thresholds": np.linspace(0, 0.95, 20)},
    "starts": {"thresholds": np.linspace(0, 0.999, 50), "starts": 5},
}


@pytest.mark.parametrize("how", HOW.values(), ids=list(HOW))
@pytest.mark.parametrize("decimals", [1, 8])
@pytest.mark.filterwarnings("ignore:`selective_threshold` cannot show")
def test_risk_of_answers_with_confidence(how, decimals):
    rng = np.random.default_rng(1)
    wrong, coverage = 0, 0.0
    for _ in range(300):
        sure, loss = sample(rng, 600, decimals)
        found = conformal.selective_threshold(confidence=sure, loss=loss, risk=0.05, level=0.9, **how)
        wrong += selective_risk(found.threshold) > 0.05 * 1.001
        coverage += found.coverage / 300
        assert found.bound <= 0.05 + 1e-9 or math.isnan(found.bound)
    assert stats.binom.sf(wrong - 1, 300, 0.1) > 1e-5
    assert coverage > 0.15


def test_against_a_loop():
    rng = np.random.default_rng(2)
    for num, risk in ((200, 0.15), (333, 0.1)):
        sure, loss = sample(rng, num, 2)  # with ties
        best = None
        for share in range(1, 21):
            k = share * num // 20
            threshold = sorted(sure, reverse=True)[k] if k < num else -math.inf
            errors = [e for c, e in zip(sure, loss, strict=True) if c > threshold]
            if stats.binom.cdf(sum(errors), len(errors), risk) <= 0.05 / 20:
                best = threshold, len(errors) / num, sum(errors) / len(errors)
                bound = stats.beta.ppf(1 - 0.05 / 20, sum(errors) + 1, len(errors) - sum(errors))
        found = conformal.selective_threshold(confidence=sure, loss=loss, risk=risk)
        assert found[:3] == pytest.approx(best) and found.bound == pytest.approx(bound)
        answered = np.asarray(found.answers(sure))
        assert answered.mean() == pytest.approx(found.coverage, abs=1e-6)


def test_from_predictions_and_in_other_units():
    rng = np.random.default_rng(3)
    probs = rng.dirichlet(np.full(3, 0.2), 500)
    labels = (probs.cumsum(1) < rng.random((500, 1))).sum(1).clip(0, 2)
    by_hand = conformal.selective_threshold(
        confidence=probs.max(1), loss=(probs.argmax(1) != labels) * 7.0, risk=0.7, bound=7.0
    )
    found = conformal.selective_threshold(probs, labels, risk=0.1)
    assert found.threshold == by_hand.threshold and found.coverage == by_hand.coverage
    assert by_hand.bound == pytest.approx(7 * found.bound) and by_hand.risk == pytest.approx(7 * found.risk)
    smooth = conformal.selective_threshold(confidence=probs.max(1), loss=1 - probs.max(1), risk=0.15)
    assert 0 < smooth.coverage < 1 and smooth.risk < smooth.bound <= 0.15


def test_everything_or_nothing():
    sure = np.linspace(0, 1, 400)
    found = conformal.selective_threshold(confidence=sure, loss=np.zeros(400), risk=0.05)
    assert found.threshold == -np.inf and found.coverage == 1 and found.answers([0.0]).all()
    with pytest.warns(uq.UQWarning, match="never answers. Without a single error 117 answers are needed"):
        found = conformal.selective_threshold(confidence=sure, loss=np.ones(400), risk=0.05)
    assert found.coverage == 0 and not found.answers(sure).any()


@pytest.mark.parametrize(
    "how, said",
    [
        ({}, "either predictions"),
        ({"pred": [[0.5, 0.5]], "y": [0], "loss": [1.0], "confidence": [1.0]}, "either predictions"),
        ({"confidence": [0.5, 0.6], "loss": [1.0]}, "one shape"),
        ({"confidence": [0.5], "loss": [2.0]}, "between 0 and"),
        ({"confidence": [np.nan], "loss": [1.0]}, "finite"),
        ({"confidence": [0.5], "loss": [1.0], "risk": 2.0}, "`risk` between"),
        ({"confidence": [0.5], "loss": [1.0], "level": 95}, "strictly between"),
    ],
)
def test_bad_input(how, said):
    with pytest.raises(uq.InputError, match=said):
        conformal.selective_threshold(**{"risk": 0.1, **how})


def test_answers_are_found_in_the_precision_of_the_search():
    sure = 1 - 1e-10 * np.arange(1, 1001)  # one number of float32
    found = uq.conformal.selective_threshold(confidence=sure, loss=(sure < sure[600]).astype(float), risk=0.02)
    assert 0 < found.coverage < 1
    assert np.asarray(found.answers(sure)).mean() == found.coverage
