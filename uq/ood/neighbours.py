"""Distance of features to the nearest of those seen in training, of which a uniform sample is kept."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, is_concrete
from .._typing import Array, Key
from ..members import as_key
from ._detector import Detector, checked


class Bank(NamedTuple):
    """A uniform sample of the examples seen: those with the smallest random numbers."""

    rows: Any
    """`(K, capacity, d)`."""
    priority: Any
    """`(capacity,)`; +inf where empty."""
    seen: Any
    """How many batches came, for their random numbers."""


def nearest_neighbours(k: int = 50, *, capacity: int = 10_000, normalize: bool = True, key: Key = 0) -> Detector:
    """Distance to the k-th nearest of the training examples, or of a uniform sample of them.

    It assumes nothing of the features' law, and is the slowest: every score looks at every example kept.

    Args:
      k: which neighbour; more where the bank is larger.
      capacity: how many examples to keep. All are, while they are fewer; then each of them with equal chance.
      normalize: divide features by their length, as the paper does.
      key: of the sample; shards that will be merged need different ones.
    Returns:
      A `Detector` whose `update` needs no labels; distances are in units of the (normalized) features.
    Raises:
      InputError: features of another shape; fewer than k examples.
    References:
      sun2022, section 3. Checked against sklearn's NearestNeighbors.
    Example:
      >>> import jax.numpy as jnp
      >>> detector = nearest_neighbours(1, normalize=False)
      >>> fitted = detector.fit([jnp.array([[0.0], [1.0]]), jnp.array([[5.0]])])
      >>> detector.score(fitted, jnp.array([[4.0], [-2.0]])).tolist()
      [1.0, 2.0]
    """
    name = "nearest_neighbours"
    k, capacity = check_count("k", k), check_count("capacity", capacity, least=k)
    key = as_key(key)

    def prepared(features: Any, like: Any = None) -> Array:
        features = jnp.asarray(checked(name, features, like))
        if not normalize:
            return features
        length = jnp.sqrt(jnp.square(features).sum(-1, keepdims=True))
        return features / jnp.where(length > 0, length, 1)

    def init(features: Any) -> Bank:
        members, _, width = np.shape(checked(name, features))
        dtype = jnp.asarray(checked(name, features)[:, :0]).dtype
        empty = jnp.full(capacity, jnp.inf, dtype)
        return Bank(jnp.zeros((members, capacity, width), dtype), empty, jnp.zeros((), jnp.int32))

    def update(state: Bank, features: Any, y: Any = None) -> Bank:
        rows = prepared(features, state.rows)
        chance = jax.random.uniform(jax.random.fold_in(key, state.seen), rows.shape[1:2], state.priority.dtype)
        return merge(state, Bank(rows, chance, 1))

    def merge(one: Bank, other: Bank) -> Bank:
        priority = jnp.concatenate([one.priority, other.priority])
        kept = jnp.argsort(priority)[:capacity]
        rows = jnp.concatenate([one.rows, other.rows], 1)[:, kept]
        return Bank(rows, priority[kept], one.seen + other.seen)

    def finish(state: Bank) -> Bank:
        if is_concrete(state.priority):
            found = int(jnp.isfinite(state.priority).sum())
            if found < k:
                raise InputError(f"`{name}` needs at least k = {k} examples, but has seen {found}.")
            return Bank(state.rows[:, :found], state.priority[:found], state.seen)
        return state

    def score(fitted: Bank, features: Any) -> Array:
        rows = prepared(features, fitted.rows)
        full = jnp.isfinite(fitted.priority)
        each = [_distances(row, bank, full, k) for row, bank in zip(rows, fitted.rows, strict=True)]
        return jnp.stack(each).mean(0)

    return Detector(name, init, update, merge, finish, score)


def _distances(rows: Array, bank: Array, full: Array, k: int) -> Array:
    """Distance of each of `(N, d)` to the k-th nearest of `(B, d)`: found by a matrix product, then taken exactly."""
    centre = jnp.where(full[:, None], bank, 0).sum(0) / jnp.maximum(full.sum(), 1).astype(bank.dtype)
    rows, bank = rows - centre, bank - centre
    length = jnp.where(full, jnp.square(bank).sum(-1), jnp.inf)

    def one(row: Array) -> Array:
        near = jax.lax.top_k(2 * jnp.matmul(bank, row, precision="highest") - length, k)[1]
        squares = jnp.where(full[near], jnp.square(bank[near] - row).sum(-1), jnp.inf)
        return jnp.sqrt(squares.max())

    at_once = max(1, 2**22 // max(bank.shape[0], k * bank.shape[1]))
    return jax.lax.map(one, rows, batch_size=min(at_once, max(rows.shape[0], 1)))
