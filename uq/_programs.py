"""The training program of a run, compiled under a strategy: what `fit` calls, and what `plan` measures."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._setup import Settings
from ._training import REFRESH_BATCHES, Data, Run, Stretch, many_steps, single_steps, take_stretch, training_parts
from ._tree import is_key, tree_size
from ._typing import PyTree
from .execution import Strategy, compiled, looped, same_for_any_size, unrolled
from .execution.compiling import unoptimized
from .method import Method

_LITTLE = 500_000
_SMALL = 5_000
"""A program that reads at most so many numbers in all, for so many weights, takes longer to optimise than to run."""
_BLOCK = 10
"""Steps that are taken together on an accelerator, at most: a fit can be stopped between them."""


class Program:
    """A compiled training program, and how members are spread over the threads that call it.

    Each thread trains its own members; where K is no multiple of the number of threads, the last repeats a member,
    whose copy is dropped afterwards.
    """

    def __init__(
        self,
        call: Callable[..., Any],
        groups: Sequence[np.ndarray],
        block: int,
        memory: int,
        temporary: int,
        seconds: float,
    ) -> None:
        self._call, self._groups = call, groups
        self._pool = ThreadPoolExecutor(len(groups)) if len(groups) > 1 else None
        self.block = block
        """Steps that are always taken together: the bounds of a stretch are multiples of it."""
        self.memory = memory
        """Bytes of arguments, results and intermediate values together."""
        self.temporary = temporary
        """Of these, intermediate values: what the mapping decides."""
        self.seconds = seconds
        """How long it took to trace and compile."""

    def spread(self, run: Run, data: Data) -> list[tuple[Run, Data]]:
        """Each thread's part. Sliced on the host: slices of device arrays would each compile a program."""
        if self._pool is None:
            return [(run, data)]
        return [(_members(run, group), data._replace(**_members(_by_member(data), group))) for group in self._groups]

    def __call__(
        self, parts: list[tuple[Run, Data]], index: np.ndarray, keys: np.ndarray, stretch: Stretch
    ) -> tuple[list[tuple[Run, Data]], np.ndarray, np.ndarray]:
        """The parts after a stretch, and the losses and held-out losses `(E, K)`; the memory of runs is used again."""
        if self._pool is None:
            ((run, data),) = parts
            run, losses, held = self._call(run, data, index, keys, stretch)
            return [(run, data)], losses, held

        def work(part: tuple[Run, Data], group: np.ndarray) -> Any:
            own = index if index.shape[1] == 1 else index[:, group]
            return jax.block_until_ready(self._call(*part, own, keys[:, group], stretch))

        done = list(self._pool.map(work, parts, self._groups))
        runs = [(run, data) for (run, _, _), (_, data) in zip(done, parts, strict=True)]
        losses, held = (_joined([found[i] for found in done], keys.shape[1], axis=1) for i in (1, 2))
        return runs, losses, held

    def active(self, parts: list[tuple[Run, Data]]) -> np.ndarray:
        """Which members still train, `(K,)`."""
        size = self._groups[-1][-1] + 1
        return _joined([run.active for run, _ in parts], size)

    def join(self, parts: list[tuple[Run, Data]]) -> Run:
        """The whole run again."""
        if self._pool is None:
            return parts[0][0]
        size = int(self._groups[-1][-1]) + 1
        return jax.tree.map(lambda *leaves: _whole(leaves, size), *(run for run, _ in parts))


def _by_member(data: Data) -> dict[str, Any]:
    """What of the data leads with the member axis."""
    return {"held_out": data.held_out, "own": data.own}


def _members(tree: PyTree, group: np.ndarray) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[group] if is_key(leaf) else jax.device_put(np.asarray(leaf)[group]), tree)


def _joined(leaves: Sequence[Any], size: int, axis: int = 0) -> np.ndarray:
    return np.concatenate([np.asarray(leaf) for leaf in leaves], axis).take(np.arange(size), axis)


def _whole(leaves: Sequence[Any], size: int) -> Any:
    if is_key(leaves[0]):
        return jnp.concatenate(leaves)[:size]
    return jax.device_put(_joined(leaves, size))


class Shapes(NamedTuple):
    """What a program is compiled for."""

    run: PyTree
    """A `Run` of arrays, or of their shapes."""
    data: Data
    """Likewise."""
    key_impl: str
    """The name of the keys' generator."""
    words: int
    """How many words a key has."""


def compile_training(method: Method, strategy: Strategy, settings: Settings, shapes: Shapes) -> Program:
    """The program that trains `settings.size` members of `method`, a method for one."""
    return compiling_training(method, strategy, settings, shapes)()


def compiling_training(method: Method, strategy: Strategy, settings: Settings, shapes: Shapes) -> Callable[[], Program]:
    """Begin to compile the program; the function returned waits for it.

    Its two parts compile on threads of their own, the first while the second is traced. Tracing is this thread's:
    settings such as `jax.enable_x64()` are a thread's own.
    """
    began = time.perf_counter()
    groups = _groups(settings.size, strategy.threads)
    size, steps, batch = len(groups[0]), settings.steps, settings.batch
    run = _of_size(shapes.run, size)
    data = shapes.data._replace(**_of_size(_by_member(shapes.data), size))
    index = jax.ShapeDtypeStruct((1 if settings.shared else size, steps, batch), jnp.int32)
    keys = jax.ShapeDtypeStruct((size, steps, shapes.words), jnp.uint32)
    scalar: Any = jax.ShapeDtypeStruct((), jnp.int32)
    parts = training_parts(method, strategy, shapes.key_impl)
    together = strategy.mapping not in (looped, unrolled)
    options = same_for_any_size(tree_size(run.state) // size, together=together, one_thread=len(groups) > 1)

    def build(function: Callable[..., Any], *args: Any) -> Any:
        return jax.jit(function, donate_argnums=0).lower(run, data, *args)

    block = _block(steps) if strategy.loop else 1
    advance = functools.partial(build, many_steps(parts.update, block), index, keys, scalar, scalar, scalar)
    if not strategy.loop:
        advance = functools.partial(build, parts.update, index, keys, scalar, scalar)
    small = tree_size(run.before) // size <= _SMALL
    at_ends = unoptimized(options) if small and reads_little(settings, data) else options
    pool = ThreadPoolExecutor(2)
    compiling = (
        pool.submit(compiled, advance(), options),
        pool.submit(compiled, build(parts.end_epoch, index, scalar), at_ends),
    )
    pool.shutdown(wait=False)

    def finish() -> Program:
        update, end_epoch = (part.result() for part in compiling)
        memory, temporary = map(max, zip(_bytes(update), _bytes(end_epoch), strict=True))
        shared = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((data.x, data.y, data.weight)))
        memory, temporary = memory * len(groups) - shared * (len(groups) - 1), temporary * len(groups)
        call = functools.partial(take_stretch, update if strategy.loop else single_steps(update), end_epoch)
        return Program(call, groups, block, memory, temporary, time.perf_counter() - began)

    return finish


def _block(steps: int) -> int:
    """How many steps an accelerator takes without asking for more: a divisor of those of an epoch."""
    if jax.default_backend() == "cpu":
        return 1
    return max(num for num in range(1, _BLOCK + 1) if steps % num == 0)


def reads_little(settings: Settings, data: Data) -> bool:
    """Whether the ends of all epochs read few numbers of the inputs: those of left-out rows, and of the batches that
    refresh carried averages. Of a member, so that it does not depend on how many there are."""
    held = data.held_out.shape[1] * data.held_out.shape[2]
    rows = held + min(settings.steps, REFRESH_BATCHES) * settings.batch
    wide = sum(math.prod(leaf.shape[1:]) for leaf in jax.tree.leaves(data.x))
    return settings.epochs * rows * wide <= _LITTLE


def _groups(size: int, threads: int) -> list[np.ndarray]:
    """Which members each thread trains: equally many, the last repeated where they do not suffice."""
    each = -(-size // max(threads, 1))
    return [np.minimum(np.arange(first, first + each), size - 1) for first in range(0, size, each)]


def _of_size(tree: PyTree, size: int) -> PyTree:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype), tree)


def _bytes(program: Any) -> tuple[int, int]:
    """Bytes of everything, and of intermediate values alone."""
    found = program.memory_analysis()
    if found is None:  # a backend that does not tell
        return 0, 0
    used_again = getattr(found, "alias_size_in_bytes", 0)
    outside = found.argument_size_in_bytes + found.output_size_in_bytes - used_again
    return int(outside + found.temp_size_in_bytes), int(found.temp_size_in_bytes)
