"""How well a score separates two kinds of examples: in- and out-of-distribution, right and wrong, 1 and 0.

Only the order of the scores counts, so they may be anything: probabilities, entropies, distances, log-densities. They
are never squashed, thresholded on a grid or assumed to lie between 0 and 1. Equal scores are one threshold.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from .._checks import InputError, check_level, is_concrete
from .._typing import ArrayLike
from . import _inputs, _ranking, _route
from ._estimate import Estimate, Statistic, check_weight, summarize
from ._ranking import Ties, after, before, ratio


class RocCurve(NamedTuple):
    """Rates as the threshold falls, `(N + 1,)`: one point a row after the start, which calls nothing positive."""

    fpr: Any
    """Share of the negatives at or above the threshold."""
    tpr: Any
    """Share of the positives at or above the threshold."""
    threshold: Any
    """Score from which on an example is called positive; infinite at the start."""


class PrecisionRecallCurve(NamedTuple):
    """Precision and recall as the threshold falls, `(N + 1,)`: one point a row after the start."""

    precision: Any
    """Share of positives among what is called positive; 1 where nothing is."""
    recall: Any
    """Share of the positives that are called so."""
    threshold: Any
    """Score from which on an example is called positive; infinite at the start."""


class _Rows(NamedTuple):
    positive: Any
    ties: Ties


def auroc(scores: Any, labels: ArrayLike, *, weight: Any = None, key: Any = None) -> Estimate:
    """Area under the ROC curve: how often a positive example has a higher score than a negative one.

    P(s₊ > s₋) + ½ P(s₊ = s₋), over pairs of a positive and a negative example: exactly the Mann–Whitney statistic,
    so a constant score has 0.5 whatever the order of the rows. It depends on the order of the scores alone: it says
    nothing of calibration, nor of how rare positives are. Its standard error comes from the influence of each example
    (DeLong's, but for factors n / (n − 1)); it is NaN with one example of a kind, and 0 at perfect separation, where
    it understates.

    Args:
      scores: `(N,)`, higher where an example is rather positive, in any units (for out-of-distribution detection,
        positive is out of distribution: entropy, epistemic variance, −log density); or predictions of two classes (a
        `Predictive`, a numpyro distribution, probabilities `(N, 2)`), whose score is P(1).
      labels: `(N,)`, True or 1 where positive, False or 0 where not.
      weight: `(N,)`, case weights.
      key: adds a bootstrap interval.
    Returns:
      An `Estimate` in [0, 1]; higher is better, ½ knows nothing.
    Raises:
      InputError: labels other than 0 and 1 or of one kind only, NaN among the scores, shapes that differ.
    References:
      hanley1982; delong1988. Checked against scikit-learn with ties and weights, loops over pairs,
      and the spread of simulated test sets.
    Example:
      >>> print(auroc([0.1, 2.0, 2.0, 7.5], [0, 0, 1, 1]))
      0.875 ± 0.14 (n = 4)
    """
    return _summary("auroc", AUROC, "area under the ROC curve, ties count half", scores, labels, weight, key)


def average_precision(scores: Any, labels: ArrayLike, *, weight: Any = None, key: Any = None) -> Estimate:
    """Mean precision at the thresholds where recall rises; also called AUPR.

    Σ (recallₖ − recallₖ₋₁) precisionₖ over distinct thresholds from high to low, without interpolation. A score that
    knows nothing has the share of positives, not ½: values of test sets with different shares do not compare. Which
    kind is called positive matters. The standard error comes from the influence of each example.

    Args:
      scores, labels, weight, key: as for `auroc`.
    Returns:
      An `Estimate` in [0, 1]; higher is better.
    Raises:
      InputError: as for `auroc`.
    References:
      davis2006. Checked against scikit-learn with ties and weights.
    Example:
      >>> round(float(average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])), 4)
      0.8333
    """
    return _summary(
        "average_precision", AVERAGE_PRECISION, "average precision, ties are one threshold", scores, labels, weight, key
    )


def fpr_at_tpr(scores: Any, labels: ArrayLike, *, level: float = 0.95, weight: Any = None, key: Any = None) -> Estimate:
    """Share of negatives called positive at the highest threshold that finds `level` of the positives.

    "FPR95" of the out-of-distribution literature. The threshold is the highest score t for which at least `level` of
    the positives have s ≥ t; all examples that share it are on the same side. It hangs on one order statistic of the
    positives: with few of them it is noisy, and no formula for its standard error holds, so that one needs `key`.

    Args:
      scores, labels, weight: as for `auroc`.
      level: share of positives to be found, in (0, 1).
      key: adds a bootstrap interval and the standard error.
    Returns:
      An `Estimate` in [0, 1]; lower is better.
    Raises:
      InputError: as for `auroc`; a level outside (0, 1).
    References:
      hendrycks2017; liang2018. Checked against the ROC curve of scikit-learn and loops.
    Example:
      >>> float(fpr_at_tpr([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]))
      0.5
    """
    check_level("level", level)
    words = f"false positive rate where the true positive rate reaches {level:g}"
    return _summary("fpr_at_tpr", FPR_AT_TPR, words, scores, labels, weight, key, {"level": float(level)})


def roc_curve(scores: Any, labels: ArrayLike, *, weight: Any = None) -> RocCurve:
    """True against false positive rate at every threshold.

    Rows of equal score share a point, which is repeated so that the shape depends on N alone. The area below it by
    trapezoids is `auroc`.

    Args:
      scores, labels, weight: as for `auroc`.
    Returns:
      A `RocCurve` of arrays `(N + 1,)`, thresholds falling from infinity.
    Raises:
      InputError: as for `auroc`.
    References:
      hanley1982. Checked against scikit-learn.
    Example:
      >>> curve = roc_curve([3.0, 2.0, 2.0], [1, 0, 1])
      >>> curve.fpr.tolist(), curve.tpr.tolist()
      ([0.0, 0.0, 1.0, 1.0], [0.0, 0.5, 1.0, 1.0])
    """
    scores, rows, weight = _ordered("roc_curve", scores, labels, weight)
    return RocCurve(*_route.run(_roc, rows, scores, weight))


def precision_recall_curve(scores: Any, labels: ArrayLike, *, weight: Any = None) -> PrecisionRecallCurve:
    """Precision against recall at every threshold.

    Rows of equal score share a point, which is repeated so that the shape depends on N alone. Points are not to be
    joined by straight lines: precision between them is not linear in recall, and the area is `average_precision`.

    Args:
      scores, labels, weight: as for `auroc`.
    Returns:
      A `PrecisionRecallCurve` of arrays `(N + 1,)`, thresholds falling from infinity.
    Raises:
      InputError: as for `auroc`.
    References:
      davis2006. Checked against scikit-learn.
    Example:
      >>> curve = precision_recall_curve([3.0, 2.0, 1.0], [1, 0, 1])
      >>> curve.precision.round(2).tolist(), curve.recall.tolist()
      ([1.0, 1.0, 0.5, 0.67], [0.0, 0.5, 0.5, 1.0])
    """
    scores, rows, weight = _ordered("precision_recall_curve", scores, labels, weight)
    return PrecisionRecallCurve(*_route.run(_precision_recall, rows, scores, weight))


# Statistics of rows in falling order of their scores


def _auroc(xp: Any, rows: _Rows, weight: Any) -> Any:
    positive, negative = _kinds(xp, rows, weight)
    _, beaten = _standing(xp, rows, positive, negative)
    return _defined(xp, (positive * beaten).sum() / _or_one(xp, positive.sum()), positive, negative)


def _auroc_influence(xp: Any, rows: _Rows, weight: Any, value: Any) -> Any:
    positive, negative = _kinds(xp, rows, weight)
    beats, beaten = _standing(xp, rows, positive, negative)
    of_positives, of_negatives = ratio(xp, weight.sum(), positive.sum()), ratio(xp, weight.sum(), negative.sum())
    each = xp.where(rows.positive, (beaten - value) * of_positives, (beats - value) * of_negatives)
    return xp.where(((positive > 0).sum() > 1) & ((negative > 0).sum() > 1), each, xp.nan)


def _standing(xp: Any, rows: _Rows, positive: Any, negative: Any) -> tuple[Any, Any]:
    """Shares of the positives above each row, and of the negatives below it; ties count half."""
    return _above(xp, rows.ties, positive), 1 - _above(xp, rows.ties, negative)


def _above(xp: Any, ties: Ties, weight: Any) -> Any:
    cumulative = before(xp, weight)
    cumulative = cumulative / _or_one(xp, cumulative[-1])
    return (cumulative[ties.first] + cumulative[ties.last + 1]) / 2


def _average_precision(xp: Any, rows: _Rows, weight: Any) -> Any:
    positive, negative = _kinds(xp, rows, weight)
    precision = _precision(xp, rows.ties, positive, weight)[0]
    return _defined(xp, (positive * precision).sum() / _or_one(xp, positive.sum()), positive, negative)


def _average_precision_influence(xp: Any, rows: _Rows, weight: Any, value: Any) -> Any:
    positive, negative = _kinds(xp, rows, weight)
    precision, called = _precision(xp, rows.ties, positive, weight)
    found, alarms = (after(xp, ratio(xp, positive * each, called)) for each in (xp.ones_like(weight), precision))
    event = rows.positive.astype(weight.dtype)
    each = event * (precision - value) + event * found[rows.ties.first] - alarms[rows.ties.first]
    each = each * ratio(xp, weight.sum(), positive.sum())
    return xp.where(((positive > 0).sum() > 1) & ((negative > 0).sum() > 0), each, xp.nan)


def _precision(xp: Any, ties: Ties, positive: Any, weight: Any) -> tuple[Any, Any]:
    """Precision when each row's score is the threshold, and the weight called positive then."""
    called = before(xp, weight)[ties.last + 1]
    return ratio(xp, before(xp, positive)[ties.last + 1], called, 1.0), called


def _fpr_at_tpr(xp: Any, rows: _Rows, weight: Any, level: float) -> Any:
    positive, negative = _kinds(xp, rows, weight)
    found, alarms = (before(xp, each)[rows.ties.last + 1] for each in (positive, negative))
    enough = (weight > 0) & (found >= level * positive.sum() * (1 - _slack(weight)))
    at = xp.argmax(enough)
    return _defined(xp, alarms[at] / _or_one(xp, negative.sum()), positive, negative)


def _slack(weight: Any) -> float:
    """Room for rounding: 19 of 20 are 95 %."""
    return 1e-9 if weight.dtype.itemsize > 4 else 1e-6


def _kinds(xp: Any, rows: _Rows, weight: Any) -> tuple[Any, Any]:
    """Weights of the positives and of the negatives, each `(N,)`."""
    zero = xp.zeros((), weight.dtype)
    return xp.where(rows.positive, weight, zero), xp.where(rows.positive, zero, weight)


def _defined(xp: Any, value: Any, positive: Any, negative: Any) -> Any:
    """NaN where one kind is missing."""
    return xp.where((positive.sum() > 0) & (negative.sum() > 0), value, xp.nan)[()]


def _or_one(xp: Any, total: Any) -> Any:
    return xp.where(total > 0, total, 1)


AUROC = Statistic(_auroc, _auroc_influence)
AVERAGE_PRECISION = Statistic(_average_precision, _average_precision_influence)
FPR_AT_TPR = Statistic(_fpr_at_tpr)


def _roc(xp: Any, rows: _Rows, scores: Any, weight: Any) -> tuple[Any, Any, Any]:
    weight = _equal(xp, scores, weight)
    tpr, fpr = (
        xp.concatenate([xp.zeros(1, weight.dtype), before(xp, each)[rows.ties.last + 1] / _or_one(xp, each.sum())])
        for each in _kinds(xp, rows, weight)
    )
    return fpr, tpr, _thresholds(xp, scores)


def _precision_recall(xp: Any, rows: _Rows, scores: Any, weight: Any) -> tuple[Any, Any, Any]:
    weight = _equal(xp, scores, weight)
    positive, _ = _kinds(xp, rows, weight)
    recall = before(xp, positive)[rows.ties.last + 1] / _or_one(xp, positive.sum())
    precision, _ = _precision(xp, rows.ties, positive, weight)
    return (
        xp.concatenate([xp.ones(1, weight.dtype), precision]),
        xp.concatenate([xp.zeros(1, weight.dtype), recall]),
        _thresholds(xp, scores),
    )


def _equal(xp: Any, scores: Any, weight: Any) -> Any:
    return xp.ones(scores.shape, scores.dtype) if weight is None else weight.astype(scores.dtype)


def _thresholds(xp: Any, scores: Any) -> Any:
    return xp.concatenate([xp.full(1, xp.inf, scores.dtype), scores])


# Rows


def _summary(
    name: str, statistic: Statistic, estimand: str, scores: Any, labels: Any, weight: Any, key: Any,
    settings: dict[str, Any] | None = None,
) -> Estimate:  # fmt: skip
    _, rows, weight = _ordered(name, scores, labels, weight)
    return summarize(statistic, rows, weight=weight, estimand=estimand, key=key, settings=settings)


def _ordered(name: str, scores: Any, labels: Any, weight: Any) -> tuple[Any, _Rows, Any]:
    """Scores, rows and weight in falling order of the scores."""
    if _names_two_classes(scores):
        scores = _two_classes(name, scores, weight)
    scores = _ranking.column(name, "scores", scores, weight)
    weight = check_weight(name, weight, scores.shape[0])
    positive = _positive(name, labels, scores.shape[0], weight)
    order, ties = _ranking.descending(scores)
    scores, positive = (_ranking.in_order(each, order) for each in (scores, positive))
    return scores, _Rows(positive, ties), None if weight is None else _ranking.in_order(weight, order)


def _names_two_classes(scores: Any) -> bool:
    if not isinstance(scores, jax.Array | np.ndarray | list | tuple):
        return not hasattr(scores, "__array__")
    return np.ndim(scores) == 2 and np.shape(scores)[1] > 1


def _two_classes(name: str, pred: Any, weight: Any) -> Any:
    probs = _inputs.class_probs(name, pred, weight)
    if probs.shape[1] != 2:
        raise InputError(
            f"`{name}` expected scores (N,) or predictions of two classes, but these are of {probs.shape[1]}. Ask for "
            "one class at a time: scores `probs[:, c]` and labels `y == c`."
        )
    return probs[:, 1]


def _positive(name: str, labels: Any, size: int, weight: Any) -> Any:
    """Labels as booleans `(N,)`, of both kinds."""
    labels = _inputs._flat(_inputs._array(name, labels))
    if labels.shape != (size,):
        raise InputError(f"`{name}` expected `labels` of shape ({size},), one a score, but got {labels.shape}.")
    labels = _inputs.live_rows(name, labels, weight)
    if is_concrete(labels):
        values = np.asarray(labels)
        wrong = np.flatnonzero((values != 0) & (values != 1))
        if len(wrong):
            raise InputError(
                f"`{name}` expected labels 0 and 1 (or False and True), but row {wrong[0]} is {values[wrong[0]]}. Pass "
                "`y == c` for a class c."
            )
        if values.all() or not values.any():
            raise InputError(
                f"`{name}` expected examples of both kinds, but all {size} that count have label {int(values[0])}: "
                "nothing to tell apart."
            )
    return labels.astype(bool)
