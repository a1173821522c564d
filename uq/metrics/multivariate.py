"""Calibration of several outputs together: whether outcomes fall where the joint distribution says they should."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .. import _threefry
from .._checks import InputError, check_count, check_level, is_concrete
from .._typing import ArrayLike
from ..members import as_key
from . import _forecast, _inputs, _route
from ._estimate import Estimate, mean
from .pit import as_weight, known, live_draws, prepared

Kind = Literal["density", "average", "band-depth", "energy"]


def multivariate_pit(
    pred: Any, y: ArrayLike, *, kind: Kind = "density", num: int = 200, weight: Any = None, key: Any = None
) -> Any:
    """One number an example, uniform on [0, 1] if the joint predictions are right: where the outcome ranks.

    With Y a draw from the prediction,

    - "density": P(f(Y) ≥ f(y)), the probability of the smallest region, of highest density, that reaches to y: 0 at
      the mode, 1 far out. For a multivariate normal it is the chi-square distribution function, D degrees of
      freedom, of the squared Mahalanobis distance, exactly.
    - "average": rank of the mean over outputs of y's ranks among draws: like a univariate rank, low or high.
    - "band-depth": rank of how central y is among draws, output by output: 1 at the centre, 0 outside.
    - "energy": rank of y's mean distance from draws: 0 at the centre, 1 far out; needs no density.

    But for the normal these are ranks among M draws (those given, or `num` from the prediction), of which y is one
    more, each pre-rank being the same function of all M + 1; ties and steps are broken at random by `key`. So they
    are uniform for every M, in every dimension, if draws and outcome are exchangeable. Test with `pit_test`. Outputs
    of different units: "energy" is dominated by the largest.

    Args:
      pred: a regression `Predictive` of several outputs, a numpyro distribution (MultivariateNormal, or
        `.to_event(1)`), a frozen scipy multivariate normal, or draws `(M, N, D)`.
      y: outcomes `(N, D)`.
      kind: as above; draws have no density.
      num: draws M from a prediction.
      weight: `(N,)`, case weights; rows of 0 may hold anything and so may their result.
      key: a key or a seed; needed wherever there are ranks.
    Returns:
      `(N,)`, in [0, 1].
    Raises:
      InputError: one output, an unknown kind, draws with "density", no key for ranks, shapes that differ.
    References:
      gneiting2008 (multivariate ranks); thorarinsdottir2016 ("average", "band-depth"); knuppel2022 ("energy"). Checked
      against a loop, scipy.stats.chi2, and by simulation.
    Example:
      >>> import numpy as np
      >>> from scipy import stats
      >>> pred = stats.multivariate_normal([0.0, 0.0], np.eye(2))
      >>> multivariate_pit(pred, [[0.0, 0.0], [3.0, 4.0]]).round(4).tolist()
      [0.0, 1.0]
    """
    name = "multivariate_pit"
    known("kind", kind, get_args(Kind))
    weight = as_weight(name, weight)
    if kind == "density" and _is_normal(pred):
        square = mahalanobis(pred, y, weight=weight)
        return _route.run(_chi_square_cdf, square, df=np.shape(y)[1])
    forecast, outcome = _joint(name, pred, y, weight)
    if key is None:
        raise InputError(f'`{name}` of kind "{kind}" expected a key, to draw and to break ties: pass key=0, say.')
    draw_key, tie_key = _threefry.split(as_key(key))
    draws = getattr(forecast, "draws", None)
    if kind == "density" and draws is not None:
        raise InputError(
            f'`{name}` expected a kind for draws, which have no density: "average", "band-depth" or "energy".'
        )
    if draws is None:
        draws = forecast.sample(draw_key, check_count("num", num))
    if kind == "density":
        logs = [forecast.log_prob(each) for each in draws]
        xp = jnp if isinstance(logs[0], jax.Array) else np
        every = -xp.stack([forecast.log_prob(outcome), *logs])
    else:
        every = _route.run(_PRE_RANKS[kind], draws, outcome)
    return _randomised_rank(every, tie_key)


def _randomised_rank(every: Any, key: Any) -> Any:
    """Where row 0 of `(M + 1, N)` lies among all rows: uniform on its step of 1 / (M + 1), ties at random."""
    on_device = isinstance(every, jax.Array)
    part: Any = jax.random.uniform(key, every.shape[1:]) if on_device else _threefry.uniform(key, every.shape[1:])
    below, equal = (every[1:] < every[0]).sum(0), (every[1:] == every[0]).sum(0)
    kind = every.dtype
    return (below.astype(kind) + part.astype(kind) * (equal + 1).astype(kind)) / every.shape[0]


def multivariate_coverage(
    pred: Any,
    y: ArrayLike,
    *,
    level: float = 0.9,
    kind: Kind = "density",
    num: int = 200,
    weight: Any = None,
    key: Any = None,
) -> Estimate:
    """Share of outcomes inside the joint region of probability `level`; it should come to `level`.

    kind "density": the region of highest density, for a multivariate normal the exact chi-square ellipsoid. "energy":
    the region of smallest mean distance to draws. Not the product of marginal intervals, which covers less.

    Args:
      pred, y, num: as in `multivariate_pit`.
      level: nominal coverage.
      kind: "density" or "energy"; the other ranks are not of regions around a centre.
      weight: `(N,)`, case weights; 0 leaves a row out.
      key: a key or a seed, needed for ranks among draws.
    Returns:
      An `Estimate` in [0, 1].
    Raises:
      InputError: as `multivariate_pit`; a level outside (0, 1); a kind that is not a region.
    References:
      gneiting2008 (the transform of a multivariate normal). Checked against scipy.stats.chi2 and by simulation.
    Example:
      >>> import numpy as np
      >>> from scipy import stats
      >>> pred = stats.multivariate_normal([0.0, 0.0], np.eye(2))
      >>> float(multivariate_coverage(pred, [[0.0, 0.0], [3.0, 4.0]]))
      0.5
    """
    name = "multivariate_coverage"
    check_level("level", level)
    known("kind", kind, ("density", "energy"))
    u = multivariate_pit(pred, y, kind=kind, num=num, weight=weight, key=key)
    said = f"share inside their joint {level:.4g} region by {kind}"
    return mean(_route.run(_inside, u, level=float(level)), weight=as_weight(name, weight), estimand=said)


def mahalanobis(pred: Any, y: ArrayLike, *, weight: Any = None) -> Any:
    """Squared Mahalanobis distance (y − μ)ᵀ Σ⁻¹ (y − μ) of each outcome, by Cholesky.

    Mean and covariance are those of the predictive, of a mixture its members' spread included. For a normal one it is
    chi-square with D degrees of freedom; in expectation it is D for any right prediction. For M draws the covariance
    is the unbiased one times (M + 1) / M.

    Args:
      pred: as in `multivariate_pit`, draws with M > D; or any forecast of one output.
      y: outcomes `(N, D)`, or `(N,)` for one.
      weight: `(N,)`, case weights; rows of 0 may hold anything and so may their result.
    Returns:
      `(N,)`, at least 0.
    Raises:
      InputError: too few draws, shapes that differ.
    References:
      barshalom2001. Checked against scipy.spatial.distance.mahalanobis.
    Example:
      >>> from scipy import stats
      >>> mahalanobis(stats.multivariate_normal([0.0, 0.0], [[4.0, 0.0], [0.0, 1.0]]), [[2.0, 3.0]]).tolist()
      [10.0]
    """
    name = "mahalanobis"
    weight = as_weight(name, weight)
    if _is_normal(pred):
        centre, factor = _normal_moments(pred)
        outcome = _of_shape(name, y, (np.shape(y)[0] if np.ndim(y) else 0, centre.shape[-1]), centre.shape, weight)
        return _route.run(_normal_quadratic, outcome, centre, factor)
    forecast, outcome = prepared(name, pred, y, weight)
    draws = getattr(forecast, "draws", None)
    gap = pred.residual(outcome) if hasattr(pred, "residual") else outcome - forecast.mean
    factor = 1.0
    if draws is not None:
        size, outputs = len(draws), 1 if gap.ndim == 1 else gap.shape[1]
        if size <= outputs:
            raise InputError(
                f"`{name}` expected more draws than outputs, or their covariance is singular, but there are {size} "
                f"draws of {outputs} output(s)."
            )
        factor = (size + 1) / (size - 1)
    if gap.ndim == 1:
        return gap * gap / (forecast.variance * factor)
    return _route.run(_quadratic, gap, forecast.covariance * factor)


def anees(pred: Any, y: ArrayLike, *, weight: Any = None, key: Any = None) -> Estimate:
    """Average normalised estimation error squared: mean of `mahalanobis` / D; 1 is right.

    Above 1, predictions are too sure, by a factor of its root in the standard deviation. One outlier can decide it.

    Args:
      pred, y: as in `mahalanobis`.
      weight: `(N,)`, case weights; 0 leaves a row out.
      key: None, or a key, seed or `Resample` for a bootstrap interval.
    Returns:
      An `Estimate`, without unit; for normal predictions N D times it is chi-square with N D degrees of freedom.
    Raises:
      InputError: as `mahalanobis`.
    References:
      barshalom2001. Checked against a loop.
    Example:
      >>> from scipy import stats
      >>> float(anees(stats.norm([0.0, 0.0], 2.0), [2.0, -6.0]))
      5.0
    """
    square = mahalanobis(pred, y, weight=weight)
    outputs = np.shape(y)[1] if np.ndim(y) == 2 else 1
    said = "average normalised estimation error squared"
    return mean(square / outputs, weight=as_weight("anees", weight), estimand=said, key=key)


# What is given


def _is_normal(pred: Any) -> bool:
    """Whether `pred` is one multivariate normal an example, numpyro's or scipy's."""
    return hasattr(pred, "scale_tril") or hasattr(pred, "cov_object")


def _normal_moments(pred: Any) -> tuple[Any, Any]:
    """Mean, and the lower triangular factor of the covariance."""
    if hasattr(pred, "scale_tril"):
        return pred.loc, pred.scale_tril
    return np.asarray(pred.mean, np.float64), np.linalg.cholesky(np.asarray(pred.cov_object.covariance, np.float64))


def _joint(name: str, pred: Any, y: Any, weight: Any) -> tuple[Any, Any]:
    """The forecast and its outcomes `(N, D)`."""
    if not _forecast.is_forecast(pred):
        pred = live_draws(name, pred, weight)
    forecast, outcome = prepared(name, pred, y, weight)
    if len(forecast.shape) != 2:
        raise InputError(
            f"`{name}` expected predictions of several outputs, (N, D), but these are {forecast.shape}: `pit` is for "
            "one output."
        )
    return forecast, outcome


def _of_shape(name: str, y: Any, shape: tuple[int, ...], known_shape: tuple[int, ...], weight: Any) -> Any:
    outcome: Any = _inputs._array(name, y)
    if weight is not None and outcome.shape[:1] == np.shape(weight):
        outcome = _inputs.live_rows(name, outcome, weight)
    if outcome.shape != shape or known_shape not in (shape, shape[1:]):
        raise InputError(
            f"`{name}` expected `y` of shape (N, {known_shape[-1]}), that of the predictions, {known_shape}, but got "
            f"{outcome.shape}."
        )
    if is_concrete(outcome) and not np.isfinite(np.asarray(outcome, np.float64)).all():
        raise InputError(f"`{name}` expected finite outcomes. Drop or impute those rows first.")
    kind = jnp.result_type(float) if isinstance(outcome, jax.Array) else np.float64
    return outcome if jnp.issubdtype(outcome.dtype, jnp.floating) else outcome.astype(kind)


# The computations


def _chi_square_cdf(xp: Any, square: Any, *, df: int) -> Any:
    if xp is np:
        from scipy.special import gammainc
    else:
        from jax.scipy.special import gammainc
    return gammainc(xp.asarray(df / 2, square.dtype), square / 2)


def _quadratic(xp: Any, gap: Any, covariance: Any) -> Any:
    return _by_factor(xp, gap, xp.linalg.cholesky(covariance))


def _normal_quadratic(xp: Any, y: Any, centre: Any, factor: Any) -> Any:
    dtype = xp.result_type(y, centre, factor)
    return _by_factor(xp, y.astype(dtype) - centre.astype(dtype), factor.astype(dtype))


def _inside(xp: Any, u: Any, *, level: float) -> Any:
    return u <= level


def _by_factor(xp: Any, gap: Any, factor: Any) -> Any:
    """gapᵀ (L Lᵀ)⁻¹ gap, for L lower triangular."""
    if xp is np:  # forward substitution, all rows at once
        solved: Any = np.empty(np.broadcast_shapes(gap.shape, factor.shape[:-1]), np.result_type(gap, factor))
        for j in range(gap.shape[-1]):
            known = (factor[..., j, :j] * solved[..., :j]).sum(-1)
            solved[..., j] = (gap[..., j] - known) / factor[..., j, j]
    else:
        factor = jnp.broadcast_to(factor, (*gap.shape, gap.shape[-1]))
        solved = jax.scipy.linalg.solve_triangular(factor, gap[..., None], lower=True)[..., 0]
    return xp.square(solved).sum(-1)


def _ranks_among(xp: Any, every: Any) -> Any:
    """For each of the rows `(M + 1, N, D)`, how many rows are at most it and how many at least it."""
    narrow = xp.int16 if len(every) < 2**15 else xp.int32  # adding wide numbers takes most of the time
    at_most = xp.stack([(every <= row).sum(0, dtype=narrow) for row in every])
    at_least = xp.stack([(every >= row).sum(0, dtype=narrow) for row in every])
    return at_most.astype(xp.int32), at_least.astype(xp.int32)


def _average(xp: Any, draws: Any, y: Any) -> Any:
    every = xp.concatenate([y[None].astype(draws.dtype), draws])
    at_most, at_least = _ranks_among(xp, every)
    return (at_most - at_least).sum(-1).astype(draws.dtype)  # mid-ranks, up to a factor


def _band_depth(xp: Any, draws: Any, y: Any) -> Any:
    every = xp.concatenate([y[None].astype(draws.dtype), draws])
    at_most, at_least = _ranks_among(xp, every)
    return ((at_most - 1) * (at_least - 1)).sum(-1).astype(draws.dtype)


def _energy(xp: Any, draws: Any, y: Any) -> Any:
    """Mean distance of each row from the others; a mean over all of them would rank the same."""
    every = xp.concatenate([y[None].astype(draws.dtype), draws])
    return xp.stack([xp.sqrt(xp.square(every - row).sum(-1)).sum(0) for row in every])


_PRE_RANKS: dict[str, Any] = {"average": _average, "band-depth": _band_depth, "energy": _energy}
