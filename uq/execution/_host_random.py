"""Programs that draw few random numbers, with the drawing done on the host.

Generators of random bits are most of what a program of initial weights compiles, and run for microseconds. All that is
a function of the key alone, up to the bits themselves, is whole-number arithmetic: NumPy gives the same bits. What
remains, from bits to weights, compiles in a fraction of the time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._threefry import counted, threefry
from .._tree import is_key

_MOST_BITS = 2**20
"""Draws of more words than this are left to the device: there a generator repays its compilation."""


class _Step(NamedTuple):
    """One equation of a program without nested calls; variables are numbered."""

    equation: Any
    inputs: tuple[Any, ...]
    """Numbers of variables, or literals as `_Literal`."""
    outputs: tuple[int, ...]


class _Literal(NamedTuple):
    value: Any


class HostRandom(NamedTuple):
    """A program in two parts."""

    draw: Callable[..., list[Any]]
    """`draw(*leaves) -> values`: on the host, from the keys among the flat arguments."""
    rest: Callable[..., Any]
    """`rest(values, *leaves) -> results`: to be compiled; flat, with keys among the leaves not read."""


def with_host_random(closed: Any) -> HostRandom | None:
    """The program of a closed jaxpr with its random bits drawn on the host; None where that cannot or need not be.

    Args:
      closed: with typed threefry keys among its arguments.
    """
    if not jax.config.jax_threefry_partitionable:  # type: ignore[attr-defined]
        return None
    steps, inputs, constants, results = flat(closed)
    steps = needed(steps, results)
    avals = closed.in_avals
    known = {n for n, aval in zip(inputs, avals, strict=True) if is_threefry(aval)}
    host: list[_Step] = []
    device: list[_Step] = []
    for step in steps:
        ready = all(is_literal(v) or v in known for v in step.inputs)
        if ready and has_rule(step.equation) and _integers(step.equation):
            known.update(step.outputs)
            host.append(step)
        else:
            device.append(step)
    wanted = {v for step in device for v in step.inputs if not is_literal(v)}
    wanted |= {v for v in results if not is_literal(v)}
    drawn = sorted(v for step in host for v in step.outputs if v in wanted)
    words = sum(_words(step.equation) for step in host)
    if not any(step.equation.primitive.name == "random_bits" for step in host) or words > _MOST_BITS:
        return None

    def draw(*leaves: Any) -> list[Any]:
        held: dict[int, Any] = {
            n: np.asarray(jax.random.key_data(leaf)) for n, leaf in zip(inputs, leaves, strict=True) if is_key(leaf)
        }
        with np.errstate(over="ignore"):
            for step in host:
                values = [read(v, held) for v in step.inputs]
                held[step.outputs[0]] = RULES[step.equation.primitive.name](step.equation, *values)
        return [held[n] for n in drawn]

    typed = {n: _typed(step.equation) for step in host for n in step.outputs}

    def rest(values: list[Any], *leaves: Any) -> list[Any]:
        held: dict[int, Any] = dict(zip(inputs, leaves, strict=True)) | dict(constants)
        for n, value in zip(drawn, values, strict=True):
            held[n] = jax.random.wrap_key_data(value, impl="threefry2x32") if typed[n] else value
        for step in device:
            found = _run(step.equation, [read(v, held) for v in step.inputs])
            held.update(zip(step.outputs, found, strict=True))
        return [read(v, held) for v in results]

    return HostRandom(draw, rest)


def read(v: Any, held: dict[int, Any]) -> Any:
    return v.value if is_literal(v) else held[v]


def is_literal(v: Any) -> bool:
    """Whether an input of a step is a number, and not a variable."""
    return isinstance(v, _Literal)


def _run(equation: Any, values: list[Any]) -> list[Any]:
    """The equation's results."""
    primitive = equation.primitive
    params = primitive.get_bind_params(equation.params)
    functions, params = params if isinstance(params, tuple) else ((), params)  # as older versions of jax return them
    found = primitive.bind(*functions, *values, **params)
    return list(found) if primitive.multiple_results else [found]


def flat(closed: Any) -> tuple[list[_Step], list[int], list[tuple[int, Any]], list[Any]]:
    """Steps in order, with nested calls written out; numbers of inputs, constants and results."""
    steps: list[_Step] = []
    constants: list[tuple[int, Any]] = []
    count = iter(range(10**9))

    def read(names: dict[Any, Any], atom: Any) -> Any:
        return _Literal(atom.val) if hasattr(atom, "val") else names[atom]

    def visit(closed: Any, arguments: list[Any]) -> list[Any]:
        names: dict[Any, Any] = dict(zip(closed.jaxpr.invars, arguments, strict=True))
        for variable, value in zip(closed.jaxpr.constvars, closed.consts, strict=True):
            names[variable] = next(count)
            constants.append((names[variable], value))
        for equation in closed.jaxpr.eqns:
            given = [read(names, atom) for atom in equation.invars]
            if equation.primitive.name in ("jit", "pjit"):
                found = visit(equation.params["jaxpr"], given)
            else:
                found = [next(count) for _ in equation.outvars]
                steps.append(_Step(equation, tuple(given), tuple(found)))
            names.update(zip(equation.outvars, found, strict=True))
        return [read(names, atom) for atom in closed.jaxpr.outvars]

    inputs = [next(count) for _ in closed.jaxpr.invars]
    return steps, inputs, constants, visit(closed, list(inputs))


def needed(steps: list[_Step], results: list[Any]) -> list[_Step]:
    """Without the steps that nothing reads: a network's `init` also applies it."""
    live = {v for v in results if not is_literal(v)}
    kept = []
    for step in reversed(steps):
        if step.equation.effects or any(v in live for v in step.outputs):
            live.update(v for v in step.inputs if not is_literal(v))
            kept.append(step)
    return kept[::-1]


# What is computed on the host. Keys are their words, `(…, 2)` uint32.


def has_rule(equation: Any) -> bool:
    """Whether there is a rule for this form of an operation, for whole numbers and keys at least."""
    name = equation.primitive.name
    return name in RULES and not (name == "reshape" and equation.params["dimensions"] is not None)


def is_threefry(aval: Any) -> bool:
    return jnp.issubdtype(aval.dtype, jax.dtypes.prng_key) and "fry" in str(aval.dtype)


def _typed(equation: Any) -> bool:
    return bool(jnp.issubdtype(equation.outvars[0].aval.dtype, jax.dtypes.prng_key))


def _integers(equation: Any) -> bool:
    """Whether everything in and out is a whole number of 32 bits or a threefry key."""
    avals = [atom.aval for atom in (*equation.invars, *equation.outvars)]
    return all(is_threefry(a) or a.dtype in (np.dtype("int32"), np.dtype("uint32")) for a in avals)


def _words(equation: Any) -> int:
    return math.prod(equation.outvars[0].aval.shape) if equation.primitive.name == "random_bits" else 0


def _fold_in(equation: Any, keys: np.ndarray, data: Any) -> np.ndarray:
    data = np.asarray(data).astype(np.uint32)
    rank = max(keys.ndim - 1, data.ndim)
    keys = keys.reshape(*keys.shape[:-1], *(1,) * (rank - keys.ndim + 1), 2)
    data = data.reshape((*data.shape, *(1,) * (rank - data.ndim)))
    return np.stack(threefry(keys, np.uint32(0), data), -1)


def _split(equation: Any, keys: np.ndarray) -> np.ndarray:
    return np.stack(counted(keys, equation.params["shape"]), -1)


def _bits(equation: Any, keys: np.ndarray) -> np.ndarray:
    high, low = counted(keys, equation.params["shape"])
    return high ^ low


def _moved(move: Callable[[np.ndarray, Any], np.ndarray]) -> Callable[..., np.ndarray]:
    """A rule for what only moves elements: keys are moved by their positions."""

    def rule(equation: Any, value: Any) -> np.ndarray:
        value = np.asarray(value)
        if not _typed(equation):
            return move(value, equation.params)
        positions = np.arange(math.prod(value.shape[:-1])).reshape(value.shape[:-1])
        return value.reshape(-1, 2)[move(positions, equation.params)]

    return rule


def _broadcast(value: np.ndarray, params: Any) -> np.ndarray:
    shape = [1] * len(params["shape"])
    for axis, size in zip(params["broadcast_dimensions"], value.shape, strict=True):
        shape[axis] = size
    return np.broadcast_to(value.reshape(shape), params["shape"])


def _slice(value: np.ndarray, params: Any) -> np.ndarray:
    strides = params["strides"] or (1,) * value.ndim
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return value[tuple(slice(*bound) for bound in bounds)]


def _iota(equation: Any) -> np.ndarray:
    axis, shape = equation.params["dimension"], equation.outvars[0].aval.shape
    along = np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))])
    return np.broadcast_to(along, shape).astype(equation.outvars[0].aval.dtype)


RULES: dict[str, Callable[..., np.ndarray]] = {
    "random_fold_in": _fold_in,
    "random_split": _split,
    "random_bits": _bits,
    "random_wrap": lambda equation, value: np.asarray(value),
    "random_unwrap": lambda equation, value: value,
    "iota": _iota,
    "bitcast_convert_type": lambda equation, value: value.view(equation.outvars[0].aval.dtype),
    "convert_element_type": lambda equation, value: np.asarray(value).astype(equation.outvars[0].aval.dtype),
    "broadcast_in_dim": _moved(_broadcast),
    "slice": _moved(_slice),
    "squeeze": _moved(lambda value, params: np.squeeze(value, tuple(params["dimensions"]))),
    "reshape": _moved(lambda value, params: value.reshape(params["new_sizes"])),
}
