"""What several losses need: the likelihood below a change of units, and sentences for what does not fit."""

from __future__ import annotations

import math
from typing import Any

from .._checks import InputError
from .._typing import Array
from ..likelihoods import Transformed


def below(likelihood: Any, y: Array) -> tuple[Any, Array]:
    """The likelihood below a change of the target's units, and `y` in its units."""
    return (likelihood.base, likelihood.to_base(y)) if isinstance(likelihood, Transformed) else (likelihood, y)


def needs_numbers(name: str, likelihood: Any) -> None:
    if likelihood.task != "regression":
        raise InputError(
            f"The loss {name} is for numbers, but {likelihood!r} predicts classes: use negative_log_likelihood, "
            "label_smoothing(…) or focal(…)."
        )


def check_coefficient(value: Any) -> None:
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"`coefficient` expected a number of at least 0, but it is {value!r}.")
