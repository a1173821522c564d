"""Sets of classes that hold the right one with a stated probability: LAC, APS, RAPS, SAPS and top-k.

Each factory gives a `Conformal`: `fit(pred, y, key=None) -> state` on held-out examples, and
`apply(state, pred, level=0.9, key=None) -> PredictionSet`. `pred` is a `Predictive` of classes, class probabilities
`(N, C)` or P(1) `(N,)`, or a numpyro distribution of classes. Keys are for randomized procedures alone; one key may
serve both calls.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_level
from .._typing import Array, ArrayLike, Key
from ..members import as_key
from . import _label_scores as scores
from ._label_scores import LabelScore
from ._labels import LabelProcedure, LabelState, check_labels, label_probs, score_all, sorted_state
from ._procedure import Conformal
from ._rank import rank

_PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Penalties per rank that `raps` chooses among."""


def lac(*, randomized: bool = False, allow_empty: bool = False) -> Conformal:
    """Least ambiguous sets: every class whose probability reaches a threshold; smallest on average.

    Among sets of a given coverage these are the smallest where the probabilities are right. They are small because
    they give up on hard examples: coverage is marginal, too high where the model is sure and too low where it is not.

    Args:
      randomized: break ties among scores at the threshold at random, one number an example, so that coverage is
        exact also where probabilities repeat. It needs `key=`.
      allow_empty: leave a set empty where no class reaches the threshold. Else the most probable class (or classes,
        where several are equally so) is always in the set, which only adds coverage.
    Raises:
      InputError: in `fit` and `apply`: labels out of range, rows that are not probabilities, another number of classes
        than in `fit`, a level outside (0, 1), a key without randomization or the other way round.
    References:
      sadinle2019, section 2. Checked against a loop, exact enumeration and simulation.
    Example:
      >>> import numpy as np
      >>> calibration = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.4, 0.5], [0.3, 0.6, 0.1]])
      >>> procedure = lac()
      >>> state = procedure.fit(calibration, [0, 1, 1, 1])
      >>> sets = procedure.apply(state, np.array([[0.5, 0.45, 0.05], [0.3, 0.35, 0.35]]), level=0.8)
      >>> [labels.tolist() for labels in sets]
      [[0, 1], [1, 2]]
    """
    return _conformal(LabelProcedure(LabelScore("lac", scores.least_probable, (), randomized), allow_empty))


def top_k(*, randomized: bool = False, allow_empty: bool = False) -> Conformal:
    """The k most probable classes, the same k for all examples: the least k that covers.

    The size says nothing of the example. Classes that are equally probable have the rank of the last of them. As ranks
    are whole numbers, coverage exceeds the level by up to the share of labels at rank k; `randomized` takes k classes
    for some examples and k − 1 for others, and is exact.

    Args:
      randomized, allow_empty: as for `lac`.
    Raises:
      InputError: as for `lac`.
    References:
      angelopoulos2021, section 4. Checked against a loop, exact enumeration and simulation.
    Example:
      >>> import numpy as np
      >>> state = top_k().fit(np.array([[0.7, 0.2, 0.1]] * 4), [0, 0, 0, 1])
      >>> top_k().apply(state, np.array([[0.1, 0.3, 0.6]]), level=0.8).included.tolist()
      [[False, True, True]]
    """
    return _conformal(LabelProcedure(LabelScore("top_k", scores.rank_alone, (), randomized), allow_empty))


def aps(*, randomized: bool = False, allow_empty: bool = False) -> Conformal:
    """Adaptive sets: the most probable classes until their probabilities sum to a threshold.

    Sizes follow the difficulty of the example, and coverage varies less between easy and hard ones than with `lac`. In
    exchange sets are large, above all with many classes, whose small probabilities are mostly noise (see `raps`).

    Args:
      randomized: the class at the edge counts with a random part of its probability, one number an example; coverage
        is then exact. It needs `key=`. Otherwise it counts in full, and sets are somewhat larger.
      allow_empty: as for `lac`; the published sets may be empty.
    Raises:
      InputError: as for `lac`.
    References:
      romano2020, eq. 5 and 8. Checked against a loop, exact enumeration and simulation.
    Example:
      >>> import numpy as np
      >>> state = aps().fit(np.array([[0.6, 0.3, 0.1]] * 4), [0, 0, 0, 1])
      >>> aps().apply(state, np.array([[0.5, 0.3, 0.2], [0.96, 0.02, 0.02]]), level=0.8).size.tolist()
      [2, 1]
    """
    return _conformal(LabelProcedure(LabelScore("aps", scores.cumulated, (), randomized, slack=8), allow_empty))


def raps(k_reg: float | None = 1, penalty: float | None = 0.01, *, randomized: bool = False, allow_empty: bool = False,
         tune_level: float = 0.9, tune_share: float = 0.2) -> Conformal:  # fmt: skip
    """Regularised adaptive sets: `aps` with a penalty on ranks beyond the first few, against its long tails.

    Args:
      k_reg: how many classes are free of penalty. None: as many as hold the label in a share `tune_level` of examples.
      penalty: added to the score for every rank beyond, in units of probability. None: the one of seven that makes sets
        smallest at `tune_level`.
      randomized, allow_empty: as for `aps`.
      tune_level, tune_share: where anything is None, `fit` needs `key=`, chooses on a random share of the examples, and
        calibrates on the others alone, so that the guarantee holds. The state says what it chose.
    Raises:
      InputError: as for `lac`; a negative setting; too few examples to divide.
    References:
      angelopoulos2021, algorithm 2 and appendix E. Checked against a loop, exact enumeration and simulation.
    Example:
      >>> import numpy as np
      >>> probs = np.array([[0.4, 0.3, 0.2, 0.1]] * 4)
      >>> state = raps(k_reg=2, penalty=0.1).fit(probs, [0, 1, 2, 1])
      >>> np.asarray(state.scores).round(2)  # 0.9 and a penalty of 0.1 for the third class
      array([0.4, 0.7, 0.7, 1. ], dtype=float32)
    """
    for setting, value in (("k_reg", k_reg), ("penalty", penalty)):
        _check_setting("raps", setting, value)
    check_level("tune_level", tune_level)
    check_level("tune_share", tune_share)
    score = LabelScore("raps", scores.cumulated_with_penalty, (k_reg, penalty), randomized, slack=8)
    if k_reg is not None and penalty is not None:
        return _conformal(LabelProcedure(score, allow_empty))
    return _conformal(_Tuned(score, allow_empty, tune_level, tune_share))


def saps(penalty: float = 0.1, *, randomized: bool = False, allow_empty: bool = False) -> Conformal:
    """Sorted adaptive sets: of the probabilities only the largest counts, other classes by their rank.

    score = chance · p₁ for the most probable class, p₁ + penalty · (rank − 2 + chance) for the others. For models whose
    small probabilities mean nothing; larger sets than `raps` where they do.

    Args:
      penalty: added for every rank, in units of probability.
      randomized: `chance` is uniform, and coverage exact; it needs `key=`. Otherwise it is 1.
      allow_empty: as for `lac`.
    Raises:
      InputError: as for `lac`; a negative penalty.
    References:
      huang2024, eq. 6. Checked against a loop, exact enumeration and simulation.
    Example:
      >>> import numpy as np
      >>> state = saps(penalty=0.25).fit(np.array([[0.5, 0.3, 0.2]] * 3), [0, 1, 2])
      >>> state.scores.tolist()
      [0.5, 0.75, 1.0]
    """
    _check_setting("saps", "penalty", penalty)
    score = LabelScore("saps", scores.ranked_beyond_first, (penalty,), randomized, slack=8)
    return _conformal(LabelProcedure(score, allow_empty))


def _conformal(found: LabelProcedure) -> Conformal:
    return Conformal(found.name, found.fit, found.apply)


def base_of(name: str, base: Any) -> LabelProcedure:
    """What is behind a procedure for sets of classes, for another that changes what its guarantee is conditional on."""
    found = getattr(getattr(base, "fit", None), "__self__", None)
    if not isinstance(found, LabelProcedure) or type(found) not in (LabelProcedure, _Tuned):
        said = base.name if isinstance(base, Conformal) else f"a {type(base).__name__}"
        raise InputError(f"`{name}` expected one of `lac()`, `aps()`, `raps()`, `saps()`, `top_k()`, but got {said}.")
    if isinstance(found, _Tuned):
        raise InputError(f"`{name}` expected settings of `raps` that are numbers: choose them first, on other data.")
    return found


def _check_setting(name: str, setting: str, value: float | None) -> None:
    if value is not None and (np.ndim(value) or not 0 <= float(value) < np.inf):
        raise InputError(f"`{name}` expected `{setting}` to be a number that is not negative, but it is {value!r}.")


@dataclass(frozen=True)
class _Tuned(LabelProcedure):
    """Settings chosen on one part of the calibration set, scores of the other."""

    tune_level: float = 0.9
    tune_share: float = 0.2

    def fit(self, pred: Any, y: ArrayLike, *, key: Key | None = None) -> LabelState:
        if key is None:
            raise InputError("`raps` with a setting that is None expected `key=` in `fit`, to divide the examples.")
        key = as_key(key)
        probs = label_probs(self.name, pred)
        labels = check_labels(self.name, probs, y)
        num = round(self.tune_share * len(labels))
        if not 0 < num < len(labels):
            raise InputError(
                f"`raps` cannot choose its settings on {num} of {len(labels)} examples and calibrate on the others: "
                "give `k_reg` and `penalty`, or more examples."
            )
        order = jax.random.permutation(jax.random.fold_in(key, 2), len(labels))
        chosen, kept = order[:num], order[num:]
        settings = self._choose(probs[chosen], labels[chosen])
        found, chance = self.label_scores(probs[kept], labels[kept], settings, key if self.score.randomized else None)
        return sorted_state(found, chance, np.zeros(found.shape), 1, np.zeros(probs.shape[1]), settings)

    def _choose(self, probs: Array, labels: Array) -> Array:
        """`k_reg` that holds the label often enough, then the penalty with the smallest sets."""
        free, penalty = self.score.settings
        place = min(rank(len(labels), self.tune_level), len(labels)) - 1
        ones = jnp.ones(len(labels), probs.dtype)
        if free is None:
            ranks = score_all(LabelScore("top_k", scores.rank_alone), probs, ones, jnp.zeros(0, probs.dtype))
            free = float(np.sort(np.asarray(_own(ranks, labels)))[place])
        sizes = {}
        for each in _PENALTIES if penalty is None else (penalty,):
            every = score_all(self.score, probs, ones, jnp.asarray([free, each], probs.dtype))
            bound = np.sort(np.asarray(_own(every, labels)))[place]
            sizes[each] = float((np.asarray(every) <= bound).sum(1).mean())
        return jnp.asarray([free, min(sizes, key=sizes.__getitem__)], probs.dtype)


def _own(scores: Array, labels: Array) -> Array:
    """The score of each example's label."""
    return jnp.take_along_axis(scores, labels[:, None], 1)[:, 0]
