"""What `fit` does before anything is compiled: checks, units, which rows each member trains on, and the arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import holdout
from ._checks import InputError, check_count, check_finite, check_inputs, check_same_length, leading_size
from ._training import Data
from ._typing import PyTree
from .likelihoods import Transformed, check_width, transformed
from .method import Method
from .standardize import Scaling, input_scaling, scaling_of

_CALL_ROWS = 2**21
"""How many row indices one call carries at most."""
_BATCH = 100
"""Rows of a batch where nothing is asked for."""
_STEPS = 8000
"""The updates that the default number of epochs aims at."""


class Settings(NamedTuple):
    """The shape of a run: what decides which program is compiled, and how long it goes."""

    size: int
    steps: int
    batch: int
    epochs: int
    call_epochs: int


def default_epochs(num_rows: int, batch_size: int) -> int:
    """Epochs such that about 8,000 updates are made, between 40 and 400: small data need more passes."""
    steps = -(-num_rows // batch_size)
    return int(np.clip(round(_STEPS / steps), 40, 400))


def check_data(method: Method, data: Any, weight: Any, validation: Any) -> tuple[PyTree, Any, np.ndarray, Any]:
    """Checked inputs and targets, with a given validation set appended, and normalised weights."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError("`data` expected a pair (x, y); pass example weights as weight=….")
    x, y = check_inputs(data[0]), method.likelihood.check(data[1])
    num_rows = leading_size("x", x)
    check_same_length(num_rows, y)
    if num_rows < 2:
        raise InputError("Training expected at least two examples, but `x` has one row.")
    weight = np.ones(num_rows) if weight is None else np.asarray(weight, np.float64)
    if weight.shape != (num_rows,):
        raise InputError(
            f"`weight` expected one number for each of the {num_rows} examples, but has shape {weight.shape}."
        )
    check_finite("weight", weight)
    if (weight < 0).any() or weight.sum() == 0:
        raise InputError("`weight` expected non-negative numbers that are not all zero.")
    weight = weight / weight.mean()
    if not isinstance(validation, tuple | list):
        return x, y, weight, None
    held_x, held_y = check_inputs(validation[0], name="validation x"), method.likelihood.check(validation[1])
    num_held = leading_size("validation x", held_x)
    check_same_length(num_held, held_y, name="validation y")
    if str(jax.tree.structure(held_x)) != str(jax.tree.structure(x)):
        raise InputError("The inputs of `validation` expected the same structure as `x`.")
    x = jax.tree.map(lambda a, b: np.concatenate([np.asarray(a), np.asarray(b)]), x, held_x)
    y = np.concatenate([np.asarray(y), np.asarray(held_y)])
    return x, y, np.concatenate([weight, np.ones(num_held)]), (held_x, held_y)


def standardize_inputs(
    x: PyTree, counted: np.ndarray, wanted: bool | None, start: PyTree
) -> tuple[Scaling | None, PyTree]:
    """Statistics are of the rows `counted`: a validation set and rows of weight 0 do not enter them."""
    if wanted is False or (wanted is None and start is not None):
        return None, x
    scaling = input_scaling(jax.tree.map(lambda leaf: leaf[counted], x))
    if scaling is None:
        if wanted:
            raise InputError("`standardize_inputs` needs `x` to be one floating array of shape (N, d).")
        return None, x
    return scaling, scaling.apply(x)


def standardize_targets(
    method: Method, y: Any, counted: np.ndarray, wanted: bool | None, start: PyTree
) -> tuple[Any, Any]:
    likelihood = method.likelihood
    if likelihood.task != "regression" or wanted is False or (wanted is None and start is not None):
        return likelihood, y
    if isinstance(likelihood, Transformed):
        return likelihood, y
    scaling = scaling_of(np.asarray(y)[counted])
    return transformed(likelihood, scaling.mean, scaling.scale), scaling.apply(y)


def choose_rows(
    method: Method, validation: Any, held: Any, num_rows: int, size: int, words: tuple[int, ...]
) -> holdout.Rows:
    if held is not None:
        return holdout.same_for_all(size, num_rows, len(held[1]))
    share = validation
    if share is None:
        share = 0.1 if method.early_stopping and num_rows >= 50 else 0.0
    rows = holdout.fraction(words, size, num_rows, float(share))
    if rows.held_out.shape[1] and method.evaluate is None:
        raise InputError(f"{method.name} cannot be stopped by held-out rows; pass validation=0.")
    return rows


def choose_batch_size(wanted: int | None, num_rows: int, rows: holdout.Rows) -> int:
    """Rows of a batch, no more than a member trains on."""
    if wanted is not None and check_count("batch_size", wanted) > num_rows:
        raise InputError(f"`batch_size` is {wanted}, but there are only {num_rows} examples; use at most {num_rows}.")
    return min(_BATCH if wanted is None else wanted, rows.train.shape[1])


def plan(rows: holdout.Rows, size: int, batch_size: int, epochs: int) -> Settings:
    num = rows.train.shape[1]
    steps = -(-num // batch_size)
    batch = -(-num // steps)
    call_epochs = int(np.clip(_CALL_ROWS // (size * steps * batch), 1, 32))
    return Settings(size, steps, batch, epochs, call_epochs)


def device_data(x: PyTree, y: Any, weight: np.ndarray, rows: holdout.Rows, settings: Settings, patience: int) -> Data:
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    num, batch = rows.train.shape[1], settings.batch
    mask = (np.arange(settings.steps * batch) < num).reshape(settings.steps, batch).astype(dtype)
    mask *= batch / mask.sum(1, keepdims=True)
    num_held = rows.held_out.shape[1]
    tests = -(-num_held // batch)
    held = (
        np.resize(rows.held_out, (settings.size, 0))
        if tests == 0
        else np.pad(rows.held_out, ((0, 0), (0, tests * batch - num_held)), mode="edge")
    )
    y = np.asarray(y)
    return Data(
        x=jax.tree.map(jnp.asarray, x),
        y=jnp.asarray(y, dtype if y.dtype.kind == "f" else None),
        weight=jnp.asarray(weight, dtype),
        mask=jnp.asarray(mask),
        held_out=jnp.asarray(held.reshape(settings.size, tests, batch), jnp.int32),
        held_out_mask=jnp.asarray((np.arange(tests * batch) < num_held).reshape(tests, batch).astype(dtype)),
        num_data=jnp.asarray(num, dtype),
        patience=jnp.asarray(patience, jnp.int32),
        progress=jnp.asarray([1 / (settings.steps * settings.epochs), 1.0], dtype),
    )


def check_network(method: Method, likelihood: Any, example: PyTree) -> None:
    """Raise, in a sentence, where the network cannot take `x` or its outputs do not fit the likelihood."""
    key = jax.random.key(0)
    try:
        outputs = jax.eval_shape(lambda x: method.model.apply(method.model.init(key, x), x)[0], example)
    except InputError:
        raise
    except Exception as error:
        shapes = jax.tree.map(lambda leaf: ("N", *leaf.shape[1:]), example)
        text = str(error).strip().splitlines()
        raise InputError(
            f"The network cannot take inputs of shape {shapes}. It says: {text[0] if text else type(error).__name__}"
        ) from error
    if not hasattr(outputs, "shape"):
        raise InputError(f"The network expected to return one array, but returns a {type(outputs).__name__}.")
    if not likelihood.free:  # `attach` has checked the others
        check_width(likelihood, outputs.shape, 1)
