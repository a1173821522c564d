"""Scores against formulas written independently."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.metrics import brier_score_loss

import uq
from tests.metrics.oracle import Mixture, softplus
from uq import metrics

WEIGHT = np.float32([0.2, 0.5, 0.3])


def regression(loc, scale, num_outputs=1, size=4):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(3, size, 2 * num_outputs)).astype(np.float32)
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(num_outputs), loc, scale)
    means = loc + scale * outputs[..., :num_outputs].astype(np.float64)
    scales = scale * (softplus(outputs[..., num_outputs:]) + 1e-3)
    return uq.Predictive(jnp.asarray(outputs), likelihood, jnp.asarray(WEIGHT)), means, scales


def class_probs(size=50, num_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    return special.softmax(2 * rng.normal(size=(size, num_classes)), -1), rng.integers(0, num_classes, size)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1e4, 0.01), (-300.0, 250.0)])
def test_regression_scores(loc, scale):
    pred, means, scales = regression(loc, scale)
    exact = [Mixture(means[:, n, 0], scales[:, n, 0], WEIGHT) for n in range(4)]
    y = means[0, :, 0] + 0.7 * scale
    each = list(zip(exact, y, strict=True))
    np.testing.assert_allclose(metrics.log_score(pred, y), [-m.log_pdf(t) for m, t in each], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(metrics.crps(pred, y), [m.crps(t) for m, t in each], rtol=2e-5)
    squares = [(t - m.weights @ m.locs) ** 2 for m, t in each]
    np.testing.assert_allclose(metrics.squared_error(pred, y), squares, rtol=1e-4, atol=1e-6 * scale**2)
    widths = [m.quantile(0.9) - m.quantile(0.1) for m in exact]
    np.testing.assert_allclose(metrics.interval_width(pred, level=0.8), widths, rtol=1e-4)


def test_several_outputs():
    pred, means, scales = regression(np.array([1e4, -3.0]), np.array([0.01, 25.0]), num_outputs=2)
    y = means[1] + 0.4 * scales[1]
    joint = special.logsumexp(stats.norm.logpdf(y, means, scales).sum(-1), axis=0, b=WEIGHT[:, None])
    np.testing.assert_allclose(metrics.log_score(pred, y), -joint, rtol=2e-5, atol=2e-5)
    assert metrics.crps(pred, y).shape == metrics.squared_error(pred, y).shape == (4, 2)
    np.testing.assert_allclose(
        metrics.crps(pred, y)[2, 1], Mixture(means[:, 2, 1], scales[:, 2, 1], WEIGHT).crps(y[2, 1]), rtol=2e-5
    )
    assert metrics.interval_width(pred).shape == (4, 2)


def test_numpyro_distributions():
    loc, scale, y = np.float32([1e2, -3.0]), np.float32([0.5, 20.0]), [101.0, 15.0]
    d = dist.Normal(jnp.asarray(loc), jnp.asarray(scale))
    np.testing.assert_allclose(metrics.log_score(d, y), -stats.norm.logpdf(y, loc, scale), rtol=1e-5)
    want = [Mixture([m], [s], [1.0]).crps(t) for m, s, t in zip(loc, scale, y, strict=True)]
    np.testing.assert_allclose(metrics.crps(d, y), want, rtol=1e-5)
    poisson = dist.Poisson(jnp.float32([2.0, 30.0]))
    np.testing.assert_allclose(metrics.log_score(poisson, [1, 40]), -stats.poisson.logpmf([1, 40], [2, 30]), rtol=1e-5)
    with pytest.raises(uq.InputError, match=r"`y` of shape \(2,\), that of the distribution, but got \(2, 1\)"):
        metrics.crps(d, np.ones((2, 1)))
    with pytest.raises(uq.InputError, match="known for Normal distributions, but got Poisson"):
        metrics.crps(poisson, [1, 40])


def test_class_scores_against_loops():
    probs, y = class_probs()
    brier = [sum((p[c] - (c == t)) ** 2 for c in range(3)) for p, t in zip(probs, y, strict=True)]
    np.testing.assert_allclose(metrics.brier_score(probs, y), brier, rtol=1e-6)
    np.testing.assert_allclose(metrics.brier_score(probs, y).mean(), brier_score_loss(y, probs), rtol=1e-6)
    np.testing.assert_allclose(
        metrics.log_score(probs, y), [-np.log(p[t]) for p, t in zip(probs, y, strict=True)], rtol=1e-6
    )
    assert metrics.brier_score([[1.0, 0.0, 0.0]], [1]).tolist() == [2.0]
    assert metrics.log_score([[1.0, 0.0, 0.0]], [1]).tolist() == [np.inf]  # never clipped


def test_two_classes_have_one_brier_score_whatever_the_shape():
    logit = np.random.default_rng(0).normal(size=(3, 40, 1)).astype(np.float32)
    pred = uq.Predictive(jnp.asarray(logit), uq.likelihoods.Bernoulli(), jnp.asarray(WEIGHT))
    p = WEIGHT.astype(np.float64) @ special.expit(logit[..., 0].astype(np.float64))
    y = np.random.default_rng(1).integers(0, 2, 40)
    want = (p - y) ** 2
    # softmax of (0, logit) is the same Bernoulli, as a Categorical of two classes.
    two = jnp.asarray(np.concatenate([np.zeros_like(logit), logit], -1))
    categorical = uq.Predictive(two, uq.likelihoods.Categorical(2), jnp.asarray(WEIGHT))
    for given_as in (pred, categorical, p, p[:, None], np.stack([1 - p, p], -1), jnp.asarray(p), p.tolist()):
        for outcome in (y, y[:, None], y.astype(bool), y.astype(float)):
            np.testing.assert_allclose(metrics.brier_score(given_as, outcome), want, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(metrics.log_score(given_as, y), -stats.bernoulli.logpmf(y, p), rtol=2e-5)
        assert float(metrics.accuracy(given_as, y)) == pytest.approx(np.mean((p > 0.5) == y))
    np.testing.assert_allclose(metrics.brier_score(p, y).mean(), brier_score_loss(y, p), rtol=1e-6)


def test_jit_and_gradients():
    probs, y = class_probs()
    for score in (metrics.brier_score, metrics.log_score):
        np.testing.assert_allclose(jax.jit(score)(probs, y), score(probs, y), rtol=2e-6)
        slope = jax.grad(lambda p, s=score: s(p, y).sum())(jnp.asarray(probs, jnp.float32))
        assert np.isfinite(slope).all()
    pred, means, _ = regression(-300.0, 250.0)
    y = means[0, :, 0]
    for score in (metrics.log_score, metrics.crps, metrics.squared_error):
        np.testing.assert_allclose(jax.jit(score)(pred, np.float32(y)), score(pred, y), rtol=1e-4, atol=0.5)
    width = jax.jit(lambda p: metrics.interval_width(p, level=0.5))(pred)
    np.testing.assert_allclose(width, metrics.interval_width(pred, level=0.5), rtol=1e-5)
    points = jax.jit(metrics.squared_error)(np.float32([1, 2]), np.float32([3, 5]))
    assert points.tolist() == [4.0, 9.0]
    assert jax.jit(metrics.interval_width)((np.zeros(2), np.ones(2))).tolist() == [1.0, 1.0]


number = st.floats(-5, 5, width=32)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(number, number), min_size=3, max_size=3),
    number,
    st.permutations(range(3)),
    st.floats(0.125, 50, width=32),
)
def test_crps_laws(members, y, order, factor):
    """Equal under a permutation of the members; c times as large in units c times as small; not negative."""
    outputs = np.float32(members)[:, None]
    base = uq.likelihoods.Gaussian()
    pred = uq.Predictive(jnp.asarray(outputs), base, jnp.asarray(WEIGHT))
    score = float(metrics.crps(pred, [y])[0])
    assert score >= -1e-5
    turned = uq.Predictive(jnp.asarray(outputs[list(order)]), base, jnp.asarray(WEIGHT[list(order)]))
    assert float(metrics.crps(turned, [y])[0]) == pytest.approx(score, rel=1e-4, abs=1e-5)
    moved = uq.Predictive(jnp.asarray(outputs), uq.likelihoods.transformed(base, -300.0, factor), jnp.asarray(WEIGHT))
    outcome = -300.0 + factor * y
    assert float(metrics.crps(moved, [outcome])[0]) == pytest.approx(factor * score, rel=1e-3, abs=1e-4 * factor)
    log_score = float(metrics.log_score(pred, [y])[0])
    shifted = float(metrics.log_score(moved, [outcome])[0])
    assert shifted == pytest.approx(log_score + np.log(factor), rel=1e-3, abs=1e-3)


def test_arrays_stay_as_they_were():
    probs, y = class_probs()
    kept, labels = probs.copy(), y.copy()
    metrics.brier_score(probs, y)
    metrics.log_score(probs, y)
    np.testing.assert_array_equal(probs, kept)
    np.testing.assert_array_equal(y, labels)


WRONG = [
    (
        lambda: metrics.brier_score([0.5, np.nan], [0, 1]),
        "`probs` expected finite numbers, but row 1 of 2 holds NaN",
    ),
    (
        lambda: metrics.brier_score([0.5, 1.5], [0, 1]),
        r"between 0 and 1, but row 1 is \[1.5\]. Are these logits\?",
    ),
    (
        lambda: metrics.brier_score([[0.5, 0.4, 0.3]], [0]),
        r"sum to 1, but row 0 sums to 1.2: \[0.5, 0.4, 0.3\]",
    ),
    (lambda: metrics.brier_score([[0.5, 0.5, 0.0]], [3]), "labels 0 to 2, but row 0 of `y` is 3"),
    (lambda: metrics.brier_score([[0.5, 0.5, 0.0]], [-1]), "labels 0 to 2, but row 0 of `y` is -1"),
    (lambda: metrics.brier_score([[0.5, 0.5, 0.0]], [0.5]), "whole-number labels, but row 0 of `y` is 0.5"),
    (lambda: metrics.brier_score([[0.5, 0.5, 0.0]], ["a"]), "encode them first"),
    (lambda: metrics.brier_score([[0.5, 0.5, 0.0]], [[1, 0, 0]]), "looks one-hot"),
    (lambda: metrics.brier_score([0.5, 0.5], [1]), "one entry for each of the 2 examples"),
    (lambda: metrics.brier_score(np.ones((2, 3, 4)), [0, 1]), r"shape \(N, C\).* but got shape \(2, 3, 4\)"),
    (lambda: metrics.brier_score([], []), r"N ≥ 1, but got shape \(0,\)"),
    (lambda: metrics.brier_score("wine", [0]), "expected a Predictive or an array, but got str"),
    (lambda: metrics.brier_score([[0.5], [0.5, 0.5]], [0, 1]), "rectangular array"),
    (
        lambda: metrics.brier_score(regression(0.0, 1.0)[0], [0, 0, 0, 0]),
        "predictions of classes, but these are regression",
    ),
    (lambda: metrics.crps([0.5], [1.0]), "`crps` expected a Predictive of a regression, but got list"),
    (lambda: metrics.crps(regression(0.0, 1.0)[0], np.zeros(5)), "one entry for each of the 4 examples"),
    (
        lambda: metrics.log_score(regression(0.0, 1.0)[0], [0, 0, np.inf, 0]),
        "row 2 of 4 holds NaN or infinity",
    ),
    (lambda: metrics.squared_error([1.0, 2.0], [1.0]), r"of one shape, .* but got \(2,\) and \(1,\)"),
    (lambda: metrics.squared_error(np.ones((2, 2)), np.ones(2)), r"but got \(2, 2\) and \(2,\)"),
    (lambda: metrics.interval_width(([1.0], [0.0])), "lower ≤ upper, but row 0"),
    (lambda: metrics.interval_width(([1.0], [2.0, 3.0])), "ends of one shape"),
    (lambda: metrics.interval_width(regression(0.0, 1.0)[0], level=95), "0.9 means 90 %"),
    (lambda: metrics.interval_width(np.ones(3)), r"a Predictive or a pair \(lower, upper\)"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()
