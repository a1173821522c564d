"""Calibration of regressions: does what is said with probability t come about that often?"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, check_level, is_concrete
from .._typing import ArrayLike
from ..members import as_key
from . import _forecast, _route
from ._estimate import Estimate, Statistic, as_resample, summarize
from ._gaps import (
    AREA,
    BANK,
    GAPS,
    norm_of_gaps,
    place_of,
    placed,
    placed_on_host,
    ranked,
    ranked_on_host,
    slope_of_gaps,
)
from ._knots import place
from .pit import Span, as_weight, known, mean_share, on_host, prepared, share_below, span
from .points import mae as mae
from .points import rmse as rmse

Kind = Literal["quantile", "interval"]
Norm = Literal["l1", "l2", "max"]
_STEP_LEVELS = np.arange(101) / 100


def regression_calibration_error(
    pred: Any,
    y: ArrayLike,
    *,
    norm: Norm = "l1",
    levels: int | ArrayLike = 99,
    kind: Kind = "quantile",
    weight: Any = None,
    key: Any = None,
) -> Estimate:
    """Distance between nominal and observed probabilities of a regression, over K levels t.

    The gap at t is G(t) − t, where, u = F(y) being the probability integral transform,

    - kind "quantile": G(t) is the share of outcomes with u ≤ t, at or below their predicted t-quantile;
    - kind "interval": the share with |2u − 1| ≤ t, inside their central (equal-tailed) interval. It cannot see a
      forecast that is too low as often as another is too high;

    and norm "l1" is the mean of |gap| over levels (also called MACE), "l2" the root of its mean square (RMSCE),
    "max" the largest. With several outputs, the mean of the outputs' errors. With levels k / 100 and kind
    "quantile", the defaults, the expectation of a perfectly calibrated "l1" is about 0.31 / √N, not 0; always
    predicting the marginal distribution of y scores as well. uncertainty-toolbox has kind "interval" and
    `levels=np.linspace(0, 1, 100)`; its "quantile" proportions are mirrored, P(u ≥ 1 − t).

    Counts, draws and outcomes clipped at a limit (`uq.likelihoods.Censored`) have steps: each row spreads evenly over
    (P(Y < y), P(Y ≤ y)], as in `pit_histogram`, so that a
    right forecast has G(t) = t in expectation.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, or draws `(M, N)` or `(M, N, D)`.
      y: outcomes `(N,)` or `(N, D)`.
      norm, kind: as above.
      levels: K, for k / (K + 1), or ascending levels in [0, 1].
      weight: `(N,)`, case weights; 0 leaves a row out.
      key: None, or a key, seed or `Resample`, for a bootstrap interval (reflected, for the bias) and `null`: what
        calibrated predictions would score, outputs being independent.
    Returns:
      An `Estimate` between 0 and 1. Its standard error is the delta method's: right for a model that is clearly
        miscalibrated, too small near 0, where `null` tells more.
    Raises:
      InputError: as `pit`; an unknown norm or kind; levels that do not ascend in [0, 1].
    References:
      kuleshov2018, eq. 9, with absolute in place of squared gaps; chung2021. Checked against a loop and
      the values that uncertainty-toolbox tests.
    Example:
      >>> import numpy as np
      >>> from scipy import stats
      >>> error = regression_calibration_error(stats.norm(np.zeros(2), 1.0), [100.0, 100.0])
      >>> round(float(error), 3)
      0.5
    """
    known("norm", norm, get_args(Norm))
    name = "regression_calibration_error"
    said = {"l1": "mean absolute", "l2": "root-mean-square", "max": "largest"}[norm]
    return _calibration(name, pred, y, norm, check_levels(levels), kind, weight, key, f"{said} gap")


def miscalibration_area(
    pred: Any,
    y: ArrayLike,
    *,
    kind: Kind = "quantile",
    levels: int | ArrayLike | None = None,
    weight: Any = None,
    key: Any = None,
) -> Estimate:
    """Area between observed and nominal probabilities, ∫₀¹ |G(t) − t| dt, exactly.

    It is the distance (Wasserstein-1) between the distribution of the transformed outcomes and the uniform one, so 0.1
    says that probabilities are off by 0.1 on average. G is as in `regression_calibration_error`. For perfect
    predictions its expectation is about 0.31 / √N, not 0.

    Args:
      pred, y, kind, weight, key: as in `regression_calibration_error`.
      levels: None for the exact area under the step function (for counts and draws, 101 levels and straight lines
        between them). Levels given: straight lines between those, as uncertainty-toolbox does with
        `np.linspace(0, 1, 100)`.
    Returns:
      An `Estimate` between 0 and ½.
    Raises:
      InputError: as `regression_calibration_error`.
    References:
      chung2021. Checked against scipy.stats.wasserstein_distance, numerical integration and the value
      that uncertainty-toolbox tests.
    Example:
      >>> import numpy as np
      >>> from scipy import stats
      >>> float(miscalibration_area(stats.norm(np.zeros(2), 1.0), [0.0, 0.0]))
      0.25
    """
    name = "miscalibration_area"
    if levels is not None:
        return _calibration(name, pred, y, "area", check_levels(levels), kind, weight, key, "area of the gap")
    known("kind", kind, get_args(Kind))
    weight = as_weight(name, weight)
    spans = span(name, pred, y, weight)
    if spans.steps:
        bank = _bank(name, pred, spans, key)
        return _rows_of_steps(spans, "area", _STEP_LEVELS, kind, weight, key, "area of the gap", bank)
    host = _route.on_host(spans.upto, weight)
    rows = ranked_on_host(spans.upto, weight, kind) if host else ranked(spans.upto, weight, kind)
    return summarize(AREA, rows, weight=weight, estimand=f"area of the gap of {kind}s, exact", key=key, reverse=True)


class QuantileCalibration(NamedTuple):
    """Observed against nominal probabilities, `(K,)`, or `(D, K)` for several outputs."""

    level: Any
    """Nominal probabilities t, `(K,)`."""
    observed: Any
    """Shares of outcomes at or below the t-quantile, or inside the central interval of level t."""
    lower: Any
    """Lower end of the confidence interval (Wilson's) of the share, pointwise."""
    upper: Any
    """Upper end."""
    count: Any
    """Examples of positive weight, a whole number."""


def quantile_calibration(
    pred: Any,
    y: ArrayLike,
    *,
    levels: int | ArrayLike = 19,
    kind: Kind = "quantile",
    confidence: float = 0.95,
    weight: Any = None,
) -> QuantileCalibration:
    """The points of a calibration diagram of a regression: at each level t, the share G(t) that came about.

    Below the diagonal, `kind="interval"`: intervals too narrow. `kind="quantile"`: above the diagonal everywhere means
    that predictions are too high.

    Args:
      pred, y, levels, kind, weight: as in `regression_calibration_error`.
      confidence: of the intervals of each share, examples being independent; with steps they are too wide.
    Returns:
      A `QuantileCalibration`.
    Raises:
      InputError: as `regression_calibration_error`; a confidence outside (0, 1).
    References:
      kuleshov2018 (the diagram); wilson1927. Checked against a loop over quantiles from scipy.stats.
    Example:
      >>> import numpy as np
      >>> from scipy import stats
      >>> table = quantile_calibration(stats.norm(np.zeros(4), 1.0), [-1.0, 0.0, 1.0, 2.0], levels=[0.5, 0.9])
      >>> table.observed.tolist()
      [0.5, 0.75]
    """
    known("kind", kind, get_args(Kind))
    check_level("confidence", confidence)
    at, weight = check_levels(levels), as_weight("quantile_calibration", weight)
    spans = span("quantile_calibration", pred, y, weight)
    xp = np if _route.on_host(spans.upto, weight) else jnp
    observed = _observed(xp, spans, weight, at, kind)
    size = spans.upto.shape[0]
    effective = size if weight is None else xp.square(weight.sum()) / xp.square(weight).sum()
    lower, upper = wilson(xp, observed, effective, confidence)
    count = size if weight is None else (weight > 0).sum()
    if spans.upto.ndim == 1:
        observed, lower, upper = observed[0], lower[0], upper[0]
    return QuantileCalibration(xp.asarray(at), observed, lower, upper, count)


def wilson(xp: Any, share: Any, count: Any, confidence: float) -> tuple[Any, Any]:
    """Wilson's confidence interval of a share: stays in [0, 1], of positive width at 0 and 1."""
    from scipy.special import ndtri

    z = float(-ndtri((1 - confidence) / 2))
    scale = 1 + z * z / count
    middle = (share + z * z / (2 * count)) / scale
    reach = z * xp.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2) / scale
    return xp.clip(middle - reach, 0, 1), xp.clip(middle + reach, 0, 1)


def check_levels(levels: int | ArrayLike) -> np.ndarray:
    """Levels as float64: k / (K + 1) for a number K, else those given, ascending in [0, 1]."""
    if np.ndim(levels) == 0:
        number = check_count("levels", levels)
        return np.arange(1, number + 1) / (number + 1)
    at = np.asarray(levels, np.float64)
    if at.ndim != 1 or not len(at) or not ((at >= 0) & (at <= 1)).all() or not (np.diff(at) > 0).all():
        raise InputError(
            f"`levels` expected a number of levels, or levels that ascend in [0, 1], but got {np.asarray(levels)}."
        )
    return at


def _calibration(
    name: str, pred: Any, y: Any, norm: str, levels: np.ndarray, kind: str, weight: Any, key: Any, said: str
) -> Estimate:
    known("kind", kind, get_args(Kind))
    weight = as_weight(name, weight)
    at = tuple(levels.tolist())
    if key is None and weight is None and _forecast.may_begin(pred, y):
        rows = _placed_large(name, kind, at, pred, y, None)
        found = _of_rows_compiled(rows, None, norm, at, kind, None, said)
        prepared(name, pred, y)
        return found
    if key is None and _is_large(pred, y):
        forecast, outcome = prepared(name, pred, y, weight)
        if not forecast.steps:
            rows = _placed_large(name, kind, at, pred, outcome, weight)
            return _of_rows_compiled(rows, weight, norm, at, kind, None, said)
    rows = _placed_by_quantiles(name, pred, y, weight, kind, levels)
    if rows is not None:
        return _of_rows(rows, weight, norm, at, kind, key, said)
    spans = span(name, pred, y, weight)
    if spans.steps:
        return _rows_of_steps(spans, norm, levels, kind, weight, key, said, _bank(name, pred, spans, key))
    host = _route.on_host(spans.upto, weight)
    rows = placed_on_host(spans.upto, weight, kind, levels) if host else placed(spans.upto, weight, kind, at)
    return _of_rows(rows, weight, norm, at, kind, key, said)


def _placed_by_quantiles(name: str, pred: Any, y: Any, weight: Any, kind: str, levels: np.ndarray) -> Any:
    """`placed_on_host` for families of a location and a scale: F(y) > t exactly where y is above the t-quantile.

    K quantiles of the standard law in place of N distribution functions. None where it does not apply.
    """
    family = _forecast.location_scale(pred)
    if family is None or not _route.on_host(jax.tree.leaves(pred), y, weight):
        return None
    loc, scale, icdf = _route.host_array(family[0]), _route.host_array(family[1]), family[2]
    with np.errstate(divide="ignore"):
        if kind == "interval":
            knots = icdf((1 - levels) / 2, upper=True)
            if not (knots == -icdf((1 - levels) / 2)).all():  # not symmetric: equal tails need both ends
                return None
        else:
            upper = levels > 0.5
            knots = np.where(upper, icdf(1 - levels, upper=True), icdf(levels))
    outcome = _route.host_array(prepared(name, pred, y, weight)[1])
    z: Any = np.empty(np.broadcast_shapes(outcome.shape, np.shape(loc), np.shape(scale)))
    np.divide(np.subtract(outcome, loc, out=z), scale, out=z)
    if weight is not None:
        z = np.where((np.asarray(weight) > 0).reshape((-1,) + (1,) * (z.ndim - 1)), z, 0)
    z = (np.abs(z, out=z) if kind == "interval" else z).reshape(len(z), -1)
    if z.shape[0] != len(outcome) or not np.isfinite(z.sum()):
        return None
    known_below = int((knots == -np.inf).sum())
    # Below a knot or on it counts alike: what is at or below the next number is below this one.
    inner = tuple(np.nextafter(knots[np.isfinite(knots)], np.inf).tolist())
    found = place(np, inner, z)
    found += known_below
    return found


def _of_rows(rows: Any, weight: Any, norm: str, levels: tuple, kind: str, key: Any, said: str) -> Estimate:
    return summarize(
        GAPS, rows, weight=weight, estimand=f"{said} of {kind}s at {len(levels)} levels", key=key, reverse=True,
        settings={"levels": levels, "norm": norm},
    )  # fmt: skip


_LARGE = 20_000
"""From how many outcomes in jax arrays on one compiled program is worth its compilation."""


def _is_large(pred: Any, y: Any) -> bool:
    """Whether predictions and outcomes are large concrete jax arrays."""
    leaves = [leaf for leaf in jax.tree.leaves(pred) if np.ndim(leaf)]
    arrays = [*leaves, y]
    return (
        bool(leaves)
        and _forecast.is_forecast(pred)
        and all(isinstance(leaf, jax.Array) for leaf in arrays)
        and is_concrete(arrays)
        and y.size >= _LARGE
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _placed_large(name: str, kind: str, levels: tuple, pred: Any, y: Any, weight: Any) -> Any:
    return place_of(kind, levels, _forecast.forecast(name, pred).cdf(y), weight)


# Two programs and not one, in which XLA computes the distribution functions again, on one core, inside the sum.
_of_rows_compiled = functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))(_of_rows)


def _observed(xp: Any, spans: Span, weight: Any, levels: np.ndarray, kind: str) -> Any:
    """G(t), `(D, K)`."""
    if kind == "quantile":
        return mean_share(xp, spans, weight, levels)
    if not spans.steps:
        u = spans.upto if xp is jnp else _route.host_array(spans.upto)
        folded = abs(2 * u - 1)
        return mean_share(xp, Span(folded, folded, False, 0), weight, levels)
    upper, lower = (mean_share(xp, spans, weight, (1 + side * levels) / 2) for side in (1, -1))
    return upper - lower


# Forecasts with steps


class Steps(NamedTuple):
    share: Any
    """Each row's own share at each level, `(N, D, K)`."""
    below: Any
    """P(Y < y) of outcomes drawn from the predictions, `(N, S, D)`, or None."""
    upto: Any
    """P(Y ≤ y) of the same."""


def _rows_of_steps(
    spans: Span, norm: str, levels: np.ndarray, kind: str, weight: Any, key: Any, said: str, bank: tuple[Any, Any]
) -> Estimate:
    xp = np if _route.on_host(spans.below, spans.upto, weight) else jnp
    if xp is np:
        spans = on_host(spans)
    at = tuple(levels.tolist())
    return summarize(
        _STEPS, Steps(_shares(xp, spans, levels, kind), *bank),
        weight=weight, estimand=f"{said} of {kind}s at {len(at)} levels", key=key, reverse=True,
        settings={"levels": at, "norm": norm, "kind": kind, "members": spans.members},
    )  # fmt: skip


def _bank(name: str, pred: Any, spans: Span, key: Any) -> tuple[Any, Any]:
    """Where outcomes drawn from counts fall, from which calibrated models draw; draws know it without."""
    how = as_resample(key)
    if how is None or spans.members:
        return None, None
    forecast = _forecast.forecast(name, pred)
    drawn = forecast.sample(jax.random.fold_in(as_key(how.key), 1), BANK)
    xp = np if _route.on_host(spans.upto) else jnp
    found = [xp.stack([cdf(each) for each in drawn], axis=1) for cdf in (forecast.cdf_below, forecast.cdf)]
    return tuple(part.reshape(*part.shape[:2], -1) for part in found)


def _shares(xp: Any, spans: Span, levels: np.ndarray, kind: str) -> Any:
    if kind == "quantile":
        return share_below(xp, spans, levels)
    return share_below(xp, spans, (1 + levels) / 2) - share_below(xp, spans, (1 - levels) / 2)


def _steps_gap(xp: Any, rows: Steps, weight: Any, levels: tuple) -> Any:
    total = weight.sum()
    share = xp.tensordot(weight.astype(rows.share.dtype), rows.share, 1) / xp.where(total > 0, total, 1)
    return share - xp.asarray(np.array(levels).astype(share.dtype))


def _steps(xp: Any, rows: Steps, weight: Any, *, levels: tuple, norm: str, kind: str, members: int) -> Any:
    return norm_of_gaps(xp, _steps_gap(xp, rows, weight, levels), np.array(levels), norm).mean()


def _steps_influence(
    xp: Any, rows: Steps, weight: Any, value: Any, *, levels: tuple, norm: str, kind: str, members: int
) -> Any:
    gap = _steps_gap(xp, rows, weight, levels)
    at = xp.asarray(np.array(levels).astype(gap.dtype))
    return ((rows.share - gap - at) * slope_of_gaps(xp, gap, np.array(levels), norm)).sum(2).mean(1)


def _calibrated_steps(key: Any, rows: Steps, *, levels: tuple, norm: str, kind: str, members: int) -> Steps:
    """Among draws the outcome ranks anywhere with equal probability; counts are those drawn beforehand."""
    size, outputs, _ = rows.share.shape
    if members:
        rank = jnp.arange(members + 1).astype(rows.share.dtype)
        every = Span(rank / (members + 1), (rank + 1) / (members + 1), True, members)
        table = _shares(jnp, every, np.array(levels), kind)[:, 0]
        return rows._replace(share=table[jax.random.randint(key, (size, outputs), 0, members + 1)])
    which = jax.random.randint(key, (size,), 0, rows.below.shape[1])
    below, upto = (part[jnp.arange(size), which] for part in (rows.below, rows.upto))
    return rows._replace(share=_shares(jnp, Span(below, upto, True, 0), np.array(levels), kind))


_STEPS = Statistic(_steps, _steps_influence, _calibrated_steps)
