"""`Estimate`: a number together with how sure one can be of it, and the one way in which every summary makes one.

A summary is a statistic of rows and their weights. Weights are what makes the rest simple: a bootstrap resample is a
vector of counts, a mask is a weight of 0, and the standard error of a smooth statistic comes from how it moves with
each row's weight.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, check_level, is_concrete
from .._typing import Array, Key
from ..members import as_key
from . import _route


class Null(NamedTuple):
    """What a perfectly calibrated model would have scored at this sample size, simulated from the predictions."""

    mean: Any
    """Its mean over simulated outcomes."""
    upper: Any
    """The value that it exceeds in one simulation of twenty."""
    p_value: Any
    """Share of simulations at or above the value found, (1 + number) / (1 + simulations)."""


class Bounds(NamedTuple):
    """Ends of a confidence interval."""

    lower: Any
    upper: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Estimate:
    """A summary of a test set, usable as the number it is: `float(e)`, `e < 0.1`, `e - other`, `np.asarray(e)`.

    A pytree: it passes through `jax.jit`. Arithmetic gives plain numbers, since the errors of a difference of two
    estimates depend on what they share; `uq.metrics.compare` knows.
    """

    value: Any
    """The estimate."""
    stderr: Any
    """Its standard error, examples being independent; None where no formula is known and nothing was resampled."""
    count: Any
    """How many examples it rests on: those of positive weight, a whole number."""
    estimand: str = field(default="", metadata={"static": True})
    """What is estimated, in words, with the settings that decide it."""
    interval: Bounds | None = None
    """Bootstrap confidence interval, where a key was given; NaN for a single example."""
    confidence: float = field(default=0.95, metadata={"static": True})
    """Confidence of `interval`."""
    null: Null | None = None
    """Score of a perfectly calibrated model, where a key was given and sampling alone makes it differ from 0."""

    def __float__(self) -> float:
        return float(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.value, dtype=dtype)

    def __jax_array__(self) -> Array:
        return jnp.asarray(self.value)

    __array_ufunc__ = None

    @property
    def shape(self) -> tuple[int, ...]:
        return np.shape(self.value)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> Any:
        return self.value.dtype if hasattr(self.value, "dtype") else np.asarray(self.value).dtype

    def item(self) -> float:
        """The value as a Python number."""
        return float(self.value)

    def __format__(self, spec: str) -> str:
        return format(float(self.value), spec) if spec else str(self)

    def __repr__(self) -> str:
        if not is_concrete(self.value):
            return f"Estimate({self.value})"
        if np.ndim(self.value):
            return f"Estimate(value={self.value}, stderr={self.stderr}, count={self.count})"
        said = f"{float(self.value):.4g}"
        if self.stderr is not None and math.isfinite(float(self.stderr)):
            said += f" ± {float(self.stderr):.2g}"
        if self.interval is not None and not any(math.isnan(float(end)) for end in self.interval):
            said += f" [{float(self.interval.lower):.4g}, {float(self.interval.upper):.4g}]"
        if self.null is not None:
            said += f", calibrated: {float(self.null.mean):.4g}, p = {float(self.null.p_value):.2g}"
        return f"{said} (n = {int(self.count):,})"

    def __hash__(self) -> int:
        raise TypeError("an Estimate cannot be hashed: hash float(estimate)")

    def __neg__(self) -> Any:
        return -self.value

    def __abs__(self) -> Any:
        return abs(self.value)

    def __round__(self, digits: int | None = None) -> Any:
        return round(float(self.value), digits)

    def __bool__(self) -> bool:
        return bool(self.value)


def _arithmetic(name: str) -> None:
    operation = getattr(operator, name)

    def forward(self: Estimate, other: Any) -> Any:
        return operation(self.value, other.value if isinstance(other, Estimate) else other)

    def backward(self: Estimate, other: Any) -> Any:
        return operation(other, self.value)

    setattr(Estimate, f"__{name}__", forward)
    if name in ("add", "sub", "mul", "truediv", "pow"):
        setattr(Estimate, f"__r{name}__", backward)


for _name in ("add", "sub", "mul", "truediv", "pow", "lt", "le", "gt", "ge", "eq", "ne"):
    _arithmetic(_name)


@dataclass(frozen=True)
class Resample:
    """How to resample: pass it as a metric's `key=` in place of a bare key.

    Args:
      key: a key or an integer seed.
      num: resamples, and simulations of a calibrated model.
      confidence: of the interval.
    """

    key: Any
    num: int = 1000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        check_count("num", self.num, least=10)
        check_level("confidence", self.confidence)


class ByCell(NamedTuple):
    """The influence of rows that fall into few cells."""

    value: Any
    """That of a row in each cell."""
    square: Any
    """Σ w² of the rows in it."""


class Statistic(NamedTuple):
    """A statistic of weighted rows, in numpy or in jax.

    All three functions take `(xp, rows, weight, **settings)`, with `xp` numpy or jax.numpy, `rows` a pytree of arrays
    `(N, …)` and `weight` `(N,)`. They must be defined at the top of a module: programs are cached by them.
    """

    value: Callable[..., Any]
    """The statistic; a row of weight w counts as w rows."""
    influence: Callable[..., Any] | None = None
    """`(N,)`: what one more row like this adds to the statistic, times the total weight; `(xp, rows, weight, value,
    **settings)`. Gives the standard error."""
    simulate: Callable[..., Any] | None = None
    """`(key, rows, **settings) → rows` with outcomes drawn from the predictions: a perfectly calibrated model."""
    together: Callable[..., Any] | None = None
    """`(value, influence)` at once, where they share most of their work; `influence` then need not be given, and may
    be a `ByCell`."""


def summarize(
    statistic: Statistic,
    rows: Any,
    *,
    weight: Any = None,
    estimand: str,
    key: Any = None,
    settings: Mapping[str, Any] | None = None,
    reverse: bool = False,
) -> Estimate:
    """An `Estimate` of the statistic.

    Args:
      rows: pytree of arrays with a leading axis N; rows of weight 0 may hold anything.
      weight: `(N,)`, non-negative; None is equal.
      key: None, a key, a seed, or `Resample`.
      settings: hashable keyword settings of the statistic.
      reverse: whether the bootstrap adds the estimator's own bias once more (calibration errors do), so that the
        interval is reflected about the value.
    """
    settings = dict(settings or {})
    host = _route.on_host(rows, weight)
    xp = np if host else jnp
    rows = jax.tree.map(_route.host_array if host else jnp.asarray, rows)
    size = jax.tree.leaves(rows)[0].shape[0]
    kind = np.float64 if host else jnp.result_type(float)
    full = None if weight is None else xp.asarray(weight, kind)
    if weight is not None:
        rows = jax.tree.map(lambda leaf: inert(xp, leaf, full), rows)
    call = _value_on_host if host else _value_on_device
    value, stderr, count = call(statistic, tuple(sorted(settings.items())), rows, full)
    full = xp.ones(size, kind) if full is None and key is not None else full
    interval = null = None
    how = as_resample(key)
    if how is not None:
        draws, nulls = _resampled(
            statistic, tuple(sorted(settings.items())), how.num, as_key(how.key), jax.tree.map(jnp.asarray, rows),
            jnp.asarray(full),
        )  # fmt: skip
        if host:  # a resample may lack what the statistic needs, as one of a single class has no AUROC: left out
            draws = np.asarray(draws, np.float64)
            draws = draws[~np.isnan(draws)] if (~np.isnan(draws)).sum() > 1 else draws
        stderr = (np.std if host else jnp.nanstd)(draws, ddof=1) if stderr is None else stderr
        tail, quantile = (1 - how.confidence) / 2, np.quantile if host else jnp.nanquantile
        with np.errstate(invalid="ignore"):  # infinite scores
            lower, upper = quantile(draws, tail), quantile(draws, 1 - tail)
        if reverse:  # what is estimated is a distance, and not negative
            lower, upper = (xp.maximum(2 * value - end, xp.minimum(value, 0)) for end in (upper, lower))
        # A single example tells nothing of the spread.
        interval = Bounds(*(xp.where(count > 1, end, xp.nan)[()] for end in (lower, upper)))
        if nulls is not None:
            nulls = np.asarray(nulls, np.float64) if host else nulls
            beyond = (nulls >= value * (1 - 1e-6)).sum()
            null = Null(nulls.mean(), xp.quantile(nulls, 0.95), (1 + beyond) / (1 + how.num))
    confidence = 0.95 if how is None else how.confidence
    return Estimate(value, stderr, count, estimand, interval, confidence, null)


def inert(xp: Any, leaf: Any, weight: Any) -> Any:
    """Rows of weight 0 replaced by zeros, whatever they held."""
    return xp.where((weight > 0).reshape((-1,) + (1,) * (leaf.ndim - 1)), leaf, xp.zeros((), leaf.dtype))


def as_resample(key: Any) -> Resample | None:
    """`Resample` for what was given as `key=`."""
    return key if key is None or isinstance(key, Resample) else Resample(key)


def _value_on_host(statistic: Statistic, settings: tuple, rows: Any, weight: Any) -> tuple[Any, Any, Any]:
    with np.errstate(invalid="ignore", divide="ignore"):  # infinite scores have no standard error
        return _value(np, statistic, settings, rows, weight)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _value_on_device(statistic: Statistic, settings: tuple, rows: Any, weight: Any) -> tuple[Any, Any, Any]:
    return _value(jnp, statistic, settings, rows, weight)


def _value(xp: Any, statistic: Statistic, settings: tuple, rows: Any, weight: Any) -> tuple[Any, Any, Any]:
    more = dict(settings)
    if weight is None:
        weight = xp.ones(jax.tree.leaves(rows)[0].shape[0], np.float64 if xp is np else jnp.result_type(float))
    count = (weight > 0).sum()
    influence = None
    if statistic.together is not None:
        value, influence = statistic.together(xp, rows, weight, **more)
    else:
        value = statistic.value(xp, rows, weight, **more)
        if statistic.influence is not None:
            influence = statistic.influence(xp, rows, weight, value, **more)
    return value, None if influence is None else _stderr(xp, influence, weight, count), count


def _stderr(xp: Any, influence: Any, weight: Any, count: Any) -> Any:
    """Standard error from the influence of each row; NaN for a single row."""
    total = weight.sum()
    square = _sum_of_squares(xp, weight, influence) / xp.square(total)
    several, number = count > 1, count.astype(square.dtype)
    return xp.where(several, xp.sqrt(square * number / xp.where(several, number - 1, 1)), xp.nan)[()]


def _sum_of_squares(xp: Any, weight: Any, influence: Any) -> Any:
    """Σ (weight · influence)², rows of weight 0 inert."""
    if isinstance(influence, ByCell):
        some = influence.square > 0
        return (influence.square * xp.square(xp.where(some, influence.value, 0))).sum()
    if xp is np:
        square, step = np.float64(0), _route.HOST_BLOCK
        for start in range(0, len(weight), step):
            moved = weight[start : start + step] * influence[start : start + step]
            square += np.einsum("i,i->", moved, moved)
        if np.isfinite(square):
            return square
    return xp.square(weight * xp.where(weight > 0, influence, 0)).sum()


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _resampled(statistic: Statistic, settings: tuple, num: int, key: Key, rows: Any, weight: Any) -> tuple[Any, Any]:
    """The statistic of `num` bootstrap resamples, and of `num` simulations of a calibrated model (or None)."""
    more = dict(settings)
    size = weight.shape[0]
    draw_key, null_key = jax.random.split(key)
    live = weight > 0
    places = jnp.nonzero(live, size=size, fill_value=0)[0]  # the live rows, first
    number = live.sum()

    def resample(key: Key) -> Array:
        chosen = places[jax.random.randint(key, (size,), 0, number)]
        counts = jnp.zeros(size, weight.dtype).at[chosen].add((jnp.arange(size) < number).astype(weight.dtype))
        return statistic.value(jnp, rows, counts * weight, **more)

    chunk = at_once(num, max(size, *(leaf.size for leaf in jax.tree.leaves(rows))))
    draws = jax.lax.map(resample, jax.random.split(draw_key, num), batch_size=chunk)
    simulate = statistic.simulate
    if simulate is None:
        return draws, None

    def calibrated(key: Key) -> Array:
        return statistic.value(jnp, simulate(key, rows, **more), weight, **more)

    return draws, jax.lax.map(calibrated, jax.random.split(null_key, num), batch_size=chunk)


def at_once(num: int, size: int) -> int | None:
    """How many resamples of so many numbers `lax.map` takes together: on a CPU what its cache holds; None is one."""
    room = 20_000 if jax.default_backend() == "cpu" else 2_000_000
    chunk = min(num, room // max(size, 1))
    return chunk if chunk > 1 else None


# The commonest statistic


def _mean(xp: Any, rows: Any, weight: Any) -> Any:
    total = weight.sum()
    return xp.where(total > 0, (weight * rows).sum() / xp.where(total > 0, total, 1), xp.nan)[()]


def _mean_influence(xp: Any, rows: Any, weight: Any, value: Any) -> Any:
    return rows - value


MEAN = Statistic(_mean, _mean_influence)
"""Weighted mean of one number a row."""


def mean(values: Any, *, weight: Any = None, estimand: str = "mean score", key: Any = None) -> Estimate:
    """Mean of a score over examples, with its standard error; several outputs are averaged first.

    Args:
      values: what a score returned, `(N,)` or `(N, D)`.
      weight: case weights, `(N,)`; rows of weight 0 may hold anything.
      estimand: what is estimated, in words.
      key: None, or a key, seed or `Resample` for a bootstrap interval.
    Returns:
      An `Estimate` in the units of the score; its standard error takes examples as independent. Infinite scores are
      legal, and so is their mean.
    Raises:
      InputError: no scores, NaN among those that count, weights of another length, negative or all 0.
    References:
      wasserman2004, section 6.3. Checked against scipy.stats.sem.
    Example:
      >>> mean([1.0, 2.0, 3.0])
      2 ± 0.58 (n = 3)
    """
    xp = np if _route.on_host(values, weight) else jnp
    values = values if isinstance(values, jax.Array) else np.asarray(values)
    if 0 in (values.ndim, *values.shape) or not (values.dtype == bool or jnp.issubdtype(values.dtype, jnp.number)):
        raise InputError(
            f"`mean` expected scores (N,) or (N, D) with N ≥ 1, but got dtype {values.dtype} of shape {values.shape}."
        )
    weight = check_weight("mean", weight, values.shape[0])
    _check_not_nan(values, weight)
    values = xp.asarray(values)
    if values.dtype.kind in "biu":
        values = values.astype(np.float64 if xp is np else jnp.result_type(float))
    values = values.reshape(values.shape[0], -1).mean(1) if values.ndim > 1 else values
    return summarize(MEAN, values, weight=weight, estimand=estimand, key=key)


def _check_not_nan(values: Any, weight: Any) -> None:
    """A sentence where a score that counts is NaN."""
    if not is_concrete((values, weight)):
        return
    wrong = np.isnan(np.asarray(values).reshape(len(values), -1)).any(1)
    wrong = wrong if weight is None else wrong & (np.asarray(weight) > 0)
    if wrong.any():
        row = np.flatnonzero(wrong)[0]
        raise InputError(f"`mean` expected scores that are not NaN, but row {row} is ({wrong.sum()} of {len(wrong)}).")


def check_weight(name: str, weight: Any, size: int) -> Any:
    """`weight` as `(N,)`, non-negative, not all 0."""
    if weight is None:
        return None
    if not isinstance(weight, jax.Array):
        weight = np.asarray(weight)
    if weight.shape != (size,):
        raise InputError(f"`{name}` expected `weight` of shape ({size},), one an example, but it is {weight.shape}.")
    if is_concrete(weight):
        values = np.asarray(weight, np.float64)
        if not np.isfinite(values).all() or (values < 0).any() or not values.any():
            raise InputError(
                f"`{name}` expected weights that are finite, not negative and not all 0, but the smallest is "
                f"{values.min():.4g} and the largest {values.max():.4g}."
            )
    return weight
