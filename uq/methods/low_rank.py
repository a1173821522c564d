"""Variational inference with a Gaussian of diagonal plus low-rank covariance over the weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from .._checks import InputError, check_count
from .._typing import Array, Key, PyTree
from ..likelihoods import Likelihood, attach
from ..members import Members
from ..method import Batch, Info, Method
from ..model import Variables, as_model
from ..optimizers import as_optimizer
from ..prior import each_leaf, kl_or_estimate
from ._elbo import Elbo, check_settings
from .mean_field import inverse_softplus


class LowRankState(NamedTuple):
    mean: PyTree
    """Means of the P weights, as the network's parameters."""
    raw: Array
    """Diagonal standard deviations before softplus, `(P,)`."""
    factor: Array
    """Low-rank factor of the covariance, `(P, rank)`."""
    carried: PyTree
    """The network's carried state."""
    opt_state: PyTree
    """The optimizer's."""


def low_rank(
    model: Any,
    likelihood: Likelihood,
    optimizer: optax.GradientTransformation | None = None,
    *,
    rank: int = 5,
    prior: Any = None,
    init_scale: float = 0.02,
    num_samples: int = 1,
    temperature: float = 1.0,
    num_draws: int = 32,
) -> Method:
    """A posterior N(mean, diag(scale²) + F Fᵀ) over the weights, with F of `rank` columns.

    Like `mean_field`, and it can follow `rank` directions of correlation; costs `rank` times its memory.

    Args:
      model: anything `uq.as_model` takes.
      likelihood: what the outputs mean.
      optimizer: any optax optimizer; None is `uq.optimizers.one_cycle()`.
      rank: columns of F.
      prior: a numpyro distribution for every weight, or a pytree of them as a prefix of the parameters; None is
        the standard normal. The divergence is closed for Normal priors (of any location and scale), and estimated
        from the draws otherwise.
      init_scale: standard deviation of every weight at the start, shared between diagonal and factor.
      num_samples: draws of the weights in one update.
      temperature: factor of the divergence; 1 is Bayes, below 1 a cold posterior.
      num_draws: draws a member that `predict` takes by default.
    Example:
      >>> import flax.linen as nn, uq
      >>> uq.methods.low_rank(nn.Dense(2), uq.likelihoods.Gaussian(), rank=2).settings["rank"]
      2

    References:
      ong2018, section 3; swiatkowski2020. Checked against scipy.stats.multivariate_normal.
    """
    check_settings(init_scale, num_samples, num_draws, temperature)
    rank = check_count("rank", rank)
    settings: dict[str, Any] = dict(
        rank=rank,
        prior=prior,
        init_scale=init_scale,
        num_samples=num_samples,
        temperature=temperature,
        num_draws=num_draws,
    )
    network = attach(as_model(model), likelihood)
    optimizer = as_optimizer(optimizer)

    def draw(key: Key, variational: tuple[PyTree, Array, Array], num: int) -> PyTree:
        mean, raw, factor = variational
        return _draw(key, mean, jax.nn.softplus(raw), factor, num)

    def divergence(variational: tuple[PyTree, Array, Array], draws: PyTree) -> Array:
        mean, raw, factor = variational
        scale = jax.nn.softplus(raw)
        closed = _closed_kl(prior, mean, scale, factor)
        return kl_or_estimate(prior, closed, lambda params: _log_density(params, mean, scale, factor), draws)

    elbo = Elbo(network, likelihood, optimizer, draw, divergence, num_samples, temperature)

    def init(key: Key, x: PyTree, start: Variables | None = None) -> LowRankState:
        variables = network.init(key, x) if start is None else start
        flat, _ = ravel_pytree(variables.params)
        if flat.dtype.itemsize < 4:
            raise InputError(f"`low_rank` needs parameters of float32 or wider, but they are {flat.dtype}.")
        half = init_scale / 2**0.5
        raw = jnp.full(flat.shape, inverse_softplus(half), flat.dtype)
        noise = jax.random.normal(jax.random.fold_in(key, 1), (flat.size, rank), flat.dtype)
        variational = (variables.params, raw, noise * (half / rank**0.5))
        return LowRankState(*variational, variables.state, optimizer.init(variational))

    def update(key: Key, state: LowRankState, batch: Batch) -> tuple[LowRankState, Info]:
        variational = (state.mean, state.raw, state.factor)
        variational, carried, opt_state, info = elbo.step(key, variational, state.carried, state.opt_state, batch)
        mean, raw, factor = variational
        return LowRankState(mean, raw, factor, carried, opt_state), info

    def sample(key: Key, state: LowRankState, num: int = 1) -> Members:
        return elbo.members(key, (state.mean, state.raw, state.factor), state.carried, num)

    def evaluate(state: LowRankState, batch: Batch) -> Array:
        return elbo.losses_at(state.mean, state.carried, batch)

    def refresh(state: LowRankState, xs: PyTree) -> LowRankState:
        return state._replace(carried=elbo.refreshed(state.mean, state.carried, xs))

    return Method(
        init=init,
        update=update,
        sample=sample,
        model=network,
        likelihood=likelihood,
        name="low_rank",
        settings={"rank": rank, "num_draws": num_draws},
        evaluate=evaluate,
        refresh=refresh,
        over=lambda change: low_rank(change(as_model(model)), likelihood, optimizer, **settings),
        num_draws=num_draws,
    )


def _draw(key: Key, mean: PyTree, scale: Array, factor: Array, num: int) -> PyTree:
    """`num` draws of the weights, leaves `(num, …)`."""
    flat, unravel = ravel_pytree(mean)
    own, common = jax.random.split(key)
    noise = scale * jax.random.normal(own, (num, flat.size), flat.dtype)
    shift = jax.random.normal(common, (num, factor.shape[1]), flat.dtype) @ factor.T
    return jax.vmap(unravel)(flat + noise + shift)


def _capacitance(scale: Array, factor: Array) -> Array:
    """I + Fᵀ diag(scale⁻²) F, `(rank, rank)`; its determinant completes that of the covariance."""
    scaled = factor / scale[:, None]
    return jnp.eye(factor.shape[1], dtype=factor.dtype) + scaled.T @ scaled


def _log_determinant(scale: Array, factor: Array) -> Array:
    """log |diag(scale²) + F Fᵀ|, by the matrix determinant lemma."""
    cholesky = jnp.linalg.cholesky(_capacitance(scale, factor))
    return 2 * jnp.log(scale).sum() + 2 * jnp.log(jnp.diagonal(cholesky)).sum()


def _log_density(params: PyTree, mean: PyTree, scale: Array, factor: Array) -> Array:
    """log q of one draw, by Woodbury's identity."""
    gap = (ravel_pytree(params)[0] - ravel_pytree(mean)[0]) / scale
    inner = jnp.linalg.cholesky(_capacitance(scale, factor))
    projected = jax.scipy.linalg.solve_triangular(inner, (factor / scale[:, None]).T @ gap, lower=True)
    square = gap @ gap - projected @ projected
    return -0.5 * (square + _log_determinant(scale, factor) + gap.size * jnp.log(2 * jnp.pi))


def _closed_kl(prior: Any, mean: PyTree, scale: Array, factor: Array) -> Array | None:
    """KL(q ‖ prior) where every weight's prior is Normal; None otherwise."""
    flat, _ = ravel_pytree(mean)
    locs, scales = jnp.zeros_like(flat), jnp.ones_like(flat)
    if prior is not None:
        import numpyro.distributions as dist

        pairs = each_leaf(prior, mean)
        if not all(isinstance(d, dist.Normal) for d, _ in pairs):
            return None
        locs = jnp.concatenate([jnp.broadcast_to(d.loc, leaf.shape).reshape(-1) for d, leaf in pairs])
        scales = jnp.concatenate([jnp.broadcast_to(d.scale, leaf.shape).reshape(-1) for d, leaf in pairs])
    variance = jnp.square(scale) + jnp.square(factor).sum(1)
    trace = (variance / jnp.square(scales)).sum()
    square = jnp.square((flat - locs) / scales).sum()
    return 0.5 * (trace + square - flat.size + 2 * jnp.log(scales).sum() - _log_determinant(scale, factor))
