"""Members: keys, batched init and its traps, and how networks are taken, stacked, joined and picked."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq

from .nets import OneFlag, mlp, nnx_net, raw_apply, raw_init


def same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == two.dtype
        assert np.array_equal(one, two)


@pytest.mark.parametrize("net", [nn.Dense(2), mlp()], ids=["dense", "mlp"])
def test_batched_init_is_vmapped_init(net: nn.Module) -> None:
    x = jnp.ones((5, 4))
    keys = jax.random.split(jax.random.key(3), 5)  # as many keys as rows: x must not be mapped
    want = jax.vmap(net.init, in_axes=(0, None))(keys, x)["params"]
    got = uq.batched_init(net, keys, x, 5)
    same(got.params, want)
    assert got.state == {}
    for leaf, one in zip(jax.tree.leaves(got.params), jax.tree.leaves(net.init(keys[2], x)["params"]), strict=True):
        assert np.array_equal(leaf[2], one)


def test_the_example_is_shared_whatever_its_leading_axis() -> None:
    for rows in (1, 3, 7):
        params = uq.batched_init(nn.Dense(2), 0, jnp.ones((rows, 4)), 3).params
        assert params["kernel"].shape == (3, 4, 2)
        assert params["bias"].shape == (3, 2)
    one = uq.batched_init(nn.Dense(2), 0, jnp.ones(4), 3).params
    assert one["kernel"].shape == (3, 4, 2)


def test_member_k_does_not_depend_on_how_many_there_are() -> None:
    few, many = (uq.batched_init(mlp(), 11, jnp.ones((1, 3)), size) for size in (4, 16))
    same(uq.take(few, 3), uq.take(many, 3))
    assert not np.array_equal(few.params["layers_0"]["kernel"][2], few.params["layers_0"]["kernel"][3])
    keys = uq.member_keys(jax.random.key(11), 4)
    want = jax.random.fold_in(jax.random.key(11), 3)
    assert np.array_equal(jax.random.key_data(keys[3]), jax.random.key_data(want))


def test_old_and_new_keys_and_seeds_agree() -> None:
    x = jnp.ones((1, 3))
    typed = uq.batched_init(mlp(), jax.random.key(5), x, 3)
    same(typed, uq.batched_init(mlp(), jax.random.PRNGKey(5), x, 3))
    same(typed, uq.batched_init(mlp(), 5, x, 3))
    same(typed, uq.batched_init(mlp(), np.int64(5), x, 3))
    split = uq.batched_init(mlp(), jax.random.split(jax.random.key(5), 3), x, 3)
    same(split, uq.batched_init(mlp(), jax.random.split(jax.random.PRNGKey(5), 3), x, 3))


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey], ids=["typed", "old"])
def test_keys_that_would_fail_in_silence(make: Any) -> None:
    x = jnp.ones((1, 3))
    with pytest.raises(uq.InputError, match=r"Expected one key, or 4 keys \(one a member\), but got keys of shape"):
        uq.batched_init(mlp(), jax.random.split(make(0), 3), x, 4)
    keys = jax.random.split(make(0), 4)
    with pytest.raises(uq.InputError, match=r"Keys 1 and 3 are the same, so those members would be the same netw"):
        uq.batched_init(mlp(), keys[jnp.array([0, 1, 2, 1])], x, 4)


@pytest.mark.parametrize("key", [1.5, "seed", True, np.zeros((2, 2)), np.uint32(3)])
def test_what_is_not_a_key(key: Any) -> None:
    if isinstance(key, np.uint32):
        assert uq.member_keys(key, 2).shape == (2,)
        return
    with pytest.raises(uq.InputError, match=r"`key` expected a key .*or an int seed, but"):
        uq.member_keys(key, 2)


def test_an_old_key_of_the_wrong_width() -> None:
    with pytest.raises(uq.InputError, match=r"`key` expected an old-style key of the default generator"):
        uq.member_keys(np.zeros(3, np.uint32), 2)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3"])
def test_sizes_are_whole_numbers(size: Any) -> None:
    with pytest.raises(uq.InputError, match=r"`size` expected a whole number of at least 1, but it is"):
        uq.batched_init(mlp(), 0, jnp.ones((1, 3)), size)


def test_batched_init_under_jit_checks_shapes_alone() -> None:
    made = jax.jit(lambda keys: uq.batched_init(mlp(), keys, jnp.ones((1, 3)), 2))(
        jax.random.split(jax.random.key(0), 2)
    )
    assert uq.num_members(made) == 2


@pytest.mark.parametrize("adapter", ["linen", "nnx", "pair"])
def test_every_adapter_gains_the_member_axis(adapter: str) -> None:
    net = {"linen": OneFlag(), "nnx": nnx_net(), "pair": (raw_init, raw_apply)}[adapter]
    made = uq.batched_init(net, 0, jnp.ones((2, 3)), 4)
    assert uq.num_members(made) == 4
    for leaf in jax.tree.leaves(made.params):
        assert leaf.shape[0] == 4
    kernels = [leaf for leaf in jax.tree.leaves(made.params) if leaf.ndim == 3]
    assert len(kernels) == 2
    assert all(not np.array_equal(kernel[0], kernel[1]) for kernel in kernels)


@pytest.mark.parametrize(("seed", "num_inits", "features"), [(0, 5, 3), (42, 1, 1), (7, 10, 32)])
def test_batched_init_param_count(seed: int, num_inits: int, features: int) -> None:
    count = uq.batched_init_param_count(seed, num_inits, features)
    assert count.shape == (3,)
    assert count.dtype == jnp.float32
    assert count.tolist() == [num_inits, features, num_inits]


def test_batched_init_param_count_refuses_nonsense() -> None:
    with pytest.raises(uq.InputError, match=r"`num_inits` expected a whole number of at least 1"):
        uq.batched_init_param_count(0, 0, 3)
    with pytest.raises(uq.InputError, match=r"`features` expected a whole number"):
        uq.batched_init_param_count(0, 2, 1.5)  # type: ignore[arg-type]


# take, stack, concatenate, best

TREE = {"w": jnp.arange(12.0).reshape(4, 3) + 100, "b": jnp.arange(4) * 10}


def test_take() -> None:
    assert uq.take(TREE, 1)["w"].tolist() == [103, 104, 105]
    assert uq.take(TREE, -1)["b"] == 30
    assert uq.take(TREE, [3, 0])["b"].tolist() == [30, 0]
    assert uq.take(TREE, slice(1, 3))["w"].shape == (2, 3)
    with pytest.raises(uq.InputError, match=r"There are 4 members \(0 to 3\), but member 4 was asked for"):
        uq.take(TREE, 4)


def test_take_keeps_weights_origins_and_the_shared_part() -> None:
    keys = jax.random.split(jax.random.key(0), 4)
    members = uq.Members(
        uq.Variables(TREE),
        {"trunk": jnp.ones(2)},
        keys,
        jnp.array([0.5, 0.25, 0.25, 0.0]),
        jnp.array([0, 0, 1, 1]),
    )
    two = uq.take(members, [0, 2])
    assert np.allclose(two.weight, [2 / 3, 1 / 3])
    assert two.origin.tolist() == [0, 1]
    assert two.shared["trunk"].shape == (2,)
    assert np.array_equal(jax.random.key_data(two.key), jax.random.key_data(keys[jnp.array([0, 2])]))
    assert uq.num_members(uq.take(members, 1)) == 1
    bare = uq.take(uq.Members(uq.Variables(TREE)), slice(2, 4))
    assert bare.weight is None and bare.origin.tolist() == [2, 3]


def test_stack_and_concatenate() -> None:
    parts = [uq.take(TREE, i) for i in range(4)]
    same(uq.stack(parts), TREE)
    same(uq.concatenate([uq.take(TREE, slice(0, 1)), uq.take(TREE, slice(1, 4))]), TREE)
    with pytest.raises(uq.InputError, match=r"`stack` expected at least one network"):
        uq.stack([])
    with pytest.raises(uq.InputError, match=r"`concatenate` expected at least one ensemble"):
        uq.concatenate([])
    with pytest.raises(uq.InputError, match=r"Network 1 differs from network 0 at `w`: \(2,\) against \(3,\)"):
        uq.stack([parts[0], {"w": jnp.ones(2), "b": jnp.ones(())}])
    with pytest.raises(uq.InputError, match=r"Ensemble 1 differs from ensemble 0 at `c`: \(\) against no such leaf"):
        uq.concatenate([TREE, {**TREE, "c": jnp.ones(4)}])


def test_concatenated_members_share_out_their_weight() -> None:
    one = uq.Members(uq.Variables(uq.take(TREE, slice(0, 1))))
    three = uq.Members(
        uq.Variables(uq.take(TREE, slice(1, 4))),
        weight=jnp.array([0.5, 0.5, 0.0]),
        origin=jnp.array([0, 0, 2]),
    )
    both = uq.concatenate([one, three])
    assert np.allclose(both.weight, [0.25, 0.375, 0.375, 0.0])
    assert both.origin.tolist() == [0, 1, 1, 3]
    same(both.variables.params, TREE)
    keyed = one._replace(key=jax.random.split(jax.random.key(0), 1))
    with pytest.raises(uq.InputError, match="cannot join members with their own randomness and members without"):
        uq.concatenate([keyed, three])
    with pytest.raises(uq.InputError, match="cannot join members that share a common part"):
        uq.concatenate([one._replace(shared={"t": jnp.ones(1)}), three])


def test_unequal_leading_axes_are_named() -> None:
    with pytest.raises(uq.InputError, match=r"`a` has 4 and `b` has 5\. Did you concatenate .* Use `uq.stack`"):
        uq.num_members({"a": jnp.ones((4, 2)), "b": jnp.ones((5, 2))})
    with pytest.raises(uq.InputError, match=r"lead with the member axis, but `a` is a scalar"):
        uq.num_members({"a": jnp.ones(())})
    with pytest.raises(uq.InputError, match="there is no array in them"):
        uq.num_members({})


def test_best() -> None:
    assert uq.best(TREE, [0.3, jnp.nan, 0.1, 0.2])["b"] == 20
    assert uq.best(TREE, [jnp.inf, jnp.nan, 5.0, 1e9])["b"] == 20
    assert jax.jit(uq.best)(TREE, jnp.array([3.0, 1.0, 2.0, jnp.nan]))["b"] == 10
    with pytest.raises(uq.InputError, match=r"one score for each of the 4 members, but got shape \(3,\)"):
        uq.best(TREE, [1.0, 2.0, 3.0])
    with pytest.raises(uq.InputError, match="at least one finite score, but every member's is NaN or infinite"):
        uq.best(TREE, [jnp.nan] * 4)


@pytest.mark.parametrize("seed", [0, 1, 7, 2**31, 2**32 - 1])
def test_a_seed_is_the_key_that_jax_makes_of_it(seed: int) -> None:
    ours, theirs = uq.members.as_key(seed), jax.random.key(np.uint32(seed))
    assert ours.dtype == theirs.dtype
    assert np.array_equal(jax.random.key_data(ours), jax.random.key_data(theirs))
