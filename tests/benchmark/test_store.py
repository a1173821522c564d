import json

import numpy as np
import pytest

from uq import InputError
from uq.benchmark.store import DiskError, Store, fingerprint


def test_lines_come_back_whole(tmp_path):
    store = Store(tmp_path / "deep" / "er", "r.jsonl")
    store.append({"hash": "a", "value": np.float32(0.5), "list": (1, None, "µ"), "bad": float("nan")})
    store.append({"hash": "b", "value": np.int64(3)})
    records = store.read()
    assert records["a"] == {"hash": "a", "value": 0.5, "list": [1, None, "µ"], "bad": None}
    assert records["b"]["value"] == 3 and store.skipped_lines == 0


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_half_a_line_costs_only_itself(tmp_path, cut):
    store = Store(tmp_path, "r.jsonl")
    for name in "abc":
        store.append({"hash": name, "value": "x" * 30})
    content = store.path.read_bytes()
    store.path.write_bytes(content[: -1 - cut])
    assert set(store.read()) == {"a", "b"} and store.skipped_lines == 1
    store.append({"hash": "c", "value": 1})
    assert set(store.read()) == {"a", "b", "c"}
    assert json.loads(store.path.read_text().splitlines()[-1])["value"] == 1


def test_a_whole_line_without_its_end_is_kept(tmp_path):
    store = Store(tmp_path, "r.jsonl")
    store.append({"hash": "a"})
    store.path.write_bytes(store.path.read_bytes().rstrip(b"\n"))
    store.append({"hash": "b"})
    assert set(store.read()) == {"a", "b"} and store.skipped_lines == 0


def test_later_lines_win_and_foreign_lines_are_counted(tmp_path):
    store = Store(tmp_path, "r.jsonl")
    store.path.write_text('{"hash": "a", "v": 1}\n[1, 2]\n\n{"v": 3}\n\x00\xff\n{"hash": "a", "v": 2}\n')
    assert store.read() == {"a": {"hash": "a", "v": 2}} and store.skipped_lines == 3


def test_fresh_keeps_every_old_file_and_moves_it_only_for_a_new_record(tmp_path):
    Store(tmp_path, "r.jsonl").append({"hash": "a"})
    for name, aside in (("b", "r.jsonl.old"), ("c", "r.jsonl.old.1"), ("d", "r.jsonl.old.2")):
        store, before = Store(tmp_path, "r.jsonl", fresh=True), (tmp_path / "r.jsonl").read_text()
        assert store.read() == {} and store.fresh and not (tmp_path / aside).exists()
        store.append({"hash": name})
        assert set(store.read()) == {name} and (tmp_path / aside).read_text() == before and not store.fresh
        store.append({"hash": f"{name}2"})
        assert set(store.read()) == {name, f"{name}2"}


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"output folder .* cannot be written to .*choose another with --out"):
        Store(tmp_path / "file" / "below", "r.jsonl")


def test_whole_files_leave_no_part_behind(tmp_path):
    store = Store(tmp_path, "r.jsonl")
    path = store.write("figures/a.png", b"1")
    assert path.read_bytes() == b"1" and [p.name for p in path.parent.iterdir()] == ["a.png"]


def test_two_writers_of_one_file_do_not_meet(tmp_path, monkeypatch):
    """A second process writes the same name between another's writing and its renaming."""
    import os

    first, second = Store(tmp_path, "r.jsonl"), Store(tmp_path, "r.jsonl")
    real = os.replace

    def replace(*args):
        monkeypatch.setattr("uq.benchmark.store.os.replace", real)
        second.write("report.html", b"second")
        real(*args)

    monkeypatch.setattr("uq.benchmark.store.os.replace", replace)
    first.write("report.html", b"first")
    assert (tmp_path / "report.html").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    store = Store(tmp_path, "r.jsonl")
    store.write("a.html", b"1")

    def replace(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("uq.benchmark.store.os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        store.write("a.html", b"2")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.html", b"1")]


def test_records_that_cannot_be_written_are_said_with_the_file(tmp_path):
    store = Store(tmp_path, "r.jsonl")
    store.path.mkdir()
    with pytest.raises(DiskError, match=r"r.jsonl' cannot be written \(Is a directory\)"):
        store.append({"hash": "a"})
    with pytest.raises(InputError, match="is a folder"):
        Store(tmp_path, "r.jsonl")


def test_fingerprint_is_of_values_whatever_their_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})
