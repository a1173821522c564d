"""Rows from wherever they lie, in chunks of one size: arrays, memory maps, or batches as they come.

Everything here is on the host. Rows are read when they are needed, a chunk at a time; the last chunk is filled up by
repeating a row. Rows are dicts: "x" and, where metrics are computed, "y" and "weight".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import InputError, as_arrays, check_width_of_inputs, is_concrete, leading_size, path_name, row_list
from ._typing import PyTree

Rows = dict[str, Any]


class Chunk(NamedTuple):
    """Consecutive rows, padded to the size of every other chunk."""

    rows: Rows
    """Leaves `(size, …)`."""
    num_rows: int
    """How many of them there are; the rest is padding."""


class Source(NamedTuple):
    """Where rows come from."""

    batches: Iterator[Rows]
    """Rows in batches of any size; arrays are one batch."""
    num_rows: int | None
    """How many there are; None where only the end will tell."""


def inputs_source(x: PyTree, example: PyTree) -> Source:
    """Rows of inputs: of arrays, or of an iterable of batches of them.

    An iterator is batches, and so is any iterable that is no pytree. A list or a tuple is a pytree, as in `predict`,
    unless `example` says that one row is made otherwise.
    """
    if _is_batches(x, example):
        return Source(({"x": _host(f"batch {i} of x", batch)} for i, batch in enumerate(x)), None)
    x = _host("x", x)
    return Source(iter([{"x": x}]), leading_size("x", x))


def pairs_source(data: Any) -> Source:
    """Rows of inputs and outcomes: of a tuple `(x, y)` or `(x, y, weight)`, or of an iterable of such tuples."""
    if isinstance(data, tuple):
        rows = _pair("data", data)
        return Source(iter([rows]), leading_size("data", rows))
    if not hasattr(data, "__iter__") or hasattr(data, "shape") or isinstance(data, dict | str):
        raise InputError(
            f"`data` expected (x, y), (x, y, weight) or an iterable of such tuples, but got a {type(data).__name__}."
        )
    return Source((_pair(f"batch {i}", batch) for i, batch in enumerate(data)), None)


def _pair(name: str, batch: Any) -> Rows:
    if not isinstance(batch, tuple | list) or len(batch) not in (2, 3):
        said = f"{len(batch)} parts" if isinstance(batch, tuple | list) else f"a {type(batch).__name__}"
        raise InputError(f"`{name}` expected (x, y) or (x, y, weight), but got {said}.")
    parts = zip(("x", "y", "weight"), batch, strict=False)
    rows = {part: _host(part if name == "data" else f"{name} of {part}", value) for part, value in parts}
    leading_size(name, rows)
    return rows


def _host(name: str, x: PyTree) -> PyTree:
    if not is_concrete(x):
        raise InputError(
            f"`{name}` is read on the host, chunk by chunk, and cannot be traced; use `predict` under jit."
        )
    x = jax.tree.map(np.asarray, as_arrays(name, x))
    leading_size(name, x)
    return x


def _is_batches(x: Any, example: PyTree) -> bool:
    if hasattr(x, "__next__"):
        return True
    if hasattr(x, "shape") or hasattr(x, "__array__") or not hasattr(x, "__iter__"):
        return False
    if isinstance(x, list | tuple):
        several = any(np.ndim(leaf) for leaf in jax.tree.leaves(x))
        return several and example is not None and not _same_parts(x, example)
    return jax.tree_util.all_leaves([x])  # an object that jax sees no parts in


def _same_parts(one: PyTree, two: PyTree) -> bool:
    return [p for p, _ in jax.tree_util.tree_flatten_with_path(one)[0]] == [
        p for p, _ in jax.tree_util.tree_flatten_with_path(two)[0]
    ]


def peeked(source: Source) -> tuple[Rows, str, Source]:
    """The first row, what messages call its inputs, and the source with that row still to come."""
    skipped: list[Rows] = []
    for batch in source.batches:
        skipped.append(batch)
        if leading_size("x", batch["x"]):
            row = jax.tree.map(lambda leaf: leaf[:1], batch)
            name = _name(source, len(skipped) - 1)
            return row, name, source._replace(batches=_chained(skipped, source.batches))
    said = (
        f"all {len(skipped)} batches are empty" if skipped else "there is no batch (was the iterator used up before?)"
    )
    said = "it is empty (0 rows)" if source.num_rows == 0 else said
    raise InputError(f"`x` expected at least one example, but {said}.")


def _name(source: Source, i: int) -> str:
    return "x" if source.num_rows is not None else f"batch {i} of x"


def _chained(first: list[Rows], rest: Iterator[Rows]) -> Iterator[Rows]:
    while first:
        yield first.pop(0)  # let go of: nothing else need hold it
    yield from rest


def chunks_of(
    source: Source, size: int, *, example: PyTree, prepare: Callable[[PyTree], PyTree], bucket: Callable[[int], int]
) -> Iterator[Chunk]:
    """Chunks of `size` rows, in order, whatever the batches; fewer rows than that make one smaller chunk.

    Args:
      source: the rows; batches may be uneven or empty.
      size: rows a chunk.
      example: shape of one input, as in training, or None.
      prepare: what becomes of some inputs, `(n, …)`, before they are joined to others.
      bucket: the size of the only chunk, from its number of rows.
    """
    held: list[Rows] = []
    count, many = 0, False
    for piece in _pieces(source, size, example, prepare):
        held.append(piece)
        count += leading_size("x", piece)
        if count >= size:
            rows = _joined(held)
            held, count, many = [_cut(rows, size, count)] if count > size else [], count - size, True
            yield Chunk(_cut(rows, 0, size), size)
    if count:
        to = size if many else min(size, bucket(count))
        yield Chunk(jax.tree.map(lambda leaf: _padded(leaf, to), _joined(held)), count)


def _pieces(source: Source, size: int, example: PyTree, prepare: Callable[[PyTree], PyTree]) -> Iterator[Rows]:
    """Batches cut to at most `size` rows, checked and prepared."""
    first: Any = None
    begin = 0
    for i, batch in enumerate(source.batches):
        num_rows = leading_size("x", batch["x"])
        if num_rows == 0:
            continue
        if example is not None:
            check_width_of_inputs(batch["x"], example, name=_name(source, i))
        if first is not None:
            check_width_of_inputs(batch, first, name=f"batch {i}", like="in the batches before")
        first = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), batch)
        for start in range(0, num_rows, size):
            piece = _finite(_cut(batch, start, start + size), begin + start)
            piece = {**piece, "x": jax.tree.map(as_on_device, prepare(piece["x"]))}
            if source.num_rows is None:  # whoever gives batches may use their memory again
                piece = jax.tree.map(np.array, piece)
            yield piece
        begin += num_rows


def _finite(rows: Rows, begin: int) -> Rows:
    """`rows`, if all are finite; a message counts from the first row of all."""
    for path, leaf in jax.tree_util.tree_flatten_with_path(rows)[0]:
        if jnp.issubdtype(leaf.dtype, jnp.inexact) and not np.isfinite(leaf).all():
            bad = begin + np.flatnonzero(~np.isfinite(leaf).reshape(leaf.shape[0], -1).all(axis=1))
            raise InputError(
                f"`{path_name(path)}` expected finite numbers, but {row_list(bad)} hold{'s' if len(bad) == 1 else ''} "
                "NaN or infinity, counted from the first row of all. Drop or impute those rows first."
            )
    return rows


def as_on_device(leaf: Any) -> np.ndarray:
    """A numpy array in a dtype that the device has."""
    leaf = np.asarray(leaf)
    return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)


def _joined(pieces: list[Rows]) -> Rows:
    if len(pieces) == 1:
        return pieces[0]
    kinds = {", ".join(str(leaf.dtype) for leaf in jax.tree.leaves(piece["x"])) for piece in pieces}
    if len(kinds) > 1:
        raise InputError(
            f"Batches of `x` expected one dtype for all, but hold {' and '.join(sorted(kinds))}; convert them first."
        )
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


def _cut(rows: Rows, start: int, stop: int) -> Rows:
    return jax.tree.map(lambda leaf: leaf[start:stop], rows)


def _padded(leaf: np.ndarray, size: int) -> np.ndarray:
    missing = size - leaf.shape[0]
    return np.concatenate([leaf, np.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))]) if missing else leaf
