"""Mixtures of normals against brute-force integration, and of other families against the oracle of frozen laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from tests.metrics.oracle import Mixture
from uq import laws
from uq.laws import host

from .oracle import FrozenMixture

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


# Other families, with components of very different width and a dead one


def column(values):
    """Components that are the same for two examples."""
    return np.repeat(np.asarray(values, np.float32)[:, None], 2, 1)


def each(kind, *parameters):
    return [kind(*values) for values in zip(*(np.asarray(np.float32(p), np.float64) for p in parameters), strict=True)]


LOCS, SCALES = [0.0, 3.0, 0.5], [1.0, 0.05, 2.0]
SHARES = np.float32([0.5, 0.2, 0.3])
FAMILIES = {
    "student": (dist.StudentT, ([1.5, 3.0, 30.0], LOCS, SCALES), stats.t),
    "laplace": (dist.Laplace, (LOCS, [1.0, 1.01, 2.0]), stats.laplace),
    "logistic": (dist.Logistic, (LOCS, SCALES), stats.logistic),
    "log-normal": (dist.LogNormal, ([0.0, 1.0, 0.5], [1.0, 0.05, 0.5]), lambda m, s: stats.lognorm(s, scale=np.exp(m))),
    "weibull": (dist.Weibull, ([1.0, 3.0, 0.5], [0.9, 30.0, 2.0]), lambda s, k: stats.weibull_min(k, scale=s)),
    "exponential": (dist.Exponential, ([0.5, 30.0, 2.0],), lambda rate: stats.expon(scale=1 / rate)),
    "poisson": (dist.Poisson, ([3.0, 400.0, 30.0],), stats.poisson),
}

HEAVY = ("student", "poisson")  # to compile


@functools.cache
def others(name):
    """One program: scores, quantiles, entropy of a mixture whose last component is dead and NaN; and the oracle."""
    kind, parameters, twin = FAMILIES[name]
    exact = FrozenMixture(each(twin, *parameters), SHARES)
    dead = [np.concatenate([column(p), np.full((1, 2), np.nan, np.float32)]) for p in parameters]
    weight = np.float32([*SHARES, 0.0])
    y = np.float32([0.3, 2.9]) if name != "poisson" else np.float32([2.0, 31.0])
    levels = np.float32([1e-5, 0.03, 0.77, 0.999])

    @jax.jit
    def everything(parameters, y):
        d = kind(*parameters, validate_args=False)
        slope = jax.grad(
            lambda p: (
                laws.mixture_crps(kind(*p, validate_args=False), weight[:3], y).sum()
                + laws.mixture_icdf(kind(*p, validate_args=False), weight[:3], levels[2]).sum()
            )
        )
        return {
            "crps": laws.mixture_crps(d, weight, y),
            "cdf": laws.mixture_cdf(d, weight, y),
            "log_sf": laws.mixture_log_sf(d, weight, y),
            "quantiles": laws.mixture_icdf(d, weight, levels[:, None]),
            "entropy": laws.mixture_entropy(d, weight),
            "slopes": None if name in HEAVY else slope(tuple(leaf[:3] for leaf in parameters)),
        }

    found = jax.tree.map(np.asarray, everything(tuple(dead), y))
    d = kind(*(np.nan_to_num(leaf.astype(np.float64), nan=7.0) for leaf in dead), validate_args=False)
    return found, exact, d, weight, y.astype(np.float64), levels.astype(np.float64)


@pytest.mark.parametrize("name", FAMILIES)
def test_mixtures_of_other_families(name):
    found, exact, d, weight, y, levels = others(name)
    whole = name == "poisson"
    crps = [exact.whole_crps(v) if whole else exact.crps(v) for v in y]
    np.testing.assert_allclose(found["crps"], crps, rtol=1e-5)
    np.testing.assert_allclose(host.mixture_crps(d, weight, y), crps, rtol=1e-6)
    np.testing.assert_allclose(found["cdf"], exact.cdf(y), rtol=1e-5)
    np.testing.assert_allclose(host.mixture_cdf(d, weight, y), exact.cdf(y), rtol=1e-6)
    np.testing.assert_allclose(found["log_sf"], np.log(exact.sf(y)), rtol=1e-5)
    want = [exact.whole_quantile(q) if whole else exact.quantile(q) for q in levels]
    on_host = host.mixture_icdf(d, weight, levels[:, None])[:, 0]
    if whole:
        np.testing.assert_array_equal(found["quantiles"][:, 0], want)
        np.testing.assert_array_equal(on_host, want)
    else:
        np.testing.assert_allclose(found["quantiles"][:, 0], want, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(on_host, want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
def test_entropy_of_mixtures_of_other_families(name):
    found, exact, d, weight, _, _ = others(name)
    want = exact.whole_entropy() if name == "poisson" else exact.entropy()
    np.testing.assert_allclose(found["entropy"], want, atol=1e-4)
    np.testing.assert_allclose(host.mixture_entropy(d, weight), want, atol=2e-5)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in HEAVY])
def test_gradients_of_mixtures_by_parameters(name):
    found, _, d, weight, y, levels = others(name)
    kind = FAMILIES[name][0]
    names = {"weibull": ("scale", "concentration"), "exponential": ("rate",)}.get(name, ("loc", "scale"))
    values = [np.asarray(getattr(d, n), np.float64)[:3] for n in names]
    for k in range(len(names)):
        assert np.isfinite(found["slopes"][k]).all()
        for component in range(3):

            def total(sign, k=k, component=component):
                moved = [v.copy() for v in values]
                moved[k][component] += sign * 1e-4
                law = kind(*moved, validate_args=False)
                return host.mixture_crps(law, weight[:3], y) + host.mixture_icdf(law, weight[:3], levels[2])

            want = (total(1) - total(-1)) / 2e-4
            np.testing.assert_allclose(found["slopes"][k][component], want, rtol=3e-3, atol=3e-3)


def test_mixture_of_one_and_of_equal_components_is_the_component():
    single = dist.Logistic(np.float32([[1.0, 2.0]]), np.float32([[2.0, 0.5]]))
    many = dist.Logistic(np.float32([[1.0, 2.0]] * 3), np.float32([[2.0, 0.5]] * 3))
    y, weight = np.float32([0.3, 4.0]), np.float32([0.2, 0.3, 0.5])
    alone = laws.crps(dist.Logistic(np.float32([1.0, 2.0]), np.float32([2.0, 0.5])), y)
    np.testing.assert_allclose(laws.mixture_crps(single, np.float32([1.0]), y), alone, rtol=1e-6)
    np.testing.assert_allclose(laws.mixture_crps(many, weight, y), alone, rtol=1e-5)
    np.testing.assert_allclose(laws.mixture_entropy(many, weight), 2 + np.log([2.0, 0.5]), rtol=1e-5, atol=1e-5)


def test_weights_of_its_own_for_each_example():
    d = dist.Laplace(np.float32([[0.0, 0.0], [3.0, 3.0]]), np.float32([[1.0, 1.0], [2.0, 2.0]]))
    weight, y = np.float32([[0.2, 0.9], [0.8, 0.1]]), np.float32([1.0, 1.0])
    got = laws.mixture_crps(d, weight, y)
    for n in range(2):
        alone = dist.Laplace(d.loc[:, n : n + 1], d.scale[:, n : n + 1])
        np.testing.assert_allclose(got[n], laws.mixture_crps(alone, weight[:, n], y[n : n + 1])[0], rtol=1e-6)
        np.testing.assert_allclose(host.mixture_crps(d, weight, y)[n], got[n], rtol=1e-5)


def test_numpyro_mixtures_are_distributions_like_others():
    mixing = dist.Categorical(probs=np.float32([[0.3, 0.7], [0.5, 0.5]]))
    law = dist.MixtureSameFamily(mixing, dist.Normal(np.float32([[0.0, 2.0], [1.0, 5.0]]), np.float32([[1.0, 0.5]])))
    y = np.float32([0.4, 3.0])
    for n, weights in enumerate(([0.3, 0.7], [0.5, 0.5])):
        exact = Mixture([[0.0, 2.0], [1.0, 5.0]][n], [1.0, 0.5], weights)
        for module in (laws, host):
            np.testing.assert_allclose(module.crps(law, y)[n], exact.crps(float(y[n])), rtol=1e-5)
            np.testing.assert_allclose(module.cdf(law, y)[n], exact.cdf(float(y[n])), rtol=1e-5)
            np.testing.assert_allclose(module.icdf(law, 0.9)[n], exact.quantile(0.9), rtol=1e-5)
            np.testing.assert_allclose(module.entropy(law)[n], exact.entropy(), rtol=1e-4)
            np.testing.assert_allclose(module.moments(law)[1][n], exact.moment(2, about=exact.moment(1)), rtol=1e-5)
            np.testing.assert_allclose(module.log_prob(law, y)[n], exact.log_pdf(float(y[n])), rtol=1e-5)


def test_a_wide_range_is_searched_by_size():
    # Between 1e-3 and 1e30, halving the distance would never get to the small one.
    d = dist.LogNormal(np.float32([[-7.0], [69.0]]), np.float32([[0.5], [0.5]]))
    got = laws.mixture_icdf(d, np.float32([0.9, 0.1]), np.float32(0.45))
    np.testing.assert_allclose(got, np.exp(-7.0), rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    locs=st.lists(st.floats(-50, 50), min_size=2, max_size=2),
    scales=st.lists(st.floats(0.05, 20), min_size=2, max_size=2),
    share=st.floats(0.01, 0.99),
    level=st.floats(0.001, 0.999),
)
def test_quantiles_lie_between_those_of_components_and_invert_the_cdf(locs, scales, share, level):
    d = dist.Laplace(np.array(locs), np.array(scales))
    weight = np.array([share, 1 - share])
    got = host.mixture_icdf(d, weight, level)
    ends = stats.laplace(locs, scales).ppf(level)
    assert ends.min() - 1e-9 <= got <= ends.max() + 1e-9
    np.testing.assert_allclose(host.mixture_cdf(d, weight, got), level, rtol=1e-9)


def test_diversity_is_not_negative_and_free_of_the_outcome():
    # Score of the mixture = mean score of the components − diversity.
    d = dist.Gumbel(np.float32([[0.0], [4.0], [1.0]]), np.float32([[1.0], [0.3], [2.0]]))
    gaps = []
    for y in np.float32([-3.0, 0.5, 20.0]):
        mean = laws.mixture_mean(laws.crps(d, y), SHARES)
        gaps.append(float((mean - laws.mixture_crps(d, SHARES, y))[0]))
    assert min(gaps) > 0
    np.testing.assert_allclose(gaps, gaps[0], rtol=1e-4)


# Outcomes above 0 whose quantiles lie decades apart

STEEP = {
    "gamma": ([0.25, 3.0], [1.0, 0.2], [0.4, 0.6]),
    "beta": ([0.3, 2.0], [0.5, 3.0], [0.5, 0.5]),
    "beta at an end": ([0.1, 5.0], [0.2, 5.0], [0.3, 0.7]),
    "beta, one of them nearly all": ([30.0, 3.0], [0.4, 0.7], [1e-8, 1 - 1e-8]),
}


@pytest.mark.parametrize("name", STEEP)
def test_entropy_of_mixtures_whose_densities_rise_without_limit(name):
    one, two, weight = (np.array(part) for part in STEEP[name])
    kind = dist.Beta if "beta" in name else dist.Gamma
    s = np.linspace(-700, 700, 1_400_001)  # log y, or its log-odds
    if kind is dist.Beta:
        log_y, log_rest = -np.logaddexp(0, -s), -np.logaddexp(0, s)
        each = [(a - 1) * log_y + (b - 1) * log_rest - special.betaln(a, b) for a, b in zip(one, two, strict=True)]
        slope = log_y + log_rest
    else:
        s = s[s < 9]
        each = [a * np.log(b) + (a - 1) * s - b * np.exp(s) - special.gammaln(a) for a, b in zip(one, two, strict=True)]
        slope = s
    log_density = special.logsumexp(each, axis=0, b=weight[:, None])
    want = -np.trapezoid(np.exp(log_density + slope) * log_density, s)
    single_precision = kind(*(part.astype(np.float32) for part in (one, two)))
    assert float(laws.mixture_entropy(single_precision, weight.astype(np.float32))) == pytest.approx(want, abs=3e-5)
    assert float(host.mixture_entropy(kind(one, two), weight)) == pytest.approx(want, abs=2e-6)


def test_wide_log_normals():
    """The mean is by far larger than the score, and beyond float32 for the last: nothing cancels, nothing overflows."""
    loc, scale, y = np.float32([0, 0, -60, 0]), np.float32([6, 8, 14, 13.5]), np.float32([1, 1e4, 1, 2])
    z = (np.log(y.astype(float)) - loc) / scale
    half = loc + scale.astype(float) ** 2 / 2 + np.log(2)
    want = y * special.erf(z / np.sqrt(2)) + np.exp(half + special.log_ndtr(-scale / np.sqrt(2)))
    want = want - np.exp(half + special.log_ndtr(z - scale))
    d = dist.LogNormal(loc, scale)
    np.testing.assert_allclose(laws.crps(d, y), want, rtol=3e-5)
    np.testing.assert_allclose(host.crps(d, y), want, rtol=1e-9)
    assert FrozenMixture([stats.lognorm(6.0)], [1.0]).crps(1.0) == pytest.approx(want[0], rel=1e-4)
    grads = jax.grad(lambda loc, scale: laws.crps(dist.LogNormal(loc, scale), y).sum(), (0, 1))(loc, scale)
    assert np.isfinite(grads).all()
    np.testing.assert_allclose(laws.moments(dist.LogNormal(np.float32(-100), np.float32(10)))[1], 1.0, rtol=1e-5)


def test_mixtures_of_wide_log_normals():
    locs, scales = np.array([0.0, 1.0]), np.array([8.0, 6.0])
    t = np.linspace(-100, 100, 200_001)
    below, above = (
        0.5 * sum(special.ndtr(s * (t - m) / v) for m, v in zip(locs, scales, strict=True)) for s in (1, -1)
    )
    want = np.trapezoid(np.exp(t) * np.where(t < 0, below, above) ** 2, t)
    half = np.float32([0.5, 0.5])
    got = laws.mixture_crps(dist.LogNormal(locs.astype(np.float32), scales.astype(np.float32)), half, np.float32(1))
    assert float(got) == pytest.approx(want, rel=2e-4)
    assert float(host.mixture_crps(dist.LogNormal(locs, scales), half, 1.0)) == pytest.approx(want, rel=1e-4)
