"""Losses around the log-density: itself, weighted by the variance, and with the evidential regulariser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import InputError
from .._typing import Array
from ..likelihoods import Evidential, Likelihood
from ._common import below, check_coefficient


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
      InputError: `beta` outside [0, 1]; when called, a likelihood that is not Gaussian with independent outputs.
    References:
      seitzer2022, eq. 5.
    """

    beta: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.beta <= 1:
            raise InputError(f"`beta` expected a number from 0 to 1, but it is {self.beta}.")

    def __call__(self, likelihood: Any, outputs: Array, y: Array) -> Array:
        likelihood, y = below(likelihood, y)
        if type(likelihood).__name__ not in ("Gaussian", "HomoscedasticGaussian"):
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


@dataclass(frozen=True)
class evidential:
    """Negative log-likelihood of the `Evidential` head + coefficient · |y − γ| (2ν + α): less evidence where it errs.

    The coefficient decides how much epistemic variance the head claims; data do not (see `uq.likelihoods.Evidential`).

    Args:
      coefficient: λ ≥ 0; the paper's code uses 0.01.
    Raises:
      InputError: when called, another likelihood.
    References:
      amini2020, section 3.3; meinert2023 (its critique).
    """

    coefficient: float = 0.01

    def __post_init__(self) -> None:
        check_coefficient(self.coefficient)

    def __call__(self, likelihood: Any, outputs: Array, y: Array) -> Array:
        inner, z = below(likelihood, y)
        if not isinstance(inner, Evidential):
            raise InputError(f"The loss evidential is for uq.likelihoods.Evidential(), but got {likelihood!r}.")
        loc, nu, alpha, _ = inner.parameters(outputs)
        return -likelihood.log_prob(outputs, y) + self.coefficient * jnp.abs(z - loc) * (2 * nu + alpha)
