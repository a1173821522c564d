"""Bayesian binning into quantiles: an average over numbers of bins."""

from __future__ import annotations

import numpy as np

from .._checks import InputError
from . import _one_vs_rest, _steps
from ._one_vs_rest import Event, logit
from ._recalibrator import Recalibrator
from ._search import sigmoid

_RANGE = 10.0
_NEGLIGIBLE = 1e-12


def bayesian_binning(*, prior_count: float = 2.0) -> Recalibrator:
    """Binned frequencies, averaged over numbers of equal-mass bins by how probable these make the outcomes (BBQ).

    Numbers of bins between n^(1/3) / 10 and 10 n^(1/3) are equally probable before; the frequency of a bin has a beta
    distribution about the middle of its predictions. There is no number of bins to choose, the map is smoother
    than that of `histogram_binning`, and probabilities are never 0 or 1. It need not rise. With more than two classes,
    each is mapped against the rest and probabilities are divided by their sum.

    Args:
      prior_count: rows that the prior of all bins together is worth; it is divided among them.
    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `Steps`, the average being one.
    Raises:
      InputError: settings that are none; in `fit`, labels out of range, shapes that do not fit.
    References:
      naeini2015, section 3 (BBQ). Checked against an enumeration with the posterior of every number of bins.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.1, 0.2, 0.8, 0.9] * 10)
      >>> binned = bayesian_binning()
      >>> new = binned.apply(binned.fit(p, [0, 1, 1, 1] * 10), p).mean
      >>> bool(0.4 < new[1] < 1), bool(new[3] < 1)
      (True, True)
    """
    if not (np.isfinite(prior_count) and prior_count > 0):
        raise InputError(f"`bayesian_binning` expected `prior_count` above 0, but it is {prior_count}.")

    def learn(data: Event) -> _steps.Steps:
        return _averaged(data, float(prior_count))

    return _one_vs_rest.recalibrator("bayesian_binning", learn, _steps.step, every_class=False)


def numbers_of_bins(count: float) -> range:
    """Those that are averaged over, for `count` rows."""
    root = count ** (1 / 3)
    return range(max(1, int(np.floor(root / _RANGE))), max(1, int(np.ceil(root * _RANGE))) + 1)


def _averaged(data: Event, prior_count: float) -> _steps.Steps:
    """One step function with the edges of all partitions that matter."""
    partitions = {_steps.equal_mass(data, bins).tobytes() for bins in numbers_of_bins(data.weight.sum())}
    cuts = [np.frombuffer(each, np.intp) for each in sorted(partitions)]
    scores, rates = zip(*(_scored(data, each, prior_count) for each in cuts), strict=True)
    share = np.exp(scores - np.max(scores))
    share = np.where(share > _NEGLIGIBLE * share.max(), share, 0)
    share /= share.sum()
    kept = [part for part in zip(share, cuts, rates, strict=True) if part[0] > 0]
    union = np.unique(np.concatenate([each for _, each, _ in kept]))
    begins = np.concatenate([[0], union])
    mean = sum(share * rate[np.searchsorted(each, begins, side="right")] for share, each, rate in kept)
    return _steps.Steps(_steps.edges_at(data, union), logit(mean))


def _scored(data: Event, cuts: np.ndarray, prior_count: float) -> tuple[float, np.ndarray]:
    """Log marginal likelihood of the outcomes under one partition, and the mean frequency in each of its bins."""
    from scipy.special import betaln

    ends = np.concatenate([[0], sigmoid(_steps.edges_at(data, cuts)), [1]])
    middle = (ends[1:] + ends[:-1]) / 2
    yes, no = prior_count / len(middle) * middle, prior_count / len(middle) * (1 - middle)
    weight, happened = _steps.sums(data.weight, cuts), _steps.sums(data.happened, cuts)
    score = (betaln(happened + yes, weight - happened + no) - betaln(yes, no)).sum()
    return float(score), (happened + yes) / (weight + prior_count / len(middle))
