"""Outputs moved to other units say of loc + scale · Y what they said of Y."""

import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq.likelihoods._links import positive, raw_of

KINDS = {
    "gaussian": (uq.likelihoods.Gaussian(), 2),
    "shared variance": (uq.likelihoods.HomoscedasticGaussian(), 2),
    "student": (uq.likelihoods.StudentT(), 3),
    "student of 3": (uq.likelihoods.StudentT(3.0), 2),
    "laplace": (uq.likelihoods.Laplace(), 2),
    "mixture density": (uq.likelihoods.MixtureDensity(3), 9),
    "quantile": (uq.likelihoods.Quantile(), 11),
    "evidential": (uq.likelihoods.Evidential(), 4),
}
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("kind", KINDS)
def test_distribution_functions_agree(kind):
    likelihood, width = KINDS[kind]
    outputs = jnp.asarray(RNG.normal(size=(1, 5, width)), jnp.float32)
    loc, scale = jnp.float32(-3.0), jnp.float32(2.5)
    own = uq.Predictive(outputs, likelihood)
    moved = uq.Predictive(likelihood.moved(outputs, loc, scale), likelihood)
    for y in (-2.0, 0.1, 1.7):
        np.testing.assert_allclose(moved.cdf(-3 + 2.5 * y), own.cdf(y), rtol=2e-5, atol=1e-6)
    at = np.array([0.3, -1.0, 2.0, 0.0, 0.7])
    np.testing.assert_allclose(moved.log_prob(-3 + 2.5 * at), own.log_prob(at) - np.log(2.5), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("likelihood", [uq.likelihoods.Gaussian(2), uq.likelihoods.FullCovarianceGaussian(2)])
def test_several_outputs(likelihood):
    outputs = jnp.asarray(RNG.normal(size=(1, 5, likelihood.width)), jnp.float32)
    loc, scale = jnp.array([1.0, -20.0]), jnp.array([3.0, 1.5])
    own = uq.Predictive(outputs, likelihood)
    moved = uq.Predictive(likelihood.moved(outputs, loc, scale), likelihood)
    y = RNG.normal(size=(5, 2)).astype(np.float32)
    want = own.log_prob(y) - np.log(3.0 * 1.5)
    np.testing.assert_allclose(moved.log_prob(np.asarray(loc) + np.asarray(scale) * y), want, rtol=1e-4, atol=1e-4)


def test_amounts_and_limits():
    outputs, scale = jnp.asarray(RNG.normal(size=(1, 5, 2)), jnp.float32), jnp.float32(4.0)
    kind = uq.likelihoods.Gamma()
    own, moved = uq.Predictive(outputs, kind), uq.Predictive(kind.moved(outputs, 0, scale), kind)
    np.testing.assert_allclose(moved.mean, 4 * own.mean, rtol=1e-5)
    np.testing.assert_allclose(moved.cdf(8.0), own.cdf(2.0), rtol=1e-5)
    kind = uq.likelihoods.Censored(lower=0.0)
    own, moved = uq.Predictive(outputs, kind), uq.Predictive(kind.moved(outputs, 0, scale), kind)
    np.testing.assert_allclose(moved.cdf(0.0), own.cdf(0.0), rtol=1e-5)
    np.testing.assert_allclose(moved.cdf(4.0), own.cdf(1.0), rtol=1e-5)


def test_raw_of_is_the_inverse_of_positive():
    raw = jnp.array([-30.0, -5.0, 0.0, 5.0, 80.0, 1e4])
    np.testing.assert_allclose(positive(raw_of(positive(raw, 1e-3), 1e-3), 1e-3), positive(raw, 1e-3), rtol=1e-6)
    assert np.isfinite(raw_of(jnp.float32(1e-3), 1e-3))
