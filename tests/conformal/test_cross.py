"""CV+, jackknife+, minmax and J+aB: against plain Python, and coverage of 1 − 2α with models that are fitted anew."""

import math
import warnings
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uq import InputError, UQWarning, conformal

SCORES = {
    "absolute": conformal.absolute(),
    "gamma": conformal.gamma(),
    "normalized": conformal.normalized(),
    "cqr": conformal.cqr(),
    "cqr_r": conformal.cqr_r(),
}


def score(name, part, y):
    if name == "absolute":
        return abs(y - part)
    if name == "gamma":
        return abs(y - part) / part
    if name == "normalized":
        return abs(y - part[0]) / part[1]
    low, high = part
    return max(low - y, y - high) / (high - low if name == "cqr_r" else 1)


def ends(name, part, q):
    if name == "absolute":
        return part - q, part + q
    if name == "gamma":
        return max(part - q * part, 0), part + q * part
    if name == "normalized":
        return part[0] - q * part[1], part[0] + q * part[1]
    low, high = part
    move = max(q * (high - low) if name == "cqr_r" else q, (low - high) / 2)
    return low - move, high + move


def plain_plus(name, left_out, y, fold, models, level):
    """Barber and others, word for word: `models[f][j]` is what model f says of new example j."""
    n, alpha = len(y), 1 - Fraction(str(level))
    r = [score(name, p, v) for p, v in zip(left_out, y, strict=True)]
    result = []
    for j in range(len(models[0])):
        each = [ends(name, models[fold[i]][j], r[i]) for i in range(n)]
        low, high = math.floor(alpha * (n + 1)), math.ceil((1 - alpha) * (n + 1))
        result.append((
            sorted(e[0] for e in each)[low - 1] if low >= 1 else -math.inf,
            sorted(e[1] for e in each)[high - 1] if high <= n else math.inf,
        ))  # fmt: skip
    return result


def plain_minmax(name, left_out, y, models, level):
    n = len(y)
    r = sorted(score(name, p, v) for p, v in zip(left_out, y, strict=True))
    q = r[math.ceil(Fraction(str(level)) * (n + 1)) - 1]
    each = [[ends(name, m[j], q) for m in models] for j in range(len(models[0]))]
    return [(min(e[0] for e in row), max(e[1] for e in row)) for row in each]


def made(name, shape, rng):
    first = rng.uniform(20, 30, shape)
    return (
        first
        if name in ("absolute", "gamma")
        else (first, (0 if name == "normalized" else first) + rng.uniform(1, 4, shape))
    )


def rows(part):
    return list(part) if isinstance(part, np.ndarray) else list(zip(*part, strict=True))


def models_of(part):
    return part if isinstance(part, np.ndarray) else [list(zip(a, b, strict=True)) for a, b in zip(*part, strict=True)]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("folds", [4, 23])
def test_cross_is_the_same_as_plain_python(name, folds):
    rng = np.random.default_rng(7)
    n, new = 23, 5
    fold = rng.permutation(np.arange(n) % folds)
    left_out, models, y = made(name, n, rng), made(name, (folds, new), rng), rng.uniform(18, 36, n)
    for level in (0.5, 0.8, 0.9):
        for kind in ("plus", "minmax"):
            procedure = conformal.cross(kind, SCORES[name])
            found = procedure.apply(procedure.fit(left_out, y, fold), models, level=level)
            want = (
                plain_plus(name, rows(left_out), y, fold, models_of(models), level)
                if kind == "plus"
                else plain_minmax(name, rows(left_out), y, models_of(models), level)
            )
            assert np.stack(tuple(found), -1) == pytest.approx(np.array(want), rel=1e-9)
            assert found.realised is None


@pytest.mark.parametrize("name", ["absolute", "normalized", "cqr"])
def test_after_bootstrap_is_the_same_as_plain_python(name):
    rng = np.random.default_rng(3)
    size, n, new = 12, 20, 4
    bags = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(size)])
    old, models, y = made(name, (size, n), rng), made(name, (size, new), rng), rng.uniform(18, 36, n)

    def together(part, who, j):
        if name == "absolute":
            return part[who, j].mean()
        first, second = part[0][who, j], part[1][who, j]
        if name == "cqr":
            return first.mean(), second.mean()
        return first.mean(), math.sqrt((second**2).mean() + first.var())

    out = [np.flatnonzero(bags[:, i] == 0) for i in range(n)]
    left_out = [together(old, out[i], i) for i in range(n)]
    without = [[together(models, out[i], j) for j in range(new)] for i in range(n)]
    procedure = conformal.jackknife_after_bootstrap(SCORES[name])
    state = procedure.fit(old, y, bags)
    for level in (0.5, 0.8, 0.9):
        want = plain_plus(name, left_out, y, range(n), without, level)
        assert np.stack(tuple(procedure.apply(state, models, level=level)), -1) == pytest.approx(
            np.array(want), rel=1e-9
        )


def test_compiled_and_in_chunks(monkeypatch):
    rng = np.random.default_rng(1)
    y, left_out, models = rng.normal(size=30), rng.normal(size=30), rng.normal(size=(5, 9))
    fold = np.arange(30) % 5
    bags = rng.integers(0, 2, (5, 30)) * (np.arange(5)[:, None] != fold)
    old = rng.normal(size=(5, 30))
    plus, after = conformal.cross(), conformal.jackknife_after_bootstrap()
    states = plus.fit(left_out, y, fold), after.fit(old, y, bags)
    for procedure, state in zip((plus, after), states, strict=True):
        want = procedure.apply(state, models, level=0.8)
        compiled = jax.jit(procedure.apply, static_argnames="level")
        single = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32 if leaf.dtype == float else None), state)
        for _ in range(2):
            found = compiled(single, jnp.asarray(models, jnp.float32), level=0.8)
        assert compiled._cache_size() == 1
        assert np.stack(tuple(found)) == pytest.approx(np.stack(tuple(want)), abs=1e-5)
        monkeypatch.setattr(__import__("sys").modules["uq.conformal.cross"], "_ROOM", 70)
        assert np.array_equal(procedure.apply(state, models, level=0.8).lower, want.lower)


@given(st.integers(1, 12), st.integers(0, 20), st.floats(0.01, 100), st.floats(-1e3, 1e3))
@settings(max_examples=25, deadline=None)
def test_nested_blind_to_order_and_moving_with_the_units(n, seed, a, b):
    rng = np.random.default_rng(seed)
    y, left_out, models = rng.normal(size=n), rng.normal(size=n), rng.normal(size=(n, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UQWarning)
        for kind in ("plus", "minmax"):
            procedure = conformal.cross(kind)
            inner, outer = (procedure.apply(procedure.fit(left_out, y), models, level=level) for level in (0.4, 0.7))
            assert (outer.lower <= inner.lower).all()
            assert (inner.upper <= outer.upper).all()
            order = rng.permutation(n)
            again = procedure.apply(procedure.fit(left_out[order], y[order]), models[order], level=0.7)
            assert np.array_equal(again.lower, outer.lower)
            moved = procedure.apply(procedure.fit(a * left_out + b, a * y + b), a * models + b, level=0.7)
            assert moved.upper == pytest.approx(a * outer.upper + b, rel=1e-6, abs=1e-6)


# Coverage, with a model of its own for every fold: the mean of k neighbours in one dimension, all sets at once


def neighbours(x, y, at, k=3):
    """Mean of the k nearest: of `sets` data sets `(sets, n)` at places `(sets, m)`, a few sets at a time."""
    said = []
    for start in range(0, len(x), 50):
        some = slice(start, start + 50)
        near = np.argpartition(abs(at[some, :, None] - x[some, None, :]), k - 1, axis=-1)[:, :, :k]
        said.append(np.take_along_axis(y[some, None, :], near, -1).mean(-1))
    return np.concatenate(said)


def simulated(n, folds, sets, rng):
    x, at = rng.uniform(0, 3, (sets, n)), rng.uniform(0, 3, (sets, 4))
    noise = rng.gamma(2, 0.3, (sets, n + 4)) * (1 + np.concatenate([x, at], 1))
    y = np.sin(x) + noise[:, :n]
    new = np.sin(at) + noise[:, n:]
    fold = np.arange(n) % folds
    left_out, models = np.empty((sets, n)), np.empty((folds, sets, 4))
    for f in range(folds):
        there = fold == f
        both = np.concatenate([x[:, there], at], 1)
        said = neighbours(x[:, ~there], y[:, ~there], both)
        left_out[:, there], models[f] = said[:, : there.sum()], said[:, there.sum() :]
    return fold, left_out, y, models, new


def cross_coverage(n, folds, sets, seed=0, levels=(0.8, 0.9, 0.95)):
    rng = np.random.default_rng([seed, n, folds])
    fold, left_out, y, models, new = simulated(n, folds, sets, rng)
    cells = []
    for kind in ("plus", "minmax"):
        procedure = conformal.cross(kind)
        for level in levels:
            inside = 0
            for s in range(sets):
                interval = procedure.apply(procedure.fit(left_out[s], y[s], fold), models[:, s], level=level)
                inside += int(interval.contains(new[s]).sum())
            # One new example each would be binomial; four that share a set are at most as informative as one.
            least = 2 * level - 1 if kind == "plus" else level
            low = stats.binom.ppf(1e-5, sets, least) / sets
            cells.append({"score": f"cross {kind}", "n": n, "folds": folds, "level": level, "covered": inside,
                          "of": new.size, "low": math.floor(low * new.size), "high": new.size})  # fmt: skip
    return cells


def bootstrap_coverage(n, sets, seed=0, levels=(0.8, 0.9, 0.95), members=40):
    """Members that predict the mean of their bootstrap sample."""
    rng = np.random.default_rng([seed, n])
    procedure, inside = conformal.jackknife_after_bootstrap(), dict.fromkeys(levels, 0)
    for _ in range(sets):
        bags = rng.multinomial(n, np.full(n, 1 / n), members)
        y, new = np.split(rng.gamma(2, 1, n + 4), [n])
        said = (bags @ y / n)[:, None]
        state = procedure.fit(said * np.ones(n), y, bags)
        for level in levels:
            inside[level] += int(procedure.apply(state, said * np.ones(4), level=level).contains(new).sum())
    return [
        {"score": "jackknife_after_bootstrap", "n": n, "level": level, "covered": inside[level], "of": 4 * sets,
         "low": math.floor(stats.binom.ppf(1e-5, sets, 2 * level - 1) * 4), "high": 4 * sets}
        for level in levels
    ]  # fmt: skip


def test_coverage_after_bootstrap_is_at_least_what_is_promised():
    for cell in bootstrap_coverage(20, 200, levels=(0.8, 0.9)):
        assert cell["covered"] >= cell["low"], cell


@pytest.mark.parametrize(("n", "folds"), [(19, 19), (20, 5)])
def test_coverage_is_at_least_what_is_promised(n, folds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UQWarning)
        for cell in cross_coverage(n, folds, 400):
            assert cell["covered"] >= cell["low"], cell


@pytest.mark.slow
@pytest.mark.parametrize(("n", "folds"), [(9, 9), (19, 19), (20, 5), (50, 50), (50, 10), (200, 10), (1000, 10)])
def test_coverage_is_at_least_what_is_promised_complete(n, folds):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UQWarning)
        for cell in cross_coverage(n, folds, 2000):
            assert cell["covered"] >= cell["low"], cell


def test_bad_input():
    y = np.arange(6.0)
    state = conformal.cross().fit(y, y + 1, np.arange(6) % 3)
    with pytest.raises(InputError, match="there are 2 and outcomes belong to model 2"):
        conformal.cross().apply(state, np.zeros((2, 4)))
    for fold in (np.arange(5), np.arange(6.0), np.arange(6) - 1):
        with pytest.raises(InputError, match="fold"):
            conformal.cross().fit(y, y, fold)
    with pytest.raises(InputError, match="from arrays"):
        conformal.cross(score=conformal.distributional())
    with pytest.raises(InputError, match="from arrays"):
        conformal.jackknife_after_bootstrap(conformal.uacqr())
    with pytest.raises(InputError, match="kind"):
        conformal.cross("cv")
    with pytest.raises(InputError, match="of shape"):
        conformal.cross().fit(y, y[:-1])
    with pytest.warns(UQWarning, match="9 are enough"):
        assert np.isinf(conformal.cross().apply(state, np.zeros((3, 4)), level=0.9).width).all()
    after = conformal.jackknife_after_bootstrap()
    with pytest.raises(InputError, match=r"1 of 6 \(the first is 2\) were drawn by all 3"):
        after.fit(np.zeros((3, 6)), y, (np.arange(6) == 2) * np.ones((3, 1)))
    with pytest.raises(InputError, match="in_bag"):
        after.fit(np.zeros((3, 6)), y, np.zeros((6, 3)))
    with pytest.raises(InputError, match="3 members, but these are 4"):
        after.apply(after.fit(np.zeros((3, 6)), y, np.zeros((3, 6))), np.zeros((4, 2)))
