"""Predicted spread against the errors that came about, in bins of examples of about the same predicted variance."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, is_concrete
from .._typing import ArrayLike
from ..members import as_key
from . import _route
from ._estimate import Estimate, Statistic, as_resample, summarize
from ._gaps import BANK, ranked, ranked_on_host
from .pit import as_weight, known
from .spread import moments

Binning = Literal["mass", "width"]


def ence(
    pred: Any, y: ArrayLike, *, bins: int = 10, binning: Binning = "mass", weight: Any = None, key: Any = None
) -> Estimate:
    """Expected normalised calibration error: mean over bins of |RMSE_b − RMV_b| / RMV_b.

    Examples are sorted by predicted variance into B bins; RMV_b is the root of a bin's mean variance, RMSE_b the root
    of its mean squared error. Equal variances never part, so a model of constant variance has one bin; empty bins
    do not count. It tells nothing of the shape of the distribution, and even a right model does not score 0: with n
    examples a bin about √(1 / (π n)) for normal outcomes (`null`, given a key).

    For M draws the variance is the unbiased one times (M + 1) / M: what the squared error of their mean comes to.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, or draws `(M, N)` or `(M, N, D)`.
      y: outcomes `(N,)` or `(N, D)`; several outputs are binned by themselves and averaged.
      bins: B.
      binning: "mass", bins hold about N / B examples; or "width", bins of equal width in the standard deviation.
      weight: `(N,)`, case weights; 0 leaves a row out.
      key: None, or a key, seed or `Resample`, for a bootstrap interval (reflected, for the bias) and `null`, what
        the same predictions would score with outcomes drawn from them.
    Returns:
      An `Estimate`, without unit. The standard error takes bins as given.
    Raises:
      InputError: a variance that is not positive, an unknown binning, shapes that differ.
    References:
      levi2022. Checked against a loop.
    Example:
      >>> import numpy as np
      >>> from scipy import stats
      >>> float(ence(stats.norm(np.zeros(4), [1.0, 1.0, 2.0, 2.0]), [1.0, 1.0, 2.0, -4.0], bins=2).value.round(4))
      0.2906
    """
    return _by_spread("ence", _ENCE, pred, y, bins, binning, weight, key)


def uce(
    pred: Any, y: ArrayLike, *, bins: int = 10, binning: Binning = "mass", weight: Any = None, key: Any = None
) -> Estimate:
    """Uncertainty calibration error: Σ_b (n_b / N) |MSE_b − MV_b|, over bins of predicted variance.

    Like `ence` without the division, so dominated by examples of large variance.

    Args:
      pred, y, bins, binning, weight, key: as in `ence`; laves2020 has binning "width" (of the variance).
    Returns:
      An `Estimate`, in squared units of `y`.
    Raises:
      InputError: as `ence`.
    References:
      laves2020. Checked against a loop.
    Example:
      >>> import numpy as np
      >>> from scipy import stats
      >>> float(uce(stats.norm(np.zeros(2), [1.0, 2.0]), [1.0, 3.0], bins=2))
      2.5
    """
    return _by_spread("uce", _UCE, pred, y, bins, binning, weight, key)


class SpreadCurve(NamedTuple):
    """Spread against error in bins of predicted variance, `(B,)`, or `(D, B)` for several outputs."""

    spread: Any
    """Root of the bin's mean predicted variance; NaN where a bin is empty."""
    error: Any
    """Root of the bin's mean squared error; NaN where a bin is empty."""
    mass: Any
    """Total weight in the bin: without weights, its number of examples."""


def spread_curve(
    pred: Any, y: ArrayLike, *, bins: int = 10, binning: Binning = "mass", weight: Any = None
) -> SpreadCurve:
    """The points of a diagram of error against spread; right predictions are on its diagonal.

    Args:
      pred, y, bins, binning, weight: as in `ence`.
    Returns:
      A `SpreadCurve`.
    Raises:
      InputError: as `ence`.
    References:
      levi2022. Checked against a loop.
    Example:
      >>> from scipy import stats
      >>> curve = spread_curve(stats.norm([0.0, 0.0], [1.0, 2.0]), [1.0, 3.0], bins=2)
      >>> print(curve.spread, curve.error)
      [1. 2.] [1. 3.]
    """
    weight = as_weight("spread_curve", weight)
    rows = _rows("spread_curve", pred, y, bins, binning, weight, None)
    xp = np if _route.on_host(rows, weight) else jnp
    if xp is np:
        rows = jax.tree.map(_route.host_array, rows)
    size, outputs = rows.variance.shape
    full = xp.ones(size, rows.variance.dtype) if weight is None else weight.astype(rows.variance.dtype)
    _, mass, variance, square = _bin_means(xp, rows, full, bins, binning)
    parts = [xp.where(mass > 0, xp.sqrt(part), xp.nan) for part in (variance, square)] + [mass]
    return SpreadCurve(*(part if outputs > 1 else part[0] for part in parts))


class Rows(NamedTuple):
    variance: Any
    """`(N, D)`."""
    square: Any
    """Squared error of the mean, `(N, D)`."""
    place: Any
    """Rank of the variance among the distinct ones of its column, `(N, D)`."""
    bank: Any
    """Squared errors of outcomes drawn from the predictions, `(N, S, D)`, or None."""


def _rows(name: str, pred: Any, y: Any, bins: int, binning: str, weight: Any, key: Any) -> Rows:
    check_count("bins", bins)
    known("binning", binning, get_args(Binning))
    variance, square, forecast = moments(name, pred, y, weight)
    if is_concrete((variance, weight)):
        live = slice(None) if weight is None else np.asarray(weight) > 0
        bad = np.flatnonzero(~(np.asarray(variance)[live] > 0).all(1))
        if len(bad):
            raise InputError(
                f"`{name}` expected predicted variances that are positive, but that of row {bad[0]} of those that "
                f"count is {np.asarray(variance)[live][bad[0]]}."
            )
    host = _route.on_host(variance, weight)
    place = (ranked_on_host if host else ranked)(variance, weight, "quantile").place
    bank = None
    how = as_resample(key)
    if how is not None:
        drawn = forecast.sample(jax.random.fold_in(as_key(how.key), 1), BANK)
        bank = (drawn - forecast.mean) ** 2
        bank = bank.reshape(BANK, *variance.shape).swapaxes(0, 1)
        if getattr(forecast, "draws", None) is not None:  # a new draw errs more than one of those averaged
            bank = bank * ((len(forecast.draws) + 1) / (len(forecast.draws) - 1))
    return Rows(variance, square, place, bank)


def _by_spread(
    name: str, statistic: Statistic, pred: Any, y: Any, bins: int, binning: str, weight: Any, key: Any
) -> Estimate:
    weight = as_weight(name, weight)
    rows = _rows(name, pred, y, bins, binning, weight, key)
    return summarize(
        statistic, rows, weight=weight, estimand=f"{name} in {bins} bins of equal {binning}", key=key, reverse=True,
        settings={"bins": bins, "binning": binning},
    )  # fmt: skip


def sums(xp: Any, cell: Any, values: Any, length: int) -> Any:
    """Sums of `values` over equal `cell`, column by column: `(N, D)` to `(D, length)`."""
    if xp is np:
        return np.stack([np.bincount(cell[:, d], values[:, d], length) for d in range(cell.shape[1])])
    column = jnp.broadcast_to(jnp.arange(cell.shape[1]), cell.shape)
    return jnp.zeros((cell.shape[1], length), values.dtype).at[column, cell].add(values)


def bin_index(xp: Any, variance: Any, place: Any, weight: Any, bins: int, binning: str) -> Any:
    """The bin of each row in each column, `(N, D)`; `place` as in `Rows`."""
    full = xp.broadcast_to(weight[:, None], variance.shape)
    if binning == "mass":
        # The bin of the last of the equal variances, had each row been there `weight` times.
        total = weight.sum()
        upto = xp.cumsum(sums(xp, place, full, len(weight)), axis=1)
        upto = xp.take_along_axis(upto.T, place, axis=0) * bins / xp.where(total > 0, total, 1)
        at = xp.ceil(upto - 4 * bins * float(jnp.finfo(upto.dtype).eps)) - 1
    else:
        spread = xp.sqrt(variance)
        low = xp.where(full > 0, spread, xp.inf).min(0)
        high = xp.where(full > 0, spread, -xp.inf).max(0)
        at = xp.floor((spread - low) * (bins / xp.where(high > low, high - low, 1)))
    return xp.clip(at, 0, bins - 1).astype(np.int32)


def _bin_means(xp: Any, rows: Rows, weight: Any, bins: int, binning: str) -> tuple[Any, Any, Any, Any]:
    """The bin of each row, `(N, D)`, and each bin's mass, mean variance and mean squared error, `(D, B)`."""
    full = xp.broadcast_to(weight[:, None], rows.variance.shape)
    at = bin_index(xp, rows.variance, rows.place, weight, bins, binning)
    mass = sums(xp, at, full, bins)
    some = xp.where(mass > 0, mass, 1)
    return at, mass, sums(xp, at, full * rows.variance, bins) / some, sums(xp, at, full * rows.square, bins) / some


def _ratio_of_bins(xp: Any, mass: Any, variance: Any, square: Any) -> tuple[Any, ...]:
    """RMSE / RMV − 1, its derivatives by the mean squared error and the mean variance, and how many bins are in use."""
    used = mass > 0
    variance, error = xp.where(used, variance, 1), xp.where(used & (square > 0), square, 1)
    ratio = xp.where(square > 0, xp.sqrt(error / variance), 0)
    gap = xp.where(used, ratio - 1, 0)
    return gap, ratio / (2 * error), -ratio / (2 * variance), used.sum(1).astype(gap.dtype)


def _ence(xp: Any, rows: Rows, weight: Any, *, bins: int, binning: str) -> Any:
    gap, _, _, used = _ratio_of_bins(xp, *_bin_means(xp, rows, weight, bins, binning)[1:])
    return (abs(gap).sum(1) / used).mean()


def _ence_with_influence(xp: Any, rows: Rows, weight: Any, *, bins: int, binning: str) -> tuple[Any, Any]:
    at, mass, variance, square = _bin_means(xp, rows, weight, bins, binning)
    gap, by_square, by_variance, used = _ratio_of_bins(xp, mass, variance, square)
    factor = xp.sign(gap) * weight.sum() / (xp.where(mass > 0, mass, 1) * used[:, None])

    def of_row(table: Any) -> Any:
        return xp.take_along_axis(table.T, at, axis=0)

    moved = of_row(factor * by_square) * (rows.square - of_row(square))
    moved = moved + of_row(factor * by_variance) * (rows.variance - of_row(variance))
    return (abs(gap).sum(1) / used).mean(), moved.mean(1)


def _uce(xp: Any, rows: Rows, weight: Any, *, bins: int, binning: str) -> Any:
    _, mass, variance, square = _bin_means(xp, rows, weight, bins, binning)
    return ((mass * abs(square - variance)).sum(1) / mass.sum(1)).mean()


def _uce_with_influence(xp: Any, rows: Rows, weight: Any, *, bins: int, binning: str) -> tuple[Any, Any]:
    at, mass, variance, square = _bin_means(xp, rows, weight, bins, binning)
    value = ((mass * abs(square - variance)).sum(1) / mass.sum(1)).mean()
    side = xp.take_along_axis(xp.sign(square - variance).T, at, axis=0)
    return value, (side * (rows.square - rows.variance)).mean(1) - value


def _drawn(key: Any, rows: Rows, *, bins: int, binning: str) -> Rows:
    """Each row's outcome is one of those drawn from its prediction; outputs stay together."""
    which = jax.random.randint(key, (rows.bank.shape[0],), 0, rows.bank.shape[1])
    return rows._replace(square=rows.bank[jnp.arange(rows.bank.shape[0]), which])


_ENCE = Statistic(_ence, simulate=_drawn, together=_ence_with_influence)
_UCE = Statistic(_uce, simulate=_drawn, together=_uce_with_influence)
