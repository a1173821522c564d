"""Predictive variance made right: by one factor, by its parts, and with heavier tails."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

from .._checks import InputError, UQWarning
from .._typing import ArrayLike
from ..likelihoods import Gaussian, HomoscedasticGaussian
from ..likelihoods.location_scale import MAX_DF, MIN_DF
from ..predictive import Predictive
from ._recalibrator import Fitted, Recalibrator
from ._regression import Prior, Votes, as_predictive, log_unit, on_host, prior_of, reshaped, votes


class ScaleState(NamedTuple):
    """Of `scale`."""

    factor: Any
    """What standard deviations are multiplied by, () or `(D,)`."""
    prior: Prior
    """What a row's S² is taken together with, where few vote."""


class VarianceState(NamedTuple):
    """Of `affine_variance` and `student_tails`: the variance is constant + noise · A + (spread + 1/V) · S²."""

    constant: Any
    """a, on the scale of the likelihood's base, () or `(D,)`."""
    noise: Any
    """b, of the aleatoric variance A."""
    spread: Any
    """c, of the variance between members S², beyond the S² / V by which the mean of V members errs."""
    prior: Prior
    """What a row's S² is taken together with, where few vote."""
    inverse_df: Any
    """1 / degrees of freedom of the members, 0 for normal ones; their variances above are squared scales then."""
    fitted: Fitted


_SHARES = 1e-8, 1e4
"""Between which a, in units of the mean squared residual, b and c are sought."""


def scale() -> Recalibrator:
    """All standard deviations times one factor, in closed form: the mean of squared standardised residuals is 1.

    The factor is that of the Gaussian likelihood's maximum. Members keep their places relative to one another, so that
    the aleatoric and epistemic parts are scaled alike; means stay. Where fewer members vote than will predict (out of
    fold), the S² / V that each residual owes to the number of voters is taken as known (see `affine_variance`).

    It misleads where overconfidence is not everywhere alike: use `affine_variance`.

    References:
      laves2020, eq. 10 (σ scaling). Checked against a search over factors.
    Example:
      >>> import numpy as np, numpyro.distributions as dist, uq
      >>> rng = np.random.default_rng(0)
      >>> pred, y = dist.Normal(np.zeros(500), np.ones(500)), 2 * rng.normal(size=500)
      >>> state = uq.calibrate.scale().fit(pred, y)
      >>> round(float(state.factor), 1)
      2.0
    """

    def fit(pred: Any, y: ArrayLike, weight: ArrayLike | None = None) -> ScaleState:
        pred = as_predictive("scale", pred)
        found, residual, share = on_host(votes(pred), pred, y, weight, "scale")
        columns = share.reshape(-1, *(1,) * (residual.ndim - 1))
        if residual.ndim == 1:
            prior = prior_of(found, share)
        else:
            each = [prior_of(Votes(*(leaf[..., d] for leaf in found)), share) for d in range(residual.shape[1])]
            prior = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        # Endlessly many voters would err by S² / V less, and claim A + S²: the factor carries over to any number.
        spread = prior.moderated(found)
        ratio = (columns * (residual**2 - found.share * spread) / (found.noise + spread)).mean(0)
        if np.any(ratio <= 0):
            raise InputError(
                "`scale` expected residuals that are not all 0, nor smaller than members' disagreement alone explains."
            )
        return jax.tree.map(_as_arrays, ScaleState(np.sqrt(ratio), prior))

    def apply(state: ScaleState, pred: Any) -> Predictive:
        pred = as_predictive("scale", pred)
        found = votes(pred)
        _check_outputs("scale", state.factor, found)
        spread = state.prior.moderated(found)
        wanted = state.factor**2 * (found.noise + spread) + found.share * spread
        factor = jnp.broadcast_to(jnp.sqrt(wanted / found.variance), found.means.shape)
        centre = found.mean + factor * (found.means - found.mean)
        return reshaped(pred, centre, factor, found.means, jnp.minimum(state.factor, 1) * 0.5)

    return Recalibrator("scale", fit, apply, ("regression",))


def affine_variance() -> Recalibrator:
    """The variance as a constant, a multiple of the aleatoric part and a multiple of the epistemic part.

        v = a + b · A + (c + 1/V) · S²

    A is the mean of the members' variances σ² and S² the variance between their means, unbiased. The mean of V members
    errs by S² / V more than that of endlessly many: that term is known, so that a, b and c ≥ 0, fitted where few
    members vote (out of fold), hold where many do. A few members tell S² badly: it is moderated by where the S² of all
    examples lie, the more the fewer vote. Every member gets the variance a + b · σ² and an equal share of what
    v has beyond the spread that is there; where v has less, members draw together. The likelihood that is maximised is
    that of the mixture which results, with members taken as normal.

    It cannot mend a biased mean, nor tails heavier than normal: `student_tails` fits those with it.

    References:
      lakshminarayanan2017, section 2.4 (A and S² apart); smyth2004, section 4 (moderated S²). Checked against a search
      without derivatives.
    """
    return _variance("affine_variance", tails=False)


def student_tails() -> Recalibrator:
    """`affine_variance` whose members become Student's t, of one number of degrees of freedom fitted with it.

    Overconfident networks have a few residuals that are far out; a normal law can only answer by widening every
    prediction. What `affine_variance` says of variances holds for squared scales here: the bulk of the errors shrinks
    with the number of voters, and a variance that a few residuals make would hide it. For predictions with `Gaussian`
    or `HomoscedasticGaussian` members of one output.

    References:
      lange1989, section 2. Checked against scipy.stats.t.fit.
    """
    return _variance("student_tails", tails=True)


def _variance(name: str, *, tails: bool) -> Recalibrator:
    def taken(pred: Any) -> Predictive:
        pred = as_predictive(name, pred)
        if tails and not (isinstance(pred._base, Gaussian | HomoscedasticGaussian) and pred.num_outputs == 1):
            raise InputError(f"`{name}` expected normal members of one output, but they are {pred._base!r}.")
        return pred

    def fit(pred: Any, y: ArrayLike, weight: ArrayLike | None = None) -> VarianceState:
        pred = taken(pred)
        found, residual, share = on_host(votes(pred), pred, y, weight, name)
        if residual.ndim == 1:
            state = _search(name, found, residual, share, tails=tails)
        else:
            columns = [(Votes(*(leaf[..., d] for leaf in found)), residual[:, d]) for d in range(residual.shape[1])]
            each = [_search(name, *column, share, tails=tails) for column in columns]
            state = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
        gain = log_unit(pred, y, share) / residual[0].size
        fitted = state.fitted._replace(before=state.fitted.before - gain, after=state.fitted.after - gain)
        return jax.tree.map(_as_arrays, state._replace(fitted=fitted))

    def apply(state: VarianceState, pred: Any) -> Predictive:
        pred = taken(pred)
        found = votes(pred)
        _check_outputs(name, state.constant, found)
        near, rest = _together(jnp, found, state.prior.moderated(found), state.spread)
        centre = found.mean + near * (found.means - found.mean)
        factor = jnp.sqrt((state.constant + rest) / found.variances + state.noise)
        least = jnp.clip(jnp.sqrt(state.noise), 1e-3, 1.0)
        return reshaped(pred, centre, factor, found.means, least, state.inverse_df if tails else None)

    return Recalibrator(name, fit, apply, ("regression",))


def _together(xp: Any, found: Votes, moderated: Any, spread: Any) -> tuple[Any, Any]:
    """What members' distances to their mean are multiplied by, and the variance that each has besides."""
    inside = (1 - found.share) * found.spread
    wanted = (spread + found.share) * moderated
    near = xp.sqrt(xp.where(wanted < inside, wanted / xp.where(inside > 0, inside, 1), 1))
    return near, xp.maximum(wanted - inside, 0)


def _as_arrays(leaf: Any) -> Any:
    leaf = np.asarray(leaf)
    return jnp.asarray(leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype)))


def _check_outputs(name: str, state: Any, found: Votes) -> None:
    if np.shape(state) != found.mean.shape[1:]:
        fitted, seen = (np.prod(shape, dtype=int) for shape in (np.shape(state), found.mean.shape[1:]))
        raise InputError(f"`{name}` was fitted to {fitted} outputs, but these predictions have {seen}.")


def _search(name: str, found: Votes, residual: np.ndarray, weight: np.ndarray, *, tails: bool) -> VarianceState:
    """The maximum of the mixture's likelihood over log a, log b, log c and 1 / df."""
    unit = float((weight * residual**2).mean())
    if unit <= 0:
        raise InputError(f"`{name}` expected residuals that are not all 0.")
    prior = prior_of(found, weight)
    moderated = prior.moderated(found)
    apart = found.means - found.mean
    live = found.weight > 0
    log_weight = np.where(live, np.log(np.where(live, found.weight, 1)), -np.inf)
    num = len(residual)

    def objective(p: np.ndarray) -> tuple[float, np.ndarray]:
        a, b, c = np.exp(p[:3]) * [unit, 1, 1]
        near, rest = _together(np, found, moderated, c)
        loss, by_error, by_variance, by_df = _loss(
            residual - near * apart, a + b * found.variances + rest, p[3] if tails else 0.0
        )
        total, share = _mixed(log_weight - loss)
        # Members draw together by a factor whose square is in proportion to c + 1/V, or have a rest linear in c.
        together = -by_error * apart * near / (2 * (c + found.share))
        by_c = np.where(near < 1, together, np.where(rest > 0, by_variance * moderated, 0))
        slopes = [a * by_variance, b * by_variance * found.variances, c * by_c] + [by_df] * tails
        return -(weight * total).sum() / num, np.array([(weight * share * slope).sum() / num for slope in slopes])

    low, high = np.log(_SHARES)
    bounds = [(low, high)] * 3 + [(1 / MAX_DF, 1 / (MIN_DF + 1e-3))] * tails
    starts = [np.log(each) for each in ([1e-3, 1.0, 1.0], [0.3, 0.5, 0.1], [1e-2, 4.0, 1.0])]
    results = [
        optimize.minimize(objective, np.append(start, [0.1] * tails), jac=True, method="L-BFGS-B", bounds=bounds)
        for start in starts
    ]
    best = min(results, key=lambda each: each.fun)
    if not best.success:
        warnings.warn(
            f"The search of `{name}` stopped early ({best.message}); look at the calibration data for extremes.",
            UQWarning,
            stacklevel=4,
        )
    before = -(weight * _mixed(log_weight - _loss(residual - apart, found.variances, 0.0)[0])[0]).sum() / num
    a, b, c = np.exp(best.x[:3]) * [unit, 1, 1]
    fitted = Fitted(best.success, best.nit, before, best.fun)
    return VarianceState(a, b, c, prior, best.x[3] if tails else np.float64(0.0), fitted)


def _mixed(joint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-density of the mixture `(N,)`, and the probability of each member given the outcome `(M, N)`."""
    top = joint.max(0)
    share = np.exp(joint - top)
    return top + np.log(share.sum(0)), share / share.sum(0)


def _loss(error: np.ndarray, variance: np.ndarray, inverse_df: float) -> tuple[np.ndarray, ...]:
    """Minus the log-density of errors under a Student's t of the given squared scale (normal where `inverse_df` is 0).

    And its derivatives by the error, the squared scale and 1 / df.
    """
    square = error**2
    if inverse_df == 0:
        loss = 0.5 * (square / variance + np.log(2 * np.pi * variance))
        return loss, error / variance, 0.5 * (1 - square / variance) / variance, np.zeros_like(loss)
    df, half = 1 / inverse_df, (1 / inverse_df + 1) / 2
    q = square / (variance * df)
    pull = half * q / (1 + q)
    constant = special.gammaln(df / 2) - special.gammaln(half) + 0.5 * np.log(np.pi * df)
    loss = constant + 0.5 * np.log(variance) + half * np.log1p(q)
    by_error = 2 * half * error / ((1 + q) * variance * df)
    by_df = 0.5 * (special.digamma(df / 2) - special.digamma(half) + np.log1p(q)) + (0.5 - pull) / df
    return loss, by_error, (0.5 - pull) / variance, -by_df * df**2
