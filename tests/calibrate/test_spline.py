"""Splines against scipy's, the plain objective, and curves of known shape."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, interpolate, optimize, special

import uq
from uq.calibrate import _one_vs_rest as parts
from uq.calibrate import spline

from .cases import predictive, problem

module = __import__("sys").modules["uq.calibrate.spline"]
KNOTS = np.array([-2.0, -0.5, 0.3, 1.0, 2.5])


def evaluated(pieces, slope, at):
    state = uq.calibrate.SplineState(KNOTS, pieces, slope, None)
    return np.asarray(module._curve(state._replace(knots=np.float32(KNOTS), pieces=np.float32(pieces)), np.float32(at)))


def test_natural_splines_are_scipys():
    values = np.array([1.0, -0.5, 0.2, 2.0, 1.5])
    basis = module._natural(KNOTS)
    cubic = interpolate.CubicSpline(KNOTS, values, bc_type="natural")
    at = np.linspace(-4, 4, 101)
    inside = np.clip(at, KNOTS[0], KNOTS[-1])
    want = cubic(inside) + cubic(inside, 1) * (at - inside)
    np.testing.assert_allclose(basis.design(at) @ values, want, atol=1e-12)
    np.testing.assert_allclose(evaluated(*basis.pieces(values), at), want, atol=1e-5)
    rough = integrate.quad(lambda t: cubic(t, 2) ** 2, KNOTS[0], KNOTS[-1], points=KNOTS[1:-1])[0]
    assert values @ basis.rough @ values == pytest.approx(rough, rel=1e-6)
    np.testing.assert_allclose(basis.design(at) @ basis.identity, at, atol=1e-12)
    np.testing.assert_allclose(basis.rough @ basis.identity, 0, atol=1e-9)


def test_monotone_curves_have_slopes_linear_between_knots():
    slopes = np.array([0.5, 0.0, 2.0, 1.0, 0.2])
    basis = module._monotone(KNOTS)
    at = np.linspace(-4, 4, 101)
    want = [0.7 + integrate.quad(np.interp, KNOTS[0], t, args=(KNOTS, slopes), points=KNOTS)[0] for t in at]
    parameters = np.concatenate([[0.7], slopes])
    np.testing.assert_allclose(basis.design(at) @ parameters, want, atol=1e-6)
    np.testing.assert_allclose(evaluated(*basis.pieces(parameters), at), want, atol=1e-5)
    np.testing.assert_allclose(basis.design(at) @ basis.identity, at, atol=1e-12)
    jumps = np.diff(slopes) / np.diff(KNOTS)
    assert parameters @ basis.rough @ parameters == pytest.approx((jumps**2 * np.diff(KNOTS)).sum())


@pytest.mark.parametrize("monotone", [True, False])
def test_against_a_plain_search_among_penalties(monotone):
    rng = np.random.default_rng(1)
    odds = np.sort(rng.normal(size=120) * 1.5)
    y = (rng.random(120) < special.expit(odds + 0.8 * np.sin(2 * odds))).astype(float)
    data = parts.event(odds, y, np.ones(120))
    state = module._learn(data, 5, monotone)
    basis = (module._monotone if monotone else module._natural)(module._knots(data, 5))
    design = basis.design(odds)
    best = (np.inf, None)
    for roughness in (1e3, 1e2, 1e1, 1e0, 1e-1):
        penalty = (np.eye(design.shape[1]) / 100 + roughness * basis.rough) / 120

        def loss(at):
            away = at - basis.identity
            return np.mean(np.logaddexp(0, design @ at) - y * (design @ at)) + away @ penalty @ away / 2

        bounds = [(0, None) if bound else (None, None) for bound in basis.positive]
        at = optimize.minimize(loss, basis.identity, bounds=bounds, options={"ftol": 1e-15, "maxfun": 10**5}).x
        free = ~basis.positive | (at > 1e-6)
        p = special.expit(design @ at)
        curve = (design[:, free].T * (p * (1 - p) / 120)) @ design[:, free]
        freedom = np.trace(np.linalg.solve(curve + penalty[np.ix_(free, free)], curve))
        plain = np.mean(np.logaddexp(0, design @ at) - y * (design @ at))
        best = min(best, (120 * plain + freedom, plain), key=lambda found: found[0])
    assert float(state.fitted.after) == pytest.approx(best[1], abs=1e-5)
    assert state.fitted.converged and state.fitted.after < state.fitted.before


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_monotone_maps_never_fall(seed):
    rng = np.random.default_rng(seed)
    p = rng.beta(1, 1, 64)
    y = (rng.random(64) < rng.random(64)).astype(int)
    y[:2] = 0, 1
    after = np.asarray(spline().apply(spline().fit(p, y), np.linspace(0.001, 0.999, 64)).mean)
    assert (np.diff(after) >= -1e-6).all() and np.isfinite(after).all()


@pytest.mark.parametrize("monotone", [True, False])
def test_it_finds_a_curve_that_no_straight_line_fits(monotone):
    rng = np.random.default_rng(3)
    odds = 2 * rng.normal(size=20_000)
    truth = special.expit(np.where(odds > 0, 0.3 * odds, 1.5 * odds))
    y = (rng.random(20_000) < truth).astype(int)
    map = spline(monotone=monotone)
    after = np.asarray(map.apply(map.fit(special.expit(odds), y), special.expit(odds)).mean)
    straight = uq.calibrate.platt()
    line = np.asarray(straight.apply(straight.fit(special.expit(odds), y), special.expit(odds)).mean)
    assert np.abs(after - truth).mean() < 0.012 < 0.03 < np.abs(line - truth).mean()


def test_a_straight_truth_is_met_by_a_nearly_straight_line():
    logits, y = problem(2, 2000)
    state = spline().fit(predictive(2 * logits, members=1, spread=0), y)
    slopes = state.pieces[0, :6, 1]
    assert np.ptp(slopes) < 0.1 and abs(slopes.mean() - 0.5) < 0.06


def test_equal_predictions_have_one_line():
    state = spline().fit(np.full(40, 0.7), [0] * 10 + [1] * 30)
    assert float(spline().apply(state, np.array([0.7])).mean[0]) == pytest.approx(0.75, abs=0.01)
