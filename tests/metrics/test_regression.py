"""Calibration, coverage and spread of regressions, against loops, scipy, published values and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, root_mean_squared_error

import uq
from tests.metrics.test_pit import mixture
from uq.metrics._estimate import Resample
from uq.metrics.coverage import coverage, coverage_by_spread, coverage_test
from uq.metrics.ence import ence, spread_curve, uce
from uq.metrics.regression import mae, miscalibration_area, quantile_calibration, regression_calibration_error, rmse
from uq.metrics.spread import dispersion, sharpness, spread_skill

UCT = stats.norm([1.0, 2.0, 3.0], [0.1, 0.5, 1.0]), np.array([1.5, 3.0, 2.0])  # what uncertainty-toolbox tests with
UCT_LEVELS = np.linspace(0, 1, 100)


def forecasts(size=60, seed=0):
    """Shifted, skewed outcomes of unequal scale, and forecasts that are a little wrong."""
    rng = np.random.default_rng(seed)
    loc, scale = rng.normal(200.0, 30.0, size), rng.gamma(2.0, 3.0, size) + 0.5
    return stats.norm(loc, scale), loc + 1.3 * scale * (rng.gamma(3.0, 1.0, size) - 3.0) / 1.7, loc, scale


def looped_error(u, levels, norm, kind, weight=None):
    weight = np.ones(len(u)) if weight is None else np.asarray(weight, float)
    gaps = []
    for t in levels:
        inside = [(abs(2 * v - 1) if kind == "interval" else v) <= t for v in u]
        gaps.append(abs(sum(w for w, i in zip(weight, inside, strict=True) if i) / weight.sum() - t))
    return {"l1": np.mean(gaps), "l2": np.sqrt(np.mean(np.square(gaps))), "max": max(gaps)}[norm]


def test_values_that_uncertainty_toolbox_tests():
    pred, y = UCT
    for kind, l1, l2, area in (
        ("interval", 0.3733333333333335, 0.4165757476562379, 0.37710437710437716),
        ("quantile", 0.23757575757575758, 0.30362567774902066, 0.23916245791245788),
    ):
        settings = {"kind": kind, "levels": UCT_LEVELS}
        assert float(regression_calibration_error(pred, y, norm="l1", **settings)) == pytest.approx(l1, abs=1e-12)
        assert float(regression_calibration_error(pred, y, norm="l2", **settings)) == pytest.approx(l2, abs=1e-12)
        assert float(miscalibration_area(pred, y, **settings)) == pytest.approx(area, abs=1e-12)
    assert float(sharpness(pred)) == pytest.approx(0.648074069840786, abs=1e-12)


def test_defect_02_quantiles_are_not_mirrored():
    """Predictions too high: fewer than t of the outcomes... are above, more than t are below each t-quantile."""
    rng = np.random.default_rng(1)
    y = rng.normal(50.0, 2.0, 500)
    high = quantile_calibration(stats.norm(np.full(500, 51.0), 2.0), y, levels=[0.25, 0.5, 0.75])
    want = [(y <= stats.norm.ppf(t, 51.0, 2.0)).mean() for t in (0.25, 0.5, 0.75)]
    np.testing.assert_allclose(high.observed, want)
    assert (high.observed > high.level).all()
    low = quantile_calibration(stats.norm(np.full(500, 49.0), 2.0), y, levels=[0.25, 0.5, 0.75])
    assert (low.observed < low.level).all()


@pytest.mark.parametrize("kind", ["quantile", "interval"])
@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
@pytest.mark.parametrize("levels", [99, 4, [0.1, 0.35, 0.9]])
def test_calibration_error_against_a_loop(norm, kind, levels):
    pred, y, loc, scale = forecasts()
    at = np.arange(1, levels + 1) / (levels + 1) if isinstance(levels, int) else levels
    weight = np.random.default_rng(2).integers(0, 4, len(y))
    for w in (None, weight):
        want = looped_error(stats.norm.cdf(y, loc, scale), at, norm, kind, w)
        got = regression_calibration_error(pred, y, norm=norm, kind=kind, levels=levels, weight=w)
        assert float(got) == pytest.approx(want, abs=1e-12)
        assert got.count == (60 if w is None else (w > 0).sum())
    single = regression_calibration_error(dist.Normal(*(jnp.asarray(v, jnp.float32) for v in (loc, scale))), y)
    want = looped_error(stats.norm.cdf(y, loc, scale), np.arange(1, 100) / 100, "l1", "quantile")
    assert float(single) == pytest.approx(want, abs=1e-4)


@pytest.mark.parametrize("kind", ["quantile", "interval"])
def test_area_is_exact(kind):
    pred, y, loc, scale = forecasts()
    y[3:6] = loc[3:6]  # ties of u
    u = stats.norm.cdf(y, loc, scale)
    u = abs(2 * u - 1) if kind == "interval" else u
    weight = np.random.default_rng(3).uniform(0, 2, len(y)) * (np.arange(len(y)) % 5 > 0)
    grid = (np.arange(400_000) + 0.5) / 400_000
    for w in (None, weight):
        want = stats.wasserstein_distance(u, grid, w)
        got = miscalibration_area(pred, y, kind=kind, weight=w)
        assert float(got) == pytest.approx(want, abs=3e-6)
        fine = miscalibration_area(pred, y, kind=kind, weight=w, levels=np.linspace(0, 1, 20_001))
        assert float(got) == pytest.approx(float(fine), abs=1e-3)
    normal = dist.Normal(jnp.asarray(loc, jnp.float32), jnp.asarray(scale, jnp.float32))
    jitted = jax.jit(lambda d, y: miscalibration_area(d, y, kind=kind).value)(normal, jnp.asarray(y, jnp.float32))
    assert float(jitted) == pytest.approx(float(miscalibration_area(pred, y, kind=kind)), abs=1e-5)


SUMMARIES = {
    "rmse": lambda p, y, **k: rmse(p, y, **k),
    "mae": lambda p, y, **k: mae(p, y, **k),
    "error": lambda p, y, **k: regression_calibration_error(p, y, norm="l2", **k),
    "area": lambda p, y, **k: miscalibration_area(p, y, **k),
    "polygon": lambda p, y, **k: miscalibration_area(p, y, levels=9, kind="interval", **k),
    "coverage": lambda p, y, **k: coverage(p, y, level=0.8, **k),
    "sharpness": lambda p, y, **k: sharpness(p, **k),
    "dispersion": lambda p, y, **k: dispersion(p, **k),
    "ence": lambda p, y, **k: ence(p, y, bins=5, **k),
    "ence by width": lambda p, y, **k: ence(p, y, bins=3, binning="width", **k),
    "uce": lambda p, y, **k: uce(p, y, bins=5, **k),
    "spread_skill": lambda p, y, **k: spread_skill(p, y, **k),
}


@pytest.mark.parametrize("name", SUMMARIES)
def test_laws_of_summaries(name):
    """Order, whole weights as repetition, masks, compiled equal to eager, and the standard error."""
    summary = SUMMARIES[name]
    pred, y, loc, scale = forecasts()
    scale = np.round(scale) + 1.0  # ties of spread
    pred = stats.norm(loc, scale)
    value = summary(pred, y)
    order = np.random.default_rng(4).permutation(60)
    assert float(summary(stats.norm(loc[order], scale[order]), y[order])) == pytest.approx(float(value), rel=1e-9)
    weight = np.random.default_rng(5).integers(0, 4, 60)
    rows = np.repeat(np.arange(60), weight)
    repeated = summary(stats.norm(loc[rows], scale[rows]), y[rows])
    masked = np.where(weight > 0, y, np.nan)
    weighted = summary(pred, masked, weight=weight)
    assert float(weighted) == pytest.approx(float(repeated), rel=1e-9)
    assert int(weighted.count) == (weight > 0).sum() and float(weighted.stderr) > 0

    normal = dist.Normal(jnp.asarray(loc, jnp.float32), jnp.asarray(scale, jnp.float32))

    @jax.jit
    def compiled(normal, y, weight):
        return summary(normal, y, weight=weight)

    got = compiled(normal, jnp.asarray(masked, jnp.float32), jnp.asarray(weight, jnp.float32))
    assert float(got.value) == pytest.approx(float(weighted), rel=2e-4)
    assert float(got.stderr) == pytest.approx(float(weighted.stderr), rel=2e-3)
    assert got.value.dtype == jnp.float32
    compiled(
        dist.Normal(normal.loc + 1, 2 * normal.scale), jnp.asarray(y, jnp.float32), jnp.asarray(weight, jnp.float32)
    )
    assert compiled._cache_size() == 1
    gradient = jax.grad(lambda loc: compiled(dist.Normal(loc, normal.scale), jnp.asarray(y, jnp.float32), None).value)
    assert np.isfinite(gradient(normal.loc)).all()


@pytest.mark.parametrize("name", ["error", "area", "dispersion", "spread_skill"])
def test_standard_errors_are_those_of_the_bootstrap(name):
    rng = np.random.default_rng(6)
    loc, scale = rng.normal(200.0, 30.0, 80), rng.gamma(2.0, 3.0, 80) + 0.5
    pred, y = stats.norm(loc, scale), loc + scale * (0.8 + 1.6 * rng.normal(size=80))  # far from calibrated
    plain = SUMMARIES[name](pred, y)
    draws = SUMMARIES[name](pred, y, key=Resample(7, num=400))
    assert float(draws.value) == float(plain.value) and float(draws.stderr) == float(plain.stderr)
    width = float(draws.interval.upper - draws.interval.lower)
    assert width == pytest.approx(2 * 1.96 * float(plain.stderr), rel=0.25)


def moved(statistic, row, weight, step=1e-6):
    """Derivative of a statistic by one row's weight."""
    weights = [weight + side * step * (np.arange(len(weight)) == row) for side in (1, -1)]
    return (float(statistic(weights[0])) - float(statistic(weights[1]))) / (2 * step)


@pytest.mark.parametrize("name", ["error", "area", "polygon", "dispersion", "spread_skill", "rmse", "ence by width"])
def test_influence_is_the_derivative_by_the_weight(name):
    pred, y, _, _ = forecasts(25)
    weight = np.random.default_rng(8).uniform(0.5, 2.0, 25)
    at = SUMMARIES[name](pred, y, weight=weight)
    influence = [weight.sum() * moved(lambda w: SUMMARIES[name](pred, y, weight=w), n, weight) for n in range(25)]
    want = np.sqrt(np.sum(np.square(weight * np.array(influence))) / weight.sum() ** 2 * 25 / 24)
    # The divisor Σ w − 1 of `dispersion` is no part of its influence.
    assert float(at.stderr) == pytest.approx(want, rel=0.05 if name == "dispersion" else 1e-4)


def test_null_is_what_a_calibrated_model_scores():
    rng = np.random.default_rng(9)
    size = 80
    loc, scale = rng.normal(size=size), rng.gamma(3.0, 1.0, size)
    pred = stats.norm(loc, scale)
    for name in ("error", "area", "ence", "uce"):
        scores = [float(SUMMARIES[name](pred, rng.normal(loc, scale))) for _ in range(300)]
        right = SUMMARIES[name](pred, rng.normal(loc, scale), key=Resample(10, num=400))
        assert float(right.null.mean) == pytest.approx(np.mean(scores), rel=0.12), name
        assert float(right.null.upper) == pytest.approx(np.quantile(scores, 0.95), rel=0.2), name
        wrong = SUMMARIES[name](pred, rng.normal(loc, 3 * scale), key=Resample(10, num=400))
        assert float(wrong.null.p_value) < 0.01, name
    one = [float(regression_calibration_error(pred, rng.normal(loc, scale))) for _ in range(300)]
    assert np.mean(one) == pytest.approx(0.313 / np.sqrt(size), rel=0.1)  # as the docstring says


def test_p_values_of_the_null_are_uniform():
    rng = np.random.default_rng(11)
    pred = stats.norm(np.zeros(80), 1.0)
    error = SUMMARIES["error"]
    p = [float(error(pred, rng.normal(size=80), key=Resample(i, num=400)).null.p_value) for i in range(60)]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_null_of_area_with_unequal_weights():
    rng = np.random.default_rng(12)
    weight = np.sort(rng.gamma(0.5, 1.0, 80)) * (np.arange(80) > 20)
    pred = stats.norm(np.zeros(80), 1.0)
    scores = [float(miscalibration_area(pred, rng.normal(size=80), weight=weight)) for _ in range(300)]
    got = miscalibration_area(pred, rng.normal(size=80), weight=weight, key=Resample(0, num=400))
    assert float(got.null.mean) == pytest.approx(np.mean(scores), rel=0.12)


@pytest.mark.parametrize("kind", ["quantile", "interval"])
def test_counts_and_draws_spread_over_their_steps(kind):
    rng = np.random.default_rng(13)
    rate = rng.uniform(0.5, 4.0, 400)
    frozen, y = stats.poisson(rate), rng.poisson(rate)
    centre = rng.normal(100.0, 9.0, 400)
    draws, outcome = rng.normal(centre, 2.0, (6, 400)), rng.normal(centre, 2.0)
    for pred, seen, other in (
        (frozen, y, rng.poisson(3 * rate)),
        (draws, outcome, centre + 3 * rng.normal(2.0, 2.0, 400)),
    ):
        key = Resample(0, num=200) if kind == "interval" else None
        right = regression_calibration_error(pred, seen, kind=kind, key=key)
        wrong = regression_calibration_error(pred, other, kind=kind, key=key)
        assert float(right) < 0.5 * float(wrong)
        if key is not None:
            assert float(right.null.p_value) > 0.02 and float(wrong.null.p_value) < 0.01
        assert float(miscalibration_area(pred, other, kind=kind)) > float(right.value)
    below, upto = frozen.cdf(y - 1), frozen.cdf(y)
    levels = np.arange(1, 10) / 10
    share = [np.mean(np.clip((t - below) / (upto - below), 0, 1)) for t in levels]
    if kind == "quantile":
        got = regression_calibration_error(frozen, y, levels=9)
        assert float(got) == pytest.approx(np.mean(np.abs(share - levels)), abs=1e-12)
        np.testing.assert_allclose(quantile_calibration(frozen, y, levels=9).observed, share, atol=1e-12)


def test_mixtures_and_several_outputs():
    pred, exact, y = mixture(np.array([1e4, -3.0]), np.array([0.01, 25.0]), size=20, num_outputs=2)
    u = np.array([[m.cdf(t) for m, t in zip(row, ts, strict=True)] for row, ts in zip(exact, y, strict=True)])
    levels = np.arange(1, 100) / 100
    want = np.mean([looped_error(u[:, d], levels, "l2", "quantile") for d in range(2)])
    assert float(regression_calibration_error(pred, y, norm="l2")) == pytest.approx(want, abs=1e-6)
    assert float(coverage(pred, y, level=0.7)) == pytest.approx(np.mean((u >= 0.15) & (u <= 0.85)))
    mean = np.array([[m.weights @ m.locs for m in row] for row in exact])
    assert float(rmse(pred, y)) == pytest.approx(np.sqrt(np.mean((y - mean) ** 2)), rel=1e-5)
    areas = [float(miscalibration_area(stats.uniform(np.zeros(20), 1.0), u[:, d])) for d in range(2)]
    assert float(miscalibration_area(pred, y)) == pytest.approx(np.mean(areas), abs=1e-5)
    table = quantile_calibration(pred, y, levels=5)
    assert table.observed.shape == table.lower.shape == (2, 5)
    for name in ("ence", "uce", "sharpness", "dispersion", "spread_skill", "mae"):
        assert np.isfinite(float(SUMMARIES[name](pred, y)))


def test_points():
    rng = np.random.default_rng(14)
    y, points = rng.normal(100.0, 5.0, (30, 2)), rng.normal(101.0, 5.0, (30, 2))
    weight = rng.uniform(0.1, 2.0, 30)
    assert float(rmse(points, y, weight=weight)) == pytest.approx(
        root_mean_squared_error(y.ravel(), points.ravel(), sample_weight=np.repeat(weight, 2))
    )
    assert float(mae(points, y, weight=weight)) == pytest.approx(
        mean_absolute_error(y.ravel(), points.ravel(), sample_weight=np.repeat(weight, 2))
    )
    skewed = stats.gamma(1.5, loc=y[:, 0] - 1.0)  # the median, not the mean
    assert float(mae(skewed, y[:, 0])) == pytest.approx(np.abs(y[:, 0] - skewed.median()).mean())


def test_defect_23_24_intervals_are_equal_tailed():
    """Not the region {p(y) ≥ p(end)}, which differs for skewed densities and for two modes."""
    skewed = stats.gamma(np.full(4, 2.0), loc=10.0)
    low, high = skewed.ppf(0.1)[0], skewed.ppf(0.9)[0]
    assert skewed.pdf(low)[0] > skewed.pdf(high)[0]  # so outcomes near 0 have more density than the upper end
    y = np.array([low - 1e-6, low + 1e-6, high - 1e-6, high + 1e-6])
    assert float(coverage(skewed, y, level=0.8)) == 0.5
    modes = uq.Predictive(jnp.asarray([[[-5.0, 0.0]], [[5.0, 0.0]]]), uq.likelihoods.Gaussian())
    assert float(coverage(modes, [0.0], level=0.5)) == 1.0  # between the modes: inside, of almost no density
    counts = stats.poisson(np.full(8, 3.3))
    y = np.arange(8)
    lower, upper = counts.ppf(0.1), counts.ppf(0.9)
    assert float(coverage(counts, y, level=0.8)) == np.mean((y >= lower) & (y <= upper))
    rng = np.random.default_rng(15)
    for members in (1, 4, 20):
        draws, y = np.round(rng.normal(size=(members, 500)), 1), np.round(rng.normal(size=500), 1)
        for level in (0.5, 0.8, 0.9):
            ranked = np.sort(draws, 0)
            first, last = (max(int(np.ceil(members * q - 1e-9)), 1) - 1 for q in ((1 - level) / 2, (1 + level) / 2))
            want = np.mean((y >= ranked[first]) & (y <= ranked[last]))
            assert float(coverage(draws, y, level=level)) == pytest.approx(want)


def test_pairs_and_tests_of_coverage():
    y = np.array([100.0, 250.0, -3.0])
    lower, upper = y - 1, np.array([101.0, 249.0, np.inf])
    assert float(coverage((lower, upper), y)) == pytest.approx(2 / 3)
    assert float(coverage((y, y), y)) == 1.0  # ends are inside
    assert float(coverage((lower, upper), [100.0, np.nan, -3.0], weight=[1.0, 0.0, 3.0])) == 1.0
    pred, y, _, _ = forecasts(200)
    inside = round(200 * float(coverage(pred, y, level=0.8)))
    found = coverage_test(pred, y, level=0.8)
    assert float(found.p_value) == pytest.approx(stats.binomtest(inside, 200, 0.8).pvalue)
    assert float(found.statistic) == inside / 200 and found.count == 200
    table = quantile_calibration(pred, y, levels=[0.8], kind="interval")
    wilson = stats.binomtest(inside, 200).proportion_ci(0.95, "wilson")
    np.testing.assert_allclose([table.observed[0], table.lower[0], table.upper[0]], [inside / 200, *wilson])
    estimate = coverage(pred, y, level=0.8)
    assert float(estimate.stderr) == pytest.approx(np.sqrt(inside / 200 * (1 - inside / 200) / 199))


def looped_bins(variance, square, bins):
    """Bins of equal mass by order statistics; equal variances never part."""
    ranked = np.sort(variance)
    edges = [ranked[k * len(ranked) // bins] for k in range(bins)]
    at = np.array([max(k for k in range(bins) if edges[k] <= v) for v in variance])
    return [(variance[at == b], square[at == b]) for b in range(bins) if (at == b).any()]


@pytest.mark.parametrize("bins", [1, 4, 10])
def test_ence_and_uce_against_a_loop(bins):
    pred, y, loc, scale = forecasts(83)
    scale = np.where(np.arange(83) % 3 == 0, 5.0, scale)  # ties
    pred, square = stats.norm(loc, scale), (y - loc) ** 2
    cells = looped_bins(scale**2, square, bins)
    want = np.mean([abs(np.sqrt(s.mean()) - np.sqrt(v.mean())) / np.sqrt(v.mean()) for v, s in cells])
    assert float(ence(pred, y, bins=bins)) == pytest.approx(want)
    want = sum(len(v) * abs(v.mean() - s.mean()) for v, s in cells) / 83
    assert float(uce(pred, y, bins=bins)) == pytest.approx(want)
    curve = spread_curve(pred, y, bins=bins)
    used = curve.mass > 0
    np.testing.assert_allclose(curve.spread[used], [np.sqrt(v.mean()) for v, _ in cells])
    np.testing.assert_allclose(curve.error[used], [np.sqrt(s.mean()) for _, s in cells])
    edges = np.linspace(scale.min(), scale.max(), bins + 1)
    at = np.clip(np.searchsorted(edges, scale, side="right") - 1, 0, bins - 1)
    parts = [(scale[at == b] ** 2, square[at == b]) for b in range(bins) if (at == b).any()]
    want = np.mean([abs(np.sqrt(s.mean() / v.mean()) - 1) for v, s in parts])
    assert float(ence(pred, y, bins=bins, binning="width")) == pytest.approx(want)


def test_defect_28_constant_spread_is_one_bin():
    y = np.random.default_rng(16).normal(7.0, 3.0, 50)
    pred = stats.norm(np.full(50, 7.0), 2.0)
    for binning in ("mass", "width"):
        want = abs(np.sqrt(np.mean((y - 7.0) ** 2)) - 2.0) / 2.0
        assert float(ence(pred, y, bins=10, binning=binning)) == pytest.approx(want)
        assert float(uce(pred, y, bins=10, binning=binning)) == pytest.approx(abs(np.mean((y - 7.0) ** 2) - 4.0))
    assert (spread_curve(pred, y).mass > 0).sum() == 1
    groups = coverage_by_spread(pred, y)
    assert (groups.mass > 0).sum() == 1
    assert np.nanmin(groups.coverage) == pytest.approx(float(coverage(pred, y)))


def test_defect_31_spread_of_draws_far_from_0():
    """Two-pass in float32: mean 1000, spread 1e-2; the mean of squares minus the squared mean is NaN or 0."""
    rng = np.random.default_rng(17)
    draws = np.float32(1000.0 + 1e-2 * rng.normal(size=(50, 200)))
    want = np.sqrt(np.mean(draws.astype(np.float64).var(0)))
    for given in (draws, jnp.asarray(draws)):
        assert float(sharpness(given)) == pytest.approx(want, rel=0.02)


def test_spread_skill_of_exchangeable_draws_is_1():
    rng = np.random.default_rng(18)
    for members in (2, 5, 50):
        centre = rng.normal(10.0, 4.0, 20_000)
        draws, y = rng.normal(centre, 2.0, (members, 20_000)), rng.normal(centre, 2.0)
        ratio = spread_skill(draws, y)
        assert abs(float(ratio) - 1) < 4 * float(ratio.stderr)
    pred, y, loc, scale = forecasts()
    want = np.sqrt(np.mean(scale**2) / np.mean((y - loc) ** 2))
    assert float(spread_skill(pred, y)) == pytest.approx(want)
    assert float(dispersion(pred)) == pytest.approx(scale.std(ddof=1) / scale.mean())


def test_coverage_by_spread_against_a_loop():
    pred, y, loc, scale = forecasts(90)
    inside = np.abs(stats.norm.cdf(y, loc, scale) - 0.5) <= 0.4
    weight = np.random.default_rng(19).integers(0, 3, 90)
    rows = np.repeat(np.arange(90), weight)
    order = rows[np.argsort(scale[rows], kind="stable")]
    got = coverage_by_spread(pred, np.where(weight > 0, y, np.nan), level=0.8, bins=1, weight=weight)
    assert got.coverage.tolist() == [pytest.approx(inside[order].mean())]
    plain = coverage_by_spread(pred, y, level=0.8, bins=3)
    groups = np.array_split(np.argsort(scale), 3)
    np.testing.assert_allclose(plain.coverage, [inside[g].mean() for g in groups])
    np.testing.assert_allclose(plain.spread, [scale[g].mean() for g in groups])
    assert plain.mass.tolist() == [30, 30, 30]


def test_every_kind_of_forecast_gives_one_answer():
    rng = np.random.default_rng(20)
    loc, scale = rng.normal(3.0, 2.0, 50), rng.uniform(0.5, 2.0, 50)
    y = rng.normal(loc, 1.5 * scale)
    outputs = np.stack([loc, np.log(np.expm1(scale - 1e-3))], -1)[None]
    same = (
        stats.norm(loc, scale),
        dist.Normal(loc, scale),
        dist.Normal(jnp.asarray(loc, jnp.float32), jnp.asarray(scale, jnp.float32)),
        uq.Predictive(jnp.asarray(outputs, jnp.float32), uq.likelihoods.Gaussian()),
        stats.norm.ppf((np.arange(400) + 0.5) / 400)[:, None] * scale + loc,  # draws, near enough
    )
    for name, summary in SUMMARIES.items():
        known = same[:4] if name in ("rmse", "mae") else same  # of which an array is points
        values = [float(summary(pred, y)) for pred in known]
        np.testing.assert_allclose(values[:4], values[0], rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(values[-1], values[0], rtol=0.06, err_msg=name)


def test_large_arrays_on_the_device_have_the_same_error():
    """Another program, the same levels: counts differ only where float32 puts a value on the other side of one."""
    rng = np.random.default_rng(21)
    loc, scale = rng.normal(size=20_000), rng.uniform(0.5, 2.0, 20_000)
    y, weight = rng.normal(loc, 1.2 * scale), rng.integers(0, 3, 20_000).astype(float)
    single = dist.Normal(jnp.asarray(loc, jnp.float32), jnp.asarray(scale, jnp.float32))
    for w in (None, weight):
        want = regression_calibration_error(stats.norm(loc, scale), y, norm="l2", kind="interval", weight=w)
        got = regression_calibration_error(single, jnp.asarray(y, jnp.float32), norm="l2", kind="interval", weight=w)
        assert isinstance(got.value, jax.Array)
        assert float(got) == pytest.approx(float(want), abs=1e-4) and got.estimand == want.estimand
        assert float(got.stderr) == pytest.approx(float(want.stderr), rel=1e-2) and int(got.count) == want.count


WRONG = [
    (lambda: coverage(UCT[0], np.ones(4)), r"`y` of shape \(3,\)"),
    (lambda: coverage(UCT[0], np.ones((3, 3))), r"`y` of shape \(3,\)"),
    (lambda: coverage(*UCT, level=1.0), "strictly between 0 and 1"),
    (lambda: coverage(([0.0], [np.nan]), [1.0]), "`upper` expected finite numbers"),
    (lambda: coverage(([0.0], [1.0]), [1.0, 2.0]), "`lower` and `y` of one shape"),
    (lambda: rmse([1.0, np.nan], [1.0, 2.0]), "`pred` expected finite numbers, but row 1 of 2 holds NaN"),
    (lambda: rmse([], []), "with N ≥ 1"),
    (lambda: regression_calibration_error(*UCT, norm="L2"), "no norm 'L2'.* did you mean 'l2'"),
    (lambda: regression_calibration_error(*UCT, kind="central"), "no kind 'central'"),
    (lambda: regression_calibration_error(*UCT, levels=[0.5, 0.2]), "levels that ascend"),
    (lambda: regression_calibration_error(*UCT, levels=0), "`levels` expected a whole number"),
    (lambda: regression_calibration_error(*UCT, weight=np.ones(2)), r"`weight` of shape \(3,\)"),
    (lambda: ence(np.zeros((3, 4)), np.zeros(4)), "variances that are positive"),
    (lambda: ence(*UCT, binning="size"), "no binning 'size'"),
    (lambda: spread_skill(np.zeros((1, 4)), np.zeros(4)), "at least two draws"),
    (lambda: dispersion(stats.norm([0.0], 1.0)), "at least two examples"),
    (lambda: coverage_test(*UCT, weight=[1, 2, 1]), "weights 0 or 1"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence[:30] for _, sentence in WRONG])
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()


def test_large_distributions_on_a_device_say_what_the_host_says():
    rng = np.random.default_rng(0)
    loc, scale = rng.normal(size=40_000), 0.5 + rng.random(40_000)
    y = loc + 1.3 * scale * rng.normal(size=40_000)
    arrays = [jnp.asarray(each, jnp.float32) for each in (loc, scale, y)]
    law = dist.Normal(arrays[0], arrays[1], validate_args=False)
    for settings in ({}, {"kind": "interval", "norm": "l2", "levels": 9}):
        got = uq.metrics.regression_calibration_error(law, arrays[2], **settings)
        want = uq.metrics.regression_calibration_error(stats.norm(loc, scale), y, **settings)
        np.testing.assert_allclose([got.value, got.stderr], [want.value, want.stderr], rtol=2e-3)
        assert got.count == 40_000 and got.estimand == want.estimand
    with pytest.raises(uq.InputError, match=r"`y\[7\]` is nan"):
        uq.metrics.regression_calibration_error(law, arrays[2].at[7].set(jnp.nan))
    with pytest.raises(uq.InputError, match="that of row 5 is -1"):
        broken = dist.Normal(arrays[0], arrays[1].at[5].set(-1.0), validate_args=False)
        uq.metrics.regression_calibration_error(broken, arrays[2])
