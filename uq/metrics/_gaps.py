"""Gaps between nominal and observed probabilities: where outcomes lie among K levels, and what the gaps come to.

Two statistics of weighted rows. `GAPS` has K levels, its rows whole numbers. `AREA` is the exact integral under the
step function of the outcomes, its rows their values and ranks, so that a resample costs no sort.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _route
from ._binning import round_down
from ._estimate import ByCell, Statistic

BANK = 32
"""Outcomes drawn from each prediction beforehand, among which simulations of a calibrated model choose."""
_SORTED = 4096
"""Up to how many simulated values are ranked by a sort."""


def first_level(xp: Any, u: Any, levels: np.ndarray) -> Any:
    """How many levels are below each u, so that u ≤ levels[k] exactly when k is at least this; whole numbers.

    Among evenly spaced levels they are found by arithmetic, and what comes out too near to a level is compared with
    the levels themselves: the same answer as a binary search, an order of magnitude faster. In float32 levels are
    rounded down, which leaves every comparison as it is.
    """
    number = len(levels)
    low = levels if u.dtype == np.float64 else round_down(levels, u.dtype)
    step = (levels[-1] - levels[0]) / (number - 1) if number > 1 else 0.0
    even = number > 2 and abs(np.diff(levels) - step).max() < 1e-9 * step
    if not even:
        return xp.searchsorted(xp.asarray(low), u, side="left").astype(np.int32)
    if xp is np:
        return _first_on_host(u, low, levels[0] / step, 1 / step)
    ends = jnp.asarray(np.concatenate([[-1.0], low, [2.0]]).astype(u.dtype))
    guess = (u - levels[0].astype(u.dtype)) * np.asarray(1 / step, u.dtype) + np.asarray(1, u.dtype)
    guess = jnp.clip(guess, 0, number).astype(np.int32)
    guess = guess + (u > ends[1:].take(guess)).astype(np.int32) - (u <= ends.take(guess)).astype(np.int32)
    return jnp.clip(guess, 0, number)


def _first_on_host(u: np.ndarray, levels: np.ndarray, start: float, rate: float) -> np.ndarray:
    place = u * rate  # in units of the spacing
    place -= start
    np.clip(place, -1, len(levels), out=place)
    whole = np.rint(place)
    place -= whole
    first = whole.astype(np.intp)
    first += place > 0
    near = np.flatnonzero(np.abs(place) < np.finfo(u.dtype).eps * 8 * len(levels))
    if len(near):
        first.reshape(-1)[near] = np.searchsorted(levels, u.reshape(-1)[near], side="left")
    return np.clip(first, 0, len(levels), out=first)


def level_masses(xp: Any, first: Any, weight: Any, number: int) -> Any:
    """Sum of the weights of rows whose first level is each of K, or none, `(D, K + 1)`, from `first_level` `(N, D)`."""
    outputs = first.shape[1]
    if xp is np:
        return np.stack([np.bincount(first[:, d], weight, number + 1) for d in range(outputs)])
    cell = first + np.arange(outputs, dtype=np.int32) * np.int32(number + 1)
    empty: Any = jnp.zeros(outputs * (number + 1), weight.dtype)
    return empty.at[cell].add(jnp.broadcast_to(weight[:, None], cell.shape)).reshape(outputs, -1)


def level_shares(xp: Any, first: Any, weight: Any, number: int) -> Any:
    """Weighted share of rows at or below each of K levels, `(D, K)`, from `first_level` `(N, D)`."""
    mass = level_masses(xp, first, weight, number)
    total = weight.sum()
    return xp.cumsum(mass, axis=1)[:, :number] / xp.where(total > 0, total, 1)


# The statistics. Rows are whole numbers, `(N, D)`: the first level that is not below the outcome's u.


def _folded(xp: Any, u: Any, weight: Any, kind: str) -> Any:
    """`(N, D)`, what is compared with the levels; rows of weight 0 hold 0."""
    u = u.reshape(u.shape[0], -1)
    if kind == "interval":
        u = abs(u - 0.5) * 2
    return u if weight is None else xp.where((weight > 0)[:, None], u, 0)


def placed_on_host(u: Any, weight: Any, kind: str, levels: np.ndarray) -> np.ndarray:
    return first_level(np, _folded(np, _route.host_array(u), _host(weight), kind), levels)


def placed(u: Any, weight: Any, kind: str, levels: tuple) -> Any:
    return _placed_compiled(kind, levels, jnp.asarray(u), None if weight is None else jnp.asarray(weight))


def place_of(kind: str, levels: tuple, u: Any, weight: Any) -> Any:
    u = _folded(jnp, u, weight, kind)
    return jnp.where(jnp.isnan(u), -1, first_level(jnp, u, np.array(levels)))  # −1: NaN, and so will be the statistic


_placed_compiled = jax.jit(place_of, static_argnums=(0, 1))


def _host(weight: Any) -> Any:
    return None if weight is None else np.asarray(weight, np.float64)


def _gap(xp: Any, rows: Any, weight: Any, levels: tuple) -> Any:
    at = xp.asarray(np.array(levels).astype(weight.dtype))
    if xp is np:
        return level_shares(np, rows, weight, len(levels)) - at
    lost = ((rows < 0) & (weight > 0)[:, None]).any()
    return jnp.where(lost, jnp.nan, level_shares(jnp, rows, weight, len(levels)) - at)


def _gaps(xp: Any, rows: Any, weight: Any, *, levels: tuple, norm: str) -> Any:
    return norm_of_gaps(xp, _gap(xp, rows, weight, levels), np.array(levels), norm).mean()


def _gaps_with_influence(xp: Any, rows: Any, weight: Any, *, levels: tuple, norm: str) -> tuple[Any, Any]:
    gap = _gap(xp, rows, weight, levels)
    value = norm_of_gaps(xp, gap, np.array(levels), norm).mean()
    slope = slope_of_gaps(xp, gap, np.array(levels), norm)  # (D, K)
    at = xp.asarray(np.array(levels).astype(weight.dtype))
    # Σ_{k ≥ row} slope_k, the part of Σ slope_k 1{u ≤ t_k}; nothing beyond the last level
    later = xp.cumsum(slope[:, ::-1], axis=1)[:, ::-1]
    later = xp.concatenate([later, later[:, :1] * 0], axis=1) - (slope * (gap + at)).sum(1, keepdims=True)
    if rows.shape[1] == 1:  # with equal weights the masses are those that the gaps are made of
        return value, ByCell(later[0], level_masses(xp, rows, weight * weight, len(levels))[0])
    rows = rows if xp is np else jnp.maximum(rows, 0)
    return value, xp.take_along_axis(later.T, rows, axis=0).mean(1)


def _gaps_of_uniform(key: Any, rows: Any, *, levels: tuple, norm: str) -> Any:
    return first_level(jnp, jax.random.uniform(key, rows.shape), np.array(levels))


GAPS = Statistic(_gaps, simulate=_gaps_of_uniform, together=_gaps_with_influence)


def norm_of_gaps(xp: Any, gap: Any, levels: np.ndarray, norm: str) -> Any:
    """`(…,)` from gaps `(…, K)`."""
    if norm == "l1":
        return abs(gap).mean(-1)
    if norm == "max":
        return abs(gap).max(-1)
    if norm == "l2":
        square = xp.square(gap).mean(-1)
        return xp.where(square > 0, xp.sqrt(xp.where(square > 0, square, 1)), 0)
    return _pieces(xp, gap, levels)[0].sum(-1)


def slope_of_gaps(xp: Any, gap: Any, levels: np.ndarray, norm: str) -> Any:
    """Derivative of `norm_of_gaps` by each gap, `(…, K)`."""
    number = gap.shape[-1]
    if norm == "l1":
        return xp.sign(gap) / number
    if norm == "max":
        most = abs(gap).argmax(-1)[..., None] == np.arange(number)
        return xp.sign(gap) * most.astype(gap.dtype)
    if norm == "l2":
        size = norm_of_gaps(xp, gap, levels, norm)[..., None]
        return gap / (number * xp.where(size > 0, size, 1))
    _, left, right = _pieces(xp, gap, levels)
    none = gap[..., :1] * 0
    return xp.sign(gap) * (xp.concatenate([left, none], -1) + xp.concatenate([none, right], -1))


def _pieces(xp: Any, gap: Any, levels: np.ndarray) -> tuple[Any, Any, Any]:
    """Areas between neighbouring levels, and their derivatives by the sizes of the left and the right gap."""
    step = xp.asarray(np.diff(levels).astype(gap.dtype))
    a, b = abs(gap[..., :-1]), abs(gap[..., 1:])
    crossing = gap[..., :-1] * gap[..., 1:] < 0
    both = xp.where(a + b > 0, a + b, 1)
    area = xp.where(crossing, (a * a + b * b) / (2 * both), (a + b) / 2)
    left = xp.where(crossing, (a * a + 2 * a * b - b * b) / (2 * both * both), 0.5)
    right = xp.where(crossing, (b * b + 2 * a * b - a * a) / (2 * both * both), 0.5)
    return step * area, step * left, step * right


# The exact area


class Ranked(NamedTuple):
    """Values in [0, 1] with their ranks."""

    u: Any
    """`(N, D)`."""
    place: Any
    """Rank of each value among the distinct ones of its column, from 0, `(N, D)`."""


def ranked_on_host(u: Any, weight: Any, kind: str) -> Ranked:
    u = _folded(np, _route.host_array(u), _host(weight), kind)
    place = np.stack([np.unique(column, return_inverse=True)[1] for column in u.T], axis=1)
    return Ranked(u, place.astype(np.int32))


def ranked(u: Any, weight: Any, kind: str) -> Ranked:
    return _ranked_compiled(kind, jnp.asarray(u), None if weight is None else jnp.asarray(weight))


def _ranked(kind: str, u: Any, weight: Any) -> Ranked:
    u = _folded(jnp, u, weight, kind)
    return Ranked(u, jax.vmap(_places, 1, 1)(u))


def _places(column: Any) -> Any:
    order = jnp.argsort(column)
    new = jnp.diff(column[order]) > 0
    ids = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(new.astype(jnp.int32))])
    return jnp.zeros(column.shape, jnp.int32).at[order].set(ids)


_ranked_compiled = jax.jit(_ranked, static_argnums=0)


def _segments(xp: Any, rows: Ranked, weight: Any) -> tuple[Any, ...]:
    """Ends of the pieces on which the step function is constant, its height, and where the diagonal crosses it."""
    size, outputs = rows.u.shape
    mass: Any
    knots: Any
    if xp is np:
        live = weight > 0
        mass = np.stack([np.bincount(rows.place[:, d], weight, size) for d in range(outputs)])
        knots = np.zeros((outputs, size))
        for d in range(outputs):
            knots[d, rows.place[live, d]] = rows.u[live, d]
        knots = np.maximum.accumulate(knots, axis=1)
    else:
        full = jnp.broadcast_to(weight[:, None], rows.u.shape)
        column = jnp.broadcast_to(jnp.arange(outputs), rows.u.shape)
        mass = jnp.zeros((outputs, size), weight.dtype).at[column, rows.place].add(full)
        knots = jnp.zeros((outputs, size), rows.u.dtype).at[column, rows.place].max(rows.u)
        knots = jax.lax.cummax(knots, axis=1)
    total = weight.sum()
    height = xp.cumsum(mass, axis=1) / xp.where(total > 0, total, 1)
    none = knots[:, :1] * 0
    left, right = xp.concatenate([none, knots], axis=1), xp.concatenate([knots, none + 1], axis=1)
    height = xp.concatenate([none, height.astype(knots.dtype)], axis=1)
    return left, right, height, xp.clip(height, left, right)


def _area(xp: Any, rows: Ranked, weight: Any) -> Any:
    return _area_of(*_segments(xp, rows, weight))


def _area_of(left: Any, right: Any, height: Any, cross: Any) -> Any:
    below = (cross - left) * (2 * height - left - cross)
    above = (right - cross) * (right + cross - 2 * height)
    return ((below + above) / 2).sum(1).mean()


def _area_with_influence(xp: Any, rows: Ranked, weight: Any) -> tuple[Any, Any]:
    """The area, and ∫ sign(G(t) − t) (1{u ≤ t} − G(t)) dt for each row."""
    left, right, height, cross = _segments(xp, rows, weight)
    signed = (cross - left) - (right - cross)
    later = xp.cumsum(signed[:, ::-1], axis=1)[:, ::-1][:, 1:] - (signed * height).sum(1, keepdims=True)
    return _area_of(left, right, height, cross), xp.take_along_axis(later.T, rows.place, axis=0).mean(1)


def _area_of_uniform(key: Any, rows: Ranked) -> Ranked:
    """Uniform values; many of them are ranked by N cells, which moves a value by 1 / N at most, without a sort."""
    size = rows.u.shape[0]
    u = jax.random.uniform(key, rows.u.shape, rows.u.dtype)
    if size <= _SORTED:
        return Ranked(u, jax.vmap(_places, 1, 1)(u))
    return Ranked(u, jnp.minimum((u * size).astype(jnp.int32), size - 1))


AREA = Statistic(_area, simulate=_area_of_uniform, together=_area_with_influence)
