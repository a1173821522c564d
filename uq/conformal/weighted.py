"""Calibration outcomes that do not all count alike: covariate shift, and neighbourhoods."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from .._typing import ArrayLike, Key
from ..members import as_key
from ..metrics import _inputs
from ._procedure import Conformal, PredictionInterval, Score, ends_at, parts_like, scored, shape_of, xp_of
from ._rank import check_scores, fraction, weighted_limit
from .scores import absolute


class WeightedState(NamedTuple):
    """What `weighted` remembers."""

    scores: Any
    """Scores of the calibration outcomes, `(n,)`."""
    weight: Any
    """Their weights, `(n,)`."""


def weighted(score: Score | None = None) -> Conformal:
    """Intervals under covariate shift: calibration outcomes count by how likely their inputs are where one predicts.

    With weights proportional to p_new(x) / p_calibration(x), and y given x distributed alike in both, coverage is at
    least `level` where one predicts. It is as good as the ratio: an estimated one costs coverage up to half its mean
    absolute error, relative to its mean. A new example of large weight has few like it, and gets an infinite interval.
    Equal weights give `split`.

    `fit(pred, y, weight)` takes the ratio at the calibration inputs, `(n,)`; `apply(state, pred, weight, level=0.9)`
    at the new ones, `(N,)`. Only ratios between them matter.

    Args:
      score: as in `split`, for one output.
    Raises:
      InputError: weights of another shape, negative, not finite or all 0; several outputs; and as `split`.
    References:
      tibshirani2019, corollary 1; lei2021 (estimated ratios). Checked against plain Python, and by
      simulation.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.weighted()
      >>> state = procedure.fit(np.zeros(9), np.arange(9.0), np.ones(9))
      >>> procedure.apply(state, np.zeros(2), np.array([1.0, 0.0]), level=0.8).upper.tolist()
      [7.0, 7.0]
    """
    score = absolute() if score is None else score
    name = f"weighted({score.name})"

    def fit(pred: Any, y: ArrayLike, weight: ArrayLike) -> WeightedState:
        scores = check_scores(name, scored(name, score, pred, y)[1], ndim=1)
        return WeightedState(scores, _check_weight(name, weight, len(scores), some=True))

    def apply(state: WeightedState, pred: Any, weight: ArrayLike, *, level: float = 0.9) -> PredictionInterval:
        fraction(level)
        parts = parts_like(name, score, pred, ())
        own = _check_weight(name, weight, shape_of(parts)[0])
        lower, upper = ends_at(score, parts, weighted_limit(state.scores, state.weight, own, level))
        return PredictionInterval(lower, upper, float(level))

    return Conformal(name, fit, apply)


class LocalState(NamedTuple):
    """What `localized` remembers."""

    scores: Any
    """Scores of the calibration outcomes, `(n,)`."""
    features: Any
    """Where they lie, `(n, d)`."""


def localized(bandwidth: float, score: Score | None = None) -> Conformal:
    """Intervals from the calibration outcomes near each new example, by a Gaussian kernel, randomised to be valid.

    A place is drawn from the kernel about the new example, and calibration outcomes count by the kernel about that
    place. Coverage is at least `level` whatever the bandwidth, and close to `level` in each region of a size beyond
    it. Small bandwidths and many features leave few neighbours, and intervals become infinite; large ones give
    `split`. Two calls with different keys give different intervals.

    `fit(pred, y, features)` takes `(n, d)`, inputs or the features of a network, in units that make distances
    comparable; `apply(state, pred, features, key, level=0.9)` those of the new examples, `(N, d)`, and a key.

    Args:
      bandwidth: standard deviation of the kernel, above 0.
      score: as in `split`, for one output.
    Raises:
      InputError: features of another shape, a bandwidth that is not positive; and as `split`.
    References:
      hore2023 (RLCP). Checked against a loop, and by simulation.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.localized(1.0)
      >>> x = np.repeat([[0.0], [10.0]], 30, axis=0)
      >>> state = procedure.fit(np.zeros(60), np.concatenate([np.full(30, 1.0), np.full(30, 5.0)]), x)
      >>> procedure.apply(state, np.zeros(2), np.array([[0.0], [10.0]]), 0, level=0.8).upper.tolist()
      [1.0, 5.0]
    """
    if not (isinstance(bandwidth, int | float) and bandwidth > 0 and np.isfinite(bandwidth)):
        raise InputError(f"`localized` expected a bandwidth above 0, but got {bandwidth!r}.")
    score = absolute() if score is None else score
    name = f"localized({score.name})"

    def fit(pred: Any, y: ArrayLike, features: ArrayLike) -> LocalState:
        scores = check_scores(name, scored(name, score, pred, y)[1], ndim=1)
        return LocalState(scores, _check_features(name, features, (len(scores), None)))

    def apply(state: LocalState, pred: Any, features: Any, key: Key, *, level: float = 0.9) -> PredictionInterval:
        fraction(level)
        parts = parts_like(name, score, pred, ())
        near = _check_features(name, features, (shape_of(parts)[0], state.features.shape[1]))
        scores, old, new = (jnp.asarray(each, jnp.result_type(float)) for each in (state.scores, state.features, near))
        bound = _local_limits(scores, old, new, as_key(key), bandwidth, level)
        bound = np.asarray(bound, np.float64) if xp_of(state, *parts) is np and is_concrete(bound) else bound
        lower, upper = ends_at(score, parts, bound)
        return PredictionInterval(lower, upper, float(level))

    return Conformal(name, fit, apply)


@functools.partial(jax.jit, static_argnames="level")
def _local_limits(scores: Any, old: Any, new: Any, key: Key, bandwidth: float, level: float) -> Any:
    """One threshold a new example, `(N,)`, in chunks."""
    place = new + bandwidth * jax.random.normal(key, new.shape, new.dtype)

    def one(row: tuple) -> Any:
        here, there = row
        far, own = jnp.square(old - there).sum(-1), jnp.square(here - there).sum(-1)
        nearest = jnp.minimum(far.min(), own)  # only ratios matter
        weight, self_weight = (jnp.exp((nearest - each) / (2 * bandwidth**2)) for each in (far, own))
        return weighted_limit(scores, weight, self_weight, level)

    chunk = max(1, min(len(new), (1 << 22) // max(old.size, 1)))
    return jax.lax.map(one, (new, place), batch_size=chunk)


def _check_weight(name: str, weight: Any, size: int, *, some: bool = False) -> Any:
    weight = _inputs.floating(_inputs.array(name, "weight", weight))[0]
    if weight.shape != (size,):
        raise InputError(f"`{name}` expected `weight` of shape ({size},), one an example, but got {weight.shape}.")
    if is_concrete(weight) and ((np.asarray(weight) < 0).any() or (some and not np.asarray(weight).any())):
        raise InputError(
            f"`{name}` expected weights that are not negative and not all 0, but the smallest is "
            f"{np.asarray(weight).min():.4g} and the largest {np.asarray(weight).max():.4g}."
        )
    return weight


def _check_features(name: str, features: Any, shape: tuple[int, int | None]) -> Any:
    features = _inputs.floating(_inputs.array(name, "features", features))[0]
    if features.ndim != 2 or features.shape[0] != shape[0] or shape[1] not in (None, features.shape[1]):
        want = f"({shape[0]}, {'d' if shape[1] is None else shape[1]})"
        raise InputError(f"`{name}` expected `features` of shape {want}, but got {features.shape}.")
    return features
