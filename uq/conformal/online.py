"""Streams: thresholds that follow what they missed, and so cover in the long run whatever happens."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count, check_level, is_concrete
from .._typing import Array, ArrayLike, PyTree
from ..metrics import _inputs
from ._procedure import PredictionInterval, Score, ends_at, kept, scored, xp_of
from ._rank import check_scores, fraction
from .scores import absolute


class Online(NamedTuple):
    """A procedure for a stream of scores: pure functions, one outcome at a time. `stream` runs them."""

    name: str
    level: float
    """Coverage asked for."""
    init: Callable[[ArrayLike], PyTree]
    """`init(scores) -> state`, from the scores of some outcomes `(W,)` that came before."""
    bound: Callable[[PyTree], Array]
    """`bound(state)`: what the next score should not exceed, `()`; or bounds on both sides of a residual, `(2,)`."""
    update: Callable[[PyTree, Array], PyTree]
    """`update(state, score) -> state`, once the outcome is known."""


class Stream(NamedTuple):
    """What happened along a stream."""

    interval: PredictionInterval
    """The intervals, each made before its outcome was known, `(T,)`; NaN where the set is empty."""
    missed: Any
    """Whether the outcome was outside, bool `(T,)`."""
    bound: Any
    """Thresholds `(T,)`, or bounds on residuals `(T, 2)`."""
    state: PyTree
    """To go on with."""


def stream(procedure: Online, state: PyTree, pred: Any, y: ArrayLike, score: Score | None = None) -> Stream:
    """Run a procedure along outcomes in the order of time, in one compiled loop.

    Args:
      procedure: `aci`, `agaci`, `pid` or `enbpi`.
      state: from `procedure.init`, or of the stream before.
      pred: predictions of the T outcomes, as the score reads them.
      y: outcomes, `(T,)`.
      score: as in `split`, the same that the first scores came from; `enbpi` has its own.
    Raises:
      InputError: as `split`; several outputs.
    References:
      gibbs2021, section 2. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.aci(0.9, rate=0.05)
      >>> rng = np.random.default_rng(0)
      >>> scale = np.linspace(1.0, 3.0, 2000)  # it drifts
      >>> state = procedure.init(abs(rng.normal(size=100)))
      >>> found = uq.conformal.stream(procedure, state, np.zeros(2000), rng.normal(0, scale))
      >>> round(float(found.missed.mean()), 2)
      0.1
    """
    two_sided = procedure.name == "enbpi"
    if score is not None and two_sided:
        raise InputError("`stream` expected no score with `enbpi`, which bounds residuals on both sides.")
    score = absolute("upper") if two_sided else absolute() if score is None else score
    name = f"stream({procedure.name})"
    parts, scores = scored(name, score, pred, y)
    scores = jnp.asarray(check_scores(name, scores, ndim=1), jnp.result_type(float))
    state, (bound, missed) = _scan(procedure, state, scores)
    shown = np.asarray(bound, np.float64) if xp_of(*parts) is np and is_concrete(bound) else bound
    if two_sided:
        shown, mean = _inputs.floating(shown, parts[0])
        lower, upper = mean + shown[:, 0], mean + shown[:, 1]
    else:
        lower, upper = ends_at(score, parts, shown)
    xp = xp_of(lower)
    empty = (lower > upper) if two_sided else (lower > upper) | (xp.asarray(shown) == -np.inf)
    lower, upper = (xp.where(empty, np.nan, end) for end in (lower, upper))
    return Stream(PredictionInterval(lower, upper, procedure.level), missed, bound, state)


@functools.partial(jax.jit, static_argnums=0)
def _scan(procedure: Online, state: PyTree, scores: Array) -> tuple[PyTree, tuple[Array, Array]]:
    def step(state: PyTree, score: Array) -> tuple[PyTree, tuple[Array, Array]]:
        bound = procedure.bound(state)
        missed = score > bound if bound.ndim == 0 else (score < bound[0]) | (score > bound[1])
        return procedure.update(state, score), (bound, missed)

    return jax.lax.scan(step, state, scores)


class Window(NamedTuple):
    """The last W scores; the oldest is replaced next."""

    scores: Array
    """`(W,)`."""
    oldest: Array
    """Where it is, int."""


class AciState(NamedTuple):
    """Where `aci` is."""

    alpha: Array
    """Miscoverage that is asked of the window at present; of each rate `(K,)` in `agaci`."""
    window: Window


@kept
def aci(level: float = 0.9, *, rate: float = 0.005) -> Online:
    """Adaptive conformal inference: a miss makes the next sets larger, a hit a little smaller.

    The threshold is the split conformal one of the last W scores at miscoverage α_t; α_{t+1} = α_t + rate · (α − miss).
    For any sequence of outcomes, |share missed − α| ≤ (max(α, 1 − α) + rate) / (T · rate): a guarantee of the past as
    a whole, not of the next set. Large rates follow drift faster, and give infinite and empty sets in turn.

    Args:
      level: coverage asked for, 1 − α.
      rate: step in α.
    Raises:
      InputError: a level outside (0, 1), a rate that is not positive, no scores to begin with.
    References:
      gibbs2021, eq. 2 and proposition 4.1. Checked against plain Python, and the bound on arbitrary sequences.
    Example:
      >>> import numpy as np
      >>> procedure = aci(0.9, rate=0.05)
      >>> state = procedure.init(np.arange(1.0, 20.0))
      >>> float(procedure.bound(state)), round(float(procedure.update(state, 25.0).alpha), 6)
      (18.0, 0.055)
    """
    target = _target("aci", level, rate)

    def init(scores: ArrayLike) -> AciState:
        window = _window("aci", scores)
        return AciState(jnp.asarray(target, window.scores.dtype), window)

    def bound(state: AciState) -> Array:
        return _at_miscoverage(jnp.sort(state.window.scores), state.alpha)

    def update(state: AciState, score: Array) -> AciState:
        missed = (score > bound(state)).astype(state.alpha.dtype)
        return AciState(state.alpha + rate * (target - missed), _push(state.window, score))

    return Online("aci", float(level), init, bound, update)


class AgaciState(NamedTuple):
    """Where `agaci` is."""

    experts: AciState
    learning: Array
    """Learning rates of the aggregation, `(K,)`."""
    largest: Array
    """Largest squared regret of each expert, `(K,)`."""
    variance: Array
    """Sum of squared regrets, `(K,)`."""
    regret: Array
    """Sum of second-order regrets, `(K,)`."""


@kept
def agaci(level: float = 0.9, *, rates: tuple[float, ...] = (0.0, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1)) -> Online:
    """ACI with many rates at once, aggregated by how well each has done: no rate to choose.

    Thresholds are averaged by Bernstein online aggregation under the pinball loss. Coverage comes out close to the
    level, without a bound as that of `aci`; infinite thresholds of an expert count as the largest score of the window.
    One threshold is aggregated here; published with lower and upper ends apart, which asymmetric outcomes repay: run
    it on `absolute("lower")` and `absolute("upper")`, each with half the miscoverage.

    Args:
      level: coverage asked for.
      rates: of the experts; 0 is no adaptation.
    Raises:
      InputError: a level outside (0, 1), fewer than two rates, a negative one.
    References:
      zaffran2022; wintenberger2017. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> procedure = agaci(0.9)
      >>> float(procedure.bound(procedure.init(np.arange(1.0, 20.0))))
      18.0
    """
    target = _target("agaci", level, 1.0)
    if len(rates) < 2 or any(not (rate >= 0 and math.isfinite(rate)) for rate in rates):
        raise InputError(f"`agaci` expected at least two rates that are not negative, but got {rates}.")
    size = len(rates)

    def init(scores: ArrayLike) -> AgaciState:
        window = _window("agaci", scores)
        kind = window.scores.dtype
        zeros = jnp.zeros(size, kind)
        return AgaciState(AciState(jnp.full(size, target, kind), window), zeros, zeros, zeros, zeros)

    def thresholds(state: AgaciState) -> tuple[Array, Array]:
        ordered = jnp.sort(state.experts.window.scores)
        each = _at_miscoverage(ordered, state.experts.alpha)
        return each, jnp.clip(each, ordered[0], ordered[-1])

    def weights(state: AgaciState) -> Array:
        # Learning rates are 0 before the first regret: then all are equal.
        started = (state.learning > 0).all()
        safe = jnp.where(state.learning > 0, state.learning, 1)
        return jax.nn.softmax(jnp.where(started, jnp.log(safe) + safe * state.regret, 0))

    def bound(state: AgaciState) -> Array:
        return jnp.dot(weights(state), thresholds(state)[1])

    def update(state: AgaciState, score: Array) -> AgaciState:
        each, clipped = thresholds(state)
        weight = weights(state)
        together = jnp.dot(weight, clipped)
        slope = jnp.where(score > together, -(1 - target), target).astype(clipped.dtype)
        regret = slope * (together - clipped)
        largest = jnp.maximum(state.largest, jnp.square(regret))
        variance = state.variance + jnp.square(regret)
        safe = jnp.where(largest > 0, largest, 1), jnp.where(variance > 0, variance, 1)
        learning = jnp.minimum(1 / jnp.sqrt(safe[0]), jnp.sqrt(math.log(size) / safe[1]))
        second = regret - learning * jnp.square(regret)
        late = jnp.where(learning * regret > 0.5, jnp.sqrt(largest), 0)
        total = state.regret + 0.5 * (second + late)
        missed = (score > each).astype(clipped.dtype)
        step = jnp.asarray(rates, clipped.dtype) * (target - missed)
        experts = AciState(state.experts.alpha + step, _push(state.experts.window, score))
        return AgaciState(experts, learning, largest, variance, total)

    return Online("agaci", float(level), init, bound, update)


class PidState(NamedTuple):
    """Where `pid` is."""

    threshold: Array
    """The proportional part."""
    excess: Array
    """Misses so far, less those that were due."""
    seen: Array
    """Outcomes so far, int."""
    window: Window


@kept
def pid(level: float = 0.9, *, rate: float = 0.1, integral: float = 1.0, saturation: float = 5.0) -> Online:
    """Conformal PID control: the threshold itself moves by what was missed, and by the sum of what was missed.

    q_t is the sum of P: moved up by rate · (1 − α) at a miss and down by rate · α at a hit, times the range of the last
    W scores; and of I: integral · tan(e log(t + 1) / (saturation · (t + 1))), e the misses beyond α t, infinite where
    the tangent's argument passes π / 2, which bounds the misses of any sequence. Sets never are empty or infinite
    without need, as those of `aci`. For D, a forecast of the score, subtract it from the scores and add it to the
    bounds.

    Args:
      level: coverage asked for, 1 − α.
      rate: as above.
      integral: as above, in the units of the score; 0 leaves P alone.
      saturation: as above: how far e may go.
    Raises:
      InputError: a level outside (0, 1), settings that are not positive (`integral`: negative).
    References:
      angelopoulos2023. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> procedure = pid(0.9, rate=0.1, integral=0.0)
      >>> state = procedure.init(np.arange(1.0, 20.0))
      >>> float(procedure.bound(state)), round(float(procedure.bound(procedure.update(state, 25.0))), 4)
      (18.0, 19.62)
    """
    target = _target("pid", level, rate)
    if not (integral >= 0 and saturation > 0):
        raise InputError(f"`pid` expected integral ≥ 0 and saturation > 0, but got {integral} and {saturation}.")

    def init(scores: ArrayLike) -> PidState:
        window = _window("pid", scores)
        first = _at_miscoverage(jnp.sort(window.scores), jnp.asarray(target, window.scores.dtype))
        first = jnp.where(jnp.isfinite(first), first, window.scores.max())
        return PidState(first, jnp.zeros((), first.dtype), jnp.zeros((), int), window)

    def bound(state: PidState) -> Array:
        if integral == 0:
            return state.threshold
        time = (state.seen + 1).astype(state.excess.dtype)
        angle = state.excess * jnp.log(time) / (saturation * time)
        edge = jnp.where(angle > 0, jnp.inf, -jnp.inf)
        inside = jnp.abs(angle) < math.pi / 2
        return state.threshold + jnp.where(inside, integral * jnp.tan(jnp.where(inside, angle, 0)), edge)

    def update(state: PidState, score: Array) -> PidState:
        missed = (score > bound(state)).astype(state.excess.dtype) - target
        spread = state.window.scores.max() - state.window.scores.min()
        moved = state.threshold + rate * spread * missed
        return PidState(moved, state.excess + missed, state.seen + 1, _push(state.window, score))

    return Online("pid", float(level), init, bound, update)


class EnbpiState(NamedTuple):
    """Where `enbpi` is."""

    window: Window
    """The last residuals in force."""
    waiting: Array
    """Residuals that come into force together, `(stride,)`."""
    number: Array
    """How many wait, int."""


@kept
def enbpi(level: float = 0.9, *, stride: int = 1) -> Online:
    """EnbPI: the shortest interval between quantiles of the last W left-out residuals.

    The first residuals are y − prediction of each training outcome by the members that did not see it, so that nothing
    is held out; new ones replace the oldest, `stride` at a time. Coverage is approximate, for models that are
    consistent and residuals that mix and drift slowly; there is no bound for finite samples.

    Args:
      level: coverage asked for.
      stride: how many outcomes become known together.
    Raises:
      InputError: a level outside (0, 1), a stride below 1, no residuals to begin with.
    References:
      xu2021, algorithm 1. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> procedure = enbpi(0.8)
      >>> procedure.bound(procedure.init(np.array([-1.0, 0, 1, 2, 3, 4, 5, 6, 7, 30]))).tolist()
      [-1.0, 6.0]
    """
    _target("enbpi", level, 1.0)
    check_count("stride", stride)

    def init(residuals: ArrayLike) -> EnbpiState:
        window = _window("enbpi", residuals)
        if window.scores.shape[0] < stride:
            raise InputError(f"`enbpi` expected at least {stride} residuals, its stride, but got fewer.")
        return EnbpiState(window, jnp.zeros(stride, window.scores.dtype), jnp.zeros((), int))

    def bound(state: EnbpiState) -> Array:
        ordered = jnp.sort(state.window.scores)
        size = ordered.shape[0]
        held = math.ceil(size * fraction(level))  # so many residuals are inside
        width = ordered[held - 1 :] - ordered[: size - held + 1]
        start = jnp.argmin(width)
        return jnp.stack([ordered[start], ordered[start + held - 1]])

    def update(state: EnbpiState, residual: Array) -> EnbpiState:
        waiting = state.waiting.at[state.number].set(residual)
        full = state.number + 1 == stride
        window = state.window
        for each in range(stride):
            pushed = _push(window, waiting[each])
            window = jax.tree.map(lambda new, old: jnp.where(full, new, old), pushed, window)
        return EnbpiState(window, waiting, jnp.where(full, 0, state.number + 1))

    return Online("enbpi", float(level), init, bound, update)


# Helpers


def _target(name: str, level: Any, rate: Any) -> float:
    """1 − level, checked."""
    check_level("level", level)
    if not (isinstance(rate, int | float) and 0 < rate < math.inf):
        raise InputError(f"`{name}` expected a rate above 0, but got {rate!r}.")
    return float(1 - fraction(level))


def _window(name: str, scores: Any) -> Window:
    scores = check_scores(name, _inputs.floating(_inputs.array(name, "scores", scores))[0], ndim=1)
    return Window(jnp.asarray(scores, jnp.result_type(float)), jnp.zeros((), int))


def _push(window: Window, score: Array) -> Window:
    size = window.scores.shape[0]
    return Window(window.scores.at[window.oldest].set(score), (window.oldest + 1) % size)


def _at_miscoverage(ordered: Array, alpha: Array) -> Array:
    """Split conformal thresholds of rising scores `(W,)` at miscoverages `(…)`, which may leave [0, 1]."""
    size = ordered.shape[0]
    place = jnp.ceil((size + 1) * (1 - alpha) - 1e-4).astype(int)
    found = ordered[jnp.clip(place - 1, 0, size - 1)]
    return jnp.where((place > size) | (alpha <= 0), jnp.inf, jnp.where((place < 1) | (alpha >= 1), -jnp.inf, found))
