"""Gamma and beta functions, complete and incomplete, right in float32 for every size of their parameters.

`jax.scipy.special` has no derivative of the incomplete beta function in its parameters, no logarithms of tails, no
inverses, and loses its digits in float32 from parameters of about a thousand. The work is done in `_incomplete.py`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln

from .._typing import Array, ArrayLike
from . import _incomplete, _quantile, _stirling
from ._family import compiled, floats


def log_gamma_difference(a: ArrayLike, b: ArrayLike) -> Array:
    """log Γ(a + b) − log Γ(a) without cancellation, for a > 0 and a + b > 0.

    References:
      olver2010, eq. 5.11.1, after the recurrence 5.5.1. Checked against scipy.special in float64.

    Example:
      >>> round(float(log_gamma_difference(1e7, 2.0)), 3)
      32.236
    """
    return compiled(_stirling.log_gamma_difference, *floats(a, b))


def digamma_difference(a: ArrayLike, b: ArrayLike) -> Array:
    """ψ(a + b) − ψ(a) without cancellation, for a > 0 and a + b > 0.

    References:
      olver2010, eq. 5.11.2, after the recurrence 5.5.2. Checked against scipy.special in float64.
    """
    return compiled(_stirling.digamma_difference, *floats(a, b))


def log_beta(a: ArrayLike, b: ArrayLike) -> Array:
    """log B(a, b) = log Γ(a) + log Γ(b) − log Γ(a + b), also where one parameter is far larger than the other.

    References:
      olver2010, eq. 5.12.1. Checked against scipy.special in float64.
    """
    a, b = floats(a, b)
    small, large = jnp.minimum(a, b), jnp.maximum(a, b)
    return gammaln(small) - log_gamma_difference(large, small)


def gammainc(a: ArrayLike, x: ArrayLike) -> Array:
    """Regularised lower incomplete gamma function P(a, x): P(G ≤ x) of a gamma variable of shape a and rate 1.

    References:
      olver2010, eq. 8.2.4. Checked against scipy.special in float64, a from 1e-2 to 1e7.

    Example:
      >>> round(float(gammainc(1.0, 1.0)), 5)
      0.63212
    """
    return jnp.exp(log_gammainc(a, x))


def gammaincc(a: ArrayLike, x: ArrayLike) -> Array:
    """Regularised upper incomplete gamma function Q(a, x) = 1 − P(a, x), exact where it is small."""
    return jnp.exp(log_gammaincc(a, x))


def log_gammainc(a: ArrayLike, x: ArrayLike, *, excess: ArrayLike | None = None) -> Array:
    """log P(a, x), finite where P underflows.

    Args:
      a: shape, positive.
      x: from 0 to inf.
      excess: x − a, where it is known more precisely than from its parts; derivatives are those by `a` and `x`.
    """
    return _gamma_tails(a, x, excess)[0]


def log_gammaincc(a: ArrayLike, x: ArrayLike, *, excess: ArrayLike | None = None) -> Array:
    """log Q(a, x), finite where Q underflows; arguments as `log_gammainc`."""
    return _gamma_tails(a, x, excess)[1]


def gammainc_inverse(a: ArrayLike, tail: ArrayLike, upper: ArrayLike) -> Array:
    """The x with P(a, x) = tail, or with Q(a, x) = tail where `upper`: exact for a tail of 1e-30, too.

    References:
      Implicit derivatives: figurnov2018. Checked against scipy.special.gammaincinv and gammainccinv.

    Example:
      >>> round(float(gammainc_inverse(1.0, 0.5, False)), 5)
      0.69315
    """
    return gammainc_inverse_log(a, jnp.log(jnp.asarray(tail)), upper)


def gammainc_inverse_log(a: ArrayLike, log_tail: ArrayLike, upper: ArrayLike) -> Array:
    """`gammainc_inverse` of the logarithm of a tail."""
    a, log_tail = floats(a, log_tail)
    a, log_tail, upper = jnp.broadcast_arrays(a, log_tail, jnp.asarray(upper, bool))
    return a * jnp.exp(compiled(_quantile.gamma_quantile, a, log_tail, upper))


def betainc(a: ArrayLike, b: ArrayLike, x: ArrayLike, *, complement: Any = None, excess: Any = None) -> Array:
    """Regularised incomplete beta function I_x(a, b): P(B ≤ x) of a beta variable.

    Derivatives in a, b and x are known. Where x is close to 1, pass `complement`.

    Args:
      a, b: positive.
      x: from 0 to 1.
      complement: 1 − x, where it is known more precisely than from x; derivatives are those by `x`.
      excess: a (1 − x) − b x, likewise: zero at the mean a / (a + b).

    References:
      olver2010, eq. 8.17.2. Checked against scipy.special in float64, a and b from 1e-2 to 1e7.

    Example:
      >>> round(float(betainc(2.0, 1.0, 0.5)), 5)
      0.25
    """
    return jnp.exp(log_betainc(a, b, x, complement=complement, excess=excess))


def betaincc(a: ArrayLike, b: ArrayLike, x: ArrayLike, *, complement: Any = None, excess: Any = None) -> Array:
    """1 − I_x(a, b), exact where it is small; arguments as `betainc`."""
    return jnp.exp(log_betaincc(a, b, x, complement=complement, excess=excess))


def log_betainc(a: ArrayLike, b: ArrayLike, x: ArrayLike, *, complement: Any = None, excess: Any = None) -> Array:
    """log I_x(a, b), finite where I underflows; arguments as `betainc`."""
    return _beta_tails(a, b, x, complement, excess)[0]


def log_betaincc(a: ArrayLike, b: ArrayLike, x: ArrayLike, *, complement: Any = None, excess: Any = None) -> Array:
    """log(1 − I_x(a, b)), finite where it underflows; arguments as `betainc`."""
    return _beta_tails(a, b, x, complement, excess)[1]


def betainc_inverse(a: ArrayLike, b: ArrayLike, tail: ArrayLike, upper: ArrayLike) -> Array:
    """The x with I_x(a, b) = tail, or with 1 − I_x(a, b) = tail where `upper`.

    Close to 1 an x has no digits left: use `betainc_inverse_odds`, or swap the parameters and flip `upper`.

    References:
      Implicit derivatives: figurnov2018. Checked against scipy.special.betaincinv and betainccinv.

    Example:
      >>> round(float(betainc_inverse(2.0, 1.0, 0.25, False)), 5)
      0.5
    """
    odds = betainc_inverse_odds(a, b, jnp.log(jnp.asarray(tail)), upper)
    a, b, odds = floats(a, b, odds)
    return jax.nn.sigmoid(odds + jnp.log(a) - jnp.log(b))


def betainc_inverse_odds(a: ArrayLike, b: ArrayLike, log_tail: ArrayLike, upper: ArrayLike) -> Array:
    """log of the odds x / (1 − x) over a / b, for x = `betainc_inverse` of a tail given by its logarithm.

    Its exponential is the F variable: for a = df / 2 and b = 1 / 2 it is 1 / t², for Student's t.
    """
    a, b, log_tail = floats(a, b, log_tail)
    a, b, log_tail, upper = jnp.broadcast_arrays(a, b, log_tail, jnp.asarray(upper, bool))
    return compiled(_quantile.beta_quantile, a, b, log_tail, upper)


def log_gamma_density(a: ArrayLike, x: ArrayLike, *, excess: ArrayLike | None = None) -> Array:
    """log of x^a e^(−x) / Γ(a): the density of log G; minus log x, that of a gamma variable G.

    References:
      loader2000. Checked against scipy.stats.gamma in float64.
    """
    a, x = floats(a, x)
    return compiled(_incomplete.log_gamma_density, a, x, x - a if excess is None else jnp.asarray(excess, a.dtype))


def log_beta_density(a: ArrayLike, b: ArrayLike, x: ArrayLike, *, complement: Any = None, excess: Any = None) -> Array:
    """log of x^a (1 − x)^b / B(a, b): the density of logit B; minus log x (1 − x), that of a beta variable B.

    References:
      loader2000. Checked against scipy.stats.beta in float64.
    """
    return compiled(_incomplete.log_beta_density, *_beta_arguments(a, b, x, complement, excess))


def _gamma_tails(a: ArrayLike, x: ArrayLike, excess: Any) -> tuple[Array, Array]:
    a, x = floats(a, x)
    excess = x - a if excess is None else jnp.asarray(excess, a.dtype)
    return compiled(_incomplete.gamma_tails, *jnp.broadcast_arrays(a, x, excess))


def _beta_tails(*given: Any) -> tuple[Array, Array]:
    return compiled(_incomplete.beta_tails, *jnp.broadcast_arrays(*_beta_arguments(*given)))


def _beta_arguments(a: Any, b: Any, x: Any, complement: Any, excess: Any) -> tuple[Array, ...]:
    a, b, x = floats(a, b, x)
    complement = 1 - x if complement is None else jnp.asarray(complement, a.dtype)
    excess = a * complement - b * x if excess is None else jnp.asarray(excess, a.dtype)
    return a, b, x, complement, excess
