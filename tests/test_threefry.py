"""Random numbers on the host are those of jax, bit for bit."""

import jax
import numpy as np
import pytest

from uq import _threefry


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 0)])
@pytest.mark.parametrize("seed", [0, 1, 2**31 + 5])
def test_uniform_numbers_are_those_of_jax(seed, shape):
    key = jax.random.fold_in(jax.random.key(seed % 2**31), seed // 7)
    found = _threefry.uniform(key, shape)
    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, np.asarray(jax.random.uniform(key, shape)))


def test_a_split_key_is_that_of_jax():
    key = jax.random.key(12)
    for found, want in zip(_threefry.split(key), jax.random.split(key), strict=True):
        assert found.dtype == want.dtype and found.shape == want.shape
        np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(want))


def test_other_generators_and_precisions_are_left_to_jax():
    key = jax.random.key(3, impl="rbg")
    np.testing.assert_array_equal(_threefry.uniform(key, (4,)), np.asarray(jax.random.uniform(key, (4,))))
    for found, want in zip(_threefry.split(key), jax.random.split(key), strict=True):
        np.testing.assert_array_equal(jax.random.key_data(found), jax.random.key_data(want))
    with jax.enable_x64(True):
        found = _threefry.uniform(jax.random.key(3), (4,))
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, np.asarray(jax.random.uniform(jax.random.key(3), (4,))))


def test_under_jit_a_key_has_no_value():
    def first(key):
        return _threefry.split(key)[0]

    found = jax.jit(first)(jax.random.key(1))
    np.testing.assert_array_equal(
        jax.random.key_data(found), jax.random.key_data(jax.random.split(jax.random.key(1))[0])
    )
