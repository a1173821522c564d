import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from uq import InputError
from uq.data import uci
from uq.data.tabular import available, find

_BESIDE = Path(__file__).parents[2].parent / "shared" / "data" / "uci"
REAL = Path(os.environ["UQ_DATA_DIR"]) if "UQ_DATA_DIR" in os.environ else _BESIDE


def write(folder, name="boston", rows=30, splits=3, **changed):
    """A set in the published format, with targets far from 0 and 1."""
    stream = np.random.default_rng(7)
    x = stream.normal(50.0, 4.0, (rows, 2))
    y = 1000 + 25 * x[:, 0] + stream.normal(size=rows)
    orders = np.stack([stream.permutation(rows) for _ in range(splits)]).astype(np.uint16)
    arrays = {"X": x, "y": y, "index_train": orders[:, :-5], "index_test": orders[:, -5:]} | changed
    path = folder / name / f"{name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def test_reads_every_split_in_the_published_order(tmp_path):
    arrays = write(tmp_path)
    data = uci("boston", tmp_path)
    assert data.num_splits == 3 and data.x.dtype == data.y.dtype == np.float64
    for k in range(3):
        (x, y), (x_test, y_test) = data.split(k)
        assert np.array_equal(x, arrays["X"][arrays["index_train"][k]])
        assert np.array_equal(y, arrays["y"][arrays["index_train"][k]])
        assert np.array_equal(x_test, arrays["X"][arrays["index_test"][k]])
        assert np.array_equal(y_test, arrays["y"][arrays["index_test"][k]])
    with pytest.raises(InputError, match="splits 0 to 2, but split 3"):
        data.split(3)


def test_flat_folders_and_other_names(tmp_path):
    write(tmp_path, "yacht")
    write(tmp_path, "mine")
    (tmp_path / "yacht" / "yacht.npz").rename(tmp_path / "yacht.npz")
    assert available(tmp_path) == ["yacht", "mine"]
    assert find(tmp_path, "yacht") == tmp_path / "yacht.npz"
    assert uci("mine", tmp_path).name == "mine"


def test_missing_folder_set_and_misspelt_name(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        uci("boston", tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"holds no NAME/NAME\.npz"):
        uci("boston", tmp_path)
    write(tmp_path, "concrete")
    with pytest.raises(InputError, match=r"no boston/boston.npz.*holds concrete"):
        uci("boston", tmp_path)
    with pytest.raises(InputError, match="did you mean 'concrete'"):
        uci("concret", tmp_path)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"index_test": None}, "has no index_test"),
        ({"y": np.ones(7)}, r"shapes \(30, 2\) and \(7,\)"),
        ({"y": np.r_[np.nan, np.ones(29)]}, "row 0 of 30 holds NaN"),
        ({"index_test": np.array([[40], [1], [2]])}, "Split 0 .* names row 40"),
        (
            {"index_train": np.array([[1], [1], [1]]), "index_test": np.array([[2], [1], [3]])},
            "Split 1 .* row twice",
        ),
        ({"index_train": np.array([1, 2])}, "same number of splits"),
        ({"index_test": np.array([[-2], [1], [2]])}, "Split 0 .* names row -2, but rows are 0 to 29"),
        ({"index_test": np.full((3, 1), 2**63, np.uint64)}, "names row 9223372036854775808"),
        ({"index_test": np.array([[1.5], [1], [2]])}, "expected whole numbers in `index_test`"),
        ({"index_test": np.array([[np.nan], [1], [2]])}, "expected whole numbers in `index_test`"),
        ({"index_train": np.array([["a"], ["b"], ["c"]])}, "expected numbers in `index_train`, but its dtype is <U1"),
        ({"y": np.array(["low"] * 30)}, "expected numbers in `y`, but its dtype is <U3"),
        ({"X": np.full((30, 2), "7")}, "expected numbers in `X`, but its dtype is <U1"),
        ({"X": np.ones((30, 2), complex)}, "expected numbers in `X`, but its dtype is complex128"),
        ({"X": np.ones((30, 0))}, r"shapes \(30, 0\) and \(30,\)"),
    ],
)
def test_files_that_do_not_fit(tmp_path, changed, sentence):
    write(tmp_path, **changed)
    with pytest.raises(InputError, match=sentence):
        uci("boston", tmp_path)


def test_whole_numbers_may_be_stored_as_floats(tmp_path):
    arrays = write(tmp_path)
    write(tmp_path, index_train=arrays["index_train"].astype(float), X=np.round(arrays["X"]).astype(np.int16))
    data = uci("boston", tmp_path)
    assert np.array_equal(data.index_train, arrays["index_train"]) and data.index_train.dtype == np.int64
    assert data.x.dtype == np.float64


def test_broken_files_are_refused_without_numpys_advice(tmp_path):
    path = tmp_path / "boston" / "boston.npz"

    def refused(sentence):
        with pytest.raises(InputError, match=f"cannot be read as a .npz file.*: it is {sentence}") as error:
            uci("boston", tmp_path)
        assert "pickle" not in str(error.value) and "np.savez" in str(error.value)

    write(tmp_path, X=np.array([{"a": 1}], object))
    refused("cut short, of another format, or with arrays of Python objects")
    content = path.read_bytes()
    for broken in (content[:300], b"", b"garbage" * 100, content[:60] + b"\xff" * 9 + content[69:], pickle.dumps([1])):
        path.write_bytes(broken)
        refused("cut short")
    with path.open("wb") as file:
        np.save(file, np.ones(3))
    refused("a single array")


def test_a_file_that_may_not_be_opened_is_said(tmp_path, monkeypatch):
    write(tmp_path)

    def read_bytes(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    with pytest.raises(InputError, match=r"boston.npz cannot be read \(Permission denied\)"):
        uci("boston", tmp_path)


def test_folders_named_like_files_and_files_in_place_of_folders(tmp_path):
    (tmp_path / "kin8nm.npz").mkdir()
    (tmp_path / "power" / "power.npz").mkdir(parents=True)
    assert available(tmp_path) == []
    with pytest.raises(InputError, match=r"holds no NAME/NAME\.npz"):
        uci("kin8nm", tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file, not a folder"):
        uci("boston", tmp_path / "file")


@pytest.mark.skipif(not REAL.is_dir(), reason="the UCI sets are not there; set UQ_DATA_DIR to their folder")
@pytest.mark.parametrize(("name", "rows", "splits"), [("boston", 506, 20), ("protein", 45730, 5), ("yacht", 308, 20)])
def test_published_splits_partition_the_rows(name, rows, splits):
    data = uci(name, REAL)
    assert data.num_splits == splits and len(data.y) == rows
    for k in range(splits):
        assert sorted(np.r_[data.index_train[k], data.index_test[k]]) == list(range(rows))
