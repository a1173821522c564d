"""How the member axis runs: each strategy lifts a function of one member to all, with the same numbers.

A strategy is a value: `mapping(f)(*args)` applies `f` along the leading axis of every leaf of every argument, which may
be members, draws or rows. Strategies of equal settings are equal, and so share compiled programs; they compose with
`jit`, `grad`, `scan` and each other. `f` is traced once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, path_name
from .._tree import tree_take
from .._typing import Array, PyTree

Function = Callable[..., Any]
Mapping = Callable[[Function], Function]
"""`mapping(f)(*args)` applies `f` along the leading axis of every leaf of every argument."""


@dataclass(frozen=True)
class _Strategy(ABC):
    """What all strategies check: there is a function, and its arguments share a leading axis."""

    def __call__(self, function: Function) -> Function:
        if not callable(function):
            raise InputError(
                f"{self!r} expected a function of one member, but got a {type(function).__name__}; write "
                f"{self!r}(function)(*args)."
            )

        def run(*args: Any) -> Any:
            return self._run(function, _axis_size(self, args), args)

        return run

    @abstractmethod
    def _run(self, function: Function, size: int, args: tuple[Any, ...]) -> Any:
        """The function along the axis of `size`."""


@dataclass(frozen=True)
class _Vmapped(_Strategy):
    """All at once (`jax.vmap`)."""

    def __repr__(self) -> str:
        return "vmapped"

    def _run(self, function: Function, size: int, args: tuple[Any, ...]) -> Any:
        return jax.vmap(function)(*args)


@dataclass(frozen=True)
class _Looped(_Strategy):
    """One after another in one compiled loop (`jax.lax.map`): the least memory."""

    def __repr__(self) -> str:
        return "looped"

    def _run(self, function: Function, size: int, args: tuple[Any, ...]) -> Any:
        return jax.lax.map(lambda one: function(*one), args)


@dataclass(frozen=True)
class _Unrolled(_Strategy):
    """One after another, each written out in the program: no loop that a backend runs badly, but a longer compile."""

    def __repr__(self) -> str:
        return "unrolled"

    def _run(self, function: Function, size: int, args: tuple[Any, ...]) -> Any:
        once = jax.jit(lambda *one: function(*one), inline=True)  # traced for the first, copied for the others
        parts = [once(*tree_take(args, k)) for k in range(size)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


@dataclass(frozen=True)
class _Chunked(_Strategy):
    """Chunks of `num`, one after another, with `inner` inside each."""

    num: int
    inner: Mapping

    def __repr__(self) -> str:
        return f"chunked({self.num})" if self.inner == vmapped else f"chunked({self.num}, inner={self.inner!r})"

    def _run(self, function: Function, size: int, args: tuple[Any, ...]) -> Any:
        mapped = self.inner(function)
        if size <= self.num:
            return mapped(*args)
        chunks = -(-size // self.num)

        def split(leaf: Any) -> Array:
            leaf = _padded(jnp.asarray(leaf), chunks * self.num)
            return leaf.reshape(chunks, self.num, *leaf.shape[1:])

        def join(leaf: Array) -> Array:
            return leaf.reshape(chunks * self.num, *leaf.shape[2:])[:size]

        return jax.tree.map(join, jax.lax.map(lambda part: mapped(*part), jax.tree.map(split, args)))


vmapped = _Vmapped()
looped = _Looped()
unrolled = _Unrolled()


def chunked(num: int, inner: Mapping = vmapped) -> Mapping:
    """Chunks of `num`, one after another in one compiled loop: memory grows with `num`, not with the whole.

    The last chunk is filled up by repeating a row, which is cut off afterwards and has no gradient.

    Args:
      num: how many at a time; where there are no more than that, this is `inner`.
      inner: how a chunk runs.
    Raises:
      InputError: `num` is not a whole number of at least 1, or `inner` is not a strategy.
    Example:
      >>> import jax.numpy as jnp
      >>> chunked(2)(jnp.square)(jnp.arange(5.0)).tolist()
      [0.0, 1.0, 4.0, 9.0, 16.0]
    """
    return _Chunked(check_count("num", num), check_mapping("inner", inner))


def check_mapping(name: str, mapping: Any) -> Mapping:
    """`mapping`, if it is a strategy."""
    if mapping is chunked:
        raise InputError(f"`{name}` expected a strategy, but got `chunked` without its size; write chunked(4).")
    if isinstance(mapping, str) or not callable(mapping):
        raise InputError(
            f"`{name}` expected a strategy, one of uq.execution.vmapped, looped, unrolled and chunked(4), but got "
            f"{mapping!r}."
        )
    return mapping


def _axis_size(strategy: _Strategy, args: PyTree) -> int:
    """The common leading axis of every leaf."""
    leaves = jax.tree_util.tree_flatten_with_path(args)[0]
    if not leaves:
        raise InputError(f"{strategy!r} expected an array with a leading axis to run along, but there is none.")
    for path, leaf in leaves:
        if np.ndim(leaf) == 0:
            raise InputError(
                f"{strategy!r} expected every leaf to have a leading axis to run along, but {_said(path)} is a scalar; "
                "close over what is the same for all."
            )
    sizes = [np.shape(leaf)[0] for _, leaf in leaves]
    for (path, _), size in zip(leaves, sizes, strict=True):
        if size != sizes[0]:
            raise InputError(
                f"{strategy!r} expected the same leading axis everywhere, but {_said(leaves[0][0])} has {sizes[0]} and "
                f"{_said(path)} has {size}."
            )
    if sizes[0] == 0:
        raise InputError(f"{strategy!r} expected at least one entry along the leading axis, but there are 0.")
    return sizes[0]


def _said(path: Any) -> str:
    """`argument 1 at params/kernel` for a key path into the arguments."""
    inner = path_name(path[1:])
    return f"argument {path_name(path[:1])}" + (f" at `{inner}`" if inner else "")


def _padded(leaf: Array, size: int) -> Array:
    """`leaf` with its last row repeated up to `size` rows, of which none has a gradient."""
    missing = size - leaf.shape[0]
    if missing == 0:
        return leaf
    last = jax.lax.stop_gradient(leaf[-1:])
    return jnp.concatenate([leaf, jnp.broadcast_to(last, (missing, *leaf.shape[1:]))])
