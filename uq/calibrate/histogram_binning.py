"""Histogram binning: the frequency of the event among predictions of one bin."""

from __future__ import annotations

import numpy as np

from . import _one_vs_rest, _steps
from ._one_vs_rest import Event, logit, rounding
from ._recalibrator import Recalibrator


def histogram_binning(*, bins: int = 15, binning: str = "mass") -> Recalibrator:
    """Every prediction becomes the frequency of the event among those of its bin.

    It assumes nothing about the shape of miscalibration, and pays for it: predictions of one bin are no longer told
    apart, and frequencies of few rows are noise. Frequencies of 0 and 1 make the log score of the first exception
    infinite. With more than two classes, each is mapped against the rest and probabilities are divided by their sum.

    Args:
      bins: at most as many; the distinct predictions of ties are never parted.
      binning: "mass" puts about as many rows in each; "width" cuts [0, 1] evenly, and predicts the middle of a bin that
        no row fell in.
    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `Steps`.
    Raises:
      InputError: settings that are none; in `fit`, a class of which there is no outcome, labels out of range, shapes
        that do not fit.
    References:
      zadrozny2001, section 4; guo2017, section 4.1. Checked against a loop.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.1, 0.2, 0.8, 0.9])
      >>> binned = histogram_binning(bins=2)
      >>> binned.apply(binned.fit(p, [0, 1, 1, 1]), p).mean.tolist()
      [0.5, 0.5, 1.0, 1.0]
    """
    _steps.check("histogram_binning", bins, binning)

    def learn(data: Event) -> _steps.Steps:
        if binning == "width":
            return _even(data, bins)
        cuts = _steps.equal_mass(data, bins)
        rate = _steps.sums(data.happened, cuts) / _steps.sums(data.weight, cuts)
        return _steps.Steps(_steps.edges_at(data, cuts), logit(rate))

    return _one_vs_rest.recalibrator("histogram_binning", learn, _steps.step)


def _even(data: Event, bins: int) -> _steps.Steps:
    """Bins of equal width; an edge k / B belongs to the bin above it, also after rounding."""
    edges = np.asarray(logit(np.arange(1, bins) / bins))
    edges = edges - rounding(edges)
    place = np.searchsorted(edges, data.odds, side="right")
    weight = np.bincount(place, data.weight, bins)
    rate = np.bincount(place, data.happened, bins) / np.where(weight > 0, weight, 1)
    return _steps.Steps(edges, logit(np.where(weight > 0, rate, (np.arange(bins) + 0.5) / bins)))
