"""What a detector is: it compares features of a new input with those of the training data, seen once, in batches.

Features are `(K, N, d)`, one set a member, or `(N, d)`; scores of members are averaged. Numpy arrays are summed on the
host in float64, jax arrays on their device; sums are of squared distances from running means (chan1983), never of
squares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_finite
from .._typing import PyTree


class Detector(NamedTuple):
    """How unusual features are, learned in one pass; states of different shards merge.

    Example:
      >>> import numpy as np, uq
      >>> rng = np.random.default_rng(0)
      >>> features, labels = rng.normal(size=(2, 100, 3)), np.arange(100) % 4
      >>> detector = uq.ood.mahalanobis(num_classes=4)
      >>> fitted = detector.fit([(features[:, :50], labels[:50]), (features[:, 50:], labels[50:])])
      >>> score = detector.score(fitted, np.stack([features[:, 0], features[:, 0] + 9], 1))
      >>> bool(score[1] > score[0])
      True
    """

    name: str
    init: Callable[[Any], PyTree]
    """`init(features) -> state`, empty; of the features only the shape and the kind of array matter."""
    update: Callable[..., PyTree]
    """`update(state, features, y) -> state`; jits."""
    merge: Callable[[PyTree, PyTree], PyTree]
    """Of two states, as if their batches had come in one stream."""
    finish: Callable[[PyTree], PyTree]
    """`finish(state) -> fitted`."""
    score: Callable[[PyTree, Any], Any]
    """`score(fitted, features) -> (N,)`, higher is more unusual; jits."""

    def fit(self, batches: Iterable[Any]) -> PyTree:
        """All in one: batches are `(features, y)`, or features where no labels are needed."""
        state = None
        for batch in batches:
            parts = batch if isinstance(batch, tuple) else (batch,)
            state = self.update(self.init(parts[0]) if state is None else state, *parts)
        if state is None:
            raise InputError(f"`{self.name}` expected at least one batch of features.")
        return self.finish(state)


def each_class(xp: Any, function: Callable[[Any], Any], parts: Any) -> Any:
    """One class after another, so that memory does not grow with their number."""
    if xp is np:
        size = len(jax.tree.leaves(parts)[0])
        return np.stack([function(jax.tree.map(lambda leaf: leaf[i], parts)) for i in range(size)])
    return jax.lax.map(function, parts)


def kind(array: Any) -> Any:
    return jnp if isinstance(array, jax.Array) else np


def checked(name: str, features: Any, like: Any = None) -> Any:
    """`(K, N, d)`, in the kind of array and the dtype of `like` where that is given."""
    if not isinstance(features, jax.Array):
        features = np.asarray(features)
    if features.ndim == 2:
        features = features[None]
    if features.ndim != 3 or features.shape[-1] == 0:
        raise InputError(f"`{name}` expected features of shape (K, N, d) or (N, d), but got {features.shape}.")
    check_finite("features", features)
    if like is not None:
        if (features.shape[0], features.shape[2]) != (like.shape[0], like.shape[2]):
            raise InputError(
                f"`{name}` expected features of {like.shape[0]} members and width {like.shape[2]}, but got "
                f"{features.shape[0]} and {features.shape[2]}."
            )
        return kind(like).asarray(features, like.dtype)
    if isinstance(features, np.ndarray):
        return features.astype(np.float64)
    return features if features.dtype.itemsize >= 4 else features.astype(jnp.float32)
