"""The change of the target's units before training, as each likelihood declares it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from .._checks import InputError
from ..standardize import scaling_of
from ._transformed import Log, Transformed, transformed
from .gaussian import Gaussian

_LARGEST = 80.0
"""exp of more overflows float32: a logarithm is scaled so that no target lies further out."""


def standardizes(likelihood: Any) -> bool:
    """Whether `fit` changes the units of this likelihood's target."""
    if isinstance(likelihood, Transformed):
        return _fresh(likelihood)
    return _kind(likelihood) != "none"


def standardized(likelihood: Any, y: Any, counted: np.ndarray) -> tuple[Any, np.ndarray]:
    """The likelihood of the target in its own units, and the target that networks are trained on.

    Training goes on under `likelihood` itself, whose numbers then are of order 1; what is returned undoes the change
    exactly. Statistics are of the rows `counted`.
    """
    y = np.asarray(y)
    if isinstance(likelihood, Transformed):
        # Standardised on the modelled scale, and brought back to where the likelihood expects its targets.
        scaling = scaling_of(likelihood.host_to_base(y[counted]))
        z = likelihood.host_to_base(y) - scaling.mean
        scale = np.maximum(scaling.scale, np.max(np.abs(z), axis=0) / _LARGEST)
        own = replace(likelihood, loc=scaling.mean, scale=scale)
        return own, likelihood.host_from_base(z / scale)
    kind = _kind(likelihood)
    if kind == "affine":
        scaling = scaling_of(y[counted])
        return transformed(likelihood, scaling.mean, scaling.scale), scaling.apply(y)
    if kind == "scale":
        scale = _size(np.mean(np.asarray(y[counted], np.float64)))
        return transformed(likelihood, 0.0, scale), np.asarray(y, np.float64) / scale
    if kind == "log":
        own, z = standardized(transformed(Gaussian(1, likelihood.min_scale), Log()), y, counted)
        return own, z
    if kind == "limit":
        gap = np.asarray(y, np.float64) - likelihood.limit
        scale = _size(np.sqrt(np.mean(np.square(gap[counted]))))
        at_zero = replace(likelihood, **{"lower" if likelihood.lower is not None else "upper": 0.0})
        return transformed(at_zero, likelihood.limit, scale), likelihood.limit + gap / scale
    if kind == "none":
        return likelihood, y
    raise InputError(
        f'{likelihood!r} asks for the standardisation {kind!r}; "affine", "scale", "log" and "none" are known.'
    )


def _size(value: Any) -> float:
    return float(value) if value > 0 else 1.0


def _kind(likelihood: Any) -> str:
    return getattr(likelihood, "standardize", "affine" if likelihood.task == "regression" else "none")


def _fresh(likelihood: Transformed) -> bool:
    """A transform of the target alone, whose scale nobody has set."""
    return bool(likelihood.transforms) and bool(np.all(likelihood.loc == 0) and np.all(likelihood.scale == 1))
