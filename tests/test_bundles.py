"""Leaves joined to vectors, and what is computed on them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq.execution._bundles import bundled, bundled_scalars, unbundled
from uq.method import all_finite

RNG = np.random.default_rng(3)
LARGE = 2**14 + 8
TREE = {
    "bias": jnp.asarray(RNG.normal(3, 2, 5), jnp.float32),
    "half": jnp.asarray(RNG.normal(3, 2, (2, 3)), jnp.bfloat16),
    "kernel": jnp.asarray(RNG.normal(3, 2, (3, 5)), jnp.float32),
    "large": jnp.asarray(RNG.normal(3, 2, (2, LARGE // 2)), jnp.float32),
    "none": jnp.zeros((0, 4)),
    "scalar": jnp.float32(1.5),
}


def test_there_and_back_again():
    bundles = bundled(TREE)
    assert [bundle.shape for bundle in bundles] == [(5 + 15 + 0 + 1,), (2, 3), (2, LARGE // 2)]
    back = unbundled(bundles, TREE)
    assert jax.tree.structure(back) == jax.tree.structure(TREE)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(TREE), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    assert bundled({}) == [] and unbundled([], {}) == {}


def test_scalars_are_spread_to_their_leaves():
    first, half, large = bundled_scalars(dict(zip(TREE, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], strict=True)), TREE)
    np.testing.assert_array_equal(first, [1.0] * 5 + [3.0] * 15 + [6.0])
    assert (half, large) == (2.0, 4.0)
    assert bundled_scalars(jax.tree.map(lambda _: 7.0, TREE), TREE) == [7.0] * 3


@pytest.mark.parametrize("where", ["bias", "half", "kernel", "large", "scalar"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_anywhere_is_seen(where, bad):
    assert bool(all_finite(TREE)) and bool(all_finite({}))
    assert not bool(all_finite({**TREE, where: TREE[where].at[(0,) * TREE[where].ndim].set(bad)}))


def test_the_default_optimizer_on_joined_leaves_is_adamw_on_each():
    """Small, large and half-precision leaves, and a rate for each fan-in; past the peak of the schedule."""
    tree = {name: leaf for name, leaf in TREE.items() if name != "none"}
    peak, decay, at, warmup = 0.02, 0.3, 0.7, 0.2
    rate = peak * 0.5 * (1 + np.cos(np.pi * (at - warmup) / (1 - warmup)))
    ours = uq.optimizers.one_cycle(peak, weight_decay=decay, fan_in=2, warmup=warmup, clip=1e9)
    state = ours.init(tree)
    grads = [jax.tree.map(lambda leaf, k=k: jnp.asarray(k, leaf.dtype) * leaf, tree) for k in (1.0, -0.5, 2.0)]
    for each in grads:
        got, state = ours.update(each, state, tree, progress=jnp.float32(at))
    for name, leaf in tree.items():
        share = 1.0 if leaf.ndim < 2 else min(1.0, np.sqrt(2 / np.prod(leaf.shape[:-1])))
        mean, square = 0.0, 0.0
        for each in grads:
            g = np.asarray(each[name], np.float64)
            mean, square = 0.9 * mean + 0.1 * g, 0.99 * square + 0.01 * g**2
        change = (mean / (1 - 0.9**3)) / (np.sqrt(square / (1 - 0.99**3)) + 1e-8)
        want = -rate * share * (change + decay * np.asarray(leaf, np.float64))
        tolerance = 5e-2 if leaf.dtype == jnp.bfloat16 else 2e-5
        np.testing.assert_allclose(np.asarray(got[name], np.float64), want, rtol=tolerance, atol=1e-7)


def test_the_schedule_is_a_cosine():
    ours = uq.optimizers.one_cycle(1.0, warmup=0.25, fan_in=None)
    params = {"w": jnp.ones(3)}
    state = ours.init(params)
    at = np.linspace(0, 1, 101, dtype=np.float32)
    steps = jax.vmap(lambda p: ours.update(params, state, params, progress=p)[0]["w"][0])(jnp.asarray(at))
    want = np.where(at < 0.25, at / 0.25, 0.5 * (1 + np.cos(np.pi * (at - 0.25) / 0.75)))
    np.testing.assert_allclose(-np.asarray(steps), want, atol=2e-6)
    assert float(steps[-1]) == 0
