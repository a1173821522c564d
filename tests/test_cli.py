import json
import re
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
    import io

    folder, said = tmp_path_factory.mktemp("bench"), io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main([*SUITE, "--out", str(folder)])
    return folder, code, said.getvalue()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "uq bench uci --data-dir uci"),
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
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words, sentence, tmp_path, capsys):
    (tmp_path / "file").write_text("")
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
    import shutil

    shutil.copytree(ran[0], folder)
    before = (folder / "results.jsonl").read_bytes()
    assert main([*SUITE, "--out", str(folder)]) == 0
    assert "2 of 2 cells finished before" in capsys.readouterr().out
    assert (folder / "results.jsonl").read_bytes() == before
    (folder / "results.jsonl").write_bytes(before[:-40])
    assert main([*SUITE, "--out", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "1 unfinished line left out" in said and "1 of 2 cells" in said and "[ 2/2]" in said
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
    assert "1 of 2 cells are finished and kept" in caught.err and "To continue: uq bench --data wine" in caught.err
    assert "--fresh" not in caught.err
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1
    assert "1 of 2 cells are finished" in (tmp_path / "report.html").read_text()


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
