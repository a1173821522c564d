"""Calibrated on average, but for whom? The group with the worst calibrated predictions, and whether that is chance.

The largest of many gaps is large whatever the model: the p-value is that of the largest, not of the group it names.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, as_labels, check_level, is_concrete
from .._typing import Array, ArrayLike, Key
from ..members import as_key
from ..table import Table
from . import _inputs, _ranking
from ._estimate import as_resample, check_weight
from ._forecast import forecast, is_forecast
from .selective import _of_classes

_LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
_CHUNK = 4_000_000
"""Numbers held at once while simulating."""


class Interval(NamedTuple):
    """The examples with `low ≤ feature ≤ high`."""

    feature: str
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.4g} ≤ {self.feature} ≤ {self.high:.4g}"


@dataclass(frozen=True, eq=False)
class GroupCalibration:
    """The worst calibrated group, and all that were looked at."""

    worst: Any
    """The group: its label, or an `Interval` of a feature."""
    target: str
    """What is miscalibrated there: "class 2", "level 0.9"."""
    gap: float
    """What happened minus what was predicted there: frequency − mean probability, or coverage − level."""
    share: float
    """Share of the examples (of their weight) in it."""
    statistic: float
    """The largest statistic over groups and targets; see `worst_group_calibration`."""
    p_value: float | None
    """How likely one as large is under the null hypothesis, all groups and targets considered; None without a key."""
    null: str
    """The null hypothesis, in words."""
    table: Table
    """A row a group, or a feature: its worst target, gap, share and statistic."""

    def __repr__(self) -> str:
        said = f"{self.worst}: gap {self.gap:+.4g} at {self.target}, {100 * self.share:.3g} % of examples"
        if self.p_value is None:
            return f"{said} (pass `key=` for a p-value)"
        return f"{said}, p = {self.p_value:.2g} if {self.null}"


class _Rows(NamedTuple):
    residual: Any
    """Event minus its probability, `(N, T)` for T targets; of mean 0 under calibration."""
    variance: Any
    """Variance of the residual under calibration, `(N, T)`."""
    draw: Any
    """What `_simulated` draws outcomes from: probabilities `(N, C)`, or levels `(1, D, Q)`."""


def worst_group_calibration(
    pred: Any,
    y: ArrayLike,
    *,
    groups: Any = None,
    features: Any = None,
    levels: Any = None,
    null: str = "calibrated",
    weight: Any = None,
    key: Any = None,
) -> GroupCalibration:
    """The group, or the range of a feature, in which predictions are worst calibrated.

    Every example has residuals r: 1{y = c} − p_c for each class (for two classes, the second alone), or for a
    regression 1{F(y) ≤ q} − q for each level q. Calibration makes their mean 0 in every group; v is their variance.

    With `groups`, the statistic of a group is |Σ w r| / √Σ w v, and the worst is the largest over groups and targets.
    With `features`, all intervals of each feature are searched, exactly and in linear time after a sort: the largest
    |Σ w r| over intervals is the range of the cumulative sum in order of the feature (ties stay together). It is
    divided by √Σ w v over *all* examples, so that small intervals count for little. The gap of the interval found is
    therefore exaggerated, as the best of many; the p-value is not.

    With `key`, outcomes are simulated 1,000 times and the largest statistic is compared with the largest found there,
    which accounts for the search. `null="calibrated"` draws outcomes from the predictions: a small p says that some
    group is miscalibrated, be it that all are. `null="alike"` takes off what all have in common (a multiple of v, as of
    one shift of all logits) and permutes examples: a small p says that groups differ from one another. That is exact if
    the predictions themselves do not depend on the group, and otherwise holds for many examples in each group.

    Adversarial group calibration of uncertainty-toolbox searches random subsets of every size instead; its value grows
    as they shrink, for a perfect model too, and so measures the noise of small samples. Groups here mean something.

    Args:
      pred: predictions of classes (a `Predictive`, a numpyro distribution, probabilities `(N, C)` or `(N,)`) or of
        numbers (a `Predictive`, a numpyro or frozen scipy distribution; with `levels`, draws `(M, N)`).
      y: outcomes `(N,)`, or `(N, D)` for several outputs.
      groups: `(N,)`, a label an example: numbers or text.
      features: `(N,)`, `(N, F)` or a mapping of names to `(N,)`, numbers to order by; instead of `groups`.
      levels: for a regression, where its distribution function is looked at; 0.1, 0.25, 0.5, 0.75, 0.9.
      null: "calibrated" or "alike".
      weight: `(N,)`, case weights.
      key: None, a key, a seed, or `Resample`.
    Returns:
      A `GroupCalibration`, which prints as a sentence; `table` has all groups or features.
    Raises:
      InputError: neither or both of `groups` and `features`, a label or feature missing, levels outside (0, 1).
    References:
      hebert2018 for groups; arrieta2022 for the cumulative sum; chung2021 for the adversarial search. Checked against
      loops over all intervals, and by simulation: uniform p-values if calibrated, power if one group is not.
    Note:
      For discrete outcomes and for draws, r is its mean over randomised values of F: the test is conservative.
      Several outputs are simulated as if they were independent.
    Example:
      >>> p = [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]
      >>> worst_group_calibration(p, [1, 1, 1, 0, 1, 0], groups=["a", "a", "a", "b", "b", "b"])
      a: gap +0.5 at class 1, 50 % of examples (pass `key=` for a p-value)
    """
    name = "worst_group_calibration"
    if null not in ("calibrated", "alike"):
        raise InputError(f'`null` expected "calibrated" or "alike", but it is {null!r}.')
    if (groups is None) == (features is None):
        raise InputError(f"`{name}` expected either `groups=` or `features=`.")
    if not is_concrete((pred, y, weight)):
        raise InputError(f"`{name}` expected concrete arrays: it is not meant to run under jit.")
    rows, targets = _rows(name, pred, y, levels, weight)
    size = len(rows.residual)
    weight = check_weight(name, weight, size)
    full = np.ones(size) if weight is None else np.asarray(weight, np.float64)
    if null == "alike":
        shift = _ranking.ratio(np, full @ rows.residual, full @ rows.variance)
        rows = rows._replace(residual=rows.residual - shift * rows.variance)
    search: _Labelled | _Orders
    places: list[Any]
    if groups is not None:
        search, places = _grouped(name, groups, size, full)
        found, shares, gaps = _look_up(search, rows, full)
    else:
        orders, names = _sorted_features(name, features, size, full)
        found, places, shares, gaps = _scan(orders, rows, full, names)
        search = orders
    which, target = np.unravel_index(np.argmax(found), found.shape)
    p_value = _p_value(search, rows, full, found.max(), null, key)
    best = found.argmax(1)
    place = [row[t] if isinstance(row, list) else row for row, t in zip(places, best, strict=True)]
    at = range(len(place))
    cells = zip(place, (targets[t] for t in best), gaps[at, best], shares[at, best], found[at, best], strict=True)
    table = Table(
        ("group" if features is None else "interval", "target", "gap", "share", "statistic"),
        tuple((str(label), target, float(gap), float(share), float(z)) for label, target, gap, share, z in cells),
    )
    words = "all is calibrated" if null == "calibrated" else "groups are alike"
    gap, share = float(gaps[which, target]), float(shares[which, target])
    return GroupCalibration(place[which], targets[target], gap, share, float(found.max()), p_value, words, table)


# Residuals


def _rows(name: str, pred: Any, y: Any, levels: Any, weight: Any) -> tuple[_Rows, list[str]]:
    """Residuals of mean 0 under calibration, in float64, and the names of their targets."""
    if levels is None and (not is_forecast(pred) or _of_classes(pred)):
        probs, labels = (np.asarray(each) for each in _inputs.classes(name, pred, y, weight))
        probs = probs.astype(np.float64)
        first = 1 if probs.shape[1] == 2 else 0
        happened = labels[:, None] == np.arange(first, probs.shape[1])
        p = probs[:, first:]
        return _Rows(happened - p, p * (1 - p), probs), [f"class {c}" for c in range(first, probs.shape[1])]
    levels = np.atleast_1d(np.asarray(_LEVELS if levels is None else levels, np.float64))
    check_level("levels", levels)
    low, high = _between(name, pred, _ranking.alive(name, y, weight))
    width = (high - low)[..., None]
    inside = np.clip((levels - low[..., None]) / np.where(width > 0, width, 1), 0, 1)
    below = np.where(width > 0, inside, high[..., None] <= levels)
    residual = (below - levels).reshape(len(low), -1)
    outputs = 1 if low.ndim == 1 else low.shape[1]
    variance = np.broadcast_to(np.tile(levels * (1 - levels), outputs), residual.shape)
    said = [f"level {q:g}" + (f" of output {d}" if outputs > 1 else "") for d in range(outputs) for q in levels]
    return _Rows(residual, variance, np.tile(levels, (1, outputs, 1))), said


def _between(name: str, pred: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
    """F(y−) and F(y), `(N,)` or `(N, D)`; of M draws, the gap among M + 1 in which y falls."""
    law = forecast(name, pred)
    y = law.check(y)
    if is_forecast(pred):
        high = np.asarray(law.cdf(y), np.float64)
        return (np.asarray(law.cdf_below(y), np.float64) if law.steps else high), high
    draws = np.asarray(pred)
    below, through = (draws < y).sum(0), (draws <= y).sum(0)
    return below / (len(draws) + 1), (through + 1) / (len(draws) + 1)


# Given groups


class _Labelled(NamedTuple):
    group: Any
    """Group of each example, `(N,)`."""
    number: int
    """How many groups."""


def _grouped(name: str, groups: Any, size: int, weight: np.ndarray) -> tuple[_Labelled, list[Any]]:
    groups = np.asarray(groups)
    if groups.shape != (size,):
        raise InputError(f"`{name}` expected `groups` of shape ({size},), a label an example, but got {groups.shape}.")
    live = weight > 0
    some = groups[live][:1] if live.any() else groups[:1]
    known = as_labels("groups", np.where(live, groups, some) if len(some) else groups)  # of weight 0, any will do
    labels, index = np.unique(known[live], return_inverse=True)
    group = np.zeros(size, np.int32)  # rows of weight 0 add nothing wherever they are
    group[live] = index
    return _Labelled(group, len(labels)), labels.tolist()


def _look_up(search: _Labelled, rows: _Rows, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Statistics, shares and gaps, each `(groups, targets)`."""
    total, spread = (np.zeros((search.number, rows.residual.shape[1])) for _ in range(2))
    np.add.at(total, search.group, weight[:, None] * rows.residual)
    np.add.at(spread, search.group, weight[:, None] * rows.variance)
    mass = np.bincount(search.group, weight, search.number)[:, None]
    share = np.broadcast_to(mass / weight.sum(), total.shape)
    return _standard(np, total, spread), share, total / mass


def _standard(xp: Any, total: Any, spread: Any) -> Any:
    """|total| / √spread; infinite where what was certain did not happen."""
    certain = xp.where(xp.abs(total) > 1e-6, xp.inf, 0.0)
    return xp.where(spread > 0, xp.abs(total) / xp.sqrt(xp.where(spread > 0, spread, 1)), certain)


# Intervals of features


class _Orders(NamedTuple):
    order: Any
    """Examples in order of each feature, `(F, N)`."""
    end: Any
    """Whether the next example in that order has another value, `(F, N)`."""
    values: Any
    """The features in order, `(F, N)`."""


def _sorted_features(name: str, features: Any, size: int, weight: np.ndarray) -> tuple[_Orders, list[str]]:
    if isinstance(features, Mapping):
        names, columns = list(map(str, features)), [np.asarray(each) for each in features.values()]
    else:
        table = np.asarray(features)
        columns = [table] if table.ndim == 1 else list(table.T) if table.ndim == 2 else []
        names = ["feature"] if table.ndim == 1 else [f"feature {i}" for i in range(len(columns))]
    if not columns or any(each.shape != (size,) or each.dtype.kind not in "biuf" for each in columns):
        raise InputError(
            f"`{name}` expected `features` as numbers of shape ({size},) or ({size}, F), or a mapping of names to "
            f"({size},). Text makes `groups=`."
        )
    live = weight > 0
    values = np.stack(columns).astype(np.float64)
    lost = np.flatnonzero(np.isnan(values[:, live]).any(0))
    if len(lost):
        raise InputError(f"`features` expected numbers, but row {np.flatnonzero(live)[lost[0]]} holds NaN. Impute it.")
    values = np.where(live, values, values[:, np.argmax(live)][:, None])
    order = np.argsort(values, axis=1, kind="stable").astype(np.int32)
    values = np.take_along_axis(values, order, 1)
    end = np.concatenate([values[:, 1:] != values[:, :-1], np.ones((len(values), 1), bool)], 1)
    return _Orders(order, end, values), names


def _scan(
    search: _Orders, rows: _Rows, weight: np.ndarray, names: list[str]
) -> tuple[np.ndarray, list[list[Interval]], np.ndarray, np.ndarray]:
    """Statistics `(features, targets)`, and the interval, share and gap of each."""
    spread = weight @ rows.variance
    shape = (len(names), rows.residual.shape[1])
    found, share, gap = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    places: list[list[Interval]] = []
    for f, (order, end, values) in enumerate(zip(*search, strict=True)):
        stops = np.concatenate([[0], np.flatnonzero(end) + 1])  # intervals begin and end between distinct values
        sums = np.concatenate([np.zeros((1, shape[1])), np.cumsum((weight[:, None] * rows.residual)[order], 0)])[stops]
        mass = np.concatenate([[0.0], np.cumsum(weight[order])])[stops]
        top, bottom = sums.argmax(0), sums.argmin(0)
        first, last = np.minimum(top, bottom), np.maximum(top, bottom)
        last = np.where(first == last, np.minimum(first + 1, len(stops) - 1), last)
        first = np.where(first == last, first - 1, first)
        each = np.arange(shape[1])
        total, inside = sums[last, each] - sums[first, each], mass[last] - mass[first]
        found[f] = _standard(np, total, spread)
        share[f], gap[f] = inside / weight.sum(), total / np.where(inside > 0, inside, 1)
        places.append([Interval(names[f], *map(float, (values[stops[i]], values[stops[j] - 1])))
                       for i, j in zip(first, last, strict=True)])  # fmt: skip
    return found, places, share, gap


# How large the largest is by chance


def _p_value(search: Any, rows: _Rows, weight: np.ndarray, found: float, null: str, key: Any) -> float | None:
    how = as_resample(key)
    if how is None:
        return None
    where, count = (search.group, search.number) if isinstance(search, _Labelled) else (search, 0)
    draws = _largest(how.num, null, count, as_key(how.key), *jax.tree.map(jnp.asarray, (where, rows, weight)))
    return float((1 + (np.asarray(draws, np.float64) >= found * (1 - 1e-5)).sum()) / (1 + how.num))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _largest(num: int, null: str, count: int, key: Key, where: Any, rows: _Rows, weight: Array) -> Array:
    """The largest statistic in each of `num` simulations, `(num,)`; `count` groups, or 0 for intervals."""

    def once(key: Key) -> Array:
        drawn = (_simulated(key, rows), rows.variance) if null == "calibrated" else _permuted(key, rows, weight)
        moved, spread = (weight[:, None] * each for each in drawn)
        if count:
            totals = (jax.ops.segment_sum(each, where, num_segments=count) for each in (moved, spread))
            return _standard(jnp, *totals).max()
        sums = jnp.where(where.end[..., None], jnp.cumsum(moved[where.order], axis=1), 0)
        high, low = (jnp.maximum(sums.max(1), 0), jnp.minimum(sums.min(1), 0))
        return _standard(jnp, high - low, spread.sum(0)).max()

    searched = where.order.shape[0] if not count else 1
    chunk = max(1, min(num, _CHUNK // max(1, rows.residual.size * searched)))
    return jax.lax.map(once, jax.random.split(key, num), batch_size=chunk)


def _simulated(key: Key, rows: _Rows) -> Array:
    """Residuals of outcomes drawn from the predictions."""
    size, targets = rows.residual.shape
    if rows.draw.ndim == 2:
        probs = rows.draw
        u = jax.random.uniform(key, (size, 1), probs.dtype)
        label = (u > jnp.cumsum(probs[:, :-1], 1)).sum(1)
        first = probs.shape[1] - targets
        return (label[:, None] == jnp.arange(first, probs.shape[1])).astype(probs.dtype) - probs[:, first:]
    levels = rows.draw
    u = jax.random.uniform(key, (size, levels.shape[1], 1), levels.dtype)
    return ((u <= levels).astype(levels.dtype) - levels).reshape(size, targets)


def _permuted(key: Key, rows: _Rows, weight: Array) -> tuple[Array, Array]:
    """Residuals and variances of other examples; rows of weight 0 stay where they are."""
    live = weight > 0
    shuffled = jnp.argsort(jnp.where(live, jax.random.uniform(key, live.shape), 2.0))
    places = jnp.argsort(~live, stable=True)
    source = jnp.zeros_like(shuffled).at[places].set(shuffled)
    return rows.residual[source], rows.variance[source]
