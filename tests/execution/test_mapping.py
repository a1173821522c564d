"""Strategies give the same numbers, are values, trace once, and say what does not fit."""

from __future__ import annotations

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq._cache import fingerprint
from uq.execution import chunked, compiled, looped, same_for_any_size, unrolled, vmapped

from .nets import INPUTS, KINDS, ROWS, network

ALL = (
    vmapped,
    looped,
    unrolled,
    chunked(1),
    chunked(2),
    chunked(4),
    chunked(16),
    chunked(2, looped),
    chunked(4, unrolled),
)


def one_step(model: uq.Model, x: Any) -> Any:
    """Outputs, carried state, gradients and a step of gradient descent for one member."""

    def step(variables: uq.Variables) -> Any:
        def loss(params: Any) -> Any:
            outputs, state = model.apply(variables._replace(params=params), x, train=True)
            return jnp.mean(jnp.square(outputs - 1.0)), (outputs, state)

        grads, (outputs, state) = jax.grad(loss, has_aux=True)(variables.params)
        stepped = jax.tree.map(lambda p, g: p - 0.1 * g, variables.params, grads)
        return outputs, state, grads, stepped

    return step


def close(one: Any, two: Any) -> None:
    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6 * max(1.0, float(np.abs(b).max())))


@pytest.mark.parametrize(("flavour", "kind"), KINDS)
def test_the_same_numbers_for_every_network(flavour: str, kind: str) -> None:
    model, x = network(flavour, kind), INPUTS[kind]
    variables = jax.jit(lambda: uq.batched_init(model, 0, x, 3))()
    with jax.numpy_dtype_promotion("standard"):
        want = jax.jit(vmapped(one_step(model, x)))(variables)
        for mapping in (looped, unrolled, chunked(2)):
            close(jax.jit(mapping(one_step(model, x)))(variables), want)


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("mapping", ALL, ids=repr)
def test_any_number_of_members(mapping: Any, size: int) -> None:
    model = network("linen", "mlp")
    step = one_step(model, ROWS)
    variables = jax.jit(lambda: uq.batched_init(model, 0, ROWS, size))()
    want, got = jax.jit(vmapped(step))(variables), jax.jit(mapping(step))(variables)
    close(got, want)


@pytest.mark.parametrize("mapping", [chunked(2), chunked(3), chunked(4), chunked(16)], ids=repr)
def test_the_same_bits_in_chunks_where_each_member_has_its_own_rows(mapping: Any) -> None:
    """As in `fit`. Rows that all share are one product over all members, whose kernels depend on how many there are."""
    model = network("linen", "mlp")
    variables = jax.jit(lambda: uq.batched_init(model, 0, ROWS, 16))()
    own = np.random.default_rng(0).normal(size=(16, *ROWS.shape)).astype(np.float32)

    def step(variables: Any, x: Any) -> Any:
        return one_step(model, x)(variables)

    def run(mapping: Any) -> Any:
        return compiled(jax.jit(mapping(step)).lower(variables, own), same_for_any_size(100))(variables, own)

    for a, b in zip(jax.tree.leaves(run(mapping)), jax.tree.leaves(run(vmapped)), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("mapping", ALL, ids=repr)
def test_over_draws_and_rows_keys_and_nothing(mapping: Any) -> None:
    def one(key: Any, row: Any, nothing: Any, empty: Any) -> Any:
        assert nothing is None and empty == ()
        noise = jax.random.normal(key, row["x"].shape)
        return {"y": row["x"] + noise, "key": key, "n": row["n"] + 1, "none": None}

    keys, rows = jax.random.split(jax.random.key(0), 7), {"x": ROWS[np.arange(7) % 6], "n": np.arange(7)}
    want = vmapped(one)(keys, rows, None, ())
    for got in (mapping(one)(keys, rows, None, ()), jax.jit(mapping(one))(keys, rows, None, ())):
        np.testing.assert_allclose(got["y"], want["y"], rtol=1e-6, atol=1e-6)
        assert got["n"].tolist() == list(range(1, 8)) and got["none"] is None
        assert (jax.random.key_data(got["key"]) == jax.random.key_data(keys)).all()


@pytest.mark.parametrize("mapping", ALL, ids=repr)
def test_composes_with_grad_scan_and_itself(mapping: Any) -> None:
    x = jnp.arange(5.0)

    def total(x: Any) -> Any:
        return mapping(jnp.sin)(x).sum()

    np.testing.assert_allclose(jax.grad(total)(x), np.cos(x), rtol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.grad(total))(x), np.cos(x), rtol=1e-6)
    carried, _ = jax.lax.scan(lambda c, _: (mapping(lambda v: 2 * v)(c), None), x, length=3)
    assert carried.tolist() == [0, 8, 16, 24, 32]
    grid = jnp.arange(15.0).reshape(5, 3)
    assert mapping(mapping(lambda v: v + 1))(grid).tolist() == (grid + 1).tolist()
    assert jax.vmap(mapping(lambda v: v + 1))(grid).tolist() == (grid + 1).tolist()


@pytest.mark.parametrize("mapping", ALL, ids=repr)
def test_traced_once_and_compiled_once(mapping: Any) -> None:
    traces = []

    def one(x: Any) -> Any:
        traces.append(1)
        return jnp.square(x)

    program = jax.jit(mapping(one))
    for _ in range(3):
        program(jnp.arange(7.0))
    assert len(traces) == 1 and program._cache_size() == 1


def test_padding_has_no_gradient() -> None:
    def one(x: Any) -> Any:
        return jnp.where(x > 0, jnp.sqrt(x), 0.0)

    # The last row's own gradient is 0 · inf; those before it, and none of the copies, must not see it.
    grads = jax.grad(lambda x: chunked(4)(one)(x)[:4].sum())(jnp.array([1.0, 1.0, 1.0, 4.0, 9.0]))
    np.testing.assert_allclose(grads, [0.5, 0.5, 0.5, 0.25, 0.0])
    weights = jax.grad(lambda x: (chunked(4)(jnp.square)(x) * jnp.arange(5.0)).sum())(jnp.ones(5))
    assert weights.tolist() == [0, 2, 4, 6, 8]


def test_strategies_are_values() -> None:
    every = [*ALL, chunked(3)]
    for i, one in enumerate(every):
        for j, two in enumerate([copy.deepcopy(m) for m in every]):
            assert (one == two) == (i == j)
            assert (fingerprint(one) == fingerprint(two)) == (i == j)
            assert i != j or hash(one) == hash(two)
    assert chunked(np.int64(4)) == chunked(4)
    assert [repr(m) for m in ALL[:5]] == ["vmapped", "looped", "unrolled", "chunked(1)", "chunked(2)"]
    assert repr(chunked(2, looped)) == "chunked(2, inner=looped)"


def test_fit_and_sample_run_under_any() -> None:
    x, y = np.asarray(ROWS), np.arange(6.0)
    one = uq.methods.map_estimate(network("linen", "mlp"), uq.likelihoods.Gaussian())
    settings: Any = {"key": 0, "epochs": 1, "progress": False, "validation": 0}
    want = uq.fit(uq.ensemble(one, 5), (x, y), **settings)
    got = uq.fit(uq.ensemble(one, 5, mapping=chunked(2)), (x, y), **settings)
    for a, b in zip(jax.tree.leaves(got.state), jax.tree.leaves(want.state), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_what_does_not_fit() -> None:
    for wrong in (0, -1, True, 2.0, "2", None):
        with pytest.raises(uq.InputError, match=r"`num` expected a whole number of at least 1, but it is"):
            chunked(wrong)  # type: ignore[arg-type]
    with pytest.raises(uq.InputError, match=r"`inner` expected a strategy, one of uq.execution.vmapped.* got 'looped'"):
        chunked(2, "looped")  # type: ignore[arg-type]
    one = uq.methods.map_estimate(network("linen", "mlp"), uq.likelihoods.Gaussian())
    with pytest.raises(uq.InputError, match=r"`mapping` expected a strategy, one of .* but got 'vmapped'"):
        uq.ensemble(one, 2, mapping="vmapped")  # type: ignore[arg-type]
    with pytest.raises(uq.InputError, match=r"got `chunked` without its size; write chunked\(4\)"):
        uq.ensemble(one, 2, mapping=chunked)  # type: ignore[arg-type]
    with pytest.raises(uq.InputError, match=r"chunked\(4\) expected a function of one member, but got a int"):
        chunked(4)(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("mapping", ALL, ids=repr)
def test_axes_that_do_not_fit(mapping: Any) -> None:
    run = mapping(lambda a, b: a)
    with pytest.raises(uq.InputError, match=r"argument 0 at `w/a` has 2 and argument 1 has 3"):
        run({"w": {"a": jnp.ones((2, 1))}}, jnp.ones(3))
    with pytest.raises(uq.InputError, match=r"argument 1 is a scalar; close over what is the same for all"):
        run(jnp.ones(2), 3.0)
    with pytest.raises(uq.InputError, match=r"at least one entry along the leading axis, but there are 0"):
        run(jnp.ones((0, 3)), jnp.ones(0))
    with pytest.raises(uq.InputError, match=r"expected an array with a leading axis to run along, but there is none"):
        run(None, ())
