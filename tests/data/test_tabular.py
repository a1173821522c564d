import os
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
    ],
)
def test_files_that_do_not_fit(tmp_path, changed, sentence):
    write(tmp_path, **changed)
    with pytest.raises(InputError, match=sentence):
        uci("boston", tmp_path)


def test_a_truncated_file_and_pickles_are_refused(tmp_path):
    write(tmp_path)
    path = tmp_path / "boston" / "boston.npz"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match="cannot be read"):
        uci("boston", tmp_path)
    write(tmp_path, X=np.array([{"a": 1}], object))
    with pytest.raises(InputError, match="cannot be read"):
        uci("boston", tmp_path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the UCI sets are not there; set UQ_DATA_DIR to their folder")
@pytest.mark.parametrize(("name", "rows", "splits"), [("boston", 506, 20), ("protein", 45730, 5), ("yacht", 308, 20)])
def test_published_splits_partition_the_rows(name, rows, splits):
    data = uci(name, REAL)
    assert data.num_splits == splits and len(data.y) == rows
    for k in range(splits):
        assert sorted(np.r_[data.index_train[k], data.index_test[k]]) == list(range(rows))
