"""How programs are compiled, where the default is not what we want."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .. import _kept
from .._checks import InputError

_SMALL = 1_000_000
_QUICK = 100_000
_FEW = 10_000
_UNKNOWN: set[str] = set()
"""Options that the installed compiler has said it does not know."""


def runs_on_host(num_numbers: int) -> bool:
    """Whether a program that makes `num_numbers` a member once, such as initial weights, is left to NumPy.

    A compiler takes 0.1 s for two layers and 0.05 s for each further one, and what it makes is some five times as
    fast as NumPy: on two cores that pays from about eight million numbers in all. The count is a member's all the same,
    because the choice decides the last bits, and they do not depend on how many members there are.
    """
    return num_numbers <= _FEW and jax.default_backend() == "cpu"


def run_once(num_numbers: int) -> dict[str, Any]:
    """Compiler options for a program that makes `num_numbers` random numbers a member once: initial weights, draws.

    Generators compile slowly, and on a CPU most of that time goes into optimising code that then runs for
    milliseconds: the first level of optimisation and the older code generator compile three times faster, and give
    the same bits (no optimisation at all would not). One part keeps the compiler on one core: `fit` traces the training
    program at the same time. Large programs and other devices are left alone; the count is a member's, so that the
    choice does not depend on how many there are.
    """
    if num_numbers > _SMALL or jax.default_backend() != "cpu":
        return {}
    return {
        "xla_backend_optimization_level": 1,
        "xla_cpu_use_fusion_emitters": False,
        "xla_cpu_parallel_codegen_split_count": 1,
    }


def same_for_any_size(num_numbers: int, *, together: bool = True, one_thread: bool = False) -> dict[str, Any]:
    """Compiler options for a program whose result for one member must not depend on how many there are.

    On a CPU the compiler hands large sums and products to a kernel library and expands small ones by itself, which
    add in different orders; the member axis counts towards "large". Without the library the order is always the same.
    Members that run one after another (not `together`) each meet the same kernels anyway, and keep the library.

    A program for small members (by `num_numbers`, those of one) compiles in half the time, and runs as fast, without
    the newer fusion code generator, at the first level of optimisation, in fewer parts, and without the pass that
    splits each sum into sums of 32, whose every level is one more kernel: sums are then taken in order, as products of
    matrices are in any case.

    A program that several threads call at once, each for its own members, is compiled for one thread: threads that
    share out each small product among themselves wait for each other longer than they compute.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": ""} if together else {}
    if num_numbers <= _QUICK:
        options |= {
            "xla_cpu_use_fusion_emitters": False,
            "xla_backend_optimization_level": 1,
            "xla_cpu_parallel_codegen_split_count": 8,
        }
    passes = ["tree_reduction_rewriter"] if num_numbers <= _QUICK else []
    if one_thread:
        options["xla_cpu_multi_thread_eigen"] = False
        passes.append("cpu-parallel-task-assigner")
    if passes:
        options["xla_disable_hlo_passes"] = ",".join(passes)
    return options


def unoptimized(options: dict[str, Any]) -> dict[str, Any]:
    """The options, for a program that runs for less time than the compiler's optimisations of it take."""
    return options | {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else options


@contextmanager
def uncollected() -> Iterator[Callable[[], None]]:
    """Without Python's collector of cycles: tracing makes many objects and no garbage, and searching both takes a
    third of its time. The function that it gives lets the collector work again before the end."""
    was = gc.isenabled()

    def resume() -> None:
        if was:
            gc.enable()

    gc.disable()
    try:
        yield resume
    finally:
        resume()


@functools.cache
def start_kernels() -> None:
    """Have the kernel library start, once a process: the first product of matrices waits for that.

    The library is the one that `same_for_any_size` leaves products to. Training starts it while the compiler works.
    """
    if jax.default_backend() != "cpu":
        return
    square = np.ones((8, 8), np.float32)  # smaller ones the compiler expands by itself
    product = jax.jit(jax.numpy.dot).lower(square, square)
    jax.block_until_ready(compiled(product, same_for_any_size(square.size))(square, square))


def compiled(lowered: Any, options: dict[str, Any]) -> Any:
    """`lowered.compile` with those of the options that the installed compiler knows."""
    known = {name: value for name, value in options.items() if name not in _UNKNOWN}
    try:
        return lowered.compile(compiler_options=known or None)
    except Exception as error:
        unknown = {name for name in known if f"No such compile option: '{name}'" in str(error)}
        if not unknown:
            raise
        _UNKNOWN.update(unknown)
        return compiled(lowered, options)


def keep_compiled(folder: str | Path | None = None) -> Path:
    """Keep compiled programs on disk, so that the next process of the same fit need not compile.

    One call near the start of a program; it sets jax's own persistent cache, for everything that jax compiles from then
    on. The folder may be deleted at any time.

    Args:
      folder: where; None is `compiled` in the folder that plans are kept in (`UQ_CACHE_DIR`, or `uq` in the user's
        cache folder).
    Returns:
      The folder.
    Raises:
      InputError: the folder cannot be written.
    """
    place = _kept.folder() / "compiled" if folder is None else Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"`keep_compiled` cannot write to {place}: {error.strerror}. Give another folder.") from None
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return place
