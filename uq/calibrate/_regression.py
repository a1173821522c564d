"""Moments out of a mixture, and the mixture reshaped about its mean: what recalibrators of numbers have in common.

Everything is on the scale of the likelihood's base, where a shift of the target costs no digits. Numbers vote: V
members whose means differ by S² (unbiased) have a mean that errs by S² / V more than that of endlessly many would.
Few members vote out of fold, many at prediction time; a recalibrator that knows S² / V apart carries over.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from .. import _member_laws
from .._checks import InputError
from .._typing import Array, ArrayLike
from ..likelihoods import Gaussian, StudentT, Transformed
from ..likelihoods._links import raw_of
from ..likelihoods.location_scale import MAX_DF, MIN_DF
from ..metrics import _inputs
from ..metrics._estimate import check_weight
from ..predictive import Predictive


class Votes(NamedTuple):
    """What the members say of each example, on the base's scale; `…` is `(N,)` or `(N, D)`."""

    means: Any
    """Of the members, `(M, …)`."""
    variances: Any
    """Of the members, `(M, …)`."""
    weight: Any
    """Of the members for each example, `(M, …)`, summing to 1."""
    mean: Any
    """Of the mixture, `(…)`."""
    noise: Any
    """Aleatoric variance A, `(…)`."""
    spread: Any
    """Variance between members S², unbiased, `(…)`; 0 where only one votes."""
    share: Any
    """1 / V, `(…)`: V is how many members vote, by their weights."""

    @property
    def variance(self) -> Any:
        """Of the mixture as it is: A + (1 − 1/V) S²."""
        return self.noise + (1 - self.share) * self.spread


def as_predictive(name: str, pred: Any) -> Predictive:
    """A `Predictive` of numbers whose distribution can be moved and scaled; normal distributions become one."""
    if not isinstance(pred, Predictive):
        pred = _normal(name, pred)
    pred._needs("regression", what=name)
    if not hasattr(pred._base, "moved") or getattr(pred._base, "standardize", "") != "affine":
        raise InputError(
            f"`{name}` moves and scales distributions, which {pred._base!r} has no way to express. Use "
            "uq.calibrate.quantiles(), which maps the distribution function of any family."
        )
    return pred


def _normal(name: str, pred: Any) -> Predictive:
    """Normal distributions of numpyro or scipy as predictions of one member."""
    kind = type(getattr(pred, "base_dist", pred)).__name__
    family = getattr(getattr(pred, "dist", None), "name", None)
    if _inputs.is_distribution(pred) and kind == "Normal":
        mean, scale = np.asarray(pred.mean, np.float64), np.sqrt(np.asarray(pred.variance, np.float64))
    elif family == "norm":
        mean, scale = np.asarray(pred.mean()), np.asarray(pred.std())
    else:
        raise InputError(
            f"`{name}` expected a Predictive of numbers or normal distributions, but got a {type(pred).__name__}. For "
            "draws or other families use uq.calibrate.quantiles()."
        )
    mean, scale = np.broadcast_arrays(np.atleast_1d(mean), np.atleast_1d(scale))
    if mean.ndim > 1:
        raise InputError(f"`{name}` expected normal distributions of one output, (N,), but got shape {mean.shape}.")
    loc, unit = float(np.median(mean)), float(scale.min()) / 2
    z = jnp.asarray(np.stack([(mean - loc) / unit, scale / unit], -1), jnp.result_type(float))
    kind_ = Gaussian()
    outputs = jnp.stack([z[:, 0], raw_of(z[:, 1], kind_.min_scale)], -1)
    return Predictive(outputs[None], Transformed(kind_, loc, unit))


@jax.jit
def _votes(means: Array, variances: Array, weight: Array) -> Votes:
    weight = jnp.broadcast_to(weight.reshape(*weight.shape, *(1,) * (means.ndim - weight.ndim)), means.shape)
    live = weight > 0
    weight = jnp.where(live, weight / weight.sum(0), 0).astype(means.dtype)
    means, variances = jnp.where(live, means, 0), jnp.where(live, variances, 1)
    mean, noise = (weight * means).sum(0), (weight * variances).sum(0)
    between, share = (weight * jnp.square(means - mean)).sum(0), jnp.square(weight).sum(0)
    several = share < 1 - 1e-6
    spread = jnp.where(several, between / jnp.where(several, 1 - share, 1), 0)
    return Votes(means, variances, weight, mean, noise, spread, share)


def votes(pred: Predictive) -> Votes:
    """Moments of the members, of the mixture, and of their disagreement; traceable."""
    d = _member_laws.members(pred._base, None, pred.outputs, pred.weight)
    return _votes(d.mean, d.variance, jnp.asarray(pred.weight))


class Prior(NamedTuple):
    """Where variances between members lie, which a few voters tell badly: inverse gamma, by moments of their logs."""

    level: Any
    """s₀², on the base's scale, () or `(D,)`."""
    worth: Any
    """d₀: as many voters (less one) would tell a row's spread as well; inf where all rows' are alike."""

    def moderated(self, found: Votes) -> Any:
        """The mean of the spread given S²: (d₀ s₀² + (V − 1) S²) / (d₀ + V − 1). (smyth2004, section 4.)"""
        known = 1 / found.share - 1
        trust = 1 / (1 + known / self.worth)  # d₀ / (d₀ + V − 1), also for an infinite d₀, where nothing is learned
        return trust * self.level + (1 - trust) * found.spread


def prior_of(found: Votes, weight: np.ndarray) -> Prior:
    """The prior that a set of examples shows, for one output (smyth2004, section 6.2)."""
    known = 1 / found.share - 1
    use = (known > 0.5) & (found.spread > 0) & (weight > 0)
    if use.sum() < 2:  # a single voter each: what members differ by is part of the residuals, for good
        return Prior(np.float64(0.0), np.float64(np.inf))
    half, share = known[use] / 2, weight[use] / weight[use].sum()
    log = np.log(found.spread[use]) - special.digamma(half) + np.log(half)
    centre = share @ log
    excess = share @ (log - centre) ** 2 - share @ special.polygamma(1, half)
    if excess <= 1e-3:
        return Prior(share @ found.spread[use], np.float64(np.inf))
    worth = 2 * optimize.brentq(lambda h: special.polygamma(1, h) - excess, 1e-3, 1e4)
    return Prior(np.exp(centre + special.digamma(worth / 2) - np.log(worth / 2)), np.float64(worth))


def on_host(
    found: Votes, pred: Predictive, y: ArrayLike, weight: ArrayLike | None, name: str
) -> tuple[Votes, Any, Any]:
    """In float64: the votes, residuals on the base's scale, and example weights of mean 1."""
    y = np.asarray(pred._check_y(y), np.float64)
    base = pred.likelihood.host_to_base(y) if isinstance(pred.likelihood, Transformed) else y
    votes = Votes(*(np.asarray(leaf, np.float64) for leaf in found))
    share = np.ones(len(y)) if weight is None else np.asarray(check_weight(name, weight, len(y)), np.float64)
    return votes, np.asarray(base - votes.mean), share / share.mean()


def reshaped(
    pred: Predictive, centre: Array, factor: Array, means: Array, least: Array, inverse_df: Any = None
) -> Predictive:
    """The mixture with every member moved and stretched: y ↦ centre + factor (y − mean of the member).

    Args:
      pred: from `as_predictive`.
      centre, factor, means: `(M, N)` or `(M, N, D)`, on the base's scale.
      least: a number that no factor is below, `()` or `(D,)`: scales have floors in the units of the outputs, and those
        become so much smaller.
      inverse_df: members become Student's t of 1 / `inverse_df` degrees of freedom and the same scale, `()`.
    """
    base, unit = pred._base, least / 2
    loc, scale = (centre - factor * means) / unit, factor / unit
    if means.ndim == 2:
        loc, scale = loc[..., None], scale[..., None]
    moved = jax.vmap(jax.vmap(base.moved))
    kind = pred.outputs.dtype
    outputs = moved(_member_laws.inert(pred.outputs, pred.weight), loc.astype(kind), scale.astype(kind))
    if inverse_df is not None:
        base, outputs = _with_tails(base, outputs, inverse_df)
    change = pred.likelihood if isinstance(pred.likelihood, Transformed) else Transformed(base, 0.0, 1.0)
    return Predictive(outputs, Transformed(base, change.loc, change.scale * unit, change.transforms), pred.weight)


def _with_tails(base: Any, outputs: Array, inverse_df: Array) -> tuple[Any, Array]:
    """Normal members as Student's t of the same scale."""
    mean, scale = base.parameters(outputs)
    kind = StudentT(min_scale=0.0)
    df = jnp.clip(1 / inverse_df, MIN_DF, MAX_DF)
    share = jnp.clip(jnp.log(df / MIN_DF) / np.log(MAX_DF / MIN_DF), 1e-6, 1 - 1e-6)
    raw = raw_of(scale, kind.min_scale)
    third = jnp.broadcast_to(jnp.log(share) - jnp.log1p(-share), mean.shape)
    return kind, jnp.stack([mean, raw, third.astype(mean.dtype)], -1)


def log_unit(pred: Predictive, y: ArrayLike, weight: np.ndarray) -> float:
    """What mean log-densities on the base's scale gain in the units of `y`."""
    if not isinstance(pred.likelihood, Transformed):
        return 0.0
    return float((weight * np.asarray(pred.likelihood.log_derivative(np.asarray(y, np.float64)))).mean())
