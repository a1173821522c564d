"""Which classes are about equally hard: k-means on quantiles of their scores."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .._checks import InputError
from ._rank import smallest_size


def clusters_of_classes(name: str, scores: np.ndarray, labels: np.ndarray, classes: int, key: Any,
                        num_clusters: int | None, share: float | None, level: float
                        ) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Cluster of each class `(C,)`, −1 for none, and the rows that did not find it."""
    counts = np.bincount(labels, minlength=classes)
    need = smallest_size(level)
    # ding2023, appendix B: of the rarest class with enough examples, a part for finding that grows with the classes.
    least = max(int(counts.min()), need)
    frequent = int((counts >= least).sum())
    part = frequent / (75 + frequent)
    share = part if share is None else share
    if num_clusters is None:
        num_clusters = max(1, int(part * least) // 2)
    order = np.asarray(jax.random.permutation(key, len(labels)))
    number = round(share * len(labels))
    if len(labels) - number < 1:
        raise InputError(f"`{name}` cannot divide {len(labels)} examples: give more of them.")
    finds, kept = order[:number], order[number:]
    seen = np.bincount(labels[finds], minlength=classes)
    placed = np.flatnonzero(seen >= need)
    found = np.full(classes, -1)
    if len(placed) == 0 or num_clusters == 1:
        found[placed] = 0
        return found, kept
    grid = np.unique([0.5, 0.6, 0.7, 0.8, 0.9, level])
    points = np.stack([_quantiles(scores[finds][labels[finds] == c], grid) for c in placed])
    seed = int(jax.random.randint(jax.random.fold_in(key, 1), (), 0, 2**31 - 1))
    found[placed] = k_means(points, np.sqrt(seen[placed]), min(num_clusters, len(placed)), np.random.default_rng(seed))
    return found, kept


def _quantiles(scores: np.ndarray, levels: np.ndarray) -> np.ndarray:
    ordered = np.sort(scores.astype(np.float64))
    return ordered[np.minimum(np.ceil((len(ordered) + 1) * levels - 1e-9).astype(int), len(ordered)) - 1]


def k_means(points: np.ndarray, weight: np.ndarray, num: int, rng: np.random.Generator, starts: int = 10) -> np.ndarray:
    """Cluster of each point, `(n,)`, numbered without gaps: the best of a few weighted runs of Lloyd's algorithm."""
    best, least = np.zeros(len(points), int), np.inf
    for _ in range(starts):
        centres = points[[rng.choice(len(points), p=weight / weight.sum())]]
        while len(centres) < num:  # far points are likely to be the next
            far = weight * _squares(points, centres).min(1)
            chances = far / far.sum() if far.sum() > 0 else weight / weight.sum()
            centres = np.concatenate([centres, points[[rng.choice(len(points), p=chances)]]])
        for _ in range(100):
            nearest = _squares(points, centres).argmin(1)
            moved = np.stack([
                np.average(points[nearest == k], axis=0, weights=weight[nearest == k]) if (nearest == k).any() else c
                for k, c in enumerate(centres)
            ])  # fmt: skip
            if (moved == centres).all():
                break
            centres = moved
        squares = _squares(points, centres)
        total = float((weight * squares.min(1)).sum())
        if total < least:
            best, least = squares.argmin(1), total
    return np.unique(best, return_inverse=True)[1]


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.square(points[:, None] - centres).sum(-1)
