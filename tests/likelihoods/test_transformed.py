"""Target transforms by change of variables: exact, proper, composed, inverted, and what `fit` makes of them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.integrate
import scipy.special
import scipy.stats as st

import uq
from uq.likelihoods import BoxCox, Censored, Gamma, Gaussian, Log, LogNormal, MixtureDensity, Poisson, transformed
from uq.likelihoods import _standardized as standardized
from uq.likelihoods import _standardizes as standardizes
from uq.likelihoods._distributions import untransformed

RNG = np.random.default_rng(0)
OUTPUTS = np.array([[0.3, 0.2], [-1.0, 1.0]], np.float32)
MEAN = OUTPUTS[:, 0].astype(np.float64)
SCALE = np.logaddexp(OUTPUTS[:, 1].astype(np.float64), 0) + 1e-3


def test_a_log_over_a_gaussian_is_log_normal() -> None:
    kind = transformed(transformed(Gaussian(), 2.0, 0.5), Log())
    law = kind.distribution(OUTPUTS)
    assert type(law).__name__ == "LogNormal"
    want = st.lognorm(s=0.5 * SCALE, scale=np.exp(2 + 0.5 * MEAN))
    y = np.array([3.0, 11.0])
    np.testing.assert_allclose(law.log_prob(y), want.logpdf(y), rtol=1e-4)
    np.testing.assert_allclose(kind.log_prob(OUTPUTS, y), want.logpdf(y), rtol=1e-4)
    np.testing.assert_allclose(law.mean, want.mean(), rtol=1e-4)
    np.testing.assert_allclose(LogNormal().log_prob(OUTPUTS, y), transformed(Gaussian(), Log()).log_prob(OUTPUTS, y))


@pytest.mark.parametrize(
    "change", [Log(shift=2.0), BoxCox(0.0), BoxCox(0.3), BoxCox(0.5, shift=1.0), BoxCox(1.0), BoxCox(2.0)]
)
def test_a_transform_inverts_and_carries_its_slope(change: Any) -> None:
    y = np.linspace(0.1, 40, 50)
    if isinstance(change, BoxCox):
        np.testing.assert_allclose(
            change.forward(y, np), scipy.special.boxcox(y + change.shift, change.power), rtol=1e-12
        )
    np.testing.assert_allclose(change.inverse(change.forward(y, np), np), y, rtol=1e-10)
    slope = (change.forward(y + 1e-6, np) - change.forward(y - 1e-6, np)) / 2e-6
    np.testing.assert_allclose(change.log_derivative(y, np), np.log(slope), atol=1e-6)
    np.testing.assert_allclose(change.forward(jnp.asarray(y, jnp.float32)), change.forward(y, np), rtol=1e-5, atol=1e-5)
    grad = jax.grad(lambda w: change.inverse(w).sum())(jnp.array([-9.0, -1.0, 0.0, 3.0]))
    assert np.isfinite(grad).all()


@pytest.mark.parametrize("change", [BoxCox(0.5), BoxCox(0.7, shift=3.0)])
def test_box_cox_densities_integrate_to_one(change: Any) -> None:
    """Also where the normal reaches below the point at which the power's scale would end."""
    kind = transformed(transformed(Gaussian(), -1.0, 2.0), change)

    def pdf(y: float) -> float:
        z = (change.forward(np.float64(y), np) + 1.0) / 2.0
        return float(st.norm(MEAN[1], SCALE[1]).pdf(z) / 2.0 * np.exp(change.log_derivative(np.float64(y), np)))

    edge = -change.shift
    total = sum(
        scipy.integrate.quad(pdf, a, b, limit=300)[0] for a, b in [(-900, edge), (edge, edge + 1), (edge + 1, 900)]
    )
    np.testing.assert_allclose(total, 1, rtol=1e-4)
    y = np.array([5.0])
    np.testing.assert_allclose(kind.log_prob(OUTPUTS[1:], y), np.log([pdf(5.0)]), rtol=1e-4)
    np.testing.assert_allclose(
        kind.distribution(jnp.asarray(OUTPUTS[1:])).log_prob(jnp.asarray([5.0])), np.log([pdf(5.0)]), rtol=1e-4
    )
    np.testing.assert_allclose(kind.from_base(kind.to_base(y)), y, rtol=1e-5)


def test_units_before_a_transform_compose() -> None:
    kind = transformed(transformed(Gaussian(), Log()), 10.0, 4.0)  # y = 10 + 4 exp(z)
    y = np.array([13.0, 30.0])
    want = st.lognorm(s=SCALE, scale=np.exp(MEAN)).logpdf((y - 10) / 4) - np.log(4)
    np.testing.assert_allclose(kind.log_prob(OUTPUTS, y), want, rtol=1e-4)
    np.testing.assert_allclose(
        kind.distribution(jnp.asarray(OUTPUTS)).log_prob(jnp.asarray(y, jnp.float32)), want, rtol=1e-4
    )
    again = jax.jit(lambda kind, o, y: kind.log_prob(o, y))(kind, jnp.asarray(OUTPUTS), jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(again, want, rtol=1e-4)


def test_several_outputs_share_a_transform() -> None:
    kind = transformed(transformed(Gaussian(2), [1.0, 2.0], [0.5, 3.0]), Log())
    outputs = jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32)
    y = RNG.lognormal(1, 1, (4, 2))
    value = kind.log_prob(outputs, y)
    law = kind.distribution(outputs)
    assert value.shape == (4,) and law.event_shape == (2,)
    np.testing.assert_allclose(value, law.log_prob(jnp.asarray(y, jnp.float32)), rtol=1e-4, atol=1e-4)


def test_mixtures_move_without_leaving_their_family() -> None:
    law = transformed(MixtureDensity(2), 100.0, 5.0).distribution(jnp.zeros((3, 6)))
    assert type(law).__name__ == "MixtureSameFamilyGeneral" or type(law).__name__.startswith("Mixture")
    np.testing.assert_allclose(law.mean, 100, rtol=1e-5)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BoxCox(-1.0), "power of at least 0, but it is -1.0: below 0 the new scale ends"),
        (lambda: transformed(Gaussian(), "log"), "loc and scale, or a transform such as uq.likelihoods.Log"),
        (lambda: transformed(Gamma(), Log()), r"Gamma\(\) is not a likelihood of the whole line"),
        (lambda: transformed(uq.likelihoods.Categorical(3), Log()), "is not a likelihood of the whole line"),
        (lambda: transformed(transformed(Gaussian(2), Log()), [0.0, 1.0], [1.0, 2.0]), "one concrete loc and scale"),
        (lambda: transformed(Gaussian(), Log()).log_jacobian, "depends on y: use `log_derivative"),
        (lambda: Censored(), "lower or an upper limit; without any, use uq.likelihoods.Gaussian"),
        (lambda: Censored(2.0, 1.0), "lower < upper, but got 2.0 and 1.0"),
        (lambda: uq.likelihoods.Quantile((0.9, 0.1)), "at least two levels that rise"),
        (lambda: uq.likelihoods.HeteroscedasticLogits(3, num_draws=5), "even number, for pairs of draws, but it is 5"),
        (lambda: uq.likelihoods.StudentT(df=-1.0), "`df` expected a positive number or None, but it is -1.0"),
        (lambda: uq.likelihoods.from_numpyro(lambda o: o, 2), "return a numpyro distribution, but returns a"),
        (lambda: uq.likelihoods.from_numpyro(3, 2), "expected a function of outputs, but got a int"),
        (lambda: uq.likelihoods.from_numpyro(lambda o: o[..., 7] @ 3, 2), "fails for outputs of shape"),
    ],
)
def test_what_cannot_be_made(make: Any, said: str) -> None:
    with pytest.raises(uq.InputError, match=said):
        make()


def test_from_numpyro_reads_the_task_from_the_support() -> None:
    import numpyro.distributions as dist

    def one(function: Any, width: int = 1) -> tuple[str, str]:
        kind = uq.likelihoods.from_numpyro(function, width)
        return kind.task, kind.standardize

    assert one(lambda o: dist.Cauchy(o[..., 0], 1.0)) == ("regression", "affine")
    assert one(lambda o: dist.Weibull(jnp.exp(o[..., 0]), 2.0)) == ("regression", "scale")
    assert one(lambda o: dist.Kumaraswamy(jnp.exp(o[..., 0]), 1.0)) == ("regression", "none")
    assert one(lambda o: dist.Geometric(logits=o[..., 0])) == ("regression", "none")
    assert one(lambda o: dist.Bernoulli(logits=o[..., 0])) == ("binary", "none")
    assert one(lambda o: dist.Bernoulli(logits=o).to_event(1), 3) == ("multilabel", "none")
    assert one(lambda o: dist.Categorical(logits=o), 4) == ("multiclass", "none")
    assert one(lambda o: dist.Normal(o, 1.0).to_event(1), 2) == ("regression", "affine")
    counts = uq.likelihoods.from_numpyro(lambda o: dist.Geometric(logits=o[..., 0]), 1)
    np.testing.assert_allclose(counts.log_prob(jnp.zeros((1, 1)), jnp.array([2])), [3 * np.log(0.5)], rtol=1e-5)
    with pytest.raises(uq.InputError, match="whole numbers of at least 0, but row 0"):
        counts.check([0.5])
    with pytest.raises(uq.InputError, match="above 0, but row 1 of `y` is -2"):
        uq.likelihoods.from_numpyro(lambda o: dist.Weibull(jnp.exp(o[..., 0]), 2.0), 1).check([1.0, -2.0])


# What `fit` does to the target


@pytest.mark.parametrize(
    "kind",
    [
        Gaussian(),
        LogNormal(),
        Gamma(),
        transformed(Gaussian(), BoxCox(0.5)),
        Censored(lower=200.0),
        Censored(upper=900.0),
    ],
)
def test_standardised_training_is_the_same_likelihood_up_to_a_constant(kind: Any) -> None:
    """log p(y) in the user's units − log p(y′) as trained does not depend on the network's outputs."""
    y = RNG.lognormal(6, 0.5, 60)
    if isinstance(kind, Censored):
        y = np.clip(y, *kind._ends)
    assert standardizes(kind)
    own, trained = standardized(kind, y, np.arange(60))
    assert np.abs(trained - getattr(kind, "limit", 0)).max() < 50
    y32, one, two = jnp.asarray(trained, jnp.float32), OUTPUTS[:1], OUTPUTS[1:]
    both = [own.log_prob(jnp.asarray(o), y) - kind.log_prob(jnp.asarray(o), y32) for o in (one, two)]
    np.testing.assert_allclose(both[0], both[1], atol=2e-2 if isinstance(kind, Censored) else 2e-3)
    own.check(y)


def test_a_limit_stays_a_limit_in_any_units() -> None:
    y = np.array([200.0, 200.0, 450.0, 900.0])
    own, trained = standardized(Censored(lower=200.0), y, np.arange(4))
    assert (trained[:2] == 200).all()
    law = st.norm(200 + own.scale * MEAN[0], own.scale * SCALE[0])
    want = np.where(y == 200, law.logcdf(200), law.logpdf(y))
    np.testing.assert_allclose(own.log_prob(OUTPUTS[:1], y), want, rtol=1e-4)
    again = jax.jit(lambda kind, o, y: kind.log_prob(o, y))(own, OUTPUTS[:1], jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(again, want, rtol=1e-4)
    np.testing.assert_allclose(own.distribution(OUTPUTS[:1]).log_prob(jnp.asarray(y, jnp.float32)), want, rtol=1e-4)
    with pytest.raises(uq.InputError, match="after the change of the target's units"):
        own.check(np.array([199.0]))


@pytest.mark.parametrize("kind", [Poisson(), uq.likelihoods.Beta(), Censored(0.0, 1.0), uq.likelihoods.Ordinal(3)])
def test_targets_that_keep_their_units(kind: Any) -> None:
    assert not standardizes(kind)
    y = np.array([0, 1, 1])
    assert standardized(kind, y, np.arange(3)) == (kind, pytest.approx(y))


def test_units_that_the_user_chose_stay() -> None:
    assert not standardizes(transformed(Gaussian(), 1.0, 2.0))
    assert not standardizes(transformed(transformed(Gaussian(), 1.0, 2.0), Log()))


def test_one_far_outlier_does_not_overflow_a_logarithm() -> None:
    y = np.ones(20000)
    y[0] = 1e6
    _, trained = standardized(LogNormal(), y, np.arange(20000))
    assert np.isfinite(trained.astype(np.float32)).all() and (trained.astype(np.float32) > 0).all()


@pytest.mark.parametrize("limit", [0.1, 0.7, -7.7, 1e3 / 3])
def test_outcomes_at_a_limit_stay_there_through_a_change_of_units(limit):
    """A rounding below it an outcome would be impossible; a rounding above, it would have a density."""
    for scale in (0.37, 3.3, 1e2 / 7):
        base = uq.likelihoods.Censored(lower=limit)
        pred = uq.Predictive(jnp.zeros((2, 2, 2)), uq.likelihoods.transformed(base, limit * (1 - scale), scale))
        for y in (np.array([limit, limit]), np.float32([limit, limit])):
            np.testing.assert_allclose(pred.cdf(y), 0.5, rtol=1e-6)
            np.testing.assert_allclose(pred.cdf_below(y), 0, atol=1e-6)
            np.testing.assert_allclose(pred.log_prob(y), np.log(0.5), rtol=1e-5)
        np.testing.assert_array_equal(pred.quantile(0.2), np.float32(limit))


def test_float32_targets_at_a_limit_that_float32_rounds():
    kind = uq.likelihoods.Censored(lower=0.7, upper=1.1)
    kind.check(np.float32([0.7, 1.1]))  # 0.69999999 and 1.10000002
    with pytest.raises(uq.InputError, match=r"targets from 0\.7 to 1\.1"):
        kind.check(np.float32([0.69]))
    law = kind.distribution(jnp.zeros((2, 2)))
    want = -np.asarray(law.log_prob(jnp.float32([0.7, 1.1])))
    np.testing.assert_allclose(uq.metrics.log_score(law, np.array([0.7, 1.1])), want, rtol=1e-5)


def test_crps_of_a_bent_target_at_outliers():
    """Beyond 12 standard deviations the square of a tail is no float32, while the quantile beyond it is infinite."""
    kind = transformed(Gaussian(), Log(shift=1.0))
    y = np.array([1e-3, 0.5, 50.0, 5e4])
    outputs = jnp.broadcast_to(jnp.array([0.3, -3.0]), (1, 4, 2))  # log(y + 1) ~ N(0.3, 0.05²)
    scale = np.log1p(np.exp(-3.0)) + 1e-3
    log_normal = st.lognorm(scale, loc=-1.0, scale=np.exp(0.3))
    want = uq.laws.host.crps(log_normal, y)
    np.testing.assert_allclose(uq.Predictive(outputs, kind).crps(y), want, rtol=1e-4)
    np.testing.assert_allclose(uq.laws.host.crps(kind.distribution(outputs[0]), y), want, rtol=1e-5)
    assert np.isfinite(
        jax.grad(lambda o: uq.Predictive(o, kind).crps(jnp.asarray(y, jnp.float32)).sum())(outputs)
    ).all()


def test_mixture_densities_of_a_bent_target():
    kind = transformed(MixtureDensity(2), Log())
    outputs = jnp.asarray(np.random.default_rng(0).normal(0, 0.5, (2, 3, 6)), jnp.float32)
    pred = uq.Predictive(outputs, kind)
    y = np.array([0.3, 1.0, 4.0])
    weight, mean, scale = (np.asarray(part, np.float64) for part in MixtureDensity(2).parameters(outputs))
    flat = [np.moveaxis(part, 0, -1).reshape(3, -1) for part in (np.exp(weight) / 2, mean, scale)]
    np.testing.assert_allclose(pred.mean, (flat[0] * np.exp(flat[1] + flat[2] ** 2 / 2)).sum(1), rtol=1e-4)
    x = np.linspace(1e-6, 400, 2_000_001)
    for row in range(3):
        w, m, s = (part[row][:, None] for part in flat)
        below = (w * scipy.special.ndtr((np.log(x) - m) / s)).sum(0)
        want = np.trapezoid(np.where(x < y[row], below, 1 - below) ** 2, x)
        assert float(pred.crps(y)[row]) == pytest.approx(want, rel=1e-3)
    assert np.isfinite(pred.entropy).all()
    np.testing.assert_allclose(pred.to_numpyro().log_prob(y), pred.log_prob(y), rtol=1e-4)


@pytest.mark.parametrize("change", [Log(), Log(2.0), BoxCox(0.0, 1.0)], ids=repr)
def test_below_its_support_a_law_has_a_distribution_function(change: Any) -> None:
    kind = transformed(Gaussian(), change)
    pred = uq.Predictive(np.stack([OUTPUTS, OUTPUTS + 0.5]), kind)
    laws, law = uq.laws, kind.distribution(OUTPUTS)
    for y in (-7.0, -change.shift):
        at = np.full(2, y)
        for got in (pred.cdf(at), pred.cdf_below(at), laws.cdf(law, at), laws.host.cdf(law, at)):
            np.testing.assert_array_equal(got, 0)
        for got in (pred.sf(at), laws.sf(law, at), laws.host.sf(law, at)):
            np.testing.assert_array_equal(got, 1)
        for got in (laws.log_prob(law, at), laws.host.log_prob(law, at), jax.jit(kind.log_prob)(OUTPUTS, at)):
            np.testing.assert_array_equal(got, -np.inf)
    assert np.isnan(pred.cdf(np.array([np.nan, 1.0]))[0])
    inside = np.array([0.5, 3.0])
    want = st.norm(MEAN, SCALE).cdf(np.log(inside + change.shift))
    np.testing.assert_allclose(laws.cdf(law, inside), want, rtol=1e-5)
    slope = jax.grad(lambda y: laws.cdf(law, y).sum())(jnp.asarray([-7.0, -7.0]))
    np.testing.assert_array_equal(slope, 0)


@pytest.mark.parametrize(
    ("power", "shift", "mean", "scale"),
    [(2.0, 0.0, 0.5, 0.7), (3.0, 1.0, 1.0, 0.5), (2.0, 3.0, 1.0, 1.0), (0.5, 0.0, 0.2, 1.0), (2.0, 0.0, -3.0, 0.3),
     (3.0, 0.0, 0.0, 2.0)],
)  # fmt: skip
def test_moments_on_both_sides_of_where_a_power_changes_its_sign(
    power: float, shift: float, mean: float, scale: float
) -> None:
    change = BoxCox(power, shift)
    law = transformed(Gaussian(min_scale=0.0), change).distribution(jnp.float32([[mean, np.log(np.expm1(scale))]]))
    ends = sorted({mean - 12 * scale, mean + 12 * scale, *np.clip([-1 / power], mean - 12 * scale, mean + 12 * scale)})

    def expected(function: Any) -> float:
        def weighed(w: float) -> float:
            return function(float(change.inverse(np.float64(w), np))) * st.norm.pdf(w, mean, scale)

        pieces = itertools.pairwise(ends)
        return sum(scipy.integrate.quad(weighed, *piece, limit=400, epsabs=1e-12)[0] for piece in pieces)

    first = expected(lambda y: y)
    second = expected(lambda y: (y - first) ** 2)
    slope = expected(lambda y: float(change.log_derivative(np.float64(y), np)))
    want_entropy = st.norm(mean, scale).entropy() - slope
    for route, tight in ((uq.laws, 3e-5), (uq.laws.host, 3e-6)):
        np.testing.assert_allclose(np.ravel(route.moments(law)), [first, second], rtol=tight)
        np.testing.assert_allclose(np.ravel(route.entropy(law)), want_entropy, rtol=1e-4, atol=1e-5)
        for y in (first, first - 1.7 * np.sqrt(second), first + 0.6 * np.sqrt(second), -shift, 0.1 - shift):
            want = _crps_by_definition(lambda x: st.norm.cdf(change.forward(x, np), mean, scale), y)
            got = np.ravel(route.crps(law, np.float32(y)))[0]
            assert abs(got - want) < tight * np.sqrt(second), (y, got, want)


def _crps_by_definition(cdf: Callable[[np.ndarray], np.ndarray], y: float) -> float:
    """∫ (F − 1{y ≤ x})² dx on a grid, finer the nearer to y."""
    x = y + 3000 * np.linspace(-1, 1, 400_001) ** 3
    return float(np.trapezoid(np.square(cdf(x) - (x >= y)), x))


def test_the_crps_of_what_is_not_a_number_is_none() -> None:
    """Not 0, the best of all scores."""
    soft = [dist.transforms.SoftplusTransform()]
    fixed = dist.TransformedDistribution(dist.Normal(0.0, 1.0), soft)
    assert np.isnan(uq.laws.crps(fixed, jnp.float32(np.nan))) and np.isnan(uq.laws.host.crps(fixed, np.nan))
    assert np.isnan(uq.laws.host.crps(st.gennorm(1.3), np.nan))

    def of(mean: Any, kind: Any) -> Any:
        law = kind(dist.Normal(mean, 1.0, validate_args=False))
        return uq.laws.crps(law, jnp.float32(1.0))

    for kind in (
        lambda base: dist.TransformedDistribution(base, soft),
        lambda base: untransformed(base, BoxCox(0.5)),
    ):
        assert np.isnan(jax.jit(lambda mean, kind=kind: of(mean, kind))(jnp.float32(np.nan)))
        assert np.isfinite(jax.jit(lambda mean, kind=kind: of(mean, kind))(jnp.float32(0.3)))


def test_a_law_with_a_seam_keeps_float32_among_float64() -> None:
    with jax.enable_x64(True):
        law = untransformed(dist.Normal(*jnp.float32([[0.0, 1.0], [1.0, 2.0]])), BoxCox(0.5))
        assert uq.laws.crps(law, jnp.asarray([0.5, 1.0], jnp.float32)).dtype == jnp.float32
        assert uq.laws.entropy(law).dtype == jnp.float32
