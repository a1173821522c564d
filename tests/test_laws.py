"""`uq.laws` against scipy for single components and brute-force integration for mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import uq
from tests.metrics.oracle import Mixture, entropy
from uq import laws

# Shifted, scaled, overlapping, far apart, of very different width: (locations, scales, weights).
MIXTURES = {
    "one": ([-300.0], [250.0], [1.0]),
    "overlapping": ([0.3, -0.2, 1.1], [1.0, 0.7, 1.4], [0.5, 0.2, 0.3]),
    "shifted": ([-301.0, -299.5], [0.8, 2.0], [0.1, 0.9]),
    "scaled": ([500.0, -250.0, 30.0], [250.0, 100.0, 400.0], [0.25, 0.25, 0.5]),
    "narrow": ([0.01, 0.03, -0.02], [0.01, 0.02, 0.005], [0.6, 0.3, 0.1]),
    "apart": ([-40.0, 40.0], [1.0, 2.0], [0.3, 0.7]),
    "spike": ([0.0, 0.5], [5.0, 0.05], [0.8, 0.2]),
}
LEVELS = [1e-5, 0.01, 0.2, 0.5, 0.77, 0.99]


def arrays(name):
    locs, scales, weights = MIXTURES[name]
    locs, scales, weights = (jnp.asarray(v, jnp.float32) for v in (locs, scales, weights))
    exact = Mixture(np.asarray(locs), np.asarray(scales), np.asarray(weights))
    return dist.Normal(locs, scales), weights, exact


def outcomes(exact):
    """In the middle, in both tails, and 15 standard deviations out."""
    spread = exact.scales.max()
    points = [exact.locs[0], exact.locs.mean() + 0.7 * spread, exact.locs.max() + 15 * spread]
    return np.float32([*points, exact.locs.min() - 15 * spread]).astype(np.float64)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1e4, 0.5), (-300.0, 250.0), (0.5, 0.01)])
def test_single_normal_matches_scipy(loc, scale):
    z = np.array([-15.0, -8.0, -2.0, 0.0, 0.5, 3.0, 8.0, 15.0])
    y = np.float32(loc + scale * z)
    twin = stats.norm(np.float64(np.float32(loc)), np.float64(np.float32(scale)))
    d, y64 = dist.Normal(jnp.float32(loc), jnp.float32(scale)), y.astype(np.float64)
    np.testing.assert_allclose(laws.cdf(d, y), twin.cdf(y64), rtol=3e-5, atol=1e-37)
    np.testing.assert_allclose(laws.sf(d, y), twin.sf(y64), rtol=3e-5, atol=1e-37)
    np.testing.assert_allclose(laws.log_cdf(d, y), twin.logcdf(y64), rtol=3e-5, atol=1e-37)
    levels = np.float32([1e-5, 0.1, 0.5, 0.9])
    np.testing.assert_allclose(laws.icdf(d, levels), twin.ppf(levels.astype(np.float64)), rtol=1e-5, atol=1e-4 * scale)
    closed = scale * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    tolerance = 2e-6 * abs(loc) + 1e-5 * scale
    np.testing.assert_allclose(laws.crps(d, y), closed, rtol=1e-5, atol=tolerance)
    np.testing.assert_allclose(laws.entropy(d), twin.entropy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_density_and_distribution_function(name):
    d, weight, exact = arrays(name)
    for y in outcomes(exact):
        got = laws.mixture_log_prob(d.log_prob(jnp.float32(y)), weight)
        np.testing.assert_allclose(got, exact.log_pdf(y), rtol=2e-5, atol=2e-5)
        np.testing.assert_allclose(laws.mixture_cdf(d, weight, jnp.float32(y)), exact.cdf(y), rtol=2e-5, atol=1e-37)


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_quantiles_match_brentq(name):
    d, weight, exact = arrays(name)
    for level in LEVELS:
        got = float(laws.mixture_icdf(d, weight, jnp.float32(level)))
        want = exact.quantile(float(np.float32(level)))
        np.testing.assert_allclose(got, want, rtol=3e-6, atol=3e-5 * exact.scales.max(), err_msg=str(level))
    # Close to 1, float32 keeps a level itself to 6e-8: the quantile is as exact as the level that came.
    for level in (1 - 1e-4, 1 - 1e-5):
        got = float(laws.mixture_icdf(d, weight, jnp.float32(level)))
        want = exact.quantile(float(np.float32(level)))
        np.testing.assert_allclose(got, want, rtol=3e-6, atol=1e-3 * exact.scales.max(), err_msg=str(level))


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_crps_matches_its_definition(name):
    d, weight, exact = arrays(name)
    for y in outcomes(exact):
        got = float(laws.mixture_crps(d, weight, jnp.float32(y)))
        size = max(abs(exact.locs).max(), abs(y), exact.scales.max())
        np.testing.assert_allclose(got, exact.crps(y), rtol=1e-5, atol=1e-6 * size)


@pytest.mark.parametrize("name", MIXTURES)
def test_mixture_entropy_matches_integration(name):
    locs, scales, weights = MIXTURES[name]
    d = dist.Normal(jnp.asarray(locs, jnp.float32)[:, None], jnp.asarray(scales, jnp.float32)[:, None])
    got = laws.mixture_entropy(d, jnp.asarray(weights, jnp.float32))
    _, _, exact = arrays(name)
    np.testing.assert_allclose(got[0], exact.entropy(), rtol=1e-5, atol=1e-5)


def test_moments_by_integration():
    d, weight, exact = arrays("scaled")
    means, variances = laws.moments(d)
    mean = exact.moment(1)
    np.testing.assert_allclose(laws.mixture_mean(means, weight), mean, rtol=1e-5)
    total = laws.mixture_mean(variances, weight) + laws.mixture_variance(means, weight)
    np.testing.assert_allclose(total, exact.moment(2, about=mean), rtol=1e-5)


def test_variance_is_two_pass():
    # E[x²] − E[x]² in float32 is off by thousands here.
    means = jnp.float32([1e4 + 0.01, 1e4 - 0.01, 1e4])
    weight = jnp.full(3, 1 / 3, jnp.float32)
    exact = np.asarray(means, np.float64).var()
    np.testing.assert_allclose(laws.mixture_variance(means, weight), exact, rtol=1e-3)


@pytest.mark.parametrize("level", [1e-5, 0.05, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("name", ["overlapping", "shifted", "scaled", "narrow"])
def test_gradients_of_quantiles(name, level):
    d, weight, exact = arrays(name)
    level = float(np.float32(level))
    slope_loc, slope_scale = jax.grad(lambda m, s: laws.mixture_icdf(dist.Normal(m, s), weight, level), (0, 1))(
        d.loc, d.scale
    )
    for i in range(len(exact.locs)):
        step = 1e-5 * exact.scales[i]
        for got, field in ((slope_loc[i], "locs"), (slope_scale[i], "scales")):
            ends = []
            for sign in (1, -1):
                moved = Mixture(exact.locs, exact.scales, exact.weights)
                setattr(moved, field, getattr(exact, field).copy())
                getattr(moved, field)[i] += sign * step
                ends.append(moved.quantile(level))
            np.testing.assert_allclose(got, (ends[0] - ends[1]) / (2 * step), rtol=3e-3, atol=3e-3)
    slope = jax.grad(lambda q: laws.mixture_icdf(d, weight, q))(jnp.float32(level))
    np.testing.assert_allclose(slope, 1 / exact.pdf(exact.quantile(level)), rtol=5e-3)


@pytest.mark.parametrize("function", [laws.mixture_crps, laws.mixture_cdf])
@pytest.mark.parametrize("z", [-15.0, 0.0, 0.3, 15.0])
def test_gradients_are_finite_and_right(function, z):
    d, weight, exact = arrays("overlapping")
    y = jnp.float32(exact.locs[0] + z)
    slope = jax.grad(lambda y: function(d, weight, y))(y)
    # d CRPS / dy = 2 F(y) − 1, and d F / dy is the density.
    want = 2 * exact.cdf(float(y)) - 1 if function is laws.mixture_crps else exact.pdf(float(y))
    np.testing.assert_allclose(slope, want, rtol=1e-4, atol=1e-6)
    for leaf in jax.grad(lambda m, s: function(dist.Normal(m, s), weight, y), (0, 1))(d.loc, d.scale):
        assert np.isfinite(leaf).all()


def test_coincident_components_have_finite_gradients():
    weight = jnp.full(2, 0.5, jnp.float32)
    for function in (
        laws.mixture_crps,
        laws.mixture_cdf,
        lambda d, w, y: laws.mixture_icdf(d, w, jnp.float32(0.4)),
    ):
        slopes = jax.grad(lambda m, s, f=function: f(dist.Normal(m, s), weight, jnp.float32(2.0)), (0, 1))(
            jnp.float32([2.0, 2.0]), jnp.float32([1.0, 1.0])
        )
        assert all(np.isfinite(slope).all() for slope in slopes)


def test_quantile_in_a_gap_without_density():
    # Two points 2,000 standard deviations apart; half the mass below: any point between is a median.
    d, weight = dist.Normal(jnp.float32([0.0, 20.0]), jnp.float32([0.01, 0.01])), jnp.float32([0.5, 0.5])
    assert 0.0 < float(laws.mixture_icdf(d, weight, jnp.float32(0.5))) < 20.0
    np.testing.assert_allclose(laws.mixture_icdf(d, weight, jnp.float32(0.25)), 0.0, atol=1e-5)
    np.testing.assert_allclose(laws.mixture_icdf(d, weight, jnp.float32(0.75)), 20.0, atol=1e-5)
    slope = jax.grad(lambda m: laws.mixture_icdf(dist.Normal(m, d.scale), weight, jnp.float32(0.5)))(d.loc)
    assert np.isfinite(slope).all()


def test_class_probabilities_and_entropy():
    logits = np.float32([[1.0, -2.0, 0.5], [40.0, -40.0, 0.0], [1e4, -1e4, 0.0]])
    exact = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    exact /= exact.sum(1, keepdims=True)
    probs = laws.class_probs(dist.Categorical(logits=jnp.asarray(logits)))
    np.testing.assert_allclose(probs, exact, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(laws.class_entropy(probs), [entropy(p) for p in exact], rtol=1e-4, atol=1e-7)
    given = laws.class_probs(dist.Categorical(probs=jnp.asarray(exact, jnp.float32)))
    np.testing.assert_allclose(given, exact, rtol=1e-5, atol=1e-30)

    logit = np.float32([-90.0, -1.0, 0.0, 20.0])
    both = laws.class_probs(dist.Bernoulli(logits=jnp.asarray(logit)))
    want = 1 / (1 + np.exp(-logit.astype(np.float64)))
    np.testing.assert_allclose(both[:, 1], want, rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(both[:, 0], 1 / (1 + np.exp(logit.astype(np.float64))), rtol=1e-5)
    means, variances = laws.moments(dist.Categorical(logits=jnp.asarray(logits)))
    np.testing.assert_allclose(variances, exact * (1 - exact), atol=1e-6)
    np.testing.assert_allclose(means, exact, atol=1e-6)


def test_gradient_of_entropy_is_finite_at_certainty():
    slope = jax.grad(lambda p: laws.class_entropy(p))(jnp.float32([1.0, 0.0, 0.0]))
    assert np.isfinite(slope).all()


def test_other_distributions_are_refused_in_a_sentence():
    with pytest.raises(uq.InputError, match=r"known for Normal distributions, but got Gamma"):
        laws.cdf(dist.Gamma(2.0, 1.0), 1.0)
    with pytest.raises(uq.InputError, match=r"categorical or Bernoulli distribution, but got Normal"):
        laws.class_probs(dist.Normal(0.0, 1.0))
