"""Score = miscalibration − discrimination + uncertainty, by isotonic recalibration: no bins, nothing to choose."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from .._checks import InputError, check_level, is_concrete, unknown_name
from .._typing import ArrayLike
from . import _inputs
from ._estimate import Estimate, as_resample, check_weight
from ._forecast import forecast, is_forecast
from .pit import live_draws

Score = Literal["brier", "log", "quantile", "crps"]
_NODES = 512
_SPREAD = (0.001, 0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98, 0.999)


class ScoreDecomposition(NamedTuple):
    """score = miscalibration − discrimination + uncertainty, exactly; parts are not negative."""

    score: Estimate
    """Mean score of the predictions."""
    miscalibration: Estimate
    """What recalibrating them by a monotone map would gain (MCB)."""
    discrimination: Estimate
    """What the recalibrated ones gain over saying the same of every example (DSC)."""
    uncertainty: Estimate
    """Mean score of the best constant prediction (UNC)."""


def score_decomposition(
    pred: Any, y: ArrayLike, *, score: Score = "brier", level: float = 0.5, weight: Any = None, key: Any = None
) -> ScoreDecomposition:
    """Miscalibration, discrimination and uncertainty of a mean score.

    The predictions are recalibrated by isotonic regression on the test set itself, equal predictions pooled, and
    S(p) = [S(p) − S(p̂)] − [S(ȳ) − S(p̂)] + S(ȳ), where p̂ are the recalibrated and ȳ the constant ones. As the map is
    fitted where it is judged, miscalibration is biased upwards, the more so for small test sets.

    - "brier": two or more classes; with C ≥ 3 each class against the rest, and the parts add up over classes.
    - "log": two classes.
    - "quantile": the quantile of a numeric forecast at `level`, by isotonic quantile regression.
    - "crps": numeric forecasts; ∫ of the Brier decompositions of P(Y ≤ t) over the threshold t, at 512 Gauss nodes
      between the smallest and largest of outcomes and 0.001/0.999 quantiles. The score shown is the integral of the
      same nodes, so that the parts add up; it differs from `crps` by the quadrature alone.

    Args:
      pred: class probabilities or a `Predictive` of classes; for "quantile" and "crps" any forecast of one output.
      y: labels or outcomes, `(N,)`.
      level: of the quantile.
      weight: case weights, `(N,)`.
      key: for bootstrap standard errors, examples resampled and recalibrated anew (200 resamples unless told).
    Returns:
      A `ScoreDecomposition` of estimates.
    Raises:
      InputError: an unknown score, traced values, shapes that do not fit.
    References:
      dimitriadis2021 (Brier, log); arnold2024 (CRPS by thresholds). Checked against
      sklearn.isotonic with ties pooled by hand, and by the additivity itself.
    Example:
      >>> import numpy as np
      >>> parts = score_decomposition(np.array([0.25, 0.25, 0.75, 0.75]), [0, 1, 1, 1])
      >>> [round(float(part), 4) for part in parts]
      [0.1875, 0.0625, 0.0625, 0.1875]
    """
    if score not in get_args(Score):
        raise unknown_name("score", str(score), get_args(Score))
    check_level("level", level)
    if not is_concrete((pred, y, weight)):
        raise InputError("`score_decomposition` sorts and pools on the host, and cannot run under jit.")
    parts, size = _problems(pred, y, score, level, weight)
    full = (
        np.ones(size) if weight is None else np.asarray(check_weight("score_decomposition", weight, size), np.float64)
    )
    values = _decomposed(parts, full)
    errors: Any = [None] * 4
    how = as_resample(key)
    if how is not None:
        rng = _generator(how.key)
        live = np.flatnonzero(full > 0)
        draws = []
        for _ in range(min(how.num, 200) if how is not key else how.num):
            counts = np.bincount(live[rng.integers(0, len(live), len(live))], minlength=size)
            draws.append(_decomposed(parts, full * counts))
        errors = np.std(draws, axis=0, ddof=1)
    names = ("mean score", "miscalibration", "discrimination", "uncertainty")
    count = int((full > 0).sum())
    estimates = [
        Estimate(value, error, count, f"{name} ({score}, isotonic)")
        for value, error, name in zip(values, errors, names, strict=True)
    ]
    return ScoreDecomposition(*estimates)


def _generator(key: Any) -> np.random.Generator:
    import jax

    from ..members import as_key

    return np.random.default_rng(np.asarray(jax.random.key_data(as_key(key))).ravel().tolist())


class _Problem(NamedTuple):
    """One isotonic regression: predictions in their pooled order, outcomes, and how to score."""

    p: np.ndarray
    y: np.ndarray
    tie: np.ndarray
    """Which distinct prediction each row makes, `(N,)`, rising with p."""
    score: str
    level: float
    mass: float
    """Factor of this part in the sum."""


def _problems(pred: Any, y: Any, score: str, level: float, weight: Any) -> tuple[list[_Problem], int]:
    def problem(p: Any, outcome: Any, mass: float = 1.0, kind: str = score) -> _Problem:
        p = np.asarray(p, np.float64)
        return _Problem(p, np.asarray(outcome, np.float64), np.unique(p, return_inverse=True)[1], kind, level, mass)

    if score in ("brier", "log"):
        probs, labels = (np.asarray(part) for part in _inputs.classes("score_decomposition", pred, y, weight))
        if probs.shape[1] == 2:
            return [problem(probs[:, 1], labels == 1)], len(labels)
        if score == "log":
            raise InputError(
                f'`score_decomposition` of "log" is for two classes, but there are {probs.shape[1]}: use "brier".'
            )
        return [problem(probs[:, c], labels == c) for c in range(probs.shape[1])], len(labels)
    said = forecast(
        "score_decomposition", pred if is_forecast(pred) else live_draws("score_decomposition", pred, weight)
    )
    outcome = np.asarray(said.check(_inputs.live_rows("score_decomposition", np.asarray(y), weight)), np.float64)
    if outcome.ndim != 1:
        raise InputError(f"`score_decomposition` expected forecasts of one output, but `y` has shape {outcome.shape}.")
    live = np.ones(len(outcome), bool) if weight is None else np.asarray(weight) > 0

    def shown(values: Any) -> np.ndarray:
        """What forecasts say, or the one for all; those of weight 0, which may be anything, say what another does."""
        values = np.broadcast_to(np.asarray(values, np.float64), outcome.shape)
        return np.where(live, values, values[live][0])

    if score == "quantile":
        return [problem(shown(said.quantile(level)), outcome)], len(outcome)
    points, lengths = _nodes(outcome[live], [shown(said.quantile(tail))[live] for tail in _SPREAD])
    return [
        problem(shown(said.cdf(np.full(outcome.shape, t))), outcome <= t, length, "brier")
        for t, length in zip(points, lengths, strict=True)
    ], len(outcome)


def _nodes(outcome: np.ndarray, quantiles: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Thresholds and their masses, for an integral over all that is said or came about.

    Pieces end at quantiles of the outcomes, between which lie the steps, and at quantiles of what forecasts say, beyond
    the outcomes at ever rarer ones, so that one forecast far out or very wide has pieces of its own.
    """
    pool = np.concatenate([outcome, *quantiles])
    number = _NODES // 8
    rare = 0.5 ** np.arange(2, 14)
    even = np.linspace(0, 1, number // 2 - len(rare))
    cuts = np.quantile(outcome, np.linspace(0, 1, number // 2)), np.quantile(pool, [*even, *rare, *(1 - rare)])
    ends = np.unique(np.concatenate(cuts))
    nodes, masses = np.polynomial.legendre.leggauss(8)
    half = np.diff(ends) / 2
    return (ends[:-1, None] + half[:, None] * (1 + nodes)).ravel(), (half[:, None] * masses).ravel()


def _decomposed(parts: list[_Problem], weight: np.ndarray) -> np.ndarray:
    """Mean score, miscalibration, discrimination, uncertainty."""
    total = np.zeros(4)
    for part in parts:
        if part.score == "quantile":
            fitted, constant = _quantiles(part, weight)
        else:
            fitted = _means(part, weight)
            constant = np.average(part.y, weights=weight)
        said, best, plain = (
            np.average(_score(part, values), weights=weight)
            for values in (part.p, fitted, np.full_like(part.p, constant))
        )
        # `said` may be infinite (log), and then miscalibration is.
        total += part.mass * np.array([said, max(said - best, 0.0), max(plain - best, 0.0), plain])
    return total


def _score(part: _Problem, p: np.ndarray) -> np.ndarray:
    if part.score == "brier":
        return np.square(p - part.y)
    if part.score == "log":
        with np.errstate(divide="ignore"):
            return -np.log(np.where(part.y == 1, p, 1 - p))
    return np.maximum(part.level * (part.y - p), (part.level - 1) * (part.y - p))


def _means(part: _Problem, weight: np.ndarray) -> np.ndarray:
    """Isotonic means of each row's pool, equal predictions having one value."""
    mass = np.bincount(part.tie, weight)
    sums = np.bincount(part.tie, weight * part.y)
    live = mass > 0
    fitted = np.zeros(len(mass))
    fitted[live] = isotonic(sums[live] / mass[live], mass[live])
    return fitted[part.tie]


def isotonic(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted least-squares non-decreasing fit to `values` `(n,)`, in their order (pool adjacent violators).

    References:
      barlow1972. Checked against sklearn.isotonic.
    Example:
      >>> import numpy as np
      >>> isotonic(np.array([1.0, 3.0, 2.0]), np.ones(3)).tolist()
      [1.0, 2.5, 2.5]
    """
    from scipy.optimize import isotonic_regression

    return isotonic_regression(values, weights=weight).x


def _quantiles(part: _Problem, weight: np.ndarray) -> tuple[np.ndarray, float]:
    """Isotonic quantile regression by pooling adjacent violators, each pool having its own lower quantile."""
    live = weight > 0
    order = np.lexsort((part.y, part.tie))
    order = order[live[order]]
    starts = np.flatnonzero(np.r_[True, part.tie[order][1:] != part.tie[order][:-1]])
    pools: list[tuple[float, np.ndarray]] = []
    for rows in np.split(order, starts[1:]):
        pool = rows
        value = _lower_quantile(part.y[pool], weight[pool], part.level)
        while pools and pools[-1][0] >= value:
            pool = np.concatenate([pools.pop()[1], pool])
            value = _lower_quantile(part.y[pool], weight[pool], part.level)
        pools.append((value, pool))
    fitted = np.zeros(len(part.p))
    for value, pool in pools:
        fitted[pool] = value
    return fitted, _lower_quantile(part.y[live], weight[live], part.level)


def _lower_quantile(y: np.ndarray, weight: np.ndarray, level: float) -> float:
    """The smallest y at or below which a share of at least `level` of the weight lies."""
    order = np.argsort(y, kind="stable")
    share = np.cumsum(weight[order])
    return float(y[order][np.searchsorted(share, level * share[-1] * (1 - 1e-12))])
