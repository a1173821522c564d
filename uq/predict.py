"""Members × inputs → `Predictive`, in bounded memory over both."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._cache import ProgramCache, fingerprint
from ._checks import InputError, check_count, check_inputs, is_concrete, leading_size
from ._tree import tree_take
from ._typing import Array, PyTree
from .execution import has_convolution, looped, lowered
from .likelihoods import Likelihood, check_width
from .members import Members, num_members
from .model import Model, as_model
from .predictive import Predictive

_PROGRAMS = ProgramCache()
_BUDGET: int | None = None
"""Bytes that one call's intermediate values may take; None is `budget`'s choice."""


def budget() -> int:
    """Bytes that one call's intermediate values may take.

    On a CPU about as many as its caches hold: the moments of an MLP took 1.5 times as long in chunks of 65,536 rows as
    in the 5,120 that these bytes give (docs/benchmarks.md). Elsewhere more, which was not measured.
    """
    if _BUDGET is not None:
        return _BUDGET
    return (32 if jax.default_backend() == "cpu" else 256) * 2**20


def predict(
    model: Any,
    likelihood: Likelihood,
    members: Members,
    x: PyTree,
    *,
    batch_size: int | None = None,
    member_size: int | None = None,
) -> Predictive:
    """What the members say about `x`, as the exact mixture of their distributions.

    Rows and members are taken in chunks, so that memory stays bounded whatever N and M; every chunk has the same
    shape (the last is padded), and the chunks do not change a row's numbers beyond rounding.

    Args:
      model: the members' network, anything `as_model` takes.
      likelihood: what its outputs mean.
      members: the networks.
      x: inputs, `(N, …)` or a pytree of such.
      batch_size: rows at a time; None chooses so that intermediate values stay within a CPU's caches (32 MiB),
        or 256 MiB elsewhere.
      member_size: members at a time; None chooses likewise.
    Returns:
      A `Predictive` over N examples and M members.
    Raises:
      InputError: empty or non-finite inputs, members of unequal leading axes, all of them diverged, outputs of the
        wrong width, or inputs that the network cannot take.
    """
    model = as_model(model)
    check_members("predict", members)
    x = check_inputs(x)
    num_rows, size = leading_size("x", x), num_members(members)
    check_outputs(model, likelihood, members, x)
    allowed = max(1, budget() // max(bytes_per_row(model, members, x), 1))
    if member_size is None:
        member_size = max(1, allowed // min(num_rows, 256))
    member_size = min(check_count("member_size", member_size), size)
    batch_size = max(1, allowed // member_size) if batch_size is None else check_count("batch_size", batch_size)
    batch_size = bucket(min(batch_size, num_rows))
    forward = forward_of(model, likelihood, members, member_size)

    rows: list[Any] = []
    for start in range(0, num_rows, batch_size):
        part = jax.tree.map(lambda leaf: _padded(leaf[start : start + batch_size], batch_size), x)
        ready = forward(part)[:, : min(batch_size, num_rows - start)]
        if rows and is_concrete(ready):  # gathered on the host, each part while the next is computed
            rows[-1] = np.asarray(rows[-1])
        rows.append(ready)
    gather = np.concatenate if is_concrete(rows) else jnp.concatenate
    outputs = rows[0] if len(rows) == 1 else jnp.asarray(gather(rows, axis=1))
    return Predictive(outputs, likelihood, weight_of(members, outputs.dtype))


def forward_of(model: Model, likelihood: Likelihood, members: Members, member_size: int) -> Callable[[PyTree], Array]:
    """`x -> (M, N, …, width)` through the model's compiled program, `member_size` members at a time."""
    program = _PROGRAMS.get(fingerprint(model), lambda: _program(model))
    size = num_members(members)

    def forward(x: PyTree) -> Array:
        parts = [
            columns_of(program(_chunk(members, first, member_size), x), likelihood)[: size - first]
            for first in range(0, size, member_size)
        ]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts)

    return forward


def weight_of(members: Members, dtype: Any) -> Array:
    """Member weights, `(M,)`; equal where there are none."""
    size = num_members(members)
    return jnp.full(size, 1 / size, dtype) if members.weight is None else members.weight


def check_members(name: str, members: Any) -> None:
    """Raise unless `members` are `Members`."""
    if not isinstance(members, Members):
        raise InputError(
            f"`{name}` expected `Members`, but got a {type(members).__name__}; for trained variables use "
            f"uq.posterior(model, likelihood, variables), and its methods."
        )


def _program(model: Model) -> Any:
    """All members at once; on a CPU one after another where there are convolutions, as matrix products."""

    def run(members: Members, x: PyTree) -> Array:
        def one(variables: Any, key: Any) -> Array:
            joined: Any = variables if not jax.tree.leaves(members.shared) else (variables, members.shared)
            outputs = model.apply(joined, x, key=key)[0]
            return outputs if outputs.dtype.itemsize >= 4 else outputs.astype(jnp.float32)

        if jax.default_backend() == "cpu" and has_convolution(one, *tree_take((members.variables, members.key), 0)):
            return looped(lowered(one))(members.variables, members.key)
        return jax.vmap(one, in_axes=(0, None if members.key is None else 0))(members.variables, members.key)

    return jax.jit(run)


def columns_of(outputs: Array, likelihood: Likelihood) -> Array:
    """Stacked outputs `(M, N, …)` with their event axis."""
    return outputs[..., None] if likelihood.width == 1 and outputs.ndim == 2 else outputs


def _chunk(members: Members, first: int, size: int) -> Members:
    """`size` members from `first` on; the last chunk repeats the last member to keep its shape."""
    total = num_members(members)
    bare = members._replace(weight=None, origin=None)
    if size >= total:
        return bare
    index = jnp.minimum(jnp.arange(first, first + size), total - 1)
    key = None if bare.key is None else bare.key[index]
    return Members(tree_take(bare.variables, index), bare.shared, key)


def _padded(leaf: Any, size: int) -> Any:
    missing = size - leaf.shape[0]
    if missing == 0:
        return leaf
    module = jnp if isinstance(leaf, jax.Array) else np
    return module.concatenate([leaf, module.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))])


def bucket(num: int) -> int:
    """`num` rounded up to three significant bits, so that data of similar length share a compiled program."""
    step = 2 ** max(0, math.ceil(math.log2(num)) - 3) if num > 8 else 1
    return -(-num // step) * step


def check_outputs(model: Model, likelihood: Likelihood, members: Members, x: PyTree) -> None:
    """Raise, in a sentence, where the network cannot take `x` or its outputs do not fit the likelihood."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), members.variables)
    try:
        outputs = jax.eval_shape(lambda v: model.apply(v, jax.tree.map(jnp.asarray, x))[0], one)
    except InputError:
        raise
    except Exception as error:
        shapes = jax.tree.map(np.shape, x)
        raise InputError(
            f"The network cannot take inputs of shape {shapes}; was it trained on other inputs? It says: "
            f"{_first_line(error)}"
        ) from error
    if likelihood.width is not None and likelihood.free:
        return  # the shared parameters are among the outputs, and `attach` checks the others
    check_width(likelihood, outputs.shape, leading_size("x", x))


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__


def bytes_per_row(model: Model, members: Members, x: PyTree) -> int:
    """Bytes of all intermediate values of one member for one row: an upper bound of what a call holds at once."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), members.variables)
    few = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape[1:]), _canonical(leaf.dtype)), x)
    jaxpr = jax.make_jaxpr(lambda v, x: model.apply(v, x)[0])(one, few)
    return _values_bytes(jaxpr.jaxpr) // 2


def _canonical(dtype: Any) -> Any:
    return jax.dtypes.canonicalize_dtype(dtype)


def _values_bytes(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        inner = [getattr(p, "jaxpr", p) for p in equation.params.values() if hasattr(getattr(p, "jaxpr", p), "eqns")]
        if inner:
            total += sum(_values_bytes(part) for part in inner)
        else:
            total += sum(v.aval.size * v.aval.dtype.itemsize for v in equation.outvars if hasattr(v.aval, "size"))
    return total
