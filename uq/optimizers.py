"""The default recipe: AdamW whose learning rate rises and falls once over the run, slower in wide layers.

The schedule reads the *fraction* of training done (`Batch.progress`), which `fit` passes as a traced number: runs of
any length share one compiled program, and nothing has to know the number of steps beforehand.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ._checks import InputError
from ._tracing import straight
from ._typing import Array, PyTree
from .execution._bundles import bundled, bundled_scalars, unbundled

apply_updates = straight(optax.apply_updates)


def as_optimizer(optimizer: Any) -> optax.GradientTransformationExtraArgs:
    """The optimizer given, or `one_cycle()` for None, in the form that takes extra arguments.

    Raises:
      InputError: not an optax optimizer.
    """
    optimizer = one_cycle() if optimizer is None else optimizer
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise InputError(f"`optimizer` expected an optax optimizer, such as optax.adam(1e-3), but got {optimizer!r}.")
    return optax.with_extra_args_support(optimizer)


class OneCycleState(NamedTuple):
    """What `one_cycle` carries: the moments of the gradient."""

    count: Array  # type: ignore[assignment]
    """Updates done, (), int32; corrects the bias of the moments."""
    mean: list[Array]
    """First moment of the gradient, small leaves of one dtype joined to one vector."""
    square: list[Array]
    """Second moment of the gradient, joined alike."""


def one_cycle(
    learning_rate: float = 3e-2,
    *,
    weight_decay: float = 0.0,
    fan_in: float | None = 16,
    warmup: float = 0.1,
    clip: float = 10.0,
    b1: float = 0.9,
    b2: float = 0.99,
    eps: float = 1e-8,
) -> optax.GradientTransformationExtraArgs:
    """AdamW under a one-cycle schedule of `progress`: linear warm-up, then a half cosine down to zero.

    Without `progress` (a hand-written loop that does not pass it) the learning rate stays at its peak. Weight decay
    is decoupled and follows the schedule. Gradients are clipped by their global norm. For other schedules pass any
    optax optimizer, built with an optax schedule, instead of this one.

    Args:
      learning_rate: the peak.
      weight_decay: decoupled decay of every parameter.
      fan_in: a kernel that sums over n inputs learns at the rate × min(1, √(fan_in / n)), so that one peak serves
        narrow and wide layers; n is the product of all axes but the last. None gives all the same rate.
      warmup: the fraction of the run spent rising, below 1.
      clip: the largest global norm of a gradient.
      b1, b2, eps: as `optax.adam`.
    References:
      kingma2015, algorithm 1; loshchilov2019, algorithm 2; smith2018. Checked against a chain of optax's own.
    """

    if not 0 <= warmup < 1:
        raise InputError(f"`warmup` expected a fraction of at least 0 and below 1, but it is {warmup}.")
    for name, value in (("learning_rate", learning_rate), ("clip", clip), ("fan_in", 1 if fan_in is None else fan_in)):
        if not value > 0:
            raise InputError(f"`{name}` expected a positive number, but it is {value}.")

    def init(params: PyTree) -> OneCycleState:
        zeros = [jnp.zeros_like(bundle) for bundle in bundled(params)]
        return OneCycleState(jnp.zeros((), jnp.int32), zeros, zeros)

    @straight
    def update(
        grads: PyTree, state: OneCycleState, params: PyTree | None = None, *, progress: Any = None, **extra: Any
    ) -> tuple[PyTree, OneCycleState]:
        del extra
        bundles = bundled(grads)
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g.astype(jnp.result_type(float)))) for g in bundles))
        shrink = jnp.minimum(1.0, clip / jnp.maximum(norm, 1e-12))
        rate = learning_rate * shape(progress)
        count = state.count + 1
        fix1, fix2 = 1 - b1 ** count.astype(norm.dtype), 1 - b2 ** count.astype(norm.dtype)
        bundles = [g * shrink.astype(g.dtype) for g in bundles]
        mean = [b1 * m + (1 - b1) * g for m, g in zip(state.mean, bundles, strict=True)]
        square = [b2 * v + (1 - b2) * jnp.square(g) for v, g in zip(state.square, bundles, strict=True)]

        def step(m: Array, v: Array, p: Array | None, share: Any) -> Array:
            # Division comes last: what followed it would be repeated in the kernel of every leaf.
            pace = -jnp.asarray(rate, m.dtype) * share
            change = pace * (m / fix1.astype(m.dtype)) / (jnp.sqrt(v / fix2.astype(v.dtype)) + eps)
            return change if p is None else change + pace * weight_decay * p

        shares = bundled_scalars(jax.tree.map(share, grads), grads)
        weights = bundled(grads if params is None else params) if weight_decay else [None] * len(mean)
        updates = [step(*each) for each in zip(mean, square, weights, shares, strict=True)]
        return unbundled(updates, grads), OneCycleState(count, mean, square)

    def shape(progress: Any) -> Any:
        if progress is None:
            return 1.0
        left = (1 - jnp.maximum(progress, warmup)) / (1 - warmup)
        return jnp.minimum(progress / max(warmup, 1e-12), 1.0) * jnp.square(_sine_of_half_turns(0.5 * left))

    def share(leaf: Array) -> float:
        if fan_in is None or leaf.ndim < 2:
            return 1.0
        return min(1.0, math.sqrt(fan_in / max(1, math.prod(leaf.shape[:-1]))))

    return optax.GradientTransformationExtraArgs(init, update)


def _sine_of_half_turns(t: Any) -> Any:
    """sin(π t) for |t| ≤ 1/2 by its series, to 1e-9. A compiler's own takes any angle, and compiles for longer."""
    square = jnp.square(jnp.pi * t)
    rest: Any = 0.0
    for n in range(13, 1, -2):
        rest = (1 - rest) * square / (n * (n - 1))
    return jnp.pi * t * (1 - rest)
