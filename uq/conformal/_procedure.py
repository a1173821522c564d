"""What a conformal procedure is: `fit(predictive, y) -> state`, `apply(state, predictive) -> sets or intervals`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .._typing import PyTree


class Conformal(NamedTuple):
    """A map from predictions to sets or intervals that hold the outcome with a stated probability.

    It is calibrated on outcomes that trained nothing. The state is a pytree of arrays, so that it is saved and jitted
    like any other.
    """

    name: str
    fit: Callable[..., PyTree]
    """`fit(predictive, y, …) -> state`, from held-out examples."""
    apply: Callable[..., Any]
    """`apply(state, predictive, level=0.9, …)`; jits, with `level` a plain number."""
