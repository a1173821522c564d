"""Checks of targets, one function a kind of outcome: canonical shape and dtype out, a sentence where they do not fit.

Values are checked where they are concrete; shapes always.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .._checks import InputError, check_finite, is_concrete


def check_real(y: Any, num_outputs: int, name: str) -> Any:
    """Targets as `(N,)` or `(N, D)`, finite."""
    if not isinstance(y, jax.Array):
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            raise InputError(f"`y` expected numbers for {name}, but its dtype is {y.dtype}.")
    if num_outputs == 1:
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim == 2:
            raise InputError(_no_column(name, y.shape))
    elif y.ndim < 2 or y.shape[-1] != num_outputs:
        raise InputError(f"{name}({num_outputs}) expected targets of shape (N, {num_outputs}), but got {y.shape}.")
    check_finite("y", y)
    return y


def _no_column(name: str, shape: tuple[int, ...]) -> str:
    said = f"{name} expected targets of shape (N,), but `y` has shape {shape}"
    several = name in ("Gaussian", "HomoscedasticGaussian")
    return said + (
        f": several outputs need uq.likelihoods.{name}(num_outputs={shape[1]})."
        if several
        else f"; several outputs need uq.likelihoods.Gaussian(num_outputs={shape[1]}) or one model each."
    )


def check_positive(y: Any, name: str) -> Any:
    """Targets `(N,)` above 0."""
    y = check_real(y, 1, name)
    return _hold(y, lambda v: v > 0, f"{name} expected targets above 0", "Shift them, or use a likelihood for zeros.")


def check_unit(y: Any, name: str) -> Any:
    """Targets `(N,)` strictly between 0 and 1."""
    y = check_real(y, 1, name)
    hint = "Scale them into (0, 1); where 0 and 1 themselves occur, use uq.likelihoods.Censored(0, 1)."
    return _hold(y, lambda v: (v > 0) & (v < 1), f"{name} expected targets strictly between 0 and 1", hint)


def check_within(y: Any, lower: float, upper: float, name: str) -> Any:
    """Targets `(N,)` from `lower` to `upper`, ends included."""
    y = check_real(y, 1, name)
    if is_concrete(y) and y.dtype.kind == "f":  # 0.7 in float32 is below 0.7
        lower, upper = (float(np.asarray(end, y.dtype)) for end in (lower, upper))
    hint = "Outcomes beyond a limit are recorded at it: use np.clip."
    said = f"{name} expected targets from {lower:g} to {upper:g}"
    return _hold(y, lambda v: (v >= lower) & (v <= upper), said, hint)


def check_counts(y: Any, name: str) -> Any:
    """Whole numbers `(N,)` of at least 0, int32 where they fit."""
    y = check_real(y, 1, name)
    if not is_concrete(y):
        return y
    y = np.asarray(y)
    hint = "Counts are 0, 1, 2, …; for rates and amounts use uq.likelihoods.Gamma."
    _hold(y, lambda v: (v >= 0) & (v == np.round(v)), f"{name} expected whole numbers of at least 0", hint)
    return y.astype(np.int32 if y.size == 0 or y.max() < 2**31 else np.float64)


def _hold(y: Any, holds: Any, expected: str, hint: str) -> Any:
    """`y`, where `holds` is true of every concrete value; the message names the first rows where it is not."""
    if not is_concrete(y):
        return y
    values = np.asarray(y, np.float64)
    bad = np.flatnonzero(~np.atleast_1d(holds(values)))
    if len(bad):
        first = np.atleast_1d(values)[bad[0]]
        more = f" (and {len(bad) - 1} more rows are like it)" if len(bad) > 1 else ""
        raise InputError(f"{expected}, but row {bad[0]} of `y` is {first:g}{more}. {hint}")
    return y


def check_labels(y: Any, num_classes: int, name: str) -> Any:
    """Labels as int32 `(N,)`, all of them in range."""
    if not is_concrete(y):
        return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif y.ndim == 2 and y.shape[1] == num_classes and set(np.unique(y)) <= {0, 1} and (y.sum(1) == 1).all():
        raise InputError(f"{name} expected labels of shape (N,), but `y` looks one-hot: pass y.argmax(1).")
    if y.dtype.kind not in "biuf":
        raise InputError(f"{name} expected whole-number labels, but the dtype of `y` is {y.dtype}: encode them first.")
    if y.dtype.kind in "biu" and y.size and y.min() >= 0 and y.max() < num_classes:
        return y.astype(np.int32, copy=False)
    check_finite("y", y)
    wrong: Any = np.flatnonzero((y != np.round(y.astype(np.float64))).reshape(len(y), -1).any(1)) if y.ndim else []
    if len(wrong):
        raise InputError(f"{name} expected whole-number labels, but row {wrong[0]} of `y` is {y[wrong[0]]}.")
    outside: Any = np.flatnonzero(((y < 0) | (y >= num_classes)).reshape(len(y), -1).any(1)) if y.ndim else []
    if len(outside):
        raise InputError(
            f"{name} expected labels 0 to {num_classes - 1}, but row {outside[0]} of `y` is {y[outside[0]]}."
        )
    return y.astype(np.int32)


def check_indicators(y: Any, num_labels: int, name: str) -> Any:
    """Zeros and ones as int32 `(N, L)`."""
    if not isinstance(y, jax.Array):
        y = np.asarray(y)
    if y.ndim < 2 or y.shape[-1] != num_labels:
        raise InputError(
            f"{name} expected targets of shape (N, {num_labels}), a 0 or 1 for each label, but got {y.shape}."
        )
    if not is_concrete(y):
        return y
    y = np.asarray(y)
    if y.dtype.kind not in "biuf":
        raise InputError(f"{name} expected zeros and ones, but the dtype of `y` is {y.dtype}.")
    check_finite("y", y)
    wrong = np.argwhere((y != 0) & (y != 1))
    if len(wrong):
        raise InputError(
            f"{name} expected zeros and ones, but row {wrong[0][0]} of `y` holds {y[tuple(wrong[0])]} for label "
            f"{wrong[0][-1]}."
        )
    return y.astype(np.int32)
