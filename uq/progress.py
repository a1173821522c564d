"""A progress bar for `fit`: loss and time left, drawn when numbers arrive anyway."""

from __future__ import annotations

import sys
from typing import Any, TextIO


class Progress:
    """A tqdm bar over updates; silent where the stream is not a terminal, unless asked for.

    Args:
      total: number of updates.
      show: True, False, or None for "where the stream is a terminal".
      label: what is being trained.
    """

    def __init__(self, total: int, *, show: bool | None, label: str, stream: TextIO | None = None) -> None:
        stream = stream or sys.stderr
        self._bar: Any = None
        if show or (show is None and stream.isatty()):
            from tqdm import tqdm

            self._bar = tqdm(total=total, desc=label, unit="step", file=stream, dynamic_ncols=True, leave=False)

    def note(self, text: str) -> None:
        """Say what is happening while no step ends (compiling)."""
        if self._bar is not None:
            self._bar.set_postfix_str(text)

    def advance(self, steps: int, loss: float, active: int, size: int) -> None:
        """Move on by `steps` updates."""
        if self._bar is not None:
            said = f"loss {loss:.4g}"
            self._bar.set_postfix_str(said if active == size else f"{said}, {active}/{size} members training")
            self._bar.update(steps)

    def close(self) -> None:
        """Leave the line clean."""
        if self._bar is not None:
            self._bar.close()
