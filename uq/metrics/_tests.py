"""What every test of calibration answers, and the tail probabilities that they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np


class TestResult(NamedTuple):
    """A test statistic with its p-value; passes through `jax.jit`."""

    statistic: Any
    """The statistic; larger, or farther from 0, speaks against calibration."""
    p_value: Any
    """Probability, if the predictions are calibrated, of a statistic at least as far out."""
    count: Any
    """How many examples it rests on, a whole number."""


TestResult.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a class of tests


# On the host in plain Python, a number at a time: importing scipy takes longer than most tests.


def normal_sf(xp: Any, z: Any) -> Any:
    """P(Z > z) for a standard normal Z, accurate far out."""
    return _each(lambda one: 0.5 * math.erfc(one / math.sqrt(2)), z) if xp is np else jax.scipy.special.ndtr(-z)


def chi_square_sf(xp: Any, x: Any, df: Any) -> Any:
    """P(X > x) for a chi-square X with a whole number `df` of degrees of freedom."""
    if xp is np:
        return _each(lambda one: _chi_square_sf(one, round(float(df))), x)
    return jax.scipy.special.gammaincc(df / 2, x / 2)


def _chi_square_sf(x: float, df: int) -> float:
    """Q(df / 2, h), h = x / 2, by the recurrence Q(a + 1, h) = Q(a, h) + hᵃ e⁻ʰ / Γ(a + 1) from Q(½, h) or Q(0, h)."""
    if not x > 0:
        return math.nan if math.isnan(x) else 1.0
    if math.isinf(x):
        return 0.0
    half, a = x / 2, (df % 2) / 2
    total = math.erfc(math.sqrt(half)) if df % 2 else 0.0
    terms = (math.exp(each * math.log(half) - half - math.lgamma(each + 1)) for each in np.arange(a, df / 2 - 0.5))
    return min(total + math.fsum(terms), 1.0)


def _each(function: Callable[[float], float], values: Any) -> Any:
    values = np.asarray(values, np.float64)
    return np.array([function(float(each)) for each in values.flat]).reshape(values.shape)[()]
