"""Strategies are values; the rule is what it says."""

from __future__ import annotations

import pytest

import uq
from uq.execution import Strategy, candidates, chunked, looped, mapping_of, rule, strategy, unrolled, vmapped
from uq.execution.strategy import from_words, in_words


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy, "num_cores", lambda: 4)


def test_the_rule() -> None:
    assert rule(10, False, backend="gpu") == Strategy(vmapped)
    assert rule(10, True, backend="gpu").mapping == vmapped
    assert rule(10, False, backend="cpu") == Strategy(vmapped, threads=4)
    assert rule(10, True, backend="cpu") == Strategy(looped, lowering=True, threads=4)
    assert rule(10, False, operations=1e9, backend="cpu") == Strategy(looped, threads=4)
    assert rule(1000, False, backend="cpu") == Strategy(chunked(32), threads=4)
    assert rule(1000, False, backend="gpu") == Strategy(vmapped)
    assert rule(10, False, operations=1e9, backend="gpu") == Strategy(vmapped)
    assert rule(10, True, mapping=chunked(2), backend="cpu").mapping == chunked(2)
    # At least two members a thread: of one alone, products are others, and so their last bits.
    assert [rule(size, False, backend="cpu").threads for size in (1, 2, 3, 4, 7, 8, 100)] == [1, 1, 1, 2, 3, 4, 4]


def test_candidates_begin_with_the_rule_and_differ() -> None:
    for size in (1, 2, 10, 100):
        for convolutions in (False, True):
            found = candidates(size, convolutions, backend="cpu")
            assert found[0] == rule(size, convolutions, backend="cpu")
            assert len(set(found)) == len(found)
            assert convolutions or not any(each.lowering for each in found)
            assert all(each.mapping != unrolled for each in found) == (size > 16 or size == 1)
    only = candidates(10, True, mapping=looped, backend="cpu")
    assert {each.mapping for each in only} == {looped}


def test_words_and_back() -> None:
    for each in candidates(40, True, backend="cpu"):
        assert from_words(in_words(each)) == each
    assert from_words({"mapping": "vmapped"}) is None
    assert from_words({**in_words(Strategy()), "mapping": "sideways"}) is None
    assert mapping_of("chunked(0)") is None and mapping_of("chunked(7)") == chunked(7)


def test_it_reads_well() -> None:
    assert str(Strategy()) == "vmapped, many steps a call"
    assert (
        str(Strategy(chunked(4), lowering=True, loop=False, threads=2))
        == "chunked(4), one step a call, 2 threads, convolutions as products"
    )
    assert uq.execution.Strategy is Strategy


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"mapping": "vmapped"}, "expected a strategy, one of"),
        ({"mapping": chunked}, r"write chunked\(4\)"),
        ({"threads": 0}, "`threads`"),
        ({"threads": "2"}, "`threads`"),
    ],
)
def test_a_strategy_that_does_not_exist_gets_a_sentence(settings: dict, sentence: str) -> None:
    with pytest.raises(uq.InputError, match=sentence):
        Strategy(**settings)
