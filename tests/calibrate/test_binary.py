"""Platt and beta against scikit-learn and scipy; Newton's method with bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats
from sklearn.linear_model import LogisticRegression

import uq
from uq.calibrate import _search, beta, platt

from .cases import log_loss, predictive, problem, probs


def binary(size=400, distortion=2.0, seed=0):
    logits, y = problem(2, size, seed)
    return predictive(distortion * logits + [0.0, 0.7]), y


@pytest.mark.parametrize("weighted", [False, True])
def test_platt_is_logistic_regression(weighted):
    pred, y = binary()
    weight = np.random.default_rng(0).gamma(2, 1, len(y)) if weighted else None
    state = platt(smooth=False).fit(pred, y, weight)
    odds = special.logit(probs(pred)[:, 1])[:, None]
    want = LogisticRegression(C=np.inf, tol=1e-10).fit(odds, y, sample_weight=weight)
    assert float(state.slope) == pytest.approx(want.coef_[0, 0], rel=1e-3)
    assert float(state.intercept) == pytest.approx(want.intercept_[0], abs=1e-3)


def test_platts_targets():
    """Fitted to (n₁ + 1) / (n₁ + 2) and 1 / (n₀ + 2): logistic regression on both outcomes, so weighted."""
    pred, y = binary(60)
    yes, no = y.sum(), (1 - y).sum()
    target = np.where(y == 1, (yes + 1) / (yes + 2), 1 / (no + 2))
    odds = special.logit(probs(pred)[:, 1])[:, None]
    both = LogisticRegression(C=np.inf, tol=1e-10).fit(
        np.concatenate([odds, odds]), np.repeat([1, 0], 60), sample_weight=np.concatenate([target, 1 - target])
    )
    state = platt().fit(pred, y)
    assert float(state.slope) == pytest.approx(both.coef_[0, 0], rel=2e-3)
    assert float(state.intercept) == pytest.approx(both.intercept_[0], abs=2e-3)


def test_platt_of_one_class_and_of_separable_outcomes():
    p = np.linspace(0.1, 0.9, 20)
    state = platt().fit(p, np.ones(20, int))
    np.testing.assert_allclose(platt().apply(state, p).mean, 21 / 22, atol=4e-3)
    with pytest.raises(uq.InputError, match="class 0 is absent"):
        platt(smooth=False).fit(p, np.ones(20, int))
    after = np.asarray(platt().apply(platt().fit(p, p > 0.5), p).mean)
    assert (after[p > 0.5] > 0.5).all() and after.max() < 1 - 1e-6


def test_platt_says_so_where_predictions_rank_the_wrong_way():
    pred, y = binary()
    with pytest.warns(uq.UQWarning, match="negative slope.*labels 0 and 1 swapped"):
        state = platt().fit(pred, 1 - y)
    assert state.slope < 0


def bounded(p, y, weight):
    """Beta calibration by scipy, with bounds and numerical gradients."""

    def loss(at):
        odds = at[0] * np.log(p) - at[1] * np.log1p(-p) + at[2]
        prior = np.square(at - [1, 1, 0]).sum() / (2 * 100 * weight.sum())
        return np.average(np.logaddexp(0, odds) - y * odds, weights=weight) + prior

    bounds = [(0, None), (0, None), (None, None)]
    return optimize.minimize(loss, [1, 1, 0], bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-9}).x


@pytest.mark.parametrize("seed", range(6))
def test_beta_against_a_bounded_search(seed):
    rng = np.random.default_rng(seed)
    p = rng.beta(*rng.uniform(0.3, 3, 2), size=80)
    y = (rng.random(80) < (p**3 if seed % 2 else 0.5 + 0 * p)).astype(int)  # odd: a bound is met, or nearly
    weight = rng.integers(1, 4, 80).astype(float)
    state = beta().fit(p, y, weight)
    want = bounded(p, y, weight)
    np.testing.assert_allclose([state.a, state.b, state.c], want, atol=5e-3)


def test_beta_holds_at_zero():
    p = np.linspace(0.05, 0.95, 40)
    state = beta().fit(p, p < 0.5)
    assert float(state.a) == 0 and float(state.b) == 0 and state.fitted.converged
    np.testing.assert_allclose(beta().apply(state, p).mean, 0.5, atol=1e-3)


def test_beta_mends_beta_predictions_where_platt_cannot():
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 20_000)
    p = np.where(y, rng.beta(3, 0.5, 20_000), rng.beta(1, 2, 20_000))
    truth = special.expit(stats.beta.logpdf(p, 3, 0.5) - stats.beta.logpdf(p, 1, 2))
    state = beta().fit(p, y)
    assert float(state.a) == pytest.approx(2, abs=0.15) and float(state.b) == pytest.approx(1.5, abs=0.1)
    after = np.asarray(beta().apply(state, p).mean)
    assert np.abs(after - truth).mean() < 0.005
    assert log_loss(after, y) < log_loss(np.asarray(platt().apply(platt().fit(p, y), p).mean), y)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(1e-4, 10))
def test_newton_meets_the_conditions_of_optimality(seed, size, ridge):
    """Of a logistic regression with bounds: the slope is 0 where free, and not negative where held at 0."""
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(40, size)) * np.exp(rng.normal(size=size))
    target, weight = rng.random(40), rng.random(40) + 0.1
    positive = rng.random(size) < 0.5
    start = np.where(positive, np.abs(rng.normal(size=size)), rng.normal(size=size))
    found = _search.logistic(design, target, weight, start, ridge * np.eye(size), positive)
    slope = design.T @ (weight / weight.sum() * (special.expit(design @ found.at) - target))
    slope += ridge * (found.at - start)
    held = positive & (found.at <= 1e-12)
    assert found.converged and (found.at[positive] >= 0).all()
    np.testing.assert_allclose(slope[~held], 0, atol=1e-5)
    assert (slope[held] > -1e-5).all()


def test_a_search_that_does_not_arrive_says_so():
    with pytest.warns(uq.UQWarning, match="`beta` did not converge in 100 iterations"):
        how = _search.fitted("beta", _search.Found(np.zeros(1), False, 100, 0.5), 1.0)
    assert not how.converged and how.iterations == 100 and how.before == 1.0 and how.after == 0.5
