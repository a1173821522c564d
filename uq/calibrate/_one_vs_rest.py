"""Maps of one event's log-odds as recalibrators: of two classes, or of each class against the rest."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array, ArrayLike
from ..predictive import Predictive
from . import _classes
from ._recalibrator import Recalibrator
from ._search import sigmoid


class Event(NamedTuple):
    """Predictions and outcomes of one event, by the distinct log-odds that it was given."""

    odds: np.ndarray
    """Distinct log-odds, rising, `(n,)`."""
    weight: np.ndarray
    """Weight of the rows that have them."""
    happened: np.ndarray
    """Weight of those where the event came about."""
    p: np.ndarray
    """The probability of the log-odds."""

    @property
    def rate(self) -> np.ndarray:
        return self.happened / self.weight


def recalibrator(
    name: str,
    learn: Callable[[Event], Any],
    odds_of: Callable[[Any, Array], Array],
    *,
    every_class: bool = True,
) -> Recalibrator:
    """A recalibrator from a map of log-odds.

    Of two classes, the second's log-odds are mapped; of more, each class's against all others, and the probabilities
    are divided by their sum. Where all of them are 0, the prediction stays.

    Args:
      learn: the state of one map, a pytree of arrays.
      odds_of: new log-odds `(N,)` from a state and old ones; may be infinite.
      every_class: whether each class must have come about in the rows that it is fitted to.
    """

    def fit(pred: Any, y: ArrayLike, weight: Any = None) -> Any:
        data = _classes.sample(name, pred, y, weight)
        if every_class:
            _classes.needs_every_class(name, data)
        odds = np.asarray(_log_odds(jnp.asarray(data.log_probs)))
        first = 1 if data.num_classes == 2 else 0
        return stacked([learn(event(odds[:, c], data.labels == c + first, data.weight)) for c in range(odds.shape[1])])

    def apply(state: Any, pred: Any) -> Predictive:
        found = _classes.log_probs(name, pred)
        _check(name, state, found)
        return _classes.with_log_probs(pred, _joined(odds_of, state, found, _log_odds(found)))

    return Recalibrator(name, fit, apply, ("binary", "multiclass"))


def mapped(name: str, state: Any, log_probs: Array, function: Callable[[Any, Array], Any]) -> Any:
    """`function` of each class's state and log-odds; classes are the last axis of what it returns."""
    _check(name, state, log_probs)
    return _mapped(function, state, _log_odds(log_probs))


def _check(name: str, state: Any, log_probs: Array) -> None:
    _classes.check_classes(name, max(len(jax.tree.leaves(state)[0]), 2), log_probs.shape[1])


_log_odds = jax.jit(_classes.log_odds)


@functools.partial(jax.jit, static_argnums=0)
def _mapped(function: Callable[[Any, Array], Any], state: Any, odds: Array) -> Any:
    state = jax.tree.map(lambda leaf: leaf.astype(odds.dtype), state)
    return jax.vmap(function, in_axes=(0, 1), out_axes=1)(state, odds)


@functools.partial(jax.jit, static_argnums=0)
def _joined(odds_of: Callable[[Any, Array], Array], state: Any, log_probs: Array, odds: Array) -> Array:
    """New log-probabilities, `(N, C)`, of two or more classes; the old ones where all would be 0."""
    odds = _mapped(odds_of, state, odds)
    if odds.shape[1] == 1:
        odds = jnp.concatenate([-odds, odds], 1)
    new = jax.nn.log_sigmoid(odds)
    return jnp.where((new == -jnp.inf).all(1, keepdims=True), log_probs, new)


def event(odds: np.ndarray, happened: np.ndarray, weight: np.ndarray) -> Event:
    """Rows of equal log-odds together. Those that differ by rounding alone are equal."""
    odds = odds.astype(np.float64)
    order = np.argsort(odds, kind="stable")
    odds = odds[order]
    new = np.diff(odds, prepend=-np.inf) > rounding(odds)
    group = np.cumsum(new) - 1
    odds = odds[new]
    return Event(odds, np.bincount(group, weight[order]), np.bincount(group, (weight * happened)[order]), sigmoid(odds))


def rounding(odds: Any) -> Any:
    """Differences of log-odds that mean nothing, whichever way they were computed in float32."""
    xp: Any = jnp if isinstance(odds, jax.Array) else np
    return 5e-7 * xp.maximum(1, xp.abs(odds))


def stacked(states: Sequence[Any]) -> Any:
    """States of one kind with a leading axis; arrays are lengthened by their last entry, or ∞ if empty.

    Lengths are 16, 64, 256, …, so that states fitted to other rows seldom need another program.
    """

    def stack(*leaves: Any) -> np.ndarray:
        leaves = tuple(map(np.asarray, leaves))
        if leaves[0].ndim == 0:
            return np.stack(leaves)
        size = 16
        while size < max(map(len, leaves)):
            size *= 4
        return np.stack([_lengthened(leaf, size) for leaf in leaves])

    return jax.tree.map(stack, *states)


def _lengthened(leaf: np.ndarray, size: int) -> np.ndarray:
    last = leaf[-1:] if len(leaf) else np.full((1, *leaf.shape[1:]), np.inf)
    return np.concatenate([leaf, np.repeat(last, size - len(leaf), 0)])


def search(knots: Array, at: Array, side: str = "right") -> Array:
    """Where `at` belongs among rising knots; few are compared at once, which compiles sooner than a search."""
    return jnp.searchsorted(knots, at, side=side, method="compare_all" if len(knots) <= 64 else "scan")


def interpolated(knots: Array, values: Array, at: Array) -> Array:
    """Linear between knots that do not fall, `(n,)` with n ≥ 1, and constant outside."""
    left = jnp.clip(search(knots, at) - 1, 0, len(knots) - 1)
    right = jnp.minimum(left + 1, len(knots) - 1)
    width = knots[right] - knots[left]
    share = jnp.clip((at - knots[left]) / jnp.where(width > 0, width, 1), 0, 1)
    return jnp.where(width > 0, values[left] + share * (values[right] - values[left]), values[left])


def logit(p: Any) -> Any:
    """Log-odds, ±∞ at 1 and 0."""
    if isinstance(p, jax.Array):
        return jnp.log(p) - jnp.log1p(-p)
    from scipy.special import logit as of

    return of(p)
