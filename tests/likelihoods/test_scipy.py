"""Log-densities, means and variances against scipy in float64, from formulas written here."""

from __future__ import annotations

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats as st

import uq
from uq import likelihoods as kinds

RNG = np.random.default_rng(0)
N = 400


def softplus(raw: Any) -> Any:
    return np.logaddexp(np.asarray(raw, np.float64), 0)


def bounded(raw: Any, limit: float) -> Any:
    return np.exp(limit * np.tanh(np.asarray(raw, np.float64) / limit))


def draw(width: int, spread: float = 1.5, shift: float = 0.0) -> tuple[Any, Any]:
    """Outputs in float32, and the same numbers in float64."""
    outputs = (shift + spread * RNG.normal(size=(N, width))).astype(np.float32)
    return jnp.asarray(outputs), outputs.astype(np.float64)


def close(kind: Any, outputs: Any, y: Any, want: Any, rtol: float = 2e-4) -> None:
    got = kind.log_prob(outputs, jnp.asarray(y, jnp.float32) if np.asarray(y).dtype.kind == "f" else jnp.asarray(y))
    np.testing.assert_allclose(got, want, rtol=rtol, atol=2e-4)


@pytest.mark.parametrize("df", [None, 0.7, 3.0, 1e4])
@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (20.0, 5.0)])
def test_student_t(df: float | None, shift: float, scale: float) -> None:
    outputs, o = draw(3 if df is None else 2, scale)
    outputs, o = outputs.at[:, 0].add(shift), o + shift * np.eye(o.shape[1])[0]
    nu = 2.1 * (200 / 2.1) ** scipy.special.expit(o[:, 2]) if df is None else df
    law = st.t(nu, o[:, 0], softplus(o[:, 1]) + 0.5)
    y = (shift + 3 * scale * RNG.standard_t(2, N)).astype(np.float32)
    close(kinds.StudentT(df, min_scale=0.5), outputs, y, law.logpdf(y), 1e-3)


def test_laplace() -> None:
    outputs, o = draw(2)
    y = RNG.normal(0, 5, N).astype(np.float32)
    close(kinds.Laplace(0.1), outputs, y, st.laplace(o[:, 0], softplus(o[:, 1]) + 0.1).logpdf(y))


def test_log_normal() -> None:
    outputs, o = draw(2)
    y = RNG.lognormal(1, 2, N).astype(np.float32)
    want = st.lognorm(s=softplus(o[:, 1]) + 0.2, scale=np.exp(o[:, 0])).logpdf(y)
    close(kinds.LogNormal(0.2), outputs, y, want)


def test_gamma() -> None:
    outputs, o = draw(2)
    y = RNG.gamma(2, 3, N).astype(np.float32)
    mean, a = bounded(o[:, 0], 20), bounded(o[:, 1], 10)
    close(kinds.Gamma(), outputs, y, st.gamma(a, scale=mean / a).logpdf(y), 1e-3)
    law = kinds.Gamma().distribution(outputs)
    np.testing.assert_allclose(law.mean, mean, rtol=1e-4)
    np.testing.assert_allclose(law.variance, mean**2 / a, rtol=1e-4)


def test_beta() -> None:
    outputs, o = draw(2)
    y = RNG.uniform(0.02, 0.98, N).astype(np.float32)
    mean, precision = scipy.special.expit(10 * np.tanh(o[:, 0] / 10)), bounded(o[:, 1], 10)
    close(kinds.Beta(), outputs, y, st.beta(mean * precision, (1 - mean) * precision).logpdf(y), 1e-3)


@pytest.mark.parametrize("level", [0.0, 4.0])
def test_counts(level: float) -> None:
    y = RNG.poisson(np.exp(level), N)
    outputs, o = draw(1, 1.0, level)
    close(kinds.Poisson(), outputs, y, st.poisson(bounded(o[:, 0], 20)).logpmf(y), 1e-3)
    outputs, o = draw(2, 1.0)
    outputs = outputs.at[:, 0].add(level)
    mean, a = bounded(np.asarray(outputs[:, 0]), 20), bounded(o[:, 1], 10)
    close(kinds.NegativeBinomial(), outputs, y, st.nbinom(a, a / (a + mean)).logpmf(y), 1e-3)
    outputs = outputs[:, ::-1]
    gate = scipy.special.expit(10 * np.tanh(np.asarray(outputs[:, 0], np.float64) / 10))
    rate = bounded(np.asarray(outputs[:, 1]), 20)
    want = np.log(gate * (y == 0) + (1 - gate) * st.poisson(rate).pmf(y))
    close(kinds.ZeroInflatedPoisson(), outputs, y, want, 1e-3)


def test_full_covariance() -> None:
    outputs, o = draw(9)
    y = RNG.normal(2, 3, (N, 3)).astype(np.float32)
    kind = kinds.FullCovarianceGaussian(3, min_scale=0.3)
    got = np.asarray(kind.log_prob(outputs, jnp.asarray(y)))
    cov = np.asarray(kind.distribution(outputs).covariance_matrix)
    for i in range(0, N, 37):
        unit = np.array([[1, 0, 0], [o[i, 6], 1, 0], [o[i, 7], o[i, 8], 1]])
        scale = np.diag(softplus(o[i, 3:6]) + 0.3)
        want = np.linalg.inv(unit) @ scale @ scale @ np.linalg.inv(unit).T
        np.testing.assert_allclose(cov[i], want, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(got[i], st.multivariate_normal(o[i, :3], want).logpdf(y[i]), rtol=1e-3)


def test_multilabel() -> None:
    outputs, o = draw(4, 3.0)
    y = RNG.integers(0, 2, (N, 4))
    close(kinds.Multilabel(4), outputs, y, scipy.special.log_expit(np.where(y == 1, o, -o)).sum(1))


def test_ordinal_and_its_cutpoints() -> None:
    outputs, o = draw(4)
    y = RNG.integers(0, 4, N)
    kind = kinds.Ordinal(4, min_gap=0.1)
    first = o[:, 1] - np.log(2) - 0.1
    cuts = np.stack([first, first + softplus(o[:, 2]) + 0.1, first + (softplus(o[:, 2:]) + 0.1).sum(1)], 1)
    below = scipy.special.expit(np.c_[np.full(N, -np.inf), cuts, np.full(N, np.inf)] - o[:, :1])
    probs = np.diff(below, axis=1)
    close(kind, outputs, y, np.log(probs[np.arange(N), y]), 1e-3)
    np.testing.assert_allclose(kind.distribution(outputs).probs, probs, atol=1e-5)
    zeros = kind.parameters(jnp.zeros((1, 4)))[1][0]
    np.testing.assert_allclose(zeros, -zeros[::-1], atol=1e-6)  # evenly spaced about 0 to begin with


@pytest.mark.parametrize(("lower", "upper"), [(1.0, None), (None, 4.0), (1.0, 4.0)])
def test_censored(lower: float | None, upper: float | None) -> None:
    outputs, o = draw(2)
    y = np.clip(RNG.normal(2.5, 2, N), -np.inf if lower is None else lower, np.inf if upper is None else upper)
    y = y.astype(np.float32)
    limit = lower if lower is not None else upper
    middle, half = (2.5, 1.5) if lower and upper else (limit, 1.0)
    latent = st.norm(middle + half * o[:, 0], half * (softplus(o[:, 1]) + 1e-3))
    want = latent.logpdf(y)
    if lower:
        want = np.where(y == lower, latent.logcdf(lower), want)
    if upper:
        want = np.where(y == upper, latent.logsf(upper), want)
    assert ((y == lower) | (y == upper)).sum() > 20
    close(kinds.Censored(lower, upper), outputs, y, want, 1e-3)


@pytest.mark.parametrize(("lower", "upper"), [(1.0, None), (None, 4.0), (1.0, 4.0)])
def test_the_law_of_a_clipped_normal(lower: float | None, upper: float | None) -> None:
    outputs = jnp.asarray([[0.5, 1.0], [-1.0, 2.0]])
    law = kinds.Censored(lower, upper).distribution(outputs)
    low, high = -40.0 if lower is None else lower, 40.0 if upper is None else upper
    draws = np.clip(law.loc + law.scale * RNG.normal(size=(400_000, 2)), law.low, law.high)
    mean, variance = uq.laws.moments(law)
    np.testing.assert_allclose(mean, draws.mean(0), atol=0.02)
    np.testing.assert_allclose(variance, draws.var(0), rtol=0.02)
    host = uq.laws.host.frozen(law)
    for i in range(2):
        latent = st.norm(float(law.loc[i]), float(law.scale[i]))
        for y in (low + 0.1, 2.5, high, high + 3):
            at = min(max(y, low), high)
            want = scipy.integrate.quad(lambda x: latent.cdf(x) ** 2, low, at)[0] + (y - at)
            want += scipy.integrate.quad(lambda x: latent.sf(x) ** 2, at, high)[0]
            np.testing.assert_allclose(np.broadcast_to(host.crps(y), 2)[i], want, rtol=1e-6, atol=1e-8)
            np.testing.assert_allclose(uq.laws.crps(law, y)[i], want, rtol=1e-3, atol=1e-5)
        for y in (low, 2.5, high):
            np.testing.assert_allclose(uq.laws.cdf(law, y)[i], (draws[:, i] <= y).mean(), atol=5e-3)
            np.testing.assert_allclose(uq.laws.sf(law, y)[i], (draws[:, i] > y).mean(), atol=5e-3)
        between = scipy.integrate.quad(lambda x: -latent.pdf(x) * latent.logpdf(x), low, high)[0]
        masses = [latent.cdf(low) if lower else 0, latent.sf(high) if upper else 0]
        want = between - sum(p * np.log(p) for p in masses if p)
        np.testing.assert_allclose(uq.laws.entropy(law)[i], want, rtol=1e-4)
    np.testing.assert_allclose(uq.laws.icdf(law, 0.3), np.quantile(draws, 0.3, axis=0), atol=0.03)


def test_mixture_density() -> None:
    outputs, o = draw(6)
    y = RNG.normal(0, 3, N).astype(np.float32)
    weight = scipy.special.softmax(o[:, :2], axis=1)
    mean = o[:, 2:4] + st.norm.ppf([0.25, 0.75])
    want = np.log((weight * st.norm(mean, softplus(o[:, 4:]) + 0.1).pdf(y[:, None])).sum(1))
    close(kinds.MixtureDensity(2, min_scale=0.1), outputs, y, want, 1e-3)


def test_quantile_head_is_a_distribution_with_those_quantiles() -> None:
    kind = kinds.Quantile((0.1, 0.3, 0.6, 0.9))
    normal = kind.parameters(jnp.zeros((1, 4)))[0][0]
    np.testing.assert_allclose(normal, st.norm.ppf(kind.levels), atol=3e-3)
    outputs = jnp.asarray(20 + 4 * RNG.normal(size=(3, 4)), jnp.float32)
    law = kind.distribution(outputs)
    (quantiles,) = kind.parameters(outputs)
    assert (np.diff(quantiles, axis=-1) > 0).all()
    for k, level in enumerate(kind.levels):
        np.testing.assert_allclose(law.icdf(level), quantiles[:, k], rtol=1e-5)
        np.testing.assert_allclose(law.cdf(quantiles[:, k]), level, rtol=1e-4)
    for i in range(1):
        one = kind.distribution(outputs[i])
        host = uq.laws.host.frozen(one)
        cuts = [-400, *np.asarray(quantiles[i], np.float64), 400]

        def total(f: Any) -> float:
            return sum(scipy.integrate.quad(f, a, b, limit=200)[0] for a, b in itertools.pairwise(cuts))

        def pdf(x: float) -> float:
            return float(np.exp(host.logpdf(np.float64(x))))

        mean = total(lambda x: x * pdf(x))
        np.testing.assert_allclose(total(pdf), 1, rtol=1e-6)
        np.testing.assert_allclose(one.mean, mean, rtol=1e-5)
        np.testing.assert_allclose(one.variance, total(lambda x: (x - mean) ** 2 * pdf(x)), rtol=1e-4)
        np.testing.assert_allclose(uq.laws.entropy(one), total(lambda x: -pdf(x) * host.logpdf(x)), rtol=1e-4)
        for y in (mean, cuts[4] + 9.0, cuts[1] - 7.0):
            F = lambda x: float(host.cdf(np.float64(x)))  # noqa: E731
            points = sorted({*cuts, y})
            want = sum(
                scipy.integrate.quad(lambda x: (F(x) - (x >= y)) ** 2, a, b, limit=200)[0]
                for a, b in itertools.pairwise(points)
            )
            np.testing.assert_allclose(host.crps(y), want, rtol=1e-5)
            np.testing.assert_allclose(uq.laws.crps(one, y), want, rtol=1e-3)
            np.testing.assert_allclose(host.cdf(y), scipy.integrate.quad(pdf, -400, y, points=cuts[1:-1])[0], atol=1e-6)
            np.testing.assert_allclose(uq.laws.cdf(one, y), host.cdf(y), rtol=1e-4)
            np.testing.assert_allclose(uq.laws.log_sf(one, y), np.log(host.sf(y)), rtol=1e-3, atol=1e-6)
        for q in (1e-6, 0.05, 0.5, 0.95):
            np.testing.assert_allclose(host.cdf(host.ppf(q)), q, rtol=1e-9)
            np.testing.assert_allclose(host.sf(host.isf(q)), q, rtol=1e-9)
    grad = jnp.asarray(uq.laws.crps(kind.distribution(outputs), 21.0))
    assert np.isfinite(grad).all()


def test_evidential_is_the_normal_with_its_parameters_integrated_out() -> None:
    outputs = jnp.asarray([[3.0, 0.5, 1.0, 0.2]])
    kind = kinds.Evidential()
    loc, nu, alpha, beta = (float(p[0]) for p in kind.parameters(outputs))
    for y in (3.5, 8.0):

        def inner(variance: float) -> float:
            own = st.norm(loc, np.sqrt(variance * (1 + 1 / nu))).pdf(y)  # the mean integrated out in closed form
            return own * st.invgamma(alpha, scale=beta).pdf(variance)

        want = np.log(scipy.integrate.quad(inner, 0, np.inf, limit=300)[0])
        np.testing.assert_allclose(kind.log_prob(outputs, jnp.asarray([y])), [want], rtol=1e-4)
    noise, claimed = kind.aleatoric_epistemic(outputs)
    np.testing.assert_allclose(noise + claimed, kind.distribution(outputs).variance, rtol=1e-4)
    np.testing.assert_allclose(noise, st.invgamma(alpha, scale=beta).mean(), rtol=1e-4)


def test_dirichlet_evidential_predicts_its_mean() -> None:
    outputs, o = draw(3, 2.0)
    alpha = softplus(o) + 1
    y = RNG.integers(0, 3, N)
    kind = kinds.DirichletEvidential(3)
    close(kind, outputs, y, np.log((alpha / alpha.sum(1, keepdims=True))[np.arange(N), y]))
    np.testing.assert_allclose(kind.vacuity(outputs), 3 / alpha.sum(1), rtol=1e-5)
    np.testing.assert_allclose(kind.vacuity(jnp.full((1, 3), -1e4)), 1, rtol=1e-6)


@pytest.mark.parametrize(("rank", "temperature"), [(0, 1.0), (2, 0.5)])
def test_heteroscedastic_logits_against_many_draws(rank: int, temperature: float) -> None:
    kind = kinds.HeteroscedasticLogits(3, rank=rank, temperature=temperature, num_draws=512)
    outputs = jnp.asarray(RNG.normal(size=(2, kind.width)), jnp.float32)
    mean, scale, factor = (np.asarray(part) for part in kind.parameters(outputs))
    probs = np.exp(kind.log_probs(outputs))
    np.testing.assert_allclose(probs.sum(-1), 1, rtol=1e-5)
    for i in range(2):
        own, shared = RNG.normal(size=(300_000, 3)), RNG.normal(size=(300_000, rank))
        logits = mean[i] + scale[i] * own + shared @ factor[i].T
        want = scipy.special.softmax(logits / temperature, axis=1).mean(0)
        np.testing.assert_allclose(probs[i], want, atol=0.01)
