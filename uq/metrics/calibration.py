"""Calibration of class probabilities: does what is said with 90 % confidence come about 9 times in 10?"""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count
from .._typing import Array, ArrayLike, Key
from ..members import as_key
from . import _events, _route
from ._binning import Cells, Rows, add_up, cell_sums, cells_of, edges_of, own_gap, place, placed
from ._estimate import Estimate, Resample, Statistic, as_resample, at_once, mean, summarize
from ._events import Kind, known, simulate_events
from ._inputs import Classes

Norm = Literal["l1", "l2", "max"]
Binning = Literal["width", "mass", "sweep"]
_MOST_BINS = 1000


class ReliabilityCurve(NamedTuple):
    """What was said against what came about, in B bins; kinds that look at each class lead with an axis C."""

    confidence: Array
    """Mean probability in each bin, `(B,)` or `(C, B)`; NaN where a bin is empty."""
    frequency: Array
    """Share of the bin's examples for which the event came about; NaN where a bin is empty."""
    count: Array  # type: ignore[assignment]
    """Examples in each bin, whole numbers."""
    edges: Array
    """Bin edges, `(B + 1,)` or `(C, B + 1)`."""
    lower: Array | None = None
    """Below this frequency a calibrated model rarely falls; None where no `consistency` was asked for."""
    upper: Array | None = None
    """Above this frequency a calibrated model rarely rises."""


def calibration_error(
    pred: Any,
    y: ArrayLike,
    *,
    kind: Kind = "confidence",
    norm: Norm = "l1",
    bins: int | None = None,
    binning: Binning = "width",
    debias: bool = False,
    weight: ArrayLike | None = None,
    key: Key | Resample | None = None,
) -> Estimate:
    """Distance between predicted probabilities and frequencies, estimated with bins; ECE by default.

    In bin b, of n_b examples, let gap_b = |share of events − mean probability|. What is binned, and which
    event is meant, is the `kind`:

    - "confidence": the largest probability; the event is that its class is right (ties go to the first
      class). For two classes it therefore runs from ½ to 1.
    - "binary": P(1); the event is y = 1. Two classes only.
    - "classwise": P(c); the event is y = c; for each class c by itself.
    - "top-label": as "confidence", but within each predicted class by itself; asks more than "confidence".

    With n examples and, for "classwise", C classes, each of which meets all n (the others split the n
    examples between their groups, so that C below is 1):

    - norm "l1": Σ n_b gap_b / (n C), the expected calibration error (ECE);
    - norm "l2": √(Σ n_b gap_b² / (n C)), the root-mean-square calibration error;
    - norm "max": max gap_b over bins that hold an example (MCE): mostly noise where a bin holds few.

    A perfectly calibrated model does not score 0: with 15 bins its expected ECE is about 0.09 for 100
    examples and 0.03 for 1,000. With a `key`, `null` says what it would score on these very predictions.
    Compare models on the same data, kind, norm and bins only. The standard error is that of the gaps with
    bins and their signs taken as given: too small or too large where gaps drown in noise, which `null` shows,
    and then the bootstrap interval is no better.

    Args:
      pred: a `Predictive` of classes, a categorical numpyro distribution, or class probabilities `(N, C)`,
        `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
      kind, norm: as above.
      bins: number of bins B; None is 15, and for "sweep" N, but no more than 1,000.
      binning: "width", edges k / B; "mass", edges at order statistics, so that bins hold about n / B examples
        (equal values never part, so ties leave some bins empty), each class with its own edges; or "sweep",
        bins of equal mass, as many, up to `bins`, as can be had with frequencies that never fall.
      debias: for norm "l2", takes from each gap_b² the variance of a share, f_b (1 − f_b) / (n_b − 1); bins of
        one example say nothing and count as 0; where noise makes the whole sum negative the error is 0.
      weight: case weights `(N,)`; a row of weight 2 counts as two rows, one of weight 0 may hold anything.
      key: a key, a seed or a `Resample`: adds a bootstrap interval, reflected about the value since resampling
        repeats the upward bias, and `null`.
    Returns:
      An `Estimate` of one number in [0, 1].
    Raises:
      InputError: an unknown kind, norm or binning; "binary" for more than two classes; `debias` with a norm
        that has no known correction; as `brier_score`.
    References:
      naeini2015, eq. 3 (l1 and max); kumar2019, def. 2.1 (l2, classwise; also the debiased
      estimator); roelofs2022 (sweep); gupta2022 (top-label). Checked against loops in rational arithmetic, the
      null against a simulation of its own.
    Example:
      >>> import numpy as np
      >>> float(calibration_error(np.array([0.75, 0.75, 0.75, 0.75]), [1, 1, 1, 0]))
      0.0
      >>> error = calibration_error(np.array([0.9, 0.8, 0.9, 0.6]), [1, 0, 1, 1], key=0)
      >>> print(f"{float(error):.3f}, calibrated: {error.null.mean:.1f}")
      0.350, calibrated: 0.3
    """
    known("norm", norm, get_args(Norm))
    known("binning", binning, get_args(Binning))
    if debias and norm != "l2":
        raise InputError(f'`calibration_error` can debias norm "l2" only, but the norm is "{norm}".')
    found = None
    if kind == "confidence" and binning == "width" and key is None:
        found = _events.device_table("calibration_error", pred, y, weight)
    table, checked = found or (None, lambda: None)
    rows, settings = _rows("calibration_error", pred, y, kind, bins, binning, weight, table)
    words = f"{kind} calibration error, {norm}{', debiased' if debias else ''}, {_said(settings)}"
    estimate = summarize(
        _LARGEST_GAP if norm == "max" else _MEAN_GAP,
        rows,
        weight=weight,
        estimand=words,
        key=key,
        settings={**settings, "norm": norm, "debias": bool(debias)},
        reverse=True,
    )
    checked()
    return estimate


def reliability_curve(
    pred: Any,
    y: ArrayLike,
    *,
    kind: Kind = "confidence",
    bins: int | None = None,
    binning: Binning = "width",
    weight: ArrayLike | None = None,
    consistency: bool = False,
    key: Key | Resample | None = None,
) -> ReliabilityCurve:
    """The points of a reliability diagram: in each bin, mean probability, frequency and count.

    With `consistency`, also the band in which the frequency of a calibrated model falls, bin by bin, with the
    confidence of the `Resample` (0.95): predictions are resampled and their outcomes drawn from them.

    Args:
      pred, y, kind, bins, binning, weight: as in `calibration_error`.
      consistency: whether to add the band.
      key: a key, a seed or a `Resample`, for the band.
    Returns:
      A `ReliabilityCurve`; arrays are `(B,)`, and `(C, B)` for "classwise" and "top-label".
    Raises:
      InputError: as `calibration_error`; `consistency` without a key.
    References:
      degroot1983; niculescu2005; brocker2007 (consistency bars). Checked against loops, and the
      band against binomial quantiles.
    Example:
      >>> import numpy as np
      >>> curve = reliability_curve(np.array([0.6, 0.9]), [1, 0], bins=2, kind="binary")
      >>> print(curve.count, curve.frequency)
      [0 2] [nan 0.5]
    """
    known("binning", binning, get_args(Binning))
    how = as_resample(key)
    if consistency and how is None:
        raise InputError("`reliability_curve` expected a `key` to simulate the consistency band with; pass key=0.")
    rows, settings = _rows("reliability_curve", pred, y, kind, bins, binning, weight)
    parts = _route.run(_curve, rows, weight, **settings)
    if consistency and how is not None:
        kept = tuple(sorted(settings.items()))
        full = jnp.ones(rows.p.shape[0]) if weight is None else jnp.asarray(weight, jnp.result_type(float))
        band = _band(kept, how.num, how.confidence, as_key(how.key), jax.tree.map(jnp.asarray, rows), full)
        parts += jax.tree.map(np.asarray, band) if _route.on_host(rows, weight) else band
    if kind in ("confidence", "binary"):
        parts = tuple(part[0] for part in parts)
    return ReliabilityCurve(*parts)


def accuracy(
    pred: Any, y: ArrayLike, *, weight: ArrayLike | None = None, key: Key | Resample | None = None
) -> Estimate:
    """Share of examples whose most probable class came about; among equally probable ones the first counts.

    Args:
      pred: a `Predictive` of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
      weight, key: as in `calibration_error`.
    Returns:
      An `Estimate` of one number in [0, 1]; higher is better.
    Raises:
      InputError: probabilities that are none, labels out of range, shapes that differ.
    References:
      Checked against scikit-learn.
    Example:
      >>> float(accuracy([[0.5, 0.25, 0.25], [0.25, 0.25, 0.5]], [0, 1]))
      0.5
    """
    stated, _ = _events.events("accuracy", pred, y, "confidence", weight)
    return mean(stated.event, weight=weight, estimand="accuracy", key=key)


def _rows(
    name: str, pred: Any, y: Any, kind: str, bins: int | None, binning: str, weight: Any, table: Classes | None = None
) -> tuple[Any, dict[str, Any]]:
    """Rows with their places, or `table` as it is: then the statistic places them, in one program with the rest."""
    stated, groups = (table, 1) if table is not None else _events.events(name, pred, y, kind, weight)
    if bins is None:
        bins = 15 if binning != "sweep" else min(stated[0].shape[0], _MOST_BINS)
    bins = check_count("bins", bins)
    rows = stated if isinstance(stated, Classes) else placed(stated, bins, binning)
    return rows, {"bins": bins, "binning": binning, "groups": groups}


def _placed_rows(xp: Any, rows: Rows | Classes, bins: int) -> Rows:
    return place(xp, _events.confident(xp, rows), bins, "width") if isinstance(rows, Classes) else rows


def _said(settings: dict[str, Any]) -> str:
    bins = f"{settings['bins']} bin{'s' if settings['bins'] > 1 else ''}"
    if settings["binning"] == "sweep":
        return f"the most bins of equal mass with rising frequencies, up to {settings['bins']}"
    return f"{bins} of equal {settings['binning']}"


# The statistic


def _mean_gap(xp: Any, rows: Any, weight: Any, *, norm: str, debias: bool, **settings: Any) -> Any:
    rows = _placed_rows(xp, rows, settings["bins"])
    return _gap_of(xp, _cells(xp, rows, weight, events=debias, **settings)[1], norm, debias)


def _gap_of(xp: Any, cells: Cells, norm: str, debias: bool) -> Any:
    some = cells.weight > 0
    total = cells.weight.sum()
    held = xp.where(some, cells.weight, xp.ones_like(cells.weight))
    if norm == "max":
        return xp.where(some, xp.abs(cells.gap) / held, xp.zeros_like(held)).max()
    if norm == "l1":
        return xp.abs(cells.gap).sum() / total
    square = cells.gap * cells.gap / held
    if debias:
        rate, several = cells.event / held, cells.weight > 1
        noise = rate * (1 - rate) * held / xp.where(several, held - 1, xp.ones_like(held))
        square = xp.where(several, square - noise, xp.zeros_like(square))
    square = square.sum() / total
    positive = square > 0
    return xp.where(positive, xp.sqrt(xp.where(positive, square, xp.ones_like(square))), xp.zeros_like(square))[()]


def _together(xp: Any, rows: Any, weight: Any, *, norm: str, debias: bool, **settings: Any) -> tuple[Any, Any]:
    """With the influence of each row, its bin taken as given; for l2 that of the plain square."""
    rows = _placed_rows(xp, rows, settings["bins"])
    cell, cells = _cells(xp, rows, weight, events=debias, **settings)
    value = _gap_of(xp, cells, norm, debias)
    own = own_gap(rows, weight)
    if norm == "l1":
        return value, _each_row(xp.sign(cells.gap)[cell] * own) - value
    held = xp.where(cells.weight > 0, cells.weight, xp.ones_like(cells.weight))
    gap = (cells.gap / held)[cell]
    square = (cells.gap * cells.gap / held).sum() / cells.weight.sum()
    some = value > 0
    influence = _each_row(2 * gap * own - gap * gap) - square
    return value, xp.where(some, influence, xp.nan) / xp.where(some, 2 * value, 1)


def _each_row(values: Any) -> Any:
    return values if values.ndim == 1 else values.mean(1)


def _cells(
    xp: Any, rows: Any, weight: Any, *, bins: int, binning: str, groups: int, events: bool = True
) -> tuple[Any, Cells]:
    cell = cells_of(xp, rows, weight, bins=bins, binning=binning, groups=groups)
    return cell, cell_sums(xp, rows, weight, cell, groups * bins, events=events)


_MEAN_GAP = Statistic(_mean_gap, simulate=simulate_events, together=_together)
_LARGEST_GAP = Statistic(_mean_gap, simulate=simulate_events)


# The curve


def _curve(xp: Any, rows: Any, weight: Any, *, bins: int, binning: str, groups: int) -> tuple[Any, ...]:
    weight = xp.ones(rows.p.shape[0], rows.p.dtype) if weight is None else weight.astype(rows.p.dtype)
    settings: dict[str, Any] = {"bins": bins, "binning": binning, "groups": groups}
    cell, cells = _cells(xp, rows, weight, **settings)
    live = weight > 0 if rows.p.ndim == 1 else xp.broadcast_to((weight > 0)[:, None], rows.p.shape)
    count = add_up(xp, cell, live.astype(np.int32), groups * bins).astype(np.int32)
    empty = count == 0
    held = xp.where(empty, xp.ones_like(cells.weight), cells.weight)
    parts = ((cells.event - cells.gap) / held, cells.event / held)
    confidence, frequency = (xp.where(empty, xp.nan, part).reshape(groups, bins) for part in parts)
    edges = edges_of(xp, rows, weight, **settings)
    return confidence, frequency, count.reshape(groups, bins), edges


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _band(settings: tuple, num: int, confidence: float, key: Key, rows: Any, weight: Array) -> tuple[Array, Array]:
    """Quantiles of each bin's frequency, `(G, B)`, were the model calibrated; bins stay where they are."""
    more = dict(settings)
    cell = cells_of(jnp, rows, weight, **more)
    size, cells = weight.shape[0], more["groups"] * more["bins"]
    live = weight > 0
    places, number = jnp.nonzero(live, size=size, fill_value=0)[0], live.sum()

    def frequency(key: Key) -> Array:
        chosen, drawn = jax.random.split(key)
        chosen = places[jax.random.randint(chosen, (size,), 0, number)]
        again = simulate_events(drawn, jax.tree.map(lambda leaf: leaf[chosen], rows))
        once = weight[chosen] * (jnp.arange(size) < number).astype(weight.dtype)
        sums = cell_sums(jnp, again, once, cell[chosen], cells)
        return sums.event / sums.weight  # NaN where the resample left the bin empty

    chunk = at_once(num, rows.p.size)
    draws = jax.lax.map(frequency, jax.random.split(key, num), batch_size=chunk)
    tail = jnp.asarray([(1 - confidence) / 2, (1 + confidence) / 2], draws.dtype)
    lower, upper = jnp.nanquantile(draws, tail, axis=0)
    shape = more["groups"], more["bins"]
    return lower.reshape(shape), upper.reshape(shape)
