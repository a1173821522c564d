"""A mixture of normals from one network: several modes, skewness, any shape given enough components."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._checks import check_count
from .._typing import Array
from ._links import check_floor, columns_of, positive, raw_of
from ._targets import check_real
from .gaussian import _normal_log_prob


@dataclass(frozen=True)
class MixtureDensity:
    """A mixture of K normals whose weights, means and scales all depend on the input.

    The network gives K logits, K means and K raw scales (`softplus(raw) + min_scale`). Constants, the quantiles of a
    standard normal at (k + ½) / K, are added to the means, so that components begin apart; otherwise they move as one.

    Args:
      num_components: K, at least 2; outputs are `(N, 3·K)`.
      min_scale: floor of each scale, in the units the network is trained in: keeps a component from collapsing
        onto one target.
    References:
      bishop1994, section 3. Checked against a sum of scipy.stats.norm densities.
    """

    num_components: int
    min_scale: float = 1e-2
    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "affine"
    free: ClassVar[int] = 0
    num_outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_count("num_components", self.num_components, least=2)
        check_floor("min_scale", self.min_scale)

    @property
    def width(self) -> int:
        return 3 * self.num_components

    def parameters(self, outputs: Array) -> tuple[Array, Array, Array]:
        """Log-weights, means and scales, each `(…, K)`."""
        outputs = columns_of(self, outputs)
        num = self.num_components
        mean = outputs[..., num : 2 * num] + self._apart(outputs.dtype)
        weight = jax.nn.log_softmax(outputs[..., :num], axis=-1)
        return weight, mean, positive(outputs[..., 2 * num :], self.min_scale)

    def _apart(self, dtype: Any) -> Array:
        num = self.num_components
        return jnp.asarray([NormalDist().inv_cdf((k + 0.5) / num) for k in range(num)], dtype)

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of loc + scale · Y what these say of Y."""
        num, apart = self.num_components, self._apart(outputs.dtype)
        mean = loc + scale * (outputs[..., num : 2 * num] + apart) - apart
        spread = scale * positive(outputs[..., 2 * num :], self.min_scale)
        return jnp.concatenate([outputs[..., :num], mean, raw_of(spread, self.min_scale)], -1)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        weight, mean, scale = self.parameters(outputs)
        return jax.nn.logsumexp(weight + _normal_log_prob(mean, scale, y[..., None], 1), axis=-1)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        weight, mean, scale = self.parameters(outputs)
        mixing = dist.Categorical(logits=weight, validate_args=False)
        return dist.MixtureSameFamily(mixing, dist.Normal(mean, scale, validate_args=False), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_real(y, 1, "MixtureDensity")
