"""Conformalised quantile regression: an interval of the model's own, moved until it covers."""

from __future__ import annotations

from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from ..metrics import _forecast, _inputs
from ..predictive import Predictive
from ._procedure import Score, kept, xp_of
from ._rank import fraction
from .scores import _mean_of_each, arrays, ratio, times


@kept
def cqr(base: float = 0.9) -> Score:
    """max(lower − y, y − upper): the model's own interval, each end moved by the same distance, out or in.

    Args:
      base: level of the central interval that is moved, where predictions are distributions; best near the level asked
        for, and valid for any. Pairs bring their own.

    Predictions: a `Predictive`, a numpyro or frozen scipy distribution, draws `(M, N)` or `(M, N, D)`, or a pair of
    arrays (lower, upper). An interval moved in further than it is wide is its middle.

    Raises:
      InputError: ends that cross, a base outside (0, 1).
    References:
      romano2019, eq. 6 and theorem 1. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.split(uq.conformal.cqr())
      >>> state = procedure.fit((np.zeros(3), np.ones(3)), np.array([0.5, -1.0, 1.25]))
      >>> lower, upper = procedure.apply(state, (np.zeros(1), np.full(1, 2.0)), level=0.75)
      >>> float(lower[0]), float(upper[0])
      (-1.0, 3.0)
    """
    fraction(base)

    def parts(pred: Any, ndim: int) -> tuple:
        return _ends_of("cqr", pred, base, ndim)

    def of(parts: tuple, y: Any) -> Any:
        lower, upper = parts
        return xp_of(parts).maximum(lower - y, y - upper)

    def ends(parts: tuple, q: Any) -> tuple[Any, Any]:
        lower, upper = parts
        q = xp_of(parts, q).maximum(q, (lower - upper) / 2)
        return lower - q, upper + q

    return Score("cqr", parts, of, ends, _mean_of_each)


@kept
def cqr_r(base: float = 0.9) -> Score:
    """max(lower − y, y − upper) / (upper − lower): as `cqr`, each end moved by a fraction of the interval's width.

    Args:
      base: as in `cqr`.

    Predictions: as in `cqr`. Where the interval is a point, only that conforms.

    Raises:
      InputError: as `cqr`.
    References:
      sesia2020 (CQR-r). Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.split(uq.conformal.cqr_r())
      >>> state = procedure.fit((np.zeros(3), np.ones(3)), np.array([0.5, -1.0, 1.25]))
      >>> lower, upper = procedure.apply(state, (np.zeros(1), np.full(1, 2.0)), level=0.75)
      >>> float(lower[0]), float(upper[0])
      (-2.0, 4.0)
    """
    fraction(base)

    def parts(pred: Any, ndim: int) -> tuple:
        return _ends_of("cqr_r", pred, base, ndim)

    def of(parts: tuple, y: Any) -> Any:
        lower, upper = parts
        return ratio(xp_of(parts).maximum(lower - y, y - upper), upper - lower)

    def ends(parts: tuple, q: Any) -> tuple[Any, Any]:
        lower, upper = parts
        move = times(xp_of(parts, q).maximum(q, -0.5), upper - lower)
        return lower - move, upper + move

    return Score("cqr_r", parts, of, ends, _mean_of_each)


@kept
def uacqr(kind: Literal["S", "P"] = "S", base: float = 0.9) -> Score:
    """As `cqr`, moved by what the members disagree about: their own quantiles decide where intervals widen.

    - "S": each end moves by a multiple of the standard deviation of the members' quantiles at that end, starting from
      their mean. max((lower − y) / s_lower, (y − upper) / s_upper).
    - "P": ends are order statistics of the members' quantiles, the t-th narrowest of both: t from 1 to K. Outcomes
      beyond all members count K + 1: if too many are, intervals are infinite. It takes large K and members that
      disagree.

    Args:
      kind: as above.
      base: as in `cqr`; of each member's own interval.

    Predictions: a `Predictive`, or a pair of arrays (lower, upper) of the members, `(M, N)` or `(M, N, D)`. Members of
    weight 0 are left out; "P" takes the others as equal.

    Raises:
      InputError: one member, predictions without members, ends that cross.
    References:
      rossellini2024. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.split(uq.conformal.uacqr())
      >>> members = (np.array([[-1.0] * 3, [1.0] * 3]), np.array([[2.0] * 3, [4.0] * 3]))
      >>> state = procedure.fit(members, np.array([0.5, -2.0, 4.0]))
      >>> lower, upper = procedure.apply(state, members, level=0.75)
      >>> lower.tolist(), upper.tolist()
      ([-2.0, -2.0, -2.0], [5.0, 5.0, 5.0])
    """
    _inputs.choice("uacqr", "kind", kind, ("S", "P"))
    fraction(base)

    def spread(pred: Any, ndim: int) -> tuple:
        lower, upper, weight = _members_of(pred, base, ndim)
        xp = xp_of(lower, upper)
        with np.errstate(invalid="ignore"):
            centre = [(weight * end).sum(0) for end in (lower, upper)]
            gaps = [
                xp.sqrt((weight * (end - mid) ** 2).sum(0)) for end, mid in zip((lower, upper), centre, strict=True)
            ]
        return (*centre, *gaps)

    def spread_of(parts: tuple, y: Any) -> Any:
        lower, upper, low, high = parts
        return xp_of(parts).maximum(ratio(lower - y, low), ratio(y - upper, high))

    def spread_ends(parts: tuple, q: Any) -> tuple[Any, Any]:
        lower, upper, low, high = parts
        xp = xp_of(parts, q)
        total = xp.where(low + high > 0, low + high, 1)
        q = xp.maximum(q, xp.where(low + high > 0, (lower - upper) / total, 0))
        return lower - times(q, low), upper + times(q, high)

    def order(pred: Any, ndim: int) -> tuple:
        lower, upper, weight = _members_of(pred, base, ndim)
        xp = xp_of(lower, upper)
        live = xp.broadcast_to(weight > 0, lower.shape)
        lower, upper = (xp.sort(xp.where(live, end, np.inf), axis=0) for end in (lower, upper))
        return lower, upper, live.sum(0).astype(lower.dtype)

    def order_of(parts: tuple, y: Any) -> Any:
        lower, upper, number = parts
        xp = xp_of(parts)
        below, beyond = (lower <= y).sum(0).astype(lower.dtype), (upper < y).sum(0).astype(lower.dtype)
        return xp.maximum(number + 1 - below, 1 + beyond)

    def order_ends(parts: tuple, q: Any) -> tuple[Any, Any]:
        lower, upper, number = parts
        xp = xp_of(parts, q)
        rising = lower[:, None] if False else lower  # (M, …), sorted
        size = lower.shape[0]
        # The narrowest pair that is not crossed bounds what an empty set becomes.
        places = xp.arange(1, size + 1, dtype=lower.dtype).reshape((-1,) + (1,) * (lower.ndim - 1))
        low_at = _take(xp, rising, number - places)
        high_at = _take(xp, upper, places - 1)
        open_ = (low_at <= high_at) & (places <= number)
        first = xp.where(open_, places, xp.asarray(np.inf, lower.dtype)).min(0)
        q = xp.maximum(xp.floor(xp.broadcast_to(xp.asarray(q, lower.dtype), number.shape)), first)
        beyond = q > number
        q = xp.where(beyond, number, q)
        low, high = _take(xp, rising, (number - q)[None])[0], _take(xp, upper, (q - 1)[None])[0]
        return xp.where(beyond, -np.inf, low), xp.where(beyond, np.inf, high)

    if kind == "S":
        return Score("uacqr", spread, spread_of, spread_ends, _mean_of_each)
    return Score("uacqr", order, order_of, order_ends)


def _take(xp: Any, ordered: Any, place: Any) -> Any:
    """Row number `place` of each column, from 0."""
    place = xp.clip(place, 0, ordered.shape[0] - 1).astype(int)
    return xp.take_along_axis(ordered, place, axis=0)


def _ends_of(name: str, pred: Any, base: float, ndim: int) -> tuple[Any, Any]:
    """Lower and upper ends `(N,)` or `(N, D)` of the model's own interval."""
    if _inputs.is_pair(pred):
        lower, upper = arrays(name, pred, ("lower", "upper"), ndim, infinite=True)
        _check_order(name, lower, upper)
        return lower, upper
    if not _forecast.is_forecast(pred) and np.ndim(pred) != ndim + 1:
        raise InputError(
            f"`{name}` expected a Predictive, a distribution, draws with {ndim + 1} axes or a pair (lower, upper), but "
            f"got an array of shape {np.shape(pred)}."
        )
    if isinstance(pred, Predictive):
        lower, upper = pred.interval(float(fraction(base)))
        return lower, upper
    tail = (1 - fraction(base)) / 2
    lower, upper = _forecast.forecast(name, pred).quantile(np.array([float(tail), float(1 - tail)]))
    return _inputs.floating(lower, upper)


def _members_of(pred: Any, base: float, ndim: int) -> tuple[Any, Any, Any]:
    """Lower and upper ends of each member's own interval, `(M, N)` or `(M, N, D)`, and weights that broadcast."""
    lower: Any
    upper: Any
    weight: Any
    if _inputs.is_pair(pred):
        lower, upper = arrays("uacqr", pred, ("lower", "upper"), ndim + 1)
        _check_order("uacqr", lower, upper)
        weight = np.full((lower.shape[0],) + (1,) * ndim, 1 / lower.shape[0], lower.dtype)
    elif isinstance(pred, Predictive):
        size, num = pred.num_members, len(pred)
        rows = Predictive(pred.outputs.reshape(1, size * num, *pred.outputs.shape[2:]), pred.likelihood)
        live = jnp.broadcast_to(pred.weight if pred.weight.ndim == 2 else pred.weight[:, None], (size, num))
        lower, upper = (end.reshape(size, num, *end.shape[1:]) for end in rows.interval(float(fraction(base))))
        weight = live.reshape((size, num) + (1,) * (lower.ndim - 2))
        lower, upper = (jnp.where(weight > 0, end, 0) for end in (lower, upper))
        weight = weight.astype(lower.dtype)
    else:
        raise InputError(
            "`uacqr` expected a Predictive, or a pair (lower, upper) of the members' own quantiles, (M, N): it "
            "looks at what members disagree about."
        )
    if lower.shape[0] < 2:
        raise InputError("`uacqr` expected at least two members, but there is one: use `cqr`.")
    return lower, upper, weight


def _check_order(name: str, lower: Any, upper: Any) -> None:
    if is_concrete((lower, upper)) and (np.asarray(lower) > np.asarray(upper)).any():
        place = tuple(int(i) for i in np.argwhere(np.asarray(lower) > np.asarray(upper))[0])
        raise InputError(
            f"`{name}` expected (lower, upper) with lower ≤ upper, but at {place} they are {lower[place]} and "
            f"{upper[place]}: sort them first."
        )
