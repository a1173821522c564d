"""Predictions for more rows than fit in memory: chunk after chunk through one compiled program.

While the device computes one chunk, the host prepares the next and takes the results of the one before. Memory depends
on the chunk alone, not on how many rows or members there are, beyond the inputs and the results that are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import InputError, check_count, check_level, check_width_of_inputs
from ._rows import Rows, Source, as_on_device, chunks_of, inputs_source, peeked
from ._typing import PyTree
from .likelihoods import Likelihood
from .members import Members, num_members
from .model import Model, as_model
from .predict import bucket, budget, bytes_per_row, check_members, check_outputs, forward_of, weight_of
from .predictive import Predictive


class Moments(NamedTuple):
    """Moments of the predictive distribution of every row, on the host."""

    mean: np.ndarray
    """`(N,)` or `(N, D)`; for classes `(N, C)`."""
    aleatoric: np.ndarray
    """Variance within members, averaged; as `mean`, units squared."""
    epistemic: np.ndarray
    """Variance of the members' means."""
    quantiles: np.ndarray | None = None
    """At the levels asked for, `(Q, N)` or `(Q, N, D)`."""

    @property
    def variance(self) -> np.ndarray:
        """Variance of the mixture: aleatoric + epistemic."""
        return self.aleatoric + self.epistemic

    @property
    def stddev(self) -> np.ndarray:
        """Standard deviation of the mixture."""
        return np.sqrt(self.variance)


class Limits(NamedTuple):
    """How much is taken at a time."""

    batch_size: int | None = None
    """Rows; None chooses from `memory`."""
    member_size: int | None = None
    """Members; None chooses from `memory`."""
    memory: int | None = None
    """Bytes that the values of one chunk may take; None is 32 MiB on a CPU, whose caches these fit, else 256 MiB."""


class Part(NamedTuple):
    """One chunk under way on the device."""

    pred: Predictive
    """Of all rows of the chunk, padding included."""
    rows: Rows
    num_rows: int
    """How many of them are no padding."""


def predict_batches(
    model: Any,
    likelihood: Likelihood,
    members: Members,
    x: Any,
    *,
    batch_size: int | None = None,
    member_size: int | None = None,
    memory: int | None = None,
) -> Iterator[Predictive]:
    """What the members say about `x`, as one `Predictive` after another for consecutive rows.

    Each has `batch_size` rows, the last one what remains, however the rows were batched. One chunk is read and computed
    ahead of what has been taken.

    Args:
      model, likelihood, members: as `uq.predict` takes them.
      x: inputs, `(N, …)` or a pytree of such, which may be memory maps; or an iterator (or other iterable that is no
        pytree) of batches of rows, of any sizes.
      batch_size: rows at a time; None chooses from `memory`.
      member_size: members at a time; None chooses likewise.
      memory: bytes that the values of one chunk may take; None is 32 MiB on a CPU (larger chunks leave its caches, and
        are slower) and 256 MiB elsewhere.
    Raises:
      InputError: as `uq.predict`, with the number of the batch or of the row; `memory` too small for one row.
    Example:
      >>> import flax.linen as nn, jax.numpy as jnp, uq
      >>> members = uq.Members(uq.batched_init(nn.Dense(2), 0, jnp.ones((1, 3)), 4))
      >>> batches = (jnp.ones((size, 3)) for size in (5, 1, 4))
      >>> [len(p) for p in uq.predict_batches(nn.Dense(2), uq.likelihoods.Gaussian(), members, batches, batch_size=8)]
      [8, 2]
    """
    limits = check_limits(Limits(batch_size, member_size, memory))
    check_members("predict_batches", members)
    return map(cut, stream(model, likelihood, members, inputs_source(x, None), limits))


def predict_moments(
    model: Any,
    likelihood: Likelihood,
    members: Members,
    x: Any,
    *,
    levels: Any = None,
    batch_size: int | None = None,
    member_size: int | None = None,
    memory: int | None = None,
) -> Moments:
    """Mean and variances of every row, and quantiles where asked for, without ever holding the members' outputs.

    Args:
      model, likelihood, members, x, batch_size, member_size, memory: as `uq.predict_batches` takes them.
      levels: levels of quantiles, `(Q,)`, in (0, 1).
    Raises:
      InputError: as `uq.predict_batches`; quantiles of classes.
    """
    limits = check_limits(Limits(batch_size, member_size, memory))
    check_members("predict_moments", members)
    return moments_of(stream(model, likelihood, members, inputs_source(x, None), limits), levels)


def cut(part: Part) -> Predictive:
    """The predictions without those of the padding."""
    return part.pred if part.num_rows == len(part.pred) else part.pred[: part.num_rows]


def evaluated(parts: Iterator[Part], metric: Any) -> Any:
    """What a streaming metric computes over all rows."""
    state = metric.empty()
    for part in parts:
        size = len(part.pred)
        mask = None if part.num_rows == size else np.arange(size) < part.num_rows
        state = metric.update(state, part.pred, part.rows["y"], mask, part.rows.get("weight"))
    return metric.compute(state)


def moments_of(parts: Iterator[Part], levels: Any = None) -> Moments:
    """The moments of all rows, on the host."""
    if levels is not None:
        check_level("levels", levels)
        levels = np.atleast_1d(np.asarray(levels, np.float64))
    found = [_Column() for _ in range(3 if levels is None else 4)]

    def begin(part: Part) -> tuple[Part, tuple]:
        values = part.pred._begin_moments(), None if levels is None else part.pred._begin_quantile(levels)
        jax.tree.map(lambda leaf: leaf.copy_to_host_async(), values)
        return part, values

    def end(part: Part, values: tuple) -> None:
        ended = [np.asarray(value) for value in part.pred._end_moments(values[0])]
        if levels is not None:
            ended.append(np.moveaxis(np.asarray(part.pred._from_base(values[1])), 0, -1))
        for column, value in zip(found, ended, strict=True):
            column.add(value[: part.num_rows])

    pending = None
    for part in parts:
        under_way = begin(part)
        if pending is not None:
            end(*pending)
        pending = under_way
    assert pending is not None  # a source without rows has raised
    end(*pending)
    mean, aleatoric, epistemic, *quantiles = (column.whole() for column in found)
    return Moments(mean, aleatoric, epistemic, np.moveaxis(quantiles[0], -1, 0) if quantiles else None)


class _Column:
    """Rows of one result, in one array that grows in place: copies side by side would double the peak of memory."""

    def __init__(self) -> None:
        self._rows, self._held = 0, np.empty(0)

    def add(self, values: np.ndarray) -> None:
        """Append rows, `(n, …)`."""
        if self._rows == 0:
            self._held = np.empty((0, *values.shape[1:]), values.dtype)
        rows = self._rows + len(values)
        if rows > len(self._held):
            self._held.resize((max(rows, self._rows + self._rows // 4), *values.shape[1:]), refcheck=False)
        self._held[self._rows : rows] = values
        self._rows = rows

    def whole(self) -> np.ndarray:
        """All rows, `(N, …)`."""
        self._held.resize((self._rows, *self._held.shape[1:]), refcheck=False)
        return self._held


def stream(
    model: Any,
    likelihood: Likelihood,
    members: Members,
    source: Source,
    limits: Limits,
    *,
    example: PyTree = None,
    prepare: Callable[[PyTree], PyTree] = lambda x: x,
) -> Iterator[Part]:
    """The chunks of a source, each on its way through the device while the one before is looked at.

    Args:
      example: shape of one input, as in training, or None.
      prepare: what the host does to inputs before the networks see them.
    """
    model = as_model(model)
    row, name, source = peeked(source)
    if example is not None:
        check_width_of_inputs(row["x"], example, name=name)
    x = jax.tree.map(as_on_device, prepare(row["x"]))
    check_outputs(model, likelihood, members, x)
    batch_size, member_size = sizes(model, likelihood, members, x, source.num_rows, limits)
    forward, weight = forward_of(model, likelihood, members, member_size), None
    ahead = None
    for chunk in chunks_of(source, batch_size, example=example, prepare=prepare, bucket=bucket):
        outputs = forward(chunk.rows["x"])
        weight = weight_of(members, outputs.dtype) if weight is None else weight
        part = Part(Predictive(outputs, likelihood, weight), chunk.rows, chunk.num_rows)
        if ahead is not None:
            yield ahead
        ahead = part
    if ahead is not None:
        yield ahead


def check_limits(limits: Limits) -> Limits:
    """Raise unless each is a count or None."""
    for name, value in limits._asdict().items():
        if value is not None:
            check_count(name, value)
    return limits


def sizes(
    model: Model, likelihood: Likelihood, members: Members, x: PyTree, num_rows: int | None, limits: Limits
) -> tuple[int, int]:
    """How many rows and members to take at a time.

    A chunk holds all intermediate values of the members it takes at once, and a few arrays of the outputs of all. Where
    not even 256 rows of all members fit, members are taken in chunks, and then fewer rows.
    """
    size, memory = num_members(members), limits.memory or budget()
    values = max(bytes_per_row(model, members, x), 1)
    kept = _KEPT * size * _output_bytes(model, members, x)
    least = values * (limits.member_size or 1) + kept
    if limits.memory is not None and limits.batch_size is None and least > memory:
        raise InputError(
            f"`memory` expected at least {least:,} bytes, which is what one row takes ({values:,} for a member's "
            f"intermediate values and {kept:,} for the outputs of {size}), but it is {memory:,}."
        )
    rows = limits.batch_size or min(num_rows or 256, 256)
    members_at_once = limits.member_size or max(1, min(size, (memory // rows - kept) // values))
    if limits.member_size is None:  # evened out, so that the last chunk repeats few
        members_at_once = -(-size // -(-size // members_at_once))
    members_at_once = min(members_at_once, size)
    if limits.batch_size is not None:
        return limits.batch_size, members_at_once
    rows = max(1, memory // (members_at_once * values + kept))
    if num_rows is not None:  # likewise
        rows = -(-num_rows // -(-num_rows // rows))
    return bucket(rows), members_at_once


_KEPT = 4
"""How many arrays as large as the outputs a mixture's moments may take."""


def _output_bytes(model: Model, members: Members, x: PyTree) -> int:
    """Bytes of one member's outputs for the one row of `x`."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), members.variables)
    outputs = jax.eval_shape(lambda v: model.apply(v, jax.tree.map(jnp.asarray, x))[0], one)
    return outputs.size * max(outputs.dtype.itemsize, 4)
