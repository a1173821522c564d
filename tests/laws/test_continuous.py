"""Families on the line and on its positive half against scipy, and laws that all of them obey."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uq import laws
from uq.laws import host

from .twins import CHECKS, NAMES

HERE = [name for name in NAMES if name not in ("student", "truncated")]  # which have files of their own


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", HERE)
def test_family(name, check):
    check(name)


def test_defect_14_outcomes_below_the_support_have_a_finite_crps():
    for law, y in ((dist.LogNormal(0.0, 1.0), -1.0), (dist.Gamma(2.0, 1.0), -3.0), (dist.Weibull(1.0, 2.0), -0.5)):
        zero = float(laws.crps(law, 0.0))
        np.testing.assert_allclose(laws.crps(law, y), zero - y, rtol=1e-5)


def test_defect_05_log_densities_far_out_are_finite():
    assert float(laws.log_prob(dist.Normal(0.0, 1.0), 40.0)) == pytest.approx(-800.9189)
    assert float(laws.log_prob(dist.Gamma(200.0, 1.0), 200.0)) == pytest.approx(stats.gamma.logpdf(200, 200), rel=1e-5)
    assert float(laws.log_cdf(dist.Logistic(0.0, 1.0), -300.0)) == pytest.approx(-300.0)


@pytest.mark.parametrize(
    ("law", "y", "want"),
    [
        (dist.HalfNormal(2.0), 1e-12, np.log(0.5e-12 * np.sqrt(2 / np.pi))),
        (dist.Weibull(1e5, 50.0), 1.0, -50 * np.log(1e5)),  # e^−575 underflows
        (dist.Weibull(1e5, 50.0), -2.0, -np.inf),
        (dist.Weibull(3.0, 0.5), 2e-6, stats.weibull_min.logcdf(2e-6, 0.5, scale=3.0)),
        (dist.Weibull(3.0, 0.5), 3e-6, stats.weibull_min.logcdf(3e-6, 0.5, scale=3.0)),
    ],
)
def test_lower_tails_of_positive_families_and_their_gradients(law, y, want):
    leaves, tree = jax.tree.flatten(law)

    def value(leaves, y):
        return laws.log_cdf(jax.tree.unflatten(tree, leaves), y)

    assert float(value(leaves, jnp.float32(y))) == pytest.approx(want, rel=1e-5)
    slopes = jax.grad(value, (0, 1))([jnp.float32(leaf) for leaf in leaves], jnp.float32(y))
    assert all(np.isfinite(slope) for slope in jax.tree.leaves(slopes))


def test_defect_07_logistic_score_far_out():
    np.testing.assert_allclose(laws.crps(dist.Logistic(0.0, 1.0), jnp.float32([-800.0, 800.0])), 799.0, rtol=1e-6)


def test_defect_10_nothing_given_is_changed():
    y = np.array([0.5, 2.0])
    kept = y.copy()
    for law in (stats.expon(loc=1.0), dist.Exponential(np.float64(2.0)), stats.norm(1.0, 2.0)):
        host.crps(law, y)
    np.testing.assert_array_equal(y, kept)


# Laws


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["normal", "student", "laplace", "logistic", "gumbel"]),
    level=st.floats(1e-4, 1 - 1e-4),
    shift=st.floats(-1e3, 1e3),
    factor=st.floats(1e-2, 1e2),
    z=st.floats(-15, 15),
)
def test_equivariance_and_inverses(name, level, shift, factor, z):
    kind, more = {
        "normal": (dist.Normal, ()), "student": (dist.StudentT, (np.float64(3.5),)), "laplace": (dist.Laplace, ()),
        "logistic": (dist.Logistic, ()), "gumbel": (dist.Gumbel, ()),
    }[name]  # fmt: skip
    base = kind(*more, np.float64(0.0), np.float64(1.0), validate_args=False)
    law = kind(*more, np.float64(shift), np.float64(factor), validate_args=False)
    y = shift + factor * z
    np.testing.assert_allclose(host.crps(law, y), factor * host.crps(base, z), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(host.log_prob(law, y), host.log_prob(base, z) - np.log(factor), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(host.cdf(law, host.icdf(law, level)), level, rtol=1e-7)
    np.testing.assert_allclose(host.cdf(law, y) + host.sf(law, y), 1.0, rtol=1e-12)
    assert host.cdf(law, y + factor) >= host.cdf(law, y)
