"""Streams: against plain Python loops, and the bounds that hold for any sequence."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uq
from uq import InputError, conformal

from .test_split import ensemble


def drifting(length=400, seed=0):
    rng = np.random.default_rng(seed)
    return abs(rng.normal(size=50)), abs(rng.normal(size=length)) * (1 + 3 * (np.arange(length) > length / 2))


def run(procedure, first, scores):
    """Bounds before each score and whether it was missed, from points at 0 and outcomes that are the scores."""
    found = conformal.stream(procedure, procedure.init(first), np.zeros(len(scores)), scores)
    return np.asarray(found.bound, float), np.asarray(found.missed), found


def at_miscoverage(window, alpha):
    if alpha <= 0:
        return math.inf
    if alpha >= 1:
        return -math.inf
    place = math.ceil((len(window) + 1) * (1 - alpha) - 1e-4)
    return math.inf if place > len(window) else sorted(window)[place - 1] if place else -math.inf


def plain_aci(first, scores, level, rate):
    window, alpha, bounds = list(first), 1 - level, []
    for score in scores:
        bounds.append(at_miscoverage(window, alpha))
        alpha += rate * (1 - level - (score > bounds[-1]))
        window = [*window[1:], score]
    return np.array(bounds)


@pytest.mark.parametrize("rate", [0.005, 0.03, 0.3])
def test_aci_is_the_same_as_plain_python(rate):
    first, scores = drifting()
    with jax.enable_x64(True):
        bounds, missed, _ = run(conformal.aci(0.9, rate=rate), first, scores)
        assert bounds == pytest.approx(plain_aci(first, scores, 0.9, rate), rel=1e-6)
        assert (missed == (scores > bounds)).all()


@given(st.lists(st.floats(0, 10), min_size=60, max_size=60), st.sampled_from([0.5, 0.8, 0.9]))
@settings(max_examples=20, deadline=None)
def test_aci_and_pid_bound_the_misses_of_any_sequence(scores, level):
    alpha, length = 1 - level, 60
    _, missed, _ = run(conformal.aci(level, rate=0.1), np.arange(10.0), scores)
    assert abs(missed.mean() - alpha) <= (max(alpha, 1 - alpha) + 0.1) / (length * 0.1) + 1e-6
    # The tangent is infinite where |excess| log(t + 1) / (saturation (t + 1)) reaches π / 2.
    _, missed, _ = run(conformal.pid(level, saturation=0.5), np.arange(10.0), scores)
    excess = np.cumsum(missed - alpha)
    time = np.arange(1, 61) + 1
    assert (abs(excess) <= 0.5 * math.pi / 2 * time / np.log(time) + 1).all()


def test_aci_follows_a_drift_that_split_does_not():
    first, scores = drifting(4000)
    _, missed, _ = run(conformal.aci(0.9, rate=0.02), first, scores)
    assert missed.mean() == pytest.approx(0.1, abs=0.01)
    fixed = np.sort(first)[conformal._rank.rank(50, 0.9) - 1]
    assert (scores > fixed).mean() > 0.25


def plain_agaci(first, scores, level, rates):
    window, size = list(first), len(rates)
    alphas, beta = np.full(size, 1 - level), 1 - level
    learning, largest, variance, regret = (np.zeros(size) for _ in range(4))
    bounds = []
    for score in scores:
        each = np.array([at_miscoverage(window, alpha) for alpha in alphas])
        clipped = np.clip(each, min(window), max(window))
        weight = learning * np.exp(learning * regret) if (learning > 0).all() else np.ones(size)
        weight = weight / weight.sum()
        bounds.append(weight @ clipped)
        slope = -(1 - beta) if score > bounds[-1] else beta
        r = slope * bounds[-1] - slope * clipped
        largest, variance = np.maximum(largest, r**2), variance + r**2
        learning = np.array([
            min(1 / math.sqrt(e) if e else 1, math.sqrt(math.log(size) / (v if v else 1)))
            for e, v in zip(largest, variance, strict=True)
        ])  # fmt: skip
        regret = regret + 0.5 * (r - learning * r**2 + np.where(learning * r > 0.5, np.sqrt(largest), 0))
        alphas = alphas + np.array(rates) * (1 - level - (score > each))
        window = [*window[1:], score]
    return np.array(bounds)


def test_agaci_is_the_same_as_plain_python_and_covers():
    first, scores = drifting(300)
    with jax.enable_x64(True):
        rates = (0.0, 0.01, 0.05)
        bounds, missed, _ = run(conformal.agaci(0.9, rates=rates), first, scores)
        assert bounds == pytest.approx(plain_agaci(first, scores, 0.9, rates), rel=1e-6)
    first, scores = drifting(4000)
    _, missed, _ = run(conformal.agaci(0.9), first, scores)
    assert missed.mean() == pytest.approx(0.1, abs=0.02)


def plain_pid(first, scores, level, rate, integral, saturation):
    window, alpha = list(first), 1 - level
    threshold, excess, bounds = at_miscoverage(first, alpha), 0.0, []
    for t, score in enumerate(scores):
        angle = excess * math.log(t + 1) / (saturation * (t + 1))
        extra = integral * math.tan(angle) if abs(angle) < math.pi / 2 else math.copysign(math.inf, angle)
        bounds.append(threshold + extra)
        missed = float(score > bounds[-1])
        threshold += rate * (max(window) - min(window)) * (missed - alpha)
        excess += missed - alpha
        window = [*window[1:], score]
    return np.array(bounds)


@pytest.mark.parametrize("integral", [0.0, 2.0])
def test_pid_is_the_same_as_plain_python_and_covers(integral):
    first, scores = drifting(300)
    with jax.enable_x64(True):
        procedure = conformal.pid(0.9, rate=0.05, integral=integral, saturation=3.0)
        assert run(procedure, first, scores)[0] == pytest.approx(
            plain_pid(first, scores, 0.9, 0.05, integral, 3.0), rel=1e-6
        )
    first, scores = drifting(4000)
    _, missed, _ = run(conformal.pid(0.9, integral=integral), first, scores)
    assert missed.mean() == pytest.approx(0.1, abs=0.01)


def plain_enbpi(first, residuals, level, stride):
    window, bounds = list(first), []
    held = math.ceil(round(len(first) * level, 9))
    for t in range(len(residuals)):
        ordered = sorted(window)
        widths = [ordered[i + held - 1] - ordered[i] for i in range(len(ordered) - held + 1)]
        i = int(np.argmin(widths))
        bounds.append((ordered[i], ordered[i + held - 1]))
        if (t + 1) % stride == 0:
            window = [*window[stride:], *residuals[t + 1 - stride : t + 1]]
    return np.array(bounds)


@pytest.mark.parametrize("stride", [1, 7])
def test_enbpi_is_the_same_as_plain_python(stride):
    rng = np.random.default_rng(0)
    first, y = rng.gamma(2, 1, 40), rng.gamma(2, 1, 50) * np.linspace(1, 2, 50)
    procedure = conformal.enbpi(0.9, stride=stride)
    with jax.enable_x64(True):
        bounds, missed, found = run(procedure, first, y)
        want = plain_enbpi(first, y, 0.9, stride)
        assert bounds == pytest.approx(want, rel=1e-9)
        assert (missed == ((y < want[:, 0]) | (y > want[:, 1]))).all()
        assert np.stack(tuple(found.interval), -1) == pytest.approx(want)
    shifted = conformal.stream(procedure, procedure.init(first), np.full(50, 100.0), 100 + y)
    assert np.stack(tuple(shifted.interval), -1) == pytest.approx(100 + want, rel=1e-5)


@pytest.mark.parametrize("make", [conformal.aci, conformal.agaci, conformal.pid, conformal.enbpi])
def test_streams_go_on_where_they_stopped_and_compile_once(make):
    first, y = drifting(60)
    procedure = make(0.8)
    whole = conformal.stream(procedure, procedure.init(first), np.zeros(60), y)
    half = conformal.stream(procedure, procedure.init(first), np.zeros(30), y[:30])
    from uq.conformal.online import _scan

    before = _scan._cache_size()
    rest = conformal.stream(make(0.8), half.state, np.zeros(30), y[30:])
    assert _scan._cache_size() == before
    joined = np.concatenate([np.asarray(half.bound), np.asarray(rest.bound)])
    assert joined == pytest.approx(np.asarray(whole.bound), rel=1e-5)
    one = procedure.update(procedure.init(first), jnp.float32(y[0]))
    assert np.asarray(procedure.bound(one)) == pytest.approx(np.asarray(whole.bound[1]), rel=1e-5)


def test_intervals_of_a_predictive_and_of_empty_sets():
    pred, y = ensemble(40)
    procedure = conformal.aci(0.8, rate=0.05)
    score = conformal.normalized()
    found = conformal.stream(procedure, procedure.init(np.arange(1.0, 20.0)), pred, y, score)
    assert (np.asarray(found.interval.contains(y)) == ~np.asarray(found.missed)).all()
    assert isinstance(found.interval, uq.conformal.PredictionInterval)
    eager = conformal.aci(0.5, rate=5.0)
    found = conformal.stream(eager, eager.init(np.ones(19)), np.zeros(30), np.zeros(30))
    empty = np.isnan(found.interval.width)
    assert empty.any()
    assert np.asarray(found.missed)[empty].all()


def test_bad_input():
    for make in (conformal.aci, conformal.agaci, conformal.pid, conformal.enbpi):
        with pytest.raises(InputError, match="level"):
            make(1.0)
        with pytest.raises(InputError):
            make(0.9).init([])
        with pytest.raises(InputError, match="finite"):
            make(0.9).init([1.0, np.nan])
    with pytest.raises(InputError, match="rate above 0"):
        conformal.aci(rate=0.0)
    with pytest.raises(InputError, match="two rates"):
        conformal.agaci(rates=(0.1,))
    with pytest.raises(InputError, match="saturation"):
        conformal.pid(saturation=0.0)
    with pytest.raises(InputError, match="stride"):
        conformal.enbpi(stride=0)
    with pytest.raises(InputError, match="at least 5 residuals"):
        conformal.enbpi(stride=5).init([1.0, 2.0])
    with pytest.raises(InputError, match="no score"):
        procedure = conformal.enbpi()
        conformal.stream(procedure, procedure.init([1.0, 2.0]), np.zeros(3), np.zeros(3), conformal.absolute())
    with pytest.raises(InputError, match="of shape"):
        conformal.stream(conformal.aci(), conformal.aci().init([1.0]), np.zeros(3), np.zeros(4))
