"""`Predictive` against scipy and brute-force integration, with shifted and scaled targets."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import uq
from tests.laws.oracle import FrozenMixture
from tests.metrics.oracle import Mixture, entropy, softplus

TRANSFORMS = [(0.0, 1.0), (1e4, 0.01), (-300.0, 250.0)]
WEIGHT = np.array([0.5, 0.0, 0.2, 0.3], np.float32)
N = 3


def regression(loc, scale, *, seed=0, shared=False):
    """A predictive of four members, one dead and NaN, and each example's mixture in the user's units."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(4, N, 2)).astype(np.float32)
    outputs[..., 1] += np.linspace(-1, 1, 4, dtype=np.float32)[:, None]
    exact = [
        Mixture(
            loc + scale * outputs[:, n, 0].astype(np.float64),
            scale * (softplus(outputs[:, n, 1]) + 1e-3),
            WEIGHT,
        )
        for n in range(N)
    ]
    outputs[1] = np.nan
    base = uq.likelihoods.HomoscedasticGaussian() if shared else uq.likelihoods.Gaussian()
    return uq.Predictive(jnp.asarray(outputs), uq.likelihoods.transformed(base, loc, scale), jnp.asarray(WEIGHT)), exact


def near(got, want, loc, scale, *, power=1, tolerance=2e-5):
    """Equal to so many target scales, or to the float32 grid of the user's units."""
    grid = 1e-7 * abs(loc) if power == 1 else 0.0
    np.testing.assert_allclose(np.asarray(got), want, rtol=tolerance, atol=tolerance * scale**power + grid)


@pytest.fixture(params=TRANSFORMS, ids=["base", "shifted", "scaled"])
def case(request):
    return (*regression(*request.param), *request.param)


def test_density(case):
    pred, exact, _, scale = case
    for offset in (0.0, 0.8, -15.0, 15.0):  # 15 target scales out: finite and exact
        y = np.array([m.locs[0] + offset * scale for m in exact])
        want = [m.log_pdf(t) for m, t in zip(exact, y, strict=True)]
        np.testing.assert_allclose(pred.log_prob(y), want, rtol=2e-5, atol=2e-5)


def test_distribution_function(case):
    pred, exact, _, scale = case
    for offset in (0.0, 0.8, -2.0, -15.0, 15.0):
        y = np.array([m.locs[0] + offset * scale for m in exact])
        want = [m.cdf(t) for m, t in zip(exact, y, strict=True)]
        np.testing.assert_allclose(pred.cdf(y), want, rtol=5e-5, atol=1e-37)


def test_quantiles_and_intervals(case):
    pred, exact, loc, scale = case
    for level in (1e-5, 0.05, 0.5, 0.95):
        want = [m.quantile(float(np.float32(level))) for m in exact]
        near(pred.quantile(level), want, loc, scale)
    want = [m.quantile(float(np.float32(1 - 1e-5))) for m in exact]
    near(pred.quantile(1 - 1e-5), want, loc, scale, tolerance=2e-3)
    both = pred.quantile(jnp.array([0.05, 0.95]))
    assert both.shape == (2, N)
    lower, upper = pred.interval(0.9)
    np.testing.assert_array_equal(lower, both[0])
    ends = [[m.quantile(0.05), m.quantile(0.95)] for m in exact]
    near(upper, [b for _, b in ends], loc, scale)
    np.testing.assert_allclose(pred.width(0.9), [b - a for a, b in ends], rtol=5e-5)


def test_crps(case):
    pred, exact, _, scale = case
    for offset in (0.0, 0.8, -15.0):
        y = np.array([m.locs[0] + offset * scale for m in exact])
        want = [m.crps(t) for m, t in zip(exact, y, strict=True)]
        np.testing.assert_allclose(pred.crps(y), want, rtol=2e-5, atol=2e-6 * scale)


def test_moments(case):
    pred, exact, loc, scale = case
    means = [m.moment(1) for m in exact]
    near(pred.mean, means, loc, scale)
    variances = [m.moment(2, about=mean) for m, mean in zip(exact, means, strict=True)]
    np.testing.assert_allclose(pred.variance, variances, rtol=3e-5)
    np.testing.assert_allclose(pred.stddev, np.sqrt(variances), rtol=3e-5)
    within = [m.weights @ m.scales**2 for m in exact]
    between = [m.weights @ (m.locs - m.weights @ m.locs) ** 2 for m in exact]
    np.testing.assert_allclose(pred.aleatoric, within, rtol=3e-5)
    np.testing.assert_allclose(pred.epistemic, between, rtol=3e-5)
    np.testing.assert_allclose(pred.variance, pred.aleatoric + pred.epistemic, rtol=1e-6)


def test_residual_keeps_its_digits(case):
    pred, exact, _, scale = case
    y = np.array([m.locs.mean() + 0.123 * scale for m in exact])
    want = [t - m.weights @ m.locs for m, t in zip(exact, y, strict=True)]
    np.testing.assert_allclose(pred.residual(y), want, rtol=2e-5, atol=1e-6 * scale)


def test_differential_entropy(case):
    pred, exact, _, _ = case
    np.testing.assert_allclose(pred.entropy, [m.entropy() for m in exact], rtol=1e-5, atol=2e-5)
    members = [sum(w * stats.norm.entropy(0, s) for w, s in zip(m.weights, m.scales, strict=True)) for m in exact]
    np.testing.assert_allclose(pred.expected_entropy, members, rtol=1e-5, atol=2e-5)
    want = [m.entropy() - e for m, e in zip(exact, members, strict=True)]
    np.testing.assert_allclose(pred.mutual_information, want, atol=3e-5)


def test_variance_is_two_pass():
    # Members' means 1e4 ± 1e-2 in the network's own units: E[x²] − E[x]² would be noise of size 10.
    means = np.float32(1e4 + np.array([0.01, -0.01, 0.0, 0.02]))
    raw = np.full(4, -30.0, np.float32)
    outputs = jnp.asarray(np.stack([means, raw], -1)[:, None])
    pred = uq.Predictive(outputs, uq.likelihoods.Gaussian())
    np.testing.assert_allclose(pred.epistemic, [means.astype(np.float64).var()], rtol=1e-2)
    np.testing.assert_allclose(pred.aleatoric, [1e-6], rtol=1e-3)


def test_single_component_is_scipy_normal(case):
    loc, scale = case[2:]
    outputs = np.random.default_rng(1).normal(size=(1, 5, 2)).astype(np.float32)
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), loc, scale)
    pred = uq.Predictive(jnp.asarray(outputs), likelihood)
    twin = stats.norm(loc + scale * outputs[0, :, 0].astype(np.float64), scale * (softplus(outputs[0, :, 1]) + 1e-3))
    y = twin.mean() + np.array([-15, -1, 0, 0.3, 15]) * scale
    np.testing.assert_allclose(pred.log_prob(y), twin.logpdf(y), rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(pred.cdf(y), twin.cdf(y), rtol=5e-5, atol=1e-37)
    near(pred.quantile(0.05), twin.ppf(0.05), loc, scale)
    np.testing.assert_allclose(pred.entropy, twin.entropy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(pred.mutual_information, 0.0, atol=1e-5)


def test_equal_members_are_one(case):
    loc, scale = case[2:]
    one = np.random.default_rng(2).normal(size=(1, 4, 2)).astype(np.float32)
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), loc, scale)
    single = uq.Predictive(jnp.asarray(one), likelihood)
    weight = jnp.float32([0.1, 0.2, 0.3, 0.4])
    many = uq.Predictive(jnp.asarray(np.repeat(one, 4, 0)), likelihood, weight)
    y = np.asarray(single.mean, np.float64) + 0.4 * scale
    for name in ("mean", "variance", "entropy"):
        np.testing.assert_allclose(getattr(many, name), getattr(single, name), rtol=1e-5, atol=1e-6)
    for name in ("log_prob", "cdf", "crps"):
        np.testing.assert_allclose(getattr(many, name)(y), getattr(single, name)(y), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(many.quantile(0.01), single.quantile(0.01), rtol=1e-6)


def test_several_outputs():
    loc, scale = np.array([1e4, -300.0]), np.array([0.01, 250.0])
    rng = np.random.default_rng(3)
    outputs = rng.normal(size=(3, 4, 4)).astype(np.float32)
    weight = np.float32([0.2, 0.5, 0.3])
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(2), loc, scale)
    pred = uq.Predictive(jnp.asarray(outputs), likelihood, jnp.asarray(weight))
    means = loc + scale * outputs[..., :2].astype(np.float64)
    scales = scale * (softplus(outputs[..., 2:]) + 1e-3)
    y = means.mean(0) + 0.4 * scale
    joint = special.logsumexp(stats.norm.logpdf(y, means, scales).sum(-1), axis=0, b=weight[:, None])
    np.testing.assert_allclose(pred.log_prob(y), joint, rtol=2e-5, atol=2e-5)
    assert pred.crps(y).shape == pred.cdf(y).shape == pred.mean.shape == pred.width(0.8).shape == (4, 2)
    for n in range(4):
        for d in range(2):
            exact = Mixture(means[:, n, d], scales[:, n, d], weight)
            np.testing.assert_allclose(pred.crps(y)[n, d], exact.crps(y[n, d]), rtol=2e-5, atol=1e-6 * scale[d])
            np.testing.assert_allclose(pred.cdf(y)[n, d], exact.cdf(y[n, d]), rtol=2e-5)
            near(pred.quantile(0.3)[n, d], exact.quantile(0.3), loc[d], scale[d])
    assert pred.quantile(jnp.array([0.1, 0.5, 0.9])).shape == (3, 4, 2)


def test_shared_variance():
    loc, scale = -300.0, 250.0
    pred, exact = regression(loc, scale, shared=True)
    y = np.array([m.locs[0] + 0.5 * scale for m in exact])
    want = [m.log_pdf(t) for m, t in zip(exact, y, strict=True)]
    np.testing.assert_allclose(pred.log_prob(y), want, rtol=2e-5, atol=2e-5)


# Classes


def classes(seed=0):
    rng = np.random.default_rng(seed)
    logits = (3 * rng.normal(size=(4, 6, 3))).astype(np.float32)
    probs = special.softmax(logits.astype(np.float64), -1)
    logits[1] = np.nan
    return uq.Predictive(jnp.asarray(logits), uq.likelihoods.Categorical(3), jnp.asarray(WEIGHT)), probs


def test_multiclass():
    pred, probs = classes()
    live = [0, 2, 3]
    mixed = np.einsum("m,mnc->nc", WEIGHT[live].astype(np.float64), probs[live])
    y = np.array([0, 1, 2, 2, 1, 0])
    np.testing.assert_allclose(pred.probs, mixed, rtol=1e-5)
    np.testing.assert_allclose(pred.mean, mixed, rtol=1e-5)
    np.testing.assert_allclose(pred.log_prob(y), np.log(mixed[np.arange(6), y]), rtol=1e-5, atol=1e-6)
    total = np.array([entropy(p) for p in mixed])
    members = sum(WEIGHT[m] * np.array([entropy(p) for p in probs[m]]) for m in live)
    np.testing.assert_allclose(pred.entropy, total, rtol=1e-5)
    np.testing.assert_allclose(pred.expected_entropy, members, rtol=1e-4)
    # The mutual information is also the mean divergence of the members from the mixture.
    divergence = sum(WEIGHT[m] * (probs[m] * np.log(probs[m] / mixed)).sum(1) for m in live)
    np.testing.assert_allclose(pred.mutual_information, divergence, rtol=1e-3, atol=2e-6)
    np.testing.assert_allclose(pred.variance, mixed * (1 - mixed), rtol=1e-4, atol=1e-6)


def test_binary():
    logits = np.random.default_rng(0).normal(size=(4, 5, 1)).astype(np.float32)
    probs = special.expit(logits[..., 0].astype(np.float64))
    logits[1] = np.nan
    pred = uq.Predictive(jnp.asarray(logits), uq.likelihoods.Bernoulli(), jnp.asarray(WEIGHT))
    live = [0, 2, 3]
    p = WEIGHT[live].astype(np.float64) @ probs[live]
    np.testing.assert_allclose(pred.mean, p, rtol=1e-5)
    np.testing.assert_allclose(pred.probs, np.stack([1 - p, p], -1), rtol=1e-5)
    y = np.array([0, 1, 1, 0, 1])
    np.testing.assert_allclose(pred.log_prob(y), stats.bernoulli.logpmf(y, p), rtol=1e-5)
    np.testing.assert_allclose(pred.entropy, stats.bernoulli.entropy(p), rtol=1e-5)
    np.testing.assert_allclose(pred.variance, p * (1 - p), rtol=1e-5)


def test_extreme_logits_stay_finite():
    logits = jnp.float32([[[1e4, -1e4, 0.0]], [[1e30, -1e30, 0.0]]])
    pred = uq.Predictive(logits, uq.likelihoods.Categorical(3))
    for value in (pred.log_prob(np.array([0])), pred.entropy, pred.mutual_information, pred.probs):
        assert np.isfinite(value).all()
    far = uq.Predictive(jnp.float32([[[-1e4]], [[-1e4]]]), uq.likelihoods.Bernoulli())
    np.testing.assert_allclose(far.log_prob(np.array([1])), [-1e4])


# Behaviour


def test_a_dead_member_is_inert(case):
    pred, _, loc, scale = case
    live = np.array([0, 2, 3])
    alone = uq.Predictive(pred.outputs[live], pred.likelihood, pred.weight[live])
    y = np.full(N, loc + 0.3 * scale)
    for name in ("mean", "variance", "epistemic"):
        np.testing.assert_allclose(getattr(pred, name), getattr(alone, name), rtol=1e-5)
    np.testing.assert_allclose(pred.entropy, alone.entropy, rtol=1e-5, atol=1e-5)
    for name in ("log_prob", "cdf", "crps"):
        np.testing.assert_allclose(getattr(pred, name)(y), getattr(alone, name)(y), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pred.quantile(0.02), alone.quantile(0.02), rtol=1e-6)
    assert np.isfinite(pred.sample(jax.random.key(0), 50)).all()

    def loss(outputs):
        p = uq.Predictive(outputs, pred.likelihood, pred.weight)
        return p.log_prob(y).sum() + p.crps(y).sum() + p.quantile(0.2).sum() + p.variance.sum()

    slope = jax.grad(loss)(pred.outputs)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(slope[1], 0.0)


def test_gradient_of_quantiles_with_respect_to_outputs():
    pred, exact = regression(-300.0, 250.0)
    for level in (0.05, 0.5, 0.9):

        def quantile(outputs, level=level):
            return uq.Predictive(outputs, pred.likelihood, pred.weight).quantile(level)[0]

        slope = jax.grad(quantile)(pred.outputs)[:, 0]
        for kept, member in enumerate((0, 2, 3)):  # the mixture leaves the dead one out
            ends = []
            for sign in (1, -1):
                moved = Mixture(exact[0].locs, exact[0].scales, exact[0].weights)
                moved.locs[kept] += sign * 1e-4 * 250
                ends.append(moved.quantile(float(np.float32(level))))
            np.testing.assert_allclose(slope[member, 0], (ends[0] - ends[1]) / 2e-4, rtol=2e-3, atol=1e-2)


def test_is_a_pytree_under_jit(case):
    pred, _, loc, scale = case
    y = np.full(N, loc + 0.3 * scale, np.float32)
    leaves, structure = jax.tree.flatten(pred)
    again = jax.tree.unflatten(structure, leaves)
    assert again.task == "regression" and len(again) == N
    # Inside a program y and the shift are float32: what the grid of the units allows.
    tolerance = 1e-4 + 2e-7 * abs(loc) / scale * 10
    for function in (lambda p, y: p.log_prob(y), lambda p, y: p.cdf(y), lambda p, y: p.crps(y) / scale):
        np.testing.assert_allclose(jax.jit(function)(pred, y), function(pred, y), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(jax.jit(lambda p: p.variance)(pred), pred.variance, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda p: p.width(0.9))(pred), pred.width(0.9), rtol=1e-5)
    jitted = jax.jit(lambda p: p.interval(0.9))(pred)
    np.testing.assert_allclose(jitted.upper, pred.interval(0.9).upper, rtol=1e-6, atol=1e-4 * scale)


def test_rows():
    pred, exact = regression(-300.0, 250.0)
    y = np.array([m.locs[0] for m in exact])
    assert len(pred) == N and pred.num_members == 4
    whole = np.asarray(pred.log_prob(y))
    for rows in (slice(1, None), np.array([2, 0]), np.array([True, False, True])):
        np.testing.assert_allclose(pred[rows].log_prob(y[rows]), whole[rows], rtol=1e-6)
    np.testing.assert_allclose(pred[-1].log_prob(y[-1:]), whole[-1:], rtol=1e-6)
    assert len(pred[0]) == 1
    assert "members=4" in repr(pred) and f"examples={N}" in repr(pred)


def test_draws_follow_the_mixture():
    pred, exact = regression(-300.0, 250.0)
    draws = np.asarray(pred.sample(jax.random.key(1), 4000), np.float64)
    assert draws.shape == (4000, N)
    for n, mixture in enumerate(exact):
        assert stats.kstest(draws[:, n], mixture.cdf).pvalue > 1e-4
    np.testing.assert_array_equal(pred.sample(jax.random.key(1), 3), pred.sample(jax.random.key(1), 3))
    labels = classes()[0].sample(jax.random.key(0), 4000)
    shares = np.stack([(np.asarray(labels) == c).mean(0) for c in range(3)], -1)
    np.testing.assert_allclose(shares, classes()[0].probs, atol=0.04)


def test_numpyro_twin():
    pred, exact = regression(-300.0, 250.0)
    y = np.float32([m.locs[0] for m in exact])
    twin = pred.to_numpyro()
    assert twin.batch_shape == (N,)
    np.testing.assert_allclose(twin.log_prob(y), pred.log_prob(y), rtol=1e-4)
    np.testing.assert_allclose(twin.mean, pred.mean, rtol=1e-5)
    np.testing.assert_allclose(classes()[0].to_numpyro().probs, classes()[0].probs, rtol=1e-6)


def test_wrong_inputs_get_a_sentence():
    pred, _ = regression(0.0, 1.0)
    with pytest.raises(uq.InputError, match="one entry for each of the 3 examples"):
        pred.log_prob(np.zeros(4))
    with pytest.raises(uq.InputError, match="row 1 of 3 holds NaN or infinity"):
        pred.crps(np.array([0.0, np.nan, 0.0]))
    with pytest.raises(uq.InputError, match="strictly between 0 and 1, but it is 90"):
        pred.interval(90)
    with pytest.raises(uq.InputError, match="strictly between 0 and 1"):
        pred.quantile(np.array([0.5, 1.0]))
    with pytest.raises(uq.InputError, match=r"num_outputs=2"):
        pred.log_prob(np.zeros((3, 2)))
    with pytest.raises(
        uq.InputError, match="for binary, multiclass or multilabel predictions, but these are regression"
    ):
        pred.probs  # noqa: B018
    with pytest.raises(uq.InputError, match="every member has weight 0"):
        uq.Predictive(pred.outputs, pred.likelihood, jnp.zeros(4))
    with pytest.raises(uq.InputError, match="sum to 1, but they sum to 4"):
        uq.Predictive(pred.outputs, pred.likelihood, jnp.ones(4))
    with pytest.raises(uq.InputError, match=r"each of the 4 members, or \(4, 3\) of them, but has shape \(3,\)"):
        uq.Predictive(pred.outputs, pred.likelihood, jnp.full(3, 1 / 3))
    labels = classes()[0]
    with pytest.raises(uq.InputError, match="`quantile` is for regression"):
        labels.quantile(0.5)
    with pytest.raises(uq.InputError, match=r"labels 0 to 2, but row 1 of `y` is 3"):
        labels.log_prob(np.array([0, 3, 0, 0, 0, 0]))
    with pytest.raises(uq.InputError, match=r"whole-number labels, but row 0 of `y` is 0.5"):
        labels.log_prob(np.array([0.5, 1, 0, 0, 0, 0]))
    several = uq.Predictive(jnp.zeros((2, 3, 4)), uq.likelihoods.Gaussian(2))
    with pytest.raises(uq.InputError, match="entropy of a mixture is computed for one output"):
        several.entropy  # noqa: B018


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: uq.Predictive(jnp.zeros((2, 3, 5)), uq.likelihoods.Gaussian()), r"\(M, N, 2\)"),
        (lambda: uq.Predictive(jnp.zeros((3, 2)), uq.likelihoods.Gaussian()), r"members first"),
        (lambda: plain()[5], r"There are 3 examples, but example 5"),
        (lambda: plain().cdf([1.0, 2.0]), r"broadcasts to shape \(3,\)"),
        (lambda: plain().interval("a"), r"fraction strictly between 0 and 1"),
        (lambda: plain().quantile([]), r"fraction strictly between 0 and 1"),
        (lambda: plain().sample(0, -1), r"`num` expected a whole number of at least 1"),
        (lambda: uq.evaluate(plain()[:0], []), r"at least one example"),
        (lambda: uq.evaluate(uq.Predictive(jnp.full((1, 3, 2), jnp.nan), uq.likelihoods.Gaussian()), [0.0] * 3), "NaN"),
        (lambda: uq.likelihoods.Gaussian(num_outputs=0), r"`num_outputs` expected"),
        (lambda: uq.likelihoods.Gaussian(min_scale=-1.0), r"`min_scale` expected"),
        (lambda: uq.member_keys(2**65, 2), r"from 0 to 2"),
    ],
)
def test_what_cannot_be_is_said(attempt, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        attempt()


def plain():
    """Three examples of one network."""
    return uq.Predictive(jnp.zeros((1, 3, 2)), uq.likelihoods.Gaussian())


# Every kind of likelihood


def counts():
    """Two members, three examples, and the oracle of each example."""
    outputs = np.float32([[[0.5], [3.0], [1.0]], [[1.5], [3.5], [1.1]]])
    weight = np.float32([0.25, 0.75])
    pred = uq.Predictive(jnp.asarray(outputs), uq.likelihoods.Poisson(), jnp.asarray(weight))
    rates = np.asarray(uq.likelihoods.Poisson().distribution(jnp.asarray(outputs)).rate, np.float64)
    return pred, [FrozenMixture([stats.poisson(r) for r in rates[:, n]], weight) for n in range(N)]


def test_counts_are_whole_numbers():
    pred, exact = counts()
    assert pred.discrete and not plain().discrete
    for level in (0.01, 0.5, 0.9, 0.999):
        np.testing.assert_array_equal(pred.quantile(level), [m.whole_quantile(level) for m in exact])
    lower, upper = pred.interval(0.8)
    np.testing.assert_array_equal(lower, [m.whole_quantile(0.1) for m in exact])
    np.testing.assert_array_equal(upper, [m.whole_quantile(0.9) for m in exact])
    y = np.array([1, 30, 2])
    np.testing.assert_allclose(pred.crps(y), [m.whole_crps(v) for m, v in zip(exact, y, strict=True)], rtol=1e-5)
    np.testing.assert_allclose(pred.cdf(y), [m.cdf(v) for m, v in zip(exact, y, strict=True)], rtol=1e-5)
    np.testing.assert_allclose(pred.sf(y), [m.sf(v) for m, v in zip(exact, y, strict=True)], rtol=1e-5)
    np.testing.assert_allclose(pred.cdf_below(y), pred.cdf(y - 1), rtol=1e-6)
    gap = np.asarray(pred.cdf(y) - pred.cdf_below(y))
    np.testing.assert_allclose(gap, np.exp(pred.log_prob(y)), atol=1e-6)
    np.testing.assert_allclose(pred.entropy, [m.whole_entropy() for m in exact], rtol=1e-5)
    twin = pred.to_numpyro()
    np.testing.assert_allclose(twin.log_prob(y), pred.log_prob(y), rtol=1e-4)


def test_clipped_outcomes_have_probability_at_their_limits():
    kind = uq.likelihoods.Censored(0.0, 10.0)
    pred = uq.Predictive(jnp.float32([[[-1.0, 0.3]] * 3, [[0.5, 0.0]] * 3]), kind)
    y = np.float32([0.0, 4.0, 10.0])
    below, at = np.asarray(pred.cdf_below(y)), np.asarray(pred.cdf(y))
    assert below[0] == 0.0 < at[0] and at[2] == 1.0 > below[2]
    np.testing.assert_allclose(at[1], below[1], rtol=1e-5)
    np.testing.assert_allclose(np.log(at - below)[[0, 2]], pred.log_prob(y)[jnp.array([0, 2])], rtol=1e-4)
    grid = np.linspace(0, 10, 20_001)
    f = np.asarray(pred[0].cdf(jnp.float32(0.0)), np.float64)
    members = kind.parameters(pred.outputs[:, 0])
    cdf = sum(0.5 * stats.norm(float(m), float(s)).cdf(grid) for m, s in zip(*members, strict=True))
    np.testing.assert_allclose(f, cdf[0], rtol=1e-5)
    np.testing.assert_allclose(pred.crps(y)[1], np.trapezoid((cdf - (grid >= 4.0)) ** 2, grid), rtol=1e-3)


def test_members_that_are_mixtures_are_one_mixture():
    kind = uq.likelihoods.transformed(uq.likelihoods.MixtureDensity(2), 1e4, 0.5)
    outputs = np.random.default_rng(5).normal(size=(3, N, 6)).astype(np.float32)
    weight = np.float32([0.2, 0.5, 0.3])
    pred = uq.Predictive(jnp.asarray(outputs), kind, jnp.asarray(weight))
    logits, means, scales = (np.asarray(p, np.float64) for p in kind.base.parameters(jnp.asarray(outputs)))
    exact = [
        Mixture(
            (1e4 + 0.5 * means[:, n]).ravel(),
            (0.5 * scales[:, n]).ravel(),
            (weight[:, None] * np.exp(logits[:, n])).ravel(),
        )
        for n in range(N)
    ]
    y = 1e4 + np.array([0.3, -1.0, 0.0])
    pairs = list(zip(exact, y, strict=True))
    np.testing.assert_allclose(pred.log_prob(y), [m.log_pdf(t) for m, t in pairs], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pred.cdf(y), [m.cdf(t) for m, t in pairs], rtol=1e-4)
    np.testing.assert_allclose(pred.crps(y), [m.crps(t) for m, t in pairs], rtol=1e-4)
    np.testing.assert_allclose(pred.quantile(0.9), [m.quantile(0.9) for m in exact], rtol=1e-6)
    np.testing.assert_allclose(pred.variance, [m.moment(2, about=m.moment(1)) for m in exact], rtol=1e-4)
    np.testing.assert_allclose(pred.entropy, [m.entropy() for m in exact], rtol=1e-4, atol=1e-4)
    assert (np.asarray(pred.mutual_information) >= 0).all()
    small = uq.Predictive(jnp.asarray(outputs), kind.base, jnp.asarray(weight))
    z = jnp.float32([0.3, -1.0, 0.0])
    np.testing.assert_allclose(small.to_numpyro().log_prob(z), small.log_prob(z), rtol=1e-4)


def test_students_without_a_mean_say_so():
    heavy = uq.Predictive(jnp.zeros((2, 3, 2)), uq.likelihoods.StudentT(df=1.0))
    assert np.isinf(heavy.mean).all() and np.isnan(heavy.variance).all()
    assert np.isfinite(heavy.crps(np.zeros(3))).all() and np.isfinite(heavy.quantile(0.9)).all()


@pytest.mark.parametrize("name", ["Log", "BoxCox"])
def test_transforms_of_the_target(name):
    change = uq.likelihoods.Log() if name == "Log" else uq.likelihoods.BoxCox(0.5)
    kind = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), change)
    outputs = np.float32([[[1.5, 0.0]] * 3, [[2.5, -1.0]] * 3])
    pred = uq.Predictive(jnp.asarray(outputs), kind)
    locs, scales = outputs[:, 0, 0].astype(np.float64), softplus(outputs[:, 0, 1]) + 1e-3
    inner = Mixture(locs, scales, [0.5, 0.5])
    forward = np.log if name == "Log" else lambda y: 2 * (np.sign(y) * np.sqrt(np.abs(y))) - 2
    y = np.array([0.5, 3.0, 20.0])
    np.testing.assert_allclose(pred.cdf(y), [inner.cdf(forward(t)) for t in y], rtol=1e-4)
    np.testing.assert_allclose(pred.sf(y), [inner.sf(forward(t)) for t in y], rtol=1e-4)
    slope = 1 / y if name == "Log" else 1 / np.sqrt(y)
    want = [inner.log_pdf(forward(t)) + np.log(s) for t, s in zip(y, slope, strict=True)]
    np.testing.assert_allclose(pred.log_prob(y), want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(forward(np.asarray(pred.quantile(0.3), np.float64)), inner.quantile(0.3), rtol=1e-4)
    low = 0.0 if name == "Log" else -60.0
    edges = np.unique(np.concatenate([[low], y, np.geomspace(1e-4, 3000, 200), -np.geomspace(1e-4, -low + 1e-4, 200)]))
    grid = np.concatenate([np.linspace(a, b, 40) for a, b in itertools.pairwise(edges)])
    grid = grid[grid >= low]
    with np.errstate(divide="ignore"):
        cdf = inner.cdf(forward(grid))
    for n, t in enumerate(y):
        want = np.trapezoid(np.where(grid < t, cdf, 1 - cdf) ** 2, grid)
        np.testing.assert_allclose(pred.crps(y)[n], want, rtol=2e-3)
    mean = np.trapezoid(1 - cdf[grid >= 0], grid[grid >= 0]) - np.trapezoid(cdf[grid <= 0], grid[grid <= 0])
    np.testing.assert_allclose(pred.mean, mean, rtol=2e-3)
    np.testing.assert_allclose(pred.residual(y), y - np.asarray(pred.mean), rtol=1e-5, atol=1e-5)
    lower, upper = pred.interval(0.5)
    np.testing.assert_allclose(pred.width(0.5), upper - lower, rtol=1e-5)


def test_several_labels():
    logits = np.random.default_rng(1).normal(size=(2, N, 4)).astype(np.float32)
    pred = uq.Predictive(jnp.asarray(logits), uq.likelihoods.Multilabel(4))
    each = special.expit(logits.astype(np.float64))
    np.testing.assert_allclose(pred.probs, each.mean(0), rtol=1e-5)
    np.testing.assert_allclose(pred.mean, each.mean(0), rtol=1e-5)
    np.testing.assert_allclose(pred.entropy, stats.bernoulli.entropy(each.mean(0)), rtol=1e-4)
    y = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]])
    joint = np.log(stats.bernoulli.pmf(y, each).prod(-1).mean(0))  # labels of one member are independent, not of all
    np.testing.assert_allclose(pred.log_prob(y), joint, rtol=1e-5)
    with jax.numpy_dtype_promotion("standard"):  # numpyro multiplies labels by logits
        np.testing.assert_allclose(pred.to_numpyro().log_prob(y), joint, rtol=1e-4)


def test_correlated_outputs_have_marginals_and_a_joint_density():
    kind = uq.likelihoods.FullCovarianceGaussian(2)
    outputs = np.random.default_rng(2).normal(size=(2, N, 5)).astype(np.float32)
    pred = uq.Predictive(jnp.asarray(outputs), kind)
    mean, tril = (np.asarray(p, np.float64) for p in kind.parameters(jnp.asarray(outputs)))
    cov = tril @ np.swapaxes(tril, -1, -2)
    y = mean.mean(0) + 0.5
    joint = [
        np.log(np.mean([stats.multivariate_normal(mean[m, n], cov[m, n]).pdf(y[n]) for m in range(2)]))
        for n in range(N)
    ]
    np.testing.assert_allclose(pred.log_prob(y), joint, rtol=1e-4)
    np.testing.assert_allclose(pred.to_numpyro().log_prob(jnp.float32(y)), joint, rtol=1e-4)
    for n in range(N):
        for k in range(2):
            exact = Mixture(mean[:, n, k], np.sqrt(cov[:, n, k, k]), [0.5, 0.5])
            np.testing.assert_allclose(pred.crps(y)[n, k], exact.crps(y[n, k]), rtol=1e-4)
            np.testing.assert_allclose(pred.quantile(0.2)[n, k], exact.quantile(0.2), rtol=1e-4)


def test_examples_are_selected_by_numbers_that_exist() -> None:
    outputs = np.random.default_rng(0).normal(size=(2, 5, 2)).astype(np.float32)
    pred = uq.Predictive(outputs, uq.likelihoods.Gaussian())
    for rows in ([0, 3], [-1], slice(1, 4), np.arange(5) % 2 == 0, jnp.arange(2), 3, np.int64(-2), jnp.int32(1), []):
        index = np.atleast_1d(np.arange(5)[np.asarray(rows, int) if isinstance(rows, list) else rows])
        np.testing.assert_array_equal(pred[rows].outputs, outputs[:, index])
    assert [len(one) for one in pred] == [1] * 5
    for rows in ([500], -6, None, (0, 1), [1.5], [True], "a", [[0]]):
        with pytest.raises(uq.InputError, match=r"There are 5 examples|Examples are selected by"):
            pred[rows]
    np.testing.assert_array_equal(jax.jit(lambda p, i: p[i].mean)(pred, jnp.arange(2)), pred.mean[:2])


def test_what_a_predictive_is_made_of() -> None:
    half = uq.Predictive(jnp.zeros((2, 3, 2), jnp.float16), uq.likelihoods.Gaussian(), [0.25, 0.75])
    assert half.outputs.dtype == half.weight.dtype == jnp.float32 and half.quantile(0.3).shape == (3,)
    with pytest.raises(uq.InputError, match=r"expected outputs of shape \(M, N, 2\).* but got \(0, 3, 2\)"):
        uq.Predictive(jnp.zeros((0, 3, 2)), uq.likelihoods.Gaussian())
