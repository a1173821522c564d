"""Sets of classes where inputs are distributed otherwise than in calibration, by a ratio that is known."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import InputError, UQWarning, as_numeric, is_concrete
from .._typing import Array, ArrayLike, Key
from ._labels import LabelProcedure, below
from ._procedure import Conformal
from ._rank import weighted_threshold
from ._sets import PredictionSet
from .label_sets import base_of


class ShiftState(NamedTuple):
    """What is known from n calibration examples with weights."""

    scores: Array
    """Scores of the labels, `(n,)`."""
    weight: Array
    """Likelihood ratios, `(n,)`."""
    category: Array
    """One 0 for each class, `(C,)`."""
    settings: Array
    """Settings of the score."""


def covariate_shift(base: Conformal) -> Conformal:
    """Sets that cover where the inputs of the test differ from those of calibration by a known likelihood ratio.

    weight(x) = density of x in the test / density in calibration, up to a factor; a classifier that tells the two
    apart gives odds proportional to it. The labels' law given the input must be the same. The guarantee is as good as
    the ratio. Where few calibration examples carry most of the weight, thresholds are high or infinite: the effective
    number (Σw)²/Σw² says how few.

    Args:
      base: `lac()`, `aps()`, `raps()`, `saps()` or `top_k()`. Ties among scores are not broken at random.
    Returns:
      A `Conformal` with `fit(pred, y, weight=, key=None)` and `apply(state, pred, level, weight=, key=None)`; weights
      `(N,)`, in both calls by the same factor. Its sets carry no interval of realised coverage, whose law is unknown.
      An example whose own weight is too large for the level has the full set, with a warning.
    Raises:
      InputError: weights that are negative, not finite, of another length, or all 0 in calibration; otherwise as for
        `lac`.
    References:
      tibshirani2019, section 2.2. Checked against a loop, the unweighted procedure, and simulation under a shift.
    Example:
      >>> import numpy as np, uq
      >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]])
      >>> procedure = covariate_shift(uq.conformal.lac())
      >>> state = procedure.fit(probs, [0, 0, 0, 0], weight=[5.0, 5.0, 1.0, 1.0])
      >>> procedure.apply(state, np.array([[0.75, 0.25], [0.8, 0.2]]), level=0.7, weight=[1.0, 1.0]).size.tolist()
      [1, 1]
    """
    found = base_of("covariate_shift", base)
    each = _Shifted(found.score, found.allow_empty)
    return Conformal(each.name, each.fit_weighted, each.apply_weighted)


@dataclass(frozen=True)
class _Shifted(LabelProcedure):
    @property
    def name(self) -> str:
        return f"covariate_shift({self.score.name})"

    def fit_weighted(self, pred: Any, y: ArrayLike, *, weight: Any, key: Key | None = None) -> ShiftState:
        probs, labels, settings, key = self.prepared(pred, y, key)
        scores, _ = self.label_scores(probs, labels, settings, key)
        weight = self._weight(weight, scores)
        if is_concrete(weight) and not np.asarray(weight).any():
            raise InputError(f"`{self.name}` expected weights that are not all 0 in calibration.")
        return ShiftState(scores, weight, jnp.zeros(probs.shape[1], jnp.int32), settings)

    def apply_weighted(self, state: ShiftState, pred: Any, level: float = 0.9, *, weight: Any, key: Key | None = None
                       ) -> PredictionSet:  # fmt: skip
        self.check_level(level)
        scores, probs, chance = self.all_scores(state, pred, key)
        bound = weighted_threshold(state.scores, state.weight, self._weight(weight, scores), level)
        if is_concrete(bound) and np.isinf(np.asarray(bound)).any():
            full = int(np.isinf(np.asarray(bound)).sum())
            known = np.asarray(state.weight, np.float64)
            warnings.warn(
                f"{full} of {len(bound)} sets are full: these examples weigh too much for level {level:g} beside a "
                f"calibration set whose effective number is {known.sum() ** 2 / np.square(known).sum():.3g}.",
                UQWarning,
                stacklevel=2,
            )
        tie = jnp.ones((), chance.dtype)
        included = below(self.slack, self.allow_empty, scores, probs, chance, bound[:, None], tie)
        return PredictionSet(included, float(level), None)

    def _weight(self, weight: Any, scores: Array) -> Array:
        weight = as_numeric("weight", weight)
        if weight.shape != scores.shape[:1]:
            raise InputError(
                f"`{self.name}` expected `weight` of shape {scores.shape[:1]}, one an example, but got {weight.shape}."
            )
        weight = jnp.asarray(weight).astype(scores.dtype)
        if is_concrete(weight):
            values = np.asarray(weight)
            if not (np.isfinite(values).all() and (values >= 0).all()):
                raise InputError(
                    f"`{self.name}` expected weights that are finite and not negative, but they reach from "
                    f"{values.min():.4g} to {values.max():.4g}."
                )
        return weight
