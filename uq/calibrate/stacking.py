"""Member weights by what they contribute to held-out predictions."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import InputError
from .._typing import ArrayLike
from ..metrics._estimate import check_weight
from ..metrics.decomposition import member_scores
from ..predictive import Predictive
from ._recalibrator import Fitted, Recalibrator


class StackingState(NamedTuple):
    """Of `stacking`."""

    weight: Any
    """Of the members, `(M,)`."""
    fitted: Fitted


def stacking(*, max_steps: int = 2000) -> Recalibrator:
    """The member weights whose mixture has the highest likelihood of the calibration outcomes.

    A concave problem; by expectation maximisation from the weights at hand, until no step gains 1e-9 nats an example.
    Members of an ordinary ensemble differ little, and equal weights are hard to beat: it is for ensembles of different
    networks, or with failures among them. For a shared hold-out: out of fold, members speak for different rows.

    References:
      yao2018, eq. 5 (stacking of predictive distributions). Checked against scipy.optimize under constraints.
    Example:
      >>> import jax.numpy as jnp, numpy as np, uq
      >>> outputs = jnp.stack([jnp.zeros((200, 2)), jnp.full((200, 2), 3.0)])
      >>> pred, y = uq.Predictive(outputs, uq.likelihoods.Gaussian()), np.random.default_rng(0).normal(size=200)
      >>> bool(uq.calibrate.stacking().fit(pred, y * 0.7).weight[0] > 0.9)
      True
    """

    def fit(pred: Any, y: ArrayLike, weight: ArrayLike | None = None) -> StackingState:
        pred = _members(pred)
        pred._check_y(y)
        loss, start = member_scores("stacking", pred, y, "log")
        live = np.flatnonzero(np.asarray(pred.weight) > 0)
        log_prob = -np.asarray(loss, np.float64)
        share = np.ones(log_prob.shape[1]) if weight is None else check_weight("stacking", weight, log_prob.shape[1])
        share = np.asarray(share, np.float64) / np.sum(share)
        top = log_prob.max(0)
        if not np.isfinite(top[share > 0]).all():
            raise InputError("`stacking` found an outcome that no member thinks possible: its weights have no optimum.")
        density = np.where(share > 0, np.exp(log_prob - np.where(share > 0, top, 0)), 1)
        own = np.asarray(start, np.float64) / np.sum(start)
        before = value = float(share @ np.log(own @ density))
        gained, steps = np.inf, 0
        while gained >= 1e-9 and steps < max_steps:
            own = own * (density @ (share / (own @ density)))
            after = float(share @ np.log(own @ density))
            gained, value, steps = after - value, after, steps + 1
        whole = np.zeros(pred.num_members)
        whole[live] = own / own.sum()
        offset = float(share @ np.where(share > 0, top, 0))
        fitted = Fitted(*map(jnp.asarray, (gained < 1e-9, steps, -before - offset, -value - offset)))
        return StackingState(jnp.asarray(whole, jnp.result_type(float)), fitted)

    def apply(state: StackingState, pred: Any) -> Predictive:
        pred = _members(pred)
        if state.weight.shape != pred.weight.shape:
            raise InputError(
                f"`stacking` was fitted to {state.weight.shape[0]} members, but these are {pred.num_members}."
            )
        return Predictive(pred.outputs, pred.likelihood, state.weight.astype(pred.weight.dtype))

    return Recalibrator("stacking", fit, apply, ("regression", "binary", "multiclass"))


def _members(pred: Any) -> Predictive:
    if not isinstance(pred, Predictive) or pred.num_members < 2:
        raise InputError("`stacking` weighs the members of a Predictive, of which there must be two at least.")
    if pred.weight.ndim > 1:
        raise InputError(
            "`stacking` weighs members that all speak for all examples, but these have weights of every example's "
            "own (out of fold): fit it on a shared hold-out."
        )
    return pred
