"""Venn–Abers prediction: two isotonic fits for every prediction, one for each outcome that it may have."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._typing import Array
from . import _classes, _one_vs_rest
from ._one_vs_rest import Event
from ._recalibrator import Recalibrator


class VennAbersState(NamedTuple):
    """What `venn_abers` learns, one map a class, or one for two classes."""

    knots: Any
    """Log-odds where the answer changes, `(K, n)`; the last one is repeated to a length of 4ⁿ."""
    lower: Any
    """The probability if the outcome were no, `(K, ≥ 2n + 1)`: below the first knot, at it, above it, …"""
    upper: Any
    """The probability if the outcome were yes."""


class ProbabilityBounds(NamedTuple):
    """A pair of probabilities, one of which is calibrated."""

    lower: Array
    """`(N,)` for the second of two classes, or `(N, C)`."""
    upper: Array


def venn_abers() -> Recalibrator:
    """Isotonic regression with the prediction itself added, once as a 0 and once as a 1 (inductive Venn–Abers).

    Of the two probabilities p₀ ≤ p₁ that it finds, the one of the outcome that comes about is perfectly calibrated in
    expectation, whatever the model, as long as rows are exchangeable. `venn_abers_bounds` gives both; how far apart
    they are says how much the rows it is fitted to can tell. `apply` joins them to p₁ / (1 − p₀ + p₁), which has the
    least regret in log loss, and is never 0 or 1. That one number, and what is made of it for more than two classes
    (each against the rest, divided by their sum), is not covered by the guarantee.

    Weights are numbers of rows, beside which the prediction itself is one.

    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `VennAbersState`.
    Raises:
      InputError: in `fit`, labels out of range, shapes that do not fit.
    References:
      vovk2014, section 2 and eq. 4; vovk2015, section 3. Checked against two isotonic fits by scikit-learn for every
      prediction.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.1, 0.3, 0.5, 0.9])
      >>> map = venn_abers()
      >>> np.asarray(map.apply(map.fit(p, [0, 1, 0, 1]), p).mean, float).round(2).tolist()
      [0.33, 0.5, 0.5, 0.67]
    """
    return _one_vs_rest.recalibrator("venn_abers", _learn, _odds, every_class=False)


def venn_abers_bounds(state: VennAbersState, pred: Any) -> ProbabilityBounds:
    """The two probabilities of `venn_abers` for every prediction.

    Args:
      state: what its `fit` returned.
      pred: predictions of as many classes.
    Returns:
      `ProbabilityBounds`: of the second of two classes, `(N,)`; of each of more against the rest, `(N, C)`.
    Raises:
      InputError: predictions of another number of classes, or of none.
    References:
      vovk2014, section 2.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.1, 0.3, 0.5, 0.9])
      >>> lower, upper = venn_abers_bounds(venn_abers().fit(p, [0, 1, 0, 1]), p)
      >>> [np.asarray(bound, float).round(2).tolist() for bound in (lower, upper)]
      [[0.0, 0.33, 0.33, 0.5], [0.5, 0.67, 0.67, 1.0]]
    """
    found = _classes.log_probs("venn_abers_bounds", pred)
    lower, upper = _one_vs_rest.mapped("venn_abers_bounds", state, found, _bounds)
    if found.shape[1] == 2:
        lower, upper = lower[:, 0], upper[:, 0]
    return ProbabilityBounds(lower, upper)


def _learn(data: Event) -> VennAbersState:
    lower, upper = _with_one_more(data, 0.0), _with_one_more(data, 1.0)
    alike = (np.diff(lower) == 0) & (np.diff(upper) == 0)
    kept = ~(alike[::2] & alike[1::2])  # knots at which something changes
    cells = np.concatenate([[True], np.repeat(kept, 2)])
    return VennAbersState(data.odds[kept], lower[cells], upper[cells])


def _bounds(state: VennAbersState, odds: Array) -> tuple[Array, Array]:
    below = _one_vs_rest.search(state.knots, odds, "left")
    slack = _one_vs_rest.rounding(odds)
    last = len(state.knots) - 1
    at = jnp.where(jnp.abs(odds - state.knots[jnp.maximum(below - 1, 0)]) <= slack, jnp.maximum(below - 1, 0), below)
    tied = jnp.abs(odds - state.knots[jnp.minimum(at, last)]) <= slack
    cell = jnp.minimum(jnp.where(tied, 2 * at + 1, 2 * below), len(state.lower) - 1)
    return state.lower[cell], state.upper[cell]


def _odds(state: VennAbersState, odds: Array) -> Array:
    lower, upper = _bounds(state, odds)
    return jnp.log(upper) - jnp.log1p(-lower)


def _with_one_more(data: Event, outcome: float) -> np.ndarray:
    """The isotonic fit at a row of weight 1 with `outcome`, put before, at and after every prediction, `(2n + 1,)`.

    The row's block begins as itself (with the rows that it ties with), and takes in the neighbouring blocks of the
    isotonic fits of all that is below, and of all that is above, while they are out of order: all positions at once.
    """
    size = len(data.odds)
    weight = np.concatenate([[0], np.cumsum(data.weight)])
    happened = np.concatenate([[0], np.cumsum(data.happened)])
    start = _blocks(data.weight, data.happened)
    end = size - _blocks(data.weight[::-1], (data.weight - data.happened)[::-1])[::-1]
    cell = np.arange(2 * size + 1)
    left, right = cell // 2, (cell + 1) // 2  # rows left, …, right − 1 are in the block

    def mean(low: np.ndarray, high: np.ndarray, extra: float) -> np.ndarray:
        count = weight[high] - weight[low] + extra
        return (happened[high] - happened[low] + extra * outcome) / np.where(count > 0, count, 1)

    value = mean(left, right, 1.0)
    active = cell
    while len(active):
        low, high = left[active], right[active]
        before, after = start[low], end[high]
        down = (low > 0) & (mean(before, low, 0.0) >= value[active])
        up = (high < size) & (mean(high, after, 0.0) <= value[active])
        left[active] = np.where(down, before, low)
        right[active] = np.where(up, after, high)
        value[active] = mean(left[active], right[active], 1.0)
        active = active[down | up]
    return value


def _blocks(weight: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """Where the last block of the isotonic fit to the first i rows begins, for i = 0, …, n."""
    start = np.zeros(len(weight) + 1, np.intp)
    masses: list[float] = []
    sums: list[float] = []
    begins: list[int] = []
    for i, (mass, total) in enumerate(zip(weight.tolist(), happened.tolist(), strict=True)):
        begin = i
        while masses and sums[-1] * mass >= total * masses[-1]:
            mass, total, begin = mass + masses.pop(), total + sums.pop(), begins.pop()
        masses.append(mass)
        sums.append(total)
        begins.append(begin)
        start[i + 1] = begin
    return start
