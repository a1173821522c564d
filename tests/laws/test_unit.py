"""The Beta family against scipy and quadrature in float64."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from uq.laws._family import family_of
from uq.laws.unit import BETA

SIZE = 240


@functools.cache
def case():
    """Concentrations from 1e-2 to 1e7 and outcomes from the bulk and the tails, as float32 holds them."""
    rng = np.random.default_rng(0)
    a, b = 10 ** rng.uniform(-1, 6, SIZE), 10 ** rng.uniform(-1, 6, SIZE)
    a[:10], b[:10] = 1e-2, 0.5
    a, b = (value.astype(np.float32).astype(float) for value in (a, b))
    law = stats.beta(a, b)
    y = np.clip(law.mean() + rng.uniform(-6, 6, SIZE) * law.std(), 0.01 * law.mean(), 1 - 0.01 * (1 - law.mean()))
    return np.minimum(y.astype(np.float32), 1 - np.float32(2**-23)).astype(float), a, b, law


@functools.cache
def compiled(name):
    return jax.jit(getattr(BETA, name))


def evaluate(name, *values, single):
    kind = np.float32 if single else np.float64
    with jax.enable_x64(not single):
        values = [np.asarray(v) if np.asarray(v).dtype == bool else np.asarray(v, kind) for v in values]
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), compiled(name)(*values))


@pytest.mark.parametrize("single", [True, False])
def test_density_and_tails_are_scipys(single):
    y, a, b, law = case()
    exact = law.logpdf(y)
    # In float32 the product a (1 − y) − b y is rounded: as much as moving y by half a unit in the last place.
    slack = 2e-7 * np.abs((a - 1) / y - (b - 1) / (1 - y)) if single else 0
    error = np.abs(evaluate("log_prob", y, a, b, single=single) - exact) - slack
    assert (error <= (1e-5 if single else 1e-8) * np.maximum(1, np.abs(exact))).all()
    for name in ("cdf", "sf"):
        exact = getattr(law, name)(y)
        kept = exact > 1e-200
        found = evaluate("log_" + name, y, a, b, single=single)[kept]
        size = np.maximum(1, np.abs(np.log(exact[kept])))
        shift = 1e-7 * law.pdf(y)[kept] / exact[kept] if single else 0
        assert (np.abs(found - np.log(exact[kept])) <= (1e-4 if single else 1e-9) * size + shift).all()


@pytest.mark.parametrize("single", [True, False])
def test_quantiles_in_both_tails(single):
    _, a, b, law = case()
    rng = np.random.default_rng(1)
    tail = np.where(rng.random(SIZE) < 0.5, 10 ** rng.uniform(-12, -1, SIZE), rng.uniform(0.02, 0.98, SIZE))
    tail, upper = tail.astype(np.float32).astype(float), rng.random(SIZE) < 0.5
    exact = np.where(upper, law.isf(tail), law.ppf(tail))
    found = evaluate("icdf", tail, upper, a, b, single=single)
    kept = exact > 1e-25
    np.testing.assert_allclose(found[kept], exact[kept], rtol=3e-5 if single else 1e-8)


def test_icdf_of_log_tails():
    found = jax.jit(BETA.icdf_log)(jnp.float32(-300.0), jnp.asarray(False), jnp.float32(5.0), jnp.float32(1.0))
    assert float(found) == pytest.approx(np.exp(-60.0), rel=1e-4)


def score(a, b, y):
    """∫ (F(x) − 1{y ≤ x})² dx over the logit of x, where the integrand has no spikes."""

    def below(s):
        x, rest = special.expit(s), special.expit(-s)
        return special.betainc(a, b, x) if s < 0 else special.betaincc(b, a, rest)

    def above(s):
        x, rest = special.expit(s), special.expit(-s)
        return special.betaincc(a, b, x) if s < 0 else special.betainc(b, a, rest)

    centre, width = np.log(a / b), np.sqrt(1 / a + 1 / b)
    split = special.logit(np.clip(y, 1e-15, 1 - 1e-15))
    cuts = sorted({-36.0, 0.0, 36.0, split, *np.clip(centre + width * np.linspace(-8, 8, 9), -36, 36)})
    total = max(-y, 0) + max(y - 1, 0)
    for low, high in itertools.pairwise(cuts):
        side = below if high <= split else above
        f = lambda s, side=side: side(s) ** 2 * special.expit(s) * special.expit(-s)  # noqa: E731
        total += integrate.fixed_quad(np.vectorize(f), low, high, n=60)[0]
    return total


@pytest.mark.parametrize("single", [True, False])
def test_crps_is_its_definition_integrated(single):
    y, a, b, _ = case()
    found = evaluate("crps", y, a, b, single=single)
    assert (found >= 0).all()
    for i in range(5, SIZE, 12):
        assert found[i] == pytest.approx(score(a[i], b[i], y[i]), rel=3e-4 if single else 1e-6)


def test_defect_14_outcomes_outside_the_support():
    def at(name, y, a, b):
        wide = (np.resize(value, SIZE) for value in (np.asarray(y), a, b))
        return evaluate(name, *wide, single=True)[: np.size(y)]

    y = [-0.5, 0.0, 1.0, 1.7]
    np.testing.assert_allclose(at("crps", y, 2.0, 5.0), [score(2.0, 5.0, v) for v in y], rtol=1e-5)
    np.testing.assert_array_equal(np.exp(at("log_cdf", y, 2.0, 5.0)), [0, 0, 1, 1])
    np.testing.assert_array_equal(at("log_prob", y, 2.0, 5.0), [-np.inf] * 4)
    for a, b in ((1.0, 3.0), (0.5, 1.0), (1.0, 1.0)):
        np.testing.assert_allclose(at("log_prob", y[1:3], a, b), stats.beta(a, b).logpdf(y[1:3]), rtol=1e-6)


def test_entropy_and_moments():
    _, a, b, law = case()
    np.testing.assert_allclose(evaluate("entropy", a, b, single=True), law.entropy(), rtol=2e-5, atol=2e-5)
    mean, variance = evaluate("moments", a, b, single=True)
    np.testing.assert_allclose(mean, law.mean(), rtol=1e-6)
    np.testing.assert_allclose(variance, law.var(), rtol=1e-6)


@pytest.mark.parametrize("name", ["log_prob", "log_cdf", "crps"])
def test_derivatives_are_differences(name):
    y, a, b, law = case()
    y = np.clip(y, law.mean() - 3 * law.std(), law.mean() + 3 * law.std())
    y = np.clip(y, 0.02 * law.mean(), 1 - 0.02 * (1 - law.mean()))
    values = [y, np.maximum(a, 0.1), b]
    with jax.enable_x64(True):
        function = compiled(name)
        slopes = jax.jit(jax.grad(lambda *v: getattr(BETA, name)(*v).sum(), (0, 1, 2)))(*values)
        for at, slope in enumerate(slopes):
            step = (
                (1e-3 * np.minimum(law.std(), np.minimum(y, 1 - y)))
                if at == 0
                else values[at] * 1e-3 * np.minimum(1, 3 / np.sqrt(np.maximum(a, b)))
            )

            def moved(times, at=at, step=step):
                return np.asarray(function(*(v + times * step if i == at else v for i, v in enumerate(values))))

            expected = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step)
            noise = 1e-9 * np.maximum(np.abs(moved(0)), 1e-3) / step
            assert np.isfinite(slope).all()
            assert (np.abs(slope - expected) <= 1e-4 * np.abs(expected) + noise).all(), at


def test_numpyro_finds_the_family():
    for law in (dist.Beta(2.0, 5.0), dist.BetaProportion(2 / 7, 7.0)):
        family, (a, b) = family_of(law)
        assert family is BETA
        assert (float(a), float(b)) == pytest.approx((2, 5))
    assert BETA.host(2.0, 5.0).mean() == pytest.approx(2 / 7)


LAWS = jax.jit(lambda y, a, b: (BETA.crps(y, a, b), BETA.crps(1 - y, b, a), BETA.entropy(a, b), BETA.entropy(b, a)))


@settings(max_examples=60, deadline=None)
@given(y=st.floats(0.001, 0.999), a=st.floats(0.1, 1e4), b=st.floats(0.1, 1e4))
def test_mirrored_fractions_score_the_same(y, a, b):
    score, mirrored, entropy, swapped = map(float, LAWS(*map(jnp.float32, (y, a, b))))
    assert score == pytest.approx(mirrored, rel=1e-3, abs=1e-6)
    assert entropy == pytest.approx(swapped, rel=1e-5, abs=1e-5)
