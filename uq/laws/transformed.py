"""Increasing or decreasing transforms of another family: numpyro's `TransformedDistribution`, by change of variables.

A normal moved or scaled is a normal and its exponential a log-normal. Otherwise functions go through the inverse, and
the CRPS, entropy and moments are those of `_numeric.py`, but for affine changes, which keep closed forms.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError
from .._typing import Array
from . import _numeric
from ._family import Family, family_of, register_maker
from .location_scale import NORMAL
from .positive import LOG_NORMAL


class Change(NamedTuple):
    """A strictly monotone function with `size` parameters. `xp` is numpy or jax.numpy: both routes share one text."""

    size: int
    forward: Callable[..., Any]
    """`(xp, x, *parameters) → y`."""
    inverse: Callable[..., Any]
    """`(xp, y, *parameters) → x`."""
    log_slope: Callable[..., Any]
    """`(xp, x, y, *parameters) → log |dy/dx|`."""
    rising: Callable[..., Any] = lambda *parameters: 1
    """`(*parameters) →` 1 or −1."""
    low: float = -math.inf
    """Values lie above it."""
    high: float = math.inf
    kink: float | None = None
    """A value at which the inverse has a kink or a pole."""


def _softplus(xp: Any, x: Any) -> Any:
    return xp.logaddexp(x, 0 * x)


def _sigmoid(xp: Any, x: Any) -> Any:
    return xp.exp(-xp.logaddexp(-x, 0 * x))


AFFINE = Change(
    2,
    lambda xp, x, loc, scale: loc + scale * x,
    lambda xp, y, loc, scale: (y - loc) / scale,
    lambda xp, x, y, loc, scale: xp.log(xp.abs(scale)) + 0 * x,
    rising=lambda loc, scale: scale,
)
_EXP = Change(0, lambda xp, x: xp.exp(x), lambda xp, y: xp.log(y), lambda xp, x, y: x, low=0.0)
_LOG = Change(0, lambda xp, x: xp.log(x), lambda xp, y: xp.exp(y), lambda xp, x, y: -y)
_SIGMOID = Change(
    0,
    _sigmoid,
    lambda xp, y: xp.log(y) - xp.log1p(-y),
    lambda xp, x, y: -_softplus(xp, x) - _softplus(xp, -x),
    low=0.0,
    high=1.0,
)
_SOFTPLUS = Change(
    0,
    _softplus,
    lambda xp, y: y + xp.log(-xp.expm1(-y)),
    lambda xp, x, y: -_softplus(xp, -x),
    low=0.0,
)
_POWER = Change(
    1,
    lambda xp, x, power: xp.exp(power * xp.log(x)),
    lambda xp, y, power: xp.exp(xp.log(y) / power),
    lambda xp, x, y, power: xp.log(xp.abs(power)) + (power - 1) * xp.log(x),
    rising=lambda power: power,
    low=0.0,
)
_IDENTITY = Change(0, lambda xp, x: x, lambda xp, y: y, lambda xp, x, y: 0 * x)


@functools.lru_cache(maxsize=256)
def _own(change: Any) -> Change:
    """A target transform of `uq.likelihoods`, which maps the other way."""
    return Change(
        0,
        lambda xp, x: change.inverse(x, xp),
        lambda xp, y: change.forward(y, xp),
        lambda xp, x, y: -change.log_derivative(y, xp),
        low=getattr(change, "low", -math.inf),
        kink=getattr(change, "kink", None),
    )


@functools.lru_cache(maxsize=256)
def _any(transform: Any) -> Change:
    """Another monotone numpyro transform, in the precision of jax."""
    low, high = -math.inf, math.inf
    codomain = transform.codomain
    for name in ("lower_bound", "greater_than"):
        low = getattr(codomain, name, low)
    high = getattr(codomain, "upper_bound", high)
    return Change(
        0,
        lambda xp, x: xp.asarray(transform(jnp.asarray(x))),
        lambda xp, y: xp.asarray(transform._inverse(jnp.asarray(y))),
        lambda xp, x, y: xp.asarray(transform.log_abs_det_jacobian(jnp.asarray(x), jnp.asarray(y))),
        rising=lambda: transform.sign,
        low=float(np.asarray(low)),
        high=float(np.asarray(high)),
    )


def _changes(transform: Any) -> list[tuple[Change, tuple[Any, ...]]]:
    """What a numpyro transform consists of, the innermost first, with parameters."""
    name = type(transform).__name__
    if name == "ComposeTransform":
        return [part for each in transform.parts for part in _changes(each)]
    if name == "AffineTransform":
        return [(AFFINE, (transform.loc, transform.scale))]
    if name == "PowerTransform":
        return [(_POWER, (transform.exponent,))]
    if name == "_InverseTransform" and type(transform.inv).__name__ == "ExpTransform":
        return [(_LOG, ())]
    if name == "FromNewScale":
        return [(_own(transform.change), ())]
    simple = {"ExpTransform": _EXP, "SigmoidTransform": _SIGMOID, "SoftplusTransform": _SOFTPLUS}
    if name in simple or name == "IdentityTransform":
        return [(simple.get(name, _IDENTITY), ())]
    try:
        sign = transform.sign
    except NotImplementedError:  # how numpyro says that a transform is not monotone
        sign = None
    if sign is None or transform.domain.event_dim:
        raise InputError(f"`uq.laws` needs a strictly monotone transform of numbers, which {name} is not.")
    return [(_any(transform), ())]


def _cut(changes: tuple[Change, ...], parameters: tuple[Any, ...]) -> tuple[list[tuple[Change, tuple]], tuple]:
    """Each change with its own parameters, and what is left: those of the base family."""
    pairs, rest = [], parameters
    for change in changes:
        pairs.append((change, rest[: change.size]))
        rest = rest[change.size :]
    return pairs, rest


def pull(xp: Any, y: Any, pairs: list[tuple[Change, tuple]]) -> tuple[Any, ...]:
    """The base's outcome for `y`, log |dy/dx|, whether rising, and whether `y` lies below or above all outcomes."""
    x, slope, sign = y, 0 * y, 1
    below = above = xp.zeros(xp.shape(y), bool)
    for change, parameters in reversed(pairs):
        under, over = x <= change.low, x >= change.high
        middle = (change.low + change.high) / 2 if math.isfinite(change.high) else change.low + 1
        safe = xp.where(under | over, middle, x).astype(x.dtype) if math.isfinite(change.low) else x
        rising = xp.sign(xp.asarray(change.rising(*parameters)))
        below = below | xp.where(sign > 0, under, over)
        above = above | xp.where(sign > 0, over, under)
        sign = sign * rising
        x = change.inverse(xp, safe, *parameters)
        slope = slope + change.log_slope(xp, x, safe, *parameters)
    return x, slope, xp.asarray(sign) > 0, below, above


def push(xp: Any, x: Any, pairs: list[tuple[Change, tuple]]) -> Any:
    """The outcome for the base's."""
    for change, parameters in pairs:
        x = change.forward(xp, x, *parameters)
    return x


def seam_of(xp: Any, pairs: list[tuple[Change, tuple]]) -> Any:
    """The outcome at which the first change with a kink has it; None where none has."""
    for index, (change, _) in enumerate(pairs):
        if change.kink is not None:
            return push(xp, xp.asarray(change.kink, xp.result_type(float)), pairs[index + 1 :])
    return None


def is_rising(xp: Any, pairs: list[tuple[Change, tuple]]) -> Any:
    sign = 1
    for change, parameters in pairs:
        sign = sign * xp.sign(xp.asarray(change.rising(*parameters)))
    return xp.asarray(sign) > 0


@functools.lru_cache(maxsize=256)
def transformed(base: Family, changes: tuple[Change, ...]) -> Family:
    """`base` under the changes, the innermost first; parameters are those of each change, then those of `base`."""
    if base.discrete:
        raise InputError("`uq.laws` transforms continuous families; shift and scale the outcomes of counts instead.")
    affine = all(change is AFFINE for change in changes)
    kinked = [index for index, change in enumerate(changes) if change.kink is not None]

    def one_sided(name: str, mirror: str, under: float, over: float) -> Callable[..., Array]:
        def function(y: Array, *parameters: Array) -> Array:
            pairs, rest = _cut(changes, parameters)
            x, _, rising, below, above = pull(jnp, y, pairs)
            value = jnp.where(rising, getattr(base, name)(x, *rest), getattr(base, mirror)(x, *rest))
            return jnp.where(below, under, jnp.where(above, over, value)).astype(value.dtype)

        return function

    def log_prob(y: Array, *parameters: Array) -> Array:
        pairs, rest = _cut(changes, parameters)
        x, slope, _, below, above = pull(jnp, y, pairs)
        return jnp.where(below | above, -jnp.inf, base.log_prob(x, *rest) - slope)

    def icdf(tail: Array, upper: Any, *parameters: Array) -> Array:
        pairs, rest = _cut(changes, parameters)
        return push(jnp, base.icdf(tail, jnp.asarray(upper) == is_rising(jnp, pairs), *rest), pairs)

    def scale_of(pairs: list[tuple[Change, tuple]]) -> Array:
        return functools.reduce(lambda product, pair: product * pair[1][1], pairs, jnp.ones(()))

    def crps(y: Array, *parameters: Array) -> Array:
        pairs, rest = _cut(changes, parameters)
        score = (base.crps or _numeric.crps_of(base))(pull(jnp, y, pairs)[0], *rest)
        return jnp.abs(scale_of(pairs)).astype(score.dtype) * score

    def moments(*parameters: Array) -> tuple[Array, Array]:
        pairs, rest = _cut(changes, parameters)
        mean, variance = base.moments(*rest)
        return push(jnp, mean, pairs), jnp.square(scale_of(pairs)).astype(variance.dtype) * variance

    def entropy(*parameters: Array) -> Array:
        pairs, rest = _cut(changes, parameters)
        own = (base.entropy or _numeric.entropy_of(base))(*rest)
        return own + jnp.log(jnp.abs(scale_of(pairs))).astype(own.dtype)

    def seam(*parameters: Array) -> Array:
        return seam_of(jnp, _cut(changes, parameters)[0]).astype(jnp.result_type(*parameters))

    def host(*parameters: Any) -> Any:
        from .host import Monotone

        pairs, rest = _cut(changes, parameters)
        return Monotone(base.host(*rest), pairs)

    family = Family(
        parameters=lambda d: _maker(d)[1],
        log_prob=log_prob,
        cdf=one_sided("cdf", "sf", 0, 1),
        sf=one_sided("sf", "cdf", 1, 0),
        log_cdf=one_sided("log_cdf", "log_sf", -math.inf, 0),
        log_sf=one_sided("log_sf", "log_cdf", 0, -math.inf),
        icdf=icdf,
        moments=moments,
        host=host,
        crps=crps if affine else None,
        entropy=entropy if affine else None,
        seam=seam if kinked else None,
    )
    return family if affine else family._replace(moments=_numeric.moments_of(family))


def _maker(d: Any) -> tuple[Family, tuple[Any, ...]]:
    base, own = family_of(d.base_dist)
    changes: list[Change] = []
    parameters: list[Any] = []
    for transform in d.transforms:
        for change, more in _changes(transform):
            if not changes and base is NORMAL and change is AFFINE:
                loc, scale = more
                own = (loc + scale * own[0], _absolute(scale) * own[1])
            elif not changes and base is NORMAL and change is _EXP:
                base = LOG_NORMAL
            else:
                changes.append(change)
                parameters.extend(more)
    if not changes:
        return base, own
    return transformed(base, tuple(changes)), (*parameters, *own)


def _absolute(value: Any) -> Any:
    return jnp.abs(value) if isinstance(value, jax.Array) else np.abs(value)


register_maker("TransformedDistribution", _maker)
