"""The contract of every metric, over one table: what a metric of `uq.metrics` promises, whatever it measures."""

import functools
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special

import uq
from uq import metrics
from uq.metrics import Estimate

SIZE = 60


@functools.cache
def data(kind, seed=0):
    """Predictions and outcomes of one kind, in float64: shifted, scaled, imbalanced, tied."""
    rng = np.random.default_rng(seed)
    if kind == "classes":
        probs = special.softmax(1.5 * rng.normal(size=(SIZE, 3)), -1)
        probs[1::2] = probs[::2]  # ties
        return probs, (probs.cumsum(1) < rng.uniform(size=(SIZE, 1))).sum(1).clip(0, 2)
    if kind == "binary":
        p = np.round(rng.uniform(0.05, 0.95, SIZE), 1)
        return p, (rng.uniform(size=SIZE) < p).astype(int)
    if kind == "scores":
        labels = (rng.uniform(size=SIZE) < 0.3).astype(int)
        return np.round(100 + 5 * rng.normal(size=SIZE) + 6 * labels), labels
    if kind == "normal":
        loc, scale = 300 + 40 * rng.normal(size=SIZE), 20 * rng.uniform(0.5, 2, SIZE)
        return (loc, scale), loc + 1.2 * scale * rng.normal(size=SIZE)
    if kind == "draws":
        centre = 300 + 40 * rng.normal(size=SIZE)
        return centre + 20 * rng.normal(size=(6, SIZE)), centre + 20 * rng.normal(size=SIZE)
    if kind == "quantiles":
        draws, y = data("draws", seed)
        return np.sort(draws, 0), y
    if kind == "vectors":
        centre = 300 + 40 * rng.normal(size=(SIZE, 2))
        return centre + 20 * rng.normal(size=(6, SIZE, 2)), centre + 20 * rng.normal(size=(SIZE, 2))
    if kind == "points":
        y = 300 + 40 * rng.normal(size=SIZE)
        return y + 5 * rng.normal(size=SIZE), y
    if kind == "ends":
        y = 300 + 40 * rng.normal(size=SIZE)
        low = y - 30 + 25 * rng.normal(size=SIZE)
        return (low, low + 60), y
    if kind == "members":
        return special.softmax(1.5 * rng.normal(size=(4, SIZE, 3)), -1), rng.integers(0, 3, SIZE)
    raise KeyError(kind)


def row(function, what, /, *, smooth=True, **settings):
    """One line of the table. `smooth`: whether a gradient in the predictions makes sense."""
    return pytest.param(
        functools.partial(function, **settings),
        what,
        smooth,
        id="-".join([function.__name__, what, *(str(v) for v in settings.values())]),
    )


SCORES = [
    row(metrics.log_score, "classes"),
    row(metrics.log_score, "normal"),
    row(metrics.brier_score, "classes"),
    row(metrics.brier_score, "binary"),
    row(metrics.spherical_score, "classes"),
    row(metrics.zero_one_score, "classes", smooth=False),
    row(metrics.ranked_probability_score, "classes"),
    row(metrics.crps, "normal"),
    row(metrics.crps, "draws"),
    row(metrics.crps_ensemble, "draws", estimator="fair"),
    row(metrics.threshold_weighted_crps, "draws", lower=310.0),
    row(metrics.quantile_score, "normal", level=0.8),
    row(metrics.interval_score, "normal", level=0.8),
    row(metrics.weighted_interval_score, "normal"),
    row(metrics.dawid_sebastiani, "normal"),
    row(metrics.squared_error, "points"),
    row(metrics.absolute_error, "points"),
    row(metrics.error_spread_score, "draws"),
    row(metrics.crps_quantile, "quantiles", level=(0.05, 0.2, 0.4, 0.6, 0.8, 0.95)),
    row(metrics.interval_width, "normal", level=0.8),
    row(metrics.interval_width, "ends"),
    row(metrics.energy_score, "vectors"),
    row(metrics.variogram_score, "vectors"),
]

SUMMARIES = [
    *(
        row(metrics.calibration_error, "classes", kind=kind, norm=norm, binning=binning, smooth=False)
        for kind, norm, binning in (
            ("confidence", "l1", "width"),
            ("confidence", "max", "mass"),
            ("classwise", "l2", "width"),
            ("top-label", "l1", "mass"),
        )
    ),
    row(metrics.calibration_error, "binary", kind="binary", smooth=False),
    row(metrics.smooth_calibration_error, "binary", smooth=False),
    row(metrics.kernel_calibration_error, "classes"),
    row(metrics.accuracy, "classes", smooth=False),
    row(metrics.rmse, "points"),
    row(metrics.rmse, "normal"),
    row(metrics.coverage, "normal", level=0.8, smooth=False),
    row(metrics.coverage, "ends", smooth=False),
    row(metrics.regression_calibration_error, "normal", smooth=False),
    row(metrics.miscalibration_area, "normal"),
    row(metrics.ence, "normal"),
    row(metrics.uce, "normal"),
    row(metrics.mae, "points"),
    row(metrics.sharpness, "normal"),
    row(metrics.dispersion, "normal"),
    row(metrics.spread_skill, "normal"),
    row(metrics.sparsification_error, "classes", smooth=False),
    row(metrics.auroc, "scores", smooth=False),
    row(metrics.average_precision, "scores", smooth=False),
    row(metrics.fpr_at_tpr, "scores", smooth=False),
    row(metrics.aurc, "classes", smooth=False),
    row(metrics.eaurc, "classes", smooth=False),
    row(metrics.augrc, "classes", smooth=False),
    row(metrics.risk_at_coverage, "classes", coverage=0.7, smooth=False),
    row(metrics.coverage_at_risk, "classes", risk=0.4, smooth=False),
    row(metrics.calibration_in_the_large, "binary"),
    row(metrics.anees, "vectors"),
    row(metrics.mutual_information, "members"),
    row(metrics.disagreement, "members", smooth=False),
    row(metrics.pairwise_kl, "members"),
]

WITHOUT_OUTCOMES = (
    metrics.mutual_information,
    metrics.disagreement,
    metrics.pairwise_kl,
    metrics.sharpness,
    metrics.dispersion,
    metrics.interval_width,
)


IN_THE_MIDDLE = ("draws", "quantiles", "vectors", "members")
"""Kinds whose examples are on the second axis."""


def given(kind, pred, like=np.asarray):
    """The predictions as the metric takes them."""
    if kind == "normal":
        return dist.Normal(*(like(part) for part in pred), validate_args=False)
    return tuple(like(part) for part in pred) if kind == "ends" else like(pred)


def taken(kind, pred, rows):
    axis = 1 if kind in IN_THE_MIDDLE else 0
    return jax.tree.map(lambda part: np.take(part, rows, axis=axis), pred)


def call(metric, kind, pred, y, like=np.asarray, **more):
    outcomes = () if metric.func in WITHOUT_OUTCOMES else (like(y),)
    return metric(given(kind, pred, like), *outcomes, **more)


def number(found):
    return np.asarray(found.value if isinstance(found, Estimate) else found, np.float64)


def single(array):
    """A jax array in float32 or int32."""
    array = np.asarray(array)
    return jnp.asarray(array, jnp.float32 if array.dtype.kind == "f" else jnp.int32)


@pytest.mark.parametrize(("metric", "kind", "smooth"), SCORES + SUMMARIES)
def test_jit_agrees_and_the_second_call_does_not_recompile(metric, kind, smooth):
    pred, y = data(kind)
    traced = []

    @jax.jit
    def run(pred, y):
        traced.append(1)
        found = call(metric, kind, pred, y, lambda part: part)
        return found.value if isinstance(found, Estimate) else found

    p, t = jax.tree.map(single, pred), single(y)
    got = run(p, t)
    run(p, t)
    assert len(traced) == 1
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(got), number(call(metric, kind, pred, y)), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(("metric", "kind", "smooth"), SCORES + SUMMARIES)
def test_pure_and_of_the_dtype_that_came(metric, kind, smooth):
    pred, y = data(kind)
    before = jax.tree.map(np.copy, (pred, y))
    first = call(metric, kind, pred, y)
    second = call(metric, kind, pred, y)
    np.testing.assert_array_equal(number(first), number(second))
    for left, right in zip(jax.tree.leaves(before), jax.tree.leaves((pred, y)), strict=True):
        np.testing.assert_array_equal(left, right)
    if not isinstance(first, Estimate):
        assert isinstance(first, np.ndarray) and first.dtype == np.float64
        half = jax.tree.map(lambda part: part.astype(np.float32) if part.dtype.kind == "f" else part, (pred, y))
        assert call(metric, kind, *half).dtype == np.float32
        assert isinstance(call(metric, kind, pred, y, single), jax.Array)


@pytest.mark.parametrize(("metric", "kind", "smooth"), SCORES + SUMMARIES)
def test_the_order_of_examples_does_not_matter(metric, kind, smooth):
    pred, y = data(kind)
    found = call(metric, kind, pred, y)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(SIZE)
        again = call(metric, kind, taken(kind, pred, order), y[order])
        want = number(found) if isinstance(found, Estimate) else number(found)[order]
        np.testing.assert_allclose(number(again), want, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize(("metric", "kind", "smooth"), SUMMARIES)
def test_integer_weights_are_repeated_rows_and_zero_is_inert(metric, kind, smooth):
    pred, y = data(kind)
    weight = np.random.default_rng(0).integers(0, 3, SIZE)
    rows = np.repeat(np.arange(SIZE), weight)
    want = call(metric, kind, taken(kind, pred, rows), y[rows])
    ruined = jax.tree.map(np.copy, pred)
    if kind != "normal":  # the parameters of a distribution must be valid
        for part in jax.tree.leaves(ruined):
            part[(slice(None), weight == 0) if kind in IN_THE_MIDDLE else weight == 0] = np.nan
    outcomes = y.astype(float)
    outcomes[weight == 0] = np.nan
    if kind == "members":
        ruined = pred
    got = call(metric, kind, ruined, outcomes, weight=weight.astype(float))
    np.testing.assert_allclose(number(got), number(want), rtol=1e-9, atol=1e-12)
    assert int(got.count) == (weight > 0).sum()


@pytest.mark.parametrize(("metric", "kind", "smooth"), [row for row in SCORES + SUMMARIES if row.values[2]])
def test_gradients_are_finite(metric, kind, smooth):
    pred, y = data(kind)

    def total(pred):
        found = call(metric, kind, pred, single(y), lambda part: part)
        return (found.value if isinstance(found, Estimate) else found).sum()

    leaves = jax.tree.leaves(jax.grad(total)(jax.tree.map(single, pred)))
    assert all(np.isfinite(leaf).all() for leaf in leaves)
    assert any(np.abs(leaf).max() > 0 for leaf in leaves)


@pytest.mark.parametrize(("metric", "kind", "smooth"), SUMMARIES)
def test_summaries_are_estimates(metric, kind, smooth):
    pred, y = data(kind)
    found = call(metric, kind, pred, y)
    assert isinstance(found, Estimate)
    assert float(found) == float(found.value) and found.estimand and int(found.count) == SIZE
    assert found.interval is None and found.null is None
    assert found.stderr is None or float(found.stderr) >= 0
    round_trip = jax.tree.map(lambda leaf: leaf, found)
    assert float(round_trip) == float(found) and round_trip.estimand == found.estimand


BOOTSTRAPPED = (
    "accuracy",
    "rmse",
    "auroc",
    "aurc",
    "calibration_error",
    "regression_calibration_error",
    "disagreement",
)
"""Summaries whose resampling is tried in every run; the others' in the slow ones, as each compiles for seconds."""


@pytest.mark.parametrize(
    ("metric", "kind", "smooth"),
    [
        param
        if param.id.split("-")[0] in BOOTSTRAPPED
        else pytest.param(*param.values, marks=pytest.mark.slow, id=param.id)
        for param in SUMMARIES
    ],
)
def test_a_key_adds_an_interval(metric, kind, smooth):
    pred, y = data(kind)
    plain = call(metric, kind, pred, y)
    found = call(metric, kind, pred, y, key=metrics.Resample(0, num=50))
    assert float(found) == float(plain)
    assert found.interval.lower <= found.interval.upper
    assert found.stderr is not None and float(found.stderr) >= 0
    again = call(metric, kind, pred, y, key=metrics.Resample(0, num=50))
    assert again.interval == found.interval


@pytest.mark.parametrize(("metric", "kind", "smooth"), SCORES + SUMMARIES)
def test_lengths_that_differ_and_columns_are_refused_or_understood(metric, kind, smooth):
    pred, y = data(kind)
    if metric.func in WITHOUT_OUTCOMES:
        return
    with pytest.raises(uq.InputError):
        call(metric, kind, pred, y[:-1])
    if y.ndim == 1:  # a column is the same outcomes or an error, never a broadcast to (N, N)
        try:
            found = call(metric, kind, pred, y[:, None])
        except uq.InputError:
            return
        assert number(found).shape == number(call(metric, kind, pred, y)).shape
        np.testing.assert_allclose(number(found), number(call(metric, kind, pred, y)), rtol=1e-12)


PUBLIC = sorted(
    name
    for name, value in vars(metrics).items()
    if inspect.isfunction(value) and value.__module__.startswith("uq.metrics") and not name.startswith("_")
)


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_say_what_they_promise(name):
    said = inspect.getdoc(getattr(metrics, name))
    for part in ("Args:", "Returns:", "Raises:", "References:", "hecked", "Example:"):
        assert part in said, part
    assert "(N" in said or "as for `" in said or "as in `" in said or "(M, …)" in said, "shapes"
    for parameter in inspect.signature(getattr(metrics, name)).parameters:
        assert re.search(rf"\b{parameter}\b", said), parameter


def test_the_table_holds_every_metric():
    """A metric that is added is held to the contract, or named here with what it is."""
    tested = {param.values[0].func.__name__ for param in SCORES + SUMMARIES}
    public = set(PUBLIC)
    elsewhere = public - tested
    assert tested <= public
    assert elsewhere == ELSEWHERE, sorted(elsewhere ^ ELSEWHERE)


ELSEWHERE = {
    "mahalanobis", "multivariate_coverage", "multivariate_pit",
    "brier_decomposition", "score_decomposition", "ensemble_decomposition", "uncertainty_decomposition",
    "joint_log_score", "size_extrapolation", "compare", "worst_group_calibration",
    "spiegelhalter_test", "cumulative_calibration_test", "hosmer_lemeshow_test",
    "logistic_recalibration", "kernel_calibration_test", "pit", "pit_test", "pit_histogram", "coverage_test",
    "coverage_by_spread", "quantile_calibration", "spread_curve", "reliability_curve", "risk_coverage", "roc_curve",
    "precision_recall_curve", "mean",
}  # fmt: skip
"""Curves, tests, tables and decompositions, which have suites of their own under tests/metrics."""
