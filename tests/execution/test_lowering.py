"""Lowered convolutions equal the library's: outputs, gradients, inside every operation that may hold them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.extend.core import jaxprs_in_params

import uq
from uq.execution.lowering import has_convolution, lowered

QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
"""Compiler options: these programs run once."""
NHWC = ("NHWC", "HWIO", "NHWC")


def normal(seed, *shape, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def run(function, *args):
    return uq.execution.compiled(jax.jit(function).lower(*args), QUICK)(*args)


def assert_close(got, want, tolerance=1e-5):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for g, w in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (g.shape, g.dtype) == (w.shape, w.dtype)
        g, w = np.asarray(g, np.float64), np.asarray(w, np.float64)
        assert np.abs(g - w).max() <= tolerance * max(np.abs(w).max(), 1e-30)


def equations(jaxpr):
    """All operations of a jaxpr, inner ones included."""
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def convolutions(function, *args):
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return sum(eqn.primitive.name == "conv_general_dilated" for eqn in equations(jaxpr))


def conv(x, w, strides=(1, 1), padding="SAME", **more):
    return lax.conv_general_dilated(x, w, strides, padding, dimension_numbers=NHWC, **more)


@st.composite
def cases(draw):
    """Arguments of `conv_general_dilated` whose output is not empty."""
    n = draw(st.integers(1, 3))

    def each(low, high):
        return draw(st.lists(st.integers(low, high), min_size=n, max_size=n))

    space = each(3, (9, 7, 4)[n - 1])
    kernel = each(1, 3) if draw(st.integers(0, 3)) else [size - draw(st.integers(0, 1)) for size in space]
    strides, stretch, dilation = (each(1, 3) if draw(st.booleans()) else [1] * n for _ in range(3))
    padding = list(zip(each(-1, 2), each(-1, 2), strict=True))
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    inputs, features = groups * draw(st.sampled_from([1, 2, 6])), groups * draw(st.integers(1, 3))
    spec = lax.ConvDimensionNumbers(*(tuple(draw(st.permutations(range(n + 2)))) for _ in range(3)))
    around = zip(space, kernel, stretch, dilation, padding, strict=True)
    if any((size - 1) * s + 1 + sum(p) < (k - 1) * d + 1 for size, k, s, d, p in around):
        padding = [((k - 1) * d, (k - 1) * d) for k, d in zip(kernel, dilation, strict=True)]
    x, w = [0] * (n + 2), [0] * (n + 2)
    for where, size in zip(spec.lhs_spec, (draw(st.integers(1, 3)), inputs, *space), strict=True):
        x[where] = size
    for where, size in zip(spec.rhs_spec, (features, inputs // groups, *kernel), strict=True):
        w[where] = size
    return (
        x,
        w,
        {
            "window_strides": strides,
            "padding": padding,
            "lhs_dilation": stretch,
            "rhs_dilation": dilation,
            "dimension_numbers": spec,
            "feature_group_count": groups,
        },
    )


def outputs_and_gradients(function, x, w, ct):
    y, pull = jax.vjp(function, x, w)
    return y, *pull(ct(y) if callable(ct) else ct)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(case=cases(), dtype=st.sampled_from(["float32", "float64"]))
def test_any_convolution_and_its_gradients_equal_the_library(case, dtype):
    shape_x, shape_w, params = case
    with jax.enable_x64(True):
        x, w = normal(0, *shape_x, dtype=dtype), normal(1, *shape_w, dtype=dtype)

        def function(x, w):
            return lax.conv_general_dilated(x, w, **params)

        assert has_convolution(function, x, w)
        assert not convolutions(lowered(function), x, w)
        ct = normal(2, *jax.eval_shape(function, x, w).shape, dtype=dtype)

        def both(f, x, w, ct):
            return outputs_and_gradients(f, x, w, ct)

        inside = lowered(functools.partial(both, function))  # the gradients are convolutions here
        want, got, late = run(lambda *a: (both(function, *a), both(lowered(function), *a), inside(*a)), x, w, ct)
        assert_close(got, want, {"float32": 1e-5, "float64": 1e-12}[dtype])
        assert_close(late, want, {"float32": 1e-5, "float64": 1e-12}[dtype])


@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize("channels", [1, 6])
def test_every_form_agrees_and_differentiates_twice_in_both_modes(strides, channels):
    x, w = normal(0, 2, 7, 6, channels), normal(1, 3, 3, channels, 4)
    v = normal(2, *w.shape)

    def scores(f, x, w, v):
        def loss(x, w):
            return jnp.sum(jnp.sin(f(x, w)))

        def slope(w):
            return jax.jvp(lambda w: loss(x, w), (w,), (v,))[1]

        return slope(w), jax.grad(slope)(w), jax.jvp(jax.grad(lambda w: loss(x, w)), (w,), (v,))[1]

    f = functools.partial(conv, strides=(strides, strides))
    want, got = run(lambda *a: (scores(f, *a), scores(lowered(f), *a)), x, w, v)
    assert_close(got, want)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_rounds_once(dtype):
    x, w = normal(0, 2, 9, 9, 8, dtype=dtype), normal(1, 3, 3, 8, 4, dtype=dtype)
    got = run(lambda x, w: outputs_and_gradients(lowered(conv), x, w, jnp.ones_like), x, w)
    x, w = x.astype("float32"), w.astype("float32")
    want = run(lambda x, w: outputs_and_gradients(conv, x, w, jnp.ones_like), x, w)
    assert [g.dtype for g in got] == [jnp.dtype(dtype)] * 3
    bits = float(jnp.finfo(dtype).eps)
    assert_close([g.astype("float32") for g in got], list(want), bits)


def test_preferred_element_type_is_obeyed():
    x, w = normal(0, 2, 5, 5, 8, dtype="bfloat16"), normal(1, 3, 3, 8, 4, dtype="bfloat16")
    f = functools.partial(conv, preferred_element_type=jnp.float32)
    assert_close(run(lowered(f), x, w), run(f, x, w))


@pytest.mark.parametrize(
    "unknown",
    [
        lambda x, w: conv(x.astype("complex64"), w.astype("complex64")),
        lambda x, w: conv(x.astype("int32"), w.astype("int32")),
        lambda x, w: conv(x, w, batch_group_count=2),
    ],
)
def test_what_is_not_known_stays_the_librarys(unknown):
    x, w = normal(0, 2, 5, 5, 3), normal(1, 3, 3, 3, 4)
    assert not has_convolution(unknown, x, w)
    assert convolutions(lowered(unknown), x, w) == 1


def test_without_a_convolution_the_function_itself_runs():
    calls = []

    def f(tree, *, scale):
        calls.append(None)
        return {"a": jnp.sin(tree["x"]) @ tree["w"] * scale}, None

    tree = {"x": normal(0, 5, 3), "w": normal(1, 3, 2)}
    assert not has_convolution(f, tree, scale=2.0)
    got, want = lowered(f)(tree, scale=2.0), f(tree, scale=2.0)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    np.testing.assert_array_equal(got[0]["a"], want[0]["a"])


def test_shapes_are_enough_to_look():
    x, w = jax.ShapeDtypeStruct((2, 5, 5, 3), jnp.float32), jax.ShapeDtypeStruct((3, 3, 3, 4), jnp.float32)
    assert has_convolution(conv, x, w)
    assert has_convolution(lambda x, w: jax.grad(lambda w: conv(x, w).sum())(w), x, w)


def recurrent(x, w):
    return lax.scan(lambda h, x: (jnp.tanh(conv(h, w) + x), h.sum()), jnp.zeros_like(x), jnp.stack([x, x * 2]))


def repeated(x, w):
    return lax.fori_loop(0, 2, lambda i, h: jnp.tanh(conv(h, w)), x)


def branched(x, w):
    return lax.cond(x.sum() > 0, lambda x: conv(x, w), lambda x: x * w.sum(), x)


def checkpointed(x, w):
    return jax.checkpoint(lambda x: jnp.tanh(conv(jnp.tanh(conv(x, w)), w)))(x)


def compiled_inside(x, w):
    return jax.jit(lambda x: jax.nn.silu(jax.nn.relu(conv(x, w)) - 0.1))(x)


def while_condition(x, w):
    return lax.while_loop(lambda h: conv(h, w).max() < 3, lambda h: h * 2, x)


@jax.custom_jvp
def with_jvp(x, w):
    return conv(x, w)


@with_jvp.defjvp
def _(primals, tangents):
    (x, w), (dx, dw) = primals, tangents
    return with_jvp(x, w), 3 * (conv(dx, w) + conv(x, dw))  # wrong on purpose: the rule must be the one used


@jax.custom_vjp
def with_vjp(x, w):
    return conv(x, w)


with_vjp.defvjp(lambda x, w: (conv(x, w), (x, w)), lambda kept, ct: (kept[0] * 5 * ct.sum(), kept[1] * 7))


@pytest.mark.parametrize(
    "function",
    [recurrent, repeated, branched, checkpointed, compiled_inside, with_jvp, with_vjp],
)
def test_convolutions_inside_other_operations(function):
    x, w = normal(0, 2, 5, 5, 5), normal(1, 3, 3, 5, 5) / 5
    assert has_convolution(function, x, w)
    assert not convolutions(lowered(function), x, w)

    def gradients(function, x, w):
        def total(x, w):
            return sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(function(x, w)))

        return jax.value_and_grad(total, (0, 1))(x, w)

    assert not convolutions(functools.partial(gradients, lowered(function)), x, w)

    def both(f, x, w):
        return (f(x, w), gradients(f, x, w))

    want, got = run(lambda *a: (both(function, *a), both(lowered(function), *a)), x, w)
    assert_close(got, want)


def test_a_convolution_in_the_condition_of_a_loop():
    x, w = normal(0, 2, 5, 5, 5), normal(1, 3, 3, 5, 5)
    assert not convolutions(lowered(while_condition), x, w)
    assert_close(run(lowered(while_condition), x, w), run(while_condition, x, w))


def test_checkpoint_stays():
    x, w = normal(0, 2, 5, 5, 5), normal(1, 3, 3, 5, 5)
    names = {e.primitive.name for e in equations(jax.make_jaxpr(lowered(checkpointed))(x, w).jaxpr)}
    assert names & {"remat", "remat2", "checkpoint"}


class CNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(x))
        x = nn.silu(nn.Conv(6, (1, 3))(x))
        x = nn.ConvTranspose(4, (3, 3), strides=(2, 2))(x)
        return nn.Dense(3)(x.reshape(x.shape[0], -1))


class Separable(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(6, (3, 3))(x)
        x = nn.relu(nn.Conv(12, (3, 3), strides=2, feature_group_count=6)(x))
        return nn.Conv(4, (1, 1))(x)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (3, 3), use_bias=False)(x)
        y = nn.relu(nn.BatchNorm(use_running_average=False)(x))
        y = nn.BatchNorm(use_running_average=False)(nn.Conv(8, (3, 3), use_bias=False)(y))
        return nn.relu(x + y)


@pytest.mark.parametrize("net", [CNN(), Separable(), Block()], ids=lambda n: type(n).__name__)
def test_linen_networks(net):
    x = normal(0, 3, 8, 8, 2)
    variables = run(net.init, jax.random.key(0), x)

    def loss(variables, x):
        out, state = net.apply(variables, x, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(out)), state

    assert not convolutions(lowered(loss), variables, x)

    def grads(f):
        return jax.value_and_grad(f, has_aux=True)

    want, got = run(lambda *a: (grads(loss)(*a), grads(lowered(loss))(*a)), variables, x)
    assert_close(got, want)


def test_nnx_network():
    graph, params, rest = nnx.split(
        nnx.Sequential(nnx.Conv(2, 8, (3, 3), rngs=nnx.Rngs(0)), nnx.BatchNorm(8, rngs=nnx.Rngs(0)), nnx.relu),
        nnx.Param,
        ...,
    )

    def loss(params, rest, x):
        model = nnx.merge(graph, params, rest, copy=True)
        out = jnp.sum(jnp.sin(model(x)))
        return out, nnx.split(model, nnx.Param, ...)[2]

    args = params, rest, normal(0, 3, 8, 8, 2)

    def grads(f):
        return jax.value_and_grad(f, has_aux=True)

    assert_close(run(grads(lowered(loss)), *args), run(grads(loss), *args))


def test_members_that_share_an_input_share_its_patches():
    members = 7
    for channels in (1, 6):
        for strides in (1, 2):
            x, w = normal(0, 3, 8, 8, channels), normal(1, members, 3, 3, channels, 4)
            f = lowered(functools.partial(conv, strides=(strides, strides)))
            mapped = jax.vmap(f, (None, 0))
            eqns = list(equations(jax.make_jaxpr(mapped)(x, w).jaxpr))
            joined = [e for e in eqns if e.primitive.name == "concatenate"]
            assert joined and all(members not in v.aval.shape for e in joined for v in e.outvars)
            assert_close(run(mapped, x, w), jnp.stack([run(f, x, each) for each in w]))


def test_mapped_and_looped_members_agree():
    x, w = normal(0, 4, 3, 8, 8, 5), normal(1, 4, 3, 3, 5, 4)
    grad = jax.grad(lambda args: jnp.sum(jnp.sin(lowered(conv)(*args))))
    mapped, looped = run(lambda *a: (jax.vmap(grad)(a), lax.map(grad, a)), x, w)
    assert_close(mapped, looped)


def test_compiles_once():
    traced = []

    @jax.jit
    def f(x, w):
        traced.append(None)
        return lowered(conv)(x, w)

    x, w = normal(0, 2, 5, 5, 3), normal(1, 3, 3, 3, 4)
    f(x, w)
    f(x + 1, w)
    assert len(traced) == 1
