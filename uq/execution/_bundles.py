"""Trees of arrays as a few vectors, for arithmetic that treats every number alike.

A compiler makes one kernel for each leaf and operation, which costs compile time and, for small networks, time in every
step. Joined leaves cost as much as one.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array, PyTree

_JOINED = 2**14
"""Leaves of more numbers stay as they are: copying them would cost more than a kernel does."""


def bundled(tree: PyTree) -> list[Array]:
    """Each large leaf, and vectors that join the small leaves of one dtype, `(n,)`."""
    leaves = jax.tree.leaves(tree)
    return [
        leaves[group[0]] if len(group) == 1 else jnp.concatenate([leaves[i].reshape(-1) for i in group])
        for group in _groups(leaves)
    ]


def unbundled(bundles: list[Array], like: PyTree) -> PyTree:
    """The tree of the structure and shapes of `like` that `bundled` made `bundles` of."""
    leaves, structure = jax.tree.flatten(like)
    parts: list[Any] = [None] * len(leaves)
    for group, bundle in zip(_groups(leaves), bundles, strict=True):
        if len(group) == 1:
            parts[group[0]] = bundle
            continue
        ends = np.cumsum([leaves[i].size for i in group])
        for i, end in zip(group, ends, strict=True):
            shape = leaves[i].shape
            parts[i] = jax.lax.slice(bundle, (int(end) - leaves[i].size,), (int(end),)).reshape(shape)
    return jax.tree.unflatten(structure, parts)


def bundled_scalars(values: PyTree, like: PyTree) -> list[Any]:
    """One number a leaf of `like`, spread to its bundle: a number where all are equal, a vector otherwise."""
    leaves, numbers = jax.tree.leaves(like), jax.tree.leaves(values)
    spread: list[Any] = []
    for group in _groups(leaves):
        held = [numbers[i] for i in group]
        if len(set(held)) == 1:
            spread.append(held[0])
        else:
            spread.append(np.repeat(np.asarray(held, leaves[group[0]].dtype), [leaves[i].size for i in group]))
    return spread


def _groups(leaves: list[Any]) -> list[list[int]]:
    """Which leaves make each bundle, by position."""
    groups: list[list[int]] = []
    joined: dict[Any, list[int]] = {}
    for i, leaf in enumerate(leaves):
        if leaf.size > _JOINED:
            groups.append([i])
        elif leaf.dtype in joined:
            joined[leaf.dtype].append(i)
        else:
            groups.append(joined.setdefault(leaf.dtype, [i]))
    return groups
