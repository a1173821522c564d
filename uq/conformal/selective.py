"""Answering only where it is safe: a threshold on confidence with a guarantee for the answers given."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, UQWarning, check_count, check_finite, check_level
from .._typing import Array, ArrayLike
from ..metrics import _inputs
from ._bounds import p_value, upper_bound
from .risk import fixed_sequence


class Abstention(NamedTuple):
    """When to answer; found by `selective_threshold`."""

    threshold: float
    """Answer where confidence is above it; −inf is always, +inf never."""
    coverage: float
    """Share of the calibration examples answered."""
    risk: float
    """Mean loss of those answers; NaN where there is none."""
    bound: float
    """Upper confidence bound of the mean loss of answers to new examples."""

    def answers(self, confidence: ArrayLike) -> Array:
        """Which examples to answer, bool."""
        if isinstance(confidence, jax.Array):
            return confidence > self.threshold
        return jnp.asarray(np.asarray(confidence, np.float64) > self.threshold)  # as it was found: in float64


def selective_threshold(pred: Any = None, y: Any = None, *, risk: float, level: float = 0.95, confidence: Any = None,
                        loss: Any = None, bound: float = 1.0, thresholds: Any = None, num_levels: int = 20,
                        starts: int = 1) -> Abstention:  # fmt: skip
    """The lowest threshold on confidence above which answers are wrong in at most a share `risk` of cases.

    With probability `level` over the calibration set, the mean loss of new examples, given that they are answered, is
    at most `risk`. Without `thresholds`, a fixed list of shares of the calibration examples is tried, the most
    confident 1/num_levels, 2/num_levels, …, all, each at (1 − level) / num_levels. With a list of thresholds that was
    chosen before seeing these data they are tried from the highest down until one fails, at no price for their number.
    Losses of 0 and 1 have an exact binomial test and Clopper–Pearson's bound, others Hoeffding–Bentkus.

    The search by bisection of the paper pays for the log₂ n shares it looks at, though which ones these are depends on
    the data; the fixed list pays for all it might look at.

    Args:
      pred, y: class predictions and labels: confidence is the largest probability, the loss 1 for a wrong class.
      risk: mean loss of answers that is allowed, in the units of the loss.
      level: confidence of the promise.
      confidence, loss: `(n,)` each, in place of `pred` and `y`, higher where surer.
      bound: largest possible loss.
      thresholds: candidates, `(T,)`, fixed beforehand.
      num_levels: number of shares tried.
      starts: as for `learn_then_test`: how many equally spaced thresholds the search starts from.
    Returns:
      An `Abstention`; where nothing passes it never answers, with a warning.
    Raises:
      InputError: missing or doubled arguments, shapes that differ, a loss outside [0, bound].
    References:
      geifman2017, section 3; clopper1934; angelopoulos2025, section 2.3. Checked against loops and by simulation.
    Example:
      >>> import numpy as np
      >>> confidence = np.linspace(0, 1, 1000)
      >>> wrong = (np.arange(1000) % 2) * (confidence < 0.3)
      >>> found = selective_threshold(confidence=confidence, loss=wrong, risk=0.02)
      >>> found.coverage, round(found.threshold, 2), bool(found.answers(0.9))
      (0.7, 0.3, True)
    """
    name = "selective_threshold"
    check_level("level", level)
    sure, losses = _given(name, pred, y, confidence, loss, bound)
    if not 0 < risk < bound:
        raise InputError(f"`{name}` expected `risk` between 0 and the largest loss {bound:g}, but it is {risk!r}.")
    test: Any = "binomial" if ((losses == 0) | (losses == 1)).all() else "hoeffding_bentkus"
    if thresholds is None:
        num = check_count("num_levels", num_levels)
        ordered = np.sort(sure)[::-1]
        counts = np.unique(np.arange(1, num + 1) * len(sure) // num)
        candidates = np.array([ordered[k] if k < len(sure) else -np.inf for k in counts])
        allowed = (1 - level) / num
    else:
        candidates = np.unique(_inputs.array(name, "thresholds", thresholds, infinite=True))[::-1]
        starts = check_count("starts", starts)
        allowed = (1 - level) / starts
    values = np.array([float(p_value(test, losses[sure > t], risk / bound)) for t in candidates])
    passing = values <= allowed if thresholds is None else fixed_sequence(values, 1 - level, starts)
    if not passing.any():
        warnings.warn(
            f"`{name}` cannot show a risk of at most {risk:g} with {len(sure)} examples at any threshold: it never "
            f"answers. Without a single error {int(np.ceil(np.log(allowed) / np.log1p(-risk / bound)))} answers are "
            "needed.",
            UQWarning,
            stacklevel=2,
        )
        return Abstention(np.inf, 0.0, np.nan, np.nan)
    best = float(candidates[passing].min())
    taken = losses[sure > best]
    upper = upper_bound(test, taken, 1 - allowed) * bound
    return Abstention(best, len(taken) / len(sure), float(taken.mean() * bound), upper)


def _given(name: str, pred: Any, y: Any, confidence: Any, loss: Any, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Confidence and losses / bound, `(n,)` each, in float64."""
    by_pred, by_hand = pred is not None and y is not None, confidence is not None and loss is not None
    if by_pred == by_hand or (by_hand and (pred is not None or y is not None)):
        raise InputError(f"`{name}` expected either predictions of classes and labels, or `confidence=` and `loss=`.")
    if by_pred:
        probs, labels = (np.asarray(each) for each in _inputs.classes(name, pred, y))
        sure, losses = probs.max(1).astype(np.float64), (probs.argmax(1) != labels).astype(np.float64)
    else:
        sure, losses = (np.asarray(each, np.float64) for each in (confidence, loss))
    if sure.ndim != 1 or sure.shape != losses.shape or len(sure) == 0:
        raise InputError(
            f"`{name}` expected `confidence` and `loss` of one shape (n,), but got {sure.shape}, {losses.shape}."
        )
    check_finite("confidence", sure)
    losses = losses / bound
    if not ((losses >= 0) & (losses <= 1 + 1e-6)).all():
        raise InputError(f"`{name}` expected losses between 0 and `bound` = {bound:g}.")
    return sure, np.minimum(losses, 1.0)
