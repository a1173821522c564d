"""Few members vote out of fold, many at prediction time: what a map of classes learns is carried over in 1 / V.

A mixture of two members that disagree is surer, and more often wrong, than one of twenty. To first order in 1 / V the
best parameters of a map are θ + θ' / V. Out of fold the V voters of a row can also be asked in two halves: what is
learned from these gives θ', and every prediction is mapped by the parameters for as many as vote on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array
from ..metrics._estimate import check_weight
from ..predictive import Predictive
from . import _classes


class Voters(NamedTuple):
    """How the parameters of a map change with the number V of members that vote on an example.

    References:
      quenouille1956, section 2: there in the inverse number of rows, here in that of voters.
    """

    share: Any
    """1 / V of the predictions fitted to, mean over examples."""
    change: Any
    """Of each parameter by 1 / V, a dictionary; zeros where the same members voted on every example."""


def fit_by_voters(
    name: str, names: tuple[str, ...], fit: Callable[[_classes.Sample], Any], pred: Any, y: Any, weight: Any
) -> Any:
    """What `fit` finds, and in its field `voters` how that changes with 1 / V.

    Args:
      name: of the recalibrator.
      names: the fields of the state that are parameters.
      fit: `fit(sample) -> state`.
    """
    data = _classes.sample(name, pred, y, weight)
    state = fit(data)
    here = _parameters(state, names)
    still = state._replace(voters=Voters(np.asarray(1.0), jax.tree.map(np.zeros_like, here)))
    parts = halves(pred)
    if parts is None:
        return still
    shares = np.asarray(share_of(pred), np.float64)
    given = np.ones(len(pred)) if weight is None else np.asarray(check_weight(name, weight, len(pred)), np.float64)
    several = np.where(shares < 1, given, 0)
    if len(np.unique(np.asarray(y)[several > 0])) < len(np.unique(data.labels)):  # too few rows to say anything of more
        return still
    few = [_classes.sample(name, part, y, several) for part in parts]
    both = _classes.Sample(*(np.concatenate(leaves) for leaves in zip(*few, strict=True)))
    if len(few[0].labels) < len(data.labels):
        here = _parameters(fit(_classes.sample(name, pred, y, several)), names)
    there = _parameters(fit(both._replace(weight=both.weight / 2)), names)  # as many rows, each said twice
    step = np.average(sum(np.asarray(share_of(part)) for part in parts) / 2 - shares, weights=several)
    change = {each: np.asarray((there[each] - here[each]) / step) for each in names}
    return state._replace(voters=Voters(np.asarray(np.average(shares, weights=given)), change))


def _parameters(state: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {each: np.asarray(getattr(state, each), np.float64) for each in names}


def gap(state: Any, pred: Any, dtype: Any) -> Array:
    """By how much 1 / V of every example is more than where the state was fitted, `(N,)`; `(1,)` without members."""
    share = share_of(pred)
    return jnp.zeros(1, dtype) if share is None else (share - jnp.asarray(state.voters.share)).astype(dtype)


def parameter(state: Any, name: str, pred: Any, dtype: Any) -> Array:
    """A single number for as many as vote on each example, `(N,)` or `(1,)`."""
    change = jnp.asarray(state.voters.change[name], dtype)
    return jnp.asarray(getattr(state, name), dtype) + gap(state, pred, dtype) * change


def settled(state: Any, share: float) -> Any:
    """The same map whatever the number of voters: that for 1 / V = `share`. States without voters are left alone."""
    if type(state) is tuple:  # of `compose`
        return tuple(settled(each, share) for each in state)
    if not hasattr(state, "voters"):
        return state
    gap = share - state.voters.share
    moved = {name: getattr(state, name) + gap * change for name, change in state.voters.change.items()}
    still = Voters(state.voters.share, jax.tree.map(np.zeros_like, state.voters.change))
    return state._replace(**moved, voters=still)


def share_of(pred: Any) -> Any:
    """1 / V of every example, `(N,)`; None for predictions without members."""
    return jnp.broadcast_to(1 / (pred.weight > 0).sum(0), (len(pred),)) if isinstance(pred, Predictive) else None


def halves(pred: Any) -> tuple[Predictive, Predictive] | None:
    """Predictions by the first and by the second half of those who vote on each example.

    None where examples have no members of their own, as they have out of fold, or never more than one. An example with
    a single voter keeps it.
    """
    if not isinstance(pred, Predictive) or pred.weight.ndim == 1:
        return None
    weight = np.asarray(pred.weight)
    live = weight > 0
    count = live.sum(0)
    if count.max() < 2:
        return None
    first = np.cumsum(live, 0) <= (count + 1) // 2

    def part(keep: np.ndarray) -> Predictive:
        own = np.where(keep | (count == 1), weight, 0)
        return Predictive(pred.outputs, pred.likelihood, jnp.asarray(own / own.sum(0), pred.weight.dtype))

    return part(first), part(~first)
