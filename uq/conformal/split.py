"""Split conformal prediction: one threshold from held-out outcomes, exact for finite samples."""

from __future__ import annotations

from typing import Any, NamedTuple

from .._typing import ArrayLike
from ._procedure import Conformal, PredictionInterval, Score, ends_at, parts_like, scored
from ._rank import check_scores, fraction, limit, realised_coverage
from .scores import absolute


class SplitState(NamedTuple):
    """What split procedures remember."""

    scores: Any
    """Scores of the calibration outcomes, `(n,)` or `(n, D)`, in their order."""


def split(score: Score | None = None) -> Conformal:
    """Intervals that hold a new outcome with probability `level` at least, from n outcomes that trained nothing.

    The threshold is the ⌈(n + 1) level⌉-th smallest score. The guarantee is over the calibration set and the new
    example together, if they are exchangeable: level ≤ coverage ≤ level + 1 / (n + 1) for scores without ties,
    whatever the model. It is marginal: it may cover too much for easy examples and too little for hard ones
    (`mondrian` holds it in groups). Given this calibration set, coverage is Beta(k, n + 1 − k): `realised` is its
    interval. Early stopping, recalibration or selection on the same outcomes void it, and so does drift (`aci`).

    `fit(pred, y)` takes predictions for outcomes `y` `(n,)` or `(n, D)`; `apply(state, pred, level=0.9)` returns a
    `PredictionInterval`. Several outputs are treated one by one, each with coverage `level`: for all at once,
    `max_norm`, `copula` and `ellipsoid`.

    Args:
      score: `absolute` (the default), `normalized`, `gamma`, `distributional`, `cqr`, `cqr_r`, `uacqr`.
    Raises:
      InputError: shapes that differ, outcomes that are not finite, scores that are NaN, a level outside (0, 1),
        another number of outputs than in `fit`.
      UQWarning: fewer than level / (1 − level) outcomes; intervals are then infinite, as they must be.
    References:
      papadopoulos2002; vovk2005, section 4.1; lei2018, theorem 2.2; vovk2012, proposition 2a (`realised`). Checked
      against plain Python, enumeration of all orders for n ≤ 8, and the beta-binomial law of coverage.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.split()
      >>> state = procedure.fit(np.zeros(19), np.arange(19.0))
      >>> lower, upper = procedure.apply(state, np.zeros(1), level=0.9)
      >>> float(lower[0]), float(upper[0])
      (-17.0, 17.0)
    """
    score = absolute() if score is None else score
    name = f"split({score.name})"

    def fit(pred: Any, y: ArrayLike) -> SplitState:
        return SplitState(check_scores(name, scored(name, score, pred, y)[1]))

    def apply(state: SplitState, pred: Any, *, level: float = 0.9) -> PredictionInterval:
        fraction(level)
        parts = parts_like(name, score, pred, state.scores.shape[1:])
        lower, upper = ends_at(score, parts, limit(state.scores, level, name="examples"))
        return PredictionInterval(lower, upper, float(level), realised_coverage(state.scores.shape[0], level))

    return Conformal(name, fit, apply)
