"""Bins of probabilities: B half-open intervals, the last one closed, edges in float64; ties never part.

Bins of equal width have edges k / B and depend on the probability alone. Bins of equal mass hold as equal a share of
the weight as ties allow, so they depend on the weights, and a bootstrap resample has its own: what is kept of a row is
the rank of its value, from which a cumulated sum finds the bin.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _route
from ._events import Events


class Rows(NamedTuple):
    """Statements with their places; every leaf is `(N,)`, or `(N, C)` one a class."""

    p: Any
    event: Any
    group: Any
    place: Any
    """The bin, for bins of equal width; else the rank of (group, p) among all that differ."""


class Cells(NamedTuple):
    """Sums over the rows of each of G · B cells, `(G · B,)`."""

    weight: Any
    gap: Any
    """Σ w (event − p), summed as such: small gaps keep their digits."""
    event: Any = None
    """Σ w event, where asked for."""


def placed(stated: Events, bins: int, binning: str) -> Rows:
    """`stated` with the place of each row found once, in the precision that came."""
    if _route.on_host(stated):
        stated = Events(*(np.asarray(part) for part in stated))
        return place(np, stated, bins, binning)
    return _route._compiled(place, (("binning", binning), ("bins", bins)))(stated)


def place(xp: Any, stated: Events, bins: int, binning: str) -> Rows:
    """`placed`, in numpy or in jax."""
    place = _bin_of(xp, stated.p, bins) if binning == "width" else _rank(xp, stated.p, stated.group)
    return Rows(*stated, place)


def cells_of(xp: Any, rows: Rows, weight: Any, *, bins: int, binning: str, groups: int) -> Any:
    """The cell of each row, group · B + bin, of the shape of `rows.p`."""
    if binning == "width":
        return rows.place if groups == 1 else rows.group * bins + rows.place
    weight = _spread(xp, weight, rows)
    share = add_up(xp, rows.group, weight, groups)
    start = xp.cumsum(share) - share
    upto = xp.cumsum(add_up(xp, rows.place, weight, rows.p.size))
    number: Any = bins
    if binning == "sweep":
        events = xp.cumsum(add_up(xp, rows.place, weight * rows.event.astype(weight.dtype), rows.p.size))
        number = _sweep(xp, upto, events, start, share, bins)[rows.group]
    # A row is in bin k where the weight up to its value lies in (k, k + 1] · share / number.
    of = xp.where(share > 0, share, xp.ones_like(share))[rows.group]
    found = (upto[rows.place] - start[rows.group]) * xp.asarray(number, upto.dtype) / of
    found = xp.ceil(found * (1 - 2 * xp.finfo(found.dtype).eps)).astype(np.int32) - 1
    return rows.group * bins + xp.clip(found, 0, number - 1)


def cell_sums(xp: Any, rows: Rows, weight: Any, cell: Any, size: int, *, events: bool = True) -> Cells:
    """Sums over the rows of each cell."""
    weight = _spread(xp, weight, rows)
    parts = [weight, weight * own_gap(rows, weight)]
    if events:
        parts.append(weight * rows.event.astype(weight.dtype))
    return Cells(*(add_up(xp, cell, part, size) for part in parts))


def own_gap(rows: Rows, weight: Any) -> Any:
    """event − p of each row, in the precision of `weight`."""
    return rows.event.astype(weight.dtype) - rows.p.astype(weight.dtype)


def add_up(xp: Any, cell: Any, values: Any, size: int) -> Any:
    """Sum of the values in each of `size` cells."""
    if xp is np:
        return np.bincount(cell.reshape(-1), values.reshape(-1), size)
    return jnp.zeros(size, values.dtype).at[cell.reshape(-1)].add(values.reshape(-1))


def edges_of(xp: Any, rows: Rows, weight: Any, *, bins: int, binning: str, groups: int) -> Any:
    """Edges, `(G, B + 1)`; of bins of equal mass, the values at which ranks pass k / B of the weight."""
    if binning == "width":
        return xp.broadcast_to(xp.asarray(round_up(np.arange(bins + 1) / bins, rows.p.dtype)), (groups, bins + 1))
    size = rows.p.size
    share = add_up(xp, rows.group, _spread(xp, weight, rows), groups)
    start = xp.cumsum(share) - share
    upto = xp.cumsum(add_up(xp, rows.place, _spread(xp, weight, rows), size))
    place, p = rows.place.reshape(-1), rows.p.reshape(-1)
    value: Any = xp.ones(size, p.dtype)
    if xp is np:
        value[place] = p
    else:
        value = value.at[place].set(p)
    levels = xp.asarray(np.arange(1, bins), upto.dtype)
    inner = start[:, None] + levels * share[:, None] / bins
    inner = inner * (1 + 2 * xp.finfo(inner.dtype).eps)
    inner = value[xp.clip(xp.searchsorted(upto, inner, side="right"), 0, size - 1)]
    inner = xp.where(share[:, None] > 0, inner, xp.ones_like(inner))
    ends = xp.zeros((groups, 1), inner.dtype), xp.ones((groups, 1), inner.dtype)
    return xp.concatenate([ends[0], inner, ends[1]], axis=1)


def round_up(values: np.ndarray, dtype: Any) -> np.ndarray:
    """The smallest numbers of `dtype` not below `values`: `p ≥ values` has the same answer in both."""
    cast = values.astype(dtype)
    return np.where(cast.astype(np.float64) < values, np.nextafter(cast, np.array(np.inf, dtype)), cast)


def round_down(values: np.ndarray, dtype: Any) -> np.ndarray:
    """The largest numbers of `dtype` not above `values`: `p ≤ values` has the same answer in both."""
    return -round_up(-values, dtype)


def _spread(xp: Any, weight: Any, rows: Rows) -> Any:
    """`weight` in the shape of the rows."""
    return weight if rows.p.ndim == 1 else xp.broadcast_to(weight[:, None], rows.p.shape)


def _bin_of(xp: Any, p: Any, bins: int) -> Any:
    """`clip(searchsorted(edges, p, "right") − 1, 0, B − 1)`, int32."""
    edges = round_up(np.arange(bins + 1) / bins, p.dtype)
    if xp is not np:
        method = "compare_all" if bins <= 64 else "scan"
        return jnp.searchsorted(jnp.asarray(edges[1:-1]), p, side="right", method=method).astype(np.int32)
    scaled = p * np.asarray(bins, p.dtype)
    at = np.clip(scaled.astype(np.intp), 0, bins - 1)
    near = np.abs(scaled - np.rint(scaled)) <= 4 * bins * np.finfo(p.dtype).eps  # rounding may have moved these
    if near.any():
        at[near] = np.clip(np.searchsorted(edges, p[near], side="right") - 1, 0, bins - 1)
    return at


def _rank(xp: Any, p: Any, group: Any) -> Any:
    """Rank of each (group, p) among those that differ, int32, from 0."""
    flat, of = p.reshape(-1), group.reshape(-1)
    order = xp.lexsort((flat, of))
    ranked, within = flat[order], of[order]
    new = (ranked[1:] != ranked[:-1]) | (within[1:] != within[:-1])
    rank = xp.concatenate([xp.zeros(1, np.int32), xp.cumsum(new).astype(np.int32)])
    if xp is np:
        found = np.empty_like(rank)
        found[order] = rank
    else:
        found = jnp.zeros_like(rank).at[order].set(rank)
    return found.reshape(p.shape)


def _sweep(xp: Any, upto: Any, events: Any, start: Any, share: Any, most: int) -> Any:
    """For each group, the most bins of equal mass up to which frequencies never fall, `(G,)` int32."""
    upto = xp.concatenate([xp.zeros(1, upto.dtype), upto])
    events = xp.concatenate([xp.zeros(1, events.dtype), events])
    steps = xp.asarray(np.arange(most + 1), upto.dtype)

    def rising(number: Any, start: Any, share: Any) -> Any:
        level = start + xp.minimum(steps, number) * share / number
        end = xp.searchsorted(upto, level * (1 + 2 * xp.finfo(level.dtype).eps), side="right") - 1
        weight, event = xp.diff(upto[end]), xp.diff(events[end])
        some = weight > 0
        rate = xp.where(some, event / xp.where(some, weight, xp.ones_like(weight)), xp.zeros_like(weight) - 1)
        highest = np.maximum.accumulate(rate) if xp is np else jax.lax.cummax(rate)
        return (~some | (rate >= highest)).all()

    if xp is np:
        found = np.ones(len(share), np.int32)
        for g in range(len(share)):
            while found[g] < most and share[g] > 0 and rising(np.float64(found[g] + 1), start[g], share[g]):
                found[g] += 1
        return found

    def most_of(start: Any, share: Any) -> Any:
        more = lambda number: (number < most) & rising((number + 1).astype(upto.dtype), start, share)  # noqa: E731
        return jax.lax.while_loop(more, lambda number: number + 1, jnp.int32(1))

    return jax.vmap(most_of)(start, share)
