"""Quantiles as outputs, and the distribution that goes through them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jax.nn import softplus

from .._checks import InputError, check_level
from .._typing import Array
from ._links import check_floor, columns_of, law_log_prob, raw_of
from ._targets import check_real


@dataclass(frozen=True)
class Quantile:
    """Quantiles at given levels that never cross, and the distribution that interpolates them.

    The network gives the middle quantile and raw gaps to the others; a gap is (softplus(raw) / log 2 + min_gap)
    times that of a standard normal between the two levels, so that raw zeros are the quantiles of a standard normal.

    The distribution has all of: P(Y ≤ q_k) exactly level_k, a constant density between neighbouring quantiles, and
    exponential tails beyond the outermost, each beginning with the density of the piece next to it. So it has a
    density, `log_prob`, moments, and every score in closed form; what lies beyond the outermost levels is that
    assumption and not something learned. Train with `loss=uq.losses.pinball()`, which learns each quantile for
    itself, or by the likelihood.

    Args:
      levels: at least two, rising, in (0, 1).
      min_gap: floor of a gap, as a fraction of the standard normal's.
    References:
      koenker1978, section 1 (quantile regression). Checked against numerical integration of the density.
    """

    levels: tuple[float, ...] = (0.05, 0.15, 0.25, 0.35, 0.45, 0.5, 0.55, 0.65, 0.75, 0.85, 0.95)
    min_gap: float = 1e-3
    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "affine"
    free: ClassVar[int] = 0
    num_outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_floor("min_gap", self.min_gap)
        check_level("levels", self.levels)
        if np.ndim(self.levels) != 1 or len(self.levels) < 2 or np.any(np.diff(self.levels) <= 0):
            raise InputError(f"`levels` expected at least two levels that rise, but got {self.levels}.")
        object.__setattr__(self, "levels", tuple(float(level) for level in self.levels))  # hashable, also from a list

    @property
    def width(self) -> int:
        return len(self.levels)

    def parameters(self, outputs: Array) -> tuple[Array]:
        """The quantiles, `(…, Q)`, rising."""
        outputs = columns_of(self, outputs)
        middle = len(self.levels) // 2
        normal = np.array([NormalDist().inv_cdf(level) for level in self.levels])
        gap = jnp.asarray(np.diff(normal), outputs.dtype)
        raw = jnp.concatenate([outputs[..., :middle], outputs[..., middle + 1 :]], -1)
        gaps = (softplus(raw) / math.log(2) + self.min_gap) * gap
        below = -jnp.flip(jnp.cumsum(jnp.flip(gaps[..., :middle], -1), -1), -1)
        above = jnp.cumsum(gaps[..., middle:], -1)
        start = outputs[..., middle : middle + 1] + jnp.asarray(normal[middle], outputs.dtype)
        return (jnp.concatenate([start + below, start, start + above], -1),)

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of loc + scale · Y what these say of Y."""
        middle = len(self.levels) // 2
        start = jnp.asarray(NormalDist().inv_cdf(self.levels[middle]), outputs.dtype)
        gap = scale * (softplus(outputs) / math.log(2) + self.min_gap)
        raw = raw_of(math.log(2) * (gap - self.min_gap), 0.0)
        at = slice(middle, middle + 1)  # keeps the axis that `loc` and `scale` may bring
        return raw.at[..., at].set(loc + scale * (outputs[..., at] + start) - start)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return law_log_prob(self.distribution(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        from ._distributions import QuantileInterpolation

        return QuantileInterpolation(*self.parameters(outputs), self.levels)

    def check(self, y: Any) -> Any:
        return check_real(y, 1, "Quantile")
