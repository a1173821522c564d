"""The binned decomposition of the Brier score that adds up: with the within-bin terms that are usually forgotten."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._checks import check_count
from .._typing import ArrayLike
from . import _inputs
from ._binning import Rows, add_up, cells_of, placed
from ._estimate import Estimate, Statistic, summarize
from ._events import events


class BrierDecomposition(NamedTuple):
    """brier = reliability − resolution + uncertainty + within_variance − within_covariance, exactly."""

    brier: Estimate
    """Mean Brier score."""
    reliability: Estimate
    """Squared distance of mean probability and frequency within bins; 0 for calibrated predictions."""
    resolution: Estimate
    """Variance of the bins' frequencies: how much the bins tell apart."""
    uncertainty: Estimate
    """Variance of the outcomes."""
    within_variance: Estimate
    """Variance of the probabilities inside bins."""
    within_covariance: Estimate
    """Twice the covariance of probabilities and outcomes inside bins."""


def brier_decomposition(
    pred: Any, y: ArrayLike, *, bins: int = 15, weight: Any = None, key: Any = None
) -> BrierDecomposition:
    """Reliability, resolution and uncertainty of the Brier score, with bins of equal width.

    With bins wider than a single probability Murphy's three terms do not add up to the Brier score; the two
    within-bin terms make them (Stephenson et al.). With C ≥ 3 classes each class is binned by itself against the
    rest, and every term is summed over classes. `score_decomposition` needs no bins.

    Args:
      pred: a `Predictive` of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
      bins: number of bins B.
      weight: case weights, `(N,)`.
      key: for bootstrap intervals.
    Returns:
      A `BrierDecomposition` of estimates; Brier scores as in `brier_score`.
    Raises:
      InputError: as `brier_score`.
    References:
      murphy1973; stephenson2008. Checked against loops and against the additivity itself.
    Example:
      >>> import numpy as np
      >>> parts = brier_decomposition(np.array([0.2, 0.4, 0.9, 0.6]), [0, 1, 1, 0], bins=2)
      >>> [round(float(part), 4) for part in parts[:4]]
      [0.1925, 0.0512, 0.0, 0.25]
    """
    bins = check_count("bins", bins)
    name = "brier_decomposition"
    probs, labels = _inputs.classes(name, pred, y, weight)
    stated, groups = events(name, probs, labels, "binary" if probs.shape[1] == 2 else "classwise")
    rows = placed(stated, bins, "width")
    parts = [
        summarize(
            _TERM,
            rows,
            weight=weight,
            estimand=f"{term.replace('_', ' ')} ({bins} bins of equal width)",
            key=key,
            settings={"term": term, "bins": bins, "groups": groups},
        )
        for term in BrierDecomposition._fields
    ]
    return BrierDecomposition(*parts)


def _term(xp: Any, rows: Rows, weight: Any, *, term: str, bins: int, groups: int) -> Any:
    p, event = rows.p, rows.event.astype(rows.p.dtype)
    share = (weight / weight.sum()).astype(p.dtype).reshape((-1,) + (1,) * (p.ndim - 1))
    if term == "brier":
        return (share * xp.square(p - event)).sum()
    rate = (share * event).sum(0).reshape(-1, 1)
    if term == "uncertainty":
        return (rate * (1 - rate)).sum()
    cell = cells_of(xp, rows, weight, bins=bins, binning="width", groups=groups)
    share = xp.broadcast_to(share, p.shape)
    mass, sum_p, sum_y = (add_up(xp, cell, part, groups * bins) for part in (share, share * p, share * event))
    safe = xp.where(mass > 0, mass, xp.ones_like(mass))
    mean_p, mean_y = sum_p / safe, sum_y / safe
    if term == "reliability":
        return (mass * xp.square(mean_p - mean_y)).sum()
    if term == "resolution":
        return (mass * xp.square(mean_y.reshape(groups, bins) - rate).reshape(-1)).sum()
    centred = p - mean_p[cell]
    if term == "within_variance":
        return (share * xp.square(centred)).sum()
    return 2 * (share * centred * (event - mean_y[cell])).sum()


_TERM = Statistic(_term)
