"""Tests of calibration reject right models as often as they say, and wrong ones far more often.

Those with a simulation beside their own suite: transforms (test_pit_tests), probabilities (test_calibration_tests),
kernels (test_kernel), groups (test_groups), regression errors (test_regression), sign flips (test_compare).
"""

import jax
import numpy as np
import pytest
from scipy import special, stats

from uq import metrics
from uq.metrics import Resample


def assert_uniform(values, levels=(0.05, 0.2, 0.5, 0.8)):
    """No more and no fewer p-values below each level than chance explains."""
    for level in levels:
        found = int((np.asarray(values) <= level + 1e-9).sum())
        assert stats.binomtest(found, len(values), level).pvalue > 1e-3, (level, found / len(values))


def assert_power(values):
    assert (np.asarray(values) < 0.05).mean() > 0.8


def itself(pred, y):
    """A score that is what was given."""
    return np.asarray(pred) + 0 * np.asarray(y)


def test_paired_t():
    rng = np.random.default_rng(0)

    def p_value(gap):
        hard = 300 + 40 * rng.normal(size=30)  # what both share
        a, b = hard + rng.normal(size=30), hard + gap + rng.normal(size=30)
        return metrics.compare(a, b, np.zeros(30), metric=itself).p_value

    assert_uniform([p_value(0.0) for _ in range(600)])
    assert_power([p_value(1.0) for _ in range(50)])


def test_paired_t_of_neighbours_that_depend_on_each_other():
    rng = np.random.default_rng(1)

    def p_value(gap, lags, size=3000):
        noise = rng.normal(size=size + 3)
        moving = 9 + gap + noise[3:] + noise[2:-1] + noise[1:-2] + noise[:-3]
        return metrics.compare(moving, np.full(size, 9.0), np.zeros(size), metric=itself, lags=lags).p_value

    null = np.array([p_value(0.0, 30) for _ in range(400)])
    assert stats.binomtest(int((null <= 0.05).sum()), 400, 0.06).pvalue > 1e-3  # its variance is a little too small
    assert np.mean([p_value(0.0, 0) <= 0.05 for _ in range(200)]) > 0.2  # what ignoring it does
    assert_power([p_value(0.3, 30) for _ in range(50)])


def test_coverage():
    rng = np.random.default_rng(2)

    def p_value(factor):
        loc, scale = 300 + 40 * rng.normal(size=300), 20 * rng.uniform(0.5, 2, 300)
        y = loc + factor * scale * rng.normal(size=300)
        return float(metrics.coverage_test(stats.norm(loc, scale), y, level=0.8).p_value)

    null = np.array([p_value(1.0) for _ in range(400)])
    for level in (0.05, 0.2, 0.5):  # exact, therefore never too often, and hardly too rarely
        assert stats.binomtest(int((null <= level).sum()), 400, level, alternative="greater").pvalue > 1e-3
        assert (null <= level).mean() > 0.5 * level
    assert_power([p_value(1.4) for _ in range(50)])
    assert_power([p_value(0.7) for _ in range(50)])


@pytest.mark.parametrize("kind", ["counts", "draws", "mixture"])
def test_transforms_of_steps_and_mixtures(kind):
    """Randomised within steps they are uniform; those of a mixture are its own, not those of its two moments."""
    rng = np.random.default_rng(3)

    def p_value(seed, stretch=1.0, test="neyman"):
        loc = 30 + 10 * rng.uniform(size=150)
        if kind == "counts":
            size = 4.0 if stretch == 1.0 else 0.5
            y = stats.nbinom(size, size / (size + loc)).rvs(random_state=rng)
            return metrics.pit_test(stats.nbinom(4.0, 4 / (4 + loc)), y, test=test, key=seed).p_value
        if kind == "draws":
            draws = np.round(loc + 4 * rng.normal(size=(9, 150)))  # ties
            return metrics.pit_test(
                draws, np.round(loc + 4 * stretch * rng.normal(size=150)), test=test, key=seed
            ).p_value
        sign = rng.choice([-1.0, 1.0], 150, p=[0.3, 0.7])
        y = loc + stretch * (5 * sign + rng.normal(size=150))
        u = 0.3 * stats.norm.cdf(y, loc - 5, 1) + 0.7 * stats.norm.cdf(y, loc + 5, 1)
        if stretch != 1.0:  # the moments of the mixture, as a normal
            y = loc + 5 * sign + rng.normal(size=150)
            u = stats.norm.cdf(y, loc + 2, np.sqrt(1 + 100 * 0.21))
        return metrics.pit_test(u, test=test).p_value

    assert_uniform([p_value(seed) for seed in range(250)], levels=(0.05, 0.2, 0.5))
    assert_power([p_value(seed, 2.0) for seed in range(30)])


NULLS = {
    "confidence": lambda p, y, key: metrics.calibration_error(p, y, key=key),
    "classwise": lambda p, y, key: metrics.calibration_error(p, y, kind="classwise", binning="mass", bins=5, key=key),
}


@pytest.mark.parametrize("name", NULLS)
def test_the_null_of_calibration_errors(name):
    rng = np.random.default_rng(4)

    def p_value(seed, sharpen=1.0):
        probs = special.softmax(1.5 * rng.normal(size=(120, 3)), -1)
        y = (probs.cumsum(1) < rng.uniform(size=(120, 1))).sum(1).clip(0, 2)
        said = probs**sharpen / (probs**sharpen).sum(1, keepdims=True)
        return float(NULLS[name](said, y, Resample(jax.random.key(seed), num=99)).null.p_value)

    assert_uniform([p_value(seed) for seed in range(150)], levels=(0.05, 0.2, 0.5))
    assert_power([p_value(seed, 3.0) for seed in range(30)])
