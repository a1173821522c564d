"""The computations behind `Predictive`: members' outputs to what their mixture says, compiled.

Each takes `(base, change, outputs, weight, …)`: a likelihood that is static, the change of the target's units it is
seen through or None, outputs `(M, N, …, width)` and member weights `(M,)` or `(M, N)`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from . import laws
from ._checks import InputError
from ._typing import Array, Key
from .laws import mixture
from .laws._family import has_steps
from .laws._weighted import ranked

compiled = functools.partial(jax.jit, static_argnums=0)


class Outcomes(NamedTuple):
    discrete: bool
    """Whether they are whole numbers."""
    steps: bool
    """Whether single ones have a probability."""


@functools.lru_cache(maxsize=256)
def outcomes(base: Any, width: int) -> Outcomes:
    """Of what kind outcomes are, found without computing anything."""
    found = []

    def probe(outputs: Array) -> Array:
        d = base.distribution(outputs)
        found.append(Outcomes(bool(d.support.is_discrete), has_steps(d)))
        return outputs

    jax.eval_shape(probe, jax.ShapeDtypeStruct((1, width), jnp.float32))
    return found[0]


def inert(outputs: Array, weight: Array) -> Array:
    """Outputs with those of members of weight 0, possibly NaN, replaced by zeros."""
    return jnp.where(ranked(weight > 0, outputs.ndim), outputs, 0)


def members(base: Any, change: Any, outputs: Array, weight: Array) -> Any:
    """The members' distributions, batch shape `(M, N)`; of several outputs that depend on each other, the marginals."""
    d = (base if change is None else change).distribution(inert(outputs, weight))
    return _marginal(d)


def _marginal(d: Any) -> Any:
    import numpyro.distributions as dist

    if isinstance(d, dist.MultivariateNormal):
        return dist.Normal(d.mean, jnp.sqrt(d.variance), validate_args=False).to_event(1)
    return d


def components(d: Any, weight: Array) -> mixture.Components:
    """Every component of the mixture: members that are mixtures themselves bring all of theirs."""
    if type(d).__name__ == "MixtureSameFamily":
        return mixture.flatten(d, weight)
    return mixture.components(d, weight)


@compiled
def moments(base: Any, change: Any, outputs: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Mean, mean of the members' variances, and variance of their means."""
    means, variances = laws.moments(members(base, change, outputs, weight))
    return (
        laws.mixture_mean(means, weight),
        laws.mixture_mean(variances, weight),
        laws.mixture_variance(means, weight),
    )


@compiled
def each(base: Any, change: Any, outputs: Array, weight: Array) -> tuple[Array, Array]:
    """Means and variances of the members."""
    return laws.moments(members(base, change, outputs, weight))


@compiled
def log_prob(base: Any, change: Any, outputs: Array, weight: Array, y: Array) -> Array:
    return laws.mixture_log_prob((base if change is None else change).log_prob(inert(outputs, weight), y), weight)


@functools.partial(jax.jit, static_argnums=(0, 5))
def probability(base: Any, change: Any, outputs: Array, weight: Array, y: Array, name: str) -> Array:
    """P(Y ≤ y) and the like: "cdf", "cdf_below", "sf", "log_cdf" or "log_sf" at `y`."""
    mixed = components(members(base, change, outputs, weight), weight)
    if name == "cdf_below":
        name, y = "cdf", mixture.below(mixed.family, y)
    return mixture.at(name, mixed, y)


@compiled
def quantile(base: Any, change: Any, outputs: Array, weight: Array, tail: Array, upper: Array) -> Array:
    return mixture.solve(components(members(base, change, outputs, weight), weight), tail, upper)


@compiled
def quantiles(base: Any, change: Any, outputs: Array, weight: Array, tails: Array, uppers: Array) -> Array:
    """As `quantile`, one level after the other."""
    mixed = components(members(base, change, outputs, weight), weight)
    return jax.lax.map(lambda each: mixture.solve(mixed, *each), (tails, uppers))


@compiled
def crps(base: Any, change: Any, outputs: Array, weight: Array, y: Array) -> Array:
    return mixture.score(components(members(base, change, outputs, weight), weight), y)


@compiled
def probs(base: Any, change: Any, outputs: Array, weight: Array) -> Array:
    """Class probabilities `(N, C)`; for labels that do not exclude each other, P(1) of each, `(N, L)`."""
    return laws.mixture_mean(_probs(base, members(base, change, outputs, weight)), weight)


def _probs(base: Any, d: Any) -> Array:
    if base.task == "multilabel":
        return laws.class_probs(d.base_dist)[..., 1]
    return laws.class_probs(d)


@compiled
def entropy(base: Any, change: Any, outputs: Array, weight: Array) -> tuple[Array, Array]:
    """Entropy of the mixture, and mean entropy of its members."""
    d = members(base, change, outputs, weight)
    if base.task == "multilabel":
        p = _probs(base, d)
        both = jnp.stack([1 - p, p], -1)
        return laws.class_entropy(laws.mixture_mean(both, weight)), laws.mixture_mean(laws.class_entropy(both), weight)
    if base.task != "regression":
        each = laws.class_probs(d)
        return laws.class_entropy(laws.mixture_mean(each, weight)), laws.mixture_mean(laws.class_entropy(each), weight)
    if base.num_outputs > 1:
        raise InputError("The entropy of a mixture is computed for one output; for several, use `log_prob` of draws.")
    return mixture.information(components(d, weight)), laws.mixture_mean(laws.entropy(d), weight)


@functools.partial(jax.jit, static_argnums=(0, 4))
def sample(base: Any, outputs: Array, weight: Array, key: Key, num: int) -> Array:
    """Draws `(num, N, …)`: a member by its weight, then from its distribution."""
    which, noise = jax.random.split(key)
    outputs = inert(outputs, weight)
    member = jax.random.categorical(which, jnp.log(weight.T), shape=(num, outputs.shape[1]))
    chosen = outputs[member, jnp.arange(outputs.shape[1])]
    with jax.numpy_dtype_promotion("standard"):  # numpyro's samplers mix dtypes
        return base.distribution(chosen).sample(noise)
