"""Mixed precision: few bits inside, many outside."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq._cache import fingerprint

from .nets import OneFlag, mlp, nnx_net, regression

X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


def products(jaxpr: Any) -> list[Any]:
    """Dtypes of the operands of every matrix product and convolution."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            found += [v.aval.dtype for v in equation.invars]
        for part in equation.params.values():
            inner = getattr(part, "jaxpr", part)
            if hasattr(inner, "eqns"):
                found += products(inner)
    return found


def network(kind: str) -> Any:
    return {"mlp": mlp(), "batch_norm": OneFlag(), "nnx": nnx_net()}[kind]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["mlp", "batch_norm", "nnx"])
def test_few_bits_inside_and_many_outside(kind: str, dtype: Any) -> None:
    plain, mixed = uq.as_model(network(kind)), uq.mixed_precision(network(kind), dtype)
    variables = mixed.init(jax.random.key(0), X)
    for one, two in zip(jax.tree.leaves(variables), jax.tree.leaves(plain.init(jax.random.key(0), X)), strict=True):
        np.testing.assert_array_equal(one, two)

    def loss(params: Any) -> Any:
        outputs, state = mixed.apply(variables._replace(params=params), X, train=True)
        return jnp.square(outputs).mean(), (outputs, state)

    step = jax.value_and_grad(loss, has_aux=True)
    dtypes = products(jax.make_jaxpr(step)(variables.params).jaxpr)
    assert dtypes and set(dtypes) == {jnp.dtype(dtype)}
    (_, (outputs, state)), grads = step(variables.params)
    assert outputs.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves((grads, state))} <= {jnp.dtype(jnp.float32)}
    with jax.numpy_dtype_promotion("standard"):
        want, kept = plain.apply(variables, X, train=True)
    np.testing.assert_allclose(outputs, want, atol=0.05)
    for one, two in zip(jax.tree.leaves(state), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-2, atol=1e-3)


def test_small_updates_of_averages_are_kept() -> None:
    mixed = uq.mixed_precision(OneFlag())
    variables = mixed.init(jax.random.key(0), X)
    state = jax.tree.map(lambda leaf: leaf + 100.0, variables.state)
    for _ in range(3):  # 1 % of 100 is below half the spacing of bfloat16 there, but only just: three steps show it
        _, state = mixed.apply(variables._replace(state=state), X, train=True)
    mean = np.asarray(state["batch_stats"]["norm"]["mean"])
    np.testing.assert_allclose(mean, 100 * 0.99**3, atol=0.1)


def test_integers_are_left_alone() -> None:
    class Words(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(2)(jnp.concatenate([nn.Embed(1000, 4)(x["word"]), x["number"]], -1))

    x = {"word": np.array([0, 257, 999]), "number": np.ones((3, 1), np.float32)}
    mixed, plain = uq.mixed_precision(Words()), uq.as_model(Words())
    variables = mixed.init(jax.random.key(0), x)
    outputs = mixed.apply(variables, x)[0]
    assert outputs.dtype == jnp.float32
    np.testing.assert_allclose(outputs, plain.apply(variables, x)[0], atol=0.05)


def test_float64_masters_stay() -> None:
    with jax.enable_x64(True):
        mixed = uq.mixed_precision(nn.Dense(2, param_dtype=jnp.float64), "bfloat16")
        variables = mixed.init(jax.random.key(0), X.astype(np.float64))
        assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float64)}
        assert mixed.apply(variables, X.astype(np.float64))[0].dtype == jnp.float64
        grads = jax.grad(lambda p: mixed.apply(variables._replace(params=p), X)[0].sum())(variables.params)
        assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {jnp.dtype(jnp.float64)}


@pytest.mark.parametrize("net", [mlp(), OneFlag()], ids=["mlp", "batch_norm"])
def test_fit_trains_and_predicts_nearly_as_in_float32(net: Any) -> None:
    x, y = regression(200)
    settings: Any = {"key": 0, "epochs": 60, "progress": False, "validation": 0}
    fitted = [
        uq.fit(uq.deep_ensemble(model, uq.likelihoods.Gaussian(), size=3), (x, y), **settings)
        for model in (uq.mixed_precision(net), net)
    ]
    assert {leaf.dtype for leaf in jax.tree.leaves(fitted[0].state)} == {jnp.dtype(jnp.float32)}
    mixed, plain = (posterior.predict(x) for posterior in fitted)
    assert mixed.outputs.dtype == jnp.float32
    errors = [float(np.sqrt(np.mean(np.square(np.asarray(p.mean, np.float64) - y)))) for p in (mixed, plain)]
    assert errors[0] < 1.3 * errors[1] and errors[1] < 0.6 * y.std()
    assert float(np.abs(mixed.mean - plain.mean).mean()) < 0.2 * y.std()


def test_equal_settings_share_a_program() -> None:
    one, two = (uq.mixed_precision(mlp()) for _ in range(2))
    assert fingerprint(one) == fingerprint(two) != fingerprint(uq.mixed_precision(mlp(), jnp.float16))


@pytest.mark.parametrize("wrong", [jnp.int8, "int32", "bf", 3])
def test_a_dtype_that_is_not_floating(wrong: Any) -> None:
    with pytest.raises(uq.InputError, match=r"`dtype` expected a floating dtype, such as jax.numpy.bfloat16"):
        uq.mixed_precision(mlp(), wrong)
