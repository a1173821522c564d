"""Distributions given that the outcome lies between limits, and numpyro's for outcomes of which a bound was recorded.

Truncation works in log space, from whichever side is smaller, so that a normal cut to [40, 42] is as good as one
cut to [−1, 2].
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._typing import Array
from . import _numeric
from ._family import Family, family_of, register_maker
from ._stirling import log1mexp


@functools.cache
def truncated(base: Family) -> Family:
    """The family of `base` given that the outcome lies in [low, high]; parameters `(low, high, *those of base)`."""
    base_log = base.icdf_log or (lambda log_tail, upper, *p: base.icdf(jnp.exp(log_tail), upper, *p))

    def finite(low: Array, high: Array) -> tuple[Array, Array]:
        """Ends with infinite ones replaced by something finite, for what is computed and not used."""
        other = jnp.where(jnp.isfinite(high), high, 0)
        low_safe = jnp.where(jnp.isfinite(low), low, other)
        return low_safe, jnp.where(jnp.isfinite(high), high, low_safe)

    def ends(low: Array, high: Array, parameters: tuple[Array, ...]) -> tuple[Array, ...]:
        """log F and log S at both ends."""
        a, b = finite(low, high)
        below, above = low == -jnp.inf, high == jnp.inf
        return (
            jnp.where(below, -jnp.inf, base.log_cdf(a, *parameters)),
            jnp.where(below, 0, base.log_sf(a, *parameters)),
            jnp.where(above, 0, base.log_cdf(b, *parameters)),
            jnp.where(above, -jnp.inf, base.log_sf(b, *parameters)),
        )

    def log_mass(low: Array, high: Array, parameters: tuple[Array, ...]) -> Array:
        """log P(low < Y ≤ high) under `base`."""
        f_low, s_low, f_high, s_high = ends(low, high, parameters)
        upper = s_low < f_low
        big, small = jnp.where(upper, s_low, f_high), jnp.where(upper, s_high, f_low)
        ratio = jnp.where(small == -jnp.inf, -jnp.inf, small - big)
        narrow = ratio > -0.5
        wide = big + log1mexp(jnp.where(narrow, -1, ratio))
        a, b = finite(low, high)
        a = jnp.where(narrow, a, b)
        nodes, mass = np.polynomial.legendre.leggauss(10)
        shape = (-1,) + (1,) * max(jnp.ndim(leaf) for leaf in (ratio, *parameters))
        share = jnp.asarray(0.5 + 0.5 * nodes, b.dtype).reshape(shape)
        top = base.log_prob(0.5 * (a + b), *parameters)
        density = jnp.exp(base.log_prob(a + (b - a) * share, *parameters) - top)
        total = (0.5 * jnp.asarray(mass, b.dtype).reshape(shape) * density).sum(0)
        width = b - a
        open_ = width > 0
        thin = jnp.where(open_, jnp.log(jnp.where(open_, width, 1) * total) + top, -jnp.inf)
        return jnp.where(narrow & (small > -jnp.inf), thin, wide)

    def inside(y: Array, low: Array, high: Array) -> Array:
        return (y >= low) & (y <= high)

    def log_prob(y: Array, low: Array, high: Array, *parameters: Array) -> Array:
        kept = inside(y, low, high)
        a, _ = finite(low, high)
        value = base.log_prob(jnp.where(kept, y, a), *parameters) - log_mass(low, high, parameters)
        return jnp.where(kept | jnp.isnan(y), value + jnp.where(jnp.isnan(y), y, 0), -jnp.inf)

    def shares(y: Array, low: Array, high: Array, parameters: tuple[Array, ...]) -> tuple[Array, Array]:
        """log P(Y ≤ y) and log P(Y > y); the larger from the smaller."""
        kept = jnp.clip(y, low, high)
        left, right = log_mass(low, kept, parameters), log_mass(kept, high, parameters)
        whole = jnp.logaddexp(left, right)
        less = left < right
        small = jnp.where(less, left, right) - whole
        large = log1mexp(jnp.minimum(small, -1e-30))
        return jnp.where(less, small, large), jnp.where(less, large, small)

    def log_cdf(y: Array, low: Array, high: Array, *parameters: Array) -> Array:
        value = shares(y, low, high, parameters)[0]
        return jnp.where(y <= low, -jnp.inf, jnp.where(y >= high, 0, value))

    def log_sf(y: Array, low: Array, high: Array, *parameters: Array) -> Array:
        value = shares(y, low, high, parameters)[1]
        return jnp.where(y >= high, -jnp.inf, jnp.where(y <= low, 0, value))

    def icdf(tail: Array, upper: Any, low: Array, high: Array, *parameters: Array) -> Array:
        f_low, s_low, f_high, s_high = ends(low, high, parameters)
        near, far = jnp.log(tail), jnp.log1p(-tail)
        below, above = jnp.where(upper, far, near), jnp.where(upper, near, far)
        log_f = jnp.logaddexp(f_low + above, f_high + below)
        log_s = jnp.logaddexp(s_low + above, s_high + below)
        right = log_s < log_f
        return jnp.clip(base_log(jnp.where(right, log_s, log_f), right, *parameters), low, high)

    def host(low: Any, high: Any, *parameters: Any) -> Any:
        from .host import Truncated

        return Truncated(base.host(*parameters), low, high)

    family = Family(
        parameters=_truncated_parameters,
        log_prob=log_prob,
        cdf=lambda *args: jnp.exp(log_cdf(*args)),
        sf=lambda *args: jnp.exp(log_sf(*args)),
        log_cdf=log_cdf,
        log_sf=log_sf,
        icdf=icdf,
        moments=lambda *parameters: (0 * parameters[0], 0 * parameters[0]),
        host=host,
        support=lambda low, high, *parameters: (low, high),
    )
    return family._replace(moments=_numeric.moments_of(family))


def _truncated_parameters(d: Any) -> tuple[Any, ...]:
    low, high = getattr(d, "low", np.float32(-np.inf)), getattr(d, "high", np.float32(np.inf))
    return low, high, *family_of(d.base_dist)[1]


def _truncated_maker(d: Any) -> tuple[Family, tuple[Any, ...]]:
    return truncated(family_of(d.base_dist)[0]), _truncated_parameters(d)


for _name in ("LeftTruncatedDistribution", "RightTruncatedDistribution", "TwoSidedTruncatedDistribution"):
    register_maker(_name, _truncated_maker)


# Outcomes of which only a bound was recorded: numpyro's censored distributions


@functools.cache
def _bounded(base: Family, name: str) -> Family:
    """`base`, whose log-density at a censored outcome is the probability beyond it; the first parameter says which."""
    beyond = base.log_cdf if name == "LeftCensoredDistribution" else base.log_sf
    mirror = base.mirror

    def unmarked(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda y, censored, *parameters: function(y, *parameters)

    def bare(function: Callable[..., Any] | None) -> Any:
        return None if function is None else lambda censored, *parameters: function(*parameters)

    return base._replace(
        parameters=lambda d: (d.censored, *family_of(d.base_dist)[1]),
        log_prob=lambda y, censored, *parameters: jnp.where(
            censored > 0, beyond(y, *parameters), base.log_prob(y, *parameters)
        ),
        cdf=unmarked(base.cdf),
        sf=unmarked(base.sf),
        log_cdf=unmarked(base.log_cdf),
        log_sf=unmarked(base.log_sf),
        icdf=lambda tail, upper, censored, *parameters: base.icdf(tail, upper, *parameters),
        crps=None if base.crps is None else unmarked(base.crps),
        entropy=bare(base.entropy),
        moments=bare(base.moments),
        support=bare(base.support),
        cuts=bare(base.cuts),
        mirror=None if mirror is None else lambda censored, *parameters: (censored, *mirror(*parameters)),
        atoms=bare(base.atoms),
        cross=None,
        icdf_log=None,
        host=lambda censored, *parameters: _Recorded(base.host(*parameters), censored, name),
        unmarked=lambda censored, *parameters: (np.zeros(np.shape(censored), bool), *parameters),
    )


class _Recorded:
    """A frozen distribution but for the log-density of a censored outcome: that of what lies beyond it."""

    def __init__(self, law: Any, censored: Any, name: str) -> None:
        self.law, self.censored = law, censored
        self.beyond = law.logcdf if name == "LeftCensoredDistribution" else law.logsf

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.law, name)
        if name not in ("logpdf", "logpmf"):
            return found
        return lambda y: np.where(self.censored > 0, self.beyond(y), found(y))[()]


def _bounded_maker(d: Any) -> tuple[Family, tuple[Any, ...]]:
    family = _bounded(family_of(d.base_dist)[0], type(d).__name__)
    return family, family.parameters(d)


register_maker("LeftCensoredDistribution", _bounded_maker)
register_maker("RightCensoredDistribution", _bounded_maker)
