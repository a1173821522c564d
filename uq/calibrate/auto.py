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
from ._recalibrator import Recalibrator


class Candidate(NamedTuple):
    """How one recalibrator did."""

    name: str
    score: float
    """Mean log score over the examples, each scored by a map fitted without it; lower is better."""
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
        lines.append(f"choosing gains {self.gain[0]:+.4f} to {self.gain[1]:+.4f} on new examples (95 %)")
        return "\n".join(lines)


none = Recalibrator(
    "none", lambda pred, y, weight=None: (), lambda state, pred: pred, ("regression", "binary", "multiclass")
)


def auto(candidates: Sequence[Recalibrator] | None = None, *, folds: int = 10, seed: int = 0) -> Recalibrator:
    """The recalibrator with the best cross-validated log score, or none where none is better.

    The calibration examples are split into `folds`; each candidate is fitted to all but one and scored on that one.
    The best mean score is taken. The state tells all scores, and what choosing is worth on new examples, the choice
    included.

    Args:
      candidates: None is a list for the task: `scale`, `affine_variance`, `student_tails` for
        numbers; `temperature`, `vector`, `dirichlet` for classes; `temperature`, `platt`, `beta` for yes or no. Those
        that cannot take the predictions (another family, a class that is missing) are passed over.
      folds: of the cross-validation.
      seed: of the split; a whole number.
    Raises:
      InputError: fewer than two examples a fold; no candidate for the task.
    References:
      stone1974, section 2; tsamardinos2018, algorithm 3 (the interval). Checked against a loop over folds.
    """
    folds = check_count("folds", folds, least=2)
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
        for each in tried:
            column = _cross_validated(each, pred, y, share, fold, folds)
            if column is not None:
                scores.append(column)
                usable.append(each)
        table = np.stack(scores)
        best = _choose(table, share)
        rows = tuple(_row(each, column, table[0], share) for each, column in zip(usable, table, strict=True))
        gain = _honest_gain(table, share, rng)
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


def _cross_validated(
    each: Recalibrator, pred: Predictive, y: np.ndarray, share: np.ndarray, fold: np.ndarray, folds: int
) -> np.ndarray | None:
    """Log scores `(N,)` of examples by maps that did not see them; None where the candidate cannot take them."""
    scores = np.empty(len(pred))
    for f in range(folds):
        out = fold == f
        try:  # left out by a weight of 0: all folds have one shape, and compile once
            state = each.fit(pred, y, np.where(out, 0, share))
            scores[out] = -np.asarray(each.apply(state, pred).log_prob(y))[out]
        except InputError:
            return None
    return np.where(np.isnan(scores), np.inf, scores)


def _choose(table: np.ndarray, share: np.ndarray) -> int:
    """The candidate with the best mean score, the first of equal ones; `table` is `(C, N)`."""
    return int(np.argmin(table @ share))


def _row(each: Recalibrator, column: np.ndarray, base: np.ndarray, share: np.ndarray) -> Candidate:
    total = share.sum()
    gap = column - base
    mean = float(gap @ share / total) if np.isfinite(gap).all() else np.nan
    stderr = float(np.sqrt(share**2 @ (gap - mean) ** 2) / total) if np.isfinite(mean) else np.nan
    return Candidate(each.name, float(column @ share / total), mean, stderr)


def _honest_gain(table: np.ndarray, share: np.ndarray, rng: np.random.Generator, num: int = 500) -> tuple[float, float]:
    """Ends of the interval: choose by the examples of a resample, score by the others."""
    size = table.shape[1]
    gains = []
    for _ in range(num):
        counts = np.bincount(rng.integers(0, size, size), minlength=size)
        inside, outside = share * counts, share * (counts == 0)
        if inside.sum() == 0 or outside.sum() == 0:
            continue
        gap = (table[_choose(table, inside)] - table[0])[outside > 0]
        gains.append(float(gap @ outside[outside > 0] / outside.sum()))
    low, high = np.quantile(gains, [0.025, 0.975]) if gains else (np.nan, np.nan)
    return float(low), float(high)
