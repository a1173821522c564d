"""Rows in order of a score, ties known: what every metric of ranks is computed from.

The sort is done once, when the rows are prepared; all that follows costs cumulative sums, so that a bootstrap resample
(a vector of counts) needs no sort of its own. Rows of weight 0 may stand anywhere.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from ..predictive import Predictive
from . import _inputs, _route
from ._estimate import check_weight


class Ties(NamedTuple):
    """For each row in order: where the rows of its score begin and end."""

    first: Any
    """Place of the first row of the same score, `(N,)`."""
    last: Any
    """Place of the last row of the same score, `(N,)`."""


def descending(scores: Any) -> tuple[Any, Ties]:
    """Order from the highest score to the lowest, `(N,)`, and the ties in that order.

    Concrete scores on the CPU are sorted by numpy, which is several times faster there, whatever their number.
    """
    host = is_concrete(scores) and (not isinstance(scores, jax.Array) or _route._on_cpu(scores))
    xp = np if host else jnp
    scores = xp.asarray(scores)
    order = np.argsort(-scores, kind="stable") if host else jnp.argsort(-scores, stable=True)
    return order, ties(xp, scores[order])


def ties(xp: Any, ordered: Any) -> Ties:
    """Where each run of equal numbers begins and ends."""
    size = ordered.shape[0]
    place = xp.arange(size)
    changed = ordered[1:] != ordered[:-1]
    edge = xp.ones(1, bool)
    first = _running_max(xp, xp.where(xp.concatenate([edge, changed]), place, 0))
    last = size - 1 - _running_max(xp, xp.where(xp.concatenate([edge, changed[::-1]]), place, 0))[::-1]
    return Ties(first, last)


def _running_max(xp: Any, values: Any) -> Any:
    return np.maximum.accumulate(values) if xp is np else jax.lax.cummax(values)


def before(xp: Any, values: Any) -> Any:
    """Sum of the rows before each place, `(N + 1,)`; the last is the sum of all."""
    return xp.concatenate([xp.zeros(1, values.dtype), xp.cumsum(values)])


def after(xp: Any, values: Any) -> Any:
    """Sum of the rows from each place on, `(N + 1,)`; the last is 0."""
    return before(xp, values[::-1])[::-1]


def ratio(xp: Any, above: Any, below: Any, otherwise: float = 0.0) -> Any:
    """`above / below`, and `otherwise` where `below` is 0."""
    there = below > 0
    return xp.where(there, above / xp.where(there, below, 1), otherwise)


def column(name: str, what: str, values: Any, weight: Any) -> Any:
    """One finite or infinite number a row, `(N,)`, never NaN; rows of weight 0 may hold anything."""
    values = _inputs._flat(_inputs._array(name, values))
    if values.ndim != 1 or values.shape[0] == 0:
        raise InputError(f"`{name}` expected `{what}` of shape (N,), N ≥ 1, one an example, but got {values.shape}.")
    values = live(name, _inputs._widened(values), weight)
    if is_concrete(values):
        missing = np.flatnonzero(np.isnan(np.asarray(values)))
        if len(missing):
            raise InputError(f"`{name}` expected numbers, but row {missing[0]} of `{what}` is NaN. Drop those rows.")
    return values


def live(name: str, values: Any, weight: Any) -> Any:
    """`values` with rows of weight 0 replaced by copies of a live one.

    Concrete values without NaN stay as they are under a traced weight: so they are sorted once and on the host.
    """
    if weight is None or (is_concrete(values) and not is_concrete(weight) and not np.isnan(np.asarray(values)).any()):
        return values
    return _inputs.live_rows(name, values, weight)


def in_order(values: Any, order: Any) -> Any:
    """`values[order]`, by numpy where both are on the host."""
    if is_concrete((values, order)) and isinstance(order, np.ndarray):
        return np.asarray(values)[order]
    return jnp.asarray(values)[order]


def alive(name: str, value: Any, weight: Any) -> Any:
    """As `live`, for predictions that are an array or a `Predictive`; others stay as they are."""
    if isinstance(value, Predictive) and weight is not None and is_concrete((value, weight)):
        some = np.asarray(check_weight(name, weight, len(value))) > 0
        return value if some.all() else value[np.where(some, np.arange(len(value)), np.argmax(some))]
    if weight is None or not isinstance(value, jax.Array | np.ndarray | list | tuple):
        return value
    value = _inputs._array(name, value)
    return live(name, value, weight) if value.ndim and value.shape[0] == np.shape(weight)[0] else value


def per_example(name: str, score: Any, pred: Any, y: Any) -> Any:
    """`score(pred, y)` as one number a row, `(N,)`, several outputs averaged."""
    values = score(pred, y)
    if not isinstance(values, jax.Array):
        values = np.asarray(values)
    if values.ndim == 0 or values.shape[0] != np.shape(y)[0]:
        raise InputError(
            f"`{name}` expected a score with one value an example, {np.shape(y)[0]} of them, but it returned shape "
            f"{values.shape}."
        )
    values = _inputs._widened(values)
    return values.reshape(values.shape[0], -1).mean(1) if values.ndim > 1 else values
