"""Between which of a few fixed numbers each of many falls: a binary search's answer, several times faster."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np

from . import _route

_MOST_CELLS = 1 << 14
"""Length of the longest table; knots that would need a longer one are searched."""


def place(xp: Any, knots: tuple[float, ...], values: Any) -> Any:
    """How many knots are at or below each value, that is `searchsorted(knots, values, side="right")`.

    Cells of half the smallest gap between two knots hold one at most, so that a table of cells gives the answer but
    for one knot, with which the value is then compared.

    Args:
      knots: rising, static.
      values: array of any shape.
    """
    table = _table(knots, np.dtype(values.dtype).name)
    if table is None:
        return xp.searchsorted(xp.asarray(knots, values.dtype), values, side="right")
    after, below, low, rate = table
    if xp is np:
        return _place_on_host(table, len(knots), np.asarray(values, order="C"))
    cell = (values - low) * rate
    guess = jnp.asarray(below.astype(np.int32)).take(jnp.clip(cell, 0, len(below) - 1).astype(np.int32), mode="clip")
    guess = guess + (values >= jnp.asarray(after).take(guess, mode="clip")).astype(np.int32)
    return jnp.minimum(guess, np.int32(len(knots)))


def _place_on_host(table: Any, number: int, values: np.ndarray) -> np.ndarray:
    """In blocks that stay in the cache, with no array made anew but the result."""
    after, below, low, rate = table
    found = np.empty(values.shape, np.intp)
    flat, out = values.reshape(-1), found.reshape(-1)
    size = min(_route.HOST_BLOCK, flat.size)
    cell, place, there = np.empty(size, values.dtype), np.empty(size, np.intp), np.empty(size, values.dtype)
    with np.errstate(invalid="ignore"):  # NaN falls anywhere
        for start in range(0, flat.size, _route.HOST_BLOCK):
            part, guess = flat[start : start + _route.HOST_BLOCK], out[start : start + _route.HOST_BLOCK]
            cells, places, knot = (scratch[: part.size] for scratch in (cell, place, there))
            np.subtract(part, low, out=cells)
            cells *= rate
            np.clip(cells, 0, len(below) - 1, out=cells)
            np.copyto(places, cells, casting="unsafe")
            below.take(places, out=guess, mode="clip")
            after.take(guess, out=knot, mode="clip")
            guess += part >= knot
            np.minimum(guess, number, out=guess)  # ∞ is not below the ∞ at the end
    return found


@functools.lru_cache(maxsize=64)
def _table(knots: tuple[float, ...], dtype: str) -> tuple[np.ndarray, np.ndarray, Any, Any] | None:
    """Knots and ∞; how many are at or below the left end of each cell; where cells begin; cells a unit."""
    rounded = np.asarray(knots).astype(dtype)
    wide = rounded.astype(np.float64)
    gaps = np.diff(wide)
    if len(knots) < 4 or not (gaps > 0).all() or not np.isfinite(wide).all():
        return None
    width = gaps.min() / 2
    cells = int(np.ceil(gaps.sum() / width)) + 2 if gaps.sum() < _MOST_CELLS * width else 0
    if not cells:
        return None
    # A value may be rounded into a neighbouring cell: the left ends are moved by more than that.
    below = np.searchsorted(wide, wide[0] + width * (np.arange(cells) - 0.01), side="right")
    return np.append(rounded, np.inf).astype(dtype), below, rounded[0], np.dtype(dtype).type(1 / width)
