"""Ctrl-C during a long run: noticed wherever it lands."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Interrupts:
    """Whether Ctrl-C was pressed."""

    def __init__(self) -> None:
        self._pressed = threading.Event()

    def note(self, signum: int, frame: Any) -> None:
        """The handler: remember it, and raise as Python's own does."""
        self._pressed.set()
        raise KeyboardInterrupt

    def check(self) -> None:
        """Raise `KeyboardInterrupt` if Ctrl-C was pressed, now or before."""
        if self._pressed.is_set():
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interrupts]:
    """Within, Ctrl-C raises `KeyboardInterrupt` and is remembered too; one inside another shares its memory.

    An exception that is raised while Python collects garbage or calls back from compiled code is dropped, and the run
    would go on; `check` between two steps stops it. `fit` handles Ctrl-C itself while it trains.
    """
    current = signal.getsignal(signal.SIGINT)
    outer = getattr(current, "__self__", None)
    if isinstance(outer, Interrupts):
        yield outer
        return
    interrupts = Interrupts()
    main = threading.current_thread() is threading.main_thread()
    if not main or current in (signal.SIG_IGN, None):  # started to ignore it, by nohup or &
        yield interrupts
        return
    hook = sys.unraisablehook

    def quiet(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            hook(dropped)

    sys.unraisablehook = quiet
    signal.signal(signal.SIGINT, interrupts.note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, current)
        sys.unraisablehook = hook
