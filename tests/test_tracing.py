"""Our own arithmetic traced as it is: the same numbers, without a `jit` around every operation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import uq
from uq import holdout, method
from uq._tracing import straight
from uq.likelihoods import Bernoulli, Categorical, Gaussian, HomoscedasticGaussian

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (6, 4)).astype(np.float32)
POSITIVE = np.array([0.5, 1.0, 0.0, 2.0, 1.5, 1.0], np.float32)


def calls(jaxpr):
    """How many operations of a jaxpr are programs of their own."""
    return sum(eqn.primitive.name in ("jit", "pjit") for eqn in jaxpr.jaxpr.eqns)


def chain(x, *, shift=0.0):
    return jnp.where(x > shift, jnp.square(x - shift), jnp.linalg.norm(x) / x).mean(-1)


def test_operations_are_traced_as_they_are():
    plain = jax.make_jaxpr(chain)(X)
    assert calls(plain) > 0
    assert calls(jax.make_jaxpr(straight(chain))(X)) == 0


@pytest.mark.parametrize("shift", [0.0, 2.5])
def test_numbers_are_the_same_under_every_transformation(shift):
    quick = straight(chain)
    np.testing.assert_array_equal(
        jax.jit(lambda x: quick(x, shift=shift))(X), jax.jit(lambda x: chain(x, shift=shift))(X)
    )
    for turn in (jax.grad, jax.hessian):
        both = [jax.jit(jax.vmap(turn(lambda x, f=f: f(x, shift=shift)))) for f in (quick, chain)]
        np.testing.assert_allclose(both[0](X), both[1](X), rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(quick(X, shift=shift), chain(X, shift=shift))


def test_where_numbers_are_known_the_function_is_as_it_was():
    seen = []

    @straight
    def record(x):
        seen.append(jax.config.jax_disable_jit)
        return x

    record(X)
    jax.grad(lambda x: record(x).sum())(X)
    jax.jit(record)(X)
    jax.jit(jax.grad(lambda x: record(x).sum()))(X)
    assert seen == [False, False, True, True]
    assert not jax.config.jax_disable_jit


OWN = {
    "weighted mean": lambda x: method.weighted_mean(x[:, 0], POSITIVE),
    "an example": method.per_example,
    "finite": lambda x: method.all_finite({"a": x, "b": x[0]}),
    "gaussian": lambda x: Gaussian().log_prob(x[:, :2], x[:, 2]),
    "gaussians": lambda x: Gaussian(2).log_prob(x, x[:, :2]),
    "one variance": lambda x: HomoscedasticGaussian().log_prob(x[:, :2], x[:, 2]),
    "classes": lambda x: Categorical(4).log_prob(x, np.array([0, 1, 2, 3, 0, 1])),
    "yes or no": lambda x: Bernoulli().log_prob(x[:, :1], np.array([0, 1, 1, 0, 1, 0])),
    "one cycle": lambda x: uq.optimizers.one_cycle(weight_decay=0.1).update(
        {"w": x, "b": x[0]}, uq.optimizers.one_cycle().init({"w": X, "b": X[0]}), {"w": x, "b": x[0]}, progress=x[0, 0]
    ),
    "applied": lambda x: uq.optimizers.apply_updates({"w": x}, {"w": 2 * x}),
}


@pytest.mark.parametrize("name", OWN)
def test_what_training_uses_is_traced_as_it_is(name):
    assert calls(jax.make_jaxpr(OWN[name])(X)) == 0


@pytest.mark.parametrize("name", OWN)
def test_what_training_uses_gives_the_same_traced_and_called(name):
    jitted, eager = jax.jit(OWN[name])(X), OWN[name](jnp.asarray(X))
    for a, b in zip(jax.tree.leaves(jitted), jax.tree.leaves(eager), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-6)


class Scanned(Gaussian):
    """A user's own, with a loop."""

    def parameters(self, outputs):
        mean, scale = super().parameters(outputs)
        return jax.lax.scan(lambda total, _: (total + 1, jax.config.jax_disable_jit), mean, None, length=0)[0], scale


def test_what_a_user_writes_is_not_reached():
    law = Scanned()  # a loop of no rounds cannot run under `jax.disable_jit`
    got = jax.jit(lambda x: law.log_prob(x[:, :2], x[:, 2]))(X)
    np.testing.assert_allclose(got, Gaussian().log_prob(X[:, :2], X[:, 2]), rtol=1e-6)


def test_optax_applies_updates_likewise():
    params, updates = {"w": jnp.asarray(X)}, {"w": jnp.asarray(X[::-1])}
    np.testing.assert_array_equal(
        jax.jit(uq.optimizers.apply_updates)(params, updates)["w"], optax.apply_updates(params, updates)["w"]
    )


def test_a_generator_begun_again_is_a_new_one():
    words, bits = (7, 8), np.random.Philox(3)
    bits.random_raw(3)  # whatever was left over is dropped
    for k, epoch in ((0, 0), (5, 2), (0, 0)):
        holdout._begin_again(bits, holdout._member_key(words, 1, k), epoch)
        np.testing.assert_array_equal(bits.random_raw(9), holdout.generator(words, 1, k, epoch).random_raw(9))
