"""Tests of calibration for one event a row: is the gap between probabilities and frequencies more than chance?

They share one shape, `test(pred, y, *, kind, weight) -> TestResult`, and one hypothesis: each event comes about,
independently, with the probability stated. With many examples every model fails them: read the size of the error
beside the p-value.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from .._checks import InputError, check_count, is_concrete
from .._typing import ArrayLike, Key
from . import _events, _route
from ._binning import cell_sums, cells_of, placed
from ._estimate import Estimate, Resample, mean
from ._events import known
from ._tests import TestResult, chi_square_sf, normal_sf

Kind = Literal["binary", "confidence"]


class Recalibration(NamedTuple):
    """Logistic recalibration: logit P(event) = intercept + slope · logit p."""

    intercept: Any
    """0 if calibrated; above 0, probabilities are too low."""
    slope: Any
    """1 if calibrated; below 1, probabilities are too extreme."""
    intercept_stderr: Any
    slope_stderr: Any
    test: TestResult
    """Likelihood-ratio test of intercept 0 and slope 1."""


def calibration_in_the_large(
    pred: Any,
    y: ArrayLike,
    *,
    kind: Kind | None = None,
    weight: ArrayLike | None = None,
    key: Key | Resample | None = None,
) -> Estimate:
    """Share of events minus mean probability: above 0, the model is on average too cautious.

    Errors that cancel over the test set do not show.

    Args:
      pred: a `Predictive` of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
      kind: "binary", P(1) and y = 1, or "confidence", the largest probability and whether its class is right;
        None is "binary" for two classes, else "confidence".
      weight: case weights `(N,)`.
      key: a key, a seed or a `Resample`: adds a bootstrap interval.
    Returns:
      An `Estimate` of one number in [−1, 1]; for a calibrated model its expectation is 0.
    Raises:
      InputError: as `calibration_error`.
    References:
      cox1958. Checked against a loop.
    Example:
      >>> round(float(calibration_in_the_large([0.2, 0.4], [0, 1])), 3)
      0.2
    """
    stated, chosen = _events.single("calibration_in_the_large", pred, y, kind, weight)
    gap = _route.run(_gap, stated)
    return mean(gap, weight=weight, estimand=f"share of events minus mean probability, {chosen}", key=key)


def spiegelhalter_test(
    pred: Any, y: ArrayLike, *, kind: Kind | None = None, weight: ArrayLike | None = None
) -> TestResult:
    """Spiegelhalter's z: is the Brier score what calibrated probabilities would lead one to expect?

    z = Σ (event − p) (1 − 2 p) / √(Σ (1 − 2 p)² p (1 − p)), standard normal for calibrated predictions; the
    p-value is two-sided. It has no power where errors cancel in that sum, and looks at no p of ½.

    Args:
      pred, y, kind, weight: as in `calibration_in_the_large`.
    Returns:
      A `TestResult`. If every p is 0 or 1 the statistic is 0 if all were right, and infinite otherwise.
    Raises:
      InputError: as `calibration_error`.
    References:
      spiegelhalter1986. Checked against a loop, and for uniform p-values of calibrated models and power.
    Example:
      >>> import numpy as np
      >>> float(spiegelhalter_test(np.full(100, 0.9), np.arange(100) % 2).p_value) < 1e-6
      True
    """
    stated, _ = _events.single("spiegelhalter_test", pred, y, kind, weight)
    return TestResult(*_route.run(_spiegelhalter, stated, weight))


def cumulative_calibration_test(
    pred: Any,
    y: ArrayLike,
    *,
    statistic: Literal["kuiper", "max"] = "kuiper",
    kind: Kind | None = None,
    weight: ArrayLike | None = None,
) -> TestResult:
    """Test by cumulative differences (ECCE): no bins, no kernel, and power against errors in any stretch of p.

    Let C_k = Σ_{i ≤ k} (event_i − p_i) in order of p, from C_0 = 0, taken where p changes. For a calibrated
    model C / √(Σ p (1 − p)) walks like a Brownian motion on [0, 1]; the statistic is its largest absolute
    value ("max", after Kolmogorov and Smirnov) or its range ("kuiper"), and the p-value that of the Brownian
    motion, slightly too large in small samples.

    Args:
      pred, y, kind, weight: as in `calibration_in_the_large`.
      statistic: as above.
    Returns:
      A `TestResult`. If every p is 0 or 1 the statistic is 0 if all were right, and infinite otherwise.
    Raises:
      InputError: as `calibration_error`; an unknown statistic.
    References:
      arrieta2022 (ECCE-MAD and ECCE-R); feller1951 (range). Checked against simulated
      random walks, for uniform p-values of calibrated models and for power.
    Example:
      >>> import numpy as np
      >>> p = np.linspace(0.1, 0.9, 100)
      >>> float(cumulative_calibration_test(p, np.ones(100, int)).p_value) < 1e-6
      True
    """
    known("statistic", statistic, ("kuiper", "max"))
    stated, _ = _events.single("cumulative_calibration_test", pred, y, kind, weight)
    return TestResult(*_route.run(_cumulative, stated, weight, statistic=statistic))


def hosmer_lemeshow_test(
    pred: Any, y: ArrayLike, *, bins: int = 10, kind: Kind | None = None, weight: ArrayLike | None = None
) -> TestResult:
    """Hosmer and Lemeshow's test: Σ (O_b − E_b)² / (E_b (1 − E_b / n_b)) over bins of equal mass.

    O_b is the number of events of a bin and E_b the sum of its probabilities. For predictions of new data it is
    about chi-square with as many degrees of freedom as bins in use (two fewer on the data that a logistic
    regression was fitted to, which is not what this computes). The answer depends on the bins; each should
    expect at least 5 events and 5 non-events.

    Args:
      pred, y, kind, weight: as in `calibration_in_the_large`.
      bins: number of bins; equal values never part, so ties may leave fewer in use.
    Returns:
      A `TestResult`; a bin certain of its events adds 0 if it was right, and infinity otherwise.
    Raises:
      InputError: as `calibration_error`.
    References:
      hosmer1980. Checked against a loop with scipy.stats.chi2, for uniform p-values and for power.
    Example:
      >>> import numpy as np
      >>> result = hosmer_lemeshow_test(np.repeat([0.2, 0.8], 10), np.repeat([0, 1], 10), bins=2)
      >>> print(f"{result.statistic:.1f} {result.p_value:.3f}")
      5.0 0.082
    """
    stated, _ = _events.single("hosmer_lemeshow_test", pred, y, kind, weight)
    rows = placed(stated, check_count("bins", bins), "mass")
    return TestResult(*_route.run(_hosmer_lemeshow, rows, weight, bins=bins))


def logistic_recalibration(
    pred: Any, y: ArrayLike, *, kind: Kind | None = None, weight: ArrayLike | None = None
) -> Recalibration:
    """Calibration intercept and slope: the logistic regression of events on logit p, by maximum likelihood.

    A slope below 1 says overconfidence, above 1 underconfidence. If p separates the events perfectly there is no
    maximum, and the slope is whatever 30 steps of Newton's method reach, with a huge standard error.

    Args:
      pred, y, kind, weight: as in `calibration_in_the_large`; probabilities strictly between 0 and 1.
    Returns:
      A `Recalibration`.
    Raises:
      InputError: a probability of 0 or 1, or the same for all rows; as `calibration_error`.
    References:
      cox1958; vancalster2019. Checked against scipy.optimize.
    Example:
      >>> import numpy as np
      >>> p = np.repeat([0.25, 0.75], 8)
      >>> found = logistic_recalibration(p, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0])
      >>> print(f"{abs(found.intercept):.2f} {found.slope:.2f}")
      0.00 1.00
    """
    stated, _ = _events.single("logistic_recalibration", pred, y, kind, weight)
    if is_concrete(stated):
        p = np.asarray(stated.p)
        certain = np.flatnonzero((p <= 0) | (p >= 1))
        if len(certain):
            raise InputError(
                "`logistic_recalibration` expected probabilities strictly between 0 and 1, since their logits enter, "
                f"but that of row {certain[0]} is {p[certain[0]]:.4g}; leave out such rows (weight 0 does not)."
            )
        told = p if weight is None else p[np.asarray(weight) > 0]
        if (told == told[0]).all():
            raise InputError(
                "`logistic_recalibration` expected at least two different probabilities, since it asks for a slope, "
                f"but all are {told[0]:.4g}; `calibration_in_the_large` asks for the level alone."
            )
    (intercept, slope, *stderr), test = _route.run(_recalibration, stated, weight)
    return Recalibration(intercept, slope, stderr[0], stderr[1], TestResult(*test))


# What is computed


def _gap(xp: Any, stated: Any) -> Any:
    return stated.event.astype(stated.p.dtype) - stated.p


def _weighted(xp: Any, stated: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Gaps, weights and the number of rows that count."""
    weight = xp.ones_like(stated.p) if weight is None else weight.astype(stated.p.dtype)
    return _gap(xp, stated), weight, (weight > 0).sum()


def _ratio(xp: Any, value: Any, variance: Any) -> Any:
    """value / √variance, where 0 / 0 is 0 and anything else over 0 infinite."""
    some = variance > 0
    endless = xp.where(value > 0, np.inf, xp.where(value < 0, -np.inf, xp.zeros_like(value)))
    return xp.where(some, value / xp.sqrt(xp.where(some, variance, xp.ones_like(variance))), endless)


def _spiegelhalter(xp: Any, stated: Any, weight: Any) -> tuple[Any, Any, Any]:
    gap, weight, count = _weighted(xp, stated, weight)
    p, tilt = stated.p, 1 - 2 * stated.p
    z = _ratio(xp, (weight * gap * tilt).sum(), (weight * tilt * tilt * p * (1 - p)).sum())
    return z, 2 * normal_sf(xp, xp.abs(z)), count


def _cumulative(xp: Any, stated: Any, weight: Any, *, statistic: str) -> tuple[Any, Any, Any]:
    gap, weight, count = _weighted(xp, stated, weight)
    order = xp.argsort(stated.p)
    p = stated.p[order]
    path = xp.cumsum((weight * gap)[order])
    path = xp.where(xp.concatenate([p[1:] != p[:-1], xp.ones(1, bool)]), path, xp.zeros_like(path))
    high, low = xp.maximum(path.max(), 0), xp.minimum(path.min(), 0)
    reach = xp.maximum(high, -low) if statistic == "max" else high - low
    reach = _ratio(xp, reach, (weight * stated.p * (1 - stated.p)).sum())
    tail = brownian_max_sf if statistic == "max" else brownian_range_sf
    return reach, tail(xp, reach), count


def brownian_max_sf(xp: Any, x: Any) -> Any:
    """P(max |B| > x) over [0, 1] for a Brownian motion, 4 Σ_k (−1)^k P(Z > (2 k + 1) x)."""
    k = np.arange(40)
    return _alternating(xp, x, 2 * k + 1, 4 * (-1.0) ** k, 0.2)


def brownian_range_sf(xp: Any, x: Any) -> Any:
    """P(max B − min B > x) over [0, 1] for a Brownian motion, 8 Σ_k (−1)^(k − 1) k P(Z > k x)."""
    k = np.arange(1, 41)
    return _alternating(xp, x, k, -8 * k * (-1.0) ** k, 0.3)


def _alternating(xp: Any, x: Any, steps: np.ndarray, factors: np.ndarray, least: float) -> Any:
    """The series; 1, to within 1e-13, below `least`, where it would need more terms."""
    x = xp.asarray(x)
    terms = xp.asarray(factors, x.dtype) * normal_sf(xp, xp.asarray(steps, x.dtype) * xp.maximum(x, least))
    return xp.where(x < least, xp.ones_like(x), xp.clip(terms.sum(), 0, 1))


def _hosmer_lemeshow(xp: Any, rows: Any, weight: Any, *, bins: int) -> tuple[Any, Any, Any]:
    weight = xp.ones_like(rows.p) if weight is None else weight.astype(rows.p.dtype)
    cell = cells_of(xp, rows, weight, bins=bins, binning="mass", groups=1)
    cells = cell_sums(xp, rows, weight, cell, bins)
    some = cells.weight > 0
    expected = cells.event - cells.gap
    variance = expected * (1 - expected / xp.where(some, cells.weight, xp.ones_like(cells.weight)))
    total = xp.square(_ratio(xp, cells.gap, variance)).sum()
    return total, chi_square_sf(xp, total, some.sum().astype(total.dtype)), (weight > 0).sum()


def _recalibration(xp: Any, stated: Any, weight: Any) -> tuple[Any, ...]:
    _, weight, count = _weighted(xp, stated, weight)
    p, event = stated.p, stated.event.astype(stated.p.dtype)
    logit = xp.log(p) - xp.log1p(-p)

    def fitted(line: Any) -> tuple[Any, Any]:
        score = line[0] + line[1] * logit
        return score, 0.5 * (1 + xp.tanh(0.5 * score))

    def information(rate: Any) -> Any:
        curve = weight * rate * (1 - rate)
        a, b, c = curve.sum(), (curve * logit).sum(), (curve * logit * logit).sum()
        return xp.stack([a, b, b, c]).reshape(2, 2)

    def newton(line: Any) -> Any:
        _, rate = fitted(line)
        slope = weight * (event - rate)
        step = xp.linalg.solve(information(rate), xp.stack([slope.sum(), (slope * logit).sum()]))
        return line + xp.clip(step, -2, 2)

    line = xp.asarray([0.0, 1.0], p.dtype)
    if xp is np:
        for _ in range(30):
            line = newton(line)
    else:
        line = jax.lax.fori_loop(0, 30, lambda _, line: newton(line), line)
    score, rate = fitted(line)
    gain = weight * (event * (score - logit) - (xp.logaddexp(0 * score, score) - xp.logaddexp(0 * logit, logit)))
    statistic = xp.maximum(2 * gain.sum(), 0)
    stderr = xp.sqrt(xp.diagonal(xp.linalg.inv(information(rate))))
    return (line[0], line[1], stderr[0], stderr[1]), (statistic, xp.exp(-0.5 * statistic), count)
