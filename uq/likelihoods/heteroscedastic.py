"""Classes under noisy logits: labels that annotators disagree about where the input is ambiguous."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._checks import InputError, check_count
from .._typing import Array
from ._links import columns_of, softplus
from ._points import normal_points
from ._targets import check_labels
from .classes import pick


@dataclass(frozen=True)
class HeteroscedasticLogits:
    """One of C classes from Gaussian logits: p = E softmax((μ + V a + σ ⊙ b) / temperature), a and b standard normal.

    Label noise that differs from input to input, and with a rank, between which classes. The expectation is a mean
    over fixed quasi-random draws, the same for every example, so that the likelihood is a function of the outputs:
    it needs no key, repeats, and its probabilities sum to one.

    Args:
      num_classes: C. The network gives C means μ, then C raw scales (`σ = softplus(raw) + min_scale`), then C·R
        entries of V.
      rank: R, the columns of V; 0 for independent noise.
      temperature: of the softmax; below 1 it nears the argmax of the utilities. It trades bias for variance of
        gradients, and is chosen on held-out data.
      num_draws: draws, in pairs of opposite sign; memory is this many times C for each example.
      min_scale: floor of σ.
    References:
      collier2021, section 3; genz1992 (the draws). Checked against Monte Carlo with 300,000 draws.
    """

    num_classes: int
    rank: int = 0
    temperature: float = 1.0
    num_draws: int = 128
    min_scale: float = 1e-3
    task: ClassVar[str] = "multiclass"
    standardize: ClassVar[str] = "none"
    free: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_count("num_classes", self.num_classes, least=2)
        check_count("rank", self.rank, least=0)
        if check_count("num_draws", self.num_draws, least=2) % 2:
            raise InputError(f"`num_draws` expected an even number, for pairs of draws, but it is {self.num_draws}.")
        if not isinstance(self.temperature, int | float) or not 0 < self.temperature < math.inf:
            raise InputError(f"`temperature` expected a positive number, but it is {self.temperature!r}.")

    @property
    def width(self) -> int:
        return self.num_classes * (2 + self.rank)

    def parameters(self, outputs: Array) -> tuple[Array, Array, Array]:
        """Means `(…, C)`, scales `(…, C)` and V `(…, C, R)`."""
        outputs = columns_of(self, outputs)
        num = self.num_classes
        scale = softplus(outputs[..., num : 2 * num]) + self.min_scale
        return outputs[..., :num], scale, outputs[..., 2 * num :].reshape(*outputs.shape[:-1], num, self.rank)

    def log_probs(self, outputs: Array) -> Array:
        """Log-probability of each class, `(…, C)`."""
        mean, scale, factor = self.parameters(outputs)
        draws = jnp.asarray(normal_points(self.num_classes + self.rank, self.num_draws), outputs.dtype)
        own, shared = draws[:, : self.num_classes], draws[:, self.num_classes :]
        noise = scale[..., None, :] * own + jnp.einsum("...cr,sr->...sc", factor, shared)
        each = jax.nn.log_softmax((mean[..., None, :] + noise) / self.temperature, axis=-1)
        return jax.nn.logsumexp(each, axis=-2) - math.log(self.num_draws)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return pick(self.log_probs(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.Categorical(logits=self.log_probs(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_labels(y, self.num_classes, f"HeteroscedasticLogits({self.num_classes})")
