"""Scores of draws against double loops, integrals and scoringrules; on the host and on the device."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

import uq
from uq.metrics import ensemble_scores
from uq.metrics.ensemble_scores import crps_ensemble, error_spread_score


def some_draws(size=6, number=7, seed=0):
    """Skewed, with ties, shifted origin, scale ≠ 1, even M."""
    rng = np.random.default_rng(seed)
    draws = 1000 + 25 * rng.gamma(2.0, size=(size, number))
    draws[3] = draws[1]
    return draws, draws.mean(0) + 25 * rng.normal(size=number)


def by_pairs(draws, y, estimator="empirical", weight=None):
    """The definition, member by member."""
    size = len(draws)
    weight = np.full(size, 1 / size) if weight is None else np.asarray(weight) / np.sum(weight)
    apart = sum(weight[i] * weight[j] * np.abs(draws[i] - draws[j]) for i in range(size) for j in range(size))
    if estimator == "fair":
        apart = apart / (1 - (weight**2).sum())
    return sum(weight[i] * np.abs(draws[i] - y) for i in range(size)) - 0.5 * apart


@pytest.mark.parametrize("estimator", ["empirical", "fair"])
@pytest.mark.parametrize("weight", [None, [1, 2, 0.5, 3, 1, 2]])
def test_crps_ensemble_by_definition(estimator, weight):
    draws, y = some_draws()
    want = by_pairs(draws, y, estimator, weight)
    got = crps_ensemble(draws, y, estimator=estimator, member_weight=weight)
    assert isinstance(got, np.ndarray) and got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-10)
    # a device's route, compiled, in float32: about the outcome, so that the offset of 1000 costs little
    score = jax.jit(lambda d, y: crps_ensemble(d, y, estimator=estimator, member_weight=weight))
    on_device = score(jnp.asarray(draws, jnp.float32), jnp.asarray(y, jnp.float32))
    assert on_device.dtype == jnp.float32
    np.testing.assert_allclose(on_device, want, rtol=1e-4, atol=1e-3)


def test_crps_ensemble_is_the_integral_over_its_step_function():
    draws, y = some_draws(size=4, number=1)
    grid = np.sort(np.append(draws[:, 0], y))
    steps = [(draws[:, 0] <= t).mean() - (y[0] <= t) for t in grid[:-1]]
    assert crps_ensemble(draws, y)[0] == pytest.approx(np.sum(np.square(steps) * np.diff(grid)), rel=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 21])
def test_both_sorts_of_the_device(size):
    """The network, for any number of members and with ties, against NumPy's sort and XLA's."""
    values = np.float32(np.random.default_rng(size).integers(-3, 4, size=(size, 50)))
    for sort in (ensemble_scores._sorted_by_network, ensemble_scores._sorted_by_xla):
        np.testing.assert_array_equal(sort(jnp.asarray(values)), np.sort(values, 0))


def test_fair_is_unbiased_and_empirical_is_too_high():
    """Over samples of size 3, the fair score averages to the score of the distribution sampled."""
    rng = np.random.default_rng(0)
    draws = rng.normal(3.0, 2.0, size=(3, 200_000))
    y = np.full(200_000, 4.0)
    z = 0.5
    exact = 2.0 * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert crps_ensemble(draws, y, estimator="fair").mean() == pytest.approx(exact, abs=0.01)
    assert crps_ensemble(draws, y).mean() == pytest.approx(exact + 2.0 / np.sqrt(np.pi) / 3, abs=0.01)


def test_defect_10_arrays_stay_as_they_were():
    draws, y = some_draws()
    kept, outcome = draws.copy(), y.copy()
    for score in (crps_ensemble, error_spread_score):
        score(draws, y)
        np.testing.assert_array_equal(draws, kept)
        np.testing.assert_array_equal(y, outcome)
    one = draws[:1].copy()  # one member: its transpose is already contiguous
    crps_ensemble(one, y)
    np.testing.assert_array_equal(one, kept[:1])


@pytest.mark.parametrize("size", [2, 4, 5, 6])
@pytest.mark.parametrize("estimator", ["empirical", "fair"])
def test_defect_11_uniform_weights_are_no_weights(size, estimator):
    draws, y = some_draws(size=max(size, 4))
    draws = draws[:size]
    weighted = crps_ensemble(draws, y, estimator=estimator, member_weight=np.full(size, 0.7))
    np.testing.assert_allclose(weighted, crps_ensemble(draws, y, estimator=estimator), rtol=1e-10, atol=1e-12)


def test_defect_12_any_shape_of_one_draw():
    draws, y = some_draws(number=12)
    want = crps_ensemble(draws, y)
    assert crps_ensemble(draws[:, 0], y[0]).shape == ()
    assert float(crps_ensemble(draws[:, 0], y[0])) == pytest.approx(want[0])
    for shape in ((3, 4), (2, 3, 2)):
        got = crps_ensemble(draws.reshape(6, *shape), y.reshape(shape))
        np.testing.assert_allclose(got, want.reshape(shape), rtol=1e-12)
        traced = jax.jit(lambda d, y: crps_ensemble(d, y))(
            jnp.float32(draws.reshape(6, *shape)), jnp.float32(y.reshape(shape))
        )
        np.testing.assert_allclose(traced, want.reshape(shape), rtol=1e-4)
    assert error_spread_score(draws.reshape(6, 3, 4), y.reshape(3, 4)).shape == (3, 4)


def test_a_member_of_weight_0_is_inert():
    draws, y = some_draws()
    want = crps_ensemble(draws[:5], y, member_weight=[1, 2, 3, 4, 5])
    draws[5] = np.nan
    np.testing.assert_allclose(crps_ensemble(draws, y, member_weight=[1, 2, 3, 4, 5, 0]), want, rtol=1e-10)


def test_dtypes_and_kinds():
    draws, y = some_draws()
    assert crps_ensemble(np.float32(draws), np.float32(y)).dtype == np.float32
    small = crps_ensemble(jnp.float32(draws), y)  # concrete on the CPU: numpy computes, jax comes out
    assert isinstance(small, jax.Array) and small.dtype == jnp.float32
    np.testing.assert_allclose(small, crps_ensemble(draws, y), rtol=1e-4)
    assert crps_ensemble([[1, 3], [5, 3]], [2, 2]).tolist() == [1.0, 1.0]
    assert crps_ensemble(jnp.bfloat16([[1.0], [3.0]]), [2.0]).dtype == jnp.float32


def test_gradients_are_finite_where_members_and_outcome_coincide():
    draws, y = jnp.ones((4, 3)), jnp.ones(3)
    for estimator in ("empirical", "fair"):
        slope = jax.grad(lambda d, e=estimator: crps_ensemble(d, y, estimator=e).sum())(draws)
        np.testing.assert_allclose(np.abs(slope), 1 / 4)  # of |x − y|, from one side; distances between draws add 0
    assert np.isfinite(jax.grad(lambda d: error_spread_score(d, y).sum())(draws)).all()
    far, outcome = some_draws(number=2)
    step = np.zeros_like(far)
    step[2, 1] = 1e-3
    slope = jax.grad(lambda d: crps_ensemble(d, jnp.float32(outcome)).sum())(jnp.float32(far))[2, 1]
    by_hand = (crps_ensemble(far + step, outcome) - crps_ensemble(far - step, outcome)).sum() / 2e-3
    assert float(slope) == pytest.approx(by_hand, rel=1e-3)


def test_error_spread_score_by_scipy():
    draws, y = some_draws()
    mean, s, g = draws.mean(0), draws.std(0), stats.skew(draws)
    e = mean - y
    np.testing.assert_allclose(error_spread_score(draws, y), (s**2 - e**2 - e * s * g) ** 2, rtol=1e-9)
    got = jax.jit(error_spread_score)(jnp.float32(draws), jnp.float32(y))
    np.testing.assert_allclose(got, error_spread_score(draws, y), rtol=5e-3)
    assert error_spread_score(np.ones((4, 1)), [3.0]).tolist() == [16.0]


def test_defect_16_error_spread_score_is_proper():
    """Of a skewed distribution's three moments none can be changed with profit; a skewness divided by M − 2 can."""
    law = stats.gamma(2.0)
    mean, s, g = law.mean(), law.std(), float(law.stats("s"))

    def expected(m, s, g):
        score = lambda y: (s**2 - (m - y) ** 2 - (m - y) * s * g) ** 2 * law.pdf(y)  # noqa: E731
        return integrate.quad(score, 0, 60)[0]

    honest = expected(mean, s, g)
    for other in ((mean + 0.1, s, g), (mean, 1.1 * s, g), (mean, s, 0.8 * g), (mean, s, g / 50)):
        assert expected(*other) > honest
    # Draws on a fine grid of quantiles are that distribution: the score is that of its moments.
    draws = law.ppf((np.arange(40_000) + 0.5) / 40_000)
    got = error_spread_score(draws, 3.0)
    assert float(got) == pytest.approx((s**2 - (mean - 3) ** 2 - (mean - 3) * s * g) ** 2, rel=0.02)


def test_defect_31_two_passes():
    """Mean 1000, spread 1e-2, in float32."""
    rng = np.random.default_rng(0)
    exact = 1e-2 * rng.normal(size=(8, 5))
    draws = np.float32(1000 + exact)
    y = np.float32(np.full(5, 1000.005))
    want = by_pairs(draws.astype(np.float64), y.astype(np.float64))
    np.testing.assert_allclose(crps_ensemble(draws, y), want, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(crps_ensemble)(jnp.asarray(draws), jnp.asarray(y)), want, rtol=1e-4)


def test_scoringrules_agrees():
    scoringrules = pytest.importorskip("scoringrules")
    draws, y = some_draws()
    for ours, theirs in (("empirical", "nrg"), ("fair", "fair")):
        want = scoringrules.crps_ensemble(y, draws.T, estimator=theirs, backend="numpy")
        np.testing.assert_allclose(crps_ensemble(draws, y, estimator=ours), want, rtol=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(-4, 4), min_size=2, max_size=9),
    st.integers(-5, 5),
    st.randoms(use_true_random=False),
    st.floats(0.1, 100),
    st.floats(-1e3, 1e3),
)
def test_laws(values, y, random, factor, shift):
    """Whole numbers, so many ties: order does not matter, units scale, 0 ≤ CRPS ≤ mean |x − y|."""
    draws = np.array(values, np.float64)
    score = float(crps_ensemble(draws, y))
    shuffled = list(values)
    random.shuffle(shuffled)
    assert float(crps_ensemble(shuffled, y)) == pytest.approx(score, abs=1e-12)
    moved = float(crps_ensemble(shift + factor * draws, shift + factor * y))
    assert moved == pytest.approx(factor * score, rel=1e-9, abs=1e-9 * (1 + abs(shift)))
    assert -1e-12 <= score <= np.abs(draws - y).mean() + 1e-12
    assert float(crps_ensemble(draws, y, estimator="fair")) <= score + 1e-12


def test_memory_is_linear_and_the_first_call_is_quick():
    rng = np.random.default_rng(0)
    draws, y = rng.normal(size=(20, 10_000)), rng.normal(size=10_000)
    start = time.perf_counter()
    crps_ensemble(draws, y)
    assert time.perf_counter() - start < 0.5  # generous: nothing is compiled

    text = jax.jit(crps_ensemble).lower(jnp.zeros((64, 100)), jnp.zeros(100)).as_text()
    assert "64x64x" not in text


WRONG = [
    (lambda: crps_ensemble(np.ones((3, 4)), np.ones(3)), r"members first, .* but got \(3, 4\) and \(3,\)"),
    (lambda: crps_ensemble(np.ones((3, 4)), np.ones((4, 1))), r"but got \(3, 4\) and \(4, 1\)"),
    (lambda: crps_ensemble(np.ones((0, 4)), np.ones(4)), r"but got \(0, 4\)"),
    (lambda: crps_ensemble(np.ones((3, 0)), np.ones(0)), r"`y` to hold at least one number"),
    (lambda: crps_ensemble(1.0, 1.0), r"but got \(\) and \(\)"),
    (
        lambda: crps_ensemble([[1.0, np.nan]], [1.0, 1.0]),
        r"finite numbers in `draws` of shape \(1, 2\), but `draws\[0, 1\]` is nan",
    ),
    (lambda: crps_ensemble([[1.0, 2.0]], [1.0, np.inf]), r"`y\[1\]` is inf"),
    (lambda: crps_ensemble([[1.0]], [1.0], estimator="fair"), "at least two draws, but got 1"),
    (lambda: crps_ensemble([[1.0], [2.0]], [1.0], estimator="fair", member_weight=[1, 0]), "two draws, but got 1"),
    (lambda: crps_ensemble([[1.0]], [1.0], estimator="pwm"), "'empirical' or 'fair', but it is 'pwm'"),
    (lambda: crps_ensemble([[1.0], [2.0]], [1.0], member_weight=[1, 2, 3]), r"shape \(2,\), one number a member"),
    (lambda: crps_ensemble([[1.0], [2.0]], [1.0], member_weight=[1, -2]), "not negative and not all 0"),
    (lambda: crps_ensemble([[1.0], [2.0]], [1.0], member_weight=[0, 0]), "not negative and not all 0"),
    (lambda: crps_ensemble([["a"]], [1.0]), "expected numbers, but got dtype"),
    (lambda: error_spread_score([[1.0]], [1.0]), "at least two draws"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()
