"""Calibration errors from counts and sums in fixed cells: exactly those of all rows at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..._checks import check_count, is_concrete, unknown_name
from .._binning import round_down, round_up
from .._estimate import Estimate
from ..pit import Span, share_below
from . import _sums
from ._context import Batch
from ._metric import Additive, State, zero


@dataclass(frozen=True)
class CalibrationError(Additive):
    """`uq.metrics.calibration_error` with bins of equal width, exactly: the same number as of all rows at once.

    Args:
      kind, norm, bins: as there.
      num_classes: C, for the kinds that look at each class.
    """

    kind: str = "confidence"
    norm: str = "l1"
    bins: int = 15
    num_classes: int = 2

    def __post_init__(self) -> None:
        for name, value, known in (
            ("kind", self.kind, ("confidence", "binary", "classwise", "top-label")),
            ("norm", self.norm, ("l1", "l2", "max")),
        ):
            if value not in known:
                raise unknown_name(name, value, known)
        check_count("bins", self.bins)
        check_count("num_classes", self.num_classes, least=2)

    @property
    def _groups(self) -> int:
        return self.num_classes if self.kind in ("classwise", "top-label") else 1

    def empty(self) -> State:
        size = self._groups * self.bins
        return {"count": np.zeros(size, np.int64), "weight": zero(size), "gap": zero(size)}

    def _quantities(self, batch: Batch) -> Any:
        return batch.classes

    def _accumulate(self, xp: Any, quantities: Any, weight: Any) -> State:
        probs, labels = quantities
        size, width = probs.shape
        if self.kind == "classwise":
            p, event = probs.reshape(-1), (labels[:, None] == xp.arange(width, dtype=labels.dtype)).reshape(-1)
            group = xp.broadcast_to(xp.arange(width, dtype=np.int32), probs.shape).reshape(-1)
            weight = xp.repeat(weight, width)
        elif self.kind == "binary":
            p, event, group = probs[:, 1], labels == 1, xp.zeros(size, np.int32)
        else:
            top = probs.argmax(1).astype(np.int32)
            p, event = probs.max(1), top == labels
            group = top if self.kind == "top-label" else xp.zeros(size, np.int32)
        edges = xp.asarray(round_up(np.arange(self.bins + 1) / self.bins, p.dtype))
        at = xp.clip(xp.searchsorted(edges, p, side="right") - 1, 0, self.bins - 1).astype(np.int32)
        cell, count = group * self.bins + at, self._groups * self.bins
        gap = weight * (event.astype(weight.dtype) - p.astype(weight.dtype))
        return {
            "count": _sums.counts(xp, cell, weight > 0, count),
            "weight": _sums.cells(xp, weight, cell, count),
            "gap": _sums.cells(xp, gap, cell, count),
        }

    def compute(self, state: State) -> Estimate:
        xp = np if is_concrete(state) else jnp
        weight, gap = (_sums.value(xp, state[part]) for part in ("weight", "gap"))
        gap = xp.abs(gap) / xp.where(weight > 0, weight, xp.ones_like(weight))
        share = weight / xp.where(weight.sum() > 0, weight.sum(), xp.ones_like(weight.sum()))
        if self.norm == "max":
            value = xp.where(weight > 0, gap, xp.zeros_like(gap)).max()
        else:
            value = (share * gap).sum() if self.norm == "l1" else xp.sqrt((share * gap * gap).sum())
        value = xp.where(weight.sum() > 0, value, xp.full_like(value, np.nan))[()]  # of no rows nothing is known
        count = state["count"].sum() // (self.num_classes if self.kind == "classwise" else 1)
        return Estimate(
            value, None, count, f"{self.kind} calibration error, {self.norm}, {self.bins} bins of equal width"
        )


@dataclass(frozen=True)
class RegressionCalibrationError(Additive):
    """`uq.metrics.regression_calibration_error` at the levels k / (levels + 1), exactly.

    Args:
      levels: how many; 99 is 0.01 … 0.99.
      num_outputs: D; the error is the mean of the outputs' errors.
    """

    levels: int = 99
    num_outputs: int = 1

    def __post_init__(self) -> None:
        check_count("levels", self.levels)
        check_count("num_outputs", self.num_outputs)

    def empty(self) -> State:
        return {"count": np.zeros((), np.int64), "cells": zero(self.num_outputs * (self.levels + 1))}

    def _quantities(self, batch: Batch) -> Any:
        return (batch.span.below, batch.span.upto) if batch.span.steps else batch.span.upto

    def _accumulate(self, xp: Any, quantities: Any, weight: Any) -> State:
        if isinstance(quantities, tuple):
            return self._of_steps(xp, Span(quantities[0], quantities[1], True, 0), weight)
        columns = quantities.reshape(quantities.shape[0], self.num_outputs)
        levels = xp.asarray(round_down(np.arange(1, self.levels + 1) / (self.levels + 1), columns.dtype))
        cell = xp.searchsorted(levels, columns.reshape(-1), side="left").astype(np.int32)
        cell = cell + xp.tile(xp.arange(self.num_outputs, dtype=np.int32) * (self.levels + 1), columns.shape[0])
        each = xp.repeat(weight, self.num_outputs)
        whole = np.int64 if xp is np else jnp.int32
        return {
            "count": (weight > 0).sum().astype(whole),
            "cells": _sums.cells(xp, each, cell, self.num_outputs * (self.levels + 1)),
        }

    def _of_steps(self, xp: Any, spans: Span, weight: Any) -> State:
        """Of counts and draws each row spreads evenly over the cells between P(Y < y) and P(Y ≤ y)."""
        share = share_below(xp, spans, np.arange(1, self.levels + 1) / (self.levels + 1))
        none = xp.zeros_like(share[..., :1])
        part = xp.diff(xp.concatenate([none, share, none + 1], axis=2), axis=2)
        part = part.reshape(len(part), -1).astype(weight.dtype) * weight[:, None]
        whole = np.int64 if xp is np else jnp.int32
        return {"count": (weight > 0).sum().astype(whole), "cells": _sums.total(xp, _sums.of(xp, part))}

    def compute(self, state: State) -> Estimate:
        xp = np if is_concrete(state) else jnp
        cells = _sums.value(xp, state["cells"]).reshape(self.num_outputs, self.levels + 1)
        total = cells.sum(1, keepdims=True)
        below = xp.cumsum(cells, axis=1)[:, :-1] / xp.where(total > 0, total, xp.ones_like(total))
        levels = xp.asarray(np.arange(1, self.levels + 1) / (self.levels + 1), cells.dtype)
        value = xp.abs(below - levels).mean()
        value = xp.where(total.sum() > 0, value, xp.full_like(value, np.nan))[()]
        return Estimate(value, None, state["count"], f"mean absolute gap at {self.levels} levels")
