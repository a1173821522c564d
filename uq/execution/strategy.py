"""How a run is executed, as a value: the member axis, convolutions, and how many steps one call takes."""

from __future__ import annotations

import os
from dataclasses import dataclass

import jax

from .._checks import check_count
from .mapping import Mapping, check_mapping, chunked, looped, unrolled, vmapped


@dataclass(frozen=True)
class Strategy:
    """One way to run K members. All give the same numbers to rounding; they differ in time and memory.

    Args:
      mapping: how the member axis runs: `vmapped`, `looped`, `unrolled` or `chunked(n)`.
      lowering: whether convolutions run as slices and matrix products (`lowered`).
      loop: True for many steps in one call of a compiled loop, False for one step a call.
      threads: on a CPU, how many threads train members at once, each its own share of them.
    """

    mapping: Mapping = vmapped
    lowering: bool = False
    loop: bool = True
    threads: int = 1

    def __post_init__(self) -> None:
        check_mapping("mapping", self.mapping)
        check_count("threads", self.threads)

    def __str__(self) -> str:
        parts = [str(self.mapping), "many steps a call" if self.loop else "one step a call"]
        if self.threads > 1:
            parts.append(f"{self.threads} threads")
        if self.lowering:
            parts.append("convolutions as products")
        return ", ".join(parts)


def rule(
    size: int,
    convolutions: bool,
    *,
    operations: float = 0.0,
    mapping: Mapping | None = None,
    backend: str | None = None,
) -> Strategy:
    """The strategy used where nothing was measured.

    Many steps a call. All members at once, which makes one larger product of their small layers and keeps an
    accelerator busy; but one after another on a CPU where a step of one member takes 20 million operations or has
    convolutions, and 32 at a time where a core has more than 64, because the activations of all would leave the cache.

    Convolutions run as products: for K networks at once the library's become grouped convolutions, which libraries run
    badly, and on a CPU they run on one thread inside loops.

    On a CPU, each core trains its own share of the members, of at least two: members never wait for each other, while
    cores that share out one small product do.

    Args:
      size: K.
      convolutions: whether the network has any.
      operations: additions and multiplications of one step of one member.
      mapping: given, it is kept.
      backend: "cpu", "gpu", "tpu"; None is the default one.
    """
    backend = jax.default_backend() if backend is None else backend
    threads = max(1, min(num_cores(), size // 2)) if backend == "cpu" else 1
    usual: Mapping = vmapped
    if backend == "cpu" and (convolutions or operations >= _LARGE):
        usual = looped
    elif backend == "cpu" and size > 2 * _CHUNK * threads:
        usual = chunked(_CHUNK)
    return Strategy(usual if mapping is None else mapping, lowering=convolutions, threads=threads)


def candidates(
    size: int,
    convolutions: bool,
    *,
    operations: float = 0.0,
    mapping: Mapping | None = None,
    backend: str | None = None,
) -> list[Strategy]:
    """Every strategy worth measuring for K members, the rule's own first and the least likely last.

    Args:
      size, convolutions, operations, mapping, backend: as in `rule`; lowering is no candidate without convolutions.
    """
    first = rule(size, convolutions, operations=operations, mapping=mapping, backend=backend)
    share = -(-size // first.threads)
    if mapping is not None:
        mappings = [mapping]
    elif size == 1:
        mappings = [vmapped]
    else:
        mappings = [vmapped, looped, *(chunked(n) for n in (2, 8, 32) if n < share)]
        if size <= _UNROLLED:
            mappings.append(unrolled)
    found = [first]
    for threads in dict.fromkeys((first.threads, 1)):
        for lowering in (True, False) if convolutions else (False,):
            for loop in (True, False):
                found += [Strategy(each, lowering, loop, threads) for each in mappings]
    return list(dict.fromkeys(found))


_LARGE = 2e7
_CHUNK = 32
_UNROLLED = 16
"""The largest K whose members are unrolled: one copy of the network's program each, so that compiling grows with K."""


def num_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_words(strategy: Strategy) -> dict[str, object]:
    """What a file keeps of a strategy."""
    return {**vars(strategy), "mapping": str(strategy.mapping)}


def from_words(words: dict[str, object]) -> Strategy | None:
    """The strategy that `in_words` wrote; None where it means nothing here."""
    mapping = mapping_of(str(words.get("mapping")))
    if mapping is None or set(words) != set(Strategy.__dataclass_fields__):
        return None
    return Strategy(mapping, bool(words["lowering"]), bool(words["loop"]), int(str(words["threads"])))


def mapping_of(text: str) -> Mapping | None:
    """The mapping that prints as `text`, or None."""
    simple = {str(each): each for each in (vmapped, looped, unrolled)}
    if text in simple:
        return simple[text]
    number = text.removeprefix("chunked(").removesuffix(")")
    return chunked(int(number)) if text == f"chunked({number})" and number.isdigit() and int(number) else None
