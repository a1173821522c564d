"""Leading-axis helpers for pytrees."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ._tracing import straight
from ._typing import Array, PyTree


def tree_take(tree: PyTree, index: Any) -> PyTree:
    """Index the leading axis of every leaf."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


@straight
def tree_where(condition: Array, yes: PyTree, no: PyTree) -> PyTree:
    """Choose between two equal trees along the leading axis; `condition` is `(K,)`."""

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - condition.ndim)), a, b)

    return jax.tree.map(choose, yes, no)


def tree_size(tree: PyTree) -> int:
    """How many numbers a tree holds."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def is_key(leaf: Any) -> bool:
    """Whether a leaf is a typed key array."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def is_float(leaf: Any) -> bool:
    """Whether a leaf holds floating-point numbers."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
