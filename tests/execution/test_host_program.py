"""Initial weights by NumPy are those of the compiled program to rounding, and a member's whatever K."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import uq
from uq.execution import compiling
from uq.execution._host_program import _inverse_erf, on_host

from ..nets import OneFlag, mlp, nnx_net
from .test_host_random import DRAWS, Attention

X = np.ones((1, 4), np.float32)


def many(draw: Any, size: int) -> Any:
    return lambda key: jax.vmap(draw)(uq.member_keys(key, size))


def both(function: Any, key: Any) -> tuple[list[Any], list[Any]]:
    with jax.numpy_dtype_promotion("standard"):
        run = on_host(jax.jit(function).trace(key).jaxpr)
        assert run is not None
        return run(key), jax.tree.leaves(jax.jit(function)(key))


def same(got: list[Any], want: list[Any]) -> None:
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype == jnp.float32:
            np.testing.assert_array_max_ulp(np.asarray(a), np.asarray(b), 4)
        else:
            assert np.array_equal(jax.random.key_data(a) if isinstance(a, jax.Array) else a, b)


@pytest.mark.parametrize("name", [name for name in DRAWS if name not in ("orthogonal", "permutation")])
def test_same_numbers(name: str) -> None:
    for seed in (0, 2**31):
        same(*both(many(DRAWS[name], 3), jax.random.key(seed)))


METHODS = {
    "map": lambda net: uq.methods.map_estimate(net, uq.likelihoods.Gaussian()),
    "adamw": lambda net: uq.methods.map_estimate(net, uq.likelihoods.Gaussian(), optax.adamw(1e-3)),
    "mean field": lambda net: uq.methods.mean_field(net, uq.likelihoods.Gaussian()),
    "low rank": lambda net: uq.methods.low_rank(net, uq.likelihoods.Gaussian()),
}
NETS = {"linen": mlp, "nnx": nnx_net, "norm": OneFlag}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", METHODS)
def test_whole_states_are_made_here(name: str, net: str) -> None:
    method = METHODS[name](NETS[net]())
    x = jnp.ones((1, 3))
    same(*both(many(lambda key: method.init(key, x), 5), jax.random.key(1)))


def test_a_member_is_the_same_whatever_their_number() -> None:
    draw = DRAWS["attention"]
    few, more = (both(many(draw, size), jax.random.key(3))[0] for size in (3, 17))
    for a, b in zip(few, more, strict=True):
        assert np.array_equal(a, b[:3])


def test_what_has_no_rule_is_left_to_the_compiler() -> None:
    key = jax.random.key(0)
    assert on_host(jax.jit(DRAWS["orthogonal"]).trace(key).jaxpr) is None
    assert on_host(jax.jit(jnp.sin).trace(1.0).jaxpr) is None
    assert on_host(jax.jit(jax.random.normal).trace(jax.random.key(0, impl="rbg")).jaxpr) is None
    assert on_host(jax.jit(lambda key: jax.random.normal(key, (3,), jnp.bfloat16)).trace(key).jaxpr) is None
    with jax.threefry_partitionable(False):
        assert on_host(jax.jit(jax.random.normal).trace(key).jaxpr) is None
    with jax.enable_x64(True):
        assert on_host(jax.jit(lambda key: jax.random.normal(key, (3,), jnp.float64)).trace(key).jaxpr) is None


FLOATS = np.array([-2.5, -1.0, -0.0, 0.0, 0.3, 1.0, 3e30, -3e30, np.inf, -np.inf, np.nan, 2.0**31], np.float32)
INTS = np.array([-(2**31), -7, -1, 0, 1, 7, 2**31 - 1], np.int32)
OPERATIONS = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "div": jax.lax.div,
    "max": jax.lax.max,
    "min": jax.lax.min,
    "next": jax.lax.nextafter,
    "or": jax.lax.bitwise_or,
    "shift": lambda x, y: jax.lax.shift_right_logical(x, jnp.full_like(y, 9)),
    "to int": lambda x, y: x.astype(jnp.int32),
    "to uint": lambda x, y: x.astype(jnp.uint32),
    "to float": lambda x, y: x.astype(jnp.float32),
    "to bool": lambda x, y: x.astype(bool),
    "bits": lambda x, y: jax.lax.bitcast_convert_type(x, jnp.uint32),
    "sqrt": lambda x, y: jax.lax.sqrt(x),
    "erf": lambda x, y: jax.lax.erf(x),
    "inverse erf": lambda x, y: jax.lax.erf_inv(x),
    "columns first": lambda x, y: jax.lax.reshape(x[:6].reshape(2, 3), (6,), dimensions=(1, 0)),
    "reshape": lambda x, y: x[:6].reshape(2, 3),
    "squeeze": lambda x, y: x[None, :, None].squeeze(0)[1:3],
    "broadcast": lambda x, y: jnp.broadcast_to(x[:, None], (len(x), 3)),
}
OTHERWISE = {  # what NumPy does in another way
    *((name, kind) for name in ("or", "shift") for kind in ("float32", "int32", "bool")),
    *((name, "float32") for name in ("to int", "to uint", "to bool")),
    *(("columns first", kind) for kind in ("float32", "int32", "uint32", "bool")),
}
ARITHMETIC = ("add", "sub", "mul", "div", "max", "min", "next", "sqrt", "erf", "inverse erf")


@pytest.mark.parametrize("kind", ["float32", "int32", "uint32", "bool"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_is_the_compilers_or_left_to_it(name: str, kind: str) -> None:
    x = FLOATS if kind == "float32" else INTS.astype(kind)
    given = x, x[::-1].copy()
    with jax.numpy_dtype_promotion("standard"):
        try:
            traced = jax.jit(OPERATIONS[name]).trace(*given)
        except (TypeError, ValueError):  # there are no such operations
            assert (name, kind) in OTHERWISE or kind != "float32"
            return
        run = on_host(traced.jaxpr)
        want = np.asarray(jax.jit(OPERATIONS[name])(*given))
    left = (name, kind) in OTHERWISE or (name in ARITHMETIC and kind != "float32" and (name, kind) != ("add", "uint32"))
    assert (run is None) == left
    if run is None:
        return
    (got,) = run(*given)
    assert got.dtype == want.dtype and got.shape == want.shape
    if got.dtype == np.float32:
        np.testing.assert_allclose(got, want, rtol=5e-7)
    else:
        assert np.array_equal(got, want)


def test_small_networks_on_a_cpu_are_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert compiling.runs_on_host(2_000) and not compiling.runs_on_host(10**6)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not compiling.runs_on_host(2_000)


def test_a_product_and_a_sum_round_once() -> None:
    rng = np.random.default_rng(0)
    x, y = (rng.normal(3, 2, 50).astype(np.float32) for _ in range(2))
    z = (-x * y).astype(np.float32)  # what is left is the rounding of the product
    run = on_host(jax.jit(lambda x, y, z: (x * y + z, x * y, z - x * y, (x * y) / z)).trace(x, y, z).jaxpr)
    assert run is not None
    total, product, difference, ratio = run(x, y, z)
    wide = x.astype(np.float64) * y
    assert np.array_equal(total, (wide + z).astype(np.float32)) and total.any()
    assert np.array_equal(product, x * y)
    assert np.array_equal(difference, (z - wide).astype(np.float32))
    assert np.array_equal(ratio, (x * y) / z)


def test_literals_and_constants_are_single_precision() -> None:
    table = np.linspace(0.1, 0.7, 3)  # float64, which jax reads as float32
    run = on_host(
        jax.jit(lambda x: (x + 0.1, x * 0.1 + 0.3, x - jnp.asarray(table))).trace(np.zeros(3, np.float32)).jaxpr
    )
    assert run is not None
    shifted, scaled, less = run(np.full(3, 0.7, np.float32))
    assert np.array_equal(shifted, np.float32(0.7) + np.full(3, 0.1, np.float32))
    want = (np.float64(np.float32(0.7)) * np.float32(0.1) + np.float32(0.3)).astype(np.float32)
    assert np.array_equal(scaled, np.full(3, want))
    assert np.array_equal(less, np.float32(0.7) - table.astype(np.float32))


def test_results_are_arrays_of_their_own() -> None:
    run = on_host(jax.jit(lambda x: (x, x, jnp.zeros(3))).trace(X).jaxpr)
    assert run is not None
    given = X.copy()
    first, second, zeros = run(given)
    first += 1
    zeros += 1  # and may be written to
    assert np.array_equal(second, X) and np.array_equal(given, X) and np.array_equal(run(given)[2], np.zeros(3))


def test_the_inverse_error_function() -> None:
    x = np.concatenate([np.linspace(-0.999999, 0.999999, 4001), [1e-30, 0.0]]).astype(np.float32)
    np.testing.assert_allclose(_inverse_erf(x), special.erfinv(x.astype(np.float64)), rtol=1e-5)
    np.testing.assert_array_max_ulp(_inverse_erf(x), np.asarray(jax.jit(jax.lax.erf_inv)(x)), 3)
    with np.errstate(all="ignore"):
        assert np.array_equal(_inverse_erf(np.array([-1, 1], np.float32)), [-np.inf, np.inf])
        assert np.isnan(_inverse_erf(np.float32([1.5, np.nan]))).all()
    for i in (0, 7, 1234, 4000):  # wherever in an array a number stands
        assert _inverse_erf(x[i : i + 1])[0] == _inverse_erf(x)[i]


def test_embeddings_and_trained_weights_too() -> None:
    net = Attention()
    method = uq.deep_ensemble(net, uq.likelihoods.Categorical(8), size=3)
    x, y = np.arange(240).reshape(60, 4) % 10, np.arange(60) % 8
    first = uq.fit(method, (x, np.repeat(y[:, None], 4, 1)), key=0, epochs=1)
    again = uq.fit(
        uq.deep_ensemble(nn.Dense(2), uq.likelihoods.Gaussian(), uq.optimizers.one_cycle(1e-30), size=2),
        (np.random.default_rng(0).normal(5, 2, (40, 4)), np.arange(40.0)),
        key=0,
        epochs=1,
        start=uq.Variables({"kernel": np.full((2, 4, 2), 0.3, np.float32), "bias": np.zeros((2, 2), np.float32)}, {}),
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(first.state))
    np.testing.assert_allclose(again.state.variables.params["kernel"], 0.3, rtol=1e-6)
