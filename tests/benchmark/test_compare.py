import numpy as np
import pytest

from uq import InputError
from uq.benchmark.compare import paired, suite_tables


def record(task, method, kind, scores, **metrics):
    return {
        "task": task,
        "method": method,
        "label": method,
        "kind": kind,
        "log_scores": list(scores),
        "metrics": {name: {"value": value, "stderr": 0.1} for name, value in metrics.items()},
        "cost": {"fit_seconds": 2.0, "predict_us_per_row": 7.0},
        "parameters": 12,
    }


def test_paired_is_the_t_statistics_standard_error():
    from scipy.stats import ttest_rel

    stream = np.random.default_rng(0)
    common = stream.normal(100, 20, 40)
    a, b = common + stream.normal(size=40), common + 0.5 + stream.normal(size=40)
    mean, error = paired(a, b)
    assert mean / error == pytest.approx(ttest_rel(a, b).statistic, rel=1e-10)
    assert paired([3.0], [1.0]) == (2.0, None)
    with pytest.raises(InputError, match=r"\(2,\) and \(3,\)"):
        paired([1.0, 2.0], [1.0, 2.0, 3.0])


def test_tables_hold_cost_beside_quality_and_the_difference_to_the_single_network():
    metrics = {"log_score": 5.0, "rmse": 50.0, "coverage": 0.9, "interval_width": 160.0}
    records = [
        record("d", "map_estimate", "regression", [5.0, 6.0, 7.0], **metrics),
        record("d", "deep_ensemble", "regression", [4.0, 5.5, 6.5], **metrics),
        record("w", "deep_ensemble", "binary", [1.0, None], log_score=None, accuracy=1.0, calibration_error=0.1),
    ]
    regression, classes = suite_tables(records)
    assert regression["d", "deep_ensemble", "vs single"] == pytest.approx(-2 / 3)
    assert regression["d", "deep_ensemble", "rmse"] == 50.0
    assert regression["d", "deep_ensemble", "fit s"] == 2.0 and regression["d", "map_estimate", "parameters"] == 12
    row = next(iter(classes))
    assert row["nll"] is None and row["vs single"] is None and row["accuracy"] == (1.0, 0.1)
    assert "d " in str(regression) and "w " in str(classes)


def test_the_numbers_of_a_column_have_the_same_decimals_and_certain_shares_no_error():
    records = [
        record("w", name, "multiclass", [1.0, 2.0], log_score=v, accuracy=a, calibration_error=0.1)
        for name, v, a in (("map_estimate", 0.0612, 1.0), ("deep_ensemble", 12.5, 0.9))
    ]
    records[0]["metrics"]["accuracy"]["stderr"] = 0.0
    records[1]["metrics"]["log_score"]["stderr"] = 0.034
    (table,) = suite_tables(records)
    assert [row[2] for row in table.cells()] == ["0.06 ± 0.10", "12.50 ± 0.03"]
    assert [row[4] for row in table.cells()] == ["1.00", "0.90 ± 0.10"]
    assert any("exactly 0 or 1" in note for note in table.notes)
