"""Cross-fitting: every member leaves out rows of its own, so that all rows can calibrate what all rows trained.

A scheme is a value; which rows member k leaves out is a function of the key and k alone, so that members can be added
later. Left-out rows enter neither a member's batches nor its carried averages nor its standardisation, nor do they
decide when it stops.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._checks import InputError, UQWarning, as_labels, check_count
from ._typing import ArrayLike
from .holdout import Rows, generator, permutation

_FOLD, _BAG, _STOP = 2, 3, 4


@dataclass(frozen=True, eq=False)
class CrossFit:
    """A scheme made by `crossfit` or `bootstrap`, for `fit(holdout=…)`."""

    folds: int | None = None
    fraction: float | None = None
    groups: np.ndarray | None = None
    stratify: Any = False
    time: bool = False
    gap: int = 0
    bags: bool = False

    def __repr__(self) -> str:
        if self.bags:
            return "bootstrap()"
        parts = [] if self.folds is None else [str(self.folds)]
        parts += [] if self.fraction is None else [f"fraction={self.fraction}"]
        parts += [] if self.groups is None else ["groups=…"]
        parts += [] if self.stratify is False else ["stratify=" + ("True" if self.stratify is True else "…")]
        parts += [f"time=True, gap={self.gap}"] if self.time else []
        return f"crossfit({', '.join(parts)})"


def crossfit(
    folds: int | None = None,
    *,
    fraction: float | None = None,
    groups: ArrayLike | None = None,
    stratify: bool | ArrayLike = False,
    time: bool = False,
    gap: int = 0,
) -> CrossFit:
    """Each of K members leaves out one fold of the rows, at no extra compute.

    Member k leaves out fold k mod F of permutation ⌊k / F⌋, drawn from the key. Where F divides K, every row is left
    out by K / F members; `posterior.out_of_fold()` is what those say of it. Members see 1 − 1/F of the rows.

    Args:
      folds: F, at least 2. None is the largest divisor of K up to 5, or else K up to 10 and 5 beyond.
      fraction: instead of folds, the share of rows that each member leaves out at random, in (0, 1).
      groups: `(N,)`, labels of any kind: rows of a group (a patient, a site) are left out together.
      stratify: True deals every class, or every part of the range of a numeric target, evenly over the folds; or
        labels `(N,)` to stratify by.
      time: rows are in order of time: folds are blocks of consecutive rows, the same for every permutation.
      gap: rows next to a block, on either side, that its members do not train on either; for series whose
        neighbours resemble each other.
    Raises:
      InputError: settings that contradict each other. `fit` raises for groups or labels of another length.
    References:
      stone1974, section 2; barber2021, section 3 (CV+); vovk2015. Checked against loops over members.
    Example:
      >>> import flax.linen as nn, numpy as np, uq
      >>> x = np.linspace(-1, 1, 60)[:, None]; y = np.sin(3 * x[:, 0])
      >>> method = uq.deep_ensemble(nn.Dense(2), uq.likelihoods.Gaussian(), size=4)
      >>> posterior = uq.fit(method, (x, y), key=0, epochs=2, holdout=crossfit(2))
      >>> posterior.left_out.sum(0).min(), posterior.out_of_fold().mean.shape
      (np.int64(2), (60,))
    """
    if folds is not None:
        folds = check_count("folds", folds, least=2)
    if fraction is not None:
        if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction < 1:
            raise InputError(f"`fraction` expected a share of the rows in (0, 1), but it is {fraction!r}.")
        if folds is not None or groups is not None or stratify is not False or time:
            raise InputError("`fraction` leaves rows out at random: give it alone, or give folds.")
    if time and (groups is not None or stratify is not False):
        raise InputError("`time` takes rows in their order: it goes with `folds` and `gap` alone.")
    if groups is not None and stratify is not False:
        raise InputError("`groups` and `stratify` exclude each other: whole groups cannot be dealt evenly.")
    gap = check_count("gap", gap, least=0)
    if gap and not time:
        raise InputError("`gap` is for rows in order of time: pass time=True.")
    if groups is not None:
        groups = np.unique(as_labels("groups", groups), return_inverse=True)[1]
    if not isinstance(stratify, bool):
        stratify = np.unique(as_labels("stratify", stratify), return_inverse=True)[1]
    return CrossFit(folds, fraction, groups, stratify, bool(time), gap)


def bootstrap() -> CrossFit:
    """Each member trains on as many rows drawn with replacement, and leaves out those not drawn: about 37 %.

    References:
      breiman1996, section 1; kim2020 (jackknife+ after bootstrap).
    """
    return CrossFit(bags=True)


def rows_of(
    scheme: Any, words: tuple[int, ...], size: int, num_rows: int, counted: np.ndarray, y: Any, share: float
) -> Rows:
    """The rows that each member trains on, is stopped by, and leaves out.

    Args:
      scheme: a `CrossFit`.
      words: of the key.
      size: K.
      num_rows: N; `counted` are those of positive weight, the only ones dealt.
      y: targets, for `stratify=True`.
      share: of what a member does not leave out, the part that decides when it stops.
    """
    if not isinstance(scheme, CrossFit):
        raise InputError(f"`holdout` expected uq.crossfit(…) or uq.bootstrap(), but got a {type(scheme).__name__}.")
    _check_labels(scheme, num_rows)
    left_out = np.zeros((size, num_rows), bool)
    if scheme.bags:
        return _bags(words, left_out, counted, share)
    unused = np.zeros_like(left_out)  # next to a block of time
    if scheme.fraction is not None:
        out = min(max(round(scheme.fraction * len(counted)), 1), len(counted) - 1)
        for k in range(size):
            left_out[k, counted[permutation(generator(words, _FOLD, k), len(counted))[:out]]] = True
    else:
        folds = _num_folds(scheme.folds, size)
        _say_unbalanced(folds, size)
        for repeat in range(-(-size // folds)):
            fold = _assigned(scheme, folds, generator(words, _FOLD, repeat), counted, y)
            for k in range(repeat * folds, min(size, (repeat + 1) * folds)):
                left_out[k, counted] = fold == k % folds
                if scheme.gap:
                    unused[k] = _near(left_out[k], scheme.gap) & ~left_out[k]
    keep = [counted[~(left_out[k] | unused[k])[counted]] for k in range(size)]
    if min(map(len, keep)) < 2:
        raise InputError(f"{scheme} leaves a member {min(map(len, keep))} rows to train on; take more folds.")
    share_out = scheme.fraction if scheme.fraction is not None else 1 / folds
    return _split(words, keep, left_out, round(len(counted) * (1 - share_out)), share)


def _check_labels(scheme: CrossFit, num_rows: int) -> None:
    for name in ("groups", "stratify"):
        labels = getattr(scheme, name)
        if isinstance(labels, np.ndarray) and len(labels) != num_rows:
            raise InputError(f"`{name}` has {len(labels)} labels, but there are {num_rows} rows.")


def _num_folds(folds: int | None, size: int) -> int:
    if folds is not None:
        return folds
    divisors = [f for f in range(2, 6) if size % f == 0]
    return divisors[-1] if divisors else size if 2 <= size <= 10 else 5


def _say_unbalanced(folds: int, size: int) -> None:
    if size < folds:
        warnings.warn(
            f"{size} members over {folds} folds: the rows of {folds - size} folds are left out by none, and have no "
            f"out-of-fold prediction. Take {size if size > 1 else folds} {'folds' if size > 1 else 'members'}.",
            UQWarning,
            stacklevel=4,
        )
    elif size % folds:
        warnings.warn(
            f"{size} members over {folds} folds: some rows are left out by {-(-size // folds)} members and others by "
            f"{size // folds}. Take a number of members that {folds} divides.",
            UQWarning,
            stacklevel=4,
        )


def _assigned(scheme: CrossFit, folds: int, bits: np.random.Philox, counted: np.ndarray, y: Any) -> np.ndarray:
    """The fold of each of the rows `counted`."""
    num = len(counted)
    if num < folds:
        raise InputError(f"{folds} folds need at least as many rows, but there are {num}.")
    if scheme.time:
        return np.arange(num) * folds // num
    if scheme.groups is not None:
        return _by_group(scheme.groups[counted], folds, bits)
    fold = np.empty(num, int)
    order = permutation(bits, num)
    if scheme.stratify is False:
        fold[order] = np.arange(num) % folds
        return fold
    strata = _strata(y) if scheme.stratify is True else scheme.stratify
    order = order[np.argsort(strata[counted][order], kind="stable")]
    # Neighbours in the order of strata are dealt to different folds, in an order of their own each time.
    deals = np.stack([permutation(bits, folds) for _ in range(-(-num // folds))])
    fold[order] = deals.reshape(-1)[:num]
    return fold


def _strata(y: Any) -> np.ndarray:
    y = np.asarray(y)
    if y.ndim != 1:
        raise InputError("`stratify=True` is for one target an example; pass labels (N,) to stratify by.")
    return y


def _by_group(groups: np.ndarray, folds: int, bits: np.random.Philox) -> np.ndarray:
    """Largest groups first, each into the fold with the fewest rows so far; groups of a size in random order."""
    names, where, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < folds:
        raise InputError(f"{folds} folds need at least as many groups, but there are {len(names)}.")
    order = permutation(bits, len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    fold, filled = np.empty(len(names), int), np.zeros(folds, int)
    names_of_folds = permutation(bits, folds)
    for name in order:
        lightest = names_of_folds[np.argmin(filled[names_of_folds])]
        fold[name], filled[lightest] = lightest, filled[lightest] + counts[name]
    return fold[where]


def _near(out: np.ndarray, gap: int) -> np.ndarray:
    """Rows within `gap` of one left out."""
    inside = np.flatnonzero(out)
    near = np.zeros_like(out)
    near[max(inside[0] - gap, 0) : inside[-1] + gap + 1] = True
    return near


def _split(words: tuple[int, ...], keep: list[np.ndarray], left_out: np.ndarray, num: int, share: float) -> Rows:
    """Of the `num` rows or so that each member keeps, `share` decide when it stops: as many for every member.

    Numbers depend on the scheme and not on how many members there are, so that member k does not.
    """
    stop = max(round(share * num), 1) if share else 0
    if min(map(len, keep)) <= stop:
        raise InputError(
            f"A member keeps only {min(map(len, keep))} rows, of which {stop} would decide when it stops. Take more "
            "folds, or pass validation=0."
        )
    train, held = [], []
    for k, rows in enumerate(keep):
        order = permutation(generator(words, _STOP, k), len(rows)) if stop else np.arange(len(rows))
        held.append(np.sort(rows[order[:stop]]))
        train.append(np.sort(rows[order[stop:]]))
    longest = max(map(len, train))
    padded = np.stack([np.pad(rows, (0, longest - len(rows)), constant_values=-1) for rows in train])
    return Rows(padded.astype(np.int32), np.stack(held).astype(np.int32), left_out, max(num - stop, 1))


def _bags(words: tuple[int, ...], left_out: np.ndarray, counted: np.ndarray, share: float) -> Rows:
    """Rows drawn with replacement from those that do not stop the member."""
    train, held = [], []
    stop = min(max(round(share * len(counted)), 1), len(counted) - 2) if share else 0
    for k in range(len(left_out)):
        order = counted[permutation(generator(words, _STOP, k), len(counted))]
        held.append(np.sort(order[:stop]))
        rows = np.sort(order[stop:])
        draws = generator(words, _BAG, k).random_raw(len(rows)) >> np.uint64(32)
        drawn = rows[(draws * np.uint64(len(rows)) >> np.uint64(32)).astype(np.int64)]
        left_out[k, np.setdiff1d(rows, drawn)] = True
        train.append(np.sort(drawn))
    return Rows(np.stack(train).astype(np.int32), np.stack(held).astype(np.int32), left_out)
