"""Calibration of the whole vector of class probabilities, by kernels: unbiased, and with a test."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from .._typing import Array, ArrayLike, Key
from ..members import as_key
from . import _events, _inputs, _route
from ._estimate import Estimate, Resample, Statistic, as_resample, mean, summarize
from ._events import draw_classes, known
from ._tests import TestResult, normal_sf

Estimator = Literal["uq", "ul", "biased"]
Kernel = Literal["laplacian", "gaussian"]
Target = Literal["canonical", "confidence", "binary"]
_PAIRS = 2_000_000
"""Pairs of rows that are held in memory at a time."""


class Rows(NamedTuple):
    at: Any
    """Where the kernel sees a prediction: its probabilities in units of the bandwidth, `(N, K)`."""
    p: Any
    """Probabilities, `(N, K)`; K = 1 for one event a row."""
    event: Any
    """What came about, bool, `(N, K)`."""


def kernel_calibration_error(
    pred: Any,
    y: ArrayLike,
    *,
    kind: Target = "canonical",
    estimator: Estimator = "uq",
    kernel: Kernel = "laplacian",
    bandwidth: float | None = None,
    weight: ArrayLike | None = None,
    key: Key | Resample | None = None,
) -> Estimate:
    """Squared kernel calibration error (SKCE): do residuals of similar predictions point the same way?

    With residuals r_i = onehot(y_i) − p_i and h_ij = κ(p_i, p_j) r_i · r_j, it is the expectation of h over two
    examples; 0 if and only if the predictions are calibrated as a whole vector. Estimated by

    - "uq": Σ_{i ≠ j} h_ij / (n (n − 1)), unbiased; quadratic time, memory of a block of rows;
    - "ul": the mean of h over the pairs of rows (1, 2), (3, 4), …: unbiased, linear time, noisier; an odd last
      row has no pair; the weight of a pair is the product of its rows' weights;
    - "biased": Σ_ij h_ij / n², never negative. With kind "confidence" and bandwidth 0.4 its root is the MMCE.

    Unbiased estimates of a calibrated model are as often negative as positive: 0 is the value to compare with.
    Numbers depend on the kernel and its bandwidth, so compare only like with like. The standard error, like
    every first-order one, does not hold near 0, where `kernel_calibration_test` does.

    Args:
      pred: a `Predictive` of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
      kind: "canonical", all classes; "confidence", the largest probability and whether its class is right;
        "binary", P(1) and y = 1.
      estimator: as above.
      kernel: of the distance d between predictions, "laplacian" exp(−d / bandwidth) or "gaussian"
        exp(−d² / (2 bandwidth²)).
      bandwidth: in units of d; None is the root mean square of d over pairs, in place of its median, which
        would take quadratic memory.
      weight: case weights `(N,)`.
      key: a key, a seed or a `Resample`: adds a bootstrap interval, and for the quadratic estimators `null`;
        each resample of these costs as much as the estimate.
    Returns:
      An `Estimate` of one number.
    Raises:
      InputError: an unknown kind, estimator or kernel; a bandwidth that is not positive; fewer than 2 rows.
    References:
      widmann2019 (estimators); kumar2018 (MMCE). Checked against double loops.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.9, 0.8, 0.7, 0.9])
      >>> round(float(kernel_calibration_error(p, [0, 0, 0, 1], bandwidth=1.0)), 3)
      0.458
    """
    name = "kernel_calibration_error"
    rows = _rows(name, pred, y, kind, estimator, kernel, bandwidth, weight)
    words = f"squared kernel calibration error, {kind}, {estimator}, {kernel}"
    if estimator == "ul":
        values, pairs = _route.run(_linear, rows, weight, kernel=kernel)
        return mean(values, weight=pairs, estimand=words, key=key)
    settings = {"kernel": kernel, "biased": estimator == "biased"}
    return summarize(_QUADRATIC, rows, weight=weight, estimand=words, key=key, settings=settings)


def kernel_calibration_test(
    pred: Any,
    y: ArrayLike,
    *,
    kind: Target = "canonical",
    estimator: Literal["uq", "ul"] = "uq",
    kernel: Kernel = "laplacian",
    bandwidth: float | None = None,
    weight: ArrayLike | None = None,
    key: Key | Resample | None = None,
) -> TestResult:
    """Test of calibration by the squared kernel calibration error; a small p-value speaks against calibration.

    "uq" compares the estimate with wild-bootstrap ones, in which each row's residual changes its sign at random;
    it needs a key. "ul" compares it with a normal distribution: linear time, far less power.

    Args:
      pred, y, kind, kernel, bandwidth, weight: as in `kernel_calibration_error`.
      estimator: as there.
      key: a key, a seed or a `Resample` (its `num` is the number of bootstrap draws), for "uq".
    Returns:
      A `TestResult`; the statistic is the estimate for "uq", and its z-score for "ul".
    Raises:
      InputError: as `kernel_calibration_error`; "uq" without a key.
    References:
      widmann2019 (asymptotic test); arcones1992 (bootstrap of degenerate U-statistics). Checked for
      uniform p-values of calibrated models and for power.
    Example:
      >>> import numpy as np
      >>> p = np.full(100, 0.9)
      >>> float(kernel_calibration_test(p, np.arange(100) % 2, kind="binary", bandwidth=0.5, key=0).p_value) < 0.01
      True
    """
    known("estimator", estimator, ("uq", "ul"))
    how = as_resample(key)
    if estimator == "uq" and how is None:
        raise InputError('`kernel_calibration_test` expected a `key` for its bootstrap: pass key=0, or estimator="ul".')
    rows = _rows("kernel_calibration_test", pred, y, kind, estimator, kernel, bandwidth, weight)
    if estimator == "ul" or how is None:
        values, pairs = _route.run(_linear, rows, weight, kernel=kernel)
        found = mean(values, weight=pairs, estimand="")
        xp = np if isinstance(found.stderr, np.generic | float) else jnp
        still = found.stderr == 0
        z = xp.where(still, 0.0 * found.value, found.value / xp.where(still, 1.0, found.stderr))
        return TestResult(z, normal_sf(xp, z), _count(rows, weight))
    full = jnp.ones(rows.p.shape[0]) if weight is None else jnp.asarray(weight, jnp.result_type(float))
    rows = jax.tree.map(jnp.asarray, rows)
    value, p_value = _wild(kernel, how.num, as_key(how.key), rows, full)
    return TestResult(value, p_value, _count(rows, weight))


def _count(rows: Rows, weight: Any) -> Any:
    return rows.p.shape[0] if weight is None else (weight > 0).sum()


def _rows(name: str, pred: Any, y: Any, kind: str, estimator: str, kernel: str, bandwidth: Any, weight: Any) -> Rows:
    known("kind", kind, get_args(Target))
    known("estimator", estimator, get_args(Estimator))
    known("kernel", kernel, get_args(Kernel))
    if bandwidth is not None and is_concrete(bandwidth) and not 0 < float(bandwidth) < np.inf:
        raise InputError(f"`{name}` expected a positive `bandwidth`, but it is {bandwidth}.")
    if kind == "canonical":
        probs, labels = _inputs.classes(name, pred, y, weight)
        stated = _route.run(_onehot, probs, labels)
    else:
        found = _events.events(name, pred, y, kind, weight)[0]
        stated = found.p[:, None], found.event[:, None]
    if stated[0].shape[0] < 2:
        raise InputError(f"`{name}` compares pairs of examples and expected at least 2, but there is 1.")
    return Rows(_route.run(_place, stated[0], weight, bandwidth), *stated)


def _onehot(xp: Any, probs: Any, labels: Any) -> tuple[Any, Any]:
    return probs, labels[:, None].astype(np.int32) == xp.arange(probs.shape[1], dtype=np.int32)


def _place(xp: Any, p: Any, weight: Any, bandwidth: Any) -> Any:
    """Probabilities from their mean, in units of the bandwidth."""
    share = xp.full(p.shape[0], 1 / p.shape[0], p.dtype) if weight is None else (weight / weight.sum()).astype(p.dtype)
    centred = p - share @ p
    if bandwidth is None:
        square = 2 * (share @ xp.square(centred)).sum()
        bandwidth = xp.sqrt(xp.where(square > 1e-12, square, xp.ones_like(square)))  # 1 if all predictions are equal
    return centred / xp.asarray(bandwidth, p.dtype)


# Estimators


def _kappa(xp: Any, square: Any, kernel: str) -> Any:
    """The kernel of squared distances; smooth where they vanish."""
    if kernel == "gaussian":
        return xp.exp(-0.5 * xp.maximum(square, 0))
    apart = square > 1e-12
    return xp.where(apart, xp.exp(-xp.sqrt(xp.where(apart, square, xp.ones_like(square)))), xp.ones_like(square))


def _linear(xp: Any, rows: Rows, weight: Any, *, kernel: str) -> tuple[Any, Any]:
    """h of each pair of neighbouring rows, and its weight."""
    even = rows.p.shape[0] // 2 * 2
    at, residual = rows.at[:even], rows.event[:even].astype(rows.p.dtype) - rows.p[:even]
    kappa = _kappa(xp, xp.square(at[0::2] - at[1::2]).sum(1), kernel)
    h = kappa * (residual[0::2] * residual[1::2]).sum(1)
    return h, None if weight is None else weight[0:even:2] * weight[1:even:2]


def _over_blocks(xp: Any, function: Callable[..., Any], rows: Any, size: int) -> Any:
    """`function` of each row, `(K,) → …`, for as many at a time as fit; numpy gets blocks."""
    block = max(1, min(size, _PAIRS // size))
    if xp is np:
        starts = range(0, size, block)
        return np.concatenate([function(*(part[start : start + block] for part in rows)) for start in starts])
    return jax.lax.map(lambda row: function(*(part[None] for part in row))[0], rows, batch_size=block)


def _row_sums(xp: Any, rows: Any, weight: Any, kernel: str) -> tuple[Any, Any]:
    """Σ_j w_j h_ij for every row, itself included, and h_ii."""
    at, residual = rows.at.astype(weight.dtype), rows.event.astype(weight.dtype) - rows.p.astype(weight.dtype)
    norm, weighted = xp.square(at).sum(1), weight[:, None] * residual

    def of(at_i: Any, residual_i: Any, norm_i: Any) -> Any:
        square = norm_i[:, None] + norm - 2 * at_i @ at.T
        return ((_kappa(xp, square, kernel) @ weighted) * residual_i).sum(1)

    return _over_blocks(xp, of, (at, residual, norm), at.shape[0]), xp.square(residual).sum(1)


def _quadratic(xp: Any, rows: Any, weight: Any, *, kernel: str, biased: bool) -> Any:
    return _from_sums(*_row_sums(xp, rows, weight, kernel), weight, biased)


def _from_sums(sums: Any, own: Any, weight: Any, biased: bool) -> Any:
    total = weight.sum()
    if biased:
        return (weight * sums).sum() / (total * total)
    return (weight * (sums - own)).sum() / (total * (total - 1))


def _together(xp: Any, rows: Any, weight: Any, *, kernel: str, biased: bool) -> tuple[Any, Any]:
    sums, own = _row_sums(xp, rows, weight, kernel)
    value, total = _from_sums(sums, own, weight, biased), weight.sum()
    return value, 2 * ((sums / total if biased else (sums - own) / (total - 1)) - value)


def _simulate(key: Key, rows: Any, **settings: Any) -> Any:
    if rows.p.shape[1] == 1:
        return rows._replace(event=jax.random.uniform(key, rows.p.shape, rows.p.dtype) < rows.p)
    return rows._replace(event=draw_classes(key, rows.p)[:, None] == jnp.arange(rows.p.shape[1]))


_QUADRATIC = Statistic(_quadratic, simulate=_simulate, together=_together)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _wild(kernel: str, num: int, key: Key, rows: Any, weight: Array) -> tuple[Array, Array]:
    """The unbiased estimate, and the share of `num` sign-flipped ones at or above it."""
    at, size = rows.at.astype(weight.dtype), weight.shape[0]
    residual, norm = rows.event.astype(weight.dtype) - rows.p.astype(weight.dtype), jnp.square(at).sum(1)
    signs = jax.random.rademacher(key, (size, num), weight.dtype)
    signs = weight[:, None] * jnp.concatenate([jnp.ones((size, 1), weight.dtype), signs], axis=1)

    def of(at_i: Array, residual_i: Array, norm_i: Array, signs_i: Array) -> Array:
        square = norm_i[:, None] + norm - 2 * at_i @ at.T
        h = _kappa(jnp, square, kernel) * (residual_i @ residual.T)
        return (h @ signs) * signs_i

    block = max(1, min(size, _PAIRS // (size + num)))
    sums = jax.lax.map(lambda row: of(*(part[None] for part in row))[0], (at, residual, norm, signs), batch_size=block)
    own = (jnp.square(weight) * jnp.square(residual).sum(1)).sum()
    drawn = sums.sum(0) - own
    total = weight.sum()
    value = (drawn[0] + own - (weight * jnp.square(residual).sum(1)).sum()) / (total * (total - 1))
    return value, (1 + (drawn[1:] >= drawn[0]).sum()) / (1 + num)
