"""Temperature scaling: one number that makes all predictions surer or less sure."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import InputError, UQWarning, is_concrete
from .._typing import ArrayLike
from ..predictive import Predictive
from . import _classes
from ._recalibrator import Fitted, Recalibrator
from ._search import Found, fitted
from ._voters import fit_by_voters, parameter

_LEAST, _MOST = 0.01, 100.0
"""Bounds of 1 / T."""
_FEW = 1000
"""Rows that the search begins with, where there are many."""
_NUMBERS = 65_536
"""Log-probabilities looked at in one go."""


class TemperatureState(NamedTuple):
    """What `temperature` learns."""

    inverse: Any
    """1 / T: below 1, predictions were too sure."""
    num_classes: Any
    fitted: Fitted
    voters: Any = None
    """A `Voters`: what 1 / T becomes where more or fewer members vote."""


def temperature(*, spread: float = 1.0) -> Recalibrator:
    """Probabilities p ∝ p^(1/T), with the T that makes the outcomes most probable.

    One parameter: it needs few rows, never changes which class is most probable, and is the first thing to try. It
    cannot mend a bias towards some classes. T > 1 makes predictions less sure. It is applied to the mixture, so that
    what a good ensemble has already gained by disagreeing is not taken off twice.

    A normal prior about log T = 0 keeps the answer sensible where every outcome is the most probable class, so that
    sharper always looks better: a few rows of an easy task. Next to tens of rows that tell, it is nothing.

    1/T is searched between 0.01 and 100, and never negative; at an end of that range a warning says so.

    Args:
      spread: the prior's standard deviation; inf is maximum likelihood.
    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `TemperatureState`.
    Raises:
      InputError: a spread that is not positive; in `fit`, labels out of range, shapes that do not fit, predictions of
        another kind.
    References:
      guo2017, section 4.2. Checked against scipy.optimize.minimize_scalar, and by the mean of log p that maximum
      likelihood preserves.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.9, 0.9, 0.9, 0.1])  # three of four are right: 0.75
      >>> scaled = temperature(spread=np.inf)
      >>> state = scaled.fit(p, [1, 1, 1, 1])
      >>> np.asarray(scaled.apply(state, p).mean, float).round(3).tolist()
      [0.75, 0.75, 0.75, 0.25]
    """
    if not spread > 0:
        raise InputError(f"`spread` expected a positive standard deviation, or inf, but got {spread}.")

    def found(data: _classes.Sample) -> TemperatureState:
        found, before = search(data, spread)
        how = fitted("temperature", found, before)
        return TemperatureState(np.asarray(found.at[0]), np.asarray(data.num_classes), how)

    def fit(pred: Any, y: ArrayLike, weight: Any = None) -> TemperatureState:
        state = fit_by_voters("temperature", ("inverse",), found, pred, y, weight)
        if state.inverse in (_LEAST, _MOST):
            _warn_of_bound(float(state.inverse))
        return state

    return Recalibrator("temperature", fit, _apply, ("binary", "multiclass"))


def _apply(state: TemperatureState, pred: Any) -> Predictive:
    found = _classes.log_probs("temperature", pred)
    if is_concrete(state.num_classes):
        _classes.check_classes("temperature", int(state.num_classes), found.shape[1])
    inverse = jnp.clip(parameter(state, "inverse", pred, found.dtype), _LEAST, _MOST)
    return _classes.with_log_probs(pred, found * inverse[:, None])


def search(data: _classes.Sample, spread: float = 1.0) -> tuple[Found, float]:
    """The best 1 / T as `(1,)`, and the mean log loss at T = 1."""
    precision = 1 / (spread**2 * data.weight.sum())
    every = len(data.labels) // _FEW
    picked = np.take_along_axis(data.log_probs, data.labels[:, None], 1)[:, 0]
    picked -= data.log_probs.max(1)
    share = data.weight / data.weight.sum()

    def value(inverse: float) -> tuple[float, float, float]:
        """Loss, slope and curvature."""
        total, mean, square = _moments(data.log_probs, inverse)
        log = np.log(inverse)
        # Not `share @ each`: its threads wait for each other on a busy machine.
        each = np.log(total) - inverse * picked, mean - picked, square - np.square(mean)
        loss, slope, curve = (float(np.einsum("i,i->", share, part)) for part in each)
        return (
            loss + precision * log**2 / 2,
            slope + precision * log / inverse,
            curve + precision * (1 - log) / inverse**2,
        )

    at, low, high = 1.0, 0.0, np.inf
    loss, slope, curve = value(at)
    before = loss
    if every >= 20:  # what a few rows say is near what all do
        at = float(search(_classes.Sample(*(leaf[::every] for leaf in data)), spread)[0].at[0])
        loss, slope, curve = value(at)
    if precision == 0 and slope < -1e-14 and not picked.any():  # the loss falls for ever
        return Found(np.array([_MOST]), True, 1, value(_MOST)[0]), before
    for iteration in range(100):
        if abs(slope) <= 1e-14 * (1 + abs(loss)):
            return Found(np.array([at]), True, iteration, loss), before
        low, high = (at, high) if slope < 0 else (low, at)
        newton = at - slope / curve if curve > 0 else (np.inf if slope < 0 else 0.0)
        to = float(np.clip(newton, max(at / 4, _LEAST), min(4 * at, _MOST)))
        if not low < to < high:
            to = float(np.sqrt(low * high))
        step = to - at
        if abs(step) <= 1e-4 * at:  # Newton's next would be of its square
            return Found(np.array([to]), True, iteration, loss + step * (slope + step * curve / 2)), before
        at = to
        loss, slope, curve = value(at)
        if (at == _LEAST and slope >= 0) or (at == _MOST and slope <= 0):
            return Found(np.array([at]), True, iteration + 1, loss), before
    return Found(np.array([at]), False, 100, loss), before


def _moments(log_probs: np.ndarray, inverse: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each row, Σ_c e^(inverse · z_c), and the mean and mean square of z under those weights, z being
    log-probabilities below the largest: `(N,)` each, in one pass of blocks that stay in the cache."""
    size, width = log_probs.shape
    step = min(max(_NUMBERS // width, 1), size)
    found, scratch = np.empty((3, size)), np.empty((2, step, width))
    for start in range(0, size, step):
        part, into = log_probs[start : start + step], found[:, start : start + step]
        z, weight = scratch[:, : len(part)]
        np.subtract(part, part.max(1, keepdims=True), out=z)
        np.exp(np.multiply(z, inverse, out=weight), out=weight)
        np.einsum("ij->i", weight, out=into[0])
        np.einsum("ij->i", np.multiply(weight, z, out=weight), out=into[1])
        np.einsum("ij,ij->i", weight, z, out=into[2])
    found[1:] /= found[0]
    return found[0], found[1], found[2]


def _warn_of_bound(inverse: float) -> None:
    why = (
        "Predictions say nothing about the outcomes, or rank them the wrong way."
        if inverse == _LEAST
        else "Every outcome is the most probable class, so that surer looks better: are these few rows, or trained on?"
    )
    warnings.warn(
        f"`temperature` stays at T = {1 / inverse:g}, an end of the range that it searches. {why}",
        UQWarning,
        stacklevel=4,
    )
