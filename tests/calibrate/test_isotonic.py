"""Isotonic maps against scikit-learn's, with ties, weights and more than two classes."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.isotonic import IsotonicRegression

import uq
from uq.calibrate import isotonic

from .cases import predictive, problem, probs


def grid(seed, size=64, levels=9):
    """Predictions on a grid, with many ties, and outcomes that need not follow them."""
    rng = np.random.default_rng(seed)
    p = rng.integers(1, levels + 1, size) / (levels + 1)
    y = (rng.random(size) < rng.random()).astype(int)
    y[:2] = 0, 1
    return p, y, rng.integers(1, 5, size).astype(float)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_against_scikit_learn(seed, weighted):
    p, y, weight = grid(seed)
    weight = weight if weighted else None
    want = IsotonicRegression(out_of_bounds="clip").fit(special.logit(p), y, sample_weight=weight)
    state = isotonic().fit(p, y, weight)
    new = np.linspace(0.02, 0.98, 64)
    for at in (p, new):
        got = np.asarray(isotonic().apply(state, at).mean)
        np.testing.assert_allclose(got, want.predict(special.logit(at)), atol=2e-5)
    assert (np.diff(np.asarray(isotonic().apply(state, new).mean)) >= -1e-6).all()


def test_one_against_the_rest():
    logits, y = problem(4, 300)
    pred = predictive(2 * logits)
    p = probs(pred)
    each = np.stack(
        [
            IsotonicRegression(out_of_bounds="clip").fit(special.logit(p[:, c]), y == c).predict(special.logit(p[:, c]))
            for c in range(4)
        ],
        1,
    )
    total = each.sum(1, keepdims=True)
    want = np.where(total > 0, each / np.where(total > 0, total, 1), p)
    got = probs(isotonic().apply(isotonic().fit(pred, y), pred))
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_where_every_class_has_become_impossible_the_prediction_stays():
    p = np.array([[0.45, 0.55, 0], [0, 0.45, 0.55], [0.55, 0, 0.45]])
    state = isotonic().fit(np.tile(p, (5, 1)), np.tile([1, 2, 0], 5))
    at = np.array([[0.3, 0.36, 0.34], [0.44, 0.55, 0.01], [0.2, 0.6, 0.2]])
    np.testing.assert_allclose(probs(isotonic().apply(state, at)), [at[0], [0, 1, 0], [0, 1, 0]], atol=1e-6)


def test_centred():
    """Each flat stretch at the mean of its predictions, straight in log-odds between, constant outside."""
    p = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    y = np.array([0, 0, 1, 0, 1, 0, 1, 1])
    weight = np.array([1, 1, 2, 1, 1, 1, 1, 1.0])
    state = isotonic(centered=True).fit(p, y, weight)
    # Blocks: {.1 .2} = 0, {.3 .3 .4 .5 .6} = 3/5, {.7 .8} = 1.
    knots = special.logit([0.15, (0.3 * 2 + 0.4 + 0.5 + 0.6) / 5, 0.75])
    at = np.linspace(0.05, 0.95, 8)
    got = np.asarray(isotonic(centered=True).apply(state, at).mean)
    np.testing.assert_allclose(got, np.interp(special.logit(at), knots, [0, 0.6, 1]), atol=1e-5)


def test_equal_predictions_are_pooled_also_where_they_differ_by_rounding():
    p = np.float32(0.3) * np.ones(8, np.float32)
    p[::2] = np.nextafter(p[::2], np.float32(1))
    state = isotonic().fit(p, [0, 1, 0, 0, 1, 1, 0, 1])
    np.testing.assert_allclose(isotonic().apply(state, p).mean, 0.5, atol=1e-6)


def test_probabilities_of_0_and_1_in_and_out():
    p = np.array([0.0, 0.0, 0.5, 0.5, 1.0, 1.0])
    state = isotonic().fit(p, [0, 0, 0, 1, 1, 1])
    pred = isotonic().apply(state, p)
    np.testing.assert_allclose(pred.mean, [0, 0, 0.5, 0.5, 1, 1])
    np.testing.assert_allclose(pred.probs.sum(1), 1)
    assert pred.log_prob(np.array([1, 0, 0, 1, 1, 0])).tolist()[0] == -np.inf
    assert np.isfinite(np.asarray(pred.entropy)).all() and np.isfinite(np.asarray(pred.variance)).all()


@pytest.mark.parametrize("centered", [False, True])
def test_after_another_recalibrator(centered):
    logits, y = problem(2, 300)
    pred = predictive(2 * logits)
    both = uq.calibrate.compose(uq.calibrate.temperature(), isotonic(centered=centered))
    after = both.apply(both.fit(pred, y), pred)
    alone = isotonic(centered=centered)
    np.testing.assert_allclose(
        after.mean, alone.apply(alone.fit(pred, y), pred).mean, atol=1e-4 if not centered else 0.05
    )
    assert after.num_members == 3 and jnp.isfinite(after.outputs).any()
