"""Where a metric is computed: on the host in float64 with numpy, or on the device with jax, in its own precision.

Host arrays take the host: a first call costs no compilation. So do small concrete jax arrays on the CPU, without a
copy. Everything traced, large or on another device is computed by jax, compiled.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import is_concrete

_SMALL = 200_000
"""Largest number of elements of a concrete jax array on the CPU that is computed on the host."""

HOST_BLOCK = 8192
"""Numbers that the host looks at in one go where it can: few enough for its cache, and for memory that is used again
rather than asked for anew."""


def on_host(*values: Any) -> bool:
    """Whether everything given is better computed by numpy: the one rule, by kind, backend and size."""
    leaves = [leaf for leaf in jax.tree.leaves(values) if isinstance(leaf, jax.Array)]
    if not is_concrete(leaves):
        return False
    return all(leaf.size <= _SMALL and _on_cpu(leaf) for leaf in leaves)


def _on_cpu(leaf: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in leaf.devices())


def numeric(*values: Any) -> Any:
    """numpy or jax.numpy, by `on_host`."""
    return np if on_host(*values) else jnp


def host_array(value: Any) -> np.ndarray:
    """A numpy array; floating ones in float64."""
    value = np.asarray(value)
    inexact = value.dtype.kind == "f" or jnp.issubdtype(value.dtype, jnp.floating)
    return value.astype(np.float64, copy=False) if inexact else value


def run(core: Callable[..., Any], *arrays: Any, **settings: Any) -> Any:
    """`core(xp, *arrays, **settings)` on the host in float64, or compiled on the device.

    Args:
      core: defined at the top of a module; compiled once for each shape and setting.
      arrays: pytrees of arrays; None is allowed.
      settings: hashable.
    Returns:
      What `core` returns: numpy where every array is numpy's, in the widest floating dtype given; jax otherwise.
    """
    if not on_host(*arrays):
        return _compiled(core, tuple(sorted(settings.items())))(*jax.tree.map(jnp.asarray, arrays))
    value = core(np, *jax.tree.map(host_array, arrays), **settings)
    return like(value, *arrays)


def like(value: Any, *arrays: Any) -> Any:
    """Results of the host in the kind and floating dtype of what came: numpy for numpy, jax for jax."""
    leaves = jax.tree.leaves(arrays)
    jaxed = any(isinstance(leaf, jax.Array) for leaf in leaves)
    kinds = [leaf.dtype for leaf in leaves if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)]
    kind = widest(kinds) if kinds else jnp.result_type(float) if jaxed else np.float64

    def cast(leaf: Any) -> Any:
        leaf = np.asarray(leaf)
        leaf = leaf.astype(kind, copy=False) if leaf.dtype.kind == "f" else leaf
        return jnp.asarray(leaf) if jaxed else leaf[()]

    return jax.tree.map(cast, value)


def widest(kinds: Sequence[Any]) -> Any:
    """The widest of floating dtypes, also where jax is told not to promote."""
    return max(kinds, key=lambda kind: kind.itemsize)


@functools.lru_cache(maxsize=256)
def _compiled(core: Callable[..., Any], settings: tuple) -> Callable[..., Any]:
    return jax.jit(functools.partial(core, jnp, **dict(settings)))
