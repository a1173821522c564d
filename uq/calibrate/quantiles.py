"""Quantile recalibration: the distribution function mapped so that outcomes fall evenly into it."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from scipy.interpolate import PchipInterpolator

from .._checks import InputError, check_count, unknown_name
from .._typing import ArrayLike
from ..metrics._estimate import check_weight
from ..predictive import Predictive
from ._mapped import MappedPredictive, mapped
from ._recalibrator import Recalibrator

Shape = Literal["linear", "spline", "isotonic"]


class QuantileState(NamedTuple):
    """Of `quantiles`: the knots of R, strictly rising from 0 to 1, `(L,)`."""

    before: Any
    """Values of F."""
    after: Any
    """R there."""


def quantiles(shape: Shape = "linear", *, pieces: int | None = None) -> Recalibrator:
    """R(F(y)), where R is the distribution function of F(Y) over the calibration examples.

    With R so, a quantile at level p is exceeded by a share 1 − p of outcomes, whatever is wrong with the shape of F:
    width, skewness, tails, bias of one sign. It is the same map for all examples: it cannot tell hard ones from easy
    ones, as `affine_variance` can. Compose the two for out-of-fold predictions: R knows nothing of how many voted. A
    weight of 2 in `fit` counts as two examples.

    Args:
      shape: "linear" maps by `pieces` straight lines through the quantiles of F(Y), each pulled to the diagonal by one
        example's worth; "spline" by a monotone cubic through the same points; "isotonic" by the empirical
        distribution function itself, best for coverage and unfit for `log_prob`.
      pieces: None is one for every twenty examples, between 2 and 20.
    Raises:
      InputError: fewer examples than pieces; predictions of classes, or of several outputs.
    References:
      kuleshov2018, algorithm 1; dheur2024 (R as a density of F(Y)). Checked against a loop over levels.
    Example:
      >>> import numpy as np, jax.numpy as jnp, uq
      >>> rng = np.random.default_rng(0)
      >>> pred = uq.Predictive(jnp.zeros((1, 400, 2)), uq.likelihoods.Gaussian())
      >>> recalibrator = uq.calibrate.quantiles()
      >>> state = recalibrator.fit(pred, 3 + rng.normal(size=400))
      >>> bool(abs(recalibrator.apply(state, pred).quantile(0.5).mean() - 3) < 0.2)
      True
    """
    if shape not in get_args(Shape):
        raise unknown_name("shape", str(shape), get_args(Shape))
    wanted = None if pieces is None else check_count("pieces", pieces, least=2)

    def fit(pred: Any, y: ArrayLike, weight: ArrayLike | None = None) -> QuantileState:
        pred = _numbers(pred)
        share = np.ones(len(pred)) if weight is None else check_weight("quantiles", weight, len(pred))
        share = np.asarray(share, np.float64)
        value = np.asarray(pred.cdf(np.asarray(pred._check_y(y), np.float64)), np.float64)
        if pred.discrete:  # the middle of the step: a crisp stand-in for a random place in it
            value = (value + np.asarray(pred.cdf_below(np.asarray(y)), np.float64)) / 2
        live = share > 0
        value, share = value[live], share[live]  # 2 counts as two examples
        num = int(np.clip(share.sum() // 20, 2, 20)) if wanted is None else wanted
        if len(value) < num:
            raise InputError(f"`quantiles` expected at least {num} examples, one a piece, but got {len(value)}.")
        before, after = _empirical(value, share) if shape == "isotonic" else _pieces(value, share, num)
        if shape == "spline":
            parts = np.linspace(0, 1, 11)[:-1]
            fine = np.append((before[:-1, None] + np.diff(before)[:, None] * parts).reshape(-1), 1.0)
            before, after = fine, PchipInterpolator(before, after)(fine)
        before, after = _rising(before, after)
        dtype = jnp.result_type(float)
        return QuantileState(jnp.asarray(before, dtype), jnp.asarray(after, dtype))

    def apply(state: QuantileState, pred: Any) -> MappedPredictive:
        return mapped(_numbers(pred), state.before, state.after)

    return Recalibrator("quantiles", fit, apply, ("regression",))


def _numbers(pred: Any) -> Predictive:
    if not isinstance(pred, Predictive):
        raise InputError(f"`quantiles` expected a Predictive of numbers, but got a {type(pred).__name__}.")
    pred._needs("regression", what="quantiles")
    if pred.num_outputs > 1:
        raise InputError("`quantiles` maps one output: fit one for each, on predictions of one.")
    return pred


def _pieces(value: np.ndarray, share: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Equal steps of F, and how much of F(Y) lies below each: a histogram of F(Y) with one example more a cell."""
    order = np.argsort(value)
    total = share.sum()
    levels = np.arange(1, num) / num
    at = np.interp(levels * total, np.cumsum(share[order]) - share[order] / 2, value[order])
    before = np.unique(np.concatenate([[0.0], at, [1.0]]))
    before = before[np.concatenate([[True], np.diff(before) > 1e-6])]
    before[-1] = 1.0
    cells = np.histogram(value, before, weights=share)[0] + np.diff(before) * num
    return before, np.concatenate([[0.0], np.cumsum(cells) / cells.sum()])


def _empirical(value: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each of n values at its rank / (n + 1), and both ends; ties at the middle of their ranks."""
    unique, where = np.unique(value, return_inverse=True)
    mass = np.bincount(where, share)
    after = (np.cumsum(mass) - mass / 2 + 0.5) / (share.sum() + 1)
    inside = (unique > 0) & (unique < 1)
    return np.concatenate([[0.0], unique[inside], [1.0]]), np.concatenate([[0.0], after[inside], [1.0]])


def _rising(before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Knots that rise strictly, also in float32, from 0 to 1."""
    keep = [0]
    for i in range(1, len(before) - 1):
        if before[i] - before[keep[-1]] > 1e-6 and after[i] - after[keep[-1]] > 1e-6:
            keep.append(i)
    while len(keep) > 1 and (before[-1] - before[keep[-1]] <= 1e-6 or after[-1] - after[keep[-1]] <= 1e-6):
        keep.pop()
    index = [*keep, len(before) - 1]
    before, after = before[index].copy(), after[index].copy()
    before[-1] = after[-1] = 1.0
    return before, after
