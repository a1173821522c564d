"""What a metric takes, brought to one form: the only place that looks at types.

Concrete inputs are checked and computed in float64 on the host, which needs no compilation; traced ones are
computed by jax in their own precision. `numeric` says which of the two modules a computation uses.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_finite, check_same_length, is_concrete
from .._typing import Array, ArrayLike
from ..likelihoods import _check_labels
from ..predictive import Predictive

_SUM_TOLERANCE = 1e-3
_RANGE_TOLERANCE = 1e-6


class Classes(NamedTuple):
    probs: Any
    """Class probabilities, `(N, C)`; C = 2 for yes or no."""
    labels: Any
    """Classes that came about, `(N,)`, whole numbers from 0 to C − 1."""


def numeric(*values: Any) -> Any:
    """numpy where everything is concrete, jax.numpy where something is traced."""
    return np if is_concrete(values) else jnp


def is_distribution(pred: Any) -> bool:
    """Whether `pred` is a numpyro distribution, without importing numpyro."""
    numpyro = sys.modules.get("numpyro.distributions")
    return numpyro is not None and isinstance(pred, numpyro.Distribution)


def outcomes(name: str, distribution: Any, y: ArrayLike) -> Array:
    """`y` as an array of the shape of one draw from a numpyro distribution; never broadcast by accident."""
    y = jnp.asarray(_array(name, y))
    check_finite("y", y)
    shape = distribution.batch_shape + distribution.event_shape
    if shape and y.shape != shape:
        raise InputError(f"`{name}` expected `y` of shape {shape}, that of the distribution, but got {y.shape}.")
    return y if distribution.support.is_discrete else y.astype(jnp.result_type(float))


def classes(name: str, pred: Any, y: ArrayLike) -> Classes:
    """Probabilities `(N, C)` and labels `(N,)` from a `Predictive` or an array, checked.

    An array is `(N, C)`; `(N,)` and `(N, 1)` are probabilities of the second of two classes.
    """
    probs = _class_probs(name, pred)
    size, num_classes = probs.shape
    labels = _check_labels(y if isinstance(y, jax.Array) else np.asarray(y), num_classes, f"`{name}`")
    check_same_length(size, labels)
    if labels.ndim != 1:
        raise InputError(f"`{name}` expected labels of shape ({size},), but `y` has shape {labels.shape}.")
    if numeric(probs, labels) is np:
        return Classes(np.asarray(probs, np.float64), np.asarray(labels, np.int64))
    dtype = jnp.promote_types(probs.dtype, jnp.float32)
    return Classes(jnp.asarray(probs, dtype), jnp.asarray(labels).astype(jnp.int32))


def class_probs(name: str, pred: Any) -> Any:
    """Probabilities `(N, C)` alone, for quantities that need no outcome."""
    probs = _class_probs(name, pred)
    return np.asarray(probs, np.float64) if is_concrete(probs) else probs


def _class_probs(name: str, pred: Any) -> Any:
    if isinstance(pred, Predictive):
        if pred.task == "regression":
            raise InputError(f"`{name}` expected predictions of classes, but these are regression ones.")
        return pred.probs
    probs = _array(name, pred)
    if probs.ndim == 0 or probs.ndim > 2 or 0 in probs.shape:
        raise InputError(
            f"`{name}` expected a Predictive or class probabilities of shape (N, C), or (N,) for two "
            f"classes, with N ≥ 1, but got shape {probs.shape}."
        )
    if probs.ndim == 1:
        probs = probs[:, None]
    if is_concrete(probs):
        probs = np.asarray(probs, np.float64)
        _check_probs(name, probs)
    if probs.shape[1] == 1:
        module = numeric(probs)
        probs = module.concatenate([1 - probs, probs], axis=1)
    return probs


def _check_probs(name: str, probs: np.ndarray) -> None:
    check_finite("probs", probs)
    outside = np.flatnonzero(((probs < -_RANGE_TOLERANCE) | (probs > 1 + _RANGE_TOLERANCE)).any(1))
    if len(outside):
        row = outside[0]
        raise InputError(
            f"`{name}` expected probabilities between 0 and 1, but row {row} is {_row(probs[row])}. "
            "Are these logits? Pass jax.nn.softmax(logits), or jax.nn.sigmoid(logit) for two classes."
        )
    wrong: Any = np.flatnonzero(np.abs(probs.sum(1) - 1) > _SUM_TOLERANCE) if probs.shape[1] > 1 else []
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"`{name}` expected rows that sum to 1, but row {row} sums to {probs[row].sum():.4g}: "
            f"{_row(probs[row])}. Normalise them first."
        )


def _row(values: np.ndarray, limit: int = 6) -> str:
    return f"[{', '.join(f'{v:.4g}' for v in values[:limit])}{', …' if len(values) > limit else ''}]"


def points(name: str, pred: Any, y: ArrayLike) -> Any:
    """`y` minus the point prediction, `(N,)` or `(N, D)`, from a `Predictive` or an array of points."""
    if isinstance(pred, Predictive):
        regression(name, pred)
        residual = pred.residual(y)
        return np.asarray(residual, np.float64) if is_concrete(residual) else residual
    guess, y = pair(name, "pred", pred, y)
    check_finite("pred", guess)
    return y - guess


def pair(name: str, what: str, value: Any, y: Any) -> tuple[Any, Any]:
    """Two arrays of one shape `(N,)` or `(N, D)`; `(N, 1)` is `(N,)`."""
    value, y = _flat(_array(name, value)), _flat(_array(name, y))
    if value.shape != y.shape or value.ndim not in (1, 2) or 0 in value.shape:
        raise InputError(
            f"`{name}` expected `{what}` and `y` of one shape, (N,) or (N, D) with N ≥ 1, but got "
            f"{value.shape} and {y.shape}."
        )
    check_finite("y", y)
    if numeric(value, y) is np:
        return np.asarray(value, np.float64), np.asarray(y, np.float64)
    dtype = jnp.result_type(float)
    return jnp.asarray(value, dtype), jnp.asarray(y, dtype)


def regression(name: str, pred: Any) -> Predictive:
    """`pred`, if it is a regression `Predictive`."""
    if not isinstance(pred, Predictive):
        raise InputError(f"`{name}` expected a Predictive of a regression, but got {_described(pred)}.")
    if pred.task != "regression":
        raise InputError(f"`{name}` expected regression predictions, but these are {pred.task} ones.")
    return pred


def bounds(name: str, interval: Any) -> tuple[Any, Any]:
    """Lower and upper ends of one shape, checked for order."""
    lower, upper = (_flat(_array(name, end)) for end in interval)
    if lower.shape != upper.shape:
        raise InputError(
            f"`{name}` expected lower and upper ends of one shape, but got {lower.shape} and {upper.shape}."
        )
    if numeric(lower, upper) is np:
        lower, upper = np.asarray(lower, np.float64), np.asarray(upper, np.float64)
        for end, values in (("lower", lower), ("upper", upper)):
            check_finite(end, np.where(np.isinf(values), 0.0, values))  # infinite ends are legal
        crossed: Any = np.flatnonzero((lower > upper).reshape(len(lower), -1).any(1)) if lower.ndim else []
        if len(crossed):
            row = crossed[0]
            raise InputError(
                f"`{name}` expected (lower, upper) with lower ≤ upper, but row {row} is ({lower[row]}, {upper[row]})."
            )
    return lower, upper


def is_pair(value: Any) -> bool:
    """Whether `value` is (lower, upper)."""
    return isinstance(value, tuple | list) and len(value) == 2


def _flat(array: Any) -> Any:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _array(name: str, value: Any) -> Any:
    if isinstance(value, jax.Array):
        return value
    if is_distribution(value) or not _is_arraylike(value):
        raise InputError(f"`{name}` expected a Predictive or an array, but got {_described(value)}.")
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"`{name}` expected a rectangular array, but it cannot be made into one ({error}).") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"`{name}` expected numbers, but got dtype {array.dtype}.")
    return array


def _is_arraylike(value: Any) -> bool:
    return isinstance(value, list | tuple | float | int | np.ndarray | np.generic) or hasattr(value, "__array__")


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__}" + (f" of shape {tuple(shape)}" if isinstance(shape, tuple) else "")


def result(value: Any) -> Array:
    """A jax array from either module."""
    return jnp.asarray(value)
