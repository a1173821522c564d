"""Scores of predictive distributions of numbers against formulas written independently."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

import uq
from tests.metrics.oracle import Mixture, softplus
from uq.metrics.ensemble_scores import crps_ensemble
from uq.metrics.scores import absolute_error, crps, dawid_sebastiani, log_score, squared_error

WEIGHT = np.float32([0.2, 0.5, 0.3])


def regression(loc, scale, num_outputs=1, size=4):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(3, size, 2 * num_outputs)).astype(np.float32)
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(num_outputs), loc, scale)
    means = loc + scale * outputs[..., :num_outputs].astype(np.float64)
    scales = scale * (softplus(outputs[..., num_outputs:]) + 1e-3)
    return uq.Predictive(jnp.asarray(outputs), likelihood, jnp.asarray(WEIGHT)), means, scales


def definition(law, y):
    """∫ F² below y plus ∫ (1 − F)² above it, between quantiles."""
    cuts = np.unique([y, *law.ppf([1e-9, 1e-6, 1e-3, 0.1, 0.5, 0.9, 0.999]), *law.isf([1e-6, 1e-9])])
    part = lambda a, b: (lambda t: law.cdf(t) ** 2) if b <= y else (lambda t: law.sf(t) ** 2)  # noqa: E731
    return sum(integrate.quad(part(a, b), a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(cuts))


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1e4, 0.01), (-300.0, 250.0)])
def test_regression_scores(loc, scale):
    pred, means, scales = regression(loc, scale)
    exact = [Mixture(means[:, n, 0], scales[:, n, 0], WEIGHT) for n in range(4)]
    y = means[0, :, 0] + 0.7 * scale
    each = list(zip(exact, y, strict=True))
    np.testing.assert_allclose(log_score(pred, y), [-m.log_pdf(t) for m, t in each], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(crps(pred, y), [m.crps(t) for m, t in each], rtol=2e-5)
    squares = [(t - m.weights @ m.locs) ** 2 for m, t in each]
    np.testing.assert_allclose(squared_error(pred, y), squares, rtol=1e-4, atol=1e-6 * scale**2)
    medians = [abs(t - m.quantile(0.5)) for m, t in each]
    np.testing.assert_allclose(absolute_error(pred, y), medians, rtol=1e-3, atol=1e-4 * scale + 1e-7 * abs(loc))
    spread = [m.weights @ (m.scales**2 + m.locs**2) - (m.weights @ m.locs) ** 2 for m in exact]
    if abs(loc) < 1e3:  # the mean itself is float32
        want = np.array(squares) / spread + np.log(spread)
        np.testing.assert_allclose(dawid_sebastiani(pred, y), want, rtol=1e-4, atol=1e-4)


def test_several_outputs():
    pred, means, scales = regression(np.array([10.0, -3.0]), np.array([0.5, 25.0]), num_outputs=2)
    y = means[1] + 0.4 * scales[1]
    joint = special.logsumexp(stats.norm.logpdf(y, means, scales).sum(-1), axis=0, b=WEIGHT[:, None])
    np.testing.assert_allclose(log_score(pred, y), -joint, rtol=2e-5, atol=2e-5)
    assert crps(pred, y).shape == squared_error(pred, y).shape == absolute_error(pred, y).shape == (4, 2)
    np.testing.assert_allclose(
        crps(pred, y)[2, 1], Mixture(means[:, 2, 1], scales[:, 2, 1], WEIGHT).crps(y[2, 1]), rtol=2e-5
    )
    assert dawid_sebastiani(pred, y).shape == (4, 2)


FAMILIES = {
    "Normal": (lambda xp: dist.Normal(xp([30.0, -3.0]), xp([0.5, 20.0])), stats.norm([30.0, -3.0], [0.5, 20.0])),
    "StudentT": (
        lambda xp: dist.StudentT(xp([4.0, 7.0]), xp([30.0, -3.0]), xp([0.5, 20.0])),
        stats.t([4.0, 7.0], [30.0, -3.0], [0.5, 20.0]),
    ),
    "Gumbel": (lambda xp: dist.Gumbel(xp([30.0, -3.0]), xp([0.5, 20.0])), stats.gumbel_r([30.0, -3.0], [0.5, 20.0])),
    "Gamma": (lambda xp: dist.Gamma(xp([9.0, 2.0]), xp([0.3, 0.1])), stats.gamma([9.0, 2.0], scale=[1 / 0.3, 10.0])),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_numpyro_and_scipy_distributions(name):
    """Host parameters give numpy and float64; jax parameters jax and float32; scipy numpy. All agree."""
    make, law = FAMILIES[name]
    y = np.array([31.0, 15.0])
    single = [
        type(law)(law.dist, *(np.asarray(a)[i] for a in law.args), **{k: np.asarray(v)[i] for k, v in law.kwds.items()})
        for i in range(2)
    ]
    want = {
        log_score: -law.logpdf(y),
        crps: [definition(one, t) for one, t in zip(single, y, strict=True)],
        squared_error: (y - law.mean()) ** 2,
        absolute_error: abs(y - law.median()),
        dawid_sebastiani: (y - law.mean()) ** 2 / law.var() + np.log(law.var()),
    }
    for score, exact in want.items():
        for pred in (make(np.array), law):
            got = score(pred, y)
            assert isinstance(got, np.ndarray) and got.dtype == np.float64
            np.testing.assert_allclose(got, exact, rtol=2e-5)
        on_device = make(lambda values: jnp.asarray(values, jnp.float32))
        got = score(on_device, y)
        assert isinstance(got, jax.Array) and got.dtype == jnp.float32
        np.testing.assert_allclose(got, exact, rtol=1e-4)
        np.testing.assert_allclose(jax.jit(score)(on_device, jnp.float32(y)), exact, rtol=1e-4)


def test_counts():
    law, y = stats.poisson([2.0, 30.0]), np.array([1, 40])
    for pred in (dist.Poisson(np.array([2.0, 30.0])), dist.Poisson(jnp.float32([2.0, 30.0])), law):
        np.testing.assert_allclose(log_score(pred, y), -law.logpmf(y), rtol=1e-5)
        k = np.arange(200)
        want = [((stats.poisson(r).cdf(k) - (k >= t)) ** 2).sum() for r, t in zip([2.0, 30.0], y, strict=True)]
        np.testing.assert_allclose(crps(pred, y), want, rtol=1e-5)


def test_joint_log_score_sees_dependence():
    rng = np.random.default_rng(0)
    factor = np.array([[2.0, 0.0], [1.5, 0.5]])
    mean, y = rng.normal(5, 1, size=(3, 2)), rng.normal(5, 2, size=(3, 2))
    want = [-stats.multivariate_normal(m, factor @ factor.T).logpdf(t) for m, t in zip(mean, y, strict=True)]
    law = dist.MultivariateNormal(jnp.float32(mean), scale_tril=jnp.float32(factor))
    np.testing.assert_allclose(log_score(law, y), want, rtol=1e-4)
    apart = dist.Normal(mean, np.ones((3, 2))).to_event(1)
    np.testing.assert_allclose(log_score(apart, y), -stats.norm.logpdf(y, mean).sum(1), rtol=1e-5)


def test_dawid_sebastiani_of_vectors():
    """−2 log-density of the multivariate normal, less D log 2π."""
    rng = np.random.default_rng(0)
    mixing = np.array([[3.0, 0.0, 0.0], [2.0, 1.0, 0.0], [-1.0, 0.5, 4.0]])
    draws, y = 100 + rng.gamma(2.0, size=(9, 4, 3)) @ mixing, 105 + rng.normal(size=(4, 3))
    mean = draws.mean(0)
    covariance = np.stack([np.cov(draws[:, n].T, bias=True) for n in range(4)])
    want = [
        -2 * stats.multivariate_normal(m, c).logpdf(t) - 3 * np.log(2 * np.pi)
        for m, c, t in zip(mean, covariance, y, strict=True)
    ]
    np.testing.assert_allclose(dawid_sebastiani((mean, covariance), y), want, rtol=1e-9)
    np.testing.assert_allclose(dawid_sebastiani(draws, y, joint=True), want, rtol=1e-9)
    traced = jax.jit(lambda d, y: dawid_sebastiani(d, y, joint=True))(jnp.float32(draws), jnp.float32(y))
    np.testing.assert_allclose(traced, want, rtol=1e-3)
    marginal = (y - mean) ** 2 / draws.var(0) + np.log(draws.var(0))
    np.testing.assert_allclose(dawid_sebastiani(draws, y), marginal, rtol=1e-9)
    np.testing.assert_allclose(dawid_sebastiani((mean, draws.var(0)), y), marginal, rtol=1e-9)
    scoringrules = pytest.importorskip("scoringrules")
    theirs = scoringrules.dssmv_ensemble(y, np.moveaxis(draws, 0, 1), bias=True, backend="numpy")
    np.testing.assert_allclose(want, theirs, rtol=1e-9)


def test_dawid_sebastiani_of_a_mixture_of_vectors():
    pred, means, scales = regression(np.array([2.0, -3.0]), np.array([0.5, 4.0]), num_outputs=2)
    y = means[1] + 0.4 * scales[1]
    centre = np.einsum("m,mnd->nd", WEIGHT, means)
    gap = means - centre
    covariance = np.einsum("m,mnd,mne->nde", WEIGHT, gap, gap)
    covariance += np.einsum("m,mnd->nd", WEIGHT, scales**2)[..., None] * np.eye(2)
    want = [
        -2 * stats.multivariate_normal(m, c).logpdf(t) - 2 * np.log(2 * np.pi)
        for m, c, t in zip(centre, covariance, y, strict=True)
    ]
    np.testing.assert_allclose(dawid_sebastiani(pred, y, joint=True), want, rtol=1e-3)


def test_points_and_draws():
    rng = np.random.default_rng(0)
    draws, y = rng.gamma(2.0, 5.0, size=(6, 4)), rng.gamma(2.0, 5.0, size=4)
    np.testing.assert_allclose(squared_error(draws, y), (y - draws.mean(0)) ** 2)
    np.testing.assert_allclose(absolute_error(draws, y), abs(y - np.median(draws, 0)))
    np.testing.assert_allclose(squared_error(draws[0], y), (y - draws[0]) ** 2)
    np.testing.assert_allclose(absolute_error(draws[0][:, None], y), abs(y - draws[0]))
    np.testing.assert_allclose(
        jax.jit(absolute_error)(jnp.float32(draws), jnp.float32(y)), absolute_error(draws, y), rtol=1e-4
    )
    np.testing.assert_allclose(crps(draws, y), crps_ensemble(draws, y), rtol=1e-12)
    assert squared_error(np.float32([1.0, 2.0]), np.float32([1.5, 2.0])).dtype == np.float32


def test_defect_05_log_scores_come_from_log_densities():
    """40 standard deviations out in float64, 15 in float32, large shapes: finite and right."""
    assert log_score(stats.norm(1.0, 2.0), 81.0) == pytest.approx(-stats.norm.logpdf(40) + np.log(2.0))
    far = log_score(dist.Normal(jnp.float32([1.0]), jnp.float32([2.0])), [31.0])
    np.testing.assert_allclose(far, -stats.norm.logpdf(15) + np.log(2.0), rtol=1e-5)
    pred, means, scales = regression(0.0, 1.0)
    y = means.max(0)[:, 0] + 50 * scales.max(0)[:, 0]
    want = -special.logsumexp(stats.norm.logpdf(y, means[..., 0], scales[..., 0]), axis=0, b=WEIGHT[:, None])
    np.testing.assert_allclose(log_score(pred, y), want, rtol=1e-4)
    for pred, law, y in (
        (dist.Gamma(jnp.float32([200.0]), jnp.float32([2.0])), stats.gamma(200.0, scale=0.5), 90.0),
        (dist.Poisson(jnp.float32([200.0])), stats.poisson(200.0), 230),
        (dist.Binomial(100, probs=jnp.float32([0.3])), stats.binom(100, 0.3), 35),
    ):
        want = -(law.logpmf(y) if hasattr(law.dist, "pmf") else law.logpdf(y))
        np.testing.assert_allclose(log_score(pred, [y]), [want], rtol=1e-4)


@pytest.mark.parametrize("df", [1e4, 1e6])
def test_defect_09_student_t_in_float32_and_at_its_centre(df):
    law = dist.StudentT(jnp.float32([df]), jnp.float32([1.0]), jnp.float32([2.0]))
    want = 2 * definition(stats.t(df), 0.5)
    np.testing.assert_allclose(crps(law, [2.0]), [want], rtol=1e-4)
    slope = jax.grad(lambda y, df: crps(dist.StudentT(df, jnp.ones(1), 2 * jnp.ones(1)), y).sum(), argnums=(0, 1))
    assert all(np.isfinite(each).all() for each in slope(jnp.ones(1), jnp.full(1, df)))


def test_defect_10_arrays_stay_as_they_were():
    y, loc, scale = np.array([1.0, 2.0]), np.array([3.0, 1.0]), np.array([0.5, 2.0])
    draws = np.array([[3.0, 1.0], [1.0, 2.0]])
    kept = [each.copy() for each in (y, loc, scale, draws)]
    for score in (log_score, crps, squared_error, absolute_error, dawid_sebastiani):
        score(dist.Normal(loc, scale), y)
        score(stats.expon(loc, scale), y + 5)
        if score is not log_score:
            score(draws, y)
    for now, before in zip((y, loc, scale, draws), kept, strict=True):
        np.testing.assert_array_equal(now, before)


def test_defect_14_outcomes_outside_the_support():
    """The score of a certain impossibility is finite for CRPS, infinite for the log score, and never NaN."""
    for law, pred in (
        (stats.beta(2.0, 3.0), dist.Beta(np.array([2.0]), np.array([3.0]))),
        (stats.lognorm(0.5, scale=np.exp(1.0)), dist.LogNormal(np.array([1.0]), np.array([0.5]))),
        (stats.expon(scale=0.5), dist.Exponential(np.array([2.0]))),
    ):
        want = definition(law, -1.5)
        np.testing.assert_allclose(crps(pred, [-1.5]), [want], rtol=1e-5)
        np.testing.assert_array_equal(log_score(pred, [-1.5]), [np.inf])
        got = jax.jit(log_score)(jax.tree.map(jnp.float32, pred), jnp.float32([-1.5]))
        np.testing.assert_array_equal(got, [np.inf])


def test_defect_31_variance_in_two_passes():
    """Mean 1000 and spread 1e-2 in float32: the variance of draws is not a difference of squares."""
    draws = np.float32(1000 + 1e-2 * np.random.default_rng(0).normal(size=(16, 5)))
    y = np.full(5, 1000, np.float32)
    exact = draws.astype(np.float64)
    want = (y - exact.mean(0)) ** 2 / exact.var(0) + np.log(exact.var(0))
    np.testing.assert_allclose(dawid_sebastiani(draws, y), want, rtol=2e-2)
    np.testing.assert_allclose(jax.jit(dawid_sebastiani)(jnp.asarray(draws), jnp.asarray(y)), want, rtol=2e-2)


def test_jit_and_gradients():
    pred, means, _ = regression(-300.0, 250.0)
    y = means[0, :, 0]
    for score in (log_score, crps, squared_error, absolute_error, dawid_sebastiani):
        np.testing.assert_allclose(jax.jit(score)(pred, np.float32(y)), score(pred, y), rtol=1e-3, atol=0.5)
    slope = jax.grad(lambda p: crps(p, np.float32(y)).sum() + log_score(p, np.float32(y)).sum())(pred).outputs
    assert np.isfinite(slope).all()
    scores = (log_score, crps, squared_error, absolute_error, dawid_sebastiani)
    total = lambda m, y: sum(score(dist.Normal(m, jnp.ones(2)), y).sum() for score in scores)  # noqa: E731
    assert all(np.isfinite(each).all() for each in jax.grad(total, argnums=(0, 1))(jnp.ones(2), jnp.ones(2)))  # y = μ


number = st.floats(-5, 5, width=32)


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(number, number), min_size=3, max_size=3),
    number,
    st.permutations(range(3)),
    st.floats(0.125, 50, width=32),
)
def test_laws(members, y, order, factor):
    """Equal under a permutation of the members; c times as large in units c times as small; not negative."""
    outputs = np.float32(members)[:, None]
    base = uq.likelihoods.Gaussian()
    pred = uq.Predictive(jnp.asarray(outputs), base, jnp.asarray(WEIGHT))
    score = float(crps(pred, [y])[0])
    assert score >= -1e-5
    turned = uq.Predictive(jnp.asarray(outputs[list(order)]), base, jnp.asarray(WEIGHT[list(order)]))
    assert float(crps(turned, [y])[0]) == pytest.approx(score, rel=1e-4, abs=1e-5)
    moved = uq.Predictive(jnp.asarray(outputs), uq.likelihoods.transformed(base, -300.0, factor), jnp.asarray(WEIGHT))
    outcome = -300.0 + factor * y
    assert float(crps(moved, [outcome])[0]) == pytest.approx(factor * score, rel=1e-3, abs=1e-4 * factor)
    shifted = float(log_score(moved, [outcome])[0])
    assert shifted == pytest.approx(float(log_score(pred, [y])[0]) + np.log(factor), rel=1e-3, abs=1e-3)


def test_large_distributions_on_a_device_are_scored_while_they_are_checked():
    rng = np.random.default_rng(0)
    loc, scale, y = (jnp.asarray(each, jnp.float32) for each in (rng.normal(size=(2, 40_000)).T @ [1, 0.5],
                     0.5 + rng.random(40_000), rng.normal(size=40_000)))  # fmt: skip

    def made(loc, scale):
        return dist.Normal(loc, scale, validate_args=False)

    got = uq.metrics.crps(made(loc, scale), y)
    z = (np.asarray(y, np.float64) - np.asarray(loc)) / np.asarray(scale, np.float64)
    want = scale * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    for broken, outcome, said in (
        (made(loc.at[3].set(jnp.nan), scale), y, "`loc` is a finite number, but that of row 3 is nan"),
        (made(loc, scale.at[5].set(-1.0)), y, "`scale` is above 0, but that of row 5 is -1"),
        (made(loc, scale), y.at[7].set(jnp.inf), r"`y\[7\]` is inf"),
        (made(loc, scale), y[:5], "of shape"),
    ):
        with pytest.raises(uq.InputError, match=said):
            uq.metrics.crps(broken, outcome)
