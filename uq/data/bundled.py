"""Four real data sets that need no download: they come inside scikit-learn."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from .._checks import unknown_name
from .._extras import load_extra


class Dataset(NamedTuple):
    """Inputs and targets with what a table or an axis has to say about them."""

    name: str
    x: np.ndarray
    """Inputs: `(N, d)`, or `(N, height, width)` for images, float64."""
    y: np.ndarray
    """Targets `(N,)`: float64 in `unit`, or int labels 0 … C−1."""
    task: str
    """ "regression", "binary" or "multiclass"."""
    target: str
    """What is predicted, in words."""
    unit: str
    """The unit of a regression target."""
    classes: tuple[str, ...]
    """Names of the labels; empty for a regression."""
    source: str
    """Where the data come from, as a reference."""

    @property
    def digest(self) -> str:
        """A hash of inputs and targets, so that results name exactly what they were computed on."""
        parts = (np.ascontiguousarray(self.x).tobytes(), np.ascontiguousarray(self.y).tobytes())
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


class _Described(NamedTuple):
    task: str
    target: str
    unit: str
    source: str


BUNDLED: dict[str, _Described] = {
    "diabetes": _Described(
        "regression",
        "disease progression after one year",
        "points",
        "Efron, Hastie, Johnstone & Tibshirani 2004; scikit-learn",
    ),
    "breast_cancer": _Described("binary", "tumour", "", "Wolberg, Street & Mangasarian 1993; scikit-learn"),
    "wine": _Described("multiclass", "cultivar", "", "Aeberhard & Forina 1991; scikit-learn"),
    "digits": _Described("multiclass", "digit", "", "Alpaydin & Kaynak 1998; scikit-learn"),
}
"""What `bundled` can load."""


def bundled(name: str) -> Dataset:
    """One of scikit-learn's own data sets, in its original units.

    `diabetes` (442 rows, 10 features, a regression), `breast_cancer` (569, 30, two classes), `wine` (178, 13,
    three classes), `digits` (1,797 images of 8 × 8 pixels in [0, 1], ten classes).

    Args:
      name: one of `BUNDLED`.
    Raises:
      InputError: an unknown name.
      MissingExtra: scikit-learn is not installed.
    Example:
      >>> bundled("digits").x.shape
      (1797, 8, 8)
    """
    if name not in BUNDLED:
        raise unknown_name("data set", name, BUNDLED)
    about = BUNDLED[name]
    sets = load_extra("sklearn.datasets", "scikit-learn", "bench", f"The data set {name!r}")
    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(sets, f"load_{name}")(**options)
    x, y = np.asarray(bunch.data, np.float64), np.asarray(bunch.target)
    if name == "digits":
        x = x.reshape(-1, 8, 8) / 16
    regression = about.task == "regression"
    return Dataset(
        name=name,
        x=x,
        y=y.astype(np.float64 if regression else np.int64),
        task=about.task,
        target=about.target,
        unit=about.unit,
        classes=() if regression else tuple(str(label) for label in bunch.target_names),
        source=about.source,
    )
