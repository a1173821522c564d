"""What variational methods share: one stochastic step on the evidence lower bound, whatever the family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .._checks import InputError, check_count
from .._tree import is_float
from .._typing import Array, Key, PyTree
from ..likelihoods import Likelihood
from ..members import Members
from ..method import Batch, Info, all_finite, per_example, weighted_mean
from ..model import Model, Variables
from ..optimizers import apply_updates
from ..refresh import refreshed_state


class Elbo(NamedTuple):
    """The objective E_q[mean(weight × NLL)] + temperature × KL(q ‖ prior) / num_data, for one family q."""

    network: Model
    likelihood: Likelihood
    optimizer: optax.GradientTransformationExtraArgs
    draw: Callable[[Key, Any, int], PyTree]
    """`draw(key, variational, num)`: weights, leaves `(num, …)`."""
    divergence: Callable[[Any, PyTree], Array]
    """`divergence(variational, draws)`: KL(q ‖ prior), ()."""
    num_samples: int
    temperature: float

    def step(
        self, key: Key, variational: Any, carried: PyTree, opt_state: PyTree, batch: Batch
    ) -> tuple[Any, PyTree, PyTree, Info]:
        """`(variational, carried, opt_state, info)` after one update."""
        weights_key, network_key = jax.random.split(key)

        def objective(variational: Any) -> tuple[Array, PyTree]:
            draws = self.draw(weights_key, variational, self.num_samples)

            def one(params: PyTree, key: Key) -> tuple[Array, PyTree]:
                outputs, after = self.network.apply(Variables(params, carried), batch.x, key=key, train=True)
                losses = per_example(-self.likelihood.log_prob(outputs, batch.y))
                return weighted_mean(losses, batch.weight), after

            values, after = jax.vmap(one)(draws, jax.random.split(network_key, self.num_samples))
            divergence = self.divergence(variational, draws)
            num_data = batch.y.shape[0] if batch.num_data is None else batch.num_data
            value = values.mean() + self.temperature * divergence / jnp.asarray(num_data, divergence.dtype)
            return value, jax.tree.map(lambda leaf: leaf[-1], after)

        (value, after), grads = jax.value_and_grad(objective, has_aux=True)(variational)
        updates, opt_state = self.optimizer.update(
            grads, opt_state, variational, progress=batch.progress, value=value, grad=grads
        )
        finite = jnp.isfinite(value) & all_finite(grads)
        return apply_updates(variational, updates), after, opt_state, Info(value, finite)

    def members(self, key: Key, variational: Any, carried: PyTree, num: int) -> Members:
        """`num` draws of the network."""
        repeated = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), carried)
        return Members(Variables(self.draw(key, variational, num), repeated))

    def losses_at(self, params: PyTree, carried: PyTree, batch: Batch) -> Array:
        """Negative log-likelihood an example at fixed weights, `(B,)`."""
        outputs, _ = self.network.apply(Variables(params, carried), batch.x)
        return per_example(-self.likelihood.log_prob(outputs, batch.y))

    def refreshed(self, params: PyTree, carried: PyTree, xs: PyTree) -> PyTree:
        """The carried state with its averages re-estimated at fixed weights."""
        if not any(is_float(leaf) for leaf in jax.tree.leaves(carried)):
            return carried
        return refreshed_state(self.network, Variables(params, carried), xs)


def check_settings(init_scale: float, num_samples: int, num_draws: int, temperature: float) -> None:
    """Raise, in a sentence, on settings that no family can use."""
    check_count("num_samples", num_samples)
    check_count("num_draws", num_draws)
    if not init_scale > 0:
        raise InputError(f"`init_scale` expected a positive number, but it is {init_scale}.")
    if not temperature >= 0:
        raise InputError(f"`temperature` expected a number of at least 0, but it is {temperature}.")
