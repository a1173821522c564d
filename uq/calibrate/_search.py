"""Newton's method in float64 on the host, for convex objectives of a few parameters; some may have to stay ≥ 0."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._checks import UQWarning
from ._recalibrator import Fitted

_MOST = 100


class Value(NamedTuple):
    """An objective at a point, with its derivatives."""

    loss: float
    slope: np.ndarray
    """`(P,)`."""
    curve: np.ndarray
    """`(P, P)`."""


class Found(NamedTuple):
    at: np.ndarray
    converged: bool
    iterations: int
    loss: float


def newton(value: Callable[[np.ndarray], Value], start: Any, positive: Any = False) -> Found:
    """The minimum of a convex function, by Newton steps that are halved until they gain.

    Args:
      value: the objective with its derivatives.
      start: where to begin, `(P,)`.
      positive: which parameters may not be below 0. Those at 0 whose slope would take them below it are held there,
        the others take a Newton step and are cut at 0.
    References:
      bertsekas1982, section 2.
    """
    at = np.array(start, np.float64)
    bounded = np.broadcast_to(np.asarray(positive, bool), at.shape)
    here = value(at)
    for iteration in range(_MOST):
        free = ~(bounded & (at <= 1e-12) & (here.slope > 0))
        step = np.zeros_like(at)
        curve = here.curve[np.ix_(free, free)]
        step[free] = -np.linalg.lstsq(curve, here.slope[free], rcond=1e-14)[0]
        gain = -float(here.slope @ step)
        if gain <= 1e-13 * (1 + abs(here.loss)):
            return Found(at, True, iteration, here.loss)
        size = 1.0
        while True:
            to = at + size * step
            to[bounded] = np.maximum(to[bounded], 0)
            there = value(to)
            if there.loss <= here.loss + 1e-4 * float(here.slope @ (to - at)):
                break
            size /= 2
            if size < 1e-10:  # rounding hides what is left to gain
                return Found(at, gain < 1e-8, iteration, here.loss)
        at, here = to, there
    return Found(at, False, _MOST, here.loss)


def logistic(
    design: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray,
    start: Any,
    penalty: np.ndarray,
    positive: Any = False,
) -> Found:
    """Coefficients of a logistic regression, with a quadratic penalty about `start`.

    The objective is the mean log loss + (θ − start)ᵀ penalty (θ − start) / 2.

    Args:
      design: `(N, P)`.
      target: probability of the event in each row, `(N,)`; 0 or 1 for outcomes as they are.
      weight: `(N,)`.
      start: `(P,)`.
      penalty: `(P, P)`.
      positive: which coefficients may not be below 0.
    """
    start = np.asarray(start, np.float64)
    share = weight / weight.sum()

    def value(at: np.ndarray) -> Value:
        odds = design @ at
        p = sigmoid(odds)
        away = penalty @ (at - start)
        loss = share @ log_loss(odds, target) + (at - start) @ away / 2
        slope = design.T @ (share * (p - target)) + away
        return Value(float(loss), slope, design.T @ ((share * p * (1 - p))[:, None] * design) + penalty)

    return newton(value, start, positive)


def sigmoid(odds: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    return expit(odds)


def log_loss(odds: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Minus the log-probability of `target` under log-odds."""
    return np.logaddexp(0, odds) - target * odds


def weak_prior(spread: Any, weight: np.ndarray) -> np.ndarray:
    """The penalty of a mean log loss that is a normal prior with standard deviations `spread` `(P,)`."""
    return np.diag(1 / (np.square(np.asarray(spread, np.float64)) * weight.sum()))


def fitted(name: str, found: Any, before: float, after: float | None = None) -> Fitted:
    """How a search went, as arrays; warns where it did not arrive."""
    if not found.converged:
        warnings.warn(
            f"`{name}` did not converge in {found.iterations} iterations: it stands at a mean loss of "
            f"{found.loss:.6g}. Its probabilities can be used, but they are not the best of their kind. Are there "
            "few rows for its number of parameters, or predictions of extreme size?",
            UQWarning,
            stacklevel=3,
        )
    after = found.loss if after is None else after
    return Fitted(
        np.asarray(found.converged), np.asarray(found.iterations, np.int32), np.asarray(before), np.asarray(after)
    )
