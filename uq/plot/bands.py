"""Predictive bands of a regression."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import InputError, check_level, check_same_length
from .._typing import ArrayLike
from ..predictive import Predictive
from ._axes import BLUE, INK, RED, axes, dress


def bands(
    pred: Any, y: ArrayLike | None = None, x: ArrayLike | None = None, *, level: float = 0.9, ax: Any = None
) -> Any:
    """Draw the mean and the central interval of each prediction, and the outcomes where they are known.

    With `x`, against it; without, the examples stand in order of their predicted mean. Outcomes outside their
    interval are drawn in red: about 1 − level of them should be.

    Args:
      pred: a regression `Predictive` with one output.
      y: outcomes `(N,)`, in the units of the target.
      x: what to draw against, `(N,)`.
      level: coverage of the interval in (0, 1).
      ax: matplotlib axes; None makes a new figure.
    Returns:
      The axes; set the label of the y axis to your target and its unit.
    Raises:
      MissingExtra: matplotlib is not installed.
      InputError: classes, several outputs, or lengths that differ.
    Example:
      >>> import jax.numpy as jnp, uq
      >>> pred = uq.Predictive(jnp.zeros((1, 9, 2)), uq.likelihoods.Gaussian())
      >>> ax = bands(pred)  # doctest: +SKIP
    """
    if not isinstance(pred, Predictive) or pred.task != "regression" or pred.num_outputs != 1:
        raise InputError(f"`bands` expected a regression Predictive with one output, but got {pred!r}.")
    check_level("level", level)
    if x is not None:
        x = np.asarray(x)
        if x.ndim == 2 and x.shape[1] == 1:
            x = x[:, 0]
        if x.ndim != 1:
            raise InputError(f"`x` expected one number an example, but has shape {x.shape}; pass one feature x[:, j].")
        check_same_length(len(pred), x, name="x")
    if y is not None:
        y = np.asarray(pred.likelihood.check(y), np.float64)
        check_same_length(len(pred), y)
    ax = axes(ax, "bands")

    mean = np.asarray(pred.mean, np.float64)
    lower, upper = (np.asarray(end, np.float64) for end in pred.interval(level))
    order = np.argsort(mean if x is None else x, kind="stable")
    along = np.arange(1, len(mean) + 1) if x is None else x[order]
    ax.fill_between(
        along,
        lower[order],
        upper[order],
        color=BLUE,
        alpha=0.22,
        linewidth=0,
        step="mid" if x is None else None,
        label=f"{100 * level:g} % interval",
    )
    ax.plot(along, mean[order], color=BLUE, linewidth=1.8, label="mean")
    if y is not None:
        inside = ((y >= lower) & (y <= upper))[order]
        style = {"linestyle": "none", "marker": "o", "markersize": 3.6}
        ax.plot(along[inside], y[order][inside], color=INK, label=f"inside: {inside.sum()}", **style)
        ax.plot(along[~inside], y[order][~inside], color=RED, label=f"outside: {(~inside).sum()}", **style)
    ax.set_xlabel("examples in order of their predicted mean" if x is None else "x")
    ax.set_ylabel("target")
    ax.margins(x=0.01)
    return dress(ax)
