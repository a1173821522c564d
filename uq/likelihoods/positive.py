"""Positive numbers and fractions: LogNormal, Gamma, Beta."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._typing import Array
from ._links import MEAN_LIMIT, SHAPE_LIMIT, bounded_exp, check_floor, columns_of, law_log_prob, limited, positive
from ._targets import check_positive, check_unit
from .gaussian import Gaussian


@dataclass(frozen=True)
class LogNormal:
    """Positive outcomes whose logarithm is normal: errors that are factors, with a heavy upper tail.

    The network gives mean and raw scale of log y: `log y ~ N(mean, (softplus(raw) + min_scale)²)`. `fit` standardises
    the logarithm of the target, so that the posterior's likelihood is a `Gaussian` under `Log`, in the target's units.

    Args:
      min_scale: floor of the standard deviation of log y, in the units the network is trained in.
    References:
      johnson1994, chapter 14. Checked against scipy.stats.lognorm.
    """

    min_scale: float = 1e-3
    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "log"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 2
    num_outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_floor("min_scale", self.min_scale)

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of log y, each `(…,)`."""
        outputs = columns_of(self, outputs)
        return outputs[..., 0], positive(outputs[..., 1], self.min_scale)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        outputs = columns_of(self, outputs)
        log_y = jnp.log(y)
        return Gaussian(1, self.min_scale).log_prob(outputs, log_y) - log_y

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.LogNormal(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_positive(y, "LogNormal")


@dataclass(frozen=True)
class Gamma:
    """Positive outcomes with learned mean and concentration: waiting times, costs, amounts of rain.

    The network gives log mean and log concentration a (both bounded smoothly, at ±20 and ±10); the variance is
    mean² / a, so that a constant a is a constant relative error. `fit` divides the target by its mean.

    References:
      mccullagh1989, chapter 8 (mean and shape, logarithmic link). Checked against scipy.stats.gamma.
    """

    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "scale"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 2
    num_outputs: ClassVar[int] = 1

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Concentration and rate, each `(…,)`; the mean is their ratio."""
        outputs = columns_of(self, outputs)
        concentration = bounded_exp(outputs[..., 1], SHAPE_LIMIT)
        return concentration, concentration * jnp.exp(-limited(outputs[..., 0], MEAN_LIMIT))

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of scale · Y what these say of Y; `loc` is 0."""
        del loc
        share = (limited(outputs[..., :1], MEAN_LIMIT) + jnp.log(scale)) / MEAN_LIMIT
        edge = 1 - jnp.finfo(outputs.dtype).eps
        return jnp.concatenate([MEAN_LIMIT * jnp.arctanh(jnp.clip(share, -edge, edge)), outputs[..., 1:]], -1)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return law_log_prob(self.distribution(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.Gamma(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_positive(y, "Gamma")


@dataclass(frozen=True)
class Beta:
    """Fractions strictly between 0 and 1, with learned mean and precision.

    The network gives the logit of the mean m and log precision φ (both bounded smoothly at ±10): a = m φ,
    b = (1 − m) φ, variance m (1 − m) / (φ + 1).

    References:
      ferrari2004, section 2. Checked against scipy.stats.beta.
    """

    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "none"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 2
    num_outputs: ClassVar[int] = 1

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """The concentrations of 1 and of 0, each `(…,)`."""
        outputs = columns_of(self, outputs)
        logit, precision = limited(outputs[..., 0], SHAPE_LIMIT), bounded_exp(outputs[..., 1], SHAPE_LIMIT)
        return jax.nn.sigmoid(logit) * precision, jax.nn.sigmoid(-logit) * precision

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return law_log_prob(self.distribution(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.Beta(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_unit(y, "Beta")
