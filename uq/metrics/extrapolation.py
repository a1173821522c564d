"""How many members are worth it: what ensembles of 1, 2, … ∞ such members would score."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import numpy as np

from .._checks import InputError, is_concrete, unknown_name
from .._typing import ArrayLike
from . import _route
from ._estimate import Estimate, mean
from .decomposition import EnsembleScore, ensemble_scores, member_scores

_MANY = 256


class SizeExtrapolation(NamedTuple):
    """Expected score of ensembles of each size."""

    sizes: tuple[float, ...]
    """Numbers of members; `math.inf` is the limit."""
    scores: tuple[Estimate, ...]
    """Expected mean score at each size, lower is better."""
    exact: bool
    """Whether every estimate is unbiased: quadratic scores, and sizes up to M of the log score."""


def size_extrapolation(
    pred: Any,
    y: ArrayLike,
    *,
    score: EnsembleScore = "crps",
    sizes: Sequence[float] = (1, 2, 3, 5, 10, 20, math.inf),
    weight: Any = None,
    key: Any = None,
) -> SizeExtrapolation:
    """Expected score of an ensemble of K′ members, from one of M: members being exchangeable draws of one recipe.

    A quadratic score of an equally weighted mixture of K′ members has the expectation a − (1 − 1/K′) d, where a is a
    member's expected score and d the expected diversity of two different ones. Both have unbiased estimates from M ≥ 2
    members (fair scores), so the extrapolation is exact in expectation at every K′, beyond M too: the score at ∞ says
    what more training of more members can still gain.

    The log score is not quadratic. Up to M it is the average over ensembles of K′ of the members (all of them where
    there are at most 256, else M windows of K′ neighbours), unbiased too; beyond, the curve a + b/K′ + c/K′² through
    M, M − 1 and ⌈M/2⌉ is read off: an extrapolation, whose error is unknown.

    Args:
      pred: a `Predictive` of members of equal weight; for "log" and "brier" also member probabilities `(M, N, C)`.
      y: labels or outcomes.
      score: "crps" and "squared" for numbers, "brier" for classes, "log" for either.
      sizes: numbers of members.
      weight: case weights, `(N,)`.
      key: for bootstrap intervals over examples.
    Returns:
      A `SizeExtrapolation`; standard errors are over examples, for these members.
    Raises:
      InputError: a single member, members of unequal weight, a size below 1.
    References:
      ferro2008 (fair scores); ferro2014. Checked against the average over all subsets of members.
    Example:
      >>> import numpy as np
      >>> members = np.array([[[0.8, 0.2]], [[0.6, 0.4]], [[0.1, 0.9]]])
      >>> found = size_extrapolation(members, [0], score="brier", sizes=(1, 3, math.inf))
      >>> [round(float(value), 4) for value in found.scores]
      [0.3367, 0.25, 0.2067]
    """
    if score not in get_args(EnsembleScore):
        raise unknown_name("score", str(score), get_args(EnsembleScore))
    sizes = tuple(np.atleast_1d(np.asarray(sizes, np.float64)).tolist())
    if not sizes or min(sizes) < 1:
        raise InputError(f"`sizes` expected numbers of members of at least 1, but they are {sizes}.")
    each, share = member_scores("size_extrapolation", pred, y, score)
    number = each.shape[0]
    if number < 2:
        raise InputError("`size_extrapolation` expected at least two members, but there is one.")
    if is_concrete(share) and np.ptp(np.asarray(share)) > 1e-4 * float(np.max(np.asarray(share))):
        raise InputError("`size_extrapolation` expected members of equal weight: drop the others first.")
    if score == "log":
        columns = [_route.run(_log_score, each, size=size) for size in sizes]
    else:
        ensemble, members = ensemble_scores("size_extrapolation", pred, y, score)
        columns = [_route.run(_quadratic, members, ensemble, number=number, size=size) for size in sizes]
    words = {"log": "log score", "brier": "Brier score", "crps": "CRPS", "squared": "squared error"}[score]
    scores = tuple(
        mean(column, weight=weight, estimand=f"expected {words} of {size:g} members", key=key)
        for size, column in zip(sizes, columns, strict=True)
    )
    return SizeExtrapolation(sizes, scores, score != "log" or max(sizes) <= number)


def _quadratic(xp: Any, members: Any, ensemble: Any, *, number: int, size: float) -> Any:
    fair = (members - ensemble) * (number / (number - 1))
    return members - (1 - 1 / size) * fair


def _log_score(xp: Any, each: Any, *, size: float) -> Any:
    """Expected log score of `size` members, `(N,)`, from the members' own `(M, N)`."""
    number = each.shape[0]
    if size <= number and size == int(size):
        return _subsets(xp, each, int(size))
    knots = sorted({number, number - 1, -(-number // 2)} - {0})
    if size < number:
        knots = sorted({1, math.floor(size), math.ceil(size)})
    total = xp.zeros_like(each[0])
    for k in knots:  # Lagrange's formula in 1 / K
        factor = math.prod((1 / size - 1 / j) / (1 / k - 1 / j) for j in knots if j != k)
        total = total + factor * _subsets(xp, each, k)
    return total


def _subsets(xp: Any, each: Any, size: int) -> Any:
    """Mean log score of ensembles of `size` of the members."""
    number = each.shape[0]
    if math.comb(number, size) <= _MANY:
        chosen = list(itertools.combinations(range(number), size))
    else:
        chosen = [tuple((start + i) % number for i in range(size)) for start in range(number)]
    total = xp.zeros_like(each[0])
    for subset in chosen:
        some = each[np.array(subset)]
        low = some.min(0)
        low = xp.where(xp.isfinite(low), low, xp.zeros_like(low))
        total = total + low - xp.log(xp.exp(low - some).mean(0))
    return total / len(chosen)
