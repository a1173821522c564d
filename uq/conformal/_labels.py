"""The engine behind sets of classes: scores of the labels, sorted within categories, and their order statistics.

A category is what the guarantee is conditional on: all examples, those of one class, of one cluster of classes, of one
group. Ties are broken by a uniform number an example where the score is randomized, and never otherwise.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, UQWarning, check_level, is_concrete
from .._typing import Array, ArrayLike, Key
from ..likelihoods import _check_labels
from ..members import as_key
from ..metrics import Bounds, _inputs
from ..predictive import Predictive
from ._label_scores import LabelScore, order_of, values
from ._rank import rank, realised_coverage, smallest_size
from ._sets import PredictionSet


class LabelState(NamedTuple):
    """What is known from n calibration examples."""

    scores: Array
    """Scores of the labels, `(n,)`, from category to category, in each from small to large."""
    chance: Array
    """What breaks their ties, `(n,)`; 1 where nothing is random."""
    counts: Array
    """How many of the scores are of each category, int `(G,)`."""
    category: Array
    """Category of each class, int `(C,)`; all 0 where classes are not told apart."""
    settings: Array
    """Settings of the score, as given or as chosen."""
    groups: Array
    """Labels of the groups, `(G,)`, where examples are told apart by them; else `(0,)`."""


@dataclass(frozen=True)
class LabelProcedure:
    """Fit and apply with one category; other procedures change `_categories`."""

    score: LabelScore
    allow_empty: bool = False

    @property
    def name(self) -> str:
        return self.score.name

    def fit(self, pred: Any, y: ArrayLike, *, key: Key | None = None) -> LabelState:
        """Scores of the labels of held-out examples."""
        probs, labels, settings, key = self.prepared(pred, y, key)
        scores, chance = self.label_scores(probs, labels, settings, key)
        return sorted_state(scores, chance, np.zeros(scores.shape), 1, np.zeros(probs.shape[1]), settings)

    def apply(self, state: LabelState, pred: Any, level: float = 0.9, *, key: Key | None = None) -> PredictionSet:
        """Every class that conforms at least as well as the order statistic of its category."""
        self.check_level(level)
        if is_concrete(state.counts):
            self.warn_too_few(state, level)
        scores, probs, chance = self.all_scores(state, pred, key)
        return self.sets(state, scores, probs, chance, state.category[None], level)

    # Parts that the procedures share

    def prepared(self, pred: Any, y: ArrayLike, key: Key | None) -> tuple[Array, Array, Array, Key | None]:
        """Probabilities, labels, settings and the key, checked."""
        probs = label_probs(self.name, pred)
        labels = check_labels(self.name, probs, y)
        return probs, labels, values(self.score, probs.dtype), self.checked_key(key)

    def checked_key(self, key: Key | None) -> Key | None:
        if self.score.randomized and key is None:
            raise InputError(f"`{self.name}` is randomized: pass `key=` to `fit` and to `apply`.")
        if key is not None and not self.score.randomized:
            raise InputError(f"`{self.name}` is not randomized, so that `key` would do nothing: say randomized=True.")
        return None if key is None else as_key(key)

    def check_level(self, level: Any) -> None:
        if not is_concrete(level) or np.ndim(level):
            raise InputError(
                f"`{self.name}` expected `level` as one plain number; under jit, name it in `static_argnames`."
            )
        check_level("level", level)

    def label_scores(self, probs: Array, labels: Array, settings: Array, key: Key | None) -> tuple[Array, Array]:
        """Score of each example's own label, `(n,)`, and what breaks its ties."""
        chance = _chance(key, 0, probs)
        return _scores_of(self.score, probs, order_of(self.score, probs), chance, settings, labels), chance

    def all_scores(self, state: Any, pred: Any, key: Key | None) -> tuple[Array, Array, Array]:
        """Scores of all classes `(N, C)`, their probabilities, and what breaks ties `(N,)`."""
        probs = label_probs(self.name, pred)
        wanted = state.category.shape[0]
        if probs.shape[1] != wanted:
            raise InputError(
                f"`{self.name}` was fitted to predictions of {wanted} classes, but these are of {probs.shape[1]}. "
                "Fit it anew."
            )
        probs = probs.astype(state.settings.dtype)
        chance = _chance(self.checked_key(key), 1, probs)
        return score_all(self.score, probs, chance, state.settings), probs, chance

    def sets(self, state: LabelState, scores: Array, probs: Array, chance: Array, pick: Array, level: float
             ) -> PredictionSet:  # fmt: skip
        """Sets by the thresholds of categories `pick`, which broadcasts against `(N, C)`; G is none of them: all."""
        place = jnp.asarray(_of_counts(state, functools.partial(rank, level=level), np.int32))
        how = self.slack, self.allow_empty
        included = _by_category(*how, scores, probs, chance, state.scores, state.chance, state.counts, place, pick)
        return PredictionSet(included, float(level), realised(state, level))

    @property
    def slack(self) -> float:
        return 0.0 if self.score.randomized else self.score.slack

    def warn_too_few(self, state: LabelState, level: float) -> None:
        """Say which categories are too small for the level, and how many examples are enough."""
        counts = np.asarray(state.counts)
        need = smallest_size(level)
        small = np.flatnonzero(counts < need)
        if not len(small):
            return
        if len(counts) == 1:
            said = f"{counts[0]} calibration examples are too few for level {level:g}: every set is full"
        else:
            which = ", ".join(f"{self.category_name(state, g)} ({counts[g]})" for g in small[:5])
            said = (
                f"Calibration examples are too few for level {level:g} in {which}"
                + (f" and {len(small) - 5} more" if len(small) > 5 else "")
                + f": {self.consequence}"
            )
        warnings.warn(f"{said}. {need} are enough.", UQWarning, stacklevel=3)

    consequence = "they are in every set"

    def category_name(self, state: LabelState, number: int) -> str:
        return f"class {number}"


def label_probs(name: str, pred: Any) -> Array:
    """Class probabilities `(N, C)` of what a user has."""
    if isinstance(pred, Predictive):
        pred._needs("binary", "multiclass", what=name)
    return jnp.asarray(_inputs.class_probs(name, pred))


def check_labels(name: str, probs: Array, y: ArrayLike) -> Array:
    """Labels `(N,)` of the examples of `probs`."""
    labels = jnp.asarray(_check_labels(y, probs.shape[1], f"`{name}`"))
    if labels.shape != probs.shape[:1]:
        raise InputError(f"`{name}` expected labels of shape {probs.shape[:1]}, but `y` has shape {labels.shape}.")
    return labels


def _chance(key: Key | None, purpose: int, probs: Array) -> Array:
    """One uniform number an example; those of `fit` and `apply` are independent also under one key."""
    if key is None:
        return jnp.ones(probs.shape[:1], probs.dtype)
    return jax.random.uniform(jax.random.fold_in(key, purpose), probs.shape[:1], probs.dtype)


def score_all(score: LabelScore, probs: Array, chance: Array, settings: Array) -> Array:
    """Scores of all classes, `(N, C)`."""
    return _scores(score, probs, order_of(score, probs), chance, settings)


@functools.partial(jax.jit, static_argnums=0)
def _scores(score: LabelScore, probs: Array, order: Any, chance: Array, settings: Array) -> Array:
    return score.function(probs, order, chance, settings)


@functools.partial(jax.jit, static_argnums=0)
def _scores_of(score: LabelScore, probs: Array, order: Any, chance: Array, settings: Array, labels: Array) -> Array:
    every = score.function(probs, order, chance, settings)
    return jnp.take_along_axis(every, labels[:, None], 1)[:, 0]


def sorted_state(scores: Array, chance: Array, category: Any, num: int, of_class: Any, settings: Array,
                 groups: Any = None) -> LabelState:  # fmt: skip
    """The state whose scores are sorted within each of `num` categories."""
    scores, chance, counts = _sorted(scores, chance, jnp.asarray(category, jnp.int32), num)
    groups = jnp.zeros(0, jnp.int32) if groups is None else jnp.asarray(groups)
    return LabelState(scores, chance, counts, jnp.asarray(np.asarray(of_class), jnp.int32), settings, groups)


@functools.partial(jax.jit, static_argnums=3)
def _sorted(scores: Array, chance: Array, category: Array, num: int) -> tuple[Array, Array, Array]:
    order = jnp.lexsort((chance, scores, category))
    return scores[order], chance[order], jnp.zeros(num, jnp.int32).at[category].add(1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _by_category(slack: float, allow_empty: bool, scores: Array, probs: Array, chance: Array, known: Array,
                 known_chance: Array, counts: Array, place: Array, pick: Array) -> Array:  # fmt: skip
    """Which scores do not exceed the order statistic of their category; +inf where that has too few."""
    beyond = place > counts
    index = jnp.where(beyond, 0, jnp.cumsum(counts) - counts + place - 1)
    bound = jnp.append(jnp.where(beyond, jnp.inf, known[index]), jnp.inf)
    tie = jnp.append(jnp.where(beyond, 1, known_chance[index]), jnp.ones((), chance.dtype))
    return below(slack, allow_empty, scores, probs, chance, bound[pick], tie[pick])


def _of_counts(state: LabelState, function: Any, dtype: Any) -> Any:
    """A function of a number of scores, for each category; looked up where the numbers are traced."""
    size = state.scores.shape[0]
    if state.counts.shape[0] == 1:
        return np.array([function(size)], dtype)
    if is_concrete(state.counts):
        counts = np.asarray(state.counts).tolist()
        known = {m: function(m) for m in set(counts)}
        return np.array([known[m] for m in counts], dtype)
    return jnp.asarray(np.array([function(m) for m in range(size + 1)], dtype))[state.counts]


@functools.partial(jax.jit, static_argnums=(0, 1))
def below(slack: float, allow_empty: bool, scores: Array, probs: Array, chance: Array, bound: Array, tie: Array
              ) -> Array:  # fmt: skip
    """Which scores do not exceed `bound`, which broadcasts against `(N, C)`."""
    if slack:
        finite = jnp.where(jnp.isfinite(bound), bound, 0)
        bound = bound + slack * jnp.finfo(scores.dtype).eps * jnp.maximum(jnp.abs(finite), 1)
    included = (scores < bound) | ((scores == bound) & (chance[:, None] <= tie))
    return included if allow_empty else included | (probs == probs.max(-1, keepdims=True))


def realised(state: LabelState, level: float) -> Bounds:
    """Where coverage lies given the calibration set, of each category `(G,)`; numbers where there is one."""
    if state.counts.shape[0] == 1:
        return realised_coverage(state.scores.shape[0], level)
    ends = _of_counts(state, lambda m: tuple(realised_coverage(m, level)), np.float32)
    return Bounds(ends[:, 0], ends[:, 1])
