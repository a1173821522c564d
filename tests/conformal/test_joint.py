"""Several outputs at once: boxes and ellipsoids against loops and scipy, and their coverage."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import mahalanobis

from uq import InputError, UQWarning, conformal
from uq.conformal import _rank

from . import simulation
from .test_split import ensemble


def correlated(rng, n, sets=None):
    shape = (n,) if sets is None else (sets, n)
    common = rng.normal(size=(*shape, 1))
    mean = rng.normal(10, 3, (*shape, 3))
    return mean, mean + (common + rng.gamma(2, 0.5, (*shape, 3))) * np.array([1.0, 10.0, 0.1])


def test_max_norm_by_definition():
    rng = np.random.default_rng(0)
    mean, y = correlated(rng, 30)
    scale, new = rng.uniform(1, 2, (30, 3)), rng.normal(size=(4, 3))
    procedure = conformal.max_norm()
    box = procedure.apply(procedure.fit((mean, scale), y), (new, np.ones((4, 3))), level=0.8)
    largest = sorted(max(abs(y[i, d] - mean[i, d]) / scale[i, d] for d in range(3)) for i in range(30))
    q = largest[_rank.rank(30, 0.8) - 1]
    assert box.lower == pytest.approx(new - q)
    assert box.log_volume == pytest.approx([3 * math.log(2 * q)] * 4)
    outside = new + np.array([0, 1.01 * q, 0])
    assert box.contains(new + q).all()
    assert not box.contains(outside).any()
    cqr = conformal.max_norm(conformal.cqr())
    assert cqr.apply(cqr.fit((mean - 1, mean + 1), y), (new, new), level=0.8).width.shape == (4, 3)


def test_copula_by_a_loop():
    """The set of outcomes whose largest interpolated rank is at most the threshold, coordinate by coordinate."""
    rng = np.random.default_rng(1)
    mean, y = correlated(rng, 41)
    procedure = conformal.copula(share=0.4)
    box = procedure.apply(procedure.fit(mean, y), np.zeros((1, 3)), level=0.8)
    scores = abs(y - mean)
    first, second = np.sort(scores[:16], axis=0), scores[16:]

    def place(value, knots):
        unit = (knots[-1] - knots[0]) / 15
        if value < knots[0]:
            return 1 + (value - knots[0]) / unit
        if value > knots[-1]:
            return 16 + (value - knots[-1]) / unit
        k = min(max(i for i in range(16) if knots[i] <= value), 14)
        return k + 1 + (value - knots[k]) / (knots[k + 1] - knots[k])

    ranks = [max(place(row[d], first[:, d]) for d in range(3)) for row in second]
    bound = sorted(ranks)[_rank.rank(25, 0.8) - 1]
    for d in range(3):
        assert place(box.upper[0, d], first[:, d]) == pytest.approx(bound)


def test_sides_follow_the_units_of_each_output():
    rng = np.random.default_rng(1)
    mean, y = correlated(rng, 200)
    factor, shift = np.array([3.0, 0.01, 50.0]), np.array([5.0, -2.0, 1e3])
    procedure = conformal.copula()
    box = procedure.apply(procedure.fit(mean, y), mean[:5])
    moved = procedure.apply(procedure.fit(mean * factor + shift, y * factor + shift), mean[:5] * factor + shift)
    assert moved.lower == pytest.approx(box.lower * factor + shift, rel=1e-6)
    boxes = conformal.max_norm(conformal.absolute())
    wide = boxes.apply(boxes.fit(mean, y), mean[:5])
    assert (box.log_volume < wide.log_volume).all()  # which is as wide in all as in the widest


def test_ellipsoids_against_scipy():
    rng = np.random.default_rng(2)
    mean, y = correlated(rng, 40)
    matrices = np.array([np.cov(rng.normal(size=(3, 9))) for _ in range(40)])
    procedure = conformal.ellipsoid()
    state = procedure.fit((mean, matrices), y)
    want = [mahalanobis(a, b, np.linalg.inv(c)) for a, b, c in zip(y, mean, matrices, strict=True)]
    assert state.scores == pytest.approx(want)
    region = procedure.apply(state, (mean, matrices), level=0.8)
    assert (region.contains(y) == (np.array(want) <= sorted(want)[_rank.rank(40, 0.8) - 1])).all()
    volume = 4 / 3 * math.pi * region.radius**3 * np.sqrt(np.linalg.det(matrices))
    assert np.exp(region.log_volume) == pytest.approx(volume)

    residuals = conformal.ellipsoid("residuals")
    state = residuals.fit(mean, y)
    inverse = np.linalg.inv(np.cov((y - mean)[:20].T))
    assert state.scores == pytest.approx([mahalanobis(a, b, inverse) for a, b in zip(y[20:], mean[20:], strict=True)])
    assert residuals.apply(state, mean[:3], level=0.8).contains(y[:3]).shape == (3,)


PROCEDURES = {
    "ellipsoid": conformal.ellipsoid(),
    "copula": conformal.copula(),
    "max_norm": conformal.max_norm(),
    "residuals": conformal.ellipsoid("residuals"),
}


@pytest.mark.parametrize(
    "name", ["ellipsoid", "copula", *(pytest.param(n, marks=pytest.mark.slow) for n in ("max_norm", "residuals"))]
)
def test_a_predictive_jits_and_is_compiled_once(name):
    pred, y = ensemble(40, outputs=2)
    procedure = PROCEDURES[name]
    eager = procedure.apply(procedure.fit(pred, y), pred, level=0.8)
    apply = jax.jit(procedure.apply, static_argnames="level")
    state = jax.jit(procedure.fit)(pred, jnp.asarray(y, jnp.float32))
    for _ in range(2):
        compiled = apply(state, pred, level=0.8)
    assert apply._cache_size() == 1
    assert np.asarray(compiled.log_volume) == pytest.approx(np.asarray(eager.log_volume), rel=1e-4)


@pytest.mark.parametrize("name", PROCEDURES)
def test_draws(name):
    rng = np.random.default_rng(0)
    draws, y = rng.normal(size=(50, 40, 2)), rng.normal(size=(40, 2))
    procedure = PROCEDURES[name]
    assert procedure.apply(procedure.fit(draws, y), draws, level=0.5).contains(y).mean() > 0.3


def joint_coverage(name, n, sets=2000, levels=simulation.LEVELS):
    """One new outcome for each calibration set: binomial."""
    rng = np.random.default_rng([n, len(name)])
    mean, y = correlated(rng, n + 1, sets)
    procedure, used = {
        "max_norm": (conformal.max_norm(conformal.absolute()), n),
        "copula": (conformal.copula(), n - n // 2),
        "ellipsoid": (conformal.ellipsoid("residuals"), n - n // 2),
    }[name]
    cells = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UQWarning)
        for level in levels:

            def one(mean, y, level=level):
                state = procedure.fit(mean[:-1], y[:-1])
                return procedure.apply(state, mean[-1:], level=level).contains(y[-1:])

            inside = jax.jit(jax.vmap(one))(jnp.asarray(mean, jnp.float32), jnp.asarray(y, jnp.float32))
            place = _rank.rank(used, level)
            band = (sets, sets) if place > used else stats.binom.ppf([5e-6, 1 - 5e-6], sets, place / (used + 1))
            cells.append({"score": name, "n": n, "level": level, "covered": int(inside.sum()), "of": sets,
                          "low": int(band[0]), "high": int(band[1])})  # fmt: skip
    return cells


@pytest.mark.parametrize("name", ["max_norm", "copula", "ellipsoid"])
def test_coverage_follows_its_exact_law(name):
    for cell in joint_coverage(name, 20, levels=(0.8, 0.9)):
        assert cell["low"] <= cell["covered"] <= cell["high"], cell


def test_bad_input():
    y = np.random.default_rng(0).normal(size=(10, 2))
    for procedure in (conformal.max_norm(conformal.absolute()), conformal.copula(), conformal.ellipsoid("residuals")):
        with pytest.raises(InputError):
            procedure.fit(y[:, 0], y[:, 0])
        with pytest.raises(InputError, match="of shape"):
            procedure.fit(y, y[:-1])
    with pytest.raises(InputError, match="share"):
        conformal.copula(share=1)
    with pytest.raises(InputError, match="two outcomes in each part"):
        conformal.copula().fit(y[:3], y[:3])
    with pytest.raises(InputError, match="finite scores"):
        conformal.copula(conformal.normalized()).fit((y, np.zeros((10, 2))), y + 1)
    with pytest.raises(InputError, match="singular"):
        conformal.ellipsoid().fit((y, np.ones((10, 2, 2))), y)
    with pytest.raises(InputError, match="M > D"):
        conformal.ellipsoid().fit(np.zeros((2, 10, 2)), y)
    with pytest.raises(InputError, match="covariances"):
        conformal.ellipsoid().fit((y, np.ones((10, 2))), y)
    with pytest.raises(InputError, match="no covariance"):
        conformal.ellipsoid("residuals").fit(y[:4], y[:4])
    state = conformal.ellipsoid("residuals").fit(y, y + np.random.default_rng(1).normal(size=(10, 2)))
    with pytest.raises(InputError, match="2 outputs, but these have 3"):
        conformal.ellipsoid("residuals").apply(state, np.zeros((2, 3)), level=0.5)
    with pytest.warns(UQWarning, match="9 are enough"):
        region = conformal.ellipsoid("residuals").apply(state, y)
    assert region.contains(y + 1e6).all()
    with pytest.raises(InputError, match="of shape"):
        region.contains(y[:-1])


def test_without_a_covariance_nothing_is_ruled_out():
    """Under jit a singular covariance cannot be refused."""
    y = jnp.asarray(np.random.default_rng(0).normal(size=(12, 1)), jnp.float32) * jnp.ones((12, 3))
    procedure = conformal.ellipsoid("residuals")
    state = jax.jit(procedure.fit)(jnp.zeros((12, 3)), y)
    region = jax.jit(procedure.apply, static_argnames="level")(state, jnp.zeros((12, 3)), level=0.5)
    assert region.contains(y).all()
