"""Counts: Poisson, negative binomial, and Poisson with additional zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._typing import Array
from ._links import MEAN_LIMIT, SHAPE_LIMIT, as_outcome, bounded_exp, columns_of, law_log_prob, limited
from ._targets import check_counts


@dataclass(frozen=True)
class Poisson:
    """Counts whose variance is their mean: log rate from one output, bounded smoothly at ±20.

    For counts over unequal exposures, add the logarithm of the exposure to the output in the network.

    References:
      mccullagh1989, chapter 6. Checked against scipy.stats.poisson.
    """

    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "none"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 1
    num_outputs: ClassVar[int] = 1

    def parameters(self, outputs: Array) -> tuple[Array]:
        """The rate, `(…,)`."""
        outputs = columns_of(self, outputs)
        return (bounded_exp(outputs[..., 0], MEAN_LIMIT),)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return law_log_prob(self.distribution(outputs), as_outcome(y, outputs))

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.Poisson(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_counts(y, "Poisson")


@dataclass(frozen=True)
class NegativeBinomial:
    """Counts that vary more than Poisson: variance = mean + mean² / concentration.

    The network gives log mean and log concentration, bounded smoothly at ±20 and ±10. A large concentration is
    nearly Poisson.

    References:
      hilbe2011, chapter 8 (NB2). Checked against scipy.stats.nbinom.
    """

    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "none"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 2
    num_outputs: ClassVar[int] = 1

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Mean and concentration, each `(…,)`."""
        outputs = columns_of(self, outputs)
        return bounded_exp(outputs[..., 0], MEAN_LIMIT), bounded_exp(outputs[..., 1], SHAPE_LIMIT)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return law_log_prob(self.distribution(outputs), as_outcome(y, outputs))

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.NegativeBinomial2(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_counts(y, "NegativeBinomial")


@dataclass(frozen=True)
class ZeroInflatedPoisson:
    """Poisson counts that with a learned probability are 0 whatever the rate.

    The network gives the logit of that probability (bounded smoothly at ±10) and the log rate (at ±20).

    References:
      lambert1992, section 2. Checked against the mixture of scipy.stats.poisson and a point mass.
    """

    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "none"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 2
    num_outputs: ClassVar[int] = 1

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Probability of an additional zero, and rate, each `(…,)`."""
        outputs = columns_of(self, outputs)
        gate = jax.nn.sigmoid(limited(outputs[..., 0], SHAPE_LIMIT))
        return gate, bounded_exp(outputs[..., 1], MEAN_LIMIT)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        outputs = columns_of(self, outputs)
        logit, rate = limited(outputs[..., 0], SHAPE_LIMIT), bounded_exp(outputs[..., 1], MEAN_LIMIT)
        stay = jax.nn.log_sigmoid(-logit)
        zero = jnp.logaddexp(jax.nn.log_sigmoid(logit), stay - rate)
        y = as_outcome(y, outputs)
        return jnp.where(y == 0, zero, stay + Poisson().log_prob(outputs[..., 1:], y))

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.ZeroInflatedPoisson(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_counts(y, "ZeroInflatedPoisson")
