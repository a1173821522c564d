"""What a traced function will do: how many arithmetic operations its products take."""

from __future__ import annotations

import math
from typing import Any


def operations(jaxpr: Any) -> float:
    """Additions and multiplications of all matrix products and convolutions; a loop's count for each turn."""
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    total = 0.0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval.shape
            features = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
            zeros = math.prod(equation.params["lhs_dilation"])  # what a transposed convolution multiplies for nothing
            total += 2.0 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) / max(features, 1) / zeros
        else:
            times = equation.params.get("length", 1) if name == "scan" else 1
            total += times * sum(operations(inner) for inner in _inside(equation))
    return total


def _inside(equation: Any) -> list[Any]:
    """The jaxprs among an equation's parameters."""
    values = [part for v in equation.params.values() for part in (v if isinstance(v, tuple | list) else (v,))]
    return [part for part in values if hasattr(getattr(part, "jaxpr", part), "eqns")]
