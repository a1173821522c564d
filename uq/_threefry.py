"""JAX's default generator on the host, bit for bit: a few random numbers without a program compiled for them."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np


def threefry(keys: np.ndarray, high: Any, low: Any) -> tuple[np.ndarray, np.ndarray]:
    """The Threefry-2x32 hash of 20 rounds of counters under keys `(…, 2)`; all broadcast.

    References:
      salmon2011.
    """
    first, second = keys[..., 0], keys[..., 1]
    schedule = (first, second, first ^ second ^ np.uint32(0x1BD11BDA))
    a, b = np.broadcast_arrays(high + first, low + second)
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            a = a + b
            b = (b << np.uint32(turn) | b >> np.uint32(32 - turn)) ^ a
        a = a + schedule[(group + 1) % 3]
        b = b + schedule[(group + 2) % 3] + np.uint32(group + 1)
    return a, b


def counted(keys: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The hash of 0, 1, 2, … under every key: two words of shape keys + shape."""
    low = np.arange(math.prod(shape), dtype=np.uint32).reshape(shape)
    keys = keys.reshape(*keys.shape[:-1], *(1,) * len(shape), 2)
    return threefry(keys, np.uint32(0), low)


def uniform(key: Any, shape: tuple[int, ...]) -> np.ndarray:
    """`jax.random.uniform(key, shape)`, on the host."""
    if not _is_known(key) or jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        return np.asarray(jax.random.uniform(key, shape))
    with np.errstate(over="ignore"):
        high, low = counted(np.asarray(jax.random.key_data(key)), shape)
    return np.asarray(((high ^ low) >> np.uint32(9) | np.uint32(0x3F800000)).view(np.float32) - np.float32(1))


def split(key: Any) -> tuple[Any, Any]:
    """`jax.random.split(key)`, on the host."""
    if not _is_known(key):
        first, second = jax.random.split(key)
        return first, second
    with np.errstate(over="ignore"):
        words = np.stack(counted(np.asarray(jax.random.key_data(key)), (2,)), -1)
    first, second = (jax.random.wrap_key_data(jax.device_put(each), impl="threefry2x32") for each in words)
    return first, second


def _is_known(key: Any) -> bool:
    """Whether a concrete key's generator is the one above, in its present form."""
    concrete = not isinstance(key, jax.core.Tracer) and key.ndim == 0
    return concrete and "fry" in str(key.dtype) and bool(jax.config.jax_threefry_partitionable)  # type: ignore[attr-defined]
