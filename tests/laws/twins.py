"""Continuous families beside scipy: float32 to a relative 1e-4 over |z| ≤ 20, in both tails, with gradients.

Parameters of one family are stacked, so that each function is compiled once.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import stats

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
BOUNDED = NAMES[5:]
"""Those that do not reach over the whole line."""


def make(name, values):
    """The numpyro distribution with these parameters."""
    if name == "truncated":
        return dist.TruncatedNormal(values["loc"], values["scale"], low=values["low"], high=values["high"])
    return type(CASES[name][0])(**values, validate_args=False)


def parameters(name):
    if name == "truncated":
        return {"loc": np.float32(0.25), "scale": np.float32(1.0), "low": single(LOW), "high": single(HIGH)}
    d = CASES[name][0]
    names = [n for n in ("df", "loc", "scale", "concentration", "rate") if n in type(d).arg_constraints]
    return {n: np.asarray(getattr(d, n), np.float32) for n in names}


TAILS = np.float32([1e-12, 1e-5, 0.02, 0.3, 0.5])
LEVELS = np.float32(np.linspace(0.02, 0.98, 7))


@functools.cache
def computed(name):
    """Everything about one family, in one program."""
    _, twin, y = CASES[name]
    low = np.float32(np.where(np.isfinite(twin.support()[0]), twin.support()[0], twin.ppf(0.3)))

    @jax.jit
    def everything(values, y, low, tails, levels):
        d = make(name, values)
        found = {what: getattr(laws, what)(d, y) for what in ("cdf", "sf", "log_cdf", "log_sf", "log_prob", "crps")}
        inverse = laws.tail(d, jnp.stack([tails, tails])[:, None], jnp.arange(2)[:, None, None] == 1)
        found |= {"lower": inverse[0], "upper": inverse[1], "entropy": laws.entropy(d), "moments": laws.moments(d)}
        points = laws.icdf(d, levels)
        found |= {"points": points, "back": laws.cdf(d, points)}
        wide = jnp.broadcast_to(y, jnp.broadcast_shapes(d.batch_shape, y.shape))

        def total(what, values, y):
            return getattr(laws, what)(make(name, values), y).sum()

        for what in ("cdf", "crps", "log_prob"):
            found[f"{what} by y"] = jax.grad(functools.partial(total, what), 1)(values, wide)
        for what in ("sf", "crps"):
            found[f"{what} by parameters"] = jax.grad(functools.partial(total, what))(values, wide)
        if name not in BOUNDED:
            return found
        below = low - jnp.abs(points[:, 3:4]) - 1
        found |= {f"{what} below": getattr(laws, what)(d, below) for what in ("cdf", "sf", "log_prob", "crps")}
        edges = [jax.grad(functools.partial(total, what), 1)(values, low) for what in ("cdf", "sf", "crps")]
        return found | {"edges": edges, "below": below}

    found = everything(parameters(name), y, low, TAILS, LEVELS)
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found)


def resolution(twin, y):
    """What a few units in the last place of `y` are worth in probability."""
    return 8 * np.spacing(np.abs(y)).astype(np.float64) * twin.pdf(y.astype(np.float64))


def check_distribution_functions(name):
    d, twin, y = CASES[name]
    found, exactly, slack = computed(name), y.astype(np.float64), resolution(twin, y)
    # scipy's own lower tail of a gamma law is off by 7e-6 at a shape of 1e6: 9.998838e-07 for 9.998909e-07.
    rtol = 1e-5 if "gamma" in name else 1e-7
    for what in ("cdf", "sf"):
        want, logged = getattr(twin, what)(exactly), getattr(twin, f"log{what}")(exactly)
        assert (np.abs(found[what] - want) <= 1e-4 * want + slack + TINY).all(), what
        gap = np.abs(found[f"log_{what}"] - logged)
        assert (gap <= 1e-4 * np.abs(logged) + slack / want.clip(TINY) + TINY).all(), what
        np.testing.assert_allclose(getattr(host, what)(d, exactly), want, rtol=rtol, atol=1e-300)
    np.testing.assert_allclose(found["log_prob"], twin.logpdf(exactly), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(host.log_prob(d, exactly), twin.logpdf(exactly), rtol=1e-7, atol=1e-7)


def check_quantiles_by_tails(name):
    d, twin, _ = CASES[name]
    kept = slice(2 if name == "truncated" else 0, None)  # scipy's own stops at 1e-16 of the uncut normal
    tails = TAILS[kept].astype(np.float64)
    spread = np.abs(twin.ppf(0.75) - twin.ppf(0.25))
    for side, inverse in (("lower", twin.ppf), ("upper", twin.isf)):
        got, want = computed(name)[side][..., kept], inverse(tails)
        assert (np.abs(got - want) <= 2e-5 * (np.abs(want) + spread)).all(), (side, got, want)
        np.testing.assert_allclose(host.tail(d, tails, side == "upper"), want, rtol=1e-7)


def check_inverses_and_monotony(name):
    found, (_, twin, _) = computed(name), CASES[name]
    points = found["points"]
    slack = resolution(twin, np.float32(points))
    assert (np.abs(found["back"] - LEVELS) <= 3e-5 + slack).all()
    assert (np.diff(points, axis=-1) >= 0).all()
    np.testing.assert_allclose(found["cdf"] + found["sf"], 1.0, atol=2e-6)


def check_crps_is_its_definition(name):
    d, twin, y = CASES[name]
    exactly = y.astype(np.float64)
    on_host = host.crps(d, exactly)
    spread = np.abs(twin.ppf(0.75) - twin.ppf(0.25))
    slack = 1e-6 * spread + 2 * np.spacing(np.abs(y)).astype(np.float64)
    assert (np.abs(computed(name)["crps"] - on_host) <= 1e-4 * on_host + slack).all()
    for row, law in enumerate(rows(twin)):
        want = FrozenMixture([law], [1.0]).crps(float(y[row, -2]))
        np.testing.assert_allclose(on_host[row, -2], want, rtol=5e-6)
    np.testing.assert_allclose(host.crps(twin, exactly), on_host, rtol=1e-7)


def check_entropy_and_moments(name):
    d, twin, _ = CASES[name]
    found = computed(name)
    shape = d.batch_shape
    if name == "truncated":  # scipy's own entropy cancels in the tails
        want = np.reshape([FrozenMixture([law], [1.0]).entropy() for law in rows(twin)], shape)
        np.testing.assert_allclose(host.entropy(d), want, atol=1e-6)
    else:
        want = np.broadcast_to(twin.entropy(), shape)
    np.testing.assert_allclose(found["entropy"], want, rtol=1e-4, atol=2e-5)
    mean, variance = found["moments"]
    np.testing.assert_allclose(mean, np.broadcast_to(twin.mean(), shape), rtol=1e-5)
    kept = slice(0, 1) if name == "truncated" else slice(None)
    np.testing.assert_allclose(variance[kept], np.broadcast_to(twin.var(), shape)[kept], rtol=3e-5)


def check_gradients_by_outcome(name):
    _, twin, y = CASES[name]
    found, exactly = computed(name), y.astype(np.float64)
    scale = np.abs(twin.ppf(0.75) - twin.ppf(0.25))
    inside = (exactly > twin.support()[0]) & (exactly < twin.support()[1])
    gap = np.abs(found["cdf by y"] - twin.pdf(exactly)) - 1e-4 * twin.pdf(exactly)
    assert ((gap * scale)[inside] <= 1e-4).all()
    np.testing.assert_allclose(found["crps by y"], twin.cdf(exactly) - twin.sf(exactly), atol=5e-4)
    assert np.isfinite(found["log_prob by y"]).all()


def check_gradients_by_parameters(name):
    _, _, y = CASES[name]
    for what in ("sf", "crps"):
        assert all(np.isfinite(leaf).all() for leaf in computed(name)[f"{what} by parameters"].values())
    if name == "truncated":
        return
    given = {n: v.astype(np.float64) for n, v in parameters(name).items()}
    for n in given:
        step = 1e-5 * (given["scale"] if n == "loc" and "scale" in given else np.abs(given[n]))
        for what in ("sf", "crps"):

            def total(sign, n=n, step=step, what=what):
                moved = {**given, n: given[n] + sign * step}
                return getattr(host, what)(make(name, moved), y.astype(np.float64))

            each = (total(1) - total(-1)) / (2 * step)
            want, size = each.sum(1, keepdims=True), np.abs(each).sum(1, keepdims=True)
            got = computed(name)[f"{what} by parameters"][n]
            noise = 1e-9 * np.abs(total(0)).sum(1, keepdims=True) / step
            assert (np.abs(got - want) <= 3e-4 * size + noise + TINY).all(), (n, what, got, want)


def check_outside_the_support_and_at_its_edges(name):
    if name not in BOUNDED:
        return
    found, (_, twin, _) = computed(name), CASES[name]
    assert (found["cdf below"] == 0).all() and (found["sf below"] == 1).all()
    assert (found["log_prob below"] == -np.inf).all()
    np.testing.assert_allclose(found["crps below"], host.crps(twin, found["below"]), rtol=1e-4)
    assert all(np.isfinite(leaf).all() for leaf in found["edges"])


CHECKS = (
    check_distribution_functions,
    check_quantiles_by_tails,
    check_inverses_and_monotony,
    check_crps_is_its_definition,
    check_entropy_and_moments,
    check_gradients_by_outcome,
    check_gradients_by_parameters,
    check_outside_the_support_and_at_its_edges,
)
