"""What `fit` does before anything is compiled: checks, units, which rows each member trains on, and the arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from . import holdout
from ._checks import (
    InputError,
    check_count,
    check_finite,
    check_inputs,
    check_same_length,
    check_width_of_inputs,
    leading_size,
    place_in_own_code,
    refuse_masked,
)
from ._training import Data, Own
from ._typing import PyTree
from .crossfit import rows_of
from .execution.compiling import uncollected
from .likelihoods import _standardized as standardized
from .likelihoods import _standardizes as standardizes
from .likelihoods import check_width
from .members import as_key
from .method import Method
from .standardize import Scaling, input_scaling

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
    shared: bool = False
    """Whether all members see the same batches."""


def default_epochs(num_rows: int, batch_size: int) -> int:
    """Epochs such that about 8,000 updates are made, between 40 and 400: small data need more passes."""
    steps = -(-num_rows // batch_size)
    return int(np.clip(round(_STEPS / steps), 40, 400))


def check_data(method: Method, data: Any, weight: Any, validation: Any) -> tuple[PyTree, Any, np.ndarray, Any]:
    """Checked inputs and targets, with a given validation set appended, and normalised weights."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError("`data` expected a pair (x, y); pass example weights as weight=….")
    refuse_masked("y", data[1])
    x, y = check_inputs(data[0]), method.likelihood.check(data[1])
    num_rows = leading_size("x", x)
    if isinstance(data[0], list | tuple) and np.shape(y)[:1] == (len(data[0]),) and len(y) != num_rows:
        raise InputError(
            f"`x` is a {type(data[0]).__name__} of {len(y)} arrays, which is taken for as many inputs of each example: "
            "if each is one example, make them one array, np.stack(x)."
        )
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
    if (weight > 0).sum() < 2:
        raise InputError("Training expected at least two examples of positive weight.")
    weight = weight / weight[weight > 0].mean()
    if not isinstance(validation, tuple | list):
        return x, y, weight, None
    if len(validation) != 2:
        raise InputError("`validation` expected a fraction or a pair (x, y).")
    held_x, held_y = check_inputs(validation[0], name="validation x"), method.likelihood.check(validation[1])
    num_held = leading_size("validation x", held_x)
    check_same_length(num_held, held_y, name="validation y")
    if str(jax.tree.structure(held_x)) != str(jax.tree.structure(x)):
        raise InputError("The inputs of `validation` expected the same structure as `x`.")
    check_width_of_inputs(held_x, jax.tree.map(lambda leaf: leaf[0], x), name="validation x")
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
    if wanted and not standardizes(likelihood):
        raise InputError(
            "`standardize_targets` is for the target of a regression that is not transformed already, and whose "
            "likelihood is one of any units (not of counts, fractions or classes)."
        )
    if not standardizes(likelihood) or wanted is False or (wanted is None and start is not None):
        return likelihood, y
    return standardized(likelihood, y, counted)


def choose_rows(
    method: Method,
    validation: Any,
    held: Any,
    counted: np.ndarray,
    num_rows: int,
    size: int,
    words: tuple[int, ...],
    *,
    shared: bool = False,
    scheme: Any = None,
    y: Any = None,
) -> holdout.Rows:
    """The rows each member trains on and is stopped by, among those `counted` (of positive weight).

    With `shared` batches, all members leave out the same. A `scheme` of cross-fitting leaves out others besides.
    """
    share = 0.0 if held is not None else validation
    if share is None:
        share = 0.1 if method.early_stopping and len(counted) >= 50 else 0.0
    if isinstance(share, bool) or not isinstance(share, int | float):
        raise InputError(f"`validation` expected a fraction or a pair (x, y), but got a {type(share).__name__}.")
    if scheme is not None:
        rows = _cross_rows(scheme, method, held, counted, num_rows, size, words, share, y, shared=shared)
    elif held is not None:
        rows = holdout.Rows(
            np.broadcast_to(counted.astype(np.int32), (size, len(counted))),
            np.broadcast_to(np.arange(num_rows, num_rows + len(held[1]), dtype=np.int32), (size, len(held[1]))),
        )
    else:
        found = holdout.fraction(words, 1 if shared else size, len(counted), share)
        train, out = (
            np.broadcast_to(counted[part].astype(np.int32), (size, part.shape[1]))
            for part in (found.train, found.held_out)
        )
        rows = holdout.Rows(train, out)
    if rows.held_out.shape[1] and method.evaluate is None:
        raise InputError(f"{method.name} cannot be stopped by held-out rows; pass validation=0.")
    return rows


def _cross_rows(
    scheme: Any,
    method: Method,
    held: Any,
    counted: np.ndarray,
    num_rows: int,
    size: int,
    words: tuple[int, ...],
    share: float,
    y: Any,
    *,
    shared: bool,
) -> holdout.Rows:
    if method.size is None:
        raise InputError("`holdout` lets members leave out different rows, but this method is for one network.")
    if shared:
        raise InputError("`holdout` lets members leave out different rows, which `shared_batches` cannot: drop one.")
    rows = rows_of(scheme, words, size, num_rows, counted, np.asarray(y)[:num_rows], share)
    if held is None:
        return rows
    own = np.arange(num_rows, num_rows + len(held[1]), dtype=np.int32)
    return rows._replace(held_out=np.broadcast_to(own, (size, len(own))))


def choose_batch_size(wanted: int | None, num_rows: int, rows: holdout.Rows) -> int:
    """Rows of a batch, no more than a member trains on."""
    if wanted is not None and check_count("batch_size", wanted) > num_rows:
        raise InputError(f"`batch_size` is {wanted}, but there are only {num_rows} examples; use at most {num_rows}.")
    return min(_BATCH if wanted is None else wanted, rows.num_train)


def plan(rows: holdout.Rows, size: int, batch_size: int, epochs: int, *, shared: bool = False) -> Settings:
    num = rows.num_train
    steps = -(-num // batch_size)
    batch = -(-num // steps)
    call_epochs = int(np.clip(_CALL_ROWS // (size * steps * batch), 1, 64))
    return Settings(size, steps, batch, epochs, call_epochs, shared)


def device_data(
    x: PyTree, y: Any, weight: np.ndarray, rows: holdout.Rows, settings: Settings, patience: int, own_y: Any = ()
) -> Data:
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    num, batch = rows.num_train, settings.batch
    mask = (np.arange(settings.steps * batch) < num).reshape(settings.steps, batch).astype(dtype)
    mask *= batch / mask.sum(1, keepdims=True)
    num_held = rows.held_out.shape[1]
    tests = -(-num_held // batch)
    held = (
        np.resize(rows.held_out, (settings.size, 0))
        if tests == 0
        else np.pad(rows.held_out, ((0, 0), (0, tests * batch - num_held)), mode="edge")
    )
    # Cast on the host and put: `jnp.asarray` compiles a program for each conversion.
    parts: dict[str, Any] = dict(
        x=x,
        y=y,
        weight=weight.astype(dtype),
        mask=mask,
        held_out=held.reshape(settings.size, tests, batch).astype(np.int32),
        held_out_mask=(np.arange(tests * batch) < num_held).reshape(tests, batch).astype(dtype),
        num_data=np.asarray(num, dtype),
        patience=np.asarray(patience, np.int32),
        progress=np.asarray([1 / (settings.steps * settings.epochs), 1.0], dtype),
        own=() if rows.left_out is None else Own(own_y, np.asarray(rows.num_own, dtype)),  # type: ignore[arg-type]
    )
    return jax.device_put(jax.tree.map(_canonical, Data(**parts)))


def _canonical(leaf: Any) -> Any:
    """A host array in the dtype that jax will give it; a device array as it is."""
    if isinstance(leaf, jax.Array):
        return leaf
    leaf = np.asarray(leaf)
    return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)


@uncollected()
def check_network(method: Method, likelihood: Any, example: PyTree, y: Any) -> Any:
    """The network on two rows of `x`, as jax reads it.

    Raises:
      InputError: the network cannot take them, or its outputs do not fit the targets.
    """
    key = as_key(0)
    try:
        variables = jax.eval_shape(method.model.init, key, example)
        forward, outputs = jax.make_jaxpr(lambda v, x: method.model.apply(v, x)[0], return_shape=True)(
            variables, example
        )
    except InputError:
        raise
    except Exception as error:
        shapes = jax.tree.map(lambda leaf: ("N", *leaf.shape[1:]), example)
        text = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, jax.errors.JAXTypeError | jax.errors.JAXIndexError):
            raise InputError(
                f"The network cannot be compiled: {place_in_own_code(error)} asks for numbers that are not there yet "
                f"({text.rstrip('.')}). Write jnp.where or jax.lax.cond instead of an `if`, and jnp instead of np."
            ) from error
        raise InputError(f"The network cannot take inputs of shape {shapes}. It says: {text}") from error
    if not hasattr(outputs, "shape"):
        raise InputError(f"The network expected to return one array, but returns a {type(outputs).__name__}.")
    if not likelihood.free:  # `attach` has checked the others
        check_width(likelihood, outputs.shape, 2)
    targets = np.shape(y)[1:-1] if getattr(likelihood, "num_outputs", 1) > 1 else np.shape(y)[1:]
    if outputs.shape[1:-1] != targets or outputs.shape[0] != 2:
        raise InputError(
            f"The network gives outputs of shape {('N', *outputs.shape[1:])} for targets of shape "
            f"{('N', *np.shape(y)[1:])}: it expected to give one row of outputs for each target. Flatten its inputs, "
            "or pool over positions, before the last layer."
        )
    return forward
