"""Refreshed BatchNorm averages are the averages of the batches' own statistics."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq.refresh import refreshed_state

from .nets import OneFlag, nnx_net

XS = np.random.default_rng(0).normal(5.0, 3.0, (4, 16, 3)).astype(np.float32)


@pytest.mark.parametrize("adapter", ["linen", "nnx"])
def test_averages_are_those_of_the_batches(adapter: str) -> None:
    model = uq.as_model(OneFlag() if adapter == "linen" else nnx_net())
    variables = model.init(jax.random.key(0), XS[0])
    state = jax.jit(lambda v, xs: refreshed_state(model, v, xs))(variables, XS)
    assert jax.tree.structure(state) == jax.tree.structure(variables.state)
    kernel = next(leaf for leaf in jax.tree.leaves(variables.params) if leaf.shape == (3, 8))
    hidden = XS.astype(np.float64) @ np.asarray(kernel, np.float64)
    found = jax.tree.leaves(state)
    wants = [hidden.mean(1).mean(0), hidden.var(1).mean(0)]
    for leaf, want in zip(found, wants, strict=True):  # "mean" before "var"
        np.testing.assert_allclose(leaf, want, rtol=1e-3)


def test_any_momentum_gives_the_same() -> None:
    def net(momentum: float) -> nn.Module:
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x: Any, train: bool) -> Any:
                return nn.Dense(2)(nn.BatchNorm(use_running_average=not train, momentum=momentum)(x))

        return Net()

    found = []
    for momentum in (0.0, 0.5, 0.999):
        model = uq.as_model(net(momentum))
        variables = model.init(jax.random.key(0), XS[0])
        found.append(jax.tree.leaves(refreshed_state(model, variables, jnp.asarray(XS))))
    for leaves in found:
        np.testing.assert_allclose(leaves[0], XS.astype(np.float64).mean(1).mean(0), rtol=3e-3)
        np.testing.assert_allclose(leaves[1], XS.astype(np.float64).var(1).mean(0), rtol=3e-3)


def test_what_is_not_an_average_is_left_alone() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            count = self.variable("seen", "count", lambda: jnp.zeros((), jnp.int32))
            fixed = self.variable("seen", "fixed", lambda: jnp.array([7.0]))
            if self.is_mutable_collection("seen") and not self.is_initializing():
                count.value += 1
            return nn.Dense(2)(x) + 0 * fixed.value

    model = uq.as_model(Net())
    variables = model.init(jax.random.key(0), XS[0])
    state = refreshed_state(model, variables, jnp.asarray(XS))
    assert state["seen"]["count"] == 0
    assert state["seen"]["fixed"] == 7.0


def test_a_network_without_averages_is_returned_as_it_is() -> None:
    method = uq.methods.map_estimate(nn.Dense(2), uq.likelihoods.Gaussian())
    state = method.init(jax.random.key(0), XS[0])
    assert method.refresh(state, XS) is state
