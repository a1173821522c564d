"""What a conformal procedure is, what it returns, and what a score is: the three shapes that this package composes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError
from .._typing import ArrayLike, PyTree
from ..metrics import Bounds, _inputs


class Conformal(NamedTuple):
    """A procedure that turns predictions into sets with a guarantee, from outcomes that trained none of them.

    Like a recalibrator, it sees predictions alone. The state is a pytree of arrays, so that it is saved and jitted
    like any other; the level is given when the state is applied, and one state serves them all.
    """

    name: str
    fit: Callable[..., PyTree]
    """`fit(pred, y, …) -> state`."""
    apply: Callable[..., Any]
    """`apply(state, pred, …, level=0.9) -> PredictionInterval` or a region; jits at a fixed level."""


class Score(NamedTuple):
    """How ill an outcome conforms to its prediction, and which outcomes conform at least so well.

    Every procedure composes with every score. `of` must not look at other rows, and `ends` must invert it:
    of(parts, y) ≤ q exactly where y lies between the ends of `ends(parts, q)`, which widen with q.
    """

    name: str
    parts: Callable[[Any, int], tuple]
    """`parts(pred, ndim)`: what it needs of the predictions, for outcomes of `ndim` axes: arrays `(N,)` or `(N, D)`."""
    of: Callable[[tuple, Any], Any]
    """`of(parts, y)`: scores of the shape of `y`; higher is less conforming."""
    ends: Callable[[tuple, Any], tuple[Any, Any]]
    """`ends(parts, q)`: lower and upper ends; q broadcasts against the outcomes."""
    combine: Callable[[tuple, Any], tuple] | None = None
    """`combine(parts, weight)`: parts of members `(K, …)` as those of their ensemble, `weight` summing to 1 over the
    members; None where the score does not come from arrays."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PredictionInterval:
    """Intervals that hold outcomes with the probability promised; unpacks as `lower, upper`.

    A pytree: it passes through `jax.jit`.
    """

    lower: Any
    """Lower ends, `(N,)` or `(N, D)`, in the units of the outcomes; −inf where nothing bounds them."""
    upper: Any
    """Upper ends."""
    level: float = field(metadata={"static": True})
    """Coverage asked for."""
    realised: Bounds | None = None
    """Central 95 % interval of the coverage that this calibration set gives, over calibration sets; of each example
    `(N,)` where their calibration sets differ; None where its distribution is not known."""

    def __iter__(self) -> Iterator[Any]:
        yield self.lower
        yield self.upper

    @property
    def width(self) -> Any:
        """Widths, `(N,)` or `(N, D)`."""
        return self.upper - self.lower

    def contains(self, y: ArrayLike) -> Any:
        """Which outcomes are inside, bool of the shape of `lower`; ends are inside, and so is what rounding explains.

        Raises:
          InputError: `y` of another shape, or NaN.
        """
        outcome = _inputs._flat(_inputs.array("contains", "y", y, infinite=True))
        if outcome.shape != self.lower.shape:
            raise InputError(
                f"`contains` expected `y` of shape {self.lower.shape}, that of the intervals, but got {outcome.shape}."
            )
        lower, upper, outcome = _inputs.floating(self.lower, self.upper, outcome)
        xp: Any = jnp if isinstance(lower, jax.Array) or isinstance(outcome, jax.Array) else np
        size = xp.maximum(*(xp.where(xp.isfinite(end), abs(end), 0) for end in (lower, upper)))
        room = 4 * float(jnp.finfo(size.dtype).eps) * size
        return (outcome >= lower - room) & (outcome <= upper + room)


Made = TypeVar("Made", bound=Callable[..., Any])


def kept(make: Made) -> Made:
    """One result for one setting, so that programs compiled for it are found again."""
    cached = functools.cache(make)

    @functools.wraps(make)
    def again(*args: Any, **settings: Any) -> Any:
        try:
            return cached(*args, **settings)
        except TypeError:  # settings without a hash, which `make` refuses by name
            return make(*args, **settings)

    return again  # type: ignore[return-value]


# What procedures have in common


def scored(procedure: str, score: Score, pred: Any, y: ArrayLike) -> tuple[tuple, Any]:
    """What the score needs of the predictions, and the scores of outcomes `(n,)` or `(n, D)`, checked."""
    outcome = _inputs._flat(_inputs.array(procedure, "y", y))
    if outcome.ndim not in (1, 2):
        raise InputError(f"`{procedure}` expected `y` of shape (n,) or (n, D), but got {outcome.shape}.")
    parts = score.parts(pred, outcome.ndim)
    shape = shape_of(parts)
    if outcome.shape != shape:
        raise InputError(
            f"`{procedure}` expected `y` of shape {shape}, that of the predictions, but got {outcome.shape}."
        )
    *same, outcome = in_one_dtype(parts, outcome)
    return tuple(same), score.of(tuple(same), outcome)


def parts_like(procedure: str, score: Score, pred: Any, tail: tuple[int, ...]) -> tuple:
    """What the score needs of new predictions, which have as many outputs as those that the state came from."""
    parts = score.parts(pred, 1 + len(tail))
    shape = shape_of(parts)
    if shape[1:] != tail:
        have, want = (f"{t[0]} outputs" if t else "one output" for t in (shape[1:], tail))
        raise InputError(f"`{procedure}` was fitted to predictions of {want}, but these have {have}.")
    return parts


def shape_of(parts: tuple) -> tuple[int, ...]:
    """Shape of the outcomes that parts speak of; members, where there are, come first in parts of more axes."""
    return min((tuple(part.shape) for part in parts), key=len)


def ends_at(score: Score, parts: tuple, q: Any) -> tuple[Any, Any]:
    """`score.ends`, everything in one kind and dtype."""
    *same, q = in_one_dtype(parts, q)
    return score.ends(tuple(same), q)


def in_one_dtype(parts: tuple, value: Any) -> tuple[Any, ...]:
    """Parts and one more array in one kind and floating dtype: those of a device decide."""
    return _inputs.floating(*parts, value) if all(hasattr(part, "dtype") for part in parts) else (*parts, value)


def xp_of(*values: Any) -> Any:
    """jax.numpy where any is a jax array, else numpy."""
    return jnp if any(isinstance(each, jax.Array) for each in jax.tree.leaves(values)) else np
