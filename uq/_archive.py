"""The file format: arrays and text in the layout of safetensors, under SHA-256 sums, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._checks import InputError
from ._version import __version__

_FORMAT = 1
_BLANK = b"0" * 64
CODES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
_DTYPES = {code: name for name, code in CODES.items()}


class FileError(InputError):
    """A file cannot be written, or cannot be loaded: it is cut short, altered, or of another network."""


def _sha256(*parts: bytes | memoryview) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def encode(arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> list[bytes]:
    """The file's parts: length, header, data."""
    header: dict[str, Any] = {"__metadata__": {}}
    data, sums, offset = [], {}, 0
    # Wide dtypes first, so that every array is aligned.
    for name, array in sorted(arrays.items(), key=lambda item: (-item[1].dtype.itemsize, item[0])):
        raw = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        span = [offset, offset + len(raw)]
        header[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": span}
        data.append(raw)
        sums[name] = _sha256(raw)
        offset = span[1]
    header["__metadata__"] = {
        "format": "uq",
        "format_version": str(_FORMAT),
        "sha256": _BLANK.decode(),
        "sha256_of_arrays": json.dumps(sums),
        **{name: json.dumps(value) for name, value in meta.items()},
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    length = len(text).to_bytes(8, "little")
    total = _sha256(length, text, *data).encode()
    return [length, text.replace(b'"sha256":"' + _BLANK, b'"sha256":"' + total, 1), *data]


def decode(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name and what the header says, after checking every bit."""
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise FileError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
    header, length = _header(path, content)
    said = header["__metadata__"]
    raw = bytes(content[: 8 + length]).replace(str(said["sha256"]).encode(), _BLANK, 1)
    data = content[8 + length :]
    if _sha256(raw, data) != said["sha256"]:
        raise FileError(_damage(path, header, data))
    if said["format_version"] != str(_FORMAT):
        wrote = json.loads(said["versions"])["uq"]
        raise FileError(
            f"{str(path)!r} has file format {said['format_version']}, but this uq {__version__} reads format "
            f"{_FORMAT}: install uq {wrote}, which wrote it, or a newer one."
        )
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            dtype = jnp.dtype(_DTYPES[entry["dtype"]])
            array = np.frombuffer(data[start:end], dtype.newbyteorder("<")).astype(dtype)
            arrays[name] = array.reshape(entry["shape"])
    plain = ("format", "format_version", "sha256", "sha256_of_arrays")
    return arrays, {name: json.loads(value) for name, value in said.items() if name not in plain}


def _header(path: Path, content: memoryview) -> tuple[dict[str, Any], int]:
    """The header and its length; raises unless this is a file of ours."""
    foreign = f"{str(path)!r} is not a file that `uq.save` wrote, or its beginning is damaged"
    length = int.from_bytes(content[:8], "little")
    if len(content) < 10 or bytes(content[8:9]) != b"{":
        raise FileError(f"{foreign}.")
    if length > len(content) - 8:
        raise FileError(f"{str(path)!r} is cut short, or its beginning is damaged: the header does not fit in it.")
    try:
        header = json.loads(bytes(content[8 : 8 + length]))
        known = {"format", "sha256", "sha256_of_arrays", "format_version"} <= set(header["__metadata__"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise FileError(f"{foreign}: its header cannot be read.") from None
    if not known or header["__metadata__"]["format"] != "uq":
        raise FileError(f"{foreign}: its header does not say that it is one.")
    return header, length


def _damage(path: Path, header: dict[str, Any], data: memoryview) -> str:
    """A sentence on what was altered."""
    what = f"{str(path)!r} was altered or damaged since it was saved"
    try:
        sums = json.loads(header["__metadata__"]["sha256_of_arrays"])
        entries = {name: entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"}
        end = max((span[1] for span in entries.values()), default=0)
        if end > len(data):
            return f"{str(path)!r} is cut short: {len(data)} bytes of arrays where {end} were written."
        if end < len(data):
            return f"{what}: {len(data) - end} bytes were added at its end."
        wrong = [name for name, (start, stop) in entries.items() if _sha256(data[start:stop]) != sums[name]]
    except (ValueError, KeyError, TypeError, AttributeError):
        wrong = []
    if not wrong:
        return f"{what}: its header is not as it was."
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    return f"{what}: the data of `{wrong[0]}`{more} are not what was written. Use another copy."


def write(path: Path, parts: list[bytes]) -> None:
    """All parts or nothing: into a file beside `path`, which then takes its name."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise FileError(
            f"Cannot write {str(path)!r}: {error.strerror or error}. Give a path in an existing folder that "
            "you may write to; a file that was there is unchanged."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
