"""Log-densities and divergences over a tree of weights, from numpyro distributions.

A prior is one distribution for every weight, or a pytree of distributions that is a prefix of the parameters
(`{"Dense_0": Normal(0, 1), "Dense_1": Normal(0, 0.1)}`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ._checks import InputError
from ._typing import Array, PyTree


def _is_distribution(node: Any) -> bool:
    return hasattr(node, "log_prob") and hasattr(node, "batch_shape")


def each_leaf(prior: Any, params: PyTree, *others: PyTree) -> list[tuple[Any, ...]]:
    """`(distribution, leaf, other leaf…)` for every leaf of `params`."""
    leaves = jax.tree.leaves(params)
    if _is_distribution(prior):
        distributions = [prior] * len(leaves)
    else:
        try:
            spread = jax.tree.map(
                lambda d, part: jax.tree.map(lambda _: _Leaf(d), part), prior, params, is_leaf=_is_distribution
            )
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"The prior is not a prefix of the parameters: {error}") from None
        found = jax.tree.leaves(spread, is_leaf=lambda node: isinstance(node, _Leaf))
        distributions = [leaf.value for leaf in found]
    if not all(_is_distribution(d) for d in distributions):
        raise InputError("A prior expected numpyro distributions, such as numpyro.distributions.Normal(0.0, 1.0).")
    return list(zip(distributions, leaves, *(jax.tree.leaves(other) for other in others), strict=True))


class _Leaf:
    """Keeps a distribution, itself a pytree, whole while trees are mapped."""

    def __init__(self, value: Any) -> None:
        self.value = value


def log_prior(prior: Any, params: PyTree) -> Array:
    """The log-density of all weights under the prior, summed, ()."""
    return total([d.log_prob(leaf).sum() for d, leaf in each_leaf(prior, params)])


def closed_kl(prior: Any, mean: PyTree, scale: PyTree) -> Array | None:
    """KL(N(mean, scale²) ‖ prior) over independent weights, (); None where some leaf has no closed form.

    Normal and Laplace priors have one here; other families are asked of `numpyro.distributions.kl_divergence`.
    """
    if prior is None:
        pairs = zip(jax.tree.leaves(mean), jax.tree.leaves(scale), strict=True)
        return total([kl_normal(m, s, 0.0, 1.0).sum() for m, s in pairs])
    terms = [_leaf_kl(*each) for each in each_leaf(prior, mean, scale)]
    if any(term is None for term in terms):
        return None
    return total([term.sum() for term in terms if term is not None])


def total(terms: list[Array]) -> Array:
    """Their sum, (); 0 for none."""
    return jnp.sum(jnp.stack(terms)) if terms else jnp.zeros(())


def _leaf_kl(prior: Any, mean: Array, scale: Array) -> Array | None:
    import numpyro.distributions as dist

    if isinstance(prior, dist.Normal):
        return kl_normal(mean, scale, prior.loc, prior.scale)
    if isinstance(prior, dist.Laplace):
        return kl_normal_laplace(mean, scale, prior.loc, prior.scale)
    try:
        return dist.kl_divergence(dist.Normal(mean, scale, validate_args=False), prior)
    except NotImplementedError:
        return None


def kl_normal(mean: Array, scale: Array, loc: Any, prior_scale: Any) -> Array:
    """KL(N(mean, scale²) ‖ N(loc, prior_scale²)), elementwise.

    Example:
      >>> float(kl_normal(0.0, 1.0, 0.0, 1.0))
      0.0
    """
    ratio = jnp.square(scale / prior_scale)
    return 0.5 * (ratio + jnp.square((mean - loc) / prior_scale) - 1 - jnp.log(ratio))


def kl_normal_laplace(mean: Array, scale: Array, loc: Any, prior_scale: Any) -> Array:
    """KL(N(mean, scale²) ‖ Laplace(loc, prior_scale)), elementwise: E|w − loc| is that of a folded normal."""
    gap = mean - loc
    z = gap / scale
    density = jnp.exp(-0.5 * jnp.square(z)) / jnp.sqrt(2 * jnp.pi)
    absolute = gap * (1 - 2 * jax.scipy.special.ndtr(-z)) + 2 * scale * density
    return jnp.log(2 * prior_scale) + absolute / prior_scale - 0.5 * jnp.log(2 * jnp.pi * jnp.e) - jnp.log(scale)


def kl_or_estimate(prior: Any, closed: Array | None, log_q: Callable[[PyTree], Array], draws: PyTree) -> Array:
    """The closed divergence, or its estimate mean(log q − log prior) over `draws` `(S, …)`."""
    if closed is not None:
        return closed
    return jax.vmap(lambda params: log_q(params) - log_prior(prior, params))(draws).mean()
