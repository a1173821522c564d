import base64
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import uq
from tests.data.test_tabular import write
from uq.cli import main

TINY = ["--size", "2", "--epochs", "2"]
SUITE = ["bench", "--data", "wine", "--methods", "map_estimate", "deep_ensemble", *TINY]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Folder, exit code and output of a tiny suite."""
    import contextlib

    folder, said = tmp_path_factory.mktemp("bench"), io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main([*SUITE, "--out", str(folder)])
    return folder, code, said.getvalue()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "uq bench uci --data-dir uci"),
        ([], "uq bench uci   deep ensembles"),
        (["bench", "--help"], "(default: 5)"),
        (["bench", "uci", "--help"], "the published ones"),
        (["--help"], "examples:"),
        (["bench", "--help"], "uq bench --fresh"),
        (["bench", "uci", "--help"], "index_train"),
        (["methods", "--help"], "whom to cite"),
        (["--version"], f"uq {uq.__version__}"),
    ],
)
def test_everything_explains_itself(words, shown, capsys):
    assert main(words) == 0
    assert shown in capsys.readouterr().out


def test_help_fits_a_terminal(capsys):
    for words in ([], ["bench", "--help"], ["bench", "uci", "--help"], ["methods", "--help"]):
        main(words)
        assert max(map(len, capsys.readouterr().out.splitlines())) <= 110


def test_methods_lists_the_register(capsys):
    assert main(["methods"]) == 0
    shown = capsys.readouterr().out
    for name, entry in uq.methods.REGISTER.items():
        assert f"{name}\n" in shown and entry.cost in shown and entry.reference in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["benhc"], "no command 'benhc'.*did you mean 'bench'"),
        (["bench", "uic"], "no benchmark 'uic'.*did you mean 'uci'"),
        (["bench", "--data", "whine"], "no data set 'whine'.*did you mean 'wine'"),
        (["bench", "--methods", "deep_ensembel"], "no method 'deep_ensembel'.*did you mean 'deep_ensemble'"),
        (["bench", "--size", "0"], "--size: expected a whole number of at least 1, but got '0'"),
        (["bench", "--epochs", "ten"], "--epochs: expected a whole number of at least 1, but got 'ten'"),
        (["bench", "--seed", "-1"], "--seed: expected a whole number of at least 0"),
        (["bench", "--wrong"], "unrecognized arguments: --wrong"),
        (["bench", "uci"], "required: --data-dir"),
        (["bench", "uci", "--data-dir", "{tmp}/none"], "data folder .* does not exist"),
        (["bench", "uci", "--data-dir", "{tmp}"], "holds no NAME/NAME.npz"),
        (["bench", "--out", "{tmp}/file/out"], "output folder .* cannot be written to"),
        (["bench", "--out", "{tmp}/file"], "file' is a file, not a folder"),
        (["bench", "--out", "{tmp}/taken"], "results.jsonl' expected to be the file of results, but is a folder"),
        (["bench", "--out", ""], "--out: expected a folder, but got ''"),
        (["bench", "--fres"], "unrecognized arguments: --fres"),
        (["bench", "--seed", str(2**64)], "--seed: expected a whole number of at most 4294967295"),
        (["bench", "--epochs", "1" + 30 * "0"], "--epochs: expected a whole number of at most"),
        (["bench", "uci", "--data-dir", ""], "--data-dir: expected a folder, but got ''"),
        (["bench", "uci", "--data-dir", "{tmp}/file"], "data folder .* is a file, not a folder"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, sentence, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "results.jsonl").mkdir(parents=True)
    words = [word.replace("{tmp}", str(tmp_path)) for word in words]
    if "uci" in words and "--out" not in words:
        words += ["--out", str(tmp_path / "out")] if len(words) > 2 else []
    elif words[0] == "bench" and "--out" not in words:
        words += ["--out", str(tmp_path / "out")]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert re.search(sentence, error) and error.count("\n") == 1 and "Traceback" not in error


@pytest.mark.parametrize(("module", "package"), [("sklearn.datasets", "scikit-learn"), ("matplotlib", "matplotlib")])
def test_a_missing_extra_is_one_sentence(module, package, tmp_path, monkeypatch, capsys):
    import importlib

    real = importlib.import_module

    def absent(name, *args):
        if name == module:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    assert main([*SUITE, "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"needs {package}" in error and "pip install 'uq-jax[bench]'" in error and error.count("\n") == 1


def test_a_suite_writes_everything(ran):
    folder, code, said = ran
    assert code == 0 and "[ 1/2]" in said and "[ 2/2]" in said and "Classification" in said
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert [record["method"] for record in records] == ["map_estimate", "deep_ensemble"]
    for record in records:
        assert set(record["metrics"]) >= {"log_score", "brier_score", "accuracy", "calibration_error"}
        assert set(record["versions"]) >= {"python", "jax", "flax", "numpyro", "optax", "scipy", "uq"}
        assert record["seed"] == 0 and record["configuration"]["epochs"] == 2 and len(record["hash"]) == 16
        assert record["cost"]["fit_seconds"] > 0 and record["cost"]["predict_us_per_row"] > 0
        assert record["device"]["platform"] == "cpu" and len(record["log_scores"]) == 36
        nll = sum(record["log_scores"]) / 36
        assert record["metrics"]["log_score"]["value"] == pytest.approx(nll, rel=1e-5)
        for file in record["figures"].values():
            assert (folder / file).read_bytes().startswith(b"\x89PNG")
    # 13 × 50 + 50 weights, then 50 × 3 + 3; twice that for two members
    assert [record["parameters"] for record in records] == [853, 2 * 853]


def test_the_report_is_one_file(ran):
    text = (ran[0] / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["']?\s*(https?:)?//""", text) and "@import" not in text
    assert not re.search(r"url\(|<script|<link", text)
    assert text.count("data:image/png;base64,") == 2 and "prefers-color-scheme: dark" in text
    assert "uq bench --data wine" in text and "single network" in text and "How to reproduce" in text


def test_a_finished_suite_is_skipped_and_half_a_line_computed_again(ran, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(ran[0], folder)
    before = (folder / "results.jsonl").read_bytes()
    assert main([*SUITE, "--out", str(folder)]) == 0
    assert "2 of 2 cells finished before" in capsys.readouterr().out
    assert (folder / "results.jsonl").read_bytes() == before
    (folder / "results.jsonl").write_bytes(before[:-40])
    assert main([*SUITE, "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "1 unreadable line left out." in said and "1 of 2 cells" in said and "[ 2/2]" in said
    assert main([*SUITE, "--out", str(folder)]) == 0
    assert "2 of 2 cells finished before" in capsys.readouterr().out


def test_interrupting_keeps_what_is_finished(ran, tmp_path, monkeypatch, capsys):
    from uq.benchmark import run

    real, calls = run.fit, []

    def fit(*args, **settings):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **settings)

    monkeypatch.setattr(run, "fit", fit)
    assert main([*SUITE, "--out", str(tmp_path), "--fresh"]) == 130
    caught = capsys.readouterr()
    assert "1 of 2 cells finished and kept" in caught.err and "To continue: uq bench --data wine" in caught.err
    assert "--fresh" not in caught.err
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1
    assert "1 of 2 cells finished" in (tmp_path / "report.html").read_text()


def test_figures_of_other_settings_are_other_files(ran, tmp_path):
    """Settings that change and change back in one folder: numbers and figures stay together."""
    folder = tmp_path / "out"
    words = ["bench", "--data", "wine", "--methods", "map_estimate", "--size", "1", "--out", str(folder)]
    for epochs in ("2", "1", "2"):
        assert main([*words, "--epochs", epochs]) == 0
    records = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    files = [record["figures"]["reliability"] for record in records]
    assert len(set(files)) == 2 and all(record["hash"] in file for record, file in zip(records, files, strict=True))
    drawn = (folder / files[0]).read_bytes()
    assert drawn == (ran[0] / files[0]).read_bytes() != (folder / files[1]).read_bytes()
    assert base64.b64encode(drawn).decode() in (folder / "report.html").read_text()


def test_the_configuration_holds_every_choice_of_fit(ran):
    import inspect

    from uq._setup import default_epochs
    from uq.benchmark import run

    records = [json.loads(line) for line in (ran[0] / "results.jsonl").read_text().splitlines()]
    default = {name: setting.default for name, setting in inspect.signature(uq.optimizers.one_cycle).parameters.items()}
    for record in records:
        config = record["configuration"]
        assert config["epochs"] == 2 and config["batch_size"] == 100 and config["validation"] == 0.1
        assert config["optimizer"] == {"name": "one_cycle", **default}
        assert config["prior"] == "none" and config["draws"] == 1
    # 178 rows, of which 142 to train on; a point estimate leaves out 14 of them
    point, mixture = (cell.config for cell in run._plan(run.Suite(("wine",), ("map_estimate", "mean_field_mixture"))))
    assert point["epochs"] == default_epochs(142 - 14, 100) and mixture["epochs"] == default_epochs(142, 100)
    assert mixture["validation"] == 0.0 and mixture["prior"] == "Normal(0, 1)" and mixture["draws"] == 32
    assert mixture["settings"]["temperature"] == 1.0


def test_fresh_loses_nothing_that_is_not_replaced(ran, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(ran[0], folder)
    before = {name: (folder / name).read_bytes() for name in ("results.jsonl", "report.html")}
    assert main(["bench", "uci", "--data-dir", str(tmp_path / "none"), "--fresh", "--out", str(folder)]) == 2

    def fit(*args, **settings):
        raise KeyboardInterrupt

    monkeypatch.setattr("uq.benchmark.run.fit", fit)
    assert main([*SUITE, "--out", str(folder), "--fresh"]) == 130
    assert "--fresh" in capsys.readouterr().err  # without it, the old results would be continued
    assert before == {name: (folder / name).read_bytes() for name in before}
    assert not list(folder.glob("*.old*"))


def test_ctrl_c_that_python_drops_still_stops_the_run(tmp_path, monkeypatch, capsys):
    """An exception out of `__del__` is printed and dropped; the run must not go on."""
    from uq.benchmark import run

    dropped, cells = [], []
    monkeypatch.setattr(sys, "unraisablehook", dropped.append)

    class Interrupting:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def run_cell(cell, *args):
        cells.append(cell.name)
        Interrupting()
        return {"hash": cell.hash, "warnings": []}

    monkeypatch.setattr(run, "_run_cell", run_cell)
    monkeypatch.setattr(run, "_line", lambda *args: "a line")
    before = signal.getsignal(signal.SIGINT)
    outcome = run.run_suite(
        run.Suite(("wine",), ("map_estimate", "mean_field")), run.Store(tmp_path, "results.jsonl"), say=print
    )
    assert outcome.interrupted and len(outcome.records) == 1 and cells == ["wine-map_estimate"]
    assert dropped == [] and signal.getsignal(signal.SIGINT) is before and sys.unraisablehook == dropped.append


def test_ctrl_c_dropped_before_the_first_cell_stops_the_run(ran, tmp_path, monkeypatch, capsys):
    from uq.benchmark import run

    class Interrupting:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    real = run._plan

    def plan(suite):
        Interrupting()
        return real(suite)

    monkeypatch.setattr(run, "_plan", plan)
    assert main([*SUITE, "--out", str(tmp_path)]) == 130
    assert "Interrupted: 0 of 2 cells finished" in capsys.readouterr().err


def test_a_full_disk_names_the_file_and_others_do_not_ask_for_room(tmp_path, monkeypatch, capsys):
    import errno

    from uq.benchmark import run

    def run_cell(cell, suite, store, progress):
        store.write("figures/one.png", b"")

    monkeypatch.setattr(run, "_run_cell", run_cell)
    for code, asks in ((errno.ENOSPC, True), (errno.EACCES, False)):

        def replace(*args, code=code):
            raise OSError(code, "it is so")

        monkeypatch.setattr("uq.benchmark.store.os.replace", replace)
        assert main([*SUITE, "--out", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert re.search(r"figures/one.png' cannot be written \(it is so\)", error) and error.count("\n") == 1
        assert ("Make room" in error) is asks


def test_a_stream_that_cannot_encode_is_no_reason_to_fail(ran, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert main([*SUITE, "--out", str(ran[0])]) == 0
    stream.flush()
    assert b"2 methods ? 1 data set, K = 2" in stream.buffer.getvalue()


@pytest.mark.parametrize("width", [80, 100])
def test_nothing_is_wider_than_the_terminal(ran, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([*SUITE, "--out", str(ran[0])]) == 0
    said = capsys.readouterr().out.split("\nReport:")[0].splitlines()[2:]
    assert max(map(len, said)) <= width and "predict µs/row" in "\n".join(said)
    assert max(len(line) for line in ran[2].splitlines() if line.startswith("[")) <= 100


def test_quick_runs_few_cells(tmp_path, monkeypatch):
    from uq import benchmark

    seen = []
    outcome = benchmark.run.Outcome([], 4, 0, (), False)
    monkeypatch.setattr(benchmark, "run_suite", lambda suite, *args, **settings: seen.append(suite) or outcome)
    for words in ([], ["--data", "digits"], ["--epochs", "3"]):
        assert main(["bench", "--quick", *words, "--out", str(tmp_path)]) == 0
    cells = [(len(suite.data), len(suite.methods), suite.epochs) for suite in seen]
    assert cells == [(2, 2, 20), (1, 2, 20), (2, 2, 3)]


def test_a_split_that_cannot_be_run_is_named_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    from uq.benchmark import uci

    for name in ("boston", "yacht"):
        write(tmp_path, name, rows=60)
    real = uci.fit

    def fit(method, data, **settings):
        if data[0].shape[1] == 2 and not calls:
            calls.append(1)
            raise uq.InputError("These rows will not do.")
        return real(method, data, **settings)

    calls = []
    monkeypatch.setattr(uci, "fit", fit)
    words = ["bench", "uci", "--data-dir", str(tmp_path), "--splits", "1", *TINY, "--out", str(tmp_path / "out")]
    assert main(words) == 1
    caught = capsys.readouterr()
    assert "boston, split 0: These rows will not do." in caught.err and caught.err.count("\n") == 1
    assert "yacht" in (tmp_path / "out" / "uci.md").read_text() and "over 1 split\n" in caught.out


def test_uci_from_the_command_line(tmp_path, capsys):
    write(tmp_path, "yacht", rows=60)
    words = [
        "bench",
        "uci",
        "--data-dir",
        str(tmp_path),
        "--splits",
        "1",
        *TINY,
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    assert "yacht" in capsys.readouterr().out and (tmp_path / "out" / "uci.md").exists()


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(tmp_path):
    """An interrupt in the middle of a fit, not between two."""
    words = [
        sys.executable,
        "-m",
        "uq",
        "bench",
        "--data",
        "digits",
        "--epochs",
        "4000",
        "--out",
        str(tmp_path),
    ]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=Path(uq.__file__).parents[1])
    time.sleep(25)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130 and "To continue: uq bench --data digits" in error
    assert "Traceback" not in error
