"""Quantiles of mixtures, by bisection between the smallest and the largest quantile of a component."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._typing import Array
from ._family import Family
from ._weighted import mixture_log_prob, mixture_mean


def _beyond(family: Family, upper: Array, weight: Array, parameters: tuple[Array, ...], y: Array) -> Array:
    """The mixture's probability on the tail's side of `y`."""
    below, above = mixture_mean(family.cdf(y, *parameters), weight), mixture_mean(family.sf(y, *parameters), weight)
    return jnp.where(upper, above, below)


def on_line(family: Family, tail: Array, upper: Array, weight: Array, parameters: Any, low: Any, high: Any) -> Array:
    """Bisection over the ordered floating-point numbers between component quantiles; the implicit derivative."""
    side = jnp.where(upper, -1, 1).astype(tail.dtype)

    def excess(y: Array, tail: Array, weight: Array, *parameters: Array) -> Array:
        return side * (_beyond(family, upper, weight, parameters, y) - tail)

    still = jax.lax.stop_gradient((tail, weight, *parameters))

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = (low & high) + ((low ^ high) >> 1)
        right = excess(_from_order(middle, tail.dtype), *still) < 0
        return jnp.where(right, middle, low), jnp.where(right, high, middle)

    shape = jnp.broadcast_shapes(low.shape, tail.shape)
    ends = (jnp.broadcast_to(_to_order(low), shape), jnp.broadcast_to(_to_order(high), shape))
    ends = jax.lax.fori_loop(0, 8 * tail.dtype.itemsize + 1, halve, ends)
    # Neighbouring numbers remain; where the bracket was one point, or rounding decides, the upper end stands.
    root = jax.lax.stop_gradient(_from_order(ends[1], tail.dtype))
    density = jnp.exp(mixture_log_prob(family.log_prob(root, *still[2:]), still[1]))
    smooth = density > 0
    gap = excess(root, tail, weight, *parameters)
    slope = (gap - jax.lax.stop_gradient(gap)) / jnp.where(smooth, density, 1)
    return root - jnp.where(smooth, slope, 0)


def _to_order(value: Array) -> Array:
    """Integers in the order of floating-point numbers."""
    kind = jnp.int64 if value.dtype.itemsize == 8 else jnp.int32
    bits = jax.lax.bitcast_convert_type(value, kind)
    return bits ^ ((bits >> (8 * value.dtype.itemsize - 1)) & jnp.iinfo(kind).max)


def _from_order(order: Array, dtype: Any) -> Array:
    bits = order ^ ((order >> (8 * order.dtype.itemsize - 1)) & jnp.iinfo(order.dtype).max)
    return jax.lax.bitcast_convert_type(bits, dtype)


def on_lattice(family: Family, tail: Array, upper: Array, weight: Array, parameters: Any, low: Any, high: Any) -> Array:
    """The smallest whole number with P(Y ≤ k) ≥ level, by bisection; rounding does not move it past a tie."""
    slack = 8 * jnp.finfo(tail.dtype).eps * tail
    tail, weight, *parameters = jax.lax.stop_gradient((tail, weight, *parameters))

    def halve(_: Any, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = jnp.floor(0.5 * (low + high))
        beyond = _beyond(family, upper, weight, tuple(parameters), middle)
        reached = jnp.where(upper, beyond <= tail + slack, beyond >= tail - slack)
        return jnp.where(reached, low, jnp.minimum(middle + 1, high)), jnp.where(reached, middle, high)

    shape = jnp.broadcast_shapes(low.shape, tail.shape)
    bracket = (jnp.broadcast_to(low, shape), jnp.broadcast_to(high, shape))
    return jax.lax.fori_loop(0, 64, halve, bracket)[1]
