"""Small programs of initial weights without a compiler, by NumPy.

What initialisers and optimizers do is some fifteen operations, element by element, on random bits. A draw is that of
the compiled program to four units in the last place, and what is computed from it to rounding; neither depends on how
many members there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from .._tree import is_key
from ._host_random import RULES, flat, has_rule, is_literal, is_threefry, needed, read


def on_host(closed: Any) -> Callable[..., list[Any]] | None:
    """The program of a closed jaxpr, to be run by NumPy; None where it holds an operation that has no rule here.

    Args:
      closed: with typed threefry keys among its arguments.
    Returns:
      `run(*leaves) -> results`: arrays of their own, and typed keys.
    """
    if not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return None
    steps, inputs, constants, results = flat(closed)
    steps = needed(steps, results)
    if not all(_has_rule(step.equation) for step in steps) or any(is_key(value) for _, value in constants):
        return None
    reads = Counter(v for read_by in (*(step.inputs for step in steps), results) for v in read_by if not is_literal(v))

    def run(*leaves: Any) -> list[Any]:
        given = (*zip(inputs, leaves, strict=True), *constants)
        held: dict[int, Any] = {n: _words_or_numbers(leaf) for n, leaf in given}
        left = reads.copy()
        with np.errstate(all="ignore"):
            for step in steps:
                atoms = zip(step.inputs, step.equation.invars, strict=True)
                held[step.outputs[0]] = _result(step.equation, [(read(v, held), atom.aval) for v, atom in atoms])
                variables = [v for v in step.inputs if not is_literal(v)]
                left.subtract(variables)
                for v in variables:
                    if not left[v]:
                        held.pop(v, None)  # nobody reads it again
        return [_back(read(v, held), kind) for v, kind in zip(results, closed.out_avals, strict=True)]

    return run


def _has_rule(equation: Any) -> bool:
    """Whether NumPy does the same: whole numbers overflow, divide and come from fractions in other ways."""
    name = equation.primitive.name
    given, made = ([_kind(atom) for atom in atoms] for atoms in (equation.invars, equation.outvars))
    if name in _NUMBERS or name in _BITS:
        allowed = [kind for kind, rules in (("float32", _NUMBERS), ("uint32", _BITS)) if name in rules]
        return any({*given, *made} == {kind} for kind in allowed)
    if name == "convert_element_type" and made != ["float32"] and "float32" in given:
        return False
    return has_rule(equation) and {*given, *made} <= {"float32", "int32", "uint32", "bool", "key"}


def _kind(atom: Any) -> str:
    return "key" if is_threefry(atom.aval) else str(atom.aval.dtype)


def _result(equation: Any, operands: list[tuple[Any, Any]]) -> Any:
    """What one operation makes of values and their kinds.

    A product stays in double precision, in which it is exact, for a sum: compilers multiply and add in one go, and
    round once. Whatever else reads it, rounds it first.
    """
    name, kind = equation.primitive.name, equation.outvars[0].aval
    if name in ("add", "sub"):
        return _as(kind, _NUMBERS[name](*(v if _is_product(v) else _as(k, v) for v, k in operands)))
    values = [_as(k, v) for v, k in operands]
    if name == "mul":
        return np.multiply(*values, dtype=np.float64)
    if name in RULES:
        return _as(kind, RULES[name](equation, *values))
    return _as(kind, (_NUMBERS | _BITS)[name](*values))


def _is_product(value: Any) -> bool:
    """Whether a value is an unrounded product: nothing else here is in double precision."""
    return isinstance(value, np.ndarray) and value.dtype == np.float64


def _as(kind: Any, value: Any) -> Any:
    """A value in the dtype of its kind; literals may be Python's numbers."""
    return np.asarray(value) if is_threefry(kind) else np.asarray(value, kind.dtype)


def _words_or_numbers(leaf: Any) -> np.ndarray:
    """What a rule takes for an argument or a constant: a key's words, or numbers as jax has them."""
    if is_key(leaf):
        return np.asarray(jax.random.key_data(leaf))
    found = np.asarray(leaf)
    return found.astype(jax.dtypes.canonicalize_dtype(found.dtype), copy=False)


def _back(value: Any, kind: Any) -> Any:
    """A result: a typed key, or an array that nothing else holds."""
    if is_threefry(kind):
        return jax.random.wrap_key_data(jnp.asarray(value), impl="threefry2x32")
    return np.array(value, kind.dtype)


def _inverse_erf(x: np.ndarray) -> np.ndarray:
    """The series that compilers use.

    References:
      giles2012, in single precision.
    """
    w = -np.log1p(-x * x)
    near = w < 5
    w = np.where(near, w - np.float32(2.5), np.sqrt(w) - np.float32(3))
    p = np.float32(0)
    for middle, tail in zip(_MIDDLE, _TAIL, strict=True):
        terms = np.where(near, np.float32(middle), np.float32(tail))
        p = (terms + np.multiply(p, w, dtype=np.float64)).astype(np.float32)
    return np.where(np.abs(x) == 1, np.copysign(np.float32(np.inf), x), p * x)


_MIDDLE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 2.1858087e-04,
    -1.25372503e-03, -4.17768164e-03, 2.46640727e-01, 1.50140941,
)  # fmt: skip
_TAIL = (
    -2.00214257e-04, 1.00950558e-04, 1.34934322e-03, -3.67342844e-03, 5.73950773e-03,
    -7.6224613e-03, 9.43887047e-03, 1.00167406, 2.83297682,
)  # fmt: skip
_NUMBERS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
    "sqrt": np.sqrt,
    "nextafter": np.nextafter,
    "stop_gradient": np.asarray,
    "erf": special.erf,
    "erf_inv": _inverse_erf,
}
"""Of float32 alone."""
_BITS: dict[str, Callable[..., Any]] = {"add": np.add, "or": np.bitwise_or, "shift_right_logical": np.right_shift}
"""Of uint32 alone: of a negative number the shift would keep the sign."""
