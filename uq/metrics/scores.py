"""Scores of single predictions: one value an example, lower is better."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import laws
from .._checks import InputError, check_level
from .._typing import Array, ArrayLike
from ..predictive import Predictive
from . import _inputs


def log_score(pred: Any, y: ArrayLike) -> Array:
    """Negative log-density, or negative log-probability, of what came about; also called NLL.

    Nothing is clipped: an outcome that was given probability 0 scores infinity.

    Args:
      pred: a `Predictive`, class probabilities `(N, C)` (or `(N,)`, P(1), for two classes), or a numpyro
        distribution of batch shape `(N,)`.
      y: outcomes `(N,)`, or `(N, D)` for several outputs, in the user's units; labels for classes.
    Returns:
      `(N,)`, in nats, joint over several outputs. A change of units of `y` by a factor c adds log c an
        output.
    Raises:
      InputError: shapes that do not fit, labels out of range, numbers that are not probabilities.
    References:
      gneiting2007, section 4.1. Checked against scipy.stats.norm and numerical mixtures.
    Example:
      >>> import numpy as np
      >>> print(log_score(np.array([[0.5, 0.5], [0.25, 0.75]]), [0, 1]))
      [0.6931472 0.2876821]
    """
    if isinstance(pred, Predictive):
        return -pred.log_prob(y)
    if _inputs.is_distribution(pred):
        return -pred.log_prob(_inputs.outcomes("log_score", pred, y))
    probs, labels = _inputs.classes("log_score", pred, y)
    module = _inputs.numeric(probs, labels)
    chosen = module.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
    if module is np:
        with np.errstate(divide="ignore"):
            return _inputs.result(-np.log(chosen))
    return -module.log(chosen)


def crps(pred: Any, y: ArrayLike) -> Array:
    """Continuous ranked probability score, ∫ (F(t) − 1{t ≥ y})² dt, in closed form for mixtures of normals.

    It generalises the absolute error: a certain prediction scores |y − prediction|. It is less strict about
    tails than `log_score`.

    Args:
      pred: a regression `Predictive` (its exact mixture), or a numpyro Normal.
      y: outcomes `(N,)` or `(N, D)`.
    Returns:
      `(N,)`, or for several outputs one an output, `(N, D)`; in the units of `y`.
    Raises:
      InputError: not a regression, or shapes that do not fit.
    References:
      gneiting2005, eq. 5; grimit2006, eq. 5. Checked against numerical integration of the definition.
    Example:
      >>> import numpyro.distributions as dist
      >>> round(float(crps(dist.Normal(0.0, 1.0), 0.0)), 4)
      0.2337
    """
    if _inputs.is_distribution(pred):
        return laws.crps(pred, _inputs.outcomes("crps", pred, y))
    return _inputs.regression("crps", pred).crps(y)


def brier_score(pred: Any, y: ArrayLike) -> Array:
    """Squared distance between class probabilities and what came about.

    With C ≥ 3 classes it is Σ_c (p_c − 1{y = c})², between 0 and 2; some papers divide it by C. With two
    classes it is (p − y)², with p = P(1), between 0 and 1: the same answer for probabilities given as `(N,)`,
    `(N, 1)` or `(N, 2)`, by a Bernoulli or by a two-class Categorical. (Brier's own definition sums over both
    classes and is twice that.) scikit-learn's `brier_score_loss` has the same convention.

    Args:
      pred: a `Predictive` of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
    Returns:
      `(N,)`.
    Raises:
      InputError: shapes that do not fit, labels out of range, numbers that are not probabilities.
    References:
      brier1950; gneiting2007, section 3.1. Checked against a loop and scikit-learn.
    Example:
      >>> import numpy as np
      >>> brier_score(np.array([0.25, 1.0]), [1, 1]).tolist()
      [0.5625, 0.0]
      >>> brier_score(np.array([[0.5, 0.25, 0.25]]), [0]).tolist()
      [0.375]
    """
    probs, labels = _inputs.classes("brier_score", pred, y)
    module = _inputs.numeric(probs, labels)
    if probs.shape[1] == 2:
        return _inputs.result(module.square(probs[:, 1] - labels.astype(probs.dtype)))
    happened = (labels[:, None] == np.arange(probs.shape[1])).astype(probs.dtype)
    return _inputs.result(module.square(probs - happened).sum(1))


def squared_error(pred: Any, y: ArrayLike) -> Array:
    """(y − mean)², the score of the mean alone.

    Args:
      pred: a regression `Predictive`, or point predictions `(N,)` or `(N, D)`.
      y: outcomes of the same shape.
    Returns:
      `(N,)` or `(N, D)`, in squared units of `y`.
    Raises:
      InputError: not a regression, shapes that differ, numbers that are not finite.
    Example:
      >>> squared_error([1.0, 2.0], [1.5, 2.0]).tolist()
      [0.25, 0.0]
    """
    gap = _inputs.points("squared_error", pred, y)
    return _inputs.result(gap * gap)


def interval_width(pred: Any, *, level: float = 0.9) -> Array:
    """Width of the central interval; narrower is better among predictions that keep their coverage.

    Args:
      pred: a regression `Predictive`, or a pair (lower, upper).
      level: the interval's nominal coverage, for a `Predictive`; a pair has its own.
    Returns:
      `(N,)` or `(N, D)`, in the units of `y`.
    Raises:
      InputError: a level outside (0, 1), ends that cross or differ in shape.
    Example:
      >>> interval_width(([0.0, 1.0], [2.0, 1.5])).tolist()
      [2.0, 0.5]
    """
    check_level("level", level)
    if _inputs.is_pair(pred):
        lower, upper = _inputs.bounds("interval_width", pred)
        return _inputs.result(upper - lower)
    if not isinstance(pred, Predictive):
        raise InputError("`interval_width` expected a Predictive or a pair (lower, upper).")
    return _inputs.regression("interval_width", pred).width(level)
