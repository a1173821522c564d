"""Several outputs at once: boxes and ellipsoids that hold the whole outcome."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from .._typing import ArrayLike
from ..metrics import Bounds, _forecast, _inputs
from ._procedure import (
    Conformal,
    PredictionInterval,
    Score,
    ends_at,
    in_one_dtype,
    parts_like,
    scored,
    xp_of,
)
from ._rank import check_scores, fraction, limit, realised_coverage
from .scores import _points, absolute, normalized
from .split import SplitState


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PredictionBox(PredictionInterval):
    """Boxes that hold an outcome of several outputs, all of it, with the probability promised."""

    def contains(self, y: ArrayLike) -> Any:
        """Which outcomes are inside in every output, bool `(N,)`."""
        return super().contains(y).all(-1)

    @property
    def log_volume(self) -> Any:
        """log of the volume, `(N,)`, in the product of the outputs' units."""
        xp = xp_of(self.lower)
        with np.errstate(divide="ignore"):
            return xp.log(self.width).sum(-1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PredictionEllipsoid:
    """{y: |L⁻¹ (y − centre)| ≤ radius}: ellipsoids that hold an outcome with the probability promised. A pytree."""

    centre: Any
    """`(N, D)`."""
    factor: Any
    """L, lower triangular, `(N, D, D)`."""
    radius: Any
    """`()`; infinite where there were too few calibration outcomes."""
    level: float = field(metadata={"static": True})
    """Coverage asked for."""
    realised: Bounds | None = None
    """As of `PredictionInterval`."""

    def contains(self, y: ArrayLike) -> Any:
        """Which outcomes are inside, bool `(N,)`; the boundary is inside, and what rounding explains."""
        outcome = _inputs.array("contains", "y", y)
        if outcome.shape != self.centre.shape:
            raise InputError(f"`contains` expected `y` of shape {self.centre.shape}, but got {outcome.shape}.")
        *same, outcome = in_one_dtype((self.centre, self.factor, self.radius), outcome)
        distance = _distance(outcome - same[0], same[1])
        return (distance <= same[2] * (1 + 16 * float(jnp.finfo(distance.dtype).eps))) | (same[2] == np.inf)

    @property
    def log_volume(self) -> Any:
        """log of the volume, `(N,)`, in the product of the outputs' units."""
        outputs = self.centre.shape[-1]
        xp = xp_of(self.factor)
        ball = outputs / 2 * np.log(np.pi) - math.lgamma(outputs / 2 + 1)
        sides = xp.log(abs(xp.diagonal(self.factor, axis1=-2, axis2=-1))).sum(-1)
        return ball + outputs * xp.log(self.radius) + sides


def max_norm(score: Score | None = None) -> Conformal:
    """Boxes from the largest score over outputs: all outputs inside with probability `level` at least.

    Sides are as long as the score makes them: with `normalized`, a common multiple of each output's standard
    deviation. Outputs whose scores run larger than others' take all the care; `copula` treats them alike.

    `fit(pred, y)` takes outcomes `(n, D)`; `apply(state, pred, level=0.9)` returns a `PredictionBox`.

    Args:
      score: as in `split`; `normalized` is the default.
    Raises:
      InputError: as `split`; one output.
      UQWarning: as `split`.
    References:
      diquigiovanni2022. Checked against plain Python, and by simulation.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.max_norm()
      >>> ones = np.ones((4, 2))
      >>> state = procedure.fit((0 * ones, ones), np.array([[1.0, 2.0], [3.0, 1.0], [0.0, 4.0], [1.0, 1.0]]))
      >>> procedure.apply(state, (0 * ones[:1], ones[:1]), level=0.6).upper.tolist()
      [[3.0, 3.0]]
    """
    score = normalized() if score is None else score
    name = f"max_norm({score.name})"

    def fit(pred: Any, y: ArrayLike) -> SplitState:
        return SplitState(_joint_scores(name, score, pred, y).max(-1))

    def apply(state: SplitState, pred: Any, *, level: float = 0.9) -> PredictionBox:
        fraction(level)
        parts = score.parts(pred, 2)
        lower, upper = ends_at(score, parts, limit(state.scores, level, name="examples"))
        return PredictionBox(lower, upper, float(level), realised_coverage(state.scores.shape[0], level))

    return Conformal(name, fit, apply)


class CopulaState(NamedTuple):
    """What `copula` remembers."""

    marginal: Any
    """Scores of the first part, rising in each output, `(m, D)`."""
    scores: Any
    """Largest rank over outputs of each outcome of the second part, `(n − m,)`."""


def copula(score: Score | None = None, *, share: float = 0.5) -> Conformal:
    """Boxes whose sides are equally hard to keep: each output's scores are compared with its own distribution first.

    A first part of the calibration outcomes gives each output's distribution of scores; the second, the largest of
    each outcome's ranks in them, whose threshold is that of `split` conformal prediction: coverage of the whole
    outcome is at least `level`, however outputs depend on each other, and dependence shortens the box. Ranks are
    interpolated, and go on linearly beyond the first part. Outcomes must come in random order.

    `fit(pred, y)` takes outcomes `(n, D)`; `apply(state, pred, level=0.9)` returns a `PredictionBox`.

    Args:
      score: as in `split`; `absolute` is the default.
      share: of the outcomes that go into the first part.
    Raises:
      InputError: as `split`; one output, a share outside (0, 1), infinite scores.
      UQWarning: a second part too small for the level.
    References:
      messoudi2021 (the empirical copula of scores); sun2024 (validity by a split). Checked
      against a loop, and by simulation.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.copula()
      >>> y = np.arange(1.0, 39.0)[:, None] * np.array([1.0, 100.0])
      >>> box = procedure.apply(procedure.fit(np.zeros((38, 2)), y), np.zeros((1, 2)), level=0.9)
      >>> box.upper.round(6).tolist()
      [[37.0, 3700.0]]
    """
    score = absolute() if score is None else score
    name = f"copula({score.name})"
    if not 0 < share < 1:
        raise InputError(f"`copula` expected a share strictly between 0 and 1, but got {share}.")

    def fit(pred: Any, y: ArrayLike) -> CopulaState:
        scores = _joint_scores(name, score, pred, y)
        first = int(share * len(scores))
        if first < 2 or first == len(scores):
            raise InputError(f"`{name}` expected at least two outcomes in each part, but there are {len(scores)}.")
        if is_concrete(scores) and not np.isfinite(np.asarray(scores)).all():
            raise InputError(f"`{name}` expected finite scores: some predictions have no spread.")
        xp = xp_of(scores)
        marginal = xp.sort(scores[:first], axis=0)
        ranks = [_rank_in(xp, column, knots) for column, knots in zip(scores[first:].T, marginal.T, strict=True)]
        return CopulaState(marginal, xp.stack(ranks).max(0))

    def apply(state: CopulaState, pred: Any, *, level: float = 0.9) -> PredictionBox:
        fraction(level)
        parts = parts_like(name, score, pred, state.marginal.shape[1:])
        place = limit(state.scores, level, name="examples of the second part")
        xp = xp_of(state.marginal)
        bound = xp.stack([_score_of_rank(xp, place, knots) for knots in state.marginal.T])
        lower, upper = ends_at(score, parts, bound)
        return PredictionBox(lower, upper, float(level), realised_coverage(state.scores.shape[0], level))

    return Conformal(name, fit, apply)


class EllipsoidState(NamedTuple):
    """What `ellipsoid` remembers."""

    scores: Any
    """Mahalanobis distances, `(n,)`."""
    factor: Any
    """Of the covariance of residuals, `(D, D)`; None where each prediction brings its own."""


def ellipsoid(covariance: Literal["predictive", "residuals"] = "predictive", *, share: float = 0.5) -> Conformal:
    """Ellipsoids from Mahalanobis distances: shorter than boxes where outputs go together.

    - "predictive": the covariance is that of each prediction, of a mixture its members' disagreement included.
    - "residuals": one covariance for all, that of the residuals of a first part of the calibration outcomes, which
      must come in random order; the rest calibrates.

    `fit(pred, y)` takes outcomes `(n, D)`; `apply(state, pred, level=0.9)` returns a `PredictionEllipsoid`.
    Predictions are forecasts of D outputs, draws `(M, N, D)` with M > D, or a pair (mean, covariance); for "residuals"
    points `(N, D)` will do.

    Args:
      covariance: as above.
      share: of the outcomes that the covariance of residuals takes.
    Raises:
      InputError: one output, a singular covariance, points without one; and as `split`.
      UQWarning: too few outcomes for the level; the radius is then infinite.
    References:
      johnstone2021. Checked against scipy.spatial.distance.mahalanobis, and by simulation.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.ellipsoid()
      >>> pred = np.zeros((4, 2)), np.tile(np.diag([4.0, 1.0]), (4, 1, 1))
      >>> state = procedure.fit(pred, np.array([[2.0, 0.0], [0.0, 2.0], [6.0, 0.0], [0.0, 4.0]]))
      >>> region = procedure.apply(state, pred, level=0.6)
      >>> float(region.radius), region.contains([[6.0, 0.0], [0.0, 3.0], [0.0, 3.1], [6.1, 0.0]]).tolist()
      (3.0, [True, True, False, False])
    """
    _inputs.choice("ellipsoid", "covariance", covariance, ("predictive", "residuals"))
    if not 0 < share < 1:
        raise InputError(f"`ellipsoid` expected a share strictly between 0 and 1, but got {share}.")
    name = f"ellipsoid({covariance!r})"

    def fit(pred: Any, y: ArrayLike) -> EllipsoidState:
        outcome = _inputs.array(name, "y", y)
        mean, factor = _mean_and_factor(name, pred, covariance)
        if outcome.shape != mean.shape:
            raise InputError(f"`{name}` expected `y` of shape {mean.shape}, (n, D), but got {outcome.shape}.")
        mean, outcome = _inputs.floating(mean, outcome)
        gap = outcome - mean
        if factor is not None:
            return EllipsoidState(check_scores(name, _distance(gap, factor)), None)
        first = int(share * len(gap))
        if first <= gap.shape[1] or first == len(gap):
            raise InputError(
                f"`{name}` expected more outcomes: {first} in the first part give no covariance of {gap.shape[1]}."
            )
        centred = gap[:first] - gap[:first].mean(0)
        factor = _cholesky(name, centred.T @ centred / (first - 1))
        return EllipsoidState(check_scores(name, _distance(gap[first:], factor)), factor)

    def apply(state: EllipsoidState, pred: Any, *, level: float = 0.9) -> PredictionEllipsoid:
        fraction(level)
        mean, factor = _mean_and_factor(name, pred, covariance)
        if factor is None:
            if mean.shape[1] != state.factor.shape[0]:
                raise InputError(
                    f"`{name}` was fitted to {state.factor.shape[0]} outputs, but these have {mean.shape[1]}."
                )
            mean, factor = _inputs.floating(mean, state.factor)
            factor = xp_of(factor).broadcast_to(factor, (len(mean), *factor.shape))
        radius = limit(state.scores, level, name="examples")
        return PredictionEllipsoid(mean, factor, radius, float(level), realised_coverage(len(state.scores), level))

    return Conformal(name, fit, apply)


# Helpers


def _joint_scores(name: str, score: Score, pred: Any, y: Any) -> Any:
    scores = check_scores(name, scored(name, score, pred, y)[1])
    if scores.ndim != 2:
        raise InputError(f"`{name}` expected outcomes of several outputs, (n, D), but got {scores.shape}: use `split`.")
    return scores


def _unit(xp: Any, knots: Any) -> Any:
    """How much score a rank is worth on average."""
    unit = (knots[-1] - knots[0]) / (len(knots) - 1)
    return xp.where(unit > 0, unit, 1)


def _rank_in(xp: Any, values: Any, knots: Any) -> Any:
    """Rank among rising knots, 1 to m, interpolated; linear beyond them."""
    size, unit = len(knots), _unit(xp, knots)
    inside = xp.interp(values, knots, xp.arange(1, size + 1, dtype=knots.dtype))
    below, above = xp.minimum(values - knots[0], 0), xp.maximum(values - knots[-1], 0)
    return inside + (below + above) / unit


def _score_of_rank(xp: Any, place: Any, knots: Any) -> Any:
    size, unit = len(knots), _unit(xp, knots)
    inside = xp.interp(place, xp.arange(1, size + 1, dtype=knots.dtype), knots)
    return inside + (xp.minimum(place - 1, 0) + xp.maximum(place - size, 0)) * unit


def _mean_and_factor(name: str, pred: Any, covariance: str) -> tuple[Any, Any]:
    """Means `(N, D)`, and Cholesky factors of the predictions' own covariances, `(N, D, D)`, or None."""
    if covariance == "residuals":
        mean = _points(name, pred, 2)
        if mean.ndim != 2:
            raise InputError(f"`{name}` expected predictions of several outputs, (N, D), but these are {mean.shape}.")
        return mean, None
    if _inputs.is_pair(pred):
        mean, matrix = _inputs.floating(*(_inputs.array(name, what, value) for what, value in zip(
            ("mean", "covariance"), pred, strict=True)))  # fmt: skip
    else:
        forecast = _forecast.forecast(name, pred)
        draws = getattr(forecast, "draws", None)
        if len(forecast.shape) != 2 or (draws is not None and len(draws) <= forecast.shape[1]):
            raise InputError(
                f"`{name}` expected predictions of several outputs, (N, D), or draws (M, N, D) with M > D, but got "
                f"{forecast.shape if draws is None else draws.shape}."
            )
        mean, matrix = _inputs.floating(forecast.mean, forecast.covariance)
    if mean.ndim != 2 or matrix.shape != (*mean.shape, mean.shape[-1]):
        raise InputError(
            f"`{name}` expected means (N, D) and covariances (N, D, D), but got {mean.shape} and {matrix.shape}."
        )
    return mean, _cholesky(name, matrix)


def _cholesky(name: str, matrix: Any) -> Any:
    try:
        factor = xp_of(matrix).linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        factor = np.array(np.nan)
    if is_concrete(factor) and np.isnan(np.asarray(factor)).any():
        raise InputError(f"`{name}` expected positive definite covariances, but one is singular.")
    return factor


def _distance(gap: Any, factor: Any) -> Any:
    """|L⁻¹ gap|, `(N,)`; infinite where there is no L, which under jit nothing else can say."""
    xp = xp_of(gap, factor)
    factor = xp.broadcast_to(factor, (*gap.shape, gap.shape[-1]))
    found = xp.sqrt(xp.square(xp.linalg.solve(factor, gap[..., None])[..., 0]).sum(-1))
    return xp.where(xp.isnan(found), np.inf, found)
