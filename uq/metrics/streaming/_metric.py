"""Streaming metrics: pure functions of a pytree state, one batch at a time.

    state = metric.empty()
    state = metric.update(state, pred, y, mask, weight)    # or merge(a, b), all_reduce(state, axis_name)
    metric.compute(state)                                  # an Estimate

Every state is a pytree of whole-number counts and of sums kept to twice the precision of their dtype, so it does not
matter in which order, or on which device, batches were added.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _route
from . import _sums
from ._context import Batch
from ._sums import Sum

State = Any


@dataclass(frozen=True)
class Streaming:
    """A metric that accumulates. A value: equal settings are equal, and share compiled programs."""

    def empty(self) -> State:
        """The state before any batch: the identity of `merge`."""
        raise NotImplementedError

    def _quantities(self, batch: Batch) -> Any:
        """Arrays `(N, …)` that `_accumulate` needs."""
        raise NotImplementedError

    def _accumulate(self, xp: Any, quantities: Any, weight: Any) -> State:
        """The state of one batch."""
        raise NotImplementedError

    def compute(self, state: State) -> Any:
        """The metric of all rows so far, an `Estimate`."""
        raise NotImplementedError

    def update(self, state: State, pred: Any, y: Any, mask: Any = None, weight: Any = None) -> State:
        """The state after one more batch.

        Args:
          state: from `empty`, `update` or `merge`.
          pred, y: as the metric of the same name takes them.
          mask: `(N,)`, False for rows that are padding; they may hold anything.
          weight: `(N,)`, case weights; None is 1 each.
        """
        batch = Batch(pred, y, mask, weight)
        return state if batch.nothing else self._update(state, batch)

    def _update(self, state: State, batch: Batch) -> State:
        quantities = self._quantities(batch)
        if _route.on_host(state, quantities, batch.weight):
            host = jax.tree.map(_route.host_array, quantities)
            return self.merge(state, self._accumulate(np, host, np.asarray(batch.weight, np.float64)))
        return _merged(self, jax.tree.map(jnp.asarray, state), quantities, batch.weight)

    def merge(self, a: State, b: State) -> State:
        """The state of both batches together; associative and commutative."""
        return jax.tree.map(_both, a, b, is_leaf=_is_sum)

    def all_reduce(self, state: State, axis_name: Any) -> State:
        """The state of all devices together, inside `jax.shard_map` or `jax.vmap(axis_name=…)`."""
        return jax.tree.map(
            lambda leaf: _sums.all_reduce(leaf, axis_name) if _is_sum(leaf) else jax.lax.psum(leaf, axis_name),
            state,
            is_leaf=_is_sum,
        )


def _is_sum(leaf: Any) -> bool:
    return isinstance(leaf, Sum)


def _both(a: Any, b: Any) -> Any:
    return _sums.add(a, b) if _is_sum(a) else a + b


@functools.partial(jax.jit, static_argnums=0)
def _merged(metric: Streaming, state: State, quantities: Any, weight: Any) -> State:
    quantities = jax.tree.map(jnp.asarray, quantities)
    kind = jnp.result_type(float)
    return metric.merge(state, metric._accumulate(jnp, quantities, jnp.asarray(weight).astype(kind)))


def zero(*shape: int) -> Sum:
    """No sum yet."""
    return Sum(np.zeros(shape), np.zeros(shape))


@dataclass(frozen=True)
class Collection(Streaming):
    """Several streaming metrics over the same rows; what they share is computed once a batch.

    Args:
      metrics: `{name: metric}`; `compute` gives `{name: Estimate}`.
    """

    metrics: tuple[tuple[str, Streaming], ...]

    def empty(self) -> State:
        return {name: metric.empty() for name, metric in self.metrics}

    def _update(self, state: State, batch: Batch) -> State:
        return {name: metric._update(state[name], batch) for name, metric in self.metrics}

    def merge(self, a: State, b: State) -> State:
        return {name: metric.merge(a[name], b[name]) for name, metric in self.metrics}

    def all_reduce(self, state: State, axis_name: Any) -> State:
        return {name: metric.all_reduce(state[name], axis_name) for name, metric in self.metrics}

    def compute(self, state: State) -> dict[str, Any]:
        return {name: metric.compute(state[name]) for name, metric in self.metrics}


def collect(metrics: Mapping[str, Streaming]) -> Collection:
    """Several streaming metrics as one."""
    return Collection(tuple(metrics.items()))
