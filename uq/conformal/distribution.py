"""Conformal predictive distributions: calibrated at every level at once, for finite samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import _member_laws
from .._checks import InputError
from .._typing import ArrayLike, Key
from ..members import as_key
from ..metrics import _inputs
from ..metrics.ensemble_scores import crps_ensemble
from ..predictive import Predictive
from ._procedure import Conformal, PredictionInterval, parts_like, scored, xp_of
from ._rank import check_scores, rank, warn_too_few
from .scores import _quantile_at, absolute, distributional, normalized, tails

Kind = Literal["pit", "residual", "normalized"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class ConformalDistribution:
    """A distribution for each example: n equally probable values, between which a further 1 / (n + 1) is undecided.

    Metrics read it as draws: `uq.metrics.crps(found, y)`, `uq.metrics.pit(found, y, kind="randomised", key=0)`. A
    pytree.
    """

    draws: Any
    """`(n, N)` or `(n, N, D)`, rising along the first axis, in the units of the outcomes."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.draws, dtype=dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the draws."""
        return self.draws.shape

    @property
    def mean(self) -> Any:
        """`(N,)` or `(N, D)`."""
        return self.draws.mean(0)

    def bounds(self, y: ArrayLike) -> tuple[Any, Any]:
        """Between which P(Y ≤ y) lies, each of the shape of `y`; they differ by 1 / (n + 1) where there are no ties."""
        draws, y = self._with("bounds", y)
        size = len(draws) + 1
        kind = draws.dtype
        return (draws < y).sum(0).astype(kind) / size, ((draws <= y).sum(0).astype(kind) + 1) / size

    def cdf(self, y: ArrayLike) -> Any:
        """The crisp distribution function, (#{draws ≤ y} + ½) / (n + 1): the middle of `bounds` but for ties."""
        draws, y = self._with("cdf", y)
        return ((draws <= y).sum(0).astype(draws.dtype) + 0.5) / (len(draws) + 1)

    def pit(self, y: ArrayLike, key: Key) -> Any:
        """Drawn between `bounds`: uniform on [0, 1] exactly, if calibration and new examples are exchangeable."""
        low, high = self.bounds(y)
        part: Any = jax.random.uniform(as_key(key), low.shape)
        part = part.astype(low.dtype) if isinstance(low, jax.Array) else np.asarray(part, low.dtype)
        return low + part * (high - low)

    def quantile(self, level: float) -> Any:
        """The value that an outcome does not exceed with probability `level` at least; infinite for small n."""
        return self._at(rank(len(self.draws), level), level)

    def interval(self, level: float = 0.9) -> PredictionInterval:
        """The central interval: it holds the outcome with probability `level` at least, half the rest on each side."""
        num, upper = len(self.draws), (1 + float(level)) / 2
        place = rank(num, upper)
        rank(num, level)
        ends = self._at(place, upper)
        lower = self.draws[num - place] if place <= num else -ends
        return PredictionInterval(lower, ends, float(level))

    def crps(self, y: ArrayLike) -> Any:
        """Continuous ranked probability score of the n equally probable values, of the shape of `y`."""
        return crps_ensemble(*self._with("crps", y))

    def _at(self, place: int, level: float) -> Any:
        if place > len(self.draws):
            warn_too_few(len(self.draws), level, "examples")
            return xp_of(self.draws).full(self.draws.shape[1:], np.inf, self.draws.dtype)
        return self.draws[place - 1]

    def _with(self, name: str, y: Any) -> tuple[Any, Any]:
        y = _inputs.array(name, "y", y)
        if y.shape != self.draws.shape[1:]:
            raise InputError(f"`{name}` expected `y` of shape {self.draws.shape[1:]}, but got {y.shape}.")
        return _inputs.floating(self.draws, y)


class DistributionState(NamedTuple):
    """What `distribution` remembers."""

    values: Any
    """Residuals, or for "pit" the smaller of the two tails, in the order of the levels; `(n,)` or `(n, D)`."""
    upper: Any
    """For "pit", which tail it is, bool of the same shape; else None."""


def distribution(kind: Kind = "pit") -> Conformal:
    """A calibrated predictive distribution from any other: the calibration outcomes say how probable its levels are.

    Every new example gets n values, which were calibration outcomes seen from their own predictions:

    - "pit": values are the new prediction's quantiles at the levels F_i(y_i). A right prediction stays what it is, a
      wrong one is bent, with its own shape in each place. An outcome at level 0 or 1 gives an infinite value.
      Not for draws and counts.
    - "residual": mean + (y_i − mean_i). "normalized": mean + stddev · (y_i − mean_i) / stddev_i.

    The guarantee holds at every level together: the randomised PIT of a new outcome is exactly uniform if it is
    exchangeable with the calibration outcomes. It is marginal, as that of `split`: given one calibration set, the PIT
    of many new outcomes is off by some 0.3 / √n.

    `fit(pred, y)` takes outcomes `(n,)` or `(n, D)`, each output for itself; `apply(state, pred)` returns a
    `ConformalDistribution` of n × N numbers: calibrate with a few hundred outcomes.

    Args:
      kind: as above. "residual" takes points, "normalized" a pair (mean, stddev), and all of them forecasts.
    Raises:
      InputError: an unknown kind, plain points for "pit"; and as `split`.
    References:
      vovk2020 (conformal calibration); vovk2019 ("residual"). Checked
      against a loop, by uniformity of the PIT, and against `split` at single levels.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.distribution("residual")
      >>> found = procedure.apply(procedure.fit(np.zeros(4), np.array([3.0, -1.0, 0.0, 1.0])), np.array([10.0]))
      >>> found.draws[:, 0].tolist(), float(found.quantile(0.8)[0]), float(found.cdf([10.5])[0])
      ([9.0, 10.0, 11.0, 13.0], 13.0, 0.5)
    """
    _inputs.choice("distribution", "kind", kind, ("pit", "residual", "normalized"))
    score = {"pit": distributional(), "residual": absolute("upper"), "normalized": normalized("upper")}[kind]
    name = f"distribution({kind!r})"

    def fit(pred: Any, y: ArrayLike) -> DistributionState:
        parts, scores = scored(name, score, pred, y)
        check_scores(name, scores)
        xp = xp_of(scores)
        if kind != "pit":
            return DistributionState(xp.sort(scores, axis=0), None)
        if parts[0].discrete or hasattr(parts[0], "draws"):
            raise InputError(f"`{name}` expected a distribution with a density: for draws and counts use 'residual'.")
        lower, upper = tails(parts[0], parts[0].check(_inputs._flat(_inputs.array(name, "y", y))))
        above = upper < lower
        tail = xp.where(above, upper, lower)
        with np.errstate(divide="ignore"):
            order = xp.argsort(xp.where(above, -xp.log(tail), xp.log(tail)), axis=0)  # of the levels, to all digits
        return DistributionState(xp.take_along_axis(tail, order, 0), xp.take_along_axis(above, order, 0))

    def apply(state: DistributionState, pred: Any) -> ConformalDistribution:
        parts = parts_like(name, score, pred, state.values.shape[1:])
        if kind == "pit":
            return ConformalDistribution(_values(parts[0], state.values, state.upper))
        *same, values = _inputs.floating(*parts, state.values)
        values = values[:, None]
        return ConformalDistribution(same[0] + (values if kind == "residual" else values * same[1]))

    return Conformal(name, fit, apply)


def _values(forecast: Any, tail: Any, upper: Any) -> Any:
    """Quantiles `(n, N, …)` at n levels, each given by a tail; infinite where that is 0."""
    xp = xp_of(tail)
    none = tail <= 0
    safe = xp.where(none, 0.25, tail)
    pred = getattr(forecast, "pred", None)
    if isinstance(pred, Predictive):
        found = _on_device(pred, jnp.asarray(safe, pred.outputs.dtype), jnp.asarray(upper))
        xp = jnp
    else:
        found = _each(forecast, safe, upper)
        xp = xp_of(found)
    none, upper = (xp.asarray(each).reshape(each.shape[0], 1, *each.shape[1:]) for each in (none, upper))
    return xp.where(none, xp.where(upper, np.inf, -np.inf).astype(found.dtype), found)


def _each(forecast: Any, tail: Any, upper: Any) -> Any:
    """One level after another; both sides, of which the right one is kept."""
    values = [[_quantile_at(forecast, one, side) for side in (False, True)] for one in tail]
    xp = xp_of(values[0][0])
    sides = xp.asarray(upper).reshape(upper.shape[0], 1, *upper.shape[1:])
    return xp.where(sides, xp.stack([pair[1] for pair in values]), xp.stack([pair[0] for pair in values]))


@jax.jit
def _on_device(pred: Predictive, tail: Any, upper: Any) -> Any:
    shape = (len(pred),) if pred.num_outputs == 1 else (len(pred), pred.num_outputs)

    def one(level: tuple) -> Any:
        here, side = (jnp.broadcast_to(each, shape) for each in level)
        return pred._from_base(pred._run(_member_laws.quantile, here, side))

    return jax.lax.map(one, (tail, upper))
