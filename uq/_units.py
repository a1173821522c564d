"""Constants among the carried state of a network: the units of its inputs and targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from ._typing import PyTree


class Units(NamedTuple):
    """One member's units; () for what is left alone. Constants: no optimizer and no average touches them."""

    mean: Any
    """Of its inputs, `(d,)`, on the scale that all share."""
    scale: Any
    loc: Any
    """Of its targets, () or `(D,)`, likewise."""
    spread: Any


def is_units(node: Any) -> bool:
    return isinstance(node, Units)


def map_but_units(function: Callable[..., Any], *trees: PyTree) -> PyTree:
    """`jax.tree.map` that leaves units as the first tree has them."""
    return jax.tree.map(lambda *nodes: nodes[0] if is_units(nodes[0]) else function(*nodes), *trees, is_leaf=is_units)
