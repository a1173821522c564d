"""Vector scaling: a slope and a bias for every class."""

from __future__ import annotations

import numpy as np

from . import _softmax
from ._recalibrator import Recalibrator

_SPREAD = 10.0


def vector() -> Recalibrator:
    """softmax(s ∘ z + b): the logit of every class has its own slope and bias.

    2C parameters, which mend a bias towards some classes as well as too much sureness; with few rows a class it fits
    noise, and it may change which class is most probable. A mixture's logits z are its log-probabilities less their
    mean over classes: those of a network trained by cross-entropy, but for a constant.

    A normal prior of standard deviation 10 about s = 1, b = 0 keeps the answer finite where classes are separable; next
    to more than a handful of rows it is nothing.

    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `LinearState` with slope `(C,)`.
    Raises:
      InputError: in `fit`, a class of which there is no outcome; labels out of range, shapes that do not fit.
    References:
      guo2017, section 4.2. Checked against scipy.optimize.minimize on a plain log loss.
    Example:
      >>> import numpy as np
      >>> p = np.array([[0.5, 0.3, 0.2], [0.2, 0.5, 0.3], [0.3, 0.2, 0.5]] * 20)
      >>> state = vector().fit(p, [0, 1, 2] * 10 + [0, 1, 1] * 10)  # class 1 is said too rarely
      >>> bool(state.intercept[1] > state.intercept[2])
      True
    """

    def prior(num_classes: int, total: float) -> _softmax.Prior:
        precision = 1 / (_SPREAD**2 * total)
        return _softmax.Prior(np.full(num_classes, precision), precision)

    return _softmax.recalibrator("vector", prior, full=False, centred=True)
