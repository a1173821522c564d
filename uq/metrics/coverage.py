"""Coverage of intervals: overall, tested, and by how wide the predictions are."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, check_level, is_concrete
from .._typing import ArrayLike
from . import _forecast, _inputs, _route
from ._estimate import Estimate, mean
from ._gaps import ranked, ranked_on_host
from ._tests import TestResult
from .ence import bin_index, sums
from .pit import as_weight, live_draws, prepared, ranks
from .regression import wilson


def coverage(pred: Any, y: ArrayLike, *, level: float = 0.9, weight: Any = None, key: Any = None) -> Estimate:
    """Share of outcomes inside their central interval, ends included; it should come to `level`.

    The interval is equal-tailed: from the (1 − level) / 2 quantile to the (1 + level) / 2 quantile of the predictive
    itself, also where the density is skewed or has several modes. For counts and draws quantiles are steps, and for
    clipped outcomes they may be a limit, so right predictions cover `level` or a little more.
    Over several outputs it is the share of all intervals, not of examples that are inside in every output. Right
    coverage on average may hide too much in one region and too little in another (`coverage_by_spread`).

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, draws `(M, N)` or `(M, N, D)`, or a pair
        (lower, upper), each `(N,)` or `(N, D)`; infinite ends are legal.
      y: outcomes of the same shape.
      level: the interval's nominal coverage; a pair has its own.
      weight: `(N,)`, case weights; 0 leaves a row out.
      key: None, or a key, seed or `Resample` for a bootstrap interval.
    Returns:
      An `Estimate` in [0, 1]. Its standard error is √(c (1 − c) / (N − 1)) for one output, 0 where all are inside:
        `quantile_calibration(kind="interval")` gives an interval that is right there too.
    Raises:
      InputError: a level outside (0, 1), ends that cross, shapes that differ, numbers that are not finite.
    References:
      gneiting2007, section 6.2. Checked against quantiles from scipy.stats and numerical mixtures.
    Example:
      >>> float(coverage(([0.0, 0.0], [1.0, 1.0]), [1.0, 2.0]))
      0.5
    """
    weight = as_weight("coverage", weight)
    inside = covered("coverage", pred, y, level, weight)
    said = "share inside their interval" if _inputs.is_pair(pred) else f"share inside their {level:.4g} interval"
    return mean(inside, weight=weight, estimand=said, key=key)


def covered(name: str, pred: Any, y: ArrayLike, level: float, weight: Any = None) -> Any:
    """Which outcomes are inside, bool, `(N,)` or `(N, D)`."""
    check_level("level", level)
    if _inputs.is_pair(pred):
        pred = tuple(_inputs._array(name, end) for end in pred)
        outcome: Any = _inputs._array(name, y)
        if weight is not None and {part.shape[:1] for part in (*pred, outcome)} == {np.shape(weight)}:
            pred, outcome = _inputs.live_rows(name, (pred, outcome), weight)
        lower, upper = _inputs.bounds(name, pred)
        lower, outcome = _inputs.pair(name, "lower", lower, outcome)
        upper, _ = _inputs.pair(name, "upper", upper, outcome)
        return (lower <= outcome) & (outcome <= upper)
    tail = (1 - level) / 2
    forecast, outcome = prepared(name, pred, y, weight)
    draws = getattr(forecast, "draws", None)
    if draws is not None:
        # The interval from order statistic ⌈M tail⌉ to ⌈M (1 − tail)⌉, as `quantile` has them, without a sort.
        below, upto = ranks(draws, outcome)
        first, last = (max(int(np.ceil(len(draws) * q - 1e-9)), 1) for q in (tail, 1 - tail))
        return (upto >= first) & (below < last)
    upto = forecast.cdf(outcome)
    if forecast.steps:
        return (upto >= tail) & (forecast.cdf_below(outcome) < 1 - tail)
    return (upto >= tail) & (upto <= 1 - tail)


def coverage_test(pred: Any, y: ArrayLike, *, level: float = 0.9, weight: Any = None) -> TestResult:
    """Exact test that the central interval covers with probability `level`, examples being independent.

    The number inside is binomial; two-sided, summing all outcomes at most as probable as the one seen. Not for counts
    and draws, whose intervals cover more than `level` by right.

    Args:
      pred, y, level: as in `coverage`.
      weight: `(N,)`, 1 or 0: rows of 0 are left out.
    Returns:
      A `TestResult`, its statistic the share inside; arrays `(D,)` for several outputs.
    Raises:
      InputError: as `coverage`; weights other than 0 and 1; under jit.
    References:
      kupiec1995, with the exact tail in place of the likelihood ratio's. Checked against
      scipy.stats.binomtest.
    Example:
      >>> import numpy as np
      >>> round(float(coverage_test((np.zeros(10), np.ones(10)), np.full(10, 0.5), level=0.5).p_value), 6)
      0.001953
    """
    inside: Any = covered("coverage_test", pred, y, level, as_weight("coverage_test", weight))
    if not is_concrete(inside):
        raise InputError("`coverage_test` is computed on the host and cannot run under jit.")
    inside = live_only("coverage_test", np.asarray(inside), weight)
    columns = inside.reshape(len(inside), -1)
    tails = np.array([_binomial_p_value(int(k), len(columns), level) for k in columns.sum(0)])
    share = columns.mean(0)
    single = inside.ndim == 1
    return TestResult(share[0] if single else share, tails[0] if single else tails, len(columns))


def _binomial_p_value(found: int, size: int, p: float) -> float:
    """P(K is at most as probable as what was found), K binomial. From scipy.special: scipy.stats is slow to import."""
    from scipy.special import bdtr, bdtrc, gammaln

    k = np.arange(size + 1)
    log_mass = k * np.log(p) + (size - k) * np.log1p(-p) - gammaln(k + 1) - gammaln(size - k + 1)
    rare = log_mass <= log_mass[found] + 1e-7
    if rare.all():
        return 1.0
    below, above = int(rare.argmin()), int(rare[::-1].argmin())  # how many from either end
    return float((bdtr(below - 1, size, p) if below else 0.0) + (bdtrc(size - above, size, p) if above else 0.0))


def live_only(name: str, values: np.ndarray, weight: Any) -> np.ndarray:
    """The rows that count, for tests, which know nothing of other weights than 0 and 1."""
    if weight is None:
        return values
    weight = np.asarray(weight)
    if weight.shape != values.shape[:1] or not np.isin(weight, (0, 1)).all() or not weight.any():
        raise InputError(
            f"`{name}` expected weights 0 or 1, shape {values.shape[:1]}, not all 0: a p-value counts independent "
            f"examples, which other weights are not. They run from {weight.min():.4g} to {weight.max():.4g}, shape "
            f"{weight.shape}."
        )
    return values[weight > 0]


class CoverageBySpread(NamedTuple):
    """Coverage in B groups of examples, from the surest predictions to the least sure."""

    spread: Any
    """Mean predicted standard deviation of the group, `(B,)` or `(D, B)`; NaN where a group is empty."""
    coverage: Any
    """Share inside their interval; NaN where a group is empty."""
    lower: Any
    """Lower end of the confidence interval (Wilson's) of the share."""
    upper: Any
    """Upper end."""
    mass: Any
    """Total weight in the group: without weights, its number of examples."""


def coverage_by_spread(
    pred: Any,
    y: ArrayLike,
    *,
    level: float = 0.9,
    bins: int = 5,
    confidence: float = 0.95,
    weight: Any = None,
) -> CoverageBySpread:
    """Coverage of the central interval by predicted standard deviation, in groups of about equal mass.

    Coverage should be `level` in each: size-stratified coverage is the smallest of them. Equal deviations never part,
    so a model that gives all examples the same has one group.

    Args:
      pred: as in `coverage`, but for a pair.
      y: outcomes `(N,)` or `(N, D)`.
      level: nominal coverage.
      bins: number of groups B.
      confidence: of the intervals.
      weight: `(N,)`, case weights; 0 leaves a row out.
    Returns:
      A `CoverageBySpread`.
    Raises:
      InputError: as `coverage`.
    References:
      angelopoulos2021 (size-stratified coverage); wilson1927. Checked against a loop.
    Example:
      >>> from scipy import stats
      >>> groups = coverage_by_spread(stats.norm([0.0, 0.0], [1.0, 2.0]), [3.0, 3.0], bins=2)
      >>> groups.coverage.tolist()
      [0.0, 1.0]
    """
    check_count("bins", bins)
    check_level("confidence", confidence)
    weight = as_weight("coverage_by_spread", weight)
    inside: Any = covered("coverage_by_spread", pred, y, level, weight)
    if not _forecast.is_forecast(pred):
        pred = live_draws("coverage_by_spread", pred, weight)
    variance: Any = _forecast.forecast("coverage_by_spread", pred).variance
    xp = np if _route.on_host(variance, inside, weight) else jnp
    size = inside.shape[0]
    variance, inside = xp.broadcast_to(variance, inside.shape).reshape(size, -1), inside.reshape(size, -1)
    place = (ranked_on_host if xp is np else ranked)(variance, weight, "quantile").place
    if xp is np:
        variance, inside, weight = (_route.host_array(part) if part is not None else None
                                    for part in (variance, inside, weight))  # fmt: skip
    kind = jnp.result_type(float) if xp is jnp else np.float64
    full = xp.ones(size, kind) if weight is None else weight.astype(kind)
    each = xp.broadcast_to(full[:, None], variance.shape)
    variance = xp.where(each > 0, variance, 0)
    at = bin_index(xp, variance, place, full, bins, "mass")
    mass = sums(xp, at, each, bins)
    some = xp.where(mass > 0, mass, 1)
    effective = xp.where(mass > 0, mass * mass / xp.where(mass > 0, sums(xp, at, each * each, bins), 1), 1)
    share = sums(xp, at, each * inside.astype(kind), bins) / some
    spread = sums(xp, at, each * xp.sqrt(variance), bins) / some
    parts = [xp.where(mass > 0, part, xp.nan) for part in (spread, share, *wilson(xp, share, effective, confidence))]
    return CoverageBySpread(*(part if len(mass) > 1 else part[0] for part in (*parts, mass)))
