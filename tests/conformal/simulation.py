"""Coverage by simulation: thousands of calibration sets at once, and the exact law that their coverage follows.

Calibration sets are the outputs D of one call, since every output has a threshold of its own.
"""

import warnings

import numpy as np
from scipy import stats

from uq import UQWarning, conformal
from uq.conformal import _rank

LEVELS = (0.8, 0.9, 0.95)
SIZES = (9, 19, 20, 50, 200, 1000)
SETS, EACH, MEMBERS = 2000, 10, 8


def band(n, level, sets=SETS, each=EACH, outside=1e-5):
    """Central range of the number covered among `each` new outcomes for each of `sets` calibration sets of n.

    It is a sum of independent Beta-binomials: the exact law, by the discrete Fourier transform.
    """
    place = _rank.rank(n, level)
    if place > n:
        return sets * each, sets * each
    mass = stats.betabinom(each, place, n + 1 - place).pmf(np.arange(each + 1))
    total = np.fft.irfft(np.fft.rfft(mass, 2 * sets * each) ** sets, 2 * sets * each)[: sets * each + 1]
    below = np.cumsum(total)
    return int(np.searchsorted(below, outside / 2)), int(np.searchsorted(below, 1 - outside / 2))


def data(rng, n, sets=SETS, each=EACH):
    """Skewed outcomes of differing scale, and predictions that are right about neither: calibration, then new."""

    def some(rows):
        mean = rng.uniform(20, 30, (rows, sets))
        scale = rng.uniform(0.5, 2, (rows, sets))
        y = mean + 1 + scale * rng.gamma(3, 1, (rows, sets))
        return mean, scale, y

    return some(n), some(each)


def predictions(score, mean, scale, other=None):
    """What the score reads, made from a mean, a scale, and another scale that only some scores look at."""
    other = scale if other is None else other
    if score == "distributional":
        return stats.norm(mean, scale)
    if score == "normalized":
        return mean, scale
    if score.startswith("cqr"):
        return mean - other, mean + 2 * scale
    if score.startswith("uacqr"):
        shift = np.linspace(-2, 3, MEMBERS)[:, None, None] * other
        return mean - scale + shift, mean + 2 * scale + 1.5 * shift
    return mean


SCORES = {
    "absolute": conformal.absolute(),
    "absolute lower": conformal.absolute("lower"),
    "absolute upper": conformal.absolute("upper"),
    "normalized": conformal.normalized(),
    "gamma": conformal.gamma(),
    "distributional": conformal.distributional(),
    "distributional lower": conformal.distributional("lower"),
    "distributional upper": conformal.distributional("upper"),
    "cqr": conformal.cqr(),
    "cqr_r": conformal.cqr_r(),
    "uacqr S": conformal.uacqr("S"),
    "uacqr P": conformal.uacqr("P"),
}
TIED = ("uacqr P",)
"""Scores that are tied, and so cover more than the law for scores without ties says."""


def split_coverage(name, n, levels=LEVELS, seed=0, sets=SETS):
    """How many new outcomes are inside, for each level, and the band where that number belongs."""
    rng = np.random.default_rng([seed, n])
    (mean, scale, y), (new_mean, new_scale, new_y) = data(rng, n, sets)
    kind = name.split()[0]
    other, new_other = rng.uniform(0.5, 1.5, mean.shape), rng.uniform(0.5, 1.5, new_mean.shape)
    procedure = conformal.split(SCORES[name])
    state = procedure.fit(predictions(kind, mean, scale, other), y)
    new = predictions(kind, new_mean, new_scale, new_other)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UQWarning)
        for level in levels:
            inside = procedure.apply(state, new, level=level).contains(new_y)
            low, high = band(n, level, sets)
            high = sets * EACH if name in TIED else high
            found.append({"score": name, "n": n, "level": level, "covered": int(inside.sum()), "of": inside.size,
                          "low": low, "high": high})  # fmt: skip
    return found
