"""Dirichlet calibration: a linear map of log-probabilities."""

from __future__ import annotations

from . import _softmax
from ._recalibrator import Recalibrator
from .matrix import odir


def dirichlet(*, off_diagonal: float | None = None, intercept: float | None = None) -> Recalibrator:
    """softmax(W log p + b), with off-diagonal and intercept regularisation (ODIR).

    It is what Bayes' rule says if the predictions p of each class's examples have a Dirichlet distribution; with two
    classes it has the form of `beta`. As `matrix`, but of log-probabilities as they are: it also sees how improbable
    all other classes are on the whole. C² + C parameters, which need very many rows; it may change which class is most
    probable.

    Args:
      off_diagonal: λ, the penalty on the mean of squared off-diagonal entries, at least 0; None takes that of a normal
        prior of standard deviation 0.1 for each of them, C (C − 1) / (2 · 0.1² · N).
      intercept: μ, the same for intercepts; None takes that of a standard normal prior, C / (2 N).
    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `LinearState` with slope `(C, C)`.
    Raises:
      InputError: a negative penalty; in `fit`, a class of which there is no outcome, labels out of range, shapes that
        do not fit.
    References:
      kull2019, eq. 3 and section 3 (ODIR). Checked against scipy.optimize.minimize on the plain objective.
    Example:
      >>> import numpy as np
      >>> p = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]] * 20)
      >>> dirichlet().fit(p, [0, 1, 2] * 20).slope.shape
      (3, 3)
    """
    return _softmax.recalibrator("dirichlet", odir("dirichlet", off_diagonal, intercept), full=True, centred=False)
