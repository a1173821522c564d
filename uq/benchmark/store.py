"""Results as JSON lines: appended as they finish, read back however the last run ended."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from .._checks import InputError
from .._version import __version__


def versions() -> dict[str, str]:
    """Versions of Python, of this package, and of those that shape a number."""
    found = {"uq": __version__, "python": platform.python_version()}
    for name in ("jax", "jaxlib", "flax", "numpyro", "optax", "scipy", "numpy"):
        found[name] = metadata.version(name)
    return found


def device() -> dict[str, Any]:
    """The device that computes."""
    import jax

    devices = jax.devices()
    return {
        "platform": devices[0].platform,
        "kind": devices[0].device_kind,
        "count": len(devices),
        "cpu_cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
    }


def fingerprint(config: dict[str, Any]) -> str:
    """A hash of everything that decides a number: equal hashes mean equal runs."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class Store:
    """An output folder with one file of JSON lines.

    Args:
      folder: made where it does not exist.
      name: the file's name.
      fresh: begin anew; an earlier file is kept as `NAME.old`.
    Raises:
      InputError: the folder cannot be made or written to. Nothing has been computed by then.
    """

    def __init__(self, folder: str | Path, name: str, *, fresh: bool = False) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise InputError(
                f"The output folder {str(self.folder)!r} cannot be written to ({reason}); choose another with --out."
            ) from None
        self.path = self.folder / name
        self.skipped_lines = 0
        if fresh and self.path.exists():
            self.path.replace(self.path.with_name(f"{name}.old"))

    def read(self) -> dict[str, dict[str, Any]]:
        """Finished records by the hash of their configuration; lines that cannot be read are left out and
        counted.

        A run that was killed while it wrote leaves half a line at the end; that is all it loses.
        """
        records: dict[str, dict[str, Any]] = {}
        self.skipped_lines = 0
        for line in self._lines():
            try:
                record = json.loads(line)
                records[record["hash"]] = record
            except (ValueError, KeyError, TypeError):
                self.skipped_lines += 1
        return records

    def _lines(self) -> Iterator[str]:
        if self.path.exists():
            text = self.path.read_text(encoding="utf-8", errors="replace")
            yield from (line for line in text.split("\n") if line.strip())

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and have the disk confirm it; half a line left by a killed run is closed first."""
        line = json.dumps(_plain(record), allow_nan=False, ensure_ascii=False)
        with self.path.open("ab+") as file:
            if file.seek(0, os.SEEK_END) > 0:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = f"\n{line}"
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())

    def write(self, name: str, content: bytes) -> Path:
        """A whole file, or nothing: what was there stays until the new one is complete."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content)
        part.replace(path)
        return path


def _plain(value: Any) -> Any:
    """Numbers and text alone; what is not finite becomes null, which is JSON where NaN is not."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int):
        return value
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
