"""What a recalibrator is: `fit(predictive, y) -> state`, `apply(state, predictive) -> Predictive`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from .._checks import InputError
from .._typing import ArrayLike, PyTree
from ..predictive import Predictive


class Recalibrator(NamedTuple):
    """A map from predictions to better calibrated ones, learned from outcomes that trained none of them.

    It sees the mixture, never one member: members are each overconfident in their own way, and their mixture may not
    be. The state is a pytree of arrays, so that it is saved and jitted like any other.
    """

    name: str
    fit: Callable[..., PyTree]
    """`fit(predictive, y, weight=None) -> state`; `weight` is one non-negative number an example."""
    apply: Callable[[PyTree, Any], Predictive]
    """`apply(state, predictive) -> Predictive`; jits."""
    tasks: tuple[str, ...]
    """Which predictions it is for: "regression", "binary", "multiclass"."""


class Fitted(NamedTuple):
    """How the search for a state went: part of the state of every recalibrator that searches."""

    converged: Any
    """Whether the optimizer says so, bool."""
    iterations: Any
    before: Any
    """Objective without recalibration, mean over examples."""
    after: Any
    """Objective with it."""


def compose(*steps: Recalibrator) -> Recalibrator:
    """Several recalibrators one after another: each is fitted to what those before it return.

    Example:
      >>> import numpy as np, uq
      >>> both = uq.calibrate.compose(uq.calibrate.temperature(), uq.calibrate.isotonic())
      >>> both.name
      'temperature + isotonic'
    """
    if not steps:
        raise InputError("`compose` expected at least one recalibrator.")
    tasks = tuple(task for task in steps[0].tasks if all(task in step.tasks for step in steps))
    if not tasks:
        raise InputError(
            "`compose` expected recalibrators of one task, but got "
            + " and ".join(f"{step.name} for {', '.join(step.tasks)}" for step in steps)
            + "."
        )

    def fit(pred: Any, y: ArrayLike, weight: ArrayLike | None = None) -> tuple[PyTree, ...]:
        states = []
        for step in steps:
            states.append(step.fit(pred, y, weight))
            pred = step.apply(states[-1], pred)
        return tuple(states)

    def apply(states: tuple[PyTree, ...], pred: Any) -> Predictive:
        for step, state in zip(steps, states, strict=True):
            pred = step.apply(state, pred)
        return pred

    return Recalibrator(" + ".join(step.name for step in steps), fit, apply, tasks)
