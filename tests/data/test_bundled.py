import numpy as np
import pytest

from uq import InputError
from uq.data import BUNDLED, bundled


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [
        ("diabetes", (442, 10), 0),
        ("breast_cancer", (569, 30), 2),
        ("wine", (178, 13), 3),
        ("digits", (1797, 8, 8), 10),
    ],
)
def test_shapes_and_labels(name, shape, classes):
    data = bundled(name)
    assert data.name == name and data.x.shape == shape and data.y.shape == shape[:1]
    assert len(data.classes) == classes and data.target and data.source
    assert (data.task == "regression") == (classes == 0)
    if classes:
        assert sorted(np.unique(data.y)) == list(range(classes))


def test_diabetes_is_in_its_own_units():
    data = bundled("diabetes")
    assert 18 < data.x[:, 0].min() < data.x[:, 0].max() < 80  # years of age, not standardised
    assert data.y.min() == 25.0 and data.y.max() == 346.0 and data.unit


def test_digest_names_the_content():
    a, b = bundled("wine"), bundled("wine")
    assert a.digest == b.digest != bundled("digits").digest
    assert a._replace(y=a.y[::-1]).digest != a.digest


def test_every_name_is_listed_and_a_misspelt_one_is_corrected():
    assert list(BUNDLED) == ["diabetes", "breast_cancer", "wine", "digits"]
    with pytest.raises(InputError, match=r"no data set 'diabetis'.*did you mean 'diabetes'"):
        bundled("diabetis")
