"""Outcomes recorded at a limit where they would lie beyond it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.scipy.special import log_ndtr

from .._checks import InputError
from .._typing import Array
from ._links import check_floor, columns_of, positive, raw_of
from ._targets import check_within
from .gaussian import _normal_log_prob


@dataclass(frozen=True)
class Censored:
    """A normal outcome clipped at known limits: a density between them, and a probability at each.

    A sensor that saturates, a score with a best mark, an amount that cannot fall below 0. The network gives mean
    and raw scale of the normal before clipping, in units of the limits: with both, mean = middle + half · output
    and scale = half · (softplus(raw) + min_scale), where half is half the distance; with one, mean = limit + output
    and scale = softplus(raw) + min_scale, and `fit` scales the distance to the limit by its mean square.

    `log_prob` is a log-density between the limits and a log-probability at them: compare it among likelihoods with
    the same limits only.

    Args:
      lower, upper: limits in the units of `y`; None where there is none. An outcome equal to a limit is taken to have
        been clipped there.
      min_scale: floor of the scale, in those units of the network.
    References:
      tobin1958, section 2. Checked against scipy.stats.norm's logpdf, logcdf and logsf.
    """

    lower: float | None = None
    upper: float | None = None
    min_scale: float = 1e-3
    task: ClassVar[str] = "regression"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 2
    num_outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_floor("min_scale", self.min_scale)
        for name in ("lower", "upper"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or not math.isfinite(value)):
                raise InputError(f"`{name}` expected a finite number or None, but it is {value!r}.")
        if self.lower is None and self.upper is None:
            raise InputError("Censored expected a lower or an upper limit; without any, use uq.likelihoods.Gaussian().")
        if self.lower is not None and self.upper is not None and not self.lower < self.upper:
            raise InputError(f"Censored expected lower < upper, but got {self.lower} and {self.upper}.")

    @property
    def standardize(self) -> str:
        """With both limits, they are the units; with one, the distance to it is scaled."""
        return "none" if self.lower is not None and self.upper is not None else "limit"

    @property
    def limit(self) -> float:
        """The limit that stays where it is when units change: the lower one where there is one."""
        return self.lower if self.lower is not None else self.upper  # type: ignore[return-value]

    @property
    def _ends(self) -> tuple[float, float]:
        return (-math.inf if self.lower is None else self.lower, math.inf if self.upper is None else self.upper)

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Mean and standard deviation before clipping, in the units of `y`, each `(…,)`."""
        outputs = columns_of(self, outputs)
        mean, scale = outputs[..., 0], positive(outputs[..., 1], self.min_scale)
        if self.lower is None or self.upper is None:
            return self.limit + mean, scale
        half = (self.upper - self.lower) / 2
        return self.lower + half + half * mean, half * scale

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of the distance to the limit, times `scale`, what these say of it; `loc` is 0."""
        del loc
        mean, spread = scale * outputs[..., :1], scale * positive(outputs[..., 1:], self.min_scale)
        return jnp.concatenate([mean, raw_of(spread, self.min_scale)], -1)

    def at_limit(self, y: Array) -> Array:
        """Whether each outcome lies at (or beyond) a limit, where it has probability instead of density."""
        lower, upper = self._ends
        return (y <= lower) | (y >= upper)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        mean, scale = self.parameters(outputs)
        lower, upper = self._ends
        value = _normal_log_prob(mean, scale, y, 1)
        if self.lower is not None:
            value = jnp.where(y <= lower, log_ndtr((lower - mean) / scale), value)
        if self.upper is not None:
            value = jnp.where(y >= upper, log_ndtr((mean - upper) / scale), value)
        return value

    def distribution(self, outputs: Array) -> Any:
        from ._distributions import CensoredNormal

        return CensoredNormal(*self.parameters(outputs), *self._ends)

    def check(self, y: Any) -> Any:
        return check_within(y, *self._ends, f"Censored({self.lower}, {self.upper})")
