"""Student's t: from fat tails without a mean to nearly normal."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from uq import laws
from uq.laws import host

from .oracle import FrozenMixture
from .twins import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", ["student"])
def test_family(name, check):
    check(name)


def test_defect_09_student_t_scores_with_many_degrees_of_freedom():
    df = jnp.float32([1e4, 1e6])
    want = [FrozenMixture([stats.t(v)], [1.0]).crps(0.2) for v in (1e4, 1e6)]
    np.testing.assert_allclose(laws.crps(dist.StudentT(df, 0.0, 1.0), 0.2), want, rtol=1e-5)
    slope = jax.grad(lambda y: laws.crps(dist.StudentT(jnp.float32(5.0), 1.0, 2.0), y))(jnp.float32(1.0))
    assert float(slope) == 0.0
    slope = jax.grad(lambda v: laws.crps(dist.StudentT(v, 0.0, 1.0), jnp.float32(0.5)))(jnp.float32(5.0))
    assert np.isfinite(slope)


def test_student_t_without_a_mean():
    df = np.float32([0.45, 0.6, 0.97, 1.0, 1.03])
    d = dist.StudentT(df, np.float32(2.0), np.float32(3.0))
    scores = np.asarray(laws.crps(d, jnp.float32(4.0)))
    assert np.isinf(scores[0])
    for v, got, on_host in list(zip(df, scores, host.crps(d, 4.0), strict=True))[1:]:
        law = stats.t(float(v), 2.0, 3.0)
        far = law.isf(1e-10)
        rest = 2 * far * 1e-20 / (2 * float(v) - 1)  # of both tails, which are powers
        want = FrozenMixture([law], [1.0])._integral(
            lambda x, law=law: law.cdf(x) ** 2 if x < 4 else law.sf(x) ** 2,
            [4.0, *(s * law.isf(q) + 2 - 2 * s for s in (1, -1) for q in (0.3, 0.1, *np.logspace(-2, -10, 9)))],
        )
        np.testing.assert_allclose(on_host, want + rest, rtol=2e-4)
        np.testing.assert_allclose(got, on_host, rtol=1e-4)
    assert np.isinf(laws.moments(d)[0][3]) and np.isnan(laws.moments(d)[1][3])


def test_slopes_by_degrees_of_freedom_of_their_limit():
    """So many that the angle of the outcome has no digits left in float32: z⁴ / (4 df²) far out, and never NaN."""
    for df in (1e8, 1e9, 1e12, 1e20, 1e30):
        slope = jax.grad(lambda v: laws.log_sf(dist.StudentT(v, 0.0, 1.0), jnp.float32(40.0)))(jnp.float32(df))
        assert float(slope) == pytest.approx(-(40.0**4) / 4 / df**2, rel=0.02, abs=1e-37)
        slopes = jax.grad(lambda v: laws.crps(dist.StudentT(v, 0.0, 1.0), jnp.float32([-40.0, 0.0, 3.0])).sum())
        assert np.isfinite(slopes(jnp.float32(df)))
