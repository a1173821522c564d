"""Bayesian linear regression with known noise: the posterior that variational families should find."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax

import uq

from ..nets import Unit

LOC, SPREAD = 0.5, 2.0
"""The prior of every weight."""


def problem() -> tuple[jax.Array, jax.Array, np.ndarray, np.ndarray]:
    """Inputs, targets, and the posterior's mean and covariance, in float64, by the textbook's formula."""
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (12, 3)) @ np.array([[1.0, 0.6, 0.0], [0.0, 0.8, 0.3], [0.0, 0.0, 0.7]])
    y = x @ np.array([1.5, -2.0, 0.5]) + rng.normal(0, 1, 12)
    covariance = np.linalg.inv(np.eye(3) / SPREAD**2 + x.T @ x)
    mean = covariance @ (np.full(3, LOC) / SPREAD**2 + x.T @ y)
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32), mean, covariance


def network() -> Any:
    """Outputs linear in three weights."""

    def init(key: Any, x: Any) -> Any:
        return {"w": 0.1 * jax.random.normal(key, (3,))}

    return init, lambda params, x: (x @ params["w"])[:, None]


def fitted(factory: Any, *, steps: int = 2500, **settings: Any) -> Any:
    """The state after full-batch training with a decaying rate, averaged over the last fifth."""
    x, y, _, _ = problem()
    optimizer = optax.adam(optax.exponential_decay(0.05, steps, 0.02))
    method = factory(network(), Unit(), optimizer, prior=dist.Normal(LOC, SPREAD), num_samples=16, **settings)
    batch = uq.Batch(x, y, None, jnp.float32(len(y)))

    def step(state: Any, key: Any) -> Any:
        state, _ = method.update(key, state, batch)
        return state, state._replace(opt_state=())

    state = method.init(jax.random.key(0), x)
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam mixes dtypes
        _, path = jax.jit(lambda s, k: jax.lax.scan(step, s, k))(state, jax.random.split(jax.random.key(1), steps))
    return method, jax.tree.map(lambda leaf: leaf[-steps // 5 :].mean(0), path)
