"""Cross-conformal intervals: every outcome calibrates, by the models that did not see it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from .._typing import ArrayLike
from ..metrics import _inputs, _route
from ._procedure import Conformal, PredictionInterval, Score, ends_at, scored, shape_of, xp_of
from ._rank import check_scores, fraction, limit, rank, warn_too_few
from .scores import absolute

Kind = Literal["plus", "minmax"]


class CrossState(NamedTuple):
    """What `cross` remembers."""

    scores: Any
    """Score of each outcome by the prediction left out for it, `(n,)`."""
    fold: Any
    """Which model did not see it, `(n,)`."""


def cross(kind: Kind = "plus", score: Score | None = None) -> Conformal:
    """CV+ and jackknife+: intervals from all n outcomes, each scored by the model that did not see it.

    With R_i the score of outcome i and [l_i(x), u_i(x)] the outcomes at x that the model without i would score at most
    R_i,

    - "plus": from the ⌊α(n + 1)⌋-th smallest l_i to the ⌈(1 − α)(n + 1)⌉-th smallest u_i, α = 1 − level. Coverage is
      at least 1 − 2α for n folds of one (jackknife+), less min(2(1 − 1/F) / (n/F + 1), (1 − F/n) / (F + 1)) for F
      equal folds (CV+); for stable models it is close to `level`, as it would be of the model itself.
    - "minmax": the union over models of their sets at the threshold of split conformal prediction. Coverage is at
      least `level`; intervals are longer.

    Each model must be fitted in the same way to all but its fold, blind to order, and the folds be no function of the
    outcomes: a fold that stopped its own model's training is not left out.

    `fit(pred, y, fold=None)` takes the left-out predictions of outcomes `y` `(n,)` and the number of each one's model,
    0 to F − 1; None is one model each. `apply(state, models, level=0.9)` takes all F models' predictions at the new
    examples, `(F, N)`. Both are arrays, or pairs of arrays, as the score reads them. Memory is bounded in N.

    Args:
      kind: as above.
      score: `absolute` (points; the default), `gamma` (points), `normalized` (pairs (mean, stddev)), `cqr` and `cqr_r`
        (pairs (lower, upper): cross-CQR).
    Raises:
      InputError: shapes that differ, a fold without a model, a score that does not come from arrays.
      UQWarning: fewer than level / (1 − level) outcomes; intervals are then infinite.
    References:
      barber2021, theorems 1 to 4, section 3 (CV+); gupta2022b (other scores). Checked
      against plain Python, and by simulation.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.cross()
      >>> y = np.array([1.0, 2.0, 4.0])
      >>> left_out = (y.sum() - y) / 2  # the mean of the others, which is also what is predicted anew
      >>> lower, upper = procedure.apply(procedure.fit(left_out, y), left_out[:, None], level=0.75)
      >>> lower.tolist(), upper.tolist()
      ([-1.0], [5.0])
    """
    _inputs.choice("cross", "kind", kind, ("plus", "minmax"))
    score = absolute() if score is None else score
    name = f"cross({kind!r}, {score.name})"
    _check_array_score(name, score)

    def fit(pred: Any, y: ArrayLike, fold: ArrayLike | None = None) -> CrossState:
        scores = check_scores(name, scored(name, score, pred, y)[1], ndim=1)
        index = np.arange(len(scores)) if fold is None else _check_fold(name, fold, len(scores))
        return CrossState(scores, index)

    def apply(state: CrossState, models: Any, *, level: float = 0.9) -> PredictionInterval:
        fraction(level)
        parts = score.parts(models, 2)
        size = shape_of(parts)[0]
        if is_concrete(state.fold) and np.asarray(state.fold).max() >= size:
            raise InputError(
                f"`{name}` expected predictions of all models, (F, N), but there are {size} and outcomes belong to "
                f"model {np.asarray(state.fold).max()}."
            )
        if kind == "minmax":
            lower, upper = ends_at(score, parts, limit(state.scores, level, name="examples"))
            return PredictionInterval(lower.min(0), upper.max(0), float(level))
        return _plus(score, level, parts, state.scores, state.fold)

    return Conformal(name, fit, apply)


class BootstrapState(NamedTuple):
    """What `jackknife_after_bootstrap` remembers."""

    scores: Any
    """Score of each outcome by the members that did not see it, `(n,)`."""
    out: Any
    """Which members those are, bool `(K, n)`."""


def jackknife_after_bootstrap(score: Score | None = None) -> Conformal:
    """J+aB: jackknife+ from an ensemble whose members were each trained on a bootstrap sample, at no extra training.

    What the model without outcome i predicts is what those members together predict that did not draw it. Coverage is
    at least 1 − 2α if the number of members is itself random, Binomial; with a fixed number, what is seen in practice
    is `level` or a little more. Sampling must not depend on the outcomes.

    `fit(members, y, in_bag)` takes the members' predictions of outcomes `y` `(n,)`, `(K, n)`, and which of them each
    was trained on, bool or counts `(K, n)`; `apply(state, members, level=0.9)` their predictions at new examples,
    `(K, N)`. Both are arrays or pairs of arrays. Members are combined as the score needs: means are averaged, pairs
    (mean, stddev) are those of the mixture, ends of intervals are averaged.

    Args:
      score: as in `cross`.
    Raises:
      InputError: shapes that differ, an outcome that every member was trained on, a score not from arrays.
      UQWarning: fewer than level / (1 − level) outcomes; intervals are then infinite.
    References:
      kim2020, algorithm 1 and theorem 1. Checked against plain Python, and by simulation.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.jackknife_after_bootstrap()
      >>> members = np.array([[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]])
      >>> state = procedure.fit(members, np.array([1.0, 2.0, 4.0]), np.array([[1, 1, 0], [0, 1, 1]])[:, [0, 0, 2]])
      >>> state.scores.tolist()
      [2.0, 1.0, 3.0]
    """
    score = absolute() if score is None else score
    name = f"jackknife_after_bootstrap({score.name})"
    _check_array_score(name, score)

    def fit(members: Any, y: ArrayLike, in_bag: ArrayLike) -> BootstrapState:
        parts = score.parts(members, 2)
        shape = shape_of(parts)
        out = _inputs.array(name, "in_bag", in_bag) == 0
        if out.shape != shape:
            raise InputError(f"`{name}` expected `in_bag` of shape {shape}, (K, n), but got {out.shape}.")
        if is_concrete(out) and not np.asarray(out).any(0).all():
            rows = np.flatnonzero(~np.asarray(out).any(0))
            raise InputError(
                f"`{name}` expected each outcome to be left out by a member, but {len(rows)} of {shape[1]} "
                f"(the first is {rows[0]}) were drawn by all {shape[0]}: train more members."
            )
        together = _combined(score, parts, out)
        given = together[0] if len(together) == 1 else together
        return BootstrapState(check_scores(name, scored(name, score, given, y)[1], ndim=1), out)

    def apply(state: BootstrapState, members: Any, *, level: float = 0.9) -> PredictionInterval:
        fraction(level)
        parts = score.parts(members, 2)
        if shape_of(parts)[0] != state.out.shape[0]:
            raise InputError(
                f"`{name}` was fitted to {state.out.shape[0]} members, but these are {shape_of(parts)[0]}."
            )
        return _plus(score, level, parts, state.scores, state.out)

    return Conformal(name, fit, apply)


def _combined(score: Score, parts: tuple, out: Any) -> tuple:
    """Parts of the members `(K, …)` as those of the ones marked `out`, which broadcasts."""
    assert score.combine is not None
    weight = out.astype(parts[0].dtype)
    return score.combine(parts, weight / weight.sum(0))


# One interval a new example, from n of them


def _plus(score: Score, level: float, parts: tuple, scores: Any, left_out: Any) -> PredictionInterval:
    num = scores.shape[0]
    place = rank(num, level)
    if place > num:
        warn_too_few(num, level, "examples")
        xp = xp_of(parts[0])
        ends = xp.full(shape_of(parts)[1:], np.inf, parts[0].dtype)
        return PredictionInterval(-ends, ends, float(level))
    *same, scores = _inputs.floating(*parts, scores)
    host = _route.on_host(same, scores, left_out)
    if host:
        lower, upper = _on_host(score, place, tuple(map(np.asarray, same)), np.asarray(scores), np.asarray(left_out))
        if xp_of(same) is jnp:
            lower, upper = jnp.asarray(lower), jnp.asarray(upper)
    else:
        lower, upper = _on_device(score.ends, score.combine, place, tuple(map(jnp.asarray, same)), scores, left_out)
    return PredictionInterval(lower, upper, float(level))


def _ends_without_each(ends: Callable, combine: Any, parts: tuple, scores: Any, left_out: Any) -> tuple[Any, Any]:
    """Both ends by the models without each outcome, `(n, C)`, for parts of C new examples `(F, C)`."""
    if left_out.ndim == 1:
        chosen = tuple(part[left_out] for part in parts)
    else:
        weight = left_out.astype(scores.dtype)[:, :, None]
        chosen = combine(tuple(part[:, None] for part in parts), weight / weight.sum(0))
    return ends(chosen, scores[:, None])


_ROOM = 1 << 22
"""How many numbers the models without each outcome may say about the new examples that are treated at once."""


def _chunk(parts: tuple, scores: Any, left_out: Any) -> int:
    width = scores.shape[0] * (left_out.shape[0] if left_out.ndim == 2 else 1)
    return max(1, min(parts[0].shape[1], _ROOM // max(width, 1)))


def _on_host(score: Score, place: int, parts: tuple, scores: Any, left_out: Any) -> tuple[Any, Any]:
    chunk, size, num = _chunk(parts, scores, left_out), parts[0].shape[1], scores.shape[0]
    lowers, uppers = [], []
    for start in range(0, size, chunk):
        some = tuple(part[:, start : start + chunk] for part in parts)
        lower, upper = _ends_without_each(score.ends, score.combine, some, scores, left_out)
        lowers.append(np.partition(lower, num - place, axis=0)[num - place])
        uppers.append(np.partition(upper, place - 1, axis=0)[place - 1])
    return np.concatenate(lowers), np.concatenate(uppers)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _on_device(ends: Any, combine: Any, place: int, parts: tuple, scores: Any, left_out: Any) -> tuple[Any, Any]:
    num = scores.shape[0]

    def one(columns: tuple) -> tuple[Any, Any]:
        lower, upper = _ends_without_each(
            ends, combine, tuple(part[:, None] for part in columns), scores, jnp.asarray(left_out)
        )
        return jnp.sort(lower[:, 0])[num - place], jnp.sort(upper[:, 0])[place - 1]

    chunk = _chunk(parts, scores, left_out)
    return jax.lax.map(one, tuple(part.T for part in parts), batch_size=chunk)


def _check_array_score(name: str, score: Score) -> None:
    if score.combine is None or score.name == "uacqr":
        raise InputError(
            f"`{name}` expected a score that comes from arrays: `absolute`, `gamma`, `normalized`, `cqr` or `cqr_r`."
        )


def _check_fold(name: str, fold: Any, size: int) -> Any:
    fold = _inputs.array(name, "fold", fold)
    if fold.shape != (size,):
        raise InputError(f"`{name}` expected `fold` of shape ({size},), one an outcome, but got {fold.shape}.")
    if fold.dtype.kind not in "iu" or (is_concrete(fold) and (np.asarray(fold) < 0).any()):
        raise InputError(f"`{name}` expected `fold` to hold whole numbers from 0, but its dtype is {fold.dtype}.")
    return fold
