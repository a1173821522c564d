"""Model → Model wrappers."""

from __future__ import annotations

import jax.numpy as jnp

from ._typing import Array, ArrayLike, Key, PyTree
from .model import Model, Variables


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
