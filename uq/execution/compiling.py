"""How hard to compile a program that runs once."""

from __future__ import annotations

from typing import Any

import jax

_SMALL = 5_000_000


def run_once(num_numbers: int) -> dict[str, Any]:
    """Compiler options for a program that makes `num_numbers` random numbers once: initial weights, draws.

    Generators compile slowly, and on a CPU most of that time goes into optimising code that then runs for
    milliseconds: without it, compilation is five times shorter and gives the same bits. Large programs and other
    devices are left alone.
    """
    if num_numbers > _SMALL or jax.default_backend() != "cpu":
        return {}
    return {"xla_backend_optimization_level": 0}
