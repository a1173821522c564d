"""Continuous families against scipy: float32 to a relative 1e-4 over |z| ≤ 20, in both tails, with gradients.

Parameters of one family are stacked, so that each function is compiled once.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import uq
from uq import laws
from uq.laws import host

from .oracle import FrozenMixture, rows

TINY = 1e-37
"""Of what float32 holds nothing below."""


def single(values):
    return np.asarray(values, np.float32)[:, None]


def exact(values):
    return single(values).astype(np.float64)


LOC, SCALE = [-3.0, 1e4, 0.5], [2.5, 250.0, 0.01]
Z = [-20.0, -8.0, -2.5, -0.3, 0.0, 0.4, 3.0, 9.0, 20.0]


def along(loc, scale, z):
    """Outcomes at these standard units, as float32 holds them."""
    return (np.asarray(loc, np.float64)[:, None] + np.asarray(scale, np.float64)[:, None] * np.asarray(z)).astype(
        np.float32
    )


def located(kind, twin, **shape):
    first = [single(v) for v in shape.values()]
    return (
        kind(*first, single(LOC), single(SCALE)),
        twin(*(v.astype(np.float64) for v in first), exact(LOC), exact(SCALE)),
        along(LOC, SCALE, Z),
    )


DF = [0.8, 1.1, 2.5, 7.0, 29.0, 300.0, 1e5, 1e7]
LN = [1.3, 9.0, -6.0], [0.7, 0.1, 1.5]
GAMMA = [0.2, 2.5, 1e3, 1e6], [0.3, 3e-6, 40.0, 3.0]
INVERSE = [1.5, 2.5, 60.0, 1e3], [3.0, 1e4, 60.0, 0.1]
WEIBULL = [0.7, 1.0, 4.0, 30.0], [2.0, 1e5, 1e-3, 3.0]
LOW, HIGH = [-1.0, 8.0, 40.0, -42.0, 0.3], [2.0, 10.0, 42.0, -40.0, 0.301]


def quantiles(twin, levels=(1e-6, 0.01, 0.3, 0.5, 0.8, 0.999, 1 - 1e-6)):
    return np.asarray(twin.ppf(np.asarray(levels)), np.float32)


def family(name):
    """A numpyro distribution with stacked parameters, its twin in float64, and outcomes."""
    if name == "normal":
        return located(dist.Normal, stats.norm)
    if name == "laplace":
        return located(dist.Laplace, stats.laplace)
    if name == "logistic":
        return located(dist.Logistic, stats.logistic)
    if name == "gumbel":
        return located(dist.Gumbel, stats.gumbel_r)
    if name == "student":
        loc, scale = np.full(len(DF), -3.0), np.full(len(DF), 2.5)
        d = dist.StudentT(single(DF), single(loc), single(scale))
        return d, stats.t(exact(DF), -3.0, 2.5), along(loc, scale, Z)
    if name == "log-normal":
        twin = stats.lognorm(exact(LN[1]), scale=np.exp(exact(LN[0])))
        return dist.LogNormal(single(LN[0]), single(LN[1])), twin, quantiles(twin)
    if name == "gamma":
        twin = stats.gamma(exact(GAMMA[0]), scale=1 / exact(GAMMA[1]))
        return dist.Gamma(single(GAMMA[0]), single(GAMMA[1])), twin, quantiles(twin)
    if name == "inverse gamma":
        twin = stats.invgamma(exact(INVERSE[0]), scale=exact(INVERSE[1]))
        return dist.InverseGamma(single(INVERSE[0]), single(INVERSE[1])), twin, quantiles(twin)
    if name == "weibull":
        twin = stats.weibull_min(exact(WEIBULL[0]), scale=exact(WEIBULL[1]))
        return dist.Weibull(single(WEIBULL[1]), single(WEIBULL[0])), twin, quantiles(twin)
    if name == "exponential":
        twin = stats.expon(scale=1 / exact([1e-6, 0.25, 1e3]))
        return dist.Exponential(single([1e-6, 0.25, 1e3])), twin, quantiles(twin)
    if name == "half-normal":
        twin = stats.halfnorm(scale=exact([1e-3, 2.5, 1e6]))
        return dist.HalfNormal(single([1e-3, 2.5, 1e6])), twin, quantiles(twin)
    twin = stats.truncnorm((exact(LOW) - 0.25) / 1.0, (exact(HIGH) - 0.25) / 1.0, 0.25, 1.0)
    d = dist.TruncatedNormal(np.float32(0.25), np.float32(1.0), low=single(LOW), high=single(HIGH))
    return d, twin, np.clip(quantiles(twin, (0.01, 0.3, 0.5, 0.8, 0.999)), single(LOW), single(HIGH))


NAMES = (
    "normal", "student", "laplace", "logistic", "gumbel", "log-normal", "gamma", "inverse gamma", "weibull",
    "exponential", "half-normal", "truncated",
)  # fmt: skip
CASES = {name: family(name) for name in NAMES}
POSITIVE = NAMES[5:11]


def tolerance(name, twin, y):
    """Relative 1e-4, and what one unit in the last place of `y` is worth."""
    ulp = np.spacing(np.abs(y)).astype(np.float64)
    return ulp * np.abs(twin.pdf(y.astype(np.float64)))


@pytest.mark.parametrize("name", NAMES)
def test_distribution_functions(name):
    d, twin, y = CASES[name]
    exactly = y.astype(np.float64)
    slack = tolerance(name, twin, y)
    for ours, theirs in (("cdf", "cdf"), ("sf", "sf")):
        got, want = np.asarray(getattr(laws, ours)(d, y)), getattr(twin, theirs)(exactly)
        assert (np.abs(got - want) <= 1e-4 * want + slack + TINY).all(), (ours, got / want)
        logged = getattr(twin, f"log{theirs}")(exactly)
        got = np.asarray(getattr(laws, f"log_{ours}")(d, y))
        assert (np.abs(got - logged) <= 1e-4 * np.abs(logged) + slack / want.clip(TINY) + TINY).all(), (ours, got)
    want = twin.logpdf(exactly)
    np.testing.assert_allclose(laws.log_prob(d, y), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_quantiles_by_tails(name):
    d, twin, _ = CASES[name]
    tails = np.float32([1e-12, 1e-5, 0.02, 0.3, 0.5])
    if name == "truncated":  # scipy's own inverse stops at 1e-16 of the uncut normal
        tails = tails[2:]
    spread = np.abs(twin.ppf(0.75) - twin.ppf(0.25))
    for upper, inverse in ((False, twin.ppf), (True, twin.isf)):
        got, want = np.asarray(laws.tail(d, tails, upper)), inverse(tails.astype(np.float64))
        assert (np.abs(got - want) <= 2e-5 * (np.abs(want) + spread)).all(), (upper, got, want)
    np.testing.assert_allclose(
        host.tail(d, tails, True), twin.isf(tails.astype(np.float64)), rtol=1e-9, atol=1e-9 * spread.max()
    )


@pytest.mark.parametrize("name", NAMES)
def test_crps_is_its_definition(name):
    d, twin, y = CASES[name]
    got, on_host = np.asarray(laws.crps(d, y)), host.crps(d, y)
    spread = np.abs(twin.ppf(0.75) - twin.ppf(0.25))
    slack = 2 * np.spacing(np.abs(y)).astype(np.float64)
    assert (np.abs(got - on_host) <= 1e-4 * on_host + 1e-6 * spread + slack).all(), got / on_host
    for row, law in enumerate(rows(twin)):
        for column in (1, -2):
            want = FrozenMixture([law], [1.0]).crps(float(y[row, column]))
            np.testing.assert_allclose(on_host[row, column], want, rtol=2e-6)
    # Frozen scipy distributions take the same road.
    np.testing.assert_allclose(host.crps(twin, y.astype(np.float64)), on_host, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_entropy_and_moments(name):
    d, twin, _ = CASES[name]
    if name == "truncated":  # scipy's own cancel in the tails
        want = [FrozenMixture([law], [1.0]).entropy() for law in rows(twin)]
        np.testing.assert_allclose(np.ravel(laws.entropy(d)), want, atol=2e-5)
        np.testing.assert_allclose(np.ravel(host.entropy(d)), want, atol=1e-6)
    else:
        np.testing.assert_allclose(
            laws.entropy(d), np.broadcast_to(twin.entropy(), d.batch_shape), rtol=1e-4, atol=1e-5
        )
    mean, variance = laws.moments(d)
    points = twin.ppf(0.5)
    center = np.isfinite(twin.mean())
    slack = np.spacing(np.abs(points).astype(np.float32)).max()
    np.testing.assert_allclose(np.asarray(mean)[center], np.broadcast_to(twin.mean(), mean.shape)[center], rtol=1e-5)
    assert (np.isinf(np.asarray(mean)) == np.isinf(np.broadcast_to(twin.mean(), mean.shape))).all()
    if name != "truncated":
        np.testing.assert_allclose(variance, np.broadcast_to(twin.var(), variance.shape), rtol=2e-5)
    else:
        third = stats.truncnorm(-1.25, 1.75).var()
        np.testing.assert_allclose(np.asarray(variance)[0, 0], third, rtol=1e-5)
    assert slack >= 0


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_outcome(name):
    d, twin, y = CASES[name]
    exactly = y.astype(np.float64)
    parameters = np.broadcast_shapes(d.batch_shape, y.shape)
    y = jnp.broadcast_to(jnp.asarray(y), parameters)
    scale = np.abs(twin.ppf(0.75) - twin.ppf(0.25))
    by_cdf = jax.grad(lambda y: laws.cdf(d, y).sum())(y)
    inside = (exactly > twin.support()[0]) & (exactly < twin.support()[1])
    gap = (np.abs(np.asarray(by_cdf) - twin.pdf(exactly)) * scale)[np.broadcast_to(inside, parameters)]
    assert (gap <= 2e-4).all()
    by_crps = jax.grad(lambda y: laws.crps(d, y).sum())(y)
    np.testing.assert_allclose(by_crps, twin.cdf(exactly) - twin.sf(exactly), atol=3e-4)
    by_density = jax.grad(lambda y: laws.log_prob(d, y).sum())(y)
    assert np.isfinite(by_density).all()


def moved(name):
    """A function of a family's parameters, one of them moved; for all parameters."""
    d, twin, y = CASES[name]
    names = [n for n in ("df", "loc", "scale", "concentration", "rate") if n in type(d).arg_constraints]
    return d, names, np.float32(quantiles(twin, (0.01, 0.4, 0.9))), y


@pytest.mark.parametrize("name", [n for n in NAMES if n != "truncated"])
def test_gradients_by_parameters(name):
    d, names, y, _ = moved(name)
    y = np.broadcast_to(y, (d.batch_shape[0], 3))
    given = {n: np.broadcast_to(getattr(d, n), d.batch_shape).astype(np.float32) for n in names}

    def score(values):
        law = type(d)(**values, validate_args=False)
        return laws.crps(law, y).sum() + laws.sf(law, y).sum()

    slopes = jax.grad(score)({n: jnp.asarray(v) for n, v in given.items()})
    for n in names:
        wide = {k: v.astype(np.float64) for k, v in given.items()}
        step = 1e-5 * (np.abs(wide[n]) if n not in ("loc",) else wide.get("scale", 1.0))

        def on_host(sign, n=n, wide=wide, step=step):
            law = type(d)(**{**wide, n: wide[n] + sign * step}, validate_args=False)
            exactly = y.astype(np.float64)
            return (host.crps(law, exactly) + host.sf(law, exactly)).sum(1, keepdims=True)

        want = (on_host(1) - on_host(-1)) / (2 * step)
        size = np.abs(want) * np.abs(step) / 1e-5
        got = np.asarray(slopes[n], np.float64)
        assert (np.abs(got - want) * np.abs(step) / 1e-5 <= 2e-3 * size + 2e-4 * size.max() + 1e-6).all(), (
            n,
            got,
            want,
        )


@pytest.mark.parametrize("name", NAMES)
def test_outside_the_support_and_at_its_edges(name):
    d, twin, _ = CASES[name]
    low, high = twin.support()
    if np.isinf(low).all():
        pytest.skip("the whole line")
    below = np.float32(np.where(np.isfinite(low), low, 0) - np.abs(twin.ppf(0.5)) - 1)
    y = np.broadcast_to(below, d.batch_shape)
    assert (np.asarray(laws.cdf(d, y)) == 0).all() and (np.asarray(laws.sf(d, y)) == 1).all()
    assert (np.asarray(laws.log_prob(d, y)) == -np.inf).all()
    mean_gap = host.crps(twin, y.astype(np.float64))
    np.testing.assert_allclose(laws.crps(d, y), mean_gap, rtol=1e-4)
    edge = jnp.asarray(np.broadcast_to(np.float32(low), d.batch_shape))
    for function in (laws.cdf, laws.sf, laws.crps):
        assert np.isfinite(jax.grad(lambda y, f=function: f(d, y).sum())(edge)).all()


def test_defect_14_outcomes_below_the_support_have_a_finite_crps():
    for law, y in ((dist.LogNormal(0.0, 1.0), -1.0), (dist.Gamma(2.0, 1.0), -3.0), (dist.Weibull(1.0, 2.0), -0.5)):
        zero = float(laws.crps(law, 0.0))
        np.testing.assert_allclose(laws.crps(law, y), zero - y, rtol=1e-5)


def test_defect_05_log_densities_far_out_are_finite():
    assert float(laws.log_prob(dist.Normal(0.0, 1.0), 40.0)) == pytest.approx(-800.9189)
    assert float(laws.log_prob(dist.Gamma(200.0, 1.0), 200.0)) == pytest.approx(stats.gamma.logpdf(200, 200), rel=1e-5)
    assert float(laws.log_cdf(dist.Logistic(0.0, 1.0), -300.0)) == pytest.approx(-300.0)


def test_defect_07_logistic_score_far_out():
    np.testing.assert_allclose(laws.crps(dist.Logistic(0.0, 1.0), jnp.float32([-800.0, 800.0])), 799.0, rtol=1e-6)


def test_defect_08_truncated_normal_in_the_tails():
    d = dist.TruncatedNormal(0.0, 1.0, low=jnp.float32([8.0, 40.0]), high=jnp.float32([10.0, 42.0]))
    got = laws.crps(d, jnp.float32([9.0, 41.0]))
    want = [FrozenMixture([stats.truncnorm(a, a + 2)], [1.0]).crps(a + 1) for a in (8.0, 40.0)]
    np.testing.assert_allclose(got, want, rtol=1e-4)
    assert want[0] == pytest.approx(0.818, abs=1e-3)
    assert np.isfinite(laws.log_prob(d, jnp.float32([9.0, 41.0]))).all()


def test_defect_09_student_t_scores_with_many_degrees_of_freedom():
    df = jnp.float32([1e4, 1e6])
    want = [FrozenMixture([stats.t(v)], [1.0]).crps(0.2) for v in (1e4, 1e6)]
    np.testing.assert_allclose(laws.crps(dist.StudentT(df, 0.0, 1.0), 0.2), want, rtol=1e-5)
    slope = jax.grad(lambda y: laws.crps(dist.StudentT(jnp.float32(5.0), 1.0, 2.0), y))(jnp.float32(1.0))
    assert float(slope) == 0.0
    slope = jax.grad(lambda v: laws.crps(dist.StudentT(v, 0.0, 1.0), jnp.float32(0.5)))(jnp.float32(5.0))
    assert np.isfinite(slope)


def test_defect_10_nothing_given_is_changed():
    y = np.array([0.5, 2.0])
    kept = y.copy()
    for law in (stats.expon(loc=1.0), dist.Exponential(np.float64(2.0)), stats.norm(1.0, 2.0)):
        host.crps(law, y)
    np.testing.assert_array_equal(y, kept)


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


# Laws


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["normal", "student", "laplace", "logistic", "gumbel"]),
    level=st.floats(1e-4, 1 - 1e-4),
    shift=st.floats(-1e3, 1e3),
    factor=st.floats(1e-2, 1e2),
    z=st.floats(-15, 15),
)
def test_equivariance_and_inverses(name, level, shift, factor, z):
    kind, more = {
        "normal": (dist.Normal, ()), "student": (dist.StudentT, (np.float64(3.5),)), "laplace": (dist.Laplace, ()),
        "logistic": (dist.Logistic, ()), "gumbel": (dist.Gumbel, ()),
    }[name]  # fmt: skip
    base = kind(*more, np.float64(0.0), np.float64(1.0), validate_args=False)
    law = kind(*more, np.float64(shift), np.float64(factor), validate_args=False)
    y = shift + factor * z
    np.testing.assert_allclose(host.crps(law, y), factor * host.crps(base, z), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(host.log_prob(law, y), host.log_prob(base, z) - np.log(factor), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(host.cdf(law, host.icdf(law, level)), level, rtol=1e-7)
    np.testing.assert_allclose(host.cdf(law, y) + host.sf(law, y), 1.0, rtol=1e-12)
    assert host.cdf(law, y + factor) >= host.cdf(law, y)


@pytest.mark.parametrize("name", NAMES)
def test_compiled_inverses_and_monotony(name):
    d, twin, _ = CASES[name]
    levels = np.float32(np.linspace(0.02, 0.98, 7))
    y = np.asarray(laws.icdf(d, levels))
    got = np.asarray(laws.cdf(d, y))
    slack = np.spacing(np.abs(y)) * twin.pdf(y.astype(np.float64))
    assert (np.abs(got - levels) <= 3e-5 + slack).all()
    assert (np.diff(y, axis=-1) >= 0).all()
    np.testing.assert_allclose(np.asarray(laws.cdf(d, y)) + np.asarray(laws.sf(d, y)), 1.0, atol=2e-6)


# What wraps other distributions


def test_transforms():
    base = dist.Laplace(np.float32(1.0), np.float32(2.0))
    flipped = dist.TransformedDistribution(base, dist.transforms.AffineTransform(np.float32(3.0), np.float32(-2.0)))
    y = np.float32([-30.0, -5.0, 1.0, 4.0])
    twin = stats.laplace(1.0, 4.0)
    np.testing.assert_allclose(laws.cdf(flipped, y), twin.cdf(y), rtol=1e-5)
    np.testing.assert_allclose(laws.crps(flipped, y), host.crps(twin, y), rtol=1e-5)
    np.testing.assert_allclose(host.crps(flipped, y), host.crps(twin, y), rtol=1e-9)
    np.testing.assert_allclose(laws.icdf(flipped, 0.03), twin.ppf(0.03), rtol=1e-5)
    np.testing.assert_allclose(laws.moments(flipped)[1], twin.var(), rtol=1e-5)
    np.testing.assert_allclose(laws.entropy(flipped), twin.entropy(), rtol=1e-5)
    assert type(laws.moments(flipped)[0]).__name__ == "ArrayImpl"


def test_exponentials_of_other_families():
    law = dist.TransformedDistribution(dist.Logistic(np.float32(1.0), np.float32(0.2)), dist.transforms.ExpTransform())
    twin = stats.fisk(1 / float(np.float32(0.2)), scale=np.e)
    y = np.float32([-2.0, 0.0, 0.5, 3.0, 50.0])
    np.testing.assert_allclose(laws.cdf(law, y), twin.cdf(y), rtol=2e-5, atol=1e-30)
    np.testing.assert_allclose(laws.log_prob(law, y[2:]), twin.logpdf(y[2:]), rtol=1e-5)
    np.testing.assert_allclose(laws.crps(law, y), [FrozenMixture([twin], [1.0]).crps(v) for v in y], rtol=1e-5)
    np.testing.assert_allclose(host.crps(law, y), [FrozenMixture([twin], [1.0]).crps(v) for v in y], rtol=1e-6)
    mean, variance = laws.moments(law)
    np.testing.assert_allclose([mean, variance], [twin.mean(), twin.var()], rtol=1e-3)


def test_moved_and_exponentiated_normals_keep_their_closed_forms():
    steps = [
        dist.transforms.AffineTransform(np.float32(1.0), np.float32(-0.5)),
        dist.transforms.ExpTransform(),
    ]
    law = dist.TransformedDistribution(dist.Normal(np.float32(0.4), np.float32(0.6)), steps)
    same = dist.LogNormal(np.float32(0.8), np.float32(0.3))
    np.testing.assert_allclose(laws.crps(law, 2.0), laws.crps(same, 2.0), rtol=1e-5)
    np.testing.assert_allclose(laws.moments(law), laws.moments(same), rtol=1e-5)


def test_wrappers():
    y = np.float32([0.5, 2.0])
    wide = dist.Normal(np.float32(0.0), np.float32(1.0)).expand([2])
    np.testing.assert_allclose(laws.crps(wide.to_event(1), y), host.crps(stats.norm(), y), rtol=1e-5)
    joint = dist.MultivariateNormal(np.float32([1.0, 2.0]), np.float32([[4.0, 1.0], [1.0, 9.0]]))
    np.testing.assert_allclose(laws.cdf(joint, y), stats.norm([1.0, 2.0], [2.0, 3.0]).cdf(y), rtol=1e-5)
    late = dist.RightCensoredDistribution(dist.Exponential(np.float32(0.5)), np.array([False, True]))
    np.testing.assert_allclose(laws.log_prob(late, y), [np.log(0.5) - 0.25, -1.0], rtol=1e-6)
    np.testing.assert_allclose(laws.cdf(late, y), stats.expon(scale=2.0).cdf(y), rtol=1e-6)


def test_unknown_distributions_are_refused_in_a_sentence():
    with pytest.raises(uq.InputError, match=r"knows no family VonMises; it knows .*Normal"):
        laws.cdf(dist.VonMises(0.0, 1.0), 1.0)
    with pytest.raises(uq.InputError, match=r"strictly monotone"):
        laws.cdf(dist.TransformedDistribution(dist.Normal(0.0, 1.0), dist.transforms.AbsTransform()), 1.0)
