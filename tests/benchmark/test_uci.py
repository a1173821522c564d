import json
import re

import numpy as np
import pytest
from scipy.stats import norm

import uq
from tests.data.test_tabular import write
from uq.benchmark import Store, UCISuite, run_uci, uci_recipe, uci_tables, write_uci
from uq.benchmark.uci import DEEP_ENSEMBLES, MC_DROPOUT, hidden_units, moment_matched_nll, summary
from uq.table import format_cell


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Two splits of a set with a constant feature, in a store; K = 2, three epochs."""
    folder = tmp_path_factory.mktemp("uci")
    x = np.random.default_rng(1).normal(50.0, 4.0, (60, 3))
    x[:, 1] = 7.0
    write(folder, "yacht", rows=60, X=x, y=1000 + 25 * x[:, 0])
    suite = UCISuite(folder, ("yacht",), splits=2, size=2, epochs=3)
    store, said = Store(folder / "out", "results.jsonl"), []
    outcome = run_uci(suite, store, say=said.append, progress=False)
    return suite, store, outcome, said


def test_a_line_for_each_split_with_all_that_it_depends_on(ran):
    _, store, outcome, said = ran
    lines = [json.loads(line) for line in store.path.read_text().splitlines()]
    assert lines == outcome.records and [line["split"] for line in lines] == [0, 1]
    assert set(lines[0]["metrics"]) == {"nll", "nll_moment_matched", "rmse", "crps", "coverage"}
    assert lines[0]["configuration"]["recipe"]["epochs"] == 3 and lines[0]["versions"]["jax"]
    assert lines[0]["configuration"]["optimizer"]["clip"] == 10.0
    assert lines[0]["warnings"] == []  # the constant feature is known
    assert any("over 2 splits" in line and "deep ensembles 2017" in line for line in said)


def test_only_the_first_split_compiles(ran):
    costs = [record["cost"]["compile_seconds"] for record in ran[2].records]
    assert costs[0] > 0 and costs[1] == 0


def test_another_run_continues_and_another_configuration_does_not(ran):
    suite, store, outcome, _ = ran
    said = []
    again = run_uci(suite, store, say=said.append, progress=False)
    assert again.skipped == 2 and again.records == outcome.records and "2 of 2 splits" in said[0]
    assert run_uci(suite._replace(splits=1, seed=1), store, say=said.append, progress=False).skipped == 0


def test_tables_are_means_over_splits_beside_the_published_ones(ran):
    records = ran[2].records
    nll, error, rest = uci_tables(records)
    values = [record["metrics"]["nll"] for record in records]
    assert nll["yacht"] == 2 and nll["yacht", "ours, mixture"] == pytest.approx(np.mean(values))
    assert next(iter(nll))["ours, mixture"][1] == pytest.approx(np.std(values, ddof=1) / np.sqrt(2))
    assert nll["yacht", "deep ensembles 2017"] == "1.18" and error["yacht", "deep ensembles 2017"] == "1.58"
    assert nll["yacht", "mixture ≤ 2017"] is False and rest["yacht", "seconds"] > 0
    digits = len(format_cell(next(iter(nll))["ours, mixture"]).partition(" ")[0].partition(".")[2])
    assert [len(row[3].partition(".")[2]) for row in nll.cells()] == [digits]
    assert [re.fullmatch(r"\d+\.\d", cell) is not None for cell in rest.cells()[0][4:]] == [True, True]
    text = write_uci(records, ran[1], command="uq bench uci --data-dir uci").read_text()
    assert "| yacht | 2 |" in text and "uq bench uci --data-dir uci" in text and "1.18 |" in text


def test_splits_that_are_all_alike_have_no_standard_error():
    records = [{"metrics": {"coverage": 1.0}}, {"metrics": {"coverage": 1.0}}]
    assert summary(records, "coverage") == (1.0, None, 1.0)
    assert summary(records[:1], "coverage") == (1.0, None, 1.0)


def test_moment_matching_against_scipy():
    import jax.numpy as jnp

    stream = np.random.default_rng(0)
    outputs = stream.normal(size=(3, 8, 2)).astype(np.float32)
    pred = uq.Predictive(jnp.asarray(outputs), uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 30.0, 5.0))
    y = stream.normal(30.0, 5.0, 8)
    mean, scale = 30 + 5 * outputs[..., 0], 5 * (np.log1p(np.exp(outputs[..., 1])) + 1e-3)
    variance = (scale**2).mean(0) + mean.var(0)
    want = -norm.logpdf(y, mean.mean(0), np.sqrt(variance)).mean()
    assert moment_matched_nll(pred, y) == pytest.approx(want, rel=1e-5)


def test_the_recipe_is_one_rule_and_the_published_rows_are_there():
    assert uci_recipe(455, 13) == uci_recipe(455, 13) and uci_recipe(455, 13).epochs >= 1
    assert hidden_units("protein") == 100 and hidden_units("boston") == 50
    assert DEEP_ENSEMBLES.keys() == MC_DROPOUT.keys() and DEEP_ENSEMBLES["naval"].nll == -5.63


def test_what_is_missing_is_said_before_training(tmp_path):
    store = Store(tmp_path / "out", "results.jsonl")
    with pytest.raises(uq.InputError, match="does not exist"):
        run_uci(UCISuite(tmp_path / "nowhere"), store, say=print)
    with pytest.raises(uq.InputError, match=r"holds no NAME/NAME\.npz"):
        run_uci(UCISuite(tmp_path), store, say=print)
    write(tmp_path, "boston")
    with pytest.raises(uq.InputError, match=r"no yacht/yacht.npz"):
        run_uci(UCISuite(tmp_path, ("boston", "yacht")), store, say=print)
    assert not store.path.exists()
