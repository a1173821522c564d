"""Bad input gets a sentence: what was expected, what came, what to do."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import uq
from uq.metrics import _inputs
from uq.metrics._forecast import forecast
from uq.metrics.scores import absolute_error, crps, dawid_sebastiani, log_score, squared_error

TWO = np.ones(2)
FREE = {"validate_args": False}  # numpyro's own check off, as under jit and in uq.likelihoods


def gaussian(number=4):
    outputs = np.random.default_rng(0).normal(size=(3, number, 2)).astype(np.float32)
    return uq.Predictive(jnp.asarray(outputs), uq.likelihoods.Gaussian())


def binary():
    return uq.Predictive(jnp.zeros((2, 3, 1)), uq.likelihoods.Bernoulli())


WRONG = [
    # a column against a row
    (lambda: crps(dist.Normal(TWO, TWO), np.ones((2, 2))), r"`y` of shape \(2,\), that of the pred.* \(2, 2\)"),
    (lambda: crps(dist.Normal(np.ones((2, 1)), np.ones((2, 1))), TWO), r"`y` of shape \(2, 1\), .* got \(2,\)"),
    (lambda: log_score(stats.norm(TWO, 1.0), np.ones(3)), r"`y` of shape \(2,\), .* got \(3,\)"),
    (lambda: squared_error(TWO, [1.0]), r"of one shape, .* but got \(2,\) and \(1,\)"),
    (lambda: squared_error(np.ones((2, 2)), np.ones(3)), r"but got \(2,\) and \(3,\)"),
    (lambda: absolute_error(np.ones((3, 2, 2)), TWO), r"but got \(3, 2, 2\) and \(2,\)"),
    (lambda: crps(gaussian(), np.zeros(5)), "one entry for each of the 4 examples"),
    # no numbers
    (lambda: crps(gaussian(), [0, 0, np.nan, 0]), "row 2 of 4 holds NaN or infinity"),
    (lambda: log_score(gaussian(), [0, 0, np.inf, 0]), "row 2 of 4 holds NaN or infinity"),
    (lambda: crps(dist.Normal(TWO, TWO), [1.0, np.nan]), r"finite numbers in `y` of shape \(2,\), but `y\[1\]` is nan"),
    (lambda: squared_error([np.nan, 1.0], TWO), r"`pred\[0\]` is nan"),
    (lambda: crps(np.full((3, 2), np.nan), TWO), r"`draws\[0, 0\]` is nan"),
    (lambda: squared_error([], []), "at least one number, but its shape is"),
    (lambda: squared_error(["a"], [1.0]), "expected numbers, but got dtype"),
    # parameters that are no parameters
    (lambda: crps(dist.Normal(TWO, np.float32([1, -1]), **FREE), TWO), "`scale` is above 0, but that of row 1 is -1.0"),
    (lambda: crps(dist.Normal(TWO, jnp.zeros(2), **FREE), TWO), "whose `scale` is above 0, but that of row 0 is 0.0"),
    (lambda: log_score(dist.Gumbel(np.array([3.0, np.nan]), TWO, **FREE), TWO), "`loc` is a finite number, but that"),
    (lambda: log_score(dist.Normal(TWO, -TWO, **FREE).to_event(1), TWO), "Normal whose `scale` is above 0"),
    (lambda: log_score(dist.Poisson(-TWO, **FREE), [1, 1]), "a Poisson whose `rate` is at least 0, but that of row 0"),
    (lambda: crps(stats.norm(TWO, [1.0, 0.0]), TWO), "norm distribution whose parameters are allowed .* row 1"),
    (lambda: crps(stats.gamma([-1.0, 2.0]), TWO), "gamma distribution whose parameters are allowed .* row 0"),
    (
        lambda: log_score(dist.MixtureSameFamily(dist.Categorical(TWO / 2), dist.Normal(TWO, -TWO, **FREE)), 1.0),
        "Normal whose `scale` is above 0",
    ),
    # predictions of another kind
    (lambda: crps(binary(), [0, 1, 0]), "expected regression predictions, but these are binary"),
    (lambda: crps([0.5, 1.0], [1.0, 1.0]), "The score of a point prediction is `absolute_error`"),
    (lambda: crps("wine", [1.0]), "expected a Predictive or an array, but got str"),
    (lambda: uq.metrics.brier_score(gaussian(), [0, 0, 0, 0]), "predictions of classes, but these are regression"),
    (lambda: log_score(dist.Bernoulli(probs=TWO / 2), [0, 2]), "labels 0 to 1, but row 1 of `y` is 2"),
    # no predictions
    (lambda: uq.metrics.sharpness(stats.norm([], [])), "at least one example, but the predictions have shape"),
    (lambda: uq.metrics.interval_width(stats.norm([], [])), "at least one example"),
    # moments without spread
    (lambda: dawid_sebastiani(np.ones((3, 2)), TWO), "variances above 0, but that of row 0 is 0.0"),
    (lambda: dawid_sebastiani((TWO, -TWO), TWO), "variances above 0, but that of row 0 is -1.0"),
    (lambda: dawid_sebastiani((TWO, np.ones((2, 2))), TWO), r"but got \(2,\), \(2, 2\) and `y` \(2,\)"),
    (lambda: dawid_sebastiani(np.eye(12).reshape(12, 3, 4)[:2], np.ones((3, 4)), joint=True), "row 0 is not"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()


def test_one_distribution_may_serve_all_outcomes():
    np.testing.assert_allclose(log_score(stats.norm(1.0, 2.0), [1.0, 3.0]), -stats.norm(1.0, 2.0).logpdf([1.0, 3.0]))
    np.testing.assert_allclose(
        crps(dist.Normal(1.0, 2.0), [1.0, 3.0]), crps(stats.norm(TWO, 2.0), [1.0, 3.0]), rtol=1e-5
    )


def test_under_jit_only_shapes_are_checked():
    assert np.isnan(jax.jit(squared_error)(jnp.ones(2), jnp.float32([1.0, jnp.nan]))[1])
    with pytest.raises(uq.InputError, match="of one shape"):
        jax.jit(squared_error)(jnp.ones(2), jnp.ones(3))
    with pytest.raises(uq.InputError, match="cannot run under jit; pass a numpyro distribution"):
        jax.jit(lambda y: crps(stats.norm(TWO, 1.0), y))(jnp.ones(2))


def test_floating():
    """numpy widens; beside a jax array, numpy follows it."""
    kinds = lambda *arrays: [each.dtype for each in _inputs.floating(*arrays)]  # noqa: E731
    assert kinds(np.float32([1]), np.float64([1])) == [np.float64] * 2
    assert kinds(np.array([1]), np.float32([1])) == [np.float32] * 2
    assert kinds(np.array([1]), np.array([True])) == [np.float64] * 2
    assert kinds(jnp.float32([1]), np.float64([1])) == [np.float32] * 2
    assert kinds(jnp.bfloat16([1]), np.float64([1])) == [np.float32] * 2
    assert kinds(jnp.int32([1]), np.float64([1])) == [np.float32] * 2


def test_forecasts_answer_the_same_questions():
    rng = np.random.default_rng(0)
    y, key = np.array([3.5, 1.0]), jax.random.key(0)
    loc, scale = np.array([3.0, 0.5]), np.array([0.5, 2.0])
    exact = stats.norm(loc, scale)
    draws = exact.rvs(size=(20_000, 2), random_state=rng)
    for pred, tolerance in (
        (exact, 1e-9),
        (dist.Normal(loc, scale), 1e-9),
        (dist.Normal(jnp.float32(loc), jnp.float32(scale)), 1e-4),
        (draws, 0.05),
    ):
        law = forecast("test", pred)
        assert law.shape == (2,) and not law.discrete
        np.testing.assert_allclose(law.cdf(law.check(y)), exact.cdf(y), rtol=tolerance)
        np.testing.assert_allclose(law.quantile([0.2, 0.9]), exact.ppf([[0.2], [0.9]]), rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(law.crps(law.check(y)), crps(exact, y), rtol=max(tolerance, 1e-5))
        np.testing.assert_allclose(law.mean, loc, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(law.variance, scale**2, rtol=tolerance)
        assert law.sample(key, 3).shape == (3, 2)
