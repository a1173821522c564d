"""Softmax regression on the log-probabilities of classes: what vector, matrix and Dirichlet scaling search."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from .._typing import Array, ArrayLike
from ..predictive import Predictive
from . import _classes
from ._recalibrator import Fitted, Recalibrator
from ._search import Found, fitted
from ._voters import fit_by_voters, gap
from .temperature import search as best_temperature

_MOST = 1000


class LinearState(NamedTuple):
    """What `vector`, `matrix` and `dirichlet` learn: new logits are `slope` times the old ones plus `intercept`."""

    slope: Any
    """`(C,)`, one number a class, or `(C, C)`, the row of each class its own logit's."""
    intercept: Any
    """`(C,)`."""
    fitted: Fitted
    voters: Any = None
    """A `Voters`: what both become where more or fewer members vote."""


class Prior(NamedTuple):
    """Precisions of normal priors about the identity map, per row of data: penalties of the mean log loss."""

    slope: np.ndarray
    """Of the slope's shape."""
    intercept: float


def recalibrator(name: str, prior: Any, *, full: bool, centred: bool) -> Recalibrator:
    """A linear map of log-probabilities, followed by softmax.

    Args:
      prior: `prior(num_classes, total_weight)`, a `Prior`.
      full: whether each new logit depends on all old ones, or on its own alone.
      centred: whether logits are log-probabilities less their mean over classes, or as they are.
    """

    def found(data: _classes.Sample) -> LinearState:
        _classes.needs_every_class(name, data)
        logits = data.log_probs - data.log_probs.mean(1, keepdims=True) if centred else data.log_probs
        return _search(name, logits, data, prior(data.num_classes, data.weight.sum()), full)

    def fit(pred: Any, y: ArrayLike, weight: Any = None) -> LinearState:
        return fit_by_voters(name, ("slope", "intercept"), found, pred, y, weight)

    def apply(state: LinearState, pred: Any) -> Predictive:
        found = _classes.log_probs(name, pred)
        _classes.check_classes(name, len(state.intercept), found.shape[1])
        change, more = state.voters.change, gap(state, pred, found.dtype)
        new = _moved(centred, state.slope, state.intercept, found)
        new = new + more[:, None] * _moved(centred, change["slope"], change["intercept"], found)
        return _classes.with_log_probs(pred, new)

    return Recalibrator(name, fit, apply, ("binary", "multiclass"))


@functools.partial(jax.jit, static_argnums=0)
def _moved(centred: bool, slope: Array, intercept: Array, logits: Array) -> Array:
    if centred:
        logits = logits - logits.mean(1, keepdims=True)
    slope, intercept = slope.astype(logits.dtype), intercept.astype(logits.dtype)
    return (logits * slope if slope.ndim == 1 else logits @ slope.T) + intercept


def _search(name: str, logits: np.ndarray, data: _classes.Sample, prior: Prior, full: bool) -> LinearState:
    """By L-BFGS, in units in which the curvature at the start is about 1 for every parameter."""
    from scipy.optimize import minimize

    size = data.num_classes
    share = data.weight / data.weight.sum()
    rows = np.arange(len(share))
    identity = np.eye(size) if full else np.ones(size)
    start, before = best_temperature(data)
    begin = np.concatenate([(identity * start.at).ravel(), np.zeros(size)])
    centre = np.concatenate([identity.ravel(), np.zeros(size)])
    precision = np.concatenate([prior.slope.ravel(), np.full(size, prior.intercept)])

    def probs(at: np.ndarray) -> np.ndarray:
        slope, intercept = at[:-size].reshape(identity.shape), at[-size:]
        new = (logits @ slope.T if full else logits * slope) + intercept
        return new - _log_sum(new)

    def value(unit: np.ndarray) -> tuple[float, np.ndarray]:
        at = begin + scale * unit
        new = probs(at)
        loss = -(share @ new[rows, data.labels])
        gap = np.exp(new, out=new)
        gap[rows, data.labels] -= 1
        gap *= share[:, None]
        slope = gap.T @ logits if full else np.einsum("ij,ij->j", gap, logits)
        away = precision * (at - centre)
        grad = np.concatenate([slope.ravel(), gap.sum(0)]) + away
        return float(loss + (at - centre) @ away / 2), scale * grad

    at = np.exp(probs(begin))
    spread = share[:, None] * at * (1 - at)
    curve = spread.T @ np.square(logits) if full else np.einsum("ij,ij->j", spread, np.square(logits))
    scale = 1 / np.sqrt(np.concatenate([curve.ravel(), spread.sum(0)]) + precision + 1e-12)
    options = {"maxiter": _MOST, "maxfun": 2 * _MOST, "ftol": 1e-13, "gtol": 1e-7, "maxcor": 20}
    found = minimize(value, np.zeros(len(begin)), jac=True, method="L-BFGS-B", options=options)
    # Where rounding stops the line search, what counts is whether there is anything left to gain.
    arrived = bool(found.success) or float(np.abs(found.jac).max()) < 1e-5
    best = begin + scale * found.x
    after = -float(share @ probs(best)[rows, data.labels])
    how = fitted(name, Found(best, arrived, int(found.nit), after), before)
    return LinearState(best[:-size].reshape(identity.shape), best[-size:], how)


def _log_sum(logits: np.ndarray) -> np.ndarray:
    top = logits.max(1, keepdims=True)
    return top + np.log(np.exp(logits - top).sum(1, keepdims=True))
