"""Integrals and sums over outcomes of a function of all components of a mixture.

The line is cut at quantiles of every component, so that a narrow component inside a wide one is resolved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array
from ._family import Family

_TAILS = (0.5, 0.30853754, 0.15865525, 0.06680720, 0.02275013, 1.3498980e-3, 3.1671242e-5, 2.8665157e-7, 9.8658765e-10)
"""Beyond 0, ½, 1, 1½, 2, 3, 4, 5 and 6 standard deviations of a normal."""


def continuous_pieces(
    family: Family,
    weight: Array,
    parameters: tuple[Array, ...],
    function: Callable[[Array], Array],
    *,
    order: int,
    upto: float | None = None,
) -> Array:
    """∫ function(x) dx, by Gauss–Legendre quadrature between neighbouring cuts, one piece at a time.

    Where outcomes are positive it is over log x: a density may rise without limit towards 0, and neighbouring cuts may
    lie decades apart. Not beyond `upto`, where it is given.
    """
    cuts = _cuts(family, weight, parameters)
    dtype, shape = cuts.dtype, cuts.shape[1:]
    nodes, mass = (jnp.asarray(part, dtype) for part in np.polynomial.legendre.leggauss(order))
    cuts = cuts if upto is None else jnp.minimum(cuts, upto)
    if is_positive(family, parameters):
        return _pieces_of_logarithm(jnp.maximum(cuts, jnp.finfo(dtype).tiny), nodes, mass, function)

    def piece(total: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        middle, half = 0.5 * (ends[0] + ends[1]), 0.5 * (ends[1] - ends[0])
        for k in range(order):
            value = function(middle + half * nodes[k])
            total = total + jnp.where(half > 0, half * mass[k] * value, 0)
        return total, None

    return jax.lax.scan(piece, jnp.zeros(shape, dtype), (cuts[:-1], cuts[1:]))[0]


def is_positive(family: Family, parameters: tuple[Any, ...]) -> bool:
    """Whether outcomes lie above 0 whatever the parameters."""
    low = None if family.support is None else family.support(*parameters)[0]
    return isinstance(low, float) and low == 0


def _pieces_of_logarithm(cuts: Array, nodes: Array, mass: Array, function: Callable[[Array], Array]) -> Array:
    def piece(total: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        low, high = ends
        far = high > 2 * low
        near = jnp.log1p(jnp.where(far, 0, (high - low) / low))
        half = 0.5 * jnp.where(far, jnp.log(high) - jnp.log(low), near)

        def add(total: Array, node: tuple[Array, Array]) -> tuple[Array, None]:
            x = low * jnp.exp(half * (1 + node[0]))
            return total + jnp.where(half > 0, half * node[1] * x * function(x), 0), None

        return jax.lax.scan(add, total, (nodes, mass))

    return jax.lax.scan(piece, jnp.zeros(cuts.shape[1:], cuts.dtype), (cuts[:-1], cuts[1:]))[0]


def lattice(family: Family, weight: Array, parameters: tuple[Array, ...], function: Callable[[Array], Array]) -> Array:
    """Σ function(k) over whole numbers between the outermost cuts.

    Between neighbouring cuts a and b the sum over a ≤ k < b is that of the parabola through a, the middle and b:
    exact for up to two numbers, and close for a stretch over which the function changes little.
    """
    cuts = jnp.round(_cuts(family, weight, parameters, tails=_FINE))
    cuts = jnp.concatenate([cuts, cuts[-1:] + 1])

    def piece(total: Array, ends: tuple[Array, Array]) -> tuple[Array, None]:
        start, stop = ends
        size = stop - start
        half = jnp.floor(0.5 * size)
        many = size > 1
        n, h = jnp.where(many, size, 2), jnp.where(many, half, 1)
        first = n * (n - 1) / 2
        second = n * ((n - 1) * (2 * n - 1) / 6)
        last = (second - h * first) / (n * (n - h))
        middle = (n * first - second) / (h * (n - h))
        value = function(start) * jnp.where(many, n - middle - last, size)
        value = value + jnp.where(many, middle * function(start + h) + last * function(stop), 0)
        return total + jnp.where(size > 0, value, 0), None

    return jax.lax.scan(piece, jnp.zeros(cuts.shape[1:], cuts.dtype), (cuts[:-1], cuts[1:]))[0]


def _fine() -> tuple[float, ...]:
    from statistics import NormalDist

    normal = NormalDist()
    return tuple(normal.cdf(-z) for z in [*np.arange(0, 4, 0.2), *np.arange(4, 6.3, 0.5)])


_FINE = _fine()


def _cuts(family: Family, weight: Array, parameters: tuple[Array, ...], tails: tuple[float, ...] = _TAILS) -> Array:
    """Sorted along the first axis; a component of weight 0 adds the same points as another. No derivative."""
    weight, parameters = jax.lax.stop_gradient((weight, parameters))
    rank = max(leaf.ndim for leaf in parameters)
    if family.cuts is not None:
        points = family.cuts(*parameters)
    else:
        tail = jnp.asarray((*tails, *tails[1:]), weight.dtype).reshape((-1,) + (1,) * rank)
        upper = (jnp.arange(2 * len(tails) - 1) >= len(tails)).reshape(tail.shape)
        points = family.icdf(tail, upper, *parameters)
    live = jnp.broadcast_to(weight > 0, points.shape[1:])
    lowest = jnp.where(live, points, jnp.inf).min((0, 1))
    points = jnp.where(live, points, lowest)
    return jnp.sort(points.reshape(-1, *points.shape[2:]), axis=0)
