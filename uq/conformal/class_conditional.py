"""Sets of classes whose guarantee holds within each class, group, or cluster of classes, not only on average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, as_numeric, check_count, check_level, is_concrete
from .._typing import ArrayLike, Key
from ..members import as_key
from ..metrics._inputs import choice
from ._clusters import clusters_of_classes
from ._labels import LabelProcedure, LabelState, check_labels, label_probs, sorted_state
from ._procedure import Conformal
from ._sets import PredictionSet
from .label_sets import base_of


def class_conditional(base: Conformal, *, absent: Literal["error", "include"] = "error") -> Conformal:
    """Sets that hold the right class with the stated probability whichever class is right.

    Each class has its own threshold, from its own examples. Where classes have few of them thresholds are noisy and
    sets large: a class with fewer than level / (1 − level) is in every set, with a warning. See `clustered`.

    Args:
      base: `lac()`, `aps()`, `raps()`, `saps()` or `top_k()`, whose score and ties are used.
      absent: what to do with a class that no calibration example is of: "error", or "include" it in every set.
    Returns:
      A `Conformal`; `realised` of its sets has one interval a class, `(C,)`.
    Raises:
      InputError: a class absent from calibration; otherwise as for `lac`.
    References:
      sadinle2019, section 3; vovk2012, section 3. Checked against the base on the examples of each class.
    Example:
      >>> import numpy as np, uq
      >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.9, 0.1]])
      >>> procedure = class_conditional(uq.conformal.lac())
      >>> state = procedure.fit(probs, [0, 0, 1, 1])
      >>> procedure.apply(state, np.array([[0.85, 0.15]]), level=0.6).included.tolist()
      [[True, True]]
    """
    choice("class_conditional", "absent", absent, ("error", "include"))
    found = base_of("class_conditional", base)
    each = _ByClass(found.score, found.allow_empty, absent)
    return Conformal(each.name, each.fit, each.apply)


def group_conditional(base: Conformal) -> Conformal:
    """Sets that hold the right class with the stated probability in every group of examples.

    Groups (a hospital, a sensor, an age band) are known for every example, and each has its own threshold. They may
    depend on the input, not on the label.

    Args:
      base: as for `class_conditional`.
    Returns:
      A `Conformal` with `fit(pred, y, groups=, key=None)` and `apply(state, pred, level, groups=, key=None)`; groups
      are whole numbers, `(N,)`. `realised` of its sets has one interval a group, in increasing order of their numbers.
    Raises:
      InputError: a group that calibration did not have (under jit, where nothing can be raised, its sets are full);
        otherwise as for `lac`.
    References:
      vovk2012, section 3. Checked against the base on the examples of each group.
    Example:
      >>> import numpy as np, uq
      >>> probs, groups = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.4, 0.6]]), [1, 1, 5, 5]
      >>> procedure = group_conditional(uq.conformal.lac())
      >>> state = procedure.fit(probs, [0, 0, 0, 0], groups=groups)
      >>> procedure.apply(state, np.array([[0.6, 0.4], [0.6, 0.4]]), level=0.6, groups=[1, 5]).size.tolist()
      [1, 2]
    """
    found = base_of("group_conditional", base)
    each = _ByGroup(found.score, found.allow_empty)
    return Conformal(each.name, each.fit_groups, each.apply_groups)


def clustered(base: Conformal, *, num_clusters: int | None = None, share: float | None = None, tune_level: float = 0.9
              ) -> Conformal:  # fmt: skip
    """Sets with a guarantee within each cluster of classes that are about equally hard.

    A random share of the examples finds classes whose scores are distributed alike (k-means on quantiles of the
    scores, weighted by the square root of the number of examples); the others calibrate each cluster. Within a class
    coverage is only as near the level as classes of a cluster are alike. Classes with too few examples to place, and
    those never seen, use one threshold for all. For many classes with tens of examples each.

    Args:
      base: as for `class_conditional`.
      num_clusters, share: how many clusters, and which part of the examples finds them; None is the rule of the paper.
      tune_level: what the rule of the paper and the quantiles take for the level.
    Returns:
      A `Conformal`; `fit` always needs `key=`. `realised` of its sets has one interval a cluster, the last for classes
      of none.
    Raises:
      InputError: no key, too few examples to divide; otherwise as for `lac`.
    References:
      ding2023, section 2 and appendix B. Checked against loops over classes and by simulation.
    Example:
      >>> import numpy as np, uq
      >>> rng = np.random.default_rng(0)
      >>> probs = rng.dirichlet(np.ones(4), 400)
      >>> procedure = clustered(uq.conformal.lac(), num_clusters=2, share=0.3)
      >>> state = procedure.fit(probs, rng.integers(0, 4, 400), key=0)
      >>> procedure.apply(state, probs[:3]).included.shape
      (3, 4)
    """
    found = base_of("clustered", base)
    check_level("tune_level", tune_level)
    if share is not None:
        check_level("share", share)
    if num_clusters is not None:
        check_count("num_clusters", num_clusters)
    each = _Clustered(found.score, found.allow_empty, num_clusters=num_clusters, share=share, tune_level=tune_level)
    return Conformal(each.name, each.fit, each.apply)


@dataclass(frozen=True)
class _ByClass(LabelProcedure):
    absent: str = "error"

    @property
    def name(self) -> str:
        return f"class_conditional({self.score.name})"

    def fit(self, pred: Any, y: ArrayLike, *, key: Key | None = None) -> LabelState:
        probs, labels, settings, key = self.prepared(pred, y, key)
        classes = probs.shape[1]
        if is_concrete(labels):
            missing = np.flatnonzero(np.bincount(np.asarray(labels), minlength=classes) == 0)
            if len(missing) and self.absent == "error":
                raise InputError(
                    f"`{self.name}` expected calibration examples of each of the {classes} classes, but has none of "
                    f"{_numbers('class', missing)}. Collect some, or put such classes in every set with "
                    'absent="include".'
                )
        scores, chance = self.label_scores(probs, labels, settings, key)
        return sorted_state(scores, chance, labels, classes, np.arange(classes), settings)


@dataclass(frozen=True)
class _ByGroup(LabelProcedure):
    consequence = "their sets are full"

    @property
    def name(self) -> str:
        return f"group_conditional({self.score.name})"

    def category_name(self, state: LabelState, number: int) -> str:
        return f"group {np.asarray(state.groups)[number]}"

    def fit_groups(self, pred: Any, y: ArrayLike, *, groups: Any, key: Key | None = None) -> LabelState:
        probs, labels, settings, key = self.prepared(pred, y, key)
        every = np.asarray(self._groups(groups, len(labels)))
        known, category = np.unique(every, return_inverse=True)
        scores, chance = self.label_scores(probs, labels, settings, key)
        none = np.zeros(probs.shape[1])
        return sorted_state(scores, chance, category, len(known), none, settings, known)

    def apply_groups(self, state: LabelState, pred: Any, level: float = 0.9, *, groups: Any, key: Key | None = None
                     ) -> PredictionSet:  # fmt: skip
        self.check_level(level)
        if is_concrete(state.counts):
            self.warn_too_few(state, level)
        scores, probs, chance = self.all_scores(state, pred, key)
        asked = jnp.asarray(self._groups(groups, scores.shape[0]), state.groups.dtype)
        at = jnp.clip(jnp.searchsorted(state.groups, asked), 0, state.groups.shape[0] - 1)
        unseen = state.groups[at] != asked
        if is_concrete(unseen) and np.asarray(unseen).any():
            raise InputError(
                f"`{self.name}` was not fitted to {_numbers('group', np.unique(np.asarray(asked)[np.asarray(unseen)]))}"
                f"; it knows {_numbers('group', np.asarray(state.groups))}. Calibrate with examples of every group."
            )
        pick = jnp.where(unseen, state.groups.shape[0], at)[:, None]
        return self.sets(state, scores, probs, chance, pick, level)

    def _groups(self, groups: Any, size: int) -> Any:
        groups = as_numeric("groups", groups)
        if groups.shape != (size,) or not jnp.issubdtype(groups.dtype, jnp.integer):
            raise InputError(
                f"`{self.name}` expected `groups` to be whole numbers of shape ({size},), one an example, but it is "
                f"{groups.dtype} of shape {groups.shape}."
            )
        if is_concrete(groups) and np.abs(np.asarray(groups, np.float64)).max(initial=0) >= 2**31:
            raise InputError(f"`{self.name}` expected numbers of groups below 2**31.")
        return groups


@dataclass(frozen=True)
class _Clustered(_ByClass):
    num_clusters: int | None = None
    share: float | None = None
    tune_level: float = 0.9

    @property
    def name(self) -> str:
        return f"clustered({self.score.name})"

    def category_name(self, state: LabelState, number: int) -> str:
        last = number == state.counts.shape[0] - 1
        return "classes of no cluster" if last else f"cluster {number}"

    def fit(self, pred: Any, y: ArrayLike, *, key: Key | None = None) -> LabelState:
        if key is None:
            raise InputError(f"`{self.name}` expected `key=` in `fit`, to divide the examples.")
        key = as_key(key)
        probs = label_probs(self.name, pred)
        labels = check_labels(self.name, probs, y)
        _, _, settings, _ = self.prepared(probs, labels, key if self.score.randomized else None)
        scores, chance = self.label_scores(probs, labels, settings, key if self.score.randomized else None)
        found, kept = clusters_of_classes(
            self.name, np.asarray(scores), np.asarray(labels), probs.shape[1], jax.random.fold_in(key, 2),
            self.num_clusters, self.share, self.tune_level,
        )  # fmt: skip
        num = int(found.max()) + 1
        alone = np.where(found < 0, num, found)  # classes of no cluster use all kept examples
        category = alone[np.asarray(labels)[kept]]
        own = kept[category < num]
        rows = np.concatenate([own, kept])
        each = np.concatenate([category[category < num], np.full(len(kept), num)])
        return sorted_state(scores[rows], chance[rows], each, num + 1, alone, settings)

    def warn_too_few(self, state: LabelState, level: float) -> None:
        used = np.unique(np.asarray(state.category))
        if len(used) < state.counts.shape[0]:  # nobody asks for a cluster without classes
            counts = np.where(
                np.isin(np.arange(state.counts.shape[0]), used), np.asarray(state.counts), np.int32(2**30)
            )
            state = state._replace(counts=jnp.asarray(counts))
        super().warn_too_few(state, level)


def _numbers(kind: str, values: Any, limit: int = 8) -> str:
    """`class 3`, `classes 3, 7 and 2 more`."""
    shown = ", ".join(str(value) for value in values[:limit])
    more = f" and {len(values) - limit} more" if len(values) > limit else ""
    return f"{kind} {shown}" if len(values) == 1 else f"{kind}{'es' if kind == 'class' else 's'} {shown}{more}"
