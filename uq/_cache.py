"""Compiled programs, cached by the *value* of the settings that shape them.

`optax.adam(1e-3) != optax.adam(1e-3)`, so a cache keyed by objects would recompile for every call that builds its
optimizer anew. `fingerprint` compares what objects hold instead: the code, cells and defaults of functions, arrays, the
attributes of instances, the methods of classes and, for code that is not an installed library's, the globals it names.
So a notebook cell that is run again with another constant gets another program. What it cannot look into is compared by
identity: state that such an object changes in place goes unseen, as it does with `jax.jit`.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import sys
import sysconfig
import threading
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


def trace_context() -> Hashable:
    """The settings of jax that change what a program computes."""
    names = ("enable_x64", "default_matmul_precision", "threefry_partitionable", "numpy_dtype_promotion", "debug_nans")
    return tuple(getattr(jax.config, f"jax_{name}") for name in names)


def shapes_of(tree: Any) -> Hashable:
    """Structure, shapes and dtypes of a tree of arrays."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)


def _key(value: Any, seen: dict[int, Any]) -> Hashable:
    """The key of one value; `seen` holds those that are done, or a mark for those under way."""
    if value is None or isinstance(value, bool | int | str | bytes):
        return (type(value), value)
    if isinstance(value, float | complex):
        return (type(value), repr(value))
    if id(value) in seen:
        return seen[id(value)][0]
    seen[id(value)] = (("under way", len(seen)), value)
    seen[id(value)] = (_compound_key(value, seen), value)
    return seen[id(value)][0]


def _compound_key(value: Any, seen: dict[int, Any]) -> Hashable:
    if isinstance(value, jax.core.Tracer | types.BuiltinFunctionType | types.ModuleType):
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
    if isinstance(value, type):
        return _class_key(value, seen)
    if hasattr(value, "__dataclass_fields__"):
        fields = ((name, _key(getattr(value, name, None), seen)) for name in value.__dataclass_fields__)
        return (_key(type(value), seen), tuple(fields))
    leaves, structure = jax.tree.flatten(value)
    if not (len(leaves) == 1 and leaves[0] is value) and _hashable(structure):
        return (structure, tuple(_key(leaf, seen) for leaf in leaves))
    plain = isinstance(value, types.SimpleNamespace) or not _is_library_class(type(value))
    if plain and hasattr(value, "__dict__") and not hasattr(type(value), "__slots__"):
        return ("instance", _key(type(value), seen), _key(vars(value), seen))
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


def _class_key(cls: type, seen: dict[int, Any]) -> Hashable:
    """The class itself and, where it is the user's, its methods and constants, which a notebook may replace."""
    parts = []
    for base in cls.__mro__:
        if not _is_library_class(base):
            held = [(n, _bare(v)) for n, v in vars(base).items() if isinstance(v, types.FunctionType) or n[:2] != "__"]
            parts.append(tuple((name, _key(value, seen)) for name, value in held))
    return ("class", _Same(cls), tuple(parts))


def _bare(value: Any) -> Any:
    """What a class attribute holds, where a descriptor wraps it."""
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    if isinstance(value, property):
        return (value.fget, value.fset, value.fdel)
    return value.func if isinstance(value, functools.cached_property | functools.partialmethod) else value


def _is_library_class(cls: type) -> bool:
    if cls.__module__ == "__main__":
        return False
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        return module is not None
    return _is_library(file)


def _function_key(function: types.FunctionType, seen: dict[int, Any]) -> Hashable:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(_key(cell.cell_contents, seen))
        except ValueError:  # a name that is not bound yet
            cells.append("empty")
    named: list = []
    if not _is_library(function.__code__.co_filename):
        space = function.__globals__
        names, attributes = _names(function.__code__)
        for name in names:
            value = space.get(name)
            named.append((name, _key(value, seen)))
            if isinstance(value, types.ModuleType) and not _is_library(getattr(value, "__file__", None) or "<library>"):
                held = ((n, getattr(value, n)) for n in attributes if hasattr(value, n))
                named.append(tuple((n, _key(v, seen)) for n, v in held))
    return (
        "function",
        function.__code__,
        tuple(cells),
        _key(function.__defaults__, seen),
        _key(function.__kwdefaults__, seen),
        tuple(named),
    )


@functools.cache
def _is_library(filename: str) -> bool:
    if filename.startswith("<library") or "site-packages" in filename:
        return True
    return str(Path(filename).resolve()).startswith(_LIBRARIES)


@functools.lru_cache(maxsize=4096)
def _names(code: types.CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of globals that the code reads, and of attributes."""
    loads = ("LOAD_GLOBAL", "LOAD_NAME")
    read: set = set()
    attributes: set = set()
    for step in dis.get_instructions(code):
        (read if step.opname in loads else attributes).add(step.argval if isinstance(step.argval, str) else None)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner_read, inner_attributes = _names(constant)
            read |= set(inner_read)
            attributes |= set(inner_attributes)
    keep = set(code.co_names) | read
    return tuple(sorted(read - {None})), tuple(sorted((attributes & keep) - {None}))


class ProgramCache:
    """The most recently used programs, by key."""

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._programs: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def get(self, key: Hashable, build: Callable[[], Any]) -> Any:
        """The program of `key`, built where it is not there yet."""
        found = self.peek(key)
        if found is not None:
            return found
        program = build()  # not under the lock: it may take seconds, and build others
        with self._lock:
            self._programs[key] = program
            while len(self._programs) > self._size:
                self._programs.popitem(last=False)
        return program

    def peek(self, key: Hashable) -> Any:
        """The program of `key`, or None."""
        with self._lock:
            if key not in self._programs:
                return None
            self._programs.move_to_end(key)
            return self._programs[key]

    def clear(self) -> None:
        """Forget every program."""
        self._programs.clear()
