"""What conformal prediction says of classes: a set of them for every example."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_same_length, is_concrete
from .._typing import Array, ArrayLike
from ..likelihoods import _check_labels
from ..metrics import Bounds


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class PredictionSet:
    """For each of N examples the classes that may come about, which hold the one that does with probability `level`.

    A pytree. Iterating gives one array of labels an example, for printing.

    Example:
      >>> import numpy as np
      >>> sets = PredictionSet(np.array([[True, False, True], [False, True, False]]), 0.9)
      >>> [each.tolist() for each in sets], sets.size.tolist(), sets.contains([2, 2]).tolist()
      ([[0, 2], [1]], [2, 1], [True, False])
      >>> sets
      PredictionSet(examples=2, classes=3, level=0.9, mean size 1.5)
    """

    included: Array
    """Which classes each set holds, bool `(N, C)`."""
    level: float = field(metadata={"static": True})
    """The coverage asked for."""
    realised: Bounds | None = None
    """Central 95 % interval of the coverage that calibration sets of this size give, each category its own; None
    where it has no known law. (vovk2012, proposition 2a.) A lower bound where scores tie or empty sets are filled."""

    @property
    def size(self) -> Array:
        """Number of classes in each set, int `(N,)`."""
        return jnp.asarray(self.included).sum(-1)

    def contains(self, y: ArrayLike) -> Array:
        """Whether each set holds the label, bool `(N,)`."""
        included = jnp.asarray(self.included)
        check_same_length(included.shape[0], y)
        labels = jnp.asarray(_check_labels(y, included.shape[-1], "`contains`"))
        if labels.shape != included.shape[:-1]:
            raise InputError(f"`contains` expected labels of shape {included.shape[:-1]}, but got {labels.shape}.")
        return jnp.take_along_axis(included, labels[..., None], -1)[..., 0]

    def __len__(self) -> int:
        return self.included.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (np.flatnonzero(row) for row in np.asarray(self.included))

    def __getitem__(self, rows: Any) -> PredictionSet:
        return PredictionSet(self.included[rows], self.level, self.realised)

    def __repr__(self) -> str:
        if not is_concrete(self.included) or np.ndim(self.included) != 2:
            return f"PredictionSet(shape={np.shape(self.included)}, level={self.level:g})"
        num, classes = self.included.shape
        mean = np.asarray(self.included).sum() / max(num, 1)
        return f"PredictionSet(examples={num}, classes={classes}, level={self.level:g}, mean size {mean:.3g})"
