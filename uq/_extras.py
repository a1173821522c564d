"""Optional packages: loaded inside the function that needs them, with a sentence where they are missing."""

from __future__ import annotations

import importlib
from typing import Any


class MissingExtra(ImportError):
    """A function needs a package that is not among the required ones; the message says how to install it."""


def load_extra(module: str, package: str, extra: str, purpose: str) -> Any:
    """Import `module`, or say which of our extras brings it.

    Args:
      module: what to import.
      package: its name for people.
      extra: the extra of this distribution that installs it.
      purpose: what needs it; begins the sentence.
    Raises:
      MissingExtra: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is there; something that it needs itself is not
        raise MissingExtra(
            f"{purpose} needs {package}, which is not installed; run: pip install 'uq-jax[{extra}]'"
        ) from error
