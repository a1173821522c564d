"""What all plots share: axes, colours, and a legend that covers no data."""

from __future__ import annotations

from typing import Any

from .._extras import load_extra

BLUE, RED, GREY, INK = "#2f6fb0", "#c8452f", "#8a8f98", "#22252a"


def axes(ax: Any, name: str) -> Any:
    """`ax`, or the axes of a new figure of 6 × 4.5 inches.

    Raises:
      MissingExtra: matplotlib is not installed.
    """
    load_extra("matplotlib", "matplotlib", "plot", f"`uq.plot.{name}`")
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(6, 4.5), layout="constrained")[1]


def dress(ax: Any, *, title: str | None = None) -> Any:
    """Light grid, no box, and the legend in a row above the axes."""
    ax.grid(True, color="#d9dce1", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0, 1.0),
            ncols=2,
            frameon=False,
            fontsize=8.5,
            handlelength=1.6,
            columnspacing=1.2,
            borderaxespad=0.2,
        )
    if title:
        ax.set_title(title)
    return ax
