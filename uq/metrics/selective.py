"""Selective prediction: what is gained by answering only where the model is confident.

Examples are taken from the most confident to the least. *Coverage* is the share taken, *risk* the mean loss among
those, *generalised risk* the loss among those over all examples (the chance of a silent failure). Examples of equal
confidence are taken in random order, and everything is the exact mean over those orders: no value depends on the order
of the rows.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .. import laws
from .._checks import InputError, check_finite, check_level, is_concrete
from ..predictive import Predictive
from . import _inputs, _ranking, _route
from ._estimate import Estimate, Statistic, check_weight, summarize
from ._forecast import forecast, is_scipy
from ._ranking import Ties, before, ratio


class RiskCoverage(NamedTuple):
    """What happens as ever less confident examples are taken; one point a row, `(N,)`."""

    coverage: Any
    """Share of the examples taken."""
    risk: Any
    """Mean loss among them."""
    generalized_risk: Any
    """Their loss over the number of all examples: `coverage · risk`."""
    threshold: Any
    """Confidence of the last one taken."""


class _Rows(NamedTuple):
    loss: Any
    ties: Ties
    rank: Any = None
    """Place of each row among losses from the smallest on, where a metric compares with the best order."""


def risk_coverage(pred: Any = None, y: Any = None, *, confidence: Any = None, loss: Any = None, weight: Any = None
                  ) -> RiskCoverage:  # fmt: skip
    """Risk against coverage: mean loss of the most confident examples, for every share of them.

    Args:
      pred, y: predictions and outcomes. For classes (probabilities, a `Predictive`, a numpyro distribution) confidence
        is the largest probability and the loss 1 for a wrong class; for a regression, −variance and the squared
        error, averaged over outputs. Not needed where both keywords are given.
      confidence: `(N,)`, higher where surer, in place of that; any units, for example `-pred.epistemic`.
      loss: `(N,)`, finite, in place of that, or a score of `uq.metrics` such as `brier_score`, called as
        `loss(pred, y)`.
      weight: `(N,)`, case weights.
    Returns:
      A `RiskCoverage` of arrays `(N,)`, from the most confident example on.
    Raises:
      InputError: shapes that differ, a loss that is not finite, NaN among the confidences, missing arguments.
    References:
      geifman2017, section 2. Checked against loops over all orders of tied examples.
    Example:
      >>> risk_coverage(confidence=[0.9, 0.8, 0.7, 0.6], loss=[0, 1, 0, 1]).risk.round(2).tolist()
      [0.0, 0.5, 0.33, 0.5]
    """
    rows, confidence, weight = _prepared("risk_coverage", pred, y, confidence, loss, weight)
    return RiskCoverage(*_route.run(_curve, rows, confidence, weight))


def aurc(pred: Any = None, y: Any = None, *, confidence: Any = None, loss: Any = None, weight: Any = None,
         key: Any = None) -> Estimate:  # fmt: skip
    """Area under the risk–coverage curve, (1/N) Σₖ risk of the k most confident; lower is better.

    It mixes how good predictions are with how well confidence ranks them: two models of different accuracy differ in
    it even if their confidence is equally informative (see `eaurc` and `augrc`), and the few most confident examples
    count in every term. The standard error comes from the influence of each example.

    Args:
      pred, y, confidence, loss: as for `risk_coverage`.
      weight: `(N,)`; a row of weight w counts as w rows of equal confidence. As the number of examples has a (small)
        part in the value, weights that average less than one over the rows that count are scaled to average one.
      key: adds a bootstrap interval.
    Returns:
      An `Estimate` in the units of the loss: in [0, 1] for errors 0 and 1.
    Raises:
      InputError: as for `risk_coverage`.
    References:
      geifman2017, section 2; geifman2019. Checked against the mean over all orders of tied examples,
      repeated rows, and the spread of simulated test sets.
    Example:
      >>> round(float(aurc(confidence=[0.9, 0.8, 0.7, 0.6], loss=[0, 1, 0, 1])), 4)
      0.3333
    """
    return _summary("aurc", AURC, "area under the risk-coverage curve", pred, y, confidence, loss, weight, key)


def eaurc(pred: Any = None, y: Any = None, *, confidence: Any = None, loss: Any = None, weight: Any = None,
          key: Any = None) -> Estimate:  # fmt: skip
    """Excess AURC: what the order of confidence loses against the best order of these very losses; ≥ 0.

    `aurc` minus the `aurc` of the examples sorted by their loss. It still depends on accuracy: with few errors there
    is less to lose.

    Args:
      pred, y, confidence, loss, weight, key: as for `aurc`.
    Returns:
      An `Estimate` in the units of the loss; lower is better.
    Raises:
      InputError: as for `risk_coverage`.
    References:
      geifman2019. Checked against the difference of two sorted sums.
    Example:
      >>> round(float(eaurc(confidence=[0.9, 0.8, 0.7, 0.6], loss=[0, 1, 0, 1])), 4)
      0.125
    """
    words = "area under the risk-coverage curve in excess of the best order"
    return _summary("eaurc", EAURC, words, pred, y, confidence, loss, weight, key, ranked=True)


def augrc(pred: Any = None, y: Any = None, *, confidence: Any = None, loss: Any = None, weight: Any = None,
          key: Any = None) -> Estimate:  # fmt: skip
    """Area under the generalised risk–coverage curve: mean risk of a silent failure over all coverages.

    ∫ (loss of the examples taken / N) d coverage, by trapezoids, which are exact. For errors 0 and 1 it is
    (1 − AUROC) a (1 − a) + (1 − a)²/2, with accuracy a and the AUROC of confidence for telling right from wrong, also
    with ties. Unlike `aurc` no example counts more for being confident. Between 0 and ½ for errors; it still mixes
    accuracy and ranking. The standard error comes from the influence of each example.

    Args:
      pred, y, confidence, loss, weight, key: as for `aurc`; here only proportions of weights matter.
    Returns:
      An `Estimate` in the units of the loss; lower is better.
    Raises:
      InputError: as for `risk_coverage`.
    References:
      traub2024. Checked against the identity above to rounding, loops, and the spread of simulated test sets.
    Example:
      >>> round(float(augrc(confidence=[0.9, 0.8, 0.7, 0.6], loss=[0, 1, 0, 1])), 4)
      0.1875
    """
    words = "area under the generalised risk-coverage curve"
    return _summary("augrc", AUGRC, words, pred, y, confidence, loss, weight, key)


def risk_at_coverage(pred: Any = None, y: Any = None, *, coverage: float = 0.8, confidence: Any = None,
                     loss: Any = None, weight: Any = None, key: Any = None) -> Estimate:  # fmt: skip
    """Mean loss of the most confident share of the examples.

    Where the share is not a whole number of examples, the last one counts in part. The standard error needs `key`:
    that of a quantile's neighbourhood has no stable formula.

    Args:
      coverage: share of the examples taken, in (0, 1).
      pred, y, confidence, loss, weight, key: as for `augrc`.
    Returns:
      An `Estimate` in the units of the loss; lower is better.
    Raises:
      InputError: as for `risk_coverage`; a coverage outside (0, 1).
    References:
      geifman2017, section 2. Checked against loops over orders of tied examples.
    Example:
      >>> float(risk_at_coverage(confidence=[0.9, 0.8, 0.7, 0.6], loss=[0, 1, 0, 1], coverage=0.5))
      0.5
    """
    check_level("coverage", coverage)
    words, settings = f"mean loss of the most confident {coverage:g}", {"coverage": float(coverage)}
    return _summary("risk_at_coverage", RISK_AT_COVERAGE, words, pred, y, confidence, loss, weight, key, settings)


def coverage_at_risk(pred: Any = None, y: Any = None, *, risk: float, confidence: Any = None, loss: Any = None,
                     weight: Any = None, key: Any = None) -> Estimate:  # fmt: skip
    """Largest share of the examples that can be taken at a mean loss of at most `risk`.

    Over thresholds on confidence, so that examples of equal confidence are taken together; 0 where no threshold keeps
    the promise (the curve may exceed it at first and keep it later: that counts). It is the best choice in hindsight,
    therefore optimistic: a threshold with a guarantee must be chosen on other data. The standard error needs `key`.

    Args:
      risk: the mean loss allowed, in units of the loss.
      pred, y, confidence, loss, weight, key: as for `augrc`.
    Returns:
      An `Estimate` in [0, 1], a share of the examples; higher is better.
    Raises:
      InputError: as for `risk_coverage`; a risk that is not a finite number.
    References:
      geifman2017, section 2. Checked against loops over thresholds.
    Example:
      >>> float(coverage_at_risk(confidence=[0.9, 0.8, 0.7, 0.6], loss=[1, 0, 0, 0], risk=0.4))
      1.0
      >>> float(coverage_at_risk(confidence=[0.9, 0.8], loss=[1, 1], risk=0.4))
      0.0
    """
    if isinstance(risk, bool) or not isinstance(risk, float | int | np.number) or not np.isfinite(risk):
        raise InputError(f"`risk` expected a finite number, the mean loss allowed, but it is {risk!r}.")
    words, settings = f"largest coverage with risk at most {risk:g}", {"risk": float(risk)}
    return _summary("coverage_at_risk", COVERAGE_AT_RISK, words, pred, y, confidence, loss, weight, key, settings)


def sparsification_error(pred: Any = None, y: Any = None, *, confidence: Any = None, loss: Any = None,
                         weight: Any = None, key: Any = None) -> Estimate:  # fmt: skip
    """Normalised area between the sparsification curve and its oracle (AUSE): `eaurc` / mean loss.

    The mean loss that remains after removing the least confident examples, minus what would remain after removing
    those of the largest loss, averaged over the share removed and divided by the mean loss of all. 0 where uncertainty
    ranks losses perfectly; a confidence that knows nothing has 1 − (the oracle's own area). Papers that plot the root
    of the remaining squared error get other values.

    Args:
      pred, y, confidence, loss, weight, key: as for `aurc`.
    Returns:
      An `Estimate` without unit; lower is better.
    Raises:
      InputError: as for `risk_coverage`; a loss whose mean is not positive.
    References:
      ilg2018. Checked against loops.
    Example:
      >>> round(float(sparsification_error(confidence=[0.9, 0.8, 0.7, 0.6], loss=[0, 1, 0, 1])), 4)
      0.25
    """
    words = "area under the sparsification error, over the mean loss"
    name = "sparsification_error"
    return _summary(name, SPARSIFICATION, words, pred, y, confidence, loss, weight, key, ranked=True)


# Statistics of rows in falling order of confidence


class _Groups(NamedTuple):
    """For each row, about the rows of its confidence: sums over those before, and over the group itself."""

    start: Any
    """Weight of the rows more confident."""
    size: Any
    """Weight of the rows of this confidence."""
    base: Any
    """Loss of the rows more confident."""
    mean: Any
    """Mean loss of the rows of this confidence."""
    total: Any
    """Weight of all rows."""


def _groups(xp: Any, loss: Any, ties: Ties, weight: Any) -> _Groups:
    rows, losses = before(xp, weight), before(xp, weight * loss.astype(weight.dtype))
    start, base = rows[ties.first], losses[ties.first]
    size = rows[ties.last + 1] - start
    return _Groups(start, size, base, ratio(xp, losses[ties.last + 1] - base, size), rows[-1])


def _counts(xp: Any, weight: Any) -> Any:
    """Weights as counts of rows: scaled up where they average less than one over the rows that count."""
    total, live = weight.sum(), (weight > 0).sum().astype(weight.dtype)
    return weight * xp.maximum(ratio(xp, live, total), 1)


def _aurc(xp: Any, rows: _Rows, weight: Any) -> Any:
    return _area(xp, rows.loss, rows.ties, _counts(xp, weight))


def _area(xp: Any, loss: Any, ties: Ties, weight: Any) -> Any:
    """(1/W) Σₖ (expected loss of the first k rows) / k.

    In a group that begins after A rows of loss L and has n rows of mean loss e, the k-th row of all has expected
    cumulative loss L + (k − A) e, and Σ over the group is n e + (L − A e) (H(A + n) − H(A)), H the harmonic numbers.
    """
    group = _groups(xp, loss, ties, weight)
    excess = (group.base - group.start * group.mean) * ratio(xp, _harmonic_gap(xp, group.start, group.size), group.size)
    return ratio(xp, (weight * (group.mean + excess)).sum(), group.total, np.nan)[()]


_TAIL = (1 / 24, -7 / 960, 31 / 8064, -127 / 30720)


def _harmonic_gap(xp: Any, start: Any, size: Any) -> Any:
    """H(start + size) − H(start) to rounding, without cancellation; H(x) = ψ(x + 1) + γ.

    The recurrence moves both ends up, to where ψ(x + ½) = log x + 1/24x² − 7/960x⁴ + … needs four terms.
    """
    end, steps = start + size, 8 if start.dtype.itemsize > 4 else 3
    gap = sum(size / ((start + j) * (end + j)) for j in range(1, steps + 1))
    low, high = start + (steps + 0.5), end + (steps + 0.5)
    return gap + xp.log1p(size / low) + _tail(high) - _tail(low)


def _tail(x: Any) -> Any:
    square = 1 / (x * x)
    return square * (_TAIL[0] + square * (_TAIL[1] + square * (_TAIL[2] + square * _TAIL[3])))


def _aurc_influence(xp: Any, rows: _Rows, weight: Any, value: Any) -> Any:
    return _area_influence(xp, rows.loss, rows.ties, _counts(xp, weight), value)


def _area_influence(xp: Any, loss: Any, ties: Ties, weight: Any, value: Any) -> Any:
    """How the sum of `_area` moves with a row's weight: through its own group, and as the groups after it shift."""
    group = _groups(xp, loss, ties, weight)
    loss, end = loss.astype(weight.dtype), group.start + group.size
    gap = _harmonic_gap(xp, group.start, group.size)
    excess = group.base - group.start * group.mean
    slope_start, slope_end = 1 / (group.start + 0.5), 1 / (end + 0.5)
    own = loss - group.start * ratio(xp, loss - group.mean, group.size) * gap + excess * slope_end
    shift = group.mean * gap - excess * (slope_end - slope_start)
    later = _ranking.after(xp, weight * ratio(xp, shift, group.size))[ties.last + 1]
    return own + loss * _harmonic_gap(xp, end, xp.maximum(group.total - end, 0)) - later - value


def _best_order(xp: Any, rows: _Rows, weight: Any) -> tuple[Any, Ties, Any]:
    """Loss, ties and weight of the rows from the smallest loss to the largest."""
    loss, zero = rows.loss.astype(weight.dtype), xp.zeros_like(weight)
    place = xp.arange(weight.shape[0])
    if xp is np:
        moved = zero.copy()
        np.add.at(moved, rows.rank, weight)
        losses = zero.copy()
        np.add.at(losses, rows.rank, weight * loss)
    else:
        moved, losses = zero.at[rows.rank].add(weight), zero.at[rows.rank].add(weight * loss)
    return ratio(xp, losses, moved), Ties(place, place), moved


def _eaurc(xp: Any, rows: _Rows, weight: Any) -> Any:
    weight = _counts(xp, weight)
    return _area(xp, rows.loss, rows.ties, weight) - _area(xp, *_best_order(xp, rows, weight))


def _eaurc_influence(xp: Any, rows: _Rows, weight: Any, value: Any) -> Any:
    weight = _counts(xp, weight)
    best, found = _best_order(xp, rows, weight), _area(xp, rows.loss, rows.ties, weight)
    ideal = _area_influence(xp, *best, found - value)
    return _area_influence(xp, rows.loss, rows.ties, weight, found) - ideal[rows.rank]


def _sparsification(xp: Any, rows: _Rows, weight: Any) -> Any:
    return ratio(xp, _eaurc(xp, rows, weight), _risk(xp, rows, weight), np.nan)[()]


def _sparsification_influence(xp: Any, rows: _Rows, weight: Any, value: Any) -> Any:
    risk = _risk(xp, rows, weight)
    return (_eaurc_influence(xp, rows, weight, value * risk) - value * (rows.loss.astype(weight.dtype) - risk)) / risk


def _risk(xp: Any, rows: _Rows, weight: Any) -> Any:
    return ratio(xp, (weight * rows.loss.astype(weight.dtype)).sum(), weight.sum(), np.nan)


def _augrc(xp: Any, rows: _Rows, weight: Any) -> Any:
    group = _groups(xp, rows.loss, rows.ties, weight)
    taken = group.base / group.total + 0.5 * group.mean * (group.size / group.total)
    return ((weight / group.total) * taken).sum()


def _augrc_influence(xp: Any, rows: _Rows, weight: Any, value: Any) -> Any:
    group, loss = _groups(xp, rows.loss, rows.ties, weight), rows.loss.astype(weight.dtype)
    taken = group.base + 0.5 * group.mean * group.size
    later = group.total - group.start - 0.5 * group.size
    return (taken + loss * later) / group.total - 2 * value


def _risk_at_coverage(xp: Any, rows: _Rows, weight: Any, coverage: float) -> Any:
    group = _groups(xp, rows.loss, rows.ties, weight)
    taken = coverage * group.total
    at = xp.argmax((weight > 0) & (group.start + group.size >= taken * (1 - _slack(weight))))
    return ((group.base[at] + (taken - group.start[at]) * group.mean[at]) / taken)[()]


def _coverage_at_risk(xp: Any, rows: _Rows, weight: Any, risk: float) -> Any:
    group = _groups(xp, rows.loss, rows.ties, weight)
    end = group.start + group.size
    kept = (weight > 0) & (group.base + group.mean * group.size <= risk * end + abs(risk) * _slack(weight) * end)
    return xp.max(xp.where(kept, end / group.total, 0))[()]


def _slack(weight: Any) -> float:
    """Room for rounding: 1 in 5 is a risk of 0.2."""
    return 1e-9 if weight.dtype.itemsize > 4 else 1e-6


AURC = Statistic(_aurc, _aurc_influence)
EAURC = Statistic(_eaurc, _eaurc_influence)
AUGRC = Statistic(_augrc, _augrc_influence)
SPARSIFICATION = Statistic(_sparsification, _sparsification_influence)
RISK_AT_COVERAGE = Statistic(_risk_at_coverage)
COVERAGE_AT_RISK = Statistic(_coverage_at_risk)


def _curve(xp: Any, rows: _Rows, confidence: Any, weight: Any) -> tuple[Any, Any, Any, Any]:
    kind = xp.result_type(confidence.dtype, rows.loss.dtype)
    weight = xp.ones(rows.loss.shape, kind) if weight is None else weight.astype(kind)
    group, taken = _groups(xp, rows.loss, rows.ties, weight), xp.cumsum(weight)
    loss = group.base + (taken - group.start) * group.mean
    return taken / group.total, ratio(xp, loss, taken), loss / group.total, confidence


# Rows


def _summary(
    name: str, statistic: Statistic, estimand: str, pred: Any, y: Any, confidence: Any, loss: Any, weight: Any,
    key: Any, settings: dict[str, Any] | None = None, ranked: bool = False,
) -> Estimate:  # fmt: skip
    rows, _, weight = _prepared(name, pred, y, confidence, loss, weight, ranked)
    if statistic is SPARSIFICATION and is_concrete((rows.loss, weight)):
        _check_positive(name, rows.loss, weight)
    of = "error" if loss is None and _of_classes(pred) else "loss"
    return summarize(
        statistic, rows, weight=weight, estimand=f"{estimand}; {of}, ties expected", key=key, settings=settings
    )


def _prepared(
    name: str, pred: Any, y: Any, confidence: Any, loss: Any, weight: Any, ranked: bool = False
) -> tuple[_Rows, Any, Any]:
    """Rows, confidence and weight in falling order of confidence."""
    if confidence is None or loss is None or callable(loss):
        if pred is None or y is None:
            raise InputError(f"`{name}` expected predictions and outcomes, or both `confidence=` and `loss=`.")
        sure, lost = _defaults(name, _ranking.alive(name, pred, weight), y, loss, weight)
        confidence = sure if confidence is None else confidence
        loss = lost if loss is None or callable(loss) else loss
    confidence = _ranking.column(name, "confidence", confidence, weight)
    loss = _ranking.column(name, "loss", loss, weight)
    if loss.shape != confidence.shape:
        raise InputError(
            f"`{name}` expected one loss for each confidence, but their shapes are {loss.shape} and {confidence.shape}."
        )
    check_finite("loss", loss)
    weight = check_weight(name, weight, loss.shape[0])
    order, ties = _ranking.descending(confidence)
    confidence, loss = (_ranking.in_order(each, order) for each in (confidence, loss))
    rank = _rank(loss) if ranked else None
    return _Rows(loss, ties, rank), confidence, None if weight is None else _ranking.in_order(weight, order)


def _rank(loss: Any) -> Any:
    """Place of each row from the smallest loss to the largest."""
    order, _ = _ranking.descending(-loss)
    if isinstance(order, np.ndarray):
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return rank
    return jnp.zeros_like(order).at[order].set(jnp.arange(order.shape[0], dtype=order.dtype))


def _defaults(name: str, pred: Any, y: Any, loss: Any, weight: Any) -> tuple[Any, Any]:
    """Confidence and loss that go with the kind of prediction."""
    score = None
    if callable(loss):
        score = _ranking.per_example(name, loss, *(_ranking.alive(name, each, weight) for each in (pred, y)))
    if _of_classes(pred):
        fixed = not is_concrete(weight) and is_concrete((pred, y))
        probs, labels = _inputs.classes(name, pred, y, None if fixed else weight)
        confidence = probs.max(1)
        wrong = (probs.argmax(1) != labels).astype(probs.dtype)
        return confidence, wrong if score is None else score
    law = forecast(name, pred)
    variance, size = law.variance, law.shape[0]
    xp = np if _route.on_host(variance) else jnp
    confidence = -xp.asarray(variance).reshape(size, -1).mean(1)
    if score is None:
        square = xp.square(xp.asarray(_residual(pred, law, y)))
        score = square.reshape(size, -1).mean(1)
    return confidence, score


def _residual(pred: Any, law: Any, y: Any) -> Any:
    return pred.residual(y) if isinstance(pred, Predictive) else law.check(y) - law.mean


def _of_classes(pred: Any) -> bool:
    """Whether predictions are of classes: arrays are."""
    if isinstance(pred, Predictive):
        return pred.task != "regression"
    if is_scipy(pred):
        return False
    if not _inputs.is_distribution(pred):
        return True
    try:
        laws.class_probs(pred)
    except InputError:
        return False
    return True


def _check_positive(name: str, loss: Any, weight: Any) -> None:
    mean = np.average(np.asarray(loss, np.float64), weights=None if weight is None else np.asarray(weight))
    if not mean > 0:
        raise InputError(f"`{name}` expected a loss with a positive mean, to divide by, but the mean is {mean:.4g}.")
