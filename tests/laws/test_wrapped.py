"""Distributions made of others: truncated, transformed, independent, censored, multivariate."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import uq
from uq import laws
from uq.laws import host

from .oracle import FrozenMixture
from .twins import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["truncated"])
def test_family(name, check):
    check(name)


def test_defect_08_truncated_normal_in_the_tails():
    d = dist.TruncatedNormal(0.0, 1.0, low=jnp.float32([8.0, 40.0]), high=jnp.float32([10.0, 42.0]))
    got = laws.crps(d, jnp.float32([9.0, 41.0]))
    want = [FrozenMixture([stats.truncnorm(a, a + 2)], [1.0]).crps(a + 1) for a in (8.0, 40.0)]
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert want[0] == pytest.approx(0.818, abs=1e-3)
    assert np.isfinite(laws.log_prob(d, jnp.float32([9.0, 41.0]))).all()


# What wraps other distributions


def test_transforms():
    base = dist.Laplace(np.float32(1.0), np.float32(2.0))
    flipped = dist.TransformedDistribution(base, dist.transforms.AffineTransform(np.float32(3.0), np.float32(-2.0)))
    y = np.float32([-30.0, -5.0, 1.0, 4.0])
    twin = stats.laplace(1.0, 4.0)
    np.testing.assert_allclose(laws.cdf(flipped, y), twin.cdf(y), rtol=1e-5)
    np.testing.assert_allclose(laws.crps(flipped, y), host.crps(twin, y), rtol=1e-5)
    np.testing.assert_allclose(host.crps(flipped, y), host.crps(twin, y), rtol=1e-9)
    np.testing.assert_allclose(laws.icdf(flipped, 0.03), twin.ppf(0.03), rtol=1e-5)
    np.testing.assert_allclose(laws.moments(flipped)[1], twin.var(), rtol=1e-5)
    np.testing.assert_allclose(laws.entropy(flipped), twin.entropy(), rtol=1e-5)


def test_exponentials_of_other_families():
    law = dist.TransformedDistribution(dist.Logistic(np.float32(1.0), np.float32(0.2)), dist.transforms.ExpTransform())
    twin = stats.fisk(1 / float(np.float32(0.2)), scale=np.e)
    y = np.float32([-2.0, 0.0, 0.5, 3.0, 50.0])
    np.testing.assert_allclose(laws.cdf(law, y), twin.cdf(y), rtol=2e-5, atol=1e-30)
    np.testing.assert_allclose(laws.log_prob(law, y[2:]), twin.logpdf(y[2:]), rtol=1e-5)
    np.testing.assert_allclose(laws.crps(law, y), [FrozenMixture([twin], [1.0]).crps(v) for v in y], rtol=1e-5)
    np.testing.assert_allclose(host.crps(law, y), [FrozenMixture([twin], [1.0]).crps(v) for v in y], rtol=1e-6)
    mean, variance = laws.moments(law)
    np.testing.assert_allclose([mean, variance], [twin.mean(), twin.var()], rtol=1e-3)


def test_moved_and_exponentiated_normals_keep_their_closed_forms():
    steps = [
        dist.transforms.AffineTransform(np.float32(1.0), np.float32(-0.5)),
        dist.transforms.ExpTransform(),
    ]
    law = dist.TransformedDistribution(dist.Normal(np.float32(0.4), np.float32(0.6)), steps)
    same = dist.LogNormal(np.float32(0.8), np.float32(0.3))
    np.testing.assert_allclose(laws.crps(law, 2.0), laws.crps(same, 2.0), rtol=1e-5)
    np.testing.assert_allclose(laws.moments(law), laws.moments(same), rtol=1e-5)


def test_wrappers():
    y = np.float32([0.5, 2.0])
    wide = dist.Normal(np.float32(0.0), np.float32(1.0)).expand([2])
    np.testing.assert_allclose(laws.crps(wide.to_event(1), y), host.crps(stats.norm(), y), rtol=1e-5)
    joint = dist.MultivariateNormal(np.float32([1.0, 2.0]), np.float32([[4.0, 1.0], [1.0, 9.0]]))
    np.testing.assert_allclose(laws.cdf(joint, y), stats.norm([1.0, 2.0], [2.0, 3.0]).cdf(y), rtol=1e-5)
    late = dist.RightCensoredDistribution(dist.Exponential(np.float32(0.5)), np.array([False, True]))
    np.testing.assert_allclose(laws.log_prob(late, y), [np.log(0.5) - 0.25, -1.0], rtol=1e-6)
    np.testing.assert_allclose(laws.cdf(late, y), stats.expon(scale=2.0).cdf(y), rtol=1e-6)


@pytest.mark.parametrize("kind", [dist.LeftCensoredDistribution, dist.RightCensoredDistribution])
@pytest.mark.parametrize("base", ["Normal", "Gumbel", "Exponential", "Poisson"])
def test_what_was_recorded_enters_the_density_and_nothing_else(kind, base):
    scale = np.float32([0.8, 1.5])
    make, twin = {
        "Normal": (lambda: dist.Normal(0 * scale, scale), stats.norm(0, scale)),
        "Gumbel": (lambda: dist.Gumbel(0 * scale, scale), stats.gumbel_r(0, scale)),
        "Exponential": (lambda: dist.Exponential(1 / scale), stats.expon(0, scale)),
        "Poisson": (lambda: dist.Poisson(scale), stats.poisson(scale)),
    }[base]
    marked = kind(make(), np.array([True, False]))
    y = np.array([1.0, 2.0])
    beyond = twin.logcdf if kind is dist.LeftCensoredDistribution else twin.logsf
    want = np.where([True, False], beyond(y), (twin.logpmf if base == "Poisson" else twin.logpdf)(y))
    for route in (laws, host):
        np.testing.assert_allclose(route.log_prob(marked, y), want, rtol=1e-5)
        np.testing.assert_allclose(route.entropy(marked), twin.entropy(), rtol=1e-4)
        np.testing.assert_allclose(route.moments(marked)[0], twin.mean(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(route.cdf(marked, y), twin.cdf(y), rtol=1e-5)
        both = [route.mixture_entropy(d, np.float32([0.4, 0.6])) for d in (marked, make())]
        np.testing.assert_allclose(both[0], both[1], rtol=1e-6)
    np.testing.assert_allclose(uq.metrics.log_score(marked, y), -want, rtol=1e-5)


def test_nothing_but_zeros():
    d = dist.ZeroInflatedPoisson(gate=np.float64([1.0, 0.3]), rate=np.float64([2.0, 3.0]))
    for tail in (1e-9, 0.3, 0.99):
        for upper in (False, True):
            assert host.tail(d, tail, upper)[0] == laws.tail(d, tail, upper)[0] == 0


def test_unknown_distributions_are_refused_in_a_sentence():
    with pytest.raises(uq.InputError, match=r"knows no family VonMises; it knows .*Normal"):
        laws.cdf(dist.VonMises(0.0, 1.0), 1.0)
    with pytest.raises(uq.InputError, match=r"strictly monotone"):
        laws.cdf(dist.TransformedDistribution(dist.Normal(0.0, 1.0), dist.transforms.AbsTransform()), 1.0)


SYMMETRIC = {"laplace": (dist.Laplace, stats.laplace), "logistic": (dist.Logistic, stats.logistic)}


@pytest.mark.parametrize("kind", SYMMETRIC)
def test_truncated_where_the_tail_is_no_number(kind):
    """Beyond about 100 scales float32 has no number for the tail, beyond 745 float64: there both are exponential."""
    make, _ = SYMMETRIC[kind]
    scale = 1.5
    cut = stats.truncexpon(b=1 / scale, loc=1000.0, scale=scale)  # on [1000, 1001]
    for low, high, twin in ((1000.0, 1001.0, cut), (1e4, 1e5, stats.expon(1e4, scale))):
        d = dist.TwoSidedTruncatedDistribution(
            make(np.float32(0.25), np.float32(scale)), np.float32(low), np.float32(high)
        )
        y = np.float32(low + 0.3)
        slack = 2e-3 if low > 5e3 else 2e-4  # what a unit in the last place of y is worth
        for route, tight in ((laws, slack), (host, 1e-5)):
            assert float(route.cdf(d, y)) == pytest.approx(twin.cdf(float(y)), rel=tight)
            assert float(route.log_prob(d, y)) == pytest.approx(twin.logpdf(float(y)), rel=tight)
            assert float(route.icdf(d, np.float32(0.3))) == pytest.approx(twin.ppf(np.float32(0.3)), abs=2 * tight)
            assert float(route.moments(d)[0]) == pytest.approx(twin.mean(), abs=0.01)
            assert float(route.entropy(d)) == pytest.approx(twin.entropy(), abs=2e-3)
            assert float(route.crps(d, y)) == pytest.approx(float(host.crps(twin, float(y))), rel=5e-3)


@pytest.mark.parametrize("kind", SYMMETRIC)
def test_gradients_of_truncated_laws_with_limits_far_away(kind):
    make, _ = SYMMETRIC[kind]

    def score(values):
        d = dist.TwoSidedTruncatedDistribution(make(values[0], values[1]), values[2], values[3], validate_args=False)
        return laws.crps(d, values[4])

    for low, high, y in ((-1e4, 2.0, 0.5), (1000.0, 1001.0, 1000.3)):
        assert np.isfinite(jax.grad(score)(jnp.array([0.25, 1.5, low, high, y], jnp.float32))).all()
