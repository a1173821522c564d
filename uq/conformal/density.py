"""Regions of highest density: sets of several pieces where the prediction has several modes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, is_concrete
from .._typing import ArrayLike
from ..metrics import Bounds, _forecast, _inputs
from ..predictive import Predictive
from ._procedure import Conformal, xp_of
from ._rank import check_scores, fraction, limit, realised_coverage
from .scores import at_tail
from .split import SplitState

Kind = Literal["mass", "density"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class DensityRegion:
    """{y: log p(y) ≥ cutoff}: for each example the outcomes that its prediction finds probable enough.

    A pytree where the prediction is one.
    """

    pred: Any
    """The predictions that it speaks of."""
    cutoff: Any
    """Log-densities `(N,)`, in nats; −inf where there were too few calibration outcomes."""
    level: float = field(metadata={"static": True})
    """Coverage asked for."""
    realised: Bounds | None = None
    """As of `PredictionInterval`."""

    def contains(self, y: ArrayLike) -> Any:
        """Which outcomes are inside, bool `(N,)`: by the density itself, on no grid."""
        forecast = _forecast.forecast("contains", self.pred)
        value, cutoff = _inputs.floating(forecast.log_prob(forecast.check(y)), self.cutoff)
        room = 16 * float(jnp.finfo(value.dtype).eps) * (1 + abs(xp_of(value).where(cutoff > -np.inf, cutoff, 0)))
        return value >= cutoff - room

    def intervals(self, points: int = 200) -> list[np.ndarray]:
        """The pieces of each example's region, `(pieces, 2)` lower and upper ends, for one continuous output.

        Found on a grid of quantiles, and narrowed down by bisection: a piece of less probability than 1 / `points` may
        be missed, by this list alone. On the host.
        """
        forecast = _one_output("intervals", self.pred)
        if forecast.discrete or not is_concrete(self.cutoff):
            raise InputError("`intervals` lists pieces of a continuous prediction, outside jit: use `contains`.")
        cutoff = np.asarray(self.cutoff, np.float64)
        grid = np.asarray(_wide_grid(forecast, check_count("points", points, least=8)), np.float64)
        inside = _log_prob(forecast, grid) >= cutoff
        crossing = inside[1:] != inside[:-1]
        low, high = grid[:-1].copy(), grid[1:].copy()
        for _ in range(40):
            middle = 0.5 * (low + high)
            same = (_log_prob(forecast, middle) >= cutoff) == inside[:-1]
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        return [_pieces(inside[:, i], crossing[:, i], low[:, i]) for i in range(grid.shape[1])]

    def length(self, points: int = 200) -> np.ndarray:
        """Total length of each example's pieces, `(N,)`, in the units of the outcomes; see `intervals`."""
        return np.array([np.diff(pieces, axis=1).sum() for pieces in self.intervals(points)])


def highest_density(kind: Kind = "mass", *, points: int = 200) -> Conformal:
    """The shortest sets that cover: where the predictive density is high, in as many pieces as it has modes.

    - "mass": an outcome's score is the probability of the region of higher density than its own, so that regions
      of all examples keep the same probability (HPD-split). One output. That probability is computed from the density
      at `points` quantiles; the guarantee does not depend on how well.
    - "density": the score is −log p(y), so that all examples have the same cutoff: shorter on average, but examples
      with wide predictions may get no region at all. Any number of outputs, by their joint density.

    `fit(pred, y)` takes a `Predictive` or a distribution with a density; `apply(state, pred, level=0.9)` returns a
    `DensityRegion`.

    Args:
      kind: as above.
      points: quantiles that "mass" looks at.
    Raises:
      InputError: draws, which have no density, several outputs or counts for "mass"; and as `split`.
      UQWarning: too few outcomes for the level; regions are then everything.
    References:
      izbicki2022 ("mass"); lei2013 ("density"). Checked against `split` on symmetric
      predictions, numerical integration, and by simulation.
    Example:
      >>> import numpy as np
      >>> import numpyro.distributions as dist
      >>> import uq
      >>> def two(n):
      ...     return dist.MixtureSameFamily(
      ...         dist.Categorical(probs=np.full((n, 2), 0.5)),
      ...         dist.Normal(np.tile([-4.0, 4.0], (n, 1)), np.full((n, 2), 0.5)),
      ...     )
      >>> y = np.where(np.arange(99) % 2 == 0, -4.0, 4.0) + np.linspace(-0.99, 0.99, 99)
      >>> procedure = uq.conformal.highest_density()
      >>> region = procedure.apply(procedure.fit(two(99), y), two(1), level=0.8)
      >>> region.intervals()[0].round(1).tolist()
      [[-4.8, -3.2], [3.2, 4.8]]
    """
    _inputs.choice("highest_density", "kind", kind, ("mass", "density"))
    check_count("points", points, least=8)
    name = f"highest_density({kind!r})"

    def fit(pred: Any, y: ArrayLike) -> SplitState:
        forecast = _forecast.forecast(name, pred) if kind == "density" else _one_output(name, pred)
        surprise = -forecast.log_prob(forecast.check(y))
        if kind == "density":
            return SplitState(check_scores(name, surprise, ndim=1))
        knots = _surprises(name, forecast, points)
        surprise, knots = _inputs.floating(surprise, knots)
        return SplitState(check_scores(name, _mass(surprise, knots), ndim=1))

    def apply(state: SplitState, pred: Any, *, level: float = 0.9) -> DensityRegion:
        fraction(level)
        forecast = _forecast.forecast(name, pred) if kind == "density" else _one_output(name, pred)
        bound = limit(state.scores, level, name="examples")
        realised = realised_coverage(state.scores.shape[0], level)
        if kind == "density":
            xp = xp_of(bound)
            return DensityRegion(pred, xp.broadcast_to(-bound, forecast.shape[:1]), float(level), realised)
        bound, knots = _inputs.floating(bound, _surprises(name, forecast, points))
        return DensityRegion(pred, -_surprise_of_mass(bound, knots), float(level), realised)

    return Conformal(name, fit, apply)


# Mass and surprise (−log density): a rising, continuous map for each example, through points that anyone can compute


def _surprises(name: str, forecast: Any, points: int) -> Any:
    """−log density at the quantiles of levels (j − ½) / points, rising, `(points, N)`."""
    grid = forecast.quantile((np.arange(points) + 0.5) / points)
    xp = xp_of(grid)
    return xp.sort(-_log_prob(forecast, grid), axis=0)


def _mass(surprise: Any, knots: Any) -> Any:
    """Probability of higher density than that of surprise `(N,)`, in (0, 1)."""
    inside: Any
    xp, size = xp_of(surprise, knots), knots.shape[0]
    levels = xp.asarray((np.arange(size) + 0.5) / size, knots.dtype)
    if xp is np:
        inside = np.array([np.interp(s, k, levels) for s, k in zip(surprise, knots.T, strict=True)])
    else:
        inside = jax.vmap(lambda s, k: jnp.interp(s, k, levels), (0, 1))(surprise, knots)
    low = levels[0] * xp.exp(xp.minimum(surprise - knots[0], 0))
    high = 1 - (1 - levels[-1]) * xp.exp(-xp.maximum(surprise - knots[-1], 0))
    return xp.where(surprise < knots[0], low, xp.where(surprise > knots[-1], high, inside))


def _surprise_of_mass(mass: Any, knots: Any) -> Any:
    """The largest surprise with at most this `mass`, `(N,)`: the inverse of `_mass`."""
    inside: Any
    xp, size = xp_of(mass, knots), knots.shape[0]
    levels = xp.asarray((np.arange(size) + 0.5) / size, knots.dtype)
    if xp is np:
        inside = np.array([np.interp(mass, levels, k) for k in knots.T])
    else:
        inside = jax.vmap(lambda k: jnp.interp(mass, levels, k), 1)(knots)
    safe = xp.clip(mass, 1e-30, 1 - float(jnp.finfo(knots.dtype).epsneg))
    low = knots[0] + xp.log(safe / levels[0])
    high = knots[-1] - xp.log((1 - safe) / (1 - levels[-1]))
    found = xp.where(mass < levels[0], low, xp.where(mass > levels[-1], high, inside))
    return xp.where(mass < 1, found, np.inf)


def _log_prob(forecast: Any, grid: Any) -> Any:
    """Log-densities of `(G, N)` outcomes, a row at a time for what takes no more."""
    pred = getattr(forecast, "pred", None)
    if isinstance(pred, Predictive):
        found = _grid_log_prob(pred, jnp.asarray(grid, pred.outputs.dtype))
        return np.asarray(found, np.float64) if isinstance(grid, np.ndarray) else found
    return forecast.log_prob(grid)


@jax.jit
def _grid_log_prob(pred: Predictive, grid: Any) -> Any:
    return jax.lax.map(pred.log_prob, grid, batch_size=32)


def _wide_grid(forecast: Any, points: int) -> Any:
    """Quantiles `(G, N)`, and beyond them ever wider steps outwards."""
    middle = np.asarray(forecast.quantile((np.arange(points) + 0.5) / points), np.float64)
    ends = [np.asarray(at_tail(forecast, 0.25, upper=upper), np.float64) for upper in (False, True)]
    step = np.maximum(ends[1] - ends[0], 1e-12) * 2.0 ** np.arange(-6, 7)[:, None]
    return np.concatenate([middle[0] - step[::-1], middle, middle[-1] + step])


def _pieces(inside: np.ndarray, crossing: np.ndarray, place: np.ndarray) -> np.ndarray:
    ends = place[crossing].tolist()
    if inside[0]:
        ends.insert(0, -np.inf)
    if inside[-1]:
        ends.append(np.inf)
    return np.array(ends).reshape(-1, 2)


def _one_output(name: str, pred: Any) -> Any:
    forecast = _forecast.forecast(name, pred)
    if len(forecast.shape) != 1 or forecast.discrete:
        raise InputError(
            f"`{name}` expected a density of one output, (N,), but the predictions are "
            f"{'counts' if forecast.discrete else forecast.shape}: use highest_density('density')."
        )
    if hasattr(forecast, "draws"):
        raise InputError(f"`{name}` needs a density, which draws do not have: use `distributional`.")
    return forecast
