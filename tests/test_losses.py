"""Training losses against formulas written here, in float64."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats as st

import uq
from uq import likelihoods as kinds
from uq import losses

RNG = np.random.default_rng(0)
N = 6


def softplus(raw: Any) -> Any:
    return np.logaddexp(np.asarray(raw, np.float64), 0)


def draw(width: int, shift: float = 0.0) -> tuple[Any, Any]:
    outputs = (shift + 2 * RNG.normal(size=(N, width))).astype(np.float32)
    return jnp.asarray(outputs), outputs.astype(np.float64)


def finite(loss: Any, kind: Any, y: Any) -> None:
    """Value and gradient at extreme outputs."""
    width = kind.width + kind.free
    rows = np.concatenate(
        [1e4 * RNG.choice([-1, 1], (N - 2, width)), np.full((1, width), 1e4), np.full((1, width), -1e4)]
    )
    value, grad = jax.value_and_grad(lambda z: loss(kind, z, y).sum())(jnp.asarray(rows, jnp.float32))
    assert np.isfinite(value) and np.isfinite(grad).all(), (value, grad)


def numerical_crps(cdf: Any, y: float, low: float, high: float) -> float:
    left = scipy.integrate.quad(lambda x: cdf(x) ** 2, low, y, limit=300)[0]
    return left + scipy.integrate.quad(lambda x: (1 - cdf(x)) ** 2, y, high, limit=300)[0]


def test_negative_log_likelihood_is_that() -> None:
    outputs, _ = draw(2)
    y = jnp.asarray(RNG.normal(size=N), jnp.float32)
    np.testing.assert_array_equal(
        losses.negative_log_likelihood(kinds.Gaussian(), outputs, y), -kinds.Gaussian().log_prob(outputs, y)
    )


def test_beta_nll_in_the_units_below_a_transform() -> None:
    outputs, o = draw(2)
    y = RNG.lognormal(1, 1, N)
    scale = softplus(o[:, 1]) + 1e-3
    want = -st.norm(o[:, 0], scale).logpdf(np.log(y)) * scale
    kind = kinds.transformed(kinds.Gaussian(), kinds.Log())
    np.testing.assert_allclose(losses.beta_nll(0.5)(kind, outputs, jnp.asarray(y, jnp.float32)), want, rtol=1e-3)
    with pytest.raises(uq.InputError, match="weights by a predicted variance"):
        losses.beta_nll()(kinds.StudentT(), outputs, y)


def test_crps_of_a_gaussian_in_any_units() -> None:
    kind = kinds.transformed(kinds.Gaussian(), 50.0, 4.0)
    outputs, o = draw(2)
    y = 50 + 8 * RNG.normal(size=N)
    got = losses.crps(kind, outputs, jnp.asarray(y, jnp.float32))
    for i in range(N):
        law = st.norm(50 + 4 * o[i, 0], 4 * (softplus(o[i, 1]) + 1e-3))
        np.testing.assert_allclose(got[i], numerical_crps(law.cdf, y[i], -150, 250), rtol=1e-3)
    finite(losses.crps, kinds.Gaussian(), jnp.zeros(N))


def test_crps_of_a_mixture_density() -> None:
    kind = kinds.MixtureDensity(2)
    outputs, _ = draw(6)
    weight, mean, scale = (np.asarray(part, np.float64) for part in kind.parameters(outputs))
    y = RNG.normal(size=N)
    got = losses.crps(kind, outputs, jnp.asarray(y, jnp.float32))
    for i in range(N):
        cdf = lambda x: float((np.exp(weight[i]) * st.norm(mean[i], scale[i]).cdf(x)).sum())  # noqa: E731
        np.testing.assert_allclose(got[i], numerical_crps(cdf, y[i], -60, 60), rtol=2e-3, atol=1e-4)
    finite(losses.crps, kind, jnp.zeros(N))


def test_crps_sums_over_outputs_and_takes_marginals() -> None:
    y = jnp.asarray(RNG.normal(size=(N, 2)), jnp.float32)
    outputs, _ = draw(5)
    both = kinds.FullCovarianceGaussian(2)
    mean, tril = (np.asarray(part) for part in both.parameters(outputs))
    spread = np.sqrt((tril**2).sum(-1))
    z = (np.asarray(y) - mean) / spread
    want = spread * (z * (2 * st.norm.cdf(z) - 1) + 2 * st.norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(losses.crps(both, outputs, y), want.sum(1), rtol=1e-3)


@pytest.mark.parametrize("kind", [kinds.Gaussian(2), kinds.FullCovarianceGaussian(2), kinds.HomoscedasticGaussian(2)])
def test_energy_score_against_monte_carlo(kind: Any) -> None:
    outputs, _ = draw(kind.width + kind.free)
    y = RNG.normal(1, 2, (N, 2))
    got = losses.energy_score(64)(kind, outputs, jnp.asarray(y, jnp.float32))
    law = kind.distribution(outputs)
    draws = np.asarray(law.sample(jax.random.key(0), (200_000,)), np.float64)
    first = np.linalg.norm(draws - y, axis=-1).mean(0)
    second = np.linalg.norm(draws[::2] - draws[1::2], axis=-1).mean(0)
    np.testing.assert_allclose(got, first - 0.5 * second, rtol=0.05, atol=0.05)
    finite(losses.energy_score(8), kind, jnp.zeros((N, 2)))


def test_energy_score_of_one_output_is_crps() -> None:
    outputs, _ = draw(2)
    y = jnp.zeros(N)
    np.testing.assert_array_equal(
        losses.energy_score()(kinds.Gaussian(), outputs, y), losses.crps(kinds.Gaussian(), outputs, y)
    )


@pytest.mark.parametrize(
    "kind", [kinds.Categorical(3), kinds.DirichletEvidential(3), kinds.HeteroscedasticLogits(3, num_draws=16)]
)
def test_label_smoothing_and_focal(kind: Any) -> None:
    outputs, _ = draw(kind.width)
    y = RNG.integers(0, 3, N)
    probs = np.exp(np.asarray(kind.log_probs(outputs), np.float64))
    target = 0.9 * np.eye(3)[y] + 0.1 / 3
    np.testing.assert_allclose(
        losses.label_smoothing(0.1)(kind, outputs, jnp.asarray(y)), -(target * np.log(probs)).sum(1), rtol=1e-3
    )
    p = probs[np.arange(N), y]
    np.testing.assert_allclose(
        losses.focal(2.0)(kind, outputs, jnp.asarray(y)), -((1 - p) ** 2) * np.log(p), rtol=1e-3, atol=1e-5
    )
    for loss in (losses.label_smoothing(0.1), losses.focal(0.5), losses.focal(2.0)):
        finite(loss, kind, jnp.asarray(y))


def test_label_smoothing_and_focal_of_yes_or_no_and_of_labels() -> None:
    outputs, o = draw(1)
    y = np.array([0, 1] * 3)
    p = scipy.special.expit(o[:, 0] * (2 * y - 1))
    want = -(0.95 * np.log(p) + 0.05 * np.log(1 - p))
    np.testing.assert_allclose(losses.label_smoothing(0.1)(kinds.Bernoulli(), outputs, jnp.asarray(y)), want, rtol=1e-4)
    outputs, o = draw(2)
    y = RNG.integers(0, 2, (N, 2))
    p = scipy.special.expit(o * (2 * y - 1))
    want = -((1 - p) ** 2 * np.log(p)).sum(1)
    np.testing.assert_allclose(losses.focal()(kinds.Multilabel(2), outputs, jnp.asarray(y)), want, rtol=1e-3)
    ordinal = kinds.Ordinal(3)
    outputs, _ = draw(3)
    labels = jnp.asarray([0, 1, 2] * 2)
    zero = losses.focal(0.0)(ordinal, outputs, labels)
    np.testing.assert_allclose(zero, -ordinal.log_prob(outputs, labels), rtol=1e-4)


def test_pinball_of_the_head_and_of_any_law() -> None:
    kind = kinds.Quantile((0.1, 0.5, 0.8))
    outputs, _ = draw(3)
    y = RNG.normal(size=N)
    q = np.asarray(kind.parameters(outputs)[0], np.float64)
    level = np.array(kind.levels)
    want = (((y[:, None] < q) - level) * (q - y[:, None])).mean(1)
    np.testing.assert_allclose(losses.pinball()(kind, outputs, jnp.asarray(y, jnp.float32)), want, rtol=1e-3, atol=1e-5)
    finite(losses.pinball(), kind, jnp.zeros(N))
    outputs, o = draw(2)
    q = st.norm(o[:, :1], softplus(o[:, 1:]) + 1e-3).ppf(level)
    want = (((y[:, None] < q) - level) * (q - y[:, None])).mean(1)
    got = losses.pinball((0.1, 0.5, 0.8))(kinds.Gaussian(), outputs, jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-5)


def test_evidential_is_its_likelihood_and_regulariser() -> None:
    kind = kinds.Evidential()
    outputs, _ = draw(4)
    y = RNG.normal(size=N)
    loc, nu, alpha, beta = (np.asarray(part, np.float64) for part in kind.parameters(outputs))
    omega = 2 * beta * (1 + nu)  # amini2020, eq. 8, as printed
    nll = 0.5 * np.log(np.pi / nu) - alpha * np.log(omega) + (alpha + 0.5) * np.log((y - loc) ** 2 * nu + omega)
    nll += scipy.special.gammaln(alpha) - scipy.special.gammaln(alpha + 0.5)
    want = nll + 0.3 * np.abs(y - loc) * (2 * nu + alpha)
    np.testing.assert_allclose(losses.evidential(0.3)(kind, outputs, jnp.asarray(y, jnp.float32)), want, rtol=1e-3)
    finite(losses.evidential(), kind, jnp.zeros(N))


def test_dirichlet_evidential_against_draws_and_integration() -> None:
    kind = kinds.DirichletEvidential(3)
    outputs, _ = draw(3)
    y = np.array([0, 1, 2] * 2)
    (alpha,) = (np.asarray(part, np.float64) for part in kind.parameters(outputs))
    bare = losses.dirichlet_evidential(0.0)(kind, outputs, jnp.asarray(y))
    full = losses.dirichlet_evidential(1.0)(kind, outputs, jnp.asarray(y))
    for i in range(N):
        draws = RNG.dirichlet(alpha[i], 400_000)
        np.testing.assert_allclose(bare[i], ((np.eye(3)[y[i]] - draws) ** 2).sum(1).mean(), rtol=0.02)
        misplaced = np.where(np.eye(3)[y[i]] == 1, 1, alpha[i])
        own, none = st.dirichlet(misplaced), st.dirichlet(np.ones(3))
        kl = -own.entropy() - none.logpdf(np.ones(3) / 3)
        np.testing.assert_allclose(full[i] - bare[i], kl, rtol=1e-3, atol=1e-4)
    finite(losses.dirichlet_evidential(), kind, jnp.asarray(y))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: losses.crps(kinds.Categorical(3), None, None), "for numbers, but Categorical"),
        (lambda: losses.focal()(kinds.Gaussian(), None, None), "focal is for classes"),
        (lambda: losses.pinball()(kinds.Gaussian(), None, None), "needs levels="),
        (lambda: losses.evidential()(kinds.Gaussian(), None, None), r"for uq.likelihoods.Evidential\(\)"),
        (lambda: losses.dirichlet_evidential()(kinds.Categorical(3), None, None), "for uq.likelihoods.DirichletEvid"),
        (lambda: losses.label_smoothing(1.0), "`eps` expected a number from 0 to below 1, but it is 1.0"),
        (lambda: losses.focal(-1.0), "`gamma` expected a number of at least 0"),
        (lambda: losses.energy_score(3), "even number, for pairs of draws"),
        (lambda: losses.pinball((0.5, 1.0)), "strictly between 0 and 1"),
        (lambda: losses.evidential(-0.1), "`coefficient` expected a number of at least 0"),
    ],
)
def test_losses_that_do_not_fit(make: Any, said: str) -> None:
    with pytest.raises(uq.InputError, match=said):
        make()
