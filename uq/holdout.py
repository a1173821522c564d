"""Which rows each member trains on, and which it is stopped by; and the order in which it sees them.

Everything here is a function of the key, the member's index and the epoch alone, so that member k sees the same
batches whatever K. It runs on the host from counter-based bit generators, whose streams are fixed by definition:
keys and permutations compiled into the training program would cost more to compile than the training itself.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from ._checks import InputError
from ._typing import Key

_SPLIT, _ORDER = range(2)


class Rows(NamedTuple):
    train: np.ndarray
    """`(K, n)`, int32: the rows each member trains on; −1 after the last of a member that has fewer."""
    held_out: np.ndarray
    """`(K, m)`, int32: the rows that stop each member; m may be 0."""
    left_out: np.ndarray | None = None
    """`(K, N)`, bool: the rows that had no part in a member at all; None where nobody asked for them."""
    per_epoch: int | None = None
    """How many rows an epoch shows to every member, where members have different numbers of them."""

    @property
    def num_train(self) -> int:
        """Rows an epoch."""
        return self.train.shape[1] if self.per_epoch is None else self.per_epoch

    @property
    def num_own(self) -> np.ndarray:
        """`(K,)`: how many rows each member has."""
        return (self.train >= 0).sum(1)


def key_words(key: Key) -> tuple[int, ...]:
    """The key's own bits, as seed words."""
    return tuple(int(word) for word in np.asarray(jax.random.key_data(key)).reshape(-1))


def generator(words: tuple[int, ...], purpose: int, member: int, epoch: int = 0) -> np.random.Philox:
    """Random bits of one member's epoch: the epoch is the high word of the counter."""
    return np.random.Philox(key=_member_key(words, purpose, member), counter=[0, 0, 0, epoch])


@functools.lru_cache(maxsize=65536)
def _member_key(words: tuple[int, ...], purpose: int, member: int) -> np.ndarray:
    return np.random.SeedSequence(words, spawn_key=(purpose, member)).generate_state(2, np.uint64)


def permutation(bits: np.random.Philox, num: int) -> np.ndarray:
    return np.argsort(bits.random_raw(num)).astype(np.int32)


def fraction(words: tuple[int, ...], size: int, num_rows: int, share: float) -> Rows:
    """Each member leaves out its own random `share` of the rows; 0 leaves out none."""
    if not 0 <= share < 1:
        raise InputError(f"`validation` expected a fraction from 0 to below 1, but it is {share}.")
    out = round(num_rows * share)
    if share and not 0 < out < num_rows:
        out = min(max(out, 1), num_rows - 1)
    if out == 0:
        everything = np.broadcast_to(np.arange(num_rows, dtype=np.int32), (size, num_rows))
        return Rows(everything, everything[:, :0])
    orders = np.stack([permutation(generator(words, _SPLIT, k), num_rows) for k in range(size)])
    return Rows(np.sort(orders[:, out:]), np.sort(orders[:, :out]))


def epoch_orders(
    words: tuple[int, ...],
    rows: Rows,
    steps: int,
    batch: int,
    epochs: range,
    key_width: int,
    *,
    shared: bool = False,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`(index (K, S, B), keys (K, S, W))` for each epoch: every member shuffles its own rows.

    With `shared`, all see the first member's batches, and `index` is `(1, S, B)`.
    """
    size, num, width = len(rows.train), rows.num_train, steps * batch
    orders = 1 if shared else size
    own = [train[train >= 0] for train in rows.train[:orders]]
    members = [_member_key(words, _ORDER, k) for k in range(size)]
    bits = np.random.Philox(0)
    for epoch in epochs:
        index = np.empty((orders, width), np.int32)
        noise = np.empty((size, steps * key_width), np.uint64)
        for k in range(size):
            _begin_again(bits, members[k], epoch)
            if k < orders:
                index[k, :num] = _shuffled(own[k], bits, num)
            noise[k] = bits.random_raw(steps * key_width)
        index[:, num:] = index[:, : width - num]
        keys = (noise >> np.uint64(32)).astype(np.uint32)
        yield index.reshape(orders, steps, batch), keys.reshape(size, steps, key_width)


def _begin_again(bits: np.random.Philox, key: np.ndarray, epoch: int) -> None:
    """The bits that `generator` gives: making one anew takes ten times as long."""
    state: Any = {"bit_generator": "Philox", "buffer": np.zeros(4, np.uint64), "buffer_pos": 4}
    state |= {"has_uint32": 0, "uinteger": 0}  # nothing is left of what was drawn before
    state["state"] = {"counter": np.array([0, 0, 0, epoch], np.uint64), "key": key}
    bits.state = state


def _shuffled(own: np.ndarray, bits: np.random.Philox, num: int) -> np.ndarray:
    """`num` of the rows in random order: each once before any comes twice, other ones each epoch."""
    order = own[permutation(bits, len(own))]
    while len(order) < num:
        order = np.concatenate([order, own[permutation(bits, len(own))]])
    return order[:num]
