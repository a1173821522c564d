"""Probability integral transforms: where in its predictive distribution each outcome fell.

If the predictions are right these are uniform. A continuous forecast gives a number u = F(y). A forecast with steps,
counts, draws or outcomes clipped at a limit, gives an interval (P(Y < y), P(Y ≤ y)] and u is uniform on it: at random,
in the middle, or averaged.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .. import _threefry
from .._checks import InputError, check_count, check_level, is_concrete, unknown_name
from .._typing import ArrayLike
from ..members import as_key
from . import _forecast, _inputs, _route
from ._estimate import check_weight
from ._gaps import first_level, level_shares

Kind = Literal["exact", "randomised", "mid"]


def pit(pred: Any, y: ArrayLike, *, kind: Kind = "exact", key: Any = None) -> Any:
    """Probability integral transform: uniform on [0, 1] if the predictions are right.

    - "exact": F(y), for continuous forecasts. For a discrete one F(y) is not uniform however right the forecast
      is, so it is refused.
    - "randomised": a uniform draw between P(Y < y) and P(Y ≤ y); exactly uniform for a right discrete forecast.
    - "mid": the middle of the two; mean ½, variance below 1/12, no randomness.

    For M draws, read as exchangeable with the outcome, P(Y < y) is #{draws < y} / (M + 1) and P(Y ≤ y) is
    (#{draws ≤ y} + 1) / (M + 1): with these the randomised value is exactly uniform for every M, ties included,
    which the empirical distribution function is not. A mixture is transformed by its own distribution function,
    the weighted mean of its members', never by that of a normal with its mean and variance. Uniform values do not
    make a forecast sharp: the marginal distribution of y passes too.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, or draws `(M, N)` or `(M, N, D)`.
      y: outcomes `(N,)` or `(N, D)`.
      kind: as above; continuous forecasts give the same for all three.
      key: a key or a seed, for "randomised".
    Returns:
      `(N,)`, or for several outputs the marginal ones, `(N, D)`.
    Raises:
      InputError: "exact" for counts or draws, "randomised" without a key, not a regression, shapes that differ.
    References:
      dawid1984; gneiting2007b; czado2009 (randomised). Checked against scipy.stats and numerical mixtures.
    Example:
      >>> import numpy as np
      >>> from scipy import stats
      >>> pit(stats.norm(np.zeros(2), 1.0), [0.0, 100.0]).tolist()
      [0.5, 1.0]
      >>> pit(np.array([[1.0], [2.0], [3.0]]), [2.5], kind="mid").tolist()
      [0.625]
    """
    known("kind", kind, get_args(Kind))
    spans = span("pit", pred, y)
    if not spans.steps:
        return spans.upto
    if kind == "exact":
        raise InputError(
            "`pit` expected a continuous forecast, but this one has steps, so that F(y) is not uniform however right "
            'it is. Choose kind="randomised" with a key, or kind="mid"; `pit_histogram` needs neither.'
        )
    if kind == "mid":
        return (spans.below + spans.upto) / 2
    if key is None:
        raise InputError('`pit` of kind "randomised" expected a key or a seed: pass key=0, say.')
    return randomised(spans, key)


class PITHistogram(NamedTuple):
    """Share of the transformed outcomes in each of B bins of equal width, with the band of a calibrated model."""

    share: Any
    """`(B,)`, or `(D, B)` for several outputs; sums to 1, and 1 / B each is calibrated."""
    edges: Any
    """`(B + 1,)`, from 0 to 1."""
    lower: Any
    """Pointwise lower end of what a calibrated model would show."""
    upper: Any
    """Pointwise upper end."""
    count: Any
    """Examples of positive weight, a whole number."""


def pit_histogram(
    pred: Any, y: ArrayLike, *, bins: int = 10, confidence: float = 0.9, weight: Any = None
) -> PITHistogram:
    """Histogram of the probability integral transform; non-randomised for counts and draws.

    A row with steps spreads its mass evenly between P(Y < y) and P(Y ≤ y), so no key is needed and the expected
    heights are 1 / B for a right forecast. U-shaped: too narrow; hump: too wide; slope: biased. For M draws and
    B = M + 1 this is the rank histogram, ties shared out.

    Args:
      pred: as in `pit`.
      y: outcomes `(N,)` or `(N, D)`.
      bins: number of bins B.
      confidence: of the band: each bar of a calibrated model with continuous forecasts is inside with this
        probability (binomial; with unequal weights, its normal approximation). With steps, bars vary less.
      weight: `(N,)`, case weights; 0 leaves a row out.
    Returns:
      A `PITHistogram`.
    Raises:
      InputError: as `pit`; a confidence outside (0, 1).
    References:
      czado2009 (the non-randomised histogram). Checked against a loop over rows and bins.
    Example:
      >>> from scipy import stats
      >>> print(pit_histogram(stats.poisson([1.0, 2.0]), [0, 2], bins=2).share)
      [0.67363201 0.32636799]
    """
    bins, weight = check_count("bins", bins), as_weight("pit_histogram", weight)
    check_level("confidence", confidence)
    spans = span("pit_histogram", pred, y, weight)
    edges = np.arange(bins + 1) / bins
    xp = np if _route.on_host(spans.below, spans.upto, weight) else jnp
    shares = mean_share(xp, spans, weight, edges)  # (D, B + 1)
    first = shares[:, :1] * 0
    parts = xp.concatenate([first, shares[:, 1:-1], first + 1], axis=1)  # 0 itself belongs to the first bin
    share = parts[:, 1:] - parts[:, :-1]
    lower, upper, count = _band(xp, bins, confidence, spans.upto.shape[0], weight)
    return PITHistogram(share if spans.upto.ndim == 2 else share[0], xp.asarray(edges), lower, upper, count)


def _band(xp: Any, bins: int, confidence: float, size: int, weight: Any) -> tuple[Any, Any, Any]:
    from scipy.special import ndtri

    tail, p = (1 - confidence) / 2, 1 / bins
    if weight is None:
        low, high = _binomial_ends(size, p, tail)
        return low / size, high / size, size
    effective = xp.square(weight.sum()) / xp.square(weight).sum()
    reach = float(-ndtri(tail)) * xp.sqrt(p * (1 - p) / effective)
    return xp.maximum(p - reach, 0), xp.minimum(p + reach, 1), (weight > 0).sum()


def _binomial_ends(size: int, p: float, tail: float) -> tuple[int, int]:
    """The least k with P(K ≤ k) ≥ tail, and the least with P(K > k) ≤ tail; by scipy.special, quicker to import."""
    from scipy.special import bdtr, bdtrc, bdtrik

    low, high = (int(np.clip(np.nan_to_num(bdtrik(q, size, p)), 0, size)) for q in (tail, 1 - tail))
    for step in (-1, 1):  # what was inverted may be off by a rounding
        while 0 <= low + step <= size and (bdtr(low - 1, size, p) >= tail if step < 0 else bdtr(low, size, p) < tail):
            low += step
        while 0 <= high + step <= size and (
            bdtrc(high - 1, size, p) <= tail if step < 0 else bdtrc(high, size, p) > tail
        ):
            high += step
    return low, high


# What the other files of calibration share


class Span(NamedTuple):
    """P(Y < y) and P(Y ≤ y) for each outcome, `(N,)` or `(N, D)`; one array twice for continuous forecasts."""

    below: Any
    upto: Any
    steps: bool
    """Whether the forecast has steps, that is, whether the two differ."""
    members: int
    """M for draws, else 0."""


def prepared(name: str, pred: Any, y: Any, weight: Any = None) -> tuple[Any, Any]:
    """The forecast and its outcomes, checked; rows of weight 0 hold copies of a live one."""
    if not _forecast.is_forecast(pred):
        pred = live_draws(name, pred, weight)
    forecast = _forecast.forecast(name, pred)
    y = y if isinstance(y, jax.Array) else np.asarray(y)
    if weight is not None and y.ndim and y.shape[0] == np.shape(weight)[0]:
        y = _inputs.live_rows(name, y, weight)
    y = forecast.check(y)
    if not forecast.shape:
        raise InputError(f"`{name}` expected predictions of N examples, but got a distribution of no batch shape.")
    if weight is not None:
        check_weight(name, weight, forecast.shape[0])
    if not jnp.issubdtype(y.dtype, jnp.floating) and (not forecast.discrete or y.dtype.kind in "ub"):
        y = y.astype(jnp.result_type(float) if isinstance(y, jax.Array) else np.float64)
    return forecast, y


def live_draws(name: str, pred: Any, weight: Any) -> Any:
    """Draws `(M, N, …)` whose examples of weight 0 hold copies of a live one."""
    draws = _inputs._array(name, pred)
    if weight is None or draws.ndim < 2 or draws.shape[1] != np.shape(weight)[0]:
        return draws
    xp = jnp if isinstance(draws, jax.Array) else np
    return xp.swapaxes(_inputs.live_rows(name, xp.swapaxes(draws, 0, 1), weight), 0, 1)


def span(name: str, pred: Any, y: Any, weight: Any = None) -> Span:
    """Where the outcomes fell in their forecasts."""
    forecast, y = prepared(name, pred, y, weight)
    draws = getattr(forecast, "draws", None)
    if draws is not None:
        size = draws.shape[0]
        below, upto = ranks(draws, y)
        kind = draws.dtype if jnp.issubdtype(draws.dtype, jnp.floating) else y.dtype
        return Span((below / (size + 1)).astype(kind), ((upto + 1) / (size + 1)).astype(kind), True, size)
    upto = forecast.cdf(y)
    below = forecast.cdf_below(y) if forecast.steps else upto
    if weight is None and is_concrete(upto):
        host = np.asarray(upto)
        if not host.min(initial=0.0) >= 0:  # NaN fails every comparison
            rows = np.flatnonzero(np.isnan(host.reshape(len(host), -1)).any(1))
            raise InputError(
                f"`{name}` expected predictions with a distribution function, but that of row {rows[0]} is NaN. "
                "Check its parameters."
            )
    return Span(below, upto, bool(forecast.steps), 0)


def ranks(draws: Any, y: Any) -> tuple[Any, Any]:
    """#{draws < y} and #{draws ≤ y}, whole numbers of the shape of `y`."""
    if isinstance(draws, jax.Array) or isinstance(y, jax.Array):
        draws, y = jnp.asarray(draws), jnp.asarray(y)
        kind = jnp.promote_types(draws.dtype, y.dtype)
        draws, y = draws.astype(kind), y.astype(kind)
    return (draws < y).sum(0), (draws <= y).sum(0)


def randomised(spans: Span, key: Any) -> Any:
    """Uniform draws between the ends; the value itself where there are no steps."""
    if not spans.steps:
        return spans.upto
    part: Any
    if isinstance(spans.upto, jax.Array):
        part = jax.random.uniform(as_key(key), spans.upto.shape).astype(spans.upto.dtype)
    else:
        part = _threefry.uniform(as_key(key), spans.upto.shape).astype(np.float64)
    return spans.below + part * (spans.upto - spans.below)


def on_host(spans: Span) -> Span:
    """The same in numpy's float64."""
    return spans._replace(below=_route.host_array(spans.below), upto=_route.host_array(spans.upto))


def as_weight(name: str, weight: Any) -> Any:
    """Case weights as an array, or None."""
    if weight is None or isinstance(weight, jax.Array):
        return weight
    return np.asarray(weight, np.float64)


def share_below(xp: Any, spans: Span, levels: np.ndarray) -> Any:
    """Share of each row's span that is at most each level, `(N, D, K)`: a step for continuous forecasts."""
    below, upto = (part.reshape(part.shape[0], -1, 1) for part in (spans.below, spans.upto))
    at = xp.asarray(levels.astype(below.dtype))
    width = upto - below
    inside = xp.clip((at - below) / xp.where(width > 0, width, 1), 0, 1)
    return xp.where(width > 0, inside, (upto <= at).astype(below.dtype))


def mean_share(xp: Any, spans: Span, weight: Any, levels: np.ndarray) -> Any:
    """The mean distribution function of the transformed outcomes at each level, `(D, K)`."""
    if xp is np:
        spans = on_host(spans)
        weight = None if weight is None else np.asarray(weight, np.float64)
    if spans.steps:
        each = share_below(xp, spans, levels)
        if weight is None:
            return each.mean(0)
        live = weight.astype(each.dtype)
        each = xp.where((live > 0)[:, None, None], each, 0)
        return xp.tensordot(live / live.sum(), each, 1)
    u = spans.upto.reshape(spans.upto.shape[0], -1)
    full = xp.ones(len(u), u.dtype) if weight is None else weight.astype(u.dtype)
    u = xp.where((full > 0)[:, None], u, 0)
    return level_shares(xp, first_level(xp, u, levels), full, len(levels))


def known(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of the names."""
    if value not in choices:
        raise unknown_name(name, str(value), choices)
