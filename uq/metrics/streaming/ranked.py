"""Ranking metrics from a fine histogram of scores, with a bound on what the histogram can have hidden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..._checks import InputError, check_count, is_concrete, unknown_name
from .. import discrimination, selective
from .._estimate import Estimate
from . import _sums
from ._context import Batch
from ._metric import Additive, State, zero

_RANKINGS: dict[str, tuple[Callable[..., Estimate], bool]] = {
    "auroc": (discrimination.auroc, True),
    "average_precision": (discrimination.average_precision, True),
    "fpr_at_tpr": (discrimination.fpr_at_tpr, True),
    "aurc": (selective.aurc, False),
    "eaurc": (selective.eaurc, False),
    "augrc": (selective.augrc, False),
}
"""Each metric, and whether it takes scores and labels rather than confidences and errors."""


class Binned(NamedTuple):
    """A metric of binned scores."""

    estimate: Estimate
    """With the scores of a cell taken as tied."""
    lower: Any
    """The least value that any order within the cells can give,"""
    upper: Any
    """and the largest: the metric of the unbinned scores lies between them."""


@dataclass(frozen=True)
class Ranked(Additive):
    """A metric of how scores rank yes or no, in memory that does not grow.

    Scores are counted in cells of equal width; within a cell they count as tied. `compute` also says between which
    values the metric of the unbinned scores must lie. For scores that are not spread over [low, high], map them there
    first by any increasing function: ranks do not change.

    Args:
      metric: "auroc", "average_precision" or "fpr_at_tpr", of scores and 0/1 labels; or "aurc", "eaurc" or "augrc", of
        predictions of classes and labels, by the largest probability and whether its class came about.
      cells: number of cells.
      low, high: ends of the range; scores outside are counted in the outermost cells.
    """

    metric: str
    cells: int = 4096
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.metric not in _RANKINGS:
            raise unknown_name("streaming ranking", self.metric, _RANKINGS)
        check_count("cells", self.cells, least=2)
        if not self.low < self.high:
            raise InputError(f"`Ranked` expected low < high, but they are {self.low} and {self.high}.")

    def empty(self) -> State:
        return {"count": np.zeros((2, self.cells), np.int64), "weight": zero(2 * self.cells)}

    def _quantities(self, batch: Batch) -> Any:
        if _RANKINGS[self.metric][1]:
            return batch.labelled
        confidence, right = batch.top
        return confidence, ~right

    def _accumulate(self, xp: Any, quantities: Any, weight: Any) -> State:
        scores, happened = quantities
        place = xp.floor((scores - self.low) * (self.cells / (self.high - self.low)))
        cell = xp.clip(place, 0, self.cells - 1).astype(np.int32) + self.cells * happened.astype(np.int32)
        count = _sums.counts(xp, cell, weight > 0, 2 * self.cells).reshape(2, self.cells)
        return {"count": count, "weight": _sums.cells(xp, weight, cell, 2 * self.cells)}

    def compute(self, state: State) -> Binned:
        """The metric with ties within cells, and the values between which that of the unbinned scores lies."""
        if not is_concrete(state):
            raise InputError("`Ranked.compute` sorts on the host: call it outside jit.")
        weight = np.maximum(_sums.value(np, state["weight"]), 0)
        centre = np.arange(self.cells, dtype=np.float64)
        happened = np.repeat([0, 1], self.cells)
        function, labelled = _RANKINGS[self.metric]

        def value(shift: float) -> Estimate:
            """With what happened ranked above (shift > 0) or below the rest of its cell."""
            scores = np.concatenate([centre, centre + shift])
            live = weight > 0
            if labelled:
                return function(scores[live], happened[live], weight=weight[live])
            loss = happened[live].astype(np.float64)
            return function(confidence=scores[live], loss=loss, weight=weight[live])

        tied, above, below = (value(shift) for shift in (0.0, 0.5, -0.5))
        ends = np.array([float(tied), float(above), float(below)])
        if self.metric == "average_precision":
            ends[2] = min(ends[2], _least_average_precision(weight[: self.cells], weight[self.cells :]))
        estimate = Estimate(tied.value, None, state["count"].sum(), f"{tied.estimand}, {self.cells} cells")
        return Binned(estimate, ends.min(), ends.max())


def _least_average_precision(negative: np.ndarray, positive: np.ndarray) -> float:
    """With positives last in each cell and one by one: Σ precision over them, 1 − N log(1 + n / T) / n on average.

    T rows, N of them negative, stand before the n positives of a cell; the logarithm bounds a sum of 1 / (T + j).
    """
    negative, positive = negative[::-1], positive[::-1]
    before = np.cumsum(negative)
    rank = before + np.cumsum(positive) - positive
    lost = before * np.log1p(positive / np.where(rank > 0, rank, 1))
    return float((positive - np.where(rank > 0, lost, 0)).sum() / positive.sum())
