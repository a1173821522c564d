"""`uq.laws.special` against scipy in float64: both tails, derivatives in every argument, inverses, float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from uq.laws import special

SIZE = 400


def x64():
    return jax.enable_x64(True)


def shapes(seed, low=-2.0, high=7.0):
    return 10 ** np.random.default_rng(seed).uniform(low, high, SIZE)


def gamma_points(seed, single):
    """Shapes from 1e-2 to 1e7, and points through the bulk and far tails."""
    rng = np.random.default_rng(seed)
    a = shapes(seed)
    near = np.maximum(a + rng.uniform(-10, 10, SIZE) * np.sqrt(a), 1e-3 * a)
    x = np.where(rng.random(SIZE) < 0.6, near, a * 10 ** rng.uniform(-6, 2, SIZE))
    kind = np.float32 if single else np.float64
    return a.astype(kind), x.astype(kind)


def beta_points(seed, single):
    """Parameters from 1e-2 to 1e7, Student's among them, and points through the bulk and far tails."""
    rng = np.random.default_rng(seed)
    a, b = shapes(seed), shapes(seed + 1)
    b[:100], a[100:150] = 0.5, 0.5
    mean = a / (a + b)
    near = mean + rng.uniform(-10, 10, SIZE) * np.sqrt(mean * (1 - mean) / (a + b + 1))
    far = sp.expit(np.log(a / b) + rng.uniform(-8, 8, SIZE))
    x = np.where((rng.random(SIZE) < 0.6) & (near > 0) & (near < 1), near, far)
    kind = np.float32 if single else np.float64
    return a.astype(kind), b.astype(kind), x.astype(kind)


def wide(*values):
    return tuple(np.asarray(value, np.float64) for value in values)


def log_error(log_value, reference):
    """Error of a logarithm, relative where it is large: of tails up to 0.9, above underflow."""
    reference = np.asarray(reference)
    kept = (reference > 1e-280) & (reference < 0.9)
    exact = np.log(reference[kept])
    return np.abs(np.asarray(log_value, np.float64)[kept] - exact) / np.maximum(1, np.abs(exact))


def both_gamma(a, x):
    return special.log_gammainc(a, x), special.log_gammaincc(a, x)


def both_beta(a, b, x, y, excess):
    settings = {"complement": y, "excess": excess}
    return special.log_betainc(a, b, x, **settings), special.log_betaincc(a, b, x, **settings)


def scipy_is_right(a, x):
    """scipy 1.17 stops its series early for huge shapes just beyond 4.5 standard deviations below the mean."""
    return (a < 1e6) | (np.abs(x - a) < 4 * np.sqrt(a)) | (x > a)


@pytest.mark.parametrize("single", [True, False])
def test_incomplete_gamma_in_both_tails(single):
    a, x = gamma_points(0, single)
    with jax.enable_x64(not single):
        lower, upper = jax.jit(both_gamma)(a, x)
    kept = scipy_is_right(*wide(a, x))
    limit = 2e-5 if single else 1e-12
    assert log_error(lower[kept], sp.gammainc(*wide(a[kept], x[kept]))).max() < limit
    assert log_error(upper[kept], sp.gammaincc(*wide(a[kept], x[kept]))).max() < limit


def test_where_scipy_stops_too_early_quadrature_agrees():
    a, x = 9290923.0, 9275698.0
    nodes = lambda u: np.exp(-(a - x) * u - x * (np.expm1(-u) + u))  # noqa: E731
    mass = integrate.quad(nodes, 0, 0.01, epsabs=0, epsrel=1e-12, points=[1e-4, 1e-3])[0]
    exact = np.log(mass) + a * (np.log1p((x - a) / a) - (x - a) / a) + 0.5 * np.log(a / 2 / np.pi) - 1 / 12 / a
    assert abs(float(special.log_gammainc(a, x)) - exact) < 1e-4
    assert abs(np.log(sp.gammainc(a, x)) - exact) > 0.02


@pytest.mark.parametrize("single", [True, False])
def test_incomplete_beta_in_both_tails(single):
    a, b, x = beta_points(0, single)
    wide_a, wide_b, wide_x = wide(a, b, x)
    y, excess = (value.astype(x.dtype) for value in (1 - wide_x, wide_a * (1 - wide_x) - wide_b * wide_x))
    with jax.enable_x64(not single):
        lower, upper = jax.jit(both_beta)(a, b, x, y, excess)
    limit = 5e-5 if single else 1e-11
    assert log_error(lower, sp.betainc(wide_a, wide_b, wide_x)).max() < limit
    assert log_error(upper, sp.betaincc(wide_a, wide_b, wide_x)).max() < limit


def test_student_tails_to_ten_million_degrees_of_freedom():
    """jax's own `betainc` misses by 1e-3 there in float32."""
    from scipy import stats

    df = np.float32(10.0) ** np.arange(0, 8, dtype=np.float32)
    for t in np.float32([0.1, 1.0, 5.0]):
        share = t * t / (df + t * t)
        tail = 0.5 * np.asarray(special.betaincc(0.5, df / 2, share, complement=df / (df + t * t)))
        exact = stats.t.sf(float(t), df.astype(float))
        np.testing.assert_allclose(tail, exact, rtol=2e-5)


def test_tails_far_beyond_underflow():
    assert float(special.log_gammaincc(1.0, 5e4)) == pytest.approx(-5e4, rel=1e-6)
    assert float(special.log_gammainc(1e4, 1e-2)) == pytest.approx(1e4 * np.log(1e-2) - sp.gammaln(1e4 + 1), rel=1e-6)
    assert float(special.log_betainc(1e4, 2.0, 1e-6)) == pytest.approx(1e4 * np.log(1e-6) + np.log(1e4 + 1), rel=1e-6)
    assert float(special.gammaincc(1.0, 5e4)) == 0.0


def test_edges_of_the_support():
    inf, nan = jnp.inf, jnp.nan

    def gamma(x):
        both = special.gammainc(2.0, x), special.gammaincc(2.0, x)
        return *both, *jax.vmap(jax.grad(special.gammainc, (0, 1)), (None, 0))(2.0, x)

    lower, upper, by_a, by_x = jax.jit(gamma)(jnp.asarray([-1.0, 0.0, inf, nan]))
    np.testing.assert_array_equal(lower, [0, 0, 1, nan])
    np.testing.assert_array_equal(upper, [1, 1, 0, nan])
    assert np.isfinite(by_a[:3]).all() and np.isfinite(by_x[:3]).all()

    def beta(x):
        return special.betainc(2.0, 3.0, x), special.betaincc(2.0, 3.0, x)

    lower, upper = jax.jit(beta)(jnp.asarray([-1.0, 0.0, 1.0, 2.0, nan]))
    np.testing.assert_array_equal(lower, [0, 0, 1, 1, nan])
    np.testing.assert_array_equal(upper, [1, 1, 0, 0, nan])

    tail = jnp.asarray([0.0, 1.0, -0.1, 1.1, 0.0, 1.0, -0.1, 1.1])
    side = jnp.arange(8) >= 4
    found = special.gammainc_inverse(2.0, tail, side)
    np.testing.assert_array_equal(found, [0, inf, nan, nan, inf, 0, nan, nan])
    found = special.betainc_inverse(2.0, 3.0, tail, side)
    np.testing.assert_array_equal(found, [0, 1, nan, nan, 1, 0, nan, nan])


def difference(function, value, step):
    """Central difference of fourth order."""
    far, near = (function(value + k * step) - function(value - k * step) for k in (2, 1))
    return (8 * near - far) / (12 * step)


def assert_close_derivative(found, function, value, step, scale, rtol=1e-5):
    expected = np.asarray(difference(function, value, step))
    worst = np.abs(np.asarray(found) - expected) / (np.abs(expected) + scale)
    assert worst.max() < rtol, (worst.argmax(), worst.max())


def test_derivatives_of_incomplete_gamma():
    a, x = gamma_points(2, False)
    kept = a < 1e6
    a, x = a[kept], np.clip(x[kept], a[kept] - 6 * np.sqrt(a[kept]), a[kept] + 6 * np.sqrt(a[kept]))
    x = np.maximum(x, 0.02 * a)
    step = np.minimum(1e-3, 1e-2 / np.sqrt(a))
    with x64():
        for function in (special.log_gammainc, special.log_gammaincc):
            compiled = jax.jit(function)
            by_a, by_x = jax.jit(jax.vmap(jax.grad(function, (0, 1))))(a, x)
            assert_close_derivative(by_a, lambda v, f=compiled: f(v, x), a, step * a, 1e-3 / np.sqrt(a))
            assert_close_derivative(by_x, lambda v, f=compiled: f(a, v), x, step * x, 1e-3 / np.sqrt(a))


def test_derivatives_of_incomplete_beta():
    a, b, _ = beta_points(3, False)
    a, b = np.minimum(a, 1e4), np.minimum(b, 1e4)
    mean = a / (a + b)
    rng = np.random.default_rng(3)
    x = mean + rng.uniform(-5, 5, SIZE) * np.sqrt(mean * (1 - mean) / (a + b + 1))
    x = np.clip(x, 0.02 * mean, 1 - 0.02 * (1 - mean))
    step = np.minimum(1e-3, 1e-2 / np.sqrt(np.maximum(a, b)))
    with x64():
        for function in (special.log_betainc, special.log_betaincc):
            compiled = jax.jit(function)
            by_a, by_b, by_x = jax.jit(jax.vmap(jax.grad(function, (0, 1, 2))))(a, b, x)
            assert_close_derivative(by_a, lambda v, f=compiled: f(v, b, x), a, step * a, 1e-3 / a)
            assert_close_derivative(by_b, lambda v, f=compiled: f(a, v, x), b, step * b, 1e-3 / b)
            width = step * np.minimum(x, 1 - x)
            assert_close_derivative(by_x, lambda v, f=compiled: f(a, b, v), x, width, 1e-3 / x / (1 - x), rtol=1e-3)


def tails(seed):
    rng = np.random.default_rng(seed)
    tail = np.where(rng.random(SIZE) < 0.5, 10 ** rng.uniform(-30, -1, SIZE), rng.uniform(0.01, 0.99, SIZE))
    return tail.astype(np.float32), rng.random(SIZE) < 0.5


@pytest.mark.parametrize("single", [True, False])
def test_gamma_quantiles_at_tails_of_1e_30(single):
    a = shapes(4, -1, 5).astype(np.float32)
    tail, upper = tails(4)
    exact = np.where(upper, sp.gammainccinv(*wide(a, tail)), sp.gammaincinv(*wide(a, tail)))
    with jax.enable_x64(not single):
        found = jax.jit(special.gammainc_inverse)(*(wide(a, tail) if not single else (a, tail)), upper)
    kept = exact > 1e-30
    np.testing.assert_allclose(np.asarray(found)[kept], exact[kept], rtol=2e-5 if single else 2e-7)


@pytest.mark.parametrize("single", [True, False])
def test_beta_quantiles_at_tails_of_1e_30(single):
    """By scipy's tail at the point found, in units of log-odds."""
    a, b = shapes(5, -1, 6).astype(np.float32), shapes(6, -1, 6).astype(np.float32)
    b[:100] = 0.5
    tail, upper = tails(5)
    given = (a, b, np.log(tail)) if single else (*wide(a, b), np.log(wide(tail)[0]))
    with jax.enable_x64(not single):
        found = np.asarray(jax.jit(special.betainc_inverse_odds)(*given, upper), np.float64)
    a, b, tail = wide(a, b, tail)
    shift = found + np.log(a / b)
    x, y = sp.expit(shift), sp.expit(-shift)
    low = np.where(x < 0.5, sp.betainc(a, b, x), sp.betaincc(b, a, y))
    high = np.where(x < 0.5, sp.betaincc(a, b, x), sp.betainc(b, a, y))
    value = np.where(upper, high, low)
    log_density = sp.xlogy(a, x) + sp.xlogy(b, y) - sp.betaln(a, b)
    kept = (value > 1e-40) & (a + b < 1e5) & (log_density > -250)  # betaln cancels beyond
    error = np.abs(np.log(value[kept] / tail[kept])) * value[kept] / np.exp(log_density[kept])
    assert kept.sum() > 150
    assert error.max() < (1e-4 if single else 1e-10)


def test_quantiles_of_log_tails_that_float32_cannot_hold():
    found = special.gammainc_inverse_log(1.0, -300.0, True)
    assert float(found) == pytest.approx(300.0, rel=1e-5)
    odds = special.betainc_inverse_odds(1.0, 1.0, -200.0, True)
    assert float(odds) == pytest.approx(np.inf) or float(odds) == pytest.approx(200.0, rel=1e-5)


def test_derivatives_of_quantiles():
    a, b = shapes(7, -1, 4), shapes(8, -1, 4)
    rng = np.random.default_rng(7)
    tail, upper = rng.uniform(0.05, 0.95, SIZE), rng.random(SIZE) < 0.5

    def gamma(a, tail):
        return jnp.log(special.gammainc_inverse(a, tail, upper))

    def beta(a, b, tail):
        return special.betainc_inverse_odds(a, b, jnp.log(tail), upper)

    with x64():
        compiled = jax.jit(gamma)
        by_a, by_tail = jax.jit(jax.grad(lambda *v: gamma(*v).sum(), (0, 1)))(a, tail)
        assert_close_derivative(by_a, lambda v: compiled(v, tail), a, 1e-3 * a, 1e-3 / a)
        assert_close_derivative(by_tail, lambda v: compiled(a, v), tail, 1e-4 * tail, 1e-2)
        compiled = jax.jit(beta)
        by_a, by_b, by_tail = jax.jit(jax.grad(lambda *v: beta(*v).sum(), (0, 1, 2)))(a, b, tail)
        assert_close_derivative(by_a, lambda v: compiled(v, b, tail), a, 1e-3 * a, 1e-3 / a)
        assert_close_derivative(by_b, lambda v: compiled(a, v, tail), b, 1e-3 * b, 1e-3 / b)
        assert_close_derivative(by_tail, lambda v: compiled(a, b, v), tail, 1e-4 * tail, 1e-2)


def test_complete_functions():
    a, b = shapes(9), shapes(10, -3, 6)
    with x64():
        np.testing.assert_allclose(special.log_beta(a, b), sp.betaln(a, b), rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(special.digamma_difference(a, b), sp.psi(a + b) - sp.psi(a), rtol=1e-6, atol=1e-9)
        exact = np.asarray(special.log_gamma_difference(a, b))
        slope = jax.vmap(jax.grad(special.log_gamma_difference, (0, 1)))(a, b)
    np.testing.assert_allclose(exact, sp.gammaln(a + b) - sp.gammaln(a), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(slope[1], sp.psi(a + b), rtol=1e-12)
    single = special.log_gamma_difference(a.astype(np.float32), b.astype(np.float32))
    with x64():
        double = special.log_gamma_difference(*wide(a.astype(np.float32), b.astype(np.float32)))
    np.testing.assert_allclose(single, np.asarray(double), rtol=3e-5, atol=1e-7)


LAWS = jax.jit(
    lambda a, b, x: (
        special.betainc(a, b, x),
        special.betaincc(a, b, x),
        special.betainc(b, a, 1 - x, complement=x),
        special.betainc(a + 1, b, x),
        jnp.exp(special.log_beta_density(a, b, x)) / a,
        special.betainc(a, b, 0.9 * x),
    )
)


@settings(max_examples=60, deadline=None)
@given(a=st.floats(0.05, 1e5), b=st.floats(0.05, 1e5), x=st.floats(1e-3, 0.999))
def test_laws_of_the_incomplete_beta_function(a, b, x):
    lower, upper, mirrored, next_one, step, before = map(float, LAWS(a, b, x))
    assert lower + upper == pytest.approx(1, abs=1e-6)
    assert mirrored == pytest.approx(upper, rel=2e-3, abs=1e-6)  # 1 − x is rounded
    assert lower == pytest.approx(next_one + step, rel=1e-3, abs=1e-6)
    assert before <= lower * (1 + 1e-5)
