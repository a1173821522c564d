"""The order statistic: by enumeration, exact arithmetic, and its law."""

import itertools
import math
import warnings
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uq import InputError, UQWarning
from uq.conformal import _rank

decimals = st.integers(1, 999).map(lambda k: Fraction(k, 1000))


@given(st.integers(1, 100_000), decimals)
def test_rank_is_exact_for_decimal_levels(n, level):
    assert _rank.rank(n, float(level)) == math.ceil((n + 1) * level)
    assert _rank.rank(n, 1 - float(1 - level)) == math.ceil((n + 1) * level)
    assert _rank.rank(n, np.float32(float(level))) == math.ceil((n + 1) * level)


def test_rank_of_huge_sets_and_of_levels_that_are_no_decimals():
    assert _rank.rank(10**12 - 1, 0.9) == 9 * 10**11
    assert _rank.rank(2, 2 / 3) == 2
    assert _rank.rank(10, math.pi / 4) == math.ceil(11 * math.pi / 4)
    assert _rank.rank(24, 0.56) == 14  # 1 − 0.44, where floats say 15


@given(decimals)
def test_smallest_size_is_the_first_with_a_finite_bound(level):
    n = _rank.smallest_size(float(level))
    assert _rank.rank(n, float(level)) <= n
    assert n == 1 or _rank.rank(n - 1, float(level)) > n - 1


def test_smallest_sizes():
    assert [_rank.smallest_size(level) for level in (0.5, 0.8, 0.9, 0.95, 0.99, 1e-6)] == [1, 4, 9, 19, 99, 1]
    assert _rank.smallest_size(1 - 1e-12) > 10**11


@pytest.mark.parametrize("n", range(1, 9))
def test_coverage_over_all_orders(n):
    """Of all (n + 1)! orders of distinct scores, the last is at most the threshold in a share k / (n + 1)."""
    orders = np.array(list(itertools.permutations(range(n + 1))), float)
    for level in (0.2, 0.5, 0.75, 0.8, 0.9):
        place = _rank.rank(n, level)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UQWarning)
            bound = _rank.limit(orders[:, :n].T, level)
        share = Fraction(int((orders[:, n] <= bound).sum()), len(orders))
        assert share == min(Fraction(place, n + 1), 1)
        assert share >= Fraction(level).limit_denominator(1000)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=7), decimals)
@settings(deadline=None)
def test_coverage_with_ties_is_at_least_the_level(values, level):
    """Leaving out each of n + 1 tied scores in turn, which is all that exchangeability knows."""
    values = np.array(values, float)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UQWarning)
        inside = [values[i] <= _rank.limit(np.delete(values, i), float(level)) for i in range(len(values))]
    assert Fraction(sum(map(int, inside)), len(values)) >= level


def test_too_few_says_how_many_are_enough():
    with pytest.warns(UQWarning, match=r"8 calibration scores are too few for level 0.9: .* 9 are enough"):
        assert _rank.threshold(np.arange(8.0), 0.9) == np.inf
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _rank.threshold(np.arange(9.0), 0.9) == 8
    with pytest.warns(UQWarning, match="1 calibration score is too few"):
        _rank.threshold(np.arange(1.0), 0.9)


def test_the_warning_points_at_the_callers_line():
    with pytest.warns(UQWarning) as found:
        _rank.threshold(np.arange(8.0), 0.9)
    assert found[0].filename == __file__


def test_columns_infinite_scores_and_jit():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(50, 3)).astype(np.float32)
    scores[:4, 1] = np.inf
    want = np.sort(scores, axis=0)[45]
    assert (np.asarray(_rank.threshold(scores, 0.9)) == want).all()
    assert (np.asarray(jax.jit(lambda s: _rank.threshold(s, 0.9))(scores)) == want).all()
    assert _rank.limit(scores.astype(np.float64), 0.9).dtype == np.float64
    scores[:, 2] = np.inf
    assert np.isinf(_rank.threshold(scores, 0.9)[2])


@pytest.mark.parametrize("level", [0, 1, -0.1, 90, float("nan"), "0.9x", [0.8, 0.9]])
def test_levels_that_are_none(level):
    with pytest.raises(InputError, match="level"):
        _rank.rank(10, level)


def test_a_traced_level_is_refused():
    with pytest.raises(InputError, match="static"):
        jax.jit(lambda level: _rank.threshold(jnp.arange(9.0), level))(0.9)


@pytest.mark.parametrize(("scores", "said"), [([], "at least one"), (1.0, "at least one"), ([0.0, np.nan], "row 1")])
def test_scores_that_are_none(scores, said):
    with pytest.raises(InputError, match=said):
        _rank.check_scores("scores", np.array(scores))


# Weights


def slow_weighted(scores, weight, own, level):
    total = sum(weight) + own
    for s in sorted(scores):
        if sum(w for t, w in zip(scores, weight, strict=True) if t <= s) >= level * total - 1e-9:
            return s
    return math.inf


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=9), st.integers(1, 5), decimals)
@settings(deadline=None)
def test_weighted_quantile_by_hand(rows, own, level):
    scores, weight = (np.array(column, float) for column in zip(*rows, strict=True))
    want = slow_weighted(scores, weight, own, float(level))
    assert _rank.weighted_limit(scores, weight, np.float64(own), float(level)) == want


@pytest.mark.parametrize("level", [0.2, 0.5, 0.8, 0.9, 0.95])
def test_weighted_quantile_in_float32(level):
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, weight = rng.integers(-3, 4, 9).astype(np.float32), rng.integers(0, 5, 9).astype(np.float32)
        own = np.array([1.0, 2.0, 3.0], np.float32)
        want = [slow_weighted(scores.tolist(), weight.tolist(), float(each), level) for each in own]
        assert _rank.weighted_threshold(scores, weight, own, level).tolist() == want


@pytest.mark.parametrize("size", [1, 9, 19, 20, 99, 1000])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("each", [1.0, 0.1, 1e-8, 3e20])
def test_equal_weights_are_no_weights(size, level, each):
    scores = np.random.default_rng(size).normal(size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UQWarning)
        want = _rank.limit(scores, level)
        single = _rank.threshold(scores, level)
    assert _rank.weighted_limit(scores, np.full(size, each), np.float64(each), level) == want
    found = _rank.weighted_threshold(jnp.asarray(scores), jnp.full(size, each), jnp.full(2, each), level)
    assert (found == single).all()


def test_no_weight_at_all_bounds_nothing():
    assert np.isinf(_rank.weighted_limit(np.arange(5.0), np.zeros(5), np.float64(0), 0.5))
    assert np.isinf(_rank.weighted_limit(np.arange(5.0), np.ones(5), np.float64(np.inf), 0.5))


# Its law


def test_realised_coverage_is_the_law_of_an_order_statistic():
    rng = np.random.default_rng(0)
    coverage = np.sort(rng.uniform(size=(50, 40_000)), axis=0)[_rank.rank(50, 0.9) - 1]
    low, high = _rank.realised_coverage(50, 0.9)
    assert np.quantile(coverage, [0.025, 0.975]) == pytest.approx([low, high], abs=4e-3)
    assert _rank.realised_coverage(8, 0.9) == (1, 1)
    with pytest.raises(InputError, match="confidence"):
        _rank.realised_coverage(8, 0.9, confidence=1)
