"""Methods side by side: quality, calibration and cost, and paired differences on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._checks import InputError
from .._typing import ArrayLike
from ..table import Table, column_places
from .task import BASELINE

COST = ("fit s", "predict µs/row", "parameters")
"""The columns of cost, which stand after those of quality."""
_REGRESSION = ("nll", "vs single", "rmse", "coverage", "width")
_CLASSES = ("nll", "vs single", "accuracy", "calib. error")
_NOTES = {
    True: (
        "coverage and width are those of central 90 % intervals",
        "a share without ± is exactly 0 or 1, where the test rows cannot tell its error",
    ),
    False: ("a share without ± is exactly 0 or 1, where the test rows cannot tell its error",),
}
_KEYS = {
    "nll": "log_score",
    "rmse": "rmse",
    "coverage": "coverage",
    "width": "interval_width",
    "accuracy": "accuracy",
    "calib. error": "calibration_error",
}


def paired(scores: ArrayLike, others: ArrayLike) -> tuple[float, float | None]:
    """Mean difference of two methods' scores on the same examples, and its standard error.

    Differences vary less from example to example than scores do, so that this tells two methods apart where
    their own intervals overlap.

    Args:
      scores, others: `(N,)`, of the same examples in the same order.
    Returns:
      Mean of `scores − others`, and its standard error (None for one example).
    Raises:
      InputError: lengths that differ.
    Example:
      >>> paired([1.0, 2.0, 3.0], [1.5, 2.0, 2.5])
      (0.0, 0.2886751345948129)
    """
    a, b = np.asarray(scores, np.float64), np.asarray(others, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) == 0:
        raise InputError(f"`paired` expected two scores an example, (N,) each, but got {a.shape} and {b.shape}.")
    difference = a - b
    error = float(difference.std(ddof=1) / np.sqrt(len(a))) if len(a) > 1 else None
    return float(difference.mean()), error


def suite_tables(records: Sequence[dict[str, Any]]) -> list[Table]:
    """One table for the regressions and one for the classes: a row for each method × data set, cost beside
    quality.

    "vs single" is the paired difference to the single network: negative is better than it.
    """
    tables = []
    for title, columns, regression in (
        ("Regression", _REGRESSION, True),
        ("Classification", _CLASSES, False),
    ):
        chosen = [record for record in records if (record["kind"] == "regression") == regression]
        if chosen:
            rows = tuple(_row(record, records, columns) for record in chosen)
            better: dict[str, str | float] = {"nll": "lower", "vs single": "lower"}
            if regression:
                better |= {"rmse": "lower", "coverage": 0.9, "width": "lower"}
            else:
                better |= {"accuracy": "higher", "calib. error": "lower"}
            heads = ("data set", "method", *columns, *COST)
            places = {name: column_places([row[at] for row in rows]) for at, name in enumerate(heads) if at > 1}
            tables.append(
                Table(heads, rows, labels=2, better=better, title=title, notes=_NOTES[regression], places=places)
            )
    return tables


def _row(record: dict[str, Any], records: Sequence[dict[str, Any]], columns: Sequence[str]) -> tuple[Any, ...]:
    cells: list[Any] = [record["task"], record["label"]]
    for column in columns:
        if column == "vs single":
            cells.append(_against_single(record, records))
        else:
            metric = record["metrics"][_KEYS[column]]
            cells.append(None if metric["value"] is None else (metric["value"], metric["stderr"] or None))
    cost = record["cost"]
    return (*cells, cost["fit_seconds"], cost["predict_us_per_row"], record["parameters"])


def _against_single(record: dict[str, Any], records: Sequence[dict[str, Any]]) -> tuple[float, float | None] | None:
    single = next((r for r in records if r["task"] == record["task"] and r["method"] == BASELINE), None)
    if single is None or single is record:
        return None
    ours, theirs = record["log_scores"], single["log_scores"]
    if None in ours or None in theirs:
        return None
    return paired(ours, theirs)
