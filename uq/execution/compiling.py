"""How hard to compile a program that runs once."""

from __future__ import annotations

from typing import Any

import jax

_SMALL = 1_000_000


def run_once(num_numbers: int) -> dict[str, Any]:
    """Compiler options for a program that makes `num_numbers` random numbers a member once: initial weights, draws.

    Generators compile slowly, and on a CPU most of that time goes into optimising code that then runs for
    milliseconds: the first level of optimisation compiles three times faster, and gives the same bits (no
    optimisation at all would not). Large programs and other devices are left alone; the count is a member's, so that
    the choice does not depend on how many there are.
    """
    if num_numbers > _SMALL or jax.default_backend() != "cpu":
        return {}
    return {"xla_backend_optimization_level": 1}
