"""Summaries of a whole test set: does what is said with 90 % confidence come about 9 times in 10?"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, check_level, check_same_length, unknown_name
from .._typing import Array, ArrayLike
from ..predictive import Predictive
from . import _inputs
from ._binning import Bins, group_bins, round_down

Kind = Literal["confidence", "classwise", "top-label", "binary"]
Norm = Literal["l1", "l2", "max"]
Binning = Literal["width", "mass"]
_LEVELS = np.arange(1, 100) / 100


class ReliabilityCurve(NamedTuple):
    """What was said against what came about, in B bins; kinds that look at each class lead with an axis C."""

    confidence: Array
    """Mean probability in each bin, `(B,)` or `(C, B)`; NaN where a bin is empty."""
    frequency: Array
    """Share of the bin's examples for which the event came about; NaN where a bin is empty."""
    count: Array  # type: ignore[assignment]
    """Examples in each bin, whole numbers."""
    edges: Array
    """Bin edges, `(B + 1,)` or `(C, B + 1)`."""


def calibration_error(
    pred: Any,
    y: ArrayLike,
    *,
    kind: Kind = "confidence",
    norm: Norm = "l1",
    bins: int = 15,
    binning: Binning = "width",
) -> Array:
    """Distance between predicted probabilities and frequencies, estimated with bins; ECE by default.

    In bin b, of n_b examples, let gap_b = |share of events − mean probability|. What is binned, and which
    event is meant, is the `kind`:

    - "confidence": the largest probability; the event is that its class is right (ties go to the first
      class). For two classes it therefore runs from ½ to 1.
    - "binary": P(1); the event is y = 1. Two classes only.
    - "classwise": P(c); the event is y = c; for each class c by itself.
    - "top-label": as "confidence", but within each predicted class by itself; asks more than "confidence".

    With n examples and, for "classwise", C classes, each of which meets all n (the others split the n
    examples between their groups, so that C below is 1):

    - norm "l1": Σ n_b gap_b / (n C), the expected calibration error (ECE);
    - norm "l2": √(Σ n_b gap_b² / (n C)), the root-mean-square calibration error;
    - norm "max": max gap_b over bins that hold an example (MCE): mostly noise where a bin holds few.

    A perfectly calibrated model does not score 0: with 15 bins its expected ECE is about 0.09 for 100
    examples and 0.03 for 1,000. Compare models on the same data, kind, norm and bins only.

    Args:
      pred: a `Predictive` of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
      kind, norm: as above.
      bins: number of bins B.
      binning: "width", edges k / B; or "mass", edges at order statistics, so that bins hold about n / B
        examples (equal values never part, so ties leave some bins empty). With "mass", each class has its own
        edges.
    Returns:
      One number in [0, 1].
    Raises:
      InputError: an unknown kind, norm or binning; "binary" for more than two classes; as `brier_score`.
    References:
      naeini2015, eq. 3 (l1 and max); kumar2019, def. 2.1 (l2, classwise); gupta2022 (top-label). Checked
      against a loop in rational arithmetic.
    Example:
      >>> import numpy as np
      >>> float(calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), [1, 1, 1, 0]))
      0.0
    """
    _known("norm", norm, get_args(Norm))
    table = _reliability("calibration_error", pred, y, kind, bins, binning)
    module = _inputs.numeric(table)
    gap = module.abs(table.gap)
    if norm == "max":
        return _inputs.result(module.where(table.count > 0, gap, 0).max())
    share = table.count.astype(gap.dtype) / table.count.sum().astype(gap.dtype)
    if norm == "l1":
        return _inputs.result((share * gap).sum())
    return _inputs.result(module.sqrt((share * gap * gap).sum()))


def reliability_curve(
    pred: Any, y: ArrayLike, *, kind: Kind = "confidence", bins: int = 15, binning: Binning = "width"
) -> ReliabilityCurve:
    """The points of a reliability diagram: in each bin, mean probability, frequency and count.

    Args:
      pred, y, kind, bins, binning: as in `calibration_error`.
    Returns:
      A `ReliabilityCurve`; arrays are `(B,)`, and `(C, B)` for "classwise" and "top-label".
    References:
      degroot1983; niculescu2005.
    Example:
      >>> import numpy as np
      >>> curve = reliability_curve(np.array([0.6, 0.9]), [1, 0], bins=2, kind="binary")
      >>> print(curve.count, curve.frequency)
      [0 2] [nan 0.5]
    """
    table = _reliability("reliability_curve", pred, y, kind, bins, binning)
    module = _inputs.numeric(table)
    empty = table.count == 0
    parts = (
        module.where(empty, np.nan, table.confidence),
        module.where(empty, np.nan, table.frequency),
        table.count,
        table.edges,
    )
    if kind in ("confidence", "binary"):
        parts = tuple(part[0] for part in parts)
    return ReliabilityCurve(*(_inputs.result(part) for part in parts))


def _reliability(name: str, pred: Any, y: ArrayLike, kind: str, bins: int, binning: str) -> Bins:
    _known("kind", kind, get_args(Kind))
    _known("binning", binning, get_args(Binning))
    bins = check_count("bins", bins)
    probs, labels = _inputs.classes(name, pred, y)
    module = _inputs.numeric(probs, labels)
    size, num_classes = probs.shape
    one = module.zeros(size, labels.dtype)
    if kind == "binary":
        if num_classes != 2:
            raise InputError(
                f'`{name}` of kind "binary" is for two classes, but there are {num_classes}: choose '
                '"confidence", "classwise" or "top-label".'
            )
        return group_bins(probs[:, 1], labels == 1, one, groups=1, bins=bins, binning=binning)
    if kind == "classwise":
        each = module.broadcast_to(module.arange(num_classes, dtype=labels.dtype), probs.shape)
        happened = (labels[:, None] == each).reshape(-1)
        group = each.reshape(-1)
        return group_bins(probs.reshape(-1), happened, group, groups=num_classes, bins=bins, binning=binning)
    top = probs.argmax(1).astype(labels.dtype)
    group, groups = (one, 1) if kind == "confidence" else (top, num_classes)
    return group_bins(probs.max(1), top == labels, group, groups=groups, bins=bins, binning=binning)


def _known(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise unknown_name(name, str(value), choices)


def accuracy(pred: Any, y: ArrayLike) -> Array:
    """Share of examples whose most probable class came about; among equally probable ones the first counts.

    Args:
      pred: a `Predictive` of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
    Returns:
      One number in [0, 1]; higher is better.
    Example:
      >>> float(accuracy([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], [0, 1]))
      0.5
    """
    probs, labels = _inputs.classes("accuracy", pred, y)
    return _inputs.result((probs.argmax(1) == labels).mean())


def rmse(pred: Any, y: ArrayLike) -> Array:
    """Root-mean-square error of the mean, over examples and, where there are several, outputs.

    Args:
      pred: a regression `Predictive`, or point predictions `(N,)` or `(N, D)`.
      y: outcomes of the same shape.
    Returns:
      One number, in the units of `y`.
    Example:
      >>> float(rmse([0.0, 0.0], [3.0, -3.0]))
      3.0
    """
    gap = _inputs.points("rmse", pred, y)
    return _inputs.result(_inputs.numeric(gap).sqrt((gap * gap).mean()))


def coverage(pred: Any, y: ArrayLike, *, level: float = 0.9) -> Array:
    """Share of outcomes inside their central interval, ends included; it should come to `level`.

    Over several outputs it is the share of all intervals, not of examples that are inside in every output.
    Right coverage on average may hide too much in one region and too little in another.

    Args:
      pred: a regression `Predictive`, or a pair (lower, upper), each `(N,)` or `(N, D)`; infinite ends are
        legal.
      y: outcomes of the same shape.
      level: the interval's nominal coverage, for a `Predictive`; a pair has its own.
    Returns:
      One number in [0, 1]; its standard error is about √(level (1 − level) / N).
    Raises:
      InputError: a level outside (0, 1), ends that cross, shapes that differ, numbers that are not finite.
    Example:
      >>> float(coverage(([0.0, 0.0], [1.0, 1.0]), [1.0, 2.0]))
      0.5
    """
    return _inputs.result(covered("coverage", pred, y, level).mean())


def covered(name: str, pred: Any, y: ArrayLike, level: float) -> Any:
    """Which outcomes are inside, bool, `(N,)` or `(N, D)`."""
    check_level("level", level)
    if _inputs.is_pair(pred):
        lower, upper = _inputs.bounds(name, pred)
        lower, outcome = _inputs.pair(name, "lower", lower, y)
        upper, _ = _inputs.pair(name, "upper", upper, y)
        return (lower <= outcome) & (outcome <= upper)
    if not isinstance(pred, Predictive):
        raise InputError(f"`{name}` expected a Predictive or a pair (lower, upper).")
    u = pit(pred, y)
    tail = (1 - level) / 2
    return (u >= tail) & (u <= 1 - tail)


def pit(pred: Any, y: ArrayLike) -> Array:
    """Probability integral transform F(y): uniform on [0, 1] if the predictions are right.

    Args:
      pred: a regression `Predictive`; its exact mixture is used.
      y: outcomes `(N,)` or `(N, D)`.
    Returns:
      `(N,)`, or for several outputs the marginal ones, `(N, D)`.
    Raises:
      InputError: not a regression, or shapes that do not fit.
    References:
      dawid1984; gneiting2007b. Checked against numerical mixtures.
    Example:
      >>> import jax.numpy as jnp, uq
      >>> pred = uq.Predictive(jnp.zeros((1, 2, 2)), uq.likelihoods.Gaussian())
      >>> pit(pred, [0.0, 100.0]).tolist()
      [0.5, 1.0]
    """
    pred = _inputs.regression("pit", pred)
    y = pred.likelihood.check(y)
    check_same_length(len(pred), y)
    return pred.cdf(y)


def regression_calibration_error(pred: Any, y: ArrayLike) -> Array:
    """Mean over the levels t = 0.01 … 0.99 of |share of outcomes with F(y) ≤ t, minus t|.

    With several outputs, the mean of the outputs' errors. For perfect predictions its expectation is about
    0.31 / √N, not 0; always predicting the marginal distribution of y scores as well.

    Args:
      pred: a regression `Predictive`.
      y: outcomes `(N,)` or `(N, D)`.
    Returns:
      One number between 0 and ½.
    References:
      kuleshov2018, eq. 9, with absolute in place of squared gaps; chung2021. Checked against a loop.
    Example:
      >>> import jax.numpy as jnp, uq
      >>> pred = uq.Predictive(jnp.zeros((1, 2, 2)), uq.likelihoods.Gaussian())
      >>> round(float(regression_calibration_error(pred, [100.0, 100.0])), 3)
      0.5
    """
    u = pit(_inputs.regression("regression_calibration_error", pred), y)
    u = u[:, None] if u.ndim == 1 else u
    if _inputs.numeric(u) is np:
        ranked = np.sort(np.asarray(u, np.float64), axis=0)
        counts = np.stack([np.searchsorted(column, _LEVELS, side="right") for column in ranked.T])
        return _inputs.result(np.abs(counts / len(u) - _LEVELS).mean())
    levels = jnp.asarray(round_down(_LEVELS, u.dtype))
    below = jax.vmap(lambda column: jnp.searchsorted(jnp.sort(column), levels, side="right"))(u.T)
    return jnp.abs(below.astype(u.dtype) / u.shape[0] - jnp.asarray(_LEVELS, u.dtype)).mean()
