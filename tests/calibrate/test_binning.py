"""Histogram, scaling-binning and Bayesian binning against loops and an enumeration."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import uq
from uq.calibrate import bayesian_binning, histogram_binning, platt, scaling_binning

from .cases import predictive, problem, probs
from .test_isotonic import grid


def cells(p, weight, bins):
    """The bin of each row, by a loop over sorted rows: that of the weight up to and with its ties."""
    total = weight.sum()
    return np.array([int(np.ceil(weight[p <= value].sum() * bins / total - 1e-9)) - 1 for value in p])


def numbered(cell):
    return np.unique(cell, return_inverse=True)[1]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12))
def test_histogram_by_a_loop(seed, bins):
    p, y, weight = grid(seed)
    cell = numbered(cells(p, weight, bins))
    want = [np.average(y[cell == each], weights=weight[cell == each]) for each in cell]
    binned = histogram_binning(bins=bins)
    np.testing.assert_allclose(binned.apply(binned.fit(p, y, weight), p).mean, want, atol=1e-6)


@pytest.mark.parametrize("bins", [1, 3, 10])
def test_bins_of_equal_width(bins):
    p = np.round(np.random.default_rng(0).random(200) ** 2, 1).clip(0, 1)
    y = (np.random.default_rng(1).random(200) < p).astype(int)
    cell = np.minimum(np.floor(np.round(p * bins, 6)).astype(int), bins - 1)
    want = [y[cell == each].mean() for each in cell]
    binned = histogram_binning(bins=bins, binning="width")
    state = binned.fit(p, y)
    np.testing.assert_allclose(binned.apply(state, p).mean, want, atol=1e-6)
    np.testing.assert_allclose(binned.apply(state, np.float32(p)).mean, want, atol=1e-6)


def test_an_empty_bin_predicts_its_middle():
    binned = histogram_binning(bins=10, binning="width")
    state = binned.fit(np.array([0.05, 0.95]), [0, 1])
    np.testing.assert_allclose(binned.apply(state, np.array([0.05, 0.33, 0.5, 0.95])).mean, [0, 0.35, 0.55, 1])


def test_scaling_binning_averages_scaled_predictions():
    logits, y = problem(2, 300)
    pred = predictive(2 * logits)
    scaled = np.asarray(platt().apply(platt().fit(pred, y), pred).mean)
    cell = cells(probs(pred)[:, 1], np.ones(300), 7)
    want = [scaled[cell == each].mean() for each in cell]
    binned = scaling_binning(bins=7)
    state = binned.fit(pred, y)
    np.testing.assert_allclose(binned.apply(state, pred).mean, want, atol=2e-4)
    assert len(np.unique(np.asarray(binned.apply(state, pred).mean).round(5))) == 7


def test_scaling_binning_varies_less_than_histogram_binning():
    logits, y = problem(2, 3000, seed=6)
    pred, truth = predictive(logits, members=1, spread=0), special.softmax(logits, 1)
    error = {}
    for make in (scaling_binning, histogram_binning):
        binned = make(bins=30)
        rows = np.random.default_rng(0).permutation(3000)[:200]
        error[make] = np.square(probs(binned.apply(binned.fit(pred[rows], y[rows]), pred)) - truth).mean()
    assert error[scaling_binning] < 0.5 * error[histogram_binning]


def enumerated(p, y, weight, prior_count=2.0):
    """BBQ by every number of bins in turn, each different partition counted once."""
    total = weight.sum()
    root = total ** (1 / 3)
    seen, scores, predictions = set(), [], []
    for bins in range(max(1, int(root / 10)), int(np.ceil(10 * root)) + 1):
        cell = numbered(cells(p, weight, bins))
        if tuple(cell) in seen:
            continue
        seen.add(tuple(cell))
        count = cell.max() + 1
        score, value = 0.0, np.zeros(len(p))
        lower = 0.0
        for b in range(count):
            inside = cell == b
            upper = 1.0
            if b < count - 1:  # half way in log-odds
                upper = special.expit((special.logit(p[inside].max()) + special.logit(p[cell == b + 1].min())) / 2)
            middle = (lower + upper) / 2
            lower = upper
            yes, no = prior_count / count * middle, prior_count / count * (1 - middle)
            m, n = (weight * y)[inside].sum(), weight[inside].sum()
            score += special.gammaln(prior_count / count) - special.gammaln(n + prior_count / count)
            score += special.gammaln(m + yes) - special.gammaln(yes)
            score += special.gammaln(n - m + no) - special.gammaln(no)
            value[inside] = (m + yes) / (n + yes + no)
        scores.append(score)
        predictions.append(value)
    return np.average(predictions, axis=0, weights=np.exp(scores - np.max(scores)))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prior_count", [2.0, 10.0])
def test_bayesian_binning_by_enumeration(seed, prior_count):
    p, y, weight = grid(seed)
    if seed == 3:
        p = np.random.default_rng(0).beta(2, 1, 64)
        y = (np.random.default_rng(1).random(64) < p**2).astype(int)
    binned = bayesian_binning(prior_count=prior_count)
    got = binned.apply(binned.fit(p, y, weight), p).mean
    np.testing.assert_allclose(got, enumerated(p, y, weight, prior_count), atol=1e-5)


def test_bayesian_binning_is_never_certain():
    p = np.linspace(0.01, 0.99, 50)
    after = np.asarray(bayesian_binning().apply(bayesian_binning().fit(p, p > 0.5), p).mean)
    assert after.min() > 1e-4 and after.max() < 1 - 1e-4


@pytest.mark.parametrize(
    ("make", "settings", "said"),
    [
        (histogram_binning, {"bins": 0}, "`bins` expected a whole number of at least 1"),
        (histogram_binning, {"binning": "sweep"}, "`binning` to be 'mass' or 'width', but it is 'sweep'"),
        (scaling_binning, {"bins": 2.5}, "`bins` expected a whole number"),
        (bayesian_binning, {"prior_count": 0}, "`prior_count` above 0"),
        (uq.calibrate.spline, {"knots": 1}, "`knots` expected a whole number of at least 2"),
    ],
)
def test_settings_are_checked(make, settings, said):
    with pytest.raises(uq.InputError, match=said):
        make(**settings)
