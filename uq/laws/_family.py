"""What is known of each family of distributions, and how a numpyro distribution finds its own.

A family is functions of an outcome and of parameter arrays. They broadcast, run under `jit` and in float32, keep
their digits in both tails, and have finite gradients in the outcome and in every parameter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError
from .._typing import Array, ArrayLike


class Family(NamedTuple):
    """One family. In all signatures `y` comes first and the parameters follow, in the order of `parameters`."""

    parameters: Callable[[Any], tuple[Any, ...]]
    """A numpyro distribution's parameter arrays, as they are in it."""
    log_prob: Callable[..., Array]
    """Log-density or log-probability; −inf outside the support."""
    cdf: Callable[..., Array]
    """P(Y ≤ y)."""
    sf: Callable[..., Array]
    """P(Y > y), exact in the upper tail."""
    log_cdf: Callable[..., Array]
    log_sf: Callable[..., Array]
    icdf: Callable[..., Array]
    """`(tail, upper, *parameters)`: the point with probability `tail` below it, or above it where `upper`."""
    moments: Callable[..., tuple[Array, Array]]
    """`(*parameters) → (mean, variance)`; inf or nan where they do not exist, as scipy says."""
    host: Callable[..., Any]
    """`(*parameters in float64) →` a frozen scipy distribution, or an object with its methods."""
    crps: Callable[..., Array] | None = None
    """Closed form; None is computed by quadrature or summation."""
    entropy: Callable[..., Array] | None = None
    """`(*parameters)`; None as `crps`."""
    cross: Callable[..., Array] | None = None
    """`(*parameters, *parameters) → E|X − Y|` of two independent members of the family, for the CRPS of mixtures."""
    icdf_log: Callable[..., Array] | None = None
    """`icdf` of the logarithm of the tail, for tails that float32 cannot hold."""
    discrete: bool = False
    """Whether outcomes are whole numbers."""
    support: Callable[..., tuple[Any, Any]] | None = None
    """`(*parameters) → (low, high)`; None is the real line."""
    cuts: Callable[..., Array] | None = None
    """`(*parameters) →` points, along a new leading axis, between which the density is smooth; None is nearly all."""
    mirror: Callable[..., tuple[Any, ...]] | None = None
    """`(*parameters) →` parameters of 1 − Y in the same family, of fractions that may pile up at both ends."""
    atoms: Callable[..., tuple[Any, ...]] | None = None
    """`(*parameters) →` points that have a probability, of a family that has a density elsewhere."""
    seam: Callable[..., Array] | None = None
    """`(*parameters) →` a point at which the density has a kink or a pole; None where there is none."""
    unmarked: Callable[..., tuple[Any, ...]] | None = None
    """`(*parameters) →` those of the law of the outcome, where `log_prob` is of what was recorded of it."""

    def of_outcome(self, parameters: tuple[Any, ...]) -> tuple[Any, ...]:
        """Parameters under which `log_prob` is that of the outcome itself: what an entropy asks for."""
        return parameters if self.unmarked is None else self.unmarked(*parameters)


_FAMILIES: dict[str, Family] = {}
_MAKERS: dict[str, Callable[[Any], tuple[Family, tuple[Any, ...]]]] = {}


def register(name: str, family: Family) -> None:
    """Let numpyro distributions of class `name`, and of classes derived from it, be of this family."""
    _FAMILIES[name] = family


def register_maker(name: str, maker: Callable[[Any], tuple[Family, tuple[Any, ...]]]) -> None:
    """As `register`, where the family depends on what the distribution wraps."""
    _MAKERS[name] = maker


def family_of(d: Any) -> tuple[Family, tuple[Any, ...]]:
    """The family of a numpyro distribution, and its parameters.

    Raises:
      InputError: the distribution is of no known family.
    """
    for kind in type(d).__mro__:
        name = kind.__name__
        if name == "Independent":
            return family_of(d.base_dist)
        if name == "ExpandedDistribution":
            family, parameters = family_of(d.base_dist)
            return family, _expanded(parameters, d)
        if name in _MAKERS:
            return _MAKERS[name](d)
        if name in _FAMILIES:
            family = _FAMILIES[name]
            return family, family.parameters(d)
    known = ", ".join(sorted(_FAMILIES))
    raise InputError(f"`uq.laws` knows no family {type(d).__name__}; it knows {known}, and mixtures of one of these.")


def has_steps(d: Any) -> bool:
    """Whether single outcomes have a probability: of counts, and of outcomes clipped at a limit."""
    if type(d).__name__ == "MixtureSameFamily":
        return has_steps(d.component_distribution)
    try:
        family, _ = family_of(d)
    except InputError:  # a family that is not known
        return bool(d.support.is_discrete)
    return family.discrete or family.atoms is not None


def _expanded(parameters: tuple[Any, ...], d: Any) -> tuple[Any, ...]:
    rank = len(d.base_dist.batch_shape)

    def widen(leaf: Any) -> Any:
        xp = jnp if isinstance(leaf, jax.Array) else np
        event = np.shape(leaf)[rank:] if np.ndim(leaf) > rank else ()
        return xp.broadcast_to(leaf, (*d.batch_shape, *event))

    return tuple(widen(leaf) for leaf in parameters)


def floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Arrays of one floating dtype: the widest of those given, integers not counting."""
    arrays = [value if isinstance(value, jax.Array) else jnp.asarray(value) for value in values]
    kinds = [array.dtype for array in arrays if jnp.issubdtype(array.dtype, jnp.floating) and not array.weak_type]
    if len(kinds) == len(arrays) and len(set(kinds)) == 1:
        return tuple(arrays)  # the commonest case, at no cost
    kind = functools.reduce(jnp.promote_types, kinds) if kinds else jnp.result_type(float)
    return tuple(array.astype(kind) for array in arrays)


@functools.partial(jax.jit, static_argnums=0)
def compiled(function: Callable[..., Any], *arrays: Array) -> Any:
    """`function(*arrays)`, compiled once for a function and the shapes it is given."""
    return function(*arrays)
