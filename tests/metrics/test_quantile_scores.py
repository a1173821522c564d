"""Quantile and interval scores against loops, scikit-learn and integrals; predictions, arrays, host and device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats
from sklearn.metrics import mean_pinball_loss

import uq
from uq.metrics.quantile_scores import (
    HUB_LEVELS,
    crps_quantile,
    interval_score,
    interval_width,
    quantile_score,
    weighted_interval_score,
)

LEVELS = (0.05, 0.2, 0.5, 0.8, 0.95)


def some_law(number=6, seed=0):
    """Skewed, shifted: outcomes on both sides, and some exactly on a quantile."""
    rng = np.random.default_rng(seed)
    law = stats.gamma(rng.uniform(1, 4, number), loc=rng.normal(100, 3, number), scale=rng.uniform(2, 9, number))
    y = law.rvs(random_state=rng) + rng.normal(0, 9, number)
    y[0] = law.ppf(0.2)[0]
    return law, y


def pinball(quantile, y, level):
    return (float(y < quantile) - level) * (quantile - y)


def interval(low, high, y, level):
    alpha = 1 - level
    return (high - low) + 2 / alpha * max(low - y, 0) + 2 / alpha * max(y - high, 0)


def wis(quantiles, y, levels):
    """Bracher and others, eq. 2, interval by interval."""
    half = len(levels) // 2
    total = 0.5 * abs(y - quantiles[half])
    for k in range(half):
        alpha = 2 * levels[k]
        total += alpha / 2 * interval(quantiles[k], quantiles[-1 - k], y, 1 - alpha)
    return total / (half + 0.5)


def test_quantile_score():
    law, y = some_law()
    for level in LEVELS:
        q = law.ppf(level)
        want = [pinball(a, b, level) for a, b in zip(q, y, strict=True)]
        got = quantile_score(q, y, level=level)
        assert isinstance(got, np.ndarray) and got.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        assert got.mean() == pytest.approx(mean_pinball_loss(y, q, alpha=level))
        np.testing.assert_allclose(quantile_score(law, y, level=level), want, rtol=1e-10, atol=1e-12)
    quantiles = law.ppf(np.array(LEVELS)[:, None])
    several = quantile_score(quantiles, y, level=LEVELS)
    each = [quantile_score(q, y, level=level) for q, level in zip(quantiles, LEVELS, strict=True)]
    np.testing.assert_allclose(several, np.mean(each, 0), rtol=1e-12)
    np.testing.assert_allclose(quantile_score(law, y, level=LEVELS), several, rtol=1e-12)


def test_defect_27_pinball_of_the_quantile_itself_not_of_the_nearer_end():
    low, high, y = np.array([9.0]), np.array([11.0]), np.array([10.9])
    assert quantile_score(low, y, level=0.05)[0] == pytest.approx(0.05 * 1.9)
    assert quantile_score(high, y, level=0.95)[0] == pytest.approx(0.05 * 0.1)


def test_interval_score():
    law, y = some_law()
    for level in (0.5, 0.9):
        low, high = law.interval(level)
        want = [interval(*row, level) for row in zip(low, high, y, strict=True)]
        np.testing.assert_allclose(interval_score(low, high, y, level=level), want, rtol=1e-12)
        np.testing.assert_allclose(interval_score((low, high), y, level=level), want, rtol=1e-12)
        np.testing.assert_allclose(interval_score(law, y, level=level), want, rtol=1e-10)
        np.testing.assert_allclose(interval_score(law, y=y, level=level), want, rtol=1e-10)
        alpha = 1 - level
        halves = quantile_score(low, y, level=alpha / 2) + quantile_score(high, y, level=1 - alpha / 2)
        np.testing.assert_allclose(2 / alpha * halves, want, rtol=1e-10)
        np.testing.assert_allclose(interval_width((low, high)), high - low, rtol=1e-12)
        np.testing.assert_allclose(interval_width(law, level=level), high - low, rtol=1e-12)
    levels = (0.5, 0.9)
    mean = np.mean([interval_score(law, y, level=each) for each in levels], 0)
    np.testing.assert_allclose(interval_score(law, y, level=levels), mean, rtol=1e-12)
    ends = law.interval(np.array(levels)[:, None])
    np.testing.assert_allclose(interval_score(*ends, y, level=levels), mean, rtol=1e-12)
    assert interval_score(-np.inf, 1.0, 2.0, level=0.5) == np.inf  # legal, never clipped


@pytest.mark.parametrize("name", ["norm", "laplace", "logistic", "gumbel_r", "cauchy"])
def test_families_of_one_location_and_scale_need_no_pass_a_level(name):
    """The piecewise linear form equals the sum over levels, in scipy's families and numpyro's."""
    rng = np.random.default_rng(1)
    loc, scale, y = rng.normal(50, 5, 9), rng.uniform(0.5, 4, 9), rng.normal(50, 9, 9)
    law = getattr(stats, name)(loc, scale)
    y[0] = law.ppf(0.2)[0]
    y[1] = 1e4
    quantiles = law.ppf(np.array(LEVELS)[:, None])
    np.testing.assert_allclose(
        quantile_score(law, y, level=LEVELS), quantile_score(quantiles, y, level=LEVELS), rtol=1e-9
    )
    np.testing.assert_allclose(
        weighted_interval_score(law, y, level=LEVELS), weighted_interval_score(quantiles, y, level=LEVELS), rtol=1e-9
    )
    np.testing.assert_allclose(
        crps_quantile(law, y, level=LEVELS), crps_quantile(quantiles, y, level=LEVELS), rtol=1e-9
    )
    levels = np.arange(1, 100) / 100
    ends = law.interval(levels[:, None])
    want = np.mean(
        [
            [interval(*row, level) for row in zip(a, b, y, strict=True)]
            for a, b, level in zip(*ends, levels, strict=True)
        ],
        0,
    )
    np.testing.assert_allclose(interval_score(law, y, level=levels), want, rtol=1e-9)
    numpyro_name = {"norm": "Normal", "gumbel_r": "Gumbel"}.get(name, name.capitalize())
    family = getattr(dist, numpyro_name)
    np.testing.assert_allclose(interval_score(family(loc, scale), y, level=levels), want, rtol=1e-9)
    traced = jax.jit(lambda loc, scale, y: interval_score(family(loc, scale), y, level=levels))
    got = traced(jnp.float32(loc), jnp.float32(scale), jnp.float32(y))
    np.testing.assert_allclose(got, want, rtol=2e-4)


def test_defect_04_weighted_interval_score_measures_from_the_median():
    quantiles, y = np.array([[9.0], [10.0], [11.0]]), np.array([10.0])
    assert weighted_interval_score(quantiles, y, level=[0.25, 0.5, 0.75])[0] == pytest.approx(1 / 3)
    law, y = some_law()
    quantiles = law.ppf(np.array(LEVELS)[:, None])
    want = [wis(q, b, LEVELS) for q, b in zip(quantiles.T, y, strict=True)]
    score = functools.partial(weighted_interval_score, level=LEVELS)
    np.testing.assert_allclose(score(quantiles, y), want, rtol=1e-12)
    np.testing.assert_allclose(score(law, y), want, rtol=1e-10)
    np.testing.assert_allclose(score(quantiles, y), 2 * quantile_score(quantiles, y, level=LEVELS), rtol=1e-12)
    traced = jax.jit(score)(jnp.float32(quantiles), jnp.float32(y))
    assert traced.dtype == jnp.float32
    np.testing.assert_allclose(traced, want, rtol=1e-3, atol=1e-4)
    assert len(HUB_LEVELS) == 23 and weighted_interval_score(law, y).shape == y.shape


def exact_crps(law, y):
    from scipy import integrate

    below = integrate.quad(lambda t: law.cdf(t) ** 2, law.ppf(1e-12), y)[0] if y > law.ppf(1e-12) else 0.0
    return below + integrate.quad(lambda t: law.sf(t) ** 2, y, max(y, law.isf(1e-12)), limit=200)[0]


def test_defect_15_crps_quantile_weighs_levels_by_their_spacing():
    """Levels crowded in the tails: a plain mean of pinball losses says 0.176 where the score is 0.269 or more."""
    law, y = stats.norm(0, 1), 0.5
    want = exact_crps(law, y)
    for levels in (np.arange(1, 200) / 200, stats.beta(0.5, 0.5).ppf(np.arange(1, 200) / 200)):
        got = crps_quantile(law.ppf(levels)[:, None], [y], level=levels)[0]
        assert got == pytest.approx(want, rel=2e-3)
    rng = np.random.default_rng(0)
    draws = rng.normal(size=4000)
    levels = [0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99]
    quantiles = np.repeat(law.ppf(levels)[:, None], 4000, 1)
    weighted = crps_quantile(quantiles, draws, level=levels).mean()
    unweighted = 2 * quantile_score(quantiles, draws, level=levels).mean()
    exact = np.mean(draws * (2 * stats.norm.cdf(draws) - 1) + 2 * stats.norm.pdf(draws) - 1 / np.sqrt(np.pi))
    assert abs(weighted - exact) < 0.15 * exact < abs(unweighted - exact)


def test_predictives():
    rng = np.random.default_rng(0)
    outputs = jnp.asarray(rng.normal(size=(3, 6, 2)), jnp.float32)
    pred = uq.Predictive(outputs, uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 100.0, 4.0))
    y = 100 + 4 * rng.normal(size=6)
    quantiles = np.asarray(pred.quantile(LEVELS), np.float64)
    np.testing.assert_allclose(
        quantile_score(pred, y, level=0.2), quantile_score(quantiles[1], y, level=0.2), rtol=1e-3
    )
    np.testing.assert_allclose(
        weighted_interval_score(pred, y, level=LEVELS), weighted_interval_score(quantiles, y, level=LEVELS), rtol=1e-3
    )
    low, high = pred.interval(0.6)
    want = interval_score(np.asarray(low), np.asarray(high), y, level=0.6)
    np.testing.assert_allclose(interval_score(pred, y, level=0.6), want, rtol=1e-4)
    np.testing.assert_allclose(interval_width(pred, level=0.6), high - low, rtol=1e-4)
    traced = jax.jit(lambda p, y: interval_score(p, y, level=0.6))(pred, jnp.float32(y))
    np.testing.assert_allclose(traced, want, rtol=1e-3)


def test_gradients_are_finite_on_the_quantile():
    y = jnp.ones(3)
    slope = jax.grad(lambda q: quantile_score(q, y, level=0.3).sum())(jnp.ones(3))
    assert np.isfinite(slope).all()
    slope = jax.grad(lambda q: interval_score(q, q, y, level=0.3).sum())(jnp.ones(3))
    assert np.isfinite(slope).all()
    slope = jax.grad(lambda s: interval_score(dist.Normal(y, s), y, level=LEVELS).sum())(jnp.float32(2.0))
    assert np.isfinite(slope)


def test_several_outputs_and_arrays_left_alone():
    rng = np.random.default_rng(0)
    quantiles, y = np.sort(rng.normal(size=(5, 4, 2)), 0), rng.normal(size=(4, 2))
    kept = quantiles.copy()
    for score in (quantile_score, weighted_interval_score, crps_quantile):
        got = score(quantiles, y, level=LEVELS)
        assert got.shape == (4, 2)
        np.testing.assert_allclose(got[:, 1], score(quantiles[..., 1], y[:, 1], level=LEVELS), rtol=1e-12)
        assert score(np.float32(quantiles), np.float32(y), level=LEVELS).dtype == np.float32
    np.testing.assert_array_equal(quantiles, kept)


def test_scoringrules_agrees_where_it_is_right():
    scoringrules = pytest.importorskip("scoringrules")
    law, y = some_law()
    low, high = law.interval(0.8)
    want = scoringrules.interval_score(y, low, high, 0.2, backend="numpy")
    np.testing.assert_allclose(interval_score(low, high, y, level=0.8), want, rtol=1e-12)
    want = scoringrules.quantile_score(y, law.ppf(0.2), 0.2, backend="numpy")
    np.testing.assert_allclose(quantile_score(law.ppf(0.2), y, level=0.2), want, rtol=1e-12, atol=1e-12)


ONE, TWO = np.ones(1), np.ones(2)
WRONG = [
    (lambda: quantile_score(TWO, TWO, level=1.0), "strictly between 0 and 1, but it is 1.0"),
    (lambda: quantile_score(TWO, TWO, level=95), "0.9 means 90 %"),
    (lambda: quantile_score(TWO, TWO, level=[]), "strictly between 0 and 1"),
    (lambda: quantile_score(TWO, TWO, level=[[0.5]]), r"one level or several \(Q,\)"),
    (lambda: quantile_score(np.ones((2, 1)), TWO, level=0.5), r"shape \(2,\), .* but got \(2, 1\)"),
    (lambda: quantile_score(TWO, np.ones((2, 1)), level=0.5), r"shape \(2, 1\), .* but got \(2,\)"),
    (lambda: quantile_score(TWO, TWO, level=[0.1, 0.5, 0.9]), r"shape \(3, 2\), .* but got \(2,\)"),
    (lambda: quantile_score([np.nan, 1.0], TWO, level=0.5), r"not NaN in `quantiles` .* `quantiles\[0\]` is nan"),
    (lambda: quantile_score([], [], level=0.5), "at least one number"),
    (lambda: weighted_interval_score(np.ones((3, 1)), ONE, level=[0.1, 0.5, 0.8]), "symmetric about 0.5"),
    (lambda: weighted_interval_score(np.ones((2, 1)), ONE, level=[0.1, 0.9]), "itself one of them"),
    (lambda: weighted_interval_score(np.ones((3, 1)), ONE, level=[0.9, 0.5, 0.1]), "in rising order"),
    (
        lambda: weighted_interval_score([[1.0], [3.0], [2.0]], ONE, level=[0.1, 0.5, 0.9]),
        "those of levels 0.5 and 0.9 cross in row 0. Sort them",
    ),
    (lambda: crps_quantile(np.ones(1), ONE, level=0.5), r"several levels \(Q,\) in rising order"),
    (lambda: crps_quantile(np.ones((1, 1)), ONE, level=[0.5]), r"several levels \(Q,\) in rising order"),
    (lambda: interval_score([1.0, 3.0], [2.0, 2.0], TWO, level=0.5), r"lower ≤ upper, but row 1 is \(3.0, 2.0\)"),
    (lambda: interval_score(TWO, TWO, np.ones((2, 1)), level=0.5), r"shape \(2, 1\), .* got \(2,\) and \(2,\)"),
    (lambda: interval_score(TWO, np.ones((2, 1)), TWO, level=0.5), r"got \(2,\) and \(2, 1\)"),
    (lambda: interval_score(TWO, TWO, TWO, level=0.0), "strictly between 0 and 1"),
    (lambda: interval_score(TWO, TWO, [1.0, np.nan], level=0.5), r"`y\[1\]` is nan"),
    (lambda: interval_score(TWO, level=0.5), "expected outcomes `y`"),
    (lambda: interval_score(TWO, TWO, level=0.5), "a Predictive, a distribution, or two ends"),
    (lambda: interval_width(([1.0], [0.0])), "lower ≤ upper, but row 0"),
    (lambda: interval_width(([1.0], [2.0, 3.0])), "ends of one shape"),
    (lambda: interval_width(stats.norm(TWO, 1.0), level=95), "0.9 means 90 %"),
    (lambda: interval_width(np.ones(3)), r"a Predictive, a distribution or a pair \(lower, upper\)"),
    (lambda: jax.jit(lambda level: quantile_score(TWO, TWO, level=level))(0.5), "make it a static argument"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()


OF_DIFFERENCES = {
    "interval_score": lambda p, y: uq.metrics.interval_score(p, y, level=0.9),
    "interval_score, levels": lambda p, y: uq.metrics.interval_score(p, y, level=[0.5, 0.9]),
    "interval_width": lambda p, y: uq.metrics.interval_width(p, level=0.8),
    "absolute_error": uq.metrics.absolute_error,
    "squared_error": uq.metrics.squared_error,
    "mae": lambda p, y: uq.metrics.mae(p, y).value,
    "rmse": lambda p, y: uq.metrics.rmse(p, y).value,
    "quantile_score": lambda p, y: uq.metrics.quantile_score(p, y, level=0.3),
    "weighted_interval_score": uq.metrics.weighted_interval_score,
    "dawid_sebastiani": uq.metrics.dawid_sebastiani,
    "crps": uq.metrics.crps,
}


@pytest.mark.parametrize("name", OF_DIFFERENCES)
@pytest.mark.parametrize("mapped", [False, True])
def test_scores_of_differences_lose_nothing_to_an_offset(name, mapped):
    rng = np.random.default_rng(0)
    outputs, z = rng.normal(size=(3, 50, 2)).astype(np.float32), 1.5 * rng.normal(size=50)
    rule = uq.calibrate.quantiles()

    def made(loc):
        pred = uq.Predictive(outputs, uq.likelihoods.transformed(uq.likelihoods.Gaussian(), loc, 1.0))
        return rule.apply(rule.fit(pred, loc + z), pred) if mapped else pred

    want = OF_DIFFERENCES[name](made(0.0), z)
    for loc in (1e6, 1e7):
        np.testing.assert_allclose(OF_DIFFERENCES[name](made(loc), loc + z), want, rtol=1e-3, atol=1e-4)


def test_one_prediction_of_one_outcome_has_one_score():
    for law in (stats.norm(0.0, 1.0), dist.Normal(np.float64(0.0), np.float64(1.0))):
        score = uq.metrics.interval_score(law, 0.3, level=[0.5, 0.9])
        ends = [stats.norm.ppf([(1 - level) / 2, (1 + level) / 2]) for level in (0.5, 0.9)]
        assert np.shape(score) == ()
        np.testing.assert_allclose(score, np.mean([high - low for low, high in ends]), rtol=1e-6)
        assert np.shape(uq.metrics.weighted_interval_score(law, 0.3)) == ()
