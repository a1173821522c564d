"""Actions of least expected cost, against loops and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq import decide


def test_costs_of_classes_against_a_loop():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(4), 50)
    cost = rng.normal(3, 5, (4, 6))  # some are gains
    every = decide.expected_cost(probs, cost)
    found = jax.jit(decide.least_cost)(probs, cost)
    for i in range(50):
        each = [sum(probs[i, c] * cost[c, a] for c in range(4)) for a in range(6)]
        np.testing.assert_allclose(every[i], each, rtol=2e-5, atol=1e-5)
        assert int(found.action[i]) == int(np.argmin(each))
        assert float(found.cost[i]) == pytest.approx(min(each), rel=1e-4, abs=1e-5)


def test_equal_costs_of_mistakes_choose_the_most_probable_class():
    probs = np.random.default_rng(1).dirichlet(np.ones(3), 40)
    np.testing.assert_array_equal(decide.least_cost(probs, 1 - np.eye(3)).action, probs.argmax(1))


def test_of_the_mixture_and_of_binary_predictions():
    outputs = jnp.asarray(np.random.default_rng(2).normal(size=(3, 20, 1)), jnp.float32)
    pred = uq.Predictive(outputs, uq.likelihoods.Bernoulli())
    found = decide.least_cost(pred, [[0.0, 1.0], [3.0, 0.0]])
    np.testing.assert_array_equal(found.action, np.asarray(pred.mean) > 0.25)  # as elkan2001, eq. 2


def test_newsvendor_is_the_least_cost_of_draws():
    outputs = jnp.asarray(np.random.default_rng(3).normal(size=(4, 5, 2)), jnp.float32)
    pred = uq.Predictive(outputs, uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 100.0, 5.0))
    amount = decide.newsvendor(pred, too_low=4.0, too_high=1.0)
    np.testing.assert_allclose(pred.cdf(amount), 0.8, atol=1e-4)
    actions = np.linspace(80, 125, 91)
    cost = lambda a, y: jnp.maximum(4 * (y - a), a - y)  # noqa: E731
    found = decide.least_cost_of_draws(pred, cost, actions, key=0, num=20000)
    np.testing.assert_allclose(actions[np.asarray(found.action)], amount, atol=1.0)
    draws = pred.sample(0, 20000)
    best = jnp.asarray(actions, jnp.float32)[found.action]
    np.testing.assert_allclose(found.cost, cost(best, draws).mean(0), rtol=1e-4)
    np.testing.assert_allclose(found.stderr, cost(best, draws).std(0) / 19999**0.5, rtol=1e-3)


def test_draws_of_several_outputs_and_actions_of_several_numbers():
    rng = np.random.default_rng(4)
    draws = rng.normal([1.0, -2.0], 1, (4000, 3, 2))
    actions = np.array([[0.0, 0.0], [1.0, -2.0], [-2.0, 1.0]])
    found = decide.least_cost_of_draws(draws, lambda a, y: jnp.square(y - a).sum(-1), actions)
    assert found.action.tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.cost, 2, atol=5 * np.asarray(found.stderr).max())


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda p: decide.least_cost([[0.5, 0.5]], np.ones((3, 2))), r"shape \(2, A\)"),
        (lambda p: decide.least_cost([[0.5, 0.5]], [[np.nan, 1], [1, 1]]), "finite"),
        (lambda p: decide.least_cost([[0.9, 0.5]], np.eye(2)), "sum to 1"),
        (lambda p: decide.least_cost(p, np.eye(2)), "regression"),
        (lambda p: decide.newsvendor(p, too_low=0.0, too_high=1.0), "above 0"),
        (lambda p: decide.newsvendor([[0.5]], too_low=1.0, too_high=1.0), "Predictive"),
        (lambda p: decide.least_cost_of_draws(p, lambda a, y: a - y, [0.0]), "`key=`"),
        (lambda p: decide.least_cost_of_draws(p, lambda a, y: a, [0.0], key=0), "costs of shape"),
        (lambda p: decide.least_cost_of_draws(p, lambda a, y: a - y, 0.0, key=0), "several actions"),
        (lambda p: decide.least_cost_of_draws([1.0], lambda a, y: a - y, [0.0]), "draws of shape"),
        (lambda p: decide.least_cost_of_draws(p, lambda a, y: a / 0 * y, [1.0], key=0), "finite"),
    ],
)
def test_bad_input(wrong, said):
    pred = uq.Predictive(jnp.zeros((1, 2, 2)), uq.likelihoods.Gaussian())
    with pytest.raises(uq.InputError, match=said):
        wrong(pred)
