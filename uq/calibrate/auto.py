"""A recalibrator chosen by cross-validation, and an honest account of what the choice is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np

from .._checks import InputError, check_count
from .._typing import ArrayLike
from ..metrics._estimate import check_weight
from ..predictive import Predictive
from . import _voters
from ._recalibrator import Recalibrator


class Candidate(NamedTuple):
    """How one recalibrator did."""

    name: str
    score: float
    """Mean log score over the examples, each scored by a map fitted without it, and for as many voters as will predict;
    lower is better."""
    difference: float
    """To leaving the predictions alone; negative is better."""
    stderr: float
    """Of the difference, over examples."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AutoState:
    """Of `auto`: what was chosen, fitted to all examples, and why. `print` shows the candidates."""

    state: Any
    """The chosen recalibrator's."""
    chosen: str = field(metadata={"static": True})
    """Its name."""
    candidates: tuple[Candidate, ...] = field(metadata={"static": True})
    """In the order in which they were tried."""
    gain: tuple[float, float] = field(metadata={"static": True})
    """A 95 % interval for the difference that *choosing* makes on new examples: each resample chooses by the examples
    in it, and is scored by those that are not (tsamardinos2018)."""

    def __repr__(self) -> str:
        width = max(len(each.name) for each in self.candidates)
        lines = [f"{'recalibrator':<{width}}  log score  against none"]
        for each in self.candidates:
            mark = "*" if each.name == self.chosen else " "
            against = "" if each.name == "none" else f"{each.difference:+.4f} ± {each.stderr:.4f}"
            lines.append(f"{each.name:<{width}} {mark}{each.score:>9.4f}  {against}".rstrip())
        low, high = self.gain
        lines.append(
            f"choosing changes the score by {low:+.4f} to {high:+.4f} on new examples (95 %); below 0 is better"
        )
        return "\n".join(lines)


none = Recalibrator(
    "none", lambda pred, y, weight=None: (), lambda state, pred: pred, ("regression", "binary", "multiclass")
)


def auto(
    candidates: Sequence[Recalibrator] | None = None, *, folds: int = 10, seed: int = 0, voters: float | None = None
) -> Recalibrator:
    """The recalibrator with the best cross-validated log score, or none where none is better.

    The calibration examples are split into `folds`; each candidate is fitted to all but one and scored on that one.
    For numbers the best mean score is taken. Of maps of classes, a free one that chance has chosen does harm (what it
    has made impossible comes about): there it is the first in the list within one standard error of the best, be it
    none. The state tells all scores, and what choosing is worth on new examples, the choice included.

    Args:
      candidates: the simplest first; None is a list for the task: `scale`, `affine_variance`, `student_tails` for
        numbers; `temperature`, `vector`, `dirichlet` for classes; `temperature`, `platt`, `beta` for yes or no. Those
        that cannot take the predictions (another family, a class that is missing) are passed over.
      folds: of the cross-validation.
      seed: of the split; a whole number.
      voters: how many members will vote at prediction time, where fewer do on the calibration examples (out of fold);
        None is as many. What classes score is then extrapolated, in the inverse of their number: a map that two voters
        need may be one that ten do not. `posterior.calibrate` and `fit` pass it. Numbers are scored as they are: their
        recalibrators know what few voters err by.
    Raises:
      InputError: fewer than two examples a fold; no candidate for the task; voters below 1.
    References:
      stone1974, section 2; breiman1984, section 3.4.3 (one standard error); tsamardinos2018, algorithm 3 (the
      interval). Checked against a loop over folds.
    """
    folds = check_count("folds", folds, least=2)
    if voters is not None and not voters >= 1:
        raise InputError(f"`voters` expected a number of members of at least 1, but got {voters}.")
    given = None if candidates is None else tuple(candidates)

    def fit(pred: Any, y: ArrayLike, weight: ArrayLike | None = None) -> AutoState:
        if not isinstance(pred, Predictive):
            raise InputError(f"`auto` expected a Predictive, but got a {type(pred).__name__}.")
        tried = [each for each in (none, *(_usual(pred) if given is None else given)) if pred.task in each.tasks]
        if len(tried) < 2:
            raise InputError(f"`auto` has no candidate for {pred.task} predictions.")
        y = np.asarray(y)
        share = np.ones(len(pred)) if weight is None else np.asarray(check_weight("auto", weight, len(pred)), float)
        if len(pred) < 2 * folds:
            raise InputError(f"`auto` expected at least {2 * folds} examples for {folds} folds, but got {len(pred)}.")
        rng = np.random.default_rng(seed)
        fold = rng.permutation(np.arange(len(pred)) % folds)
        scores, usable = [], []
        parts = _parts(pred, voters)
        for each in tried:
            column = _cross_validated(each, pred, parts, y, share, fold, folds)
            if column is not None:
                scores.append(column)
                usable.append(each)
        table = np.stack(scores)
        errors = 0.0 if pred.task == "regression" else 1.0
        best = _choose(table, share, errors)
        rows = tuple(_row(each, column, table[0], share) for each, column in zip(usable, table, strict=True))
        gain = _honest_gain(table, share, errors, rng)
        return AutoState(usable[best].fit(pred, y, weight), usable[best].name, rows, gain)

    def apply(state: AutoState, pred: Any) -> Predictive:
        known = (none, *(_usual(pred) if given is None else given))
        return next(each for each in known if each.name == state.chosen).apply(state.state, pred)

    return Recalibrator("auto", fit, apply, ("regression", "binary", "multiclass"))


def _usual(pred: Predictive) -> tuple[Recalibrator, ...]:
    from . import affine_variance, beta, dirichlet, platt, quantiles, scale, student_tails, temperature, vector

    if pred.task == "regression":
        if not hasattr(pred._base, "moved"):
            return (quantiles(),)
        return scale(), affine_variance(), student_tails()
    if pred.task == "binary":
        return temperature(), platt(), beta()
    return temperature(), vector(), dirichlet()


class _Parts(NamedTuple):
    """What makes scores of few voters those of many: score + `factor` (score − mean score of the two halves)."""

    share: float
    """1 / V of those who will vote."""
    halves: tuple[Predictive, Predictive]
    factor: np.ndarray
    """`(N,)`; 0 where a single member votes."""


def _parts(pred: Predictive, voters: float | None) -> _Parts | None:
    """None where scores count as they are."""
    halves = None if voters is None or pred.task == "regression" else _voters.halves(pred)
    if voters is None or halves is None:
        return None
    whole, *half = (np.asarray(_voters.share_of(each), np.float64) for each in (pred, *halves))
    step = sum(half) / 2 - whole
    factor = np.where(step > 0, np.maximum(whole - 1 / voters, 0) / np.where(step > 0, step, 1), 0)
    return _Parts(1 / voters, halves, factor)


def _cross_validated(
    each: Recalibrator,
    pred: Predictive,
    parts: _Parts | None,
    y: np.ndarray,
    share: np.ndarray,
    fold: np.ndarray,
    folds: int,
) -> np.ndarray | None:
    """Log scores `(N,)` of examples by maps that did not see them; None where the candidate cannot take them."""
    scores = np.empty(len(pred))
    for f in range(folds):
        out = fold == f
        try:  # left out by a weight of 0: all folds have one shape, and compile once
            state = each.fit(pred, y, np.where(out, 0, share))
            if parts is not None:
                state = _voters.settled(state, parts.share)
            found = _scores(each, state, pred, y)
            if parts is not None:
                few = sum(_scores(each, state, half, y) for half in parts.halves) / 2
                found = np.where(np.isfinite(few), found + parts.factor * (found - few), np.inf)
            scores[out] = found[out]
        except InputError:
            return None
    return np.where(np.isnan(scores), np.inf, scores)


def _scores(each: Recalibrator, state: Any, pred: Predictive, y: np.ndarray) -> np.ndarray:
    return -np.asarray(each.apply(state, pred).log_prob(y), np.float64)


def _choose(table: np.ndarray, share: np.ndarray, errors: float) -> int:
    """The first candidate within `errors` standard errors of the one with the best mean score; `table` is `(C, N)`."""
    best = int(np.argmin(table @ share))
    for i in range(best):
        if np.isfinite(table[i]).all():
            mean, stderr = _mean_and_stderr(table[i] - table[best], share)
            if mean <= errors * stderr:
                return i
    return best


def _mean_and_stderr(values: np.ndarray, share: np.ndarray) -> tuple[float, float]:
    total = share.sum()
    mean = values @ share / total
    return float(mean), float(np.sqrt(share**2 @ (values - mean) ** 2) / total)


def _row(each: Recalibrator, column: np.ndarray, base: np.ndarray, share: np.ndarray) -> Candidate:
    gap = column - base
    mean, stderr = _mean_and_stderr(gap, share) if np.isfinite(gap).all() else (np.nan, np.nan)
    return Candidate(each.name, float(column @ share / share.sum()), mean, stderr)


def _honest_gain(
    table: np.ndarray, share: np.ndarray, errors: float, rng: np.random.Generator, num: int = 500
) -> tuple[float, float]:
    """Ends of the interval: choose by the examples of a resample, score by the others."""
    size = table.shape[1]
    gains = []
    for _ in range(num):
        counts = np.bincount(rng.integers(0, size, size), minlength=size)
        inside, outside = share * counts, share * (counts == 0)
        if inside.sum() == 0 or outside.sum() == 0:
            continue
        gap = (table[_choose(table, inside, errors)] - table[0])[outside > 0]
        gains.append(float(gap @ outside[outside > 0] / outside.sum()))
    low, high = np.quantile(gains, [0.025, 0.975]) if gains else (np.nan, np.nan)
    return float(low), float(high)
