"""Joint calibration of several outputs, against scipy, loops and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import spatial, stats

import uq
from uq.metrics.multivariate import anees, mahalanobis, multivariate_coverage, multivariate_pit
from uq.metrics.pit_tests import pit_test

COVARIANCE = np.array([[4.0, 2.5, 0.0], [2.5, 9.0, -1.0], [0.0, -1.0, 0.25]])
RANKS = ("average", "band-depth", "energy")


def outcomes(size, seed=0, stretch=1.0):
    rng = np.random.default_rng(seed)
    mean = rng.normal([100.0, -20.0, 3.0], 5.0, (size, 3))
    factor = np.linalg.cholesky(COVARIANCE)
    return mean, mean + stretch * rng.normal(size=(size, 3)) @ factor.T, factor, rng


def test_mahalanobis_of_a_normal():
    mean, y, factor, _ = outcomes(40)
    want = [spatial.distance.mahalanobis(a, b, np.linalg.inv(COVARIANCE)) ** 2 for a, b in zip(y, mean, strict=True)]
    normal = dist.MultivariateNormal(jnp.asarray(mean, jnp.float32), scale_tril=jnp.asarray(factor, jnp.float32))
    np.testing.assert_allclose(mahalanobis(normal, jnp.asarray(y, jnp.float32)), want, rtol=1e-3)
    jitted = jax.jit(lambda d, y: mahalanobis(d, y))(normal, jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(jitted, want, rtol=1e-3)
    one = stats.multivariate_normal(mean[0], COVARIANCE)
    want = [spatial.distance.mahalanobis(a, mean[0], np.linalg.inv(COVARIANCE)) ** 2 for a in y]
    np.testing.assert_allclose(mahalanobis(one, y), want)
    np.testing.assert_allclose(multivariate_pit(one, y), stats.chi2.cdf(want, 3), atol=1e-12)
    assert float(anees(one, y)) == pytest.approx(np.mean(want) / 3)


def test_mahalanobis_of_draws_and_of_independent_outputs():
    mean, y, factor, rng = outcomes(5)
    draws = mean + rng.normal(size=(30, 5, 3)) @ factor.T
    want = []
    for n in range(5):
        gap = y[n] - draws[:, n].mean(0)
        want.append(gap @ np.linalg.inv(np.cov(draws[:, n].T) * 31 / 30) @ gap)
    np.testing.assert_allclose(mahalanobis(draws, y), want)
    scale = np.array([2.0, 3.0, 0.5])
    np.testing.assert_allclose(mahalanobis(stats.norm(mean, scale), y), (((y - mean) / scale) ** 2).sum(-1))
    np.testing.assert_allclose(mahalanobis(stats.norm(mean[:, 0], 2.0), y[:, 0]), ((y - mean)[:, 0] / 2) ** 2)
    raw = np.log(np.expm1(scale - 1e-3)) * np.ones((1, 5, 1))
    pred = uq.Predictive(jnp.asarray(np.concatenate([mean[None], raw], -1), jnp.float32), uq.likelihoods.Gaussian(3))
    np.testing.assert_allclose(mahalanobis(pred, y), (((y - mean) / scale) ** 2).sum(-1), rtol=1e-3)


def test_mahalanobis_of_a_mixture():
    rng = np.random.default_rng(5)
    outputs, weight = rng.normal(size=(3, 6, 4)), np.array([0.2, 0.5, 0.3])
    pred = uq.Predictive(
        jnp.asarray(outputs, jnp.float32), uq.likelihoods.Gaussian(2), jnp.asarray(weight, jnp.float32)
    )
    y = rng.normal(size=(6, 2))
    means, scales = outputs[..., :2], np.logaddexp(0, outputs[..., 2:]) + 1e-3
    want = []
    for n in range(6):
        centre = weight @ means[:, n]
        parts = [np.diag(scales[m, n] ** 2) + np.outer(means[m, n] - centre, means[m, n] - centre) for m in range(3)]
        gap = y[n] - centre
        want.append(gap @ np.linalg.inv(np.tensordot(weight, parts, 1)) @ gap)
    np.testing.assert_allclose(mahalanobis(pred, y), want, rtol=1e-3)


def test_anees_of_right_predictions_is_1():
    mean, y, factor, rng = outcomes(20_000)
    draws = mean + rng.normal(size=(40, 20_000, 3)) @ factor.T
    normal = stats.norm(mean[:, 0], 2.0)
    found = anees(normal, y[:, 0])
    assert abs(float(found) - 1) < 4 * float(found.stderr)
    few = anees(draws[:, :2000], y[:2000])  # Hotelling: the mean of T² is D (M − 1) / (M − D − 2)
    assert abs(float(few) - 39 / 35) < 4 * float(few.stderr)


def looped_pre_rank(every, kind):
    if kind == "average":
        mid = [[np.mean(every[:, d] < v) + np.mean(every[:, d] <= v) for d, v in enumerate(row)] for row in every]
        return np.array(mid).mean(1)
    if kind == "band-depth":
        at_most = np.array([[(every[:, d] <= v).sum() for d, v in enumerate(row)] for row in every])
        at_least = np.array([[(every[:, d] >= v).sum() for d, v in enumerate(row)] for row in every])
        return ((at_most - 1) * (at_least - 1)).mean(1)
    return np.array([np.mean([np.linalg.norm(row - other) for other in every]) for row in every])


@pytest.mark.parametrize("kind", RANKS)
def test_ranks_against_a_loop(kind):
    mean, y, factor, rng = outcomes(12)
    draws = mean + rng.normal(size=(9, 12, 3)) @ factor.T
    got = multivariate_pit(draws, y, kind=kind, key=0)
    for n in range(12):
        pre = looped_pre_rank(np.concatenate([y[n][None], draws[:, n]]), kind)
        below = (pre[1:] < pre[0] - 1e-9).sum()
        equal = (np.abs(pre[1:] - pre[0]) < 1e-9).sum()
        assert below / 10 <= got[n] <= (below + equal + 1) / 10
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(multivariate_pit(draws[order], y, kind=kind, key=0), got)
    np.testing.assert_allclose(jax.jit(lambda d, y: multivariate_pit(d, y, kind=kind, key=0))(
        jnp.asarray(draws, jnp.float32), jnp.asarray(y, jnp.float32)), got, atol=1e-5)  # fmt: skip


@pytest.mark.parametrize("kind", RANKS)
@pytest.mark.parametrize("members", [1, 8])
def test_ranks_are_uniform_under_the_null(kind, members):
    mean, y, factor, rng = outcomes(3000)
    draws = np.round(mean + rng.normal(size=(members, 3000, 3)) @ factor.T)
    assert pit_test(multivariate_pit(draws, np.round(y), kind=kind, key=2)).p_value > 0.01


def test_power_where_margins_are_right():
    """Independent draws for correlated outcomes: every margin passes, joint calibration does not."""
    rng = np.random.default_rng(3)
    y = rng.multivariate_normal([5.0, -3.0], [[1.0, 0.9], [0.9, 1.0]], 2000)
    draws = rng.normal([5.0, -3.0], 1.0, (20, 2000, 2))
    assert (pit_test(draws, y, key=0).p_value > 0.01).all()
    for kind in ("average", "band-depth", "energy"):
        assert pit_test(multivariate_pit(draws, y, kind=kind, key=0), test="ad").p_value < 1e-3, kind
    wrong = stats.multivariate_normal([5.0, -3.0], np.eye(2))
    assert pit_test(multivariate_pit(wrong, y)).p_value < 1e-3


def test_density_of_a_mixture_by_its_draws():
    rng = np.random.default_rng(4)
    outputs = rng.normal(size=(3, 400, 4)).astype(np.float32)
    pred = uq.Predictive(jnp.asarray(outputs), uq.likelihoods.Gaussian(2))
    y = np.asarray(pred.sample(jax.random.key(9))[0])
    u = multivariate_pit(pred, y, num=50, key=0)
    assert pit_test(u).p_value > 0.01
    far = multivariate_pit(pred, y + 30.0, num=50, key=0)
    assert (np.asarray(far) > 0.98).all()


def test_coverage_of_the_region_is_not_that_of_the_box():
    mean, y, factor, rng = outcomes(20_000)
    normal = dist.MultivariateNormal(jnp.asarray(mean, jnp.float32), scale_tril=jnp.asarray(factor, jnp.float32))
    found = multivariate_coverage(normal, jnp.asarray(y, jnp.float32), level=0.8)
    assert abs(float(found) - 0.8) < 4 * float(found.stderr)
    square = mahalanobis(normal, jnp.asarray(y, jnp.float32))
    assert float(found) == pytest.approx(np.mean(np.asarray(square) <= stats.chi2.ppf(0.8, 3)), abs=2e-4)
    inside = np.abs(y - mean) <= stats.norm.ppf(0.9) * np.sqrt(np.diag(COVARIANCE))
    assert inside.all(1).mean() < 0.7  # what a product of marginal intervals covers
    draws = mean[:2000] + rng.normal(size=(19, 2000, 3)) @ factor.T
    found = multivariate_coverage(draws, y[:2000], level=0.8, kind="energy", key=0)
    assert abs(float(found) - 0.8) < 4 * float(found.stderr)


def test_masked_rows_are_inert():
    mean, y, factor, rng = outcomes(4)
    draws = mean + rng.normal(size=(9, 4, 3)) @ factor.T
    weight = np.array([1.0, 0.0, 2.0, 1.0])
    one = stats.multivariate_normal(mean[0], COVARIANCE)
    want = np.average(mahalanobis(one, y), weights=weight) / 3
    y[1], draws[:, 1] = np.nan, np.nan
    assert float(anees(one, y, weight=weight)) == pytest.approx(want)
    kept = [0, 2, 2, 3]
    assert float(anees(draws, y, weight=weight)) == pytest.approx(float(anees(draws[:, kept], y[kept])))
    assert 0 <= float(multivariate_coverage(draws, y, kind="energy", key=0, weight=weight)) <= 1


WRONG = [
    (lambda: multivariate_pit(stats.norm(np.zeros(3), 1.0), np.zeros(3), key=0), "of several outputs"),
    (lambda: multivariate_pit(np.zeros((4, 3, 2)), np.zeros((3, 2)), key=0), "a kind for draws"),
    (lambda: multivariate_pit(np.zeros((4, 3, 2)), np.zeros((3, 2)), kind="energy"), "expected a key"),
    (lambda: multivariate_pit(np.zeros((4, 3, 2)), np.zeros((3, 2)), kind="minimum spanning"), "no kind"),
    (lambda: multivariate_coverage(np.zeros((4, 3, 2)), np.zeros((3, 2)), kind="average"), "no kind 'average'"),
    (lambda: mahalanobis(np.zeros((3, 5, 4)), np.zeros((5, 4))), "more draws than outputs"),
    (lambda: mahalanobis(stats.multivariate_normal([0.0, 0.0]), np.zeros((5, 3))), r"`y` of shape \(N, 2\)"),
    (lambda: mahalanobis(stats.multivariate_normal([0.0, 0.0]), np.full((5, 2), np.nan)), "finite outcomes"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence[:30] for _, sentence in WRONG])
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()


def test_mahalanobis_of_a_numpyro_normal_far_from_the_origin_and_under_jit():
    """Mean and factor as they are: no covariance is formed, which would lose digits of narrow directions."""
    rng = np.random.default_rng(5)
    factor = np.tril(rng.normal(size=(40, 3, 3)))
    factor[:, range(3), range(3)] = [1e-3, 1.0, 1e3]
    centre = 50 + rng.normal(size=(40, 3))
    y = centre + np.einsum("nij,nj->ni", factor, rng.normal(size=(40, 3)))
    pred = dist.MultivariateNormal(jnp.asarray(centre, jnp.float32), scale_tril=jnp.asarray(factor, jnp.float32))
    rounded = [np.asarray(part, np.float64) for part in (pred.loc, pred.scale_tril, np.float32(y))]
    exact = np.square(np.linalg.solve(rounded[1], (rounded[2] - rounded[0])[..., None])[..., 0]).sum(-1)
    np.testing.assert_allclose(mahalanobis(pred, np.float32(y)), exact, rtol=1e-5)
    found = jax.jit(lambda y: mahalanobis(pred, y))(jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(found, exact, rtol=1e-3)
