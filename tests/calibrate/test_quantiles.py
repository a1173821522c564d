"""Distribution functions mapped: by loops over levels, and against numerical integration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats

import uq

from .numbers import ensemble, gaussians

SHAPES = ("linear", "spline", "isotonic")


def mixture_cdf(means, scales, y):
    return stats.norm.cdf(y, means, scales).mean(0)


def skewed(seed, num):
    """A normal forecast of an outcome whose errors are skewed and too wide."""
    rng = np.random.default_rng(seed)
    mean, sd = rng.normal(size=num), 0.5 + rng.random(num)
    return mean[None], sd[None], mean + sd * (rng.gamma(2.0, 1.0, num) - 1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_outcomes_fall_evenly_into_what_was_mapped(shape):
    means, scales, y = skewed(0, 2000)
    recalibrator = uq.calibrate.quantiles(shape)
    state = recalibrator.fit(gaussians(means, scales), y)
    fresh = skewed(1, 2000)
    new = recalibrator.apply(state, gaussians(*fresh[:2]))
    for level in (0.05, 0.25, 0.5, 0.75, 0.95):
        below = np.mean(fresh[2] <= np.asarray(new.quantile(level)))
        assert abs(below - level) < 4 * np.sqrt(level * (1 - level) / 2000) + 0.01
    before = gaussians(*fresh[:2])
    assert float(new.crps(fresh[2]).mean()) < float(before.crps(fresh[2]).mean())
    if shape != "isotonic":
        assert float(new.log_prob(fresh[2]).mean()) > float(before.log_prob(fresh[2]).mean()) + 0.1


def test_knots_are_quantiles_of_the_transform_pulled_to_the_diagonal():
    means, scales, y = skewed(2, 400)
    state = uq.calibrate.quantiles(pieces=4).fit(gaussians(means, scales), y)
    value = mixture_cdf(means, scales, y)
    inner = np.interp([100, 200, 300], np.arange(400) + 0.5, np.sort(value))
    edges = np.concatenate([[0], inner, [1]])
    counts = np.histogram(value, edges)[0] + 4 * np.diff(edges)
    np.testing.assert_allclose(state.before, edges, atol=1e-5)
    np.testing.assert_allclose(state.after, np.concatenate([[0], np.cumsum(counts) / counts.sum()]), atol=1e-5)
    ranks = uq.calibrate.quantiles("isotonic").fit(gaussians(means, scales), y)
    np.testing.assert_allclose(
        np.interp(np.sort(value)[[9, 199]], ranks.before, ranks.after), np.array([10, 200]) / 401, atol=2e-4
    )


@pytest.fixture(scope="module")
def mapped():
    """Two normals a row, seen through R(u) of three pieces."""
    means, scales, y = ensemble(3, 6, 2)
    pred = gaussians(means, scales, loc=3.0)
    before, after = jnp.array([0.0, 0.2, 0.7, 1.0]), jnp.array([0.0, 0.35, 0.6, 1.0])
    return uq.calibrate.MappedPredictive(pred.outputs, pred.likelihood, None, before, after), means, scales, y


def density(means, scales, n, t):
    """R'(F) f of row n."""
    u = stats.norm.cdf(t, means[:, n], scales[:, n]).mean()
    slope = np.array([0.35 / 0.2, 0.25 / 0.5, 0.4 / 0.3])[np.searchsorted([0.2, 0.7], u, side="right")]
    return slope * stats.norm.pdf(t, means[:, n], scales[:, n]).mean()


def function(means, scales, n, t):
    return np.interp(stats.norm.cdf(t, means[:, n], scales[:, n]).mean(), [0, 0.2, 0.7, 1], [0, 0.35, 0.6, 1])


def test_everything_is_of_one_distribution(mapped):
    pred, means, scales, y = mapped
    for n in range(6):
        low, high = means[:, n].min() - 9 * scales[:, n].max(), means[:, n].max() + 9 * scales[:, n].max()
        points = [float(pred.unmapped.quantile(u)[n]) for u in (0.2, 0.5, 0.7)]

        def over(f, low=low, high=high, points=points):
            return integrate.quad(f, low, high, points=points, limit=400)[0]

        assert over(lambda t: density(means, scales, n, t)) == pytest.approx(1, abs=1e-5)
        mean = over(lambda t: t * density(means, scales, n, t))
        variance = over(lambda t: (t - mean) ** 2 * density(means, scales, n, t))
        crps = over(lambda t: (function(means, scales, n, t) - (t >= y[n])) ** 2)
        assert float(pred.mean[n]) == pytest.approx(mean, rel=1e-3, abs=2e-3)
        assert float(pred.variance[n]) == pytest.approx(variance, rel=5e-3)
        assert float(pred.crps(y)[n]) == pytest.approx(crps, rel=5e-3, abs=1e-3)
        assert float(pred.cdf(y)[n]) == pytest.approx(function(means, scales, n, y[n]), abs=1e-4)
        assert float(pred.sf(y)[n]) == pytest.approx(1 - function(means, scales, n, y[n]), abs=1e-4)
        assert float(pred.log_prob(y)[n]) == pytest.approx(np.log(density(means, scales, n, y[n])), abs=2e-3)
    for level in (0.01, 0.35, 0.5, 0.9, 0.999):
        np.testing.assert_allclose(pred.cdf(pred.quantile(level)), level, atol=1e-4)
    lower, upper = pred.interval(0.8)
    np.testing.assert_allclose(pred.cdf(upper) - pred.cdf(lower), 0.8, atol=1e-4)
    draws = np.asarray(pred.sample(jax.random.key(0), 4000))
    value = [function(means, scales, 0, t) for t in draws[:, 0]]
    assert stats.kstest(value, "uniform").statistic < 0.03


def test_it_is_a_pytree_of_rows_and_jits(mapped):
    pred, _, _, y = mapped
    y = jnp.asarray(y, jnp.float32)
    np.testing.assert_allclose(jax.jit(lambda p: p.crps(y))(pred), pred.crps(y), rtol=1e-3, atol=1e-4)
    part = pred[np.array([4, 1])]
    np.testing.assert_allclose(part.log_prob(y[np.array([4, 1])]), pred.log_prob(y)[np.array([4, 1])], rtol=1e-5)
    assert repr(pred).startswith("MappedPredictive(members=2")
    for what in ("epistemic", "aleatoric", "entropy"):
        with pytest.raises(uq.InputError):
            getattr(pred, what)
    with pytest.raises(uq.InputError, match="no counterpart in numpyro"):
        pred.to_numpyro()


def test_two_maps_are_one_and_metrics_read_it(mapped):
    pred, _, _, y = mapped
    recalibrator = uq.calibrate.quantiles()
    again = recalibrator.apply(uq.calibrate.QuantileState(jnp.array([0.0, 0.5, 1.0]), jnp.array([0.0, 0.3, 1.0])), pred)
    want = np.interp(np.asarray(pred.cdf(y)), [0, 0.5, 1], [0, 0.3, 1])
    np.testing.assert_allclose(again.cdf(y), want, atol=1e-5)
    assert np.isfinite(float(uq.metrics.regression_calibration_error(pred, y)))
    np.testing.assert_allclose(uq.metrics.crps(pred, y), pred.crps(y), rtol=1e-6)
    table = uq.evaluate(pred, y, key=None, before=pred.unmapped)
    assert table["crps", "before"] == pytest.approx(float(pred.unmapped.crps(y).mean()), rel=1e-5)
    assert table["crps"] == pytest.approx(float(pred.crps(y).mean()), rel=1e-5)


def test_counts_are_mapped_by_the_middle_of_their_steps():
    rng = np.random.default_rng(4)
    pred = uq.Predictive(jnp.full((1, 600, 1), np.log(3.0), jnp.float32), uq.likelihoods.Poisson())
    y = rng.negative_binomial(2, 2 / 5, 600)
    recalibrator = uq.calibrate.quantiles()
    new = recalibrator.apply(recalibrator.fit(pred, y), pred)
    total = sum(np.exp(np.asarray(new.log_prob(np.full(600, k)))[0]) for k in range(80))
    assert total == pytest.approx(1, abs=1e-3)
    assert float(new.log_prob(y).mean()) > float(pred.log_prob(y).mean())


def test_weights_and_what_is_wrong():
    means, scales, y = skewed(5, 60)
    pred, recalibrator = gaussians(means, scales), uq.calibrate.quantiles(pieces=3)
    a = recalibrator.fit(pred, np.where(np.arange(60) < 40, y, 99.0), (np.arange(60) < 40) * 1.0)
    b = recalibrator.fit(pred[:40], y[:40])
    np.testing.assert_allclose(a.after, b.after, atol=1e-6)
    twice = np.repeat(np.arange(60), 2)
    for shape in ("linear", "isotonic"):
        rule = uq.calibrate.quantiles(shape)
        a, b = rule.fit(pred, y, np.full(60, 2.0)), rule.fit(pred[twice], y[twice])
        assert len(a.after) == len(b.after)
        at = np.linspace(0.05, 0.95, 19)
        np.testing.assert_allclose(np.interp(at, a.before, a.after), np.interp(at, b.before, b.after), atol=0.01)
    with pytest.raises(uq.InputError, match="cubic"):
        uq.calibrate.quantiles("cubic")
    with pytest.raises(uq.InputError, match="at least 3 examples"):
        recalibrator.fit(pred[:2], y[:2])
    with pytest.raises(uq.InputError, match="a Predictive of numbers"):
        recalibrator.fit(np.zeros((3, 4)), np.zeros(4))
    with pytest.raises(uq.InputError, match="maps one output"):
        recalibrator.fit(uq.Predictive(jnp.zeros((1, 9, 4)), uq.likelihoods.Gaussian(2)), np.zeros((9, 2)))


# A factor that depends on σ, and weights of members


def test_confident_and_unsure_predictions_are_mended_apart():
    rng = np.random.default_rng(6)
    sd = np.exp(rng.normal(size=3000))
    y = 2 * sd**0.4 * rng.normal(size=3000)
    recalibrator = uq.calibrate.conditional_scale()
    pred = gaussians(np.zeros((1, 3000)), sd[None])
    state = recalibrator.fit(pred, y)
    assert float(state.slope) == pytest.approx(0.4, abs=0.06)
    new = recalibrator.apply(state, pred)
    np.testing.assert_allclose(new.stddev, 2 * sd**0.4, rtol=0.15)

    def loss(p):
        return -stats.norm.logpdf(y, 0, np.exp((p[0] + p[1] * 2 * np.log(sd)) / 2)).mean()

    from scipy import optimize

    found = optimize.minimize(loss, [0.0, 1.0], method="Nelder-Mead", options={"fatol": 1e-10, "xatol": 1e-8})
    assert float(state.slope) == pytest.approx(found.x[1], abs=1e-3)
    right = gaussians(np.zeros((1, 3000)), sd[None])
    same = recalibrator.fit(right, sd * rng.normal(size=3000))
    assert float(same.slope) == pytest.approx(1, abs=0.06)


def test_stacked_weights_are_the_optimum_under_constraints():
    from scipy import optimize

    rng = np.random.default_rng(7)
    y = rng.normal(size=300)
    means = np.stack([0.3 * rng.normal(size=300), y + rng.normal(size=300), np.full(300, 4.0)])
    scales = np.stack([np.ones(300), np.ones(300), np.ones(300)])
    pred = gaussians(means, scales)
    recalibrator = uq.calibrate.stacking()
    state = recalibrator.fit(pred, y)
    density = stats.norm.pdf(y, means, scales)
    found = optimize.minimize(
        lambda z: -np.log(special.softmax(z) @ density).mean(), np.zeros(3), method="Nelder-Mead",
        options={"fatol": 1e-12, "xatol": 1e-8, "maxiter": 4000},
    )  # fmt: skip
    np.testing.assert_allclose(state.weight, special.softmax(found.x), atol=2e-3)
    new = recalibrator.apply(state, pred)
    np.testing.assert_allclose(-new.log_prob(y).mean(), state.fitted.after, rtol=1e-4)
    assert float(state.fitted.after) < float(state.fitted.before)
    with pytest.raises(uq.InputError, match="weights of every example's own"):
        recalibrator.fit(uq.Predictive(pred.outputs, pred.likelihood, jnp.full((3, 300), 1 / 3)), y)
    with pytest.raises(uq.InputError, match="fitted to 3 members, but these are 2"):
        recalibrator.apply(state, gaussians(means[:2], scales[:2]))
