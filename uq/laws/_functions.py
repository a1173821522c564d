"""The functions of one distribution: a numpyro distribution in, arrays out.

A numpyro `MixtureSameFamily` counts as one distribution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._checks import is_concrete
from .._typing import Array, ArrayLike
from . import _numeric, mixture
from ._family import compiled, family_of, floats
from .classes import class_probs


def _at(name: str, d: Any, y: ArrayLike) -> Array:
    """The family's function `name` at `y`."""
    if type(d).__name__ == "MixtureSameFamily":
        components = mixture.split(d)
        return mixture.at(name, components, y)
    family, parameters = family_of(d)
    return compiled(getattr(family, name), *floats(y, *parameters))


def log_prob(d: Any, y: ArrayLike) -> Array:
    """Log-density or log-probability at `y`, marginally for each output; −inf outside the support.

    Args:
      d: a numpyro distribution.
      y: broadcasts against the parameters.
    Raises:
      InputError: a family that is not known.
    Example:
      >>> import numpyro.distributions as dist
      >>> round(float(log_prob(dist.StudentT(1e6, 0.0, 1.0), 1.0)), 5)
      -1.41894
    """
    return _at("log_prob", d, y)


def cdf(d: Any, y: ArrayLike) -> Array:
    """P(Y ≤ y), marginally for each output.

    Args:
      d: a numpyro distribution.
      y: broadcasts against the parameters; outside the support the answer is 0 or 1.
    Raises:
      InputError: a family that is not known.
    Example:
      >>> import numpyro.distributions as dist
      >>> float(cdf(dist.Normal(0.0, 1.0), 0.0))
      0.5
    """
    return _at("cdf", d, y)


def sf(d: Any, y: ArrayLike) -> Array:
    """P(Y > y), exact in the upper tail."""
    return _at("sf", d, y)


def log_cdf(d: Any, y: ArrayLike) -> Array:
    """log P(Y ≤ y), finite far into the lower tail."""
    return _at("log_cdf", d, y)


def log_sf(d: Any, y: ArrayLike) -> Array:
    """log P(Y > y), finite far into the upper tail."""
    return _at("log_sf", d, y)


def tails_of(level: ArrayLike) -> tuple[Any, Any]:
    """The smaller tail of each level, formed before rounding to float32, and whether it is the upper one."""
    level = np.asarray(level, np.float64) if is_concrete(level) else jnp.asarray(level)
    xp: Any = np if isinstance(level, np.ndarray) else jnp
    upper = level > 0.5
    return xp.where(upper, 1 - level, level), upper


def icdf(d: Any, q: ArrayLike) -> Array:
    """The quantile of level `q`: the smallest y with P(Y ≤ y) ≥ q.

    Args:
      d: a numpyro distribution.
      q: levels in [0, 1]; broadcasts against the parameters.
    Example:
      >>> import numpyro.distributions as dist
      >>> float(icdf(dist.Laplace(1.0, 2.0), 0.5))
      1.0
    """
    return tail(d, *tails_of(q))


def tail(d: Any, tail: ArrayLike, upper: ArrayLike) -> Array:
    """The point with probability `tail` below it, or above it where `upper`; exact for extreme tails."""
    if type(d).__name__ == "MixtureSameFamily":
        return mixture.solve(mixture.split(d), tail, upper)
    family, parameters = family_of(d)
    share, *leaves = floats(tail, *parameters)
    return compiled(family.icdf, share, jnp.asarray(upper), *leaves)


def crps(d: Any, y: ArrayLike) -> Array:
    """Continuous ranked probability score ∫ (F(x) − 1{y ≤ x})² dx of one distribution, in the units of y.

    In closed form where one is known, by quadrature in quantile space to about 1e-5 of the scale otherwise. Finite
    for outcomes outside the support. Lower is better.

    References:
      gneiting2005, eq. 5, for the normal; each family's module names its own. Checked against numerical integration
      of the definition.
    """
    if type(d).__name__ == "MixtureSameFamily":
        return mixture.score(mixture.split(d), y)
    family, parameters = family_of(d)
    return compiled(crps_of(family), *floats(y, *parameters))


def entropy(d: Any) -> Array:
    """Entropy in nats; differential for continuous families, marginally for each output."""
    if type(d).__name__ == "MixtureSameFamily":
        return mixture.information(mixture.split(d))
    family, parameters = family_of(d)
    return compiled(family.entropy or _numeric.entropy_of(family), *floats(*family.of_outcome(parameters)))


def moments(d: Any) -> tuple[Array, Array]:
    """Mean and variance; for classes, those of each class's indicator. inf or nan where they do not exist."""
    if any(kind.__name__.startswith("Categorical") for kind in type(d).__mro__):
        probs = class_probs(d)
        return probs, probs * (1 - probs)
    if type(d).__name__ == "MixtureSameFamily":
        return mixture.mean_and_variance(mixture.split(d))
    family, parameters = family_of(d)
    return compiled(family.moments, *floats(*parameters))


def crps_of(family: Any) -> Callable[..., Array]:
    """The CRPS of a family: its closed form, or the quadrature."""
    return family.crps or _numeric.crps_of(family)
