"""Model → Model wrappers."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ._checks import InputError
from ._tree import is_float
from ._typing import Array, ArrayLike, Key, PyTree
from .execution import lowered
from .model import Model, Variables, as_model, compute_dtype


def standardized(model: Model, mean: ArrayLike, scale: ArrayLike) -> Model:
    """The model as a function of raw inputs, where it was trained on `(x − mean) / scale`.

    Args:
      model: a network of one array of inputs `(N, d)`.
      mean, scale: `(d,)`.
    """
    mean, scale = jnp.asarray(mean), jnp.asarray(scale)

    def inner(x: Array) -> Array:
        x = jnp.asarray(x)
        x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))
        return (x - mean.astype(x.dtype)) / scale.astype(x.dtype)

    def init(key: Key, x: PyTree) -> Variables:
        return model.init(key, inner(x))

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        return model.apply(variables, inner(x), key=key, train=train)

    return Model(init, apply)


def with_products(model: Model) -> Model:
    """The model with its convolutions run as slices and matrix products; see `uq.execution.lowered`."""

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        return lowered(functools.partial(model.apply, train=train))(variables, x, key=key)

    return Model(model.init, apply)


def mixed_precision(model: Any, dtype: Any = jnp.bfloat16) -> Model:
    """The model computed in few bits from weights kept in many: half the memory traffic, and matrix units.

    Inside `apply`, weights and floating inputs are rounded to `dtype`. Gradients, outputs and carried state are in the
    weights' own dtype, and so are optimizers and likelihoods. Carried averages (BatchNorm) are not rounded: their
    updates are smaller than the spacing of `dtype`. Integer inputs are left alone.

    It is faster on GPUs and TPUs; most CPUs emulate such products, and are slower. Predictions agree to about the
    rounding of `dtype` (bfloat16: 2 to 3 digits). Standardise inputs, as `fit` does: 10⁶ ± 1 has no digits left.
    float16 has one digit more, but a short range: gradients below 6e-8 vanish, and no loss is scaled to save them.

    Args:
      model: anything `uq.as_model` takes.
      dtype: floating dtype of the computation.
    Raises:
      InputError: `dtype` is not a floating one.
    Example:
      >>> import flax.linen as nn, jax
      >>> model = mixed_precision(nn.Dense(2))
      >>> variables = model.init(jax.random.key(0), jnp.ones((3, 4)))
      >>> variables.params["kernel"].dtype, model.apply(variables, jnp.ones((3, 4)))[0].dtype
      (dtype('float32'), dtype('float32'))
    """
    model, low = as_model(model), _floating(dtype)

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        narrow, mark = variables._replace(params=_cast(variables.params, low)), compute_dtype.set(low)
        try:
            with jax.numpy_dtype_promotion("standard"):  # averages of many bits meet activations of few
                outputs, state = model.apply(narrow, _cast(x, low), key=key, train=train)
                own = _widest(variables.params, x)
        finally:
            compute_dtype.reset(mark)
        state = jax.tree.map(lambda new, old: new.astype(old.dtype), state, variables.state) if train else state
        return _cast(outputs, own), state

    return Model(model.init, apply)


def _floating(dtype: Any) -> Any:
    try:
        found = jnp.dtype(dtype)
    except TypeError:
        found = None
    if found is None or not jnp.issubdtype(found, jnp.floating):
        raise InputError(f"`dtype` expected a floating dtype, such as jax.numpy.bfloat16, but it is {dtype!r}.")
    return found


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if is_float(leaf) else leaf, tree)


def _widest(params: PyTree, x: PyTree) -> Any:
    """The dtype in which the model by itself computes: that of its weights, or of inputs with more bits."""
    floats = [leaf.dtype for leaf in jax.tree.leaves((params, x)) if is_float(leaf)]
    return jax.dtypes.canonicalize_dtype(jnp.result_type(*floats) if floats else float)
