"""What a sample of bounded losses says of their mean: p-values and upper confidence bounds, on the host in float64.

Losses are in [0, 1], `(n,)` or `(n, L)`, one column each.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np

from .._checks import InputError, unknown_name

Test = Literal["hoeffding_bentkus", "betting", "binomial"]


def p_value(test: Test, losses: np.ndarray, risk: float, delta: float = 0.05) -> np.ndarray:
    """p-values of "the mean is above `risk`", `(L,)`: at most δ with probability at most δ if it is.

    "hoeffding_bentkus" is the smaller of both (bates2021, section 3.1.3). "binomial" is exact for losses 0 and 1.
    "betting" is that of waudby2024 as in bates2021, proposition 5: it uses the variance, depends on the order of the
    rows, and sizes its bets for a test at `delta`.
    """
    losses = np.asarray(losses, np.float64)
    if len(losses) == 0:
        return np.ones(losses.shape[1:])
    if test == "betting":
        return np.exp(-_best_log_wealth(losses, risk, delta))
    if test == "binomial" and not ((losses == 0) | (losses == 1)).all():
        raise InputError('The test "binomial" is for losses that are 0 or 1; take "hoeffding_bentkus" or "betting".')
    return _from_sum(test, losses.sum(0), len(losses), risk)


def upper_bound(test: Test, losses: np.ndarray, confidence: float) -> float:
    """The largest mean that is not rejected at 1 − `confidence`, from losses `(n,)`."""
    delta = 1 - confidence
    low, high = 0.0, 1.0
    if p_value(test, losses, 1 - 1e-12, delta) > delta:
        return 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(test, losses, middle, delta) > delta else (low, middle)
    return high


def check_test(name: str, test: Any) -> None:
    if test not in get_args(Test):
        raise unknown_name(f"test of `{name}`", str(test), get_args(Test))


def _from_sum(test: Test, total: Any, num: int, risk: float) -> Any:
    from scipy import special

    successes = np.ceil(total - 1e-9)  # a sum of zeros and ones is whole
    binomial = special.bdtr(successes, num, risk)
    if test == "binomial":
        return binomial
    mean = np.minimum(total / num, risk)
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = special.rel_entr(mean, risk) + special.rel_entr(1 - mean, 1 - risk)
    return np.minimum(np.minimum(np.exp(-num * kl), np.e * binomial), 1.0)


def _best_log_wealth(losses: np.ndarray, risk: float, delta: float) -> np.ndarray:
    """Logarithm of the most that a gambler who bets on a mean below `risk` has ever had, from 1; a martingale else.

    Bets are a function of earlier losses.
    """
    num = len(losses)
    count = np.arange(1, num + 1).reshape(-1, *(1,) * (losses.ndim - 1))
    mean = (0.5 + losses.cumsum(0)) / (1 + count)
    variance = (0.25 + np.square(losses - mean).cumsum(0)) / (1 + count)
    earlier = np.concatenate([np.full_like(variance[:1], 0.25), variance[:-1]])
    bet = np.minimum(1, np.sqrt(2 * np.log(1 / delta) / (num * earlier)))
    with np.errstate(divide="ignore"):
        wealth = np.log1p(-bet * (losses - risk)).cumsum(0)
    return np.maximum(wealth.max(0), 0.0)
