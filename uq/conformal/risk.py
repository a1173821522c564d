"""Risk control: a setting, such as a threshold, whose expected loss on new examples is below what is asked for.

Losses are given for every setting of a list, as a matrix `(n, L)` over held-out examples or as a function of a setting.
Each function says which promise it makes: on average over calibration sets, or for all but a few of them.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from .._checks import InputError, UQWarning, check_count, check_level
from ..metrics._inputs import choice
from ._bounds import Test, check_test, p_value, upper_bound

Method = Literal["fixed_sequence", "bonferroni"]


class RiskControl(NamedTuple):
    """The boldest setting that keeps the risk."""

    setting: Any
    """As given in `settings`, or its column."""
    column: int
    """Its place in `settings`."""
    risk: float
    """Mean loss at it on the calibration examples, in the units of the loss."""
    bound: float
    """What was kept below the risk asked for: the corrected mean, or an upper confidence bound."""


class RiskTests(NamedTuple):
    """Which settings keep the risk, all at once with the stated confidence."""

    valid: np.ndarray
    """bool `(L,)`; any choice among these keeps the guarantee."""
    p_value: np.ndarray
    """`(L,)`, of "the risk is higher than asked for", before correction for their number."""
    risk: np.ndarray
    """Mean loss on the calibration examples, `(L,)`."""
    settings: np.ndarray
    """As given, or indices."""


def conformal_risk_control(losses: Any, settings: Any = None, *, risk: float, bound: float = 1.0) -> RiskControl:
    """The boldest setting whose expected loss is at most `risk`, on average over calibration sets and new examples.

    The first setting with (n · mean loss + bound) / (n + 1) ≤ risk. For the loss "the label is not in the set" it is
    split conformal prediction. The promise is about the average: with half of the calibration sets risk may be above
    (`rcps` and `learn_then_test` bound that). Losses must not rise from one setting to the next.

    Args:
      losses: `(n, L)`, one row a held-out example, between 0 and `bound`; or a function of one setting that returns
        `(n,)`.
      settings: `(L,)` (or `(L, …)`), from the boldest to the most careful; None stands for 0 … L − 1.
      risk: expected loss allowed, in the units of the loss.
      bound: largest possible loss, a property of the loss and not of the sample.
    Returns:
      A `RiskControl`. Where no setting passes but the last never costs more than `risk` (a full set costs nothing), it
      is the last, with a warning that says how many examples would do.
    Raises:
      InputError: losses that rise (`learn_then_test` takes those), outside [0, bound] or NaN; no setting that passes.
    References:
      angelopoulos2024, theorem 1. Checked against loops, split conformal sets, and simulation.
    Example:
      >>> import numpy as np
      >>> losses = np.array([[1, 1, 0, 0]] * 3 + [[1, 0, 0, 0]] * 16, float)
      >>> conformal_risk_control(losses, [0.9, 0.8, 0.5, 0.0], risk=0.2)
      RiskControl(setting=0.8, column=1, risk=0.157..., bound=0.2)
    """
    name = "conformal_risk_control"
    matrix, settings = _matrix(name, losses, settings, risk, bound)
    _check_monotone(name, matrix)
    num = len(matrix)
    corrected = (matrix.sum(0) + bound) / (num + 1)
    passing = corrected <= risk * (1 + 1e-12)
    need = max(1, math.ceil(bound / risk - 1 - 1e-9))
    column = int(passing.argmax()) if passing.any() else _most_careful(name, matrix, risk, need)
    return _found(settings, column, matrix, float(corrected[column]))


def rcps(losses: Any, settings: Any = None, *, risk: float, confidence: float = 0.95, bound: float = 1.0,
         test: Test = "hoeffding_bentkus") -> RiskControl:  # fmt: skip
    """The boldest setting whose expected loss is at most `risk`, for all but a share of calibration sets.

    Risk-controlling prediction sets: with probability `confidence` over the calibration set, the expected loss of new
    examples at the setting found is at most `risk`. All more careful settings must have an upper confidence bound
    below it too. The risk must not rise from one setting to the next.

    Args:
      losses, settings, risk, bound: as for `conformal_risk_control`.
      confidence: of the promise, in (0, 1).
      test: "hoeffding_bentkus", valid for any bounded loss; "betting", which is tighter where losses vary little, and
        depends on the order of the rows, which must be random; or "binomial", exact for losses 0 and `bound`.
    Returns:
      A `RiskControl` whose `bound` is the upper confidence bound at the setting.
    Raises:
      InputError: as for `conformal_risk_control`.
    References:
      bates2021, theorem 2 and propositions 4 and 5; waudby2024. Checked against loops and by simulation.
    Example:
      >>> import numpy as np
      >>> losses = np.array([[1, 1, 0, 0]] * 20 + [[1, 0, 0, 0]] * 380, float)
      >>> found = rcps(losses, [0.9, 0.8, 0.5, 0.0], risk=0.1)
      >>> found.setting, found.risk, round(found.bound, 3)
      (0.8, 0.05, 0.078)
    """
    check_level("confidence", confidence)
    check_test("rcps", test)
    matrix, settings = _matrix("rcps", losses, settings, risk, bound)
    _check_monotone("rcps", matrix)
    passing = p_value(test, matrix / bound, risk / bound, 1 - confidence) <= 1 - confidence
    failing = np.flatnonzero(~passing)
    column = int(failing[-1]) + 1 if len(failing) else 0
    if column == matrix.shape[1]:
        need = math.ceil(math.log(1 - confidence) / math.log(1 - risk / bound) - 1e-9)
        column = _most_careful("rcps", matrix, risk, need)
    return _found(settings, column, matrix, upper_bound(test, matrix[:, column] / bound, confidence) * bound)


def learn_then_test(losses: Any, settings: Any = None, *, risk: float, confidence: float = 0.95, bound: float = 1.0,
                    test: Test = "hoeffding_bentkus", method: Method = "fixed_sequence", order: Any = None,
                    starts: int = 1) -> RiskTests:  # fmt: skip
    """All settings whose expected loss is shown to be at most `risk`; losses may rise and fall.

    With probability `confidence` over the calibration set, the expected loss of every setting called valid is at most
    `risk`, so that any of them may be chosen, by any criterion, on these very data.

    Args:
      losses, settings, risk, bound: as for `conformal_risk_control`, in any order; settings may be vectors `(L, d)`.
      confidence: of the promise, in (0, 1).
      test: as for `rcps`.
      method: "fixed_sequence" tests one setting after another until one fails: no price for their number, if the order
        is good. "bonferroni" tests each at (1 − confidence) / L: for settings without a natural order.
      order: indices, from the setting most likely to pass; by default from the last to the first. It must not
        depend on these losses.
      starts: of the fixed sequence, equally spaced in `order`, each with its share of 1 − confidence; more than one
        where the first settings may have no chance.
    Returns:
      A `RiskTests`, with a warning where nothing is valid.
    Raises:
      InputError: losses outside [0, bound] or NaN; an order that is not one.
    References:
      angelopoulos2025, theorem 1 and section 2.3. Checked against loops and by simulation.
    Example:
      >>> import numpy as np
      >>> losses = np.tile([[1.0, 0.0, 0.0, 1.0]], (100, 1))
      >>> learn_then_test(losses, risk=0.1, method="bonferroni").valid.tolist()
      [False, True, True, False]
      >>> learn_then_test(losses, risk=0.1, order=[1, 2, 3, 0]).valid.tolist()
      [False, True, True, False]
    """
    name = "learn_then_test"
    check_level("confidence", confidence)
    check_test(name, test)
    choice(name, "method", method, ("fixed_sequence", "bonferroni"))
    starts = check_count("starts", starts)
    matrix, settings = _matrix(name, losses, settings, risk, bound)
    size = matrix.shape[1]
    values = p_value(test, matrix / bound, risk / bound, 1 - confidence)
    if method == "bonferroni":
        valid = values <= (1 - confidence) / size
    else:
        order = np.arange(size)[::-1] if order is None else np.asarray(order)
        if sorted(order.tolist()) != list(range(size)):
            raise InputError(f"`{name}` expected `order` to hold each index from 0 to {size - 1} once.")
        valid = np.zeros(size, bool)
        valid[order] = fixed_sequence(values[order], 1 - confidence, starts)
    if not valid.any():
        warnings.warn(
            f"No setting is shown to have a risk of at most {risk:g} with confidence {confidence:g}: the smallest "
            f"p-value is {values.min():.3g}, with {len(matrix)} examples.",
            UQWarning,
            stacklevel=2,
        )
    return RiskTests(valid, values, matrix.mean(0), settings)


def fixed_sequence(values: np.ndarray, delta: float, starts: int) -> np.ndarray:
    """Which of ordered p-values are rejected, from each start on until the first that is not."""
    rejected = np.zeros(len(values), bool)
    passing = values <= delta / starts
    for start in np.unique(np.floor(np.arange(starts) * len(values) / starts).astype(int)):
        failing = np.flatnonzero(~passing[start:])
        rejected[start : start + failing[0] if len(failing) else None] = True
    return rejected


def _found(settings: np.ndarray, column: int, matrix: np.ndarray, bound: float) -> RiskControl:
    setting = settings[column]
    return RiskControl(setting if np.ndim(setting) else setting.item(), column, float(matrix[:, column].mean()), bound)


def _matrix(name: str, losses: Any, settings: Any, risk: float, bound: float) -> tuple[np.ndarray, np.ndarray]:
    """Losses `(n, L)` in float64, checked, and settings."""
    if not (np.ndim(bound) == 0 and 0 < float(bound) < np.inf):
        raise InputError(f"`{name}` expected `bound`, the largest possible loss, above 0, but it is {bound!r}.")
    if not (np.ndim(risk) == 0 and 0 < float(risk) < float(bound)):
        raise InputError(f"`{name}` expected `risk` between 0 and the largest loss {bound:g}, but it is {risk!r}.")
    if callable(losses):
        if settings is None:
            raise InputError(f"`{name}` expected `settings` at which to call the function of losses.")
        losses = np.stack([np.asarray(losses(setting), np.float64) for setting in np.asarray(settings)], -1)
    matrix = np.asarray(losses, np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(f"`{name}` expected losses of shape (n, L), one column a setting, but got {matrix.shape}.")
    settings = np.arange(matrix.shape[1]) if settings is None else np.asarray(settings)
    if settings.shape[:1] != matrix.shape[1:]:
        raise InputError(f"`{name}` got {matrix.shape[1]} columns of losses but settings of shape {settings.shape}.")
    wrong = ~((matrix >= 0) & (matrix <= bound * (1 + 1e-6)))
    if wrong.any():
        row, column = np.argwhere(wrong)[0]
        raise InputError(
            f"`{name}` expected losses between 0 and `bound` = {bound:g}, but row {row} of column {column} is "
            f"{matrix[row, column]:.4g}."
        )
    return np.minimum(matrix, bound), settings


def _check_monotone(name: str, matrix: np.ndarray) -> None:
    rises = np.diff(matrix, axis=1) > 1e-6 * max(matrix.max(), 1e-300)
    if rises.any():
        row, column = np.argwhere(rises)[0]
        raise InputError(
            f"`{name}` expected losses that do not rise from one setting to the next, the boldest first, but row {row} "
            f"rises from {matrix[row, column]:.4g} in column {column} to {matrix[row, column + 1]:.4g} in column "
            f"{column + 1} ({rises.any(1).sum()} of {len(matrix)} rows rise somewhere). Reverse the settings if they "
            "begin with the most careful; `learn_then_test` takes losses that rise and fall."
        )


def _most_careful(name: str, matrix: np.ndarray, risk: float, need: int) -> int:
    """The last setting, where it cannot cost too much."""
    if matrix[:, -1].max() > risk:
        raise InputError(
            f"`{name}` found no setting that keeps a risk of {risk:g}: with {len(matrix)} examples the mean loss is "
            f"{matrix[:, -1].mean():.4g} at the most careful one. Add a setting that costs nothing (the full set), or "
            f"allow more risk; {need} examples are the least for this risk."
        )
    warnings.warn(
        f"`{name}` has {len(matrix)} examples, too few to show a risk of {risk:g} at any setting: the most careful is "
        f"taken, which never cost more. At least {need} are needed.",
        UQWarning,
        stacklevel=3,
    )
    return matrix.shape[1] - 1
