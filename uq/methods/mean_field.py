"""Variational inference with a factorised Gaussian over the weights. K of them are a mixture of mean-fields."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from .._typing import Array, Key, PyTree
from ..likelihoods import Likelihood, attach
from ..members import Members
from ..method import Batch, Info, Method
from ..model import Variables, as_model
from ..optimizers import as_optimizer
from ..prior import closed_kl, kl_or_estimate, total
from ._elbo import Elbo, check_settings


class MeanFieldState(NamedTuple):
    mean: PyTree
    """Means of the weights."""
    raw: PyTree
    """Standard deviations of the weights before softplus."""
    carried: PyTree
    """The network's carried state."""
    opt_state: PyTree
    """The optimizer's."""


def mean_field(
    model: Any,
    likelihood: Likelihood,
    optimizer: optax.GradientTransformation | None = None,
    *,
    prior: Any = None,
    init_scale: float = 0.02,
    num_samples: int = 1,
    temperature: float = 1.0,
    num_draws: int = 32,
) -> Method:
    """A posterior N(mean, diag(scale²)) over the weights, fitted by maximising the evidence lower bound.

    The objective of a batch is E_q[mean(weight × NLL)] + temperature × KL(q ‖ prior) / num_data, with the
    expectation over `num_samples` draws of the weights. Means start at the network's own initial weights, not at
    zero. It underestimates the spread of the posterior (it cannot follow correlations), and prunes units where data
    are few.

    Args:
      model: anything `uq.as_model` takes.
      likelihood: what the outputs mean.
      optimizer: any optax optimizer; None is `uq.optimizers.one_cycle()`.
      prior: a numpyro distribution for every weight, or a pytree of them as a prefix of the parameters; None is
        the standard normal. The divergence is closed for Normal and Laplace priors, and estimated from the draws
        otherwise.
      init_scale: standard deviation of every weight at the start.
      num_samples: draws of the weights in one update.
      temperature: factor of the divergence; 1 is Bayes, below 1 a cold posterior.
      num_draws: draws a member that `predict` takes by default.
    Example:
      >>> import flax.linen as nn, uq
      >>> mixture = uq.ensemble(uq.methods.mean_field(nn.Dense(2), uq.likelihoods.Gaussian()), 3)

    References:
      blundell2015, section 3.2; graves2011. Checked against Bayesian linear regression.
    """
    check_settings(init_scale, num_samples, num_draws, temperature)
    settings: dict[str, Any] = dict(
        prior=prior, init_scale=init_scale, num_samples=num_samples, temperature=temperature, num_draws=num_draws
    )
    network = attach(as_model(model), likelihood)
    optimizer = as_optimizer(optimizer)

    def draw(key: Key, variational: tuple[PyTree, PyTree], num: int) -> PyTree:
        mean, raw = variational
        return _draw(key, mean, jax.tree.map(jax.nn.softplus, raw), num)

    def divergence(variational: tuple[PyTree, PyTree], draws: PyTree) -> Array:
        mean, raw = variational
        scale = jax.tree.map(jax.nn.softplus, raw)
        closed = closed_kl(prior, mean, scale)
        return kl_or_estimate(prior, closed, lambda params: _log_density(params, mean, scale), draws)

    elbo = Elbo(network, likelihood, optimizer, draw, divergence, num_samples, temperature)

    def init(key: Key, x: PyTree, start: Variables | None = None) -> MeanFieldState:
        variables = network.init(key, x) if start is None else start
        raw = jax.tree.map(lambda leaf: jnp.full_like(leaf, inverse_softplus(init_scale)), variables.params)
        return MeanFieldState(variables.params, raw, variables.state, optimizer.init((variables.params, raw)))

    def update(key: Key, state: MeanFieldState, batch: Batch) -> tuple[MeanFieldState, Info]:
        variational = (state.mean, state.raw)
        variational, carried, opt_state, info = elbo.step(key, variational, state.carried, state.opt_state, batch)
        mean, raw = variational
        return MeanFieldState(mean, raw, carried, opt_state), info

    def sample(key: Key, state: MeanFieldState, num: int = 1) -> Members:
        return elbo.members(key, (state.mean, state.raw), state.carried, num)

    def evaluate(state: MeanFieldState, batch: Batch) -> Array:
        return elbo.losses_at(state.mean, state.carried, batch)

    def refresh(state: MeanFieldState, xs: PyTree) -> MeanFieldState:
        return state._replace(carried=elbo.refreshed(state.mean, state.carried, xs))

    return Method(
        init=init,
        update=update,
        sample=sample,
        model=network,
        likelihood=likelihood,
        name="mean_field",
        settings={"num_draws": num_draws},
        evaluate=evaluate,
        refresh=refresh,
        over=lambda change: mean_field(change(as_model(model)), likelihood, optimizer, **settings),
        num_draws=num_draws,
    )


def inverse_softplus(scale: float) -> float:
    """The raw value whose softplus is `scale`."""
    return scale + math.log(-math.expm1(-scale))


def _draw(key: Key, mean: PyTree, scale: PyTree, num: int) -> PyTree:
    """`num` draws of the weights, leaves `(num, …)`."""
    flat, unravel = ravel_pytree(mean)  # one draw for all leaves: a generator compiles slowly
    noise = jax.vmap(unravel)(jax.random.normal(key, (num, flat.size), flat.dtype))
    return jax.tree.map(lambda m, s, e: m + s * e, mean, scale, noise)


def _log_density(params: PyTree, mean: PyTree, scale: PyTree) -> Array:
    def leaf(w: Array, m: Array, s: Array) -> Array:
        return (-0.5 * jnp.square((w - m) / s) - jnp.log(s) - 0.5 * jnp.log(2 * jnp.pi)).sum()

    return total(jax.tree.leaves(jax.tree.map(leaf, params, mean, scale)))
