"""Matrix scaling: new logits from all old ones, regularised off the diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import InputError
from . import _softmax
from ._recalibrator import Recalibrator

_DIAGONAL_SPREAD = 10.0
_OFF_DIAGONAL_SPREAD = 0.1
_INTERCEPT_SPREAD = 1.0


def matrix(*, off_diagonal: float | None = None, intercept: float | None = None) -> Recalibrator:
    """softmax(W z + b), with off-diagonal and intercept regularisation (ODIR).

    C² + C parameters: what is confused with what can be mended, given very many rows, and without regularisation it
    overfits badly. It may change which class is most probable. A mixture's logits z are its log-probabilities less
    their mean over classes: those of a network trained by cross-entropy, but for a constant.

    The objective is the mean log loss + λ · mean of squared off-diagonal entries + μ · mean of squared intercepts. The
    diagonal has a prior of standard deviation 10 about 1, which matters for separable classes alone.

    Args:
      off_diagonal: λ, at least 0; None takes that of a normal prior of standard deviation 0.1 for each of them,
        C (C − 1) / (2 · 0.1² · N).
      intercept: μ, at least 0; None takes that of a standard normal prior, C / (2 N).
    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `LinearState` with slope `(C, C)`.
    Raises:
      InputError: a negative penalty; in `fit`, a class of which there is no outcome, labels out of range, shapes that
        do not fit.
    References:
      guo2017, section 4.2; kull2019, section 3 (ODIR). Checked against scipy.optimize.minimize on the plain objective.
    Example:
      >>> import numpy as np
      >>> p = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]] * 20)
      >>> matrix().fit(p, [0, 1, 2] * 20).slope.shape
      (3, 3)
    """
    return _softmax.recalibrator("matrix", odir("matrix", off_diagonal, intercept), full=True, centred=True)


def odir(name: str, off_diagonal: float | None, intercept: float | None) -> Any:
    """The `Prior` of penalties λ and μ, by the number of classes and the weight of all rows."""
    for setting, value in (("off_diagonal", off_diagonal), ("intercept", intercept)):
        if value is not None and not (np.isfinite(value) and value >= 0):
            raise InputError(
                f"`{name}` expected `{setting}` to be a penalty of at least 0, or None, but it is {value}."
            )

    def prior(num_classes: int, total: float) -> _softmax.Prior:
        off = 1 / (_OFF_DIAGONAL_SPREAD**2 * total)
        if off_diagonal is not None:
            off = 2 * off_diagonal / (num_classes * (num_classes - 1))
        shift = 1 / (_INTERCEPT_SPREAD**2 * total) if intercept is None else 2 * intercept / num_classes
        slope = np.full((num_classes, num_classes), off)
        np.fill_diagonal(slope, 1 / (_DIAGONAL_SPREAD**2 * total))
        return _softmax.Prior(slope, shift)

    return prior
