"""Compiled programs, cached by the *value* of the settings that shape them.

`optax.adam(1e-3) != optax.adam(1e-3)`, so a cache keyed by objects would recompile for every call that builds its
optimizer anew. `fingerprint` compares what closures hold instead: code, cells, defaults, arrays and, for code that
is not an installed library's, the globals it names. What it cannot look into is compared by identity, which can
only cost a recompilation.
"""

from __future__ import annotations

import functools
import hashlib
import sysconfig
import types
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ._tree import is_key

_LIBRARIES = tuple(
    str(Path(p).resolve())
    for p in {*sysconfig.get_paths().values(), str(Path(__file__).parent)}
    if p not in ("", "/", sysconfig.get_paths()["data"])
)


class _Same:
    """Compares by identity, and keeps the object alive so that its id is not used again."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def fingerprint(value: Any) -> Hashable:
    """A hashable key, equal for values that would trace to the same program."""
    return _key(value, {})


def _key(value: Any, seen: dict[int, int]) -> Hashable:
    if value is None or isinstance(value, bool | int | str | bytes):
        return (type(value), value)
    if isinstance(value, float | complex):
        return (type(value), repr(value))
    if id(value) in seen:
        return ("seen", seen[id(value)])
    seen = {**seen, id(value): len(seen)}
    if isinstance(value, jax.core.Tracer):
        return _Same(value)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        return _array_key(value)
    if isinstance(value, types.FunctionType):
        return _function_key(value, seen)
    if isinstance(value, types.MethodType):
        return ("method", _key(value.__func__, seen), _key(value.__self__, seen))
    if isinstance(value, functools.partial):
        return ("partial", _key(value.func, seen), _key(value.args, seen), _key(value.keywords, seen))
    if isinstance(value, tuple | list):
        return (type(value), tuple(_key(item, seen) for item in value))
    if isinstance(value, dict):
        return (type(value), tuple((repr(k), _key(v, seen)) for k, v in value.items()))
    if isinstance(value, set | frozenset):
        return (type(value), frozenset(_key(item, seen) for item in value))
    if isinstance(value, type | types.ModuleType | types.BuiltinFunctionType):
        return _Same(value)
    if hasattr(value, "__dataclass_fields__"):
        fields = ((name, _key(getattr(value, name, None), seen)) for name in value.__dataclass_fields__)
        return (type(value), tuple(fields))
    leaves, structure = jax.tree.flatten(value)
    if not (len(leaves) == 1 and leaves[0] is value) and _hashable(structure):
        return (structure, tuple(_key(leaf, seen) for leaf in leaves))
    if type(value).__eq__ is not object.__eq__ and _hashable(value):
        return (type(value), value)
    return _Same(value)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _array_key(value: Any) -> Hashable:
    data = np.asarray(jax.random.key_data(value) if is_key(value) else value)
    if data.dtype.hasobject:
        return _Same(value)
    return ("array", str(value.dtype), data.shape, hashlib.sha256(np.ascontiguousarray(data).tobytes()).digest())


def _function_key(function: types.FunctionType, seen: dict[int, int]) -> Hashable:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(_key(cell.cell_contents, seen))
        except ValueError:  # a name that is not bound yet
            cells.append("empty")
    named: tuple = ()
    if not _is_library(function.__code__.co_filename):
        space = function.__globals__
        named = tuple((name, _key(space[name], seen)) for name in _names(function.__code__) if name in space)
    return (
        "function",
        function.__code__,
        tuple(cells),
        _key(function.__defaults__, seen),
        _key(function.__kwdefaults__, seen),
        named,
    )


@functools.cache
def _is_library(filename: str) -> bool:
    return str(Path(filename).resolve()).startswith(_LIBRARIES) or "site-packages" in filename


def _names(code: types.CodeType) -> tuple[str, ...]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= set(_names(constant))
    return tuple(sorted(found))


class ProgramCache:
    """The most recently used programs, by key."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()

    def get(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """The program of `key`, built where it is not there yet."""
        if key in self._programs:
            self._programs.move_to_end(key)
            return self._programs[key]
        program = self._programs[key] = build()
        while len(self._programs) > self._size:
            self._programs.popitem(last=False)
        return program

    def __contains__(self, key: Hashable) -> bool:
        return key in self._programs

    def clear(self) -> None:
        """Forget every program."""
        self._programs.clear()
