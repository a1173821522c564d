"""How the member axis runs: each strategy lifts a function of one member to all, with the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

Mapping = Callable[[Callable[..., Any]], Callable[..., Any]]
"""`mapping(f)(*args)` applies `f` along the leading axis of every leaf of every argument."""


def vmapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """All members at once (`jax.vmap`)."""
    return jax.vmap(function)


def looped(function: Callable[..., Any]) -> Callable[..., Any]:
    """One member after another in one compiled loop (`jax.lax.map`): the least memory."""

    def run(*args: Any) -> Any:
        return jax.lax.map(lambda one: function(*one), args)

    return run
