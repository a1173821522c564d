"""Split conformal prediction with every score: against plain Python, all orders, its law, and its symmetries."""

import math
import warnings
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import uq
from uq import InputError, UQWarning, conformal
from uq.conformal import _rank

from . import simulation

ALL = tuple(simulation.SCORES)
KINDS = {name: name.split()[0] for name in ALL}


def arrays(n=40, seed=0):
    rng = np.random.default_rng(seed)
    mean, scale = rng.uniform(20, 30, n), rng.uniform(0.5, 2, n)
    return mean, scale, mean + 1 + scale * rng.gamma(3, 1, n)


def given_to(name, mean, scale):
    kind = KINDS[name]
    if kind == "uacqr":
        shift = np.linspace(-1, 2, simulation.MEMBERS)[:, None] * scale
        return mean - scale + shift, mean + 2 * scale + 1.5 * shift
    return simulation.predictions(kind, mean, scale)


def quiet(procedure, state, pred, level):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UQWarning)
        return procedure.apply(state, pred, level=level)


# Coverage


@pytest.mark.parametrize("n", [9, 19, 20, 50])
@pytest.mark.parametrize("name", ALL)
def test_coverage_follows_its_exact_law(name, n):
    for cell in simulation.split_coverage(name, n):
        assert cell["low"] <= cell["covered"] <= cell["high"], cell


@pytest.mark.slow
@pytest.mark.parametrize("n", [200, 1000])
@pytest.mark.parametrize("name", ALL)
def test_coverage_follows_its_exact_law_for_larger_sets(name, n):
    for cell in simulation.split_coverage(name, n):
        assert cell["low"] <= cell["covered"] <= cell["high"], cell


@pytest.mark.parametrize("name", ["absolute", "normalized", "cqr", "distributional"])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 7, 8])
def test_all_orders_of_few_outcomes(name, n):
    """Which of n + 1 outcomes is the new one: the share inside is k / (n + 1) exactly."""
    mean, scale, y = arrays(n + 1, seed=3)
    procedure = conformal.split(simulation.SCORES[name])
    for level in (0.5, 0.75, 0.8, 0.9):
        inside = 0
        for new in range(n + 1):
            old = np.arange(n + 1) != new
            state = procedure.fit(given_to(name, mean[old], scale[old]), y[old])
            interval = quiet(procedure, state, given_to(name, mean[~old], scale[~old]), level)
            inside += int(interval.contains(y[~old])[0])
        assert Fraction(inside, n + 1) == min(Fraction(_rank.rank(n, level), n + 1), 1)


# Plain Python


def plain(name, mean, scale, y, new_mean, new_scale, level):
    """One interval, by definition: the outcomes whose score is at most the threshold."""
    n = len(y)
    place = math.ceil((n + 1) * Fraction(str(level)))

    def pair(m, s):
        return m - s, m + 2 * s

    def score(m, s, v):
        low, high = pair(m, s)
        return {
            "absolute": abs(v - m),
            "absolute lower": m - v,
            "absolute upper": v - m,
            "normalized": abs(v - m) / s,
            "gamma": abs(v - m) / m,
            "distributional": -min(stats.norm.cdf(v, m, s), stats.norm.sf(v, m, s)),
            "distributional lower": -stats.norm.cdf(v, m, s),
            "distributional upper": -stats.norm.sf(v, m, s),
            "cqr": max(low - v, v - high),
            "cqr_r": max(low - v, v - high) / (high - low),
        }[name]

    q = sorted(score(m, s, v) for m, s, v in zip(mean, scale, y, strict=True))[place - 1] if place <= n else math.inf
    m, s = new_mean, new_scale
    low, high = pair(m, s)
    return {
        "absolute": (m - q, m + q),
        "absolute lower": (m - q, math.inf),
        "absolute upper": (-math.inf, m + q),
        "normalized": (m - q * s, m + q * s),
        "gamma": (max(m - q * m, 0), m + q * m),
        "distributional": (stats.norm.ppf(-q, m, s), stats.norm.isf(-q, m, s)),
        "distributional lower": (stats.norm.ppf(-q, m, s), math.inf),
        "distributional upper": (-math.inf, stats.norm.isf(-q, m, s)),
        "cqr": (low - q, high + q),
        "cqr_r": (low - q * (high - low), high + q * (high - low)),
    }[name]  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("uacqr")])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_the_same_as_plain_python(name, level):
    mean, scale, y = arrays(19)
    new_mean, new_scale, _ = arrays(6, seed=1)
    procedure = conformal.split(simulation.SCORES[name])
    interval = procedure.apply(
        procedure.fit(given_to(name, mean, scale), y), given_to(name, new_mean, new_scale), level=level
    )
    want = [plain(name, mean, scale, y, m, s, level) for m, s in zip(new_mean, new_scale, strict=True)]
    assert np.stack(tuple(interval), -1) == pytest.approx(np.array(want), rel=1e-6)
    assert interval.lower.dtype == np.float64


def plain_uacqr(kind, pairs, y, new, level):
    """By search: the smallest t with y inside the set of index t, over members' own intervals."""
    n = len(y)
    place = math.ceil((n + 1) * Fraction(str(level)))

    def region(low, high, t):
        if kind == "S":
            return np.mean(low) - t * np.std(low), np.mean(high) + t * np.std(high)
        if t > len(low):
            return -math.inf, math.inf
        return sorted(low)[len(low) - int(t)], sorted(high)[int(t) - 1]

    def score(low, high, v):
        if kind == "S":
            return max((np.mean(low) - v) / np.std(low), (v - np.mean(high)) / np.std(high))
        return next(t for t in range(1, len(low) + 2) if region(low, high, t)[0] <= v <= region(low, high, t)[1])

    q = sorted(score(low, high, v) for (low, high), v in zip(pairs, y, strict=True))[place - 1]
    return [region(low, high, q) for low, high in new]


@pytest.mark.parametrize("kind", ["S", "P"])
@pytest.mark.parametrize("level", [0.5, 0.8])
def test_uacqr_is_the_same_as_plain_python(kind, level):
    rng = np.random.default_rng(5)
    low, high = rng.normal(10, 1, (7, 30)), rng.normal(14, 2, (7, 30))
    low, high = np.minimum(low, high), np.maximum(low, high)
    y = rng.normal(12, 3, 25)
    procedure = conformal.split(conformal.uacqr(kind))
    interval = procedure.apply(procedure.fit((low[:, :25], high[:, :25]), y), (low[:, 25:], high[:, 25:]), level=level)
    pairs = list(zip(low.T, high.T, strict=True))
    want = plain_uacqr(kind, pairs[:25], y, pairs[25:], level)
    assert np.stack(tuple(interval), -1) == pytest.approx(np.array(want), rel=1e-9)


def test_uacqr_of_a_predictive_reads_the_members_own_quantiles():
    pred, y = ensemble(30)
    for kind in ("S",):
        procedure = conformal.split(conformal.uacqr(kind, base=0.8))
        found = procedure.apply(procedure.fit(pred, y), pred, level=0.8)
        members = [uq.Predictive(pred.outputs[m : m + 1], pred.likelihood).interval(0.8) for m in range(3)]
        pair = tuple(jnp.stack([getattr(each, end) for each in members]) for end in ("lower", "upper"))
        want = procedure.apply(procedure.fit(pair, y), pair, level=0.8)
        assert np.stack(tuple(found)) == pytest.approx(np.stack(tuple(want)), rel=1e-4, abs=1e-4)
        dead = uq.Predictive(
            jnp.concatenate([pred.outputs, jnp.full_like(pred.outputs[:1], jnp.nan)]),
            pred.likelihood,
            jnp.array([1, 1, 1, 0], jnp.float32) / 3,
        )
        without = procedure.apply(procedure.fit(dead, y), dead, level=0.8)
        assert np.stack(tuple(without)) == pytest.approx(np.stack(tuple(found)), rel=1e-4, abs=1e-4)


def test_sets_that_would_be_empty_are_points():
    for score in (conformal.cqr(), conformal.cqr_r(), conformal.uacqr("S")):
        pair = (np.array([[0.0] * 9, [-1.0] * 9]), np.array([[10.0] * 9, [13.0] * 9]))
        pair = pair if score.name == "uacqr" else (pair[0][0], pair[1][0])
        state = conformal.split(score).fit(pair, np.full(9, 5.0))
        interval = conformal.split(score).apply(state, tuple(end[..., :1] * 0.01 for end in pair), level=0.5)
        assert (interval.width >= 0).all()
        assert (interval.width < 0.2).all()


# Symmetries


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_nested_in_level_and_blind_to_order(data):
    name = data.draw(st.sampled_from(ALL))
    n = data.draw(st.integers(1, 30))
    mean, scale, y = arrays(n, seed=data.draw(st.integers(0, 5)))
    order = np.random.default_rng(data.draw(st.integers(0, 5))).permutation(n)
    procedure = conformal.split(simulation.SCORES[name])
    new = given_to(name, *arrays(5, seed=9)[:2])
    state = procedure.fit(given_to(name, mean, scale), y)
    low, high = sorted(data.draw(st.tuples(*[st.integers(1, 99)] * 2)))
    inner, outer = (quiet(procedure, state, new, level / 100) for level in (low, high))
    assert (outer.lower <= inner.lower + 1e-9).all()
    assert (inner.upper <= outer.upper + 1e-9).all()
    again = procedure.fit(given_to(name, mean[order], scale[order]), y[order])
    assert np.array_equal(quiet(procedure, again, new, high / 100).lower, outer.lower)


@given(st.sampled_from([n for n in ALL if n != "gamma"]), st.floats(0.01, 100), st.floats(-1e3, 1e3))
@settings(max_examples=25, deadline=None)
def test_intervals_move_with_the_units(name, a, b):
    mean, scale, y = arrays(25)
    new_mean, new_scale, _ = arrays(5, seed=9)
    procedure = conformal.split(simulation.SCORES[name])
    before = procedure.apply(procedure.fit(given_to(name, mean, scale), y), given_to(name, new_mean, new_scale))
    state = procedure.fit(given_to(name, a * mean + b, a * scale), a * y + b)
    after = procedure.apply(state, given_to(name, a * new_mean + b, a * new_scale))
    assert after.lower == pytest.approx(a * before.lower + b, rel=1e-6, abs=1e-6)
    assert after.upper == pytest.approx(a * before.upper + b, rel=1e-6, abs=1e-6)


# What is given


def ensemble(n, outputs=1, seed=0, members=3):
    rng = np.random.default_rng(seed)
    raw = jnp.asarray(rng.normal(0, 0.3, (members, n, 2 * outputs)), jnp.float32)
    pred = uq.Predictive(raw, uq.likelihoods.Gaussian(outputs))
    y = rng.normal(size=(n, outputs)) if outputs > 1 else rng.normal(size=n)
    return pred, y


@pytest.mark.parametrize(("name", "outputs"), [
    ("absolute", 2), ("normalized", 1), ("distributional", 2), ("uacqr P", 1),
    *(pytest.param(name, 1, marks=pytest.mark.slow) for name in ("absolute", "distributional", "cqr", "uacqr S")),
])  # fmt: skip
def test_a_predictive_jits_and_is_compiled_once(name, outputs):
    pred, y = ensemble(30, outputs)
    new, _ = ensemble(7, outputs, seed=1)
    procedure = conformal.split(simulation.SCORES[name])
    eager = procedure.apply(procedure.fit(pred, y), new, level=0.8)
    fit = jax.jit(procedure.fit)
    apply = jax.jit(procedure.apply, static_argnames="level")
    compiled = apply(fit(pred, jnp.asarray(y, jnp.float32)), new, level=0.8)
    other, z = ensemble(30, outputs, seed=4)
    apply(fit(other, jnp.asarray(z, jnp.float32)), ensemble(7, outputs, seed=5)[0], level=0.8)
    assert fit._cache_size() == 1
    assert apply._cache_size() == 1
    assert compiled.level == 0.8
    assert compiled.lower.shape == ((7,) if outputs == 1 else (7, 2))
    assert np.stack(tuple(compiled)) == pytest.approx(np.stack(tuple(eager)), rel=1e-4, abs=1e-4)


def test_all_forms_of_one_normal_prediction_agree():
    mean, scale, y = arrays(30)
    new_mean, new_scale, _ = arrays(4, seed=2)
    raw = [np.stack([m, np.log(np.expm1(s))], -1)[None] for m, s in ((mean, scale), (new_mean, new_scale))]
    floor = uq.Predictive(jnp.asarray(raw[0], jnp.float32), uq.likelihoods.Gaussian()).stddev
    assert floor == pytest.approx(scale, rel=0.02)
    for score in (conformal.absolute(), conformal.normalized(), conformal.distributional(), conformal.cqr()):
        procedure = conformal.split(score)
        results = []
        for make in (
            stats.norm,
            dist.Normal,
            lambda m, s: dist.Normal(jnp.asarray(m, jnp.float32), jnp.asarray(s, jnp.float32)),
        ):
            state = procedure.fit(make(mean, scale), y)
            results.append(np.stack(tuple(procedure.apply(state, make(new_mean, new_scale), level=0.8))))
        for other in results[1:]:
            assert other == pytest.approx(results[0], rel=1e-4)


def test_draws_and_points():
    rng = np.random.default_rng(0)
    mean, scale, y = arrays(30)
    draws = rng.normal(mean, scale, (200, 30))
    procedure = conformal.split()
    by_draws = procedure.fit(draws, y)
    by_points = procedure.fit(draws.mean(0), y[:, None])
    assert by_draws.scores == pytest.approx(by_points.scores)
    assert procedure.apply(by_draws, draws).lower == pytest.approx(procedure.apply(by_draws, draws.mean(0)).lower)
    for score in (conformal.normalized(), conformal.distributional(), conformal.cqr()):
        each = conformal.split(score)
        assert each.apply(each.fit(draws, y), draws, level=0.5).lower.shape == (30,)
        with pytest.raises(InputError, match="array of shape"):
            each.fit(draws.mean(0), y)


@pytest.mark.parametrize("make", [
    lambda n: (stats.poisson(np.full(n, 3.0)), lambda rng: rng.poisson(3.0, n)),
    lambda n: (dist.Poisson(np.full(n, 3.0)), lambda rng: rng.poisson(3.0, n)),
    lambda n: (np.tile(np.arange(1.0, 6.0)[:, None], (1, n)), lambda rng: rng.integers(0, 7, n).astype(float)),
    lambda n: (
        uq.Predictive(jnp.zeros((2, n, 2)), uq.likelihoods.Censored(0.0, 1.0)),
        lambda rng: np.clip(rng.normal(0, 0.7, n), 0, 1),
    ),
], ids=["scipy", "numpyro", "draws", "censored"])  # fmt: skip
def test_an_outcome_as_far_out_as_the_threshold_is_inside(make):
    """Ties at the threshold are where discrete outcomes live: {y: score ≤ q} is the interval."""
    pred, outcomes = make(40)
    procedure = conformal.split(conformal.distributional())
    for seed in range(5):
        y = outcomes(np.random.default_rng(seed))
        state = procedure.fit(pred, y)
        for level in (0.2, 0.5, 0.8):
            bound, scores = float(_rank.limit(state.scores, level)), np.asarray(state.scores, np.float64)
            interval = procedure.apply(state, pred, level=level)
            # Scores that only rounding tells apart are both inside.
            assert (np.asarray(interval.contains(y)) == (scores <= bound + 2e-5 * abs(bound))).all()


@pytest.mark.parametrize(("change", "said"), [
    (lambda m, s, y: (m, y[:-1]), "of shape"),
    (lambda m, s, y: (m, np.where(np.arange(len(y)) == 2, np.nan, y)), "finite"),
    (lambda m, s, y: (np.where(np.arange(len(y)) == 2, np.inf, m), y), "finite"),
    (lambda m, s, y: (m, y[:, None, None]), "of shape"),
    (lambda m, s, y: (m[None, None], y), "points with 1 ax"),
    (lambda m, s, y: (m[:0], y[:0]), "at least one"),
])  # fmt: skip
def test_bad_calibration_data(change, said):
    with pytest.raises(InputError, match=said):
        conformal.split().fit(*change(*arrays(10)))


def test_other_bad_input():
    mean, scale, y = arrays(10)
    state = conformal.split().fit(mean, y)
    for level in (0, 1, 1.5, float("nan")):
        with pytest.raises(InputError, match="level"):
            conformal.split().apply(state, mean, level=level)
    two = conformal.split().fit(np.stack([mean, mean], 1), np.stack([y, y], 1))
    with pytest.raises(InputError, match="axes"):
        conformal.split().apply(two, mean)
    with pytest.raises(InputError, match="2 outputs, but these have 3"):
        conformal.split().apply(two, np.ones((4, 3)))
    with pytest.raises(InputError, match="row 3 has -1"):
        conformal.split(conformal.normalized()).fit((mean, np.where(np.arange(10) == 3, -1, scale)), y)
    with pytest.raises(InputError, match="positive predictions"):
        conformal.split(conformal.gamma()).fit(mean - 25, y)
    with pytest.raises(InputError, match="not negative"):
        conformal.split(conformal.gamma()).fit(mean, -y)
    with pytest.raises(InputError, match="lower ≤ upper"):
        conformal.split(conformal.cqr()).fit((mean, mean - 1), y)
    with pytest.raises(InputError, match="at least two members"):
        conformal.split(conformal.uacqr()).fit((mean[None], mean[None] + 1), y)
    with pytest.raises(InputError, match="side"):
        conformal.absolute("left")
    with pytest.raises(InputError, match="of shape"):
        conformal.split().apply(state, mean).contains(y[:-1])
    with pytest.warns(UQWarning, match="19 are enough"):
        interval = conformal.split().apply(state, mean, level=0.95)
    assert np.isinf(interval.width).all()
    assert interval.realised == (1, 1)
    assert interval.contains(y).all()


def test_a_scale_of_zero_conforms_to_nothing_but_the_mean():
    scale = np.array([0.0] * 5 + [1.0] * 5)
    y = np.array([0.0] * 4 + [1.0] * 6)
    procedure = conformal.split(conformal.normalized())
    state = procedure.fit((np.zeros(10), scale), y)
    assert np.isinf(state.scores).sum() == 1
    upper = procedure.apply(state, (np.zeros(2), np.array([0.0, 2.0])), level=0.8).upper
    assert upper.tolist() == [0, 2]
    assert np.isinf(procedure.apply(state, (np.zeros(2), np.array([0.0, 2.0])), level=0.9).upper).all()


def test_ends_count_as_inside_whatever_the_rounding():
    mean = np.array([1e8, 0.1, 0.7], np.float32)
    y = np.array([1e-3, 0.3, 0.1], np.float32)
    procedure = conformal.split()
    state = procedure.fit(mean, y)
    for i in range(3):
        one = procedure.fit(mean[i : i + 1], y[i : i + 1])
        assert procedure.apply(one, mean[i : i + 1], level=0.5).contains(y[i : i + 1])[0]
    assert procedure.apply(state, mean, level=0.75).contains(y).all()


def test_metrics_read_the_interval():
    mean, _, y = arrays(100)
    procedure = conformal.split()
    interval = procedure.apply(procedure.fit(mean[:50], y[:50]), mean[50:], level=0.8)
    assert float(uq.metrics.coverage(tuple(interval), y[50:])) == interval.contains(y[50:]).mean()
    assert uq.metrics.interval_score(*interval, y[50:], level=0.8).shape == (50,)
    assert 0.6 < interval.realised.lower < 0.8 < interval.realised.upper < 0.95


def test_float64_on_the_device_keeps_its_digits():
    mean, scale, y = arrays(30)
    with jax.enable_x64(True):
        for name in ("absolute", "normalized", "cqr_r", "uacqr P"):
            old, new = given_to(name, mean, scale), given_to(name, *arrays(4, seed=1)[:2])
            procedure = conformal.split(simulation.SCORES[name])
            host = procedure.apply(procedure.fit(old, y), new)
            state = procedure.fit(jax.tree.map(jnp.asarray, old), jnp.asarray(y))
            device = procedure.apply(state, jax.tree.map(jnp.asarray, new))
            assert device.lower.dtype == jnp.float64
            assert np.stack(tuple(device)) == pytest.approx(np.stack(tuple(host)), rel=1e-13)
