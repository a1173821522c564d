"""Class predictions as statements "this event comes about with probability p", for every kind of calibration."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete, unknown_name
from .._typing import Array, Key
from . import _inputs, _route

Kind = Literal["confidence", "classwise", "top-label", "binary"]
_BLOCK = 80_000
"""Elements that the host looks at in one go: few enough for its cache."""


class Events(NamedTuple):
    p: Any
    """Probabilities stated, `(N,)`, or `(N, C)` one a class; in the dtype that came."""
    event: Any
    """Whether the event came about, bool, of the same shape."""
    group: Any
    """Which group a statement belongs to, int32, of the same shape."""


def events(name: str, pred: Any, y: Any, kind: str, weight: Any = None) -> tuple[Events, int]:
    """The statements of `kind`, and the number of groups among which they are."""
    known("kind", kind, get_args(Kind))
    if kind == "confidence" and _is_table(pred) and is_concrete((pred, y, weight)):
        return _confident(name, pred, y, weight), 1
    probs, labels = _inputs.classes(name, pred, y, weight)
    num_classes = probs.shape[1]
    if kind == "binary" and num_classes != 2:
        raise InputError(
            f'`{name}` of kind "binary" is for two classes, but there are {num_classes}: choose '
            '"confidence", "classwise" or "top-label".'
        )
    groups = num_classes if kind in ("classwise", "top-label") else 1
    if _route.on_host(probs, labels):
        return _stated(np, np.asarray(probs), np.asarray(labels), kind=kind), groups
    return _route._compiled(_stated, (("kind", kind),))(jnp.asarray(probs), jnp.asarray(labels)), groups


def single(name: str, pred: Any, y: Any, kind: str | None, weight: Any = None) -> tuple[Events, str]:
    """Statements one a row: those of `kind`; None is "binary" for two classes, else "confidence"."""
    known("kind", kind or "binary", ("confidence", "binary"))
    if kind is None:
        kind = "binary" if _inputs.classes(name, pred, y, weight).probs.shape[1] == 2 else "confidence"
    return events(name, pred, y, kind, weight)[0], kind


def simulate_events(key: Key, rows: Any, **settings: Any) -> Any:
    """Rows with events drawn from the probabilities stated; with one column a class, one of them comes about."""
    p = rows.p
    if p.ndim == 1:
        return rows._replace(event=jax.random.uniform(key, p.shape, p.dtype) < p)
    return rows._replace(event=draw_classes(key, p)[:, None] == jnp.arange(p.shape[1]))


def draw_classes(key: Key, probs: Array) -> Array:
    """One class a row, `(N,)`, drawn from its probabilities."""
    upto = jnp.cumsum(probs, axis=1)
    u = jax.random.uniform(key, (probs.shape[0], 1), probs.dtype) * upto[:, -1:]
    return jnp.minimum((upto <= u).sum(1), probs.shape[1] - 1)


def known(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raise unless `value` is one of `choices`."""
    if value not in choices:
        raise unknown_name(name, str(value), choices)


def _is_table(pred: Any) -> bool:
    """Whether `pred` is an array of probabilities of several classes, few enough to be turned on its side."""
    table = isinstance(pred, np.ndarray | jax.Array) and pred.ndim == 2 and 0 not in pred.shape
    return table and 1 < pred.shape[1] <= 64 and pred.dtype in (np.float32, np.float64)


def _confident(name: str, pred: Any, y: Any, weight: Any) -> Events:
    """Statements of kind "confidence"; the host checks the probabilities in the same pass over them."""
    probs, labels = _inputs.classes(name, pred, y, weight, unchecked=True)
    if not _route.on_host(probs, labels):
        _checked_on_device(name, probs)()
        return _route._compiled(_stated, (("kind", "confidence"),))(jnp.asarray(probs), jnp.asarray(labels))
    probs = np.asarray(probs)
    largest, right, extremes = _largest(probs, np.asarray(labels))
    if not _inputs.are_sound(*extremes):
        _inputs._check_probs(name, probs)
    return Events(largest, right, np.zeros(len(probs), np.int32))


def device_table(name: str, pred: Any, y: Any, weight: Any) -> tuple[_inputs.Classes, Callable[[], None]] | None:
    """Probabilities and labels where a device holds them, for programs that begin with `confident`; and a function that
    raises if these are none: the device checks them meanwhile."""
    if not (_is_table(pred) and is_concrete((pred, y, weight))):
        return None
    probs, labels = _inputs.classes(name, pred, y, weight, unchecked=True)
    if _route.on_host(probs, labels):
        return None
    return _inputs.Classes(jnp.asarray(probs), jnp.asarray(labels)), _checked_on_device(name, probs)


def confident(xp: Any, table: _inputs.Classes) -> Events:
    """Statements of kind "confidence" of a checked table."""
    return _stated(xp, *table, kind="confidence")


def _checked_on_device(name: str, probs: Any) -> Callable[[], None]:
    """Have the probabilities looked at; the function returned waits, and raises unless they are some."""
    found = _route._compiled(_extremes, ())(jnp.asarray(probs))

    def wait() -> None:
        *extremes, total = jax.device_get(found)
        if not (np.isfinite(total) and _inputs.are_sound(*extremes)):
            _inputs._check_probs(name, np.asarray(probs))

    return wait


def _extremes(xp: Any, probs: Any) -> tuple[Any, ...]:
    """What `are_sound` asks for, and the sum of all: compiled, an extreme may pass over NaN, but a sum does not."""
    sums = probs.sum(1)
    return probs.min(), probs.max(), sums.min(), sums.max(), sums.sum()


def _stated(xp: Any, probs: Any, labels: Any, *, kind: str) -> Events:
    labels = labels.astype(np.int32)
    none = xp.zeros(labels.shape, np.int32)
    if kind == "binary":
        return Events(probs[:, 1], labels == 1, none)
    if kind == "classwise":
        each = xp.broadcast_to(xp.arange(probs.shape[1], dtype=np.int32), probs.shape)
        return Events(probs, labels[:, None] == each, each)
    if xp is np:
        largest = probs.max(1)
        top = probs.argmax(1).astype(np.int32)
    else:
        largest, each = probs.max(1), jnp.arange(probs.shape[1], dtype=np.int32)
        top = jnp.where(probs == largest[:, None], each, probs.shape[1]).min(1)  # faster than argmax
    return Events(largest, top == labels, none if kind == "confidence" else top)


def _largest(probs: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[Any, ...]]:
    """The largest of each row; whether its class, the first of equals, is the label's; and what `are_sound` asks for.

    In blocks that fit the cache, turned on their side: numpy is slow along short rows.
    """
    size, width = probs.shape
    largest, right = np.empty(size, probs.dtype), np.empty(size, bool)
    rows = min(max(_BLOCK // width, 1), size)
    columns, number = np.empty((width, rows), probs.dtype), np.arange(rows)
    same, lows, sums = np.empty((width, rows), bool), [], []
    for start in range(0, size, rows):
        part = slice(start, start + rows)
        found = largest[part]
        block, equal = columns[:, : len(found)], same[:, : len(found)]
        np.copyto(block, probs[part].T)
        block.max(0, out=found)
        np.equal(block, found, out=equal)
        if np.count_nonzero(equal) == len(found):  # no ties
            right[part] = same.reshape(-1).take(labels[part] * rows + number[: len(found)])
        else:
            np.equal(probs[part].argmax(1), labels[part], out=right[part])
        total = block.sum(0)
        lows.append(block.min())
        sums += [total.min(), total.max()]
    return largest, right, (np.min(lows), largest.max(), np.min(sums), np.max(sums))
