"""Counts with extra zeros: a mixture of a point at zero and any family of counts."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError
from .._typing import Array
from ._counts import MOST, has_reached, settle, unless_nan
from ._family import Family, family_of, register_maker
from .counts import sigmoid


@functools.cache
def zero_inflated(base: Family) -> Family:
    """The family of counts that are 0 with probability `gate`, of `base` with probability `keep`, and parameters.

    Its parameters are `gate`, `keep` = 1 − gate, and those of `base`.
    """

    def log_prob(y: Array, gate: Array, keep: Array, *parameters: Array) -> Array:
        value = base.log_prob(y, *parameters) + jnp.log(keep)
        return jnp.where(y == 0, _log_sum(gate, value), value)

    def log_cdf(y: Array, gate: Array, keep: Array, *parameters: Array) -> Array:
        value = base.log_cdf(y, *parameters) + jnp.log(keep)
        return jnp.where(y < 0, -jnp.inf, jnp.minimum(_log_sum(gate, value), 0))

    def log_sf(y: Array, gate: Array, keep: Array, *parameters: Array) -> Array:
        value = base.log_sf(y, *parameters)
        return jnp.where(y < 0, unless_nan(value, 0), value + jnp.log(keep))

    def icdf(tail: Array, upper: Any, gate: Array, keep: Array, *parameters: Array) -> Array:
        tail, upper, gate, keep = jax.lax.stop_gradient(jnp.broadcast_arrays(tail, jnp.asarray(upper), gate, keep))
        share = jnp.clip(jnp.where(upper, tail, tail - gate) / keep, 0, 1)
        near = base.icdf(share, upper, *parameters)
        last = MOST if base.support is None else jnp.minimum(base.support(*parameters)[1], MOST)

        def reached(k: Array) -> Array:
            tails = log_cdf(k, gate, keep, *parameters), log_sf(k, gate, keep, *parameters)
            return has_reached(tails, jnp.log(tail), upper)

        k = jnp.where(jnp.isfinite(near), settle(reached, near, jnp.broadcast_to(last, near.shape)), near)
        k = jnp.where(keep > 0, k, 0 * k)
        return jnp.where((tail >= 0) & (tail <= 1), k, jnp.nan)

    def crps(y: Array, gate: Array, keep: Array, *parameters: Array) -> Array:
        assert base.crps is not None
        plain, at_zero = base.crps(y, *parameters), base.crps(jnp.zeros_like(y), *parameters)
        return gate * jnp.abs(y) + keep * plain - gate * keep * at_zero

    def entropy(gate: Array, keep: Array, *parameters: Array) -> Array:
        assert base.entropy is not None
        zero = base.log_prob(jnp.zeros_like(gate), *parameters)
        rest = -jnp.expm1(zero)
        without = base.entropy(*parameters) + jnp.exp(zero) * zero
        whole = gate + keep * jnp.exp(zero)
        return _entr(whole) + keep * without + rest * _entr(keep)

    def moments(gate: Array, keep: Array, *parameters: Array) -> tuple[Array, Array]:
        mean, variance = base.moments(*parameters)
        return keep * mean, keep * (variance + gate * jnp.square(mean))

    def support(gate: Array, keep: Array, *parameters: Array) -> tuple[Any, Any]:
        return (0.0, jnp.inf) if base.support is None else base.support(*parameters)

    return Family(
        parameters=lambda d: _gated(d)[1],
        log_prob=log_prob,
        cdf=lambda y, *parameters: jnp.exp(log_cdf(y, *parameters)),
        sf=lambda y, *parameters: jnp.exp(log_sf(y, *parameters)),
        log_cdf=log_cdf,
        log_sf=log_sf,
        icdf=icdf,
        moments=moments,
        host=lambda gate, keep, *parameters: ZeroInflated(base.host(*parameters), gate, keep),
        crps=crps,
        entropy=entropy,
        discrete=True,
        support=support,
    )


def _gated(d: Any) -> tuple[Family, tuple[Any, ...]]:
    base, parameters = family_of(d.base_dist)
    if not base.discrete or base.crps is None or base.entropy is None:
        raise InputError(
            "`uq.laws` knows zero-inflated Poisson, negative binomial and binomial distributions, but got one of "
            f"{type(d.base_dist).__name__}."
        )
    if hasattr(d, "gate_logits"):
        gate, keep = sigmoid(d.gate_logits), sigmoid(-d.gate_logits)
    else:
        gate, keep = d.gate, 1 - d.gate
    return zero_inflated(base), (gate, keep, *parameters)


def _log_sum(gate: Array, log_rest: Array) -> Array:
    """log(gate + exp(log_rest)), with finite derivatives at a gate of 0."""
    some = gate > 0
    return jnp.where(some, jnp.logaddexp(jnp.log(jnp.where(some, gate, 1)), log_rest), log_rest)


def _entr(probs: Array) -> Array:
    """−p log p; 0 at 0."""
    some = probs > 0
    return jnp.where(some, -probs * jnp.log(jnp.where(some, probs, 1)), 0)


class ZeroInflated:
    """Counts with extra zeros, with the methods of a frozen scipy distribution."""

    def __init__(self, base: Any, gate: Any, keep: Any) -> None:
        self.base, self.gate, self.keep = base, np.asarray(gate), np.asarray(keep)

    def pmf(self, k: Any) -> Any:
        return self.keep * self.base.pmf(k) + self.gate * (np.asarray(k) == 0)

    def logpmf(self, k: Any) -> Any:
        with np.errstate(divide="ignore"):
            value = self.base.logpmf(k) + np.log(self.keep)
            return np.where(np.asarray(k) == 0, np.logaddexp(np.log(self.gate), value), value)

    def cdf(self, k: Any) -> Any:
        return np.where(np.asarray(k) < 0, 0, self.gate + self.keep * self.base.cdf(k))

    def sf(self, k: Any) -> Any:
        return np.where(np.asarray(k) < 0, 1, self.keep * self.base.sf(k))

    def logcdf(self, k: Any) -> Any:
        with np.errstate(divide="ignore"):
            value = np.logaddexp(np.log(self.gate), np.log(self.keep) + self.base.logcdf(k))
            return np.where(np.asarray(k) < 0, -np.inf, value)

    def logsf(self, k: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.where(np.asarray(k) < 0, 0, np.log(self.keep) + self.base.logsf(k))

    def ppf(self, q: Any) -> Any:
        q = np.asarray(q)
        share = np.clip((q - self.gate) / np.where(self.keep > 0, self.keep, 1), 0, 1)
        return np.where((q >= 0) & (q <= 1), np.maximum(self.base.ppf(share), 0), np.nan)

    def isf(self, q: Any) -> Any:
        q = np.asarray(q)
        share = np.where(self.keep > 0, np.clip(q / np.where(self.keep > 0, self.keep, 1), 0, 1), 1)
        return np.where((q >= 0) & (q <= 1), np.maximum(self.base.isf(share), 0), np.nan)

    def mean(self) -> Any:
        return self.keep * self.base.mean()

    def var(self) -> Any:
        return self.keep * (self.base.var() + self.gate * np.square(self.base.mean()))

    def entropy(self) -> Any:
        from scipy.special import entr

        zero = self.base.pmf(0)
        without = self.base.entropy() - entr(zero)
        return entr(self.gate + self.keep * zero) + self.keep * without + (1 - zero) * entr(self.keep)


register_maker("ZeroInflatedProbs", _gated)
