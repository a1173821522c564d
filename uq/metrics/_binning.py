"""Bins of probabilities: B half-open intervals, the last one closed, edges in float64.

`clip(searchsorted(edges, p, "right") − 1, 0, B − 1)`: p = 1 falls in the last bin, equal values never part.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _inputs


class Bins(NamedTuple):
    """What the examples of each of G groups and B bins have in common."""

    count: Any
    """Examples, `(G, B)`, whole numbers."""
    confidence: Any
    """Mean probability, `(G, B)`; 0 where a bin is empty."""
    frequency: Any
    """Share of examples whose event came about, `(G, B)`; 0 where a bin is empty."""
    gap: Any
    """frequency − confidence, summed as such: small gaps keep their digits; 0 where a bin is empty."""
    edges: Any
    """`(G, B + 1)`, ascending."""


def group_bins(p: Any, event: Any, group: Any, *, groups: int, bins: int, binning: str) -> Bins:
    """Bin n probabilities, each within its own group.

    Args:
      p: probabilities, `(n,)`.
      event: whether what they speak of came about, `(n,)`, bool.
      group: `(n,)`, whole numbers from 0 to G − 1.
      groups, bins: G and B.
      binning: "width" or "mass".
    """
    module = _inputs.numeric(p, event, group)
    if binning == "width":
        row = round_up(np.arange(bins + 1) / bins, p.dtype)
        at = module.clip(module.searchsorted(row, p, side="right") - 1, 0, bins - 1)
        edges = module.broadcast_to(module.asarray(row), (groups, bins + 1))
    else:
        at, edges = _mass(p, group, groups, bins)
    cell = (group * bins + at).astype(group.dtype)
    event = event.astype(p.dtype)

    def total(values: Any) -> Any:
        if module is np:
            return np.bincount(cell, values, groups * bins).reshape(groups, bins)
        return jnp.zeros(groups * bins, values.dtype).at[cell].add(values).reshape(groups, bins)

    count = total(module.ones(p.shape, np.int32)).astype(np.int32)
    some = module.maximum(count, 1).astype(p.dtype)
    return Bins(count, total(p) / some, total(event) / some, total(event - p) / some, edges)


def _mass(p: Any, group: Any, groups: int, bins: int) -> tuple[Any, Any]:
    """Bins with edges at the order statistics ⌊k n / B⌋ of each group: of equal mass, as far as ties allow.

    Edges that ties make equal leave empty bins between them, so fewer than B may be in use.
    """
    module = _inputs.numeric(p, group)
    order = module.lexsort((p, group))
    ranked, of = p[order], group[order]
    size = module.zeros(groups, of.dtype)
    size = np.bincount(group, minlength=groups) if module is np else size.at[group].add(1)
    start = module.cumsum(size) - size

    # `searchsorted(…, "right")` counts edges up to the last of the values equal to p: it is their rank that
    # decides.
    places = np.arange(len(p)).astype(of.dtype)
    new = (ranked[1:] != ranked[:-1]) | (of[1:] != of[:-1])
    ends = module.where(module.concatenate([new, module.ones(1, bool)]), places, len(p))
    last = np.minimum.accumulate(ends[::-1])[::-1] if module is np else jax.lax.cummin(ends, reverse=True)
    rank = last - start[of]
    found = module.minimum(((rank + 1) * bins - 1) // size[of], bins - 1)
    at = np.empty_like(found) if module is np else jnp.zeros_like(found)
    if module is np:
        at[order] = found
    else:
        at = at.at[order].set(found)

    inner = start[:, None] + np.arange(1, bins).astype(of.dtype) * size[:, None] // bins
    inner = ranked[module.clip(inner, 0, len(p) - 1)]
    inner = module.where(size[:, None] > 0, inner, module.ones_like(inner))
    zeros, ones = module.zeros((groups, 1), p.dtype), module.ones((groups, 1), p.dtype)
    return at, module.concatenate([zeros, inner, ones], axis=1)


def round_up(values: np.ndarray, dtype: Any) -> np.ndarray:
    """The smallest numbers of `dtype` not below `values`: `p ≥ values` has the same answer in both."""
    cast = values.astype(dtype)
    return np.where(cast.astype(np.float64) < values, np.nextafter(cast, np.array(np.inf, dtype)), cast)


def round_down(values: np.ndarray, dtype: Any) -> np.ndarray:
    """The largest numbers of `dtype` not above `values`: `p ≤ values` has the same answer in both."""
    return -round_up(-values, dtype)
