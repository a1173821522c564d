"""A factor for standard deviations that depends on how large they are."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import optimize

from .._checks import InputError
from .._typing import ArrayLike
from ..predictive import Predictive
from ._recalibrator import Fitted, Recalibrator
from ._regression import as_predictive, on_host, reshaped, votes


class ConditionalState(NamedTuple):
    """Of `conditional_scale`: log of the new variance is level + slope · (log of the old − centre)."""

    level: Any
    slope: Any
    centre: Any
    """Mean log variance of the calibration examples, on the base's scale."""
    fitted: Fitted


def conditional_scale() -> Recalibrator:
    """Standard deviations to a power, times a factor: confident and unsure predictions are mended apart.

        log v′ = α + β (log v − centre)

    β = 1 is `scale`, β = 0 the same variance for all; β < 1 where networks are most overconfident when most confident.
    α and β maximise the Gaussian likelihood of the residuals, a convex problem for every β.

    It knows nothing of how many members vote: for out-of-fold predictions prefer `affine_variance`.

    References:
      levi2022, section 4 (why a factor must depend on σ). Checked against a grid search.
    """

    def fit(pred: Any, y: ArrayLike, weight: ArrayLike | None = None) -> ConditionalState:
        pred = _one_output(pred)
        found, residual, share = on_host(votes(pred), pred, y, weight, "conditional_scale")
        square = residual**2
        if not (share * square).sum() > 0:
            raise InputError("`conditional_scale` expected residuals that are not all 0.")
        log_v = np.log(found.variance)
        centre = float((share * log_v).mean())

        def best_level(slope: float) -> float:
            """The maximum for a slope: the mean of standardised squares, in closed form."""
            return float(np.log((share * square * np.exp(-slope * (log_v - centre))).mean()))

        def loss(slope: float) -> float:
            # The exponential term is 1 at the best level.
            return 0.5 * (np.log(2 * np.pi) + best_level(slope) + 1)

        result = optimize.minimize_scalar(loss, bounds=(-1.0, 4.0), method="bounded", options={"xatol": 1e-6})
        before = 0.5 * float((share * (square / found.variance + log_v)).mean() + np.log(2 * np.pi))
        numbers = (best_level(result.x), result.x, centre)
        fitted = Fitted(*map(jnp.asarray, (result.success, result.nfev, before, float(result.fun))))
        level, slope, middle = (jnp.asarray(value, jnp.result_type(float)) for value in numbers)
        return ConditionalState(level, slope, middle, fitted)

    def apply(state: ConditionalState, pred: Any) -> Predictive:
        pred = _one_output(pred)
        found = votes(pred)
        log_v = jnp.log(found.variance)
        factor = jnp.exp(0.5 * (state.level + state.slope * (log_v - state.centre) - log_v))
        factor = jnp.broadcast_to(factor, found.means.shape)
        centre = found.mean + factor * (found.means - found.mean)
        return reshaped(pred, centre, factor, found.means, jnp.minimum(factor.min(), 1.0))

    return Recalibrator("conditional_scale", fit, apply, ("regression",))


def _one_output(pred: Any) -> Predictive:
    pred = as_predictive("conditional_scale", pred)
    if pred.num_outputs > 1:
        raise InputError("`conditional_scale` is for one output; fit one for each, on predictions of one.")
    return pred
