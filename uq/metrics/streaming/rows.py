"""Any metric at all, exactly, by keeping every row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...predictive import Predictive
from ._context import Batch
from ._metric import State, Streaming


@dataclass(frozen=True)
class Rows(Streaming):
    """Any metric of `uq.metrics`, from all rows: exact, with a state as large as the data.

    The state is a tuple of batches, so that it grows with each: for loops in Python, and for small batches inside
    one program, not for the carry of a `jax.lax.scan`.

    Args:
      metric: `(pred, y, weight=…, **settings)`, of `uq.metrics` or your own.
      settings: keyword settings, as pairs.
    """

    metric: Callable[..., Any]
    settings: tuple[tuple[str, Any], ...] = ()

    def empty(self) -> State:
        return ()

    def _updated(self, state: State, batch: Batch) -> State:
        return (*state, (batch.pred, batch.y, batch.weight))

    def merge(self, a: State, b: State) -> State:
        return (*a, *b)

    def all_reduce(self, state: State, axis_name: Any) -> State:
        def gather(leaf: Any, axis: int) -> Any:
            return jax.lax.all_gather(leaf, axis_name, axis=axis, tiled=True)

        return tuple((_over(gather, pred, len(y)), gather(y, 0), gather(weight, 0)) for pred, y, weight in state)

    def compute(self, state: State) -> Any:
        preds, ys, weights = zip(*state, strict=True)
        pred = _joined(preds, [len(y) for y in ys])
        weight = _concatenate([_number(w) for w in weights], 0)
        return self.metric(pred, _concatenate(ys, 0), weight=weight, **dict(self.settings))


def rows(metric: Callable[..., Any], settings: Mapping[str, Any] | None = None) -> Rows:
    """`Rows` for a metric and its settings."""
    return Rows(metric, tuple(sorted((settings or {}).items())))


def _number(weight: Any) -> Any:
    return weight if weight.dtype != bool else weight.astype(jnp.result_type(float))


def _axis(pred: Any, size: int) -> int:
    return 0 if np.shape(pred)[0] == size else 1


def _over(function: Callable[[Any, int], Any], pred: Any, size: int) -> Any:
    if isinstance(pred, Predictive):
        weight = pred.weight if pred.weight.ndim == 1 else function(pred.weight, 1)
        return Predictive(function(pred.outputs, 1), pred.likelihood, weight)
    return function(pred, _axis(pred, size))


def _joined(preds: Any, sizes: Any) -> Any:
    first = preds[0]
    if isinstance(first, Predictive):
        weight = first.weight if first.weight.ndim == 1 else _concatenate([pred.weight for pred in preds], 1)
        return Predictive(_concatenate([pred.outputs for pred in preds], 1), first.likelihood, weight)
    return _concatenate(preds, _axis(first, sizes[0]))


def _concatenate(parts: Any, axis: int) -> Any:
    xp = jnp if any(isinstance(part, jax.Array) for part in parts) else np
    return xp.concatenate([xp.asarray(part) for part in parts], axis=axis)
