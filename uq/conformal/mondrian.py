"""Coverage in every group: a threshold for each, from the outcomes of that group alone."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import InputError, UQWarning, is_concrete
from .._typing import ArrayLike
from ..metrics import Bounds
from ._procedure import Conformal, PredictionInterval, Score, ends_at, parts_like, scored, shape_of, xp_of
from ._rank import check_scores, fraction, rank, realised_coverage, smallest_size
from .scores import absolute


class MondrianState(NamedTuple):
    """What `mondrian` remembers."""

    scores: Any
    """Scores of the calibration outcomes, group by group and rising within each, `(n,)` or `(n, D)`."""
    labels: Any
    """The groups, rising, `(G,)`."""
    size: Any
    """How many outcomes each has, `(G,)`."""


def mondrian(score: Score | None = None) -> Conformal:
    """Intervals that cover with probability `level` in each group, not only on average.

    Groups are known for every example beforehand: by inputs, by predicted spread, by site; not by outcomes. Each has
    the guarantee of `split` with its own number of outcomes, and its own `realised` interval: a group of fewer than
    level / (1 − level) gets infinite ones. Many small groups cost length.

    `fit(pred, y, groups)` takes whole numbers or text `(n,)`, on the host; `apply(state, pred, groups, level=0.9)`
    those of the new examples, `(N,)`. Under jit groups are numbers, and one unseen gets an infinite interval.

    Args:
      score: as in `split`.
    Raises:
      InputError: a group that had no outcomes, groups of another shape; and as `split`.
      UQWarning: groups that are too small for the level.
    References:
      vovk2005, section 4.5; vovk2012. Checked against `split` on each group, and by simulation.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.mondrian()
      >>> groups = np.repeat(["easy", "hard"], 4)
      >>> state = procedure.fit(np.zeros(8), np.array([1.0, 2, 3, 4, 10, 20, 30, 40]), groups)
      >>> procedure.apply(state, np.zeros(2), ["hard", "easy"], level=0.8).upper.tolist()
      [40.0, 4.0]
    """
    score = absolute() if score is None else score
    name = f"mondrian({score.name})"

    def fit(pred: Any, y: ArrayLike, groups: Any) -> MondrianState:
        scores = check_scores(name, scored(name, score, pred, y)[1])
        if not is_concrete((scores, groups)):
            raise InputError(f"`{name}` sorts groups on the host: fit it outside jit.")
        groups = _check_groups(name, groups, len(scores))
        labels, index, size = np.unique(groups, return_inverse=True, return_counts=True)
        rows = np.asarray(scores).reshape(len(scores), -1)
        ordered = np.stack([column[np.lexsort((column, index))] for column in rows.T], -1).reshape(scores.shape)
        return MondrianState(xp_of(scores).asarray(ordered), labels, size)

    def apply(state: MondrianState, pred: Any, groups: Any, *, level: float = 0.9) -> PredictionInterval:
        fraction(level)
        parts = parts_like(name, score, pred, state.scores.shape[1:])
        groups = _check_groups(name, groups, shape_of(parts)[0])
        group, known = _lookup(name, state, groups)
        if is_concrete(state.size):
            _say_small(state, level, np.unique(group) if is_concrete(group) else np.arange(len(state.size)))
        bound = _limits(state, level)[group]
        xp = xp_of(bound, known)
        known = xp.asarray(known).reshape((-1,) + (1,) * (bound.ndim - 1))
        lower, upper = ends_at(score, parts, xp.where(known, bound, np.inf))
        return PredictionInterval(lower, upper, float(level), _realised(state, level, group))

    return Conformal(name, fit, apply)


def _limits(state: MondrianState, level: float) -> Any:
    """The threshold of each group, `(G,)` or `(G, D)`; infinite where it is too small."""
    xp: Any = xp_of(state.scores, state.size)
    # Sizes may be traced: what each size needs is a table.
    place = xp.asarray(np.array([rank(num, level) for num in _sizes(state)]))
    place = place if is_concrete(state.size) else place[state.size]
    start = xp.cumsum(xp.asarray(state.size)) - xp.asarray(state.size)
    at = xp.clip(start + place - 1, 0, state.scores.shape[0] - 1)
    enough = (place <= xp.asarray(state.size)).reshape((-1,) + (1,) * (state.scores.ndim - 1))
    return xp.where(enough, xp.asarray(state.scores)[at], np.inf)


def _sizes(state: MondrianState) -> Any:
    return np.asarray(state.size).tolist() if is_concrete(state.size) else range(state.scores.shape[0] + 1)


def _realised(state: MondrianState, level: float, group: Any) -> Bounds | None:
    if not is_concrete(state.size):
        return None
    bounds = np.array([realised_coverage(num, level) for num in _sizes(state)]).T
    return Bounds(*(jnp.asarray(end, jnp.result_type(float))[group] if not is_concrete(group) else end[group]
                    for end in bounds))  # fmt: skip


def _lookup(name: str, state: MondrianState, groups: Any) -> tuple[Any, Any]:
    """Which of the groups each example belongs to, and whether there is one."""
    labels: Any
    given: Any
    if is_concrete((groups, state.labels)):
        labels, given = np.asarray(state.labels), np.asarray(groups)
        unseen = np.setdiff1d(given, labels)
        if len(unseen):
            said = ", ".join(repr(each.item()) for each in unseen[:5]) + (", …" if len(unseen) > 5 else "")
            raise InputError(
                f"`{name}` expected groups that had calibration outcomes, but {said} had none: give them some, or "
                "merge them with another."
            )
        return np.searchsorted(labels, given), np.ones(len(given), bool)
    labels, given = jnp.asarray(state.labels), jnp.asarray(groups)
    place = jnp.minimum(jnp.searchsorted(labels, given), len(labels) - 1)
    return place, labels[place] == given


def _say_small(state: MondrianState, level: float, used: Any) -> None:
    size, enough = np.asarray(state.size), smallest_size(level)
    small = [g for g in used if size[g] < enough]
    if small:
        said = ", ".join(f"{np.asarray(state.labels)[g].item()!r} ({size[g]})" for g in small[:5])
        warnings.warn(
            f"{len(small)} group{'s have' if len(small) > 1 else ' has'} too few calibration examples for level "
            f"{level:g}, and infinite bounds: {said}{', …' if len(small) > 5 else ''}. {enough} are enough.",
            UQWarning,
            stacklevel=3,
        )


def _check_groups(name: str, groups: Any, size: int) -> Any:
    groups = groups if hasattr(groups, "dtype") and not isinstance(groups, np.generic) else np.asarray(groups)
    if groups.shape != (size,):
        raise InputError(f"`{name}` expected `groups` of shape ({size},), one an example, but got {groups.shape}.")
    if groups.dtype == object and all(isinstance(group, str) for group in groups):  # text as pandas holds it
        groups = groups.astype(str)
    if groups.dtype.kind not in "biuU":
        raise InputError(f"`{name}` expected `groups` to be whole numbers or text, but their dtype is {groups.dtype}.")
    return groups
