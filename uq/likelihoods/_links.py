"""From raw outputs, any real numbers, to parameters that a density accepts, finite at any output.

A head is trained from arbitrary initial weights, so a link must give finite values and gradients at ±10⁴: plain
`exp` overflows at 89 in float32, and `softplus` alone reaches 0.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import InputError
from .._typing import Array

MEAN_LIMIT = 20.0
"""|log| of a mean or rate at most: from 2e-9 to 5e8."""
SHAPE_LIMIT = 10.0
"""|log| of a concentration at most: from 5e-5 to 2e4."""


def limited(raw: Array, limit: float) -> Array:
    """`raw` near 0, bounded by ± `limit`: limit · tanh(raw / limit)."""
    return limit * jnp.tanh(raw / limit)


def bounded_exp(raw: Array, limit: float) -> Array:
    """exp(limited(raw)): positive, between e^−limit and e^limit; the logarithmic link where |raw| is small."""
    return jnp.exp(limited(raw, limit))


@jax.custom_jvp
def softplus(raw: Array) -> Array:
    """log(1 + e^raw): the numbers of `jax.nn.softplus`, whose derivative compiles to three times the code."""
    return jnp.maximum(raw, 0) + jax.lax.log1p(jax.lax.exp(-jax.lax.abs(raw)))


@softplus.defjvp
def _softplus_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return softplus(*primals), tangents[0] * jax.lax.logistic(*primals)


def positive(raw: Array, floor: float) -> Array:
    """softplus(raw) + floor."""
    return softplus(raw) + floor


def raw_of(value: Array, floor: float) -> Array:
    """What `positive` turns into `value`; a value at or below the floor is taken to lie just above it."""
    above = jnp.maximum(value - floor, jnp.finfo(value.dtype).tiny)
    return above + jnp.log(-jnp.expm1(-above))


def as_outcome(y: Any, outputs: Array) -> Array:
    """Outcomes as numbers of the outputs' dtype: counts and labels arrive as integers."""
    return jnp.asarray(y).astype(outputs.dtype)


def law_log_prob(d: Any, y: Array) -> Array:
    """Log-density by `uq.laws`, whose forms hold in float32 where numpyro's own cancel; else by numpyro."""
    from .. import laws

    try:
        return laws.log_prob(d, y)
    except InputError:  # a family that `uq.laws` does not know
        return d.log_prob(y)


def columns_of(likelihood: Any, outputs: Array) -> Array:
    """`outputs`, if their last axis is as wide as the likelihood reads; a sentence where it is not."""
    width, free = likelihood.width, likelihood.free
    shape = jnp.shape(outputs)
    if not shape or shape[-1] != width + free:
        which = f", the last {free} of them free parameters (see `attach`)" if free else ""
        raise InputError(
            f"{likelihood!r} expected outputs of shape (…, {width + free}){which}, but got {shape}: index or widen the "
            "network's last layer."
        )
    return outputs


def check_floor(name: str, value: Any) -> None:
    """Raise unless `value` is a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"`{name}` expected a standard deviation of at least 0, but it is {value!r}.")
