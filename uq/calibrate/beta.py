"""Beta calibration: log p and log (1 − p) with slopes of their own."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._typing import ArrayLike
from ..predictive import Predictive
from . import _classes
from ._recalibrator import Fitted, Recalibrator
from ._search import fitted, log_loss, logistic, weak_prior
from ._voters import fit_by_voters, parameter

_SPREAD = 10.0


class BetaState(NamedTuple):
    """What `beta` learns: new log-odds are a log p − b log (1 − p) + c."""

    a: Any
    """Not negative."""
    b: Any
    """Not negative."""
    c: Any
    fitted: Fitted
    voters: Any = None
    """A `Voters`: what the three become where more or fewer members vote."""


def beta() -> Recalibrator:
    """New log-odds are a log p − b log (1 − p) + c, with a, b ≥ 0.

    It is what Bayes' rule says if the predictions p of each class's examples have a beta distribution. Three
    parameters: `platt` with a = b, the identity with a = b = 1, c = 0; unlike `platt` it can mend p near 0 and p near 1
    by different amounts. Never falling, it keeps the order of predictions.

    A normal prior of standard deviation 10 about the identity keeps the answer finite where outcomes are separable.

    Returns:
      A `Recalibrator` for "binary" predictions; its state is a `BetaState`.
    Raises:
      InputError: in `fit`, outcomes of one class, more than two classes, labels out of range, shapes that do not fit.
    References:
      kull2017, eq. 2 and section 3. Checked against scipy.optimize.minimize with bounds on a plain log loss.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.2, 0.4, 0.6, 0.8] * 25)
      >>> y = np.array([0, 0, 1, 1] * 20 + [1, 0, 1, 0] * 5)
      >>> state = beta().fit(p, y)
      >>> bool(state.a >= 0), bool(state.b >= 0)
      (True, True)
    """
    return Recalibrator("beta", _fit, _apply, ("binary",))


def _fit(pred: Any, y: ArrayLike, weight: Any = None) -> BetaState:
    return fit_by_voters("beta", ("a", "b", "c"), _found, pred, y, weight)


def _found(data: _classes.Sample) -> BetaState:
    _classes.needs_two_classes("beta", data.num_classes)
    _classes.needs_every_class("beta", data)
    design = np.stack([data.log_probs[:, 1], -data.log_probs[:, 0], np.ones(len(data.labels))], 1)
    event = data.labels.astype(np.float64)
    penalty = weak_prior([_SPREAD] * 3, data.weight)
    found = logistic(design, event, data.weight, [1, 1, 0], penalty, positive=[True, True, False])
    a, b, c = map(np.asarray, found.at)
    before, after = (
        float(np.average(log_loss(design @ at, event), weights=data.weight)) for at in (np.array([1, 1, 0]), found.at)
    )
    return BetaState(a, b, c, fitted("beta", found, before, after))


def _apply(state: BetaState, pred: Any) -> Predictive:
    found = _classes.log_probs("beta", pred)
    _classes.check_classes("beta", 2, found.shape[1])
    a, b, c = (parameter(state, each, pred, found.dtype) for each in ("a", "b", "c"))
    a, b = jnp.maximum(a, 0), jnp.maximum(b, 0)
    odds = a * found[:, 1] - b * found[:, 0] + c
    return _classes.with_log_probs(pred, jnp.stack([jnp.zeros_like(odds), odds], 1))
