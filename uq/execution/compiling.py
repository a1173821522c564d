"""How programs are compiled, where the default is not what we want."""

from __future__ import annotations

from typing import Any

import jax

_SMALL = 1_000_000
_QUICK = 100_000
_UNKNOWN: set[str] = set()
"""Options that the installed compiler has said it does not know."""


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


def same_for_any_size(num_numbers: int) -> dict[str, Any]:
    """Compiler options for a program whose result for one member must not depend on how many there are.

    On a CPU the compiler hands large sums and products to a kernel library and expands small ones by itself, which
    add in different orders; the member axis counts towards "large". Without the library the order is always the same.

    A program for small members (by `num_numbers`, those of one) compiles in half the time, and runs as fast, without
    the newer fusion code generator, at the first level of optimisation, in fewer parts, and without the pass that
    splits each sum into sums of 32, whose every level is one more kernel: sums are then taken in order, as products of
    matrices are in any case.
    """
    if jax.default_backend() != "cpu":
        return {}
    options: dict[str, Any] = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if num_numbers <= _QUICK:
        options |= {
            "xla_cpu_use_fusion_emitters": False,
            "xla_backend_optimization_level": 1,
            "xla_cpu_parallel_codegen_split_count": 8,
            "xla_disable_hlo_passes": "tree_reduction_rewriter",
        }
    return options


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
