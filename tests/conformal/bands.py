"""Where the number of covered examples lies when coverage is what the theorem says, exactly."""

import functools
import math

import numpy as np
from scipy import stats

LEVELS = (0.8, 0.9, 0.95)
SIZES = (9, 19, 20, 50, 200, 1000)
SIMULATIONS = 2000


def place(num, level):
    """The order statistic, in exact arithmetic on the decimal level."""
    return -(-(num + 1) * round(level * 1000) // 1000)


@functools.cache
def band(num, level, tests, simulations=SIMULATIONS, probability=1 - 1e-5):
    """Ends of the central band of the number covered of `tests` examples in each of `simulations` sets of `num`.

    Given the calibration set it is Beta-binomial; the sum over sets is its convolution with itself, by Fourier.
    """
    k = place(num, level)
    if k > num:
        return simulations * tests, simulations * tests
    pmf = stats.betabinom.pmf(np.arange(tests + 1), tests, k, num + 1 - k)
    length = simulations * tests + 1
    total = np.fft.irfft(np.fft.rfft(pmf, 2 * length) ** simulations, 2 * length)[:length]
    tail = (1 - probability) / 2
    cdf = np.cumsum(total)
    return int(np.searchsorted(cdf, tail)), int(np.searchsorted(cdf, 1 - tail))


def test_the_band_of_one_test_example_is_binomial():
    assert band(19, 0.9, 1) == tuple(
        int(v) for v in (stats.binom.ppf(5e-6, 2000, 18 / 20), stats.binom.ppf(1 - 5e-6, 2000, 18 / 20))
    )
    assert math.isclose(place(24, 0.56), 14) and place(8, 0.9) == 9
