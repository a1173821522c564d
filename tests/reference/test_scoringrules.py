"""scoringrules agrees where the survey found it right; where it differs, ours is the value by definition.

The differences are listed in docs/metrics/disagreements.md.
"""

import functools

import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, special, stats

from uq import metrics

from ..contract.families import quiet

scoringrules = pytest.importorskip("scoringrules", reason="scoringrules is not installed: pip install scoringrules")

SIZE = 40
same = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-10)


def parameters(seed=0):
    """Locations, scales and outcomes: shifted, of many scales."""
    rng = np.random.default_rng(seed)
    loc, scale = 30 + 5 * rng.normal(size=SIZE), rng.uniform(0.5, 6, SIZE)
    return loc, scale, loc + 2 * scale * rng.normal(size=SIZE)


def theirs(name, *arguments, **more):
    return getattr(scoringrules, name)(*arguments, backend="numpy", **more)


@pytest.mark.parametrize(("name", "family"), [("normal", dist.Normal), ("laplace", dist.Laplace)])
def test_location_and_scale(name, family):
    loc, scale, y = parameters()
    pred = quiet(family)(loc, scale)
    same(metrics.crps(pred, y), theirs(f"crps_{name}", y, loc, scale))
    same(metrics.log_score(pred, y), theirs(f"logs_{name}", y, loc, scale))


def test_logistic_near_its_centre():
    loc, scale, y = parameters()
    pred = quiet(dist.Logistic)(loc, scale)
    same(metrics.crps(pred, y), theirs("crps_logistic", y, loc, scale))
    same(metrics.log_score(pred, y), theirs("logs_logistic", y, loc, scale))


def test_student_t_of_few_degrees_of_freedom():
    loc, scale, y = parameters()
    df = np.random.default_rng(1).uniform(2.5, 60, SIZE)
    pred = quiet(dist.StudentT)(df, loc, scale)
    same(metrics.crps(pred, y), theirs("crps_t", y, df, loc, scale))
    same(metrics.log_score(pred, y), theirs("logs_t", y, df, loc, scale))


def test_positive_families():
    rng = np.random.default_rng(2)
    shape, rate, y = rng.uniform(0.8, 9, SIZE), rng.uniform(0.2, 3, SIZE), rng.gamma(3.0, 2.0, SIZE)
    same(metrics.crps(quiet(dist.Gamma)(shape, rate), y), theirs("crps_gamma", y, shape, rate))
    same(metrics.log_score(quiet(dist.Gamma)(shape, rate), y), theirs("logs_gamma", y, shape, rate))
    same(metrics.crps(quiet(dist.Exponential)(rate), y), theirs("crps_exponential", y, rate))
    mean, scale = rng.normal(1, 0.5, SIZE), rng.uniform(0.2, 1.2, SIZE)
    same(metrics.crps(quiet(dist.LogNormal)(mean, scale), y), theirs("crps_lognormal", y, mean, scale))
    same(metrics.log_score(quiet(dist.LogNormal)(mean, scale), y), theirs("logs_lognormal", y, mean, scale))


def test_beta_inside_its_support():
    rng = np.random.default_rng(3)
    a, b, y = rng.uniform(0.7, 6, SIZE), rng.uniform(0.7, 6, SIZE), rng.uniform(0.02, 0.98, SIZE)
    same(metrics.crps(quiet(dist.Beta)(a, b), y), theirs("crps_beta", y, a, b))
    same(metrics.log_score(quiet(dist.Beta)(a, b), y), theirs("logs_beta", y, a, b))


def test_counts_of_small_mean():
    rng = np.random.default_rng(4)
    mean, y = rng.uniform(0.3, 20, SIZE), rng.poisson(8, SIZE).astype(float)
    same(metrics.crps(quiet(dist.Poisson)(mean), y), theirs("crps_poisson", y, mean))
    same(metrics.log_score(quiet(dist.Poisson)(mean), y), theirs("logs_poisson", y, mean))
    size = rng.uniform(1, 8, SIZE)
    pred = quiet(dist.NegativeBinomial2)(mean, size)
    want = theirs("crps_negbinom", y, size, size / (size + mean))
    np.testing.assert_allclose(metrics.crps(pred, y), want, rtol=1e-6)
    same(metrics.log_score(pred, y), theirs("logs_negbinom", y, size, size / (size + mean)))


def test_draws():
    rng = np.random.default_rng(5)
    draws, y = np.round(30 + 4 * rng.normal(size=(8, SIZE)), 1), np.round(30 + 4 * rng.normal(size=SIZE), 1)
    for ours, name in (("empirical", "nrg"), ("fair", "fair"), ("empirical", "qd"), ("fair", "pwm")):
        same(metrics.crps_ensemble(draws, y, estimator=ours), theirs("crps_ensemble", y, draws.T, estimator=name))
    same(metrics.dawid_sebastiani(draws, y), theirs("dssuv_ensemble", y, draws.T, bias=True))
    vectors, outcomes = draws.reshape(8, 10, 4), y.reshape(10, 4)
    moved = np.moveaxis(vectors, 0, 1)
    for ours, name in (("empirical", "nrg"), ("fair", "fair")):
        same(
            metrics.energy_score(vectors, outcomes, estimator=ours),
            theirs("es_ensemble", outcomes, moved, estimator=name),
        )
        want = theirs("vs_ensemble", outcomes, moved, p=0.5, estimator=name)
        same(metrics.variogram_score(vectors, outcomes, estimator=ours), want)
    want = theirs("twcrps_ensemble", y, draws.T, a=28.0, b=33.0, estimator="nrg")
    same(metrics.threshold_weighted_crps(draws, y, lower=28.0, upper=33.0), want)


def test_quantiles_intervals_and_classes():
    loc, scale, y = parameters()
    law = stats.norm(loc, scale)
    low, high = law.ppf(0.1), law.ppf(0.9)
    same(metrics.interval_score(low, high, y, level=0.8), theirs("interval_score", y, low, high, 0.2))
    same(metrics.quantile_score(low, y, level=0.1), theirs("quantile_score", y, low, 0.1))
    levels = np.arange(1, 10) / 10  # equally spaced
    quantiles = law.ppf(levels[:, None])
    same(2 * metrics.quantile_score(quantiles, y, level=levels), theirs("crps_quantile", y, quantiles.T, levels))
    rng = np.random.default_rng(6)
    probs, labels = rng.dirichlet([1.0, 0.4, 2.0], SIZE), rng.integers(0, 3, SIZE)
    same(metrics.ranked_probability_score(probs, labels), theirs("rps_score", labels + 1, probs))
    happened = (labels == 0).astype(int)
    same(metrics.brier_score(probs[:, 0], happened), theirs("brier_score", happened, probs[:, 0]))


def test_mixtures_of_normals():
    rng = np.random.default_rng(7)
    loc, scale = 30 + 5 * rng.normal(size=(SIZE, 3)), rng.uniform(0.5, 6, (SIZE, 3))
    weight, y = rng.dirichlet(np.ones(3), SIZE), 30 + 8 * rng.normal(size=SIZE)
    pred = dist.MixtureSameFamily(
        dist.Categorical(probs=weight.astype(np.float32), validate_args=False),
        dist.Normal(loc.astype(np.float32), scale.astype(np.float32), validate_args=False),
        validate_args=False,
    )
    np.testing.assert_allclose(metrics.crps(pred, y), theirs("crps_mixnorm", y, loc, scale, weight), rtol=2e-5)


# Where it differs


def definition(law, y):
    """∫ (F − 1{t ≥ y})² dt, between the quantiles that matter."""
    low, high = min(law.ppf(1e-14), y), max(law.isf(1e-14), y)
    cuts = np.unique(np.clip(law.ppf([1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999]), low, high))
    below = integrate.quad(lambda t: law.cdf(t) ** 2, low, y, limit=400, points=[c for c in cuts if low < c < y])[0]
    return (
        below
        + integrate.quad(lambda t: law.sf(t) ** 2, y, high, limit=400, points=[c for c in cuts if y < c < high])[0]
    )


def test_we_differ_from_its_weighted_interval_score():
    """The median itself takes the place of its distance from the outcome."""
    arrays = [np.array([value]) for value in (10.0, 10.0)]
    found = theirs("weighted_interval_score", *arrays, np.array([[9.0]]), np.array([[11.0]]), np.array([0.5]))
    right = (0.5 * abs(10 - 10) + 0.25 * (11 - 9)) / 1.5
    assert float(metrics.weighted_interval_score([[9.0], [10.0], [11.0]], [10.0], level=[0.25, 0.5, 0.75])[0]) == right
    assert abs(float(np.squeeze(found)) - right) > 3


@pytest.mark.filterwarnings("ignore")
def test_we_differ_from_its_poisson_score_at_large_means():
    k = np.arange(600)
    right = np.square(stats.poisson(200.0).cdf(k) - (k >= 200)).sum()
    assert np.isnan(theirs("crps_poisson", 200.0, 200.0))
    assert float(metrics.crps(stats.poisson(200.0), 200.0)) == pytest.approx(right, rel=1e-10)


@pytest.mark.filterwarnings("ignore")
def test_we_differ_from_its_logarithms_of_densities():
    mixture = -special.logsumexp(stats.norm.logpdf([50.0, 49.0]), b=[0.5, 0.5])
    cases = [
        (theirs("logs_normal", 40.0, 0.0, 1.0), metrics.log_score(stats.norm(0, 1), 40.0), -stats.norm.logpdf(40)),
        (theirs("logs_gamma", 200.0, 200.0, 1.0), metrics.log_score(stats.gamma(200.0), 200.0), None),
        (theirs("logs_poisson", 200.0, 200.0), metrics.log_score(stats.poisson(200.0), 200.0), None),
        (
            theirs("logs_mixnorm", np.array([50.0]), np.array([[0.0, 1.0]]), np.array([[1.0, 1.0]])),
            metrics.log_score(
                dist.MixtureSameFamily(
                    dist.Categorical(probs=np.float32([[0.5, 0.5]]), validate_args=False),
                    dist.Normal(np.float32([[0.0, 1.0]]), np.float32([[1.0, 1.0]]), validate_args=False),
                    validate_args=False,
                ),
                np.array([50.0]),
            ),
            mixture,
        ),
    ]
    rights = [None, -stats.gamma(200.0).logpdf(200.0), -stats.poisson(200.0).logpmf(200.0), None]
    for (other, ours, right), more in zip(cases, rights, strict=True):
        assert not np.isfinite(other).any()
        np.testing.assert_allclose(np.squeeze(ours), right if more is None else more, rtol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_we_differ_from_its_logistic_score_far_below():
    assert np.isinf(theirs("crps_logistic", -800.0, 0.0, 1.0))
    assert float(metrics.crps(stats.logistic(0, 1), -800.0)) == pytest.approx(799.0, rel=1e-12)


@pytest.mark.filterwarnings("ignore")
def test_we_differ_from_its_truncated_normal_in_the_tails():
    def ours(y, low, high):
        one = np.ones(1)
        pred = dist.TruncatedNormal(0 * one, one, low=low * one, high=high * one, validate_args=False)
        return float(metrics.crps(pred, y * one)[0]), float(metrics.log_score(pred, y * one)[0])

    right = definition(stats.truncnorm(8.0, 10.0), 9.0)
    assert theirs("crps_tnormal", 9.0, 0.0, 1.0, 8.0, 10.0) == pytest.approx(9.003, abs=1e-3)
    assert ours(9.0, 8.0, 10.0)[0] == pytest.approx(right, rel=1e-5) and right == pytest.approx(0.818, abs=1e-3)
    assert np.isnan(theirs("crps_tnormal", 41.0, 0.0, 1.0, 40.0, 42.0))
    assert np.isnan(theirs("logs_tnormal", 41.0, 0.0, 1.0, 40.0, 42.0))
    law = stats.truncnorm(40.0, 42.0)
    assert ours(41.0, 40.0, 42.0) == pytest.approx((definition(law, 41.0), -law.logpdf(41.0)), rel=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_we_differ_from_its_scores_outside_the_support():
    assert np.isnan(theirs("crps_beta", -0.5, 2.0, 3.0)) and np.isnan(theirs("crps_lognormal", -0.5, 0.0, 1.0))
    for law in (stats.beta(2.0, 3.0), stats.lognorm(1.0)):
        assert float(metrics.crps(law, -0.5)) == pytest.approx(0.5 + definition(law, 0.0), rel=1e-6)


def test_we_differ_from_its_quantile_score_of_unequal_levels():
    levels = np.array([0.01, 0.05, 0.1, 0.5, 0.9, 0.95, 0.99])
    nodes, weight = np.polynomial.hermite_e.hermegauss(120)
    weight = weight / weight.sum()
    quantiles = stats.norm.ppf(levels)
    other = weight @ theirs("crps_quantile", nodes, np.tile(quantiles, (120, 1)), levels)
    ours = weight @ metrics.crps_quantile(np.tile(quantiles[:, None], (1, 120)), nodes, level=levels)
    right = weight @ metrics.crps(stats.norm(0, 1), nodes)
    assert right == pytest.approx(1 / np.sqrt(np.pi), rel=1e-2)
    assert abs(ours - right) < 0.15 * right < 0.25 * right < abs(other - right)


def test_we_differ_from_its_error_spread_score():
    rng = np.random.default_rng(8)
    draws, y = 30 + rng.gamma(2.0, 3.0, (10, 6)), 30 + rng.gamma(2.0, 3.0, 6)
    mean, spread = draws.mean(0), draws.std(0)
    right = (spread**2 - (mean - y) ** 2 - (mean - y) * spread * stats.skew(draws)) ** 2
    np.testing.assert_allclose(metrics.error_spread_score(draws, y), right, rtol=1e-10)
    assert (np.abs(theirs("error_spread_score", y, draws.T) - right) > 1e-3 * right).all()


def test_we_differ_from_its_hypergeometric_and_weighted_estimators():
    """A sum that ends early, and uniform weights that are not no weights: there is one answer, by definition."""
    law, k = stats.hypergeom(24, 20, 10), np.arange(30)
    right = np.square(law.cdf(k) - (k >= 5)).sum()
    assert theirs("crps_hypergeometric", 5.0, 20, 4, 10) == 0.0
    assert float(metrics.crps(law, 5.0)) == pytest.approx(right, rel=1e-9) and right > 2.8
    draws, y = np.random.default_rng(9).normal(size=(6, 3)), np.array([0.3, -1.0, 2.0])
    plain = theirs("crps_ensemble", y, draws.T, estimator="akr_circperm")
    weighted = theirs("crps_ensemble", y, draws.T, ens_w=np.ones((3, 6)), estimator="akr_circperm")
    assert (np.abs(plain - weighted) > 0.05).all()
    same(metrics.crps_ensemble(draws, y, member_weight=np.ones(6)), metrics.crps_ensemble(draws, y))


def test_we_differ_from_its_writing_into_what_it_is_given():
    y = np.array([1.0, 2.0])
    theirs("crps_exponentialM", y, 0.1, location=0.5)
    assert y.tolist() == [0.5, 1.5]
    y = np.array([1.0, 2.0])
    metrics.crps(stats.expon(0.5, 2.0), y), metrics.log_score(stats.expon(0.5, 2.0), y)
    assert y.tolist() == [1.0, 2.0]
