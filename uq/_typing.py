"""Aliases used in signatures; shapes live in docstrings and tests."""

from typing import Any

import jax
from jax.typing import ArrayLike as ArrayLike

Array = jax.Array
PyTree = Any
"""A nest of dicts, lists, tuples and registered nodes whose leaves are arrays."""

Key = Any
"""A typed key (`jax.random.key`), an old-style `uint32` key (`jax.random.PRNGKey`), or where stated an int."""
