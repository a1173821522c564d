"""Predictions in bounded memory: chunks over rows and members change nothing."""

from __future__ import annotations

import importlib
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq

from .nets import OneFlag, mlp

predict_module = importlib.import_module("uq.predict")  # `uq.predict` itself is the function

RNG = np.random.default_rng(0)
X = RNG.normal(5.0, 3.0, (23, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def members() -> uq.Members:
    return uq.Members(uq.batched_init(mlp(), 0, X, 5))


def by_hand(members: uq.Members, x: np.ndarray) -> np.ndarray:
    one, two = members.variables.params["layers_0"], members.variables.params["layers_2"]
    hidden = np.tanh(np.einsum("nd,kdh->knh", x.astype(np.float64), one["kernel"]) + one["bias"][:, None])
    return np.einsum("knh,khw->knw", hidden, two["kernel"]) + two["bias"][:, None]


@pytest.mark.parametrize("batch_size", [None, 1, 4, 8, 22, 23, 1000])
@pytest.mark.parametrize("member_size", [None, 1, 2, 5, 9])
def test_chunks_change_nothing(members: uq.Members, batch_size: Any, member_size: Any) -> None:
    pred = uq.predict(mlp(), uq.likelihoods.Gaussian(), members, X, batch_size=batch_size, member_size=member_size)
    assert pred.outputs.shape == (5, 23, 2)
    np.testing.assert_allclose(pred.outputs, by_hand(members, X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("num", [1, 2, 7, 9, 16, 17, 100])
def test_any_number_of_rows(members: uq.Members, num: int) -> None:
    x = RNG.normal(5.0, 3.0, (num, 3)).astype(np.float32)
    pred = uq.predict(mlp(), uq.likelihoods.Gaussian(), members, x)
    assert len(pred) == num
    np.testing.assert_allclose(pred.outputs, by_hand(members, x), rtol=1e-4, atol=1e-5)


def test_memory_is_bounded_by_itself(members: uq.Members, monkeypatch: Any) -> None:
    seen = []
    program = predict_module._program

    def spy(model: Any) -> Any:
        run = program(model)

        def spied(part: Any, x: Any) -> Any:
            seen.append((uq.num_members(part), len(x)))
            return run(part, x)

        return spied

    monkeypatch.setattr(predict_module, "_program", spy)
    monkeypatch.setattr(predict_module, "_PROGRAMS", predict_module.ProgramCache())
    monkeypatch.setattr(predict_module, "_BUDGET", 4096)
    pred = uq.predict(mlp(), uq.likelihoods.Gaussian(), members, X)
    np.testing.assert_allclose(pred.outputs, by_hand(members, X), rtol=1e-4, atol=1e-5)
    assert len(seen) > 1 and len(set(seen)) == 1  # one shape, so one program
    assert all(size * rows * 4 * 2 <= 2 * 4096 for size, rows in seen)


def test_bytes_are_counted_with_the_network(members: uq.Members) -> None:
    wide = nn.Sequential([nn.Dense(1000), nn.tanh, nn.Dense(2)])
    some = uq.Members(uq.batched_init(wide, 0, X, 2))
    one = predict_module.bytes_per_row(uq.as_model(mlp()), members, X)
    other = predict_module.bytes_per_row(uq.as_model(wide), some, X)
    assert other > 50 * one
    assert other >= 2 * 1000 * 4


def test_weights_and_likelihood_are_carried(members: uq.Members) -> None:
    weight = jnp.array([0.5, 0.5, 0.0, 0.0, 0.0])
    kind = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 1e4, 250.0)
    pred = uq.predict(mlp(), kind, members._replace(weight=weight), X)
    want = 1e4 + 250 * by_hand(members, X)[:2, :, 0].mean(0)
    np.testing.assert_allclose(pred.mean, want, rtol=1e-6)


def test_networks_under_their_own_randomness() -> None:
    model = uq.as_model(OneFlag())
    one = model.init(jax.random.key(0), X)
    many = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (4, *leaf.shape)), one)
    still = uq.predict(model, uq.likelihoods.Gaussian(), uq.Members(many), X)
    np.testing.assert_allclose(still.epistemic, 0, atol=1e-10)
    keys = jax.random.split(jax.random.key(1), 4)
    noisy = uq.predict(model, uq.likelihoods.Gaussian(), uq.Members(many, key=keys), X)
    assert (np.asarray(noisy.epistemic) > 0).all()
    some = uq.predict(model, uq.likelihoods.Gaussian(), uq.Members(many, key=keys), X, member_size=3)
    np.testing.assert_allclose(some.outputs, noisy.outputs, rtol=1e-5, atol=1e-6)


def test_a_network_of_width_one_may_leave_its_axis_out() -> None:
    pair = (lambda key, x: {"w": jax.random.normal(key, (3,))}, lambda p, x: x @ p["w"])
    members = uq.Members(uq.batched_init(pair, 0, X, 2))
    pred = uq.predict(pair, uq.likelihoods.Bernoulli(), members, X)
    assert pred.outputs.shape == (2, 23, 1)
    assert pred.probs.shape == (23, 2)


def test_what_does_not_fit(members: uq.Members) -> None:
    kind = uq.likelihoods.Gaussian()
    with pytest.raises(uq.InputError, match=r"cannot take inputs of shape \(23, 2\); was it trained on other inputs"):
        uq.predict(mlp(), kind, members, X[:, :2])
    with pytest.raises(uq.InputError, match=r"Categorical\(num_classes=3\) expected network outputs of shape \(N, 3\)"):
        uq.predict(mlp(), uq.likelihoods.Categorical(3), members, X)
    with pytest.raises(uq.InputError, match=r"`x` expected at least one example, but it is empty"):
        uq.predict(mlp(), kind, members, X[:0])
    with pytest.raises(uq.InputError, match=r"`x` expected finite numbers, but row 1 of 3 holds NaN"):
        uq.predict(mlp(), kind, members, np.array([[1, 2, 3], [1, np.nan, 3], [1, 2, 3]], np.float32))
    with pytest.raises(uq.InputError, match=r"every member has weight 0"):
        uq.predict(mlp(), kind, members._replace(weight=jnp.zeros(5)), X)
    with pytest.raises(uq.InputError, match=r"`batch_size` expected a whole number of at least 1"):
        uq.predict(mlp(), kind, members, X, batch_size=-1)
    uneven = members.variables._replace(
        params={
            **members.variables.params,
            "layers_2": {"bias": jnp.ones((4, 2)), "kernel": jnp.ones((5, 6, 2))},
        }
    )
    with pytest.raises(uq.InputError, match=r"same leading axis, but .*`params/layers_2/bias` has 4"):
        uq.predict(mlp(), kind, uq.Members(uneven), X)


def test_networks_with_convolutions_predict_what_the_library_would():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3)(nn.relu(nn.Conv(4, (3, 3), strides=2)(x)).reshape(len(x), -1))

    x = np.random.default_rng(0).normal(size=(9, 6, 6, 2)).astype(np.float32)
    nets = [Net().init(jax.random.key(k), x) for k in range(3)]
    got = uq.posterior(Net(), uq.likelihoods.Categorical(3), nets).predict(x, batch_size=4, member_size=2).outputs
    want = np.stack([Net().apply(net, x) for net in nets])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_chunks_of_rows_under_jit(members: uq.Members) -> None:
    def mean(x):
        return uq.predict(mlp(), uq.likelihoods.Gaussian(), members, x, batch_size=4).mean

    x = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
    np.testing.assert_allclose(jax.jit(mean)(x), mean(x), rtol=1e-6)
