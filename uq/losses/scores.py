"""Proper scores as losses: CRPS, energy score, pinball."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import laws
from .._checks import InputError, check_count, check_level
from .._typing import Array
from ..likelihoods import Quantile
from ..likelihoods._points import normal_points
from ._common import below, needs_numbers


def crps(likelihood: Any, outputs: Array, y: Array) -> Array:
    """Continuous ranked probability score, summed over outputs: ∫ (F(x) − 1{y ≤ x})² dx.

    In the units of the target, and linear in an error, where the log-density of a Gaussian is quadratic: robust to
    outliers, and less eager to shrink a scale. Of several outputs it sees the marginals alone; correlations need
    `energy_score` or the likelihood.

    Raises:
      InputError: classes, or a family without a continuous ranked probability score in `uq.laws`.
    References:
      gneiting2005, eq. 5 and section 2 (estimation by minimum CRPS).
    """
    needs_numbers("crps", likelihood)
    y = jnp.asarray(y).astype(outputs.dtype)
    law = likelihood.distribution(outputs)
    if type(law).__name__ == "MultivariateNormal":
        import numpyro.distributions as dist

        spread = jnp.sqrt(jnp.square(law.scale_tril).sum(-1))
        law = dist.Normal(law.loc, spread, validate_args=False).to_event(1)
    value = laws.crps(law, y)
    return value.sum(-1) if getattr(likelihood, "num_outputs", 1) > 1 else value


@dataclass(frozen=True)
class energy_score:
    """E‖X − y‖ − ½ E‖X − X′‖ over D outputs jointly: the CRPS of vectors, for one output the CRPS itself.

    Expectations are means over fixed quasi-random draws, the same for every example (a loss is given no key), moved
    by each example's own mean and scale; over pairs, of different draws only, so that the second term is unbiased
    in their number.
    Outputs on different scales weigh by their scale: `fit` standardises targets.

    Args:
      num_draws: draws, in pairs of opposite sign; the cost is num_draws² · D for each example.
    Raises:
      InputError: an odd number of draws; when called, a likelihood whose noise is not normal.
    References:
      gneiting2007, section 4.3; genz1992 (the draws).
    """

    num_draws: int = 32

    def __post_init__(self) -> None:
        if check_count("num_draws", self.num_draws, least=2) % 2:
            raise InputError(f"`num_draws` expected an even number, for pairs of draws, but it is {self.num_draws}.")

    def __call__(self, likelihood: Any, outputs: Array, y: Array) -> Array:
        import numpyro.distributions as dist

        needs_numbers("energy_score", likelihood)
        law = likelihood.distribution(outputs)
        if not law.event_shape:
            return crps(likelihood, outputs, y)
        noise = jnp.asarray(normal_points(law.event_shape[0], self.num_draws), outputs.dtype)
        if isinstance(law, dist.MultivariateNormal):
            moved = jnp.einsum("...de,se->...sd", law.scale_tril, noise)
            draws = law.loc[..., None, :] + moved
        elif isinstance(law, dist.Independent) and type(law.base_dist) is dist.Normal:
            draws = law.base_dist.loc[..., None, :] + law.base_dist.scale[..., None, :] * noise
        else:
            raise InputError(
                f"energy_score moves normal draws, but {likelihood!r} is not a normal likelihood; use "
                "uq.likelihoods.Gaussian(D) or FullCovarianceGaussian(D), or the loss crps."
            )
        first = _length(draws - y[..., None, :]).mean(-1)
        gaps = _length(draws[..., :, None, :] - draws[..., None, :, :]).sum((-2, -1))
        return first - 0.5 * gaps / (self.num_draws * (self.num_draws - 1))


def _length(v: Array) -> Array:
    """Euclidean length, with gradient 0 at 0."""
    square = jnp.square(v).sum(-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


@dataclass(frozen=True)
class pinball:
    """Mean pinball loss of quantiles: (1{y < q} − level)(q − y), averaged over levels.

    With the `Quantile` head it trains each quantile for itself. With any other likelihood of a number it needs
    `levels`, and scores the quantiles of its distribution. Twice the mean over all levels is the CRPS.

    Args:
      levels: in (0, 1); None takes those of the head.
    Raises:
      InputError: no levels for a likelihood that has none; classes or several outputs.
    References:
      koenker1978, section 1; gneiting2007, section 6.
    """

    levels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.levels is not None:
            check_level("levels", self.levels)
            object.__setattr__(self, "levels", tuple(float(level) for level in np.atleast_1d(self.levels)))

    def __call__(self, likelihood: Any, outputs: Array, y: Array) -> Array:
        needs_numbers("pinball", likelihood)
        inner, z = below(likelihood, y)
        if isinstance(inner, Quantile) and self.levels is None:
            levels, y = inner.levels, z
            (quantiles,) = inner.parameters(outputs)
        elif self.levels is None:
            raise InputError(f"pinball needs levels=… for {likelihood!r}, which has none of its own.")
        elif getattr(likelihood, "num_outputs", 1) > 1:
            raise InputError("pinball is for one output; for several use the loss crps.")
        else:
            levels, law = self.levels, likelihood.distribution(outputs)
            quantiles = jnp.stack([laws.icdf(law, level) for level in levels], -1)
        gap = jnp.asarray(y).astype(outputs.dtype)[..., None] - quantiles
        level = jnp.asarray(levels, outputs.dtype)
        return jnp.maximum(level * gap, (level - 1) * gap).mean(-1)
