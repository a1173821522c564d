"""Scores of draws of one number: what an ensemble says through M equally or unequally likely values."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from .._typing import Array, ArrayLike
from . import _inputs, _route

_ESTIMATORS = ("empirical", "fair")
_CHUNK = 1 << 15  # numbers sorted at a time on the host: they stay in the cache


def crps_ensemble(
    draws: ArrayLike, y: ArrayLike, *, estimator: str = "empirical", member_weight: ArrayLike | None = None
) -> Array:
    """Continuous ranked probability score of draws: E|X − y| − ½ E|X − X′|.

    `"empirical"` takes the M draws for the whole predictive distribution, as for the members of a deep ensemble that
    is used as it is: E|X − X′| is the mean over all M² pairs. `"fair"` takes them for a sample of it and estimates
    the score of what they were drawn from without bias: the mean over the M(M − 1) pairs of different draws. Fair
    scores may be negative. The empirical score of a few draws is too high, by half the mean distance divided by M: it
    misleads where ensembles of different sizes are compared.

    Time O(N M log M), memory O(N M). Concrete arrays on a CPU are sorted by NumPy; a compiled program on a CPU sorts
    by a network in O(N M log² M).

    Args:
      draws: `(M, …)`, members first, in the units of `y`.
      y: outcomes, of the shape of one draw: `()`, `(N,)`, `(N, D)`, …
      estimator: "empirical" or "fair".
      member_weight: `(M,)`, how likely each draw is; None means equally. A draw of weight 0 is inert.
    Returns:
      The shape of `y`, in its units; lower is better.
    Raises:
      InputError: shapes that do not fit, numbers that are not finite, fewer than two draws for "fair".
    References:
      gneiting2007, eq. 21; ferro2014, for the fair score. Checked against a double loop over pairs, the integral
      over the step function, and scoringrules.
    Example:
      >>> float(crps_ensemble([1.0, 3.0], 2.0)), float(crps_ensemble([1.0, 3.0], 2.0, estimator="fair"))
      (0.5, 0.0)
    """
    members, outcome, weight = check_draws("crps_ensemble", draws, y, estimator, member_weight)
    arrays = (members, outcome, weight)
    if is_concrete(arrays) and all(_route._on_cpu(each) for each in arrays if isinstance(each, jax.Array)):
        flat = np.asarray(members).reshape(members.shape[0], -1)
        known = None if weight is None else np.asarray(weight, np.float64)
        value = _sorted_by_numpy(flat, np.asarray(outcome).reshape(-1), estimator, known)
        return _route.like(value.reshape(outcome.shape), members, outcome)
    return _route.run(_crps_on_device, *arrays, estimator=estimator)


def error_spread_score(draws: ArrayLike, y: ArrayLike) -> Array:
    """(s² − e² − e s g)² with e = mean − y: do spread and skewness of the draws tell the size of the error?

    s and g are standard deviation and skewness, E((X − mean)/s)³, of the draws taken as the whole distribution (a
    mean over M, nowhere M − 1). Proper, but only for these three moments, and of the fourth power of `y`: a few large
    errors decide its mean. scoringrules divides the skewness by a further M − 2, which all but removes it.

    Args:
      draws: `(M, …)`, members first, M ≥ 2.
      y: outcomes, of the shape of one draw.
    Returns:
      The shape of `y`, in the fourth power of its units; lower is better. Draws that coincide have no skewness: g s³
      is 0.
    Raises:
      InputError: shapes that do not fit, numbers that are not finite, fewer than two draws.
    References:
      christensen2015, eq. 14. Checked against scipy.stats.skew, and for propriety by integration.
    Example:
      >>> error_spread_score([[0.0], [2.0]], [3.0]).tolist()
      [9.0]
    """
    members, outcome, _ = check_draws("error_spread_score", draws, y, "empirical", None)
    if members.shape[0] < 2:
        raise InputError("`error_spread_score` expected at least two draws, but got one, which has no spread.")
    return _route.run(_error_spread, members, outcome)


def check_draws(name: str, draws: Any, y: Any, estimator: str, weight: Any, ndim: int = 0) -> tuple[Any, Any, Any]:
    """Draws `(M, …)`, outcomes of the shape of one draw and weights `(M,)` or None, in one floating dtype."""
    _inputs.choice(name, "estimator", estimator, _ESTIMATORS)
    y = _inputs.array(name, "y", y)
    draws = _inputs._array(name, draws)
    if draws.ndim == 0 or 0 in draws.shape or draws.shape[1:] != y.shape or draws.ndim < 1 + ndim:
        wanted = "(M, N, D)" if ndim == 2 else "(M, …)"
        raise InputError(
            f"`{name}` expected `draws` of shape {wanted}, members first, and `y` of the shape of one draw, but got "
            f"{draws.shape} and {y.shape}."
        )
    size = draws.shape[0]
    weight = _inputs.member_weight(name, weight, size)
    if weight is not None:
        xp = _xp(draws, weight)
        live = (weight > 0).reshape((-1,) + (1,) * (draws.ndim - 1))
        draws = xp.where(live, draws, y[None].astype(draws.dtype))  # of no weight: anything finite will do
    draws = _inputs.array(name, "draws", draws)
    number = size if weight is None or not is_concrete(weight) else int((np.asarray(weight) > 0).sum())
    if estimator == "fair" and number < 2:
        raise InputError(
            f"`{name}` with estimator='fair' expected at least two draws, but got {number}: the distance between two "
            "draws cannot be told from one. Use estimator='empirical'."
        )
    draws, y = _inputs.floating(draws, y)
    return draws, y, None if weight is None else weight.astype(draws.dtype)


def _xp(*arrays: Any) -> Any:
    return jnp if any(isinstance(each, jax.Array) for each in arrays) else np


# On the host: rows in small pieces, each sorted in the cache; what is summed is summed in float64.


def _sorted_by_numpy(draws: np.ndarray, y: np.ndarray, estimator: str, weight: np.ndarray | None) -> np.ndarray:
    size, number = draws.shape
    out = np.empty(number)
    step = max(1, _CHUNK // size)
    spread = _spread_coefficients(size, estimator)
    for start in range(0, number, step):
        rows = slice(start, start + step)
        gap = np.array(draws[:, rows].T, order="C")  # always a copy: it is changed in place
        gap -= y[rows, None]  # about the outcome, so that an offset of 10⁶ costs no digits
        if weight is None:
            gap.sort(axis=1)
            gap = gap.astype(np.float64, copy=False)
            out[rows] = np.abs(gap).mean(1) - gap @ spread
        else:
            out[rows] = _weighted(np, gap.astype(np.float64, copy=False), weight, estimator)
    return out


def _spread_coefficients(size: int, estimator: str) -> np.ndarray:
    """½ E|X − X′| = Σ_i c_i x_(i), the draws in rising order."""
    pairs = size * size if estimator == "empirical" else size * (size - 1)
    return (2.0 * np.arange(size) - size + 1) / pairs


def _weighted(xp: Any, gap: Any, weight: Any, estimator: str) -> Any:
    """Members last: Σ w |x| − Σ x w (W + W₋ − 1) over members in rising order, W being the weight up to each."""
    order = xp.argsort(gap, axis=-1)
    gap = xp.take_along_axis(gap, order, axis=-1)
    mass = weight[order]
    spread = (gap * mass * (2 * xp.cumsum(mass, axis=-1) - mass - 1)).sum(-1)
    if estimator == "fair":
        spread = spread / (1 - (weight * weight).sum())
    return (xp.abs(gap) * mass).sum(-1) - spread


# On the device


def _crps_on_device(xp: Any, draws: Array, y: Array, weight: Array | None, *, estimator: str) -> Array:
    gap = draws - y
    size = gap.shape[0]
    if weight is not None:
        return _weighted(jnp, jnp.moveaxis(gap, 0, -1), weight, estimator)

    coefficients = jnp.asarray(_spread_coefficients(size, estimator), gap.dtype)
    # XLA's own sort is several times slower than the network on a CPU, and faster on other devices.
    ordered = jax.lax.platform_dependent(gap, cpu=_sorted_by_network, default=_sorted_by_xla)
    spread = jnp.tensordot(coefficients, ordered, 1)
    return jnp.abs(gap).mean(0) - spread


def _sorted_by_xla(values: Array) -> Array:
    return jnp.sort(values, axis=0)


def _sorted_by_network(values: Array) -> Array:
    """Sorted over the first axis by a bitonic network: O(log² M) rounds of minima and maxima of whole arrays."""
    size, rest = values.shape[0], values.shape[1:]
    whole = 1 << (size - 1).bit_length()
    values = jnp.concatenate([values, jnp.full((whole - size, *rest), jnp.inf, values.dtype)])
    block = 2
    while block <= whole:
        values = jax.checkpoint(_merged, static_argnums=1)(values, block)
        block *= 2
    return values[:size]


def _merged(values: Array, block: int) -> Array:
    """Blocks whose two halves are sorted, sorted as a whole: each is compared with its mirror image, then by halves."""
    shape = values.shape
    values = values.reshape(-1, block, *shape[1:])
    low, high = values[:, : block // 2], values[:, block // 2 :][:, ::-1]
    values = jnp.concatenate([jnp.minimum(low, high), jnp.maximum(low, high)[:, ::-1]], 1)
    while block > 2:
        block //= 2
        values = values.reshape(-1, block, *shape[1:])
        low, high = values[:, : block // 2], values[:, block // 2 :]
        values = jnp.concatenate([jnp.minimum(low, high), jnp.maximum(low, high)], 1)
    return values.reshape(shape)


def _error_spread(xp: Any, draws: Any, y: Any) -> Any:
    mean = draws.mean(0)
    gap = draws - mean
    error = mean - y
    variance, third = (gap * gap).mean(0), (gap**3).mean(0)
    # s g is third / variance; where all draws coincide both vanish
    some = variance > 0
    lean = xp.where(some, third / xp.where(some, variance, 1), 0)
    return xp.square(variance - error * error - error * lean)
