"""Temperature against a plain one-dimensional search, its moment condition, and the ends of its range."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special

import uq
from uq.calibrate import temperature

from .cases import drawn, predictive, problem, probs


def searched(log_probs, y, weight=None):
    """1 / T by scipy, on the plain log loss."""

    def loss(log_inverse):
        z = np.exp(log_inverse) * log_probs
        return np.average(special.logsumexp(z, 1) - z[np.arange(len(y)), y], weights=weight)

    return np.exp(optimize.minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-9}).x)


@pytest.mark.parametrize("num_classes", [2, 7])
@pytest.mark.parametrize("distortion", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("weighted", [False, True])
def test_against_a_plain_search(num_classes, distortion, weighted):
    logits, y = problem(num_classes, 500)
    pred = predictive(distortion * logits)
    weight = np.random.default_rng(0).gamma(1, 1, 500) if weighted else None
    state = temperature(spread=np.inf).fit(pred, y, weight)
    assert state.inverse == pytest.approx(searched(np.log(probs(pred)), y, weight), rel=1e-4)
    assert state.fitted.iterations < 12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 20), st.sampled_from([2, 5]))
def test_the_mean_of_log_p_is_preserved(seed, scale, num_classes):
    """At the optimum, the mean over outcomes of log p is what the new probabilities expect it to be."""
    logits, _ = problem(num_classes, 100, seed)
    y = drawn(np.random.default_rng(seed), special.softmax(logits / scale, 1))
    log_probs = special.log_softmax(logits, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", uq.UQWarning)
        inverse = temperature(spread=np.inf).fit(np.exp(log_probs), y).inverse
    if 0.011 < inverse < 99:
        expected = (special.softmax(inverse * log_probs, 1) * log_probs).sum(1).mean()
        assert log_probs[np.arange(100), y].mean() == pytest.approx(expected, rel=1e-4)


def test_it_finds_what_was_distorted():
    logits, y = problem(10, 20_000, seed=3)
    inverse = temperature(spread=np.inf).fit(predictive(2 * logits, members=1, spread=0), y).inverse
    assert inverse == pytest.approx(0.5, abs=0.015)


def test_the_most_probable_class_stays():
    logits, y = problem(5, 400)
    pred = predictive(3 * logits)
    scaled = temperature(spread=np.inf)
    after = scaled.apply(scaled.fit(pred, y), pred)
    np.testing.assert_array_equal(probs(after).argmax(1), probs(pred).argmax(1))


def test_separable_and_misleading_predictions_end_at_a_bound_and_say_so():
    p = np.full((30, 3), 0.2) + 0.4 * np.eye(3)[np.arange(30) % 3]
    with pytest.warns(uq.UQWarning, match=r"T = 0.01, .* surer looks better"):
        sharp = temperature(spread=np.inf).fit(p, np.arange(30) % 3)
    with pytest.warns(uq.UQWarning, match=r"T = 100, .* rank them the wrong way"):
        flat = temperature(spread=np.inf).fit(p, (np.arange(30) + 1) % 3)
    assert sharp.inverse == 100 and flat.inverse == 0.01
    assert sharp.fitted.converged and flat.fitted.converged


def test_predictions_without_anything_to_learn():
    assert temperature(spread=np.inf).fit(np.full((9, 3), 1 / 3), [0, 1, 2] * 3).inverse == 1
    assert temperature(spread=np.inf).fit(np.full(10, 0.9), [1] * 7 + [0] * 3).inverse == pytest.approx(
        np.log(7 / 3) / np.log(9)
    )


def test_one_confident_mistake_among_many_is_finite():
    p = np.zeros((100, 2), np.float32)
    p[:, 0] = 1
    state = temperature(spread=np.inf).fit(p, np.arange(100) == 0)
    after = temperature().apply(state, p)
    assert float(after.mean[0]) == pytest.approx(0.01, rel=1e-3)


def test_the_fit_sees_the_mixture_and_not_its_members():
    """Members that are each overconfident, in a mixture that is calibrated: T = 1."""
    rng = np.random.default_rng(0)
    p = np.repeat([0.3, 0.7], 4000)
    y = rng.random(8000) < p
    outputs = np.zeros((10, 8000, 1), np.float32)
    for m in range(10):
        outputs[m, :, 0] = np.where(np.where(p > 0.5, m < 7, m < 3), 6.0, -6.0)
    pred = uq.Predictive(outputs, uq.likelihoods.Bernoulli())
    assert temperature(spread=np.inf).fit(pred, y).inverse == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_the_prior_is_sensible_where_every_outcome_is_the_most_probable_class(spread):
    rng = np.random.default_rng(3)
    p = rng.uniform(0.7, 0.99, 40)

    def objective(log):
        return np.log1p(((1 - p) / p) ** np.exp(log)).sum() + log**2 / (2 * spread**2)

    best = optimize.minimize_scalar(objective, bounds=(-3, 5), method="bounded", options={"xatol": 1e-10}).x
    state = temperature(spread=spread).fit(p, np.ones(40, int))
    assert np.log(state.inverse) == pytest.approx(best, abs=1e-4)
    assert 1 < state.inverse < 10


def test_a_prior_without_spread_is_refused():
    with pytest.raises(uq.InputError, match="`spread` expected a positive standard deviation, or inf, but got 0"):
        temperature(spread=0)


@pytest.mark.parametrize("misled", [False, True])
def test_many_rows_are_searched_whole_whatever_the_first_few_say(misled):
    rng = np.random.default_rng(4)
    logits = 2 * rng.normal(size=(20_000, 3))
    y = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    if misled:  # every twentieth row, with which the search begins
        y[::20] = logits[::20].argmax(1)
    log_probs = 2 * logits - special.logsumexp(2 * logits, axis=1, keepdims=True)
    state = temperature(spread=np.inf).fit(np.exp(log_probs), y)
    assert state.fitted.converged
    assert state.inverse == pytest.approx(searched(log_probs, y), rel=1e-4)
