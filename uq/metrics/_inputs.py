"""What a metric takes, brought to one form: the only place that looks at types.

Concrete inputs are checked; what they are then computed with is decided by `_route`. Rows of weight 0 are replaced by
copies of a live row before anything looks at them, so that padding may hold anything.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import laws
from .._checks import InputError, check_finite, check_same_length, is_concrete, refuse_masked
from .._typing import Array, ArrayLike
from ..likelihoods import _check_labels
from ..predictive import Predictive
from ._estimate import check_weight
from ._route import numeric as numeric
from ._route import widest

_SUM_TOLERANCE = 1e-3
_RANGE_TOLERANCE = 1e-6


class Classes(NamedTuple):
    probs: Any
    """Class probabilities, `(N, C)`; C = 2 for yes or no."""
    labels: Any
    """Classes that came about, `(N,)`, whole numbers from 0 to C − 1."""


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


def classes(name: str, pred: Any, y: ArrayLike, weight: Any = None, *, unchecked: bool = False) -> Classes:
    """Probabilities `(N, C)` and labels `(N,)` from a `Predictive`, a numpyro distribution or an array, checked.

    An array is `(N, C)`; `(N,)` and `(N, 1)` are probabilities of the second of two classes. Rows of weight 0 are
    replaced by copies of a live one. Floating dtypes are kept, half precision apart. With `unchecked`, the caller
    checks the probabilities, with `are_sound`, while it reads them anyway.
    """
    y = y if isinstance(y, jax.Array) else np.asarray(y)
    if weight is not None and not isinstance(pred, Predictive) and not is_distribution(pred):
        pred = live_rows(name, _array(name, pred), weight)
    probs = _class_probs(name, pred, unchecked)
    size, num_classes = probs.shape
    check_same_length(size, y)
    labels = _check_labels(live_rows(name, y, weight), num_classes, f"`{name}`")
    if labels.ndim != 1:
        raise InputError(f"`{name}` expected labels of shape ({size},), but `y` has shape {labels.shape}.")
    return Classes(_widened(probs), labels)


def check_one_each(name: str, pred: Predictive) -> None:
    """Raise where a `Predictive` of classes predicts several positions of each example."""
    if pred.task in ("binary", "multiclass") and np.ndim(pred.outputs) > 3:
        members, *examples, width = pred.outputs.shape
        raise InputError(
            f"`{name}` expected one prediction an example, but these are of shape {tuple(examples)}, several positions "
            f"of each: make each an example, uq.Predictive(pred.outputs.reshape({members}, -1, {width}), "
            "pred.likelihood), with outcomes y.reshape(-1)."
        )


def num_classes(d: Any) -> int | None:
    """How many classes a numpyro distribution chooses among; None where it is none of classes."""
    names = [base.__name__ for base in type(d).__mro__]
    if any(name.startswith("Bernoulli") for name in names):
        return 2
    if any(name.startswith("Categorical") or name == "OrderedLogistic" for name in names):
        return int(d.support.upper_bound) + 1
    return None


def labels(name: str, y: ArrayLike, count: int) -> Any:
    """`y` as whole-number labels from 0 to `count` − 1."""
    return _check_labels(y, count, f"`{name}`")


def class_probs(name: str, pred: Any, weight: Any = None) -> Any:
    """Probabilities `(N, C)` alone, for quantities that need no outcome."""
    if weight is not None and not isinstance(pred, Predictive) and not is_distribution(pred):
        pred = live_rows(name, _array(name, pred), weight)
    return _widened(_class_probs(name, pred))


def live_rows(name: str, tree: Any, weight: Any) -> Any:
    """`tree` with each row of weight 0 replaced by a copy of the first row that counts."""
    if weight is None:
        return tree
    size = jax.tree.leaves(tree)[0].shape[0]
    weight = check_weight(name, weight, size)
    xp = np if all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves((tree, weight))) else jnp
    index = xp.where(weight > 0, xp.arange(size), xp.argmax(weight > 0))
    return jax.tree.map(lambda leaf: xp.asarray(leaf)[index], tree)


def _widened(array: Any) -> Any:
    """Half precision and integers as floating numbers of at least 32 bits."""
    xp = jnp if isinstance(array, jax.Array) else np
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array.astype(np.float64 if xp is np else jnp.result_type(float))
    return array if array.dtype.itemsize >= 4 else array.astype(np.float32)


def _class_probs(name: str, pred: Any, unchecked: bool = False) -> Any:
    if isinstance(pred, Predictive):
        if pred.task == "regression":
            raise InputError(f"`{name}` expected predictions of classes, but these are regression ones.")
        check_one_each(name, pred)
        return pred.probs
    if is_distribution(pred):
        return laws.class_probs(pred)
    probs = _array(name, pred)
    if probs.ndim == 0 or probs.ndim > 2 or 0 in probs.shape:
        raise InputError(
            f"`{name}` expected a Predictive or class probabilities of shape (N, C), or (N,) for two "
            f"classes, with N ≥ 1, but got shape {probs.shape}."
        )
    if probs.ndim == 1:
        probs = probs[:, None]
    if is_concrete(probs) and not unchecked:
        _check_probs(name, np.asarray(probs))
    if probs.shape[1] == 1:
        xp = jnp if isinstance(probs, jax.Array) else np
        probs = xp.concatenate([1 - probs, probs], axis=1)
    return probs


def are_sound(lowest: Any, highest: Any, least_sum: Any, greatest_sum: Any) -> bool:
    """Whether such are the extremes, found by numpy, of rows of probabilities; NaN is not."""
    within = lowest >= -_RANGE_TOLERANCE and highest <= 1 + _RANGE_TOLERANCE
    return bool(within and least_sum >= 1 - _SUM_TOLERANCE and greatest_sum <= 1 + _SUM_TOLERANCE)


def _check_probs(name: str, probs: np.ndarray) -> None:
    if _are_probs(probs):
        return
    probs = np.asarray(probs, np.float64)
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


def _are_probs(probs: np.ndarray) -> bool:
    """Whether all is well, found quickly in the array's own dtype; NaN and infinity fail the comparisons."""
    if probs.dtype not in (np.float32, np.float64):
        return False
    if not probs.min() >= -_RANGE_TOLERANCE:
        return False
    if probs.shape[1] == 1:
        return bool(probs.max() <= 1 + _RANGE_TOLERANCE)
    sums = np.einsum("ij->i", probs) - 1  # not `@`, whose threads wait for each other on a busy machine
    low, high = sums.min(), sums.max()
    if not (low >= -_SUM_TOLERANCE and high <= _SUM_TOLERANCE):
        return False
    return bool(high <= _RANGE_TOLERANCE or probs.max() <= 1 + _RANGE_TOLERANCE)


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


def floating(*arrays: Any) -> tuple[Any, ...]:
    """The arrays in one floating dtype of at least 32 bits: that of the jax arrays where there are any; None stays.

    A float64 outcome beside float32 predictions on a device does not widen them.
    """
    given = [each for each in arrays if each is not None]
    deciding = [each for each in given if isinstance(each, jax.Array)] or given
    kinds = [each.dtype for each in deciding if jnp.issubdtype(each.dtype, jnp.floating)]
    kind = widest(kinds) if kinds else None
    if kind is None:
        kind = jnp.result_type(float) if isinstance(deciding[0], jax.Array) else np.dtype(np.float64)
    kind = kind if kind.itemsize >= 4 else np.dtype(np.float32)
    return tuple(each if each is None or each.dtype == kind else each.astype(kind) for each in arrays)


def array(name: str, what: str, value: Any, *, infinite: bool = False) -> Any:
    """`value` as an array of numbers without NaN, not empty; infinities only where they mean something."""
    value = _array(name, value)
    if 0 in value.shape:
        raise InputError(f"`{name}` expected `{what}` to hold at least one number, but its shape is {value.shape}.")
    if not is_concrete(value):
        return value
    values = np.asarray(value)
    if values.dtype.kind in "biu" or (not infinite and sums_to_a_number(values)):
        return value
    bad = np.isnan(values.astype(np.float64, copy=False)) if infinite else ~np.isfinite(values)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        where = f"`{what}[{', '.join(map(str, place))}]`" if place else "it"
        kind = "numbers that are not NaN" if infinite else "finite numbers"
        raise InputError(
            f"`{name}` expected {kind} in `{what}` of shape {values.shape}, but {where} is {values[place]}. "
            "Drop or impute those rows first."
        )
    return value


def sums_to_a_number(values: np.ndarray) -> bool:
    """Whether all are finite, told from their sum: one quick pass, and no array of booleans. Where it overflows, no."""
    with np.errstate(all="ignore"):
        return bool(np.isfinite(values.sum(dtype=None if values.dtype.kind == "f" else np.float64)))


def member_weight(name: str, weight: Any, size: int) -> Any:
    """Weights of members, `(M,)`, divided by their sum; None where they are equal."""
    if weight is None:
        return None
    weight = floating(array(name, "member_weight", weight))[0]
    if weight.shape != (size,):
        raise InputError(
            f"`{name}` expected `member_weight` of shape ({size},), one number a member, but it is {weight.shape}."
        )
    if is_concrete(weight):
        values = np.asarray(weight)
        if (values < 0).any() or not values.any():
            raise InputError(
                f"`{name}` expected `member_weight` that is not negative and not all 0, but the smallest is "
                f"{values.min():.4g} and the largest {values.max():.4g}."
            )
    return weight / weight.sum()


def choice(name: str, setting: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise unless a setting is one of its published variants."""
    if value not in known:
        said = " or ".join(repr(each) for each in known)
        raise InputError(f"`{name}` expected `{setting}` to be {said}, but it is {value!r}.")


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
    refuse_masked(name, value)
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
