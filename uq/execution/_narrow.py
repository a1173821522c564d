"""Products with a narrow matrix: the gradients of a layer of few outputs, which a CPU's library runs badly.

With the h (N, H) of the last hidden layer, the gradient g (N, n) of its n outputs and its weights w (H, n), they are
g wᵀ, a sum over n terms alone, and hᵀ g, whose rows are n numbers. For n = 2, mean and scale, each took as long as the
products of the wide layer before it, with a fifth of the operations; and the outputs h w themselves twice as long as a
plain sum.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._typing import Array

_TERMS = 6
"""A sum of so many terms or fewer is written out. (Of eight, on 2 cores, the library's was faster.)"""
_SIDE = 16
"""A result whose one side is so short or shorter is made with that side first. (At 16 both took the same time.)"""
_LONG = 2000
"""Terms of a sum that is taken in order: more would lose digits."""


def is_narrow(lhs: Any, rhs: Any, params: dict[str, Any]) -> bool:
    """Whether `product` has another way, for the shapes and parameters of a `dot_general`: two real matrices."""
    batch = params["dimension_numbers"][1]
    if batch != ((), ()) or lhs.ndim != 2 or rhs.ndim != 2 or not _plain(lhs, rhs, params):
        return False
    terms, rows, columns = _sizes(lhs.shape, rhs.shape, params)
    short = _over_rows(params) and 1 < min(rows, columns) <= min(_SIDE, max(rows, columns) // 2)
    return 1 < terms <= _TERMS or short or _is_pair(terms, rows, columns, params)


def product(lhs: Array, rhs: Array, **params: Any) -> Array:
    """`jax.lax.dot_general` of two matrices of which one is narrow, to rounding."""
    terms, rows, columns = _sizes(lhs.shape, rhs.shape, params)
    ((i,), (j,)), _ = params["dimension_numbers"]
    if terms <= _TERMS:
        left, right = (lhs if i == 1 else lhs.T), (rhs if j == 0 else rhs.T)
        total = left[:, :1] * right[:1]
        for t in range(1, terms):
            total = total + left[:, t : t + 1] * right[t : t + 1]
        return total
    if _is_pair(terms, rows, columns, params):
        return jnp.sum(lhs[:, :, None] * (rhs if j == 0 else rhs.T), 1)
    swap = columns < rows
    # Behind a barrier: the compiler would merge a transposition that follows with the product, and turn it again.
    short = jax.lax.optimization_barrier(jax.lax.dot_general(*((rhs, lhs) if swap else (lhs, rhs)), **params))
    return jnp.swapaxes(short, 0, 1) if swap else short


def _is_pair(terms: int, rows: int, columns: int, params: dict[str, Any]) -> bool:
    """Whether the result has two columns, of sums along the rows of the left matrix."""
    return columns == 2 < rows and _TERMS < terms <= _LONG and params["dimension_numbers"][0][0] == (1,)


def _plain(lhs: Any, rhs: Any, params: dict[str, Any]) -> bool:
    """Whether all that is asked for is the product in one dtype that a CPU computes in."""
    asked = params.get("preferred_element_type")
    dtypes = {lhs.dtype, rhs.dtype} | ({jnp.dtype(asked)} if asked is not None else set())
    return len(dtypes) == 1 and dtypes <= {jnp.dtype("float32"), jnp.dtype("float64")}


def _sizes(lhs: tuple[int, ...], rhs: tuple[int, ...], params: dict[str, Any]) -> tuple[int, int, int]:
    """How many terms each sum has, and the rows and columns of the result."""
    ((i,), (j,)), _ = params["dimension_numbers"]
    return lhs[i], lhs[1 - i], rhs[1 - j]


def _over_rows(params: dict[str, Any]) -> bool:
    """Whether the sums run over the rows of both, so that exchanging the two is a transposition of the result."""
    return params["dimension_numbers"][0] == ((0,), (0,))
