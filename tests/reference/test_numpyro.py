"""Where numpyro and jax lose digits in float32, or have no answer, `uq.laws` has the value of scipy in float64.

The differences are listed in docs/metrics/disagreements.md.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from uq import laws

ONE = jnp.ones(1)

CASES = {
    "StudentT": (lambda: dist.StudentT(1e5 * ONE, 0 * ONE, ONE), stats.t(1e5), 1.0),
    "NegativeBinomial": (
        lambda: dist.NegativeBinomial2(10 * ONE, 1e6 * ONE),
        stats.nbinom(1e6, 1e6 / (1e6 + 10)),
        10.0,
    ),
    "Beta": (lambda: dist.Beta(3e5 * ONE, 3e5 * ONE), stats.beta(3e5, 3e5), 0.5),
    "TruncatedNormal": (lambda: dist.TruncatedNormal(0.0, 1.0, low=8.0, high=10.0), stats.truncnorm(8, 10), 9.0),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_we_differ_from_its_log_densities_in_float32(name):
    make, law, y = CASES[name]
    right = law.logpmf(y) if hasattr(law.dist, "pmf") else law.logpdf(y)
    ours = np.asarray(laws.log_prob(make(), y * ONE)).item()
    with jax.numpy_dtype_promotion("standard"):
        theirs = np.asarray(make().log_prob(y * ONE)).item()
    assert ours == pytest.approx(right, rel=1e-5)
    assert not abs(theirs - right) < 1e-3 * abs(right)


def test_we_have_distribution_functions_and_quantiles_that_it_lacks():
    t = dist.StudentT(5 * ONE, 3 * ONE, 2 * ONE)
    with pytest.raises((ImportError, NotImplementedError)):
        t.icdf(0.9 * ONE)
    assert float(laws.icdf(t, 0.9)[0]) == pytest.approx(stats.t(5, 3, 2).ppf(0.9), rel=1e-5)
    mixture = dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.asarray([[0.3, 0.7]])), dist.Normal(jnp.asarray([[0.0, 9.0]]), jnp.ones((1, 2)))
    )
    with pytest.raises(NotImplementedError):
        mixture.icdf(0.9 * ONE)
    q = float(laws.icdf(mixture, 0.9)[0])
    assert 0.3 * stats.norm.cdf(q) + 0.7 * stats.norm.cdf(q - 9) == pytest.approx(0.9, abs=1e-6)


def test_we_differ_from_scipys_laplace_far_out():
    """Its log-density is the logarithm of a density that underflows at 745 scales."""
    with np.errstate(divide="ignore"):
        assert np.isneginf(stats.laplace(300.0, 1.0).logpdf(1100.0))
    for law in (stats.laplace(300.0, 1.0), dist.Laplace(np.float64(300.0), np.float64(1.0), validate_args=False)):
        assert float(laws.host.log_prob(law, 1100.0)) == pytest.approx(-800 - np.log(2), rel=1e-12)
