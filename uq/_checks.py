"""Checks with good sentences: what was expected, what came, what to do.

Shapes are checked everywhere, since they are static. Values are checked only when they are concrete, so that
everything still runs under `jit`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class InputError(ValueError):
    """Something given to `uq` cannot be used; the message says what, why, and what to do."""


class UQWarning(UserWarning):
    """Something legal that usually is a mistake: an ensemble of one, a constant feature, a diverged member."""


def is_concrete(value: Any) -> bool:
    """Whether every leaf holds numbers now, that is, none of them is being traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def path_name(path: Sequence[Any]) -> str:
    """`params/Dense_0/kernel` for a JAX key path."""
    return jax.tree_util.keystr(tuple(path), simple=True, separator="/")


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a misspelt name, suggesting the nearest known one."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "choose one of those."
    return InputError(f"There is no {kind} {name!r}; the {kind}s are {', '.join(sorted(known))}: {hint}")


def row_list(rows: np.ndarray, limit: int = 5) -> str:
    shown = ", ".join(str(int(r)) for r in rows[:limit])
    more = f" and {len(rows) - limit} more" if len(rows) > limit else ""
    return f"row {shown}" if len(rows) == 1 else f"rows {shown}{more}"


def check_finite(name: str, value: Any) -> None:
    """Raise if a concrete floating array holds NaN or infinity; the message names the rows."""
    if not is_concrete(value):
        return
    value = np.asarray(value)
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return
    bad = ~np.isfinite(value.astype(np.float64) if value.dtype.itemsize < 4 else value)
    if bad.any():
        if value.ndim == 0:
            raise InputError(f"`{name}` expected a finite number, but it is {value}.")
        rows = np.flatnonzero(bad.reshape(bad.shape[0], -1).any(axis=1))
        raise InputError(
            f"`{name}` expected finite numbers, but {row_list(rows)} of {value.shape[0]} "
            f"hold{'s' if len(rows) == 1 else ''} NaN or infinity. Drop or impute those rows first."
        )


def leading_size(name: str, tree: Any) -> int:
    """The common length of the leading axis of every leaf of `tree`."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    if not leaves:
        raise InputError(f"`{name}` expected at least one array, but it is an empty pytree.")
    sizes = {}
    for path, leaf in leaves:
        label = f"{name}/{path_name(path)}" if path else name
        if np.ndim(leaf) == 0:
            raise InputError(f"`{label}` expected one entry an example, but it is a scalar.")
        sizes[label] = np.shape(leaf)[0]
    if len(set(sizes.values())) > 1:
        said = ", ".join(f"`{label}` has {size}" for label, size in sizes.items())
        raise InputError(f"Expected the same number of examples (leading axis) everywhere, but {said}.")
    return next(iter(sizes.values()))


def check_inputs(x: Any, *, name: str = "x") -> Any:
    """`x` as arrays: every leaf numeric, finite, with the same number of examples."""
    x = as_arrays(name, x)
    size = leading_size(name, x)
    if size == 0:
        raise InputError(f"`{name}` expected at least one example, but it is empty (0 rows).")
    for path, leaf in jax.tree_util.tree_flatten_with_path(x)[0]:
        check_finite(f"{name}/{path_name(path)}" if path else name, leaf)
    return x


def as_arrays(name: str, x: Any) -> Any:
    """`x` with every leaf a numeric array; nested lists of numbers are one array."""
    if isinstance(x, list | tuple) and x and all(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(x)):
        return as_numeric(name, x)
    return jax.tree.map(lambda leaf: as_numeric(name, leaf), x)


def refuse_masked(name: str, value: Any) -> None:
    """Raise for a masked array that masks something: as a plain array it would show what is under the mask."""
    if np.ma.is_masked(value):
        mask = np.atleast_1d(np.ma.getmaskarray(value))
        rows = np.flatnonzero(mask.reshape(len(mask), -1).any(1))
        raise InputError(f"`{name}` masks {row_list(rows)}: drop those rows, or fill them, first.")


def as_numeric(name: str, leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
        return leaf
    refuse_masked(name, leaf)
    try:
        array = np.asarray(leaf)
    except ValueError as error:
        raise InputError(
            f"`{name}` expected a rectangular array, but it cannot be made into one ({error}). "
            "Pad ragged rows to one length."
        ) from None
    if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
        raise InputError(
            f"`{name}` expected numbers, but its dtype is {array.dtype}. Encode text and categories as numbers first."
        )
    return array


def check_width_of_inputs(x: Any, example: Any, *, name: str = "x", like: str = "in training") -> None:
    """Raise unless one example of `x` has the shape that the networks were trained on."""
    want = jax.tree_util.tree_flatten_with_path(example)[0]
    got = jax.tree_util.tree_flatten_with_path(x)[0]
    if [path for path, _ in want] != [path for path, _ in got]:
        names = ", ".join(path_name(path) or "one array" for path, _ in want)
        raise InputError(f"`{name}` expected the same parts as {like} ({names}).")
    for (path, leaf), (_, given) in zip(want, got, strict=True):
        if np.shape(given)[1:] != np.shape(leaf):
            label = f"{name}/{path_name(path)}" if path else name
            raise InputError(
                f"`{label}` expected shape {('N', *np.shape(leaf))}, as {like}, but has shape {np.shape(given)}."
            )


def check_same_length(x_size: int, y: Any, *, name: str = "y") -> None:
    """Raise unless `y` has one entry for each of the `x_size` examples."""
    if np.ndim(y) == 0 or np.shape(y)[0] != x_size:
        raise InputError(
            f"`{name}` expected one entry for each of the {x_size} examples of `x`, but its shape is {np.shape(y)}."
        )


def as_labels(name: str, labels: Any) -> np.ndarray:
    """Labels of groups, one a row, none missing, of any kind that can be put in order: `(N,)`.

    Raises:
      InputError: a label is missing (None, NaN, masked), there are several a row, or they cannot be put in order.
    """
    refuse_masked(name, labels)
    given = list(labels) if isinstance(labels, list | tuple) else None
    try:
        array = np.asarray(labels)
    except ValueError:
        raise InputError(f"`{name}` expected one label a row, but rows hold different numbers of them.") from None
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise InputError(f"`{name}` expected one label a row, (N,), but its shape is {array.shape}.")
    # A list is looked at as it is: as an array of text it would hold the text "nan".
    for row, label in enumerate(array.tolist() if given is None else given):
        if _is_missing(label):
            raise InputError(
                f"`{name}` expected a label an example, but row {row} has none (it is {label}). Give those a label of "
                "their own."
            )
    if array.dtype == object:
        try:
            np.unique(array)
        except TypeError:
            kinds = sorted({type(label).__name__ for label in array.tolist()})
            raise InputError(
                f"`{name}` expected labels that can be put in order, but they are {' and '.join(kinds)}."
            ) from None
    return array


def _is_missing(label: Any) -> bool:
    """Whether it is None, NaN, NaT or the like: nothing else differs from itself, or will not say."""
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError):
        return True


def check_level(name: str, level: Any) -> None:
    """Raise unless a concrete `level` lies strictly between 0 and 1."""
    if not is_concrete(level):
        return
    try:
        values = np.asarray(level, np.float64)
    except (TypeError, ValueError):
        values = np.array(np.nan)
    if values.size == 0 or not np.all((values > 0) & (values < 1)):
        raise InputError(f"`{name}` expected a fraction strictly between 0 and 1, but it is {level}; 0.9 means 90 %.")


def check_count(name: str, value: Any, *, least: int = 1) -> int:
    """`value` as an int of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"`{name}` expected a whole number of at least {least}, but it is {value!r}.")
    return int(value)


def place_in_own_code(error: BaseException) -> str:
    """Where in the user's own code an error arose: the innermost line outside installed packages and this one."""
    found = "a line"
    step = error.__traceback__
    while step is not None:
        name = step.tb_frame.f_code.co_filename
        if "site-packages" not in name and not name.startswith((_HERE, "<")):
            found = f"{Path(name).name}, line {step.tb_lineno},"
        step = step.tb_next
    return found


_HERE = str(Path(__file__).parent)
