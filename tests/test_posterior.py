"""`Posterior` and `uq.posterior`: networks that are already trained, sampled, taken and picked."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq.standardize import Scaling

from .nets import OneFlag, mlp, nnx_net, raw_apply, raw_init, regression

X, Y = regression(20)


@pytest.fixture(scope="module")
def five() -> uq.Posterior:
    nets = [mlp().init(jax.random.key(i), X) for i in range(5)]
    return uq.posterior(mlp(), uq.likelihoods.Gaussian(), nets, x=X)


def test_from_linen_dictionaries() -> None:
    net = OneFlag()
    nets = [net.init(jax.random.key(i), X, False) for i in range(3)]
    posterior = uq.posterior(net, uq.likelihoods.Gaussian(), nets)
    outputs = posterior.predict(X).outputs
    for k, one in enumerate(nets):
        np.testing.assert_allclose(outputs[k], net.apply(one, X, False), rtol=1e-4, atol=1e-5)
    assert posterior.size == 3 and posterior.history is None
    tree = jax.tree.map(lambda *leaves: np.stack(leaves), *nets)
    stacked = uq.posterior(net, uq.likelihoods.Gaussian(), tree)
    assert np.array_equal(stacked.predict(X).outputs, outputs)


@pytest.mark.parametrize("adapter", ["linen", "nnx", "pair"])
def test_from_bare_parameters(adapter: str) -> None:
    if adapter == "linen":
        net: Any = mlp()
        nets = [net.init(jax.random.key(i), X)["params"] for i in range(2)]
    elif adapter == "pair":
        net = (raw_init, raw_apply)
        nets = [raw_init(jax.random.key(i), X) for i in range(2)]
    else:
        from flax import nnx

        class Net(nnx.Module):
            def __init__(self, rngs: nnx.Rngs) -> None:
                self.last = nnx.Linear(3, 2, rngs=rngs)

            def __call__(self, x: Any) -> Any:
                return self.last(x)

        net = Net
        nets = [nnx.state(Net(nnx.Rngs(i)), nnx.Param) for i in range(2)]
    posterior = uq.posterior(net, uq.likelihoods.Gaussian(), nets, x=X)
    assert posterior.predict(X).outputs.shape == (2, 20, 2)
    assert posterior.num_params == 2 * sum(leaf.size for leaf in jax.tree.leaves(nets[0]))


def test_from_variables_of_our_own() -> None:
    net = nnx_net()
    made = uq.batched_init(net, 0, X, 4)
    posterior = uq.posterior(net, uq.likelihoods.Gaussian(), made)
    assert posterior.size == 4
    apart = uq.posterior(net, uq.likelihoods.Gaussian(), [uq.take(made, k) for k in range(4)])
    assert np.array_equal(apart.predict(X).outputs, posterior.predict(X).outputs)


def test_inputs_and_targets_in_their_own_units() -> None:
    scaling = Scaling(X.astype(np.float64).mean(0), X.astype(np.float64).std(0))
    nets = [mlp().init(jax.random.key(i), X) for i in range(2)]
    kind = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 1e4, 250.0)
    posterior = uq.posterior(mlp(), kind, nets, inputs=scaling)
    z = ((X - scaling.mean) / scaling.scale).astype(np.float32)
    want = np.stack([mlp().apply(one, z) for one in nets])
    pred = posterior.predict(X)
    np.testing.assert_allclose(pred.outputs, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(pred.mean, 1e4 + 250 * want[:, :, 0].mean(0), rtol=1e-6)
    raw = posterior.model.apply(uq.take(posterior.state.variables, 0), X)[0]
    np.testing.assert_allclose(raw, want[0], rtol=1e-3, atol=1e-4)


def test_what_is_not_a_trained_network() -> None:
    kind = uq.likelihoods.Gaussian()
    with pytest.raises(uq.InputError, match=r"`variables` expected at least one network, but the list is empty"):
        uq.posterior(mlp(), kind, [])
    with pytest.raises(uq.InputError, match=r"has parameters of its own; pass params as"):
        uq.posterior(nn.Dense(1), uq.likelihoods.HomoscedasticGaussian(), uq.batched_init(nn.Dense(1), 0, X, 2))
    nets = [nn.Dense(width).init(jax.random.key(0), X) for width in (2, 3)]
    with pytest.raises(
        uq.InputError, match=r"Network 1 differs from network 0 at `params/bias`: \(3,\) against \(2,\)"
    ):
        uq.posterior(nn.Dense(2), kind, nets)


def test_one_shared_variance_is_given_with_the_weights() -> None:
    made = uq.batched_init(nn.Dense(1), 0, X, 2)
    params = {"network": made.params, "likelihood": jnp.array([[0.0], [2.0]])}
    posterior = uq.posterior(nn.Dense(1), uq.likelihoods.HomoscedasticGaussian(), params, x=X)
    want = (np.logaddexp([0.0, 2.0], 0) + 1e-3) ** 2
    np.testing.assert_allclose(posterior.predict(X).aleatoric, want.mean(), rtol=1e-5)


def test_samples_share_out_the_weight(five: uq.Posterior) -> None:
    members = five.sample()
    assert uq.num_members(members) == 5
    np.testing.assert_allclose(members.weight, 0.2, rtol=1e-6)
    assert members.origin.tolist() == [0, 1, 2, 3, 4]
    draws = five.sample(2)
    assert draws.origin.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    np.testing.assert_allclose(draws.weight, 0.1, rtol=1e-6)


def test_take_and_best(five: uq.Posterior) -> None:
    outputs = five.predict(X).outputs
    np.testing.assert_allclose(five.take([3, 1]).predict(X).outputs, outputs[jnp.array([3, 1])], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(five.take(slice(1, 4)).predict(X).outputs, outputs[1:4], rtol=1e-5, atol=1e-6)
    assert five.take(-1).size == 1
    np.testing.assert_allclose(five.best([5, 4, np.nan, 1, 2]).predict(X).outputs, outputs[3:4], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(five.take([0, 1]).weight, 0.5)
    with pytest.raises(uq.InputError, match=r"one score for each of the 5 members, but got \(2,\)"):
        five.best([1.0, 2.0])
    with pytest.raises(uq.InputError, match=r"at least one finite score"):
        five.best([np.nan] * 5)
    with pytest.raises(uq.InputError, match=r"`take` expected at least one member"):
        five.take([])
    with pytest.raises(uq.InputError, match=r"There are 5 members \(0 to 4\), but member 5"):
        five.take(5)


def test_one_network_cannot_be_taken_apart() -> None:
    method = uq.methods.map_estimate(mlp(), uq.likelihoods.Gaussian())
    state = method.init(jax.random.key(0), X)._replace(opt_state=())
    one = uq.Posterior(method, state, method.likelihood, jax.random.key(0))
    assert one.size == 1 and one.predict(X).num_members == 1
    with pytest.raises(uq.InputError, match=r"`take` needs an ensemble, but this posterior is of one network"):
        one.take(0)


def test_it_prints_what_it_is(five: uq.Posterior) -> None:
    assert repr(five) == "Posterior(map_estimate, members=5, parameters=190)"


def test_inputs_unlike_those_of_training(five: uq.Posterior) -> None:
    with pytest.raises(uq.InputError, match=r"`x` expected shape \('N', 3\), as in training, but has shape \(20, 2\)"):
        five.predict(X[:, :2])
    with pytest.raises(uq.InputError, match=r"`x` expected shape \('N', 3\), .* but has shape \(3,\)"):
        five.predict(X[0])
    with pytest.raises(uq.InputError, match=r"`x` expected the same parts as in training \(one array\)"):
        five.predict({"a": X})
