"""Products of narrow matrices written in another way equal the library's, wherever a program holds them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.extend.core import jaxprs_in_params

import uq
from uq.execution.lowering import with_narrow_products

SIDES = (1, 2, 3, 4, 6, 7, 8, 10, 16, 17, 34)


def matrix(seed, *shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).normal(3, 2, size=shape), dtype)


def primitives(jaxpr):
    """Names of all operations of a jaxpr, inner ones included."""
    names = []
    for eqn in jaxpr.eqns:
        names.append(eqn.primitive.name)
        for inner in jaxprs_in_params(eqn.params):
            names += primitives(inner)
    return names


def written(function, *args):
    """Whether anything in the function is written in another way."""
    plain = primitives(jax.make_jaxpr(function)(*args).jaxpr)
    return primitives(jax.make_jaxpr(with_narrow_products(function))(*args).jaxpr) != plain


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SIDES), st.sampled_from(SIDES), st.sampled_from(SIDES), st.sampled_from((0, 1)),
    st.sampled_from((0, 1)),
)  # fmt: skip
def test_equals_numpy_for_every_shape_and_orientation(rows, terms, columns, i, j):
    left = matrix(0, *((rows, terms) if i == 1 else (terms, rows)))
    right = matrix(1, *((terms, columns) if j == 0 else (columns, terms)))

    def product(a, b):
        return lax.dot_general(a, b, (((i,), (j,)), ((), ())))

    a, b = (np.asarray(m, np.float64) for m in (left, right))
    want = (a if i == 1 else a.T) @ (b if j == 0 else b.T)
    got = with_narrow_products(product)(left, right)
    assert got.shape == want.shape and got.dtype == jnp.float32
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.parametrize("outputs", [2, 3, 6, 10])
def test_the_gradients_of_a_narrow_layer_are_written_so(outputs):
    h, w = matrix(0, 40, 50), matrix(1, 50, outputs)

    def loss(h, w):
        return jnp.sum(jnp.sin(h @ w / 300))

    gradient = jax.grad(loss, argnums=(0, 1))
    assert written(gradient, h, w)
    for got, want in zip(with_narrow_products(gradient)(h, w), gradient(h, w), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())


def test_what_is_left_to_the_library():
    wide, numbers = matrix(0, 40, 50), jnp.arange(80).reshape(40, 2)
    for function, args in (
        (jnp.dot, (wide, wide.T)),
        (jnp.dot, (wide, matrix(1, 50, 20))),  # forward, over many terms
        (jnp.dot, (numbers, numbers.T)),
        (jnp.dot, (wide.astype(jnp.bfloat16)[:, :2], wide.astype(jnp.bfloat16)[:2])),
        (lambda a, b: jnp.einsum("kij,kjl->kil", a, b), (matrix(2, 3, 4, 2), matrix(3, 3, 2, 5))),
        (lambda a, b: lax.dot(a, b, preferred_element_type=jnp.float64), (wide[:, :2], wide[:2])),
        (jnp.dot, (wide, wide[0])),
        (lambda a: jnp.outer(a, a), (wide[0],)),
    ):
        with jax.enable_x64(True):
            assert not written(function, *args)
            plain, got = function(*args), with_narrow_products(function)(*args)
        assert got.dtype == plain.dtype and np.array_equal(got, plain)


def test_float64_keeps_its_precision():
    with jax.enable_x64(True):
        a, b = matrix(0, 30, 2, dtype="float64"), matrix(1, 2, 30, dtype="float64")
        got = with_narrow_products(jnp.dot)(a, b)
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, np.asarray(a) @ np.asarray(b), rtol=1e-14, atol=1e-14)


def test_inside_calls_loops_and_branches():
    a, b = matrix(0, 30, 2), matrix(1, 2, 30)

    def jitted(a, b):
        return jax.jit(jnp.dot)(a, b)

    def looped(a, b):
        return lax.scan(
            lambda total, row: (total + row[:, None] * (a @ b), None), jnp.zeros((30, 30)), matrix(2, 4, 30)
        )[0]

    def branched(a, b):
        return lax.cond(a.sum() > 0, lambda: a @ b, lambda: b.T @ a.T)

    def again(a, b):
        return jax.checkpoint(jnp.dot)(a, b)

    for function in (jitted, looped, branched, again):
        assert written(function, a, b)
        np.testing.assert_allclose(with_narrow_products(function)(a, b), function(a, b), rtol=1e-5, atol=1e-4)


def test_mapped_over_members_and_without_jit():
    a, b = matrix(0, 3, 30, 2), matrix(1, 3, 2, 30)
    want = np.einsum("kij,kjl->kil", a, b)
    np.testing.assert_allclose(jax.vmap(with_narrow_products(jnp.dot))(a, b), want, rtol=1e-5, atol=1e-5)
    with jax.disable_jit():
        np.testing.assert_allclose(with_narrow_products(jnp.dot)(a[0], b[0]), want[0], rtol=1e-5, atol=1e-5)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(24)(x)))


def test_training_is_the_same_to_rounding(monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.normal(5, 3, (60, 2)).astype(np.float32)
    y = 100 + 20 * np.sin(x[:, 0]) + rng.normal(size=60)

    def weights():
        method = uq.deep_ensemble(Net(), uq.likelihoods.Gaussian(), size=3)
        posterior = uq.fit(method, (x, y), key=0, epochs=3, batch_size=20, strategy="rule")
        return posterior.history.loss, jax.tree.leaves(posterior.state.variables.params)

    asked = []

    def recorded(function):
        asked.append(function)
        return with_narrow_products(function)

    monkeypatch.setattr("uq._training.with_narrow_products", recorded)
    monkeypatch.setattr("uq._preparing._PROGRAMS", uq._cache.ProgramCache())
    loss, got = weights()
    assert asked  # steps of `fit` are written so
    monkeypatch.setattr("uq._training.with_narrow_products", lambda function: function)
    monkeypatch.setattr("uq._preparing._PROGRAMS", uq._cache.ProgramCache())
    plain_loss, want = weights()
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-4)
    for g, w in zip(got, want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-3, atol=1e-4)
