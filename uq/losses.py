"""Training losses for `map_estimate(loss=…)`: `(likelihood, outputs, y) -> (N,)`, one value an example.

They shape training only. Predictions, early stopping and Bayesian methods use the likelihood's log-density.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from ._checks import InputError
from ._typing import Array
from .likelihoods import Likelihood


def negative_log_likelihood(likelihood: Likelihood, outputs: Array, y: Array) -> Array:
    """Minus the log-density, in nats: the default."""
    return -likelihood.log_prob(outputs, y)


@dataclass(frozen=True)
class beta_nll:  # a value, so that equal settings share one compiled program
    """Gaussian negative log-likelihood, each example weighted by its own variance to the power `beta`.

    Plain likelihood training of mean and variance lets a large early variance switch off the gradient of the mean
    where the fit is poor; the weight (whose gradient is stopped) puts it back. 0 is the likelihood itself, 1 trains
    the mean as squared error does.

    Args:
      beta: between 0 and 1; the paper recommends 0.5.
    Raises:
      InputError: `beta` outside [0, 1]; when called, a likelihood that has no variance to weight with.
    References:
      seitzer2022, eq. 5.
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise InputError(f"`beta` expected a number from 0 to 1, but it is {self.beta}.")

    def __call__(self, likelihood: Any, outputs: Array, y: Array) -> Array:
        if not hasattr(likelihood, "parameters"):
            raise InputError(
                f"beta_nll weights by a predicted variance, but {likelihood!r} has none; use it with "
                "uq.likelihoods.Gaussian."
            )
        mean, scale = likelihood.parameters(outputs)
        if likelihood.num_outputs == 1:
            return -likelihood.log_prob(outputs, y) * jax.lax.stop_gradient(scale) ** (2 * self.beta)
        one = type(likelihood)(1, likelihood.min_scale)
        raw = jnp.stack([mean, outputs[..., likelihood.num_outputs :]], -1)
        weight = jax.lax.stop_gradient(scale) ** (2 * self.beta)
        return (-one.log_prob(raw, y) * weight).sum(-1)
