"""Means of scores, with standard errors, from five sums."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..._checks import check_level, is_concrete, unknown_name
from .._estimate import Estimate
from . import _sums
from ._context import Batch
from ._metric import Additive, State, zero
from ._sums import Sum

_MEANS = ("log_score", "crps", "brier_score", "squared_error", "accuracy", "coverage", "interval_width")


@dataclass(frozen=True)
class Mean(Additive):
    """Mean of a score over examples, with its standard error; several outputs are averaged.

    Args:
      score: "log_score", "crps", "brier_score", "squared_error", "accuracy", "coverage" or "interval_width".
      root: whether the square root of the mean is wanted, as for the RMSE.
      level: of the interval.
    """

    score: str
    root: bool = False
    level: float = 0.9

    def __post_init__(self) -> None:
        if self.score not in _MEANS:
            raise unknown_name("streaming score", self.score, _MEANS)
        check_level("level", self.level)

    def empty(self) -> State:
        return {"count": np.zeros((), np.int64), "strange": np.zeros(3, np.int64), "sums": zero(5)}

    def _quantities(self, batch: Batch) -> Any:
        if self.score == "accuracy":
            values = batch.top[1]
        elif self.score == "coverage":
            values = batch.covered(self.level)
        elif self.score == "interval_width":
            lower, upper = (batch.forecast.quantile(q) for q in ((1 - self.level) / 2, (1 + self.level) / 2))
            values = upper - lower
        else:
            values = getattr(batch, self.score)
        return values

    def _accumulate(self, xp: Any, quantities: Any, weight: Any) -> State:
        values = quantities.reshape(quantities.shape[0], -1).astype(weight.dtype).mean(1)
        live = weight > 0
        strange = xp.stack([values == np.inf, values == -np.inf, xp.isnan(values)]) & live
        values = xp.where(live & xp.isfinite(values), values, xp.zeros_like(values))
        weight_, x = _sums.of(xp, weight), _sums.of(xp, values)
        square = _sums.multiply(weight_, weight_)
        first = _sums.multiply(square, x)
        parts = (weight_, _sums.multiply(weight_, x), square, first, _sums.multiply(first, x))
        rows = Sum(xp.stack([part.hi for part in parts], 1), xp.stack([part.lo for part in parts], 1))
        whole = np.int64 if xp is np else jnp.int32
        return {
            "count": live.sum().astype(whole),
            "strange": strange.sum(1).astype(whole),  # kept apart: ∞, −∞, NaN
            "sums": _sums.total(xp, rows),
        }

    def compute(self, state: State) -> Estimate:
        xp = np if is_concrete(state) else jnp
        state = jax.tree.map(np.asarray, state) if xp is np else state
        count = state["count"]
        value, variance = _mean_and_error(xp, state["sums"], count)
        stderr = xp.sqrt(xp.maximum(variance, 0))
        above, below, undefined = (state["strange"][i] > 0 for i in range(3))
        value = xp.where(above, xp.full_like(value, np.inf), xp.where(below, xp.full_like(value, -np.inf), value))
        value = xp.where(undefined | (above & below), xp.full_like(value, np.nan), value)[()]
        stderr = xp.where(xp.isfinite(value), stderr, xp.full_like(value, np.nan))[()]
        if self.root:
            value = xp.sqrt(value)
            stderr = stderr / (2 * xp.where(value > 0, value, xp.nan))
        return Estimate(value, stderr, count, f"{'root of the ' if self.root else ''}mean {self.score}")


def _mean_and_error(xp: Any, sums: Sum, count: Any) -> tuple[Any, Any]:
    """Mean and the variance of it: Σ w² (x − m)² / (Σ w)², all cancellations in pairs."""
    w, wx, q0, q1, q2 = (Sum(sums.hi[i], sums.lo[i]) for i in range(5))
    if xp is np:
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = _sums.value(np, wx) / _sums.value(np, w)
    else:
        mean = _sums.value(xp, wx) / _sums.value(xp, w)
    # The mean as a pair: one Newton step from its rounded value.
    rounded = _sums.of(xp, xp.asarray(mean))
    rest = _sums.add(wx, _sums.negative(_sums.multiply(rounded, w)))
    exact = _sums.add(rounded, _sums.of(xp, xp.asarray(_sums.value(xp, rest) / _safe(xp, w))))
    minus_two = _sums.of(xp, xp.asarray(-2.0, mean.dtype))
    spread = _sums.add(
        q2,
        _sums.add(
            _sums.multiply(_sums.multiply(minus_two, exact), q1), _sums.multiply(_sums.multiply(exact, exact), q0)
        ),
    )
    number = xp.asarray(count).astype(mean.dtype)
    several = number > 1
    scale = number / xp.where(several, number - 1, xp.ones_like(number))
    variance = _sums.value(xp, spread) / xp.square(_safe(xp, w)) * scale
    return mean, xp.where(several, variance, xp.full_like(variance, np.nan))


def _safe(xp: Any, w: Sum) -> Any:
    total = _sums.value(xp, w)
    return xp.where(total > 0, total, xp.ones_like(total))
