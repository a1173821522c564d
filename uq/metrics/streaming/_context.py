"""One batch of predictions and outcomes; what several metrics read of it is computed once."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._checks import InputError, is_concrete
from ...predictive import Predictive
from .. import _inputs, class_scores, scores
from .._estimate import check_weight
from .._forecast import Forecast, forecast, is_scipy
from ..coverage import covered
from ..pit import Span, span


class Batch:
    """What a batch says; attributes are computed when first asked for, and then shared.

    Rows that are masked, or of weight 0, are replaced by copies of a live row, and weigh nothing.
    """

    def __init__(self, pred: Any, y: Any, mask: Any, weight: Any) -> None:
        size = np.shape(y)[0] if np.ndim(y) else 0
        if size == 0:
            raise InputError(f"A streaming metric expected `y` with a leading axis of examples, but got {np.shape(y)}.")
        self.weight = _weights(size, mask, weight)
        self.nothing = is_concrete(self.weight) and not np.any(self.weight)
        self.y, self.pred = y, pred
        if (mask is not None or weight is not None) and not self.nothing:
            index = _index(self.weight)
            self.y = _array(y)[index]
            self.pred = _taken(pred, index, size)

    @cached_property
    def forecast(self) -> Forecast:
        return forecast("a streaming metric", self.pred)

    @cached_property
    def outcomes(self) -> Any:
        return self.forecast.check(self.y)

    @cached_property
    def classes(self) -> _inputs.Classes:
        return _inputs.classes("a streaming metric", self.pred, self.y)

    @cached_property
    def span(self) -> Span:
        """P(Y < y) and P(Y ≤ y)."""
        return span("a streaming metric", self.pred, self.y)

    def covered(self, level: float) -> Any:
        """Which outcomes are inside their central interval."""
        if self.span.steps:
            return covered("a streaming metric", self.pred, self.y, level)
        tail = (1 - level) / 2
        return (self.span.upto >= tail) & (self.span.upto <= 1 - tail)

    @cached_property
    def log_score(self) -> Any:
        return scores.log_score(self.pred, self.y)

    @cached_property
    def crps(self) -> Any:
        return scores.crps(self.pred, self.y)

    @cached_property
    def brier_score(self) -> Any:
        return class_scores.brier_score(self.pred, self.y)

    @cached_property
    def squared_error(self) -> Any:
        return scores.squared_error(self.pred, self.y)

    @cached_property
    def top(self) -> tuple[Any, Any]:
        """Largest probability and whether its class came about."""
        probs, labels = self.classes
        return probs.max(1), probs.argmax(1) == labels

    @cached_property
    def labelled(self) -> tuple[Any, Any]:
        """Scores `(N,)` and labels 0 or 1 as they were given, checked."""
        scores = _inputs.array("a streaming metric", "scores", self.pred)
        labels = _inputs.labels("a streaming metric", self.y, 2)
        if scores.shape != labels.shape or scores.ndim != 1:
            raise InputError(
                f"A streaming ranking expected scores and labels of one shape (N,), but got {scores.shape} and "
                f"{labels.shape}."
            )
        return scores, labels == 1


def _weights(size: int, mask: Any, weight: Any) -> Any:
    """Case weights `(N,)`, floating, 0 where masked; a batch may be padding alone."""
    if mask is None and weight is None:
        return np.ones(size)
    parts = [_array(part) for part in (mask, weight) if part is not None]
    for name, part in zip([n for n, p in (("mask", mask), ("weight", weight)) if p is not None], parts, strict=True):
        if part.shape != (size,):
            raise InputError(f"`{name}` expected shape ({size},), one an example, but it is {part.shape}.")
    if mask is not None and parts[0].dtype != bool and is_concrete(parts[0]) and not np.isin(parts[0], (0, 1)).all():
        raise InputError("`mask` expected True or False, 1 or 0, an example; shares between them are a `weight`.")
    xp = jnp if any(isinstance(part, jax.Array) for part in parts) else np
    kind = np.float64 if xp is np else jnp.result_type(float)
    if mask is None:
        weight = parts[0].astype(kind)
    else:
        weight = parts[-1].astype(kind) if weight is not None else xp.ones(size, kind)
        weight = xp.where(parts[0].astype(bool), weight, xp.zeros_like(weight))
    if is_concrete(weight) and not np.any(weight):
        return weight
    return check_weight("a streaming metric", weight, size)


def _index(weight: Any) -> Any:
    xp = jnp if isinstance(weight, jax.Array) else np
    return xp.where(weight > 0, xp.arange(weight.shape[0]), xp.argmax(weight > 0))


def _array(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else np.asarray(value)


def _taken(pred: Any, index: Any, size: int) -> Any:
    """Rows of the predictions: on the leading axis, or on the second of draws and of a `Predictive`."""
    if isinstance(pred, Predictive):
        return pred[index]
    if _inputs.is_distribution(pred) or is_scipy(pred):
        return pred  # its parameters of masked rows must be valid
    array = _array(pred)
    return array[index] if array.shape[0] == size else array[:, index]
