"""What a `Predictive` may be made of, and how its examples are selected."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._checks import InputError, is_concrete


def selection(rows: Any, size: int) -> Any:
    """A slice or a one-dimensional index that selects among `size` examples; one beyond them jax would clamp."""
    if isinstance(rows, slice) or not is_concrete(rows):
        return rows
    index = np.asarray(rows)
    if index.ndim == 1 and index.size == 0:
        index = index.astype(np.intp)
    if (
        isinstance(rows, tuple)
        or index.ndim > 1
        or index.dtype.kind not in "iub"
        or (index.dtype.kind == "b" and index.shape != (size,))
    ):
        raise InputError(
            f"Examples are selected by a number, a slice, whole numbers or {size} booleans, but got {rows!r}."
        )
    if index.dtype.kind == "b":
        return np.flatnonzero(index)
    beyond = np.atleast_1d(index)[np.atleast_1d((index < -size) | (index >= size))]
    if len(beyond):
        raise InputError(f"There are {size} examples, but example {beyond[0]} was asked for.")
    return np.atleast_1d(index)


def check_outputs(outputs: Any, likelihood: Any) -> None:
    """Raise unless outputs are `(M, N, …, width)`, of some members, as wide as the likelihood reads."""
    width = getattr(likelihood, "width", None)
    if (
        np.ndim(outputs) < 3
        or outputs.shape[0] == 0
        or (width is not None and outputs.shape[-1] != width + likelihood.free)
    ):
        columns = "width" if width is None else width + likelihood.free
        raise InputError(
            f"`Predictive` expected outputs of shape (M, N, {columns}), members first, for {likelihood!r}, but got "
            f"{np.shape(outputs)}."
        )


def check_weight(weight: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise unless these are weights of `(M, N)` members and examples, `(M,)` or `(M, N)`, that sum to 1."""
    size, num = shape
    if weight.shape not in ((size,), (size, num)):
        raise InputError(
            f"`weight` expected one number for each of the {size} members, or ({size}, {num}) of them, but has shape "
            f"{weight.shape}."
        )
    if (weight == 0).all():
        raise InputError("There is nothing to predict with: every member has weight 0 (all of them diverged).")
    total = weight.sum(0)
    if not ((weight >= 0).all() and (abs(total - 1) < 1e-3).all()):
        worst = total if total.ndim == 0 else total[np.argmax(np.where(np.isnan(total), np.inf, abs(total - 1)))]
        raise InputError(
            f"`weight` expected non-negative numbers that sum to 1, but they sum to {worst:.4g}, the "
            f"smallest being {weight.min():.4g}. Divide them by their sum."
        )
