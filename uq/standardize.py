"""Centring and scaling of inputs and targets, in float64 on the host, undone exactly downstream."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import UQWarning, is_concrete
from ._typing import PyTree


class Scaling(NamedTuple):
    mean: np.ndarray
    """`(d,)` or (), float64."""
    scale: np.ndarray
    """`(d,)` or (), float64; 1 where the values are constant."""

    def apply(self, x: PyTree) -> PyTree:
        """`(x − mean) / scale` in the precision of `x`, from float64 arithmetic."""
        if not is_concrete(x):
            x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.result_type(float))
            return (x - self.mean.astype(x.dtype)) / self.scale.astype(x.dtype)
        kind = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize >= 4 else jnp.result_type(float)
        dtype = jax.dtypes.canonicalize_dtype(kind)
        return ((np.asarray(x, np.float64) - self.mean) / self.scale).astype(dtype)


def scaling_of(values: Any) -> Scaling:
    """Mean and standard deviation over examples; a constant column keeps scale 1."""
    values = np.asarray(values, np.float64)
    unit = np.max(np.abs(values), axis=0)  # squares of huge numbers overflow, those of tiny ones vanish
    unit = np.where((unit > 1e-100) & (unit < 1e100), 1.0, np.where(unit == 0, 1.0, unit))
    mean = (values / unit).mean(0) * unit
    scale = ((values - mean) / unit).std(0) * unit
    # A column whose spread is rounding error is constant.
    constant = scale <= 1e-12 * np.maximum(np.abs(mean), 1e-300)
    return Scaling(mean, np.where(constant, 1.0, scale))


def input_scaling(x: PyTree) -> Scaling | None:
    """The scaling of rank-2 floating inputs; None for anything else (images, tokens, pytrees)."""
    if len(jax.tree.leaves(x)) != 1 or not hasattr(x, "dtype"):
        return None
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        return None
    scaling = scaling_of(x)
    constant = np.flatnonzero(np.ptp(np.asarray(x), axis=0) == 0)
    if len(constant):
        which = ", ".join(str(i) for i in constant[:5]) + (", …" if len(constant) > 5 else "")
        warnings.warn(
            f"Feature{'s' if len(constant) > 1 else ''} {which} of `x` "
            f"{'are' if len(constant) > 1 else 'is'} constant and cannot inform a prediction; only centred, not "
            "scaled. Drop the column, or ignore this.",
            UQWarning,
            stacklevel=4,
        )
    return scaling
