"""Random bits drawn on the host are the device's, bit for bit; what is left compiles to the same weights."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq.execution._host_random import with_host_random

from ..nets import OneFlag, mlp, nnx_net

RULES = nn.initializers


class Attention(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.MultiHeadDotProductAttention(2)(nn.Embed(10, 8)(x))


def flax_init(net: Any, x: Any) -> Any:
    return lambda key: net.init({"params": key, "dropout": jax.random.fold_in(key, 9)}, x)


DRAWS = {
    "mlp": flax_init(mlp(), np.ones((1, 3), np.float32)),
    "norm": lambda key: OneFlag().init({"params": key, "dropout": key}, jnp.ones((2, 3)), train=False),
    "attention": flax_init(Attention(), np.ones((2, 4), np.int32)),
    **{
        name: flax_init(nn.Dense(5, kernel_init=rule, bias_init=RULES.normal()), np.ones((1, 4), np.float32))
        for name, rule in {
            "orthogonal": RULES.orthogonal(),
            "uniform": RULES.uniform(),
            "truncated": RULES.truncated_normal(),
            "he": RULES.he_normal(),
        }.items()
    },
    "split": lambda key: jax.random.normal(jax.random.split(key, 3)[1], (4,)),
    "split in two axes": lambda key: jax.random.uniform(jax.random.split(key, (2, 3))[1, ::2].reshape(2)[0], (4,)),
    "fold": lambda key: jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, 7), 2**31), (3, 2)),
    "permutation": lambda key: jax.random.permutation(key, 7),
    "raw bits": lambda key: jax.random.key_data(jax.random.split(key)),
}


def both(draw: Any, key: Any, size: int = 3) -> tuple[list[Any], list[Any]]:
    def many(key: Any) -> Any:
        return jax.vmap(draw)(uq.member_keys(key, size))

    with jax.numpy_dtype_promotion("standard"):
        parts = with_host_random(jax.jit(many).trace(key).jaxpr)
        want = jax.tree.leaves(jax.jit(many)(key))
        if parts is None:
            return want, want
        return jax.jit(parts.rest)(parts.draw(key), key), want


@pytest.mark.parametrize("name", DRAWS)
def test_same_bits(name: str) -> None:
    for seed in (0, 2**31):
        got, want = both(DRAWS[name], jax.random.key(seed))
        for a, b in zip(got, want, strict=True):
            assert a.dtype == b.dtype
            if jnp.issubdtype(a.dtype, jnp.floating):  # from bits to numbers, a compiler may round otherwise
                np.testing.assert_array_max_ulp(np.asarray(a), np.asarray(b), 4)
            else:
                assert np.array_equal(a, b)


@pytest.mark.parametrize("name", ["mlp", "norm", "attention", "orthogonal"])
def test_nothing_random_is_left_to_compile(name: str) -> None:
    key = jax.random.key(0)
    parts = with_host_random(jax.jit(DRAWS[name]).trace(key).jaxpr)
    assert parts is not None
    text = str(jax.make_jaxpr(parts.rest)(parts.draw(key), key))
    assert "random_bits" not in text and "threefry" not in text


def test_large_draws_other_generators_and_programs_without_draws_are_left_alone() -> None:
    def large(key: Any) -> Any:
        return jax.random.normal(key, (2**21,))

    assert with_host_random(jax.jit(large).trace(jax.random.key(0)).jaxpr) is None
    assert with_host_random(jax.jit(jax.random.normal).trace(jax.random.key(0, impl="rbg")).jaxpr) is None
    assert with_host_random(jax.jit(jnp.sin).trace(1.0).jaxpr) is None
    with jax.threefry_partitionable(False):
        assert with_host_random(jax.jit(jax.random.normal).trace(jax.random.key(0)).jaxpr) is None


def test_initial_weights_of_fit_are_those_of_batched_init() -> None:
    x, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40.0)
    for net in (mlp(), nnx_net()):
        method = uq.deep_ensemble(net, uq.likelihoods.Gaussian(), uq.optimizers.one_cycle(1e-30), size=3)
        posterior = uq.fit(method, (x, y), key=5, epochs=1)
        want = uq.batched_init(net, 5, np.float32(x[:1]), 3).params
        for a, b in zip(jax.tree.leaves(posterior.state.variables.params), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=5e-7, atol=1e-20)
