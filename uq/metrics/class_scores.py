"""Scores of class probabilities: one value an example, lower is better. `log_score` is in `scores`."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import Array, ArrayLike
from . import _inputs, _route


def brier_score(pred: Any, y: ArrayLike) -> Array:
    """Squared distance between class probabilities and what came about.

    With C ≥ 3 classes it is Σ_c (p_c − 1{y = c})², between 0 and 2; some papers divide it by C. With two
    classes it is (p − y)², with p = P(1), between 0 and 1: the same answer for probabilities given as `(N,)`,
    `(N, 1)` or `(N, 2)`, by a Bernoulli or by a two-class Categorical. (Brier's own definition sums over both
    classes and is twice that.) scikit-learn's `brier_score_loss` has the same convention.

    Args:
      pred: a `Predictive` or a numpyro distribution of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
    Returns:
      `(N,)`, without units; lower is better.
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
    return _route.run(_brier, *_inputs.classes("brier_score", pred, y))


def spherical_score(pred: Any, y: ArrayLike) -> Array:
    """1 − p_y / ‖p‖, between 0 and 1: one minus the cosine of the angle between probabilities and outcome.

    Strictly proper and bounded, so that a confident mistake costs at most 1, where `log_score` may be infinite. It is
    the pseudospherical score of order 2, turned over and shifted so that 0 is best.

    Args:
      pred: a `Predictive` or a numpyro distribution of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
    Returns:
      `(N,)`, without units; lower is better.
    Raises:
      InputError: shapes that do not fit, labels out of range, numbers that are not probabilities.
    References:
      gneiting2007, section 3, the spherical score. Checked against a loop.
    Example:
      >>> spherical_score([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [0, 1]).tolist()
      [0.0, 1.0]
    """
    return _route.run(_spherical, *_inputs.classes("spherical_score", pred, y))


def zero_one_score(pred: Any, y: ArrayLike) -> Array:
    """1 where the most probable class is not the one that came about: the misclassification loss.

    Proper, but not strictly: it sees which class is most probable and no probability. Among equally probable classes
    the first is the guess, as in `accuracy`, which is one minus the mean of this.

    Args:
      pred: a `Predictive` or a numpyro distribution of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
    Returns:
      `(N,)`, 0 or 1; lower is better.
    Raises:
      InputError: shapes that do not fit, labels out of range, numbers that are not probabilities.
    References:
      gneiting2007, section 3, the zero–one score. Checked against scikit-learn's zero_one_loss.
    Example:
      >>> zero_one_score([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], [0, 1]).tolist()
      [0.0, 1.0]
    """
    return _route.run(_zero_one, *_inputs.classes("zero_one_score", pred, y))


def ranked_probability_score(pred: Any, y: ArrayLike) -> Array:
    """Σ_c (P(Y ≤ c) − 1{y ≤ c})² over all but the last of C ordered classes: near misses cost less than far ones.

    The sum is not divided by C − 1, so that the score is at most C − 1 and, on classes that are equally spaced
    numbers, equal to the continuous ranked probability score in units of the spacing. With two classes it is the
    Brier score (p − y)². It misleads for classes that have no order.

    Args:
      pred: a `Predictive` or a numpyro distribution of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`,
        the classes in their order.
      y: labels `(N,)`, from 0 to C − 1.
    Returns:
      `(N,)`, in steps between classes; lower is better.
    Raises:
      InputError: shapes that do not fit, labels out of range, numbers that are not probabilities.
    References:
      epstein1969. Checked against a loop, the sum of the Brier scores of all thresholds, and scoringrules.
    Example:
      >>> ranked_probability_score([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5]], [0, 0]).tolist()
      [0.25, 0.5]
    """
    return _route.run(_ranked, *_inputs.classes("ranked_probability_score", pred, y))


def _happened(xp: Any, probs: Any, labels: Any) -> Any:
    return (labels[:, None] == np.arange(probs.shape[1])).astype(probs.dtype)


def _brier(xp: Any, probs: Any, labels: Any) -> Any:
    if probs.shape[1] == 2:
        return xp.square(probs[:, 1] - labels.astype(probs.dtype))
    return xp.square(probs - _happened(xp, probs, labels)).sum(1)


def _spherical(xp: Any, probs: Any, labels: Any) -> Any:
    chosen = xp.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
    return 1 - chosen / xp.sqrt((probs * probs).sum(1))


def _zero_one(xp: Any, probs: Any, labels: Any) -> Any:
    return (probs.argmax(1) != labels).astype(probs.dtype)


def _ranked(xp: Any, probs: Any, labels: Any) -> Any:
    if probs.shape[1] == 2:
        return xp.square(probs[:, 1] - labels.astype(probs.dtype))
    return xp.square(xp.cumsum(probs - _happened(xp, probs, labels), axis=1)[:, :-1]).sum(1)
