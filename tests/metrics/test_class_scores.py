"""Scores of class probabilities against loops, scikit-learn and scoringrules; imbalanced classes."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special, stats
from sklearn.metrics import brier_score_loss, log_loss, zero_one_loss

import uq
from uq.metrics.class_scores import brier_score, ranked_probability_score, spherical_score, zero_one_score
from uq.metrics.scores import log_score

SCORES = {
    "log": log_score,
    "brier": brier_score,
    "spherical": spherical_score,
    "zero_one": zero_one_score,
    "ranked": ranked_probability_score,
}


def some_probs(size=60, num_classes=4, seed=0):
    """Imbalanced, with rows of probability 0 and 1 and ties."""
    rng = np.random.default_rng(seed)
    probs = special.softmax(2 * rng.normal(size=(size, num_classes)) + np.arange(num_classes), -1)
    probs[0], probs[1], probs[2] = np.eye(num_classes)[1], np.full(num_classes, 1 / num_classes), np.eye(num_classes)[0]
    y = np.array([rng.choice(num_classes, p=p) for p in probs])
    return probs, y


def loop(name, p, y):
    num_classes = len(p)
    if name == "log":
        return -np.log(p[y]) if p[y] else np.inf
    if name == "brier":
        return (p[1] - y) ** 2 if num_classes == 2 else sum((p[c] - (c == y)) ** 2 for c in range(num_classes))
    if name == "spherical":
        return 1 - p[y] / np.sqrt(sum(q * q for q in p))
    if name == "zero_one":
        return float(max(range(num_classes), key=lambda c: (p[c], -c)) != y)
    return sum((sum(p[: c + 1]) - (y <= c)) ** 2 for c in range(num_classes - 1))


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_by_loops(name, num_classes):
    probs, y = some_probs(num_classes=num_classes)
    score = SCORES[name]
    want = [loop(name, p, c) for p, c in zip(probs, y, strict=True)]
    got = score(probs, y)
    assert isinstance(got, np.ndarray) and got.dtype == np.float64 and got.shape == (60,)
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)
    narrow = score(np.float32(probs), y)
    assert narrow.dtype == np.float32
    traced = jax.jit(score)(jnp.float32(probs), y)
    assert traced.dtype == jnp.float32
    np.testing.assert_allclose(traced, want, rtol=1e-4, atol=1e-5)
    small = score(jnp.float32(probs), y)
    assert isinstance(small, jax.Array) and small.dtype == jnp.float32
    if num_classes == 2:
        for given_as in (probs[:, 1], probs[:, 1:], probs[:, 1].tolist()):
            np.testing.assert_allclose(score(given_as, y), want, rtol=1e-9, atol=1e-12)


def test_defect_18_jit_gradients_are_finite_at_probabilities_0_and_1():
    probs = jnp.asarray([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]])
    y = jnp.asarray([0, 1, 2])
    for score in SCORES.values():
        slope = jax.jit(jax.grad(lambda p, s=score: s(p, y).sum()))(probs)
        assert np.isfinite(slope).all()


def test_scikit_learn_agrees():
    probs, y = some_probs()
    assert brier_score(probs, y).mean() == pytest.approx(brier_score_loss(y, probs))
    assert zero_one_score(probs, y).mean() == pytest.approx(zero_one_loss(y, probs.argmax(1)))
    inside = special.softmax(np.random.default_rng(1).normal(size=(60, 4)), -1)
    assert log_score(inside, y).mean() == pytest.approx(log_loss(y, inside))


def test_scoringrules_agrees():
    scoringrules = pytest.importorskip("scoringrules")
    probs, y = some_probs()
    want = scoringrules.rps_score(y + 1, probs, backend="numpy")  # it counts classes from 1
    np.testing.assert_allclose(ranked_probability_score(probs, y), want, rtol=1e-10, atol=1e-12)
    want = scoringrules.brier_score(np.minimum(y, 1), probs[:, 1], backend="numpy")
    np.testing.assert_allclose(brier_score(probs[:, 1], np.minimum(y, 1)), want, rtol=1e-10)


def test_ranked_probability_score_is_the_sum_of_the_brier_scores_of_all_thresholds_and_a_crps():
    from uq.metrics.ensemble_scores import crps_ensemble

    probs, y = some_probs()
    beyond = probs[:, ::-1].cumsum(1)[:, ::-1][:, 1:]  # P(Y > c)
    thresholds = sum(brier_score(np.clip(beyond[:, c], 0, 1), (y > c).astype(int)) for c in range(3))
    np.testing.assert_allclose(ranked_probability_score(probs, y), thresholds, rtol=1e-9, atol=1e-12)
    on_classes = [crps_ensemble(np.arange(4.0), float(c), member_weight=p) for p, c in zip(probs, y, strict=True)]
    np.testing.assert_allclose(ranked_probability_score(probs, y), on_classes, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCORES)
def test_proper(name):
    """No other probabilities do better in expectation; only zero-one scores can tie."""
    rng = np.random.default_rng(0)
    truth = np.array([0.2, 0.1, 0.65, 0.05])
    expected = lambda p: truth @ SCORES[name](np.repeat(p[None], 4, 0), np.arange(4))  # noqa: E731
    for _ in range(40):
        other = special.softmax(np.log(truth) + 0.5 * rng.normal(size=4))
        assert expected(other) >= expected(truth) - 1e-12


def test_predictives_and_distributions():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 8, 4)).astype(np.float32)
    pred = uq.Predictive(jnp.asarray(logits), uq.likelihoods.Categorical(4))
    probs = special.softmax(logits.astype(np.float64), -1).mean(0)
    y = rng.integers(0, 4, 8)
    for name, score in SCORES.items():
        want = [loop(name, p, c) for p, c in zip(probs, y, strict=True)]
        np.testing.assert_allclose(score(pred, y), want, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(score(dist.Categorical(probs=jnp.float32(probs)), y), want, rtol=2e-5, atol=1e-6)
        p = probs[:, 0]
        two = [loop(name, (1 - q, q), c) for q, c in zip(p, y % 2, strict=True)]
        np.testing.assert_allclose(score(dist.Bernoulli(probs=jnp.float32(p)), y % 2), two, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(score(p, y % 2), two, rtol=1e-9)


def test_a_confident_distribution_keeps_its_logits():
    """Softmax would round 1e-90 to 0 in float32; the log score of the logits is finite."""
    far = dist.Categorical(logits=jnp.float32([[0.0, 200.0]]))
    assert float(log_score(far, [0])[0]) == pytest.approx(200.0)
    assert log_score([[1.0, 0.0, 0.0]], [1]).tolist() == [np.inf]  # never clipped
    np.testing.assert_allclose(log_score([0.25], [1]), -stats.bernoulli.logpmf([1], 0.25))


def test_arrays_stay_as_they_were():
    probs, y = some_probs()
    kept, labels = probs.copy(), y.copy()
    for score in SCORES.values():
        score(probs, y)
    np.testing.assert_array_equal(probs, kept)
    np.testing.assert_array_equal(y, labels)


WRONG = [
    (lambda score: score([0.5, np.nan], [0, 1]), "`probs` expected finite numbers, but row 1 of 2 holds NaN"),
    (lambda score: score([0.5, 1.5], [0, 1]), r"between 0 and 1, but row 1 is \[1.5\]. Are these logits\?"),
    (lambda score: score([[0.5, 0.6, -0.1]], [0]), r"between 0 and 1, but row 0 is \[0.5, 0.6, -0.1\]"),
    (lambda score: score([[0.5, 0.4, 0.3]], [0]), r"sum to 1, but row 0 sums to 1.2: \[0.5, 0.4, 0.3\]"),
    (lambda score: score([[0.5, 0.5, 0.0]], [3]), "labels 0 to 2, but row 0 of `y` is 3"),
    (lambda score: score([[0.5, 0.5, 0.0]], [-1]), "labels 0 to 2, but row 0 of `y` is -1"),
    (lambda score: score([[0.5, 0.5, 0.0]], [0.5]), "whole-number labels, but row 0 of `y` is 0.5"),
    (lambda score: score([[0.5, 0.5, 0.0]], ["a"]), "encode them first"),
    (lambda score: score([[0.5, 0.5, 0.0]], [[1, 0, 0]]), "looks one-hot"),
    (lambda score: score([0.5, 0.5], [1]), "one entry for each of the 2 examples"),
    (lambda score: score(np.ones((2, 3, 4)), [0, 1]), r"shape \(N, C\).* but got shape \(2, 3, 4\)"),
    (lambda score: score([], []), r"N ≥ 1, but got shape \(0,\)"),
    (lambda score: score("wine", [0]), "expected a Predictive or an array, but got str"),
    (lambda score: score([[0.5], [0.5, 0.5]], [0, 1]), "rectangular array"),
    (lambda score: score(dist.Categorical(probs=np.full((1, 3), 1 / 3)), [3]), "labels 0 to 2, but row 0 of `y` is 3"),
]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_get_a_sentence(name, call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call(SCORES[name])
