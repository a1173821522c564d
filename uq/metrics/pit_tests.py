"""Tests that transformed outcomes are uniform, each with its p-value and an effect size."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from .._checks import InputError, check_count, is_concrete
from .._typing import ArrayLike
from . import _inputs
from ._gaps import AREA, ranked_on_host
from .coverage import live_only
from .pit import as_weight, known, randomised, span

Test = Literal["ks", "kuiper", "cvm", "ad", "neyman"]


class PITTest(NamedTuple):
    """A test of uniformity; arrays `(D,)` for several outputs, each tested by itself."""

    statistic: Any
    """The test's statistic; larger speaks against calibration."""
    p_value: Any
    """Probability, if the predictions are calibrated, of a statistic at least as large."""
    effect: Any
    """∫ |share of u ≤ t, minus t| dt: by how much probabilities are off, whatever the number of examples."""
    count: Any
    """How many examples it rests on."""


def pit_test(
    pred: Any, y: ArrayLike | None = None, *, test: Test = "cvm", order: int = 4, weight: Any = None, key: Any = None
) -> PITTest:
    """Tests whether the probability integral transforms of independent outcomes are uniform on [0, 1].

    With u₁ ≤ … ≤ u_n:

    - "ks": Kolmogorov–Smirnov, the largest gap between their distribution function and the diagonal; exact p-value.
    - "kuiper": the largest gap above plus the largest below: as strong near 0 and 1 as in the middle; p-value to
      about 1e-3 from n = 20.
    - "cvm": Cramér–von Mises, 1/(12 n) + Σ (u_i − (2i − 1)/(2n))²: a good choice for a shift.
    - "ad": Anderson–Darling, −n − Σ (2i − 1)(log u_i + log(1 − u_{n+1−i}))/n: strong in the tails, and infinite
      where an outcome had probability 0; p-value to 1e-4 for A² ≤ 8, and that of large n, to 1 % of
      itself, beyond.
    - "neyman": smooth test, Σ_{j ≤ order} (Σ_i φ_j(u_i))² / n with orthonormal Legendre polynomials φ_j: order 1 is
      bias, 2 width, 3 skewness, 4 tails; p-value of its limit, chi-square with `order` degrees of freedom.

    With many examples every model is rejected: look at `effect`. Data that the model, or its recalibration, was fitted
    to give p-values that are too large; examples that depend on each other, too small. A distribution moment-matched
    to a mixture is not the mixture: give the mixture.

    Args:
      pred: values in [0, 1], `(N,)` or `(N, D)`, with no `y`; or predictions as in `pit`, with `y`.
      y: outcomes `(N,)` or `(N, D)`.
      test: as above.
      order: of "neyman".
      weight: `(N,)`, 1 or 0: rows of 0 are left out.
      key: a key or a seed, needed for counts and draws, whose transforms are randomised within their steps.
    Returns:
      A `PITTest`, in float64, on the host.
    Raises:
      InputError: values outside [0, 1], an unknown test, counts or draws without a key, weights other than 0
        and 1; under jit.
    References:
      marsaglia2004 ("ad"); stephens1970 ("kuiper"); neyman1937; dawid1984. Checked against scipy.stats.kstest and
      cramervonmises, critical values in stephens1970, and by simulation.
    Example:
      >>> import numpy as np
      >>> found = pit_test(np.array([0.5, 0.5, 0.5, 0.5, 0.5]), test="ks")
      >>> float(found.statistic), round(float(found.p_value), 4), float(found.effect)
      (0.5, 0.112, 0.25)
    """
    known("test", test, get_args(Test))
    order = check_count("order", order)
    u = _values(pred, y, weight, key)
    columns = u.reshape(len(u), -1)
    function = _FUNCTIONS[test]
    found = [function(np.sort(column), *([order] if test == "neyman" else [])) for column in columns.T]
    statistic, p_value = (np.array(part, np.float64) for part in zip(*found, strict=True))
    ones = np.ones(len(u))
    effect = np.array([
        AREA.value(np, ranked_on_host(column[:, None], None, "quantile"), ones) for column in columns.T
    ])  # fmt: skip
    if u.ndim == 1:
        return PITTest(statistic[0], p_value[0], effect[0], len(u))
    return PITTest(statistic, p_value, effect, len(u))


def _values(pred: Any, y: Any, weight: Any, key: Any) -> np.ndarray:
    """Transformed outcomes, `(N,)` or `(N, D)`, in float64."""
    if y is not None:
        spans = span("pit_test", pred, y, as_weight("pit_test", weight))
        if spans.steps and key is None:
            raise InputError(
                "`pit_test` expected a key for counts and draws: where they have steps, outcomes are placed at random "
                "within them. Pass key=0, say."
            )
        u = randomised(spans, key)
    else:
        u = _inputs._array("pit_test", pred)
    if not is_concrete((u, weight)):
        raise InputError("`pit_test` is computed on the host and cannot run under jit.")
    u = live_only("pit_test", np.asarray(u, np.float64), weight)
    if u.ndim not in (1, 2) or 0 in u.shape:
        raise InputError(f"`pit_test` expected values of shape (N,) or (N, D) with N ≥ 1, but got {u.shape}.")
    bad = np.flatnonzero(~((u >= 0) & (u <= 1)).reshape(len(u), -1).all(1))
    if len(bad):
        raise InputError(
            f"`pit_test` expected values in [0, 1], but row {bad[0]} is {u[bad[0]]}. For predictions give `y` as well."
        )
    return u


def _ks(u: np.ndarray) -> tuple[float, float]:
    from scipy import stats

    found = stats.ks_1samp(u, lambda t: t)
    return found.statistic, found.pvalue


def _cvm(u: np.ndarray) -> tuple[float, float]:
    if len(u) == 1:  # n ω² is (u − ½)² + 1/12: known exactly
        gap = abs(u[0] - 0.5)
        return gap * gap + 1 / 12, 1 - 2 * gap
    from scipy import stats

    found = stats.cramervonmises(u, lambda t: t)
    return found.statistic, min(max(found.pvalue, 0.0), 1.0)


def _kuiper(u: np.ndarray) -> tuple[float, float]:
    n = len(u)
    rank = np.arange(n)
    found = ((rank + 1) / n - u).max() + (u - rank / n).max()
    x = found * (math.sqrt(n) + 0.155 + 0.24 / math.sqrt(n))
    if x < 0.4:  # the series converges slowly where it is 1 to fifteen digits
        return found, 1.0
    square = (np.arange(1, 101) * x) ** 2
    return found, float(np.clip(2 * ((4 * square - 1) * np.exp(-2 * square)).sum(), 0, 1))


def _ad(u: np.ndarray) -> tuple[float, float]:
    n = len(u)
    with np.errstate(divide="ignore"):
        logs = np.log(u) + np.log1p(-u[::-1])
    found = -n - float(((2 * np.arange(n) + 1) * logs).sum()) / n
    return found, _ad_sf(n, found)


def _ad_sf(n: int, z: float) -> float:
    """P(A² > z) for n uniform values: marsaglia2004; far out, two terms of the limit's tail.

    The limit is Σ Z_j² / (j (j + 1)), whose generating function is √3 (1 + (11/18)(s − 1) + …) / √(1 − s) about s = 1.
    """
    if z > 8:
        if math.isinf(z):
            return 0.0
        return math.sqrt(3) * (7 * math.erfc(math.sqrt(z)) + 11 * math.exp(-z) / math.sqrt(math.pi * z)) / 18
    if z <= 0:
        return 1.0
    if z < 2:
        inner = 0.247105 - (0.0649821 - (0.0347962 - (0.011672 - 0.00168691 * z) * z) * z) * z
        limit = math.exp(-1.2337141 / z) / math.sqrt(z) * (2.00012 + inner * z)
        upper = 1 - limit
    else:
        inner = 2.30695 - (0.43424 - (0.082433 - (0.008056 - 0.0003146 * z) * z) * z) * z
        upper = -math.expm1(-math.exp(1.0776 - inner * z))
        limit = 1 - upper
    return min(max(upper - _ad_correction(n, limit), 0.0), 1.0)


def _ad_correction(n: int, x: float) -> float:
    """What a finite n adds to the limiting probability x."""
    if x > 0.8:
        inner = 745.2337 - (1705.091 - (1950.646 - (1116.360 - 255.7844 * x) * x) * x) * x
        return (-130.2137 + inner * x) / n
    cut = 0.01265 + 0.1757 / n
    if x < cut:
        v = x / cut
        v = math.sqrt(v) * (1 - v) * (49 * v - 102)
        return v * (0.0037 / (n * n) + 0.00078 / n + 0.00006) / n
    v = (x - cut) / (0.8 - cut)
    v = -0.00022633 + (6.54034 - (14.6538 - (14.458 - (8.259 - 1.91864 * v) * v) * v) * v) * v
    return v * (0.04213 + 0.01365 / n) / n


def _neyman(u: np.ndarray, order: int) -> tuple[float, float]:
    from scipy.special import gammaincc

    degree = np.arange(order + 1)
    values = np.polynomial.legendre.legvander(2 * u - 1, order) * np.sqrt(2 * degree + 1)
    found = float((values[:, 1:].sum(0) ** 2).sum() / len(u))
    return found, float(gammaincc(order / 2, found / 2))


_FUNCTIONS: dict[str, Any] = {"ks": _ks, "kuiper": _kuiper, "cvm": _cvm, "ad": _ad, "neyman": _neyman}
