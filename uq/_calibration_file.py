"""A fitted recalibrator as arrays and text, for a posterior's file."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from . import calibrate
from ._checks import InputError
from .calibrate import AutoState, Recalibrator

_REGISTER = {**calibrate.CLASSES, **calibrate.NUMBERS}


def describe(recalibrator: Recalibrator, state: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays by name, and what says how they belong together."""
    if isinstance(state, AutoState):
        name, state = state.chosen, state.state
    else:
        name = recalibrator.name
    arrays: dict[str, np.ndarray] = {}
    return arrays, {"name": name, "state": _said(state, arrays)}


def restore(said: dict[str, Any], arrays: dict[str, np.ndarray]) -> tuple[Recalibrator, Any]:
    """What `describe` was given.

    Raises:
      InputError: the recalibrator is none of `uq.calibrate`.
    """
    steps = []
    for name in said["name"].split(" + "):
        if name == "none":
            steps.append(calibrate.none)
        elif name in _REGISTER:
            steps.append(_REGISTER[name]())
        else:
            raise InputError(f"The file was saved with the recalibrator {name!r}, which is none of uq.calibrate.")
    return steps[0] if len(steps) == 1 else calibrate.compose(*steps), _built(said["state"], arrays)


def _said(node: Any, arrays: dict[str, np.ndarray]) -> Any:
    if hasattr(node, "_fields"):
        kind = type(node).__name__
        if getattr(calibrate, kind, None) is not type(node):
            raise InputError(f"A recalibrator's state of kind {kind} cannot be saved: it is none of uq.calibrate.")
        return {"kind": kind, "fields": {name: _said(part, arrays) for name, part in node._asdict().items()}}
    if isinstance(node, dict):
        return {"kind": "dict", "parts": {name: _said(part, arrays) for name, part in node.items()}}
    if isinstance(node, tuple | list):
        return {"kind": "tuple", "parts": [_said(part, arrays) for part in node]}
    if node is None or isinstance(node, bool | int | float | str):
        return {"kind": "plain", "value": node}
    name = f"uq.calibration/{len(arrays)}"
    arrays[name] = np.asarray(node)
    return {"kind": "array", "name": name}


def _built(said: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    if said["kind"] == "plain":
        return said["value"]
    if said["kind"] == "array":
        return jnp.asarray(arrays[said["name"]])
    if said["kind"] == "dict":
        return {name: _built(part, arrays) for name, part in said["parts"].items()}
    if said["kind"] == "tuple":
        return tuple(_built(part, arrays) for part in said["parts"])
    return getattr(calibrate, said["kind"])(**{name: _built(part, arrays) for name, part in said["fields"].items()})
