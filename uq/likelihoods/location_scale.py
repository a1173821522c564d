"""Heavier tails than normal on the whole line: StudentT and Laplace."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._checks import InputError
from .._typing import Array
from ._links import check_floor, columns_of, law_log_prob, positive, raw_of
from ._targets import check_real

MIN_DF, MAX_DF = 2.1, 200.0
"""Learned degrees of freedom lie between: below, the variance ceases to exist; above, it is normal to four digits."""


@dataclass(frozen=True)
class StudentT:
    """Student's t with learned location and scale, and learned or fixed degrees of freedom: robust to outliers.

    The network gives a location, a raw scale (`scale = softplus(raw) + min_scale`, not the standard deviation)
    and, where `df` is learned, a raw third output: log df goes from log 2.1 to log 200 by a sigmoid of it.

    Args:
      df: degrees of freedom, or None to learn them for every input. With df ≤ 2 the variance is infinite, with
        df ≤ 1 there is no mean.
      min_scale: floor of the scale, in the units the network is trained in.
    References:
      lange1989, section 2. Checked against scipy.stats.t.
    """

    df: float | None = None
    min_scale: float = 1e-3
    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "affine"
    free: ClassVar[int] = 0
    num_outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_floor("min_scale", self.min_scale)
        if self.df is not None and (not isinstance(self.df, int | float) or not 0 < self.df < math.inf):
            raise InputError(f"`df` expected a positive number or None, but it is {self.df!r}.")

    @property
    def width(self) -> int:
        return 3 if self.df is None else 2

    def parameters(self, outputs: Array) -> tuple[Array, Array, Array]:
        """Degrees of freedom, location and scale, each `(…,)`."""
        outputs = columns_of(self, outputs)
        loc, scale = outputs[..., 0], positive(outputs[..., 1], self.min_scale)
        if self.df is not None:
            return jnp.full_like(loc, self.df), loc, scale
        share = jax.nn.sigmoid(outputs[..., 2])
        return jnp.exp(math.log(MIN_DF) + math.log(MAX_DF / MIN_DF) * share), loc, scale

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of loc + scale · Y what these say of Y."""
        return _moved(outputs, loc, scale, self.min_scale)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return law_log_prob(self.distribution(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.StudentT(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_real(y, 1, "StudentT")


@dataclass(frozen=True)
class Laplace:
    """Laplace with learned location and scale: minus the log-density is an absolute error; its location is a median.

    The network gives a location and a raw scale; `scale = softplus(raw) + min_scale`, the mean absolute deviation,
    which is the standard deviation divided by √2.

    Args:
      min_scale: floor of the scale, in the units the network is trained in.
    References:
      johnson1995, chapter 24. Checked against scipy.stats.laplace.
    """

    min_scale: float = 1e-3
    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "affine"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 2
    num_outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_floor("min_scale", self.min_scale)

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Location and scale, each `(…,)`."""
        outputs = columns_of(self, outputs)
        return outputs[..., 0], positive(outputs[..., 1], self.min_scale)

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of loc + scale · Y what these say of Y."""
        return _moved(outputs, loc, scale, self.min_scale)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        loc, scale = self.parameters(outputs)
        return -jnp.abs(y - loc) / scale - jnp.log(2 * scale)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.Laplace(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_real(y, 1, "Laplace")


def _moved(outputs: Array, loc: Array, scale: Array, floor: float) -> Array:
    """First the location, then the raw scale, then what has no units."""
    centre, spread = loc + scale * outputs[..., :1], scale * positive(outputs[..., 1:2], floor)
    return jnp.concatenate([centre, raw_of(spread, floor), outputs[..., 2:]], -1)
