"""Decisions kept on disk between processes: one small JSON file each, in a folder that may be deleted at any time."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def folder() -> Path:
    """`UQ_CACHE_DIR`, or `uq` in the user's cache folder."""
    if given := os.environ.get("UQ_CACHE_DIR"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uq"


def digest(*parts: Any) -> str:
    """A name for what the parts say together."""
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:32]


def read(kind: str, name: str) -> dict[str, Any] | None:
    """What was kept under a name, or None: a file that is missing, cut short or no JSON is as none."""
    try:
        found = json.loads((folder() / kind / f"{name}.json").read_text())
    except (OSError, ValueError, RuntimeError):
        return None
    return found if isinstance(found, dict) else None


def write(kind: str, name: str, value: Mapping[str, Any]) -> None:
    """Keep it, whole or not at all; a folder that cannot be written keeps nothing."""
    with contextlib.suppress(OSError, RuntimeError):
        place = folder() / kind
        place.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=place, suffix=".part")
        with os.fdopen(handle, "w") as file:
            json.dump(dict(value), file)
        os.replace(temporary, place / f"{name}.json")
