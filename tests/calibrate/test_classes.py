"""Out of a mixture and back into one: Jeffrey's rule, log-probabilities, what bad input is told."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import uq
from uq.calibrate import _classes

from .cases import predictive, problem, probs


def member_probs(pred):
    """`(M, N, C)` in float64, from the outputs alone."""
    outputs = np.asarray(pred.outputs, np.float64)
    if pred.task == "binary":
        return np.stack([special.expit(-outputs[..., 0]), special.expit(outputs[..., 0])], -1)
    return special.softmax(outputs, -1)


def weights(pred):
    weight = np.asarray(pred.weight, np.float64)
    return np.broadcast_to(weight if weight.ndim == 2 else weight[:, None], pred.outputs.shape[:2])


def joint(pred):
    """P(member, class) `(M, N, C)`."""
    return weights(pred)[..., None] * member_probs(pred)


@pytest.mark.parametrize("num_classes", [2, 4])
@pytest.mark.parametrize("weight", [None, [0.2, 0.5, 0.3]])
def test_the_mixture_has_the_new_probabilities_and_members_keep_theirs_given_the_class(num_classes, weight):
    logits, _ = problem(num_classes, 30)
    pred = predictive(logits, weight=None if weight is None else jnp.asarray(weight, jnp.float32))
    new = special.log_softmax(np.random.default_rng(3).normal(size=logits.shape) * 2, 1)
    after = _classes.with_log_probs(pred, jnp.asarray(new, jnp.float32))
    assert after.task == pred.task and after.weight.shape == (3, 30)
    np.testing.assert_allclose(probs(after), np.exp(new), rtol=2e-5)
    before, moved = joint(pred), joint(after)
    np.testing.assert_allclose(moved / moved.sum(0), before / before.sum(0), rtol=2e-4)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_smallest_probabilities_are_kept(num_classes):
    pred = predictive(problem(num_classes, 30)[0])
    tiny = np.full((30, num_classes), 1e-12)
    tiny[:, -1] = 1 - tiny[:, :-1].sum(1)
    after = _classes.with_log_probs(pred, jnp.log(jnp.asarray(tiny, jnp.float32)))
    for label in range(num_classes):
        said = after.log_prob(np.full(30, label))
        np.testing.assert_allclose(said, np.log(tiny[:, label]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_identity_changes_nothing(num_classes):
    pred = predictive(problem(num_classes, 30)[0], weight=jnp.asarray([0.5, 0.0, 0.5], jnp.float32))
    same = _classes.with_log_probs(pred, _classes.log_probs("test", pred))
    np.testing.assert_allclose(same.weight, weights(pred), atol=1e-6)
    np.testing.assert_allclose(joint(same), joint(pred), atol=1e-6)
    np.testing.assert_allclose(same.mutual_information, pred.mutual_information, atol=1e-6)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_members_of_weight_0_may_hold_anything(num_classes):
    logits, _ = problem(num_classes, 30)
    pred = predictive(logits, weight=jnp.asarray([0.5, 0.5, 0.0], jnp.float32))
    broken = uq.Predictive(pred.outputs.at[2].set(jnp.nan), pred.likelihood, pred.weight)
    found = _classes.log_probs("test", broken)
    np.testing.assert_allclose(found, _classes.log_probs("test", pred), atol=1e-6)
    after = _classes.with_log_probs(broken, found * 0.5)
    np.testing.assert_allclose(after.weight[2], 0)
    assert np.isfinite(np.asarray(after.outputs)).all()
    np.testing.assert_allclose(probs(after), special.softmax(np.asarray(found) * 0.5, 1), rtol=1e-5)


def test_classes_that_become_impossible_and_classes_that_were():
    certain = jnp.asarray([[[0.0, -jnp.inf, -jnp.inf]], [[-jnp.inf, 0.0, -jnp.inf]]])
    pred = uq.Predictive(certain, uq.likelihoods.Categorical(3))
    with np.errstate(divide="ignore"):
        after = _classes.with_log_probs(pred, jnp.asarray(np.log([[0.0, 0.75, 0.25]]), jnp.float32))
    np.testing.assert_allclose(probs(after), [[0, 0.75, 0.25]], atol=1e-6)
    assert np.isfinite(np.asarray(after.entropy)).all() and np.isfinite(np.asarray(after.mutual_information)).all()


def test_weights_of_every_example():
    logits, _ = problem(3, 30)
    rng = np.random.default_rng(5)
    weight = rng.dirichlet(np.ones(3), size=30).T
    weight[0, :5] = 0
    weight /= weight.sum(0)
    pred = predictive(logits, weight=jnp.asarray(weight, jnp.float32))
    np.testing.assert_allclose(np.exp(_classes.log_probs("test", pred)), joint(pred).sum(0), rtol=1e-5)
    after = _classes.with_log_probs(pred, jnp.zeros((30, 3)))
    np.testing.assert_allclose(probs(after), 1 / 3, rtol=1e-5)


def test_log_probabilities_of_other_kinds():
    p = np.array([0.0, 1e-30, 0.3, 1 - 1e-12])
    found = np.asarray(_classes.log_probs("test", p))
    np.testing.assert_allclose(found[1:], np.log(np.stack([1 - p, p], 1)[1:]), rtol=1e-5, atol=1e-12)
    assert np.isfinite(found).all() and found[0, 1] < -700
    half = np.float32([[0, 1], [0.5, 0.5]])
    np.testing.assert_allclose(_classes.log_probs("test", half)[0, 0], np.log(1.4e-45), rtol=1e-2)
    logits = jnp.asarray([[1.0, -2.0, 0.5]])
    np.testing.assert_allclose(
        _classes.log_probs("test", dist.Categorical(logits=logits)), jax.nn.log_softmax(logits), rtol=1e-5
    )
    ordinal = uq.Predictive(jnp.ones((2, 5, 4)), uq.likelihoods.Ordinal(4))
    np.testing.assert_allclose(np.exp(_classes.log_probs("test", ordinal)), probs(ordinal), rtol=1e-5)
    assert _classes.with_log_probs(ordinal, jnp.zeros((5, 4))).likelihood == uq.likelihoods.Categorical(4)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6), st.floats(0.1, 12))
def test_log_odds_keep_their_digits_at_both_ends(num_classes, seed, scale):
    logits = np.random.default_rng(seed).normal(size=(8, num_classes)) * scale
    found = _classes.log_odds(jax.nn.log_softmax(jnp.asarray(logits, jnp.float32)))
    rest = [special.logsumexp(np.delete(logits, c, 1), axis=1) for c in range(num_classes)]
    want = logits - np.stack(rest, 1)
    np.testing.assert_allclose(found, want[:, 1:] if num_classes == 2 else want, rtol=1e-4, atol=1e-4)


def test_half_precision_is_widened():
    pred = predictive(problem(3, 30)[0])
    half = uq.Predictive(pred.outputs.astype(jnp.bfloat16), pred.likelihood)
    scaled = uq.calibrate.temperature()
    state = scaled.fit(half, problem(3, 30)[1])
    after = scaled.apply(state, half)
    assert after.outputs.dtype == jnp.float32
    want = special.softmax(float(state.inverse) * np.asarray(_classes.log_probs("test", half), np.float64), 1)
    np.testing.assert_allclose(probs(after), want, rtol=1e-4)


def bad_input(name, *args, **kwargs):
    with pytest.raises(uq.InputError) as error:
        _classes.sample(name, *args, **kwargs)
    return str(error.value)


def test_sentences():
    p = np.array([0.2, 0.7, 0.4])
    assert "`beta` expected one label for each of the 3 predictions" in bad_input("beta", p, [0, 1])
    assert "labels 0 to 1, but row 2 of `y` is 2" in bad_input("beta", p, [0, 1, 2])
    assert "N ≥ 1" in bad_input("beta", np.zeros((0, 3)), [])
    assert "Are these logits?" in bad_input("beta", 3 * p, [0, 1, 1])
    assert "`weight` of shape (3,)" in bad_input("beta", p, [0, 1, 1], [1, 2])
    assert "not negative" in bad_input("beta", p, [0, 1, 1], [1, -2, 1])
    numbers = uq.Predictive(jnp.zeros((2, 3, 2)), uq.likelihoods.Gaussian())
    assert "`beta` is for binary or multiclass predictions, but these are regression ones" in bad_input(
        "beta", numbers, [0, 1, 1]
    )
    several = uq.Predictive(jnp.zeros((2, 3, 2)), uq.likelihoods.Multilabel(2))
    assert "multilabel" in bad_input("beta", several, np.zeros((3, 2)))
    empty = uq.Predictive(jnp.zeros((2, 0, 1)), uq.likelihoods.Bernoulli())
    assert "at least one prediction" in bad_input("beta", empty, np.zeros(0, int))
    spoilt = uq.Predictive(jnp.full((1, 3, 1), jnp.nan), uq.likelihoods.Bernoulli())
    assert "row 0 holds some" in bad_input("beta", spoilt, [0, 1, 1])
    with pytest.raises(uq.InputError, match="cannot be under jit"):
        jax.jit(lambda p: _classes.sample("beta", p, [0, 1, 1]).weight)(p)


def test_rows_of_weight_0_are_left_out_whatever_they_hold():
    data = _classes.sample("beta", np.array([0.2, np.nan, 0.4]), np.array([0, 7, 1]), np.array([1, 0, 2]))
    np.testing.assert_allclose(np.exp(data.log_probs[:, 1]), [0.2, 0.4], rtol=1e-6)
    assert data.labels.tolist() == [0, 1] and data.weight.tolist() == [1, 2]
    pred = uq.Predictive(jnp.asarray([[[0.3], [jnp.nan]]]), uq.likelihoods.Bernoulli())
    assert len(_classes.sample("beta", pred, [1, 5], [1, 0]).labels) == 1
