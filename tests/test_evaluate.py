"""`uq.evaluate` against numpy, and the table it returns."""

import json
import pickle

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import uq
from uq import Table
from uq.table import column_places, decimals, format_cell


def regression(num_outputs=1, size=50):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(3, size, 2 * num_outputs)).astype(np.float32)
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(num_outputs), -300.0, 250.0)
    y = -300.0 + 300.0 * rng.normal(size=(size, num_outputs))
    return uq.Predictive(jnp.asarray(outputs), likelihood), y[:, 0] if num_outputs == 1 else y


def stderr(values):
    return stats.sem(np.asarray(values, np.float64))


def test_regression():
    pred, y = regression()
    table = uq.evaluate(pred, y, level=0.8, key=None)
    assert [row["metric"] for row in table] == [
        "log_score",
        "crps",
        "rmse",
        "coverage",
        "interval_width",
        "regression_calibration_error",
        "epistemic_share",
    ]
    scores = {
        "log_score": -pred.log_prob(y),
        "crps": pred.crps(y),
        "interval_width": pred.width(0.8),
        "epistemic_share": pred.epistemic / pred.variance,
    }
    for name, values in scores.items():
        assert table[name] == pytest.approx(float(np.mean(values)), rel=1e-5)
        assert table[name, "stderr"] == pytest.approx(stderr(values), rel=1e-4)
    lower, upper = pred.interval(0.8)
    inside = (np.asarray(lower) <= y) & (y <= np.asarray(upper))
    assert table["coverage"] == pytest.approx(inside.mean())
    assert table["coverage", "stderr"] == pytest.approx(stderr(inside), rel=1e-6)
    assert table["regression_calibration_error", "stderr"] > 0
    assert table["crps", "lower"] is None and table["regression_calibration_error", "calibrated"] is None
    assert {row["count"] for row in table} == {50}
    text = str(table)
    assert "coverage → 0.8" in text and "crps ↓" in text and "epistemic_share  " in text


def test_standard_error_of_the_rmse_is_that_of_resampling():
    pred, y = regression(size=400)
    table = uq.evaluate(pred, y, key=None)
    squares = np.asarray(pred.residual(y), np.float64) ** 2
    assert table["rmse"] == pytest.approx(np.sqrt(squares.mean()), rel=1e-6)
    draws = np.random.default_rng(1).integers(0, 400, size=(2000, 400))
    assert table["rmse", "stderr"] == pytest.approx(np.sqrt(squares[draws].mean(1)).std(), rel=0.1)


def test_several_outputs_are_averaged():
    pred, y = regression(num_outputs=2)
    table = uq.evaluate(pred, y, key=None)
    assert table["crps"] == pytest.approx(float(np.mean(pred.crps(y))), rel=1e-5)
    assert table["crps", "stderr"] == pytest.approx(stderr(np.mean(pred.crps(y), 1)), rel=1e-4)
    assert table["log_score"] == pytest.approx(-float(np.mean(pred.log_prob(y))), rel=1e-5)
    assert table["crps", "count"] == 50


@pytest.mark.parametrize("num_classes", [2, 3])
def test_classes(num_classes):
    rng = np.random.default_rng(0)
    binary = num_classes == 2
    logits = rng.normal(size=(4, 60, 1 if binary else 3)).astype(np.float32)
    likelihood = uq.likelihoods.Bernoulli() if binary else uq.likelihoods.Categorical(3)
    pred = uq.Predictive(jnp.asarray(logits), likelihood)
    y = rng.integers(0, num_classes, 60)
    full = np.concatenate([np.zeros_like(logits), logits], -1) if binary else logits
    members = special.softmax(full.astype(np.float64), -1)
    probs = members.mean(0)
    table = uq.evaluate(pred, y, key=None)
    want = {
        "log_score": -np.log(probs[np.arange(60), y]),
        "brier_score": (probs[:, 1] - y) ** 2 if binary else ((probs - np.eye(3)[y]) ** 2).sum(1),
        "accuracy": probs.argmax(1) == y,
        "entropy": stats.entropy(probs, axis=1),
        "mutual_information": stats.entropy(probs, axis=1) - stats.entropy(members, axis=2).mean(0),
    }
    for name, values in want.items():
        assert table[name] == pytest.approx(values.mean(), rel=1e-4)
        assert table[name, "stderr"] == pytest.approx(stderr(values), rel=1e-3)
    assert table["calibration_error"] == pytest.approx(float(uq.metrics.calibration_error(pred, y)), rel=1e-5)
    assert ("auroc" in table) == binary

    plain = uq.evaluate(probs, y, key=None)
    assert "mutual_information" not in plain
    for name in ("log_score", "brier_score", "accuracy", "calibration_error", "entropy"):
        assert plain[name] == pytest.approx(table[name], rel=1e-4)


def test_one_example_and_certainty_that_is_wrong():
    table = uq.evaluate([[0.0, 1.0]], [0])
    assert table["log_score"] == np.inf and table["brier_score"] == 1
    for row in table:
        assert row["lower"] is None and row["stderr"] is None  # one example has no spread
    assert str(table["entropy"]) == "0.0"
    table = uq.evaluate([[0.0, 1.0], [0.5, 0.5]], [0, 0])
    assert table["log_score"] == np.inf and table["log_score", "upper"] is None and table["brier_score", "upper"] == 1


def test_intervals_and_what_a_calibrated_model_would_score():
    rng = np.random.default_rng(0)
    probs = special.softmax(2 * rng.normal(size=(150, 2)), -1)
    y = (rng.uniform(size=150) < probs[:, 1]).astype(int)
    table = uq.evaluate(probs, y, key=uq.metrics.Resample(0, num=200))
    for row in table:
        assert row["lower"] < row["upper"], row  # the intervals of biased estimates need not hold the estimate
        if "calibration" not in row["metric"]:
            assert row["lower"] <= row["value"] <= row["upper"], row
            assert row["upper"] - row["lower"] == pytest.approx(4 * row["stderr"], rel=0.3), row
    assert 0.02 < table["calibration_error", "calibrated"] < 0.15
    assert table["log_score", "calibrated"] is None
    assert str(table) == str(uq.evaluate(probs, y, key=uq.metrics.Resample(0, num=200)))


def test_draws_and_distributions():
    rng = np.random.default_rng(0)
    loc, y = 300 + 40 * rng.normal(size=80), 300 + 45 * rng.normal(size=80)
    frozen = uq.evaluate(stats.norm(loc, 20.0), y, key=None)
    other = uq.evaluate(dist.Normal(loc, 20.0), y, key=None)
    draws = uq.evaluate(stats.norm(loc, 20.0).ppf((np.arange(400)[:, None] + 0.5) / 400), y, key=None)
    assert "log_score" not in draws
    for row in frozen:
        assert other[row["metric"]] == pytest.approx(row["value"], rel=1e-9)
        if row["metric"] != "log_score":
            some = 0.05 if row["metric"] == "coverage" else 0.0  # a few of 80 rows lie between the two ends
            assert draws[row["metric"]] == pytest.approx(row["value"], rel=0.02, abs=some)


def test_masked_rows_are_left_out():
    rng = np.random.default_rng(0)
    probs = special.softmax(2 * rng.normal(size=(60, 3)), -1)
    y, weight = rng.integers(0, 3, 60).astype(float), np.ones(60)
    want = uq.evaluate(probs[:50], y[:50], key=None)
    probs[50:], y[50:], weight[50:] = np.nan, np.nan, 0
    got = uq.evaluate(probs, y, weight=weight, key=None)
    for row in want:
        assert got[row["metric"]] == pytest.approx(row["value"], rel=1e-12)
        assert got[row["metric"], "count"] == 50


def test_one_example_has_no_standard_error():
    table = uq.evaluate(np.array([[0.2, 0.8]]), [1], key=None)
    assert table["accuracy"] == 1.0 and table["accuracy", "stderr"] is None
    pred, y = regression()
    assert uq.evaluate(pred[0], y[:1], key=None)["rmse", "stderr"] is None


def test_wrong_inputs_get_a_sentence():
    pred, y = regression()
    with pytest.raises(uq.InputError, match="one entry for each of the 50 examples"):
        uq.evaluate(pred, y[:-1])
    with pytest.raises(uq.InputError, match=r"0\.9 means 90 %"):
        uq.evaluate(pred, y, level=90)
    with pytest.raises(uq.InputError, match=r"0\.9 means 90 %"):
        uq.evaluate([0.2, 0.7], [0, 1], level=95)  # also where there are no intervals
    with pytest.raises(uq.InputError, match="rectangular array"):
        uq.evaluate([[0.5, 0.5], [1.0]], [0.0, 1.0])
    with pytest.raises(uq.InputError, match=r"got a pair: of intervals \(lower, upper\) use `metrics.coverage`"):
        uq.evaluate(([0.0, 1.0], [1.0, 2.0]), [0.5, 0.5])
    with pytest.raises(uq.InputError, match="labels 0 to 1, but row 0 of `y` is 2"):
        uq.evaluate([0.5], [2])
    with pytest.raises(uq.InputError, match="expected a Predictive or an array, but got Gaussian"):
        uq.evaluate(uq.likelihoods.Gaussian(), y)


# The table

RESULTS = Table(
    ("method", "data set", "nll", "accuracy", "seconds", "parameters"),
    (
        ("deep_ensemble", "wine <red>", (0.93123, 0.0124), 0.98765, 12.3456, 12345678),
        ("map", "wine <red>", (-12.5, None), 1.0, 0.00001234, 3),
        ("map", "digits", None, float("nan"), 123456.7, 3),
    ),
    labels=2,
    better={"nll": "lower", "accuracy": "higher"},
    title="First results",
    notes=("± is one standard error.",),
)


def test_prints_in_a_terminal():
    assert str(RESULTS).splitlines() == [
        "First results",
        "method         data set            nll ↓  accuracy ↑    seconds  parameters",
        "───────────────────────────────────────────────────────────────────────────",
        "deep_ensemble  wine <red>  0.931 ± 0.012      0.9877      12.35    12345678",
        "map            wine <red>         -12.50       1.000  1.234e-05           3",
        "map            digits                  –         nan     123457           3",
        "± is one standard error.",
    ]
    assert repr(RESULTS) == str(RESULTS)


def test_columns_that_do_not_fit_follow_below():
    assert RESULTS.to_text(75) == RESULTS.to_text(None) == str(RESULTS)
    assert RESULTS.to_text(74, apart=("seconds",)).splitlines() == [
        "First results",
        "method         data set            nll ↓  accuracy ↑",
        "────────────────────────────────────────────────────",
        "deep_ensemble  wine <red>  0.931 ± 0.012      0.9877",
        "map            wine <red>         -12.50       1.000",
        "map            digits                  –         nan",
        "",
        "method         data set      seconds  parameters",
        "────────────────────────────────────────────────",
        "deep_ensemble  wine <red>      12.35    12345678",
        "map            wine <red>  1.234e-05           3",
        "map            digits         123457           3",
        "± is one standard error.",
    ]
    for width in (20, 40, 60):
        lines = RESULTS.to_text(width).splitlines()
        assert sum(line.startswith("method ") for line in lines) == {20: 4, 40: 4, 60: 2}[width]
        assert width == 20 or max(map(len, lines)) <= width


def test_decimals_of_a_column():
    table = Table(("a", "b", "c"), (("x", 1.0, 2.345), ("y", 12.345, (0.5, 0.25))), places={"b": 1, "c": (2, None)})
    assert table.cells() == [["x", "1.0", "2.35"], ["y", "12.3", "0.50 ± 0.25"]]
    assert [decimals(error) for error in (0.0996, 0.034, 3.4, 340.0, 0.0, None)] == [2, 3, 1, 0, None, None]
    assert column_places([(1.0, 0.034), (2.0, 0.05), (3.0, 0.2)]) == 3
    assert column_places([1.234, 22.5, None, 300.0]) == 1 and column_places([3, "text", None]) is None


def test_prints_in_a_notebook():
    page = RESULTS._repr_html_()
    assert page.startswith("<table><caption>First results</caption>")
    assert "wine &lt;red&gt;" in page and "<red>" not in page
    assert page.count("<tr>") == 4 and "accuracy ↑</th>" in page


def test_is_read_like_a_dictionary():
    assert RESULTS["deep_ensemble", "wine <red>"] == 0.93123
    assert RESULTS["deep_ensemble", "wine <red>", "accuracy"] == 0.98765
    assert RESULTS["map", "digits", "parameters"] == 3
    assert ("map", "digits") in RESULTS and ("map", "iris") not in RESULTS
    assert RESULTS.column("parameters") == (12345678, 3, 3)
    assert len(RESULTS) == 3
    assert [row["data set"] for row in RESULTS] == ["wine <red>", "wine <red>", "digits"]
    nested = RESULTS.to_dict()
    assert nested["map"]["digits"]["seconds"] == 123456.7
    assert json.loads(json.dumps(nested))["deep_ensemble"]["wine <red>"]["nll"] == [0.93123, 0.0124]
    assert str(pickle.loads(pickle.dumps(RESULTS))) == str(RESULTS)
    with pytest.raises(AttributeError):
        RESULTS.rows = ()


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (0.0, "0"),
        (1.0, "1.000"),
        (9.99996, "10.00"),
        (-0.000123456, "-0.0001235"),
        (1234.56, "1235"),
        (1e8, "1.000e+08"),
        (float("inf"), "inf"),
        (7, "7"),
        (np.int64(7), "7"),
        (np.float32(0.5), "0.5000"),
        (True, "yes"),
        (None, "–"),
        ("text", "text"),
        ((1.0, 0.25), "1.00 ± 0.25"),
    ],
)
def test_cells(cell, text):
    assert format_cell(cell) == text


def test_tables_that_do_not_fit_get_a_sentence():
    with pytest.raises(uq.InputError, match="Row 0 expected 2 cells"):
        Table(("a", "b"), ((1,),))
    with pytest.raises(uq.InputError, match="different names"):
        Table(("a", "a"), ())
    with pytest.raises(uq.InputError, match='expected "lower", "higher" or a number'):
        Table(("a", "b"), (), better={"b": "up"})
    with pytest.raises(uq.InputError, match="did you mean 'map / digits'"):
        RESULTS["map", "digit"]
    with pytest.raises(uq.InputError, match=r"no column 'accurracy'.* did you mean 'accuracy'"):
        RESULTS["map", "digits", "accurracy"]
    with pytest.raises(uq.InputError, match="looked up by method, data set"):
        RESULTS["map"]


def test_predictions_without_a_variance():
    """Where a variance overflows there is no share of it that members disagree on: the rest stays."""
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), uq.likelihoods.Log())
    outputs = jnp.zeros((2, 3, 2)).at[0, 0].set(jnp.array([60.0, 0.5])).at[1, 0].set(jnp.array([50.0, 0.5]))
    table = uq.evaluate(uq.Predictive(outputs, likelihood), np.ones(3), key=None)
    names = [row[0] for row in table.rows]
    assert "epistemic_share" not in names
    assert "coverage" in names


def test_several_labels_are_evaluated_one_by_one():
    pred = uq.Predictive(jnp.zeros((2, 3, 2)), uq.likelihoods.Multilabel(2))
    with pytest.raises(uq.InputError, match=r"2 labels that do not exclude each other.*one by one"):
        uq.evaluate(pred, np.zeros((3, 2), int))


@pytest.mark.parametrize("classes", [False, True])
def test_rows_of_weight_0_may_hold_anything(classes):
    pred, y = regression()
    if classes:
        pred = uq.Predictive(pred.outputs, uq.likelihoods.Categorical(2))
        y = (np.arange(len(pred)) % 3 == 0).astype(int)
    weight = (np.arange(len(pred)) % 4).astype(float)
    broken = uq.Predictive(jnp.where(weight[:, None] > 0, pred.outputs, jnp.nan), pred.likelihood)
    assert uq.evaluate(broken, y, weight=weight) == uq.evaluate(pred, y, weight=weight)
