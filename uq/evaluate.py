"""`evaluate`: every metric that applies, with standard errors, in one table."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from . import laws, metrics
from ._checks import InputError, check_finite
from ._typing import ArrayLike
from .metrics import _inputs
from .metrics.calibration import covered
from .predictive import Predictive
from .table import Table

_COLUMNS = ("metric", "value", "stderr", "count")


def evaluate(pred: Any, y: ArrayLike, *, level: float = 0.9) -> Table:
    """Every metric that applies to the predictions, each with its standard error over examples.

    Regressions: `log_score`, `crps`, `rmse`, `coverage` and `interval_width` at `level`,
    `regression_calibration_error`, and `epistemic_share`, the mean share of the predictive variance on which
    members disagree. Classes: `log_score`, `brier_score`, `accuracy`, `calibration_error` (kind "confidence",
    15 bins of equal width), `entropy` and `mutual_information`. Where there are several outputs, `log_score`
    is joint and the others are averaged over them.

    Args:
      pred: a `Predictive`, or class probabilities `(N, C)`, `(N, 1)` or `(N,)` (then without mutual
        information).
      y: outcomes `(N,)` or `(N, D)` in the user's units, or labels `(N,)`.
      level: nominal coverage of the intervals.
    Returns:
      A `Table` with columns metric, value, stderr and count (examples). Standard errors treat examples as
      independent: standard deviation / √N for means, the delta method for `rmse`; None for calibration
      errors, whose distribution is not normal, for a share that is exactly 0 or 1, and for one example.
    Raises:
      InputError: as the metrics do.
    Example:
      >>> import numpy as np, uq
      >>> print(uq.evaluate(np.array([[0.5, 0.5], [0.25, 0.75], [0.75, 0.25]]), [0, 1, 0]))
      metric                value   stderr  count
      ───────────────────────────────────────────
      log_score ↓          0.4228   0.1352      3
      brier_score ↓        0.1250  0.06250      3
      accuracy ↑            1.000        –      3
      calibration_error ↓  0.3333        –      3
      entropy              0.6059  0.04360      3
    """
    if isinstance(pred, Predictive):
        if len(pred) == 0:
            raise InputError("`evaluate` expected at least one example, but the predictions hold none.")
        check_finite("pred", pred.mean)
        if pred.task == "regression":
            return _regression(pred, y, level)
    return _classes(pred, y)


def _regression(pred: Predictive, y: ArrayLike, level: float) -> Table:
    epistemic, variance = (np.asarray(part, np.float64) for part in (pred.epistemic, pred.variance))
    square = _per_example(metrics.squared_error(pred, y))
    rows = [
        _mean("log_score", metrics.log_score(pred, y)),
        _mean("crps", metrics.crps(pred, y)),
        _root("rmse", square),
        _mean("coverage", covered("coverage", pred, y, level)),
        _mean("interval_width", metrics.interval_width(pred, level=level)),
        _plain("regression_calibration_error", metrics.regression_calibration_error(pred, y), len(pred)),
        _mean("epistemic_share", epistemic / variance),
    ]
    better: dict[str, str | float] = dict.fromkeys(
        ("log_score", "crps", "rmse", "interval_width", "regression_calibration_error"), "lower"
    )
    return Table(_COLUMNS, tuple(rows), better={**better, "coverage": level})


def _classes(pred: Any, y: ArrayLike) -> Table:
    probs, labels = _inputs.classes("evaluate", pred, y)
    if not isinstance(probs, np.ndarray):
        raise InputError("`evaluate` makes a table of numbers and cannot run under jit; call the metrics themselves.")
    rows = [
        _mean("log_score", metrics.log_score(pred, y)),
        _mean("brier_score", metrics.brier_score(pred, y)),
        _mean("accuracy", probs.argmax(1) == labels),
        _plain("calibration_error", metrics.calibration_error(pred, y), len(labels)),
    ]
    if isinstance(pred, Predictive):
        rows += [_mean("entropy", pred.entropy), _mean("mutual_information", pred.mutual_information)]
    else:
        rows += [_mean("entropy", laws.class_entropy(jnp.asarray(probs)))]
    better = {
        "log_score": "lower",
        "brier_score": "lower",
        "accuracy": "higher",
        "calibration_error": "lower",
    }
    return Table(_COLUMNS, tuple(rows), better=better)


def _per_example(values: Any) -> np.ndarray:
    """One number an example, in float64: several outputs averaged."""
    values = np.asarray(values, np.float64)
    return values.reshape(len(values), -1).mean(1)


def _stderr(values: np.ndarray) -> float | None:
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None


def _mean(name: str, values: Any) -> tuple[str, float, float | None, int]:
    share = np.asarray(values).dtype == bool
    values = _per_example(values)
    error = _stderr(values)
    return name, float(values.mean()), None if share and error == 0 else error, len(values)


def _root(name: str, squares: np.ndarray) -> tuple[str, float, float | None, int]:
    """Root of a mean, by the delta method."""
    root, error = float(np.sqrt(squares.mean())), _stderr(squares)
    return name, root, None if error is None or root == 0 else error / (2 * root), len(squares)


def _plain(name: str, value: Any, count: int) -> tuple[str, float, None, int]:
    return name, float(value), None, count
