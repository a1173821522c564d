"""Mondrian, covariate-shift weighted and localised intervals: against split, by hand, and by simulation."""

import math
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from uq import InputError, UQWarning, conformal
from uq.conformal import _rank

from . import simulation
from .test_split import arrays, given_to


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*too few.*", UQWarning)
        yield


# Groups


@pytest.mark.parametrize("name", ["absolute", "normalized", "distributional", "cqr", "uacqr P"])
def test_each_group_is_split_on_its_own(name):
    rng = np.random.default_rng(0)
    mean, scale, y = arrays(60)
    new_mean, new_scale, _ = arrays(20, seed=1)
    groups, new_groups = rng.integers(3, 6, 60), rng.integers(3, 6, 20)
    score = simulation.SCORES[name]
    procedure = conformal.mondrian(score)
    found = procedure.apply(
        procedure.fit(given_to(name, mean, scale), y, groups), given_to(name, new_mean, new_scale), new_groups
    )
    split = conformal.split(score)
    for g in (3, 4, 5):
        old, new = groups == g, new_groups == g
        state = split.fit(given_to(name, mean[old], scale[old]), y[old])
        want = split.apply(state, given_to(name, new_mean[new], new_scale[new]))
        assert found.lower[new] == pytest.approx(want.lower)
        assert found.upper[new] == pytest.approx(want.upper)
        assert (found.realised.lower[new] == want.realised.lower).all()


def test_groups_of_several_outputs_text_and_order():
    rng = np.random.default_rng(0)
    y, pred = rng.normal(size=(50, 2)), np.zeros((50, 2))
    names = np.where(np.arange(50) % 2, "odd", "even")
    procedure = conformal.mondrian()
    found = procedure.apply(procedure.fit(pred, y, names), pred[:2], ["odd", "even"], level=0.8)
    for row, start in enumerate((1, 0)):
        want = np.sort(abs(y[start::2]), axis=0)[_rank.rank(25, 0.8) - 1]
        assert found.upper[row] == pytest.approx(want)
    order = rng.permutation(50)
    again = procedure.apply(procedure.fit(pred, y[order], names[order]), pred[:2], ["odd", "even"], level=0.8)
    assert np.array_equal(again.upper, found.upper)


def test_mondrian_jits_and_unknown_groups_are_unbounded_there():
    rng = np.random.default_rng(0)
    y, groups = rng.normal(size=60), np.repeat([2, 7], [50, 10])
    procedure = conformal.mondrian()
    state = procedure.fit(jnp.zeros(60), jnp.asarray(y, jnp.float32), groups)
    compiled = jax.jit(procedure.apply, static_argnames="level")
    new = jnp.array([2, 7, 5, 9])
    for _ in range(2):
        found = compiled(state, jnp.zeros(4), new, level=0.9)
    assert compiled._cache_size() == 1
    want = procedure.apply(state, jnp.zeros(2), new[:2], level=0.9)
    assert np.asarray(found.upper[:2]) == pytest.approx(np.asarray(want.upper))
    assert np.isinf(found.upper[2:]).all()


def test_bad_groups():
    procedure = conformal.mondrian()
    state = procedure.fit(np.zeros(30), np.arange(30.0), np.repeat([1, 2], [5, 25]))
    with pytest.raises(InputError, match="3, 8 had none"):
        procedure.apply(state, np.zeros(3), [8, 3, 1])
    with pytest.warns(UQWarning, match=r"1 group has too few .* 1 \(5\)\. 9 are enough"):
        interval = procedure.apply(state, np.zeros(2), [1, 2])
    assert np.isinf(interval.width).tolist() == [True, False]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        procedure.apply(state, np.zeros(2), [2, 2])
    with pytest.raises(InputError, match="one an example"):
        procedure.apply(state, np.zeros(2), [1])
    with pytest.raises(InputError, match="whole numbers or text"):
        procedure.fit(np.zeros(2), np.zeros(2), [0.5, 1.5])
    with pytest.raises(InputError, match="outside jit"):
        jax.jit(procedure.fit)(jnp.zeros(2), jnp.zeros(2), jnp.zeros(2, int))


def mondrian_coverage(n, levels=simulation.LEVELS, seed=0):
    """Groups of n and 2 n, the second with outcomes ten times as far out; the first is counted."""
    rng = np.random.default_rng([seed, n, 1])
    (mean, _, y), (new_mean, _, new_y) = simulation.data(rng, 3 * n)
    groups = rng.permutation(np.repeat([0, 1], [n, 2 * n]))
    y = np.where(groups[:, None] == 1, mean + 10 * (y - mean), y)
    procedure = conformal.mondrian()
    state = procedure.fit(mean, y, groups)
    cells = []
    for level in levels:
        inside = procedure.apply(state, new_mean, np.zeros(len(new_y), int), level=level).contains(new_y)
        low, high = simulation.band(n, level)
        cells.append({"score": "mondrian", "n": n, "level": level, "covered": int(inside.sum()), "of": inside.size,
                      "low": low, "high": high})  # fmt: skip
    return cells


@pytest.mark.parametrize("n", [9, 19, 20, 50])
def test_coverage_in_a_group_follows_its_exact_law(n):
    for cell in mondrian_coverage(n):
        assert cell["low"] <= cell["covered"] <= cell["high"], cell


# Weights


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("name", ["absolute", "cqr", "distributional"])
def test_equal_weights_are_split(name, level):
    mean, scale, y = arrays(30)
    new = given_to(name, *arrays(6, seed=1)[:2])
    score = simulation.SCORES[name]
    procedure, split = conformal.weighted(score), conformal.split(score)
    found = procedure.apply(
        procedure.fit(given_to(name, mean, scale), y, np.full(30, 0.3)), new, np.full(6, 0.3), level=level
    )
    want = split.apply(split.fit(given_to(name, mean, scale), y), new, level=level)
    assert found.lower == pytest.approx(want.lower)
    assert found.upper == pytest.approx(want.upper)


def test_weights_by_hand_and_under_jit():
    rng = np.random.default_rng(2)
    y, weight, own = rng.normal(size=25), rng.uniform(0, 3, 25), np.array([0.0, 0.5, 40.0])
    procedure = conformal.weighted()
    found = procedure.apply(procedure.fit(np.zeros(25), y, weight), np.zeros(3), own, level=0.8)
    order = np.argsort(abs(y))
    for i in range(3):
        share = np.cumsum(weight[order]) / (weight.sum() + own[i])
        want = abs(y)[order][np.argmax(share >= 0.8)] if share[-1] >= 0.8 else math.inf
        assert found.upper[i] == pytest.approx(want)
    assert np.isinf(found.upper[2])
    compiled = jax.jit(procedure.apply, static_argnames="level")
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), procedure.fit(np.zeros(25), y, weight))
    for _ in range(2):
        single = compiled(state, jnp.zeros(3), jnp.asarray(own, jnp.float32), level=0.8)
    assert compiled._cache_size() == 1
    assert np.asarray(single.upper) == pytest.approx(found.upper, rel=1e-6)


def shifted_coverage(n, sets, localize=False, levels=simulation.LEVELS):
    """Inputs uniform, new ones with density 2 x; the spread of outcomes grows with x."""
    rng = np.random.default_rng([n, localize])
    x, at = rng.uniform(size=(sets, n)), np.sqrt(rng.uniform(size=(sets, 1)))
    if localize:
        at = rng.uniform(size=(sets, 1))
    y, new = (rng.normal(0, 0.2 + each) for each in (x, at))
    cells = []
    for level in levels:
        if localize:
            procedure = conformal.localized(0.2)

            def one(x, y, at, new, key, procedure=procedure, level=level):
                state = procedure.fit(jnp.zeros(x.shape), y, x[:, None])
                return procedure.apply(state, jnp.zeros(1), at[:, None], key, level=level).contains(new)

            keys = jax.random.split(jax.random.key(0), sets)
        else:
            procedure = conformal.weighted()

            def one(x, y, at, new, key, procedure=procedure, level=level):
                state = procedure.fit(jnp.zeros(x.shape), y, 2 * x)
                return procedure.apply(state, jnp.zeros(1), 2 * at, level=level).contains(new)

            keys = jnp.zeros(sets)
        inside = jax.jit(jax.vmap(one))(*(jnp.asarray(each, jnp.float32) for each in (x, y, at, new)), keys)
        cells.append({"score": "localized" if localize else "weighted", "n": n, "level": level,
                      "covered": int(inside.sum()), "of": sets, "low": int(stats.binom.ppf(1e-5, sets, level)),
                      "high": sets})  # fmt: skip
    return cells


@pytest.mark.parametrize("localize", [False, True])
def test_coverage_under_shift_and_with_neighbours(localize):
    for cell in shifted_coverage(20, 2000, localize, levels=(0.8,)):
        assert cell["low"] <= cell["covered"], cell


def test_a_wide_kernel_is_split_and_a_narrow_one_sees_its_neighbours():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(size=(40, 2)), rng.normal(size=40)
    procedure, split = conformal.localized(1e4), conformal.split()
    found = procedure.apply(procedure.fit(np.zeros(40), y, x), np.zeros(5), x[:5], 0, level=0.8)
    assert found.upper == pytest.approx(split.apply(split.fit(np.zeros(40), y), np.zeros(5), level=0.8).upper)
    narrow = conformal.localized(1e-6)
    assert np.isinf(narrow.apply(narrow.fit(np.zeros(40), y, x), np.zeros(5), x[:5], 0, level=0.8).upper).all()


@pytest.mark.parametrize(("weight", "said"), [
    (np.ones(4), "one an example"), (np.array([1, 1, -1.0]), "not negative"), (np.zeros(3), "not all 0"),
    (np.array([1, np.nan, 1]), "finite"),
])  # fmt: skip
def test_bad_weights(weight, said):
    with pytest.raises(InputError, match=said):
        conformal.weighted().fit(np.zeros(3), np.zeros(3), weight)


def test_other_bad_input():
    with pytest.raises(InputError, match="bandwidth"):
        conformal.localized(0.0)
    with pytest.raises(InputError, match=r"features.*\(3, d\)"):
        conformal.localized(1.0).fit(np.zeros(3), np.zeros(3), np.zeros(3))
    with pytest.raises(InputError, match="at least one score"):
        conformal.weighted().fit(np.zeros((3, 2)), np.zeros((3, 2)), np.ones(3))


def test_localized_intervals_compile_once():
    limits = sys.modules["uq.conformal.weighted"]._local_limits
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    procedure = conformal.localized(0.5)
    state = procedure.fit(np.zeros(60), y, x)
    procedure.apply(state, np.zeros(30), x[:30], jax.random.key(0))
    before = limits._cache_size()
    procedure.apply(state, np.zeros(30), x[30:], jax.random.key(1))
    assert limits._cache_size() == before


def test_groups_of_text_as_pandas_holds_it():
    rng = np.random.default_rng(0)
    y, groups = rng.normal(size=60), np.array(["north", "south"] * 30, object)
    procedure = conformal.mondrian()
    lower, upper, *_ = procedure.apply(procedure.fit(np.zeros(60), y, groups), np.zeros(2), groups[:2])
    want = procedure.apply(procedure.fit(np.zeros(60), y, groups.astype(str)), np.zeros(2), groups[:2].astype(str))
    np.testing.assert_array_equal(np.stack([lower, upper]), np.stack([want.lower, want.upper]))
    with pytest.raises(InputError, match="whole numbers or text"):
        procedure.fit(np.zeros(60), y, np.array([None, "a"] * 30, object))
