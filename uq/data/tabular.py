"""The UCI regression sets with their published splits, read from files that the user has.

The files are not downloaded and do not come with the package: some of their licences are unclear. Each set is
one file `DIR/NAME/NAME.npz` (or `DIR/NAME.npz`) with `X` `(n, d)`, `y` `(n,)`, `index_train` `(splits,
n_train)` and `index_test` `(splits, n_test)`, no pickles; `np.savez` writes it from the text files of the
published splits.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .._checks import InputError, check_count, check_finite, unknown_name

UCI: tuple[str, ...] = (
    "boston",
    "concrete",
    "energy",
    "kin8nm",
    "naval",
    "power",
    "protein",
    "wine-red",
    "yacht",
)
"""Names of the sets of the usual protocol (20 splits into 90 % and 10 %; protein has 5)."""


class Splits(NamedTuple):
    """A regression set with its splits."""

    name: str
    x: np.ndarray
    """`(n, d)`, float64."""
    y: np.ndarray
    """`(n,)`, float64, in the target's own units."""
    index_train: np.ndarray
    """`(splits, n_train)`: rows, in the published order."""
    index_test: np.ndarray
    """`(splits, n_test)`."""
    digest: str
    """A hash of the file."""

    @property
    def num_splits(self) -> int:
        """How many splits were published."""
        return len(self.index_train)

    def split(self, k: int) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
        """Split `k` as `(x, y)` to train on and `(x, y)` to test on."""
        if check_count("k", k, least=0) >= self.num_splits:
            raise InputError(f"{self.name} has splits 0 to {self.num_splits - 1}, but split {k} was asked for.")
        train, test = self.index_train[k], self.index_test[k]
        return (self.x[train], self.y[train]), (self.x[test], self.y[test])


def find(data_dir: str | Path, name: str) -> Path:
    """The file of a set.

    Raises:
      InputError: there is no such folder, or no such file in it; a near name that is there is suggested.
    """
    root = Path(data_dir)
    if root.exists() and not root.is_dir():
        raise InputError(
            f"The data folder {str(root)!r} is a file, not a folder. Pass the folder that holds NAME/NAME.npz."
        )
    if not root.is_dir():
        raise InputError(f"The data folder {str(root)!r} does not exist. Pass the folder that holds NAME/NAME.npz.")
    for path in (root / name / f"{name}.npz", root / f"{name}.npz"):
        if path.is_file():
            return path
    there = available(root)
    if not there:
        raise InputError(f"The data folder {str(root)!r} holds no NAME/NAME.npz; is it the right folder?")
    if name in UCI:
        raise InputError(f"There is no {name}/{name}.npz in {str(root)!r}; it holds {', '.join(there)}.")
    raise unknown_name("data set", name, there)


def available(data_dir: str | Path) -> list[str]:
    """Names of the sets in a folder, in the order of `UCI`, others after."""
    root = Path(data_dir)
    nested = {path.stem for path in root.glob("*/*.npz") if path.parent.name == path.stem and path.is_file()}
    names = nested | {path.stem for path in root.glob("*.npz") if path.is_file()}
    return [name for name in UCI if name in names] + sorted(names - set(UCI))


def uci(name: str, data_dir: str | Path) -> Splits:
    """Read a set and its published splits, and check them.

    Args:
      name: one of `UCI`, or any other set in the same format.
      data_dir: the folder.
    Raises:
      InputError: no such folder or file; a file that cannot be read; missing arrays; arrays of text, complex
        numbers or objects, or indices that are not whole; shapes that do not fit; splits that name rows which do
        not exist, or test on rows they train on.
    """
    path = find(data_dir, name)
    arrays, digest = _read(path)
    wanted = ("X", "y", "index_train", "index_test")
    missing = [key for key in wanted if key not in arrays]
    if missing:
        raise InputError(f"{path} expected arrays {', '.join(wanted)}, but has no {', '.join(missing)}.")
    for key in wanted:
        if arrays[key].dtype.kind not in "iuf":
            raise InputError(f"{path} expected numbers in `{key}`, but its dtype is {arrays[key].dtype}.")
    with np.errstate(over="ignore"):  # beyond float64 is infinite, which is refused below
        x, y = (arrays[key].astype(np.float64) for key in wanted[:2])
    if x.ndim != 2 or y.shape != x.shape[:1] or 0 in x.shape:
        raise InputError(f"{path} expected `X` (n, d) and `y` (n,), but they have shapes {x.shape} and {y.shape}.")
    check_finite(f"{name} X", x)
    check_finite(f"{name} y", y)
    for key in wanted[2:]:
        _check_whole(path, key, arrays[key])
    _check_splits(path, arrays["index_train"], arrays["index_test"], len(y))
    train, test = (arrays[key].astype(np.int64) for key in wanted[2:])
    return Splits(name, x, y, train, test, digest)


def _read(path: Path) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of a file, and a hash of it."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or type(error).__name__}).") from None
    try:
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        if isinstance(archive, np.lib.npyio.NpzFile):
            with archive:
                return {key: np.asarray(archive[key]) for key in archive.files}, hashlib.sha256(content).hexdigest()[
                    :16
                ]
        what = "a single array, as np.save writes it"
    except Exception:  # zip, zlib and NumPy raise of many kinds on broken files, and advise to load pickles
        what = "cut short, of another format, or with arrays of Python objects"
    raise InputError(
        f"{path} cannot be read as a .npz file of plain arrays: it is {what}. Copy it again, or write it with "
        "np.savez from arrays of numbers."
    )


def _check_whole(path: Path, key: str, index: np.ndarray) -> None:
    if index.dtype.kind == "f" and not (np.isfinite(index) & (index == np.floor(index))).all():
        raise InputError(f"{path} expected whole numbers in `{key}`, but some are not.")


def _check_splits(path: Path, train: np.ndarray, test: np.ndarray, num_rows: int) -> None:
    if train.ndim != 2 or test.ndim != 2 or len(train) != len(test) or 0 in train.shape or 0 in test.shape:
        raise InputError(
            f"{path} expected `index_train` and `index_test` (splits, rows) with the same number of splits, "
            f"but they have shapes {train.shape} and {test.shape}."
        )
    for k, parts in enumerate(zip(train, test, strict=True)):
        for rows in parts:
            wrong = rows[(rows < 0) | (rows >= num_rows)]
            if len(wrong):
                raise InputError(f"Split {k} of {path} names row {int(wrong[0])}, but rows are 0 to {num_rows - 1}.")
        rows = np.concatenate([part.astype(np.int64) for part in parts])
        if len(np.unique(rows)) != len(rows):
            raise InputError(f"Split {k} of {path} names a row twice: a test row must not be trained on.")
