"""Mixtures of distributions of one family, with any weights.

Components lead: a distribution of batch shape `(M, …)` with weights `(M,)`, the same for every example, or `(M, …)`,
its own for each. A component of weight 0 is inert, whatever its parameters hold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array, ArrayLike
from . import _numeric
from ._family import Family, compiled, family_of, floats
from ._quadrature import continuous_pieces, is_positive, lattice
from ._search import on_lattice, on_line
from ._weighted import mixture_log_prob, mixture_mean, mixture_variance, ranked


class Components(NamedTuple):
    """A family, its parameters with components leading and full rank, and weights that broadcast against them."""

    family: Family
    parameters: tuple[Array, ...]
    weight: Array


def components(d: Any, weight: ArrayLike) -> Components:
    """The components of batch shape `(M, …)`, and their weights `(M,)` or `(M, …)`."""
    family, parameters = family_of(d)
    share, *leaves = floats(weight, *parameters)
    shape = tuple(d.batch_shape) + tuple(d.event_shape)
    widened = tuple(jnp.broadcast_to(leaf, shape) for leaf in leaves)
    return Components(family, widened, ranked(share, len(shape)))


def split(d: Any) -> Components:
    """The components of a numpyro `MixtureSameFamily`, whose component axis comes last in the batch shape."""
    inner = d.component_distribution
    family, parameters = family_of(inner)
    axis = len(inner.batch_shape) - 1
    shape = tuple(inner.batch_shape) + tuple(inner.event_shape)
    weight, *leaves = floats(d.mixing_distribution.probs, *parameters)
    moved = tuple(jnp.moveaxis(jnp.broadcast_to(leaf, shape), axis, 0) for leaf in leaves)
    weight = jnp.moveaxis(jnp.broadcast_to(weight, inner.batch_shape), -1, 0)
    return Components(family, moved, ranked(weight, len(shape)))


def flatten(d: Any, weight: Array) -> Components:
    """Members `(M, …)` that are mixtures of K components each, as one mixture of M · K components."""
    family, parameters, inner = split(d)  # (K, M, …)
    whole = ranked(weight.astype(inner.dtype), inner.ndim - 1) * jnp.broadcast_to(inner, inner.shape)
    rest = parameters[0].shape[2:]
    size = parameters[0].shape[0] * parameters[0].shape[1]
    return Components(
        family,
        tuple(leaf.reshape(size, *rest) for leaf in parameters),
        whole.reshape(size, *whole.shape[2:]),
    )


def aligned(mixed: Components, *values: Array) -> tuple[Array, ...]:
    """Weight and parameters, with axes after the components' for what `values` have more than one component."""
    extra = max(value.ndim for value in values) - mixed.weight.ndim + 1
    leaves = (mixed.weight, *mixed.parameters)
    if extra <= 0:
        return leaves
    return tuple(leaf.reshape(leaf.shape[0], *(1,) * extra, *leaf.shape[1:]) for leaf in leaves)


# Functions of one point


def at(name: str, mixed: Components, y: ArrayLike) -> Array:
    """`log_prob`, `cdf`, `sf`, `log_cdf` or `log_sf` of a mixture."""
    y, *leaves = floats(y, *aligned(mixed, jnp.asarray(y)))
    return compiled(_at(mixed.family, name), y, *leaves)


@functools.cache
def _at(family: Family, name: str) -> Callable[..., Array]:
    combine = mixture_log_prob if name.startswith("log") else mixture_mean

    def function(y: Array, weight: Array, *parameters: Array) -> Array:
        return combine(getattr(family, name)(y, *parameters), weight)

    return function


def mean_and_variance(mixed: Components) -> tuple[Array, Array]:
    """Mean and variance of a mixture."""
    means, variances = compiled(mixed.family.moments, *mixed.parameters)
    inner = mixture_mean(variances, mixed.weight)
    return mixture_mean(means, mixed.weight), inner + mixture_variance(means, mixed.weight)


def below(family: Family, y: Array) -> Array:
    """Where P(Y ≤ ·) is P(Y < y): the next smaller outcome, where single ones have probability."""
    if family.discrete:
        return jnp.ceil(y) - 1
    return y if family.atoms is None else just_below(y)


def just_below(y: Any) -> Any:
    """The next smaller number, but for one beside 0: what lies next to 0 is flushed to 0."""
    kind = jnp.finfo(y.dtype)
    return y - (jnp if isinstance(y, jax.Array) else np).maximum(kind.eps * abs(y), kind.tiny)


# Quantiles


def solve(mixed: Components, tail: ArrayLike, upper: ArrayLike) -> Array:
    """The point with probability `tail` below it, or above it where `upper`."""
    tail, upper = jnp.asarray(tail), jnp.asarray(upper)
    tail, *leaves = floats(tail, *aligned(mixed, tail, upper))
    return compiled(_solve(mixed.family), tail, upper, *leaves)


@functools.cache
def _solve(family: Family) -> Callable[..., Array]:
    search = on_lattice if family.discrete else on_line

    def function(tail: Array, upper: Array, weight: Array, *parameters: Array) -> Array:
        each = jax.lax.stop_gradient(family.icdf(tail, upper, *parameters))
        live = weight > 0
        low = jnp.where(live, each, jnp.inf).min(0)
        high = jnp.where(live, each, -jnp.inf).max(0)
        return search(family, tail, upper, weight, parameters, low, high)

    return function


# Scores and entropy


def score(mixed: Components, y: ArrayLike) -> Array:
    """CRPS of a mixture."""
    y, *leaves = floats(y, *aligned(mixed, jnp.asarray(y)))
    return compiled(_score(mixed.family), y, *leaves)


@functools.cache
def _score(family: Family) -> Callable[..., Array]:
    own = family.crps or _numeric.crps_of(family)

    def function(y: Array, weight: Array, *parameters: Array) -> Array:
        mean = mixture_mean(own(y, *parameters), weight)
        if weight.shape[0] == 1:
            return mean
        if family.cross is not None:
            return mean - _pairs(family, weight, parameters)
        return mean - _diversity(family, weight, parameters)

    return function


def _pairs(family: Family, weight: Array, parameters: tuple[Array, ...]) -> Array:
    """½ (ΣΣ w w′ E|X − X′| − Σ w E|X − X″|), pairs i, i + s together: no array is larger than the parameters."""
    assert family.cross is not None
    size = weight.shape[0]
    self_gap = family.cross(*parameters, *parameters)
    total = -mixture_mean(self_gap * (1 - weight), weight)
    twice = [jnp.concatenate([leaf, leaf]) for leaf in (weight, *parameters)]

    def shifted(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        shift, times = pair
        other = [jax.lax.dynamic_slice_in_dim(leaf, shift, size) for leaf in twice]
        gaps = family.cross(*parameters, *other[1:])  # type: ignore[misc]
        both = weight * other[0]
        return total + times * jnp.where(both > 0, both * gaps, 0).sum(0), None

    shifts = jnp.arange(1, size // 2 + 1)
    times = jnp.where(2 * shifts == size, 1, 2).astype(weight.dtype)
    return 0.5 * jax.lax.scan(shifted, total, (shifts, times))[0]


def _diversity(family: Family, weight: Array, parameters: tuple[Array, ...]) -> Array:
    """∫ Var over components of F(x) dx: by how much the mean CRPS of the components exceeds that of the mixture."""

    def spread(x: Array) -> Array:
        return mixture_variance(family.cdf(x, *parameters), weight)

    if family.discrete:
        return lattice(family, weight, parameters, spread)
    return continuous_pieces(family, weight, parameters, spread, order=5)


def information(mixed: Components) -> Array:
    """Entropy of a mixture in nats."""
    family = mixed.family
    return compiled(_information(family), *floats(mixed.weight, *family.of_outcome(mixed.parameters)))


@functools.cache
def _information(family: Family) -> Callable[..., Array]:
    def function(weight: Array, *parameters: Array) -> Array:
        def surprise_of(parameters: tuple[Array, ...]) -> Callable[[Array], Array]:
            return lambda x: _surprise(mixture_log_prob(family.log_prob(x, *parameters), weight))

        if family.discrete:
            return lattice(family, weight, parameters, surprise_of(parameters))
        if family.mirror is not None:  # each half from its own end, towards which the density may rise without limit
            ends = zip(parameters, family.mirror(*parameters), strict=True)
            parameters, weight = tuple(jnp.stack(pair, axis=1) for pair in ends), weight[:, None]
            inside = continuous_pieces(family, weight, parameters, surprise_of(parameters), order=8, upto=0.5)
            return (inside + _beside_zero(family, weight, parameters)).sum(0)
        surprise = surprise_of(parameters)
        total = continuous_pieces(family, weight, parameters, surprise, order=8)
        if is_positive(family, parameters):
            total = total + _beside_zero(family, weight, parameters)
        for atom in family.atoms(*parameters) if family.atoms is not None else ():
            # Components share their limits: an atom of one is an atom of all.
            point = jax.lax.stop_gradient(jnp.where(weight > 0, atom, -jnp.inf).max(0))
            exists = jnp.isfinite(point)
            total = total + jnp.where(exists, surprise(jnp.where(exists, point, 0)), 0)
        return total

    return function


def _beside_zero(family: Family, weight: Array, parameters: tuple[Array, ...]) -> Array:
    """−∫ f log f over outcomes too small for a number, where f is a power: P (1 − 1 / a − log f), a = t f / P."""
    point = jnp.asarray(jnp.finfo(weight.dtype).tiny, weight.dtype)
    mass = mixture_log_prob(family.log_cdf(point, *parameters), weight)
    some = mass > math.log(1e-12)
    mass = jnp.where(some, mass, 0)
    density = jnp.where(some, mixture_log_prob(family.log_prob(point, *parameters), weight), 0)
    inverse = jnp.exp(mass - density - jnp.log(point))
    return jnp.where(some, jnp.exp(mass) * (1 - jnp.where(some, inverse, 0) - density), 0)


def _surprise(log_prob: Array) -> Array:
    """−p log p, 0 at p = 0."""
    finite = log_prob > -jnp.inf
    safe = jnp.where(finite, log_prob, 0)
    return jnp.where(finite, -jnp.exp(safe) * safe, 0)


# By distributions


def mixture_cdf(d: Any, weight: ArrayLike, y: ArrayLike) -> Array:
    """P(Y ≤ y) of the mixture: the weighted mean of the components'.

    Args:
      d: a numpyro distribution of batch shape `(M, …)`.
      weight: `(M,)` or `(M, …)`.
      y: broadcasts against one component `(…)`; more axes may lead.
    """
    return at("cdf", components(d, weight), y)


def mixture_sf(d: Any, weight: ArrayLike, y: ArrayLike) -> Array:
    """P(Y > y) of the mixture, exact in the upper tail; arguments as `mixture_cdf`."""
    return at("sf", components(d, weight), y)


def mixture_log_cdf(d: Any, weight: ArrayLike, y: ArrayLike) -> Array:
    """log P(Y ≤ y) of the mixture, finite far into the lower tail; arguments as `mixture_cdf`."""
    return at("log_cdf", components(d, weight), y)


def mixture_log_sf(d: Any, weight: ArrayLike, y: ArrayLike) -> Array:
    """log P(Y > y) of the mixture, finite far into the upper tail; arguments as `mixture_cdf`."""
    return at("log_sf", components(d, weight), y)


def mixture_icdf(d: Any, weight: ArrayLike, q: ArrayLike) -> Array:
    """The mixture's quantile of level `q`, which broadcasts against one component; more axes may lead."""
    from ._functions import tails_of

    return solve(components(d, weight), *tails_of(q))


def mixture_tail(d: Any, weight: ArrayLike, tail: ArrayLike, upper: ArrayLike) -> Array:
    """The point beyond which the mixture has probability `tail`: above it where `upper`, below it otherwise.

    Given as a tail, an extreme level keeps its precision. Bisection over the floating-point numbers between the
    smallest and the largest component quantile; its derivative is that of the implicit function. Where a gap without
    density holds the level, any point of it may come out. Whole numbers for a discrete family.
    """
    return solve(components(d, weight), tail, upper)


def mixture_crps(d: Any, weight: ArrayLike, y: ArrayLike) -> Array:
    """CRPS of a mixture: Σ w CRPS − ½ (ΣΣ w w′ E|X − X′| − Σ w E|X − X″|).

    In closed form where E|X − X′| between components is known (normal, Laplace, log-normal, exponential). For
    others the second part is ∫ Var F dx, over components, by quadrature between the components' quantiles: to about
    1e-5 of the score. Memory is linear in the number of components.

    References:
      grimit2006, eq. 5. Checked against numerical integration of its definition.
    """
    return score(components(d, weight), y)


def mixture_entropy(d: Any, weight: ArrayLike) -> Array:
    """Entropy of a mixture in nats: −∫ f log f, or −Σ p log p for a discrete family.

    Eight-point Gauss–Legendre quadrature between neighbouring quantiles of all components, so that a narrow component
    inside a wide one is resolved: to about 1e-5 nats, also for scales that differ by a factor of a hundred, and to
    1e-4 for tails as heavy as Student's t with 1.1 degrees of freedom.
    """
    return information(components(d, weight))
