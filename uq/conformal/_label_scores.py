"""How little a class conforms to the predicted probabilities: scores `(N, C)`, higher is less conforming.

Every score depends on a class through its probability alone, and does not fall as the probability falls. Equally
probable classes therefore have one score, and enter a set together or not at all; none is preferred for its number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array
from ..metrics import _route


@dataclass(frozen=True)
class LabelScore:
    """A score with its settings; hashable, so that it chooses a compiled program."""

    name: str
    function: Callable[[Array, Any, Array, Array], Array]
    """`function(probs (N, C), order, chance (N,), settings) -> (N, C)`; `order` sorts the rows of −probs, None where
    that is still to do; `chance` is 1 where nothing is random."""
    settings: tuple[float | None, ...] = ()
    """Its numbers; None is chosen from the data."""
    randomized: bool = False
    slack: float = 0.0
    """By how many units of rounding a score that is not random may exceed the threshold: equal scores are sums that
    need not round alike in different programs."""


class _Places(NamedTuple):
    before: Array
    """Probability of all more probable classes, `(N, C)`."""
    upto: Array
    """The same and that of all equally probable ones, itself included."""
    rank: Array
    """Number of classes at least as probable, from 1, floating."""


def _places(probs: Array, order: Any) -> _Places:
    order = jnp.argsort(-probs, axis=-1) if order is None else order
    ordered = jnp.take_along_axis(probs, order, -1)
    total = jnp.cumsum(ordered, -1)
    changes = ordered[..., 1:] != ordered[..., :-1]
    edge = jnp.ones_like(changes[..., :1], shape=(*probs.shape[:-1], 1))
    first, last = jnp.concatenate([edge, changes], -1), jnp.concatenate([changes, edge], -1)
    earlier = jnp.concatenate([jnp.zeros_like(total[..., :1]), total[..., :-1]], -1)
    number = jnp.broadcast_to(jnp.arange(1, probs.shape[-1] + 1, dtype=probs.dtype), probs.shape)
    axis = probs.ndim - 1
    places = _Places(
        before=jax.lax.cummax(jnp.where(first, earlier, 0), axis),
        upto=jax.lax.cummin(jnp.where(last, total, jnp.inf), axis, reverse=True),
        rank=jax.lax.cummin(jnp.where(last, number, jnp.inf), axis, reverse=True),
    )
    back = jnp.argsort(order, axis=-1) if probs.ndim != 2 else _inverse(order)
    return _Places(*(jnp.take_along_axis(each, back, -1) for each in places))


def _inverse(order: Array) -> Array:
    """The permutation of each row that undoes `order`, by writing instead of sorting."""
    rows = jnp.arange(order.shape[0])[:, None]
    numbers = jnp.broadcast_to(jnp.arange(order.shape[1], dtype=order.dtype), order.shape)
    return jnp.zeros_like(order).at[rows, order].set(numbers, unique_indices=True)


def least_probable(probs: Array, order: Any, chance: Array, settings: Array) -> Array:
    """Minus the probability; not 1 − p, in which small probabilities would be equal."""
    return -probs


def rank_alone(probs: Array, order: Any, chance: Array, settings: Array) -> Array:
    return _places(probs, order).rank


def cumulated(probs: Array, order: Any, chance: Array, settings: Array) -> Array:
    """Probability of more probable classes + chance · that of the equally probable."""
    return _cumulated(_places(probs, order), chance)


def _cumulated(places: _Places, chance: Array) -> Array:
    chance = chance[..., None]
    within = places.before + chance * (places.upto - places.before)
    return jnp.where(chance == 1, places.upto, within)


def cumulated_with_penalty(probs: Array, order: Any, chance: Array, settings: Array) -> Array:
    """The same + penalty · (rank − free)⁺."""
    places = _places(probs, order)
    free, penalty = settings
    return _cumulated(places, chance) + penalty * jnp.maximum(places.rank - free, 0)


def ranked_beyond_first(probs: Array, order: Any, chance: Array, settings: Array) -> Array:
    """chance · largest probability for the first class, the largest + penalty · (rank − 2 + chance) for the others."""
    rank = _places(probs, order).rank
    chance = chance[..., None]
    top = probs.max(-1, keepdims=True)
    return jnp.where(probs == top, chance * top, top + settings[0] * (rank - 2 + chance))


def order_of(score: LabelScore, probs: Array) -> Any:
    """The order of the rows where a CPU's own sort is at hand, which is ten times as fast as XLA's; else None."""
    if score.function is least_probable or not _route.on_host(probs[:0]):
        return None
    return np.argsort(-np.asarray(probs), axis=-1).astype(np.int32)


def values(score: LabelScore, dtype: Any) -> Array:
    """The settings as an array, so that others of their value use the same program."""
    return jnp.asarray([value for value in score.settings if value is not None], dtype)
