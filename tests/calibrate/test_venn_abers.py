"""Venn–Abers against two isotonic fits by scikit-learn for every prediction, and its guarantee."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.isotonic import IsotonicRegression

import uq
from uq.calibrate import venn_abers, venn_abers_bounds

from .cases import predictive, problem, probs
from .test_isotonic import grid


def refitted(p, y, weight, at):
    """p₀ and p₁ of each of `at`, by adding it to the rows."""
    out = []
    for value in at:
        pair = []
        for outcome in (0, 1):
            x = np.append(p, value)
            fit = IsotonicRegression().fit(x, np.append(y, outcome), sample_weight=np.append(weight, 1.0))
            pair.append(fit.predict([value])[0])
        out.append(pair)
    return np.transpose(out)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.integers(1, 30))
def test_against_two_fits_for_every_prediction(seed, weighted, levels):
    p, y, weight = grid(seed, levels=levels)
    weight = weight if weighted else np.ones(64)
    state = venn_abers().fit(p, y, weight)
    at = np.concatenate([np.unique(p), np.linspace(0.011, 0.991, 31)])
    at = np.random.default_rng(seed).permutation(np.resize(at, 64))
    lower, upper = (bound[:20] for bound in venn_abers_bounds(state, at))
    want = refitted(p, y, weight, at[:20])
    np.testing.assert_allclose(lower, want[0], atol=1e-6)
    np.testing.assert_allclose(upper, want[1], atol=1e-6)
    joined = np.asarray(venn_abers().apply(state, at).mean)[:20]
    np.testing.assert_allclose(joined, want[1] / (1 - want[0] + want[1]), atol=1e-6)
    assert (joined > 0).all() and (joined < 1).all()


def test_what_is_kept_is_what_changes():
    logits, y = problem(2, 4000)
    state = venn_abers().fit(predictive(logits, members=1, spread=0), y)
    assert state.knots.shape[1] < 2048


def test_more_classes_one_against_the_rest():
    logits, y = problem(3, 60)
    p = special.softmax(logits, 1)
    state = venn_abers().fit(p, y)
    bounds = venn_abers_bounds(state, p)
    assert bounds.lower.shape == (60, 3)
    want = np.stack([refitted(p[:, c], y == c, np.ones(60), p[:5, c]) for c in range(3)], -1)
    np.testing.assert_allclose(bounds.lower[:5], want[0], atol=1e-6)
    np.testing.assert_allclose(bounds.upper[:5], want[1], atol=1e-6)
    joined = want[1] / (1 - want[0] + want[1])
    got = probs(venn_abers().apply(state, p))[:5]
    np.testing.assert_allclose(got, joined / joined.sum(1, keepdims=True), atol=1e-6)


def test_the_one_of_the_outcome_is_calibrated_in_expectation():
    """E[y − p_y] = 0 over exchangeable rows, for any model: here one that is badly off, from 20 rows."""
    rng = np.random.default_rng(0)
    gaps = []
    for _ in range(150):
        p = np.round(rng.random(84), 1).clip(0.05, 0.95)
        y = (rng.random(84) < p**3).astype(int)
        lower, upper = venn_abers_bounds(venn_abers().fit(p[:20], y[:20]), p[20:])
        gaps.append(np.mean(y[20:] - np.where(y[20:] == 1, upper, lower)))
    assert abs(np.mean(gaps)) < 4 * np.std(gaps) / np.sqrt(150)


def test_one_class_and_one_row():
    p = np.array([0.3, 0.6, 0.8])
    lower, upper = venn_abers_bounds(venn_abers().fit(p, [1, 1, 1]), p)
    np.testing.assert_allclose(upper, 1)
    np.testing.assert_allclose(lower, [1 / 2, 2 / 3, 3 / 4], atol=1e-6)
    state = venn_abers().fit(np.array([0.5]), [0])
    np.testing.assert_allclose(venn_abers().apply(state, p).mean, [0.5, 1 / 2, 1 / 2], atol=0.2)


def test_bounds_of_other_predictions_are_refused():
    logits, y = problem(2, 60)
    state = venn_abers().fit(predictive(logits), y)
    with pytest.raises(uq.InputError, match="`venn_abers_bounds` was fitted to predictions of 2 classes"):
        venn_abers_bounds(state, np.full((5, 3), 1 / 3))
