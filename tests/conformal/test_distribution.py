"""Conformal predictive distributions and regions of highest density."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

import uq
from uq import InputError, UQWarning, conformal
from uq.conformal import _rank

from . import simulation
from .test_split import arrays, ensemble

# Distributions


@pytest.mark.parametrize("kind", ["pit", "residual", "normalized"])
def test_by_a_loop(kind):
    mean, scale, y = arrays(25)
    new_mean, new_scale, new_y = arrays(6, seed=1)
    procedure = conformal.distribution(kind)
    found = procedure.apply(procedure.fit(stats.norm(mean, scale), y), stats.norm(new_mean, new_scale))
    for j in range(6):
        if kind == "pit":
            tails = stats.norm.sf(y, mean, scale)
            want = stats.norm.isf(tails, new_mean[j], new_scale[j])
        elif kind == "residual":
            want = new_mean[j] + y - mean
        else:
            want = new_mean[j] + (y - mean) / scale * new_scale[j]
        assert found.draws[:, j] == pytest.approx(np.sort(want), rel=1e-7)
        low, high = (end[j] for end in found.bounds(new_y))
        assert low == pytest.approx(np.sum(want < new_y[j]) / 26)
        assert high == pytest.approx((np.sum(want <= new_y[j]) + 1) / 26)
    assert found.cdf(new_y) == pytest.approx(np.mean(found.bounds(new_y), axis=0))


def test_single_levels_are_split_and_metrics_apply():
    mean, _, y = arrays(60)
    new_mean, _, new_y = arrays(50, seed=1)
    procedure = conformal.distribution("residual")
    found = procedure.apply(procedure.fit(mean, y), new_mean)
    split = conformal.split(conformal.absolute("upper"))
    want = split.apply(split.fit(mean, y), new_mean, level=0.9).upper
    assert found.quantile(0.9) == pytest.approx(want)
    lower, upper = found.interval(0.8)
    assert upper == pytest.approx(found.quantile(0.9))
    below = conformal.split(conformal.absolute("lower"))
    assert lower == pytest.approx(below.apply(below.fit(mean, y), new_mean, level=0.9).lower)
    assert uq.metrics.crps(found, new_y) == pytest.approx(found.crps(new_y))
    assert uq.metrics.pit(found, new_y, kind="randomised", key=3) == pytest.approx(found.pit(new_y, 3), abs=1e-6)
    assert found.mean == pytest.approx(new_mean + (y - mean).mean())
    with pytest.warns(UQWarning, match="99 are enough"):
        assert np.isinf(found.quantile(0.99)).all()
    with pytest.warns(UQWarning, match="are enough"):
        assert np.isinf(found.interval(0.98).lower).all()


@pytest.mark.parametrize("kind", ["pit", "residual", "normalized"])
def test_randomised_pit_is_exactly_uniform(kind):
    """Its value, times n + 1, is uniform on the n + 1 ranks: 4,000 calibration sets of 9, one new outcome each."""
    rng = np.random.default_rng(4)
    (mean, scale, y), (new_mean, new_scale, new_y) = simulation.data(rng, 9, 4000, 1)
    procedure = conformal.distribution(kind)
    found = procedure.apply(procedure.fit(stats.norm(mean, scale), y), stats.norm(new_mean, new_scale))
    ranks = np.bincount(np.round(found.bounds(new_y)[0].ravel() * 10).astype(int), minlength=10)
    assert stats.chisquare(ranks).pvalue > 1e-5
    assert stats.kstest(found.pit(new_y, 0).ravel(), "uniform").pvalue > 1e-5


@pytest.mark.parametrize("outputs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_predictive_jits_and_keeps_its_tails(outputs):
    pred, y = ensemble(20, outputs)
    y = y * 3.0
    procedure = conformal.distribution()
    eager = procedure.apply(procedure.fit(pred, y), pred)
    apply = jax.jit(procedure.apply)
    state = jax.jit(procedure.fit)(pred, jnp.asarray(y, jnp.float32))
    for _ in range(2):
        compiled = apply(state, pred)
    assert apply._cache_size() == 1
    assert eager.draws.shape == (20, *y.shape)
    assert np.asarray(compiled.draws) == pytest.approx(np.asarray(eager.draws), rel=1e-3, abs=1e-3)
    same = np.asarray(eager.draws).swapaxes(0, 1)  # an outcome is one of the values of its own example
    assert abs(same - y[:, None]).min(1).max() < 2e-3


def test_a_right_prediction_keeps_its_score_and_a_wrong_one_gains():
    rng = np.random.default_rng(0)
    mean = rng.normal(0, 3, 900)
    y = rng.normal(mean + 1, 2)
    procedure = conformal.distribution()
    right, wrong = (lambda rows: stats.norm(mean[rows] + 1, 2)), (lambda rows: stats.norm(mean[rows] - 1, 0.7))
    old, new = slice(0, 400), slice(400, 900)
    best = float(uq.metrics.crps(right(new), y[new]).mean())
    for law, room in ((right, 0.02), (wrong, 0.03)):
        found = procedure.apply(procedure.fit(law(old), y[old]), law(new))
        assert float(uq.metrics.crps(found, y[new]).mean()) < best + room
    assert float(uq.metrics.crps(wrong(new), y[new]).mean()) > best + 0.5


def test_an_outcome_beyond_the_predictions_reach_gives_an_infinite_value():
    procedure = conformal.distribution()
    state = procedure.fit(stats.uniform(np.zeros(3), 1), np.array([0.5, 2.0, -1.0]))
    found = procedure.apply(state, stats.uniform([0.0], 1))
    assert found.draws[:, 0].tolist() == [-np.inf, 0.5, np.inf]


def test_bad_distributions():
    procedure = conformal.distribution()
    for pred in (np.zeros((5, 4)), dist.Poisson(np.ones(4))):
        with pytest.raises(InputError, match="'residual'"):
            procedure.fit(pred, np.ones(4))
    with pytest.raises(InputError, match="array of shape"):
        procedure.fit(np.zeros(4), np.ones(4))
    with pytest.raises(InputError, match="kind"):
        conformal.distribution("normal")
    procedure = conformal.distribution("residual")
    found = procedure.apply(procedure.fit(np.zeros(4), np.ones(4)), np.zeros(2))
    with pytest.raises(InputError, match="of shape"):
        found.crps(np.zeros(3))


# Densities


def mixture(centre, width=0.5):
    n = len(centre)
    return dist.MixtureSameFamily(
        dist.Categorical(probs=np.tile([0.3, 0.7], (n, 1))),
        dist.Normal(centre[:, None] + np.array([-4.0, 4.0]), np.tile([width, 2 * width], (n, 1))),
    )


def outcomes(rng, centre, width=0.5):
    first = rng.uniform(size=centre.shape) < 0.3
    return centre + np.where(first, rng.normal(-4, width, centre.shape), rng.normal(4, 2 * width, centre.shape))


@pytest.mark.parametrize("kind", ["mass", "density"])
def test_regions_are_the_sets_of_low_score(kind):
    rng = np.random.default_rng(0)
    centre = rng.normal(20, 3, 60)
    y = outcomes(rng, centre)
    procedure = conformal.highest_density(kind)
    state = procedure.fit(mixture(centre), y)
    for level in (0.5, 0.8, 0.95):
        region = procedure.apply(state, mixture(centre), level=level)
        q = np.sort(state.scores)[_rank.rank(60, level) - 1]
        assert (np.asarray(region.contains(y)) == (np.asarray(state.scores) <= q)).all()
        inner = procedure.apply(state, mixture(centre), level=level - 0.1)
        assert (inner.cutoff >= region.cutoff).all()


def test_mass_is_that_of_the_region_of_higher_density():
    y = np.array([-4.2, -3.0, 0.0, 4.0, 5.5, 9.0])
    state = conformal.highest_density().fit(mixture(np.zeros(6)), y)
    density = lambda t: 0.3 * stats.norm.pdf(t, -4, 0.5) + 0.7 * stats.norm.pdf(t, 4, 1)  # noqa: E731
    grid = np.linspace(-12, 14, 200_001)
    want = [integrate.trapezoid(np.where(density(grid) > density(v), density(grid), 0), grid) for v in y]
    assert state.scores == pytest.approx(want, abs=1e-2)


def test_pieces_of_a_region():
    rng = np.random.default_rng(1)
    centre = rng.normal(20, 3, 200)
    procedure = conformal.highest_density()
    region = procedure.apply(procedure.fit(mixture(centre), outcomes(rng, centre)), mixture(centre[:3]), level=0.9)
    for i, pieces in enumerate(region.intervals()):
        assert len(pieces) == 2
        ends = pieces.ravel()
        for shift, expected in ((1e-4, [True, False] * 2), (-1e-4, [False, True] * 2)):
            inside = [bool(np.asarray(region.contains(np.full(3, end + shift)))[i]) for end in ends]
            assert inside == expected
    split = conformal.split(conformal.distributional())
    interval = split.apply(split.fit(mixture(centre), outcomes(rng, centre)), mixture(centre[:3]), level=0.9)
    assert (region.length() < 0.8 * np.asarray(interval.width)).all()


def test_of_a_symmetric_prediction_it_is_the_central_interval():
    mean, scale, _ = arrays(40)
    y = np.random.default_rng(0).normal(mean, 2 * scale)
    density, central = conformal.highest_density(points=2000), conformal.split(conformal.distributional())
    region = density.apply(density.fit(stats.norm(mean, scale), y), stats.norm(mean[:4], scale[:4]), level=0.8)
    interval = central.apply(central.fit(stats.norm(mean, scale), y), stats.norm(mean[:4], scale[:4]), level=0.8)
    assert np.concatenate(region.intervals()) == pytest.approx(np.stack(tuple(interval), -1), rel=0.01)


@pytest.mark.parametrize("kind", ["density", pytest.param("mass", marks=pytest.mark.slow)])
def test_a_predictive_and_jit(kind):
    pred, y = ensemble(30)
    procedure = conformal.highest_density(kind, points=20)
    region = procedure.apply(procedure.fit(pred, y), pred, level=0.8)
    apply = jax.jit(procedure.apply, static_argnames="level")
    state = jax.jit(procedure.fit)(pred, jnp.asarray(y, jnp.float32))
    for _ in range(2):
        compiled = apply(state, pred, level=0.8)
    assert apply._cache_size() == 1
    assert np.asarray(compiled.cutoff) == pytest.approx(np.asarray(region.cutoff), rel=1e-3, abs=1e-3)
    assert float(region.contains(y).mean()) == pytest.approx(25 / 30)
    assert kind == "density" or len(region.intervals(points=16)) == 30


def density_coverage(kind, n, levels=simulation.LEVELS, sets=2000, points=16):
    """All calibration sets are examples of one forecast; thresholds are taken set by set."""
    rng = np.random.default_rng(n)
    scores = []
    for _ in range(4):
        (mean, scale, y), _ = simulation.data(rng, n + 1, sets // 4)
        procedure = conformal.highest_density(kind, points=points)
        state = procedure.fit(stats.norm(mean.ravel(), scale.ravel()), y.ravel())
        scores.append(state.scores.reshape(n + 1, -1))
    scores = np.concatenate(scores, axis=1)
    cells = []
    for level in levels:
        place = _rank.rank(n, level)
        inside = scores[-1] <= np.sort(scores[:-1], axis=0)[place - 1] if place <= n else np.ones(sets, bool)
        low, high = (sets, sets) if place > n else stats.binom.ppf([5e-6, 1 - 5e-6], sets, place / (n + 1))
        cells.append({"score": f"highest_density {kind}", "n": n, "level": level, "covered": int(inside.sum()),
                      "of": sets, "low": int(low), "high": int(high)})  # fmt: skip
    return cells


@pytest.mark.parametrize("kind", ["mass", "density"])
def test_coverage_of_regions_follows_its_exact_law(kind):
    for cell in density_coverage(kind, 19):
        assert cell["low"] <= cell["covered"] <= cell["high"], cell


def test_bad_densities():
    with pytest.raises(InputError, match="draws do not have"):
        conformal.highest_density().fit(np.zeros((5, 4)), np.zeros(4))
    with pytest.raises(InputError, match="counts"):
        conformal.highest_density().fit(dist.Poisson(np.ones(4)), np.ones(4))
    with pytest.raises(InputError, match="kind"):
        conformal.highest_density("hpd")
    counts = conformal.highest_density("density")
    state = counts.fit(dist.Poisson(np.full(9, 3.0)), np.arange(9))
    region = counts.apply(state, dist.Poisson(np.full(2, 3.0)), level=0.5)
    assert np.asarray(region.contains(np.array([3, 12]))).tolist() == [True, False]
    with pytest.raises(InputError, match="counts"):
        region.intervals()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        everything = counts.apply(counts.fit(stats.norm(np.zeros(3), 1), np.zeros(3)), stats.norm(np.zeros(2), 1))
    assert "9 are enough" in str(found[0].message)
    assert everything.contains(np.array([50.0, -50.0])).all()
