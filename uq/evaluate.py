"""`evaluate`: every metric that applies, each with its error, its interval and what a calibrated model would score."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from . import metrics
from ._checks import InputError, check_finite, check_level, is_concrete
from ._typing import ArrayLike
from .metrics import _forecast, _inputs, _ranking
from .metrics._estimate import Estimate, as_resample, mean
from .predictive import Predictive
from .table import Table

_COLUMNS = ("metric", "value", "stderr", "lower", "upper", "calibrated", "count")


def evaluate(
    pred: Any,
    y: ArrayLike,
    *,
    level: float = 0.9,
    weight: ArrayLike | None = None,
    key: Any = 0,
    before: Any = None,
) -> Table:
    """Every metric that applies to the predictions, with standard errors, intervals and what calibration would give.

    Numbers: `log_score` (where there is a density), `crps`, `rmse`, `coverage` and `interval_width` at `level`,
    `regression_calibration_error`, and for a `Predictive` `epistemic_share`, the mean share of the variance on which
    members disagree (left out where a variance is 0 or infinite). Classes: `log_score`, `brier_score`, `accuracy`,
    `calibration_error` (kind "confidence", 15 bins of equal width), `smooth_calibration_error`, `auroc` (two classes),
    `entropy`, and for a `Predictive` `mutual_information`. Where there are several outputs, `log_score` is joint and
    the others are averaged over them.

    Args:
      pred: a `Predictive`; class probabilities `(N, C)`, `(N, 1)` or `(N,)`; a numpyro or frozen scipy distribution; or
        draws `(M, N)` or `(M, N, D)`. An array whose shape but for the first axis is that of floating `y` is draws.
      y: outcomes `(N,)` or `(N, D)` in the user's units, or labels `(N,)`.
      level: nominal coverage of the intervals.
      weight: case weights, `(N,)`; rows of weight 0 are left out.
      key: a key, a seed or `metrics.Resample`, for the bootstrap and for the simulated calibrated model, 1,000 each
        unless told, a fifth of it for `smooth_calibration_error`; None leaves both out.
      before: other predictions of the same outcomes, such as those before recalibration; their values get a column.
    Returns:
      A `Table` with columns metric, value, stderr, lower and upper (95 % bootstrap interval), calibrated (the mean that
      a perfectly calibrated model of these predictions would score on as many examples, where it is not 0 or known)
      and count (examples). Errors treat examples as independent; None where there is none to tell.
    Raises:
      InputError: as the metrics do.
    Example:
      >>> import numpy as np, uq
      >>> print(uq.evaluate(np.array([[0.5, 0.5], [0.25, 0.75], [0.75, 0.25]]), [0, 1, 0], key=None))
      metric                       value   stderr  lower  upper  calibrated  count
      ────────────────────────────────────────────────────────────────────────────
      log_score ↓                 0.4228   0.1352      –      –           –      3
      brier_score ↓               0.1250  0.06250      –      –           –      3
      accuracy ↑                   1.000        –      –      –           –      3
      calibration_error ↓         0.3333  0.08333      –      –           –      3
      smooth_calibration_error ↓  0.2088  0.07662      –      –           –      3
      auroc ↑                      1.000        –      –      –           –      3
      entropy                     0.6059  0.04360      –      –           –      3
    """
    rows = _rows(pred, y, level, weight, key)
    better: dict[str, str | float] = {
        name: "higher" if name in ("accuracy", "auroc") else "lower"
        for name in rows
        if name not in ("entropy", "mutual_information", "epistemic_share")
    }
    if "coverage" in rows:
        better["coverage"] = level
    if before is None:
        return Table(_COLUMNS, tuple(_row(name, found) for name, found in rows.items()), better=better)
    old = {name: float(found) for name, found in _rows(before, y, level, weight, None).items()}
    both = {name: _row(name, found) for name, found in rows.items()}
    values = tuple((*row[:2], old.get(name), *row[2:]) for name, row in both.items())
    return Table((*_COLUMNS[:2], "before", *_COLUMNS[2:]), values, better=better)


def _rows(pred: Any, y: Any, level: float, weight: Any, key: Any) -> dict[str, Estimate]:
    """Every metric that applies, by name."""
    check_level("level", level)
    if not is_concrete((pred, y, weight)) and not _inputs.is_distribution(pred):
        raise InputError("`evaluate` makes a table of numbers and cannot run under jit; call the metrics themselves.")
    if isinstance(pred, Predictive):
        if len(pred) == 0:
            raise InputError("`evaluate` expected at least one example, but the predictions hold none.")
        if pred.task == "multilabel":
            raise InputError(
                f"`evaluate` expected one outcome an example, but these predictions are of {pred.num_outputs} labels "
                "that do not exclude each other: evaluate them one by one, `uq.evaluate(pred.probs[:, 0], y[:, 0])`."
            )
        pred = _ranking.alive("evaluate", pred, weight)
        check_finite("pred", pred.mean)
    return _numbers(pred, y, level, weight, key) if _of_numbers(pred, y) else _classes(pred, y, weight, key)


def _of_numbers(pred: Any, y: Any) -> bool:
    """Whether these are predictive distributions of numbers, and not of classes."""
    if isinstance(pred, Predictive):
        return pred.task == "regression"
    if _inputs.is_distribution(pred):
        return _inputs.num_classes(pred) is None
    if _forecast.is_scipy(pred):
        return True
    shape, outcome = _inputs._array("evaluate", pred).shape, y if isinstance(y, jax.Array) else np.asarray(y)
    draws = outcome.dtype.kind == "f" and len(shape) >= 2 and shape[1:] == outcome.shape
    if draws and isinstance(pred, tuple) and len(pred) == 2:
        raise InputError(
            "`evaluate` expected predictions, but got a pair: of intervals (lower, upper) use `metrics.coverage`, "
            "`interval_width` and `interval_score`; two draws are one array (2, N)."
        )
    return draws


def _numbers(pred: Any, y: Any, level: float, weight: Any, key: Any) -> dict[str, Estimate]:
    more = {"weight": weight, "key": key}
    y = _inputs.live_rows("evaluate", y if isinstance(y, jax.Array) else np.asarray(y), weight)
    found = {}
    if _forecast.is_forecast(pred):
        found["log_score"] = mean(metrics.log_score(pred, y), estimand="mean log score, nats", **more)
    found["crps"] = mean(metrics.crps(pred, y), estimand="mean CRPS", **more)
    found["rmse"] = metrics.rmse(pred, y, **more)
    found["coverage"] = metrics.coverage(pred, y, level=level, **more)
    width = metrics.interval_width(pred, level=level)
    found["interval_width"] = mean(width, estimand=f"mean width of {level:g} intervals", **more)
    found["regression_calibration_error"] = metrics.regression_calibration_error(pred, y, **more)
    if isinstance(pred, Predictive) and pred.has_parts:
        with np.errstate(invalid="ignore", divide="ignore"):
            share = np.asarray(pred.epistemic, np.float64) / np.asarray(pred.variance, np.float64)
        live = slice(None) if weight is None else np.asarray(weight) > 0
        if not np.isnan(share[live]).any():  # of an infinite variance, or of none, there is no share
            found["epistemic_share"] = mean(share, estimand="mean share of epistemic variance", **more)
    return found


def _classes(pred: Any, y: Any, weight: Any, key: Any) -> dict[str, Estimate]:
    more = {"weight": weight, "key": key}
    probs, labels = (np.asarray(part) for part in _inputs.classes("evaluate", pred, y, weight))
    found = {
        "log_score": mean(metrics.log_score(probs, labels), estimand="mean log score, nats", **more),
        "brier_score": mean(metrics.brier_score(probs, labels), estimand="mean Brier score", **more),
        "accuracy": metrics.accuracy(probs, labels, **more),
        "calibration_error": metrics.calibration_error(probs, labels, **more),
        "smooth_calibration_error": metrics.smooth_calibration_error(probs, labels, weight=weight, key=_fewer(key)),
    }
    live = labels if weight is None else labels[np.asarray(weight) > 0]
    if probs.shape[1] == 2 and 0 < (live == 1).mean() < 1:
        found["auroc"] = metrics.auroc(probs[:, 1], labels, **more)
    if isinstance(pred, Predictive):
        found["entropy"] = mean(pred.entropy, estimand="mean entropy, nats", **more)
        found["mutual_information"] = metrics.mutual_information(pred, **more)
    else:
        found["entropy"] = mean(_entropy(probs), estimand="mean entropy, nats", **more)
    return found


def _fewer(key: Any) -> Any:
    """A fifth of the resamples, for what costs a transform in each."""
    how = as_resample(key)
    return None if how is None else metrics.Resample(how.key, max(how.num // 5, 100), how.confidence)


def _entropy(probs: np.ndarray) -> np.ndarray:
    positive = probs > 0
    return np.where(positive, -probs * np.log(np.where(positive, probs, 1.0)), 0.0).sum(1) + 0.0  # not −0


def _row(name: str, found: Estimate) -> tuple[Any, ...]:
    lower, upper = found.interval or (None, None)
    calibrated = None if found.null is None else float(found.null.mean)
    error = _number(found.stderr)
    sure = error == 0 and name in ("accuracy", "coverage", "auroc")  # a share of 0 or 1: no spread to be told
    return (
        name,
        float(found),
        None if sure else error,
        *(None if sure else _number(end) for end in (lower, upper)),
        calibrated,
        int(found.count),
    )


def _number(value: Any) -> float | None:
    return None if value is None or not np.isfinite(float(value)) else float(value)
