"""Places among knots, and regression calibration by quantiles in place of distribution functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from uq.metrics import regression
from uq.metrics._knots import _table, place

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    "knots",
    [
        np.sort(RNG.normal(size=50)),
        stats.norm.ppf(np.arange(1, 200) / 200),
        1e6 + np.array([0.0, 1.0, 2.0, 7.0]),
        np.array([-1.0, 0.5]),
        np.array([1.0, 1.0 + 1e-6, 2.0, 3.0, 1e3]),
    ],
)
def test_places_are_those_of_a_binary_search(knots, dtype):
    rounded = knots.astype(dtype)
    near = [np.nextafter(rounded, dtype(side * np.inf)) for side in (-1, 1)]
    spread = RNG.uniform(rounded[0] - 1, rounded[-1] + 1, 2000).astype(dtype)
    values = np.concatenate([rounded, *near, spread, np.array([np.inf, -np.inf], dtype)])
    values = values[abs(values) > 1e-30]  # XLA takes the smallest numbers for 0
    expected = np.searchsorted(rounded, values, side="right")
    table = tuple(knots.tolist())
    np.testing.assert_array_equal(place(np, table, values), expected)
    if dtype == np.float32:
        found = jax.jit(lambda each: place(jnp, table, each))(jnp.asarray(values))
        np.testing.assert_array_equal(found, expected)


def test_long_tables_are_not_made():
    assert _table((0.0, 1e-9, 1.0, 2.0), "float64") is None
    assert _table((0.0, 1.0, 2.0, 3.0), "float64") is not None


@pytest.mark.parametrize("kind", ["quantile", "interval"])
@pytest.mark.parametrize("family", [stats.norm, stats.laplace, stats.logistic, stats.gumbel_r, stats.cauchy])
def test_quantiles_and_distribution_functions_agree(family, kind, monkeypatch):
    loc, scale = 5 + RNG.normal(size=400), 0.3 + RNG.random(400)
    y = loc + 1.3 * scale * RNG.standard_normal(400)
    y[:5] = loc[:5]  # on the median
    settings = [
        {"levels": levels, "kind": kind, "weight": weight, "norm": "l2"}
        for levels in (99, np.linspace(0, 1, 100), [0.1, 0.5, 0.7])
        for weight in (None, RNG.integers(0, 3, 400).astype(float))
    ]
    pred = family(loc, scale)
    fast = [regression.regression_calibration_error(pred, y, **each) for each in settings]
    monkeypatch.setattr(regression, "_placed_by_quantiles", lambda *_: None)
    slow = [regression.regression_calibration_error(pred, y, **each) for each in settings]
    for a, b in zip(fast, slow, strict=True):
        assert float(a) == pytest.approx(float(b), abs=1e-14)
        assert a.stderr == pytest.approx(b.stderr, abs=1e-14)
