"""Member weights of every example's own: each row is the mixture that its own weights make."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq.metrics import streaming

RNG = np.random.default_rng(0)
KINDS = {
    "gaussian": (uq.likelihoods.Gaussian(), 2, RNG.normal(size=6)),
    "moved": (uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 1e3, 7.0), 2, 1e3 + 7 * RNG.normal(size=6)),
    "two outputs": (uq.likelihoods.Gaussian(2), 4, RNG.normal(size=(6, 2))),
    "student": (uq.likelihoods.StudentT(), 3, RNG.normal(size=6)),
    "mixture density": (uq.likelihoods.MixtureDensity(3), 9, RNG.normal(size=6)),
    "poisson": (uq.likelihoods.Poisson(), 1, RNG.integers(0, 4, 6)),
    "classes": (uq.likelihoods.Categorical(3), 3, RNG.integers(0, 3, 6)),
    "yes or no": (uq.likelihoods.Bernoulli(), 1, RNG.integers(0, 2, 6)),
}


def both(kind):
    likelihood, width, y = KINDS[kind]
    outputs = jnp.asarray(RNG.normal(size=(4, 6, width)), jnp.float32)
    weight = RNG.dirichlet(np.ones(4), 6).T
    weight[1, :3] = 0
    weight = jnp.asarray(weight / weight.sum(0), jnp.float32)
    whole = uq.Predictive(outputs, likelihood, weight)
    rows = [uq.Predictive(outputs[:, n : n + 1], likelihood, weight[:, n]) for n in range(6)]
    return whole, rows, y


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_is_the_mixture_of_its_own_weights(kind):
    whole, rows, y = both(kind)
    functions = {
        "mean": lambda p, y: p.mean,
        "variance": lambda p, y: p.variance,
        "log_prob": lambda p, y: p.log_prob(y),
        "numpyro": lambda p, y: p.to_numpyro().log_prob(y),
    }
    if whole.task == "regression":
        functions |= {"cdf": lambda p, y: p.cdf(y), "crps": lambda p, y: p.crps(y)}
        functions |= {"quantile": lambda p, y: p.quantile(0.3), "levels": lambda p, y: p.quantile([0.1, 0.9]).T}
    else:
        functions |= {"probs": lambda p, y: p.probs, "mutual": lambda p, y: p.mutual_information}
    for name, function in functions.items():
        want = np.concatenate([np.asarray(function(one, y[n : n + 1])) for n, one in enumerate(rows)])
        if name == "levels" and want.ndim == 3:
            continue
        np.testing.assert_allclose(function(whole, y), want, rtol=2e-5, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("kind", ["gaussian", "classes"])
def test_rows_are_selected_jitted_and_streamed(kind):
    whole, _, y = both(kind)
    part = whole[np.array([4, 1])]
    np.testing.assert_allclose(part.log_prob(y[[4, 1]]), whole.log_prob(y)[np.array([4, 1])], rtol=1e-6)
    np.testing.assert_allclose(jax.jit(lambda p: p.log_prob(y))(whole), whole.log_prob(y), rtol=1e-5)
    function = uq.metrics.regression_calibration_error if kind == "gaussian" else uq.metrics.calibration_error
    metric = streaming.rows(function)
    state = metric.update(metric.update(metric.empty(), whole[:2], y[:2]), whole[2:], y[2:])
    np.testing.assert_allclose(metric.compute(state), function(whole, y), rtol=1e-5)


def test_members_without_weight_are_never_drawn():
    outputs = jnp.stack([jnp.zeros((3, 2)), jnp.full((3, 2), 50.0)])
    weight = jnp.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])
    pred = uq.Predictive(outputs.at[1, 0].set(jnp.nan), uq.likelihoods.Gaussian(), weight)
    draws = np.asarray(pred.sample(jax.random.key(0), 400))
    assert abs(draws[:, 0]).max() < 10
    assert draws[:, 1].min() > -150
    assert abs(draws[:, 1].mean() - 50) < 10
    assert np.isfinite(pred.mean).all()


@pytest.mark.parametrize("kind", ["gaussian", "classes"])
def test_decompositions(kind):
    whole, rows, y = both(kind)
    for score in ("log", "crps") if kind == "gaussian" else ("log", "brier"):
        found = uq.metrics.ensemble_decomposition(whole, y, score=score)
        each = [uq.metrics.ensemble_decomposition(one, y[n : n + 1], score=score) for n, one in enumerate(rows)]
        for part in found._fields:
            want = np.mean([float(getattr(one, part)) for one in each])
            assert float(getattr(found, part)) == pytest.approx(want, rel=1e-4, abs=1e-5)


def test_weights_of_another_shape_or_sum():
    outputs = jnp.zeros((2, 3, 2))
    with pytest.raises(uq.InputError, match=r"one number for each of the 2 members, or \(2, 3\) of them"):
        uq.Predictive(outputs, uq.likelihoods.Gaussian(), jnp.full((3, 2), 0.5))
    with pytest.raises(uq.InputError, match=r"sum to 1, but they sum to 0\.4"):
        uq.Predictive(outputs, uq.likelihoods.Gaussian(), jnp.array([[0.5, 0.2, 1.0], [0.5, 0.2, 0.0]]))
