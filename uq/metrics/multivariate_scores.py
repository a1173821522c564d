"""Scores of draws of several numbers at once: they see dependence between outputs, which marginal scores do not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from .._typing import Array, ArrayLike
from . import _inputs, _route
from .ensemble_scores import check_draws

_CHUNK = 1 << 17  # numbers differenced at a time on the host


def energy_score(
    draws: ArrayLike, y: ArrayLike, *, estimator: str = "empirical", member_weight: ArrayLike | None = None
) -> Array:
    """E‖X − y‖ − ½ E‖X − X′‖, the continuous ranked probability score of vectors.

    `estimator` is as in `crps_ensemble`: "empirical" takes the M draws for the whole distribution, "fair" estimates
    the score of what they were drawn from without bias. Outputs in different units must be scaled first: the largest
    decides. It tells wrong means far better than wrong correlations; for those see `variogram_score`.

    Time O(N M² D), memory O(N M D).

    Args:
      draws: `(M, N, D)`, members first.
      y: outcomes `(N, D)`.
      estimator: "empirical" or "fair".
      member_weight: `(M,)`, how likely each draw is; None means equally.
    Returns:
      `(N,)`, in the units of `y`; lower is better. Its gradient where two draws coincide is taken as 0.
    Raises:
      InputError: shapes that do not fit, numbers that are not finite, fewer than two draws for "fair".
    References:
      gneiting2007, eq. 22; ferro2014, for the fair score. Checked against a double loop over pairs, `crps_ensemble`
      for D = 1, and scoringrules.
    Example:
      >>> energy_score([[[0.0, 0.0]], [[6.0, 8.0]]], [[0.0, 0.0]]).tolist()
      [2.5]
    """
    members, outcome, weight = check_draws("energy_score", draws, y, estimator, member_weight, ndim=2)
    _check_vectors("energy_score", members)
    return _route.run(_energy, members, outcome, weight, estimator=estimator)


def variogram_score(
    draws: ArrayLike,
    y: ArrayLike,
    *,
    p: float = 0.5,
    pair_weight: ArrayLike | None = None,
    estimator: str = "empirical",
    member_weight: ArrayLike | None = None,
) -> Array:
    """Σ_ij w_ij (|y_i − y_j|ᵖ − E|X_i − X_j|ᵖ)²: are differences between outputs as large as predicted?

    The sum is over ordered pairs, so that each pair of outputs counts twice. "fair" subtracts the part of the square
    that only comes from estimating the mean from M draws: for equal weights the unbiased variance of |X_i − X_j|ᵖ over
    M. A shift of
    all outputs together goes unnoticed: use it beside a score that sees the mean.

    Time O(N M D²), memory O(N M D).

    Args:
      draws: `(M, N, D)`, members first.
      y: outcomes `(N, D)`.
      p: order of the variogram, positive; 0.5 suits skewed outcomes.
      pair_weight: w, `(D, D)`, non-negative; None means 1 for each.
      estimator: "empirical" or "fair".
      member_weight: `(M,)`, how likely each draw is; None means equally.
    Returns:
      `(N,)`, in the units of `y` to the power 2p; lower is better.
    Raises:
      InputError: shapes that do not fit, numbers that are not finite, p ≤ 0, fewer than two draws for "fair".
    References:
      scheuerer2015. Checked against a loop over members and pairs, and scoringrules.
    Example:
      >>> variogram_score([[[0.0, 1.0]], [[0.0, 4.0]]], [[0.0, 1.0]]).tolist()
      [0.5]
    """
    members, outcome, weight = check_draws("variogram_score", draws, y, estimator, member_weight, ndim=2)
    _check_vectors("variogram_score", members)
    if not is_concrete(p) or np.ndim(p) or not 0 < float(p) < np.inf:
        raise InputError(f"`variogram_score` expected a positive number `p`, but it is {p}.")
    pairs = None if pair_weight is None else _pairs(pair_weight, members)
    return _route.run(_variogram, members, outcome, weight, pairs, p=float(p), estimator=estimator)


def _pairs(pair_weight: Any, draws: Any) -> Any:
    """Weights of pairs of outputs, `(D, D)`."""
    width = draws.shape[-1]
    pairs = _inputs.floating(draws, _inputs.array("variogram_score", "pair_weight", pair_weight))[1]
    if pairs.shape != (width, width):
        raise InputError(
            f"`variogram_score` expected `pair_weight` of shape ({width}, {width}), one number a pair of outputs, "
            f"but it is {pairs.shape}."
        )
    if is_concrete(pairs) and (np.asarray(pairs) < 0).any():
        raise InputError("`variogram_score` expected `pair_weight` that is not negative.")
    return pairs


def _check_vectors(name: str, draws: Any) -> None:
    if draws.ndim != 3:
        raise InputError(f"`{name}` expected `draws` of shape (M, N, D), but got {draws.shape}.")


def _equal(xp: Any, weight: Any, draws: Any) -> Any:
    size = draws.shape[0]
    return xp.full(size, 1 / size, draws.dtype) if weight is None else weight


def _norm(xp: Any, difference: Any) -> Any:
    """Length over the last axis, with gradient 0 where it is 0."""
    square = (difference * difference).sum(-1)
    some = square > 0
    return xp.where(some, xp.sqrt(xp.where(some, square, 1)), 0)


def _energy(xp: Any, draws: Any, y: Any, weight: Any, *, estimator: str) -> Any:
    weight = _equal(xp, weight, draws)
    spread: Any
    if xp is np:
        step = max(1, _CHUNK // (draws.shape[0] * draws.shape[2]))
        pieces = [slice(start, start + step) for start in range(0, draws.shape[1], step)]
        spread = np.concatenate([_energy_spread_on_host(draws[:, rows], weight) for rows in pieces])
    else:

        @jax.checkpoint  # or the gradient would keep all differences between two draws
        def add(total: Array, one: Array, mass: Array) -> Array:
            return total + mass * jnp.tensordot(weight, _norm(jnp, draws - one), 1)

        start = jnp.zeros(draws.shape[1:2], draws.dtype)
        spread = 0.5 * jax.lax.scan(lambda total, one: (add(total, *one), None), start, (draws, weight))[0]
    if estimator == "fair":
        spread = spread / (1 - (weight * weight).sum())
    return xp.tensordot(weight, _norm(xp, draws - y), 1) - spread


def _energy_spread_on_host(draws: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """½ ΣΣ w w ‖x − x′‖, each pair of draws once."""
    outputs = np.ascontiguousarray(np.moveaxis(draws, 2, 0))  # sums over a short last axis are slow
    total = np.zeros(draws.shape[1])
    for one in range(len(draws) - 1):
        square = np.square(outputs[0, one + 1 :] - outputs[0, one])
        for output in outputs[1:]:
            square += np.square(output[one + 1 :] - output[one])
        total += weight[one] * (weight[one + 1 :] @ np.sqrt(square, out=square))
    return total


def _power(xp: Any, difference: Any, p: float) -> Any:
    """|difference|ᵖ, with gradient 0 where it is 0."""
    size = xp.abs(difference)
    some = size > 0
    return xp.where(some, xp.where(some, size, 1) ** p, 0)


def _variogram(xp: Any, draws: Any, y: Any, weight: Any, pair_weight: Any, *, p: float, estimator: str) -> Any:
    weight = _equal(xp, weight, draws)
    width = draws.shape[-1]
    pair_weight = xp.ones((width, width), draws.dtype) if pair_weight is None else pair_weight
    square = (weight * weight).sum()
    total = xp.zeros(draws.shape[1], draws.dtype)
    for lag in range(1, width):  # pairs (i, i + lag): one array of the size of the draws at a time
        both = xp.diagonal(pair_weight, lag) + xp.diagonal(pair_weight, -lag)
        size = _power(xp, draws[..., lag:] - draws[..., :-lag], p)
        mean = xp.tensordot(weight, size, 1)
        gap = xp.square(_power(xp, y[..., lag:] - y[..., :-lag], p) - mean)
        if estimator == "fair":
            # of the mean's square, what comes from pairing draws with themselves
            gap = gap - xp.tensordot(weight * weight, (size - mean) * (size + mean), 1) / (1 - square)
        total = total + (gap * both).sum(-1)
    return total
