"""Is one prediction better than another? Both are judged on the same examples, so what they share cancels."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, is_concrete, unknown_name
from .._typing import Array, Key
from ..members import as_key
from ..predictive import Predictive
from ..table import Table
from . import _ranking
from ._estimate import MEAN, Bounds, Estimate, Resample, as_resample, check_weight, summarize
from ._inputs import is_distribution, num_classes
from ._parameters import is_scipy

_CHUNK = 2_000_000
"""Numbers held at once while resampling."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """One metric of two predictions on the same examples."""

    metric: str
    """Its name."""
    a: float
    """Its value for the first prediction."""
    b: float
    """Its value for the second."""
    difference: Estimate
    """a − b, with standard error and interval: below 0 where the first has the lower value."""
    p_value: float
    """Two-sided: how likely a difference at least this large is, were there none."""
    wins: float | None
    """Share of examples on which the first scores lower, ties half; None for a summary of all examples."""
    test: str
    """How the p-value was found, in words."""

    def __repr__(self) -> str:
        ends = self.difference.interval
        said = f"{self.metric}: {self.a:.4g} − {self.b:.4g} = {float(self.difference):.3g}"
        said += f" ± {float(self.difference.stderr):.2g}"
        if ends is not None:
            said += f" [{float(ends.lower):.3g}, {float(ends.upper):.3g}]"
        said += f", p = {self.p_value:.2g} ({self.test})"
        if self.wins is not None:
            said += f", the first is lower on {100 * self.wins:.3g} % of examples"
        return f"{said} (n = {int(self.difference.count):,})"


def compare(
    a: Any,
    b: Any,
    y: Any,
    *,
    metric: Any = "log_score",
    weight: Any = None,
    lags: int = 0,
    key: Any = None,
) -> Comparison | Table:
    """Difference of a metric between two predictions of the same outcomes, with an interval and a test.

    For a score with one value an example, d = s(a, y) − s(b, y) and its mean: the standard error is that of the paired
    differences, often far below that of either mean. Without `key` the interval and the p-value are Student's t with
    n − 1 degrees of freedom; with `key`, a bootstrap interval and a sign-flip permutation test, which is exact in
    finite samples if d is symmetric about 0 where there is no difference. For outcomes in order of time whose
    differences are correlated, `lags` gives the Diebold–Mariano test with the Newey–West variance
    γ₀ + 2 Σₖ (1 − k/(lags + 1)) γₖ: take at least the forecast horizon minus one.

    For a summary (`calibration_error`, `auroc`, `rmse`, …) both predictions are given the same bootstrap resamples of
    examples, which needs `key`; interval and p-value (twice the smaller share on one side of 0) are those of the
    reflected draws 2 (a − b) − (a − b)*, which takes off the bias of calibration errors. They hold for many examples.

    The examples of one test set say nothing of how training again, from another seed, would turn out. With several
    metrics, p-values are not corrected for their number.

    Args:
      a, b: predictions of any kind that the metric takes.
      y: outcomes, `(N,)` or as the metric takes them.
      metric: a function of `uq.metrics` or its name, any `metric(pred, y)` with one value an example or one in all
        (`functools.partial` for settings; summaries also get `weight=`), or a list of these.
      weight: `(N,)`, case weights.
      lags: number of correlated neighbours on each side, for rows in order of time; 0 is independent.
      key: None, a key, a seed, or `Resample`.
    Returns:
      A `Comparison`, which prints as a sentence; for a list of metrics a `uq.table.Table`, one row a metric.
    Raises:
      InputError: an unknown metric, a summary without `key`, scores that are not finite, `lags` together with `key`,
        with weights or with a summary, a single example.
    References:
      diebold1995; newey1987; efron1993, chapter 15. Checked against scipy.stats.ttest_rel, loops
      for the Newey–West variance, and by simulation: uniform p-values without a difference, power with one.
    Example:
      >>> import numpy as np
      >>> y = np.array([0, 1, 1, 0, 1])
      >>> a, b = np.array([0.2, 0.7, 0.9, 0.3, 0.6]), np.array([0.4, 0.6, 0.7, 0.2, 0.5])
      >>> found = compare(a, b, y, metric="brier_score")
      >>> round(float(found.difference), 3), round(found.p_value, 2), found.wins
      (-0.062, 0.1, 0.8)
    """
    lags = check_count("lags", lags, least=0)
    if not is_concrete((a, b, y, weight)):
        raise InputError("`compare` expected concrete arrays: it is not meant to run under jit.")
    if isinstance(metric, Sequence) and not isinstance(metric, str):
        if not metric:
            raise InputError("`metric` expected at least one metric, but the list is empty.")
        return _table([compare(a, b, y, metric=each, weight=weight, lags=lags, key=key) for each in metric])
    name, function = _named(metric)
    y = y if isinstance(y, jax.Array) else np.asarray(y)
    if y.ndim == 0:
        raise InputError("`compare` expected outcomes (N,), but `y` is a single number.")
    weight = check_weight("compare", weight, y.shape[0])
    if name == "log_score" and _of_classes(a) != _of_classes(b):
        raise InputError(
            "`compare` by log_score expected two predictions of classes or two densities, but got one each."
        )
    y = _ranking.live("compare", y, weight)
    a, b = (_ranking.alive("compare", each, weight) for each in (a, b))
    first, second = function(a, y), function(b, y)
    if np.ndim(first) == 0:
        return _summaries(name, function, (a, b), y, weight, lags, key)
    first, second = (_one_each(name, each, y.shape[0]) for each in (first, second))
    return _scores(name, first, second, weight, lags, key)


# Scores with one value an example


def _scores(name: str, first: Any, second: Any, weight: Any, lags: int, key: Any) -> Comparison:
    full = np.ones(len(first)) if weight is None else np.asarray(weight, np.float64)
    gap = np.where(full > 0, first - second, 0.0)
    if (full > 0).sum() < 2:
        raise InputError("`compare` expected at least two examples that count, but there is one.")
    how = as_resample(key)
    if lags and (how is not None or weight is not None):
        raise InputError("`compare` with `lags` takes neither `key` nor `weight`: both treat rows as exchangeable.")
    words = f"mean difference of {name}"
    difference = summarize(MEAN, gap, weight=weight, estimand=words, key=key)
    if lags:
        difference = Estimate(difference.value, _long_run(gap, lags), difference.count, f"{words}, {lags} lags")
    if how is None:
        p_value, interval = _student(difference)
        difference = _with_interval(difference, interval)
        test = f"Diebold-Mariano, {lags} lags" if lags else "paired t"
    else:
        flip_key = jax.random.fold_in(as_key(how.key), 1)
        beyond = _sign_flips(how.num, flip_key, jnp.asarray(full * gap / full.sum()))
        p_value = (1 + int(beyond)) / (1 + how.num)
        test = f"{how.num:,} sign flips"
    wins = ((gap < 0) + 0.5 * (gap == 0)) @ full / full.sum()
    ours, theirs = (float(np.average(np.where(full > 0, each, 0.0), weights=full)) for each in (first, second))
    return Comparison(name, ours, theirs, difference, p_value, float(wins), test)


def _student(difference: Estimate, confidence: float = 0.95) -> tuple[float, Bounds]:
    """Two-sided p-value and interval by Student's t."""
    from scipy.special import stdtr, stdtrit

    value, stderr, freedom = float(difference), float(difference.stderr), float(difference.count) - 1
    reach = float(stdtrit(freedom, (1 + confidence) / 2)) * stderr
    certain = 1.0 if value == 0 else 0.0
    p_value = certain if stderr == 0 else float(2 * stdtr(freedom, -abs(value) / stderr))
    return p_value, Bounds(value - reach, value + reach)


def _with_interval(difference: Estimate, interval: Bounds) -> Estimate:
    return Estimate(difference.value, difference.stderr, difference.count, difference.estimand, interval)


def _long_run(gap: np.ndarray, lags: int) -> float:
    """Standard error of the mean of a series with `lags` correlated neighbours, Newey–West."""
    size = len(gap)
    if lags >= size:
        raise InputError(f"`lags` expected fewer than the {size} examples, but it is {lags}.")
    centred = gap - gap.mean()
    variance = centred @ centred
    for k in range(1, lags + 1):
        variance += 2 * (1 - k / (lags + 1)) * (centred[k:] @ centred[:-k])
    return float(np.sqrt(variance / size / (size - 1)))


@functools.partial(jax.jit, static_argnums=0)
def _sign_flips(num: int, key: Key, gap: Array) -> Array:
    """In how many of `num` draws of random signs |Σ ± d| is at least |Σ d|."""
    found = jnp.abs(gap.sum())

    def flipped(key: Key) -> Array:
        return jnp.abs(jnp.where(jax.random.bernoulli(key, 0.5, gap.shape), gap, -gap).sum())

    chunk = max(1, min(num, _CHUNK // gap.shape[0]))
    sums = jax.lax.map(flipped, jax.random.split(key, num), batch_size=chunk)
    return (sums >= found - 1e-6 * jnp.abs(gap).sum()).sum()


def _one_each(name: str, values: Any, size: int) -> np.ndarray:
    """One finite score a row, in float64; several outputs averaged."""
    values = np.asarray(values, np.float64)
    if values.shape[0] != size:
        raise InputError(f"`compare` expected `{name}` to give one value for each of {size} examples, or one in all, "
                         f"but it gave shape {values.shape}.")  # fmt: skip
    values = values.reshape(size, -1).mean(1)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        raise InputError(
            f"`compare` expected finite scores, but `{name}` of row {wrong[0]} is {values[wrong[0]]} ({len(wrong)} of "
            f"{size} rows): a difference of means has no interval then. Compare by a bounded score, such as "
            "brier_score or crps."
        )
    return values


# Summaries, with one value in all


def _summaries(
    name: str, function: Callable[..., Any], preds: tuple[Any, Any], y: Any, weight: Any, lags: int, key: Any
) -> Comparison:
    how = as_resample(key)
    if how is None or lags:
        raise InputError(
            f"`{name}` is a summary of all examples: to compare it pass `key=` (the interval is found by resampling)"
            f"{', without `lags`' if lags else ''}."
        )
    full = np.ones(y.shape[0]) if weight is None else np.asarray(weight, np.float64)
    if (full > 0).sum() < 2:
        raise InputError("`compare` expected at least two examples that count, but there is one.")
    more = {} if weight is None else {"weight": full}
    ours, theirs = (float(function(pred, y, **more)) for pred in preds)
    draws = _paired_draws(function, preds, y, full, how)
    draws = 2 * (ours - theirs) - draws[~np.isnan(draws)]  # reflected: takes off the bias that resampling adds
    if len(draws) < 2:
        raise InputError(f"`{name}` is undefined in every resample: there are too few examples of some kind.")
    below, above = ((1 + side.sum()) / (1 + len(draws)) for side in (draws <= 0, draws >= 0))
    tail = (1 - how.confidence) / 2
    difference = Estimate(
        ours - theirs,
        draws.std(ddof=1),
        int((full > 0).sum()),
        f"difference of {name}",
        Bounds(np.quantile(draws, tail), np.quantile(draws, 1 - tail)),
        how.confidence,
    )
    p_value = float(min(1.0, 2 * min(below, above)))
    return Comparison(name, ours, theirs, difference, p_value, None, f"{how.num:,} paired resamples")


def _paired_draws(function: Callable[..., Any], preds: Any, y: Any, weight: np.ndarray, how: Resample) -> np.ndarray:
    """Differences over bootstrap resamples, the same for both: compiled where the metric can be, else in a loop."""
    places = jnp.asarray(np.flatnonzero(weight > 0))

    def difference(weight: Any) -> Array:
        first, second = (jnp.asarray(function(pred, y, weight=weight)) for pred in preds)
        return first - second

    size, key, base = len(weight), as_key(how.key), jnp.asarray(weight, jnp.result_type(float))
    chunk = max(1, min(how.num, _CHUNK // 10 // size))

    @jax.jit
    def compiled(key: Key) -> Array:
        each = jnp.arange(how.num)
        return jax.lax.map(lambda i: difference(base * _counts(size, key, i, places)), each, batch_size=chunk)

    try:
        return np.asarray(compiled(key), np.float64)
    except (jax.errors.JAXTypeError, InputError):  # a metric of numpy alone, or a prediction of scipy
        resamples = (weight * np.asarray(_counts(size, key, np.int32(i), places)) for i in range(how.num))
        return np.asarray([float(difference(each)) for each in resamples])


@functools.partial(jax.jit, static_argnums=0)
def _counts(size: int, key: Key, number: Array, places: Array) -> Array:
    """How often each row is drawn in one resample of the rows at `places`."""
    chosen = places[jax.random.randint(jax.random.fold_in(key, number), places.shape, 0, len(places))]
    return jnp.zeros(size, jnp.result_type(float)).at[chosen].add(1)


# Names and tables


def _of_classes(pred: Any) -> bool:
    """Whether a prediction that has a log score is of classes: arrays are."""
    if is_distribution(pred):
        return num_classes(pred) is not None
    return pred.task != "regression" if isinstance(pred, Predictive) else not is_scipy(pred)


def _named(metric: Any) -> tuple[str, Callable[..., Any]]:
    if isinstance(metric, str):
        from .. import metrics

        every = {name: each for name, each in vars(metrics).items() if name[0].islower() and callable(each)}
        known = sorted(name for name, each in every.items() if _is_comparable(each))
        if metric in every and metric not in known:
            raise InputError(
                f"`compare` cannot compare by `{metric}`, which is no number of predictions and outcomes alone; give a "
                "function metric(pred, y), such as functools.partial(uq.metrics.quantile_score, level=0.9)."
            )
        if metric not in known:
            raise unknown_name("metric", metric, known)
        return metric, every[metric]
    if not callable(metric):
        raise InputError(f"`metric` expected a function metric(pred, y), its name, or a list, but got {metric!r}.")
    named = metric.func if isinstance(metric, functools.partial) else metric
    return getattr(named, "__name__", type(named).__name__), metric


def _is_comparable(metric: Callable[..., Any]) -> bool:
    """Whether it takes predictions and outcomes and needs no more, and gives a number, or one an example."""
    signature = inspect.signature(metric)
    _, *others = signature.parameters.values()
    outcome = bool(others) and others[0].name in ("y", "labels")
    alone = all(each.default is not each.empty for each in others[1:])
    return outcome and alone and signature.return_annotation in ("Array", "Estimate")


def _table(found: list[Any]) -> Table:
    columns = ("metric", "a", "b", "a − b", "low", "high", "p", "a lower on")
    rows = [
        (each.metric, each.a, each.b, (float(each.difference), float(each.difference.stderr)),
         *map(float, each.difference.interval), each.p_value, each.wins)
        for each in found
    ]  # fmt: skip
    notes = (
        f"{100 * found[0].difference.confidence:g} % intervals of a − b; p-values are two-sided and not corrected for "
        f"{len(found)} metrics.",
    )
    return Table(columns, tuple(rows), notes=notes, places={"p": 4})
