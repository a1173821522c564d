"""Calibration diagrams: what was said against what came about."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import check_count
from .._typing import ArrayLike
from ..metrics import pit, reliability_curve
from ..predictive import Predictive
from ._axes import BLUE, GREY, INK, RED, axes, dress

_SURE = 0.9
"""How often the drawn uncertainty of a frequency covers it."""
_AREA, _SMALLEST = 90.0, 6.0
"""Areas of the markers of the fullest bin and of the emptiest, in square points."""


def reliability(pred_or_probs: Any, y: ArrayLike, *, ax: Any = None, bins: int = 15) -> Any:
    """Draw how far predictions keep their word; on the diagonal they do exactly.

    For classes: in bins of the largest probability, the share of right labels, with its 90 % Wilson interval
    and, as bars along the bottom, the share of examples in each bin. The area of a marker grows in proportion to the
    number of examples in its bin, down to a smallest that can still be seen. For a regression: for every level, the
    share of outcomes inside the central interval of that level, with the region where a perfectly calibrated
    model would be in 90 of 100 test sets of this size. Points above the diagonal are underconfident, below it
    overconfident.

    Args:
      pred_or_probs: a `Predictive`, or class probabilities `(N, C)` or, for two classes, `(N,)`.
      y: labels, or targets of the regression, `(N,)`.
      ax: matplotlib axes; None makes a new figure.
      bins: number of bins for classes.
    Returns:
      The axes.
    Raises:
      MissingExtra: matplotlib is not installed.
      InputError: as `uq.metrics.reliability_curve` and `uq.metrics.pit`.
    Example:
      >>> ax = reliability([0.9, 0.8, 0.3, 0.4], [1, 1, 0, 1], bins=5)  # doctest: +SKIP

    References:
      niculescu2005; for regressions kuleshov2018, section 3. Intervals: wilson1927.
    """
    check_count("bins", bins)
    ax = axes(ax, "reliability")
    if isinstance(pred_or_probs, Predictive) and pred_or_probs.task == "regression":
        return _regression(ax, np.asarray(pit(pred_or_probs, y), np.float64).reshape(-1))
    return _classes(ax, pred_or_probs, y, bins)


def _classes(ax: Any, pred: Any, y: ArrayLike, bins: int) -> Any:
    curve = reliability_curve(pred, y, bins=bins)
    count = np.asarray(curve.count)
    full = count > 0
    said, came = (np.asarray(v, np.float64)[full] for v in (curve.confidence, curve.frequency))
    edges = np.asarray(curve.edges, np.float64)
    low, high = wilson(came, count[full])
    num_classes = _num_classes(pred)
    ax.bar(
        edges[:-1],
        count / count.sum(),
        width=np.diff(edges),
        align="edge",
        color=GREY,
        alpha=0.25,
        linewidth=0,
        label="share of examples",
    )
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    ax.errorbar(said, came, yerr=[came - low, high - came], color=BLUE, linestyle="none", elinewidth=0.9, alpha=0.7)
    area = np.maximum(_AREA * count[full] / count.max(), _SMALLEST)
    ax.scatter(said, came, s=area, color=BLUE, linewidths=0, zorder=3, label="observed, 90 % interval")
    ax.set_xlim(np.floor(10 / num_classes) / 10, 1.01)  # the largest of C probabilities is at least 1 / C
    ax.set_ylim(-0.02, 1.03)
    ax.set_xlabel("confidence: largest predicted probability")
    ax.set_ylabel("accuracy: share of right labels")
    return dress(ax)


def _num_classes(pred: Any) -> int:
    shape = np.shape(pred.probs if isinstance(pred, Predictive) else pred)
    return shape[1] if len(shape) == 2 and shape[1] > 1 else 2


def wilson(share: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the 90 % Wilson interval of a share among `count`."""
    from scipy.special import ndtri

    z = ndtri((1 + _SURE) / 2)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    # Where all or none came about an end is the share itself; rounding must not carry it past.
    return np.minimum(middle - half, share), np.maximum(middle + half, share)


def _regression(ax: Any, u: np.ndarray) -> Any:
    from scipy.stats import binom

    levels = np.linspace(0, 1, 101)
    inside = np.abs(2 * u - 1)
    observed = (inside[None, :] <= levels[:, None]).mean(1)
    num = len(u)
    low, high = (binom.ppf(q, num, levels) / num for q in ((1 - _SURE) / 2, (1 + _SURE) / 2))
    ax.fill_between(
        levels,
        np.maximum(low, 0),
        high,
        color=GREY,
        alpha=0.25,
        linewidth=0,
        label="perfect, 90 % of test sets",
    )
    ax.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="perfectly calibrated")
    ax.plot(levels, observed, color=BLUE, linewidth=1.8, label="observed")
    at = observed[90]
    ax.plot(
        [0.9],
        [at],
        color=RED,
        marker="o",
        markersize=5,
        linestyle="none",
        label=f"90 % interval: {100 * at:.0f} % inside",
    )
    ax.set_xlim(0, 1)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("nominal level of the central interval")
    ax.set_ylabel("share of outcomes inside")
    return dress(ax)
