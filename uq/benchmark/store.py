"""Results as JSON lines: appended as they finish, read back however the last run ended."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import math
import os
import platform
import secrets
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


class DiskError(InputError):
    """The output folder cannot be read or written to any more; what was finished before is kept."""


class Store:
    """An output folder with one file of JSON lines.

    Args:
      folder: made where it does not exist.
      name: the file's name.
      fresh: begin anew: earlier records are not read, and their file is moved to `NAME.old` (`NAME.old.1`, … where
        that exists) when the first new record is written, no sooner.
    Raises:
      InputError: the folder cannot be made or written to. Nothing has been computed by then.
    """

    def __init__(self, folder: str | Path, name: str, *, fresh: bool = False) -> None:
        self.folder = Path(folder)
        taken = next((path for path in (self.folder, *self.folder.parents) if path.exists()), None)
        if taken is not None and not taken.is_dir():
            raise InputError(
                f"The output folder {str(self.folder)!r} cannot be written to ({str(taken)!r} is a file, not a "
                "folder); choose another with --out."
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise InputError(
                f"The output folder {str(self.folder)!r} cannot be written to ({_reason(error)}); choose another with "
                "--out."
            ) from None
        self.path = self.folder / name
        if self.path.is_dir():
            raise InputError(
                f"{str(self.path)!r} expected to be the file of results, but is a folder; move it away or choose "
                "another output folder with --out."
            )
        self.skipped_lines = 0
        self.fresh = fresh
        """Whether an earlier file is still to be moved aside."""

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
            except (ValueError, KeyError, TypeError, RecursionError):
                self.skipped_lines += 1
        return records

    def _lines(self) -> Iterator[str]:
        if self.path.exists() and not self.fresh:
            try:
                text = self.path.read_text(encoding="utf-8", errors="replace")
            except OSError as error:
                raise DiskError(f"{str(self.path)!r} cannot be read ({_reason(error)}).") from None
            yield from (line for line in text.split("\n") if line.strip())

    def append(self, record: dict[str, Any]) -> None:
        """Write one record and have the disk confirm it; half a line left by a killed run is closed first.

        Raises:
          DiskError: it cannot be written; names the file.
        """
        line = json.dumps(_plain(record), allow_nan=False, ensure_ascii=False)
        try:
            self._move_aside()
            with self.path.open("ab+") as file:
                if file.seek(0, os.SEEK_END) > 0:
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        line = f"\n{line}"
                file.write(f"{line}\n".encode(errors="replace"))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _not_written(self.path, error) from None

    def _move_aside(self) -> None:
        if self.fresh and self.path.exists():
            aside = (self.path.with_name(f"{self.path.name}.old{end}") for end in _endings())
            self.path.rename(next(path for path in aside if not os.path.lexists(path)))
        self.fresh = False

    def write(self, name: str, content: bytes) -> Path:
        """A whole file, or nothing: what was there stays until the new one is complete.

        Raises:
          DiskError: it cannot be written; names the file.
        """
        path = self.folder / name
        part = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")  # another process may write `name` too
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("xb") as file:
                    file.write(content)
                os.replace(part, path)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _not_written(path, error) from None
        return path


def _endings() -> Iterator[str]:
    yield ""
    yield from (f".{number}" for number in itertools.count(1))


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _not_written(path: Path, error: OSError) -> DiskError:
    remedy = "Make room and run" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "Mend that and run"
    return DiskError(
        f"{str(path)!r} cannot be written ({_reason(error)}); what was finished before is kept. {remedy} the same "
        "command again."
    )


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
