"""Members: K networks as one pytree, made by batched init, and how to take, stack, concatenate and pick them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import InputError, check_count, is_concrete, path_name
from ._tree import is_key, tree_take
from ._typing import Array, ArrayLike, Key, PyTree
from .model import Variables, as_model


class Members(NamedTuple):
    """Networks to predict with: ensemble members, or draws from a posterior over weights, or both.

    The axis M leads on `variables` (and on `key`) only. `ensemble(…).sample(num=S)` gives M = K·S, member-major.
    """

    variables: Variables
    """Each leaf `(M, …)`."""
    shared: PyTree = ()
    """What all members use and is never copied M times."""
    key: Array | None = None
    """`(M,)` keys that switch a network's own randomness on at prediction, or None."""
    weight: Array | None = None
    """`(M,)`, summing to 1; 0 for a diverged member. None means equal."""
    origin: Array | None = None
    """`(M,)`, which ensemble member each came from. None means each its own."""


def as_key(key: Key, *, name: str = "key") -> Array:
    """A typed key from a typed key, an old-style `uint32` key, or an int seed."""
    if isinstance(key, bool):
        raise InputError(f"`{name}` expected a key or an int seed, but it is {key!r}.")
    if isinstance(key, int | np.integer):
        if not 0 <= key < 2**32:  # more bits would be dropped in silence
            raise InputError(f"`{name}` expected a seed from 0 to 2**32 − 1, but it is {key}.")
        # The key that `jax.random.key` gives, without compiling a program for it.
        if getattr(jax.config, "jax_default_prng_impl", "") == "threefry2x32":
            return jax.random.wrap_key_data(jax.device_put(np.array([0, int(key)], np.uint32)), impl="threefry2x32")
        return jax.random.key(int(key))
    if is_key(key):
        return key
    if getattr(key, "dtype", None) != np.uint32 or np.ndim(key) == 0:
        raise InputError(f"`{name}` expected a key (`jax.random.key(0)`) or an int seed, but got {key!r:.80}.")
    data = jnp.asarray(key)
    try:
        return jax.random.wrap_key_data(data)
    except (TypeError, ValueError) as error:
        raise InputError(f"`{name}` expected an old-style key of the default generator: {error}") from None


def one_key(key: Key, *, name: str = "key") -> Array:
    """As `as_key`, but a single key and not an array of them."""
    key = as_key(key, name=name)
    if key.ndim:
        raise InputError(
            f"`{name}` expected one key, from which each member derives its own, but got {key.shape} keys."
        )
    return key


def member_keys(key: Key, size: int) -> Array:
    """One key a member, `(size,)`: `fold_in(key, k)`, so member k does not depend on how many there are.

    Args:
      key: one key (or int seed); or an array of `size` keys, returned as it is after a check.
      size: number of members K.
    Raises:
      InputError: an array of keys has another length, or holds a key twice (equal keys give identical members,
        the commonest silent failure of ensembles).
    Example:
      >>> member_keys(0, 3).shape
      (3,)
    """
    size = check_count("size", size)
    key = as_key(key)
    if key.ndim == 0:
        return jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(size))
    if key.shape != (size,):
        raise InputError(
            f"Expected one key, or {size} keys (one a member), but got keys of shape {key.shape}. "
            f"Use `jax.random.split(key, {size})`, or pass one key."
        )
    if is_concrete(key):
        data = np.asarray(jax.random.key_data(key)).reshape(size, -1)
        _, first, inverse = np.unique(data, axis=0, return_index=True, return_inverse=True)
        repeated = np.flatnonzero(first[inverse.reshape(-1)] != np.arange(size))
        if len(repeated):
            k = int(repeated[0])
            raise InputError(
                f"Keys {int(first[inverse.reshape(-1)][k])} and {k} are the same, so those members would be the same "
                f"network. Use `jax.random.split(key, {size})`, or pass one key."
            )
    return key


def batched_init(model: Any, key: Key, x: PyTree, size: int) -> Variables:
    """The variables of `size` freshly initialised networks: every leaf gains a leading axis K.

    This is `jax.vmap(model.init, in_axes=(0, None))` over one key a member: the keys are mapped and the example
    inputs are shared, whatever their leading axis.

    Args:
      model: anything `as_model` takes.
      key: one key or int seed (member k gets `fold_in(key, k)`), or an array of `size` different keys.
      x: example inputs, `(N, …)` or a pytree of such; only shapes matter to most networks.
      size: number of members K.
    Returns:
      `Variables(params, state)` with leaves `(K, …)`.
    Raises:
      InputError: wrong number of keys, or a repeated one.
    Example:
      >>> import flax.linen as nn, jax.numpy as jnp
      >>> batched_init(nn.Dense(2), 0, jnp.ones((1, 4)), 3).params["kernel"].shape
      (3, 4, 2)
    """
    return jax.vmap(as_model(model).init, in_axes=(0, None))(member_keys(key, size), x)


def batched_init_param_count(seed: int, num_inits: int, features: int) -> Array:
    """The worked example of the tutorial: batched init of one dense layer, and what it made.

    Args:
      seed: seed of `jax.random.PRNGKey`.
      num_inits: number of independent initialisations.
      features: width of the layer, whose input has 4 features.
    Returns:
      `[num_inits, features, kernel.shape[0]]` as floats, `(3,)`; the last is read off the stacked kernel.
    Example:
      >>> batched_init_param_count(0, 5, 3).tolist()
      [5.0, 3.0, 5.0]
    """
    import flax.linen as nn

    num_inits, features = check_count("num_inits", num_inits), check_count("features", features)
    keys = jax.random.split(jax.random.PRNGKey(seed), num_inits)
    kernel = batched_init(nn.Dense(features), keys, jnp.ones((4,)), num_inits).params["kernel"]
    return jnp.array([num_inits, features, kernel.shape[0]], dtype=float)


def num_members(tree: PyTree) -> int:
    """The common leading axis of every leaf.

    Raises:
      InputError: two leaves disagree; the message names both.
    """
    variables = tree.variables if isinstance(tree, Members) else tree
    leaves = jax.tree_util.tree_flatten_with_path(variables)[0]
    if not leaves:
        raise InputError("Expected stacked networks, but there is no array in them.")
    first_path, first = leaves[0]
    for path, leaf in leaves:
        if np.ndim(leaf) == 0:
            raise InputError(
                f"Expected every leaf to lead with the member axis, but `{path_name(path)}` is a scalar. Use "
                "`uq.stack` to make an ensemble of single networks."
            )
        if leaf.shape[0] != first.shape[0]:
            raise InputError(
                f"Expected every leaf to have the same leading axis, but `{path_name(first_path)}` has "
                f"{first.shape[0]} and `{path_name(path)}` has {leaf.shape[0]}. Did you concatenate ensembles of "
                "different sizes? Use `uq.stack`."
            )
    return int(first.shape[0])


def take(members: PyTree, index: Any) -> PyTree:
    """One member out again (an int), or several (a slice, a list, an index array).

    Args:
      members: `Members`, `Variables`, or any pytree whose leaves lead with the member axis.
      index: which; an int drops the axis from plain pytrees and keeps an axis of one on `Members`.
    Raises:
      InputError: an index outside the members there are.
    Example:
      >>> import jax.numpy as jnp
      >>> take({"w": jnp.arange(6.0).reshape(3, 2)}, 1)["w"].tolist()
      [2.0, 3.0]
    """
    size = num_members(members)
    if not isinstance(index, slice):
        concrete = np.asarray(index) if is_concrete(index) else None
        if concrete is not None and np.any((concrete < -size) | (concrete >= size)):
            raise InputError(f"There are {size} members (0 to {size - 1}), but member {index} was asked for.")
        index = jnp.asarray(index)
    if not isinstance(members, Members):
        return tree_take(members, index)
    if not isinstance(index, slice):
        index = jnp.atleast_1d(index)
    weight, origin = members.weight, members.origin
    kept = None if weight is None else weight[index] / jnp.maximum(weight[index].sum(), jnp.finfo(weight.dtype).tiny)
    return Members(
        tree_take(members.variables, index),
        members.shared,
        None if members.key is None else members.key[index],
        kept,
        jnp.arange(size)[index] if origin is None else origin[index],
    )


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Single networks, each without a member axis, as one tree with a leading axis `len(trees)`.

    Raises:
      InputError: none given, or two differ in structure or in the shape of a leaf (named).
    """
    trees = list(trees)
    if not trees:
        raise InputError("`stack` expected at least one network, but got none.")
    _check_alike(trees, what="Network", skip=0)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def concatenate(ensembles: Sequence[PyTree]) -> PyTree:
    """Ensembles joined along the member axis; sizes may differ.

    For `Members`, weights are shared out in proportion to the number of members, and origins are renumbered so
    that members of different ensembles stay apart.

    Raises:
      InputError: none given, or two differ in structure or in the shape of a leaf beyond the first axis (named).
    """
    ensembles = list(ensembles)
    if any(hasattr(e, "predict") for e in ensembles):
        raise InputError("`concatenate` joins `Members` (`posterior.sample()`) or variables, not posteriors.")
    if not ensembles:
        raise InputError("`concatenate` expected at least one ensemble, but got none.")
    if not isinstance(ensembles[0], Members):
        _check_alike(ensembles, what="Ensemble", skip=1)
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *ensembles)
    if any(jax.tree.leaves(e.shared) for e in ensembles):
        raise InputError("`concatenate` cannot join members that share a common part; stack their variables instead.")
    sizes = [num_members(e) for e in ensembles]
    origins, offset = [], 0
    for e, size in zip(ensembles, sizes, strict=True):
        origin = jnp.arange(size) if e.origin is None else e.origin
        origins.append(origin + offset)
        offset += int(origin.max()) + 1
    weights = [
        (jnp.full(size, 1 / size) if e.weight is None else e.weight) * (size / sum(sizes))
        for e, size in zip(ensembles, sizes, strict=True)
    ]
    keys = [e.key for e in ensembles]
    if any(k is None for k in keys) and any(k is not None for k in keys):
        raise InputError("`concatenate` cannot join members with their own randomness and members without.")
    return Members(
        concatenate([e.variables for e in ensembles]),
        (),
        None if keys[0] is None else jnp.concatenate(keys),
        jnp.concatenate(weights),
        jnp.concatenate(origins),
    )


def _check_alike(trees: Sequence[PyTree], *, what: str, skip: int) -> None:
    def leaves(tree: PyTree) -> dict[str, tuple]:
        found = jax.tree_util.tree_flatten_with_path(tree)[0]
        return {path_name(path): np.shape(leaf)[skip:] for path, leaf in found}

    first = leaves(trees[0])
    for i, tree in enumerate(trees[1:], start=1):
        other = leaves(tree)
        for path in (*first, *other):
            if first.get(path) != other.get(path):
                have, got = first.get(path, "no such leaf"), other.get(path, "no such leaf")
                raise InputError(f"{what} {i} differs from {what.lower()} 0 at `{path}`: {got} against {have}.")


def best(members: PyTree, score: ArrayLike) -> PyTree:
    """The member with the lowest score: the winner of a sweep over seeds or hyperparameters.

    Args:
      members: `Members`, `Variables`, or any pytree whose leaves lead with the member axis K.
      score: `(K,)`, lower is better; NaN never wins.
    Raises:
      InputError: another length, or no finite score.
    Example:
      >>> import jax.numpy as jnp
      >>> float(best({"w": jnp.array([1.0, 2.0, 3.0])}, jnp.array([0.3, 0.1, jnp.nan]))["w"])
      2.0
    """
    score = jnp.asarray(score)
    size = num_members(members)
    if score.shape != (size,):
        raise InputError(f"`best` expected one score for each of the {size} members, but got shape {score.shape}.")
    if is_concrete(score) and not bool(jnp.isfinite(score).any()):
        raise InputError("`best` expected at least one finite score, but every member's is NaN or infinite.")
    return take(members, jnp.argmin(jnp.where(jnp.isnan(score), jnp.inf, score)))
