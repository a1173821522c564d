"""Streaming metrics: pure functions of a pytree state, one batch at a time.

    state = metric.empty()
    state = metric.update(state, pred, y, mask, weight)    # or merge(a, b), all_reduce(state, axis_name)
    metric.compute(state)                                  # an Estimate

Every state is a pytree of whole-number counts and of sums kept to twice the precision of their dtype, so it does not
matter in which order, or on which device, batches were added.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._checks import InputError, is_concrete
from .. import _route
from . import _sums
from ._context import Batch
from ._sums import Sum

State = Any


@dataclass(frozen=True)
class Streaming(ABC):
    """A metric that accumulates. A value: equal settings are equal, and share compiled programs.

    States of concrete batches are kept on the host, counts in 64 bits and sums in float64; inside `jax.jit` and the
    like, on the device, where counts are of 32 bits: merge into a state on the host before 2³¹ rows.
    """

    @abstractmethod
    def empty(self) -> State:
        """The state before any batch: the identity of `merge`."""

    @abstractmethod
    def compute(self, state: State) -> Any:
        """The metric of all rows so far, an `Estimate`."""

    @abstractmethod
    def _updated(self, state: State, batch: Batch) -> State:
        """The state with one more batch."""

    def update(self, state: State, pred: Any, y: Any, mask: Any = None, weight: Any = None) -> State:
        """The state after one more batch.

        Args:
          state: from `empty`, `update` or `merge`.
          pred, y: as the metric of the same name takes them.
          mask: `(N,)`, False for rows that are padding; they may hold anything.
          weight: `(N,)`, case weights; None is 1 each.
        """
        batch = Batch(pred, y, mask, weight)
        return state if batch.nothing else self._updated(state, batch)

    def merge(self, a: State, b: State) -> State:
        """The state of both batches together; associative and commutative."""
        _check_alike(a, b)
        to = _to_host if is_concrete((a, b)) else _to_device
        return jax.tree.map(lambda x, y: _both(to(x), to(y)), a, b, is_leaf=_is_sum)

    def all_reduce(self, state: State, axis_name: Any) -> State:
        """The state of all devices together, inside `jax.shard_map` or `jax.vmap(axis_name=…)`."""
        return jax.tree.map(
            lambda leaf: _sums.all_reduce(leaf, axis_name) if _is_sum(leaf) else jax.lax.psum(leaf, axis_name),
            state,
            is_leaf=_is_sum,
        )


@dataclass(frozen=True)
class Additive(Streaming):
    """A metric whose state is the sum of its batches' states."""

    @abstractmethod
    def _quantities(self, batch: Batch) -> Any:
        """Arrays `(N, …)` that `_accumulate` needs."""

    @abstractmethod
    def _accumulate(self, xp: Any, quantities: Any, weight: Any) -> State:
        """The state of one batch, in numpy or in jax."""

    def _updated(self, state: State, batch: Batch) -> State:
        quantities = self._quantities(batch)
        if _route.on_host(quantities, batch.weight):
            host = jax.tree.map(_route.host_array, quantities)
            return self.merge(state, self._accumulate(np, host, np.asarray(batch.weight, np.float64)))
        return self.merge(state, _accumulated(self, quantities, batch.weight))


@functools.partial(jax.jit, static_argnums=0)
def _accumulated(metric: Additive, quantities: Any, weight: Any) -> State:
    return metric._accumulate(jnp, quantities, jnp.asarray(weight).astype(jnp.result_type(float)))


def _check_alike(a: State, b: State) -> None:
    """A sentence where two states are not of one metric."""
    structures: list[Any] = [jax.tree.structure(state) for state in (a, b)]
    if structures[0] != structures[1] or any(
        np.shape(x) != np.shape(y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True)
    ):
        raise InputError("A streaming metric expected states of one metric with the same settings, but these differ.")


def _is_sum(leaf: Any) -> bool:
    return isinstance(leaf, Sum)


def _both(a: Any, b: Any) -> Any:
    return _sums.add(a, b) if _is_sum(a) else a + b


def _to_host(leaf: Any) -> Any:
    """Float64 and 64-bit counts: what a device sent in two floats is exact in one."""
    return _sums.to_host(leaf) if _is_sum(leaf) else np.asarray(leaf, np.int64)


def _to_device(leaf: Any) -> Any:
    return _sums.to_device(leaf) if _is_sum(leaf) else jnp.asarray(leaf, jnp.int32)


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

    def _updated(self, state: State, batch: Batch) -> State:
        return {name: metric._updated(state[name], batch) for name, metric in self.metrics}

    def merge(self, a: State, b: State) -> State:
        _check_alike(a, b)
        return {name: metric.merge(a[name], b[name]) for name, metric in self.metrics}

    def all_reduce(self, state: State, axis_name: Any) -> State:
        return {name: metric.all_reduce(state[name], axis_name) for name, metric in self.metrics}

    def compute(self, state: State) -> dict[str, Any]:
        return {name: metric.compute(state[name]) for name, metric in self.metrics}


def collect(metrics: Mapping[str, Streaming]) -> Collection:
    """Several streaming metrics as one.

    Raises:
      InputError: none are given, or one is not a streaming metric.
    """
    wrong = [name for name, metric in metrics.items() if not isinstance(metric, Streaming)]
    if wrong or not metrics:
        said = f"{wrong[0]!r} is {metrics[wrong[0]]!r}" if wrong else "there are none"
        raise InputError(f"`collect` expected streaming metrics by their names, but {said}.")
    return Collection(tuple(metrics.items()))
