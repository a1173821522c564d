"""Our own arithmetic, traced in less time."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax

_Function = TypeVar("_Function", bound=Callable[..., Any])


def straight(function: _Function) -> _Function:
    """The same function, whose operations are traced as they are: for arithmetic alone.

    Every function and operator of `jax.numpy` is a `jit` of its own, which is traced, differentiated and mapped apart
    for the one operation inside it: a fifth of the time that the tracing of a training step takes, and with the
    compilers waiting for it. What is traced are the same operations. Loops and branches of `jax.lax` would run in
    Python here, so nothing that a user may have written is called inside. Where numbers are known, with or without
    derivatives, the function is as it was.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not any(_is_unknown(leaf) for leaf in jax.tree.leaves((args, kwargs))):
            return function(*args, **kwargs)
        with jax.disable_jit():
            return function(*args, **kwargs)

    return run  # type: ignore[return-value]


def _is_unknown(leaf: Any) -> bool:
    return isinstance(leaf, jax.core.Tracer) and leaf.to_concrete_value() is None
