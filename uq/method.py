"""`Method`: how data and a likelihood turn a network into members; and `ensemble`, which lifts any method to K.

A method is written for one member. `ensemble(method, K)` maps it over member keys, so a deep ensemble is
`ensemble(map_estimate(…), K)` and a mixture of variational families is `ensemble(mean_field(…), K)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import InputError, check_count
from ._tracing import straight
from ._tree import is_key
from ._typing import Array, ArrayLike, Key, PyTree
from .execution import Mapping as MemberMapping
from .execution import check_mapping, vmapped
from .execution._bundles import bundled
from .likelihoods import Likelihood
from .members import Members, member_keys
from .model import Model


class Batch(NamedTuple):
    """What one update sees. The objective is *mean over the batch of weight × loss + penalty / num_data*."""

    x: PyTree
    """Inputs, `(B, …)`."""
    y: Array
    """Targets, `(B, …)`."""
    weight: Array | None = None
    """`(B,)`, with mean 1 over the data; 0 leaves a row out. None means equal."""
    num_data: ArrayLike | None = None
    """How many examples the data hold; scales priors and divergences. None drops those terms' data weight to B."""
    progress: ArrayLike | None = None
    """The fraction of training done, in [0, 1]; schedules that do not know the number of steps read it."""


class Info(NamedTuple):
    """What an update tells."""

    loss: Array
    """The objective on this batch, ()."""
    finite: Array
    """Whether loss and gradients were all finite, (), bool. `fit` itself judges by losses and weights."""


class Method(NamedTuple):
    """A way to a posterior, for one member (or, from `ensemble`, for K).

    `update` is pure and jits; `state` is a NamedTuple whose `opt_state` field, if it has one, is not needed by
    `sample`.
    """

    init: Callable[..., PyTree]
    """`init(key, x, start=None) -> state`; `start` are trained `Variables` to begin from."""
    update: Callable[[Key, PyTree, Batch], tuple[PyTree, Info]]
    """`update(key, state, batch) -> (state, info)`."""
    sample: Callable[..., Members]
    """`sample(key, state, num=1) -> Members`."""
    model: Model
    """What `predict` applies to the members."""
    likelihood: Likelihood
    name: str = "method"
    settings: Mapping[str, Any] = {}
    """What a saved file needs to rebuild `sample`: plain numbers and strings."""
    evaluate: Callable[[PyTree, Batch], Array] | None = None
    """`evaluate(state, batch) -> (B,)`: negative log-likelihood an example, for early stopping."""
    refresh: Callable[[PyTree, PyTree], PyTree] | None = None
    """`refresh(state, xs) -> state`: re-estimate carried averages on batches `(T, B, …)`; None when there are none."""
    early_stopping: bool = False
    """Whether `fit` holds out examples by default, because this method overfits without them."""
    num_draws: int = 1
    """How many draws a member `predict` takes by default; 1 for point estimates."""
    over: Callable[[Callable[[Model], Model]], Method] | None = None
    """`over(change)`: the same method for `change(model)`; how `fit` executes the network in other ways."""
    independent: bool = True
    """False when the state holds interacting networks that must be lifted as one unit."""
    member: Method | None = None
    """The method for one member, where this is an ensemble of them."""
    size: int | None = None
    """K, where this is an ensemble."""
    mapping: MemberMapping | None = None
    """How the member axis runs, where this is an ensemble and somebody has said."""
    hyperparams: Mapping[str, Array] = {}
    """Values with a leading member axis for `optax.inject_hyperparams`, where this is an ensemble."""


def ensemble(
    method: Method,
    size: int,
    *,
    mapping: MemberMapping | None = None,
    hyperparams: Mapping[str, ArrayLike] | None = None,
) -> Method:
    """K independent members of any method, as one method.

    Member k is initialised from `fold_in(key, k)` and is the same network whatever K.

    Args:
      method: a method for one member.
      size: K.
      mapping: how the member axis runs: `uq.execution.vmapped`, `looped`, `unrolled` or `chunked(n)`, with the same
        numbers. None is all at once here, and lets `fit` choose.
      hyperparams: values with a leading member axis, `{"learning_rate": (K,), …}`, for an optimizer built with
        `optax.inject_hyperparams`: a sweep in one program. Arrays `(K, …)` given to `inject_hyperparams` itself
        are understood too.
    Returns:
      A method whose `init` and `sample` handle K members, and whose `update` takes one batch for all of them
      (`fit` draws a batch a member instead).
    Raises:
      InputError: `size` below 1, an ensemble of an ensemble, a hyperparameter of the wrong length or name.
    Example:
      >>> import flax.linen as nn, jax.numpy as jnp, uq
      >>> method = uq.ensemble(uq.methods.map_estimate(nn.Dense(2), uq.likelihoods.Gaussian()), 4)
      >>> uq.num_members(method.sample(0, method.init(0, jnp.ones((1, 3)))))
      4
    """
    size = check_count("size", size)
    if not isinstance(method, Method):
        raise InputError(
            f"`ensemble` expected a method, such as uq.methods.map_estimate(network, likelihood), but got a "
            f"{type(method).__name__}."
        )
    if method.member is not None:
        raise InputError("`ensemble` expected a method for one member, but got an ensemble; make one larger instead.")
    mapping = None if mapping is None else check_mapping("mapping", mapping)
    swept = {name: jnp.asarray(value) for name, value in (hyperparams or {}).items()}
    lift = vmapped if mapping is None else mapping
    for name, value in swept.items():
        if value.ndim == 0 or value.shape[0] != size:
            raise InputError(
                f"Hyperparameter {name!r} expected one value for each of the {size} members, but has shape "
                f"{value.shape}."
            )

    def init(key: Key, x: PyTree, start: PyTree = None) -> PyTree:
        def one(key: Key, index: Array, start: PyTree) -> PyTree:
            return set_hyperparams(method.init(key, x, start), swept, index, size)

        return lift(one)(member_keys(key, size), jnp.arange(size), start)

    def update(key: Key, state: PyTree, batch: Batch) -> tuple[PyTree, Info]:
        return lift(lambda key, state: method.update(key, state, batch))(member_keys(key, size), state)

    def sample(key: Key, state: PyTree, num: int = 1) -> Members:
        draws = lift(lambda key, state: method.sample(key, state, num))(member_keys(key, size), state)
        merged = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), draws._replace(shared=()))
        shared = jax.tree.map(lambda leaf: leaf[0], draws.shared)
        return merged._replace(shared=shared, origin=jnp.repeat(jnp.arange(size), num))

    return method._replace(
        init=init, update=update, sample=sample, member=method, size=size, mapping=mapping, hyperparams=swept
    )


def set_hyperparams(state: PyTree, swept: Mapping[str, Array], index: Array, size: int | None) -> PyTree:
    """One member's values into every `optax.inject_hyperparams` state found in `state`.

    Values come from `swept`, or, where the injected value itself leads with an axis of `size`, from there. None for
    `size` is a single network, whose values are scalars.
    """
    found: set[str] = set()

    def is_injected(node: Any) -> bool:
        return hasattr(node, "hyperparams") and hasattr(node, "inner_state") and hasattr(node, "_replace")

    def choose(node: Any) -> Any:
        if not is_injected(node):
            return node
        values = {}
        for name, value in node.hyperparams.items():
            found.add(name)
            if name in swept and name in getattr(node, "hyperparams_states", {}):
                raise InputError(
                    f"Hyperparameter {name!r} follows a schedule, which would override the sweep. Inject a number."
                )
            if name in swept:
                dtype = jnp.asarray(value).dtype
                floating = jnp.issubdtype(dtype, jnp.floating)
                values[name] = swept[name][index].astype(dtype if floating else jnp.result_type(float))
            elif np.ndim(value) == 0:
                values[name] = value
            elif size is not None and np.shape(value)[0] == size:
                values[name] = value[index]
            else:
                wanted = "a number" if size is None else f"a number, or one value for each of the {size} members"
                raise InputError(f"Hyperparameter {name!r} expected {wanted}, but has shape {np.shape(value)}.")
        inner = jax.tree.map(choose, node.inner_state, is_leaf=is_injected)
        return node._replace(hyperparams=values, inner_state=inner)

    new = jax.tree.map(choose, state, is_leaf=is_injected)
    missing = [name for name in swept if name not in found]
    if missing:
        have = f"it injects {', '.join(sorted(found))}" if found else "it injects none"
        raise InputError(
            f"Hyperparameter {missing[0]!r} is not one that the optimizer injects ({have}). Build the optimizer as "
            f"optax.inject_hyperparams(optax.adamw)({missing[0]}=…)."
        )
    return new


@straight
def weighted_mean(losses: Array, weight: Array | None) -> Array:
    """Mean over the batch of weight × loss; a row of weight 0 is inert even where its loss is not finite."""
    if weight is None:
        return losses.mean()
    return jnp.where(weight == 0, 0, losses * weight.astype(losses.dtype)).mean()


@straight
def per_example(values: Array) -> Array:
    """`(B, positions…)` as `(B,)`, summed over positions."""
    return values if values.ndim == 1 else values.reshape(values.shape[0], -1).sum(-1)


@straight
def all_finite(tree: PyTree) -> Array:
    """Whether every floating leaf is finite, ()."""
    flags = [jnp.isfinite(part).all() for part in bundled([x for x in jax.tree.leaves(tree) if not is_key(x)])]
    return functools.reduce(jnp.logical_and, flags) if flags else jnp.array(True)
