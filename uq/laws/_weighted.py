"""Weighted means over the component axis of a mixture: the first axis of values, with weights `(M,)` or `(M, …)`."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from .._typing import Array


def ranked(weight: Array, rank: int) -> Array:
    """Weights with trailing axes, so that they broadcast against `rank` axes."""
    return weight.reshape(weight.shape + (1,) * (rank - weight.ndim))


def mixture_mean(values: Array, weight: Array) -> Array:
    """Weighted mean over the component axis; values of components of weight 0 may be anything.

    Args:
      values: `(M, …)`.
      weight: `(M,)` or `(M, …)`, summing to 1 over the first axis.
    Returns:
      `(…)`.
    """
    weight = ranked(weight.astype(values.dtype), values.ndim)
    return jnp.where(weight > 0, weight * values, 0).sum(0)


def mixture_variance(means: Array, weight: Array) -> Array:
    """Variance of component means about their mixture mean, two-pass; arguments as `mixture_mean`."""
    return mixture_mean(jnp.square(means - mixture_mean(means, weight)), weight)


def mixture_log_prob(log_probs: Array, weight: Array) -> Array:
    """log Σ w exp(log p): component log-densities `(M, …)` to the mixture's `(…)`, without underflow."""
    weight = ranked(weight.astype(log_probs.dtype), log_probs.ndim)
    top = jax.lax.stop_gradient(jnp.where(weight > 0, log_probs, -jnp.inf).max(0))
    top = jnp.where(jnp.isfinite(top), top, 0)
    total = jnp.where(weight > 0, weight * jnp.exp(jnp.where(weight > 0, log_probs, 0) - top), 0).sum(0)
    positive = total > 0
    value = jnp.log(jnp.where(positive, total, 1)) + top
    return jnp.where(positive, value, jnp.where(jnp.isnan(total), total, -jnp.inf))
