"""Maps that are constant over bins of log-odds."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count
from .._typing import Array
from ._one_vs_rest import Event, search

BINNINGS = ("mass", "width")


class Steps(NamedTuple):
    """A map of log-odds that is constant over bins; the first axis is one map a class, or one for two classes."""

    edges: Any
    """Log-odds between the bins, `(K, ≥ B − 1)`, rising; the last one is repeated to a length of 4ⁿ."""
    odds: Any
    """New log-odds in each, `(K, ≥ B)`."""


def step(state: Steps, odds: Array) -> Array:
    """New log-odds `(N,)` of one map."""
    at = search(state.edges, odds)
    return state.odds[jnp.minimum(at, len(state.odds) - 1)]


def check(name: str, bins: int, binning: str) -> None:
    check_count("bins", bins)
    if binning not in BINNINGS:
        raise InputError(f"`{name}` expected `binning` to be 'mass' or 'width', but it is {binning!r}.")


def equal_mass(data: Event, bins: int) -> np.ndarray:
    """Where bins of as equal a share of the weight as ties allow begin, but for the first, among distinct predictions.

    A prediction is in bin k where the weight up to it lies in (k, k + 1] / B of all.
    """
    upto = np.cumsum(data.weight)
    cuts = np.searchsorted(upto, np.arange(1, bins) * (upto[-1] / bins * (1 + 1e-12)), side="right")
    cuts = np.unique(cuts)
    return cuts[(cuts > 0) & (cuts < len(upto))]


def edges_at(data: Event, cuts: np.ndarray) -> np.ndarray:
    """Log-odds half way between the predictions on both sides."""
    return (data.odds[cuts - 1] + data.odds[cuts]) / 2


def sums(values: np.ndarray, cuts: np.ndarray) -> np.ndarray:
    """Of the values of each bin, `(B,)`."""
    return np.add.reduceat(values, np.concatenate([[0], cuts]))
