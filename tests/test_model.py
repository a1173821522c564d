"""Models: the three adapters give the same numbers, and keep randomness and carried state apart."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq

from .nets import OneFlag, TwoFlags, nnx_net, raw_apply, raw_init

X = np.random.default_rng(0).normal(5.0, 3.0, (12, 3)).astype(np.float32)


def test_linen_nnx_and_pairs_give_the_same_numbers() -> None:
    from flax import nnx

    class Linen(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(2, name="last")(jnp.tanh(nn.Dense(6, name="first")(x)))

    class Nnx(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first = nnx.Linear(3, 6, rngs=rngs)
            self.last = nnx.Linear(6, 2, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(jnp.tanh(self.first(x)))

    params = raw_init(jax.random.key(1), X)
    linen, pair, other = uq.as_model(Linen()), uq.as_model((raw_init, raw_apply)), uq.as_model(Nnx)
    fresh = other.init(jax.random.key(0), X)
    state = nnx.clone(fresh.params)
    nnx.replace_by_pure_dict(state, params)
    want = np.tanh(X @ np.asarray(params["first"]["kernel"])) @ np.asarray(params["last"]["kernel"])
    outputs = [
        linen.apply(uq.Variables(params, {}), X)[0],
        pair.apply(uq.Variables(params), X)[0],
        other.apply(uq.Variables(state, fresh.state), X)[0],
    ]
    for got in outputs:
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        assert np.array_equal(got, outputs[0])


BATCH_NORM = {"one flag": OneFlag, "two flags": TwoFlags, "nnx": nnx_net}


@pytest.fixture(scope="module", params=BATCH_NORM)
def network(request: Any) -> tuple[uq.Model, uq.Variables]:
    made = BATCH_NORM[request.param]()
    model = uq.as_model(made)
    return model, model.init(jax.random.key(2), X)


def equal_trees(a: Any, b: Any) -> bool:
    return all(np.array_equal(one, two) for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_randomness_exactly_when_a_key_is_given(network: Any) -> None:
    model, variables = network
    one, two = jax.random.key(0), jax.random.key(1)
    for train in (False, True):
        still = model.apply(variables, X, train=train)[0]
        assert np.array_equal(still, model.apply(variables, X, train=train)[0])
        noisy = model.apply(variables, X, key=one, train=train)[0]
        assert np.array_equal(noisy, model.apply(variables, X, key=one, train=train)[0])
        assert not np.array_equal(noisy, still)
        assert not np.array_equal(noisy, model.apply(variables, X, key=two, train=train)[0])


def test_state_changes_exactly_when_training(network: Any) -> None:
    model, variables = network
    for key in (None, jax.random.key(0)):
        outputs, state = model.apply(variables, X, key=key)
        assert equal_trees(state, variables.state)
        trained, moved = model.apply(variables, X, key=key, train=True)
        assert jax.tree.structure(moved) == jax.tree.structure(variables.state)
        assert not equal_trees(moved, variables.state)
        assert not np.array_equal(outputs, trained)  # batch statistics, not running averages


def test_training_uses_the_statistics_of_the_batch(network: Any) -> None:
    model, variables = network
    params = jax.tree.leaves(variables.params)
    assert params
    _, moved = model.apply(variables, X, train=True)
    kernel = next(leaf for leaf in params if leaf.shape == (3, 8))
    hidden = X @ np.asarray(kernel)
    averages = sorted((np.asarray(leaf) for leaf in jax.tree.leaves(moved)), key=lambda leaf: -leaf.min())
    np.testing.assert_allclose(averages[0], 0.99 + 0.01 * hidden.var(0), rtol=1e-4)
    np.testing.assert_allclose(averages[1], 0.01 * hidden.mean(0), rtol=1e-3, atol=1e-5)


def test_rows_are_independent_at_prediction(network: Any) -> None:
    model, variables = network
    whole = model.apply(variables, X)[0]
    for i in (0, 5, 11):
        np.testing.assert_allclose(model.apply(variables, X[i : i + 1])[0], whole[i : i + 1], rtol=1e-5, atol=1e-6)


def test_the_model_runs_under_jit_vmap_and_grad(network: Any) -> None:
    model, _ = network
    many = uq.batched_init(model, 0, X, 3)
    outputs, states = jax.jit(jax.vmap(lambda v: model.apply(v, X, key=jax.random.key(0), train=True)))(many)
    assert outputs.shape == (3, 12, 2)
    assert uq.num_members(states) == 3
    one = uq.take(many, 1)
    grads = jax.grad(lambda params: model.apply(uq.Variables(params, one.state), X)[0].sum())(one.params)
    assert jax.tree.structure(grads) == jax.tree.structure(one.params)


def test_a_module_that_sets_its_own_switches_obeys_ours() -> None:
    class Fixed(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = nn.BatchNorm(use_running_average=True)(nn.Dense(8)(x))
            return nn.Dense(2)(nn.Dropout(0.5, deterministic=True)(x))

    model = uq.as_model(Fixed())
    variables = model.init(jax.random.key(0), X)
    assert not np.array_equal(model.apply(variables, X, key=jax.random.key(1))[0], model.apply(variables, X)[0])
    assert not equal_trees(model.apply(variables, X, train=True)[1], variables.state)


def test_attention_dropout_obeys_the_key() -> None:
    class Attend(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool = False) -> Any:
            x = nn.MultiHeadDotProductAttention(2, dropout_rate=0.5, deterministic=not train)(x)
            return nn.Dense(2)(x.mean(1))

    model, x = uq.as_model(Attend()), jnp.asarray(X.reshape(4, 3, 3)[..., :2])
    variables = model.init(jax.random.key(0), x)
    still = model.apply(variables, x)[0]
    assert np.array_equal(model.apply(variables, x, train=True)[0], still)
    assert not np.array_equal(model.apply(variables, x, key=jax.random.key(1))[0], still)


def test_flags_may_be_given() -> None:
    class Odd(nn.Module):
        @nn.compact
        def __call__(self, x: Any, mode: str) -> Any:
            return nn.Dense(2)(nn.Dropout(0.5, deterministic=mode == "test")(x))

    with pytest.raises(
        uq.InputError, match=r"Odd.__call__ requires `mode`, which `uq` does not know. Say what to pass"
    ):
        uq.as_model(Odd())
    model = uq.from_linen(Odd(), flags=lambda *, train, stochastic: {"mode": "train" if stochastic else "test"})
    variables = model.init(jax.random.key(0), X)
    assert model.apply(variables, X)[0].shape == (12, 2)


def test_linen_weights_are_those_of_init() -> None:
    net = OneFlag()
    got = uq.as_model(net).init(jax.random.key(4), X)
    want = net.init(jax.random.key(4), X, False)
    assert equal_trees(got.params, want["params"])
    assert equal_trees(got.state, {"batch_stats": want["batch_stats"]})


def test_inputs_may_be_any_pytree() -> None:
    class Parts(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(2)(x["a"]) + x["b"][0]

    x = {"a": jnp.asarray(X), "b": (jnp.ones((12, 1)),)}
    model = uq.as_model(Parts())
    assert model.apply(model.init(jax.random.key(0), x), x)[0].shape == (12, 2)


def test_what_is_not_a_network() -> None:
    from flax import nnx

    net = nnx_net()
    with pytest.raises(uq.InputError, match=r"Expected a constructor, but got a Net .* Pass `lambda rngs: Net\("):
        uq.as_model(net(nnx.Rngs(0)))
    with pytest.raises(uq.InputError, match=r"`as_model` expected a linen module, .* but got a str"):
        uq.as_model("net")
    with pytest.raises(uq.InputError, match=r"but got the class OneFlag \(an instance, or a constructor"):
        uq.as_model(OneFlag)
    with pytest.raises(uq.InputError, match=r"but got a tuple"):
        uq.as_model((raw_init, raw_apply, raw_apply))
    with pytest.raises(uq.InputError, match=r"but got a function"):
        uq.as_model(lambda a, b, c: None)


@pytest.mark.parametrize("form", ["class", "constructor", "keyword"])
def test_nnx_constructors(form: str) -> None:
    net = nnx_net()
    made = {
        "class": net,
        "constructor": lambda rngs: net(rngs=rngs),
        "keyword": lambda *, rngs: net(rngs=rngs),
    }[form]
    model = uq.as_model(made)
    want = uq.as_model(net).init(jax.random.key(0), X)
    assert equal_trees(model.init(jax.random.key(0), X), want)
    assert uq.as_model(model) is model


def test_standardized_inputs_are_undone() -> None:
    from uq.wrap import standardized

    model = uq.as_model(nn.Dense(2))
    variables = model.init(jax.random.key(0), X)
    raw = standardized(model, X.mean(0), X.std(0))
    want = model.apply(variables, (X - X.mean(0)) / X.std(0))[0]
    np.testing.assert_allclose(raw.apply(variables, X)[0], want, rtol=1e-5)
    assert equal_trees(raw.init(jax.random.key(0), X), variables)
