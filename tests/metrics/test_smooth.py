"""Smooth calibration error against dense quadrature with reflected kernels, without a Fourier transform."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special, stats

import uq
from uq.metrics._estimate import Resample
from uq.metrics.smooth import smooth_calibration_error


def at_width(p, y, weight, sigma, points=4001):
    """∫ |Σ w (y − p) K(t, p)| dt / Σ w with a kernel reflected three times over at both ends."""
    t = np.linspace(0, 1, points)
    kernel = np.zeros((points, len(p)))
    for shift in (-2, 0, 2):
        kernel += stats.norm.pdf(t[:, None], shift + p, sigma) + stats.norm.pdf(t[:, None], shift - p, sigma)
    gap = kernel @ (weight * (y - p)) / weight.sum()
    return np.trapezoid(np.abs(gap), t)


def oracle(p, y, weight=None):
    weight = np.ones(len(p)) if weight is None else weight
    return optimize.brentq(lambda sigma: at_width(p, y, weight, sigma) - sigma, 2e-3, 1, xtol=1e-10)


def data(case, size=150):
    rng = np.random.default_rng(2)
    p = {"skewed": rng.beta(0.4, 2, size), "ends": rng.choice([0.0, 0.02, 0.3, 0.97, 1.0], size)}.get(
        case, rng.uniform(size=size)
    )
    y = (rng.uniform(size=size) < (p if case == "calibrated" else p**2)).astype(int)
    return p, y


@pytest.mark.parametrize("case", ["uniform", "skewed", "ends", "calibrated"])
def test_against_quadrature(case):
    p, y = data(case)
    want = oracle(p, y)
    assert float(smooth_calibration_error(p, y)) == pytest.approx(want, abs=2e-5)
    jitted = jax.jit(lambda p, y: smooth_calibration_error(p, y).value)(jnp.asarray(p, jnp.float32), y)
    assert float(jitted) == pytest.approx(want, abs=1e-4)


def test_weights_kinds_and_order():
    p, y = data("skewed")
    weight = np.random.default_rng(0).integers(0, 3, len(p)).astype(float)
    got = smooth_calibration_error(np.where(weight == 0, np.nan, p), np.where(weight == 0, 7, y), weight=weight)
    assert float(got) == pytest.approx(oracle(p, y, weight), abs=2e-5)
    again = np.repeat(np.arange(len(p)), weight.astype(int))[::-1]
    assert float(smooth_calibration_error(p[again], y[again])) == pytest.approx(float(got), abs=1e-12)
    probs = special.softmax(np.random.default_rng(1).normal(size=(150, 3)), -1)
    found = smooth_calibration_error(probs, y)
    assert float(found) == pytest.approx(oracle(probs.max(1), probs.argmax(1) == y), abs=2e-5)
    assert "confidence" in found.estimand and "binary" in got.estimand


def test_limits():
    assert float(smooth_calibration_error([0.0, 1.0, 1.0], [0, 1, 1])) == 0.0
    assert float(smooth_calibration_error(np.ones(20), np.zeros(20, int))) == pytest.approx(1.0, abs=1e-6)
    assert float(smooth_calibration_error(np.full(20, 0.3), np.zeros(20, int))) == pytest.approx(0.3, abs=1e-6)


def test_standard_error_is_the_jackknife():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=300)
    y = (rng.uniform(size=300) < 0.3 * p).astype(int)
    left_out = [float(smooth_calibration_error(np.delete(p, i), np.delete(y, i))) for i in range(300)]
    want = np.sqrt(299 * np.var(left_out))
    assert float(smooth_calibration_error(p, y).stderr) == pytest.approx(want, rel=0.03)


@pytest.mark.parametrize(("size", "expected"), [(100, 0.055), (1000, 0.024)])
def test_a_calibrated_model_does_not_score_zero(size, expected):
    """The sizes that research/metrics.md, 3B, reports."""
    rng = np.random.default_rng(1)
    p = rng.uniform(0.5, 1, size)
    y = (rng.uniform(size=size) < p).astype(int)
    found = smooth_calibration_error(p, y, key=Resample(0, num=200))
    assert float(found.null.mean) == pytest.approx(expected, rel=0.15)
    assert float(found.null.p_value) > 0.01
    assert found.interval.lower < found.interval.upper


def test_gradient_is_that_of_differences():
    p, y = data("uniform", 40)

    def error(p):
        return smooth_calibration_error(p, jnp.asarray(y)).value

    slope = np.asarray(jax.grad(error)(jnp.asarray(p, jnp.float32)))
    for i in (0, 7, 39):
        up, down = p.copy(), p.copy()
        up[i], down[i] = p[i] + 1e-3, p[i] - 1e-3
        want = (oracle(up, y) - oracle(down, y)) / 2e-3
        assert slope[i] == pytest.approx(want, abs=2e-3)


def test_defect_33_every_sample_counts():
    p, y = data("uniform", 60)
    for i in (0, 30, 59):
        other = y.copy()
        other[i] = 1 - other[i]
        assert abs(float(smooth_calibration_error(p, y)) - float(smooth_calibration_error(p, other))) > 1e-5


def test_wrong_inputs_get_a_sentence():
    with pytest.raises(uq.InputError, match="no kind 'classwise'"):
        smooth_calibration_error([0.5], [1], kind="classwise")
    with pytest.raises(uq.InputError, match="is for two classes, but there are 3"):
        smooth_calibration_error([[0.5, 0.2, 0.3]], [1], kind="binary")
