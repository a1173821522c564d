"""Penalised maximum likelihood: one network, trained by an optax optimizer. K of them are a deep ensemble."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from .._checks import InputError
from .._tree import is_float
from .._typing import Array, Key, PyTree
from ..likelihoods import Likelihood, attach
from ..losses import negative_log_likelihood
from ..members import Members
from ..method import Batch, Info, Method, all_finite, per_example, weighted_mean
from ..model import Variables, as_model
from ..optimizers import apply_updates, as_optimizer
from ..prior import log_prior
from ..refresh import refreshed_state


class MapState(NamedTuple):
    variables: Variables
    """The network's parameters and carried state."""
    opt_state: PyTree
    """The optimizer's."""


def map_estimate(
    model: Any,
    likelihood: Likelihood,
    optimizer: optax.GradientTransformation | None = None,
    *,
    loss: Callable[[Likelihood, Array, Array], Array] = negative_log_likelihood,
    prior: Any = None,
) -> Method:
    """The most probable network under the likelihood and an optional prior on its weights.

    The objective of a batch is mean(weight × loss) − log prior(weights) / num_data.

    Args:
      model: anything `uq.as_model` takes.
      likelihood: what the outputs mean.
      optimizer: any optax optimizer; None is `uq.optimizers.one_cycle()`. Under `ensemble` it runs apart for each
        member, so that clipping by global norm and the like never couple them.
      loss: what training minimises, `(likelihood, outputs, y) -> (N,)`; see `uq.losses`. Early stopping always
        uses the likelihood.
      prior: a numpyro distribution for every weight, or a pytree of them as a prefix of the parameters; None for
        maximum likelihood.
    Returns:
      A `Method` with point estimates; early stopping on held-out examples is on by default in `fit`.
    Example:
      >>> import flax.linen as nn, uq
      >>> uq.methods.map_estimate(nn.Dense(2), uq.likelihoods.Gaussian()).name
      'map_estimate'

    References:
      bishop2006, section 5.5; as a deep ensemble, lakshminarayanan2017.
    """
    if isinstance(loss, type) or not callable(loss):
        raise InputError(
            f"`loss` expected a function (likelihood, outputs, y) -> (N,), such as uq.losses.beta_nll(0.5), but got "
            f"{loss!r}."
        )
    network = attach(as_model(model), likelihood)
    optimizer = as_optimizer(optimizer)

    def init(key: Key, x: PyTree, start: Variables | None = None) -> MapState:
        variables = network.init(key, x) if start is None else start
        return MapState(variables, optimizer.init(variables.params))

    def update(key: Key, state: MapState, batch: Batch) -> tuple[MapState, Info]:
        def objective(params: PyTree) -> tuple[Array, PyTree]:
            outputs, carried = network.apply(Variables(params, state.variables.state), batch.x, key=key, train=True)
            value = weighted_mean(per_example(loss(likelihood, outputs, batch.y)), batch.weight)
            if prior is not None:
                num_data = batch.y.shape[0] if batch.num_data is None else batch.num_data
                value = value - log_prior(prior, params) / jnp.asarray(num_data, value.dtype)
            return value, carried

        (value, carried), grads = jax.value_and_grad(objective, has_aux=True)(state.variables.params)
        updates, opt_state = optimizer.update(
            grads,
            state.opt_state,
            state.variables.params,
            progress=batch.progress,
            value=value,
            grad=grads,
            value_fn=lambda params, progress=None: objective(params)[0],
        )
        params = apply_updates(state.variables.params, updates)
        finite = jnp.isfinite(value) & all_finite(grads)
        return MapState(Variables(params, carried), opt_state), Info(value, finite)

    def sample(key: Key, state: MapState, num: int = 1) -> Members:
        del key
        return Members(jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num, *leaf.shape)), state.variables))

    def evaluate(state: MapState, batch: Batch) -> Array:
        outputs, _ = network.apply(state.variables, batch.x)
        return per_example(-likelihood.log_prob(outputs, batch.y))

    def refresh(state: MapState, xs: PyTree) -> MapState:
        if not any(is_float(leaf) for leaf in jax.tree.leaves(state.variables.state)):
            return state
        carried = refreshed_state(network, state.variables, xs)
        return state._replace(variables=Variables(state.variables.params, carried))

    return Method(
        init=init,
        update=update,
        sample=sample,
        model=network,
        likelihood=likelihood,
        name="map_estimate",
        evaluate=evaluate,
        refresh=refresh,
        over=lambda change: map_estimate(change(as_model(model)), likelihood, optimizer, loss=loss, prior=prior),
        early_stopping=True,
    )
