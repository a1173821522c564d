"""What every method in the register must keep, with every likelihood."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import uq
from uq._training import without_optimizer

from ..nets import OneFlag, problem

LIKELIHOODS = {
    "Gaussian": uq.likelihoods.Gaussian(),
    "Gaussian(2)": uq.likelihoods.Gaussian(2),
    "HomoscedasticGaussian": uq.likelihoods.HomoscedasticGaussian(),
    "Categorical": uq.likelihoods.Categorical(3),
    "Bernoulli": uq.likelihoods.Bernoulli(),
}
SIZE, ROWS = 2, 8


def standard(values: np.ndarray) -> np.ndarray:
    return ((values - values.mean(0)) / values.std(0)).astype(np.float32)


class Case:
    """One method with one likelihood: compiled once, read by several tests."""

    def __init__(self, name: str, likelihood: Any) -> None:
        self.likelihood = likelihood
        x, y = problem(likelihood, ROWS)
        self.x = jnp.asarray(standard(x))
        self.y = jnp.asarray(standard(y) if likelihood.task == "regression" else y.astype(np.int32))
        weight = jnp.asarray(np.linspace(0.5, 1.5, ROWS), jnp.float32)
        self.batch = uq.Batch(self.x, self.y, weight, jnp.float32(50.0), jnp.float32(0.25))
        self.net = nn.Dense(likelihood.width)
        self.one = uq.methods.REGISTER[name].factory(self.net, likelihood, optax.sgd(0.1))
        self.many = uq.ensemble(self.one, SIZE)
        self.looped = uq.ensemble(self.one, SIZE, mapping=uq.execution.looped)
        self.traces = 0
        self.key = jax.random.key(5)
        self.init = jax.jit(self.many.init)
        self.sample = jax.jit(self.many.sample, static_argnums=2)
        self.state = self.init(self.key, self.x)

        def update(key: Any, state: Any, batch: Any) -> Any:
            self.traces += 1
            return self.many.update(key, state, batch)

        self.update = jax.jit(update)
        self.before = jax.tree.map(np.asarray, (self.state, self.batch))
        self.new, self.info = self.update(self.key, self.state, self.batch)


@pytest.fixture(scope="module", params=[(m, k) for m in uq.methods.REGISTER for k in LIKELIHOODS], ids="-".join)
def case(request: Any) -> Case:
    name, likelihood = request.param
    return Case(name, LIKELIHOODS[likelihood])


def close(a: Any, b: Any, tolerance: float = 1e-6) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


def same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert one.dtype == two.dtype and np.array_equal(one, two)


def test_a_second_call_does_not_recompile(case: Case) -> None:
    state, _ = case.update(jax.random.key(9), case.new, case.batch._replace(num_data=jnp.float32(9.0)))
    case.update(jax.random.key(2), state, case.batch)
    assert case.traces == 1


def test_the_same_key_gives_the_same_bits(case: Case) -> None:
    same(case.update(case.key, case.state, case.batch), (case.new, case.info))
    same(case.init(case.key, case.x), case.state)
    same(case.sample(case.key, case.new, 2), case.sample(case.key, case.new, 2))


def test_trees_and_dtypes_are_preserved(case: Case) -> None:
    assert jax.tree.structure(case.state) == jax.tree.structure(case.new)
    for old, new in zip(jax.tree.leaves(case.state), jax.tree.leaves(case.new), strict=True):
        assert old.dtype == new.dtype and old.shape == new.shape
        assert new.shape[0] == SIZE
    assert case.info.loss.shape == case.info.finite.shape == (SIZE,)
    assert case.info.loss.dtype == jnp.float32 and bool(case.info.finite.all())


def test_inputs_are_untouched(case: Case) -> None:
    for old, now in zip(jax.tree.leaves(case.before), jax.tree.leaves((case.state, case.batch)), strict=True):
        assert np.array_equal(old, now)


def test_members_differ_and_are_those_of_one_network(case: Case) -> None:
    leaves = [leaf for leaf in jax.tree.leaves(case.state) if leaf.ndim == 3]
    assert leaves and all(not np.array_equal(leaf[0], leaf[1]) for leaf in leaves if leaf.std() > 1e-5)
    keys = uq.member_keys(case.key, SIZE)
    close(case.one.init(keys[1], case.x), jax.tree.map(lambda leaf: leaf[1], case.state))


def test_vmapped_is_looped_in_outputs_gradients_and_a_step(case: Case) -> None:
    """The step is of plain SGD with rate 0.1, so that it holds the gradient."""
    looped, info = jax.jit(case.looped.update)(case.key, case.state, case.batch)
    close(case.new, looped)
    close(case.info.loss, info.loss)
    if not isinstance(case.likelihood, uq.likelihoods.Gaussian):
        return  # the outputs of the same network
    network = case.many.model

    def outputs(variables: Any) -> Any:
        return network.apply(variables, case.x)[0]

    members = case.sample(case.key, case.new, 2)
    close(
        jax.jit(uq.execution.vmapped(outputs))(members.variables),
        jax.jit(uq.execution.looped(outputs))(members.variables),
    )


def test_samples_are_member_major(case: Case) -> None:
    members = case.sample(case.key, case.new, 2)
    assert uq.num_members(members) == SIZE * 2
    assert members.origin.tolist() == [0, 0, 1, 1]
    keys = uq.member_keys(case.key, SIZE)
    for k in range(SIZE):
        state = jax.tree.map(lambda leaf: leaf[k], case.new)
        own = case.one.sample(keys[k], state, 2)
        part = jax.tree.map(lambda leaf: leaf[2 * k : 2 * k + 2], members.variables)
        close(own.variables, part)
    want = jax.eval_shape(case.many.model.init, case.key, case.x)
    assert jax.tree.structure(members.variables) == jax.tree.structure(want)


def test_given_networks_are_where_it_starts(case: Case) -> None:
    start = uq.batched_init(case.many.model, 123, case.x, SIZE)
    state = case.many.init(case.key, case.x, start)
    mean = getattr(state, "mean", None)
    same(state.variables.params if mean is None else mean, start.params)


def test_rows_of_weight_zero_are_inert(case: Case) -> None:
    weight = jnp.asarray([2.0, 2.0, 2.0, 2.0, 0, 0, 0, 0])
    absurd = case.x.at[4:].set(jnp.inf)
    state, info = case.update(case.key, case.state, case.batch._replace(weight=weight))
    _, more = case.update(case.key, case.state, case.batch._replace(x=absurd, weight=weight))
    close(info.loss, more.loss)
    if case.many.name != "map_estimate":
        return  # compiling once more for the others would say the same
    half = uq.Batch(case.x[:4], case.y[:4], None, case.batch.num_data, case.batch.progress)
    want, _ = jax.jit(case.many.update)(case.key, case.state, half)
    close(state, want, 1e-5)


def test_losses_judge_by_the_likelihood_alone(case: Case) -> None:
    state = jax.tree.map(lambda leaf: leaf[0], case.new)
    losses = case.one.evaluate(state, case.batch)
    assert losses.shape == (ROWS,)
    mean = uq.Variables(state.mean, state.carried) if hasattr(state, "mean") else state.variables
    outputs = case.one.model.apply(mean, case.x)[0]
    close(losses, -case.likelihood.log_prob(outputs, case.y), 1e-5)


def test_it_comes_back_from_a_file(case: Case, tmp_path: Path) -> None:
    example = jax.ShapeDtypeStruct(case.x.shape[1:], case.x.dtype)
    state = without_optimizer(case.new)
    posterior = uq.Posterior(case.many, state, case.likelihood, case.key, example=example)
    posterior.save(tmp_path / "a.uq")
    again = uq.load(tmp_path / "a.uq", model=case.net)
    same(again.state, state)
    same(again.sample(2), posterior.sample(2))
    assert again.method.num_draws == case.many.num_draws


@pytest.mark.parametrize("name", list(uq.methods.REGISTER))
def test_batch_norm_and_dropout_are_trained(name: str) -> None:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(5, 3, (16, 3)), jnp.float32)
    one = uq.methods.REGISTER[name].factory(OneFlag(), uq.likelihoods.Gaussian(), optax.sgd(0.1))
    method = uq.ensemble(one, SIZE)
    state = jax.jit(method.init)(jax.random.key(0), x)
    new, info = jax.jit(method.update)(jax.random.key(1), state, uq.Batch(x, x[:, 0] - 5))
    carried = [s.carried if hasattr(s, "carried") else s.variables.state for s in (state, new)]
    assert jax.tree.structure(carried[0]) == jax.tree.structure(carried[1])
    assert all(not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, carried), strict=True))
    assert bool(info.finite.all())


@pytest.mark.parametrize("name", list(uq.methods.REGISTER))
def test_a_gradient_that_is_not_finite_is_told(name: str) -> None:
    x = jnp.ones((4, 3)).at[0, 0].set(jnp.nan)
    method = uq.methods.REGISTER[name].factory(nn.Dense(2), uq.likelihoods.Gaussian(), optax.sgd(0.1))
    _, info = method.update(jax.random.key(0), method.init(jax.random.key(0), x), uq.Batch(x, jnp.ones(4)))
    assert not bool(info.finite)


@pytest.mark.parametrize("name", list(uq.methods.REGISTER))
def test_the_register_says_what_a_method_costs(name: str) -> None:
    entry = uq.methods.REGISTER[name]
    assert entry.factory.__name__ == name
    assert entry.factory.__doc__ and "Example:" in entry.factory.__doc__ and "References:" in entry.factory.__doc__
    assert entry.summary and entry.cost and entry.reference
    method = entry.factory(nn.Dense(2), uq.likelihoods.Gaussian())
    assert method.name == name
    assert entry.factory(nn.Dense(2), uq.likelihoods.Gaussian(), **method.settings).settings == method.settings
