"""Sums that do not depend on the order in which they were formed: pairs (hi, lo) of floating numbers.

A pair carries twice the digits of its dtype, 48 bits for float32 and 106 for float64, so that merging states in any
order, over batches or devices, gives the same number to far beyond what is printed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Sum(NamedTuple):
    """The unevaluated sum hi + lo, with |lo| at most half a unit in the last place of hi. Finite numbers only."""

    hi: Any
    lo: Any


def of(xp: Any, values: Any) -> Sum:
    """Plain numbers as pairs."""
    return Sum(values, xp.zeros_like(values))


def add(a: Sum, b: Sum) -> Sum:
    """a + b; commutative, and associative to the square of the rounding unit."""
    total, error = _two_sum(a.hi, b.hi)
    return _renormalised(total, error + (a.lo + b.lo))


def multiply(a: Sum, b: Sum) -> Sum:
    """a · b."""
    product, error = _two_product(a.hi, b.hi)
    return _renormalised(product, error + (a.hi * b.lo + a.lo * b.hi))


def negative(a: Sum) -> Sum:
    """−a."""
    return Sum(-a.hi, -a.lo)


def total(xp: Any, values: Sum) -> Sum:
    """Sum over the leading axis, by halving."""
    size = values.hi.shape[0]
    if size == 0:
        zero = xp.zeros(values.hi.shape[1:], values.hi.dtype)
        return Sum(zero, zero)
    while size > 1:
        half = size // 2
        both = add(Sum(values.hi[:half], values.lo[:half]), Sum(values.hi[half : 2 * half], values.lo[half : 2 * half]))
        if size % 2:
            both = Sum(
                xp.concatenate([both.hi, values.hi[-1:]]),
                xp.concatenate([both.lo, values.lo[-1:]]),
            )
        values, size = both, half + size % 2
    return Sum(values.hi[0], values.lo[0])


def cells(xp: Any, values: Any, cell: Any, count: int) -> Sum:
    """Sums of the plain numbers `(N,)` that share a cell, `(count,)`; within one batch in their own precision."""
    if xp is np:
        hi: Any = np.bincount(cell, values, count).astype(values.dtype, copy=False)
    else:
        hi = jnp.zeros(count, values.dtype).at[cell].add(values)
    return of(xp, hi)


def counts(xp: Any, cell: Any, live: Any, count: int) -> Any:
    """How many live rows fall in each cell, whole numbers `(count,)`."""
    if xp is np:
        return np.bincount(cell[live], minlength=count).astype(np.int64)
    return jnp.zeros(count, jnp.int32).at[cell].add(live.astype(jnp.int32))


def all_reduce(values: Sum, axis_name: Any) -> Sum:
    """The sum over devices of a mapped axis, as pairs."""
    return total(jnp, jax.tree.map(lambda leaf: jax.lax.all_gather(leaf, axis_name), values))


def to_host(a: Sum) -> Sum:
    """The pair in float64."""
    hi, lo = (np.asarray(part, np.float64) for part in a)
    return Sum(*_two_sum(hi, lo))


def to_device(a: Sum) -> Sum:
    """The pair in the device's precision: what rounding hi leaves over goes to lo."""
    if isinstance(a.hi, jax.Array):
        return a
    kind = jnp.result_type(float)
    hi = np.asarray(a.hi).astype(kind)
    return Sum(jnp.asarray(hi), jnp.asarray((a.hi - hi.astype(np.float64)) + a.lo, kind))


def value(xp: Any, a: Sum) -> Any:
    """The number itself: in float64 on the host."""
    if xp is np:
        return np.asarray(a.hi, np.float64) + np.asarray(a.lo, np.float64)
    return a.hi + a.lo


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b and its rounding error, exactly (Knuth)."""
    s = a + b
    back = s - a
    return s, (a - (s - back)) + (b - back)


def _renormalised(s: Any, error: Any) -> Sum:
    hi = s + error
    return Sum(hi, error - (hi - s))


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """a · b and its rounding error, exactly (Dekker, Veltkamp)."""
    p = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


def _split(a: Any) -> tuple[Any, Any]:
    factor = a.dtype.type(134217729 if a.dtype == np.float64 else 4097)
    c = factor * a
    high = c - (c - a)
    return high, a - high
