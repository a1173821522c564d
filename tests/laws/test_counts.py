"""Families of counts against scipy and sums over the lattice in float64."""

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import special, stats

import uq
from uq._checks import InputError
from uq.laws import counts, zero_inflated
from uq.laws._family import family_of

SIZE = 240


def poisson(rng):
    return (10 ** rng.uniform(-3, 6, SIZE),)


def negative_binomial(rng):
    return 10 ** rng.uniform(-3, 6, SIZE), 10 ** rng.uniform(-1, 7, SIZE)


def binomial(rng):
    p = special.expit(rng.uniform(-8, 8, SIZE))
    return np.floor(10 ** rng.uniform(0, 6, SIZE)), p, 1 - p


def inflated(rng):
    gate = rng.uniform(0.05, 0.9, SIZE)
    return gate, 1 - gate, *poisson(rng)


FAMILIES = {
    "poisson": (counts.POISSON, poisson),
    "negative_binomial": (counts.NEGATIVE_BINOMIAL, negative_binomial),
    "binomial": (counts.BINOMIAL, binomial),
    "zero_inflated": (zero_inflated.zero_inflated(counts.POISSON), inflated),
}


@functools.cache
def case(name):
    """A family, its parameters as float32 holds them, their scipy twin, and outcomes from the bulk and the tails."""
    family, draw = FAMILIES[name]
    rng = np.random.default_rng(len(name))
    parameters = [value.astype(np.float32).astype(np.float64) for value in draw(rng)]
    if name in ("binomial", "zero_inflated"):
        at = 1 if name == "binomial" else 0
        parameters[at + 1] = 1 - parameters[at]
    host = family.host(*parameters)
    spread = np.sqrt(host.var())
    y = np.maximum(np.round(host.mean() + rng.uniform(-6, 10, SIZE) * spread), 0)
    if name == "binomial":
        y = np.minimum(y, parameters[0])
    return family, tuple(parameters), host, y


@functools.cache
def compiled(name, function):
    return jax.jit(getattr(FAMILIES[name][0], function))


def evaluate(name, function, *values, single=True):
    kind = np.float32 if single else np.float64
    with jax.enable_x64(not single):
        values = [np.asarray(v) if np.asarray(v).dtype == bool else np.asarray(v, kind) for v in values]
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), compiled(name, function)(*values))


def at(name, function, *values):
    """As `evaluate` in float32 for a few values, in the program compiled already."""
    rank = max(np.size(value) for value in values)
    wide = [np.resize(np.broadcast_to(value, rank), SIZE) for value in values]
    return evaluate(name, function, *wide)[:rank]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("single", [True, False])
def test_log_prob_and_both_tails_are_scipys(name, single):
    _, parameters, host, y = case(name)
    exact = host.logpmf(y)
    error = np.abs(evaluate(name, "log_prob", y, *parameters, single=single) - exact) / np.maximum(1, np.abs(exact))
    assert error.max() < (1e-5 if single else 1e-6)
    for function in ("cdf", "sf"):
        exact = getattr(host, function)(y)
        found = evaluate(name, f"log_{function}", y, *parameters, single=single)
        kept = exact > 1e-250
        error = np.abs(found - np.log(np.where(kept, exact, 1)))[kept] / np.maximum(1, np.abs(np.log(exact[kept])))
        assert error.max() < (5e-5 if single else 2e-6), function


@pytest.mark.parametrize("name", FAMILIES)
def test_quantiles_are_scipys_lattice_points(name):
    _, parameters, host, _ = case(name)
    rng = np.random.default_rng(1)
    tail = np.where(rng.random(SIZE) < 0.5, 10 ** rng.uniform(-12, -1, SIZE), rng.uniform(0.02, 0.98, SIZE))
    tail, upper = tail.astype(np.float32).astype(float), rng.random(SIZE) < 0.5
    exact = np.maximum(np.where(upper, host.isf(tail), host.ppf(tail)), 0)
    found = evaluate(name, "icdf", tail, upper, *parameters, single=False)
    np.testing.assert_array_equal(found, exact)
    found = evaluate(name, "icdf", tail, upper, *parameters)
    assert np.abs(found - exact).max() <= 2 and (found != exact).mean() < 0.05  # rounding of F where it is flat
    smooth = np.sqrt(host.var()) < 3000
    np.testing.assert_array_equal(found[smooth], exact[smooth])


def score(host, index, y):
    """∫ (F(x) − 1{y ≤ x})² dx by the lattice."""
    low, high = max(int(host.ppf(1e-14)[index]), 0), int(host.isf(1e-14)[index]) + 2
    k = np.arange(low, high + 1)
    below = host.cdf(k[:, None])[:, index] if np.ndim(host.mean()) else host.cdf(k)
    share = np.clip(y - k, 0, 1)
    outside = max(low - y, 0) + max(y - high - 1, 0)
    return outside + (share * below**2 + (1 - share) * (1 - below) ** 2).sum()


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("single", [True, False])
def test_crps_is_its_definition_summed_over_the_lattice(name, single):
    """Whole outcomes, outcomes between, and below the support."""
    family, parameters, host, y = case(name)
    y = (y + np.random.default_rng(2).choice([0.0, 0.3, -1.5, 2.75], SIZE)).astype(np.float32).astype(float)
    found = evaluate(name, "crps", y, *parameters, single=single)
    assert (found >= 0).all()
    chosen = np.flatnonzero(np.sqrt(host.var()) < 300)[:60]
    exact = [score(family.host(*(p[i : i + 1] for p in parameters)), 0, y[i]) for i in chosen]
    np.testing.assert_allclose(found[chosen], exact, rtol=5e-5 if single else 5e-6)


@pytest.mark.parametrize("name", FAMILIES)
def test_entropy_is_its_sum(name):
    family, parameters, host, _ = case(name)
    found = evaluate(name, "entropy", *parameters)
    chosen = np.flatnonzero(np.sqrt(host.var()) < 1000)[:40]
    for i in chosen:
        law = family.host(*(p[i] for p in parameters))
        p = law.pmf(np.arange(max(int(law.ppf(1e-14)), 0), int(law.isf(1e-14)) + 2))
        assert found[i] == pytest.approx(special.entr(p).sum(), rel=1e-4, abs=1e-5)
    if name != "zero_inflated":  # a normal's, where there is room for it
        large = (host.var() > 1e4) & (np.abs(host.stats("s")) < 0.02)
        np.testing.assert_allclose(found[large], 0.5 * np.log(2 * np.pi * np.e * host.var()[large]), rtol=1e-3)


@pytest.mark.parametrize("name", FAMILIES)
def test_moments_are_scipys(name):
    _, parameters, host, _ = case(name)
    mean, variance = evaluate(name, "moments", *parameters, single=False)
    np.testing.assert_allclose(mean, host.mean(), rtol=1e-6)
    np.testing.assert_allclose(variance, host.var(), rtol=1e-6)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("function", ["log_prob", "log_sf", "crps"])
def test_derivatives_by_parameters_are_differences(name, function):
    """In float64, one parameter at a time; where two add up to one, they move together."""
    family, parameters, host, y = case(name)
    y = np.clip(y, host.mean() - 3 * np.sqrt(host.var()), host.mean() + 3 * np.sqrt(host.var()))
    y = np.maximum(np.floor(y), 0)
    if name == "binomial":
        y = np.minimum(y, np.maximum(parameters[0] - 1, 0))
    pair = {"binomial": 1, "zero_inflated": 0}.get(name)
    free = [at for at in range(len(parameters)) if pair is None or at != pair + 1]
    if name == "binomial":
        free = [1]  # trials are whole

    def value(shift):
        moved = list(parameters)
        for at, amount in zip(free, shift, strict=True):
            moved[at] = parameters[at] + amount
        if pair is not None:
            moved[pair + 1] = 1 - moved[pair]
        return getattr(family, function)(y, *(jnp.asarray(leaf) for leaf in moved))

    with jax.enable_x64(True):

        def total(shift):
            found = value(shift)
            return found.sum(), found

        program = jax.jit(jax.value_and_grad(total, has_aux=True))
        zero = [np.zeros(SIZE) for _ in free]
        (_, base), slopes = program(zero)
        for at, slope in enumerate(slopes):
            size = parameters[free[at]]
            room = np.minimum(size, 1 - size) if free[at] == pair else size
            step = 1e-3 * room * np.minimum(1, 3 / np.sqrt(np.maximum(host.mean(), 1e-3)))

            def moved(times, at=at, step=step):
                return np.asarray(program([times * step if i == at else z for i, z in enumerate(zero)])[0][1])

            expected = (8 * (moved(1) - moved(-1)) - (moved(2) - moved(-2))) / (12 * step)
            noise = 1e-9 * np.maximum(np.abs(np.asarray(base)), 1) / step  # rounding of the difference
            assert np.isfinite(slope).all()
            assert (np.abs(slope - expected) <= 1e-4 * np.abs(expected) + noise).all()


def test_defect_05_log_probability_is_not_the_log_of_a_probability():
    """Poisson(200) and Binomial(100) where scoringrules is NaN, 40 deviations out where it is inf."""
    y = np.asarray([200.0, 766.0])
    np.testing.assert_allclose(at("poisson", "log_prob", y, 200.0), stats.poisson(200).logpmf(y), rtol=1e-5)
    found = at("binomial", "log_prob", 100.0, 100.0, 1e-3, 1 - 1e-3)
    np.testing.assert_allclose(found, 100 * np.log(1e-3), rtol=1e-5)


def test_defect_06_poisson_crps_for_any_mean():
    mean = np.float32([1e-3, 34.0, 50.0, 170.0, 200.0, 1e4, 1e6]).astype(float)
    found = at("poisson", "crps", mean, mean)
    assert np.isfinite(found).all()
    exact = [score(stats.poisson([rate]), 0, rate) for rate in mean[:6]]
    np.testing.assert_allclose(found[:6], exact, rtol=1e-5)
    assert found[-1] == pytest.approx(1e3 * (np.sqrt(2) - 1) / np.sqrt(np.pi), rel=1e-3)  # the normal limit


def test_defect_13_the_lattice_ends_at_the_number_of_trials():
    k = np.arange(-1, 10, dtype=float)
    parameters = 7.0, 0.8, 0.2
    exact = [score(stats.binom([7], [0.8]), 0, y) for y in k]
    np.testing.assert_allclose(at("binomial", "crps", k, *parameters), exact, rtol=1e-5)
    np.testing.assert_array_equal(np.isneginf(at("binomial", "log_prob", k, *parameters)), (k < 0) | (k > 7))
    np.testing.assert_array_equal(at("binomial", "log_cdf", k, *parameters)[-3:], 0)
    np.testing.assert_array_equal(at("binomial", "log_sf", k, *parameters)[-3:], -np.inf)


def test_defect_14_outcomes_outside_the_support():
    y = np.asarray([-3.0, -0.5, np.inf, np.nan])
    np.testing.assert_array_equal(np.exp(at("poisson", "log_cdf", y, 4.0)), [0, 0, 1, np.nan])
    np.testing.assert_array_equal(np.exp(at("poisson", "log_sf", y, 4.0)), [1, 1, 0, np.nan])
    np.testing.assert_array_equal(at("poisson", "log_prob", y, 4.0), [-np.inf] * 3 + [np.nan])
    assert at("poisson", "log_prob", 2.5, 4.0) == -np.inf
    y = np.asarray([-3.0, -0.5, 2.5])
    np.testing.assert_allclose(at("poisson", "crps", y, 4.0), [score(stats.poisson([4.0]), 0, v) for v in y], rtol=1e-5)
    assert np.isnan(at("poisson", "crps", 2.0, np.nan))


def test_large_concentrations_are_poisson_where_numpyro_loses_its_digits():
    k = np.arange(60)
    exact = stats.nbinom(1e7, 1e7 / (1e7 + 25.0)).logpmf(k)
    np.testing.assert_allclose(at("negative_binomial", "log_prob", k, 25.0, 1e7), exact, rtol=1e-5)
    theirs = np.asarray(dist.NegativeBinomial2(jnp.full(60, 25.0), jnp.float32(1e7)).log_prob(jnp.asarray(k)))
    assert np.abs(theirs - exact).max() > 0.01


def test_degenerate_counts():
    y = np.asarray([0.0, 1.0, -1.0])
    for name, parameters in {
        "poisson": (0.0,),
        "negative_binomial": (0.0, 2.0),
        "binomial": (5.0, 0.0, 1.0),
    }.items():
        np.testing.assert_array_equal(at(name, "log_prob", y, *parameters), [0, -np.inf, -np.inf])
        np.testing.assert_array_equal(np.exp(at(name, "log_cdf", y, *parameters)), [1, 1, 0])
        np.testing.assert_allclose(at(name, "crps", y, *parameters), [0, 1, 1], atol=1e-7)
        np.testing.assert_array_equal(at(name, "icdf", 0.3, y == 0, *parameters), [0, 0, 0])
    found = at("binomial", "log_prob", np.asarray([5.0, 4.0, 0.0]), 5.0, 1.0, 0.0)
    np.testing.assert_array_equal(found, [0, -np.inf, -np.inf])


def test_levels_at_and_beyond_the_ends():
    tail = np.asarray([0.0, 1.0, 0.0, 1.0, -0.1, 1.1, np.nan])
    upper = np.asarray([False, False, True, True, False, True, False])
    found = at("poisson", "icdf", tail, upper, 3.0)
    np.testing.assert_array_equal(found, [0, np.inf, np.inf, 0, np.nan, np.nan, np.nan])
    found = at("binomial", "icdf", tail, upper, 4.0, 0.25, 0.75)
    np.testing.assert_array_equal(found, [0, 4, 4, 0, np.nan, np.nan, np.nan])


@pytest.mark.parametrize(
    ("law", "exact"),
    [
        (dist.Poisson(3.5), stats.poisson(3.5)),
        (dist.NegativeBinomial2(3.5, 2.0), stats.nbinom(2.0, 2.0 / 5.5)),
        (dist.NegativeBinomialProbs(2.0, 0.3), stats.nbinom(2.0, 0.7)),
        (dist.NegativeBinomialLogits(2.0, -0.4), stats.nbinom(2.0, special.expit(0.4))),
        (dist.GammaPoisson(2.0, 0.5), stats.nbinom(2.0, 1 / 3)),
        (dist.Binomial(9, probs=0.3), stats.binom(9, 0.3)),
        (dist.Binomial(9, logits=-0.4), stats.binom(9, special.expit(-0.4))),
        (dist.ZeroInflatedPoisson(0.2, 3.5), zero_inflated.ZeroInflated(stats.poisson(3.5), 0.2, 0.8)),
        (
            dist.ZeroInflatedNegativeBinomial2(3.5, 2.0, gate_logits=-1.0),
            zero_inflated.ZeroInflated(stats.nbinom(2, 2 / 5.5), special.expit(-1.0), special.expit(1.0)),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numpyro_distributions_find_their_family(law, exact):
    family, parameters = family_of(law)
    assert family.discrete
    parameters = [np.asarray(leaf, np.float64) for leaf in parameters]
    np.testing.assert_allclose(family.host(*parameters).pmf(np.arange(8)), exact.pmf(np.arange(8)), rtol=1e-5)


def test_only_counts_have_extra_zeros():
    fake = types.SimpleNamespace(base_dist=dist.Normal(0.0, 1.0), gate=0.5)
    with pytest.raises(InputError, match=r"zero-inflated Poisson.*one of Normal"):
        zero_inflated._gated(fake)


def test_zero_inflation_at_its_ends_and_its_twin():
    y, rate = np.arange(5.0), 2.5
    for function in ("log_prob", "crps"):
        plain = at("poisson", function, y, rate)
        np.testing.assert_allclose(at("zero_inflated", function, y, 0.0, 1.0, rate), plain, rtol=1e-6)
    np.testing.assert_array_equal(at("zero_inflated", "log_prob", y, 1.0, 0.0, rate), [0] + [-np.inf] * 4)
    np.testing.assert_allclose(at("zero_inflated", "crps", y, 1.0, 0.0, rate), y)
    log_prob = FAMILIES["zero_inflated"][0].log_prob
    slope = jax.jit(jax.grad(lambda gate: log_prob(jnp.arange(5.0), gate, 1 - gate, jnp.full(5, 2.5)).sum()))
    assert np.isfinite(slope(jnp.zeros(5))).all()
    twin = zero_inflated.ZeroInflated(stats.poisson(2.5), 0.3, 0.7)
    pmf = twin.pmf(np.arange(60))
    assert twin.entropy() == pytest.approx(special.entr(pmf).sum())
    assert (twin.mean(), twin.var()) == pytest.approx(
        ((pmf * np.arange(60)).sum(), (pmf * np.arange(60) ** 2).sum() - twin.mean() ** 2)
    )
    level = np.asarray([0.01, 0.35, 0.6, 0.99])
    np.testing.assert_array_equal(twin.ppf(level), np.searchsorted(np.cumsum(pmf), level))
    np.testing.assert_array_equal(twin.isf(1 - level), twin.ppf(level))
    np.testing.assert_allclose(np.exp(twin.logcdf(np.arange(4))) + np.exp(twin.logsf(np.arange(4))), 1)
    np.testing.assert_allclose(np.exp(twin.logpmf(np.arange(4))), pmf[:4])


def laws(y, mean, size, level):
    family = counts.NEGATIVE_BINOMIAL
    k = family.icdf(level, jnp.zeros_like(level, bool), mean, size)
    before = family.cdf(k - 1, mean, size)
    total = family.cdf(y, mean, size) + family.sf(y, mean, size)
    step = family.cdf(y, mean, size) - family.cdf(y - 1, mean, size)
    return k, before, family.cdf(k, mean, size), total, step, jnp.exp(family.log_prob(y, mean, size))


LAWS = jax.jit(laws)


@settings(max_examples=60, deadline=None)
@example(y=0, mean=9374.359375, size=0.5, level=0.984375)
@given(y=st.integers(0, 2000), mean=st.floats(1e-2, 1e4), size=st.floats(0.1, 1e6), level=st.floats(1e-3, 0.999))
def test_laws_of_the_negative_binomial(y, mean, size, level):
    level = np.float32(level)
    _, before, at, total, step, mass = map(float, LAWS(*map(jnp.float32, (y, mean, size, level))))
    near = 2 * np.spacing(level)  # a step of the cdf may be less than one of float32
    assert before < level + near and level - near < at
    assert total == pytest.approx(1, abs=1e-6)
    assert step == pytest.approx(mass, rel=2e-4, abs=5e-7)


def test_jit_and_eager_agree():
    family, parameters, _, y = case("poisson")
    for name in ("log_prob", "log_sf"):
        eager = getattr(family, name)(*(jnp.asarray(value, jnp.float32) for value in (y, *parameters)))
        np.testing.assert_allclose(eager, evaluate("poisson", name, y, *parameters), rtol=1e-5, atol=1e-7)


def test_gradients_of_a_binomial_that_is_certain():
    k, certain = jnp.float32([0, 2, 5, 0, 2, 5]), jnp.float32([0, 0, 0, 1, 1, 1])

    @jax.jit
    def slopes(p):
        family, parameters = family_of(dist.Binomial(5, certain, validate_args=False))
        functions = (family.log_prob, family.crps)
        each = [lambda p, f=f: f(k, jnp.float32(parameters[0]), p, 1 - p) for f in functions]
        each.append(lambda p: family.entropy(jnp.full_like(p, 5), p, 1 - p))
        return [jax.jvp(f, (p,), (jnp.ones_like(p),))[1] for f in each]

    found = [np.asarray(slope) for slope in slopes(certain)]
    assert all(np.isfinite(slope).all() for slope in found)
    np.testing.assert_allclose(found[1][[0, 5]], 0, atol=1e-4)  # where the outcome is certain


@pytest.mark.parametrize(
    "law", [dist.Poisson(3.0), dist.NegativeBinomial2(3.0, 2.0), dist.Binomial(10, 0.3), dist.Bernoulli(0.3)]
)
def test_the_quantile_of_level_0_is_the_smallest_count_on_both_routes(law):
    """scipy's convention is one less, which is no count."""
    for route in (uq.laws, uq.laws.host):
        assert float(route.icdf(law, 0.0)) == 0
        assert float(route.tail(law, 1.0, True)) == 0
        assert np.isnan(float(route.icdf(law, -0.1)))


@pytest.mark.parametrize("loc", [-20, 5])
def test_shifted_counts_of_scipy_keep_their_shift(loc):
    """The smallest of them is the shift, not 0."""
    for law in (stats.poisson(2.0), stats.binom(10, 0.3), stats.nbinom(3, 0.4), stats.bernoulli(0.3)):
        moved = law.dist(*law.args, loc=loc)
        level = np.array([0.1, 0.5, 0.9])
        np.testing.assert_array_equal(uq.laws.host.icdf(moved, level), law.ppf(level) + loc)
        np.testing.assert_array_equal(uq.laws.host.tail(moved, level, True), law.isf(level) + loc)
        assert uq.laws.host.icdf(moved, 0.0) == loc
        y = law.ppf(0.7)
        k = np.arange(-1, 200)
        want = np.square(law.cdf(k) - (k >= y)).sum()
        np.testing.assert_allclose(uq.laws.host.crps(moved, y + loc), want, rtol=1e-9)


def test_level_0_of_a_certain_count():
    assert float(uq.laws.icdf(dist.Binomial(10, 1.0), 0.0)) == 0
