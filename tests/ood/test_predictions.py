"""Scores from predictions and logits: loops, scipy, and that unusual is high."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import uq
from uq import ood

LOGITS = np.random.default_rng(0).normal(size=(3, 12, 4)).astype(np.float32) * 3
WEIGHT = np.array([0.5, 0.5, 0.0], np.float32)
PRED = uq.Predictive(jnp.asarray(LOGITS), uq.likelihoods.Categorical(4), jnp.asarray(WEIGHT))


def test_against_scipy():
    probs = special.softmax(LOGITS.astype(float), -1)
    mixed = np.einsum("m,mnc->nc", WEIGHT, probs)
    np.testing.assert_allclose(ood.max_probability(PRED), 1 - mixed.max(1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ood.max_logit(PRED), -WEIGHT @ LOGITS.max(-1), rtol=1e-5)
    np.testing.assert_allclose(ood.max_logit(LOGITS), -LOGITS.max(-1).mean(0), rtol=1e-5)
    for t in (1.0, 2.5):
        want = -t * (WEIGHT @ special.logsumexp(LOGITS / t, axis=-1))
        np.testing.assert_allclose(ood.energy(PRED, temperature=t), want, rtol=1e-5)
    np.testing.assert_allclose(ood.entropy(PRED), stats.entropy(mixed, axis=1), rtol=1e-4)
    gain = stats.entropy(mixed, axis=1) - WEIGHT @ stats.entropy(probs, axis=2)
    np.testing.assert_allclose(ood.mutual_information(PRED), gain, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(ood.mutual_information(probs[:2]), gain, rtol=1e-3, atol=1e-6)


def test_a_diverged_member_is_inert():
    outputs = LOGITS.copy()
    outputs[2] = np.nan
    pred = uq.Predictive(jnp.asarray(outputs), PRED.likelihood, PRED.weight)
    for score in (ood.max_probability, ood.max_logit, ood.energy, ood.entropy, ood.mutual_information):
        np.testing.assert_array_equal(score(pred), score(PRED))
        np.testing.assert_allclose(jax.jit(score)(pred), score(PRED), rtol=1e-5, atol=1e-6)


def test_binary_logits_are_those_of_two_classes():
    z = LOGITS[..., :1]
    binary = uq.Predictive(jnp.asarray(z), uq.likelihoods.Bernoulli())
    both = np.concatenate([-z / 2, z / 2], -1)
    for score in (ood.max_logit, ood.energy):
        np.testing.assert_allclose(score(binary), score(both), rtol=1e-6)
    np.testing.assert_allclose(ood.max_probability(binary), np.minimum(binary.mean, 1 - binary.mean), rtol=1e-5)


def test_probabilities_that_round_to_one_keep_their_order():
    probs = np.array([[1, 1e-12, 1e-20], [1, 1e-10, 0], [1, 0, 0]], np.float32)
    assert np.argsort(ood.max_probability(probs)).tolist() == [2, 0, 1]


@pytest.mark.parametrize("score", [ood.max_probability, ood.max_logit, ood.energy, ood.entropy, ood.mutual_information])
def test_unusual_is_high_and_metrics_read_it(score):
    rng = np.random.default_rng(1)
    usual = 6 * np.eye(4)[rng.integers(0, 4, 300)] + rng.normal(0, 0.5, (3, 300, 4))
    unusual = rng.normal(0, 2, (3, 300, 4))
    logits = jnp.asarray(np.concatenate([usual, unusual], 1), jnp.float32)
    value = score(uq.Predictive(logits, uq.likelihoods.Categorical(4)))
    assert uq.metrics.auroc(value, np.repeat([0, 1], 300)) > 0.8


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda p: ood.energy(p), "logits of classes"),
        (lambda p: ood.max_probability(p), "binary or multiclass"),
        (lambda p: ood.max_probability(LOGITS[0]), "between 0 and 1"),
        (lambda p: ood.max_logit(LOGITS[0, 0]), "logits of shape"),
        (lambda p: ood.energy(LOGITS, temperature=0.0), "`temperature`"),
        (lambda p: ood.mutual_information(np.ones((3, 2)) / 2), "member"),
    ],
)
def test_bad_input(wrong, said):
    pred = uq.Predictive(jnp.zeros((1, 2, 2)), uq.likelihoods.Gaussian())
    with pytest.raises(uq.InputError, match=said):
        wrong(pred)
