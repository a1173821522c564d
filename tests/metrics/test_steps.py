"""Outcomes of which single ones have a probability: counts, draws, and those clipped at limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import uq
from uq.metrics import streaming

SIZE = 3000


def clipped(loc=0.0, scale=1.0):
    """Predictions of outcomes clipped to [loc, loc + scale], and outcomes drawn from them."""
    rng = np.random.default_rng(0)
    outputs = np.stack([0.8 * rng.normal(size=(2, SIZE)), 0.3 * rng.normal(size=(2, SIZE)) - 0.5], -1)
    likelihood = uq.likelihoods.Censored(0.0, 1.0)
    if (loc, scale) != (0.0, 1.0):
        likelihood = uq.likelihoods.transformed(likelihood, loc, scale)
    pred = uq.Predictive(jnp.asarray(outputs, jnp.float32), likelihood, jnp.array([0.3, 0.7]))
    return pred, np.asarray(pred.sample(jax.random.key(1))[0])


@pytest.mark.parametrize("units", [(0.0, 1.0), (-40.0, 8.0)])
def test_a_right_forecast_of_clipped_outcomes_is_calibrated(units):
    pred, y = clipped(*units)
    lower, upper = (np.asarray(end) for end in pred.interval(0.9))
    inside = np.mean((lower <= y) & (y <= upper))
    assert inside > 0.92  # an atom at an end is covered whole
    assert float(uq.metrics.coverage(pred, y)) == pytest.approx(inside, abs=2e-3)
    error = uq.metrics.regression_calibration_error(pred, y, key=uq.metrics.Resample(0, 100))
    assert float(error) < 0.01
    assert error.null.p_value > 0.02
    u = uq.metrics.pit(pred, y, kind="randomised", key=0)
    assert stats.kstest(np.asarray(u, np.float64), "uniform").pvalue > 0.01
    np.testing.assert_allclose(uq.metrics.pit_histogram(pred, y).share, 0.1, atol=0.02)


def test_clipped_outcomes_have_no_plain_transform():
    pred, y = clipped()
    with pytest.raises(uq.InputError, match="this one has steps"):
        uq.metrics.pit(pred, y)


def test_the_same_mixture_in_numpyro():
    pred, y = clipped()
    twin = pred.to_numpyro()
    for function in (uq.metrics.coverage, uq.metrics.regression_calibration_error):
        assert float(function(twin, y)) == pytest.approx(float(function(pred, y)), abs=1e-5)


def rows_of(pred, part):
    if isinstance(pred, uq.Predictive):
        return pred[part]
    return pred[:, part] if isinstance(pred, np.ndarray) else stats.poisson(pred.args[0][part])


@pytest.mark.parametrize("kind", ["clipped", "counts", "draws"])
def test_streaming_is_the_same_number(kind):
    rng = np.random.default_rng(2)
    if kind == "clipped":
        pred, y = clipped()
    elif kind == "counts":
        pred, y = stats.poisson(rng.uniform(0.3, 5, 300)), rng.integers(0, 6, 300)
    else:
        pred, y = rng.normal(size=(9, 300)).round(1), rng.normal(size=300).round(1)
    for metric, function in (
        (streaming.RegressionCalibrationError(), uq.metrics.regression_calibration_error),
        (streaming.Mean("coverage"), uq.metrics.coverage),
    ):
        weight = rng.integers(0, 3, len(y)).astype(float)
        state = metric.empty()
        for part in (np.arange(0, 100), np.arange(100, len(y))):
            state = metric.update(state, rows_of(pred, part), y[part], weight=weight[part])
        assert float(metric.compute(state)) == pytest.approx(float(function(pred, y, weight=weight)), abs=1e-6)
