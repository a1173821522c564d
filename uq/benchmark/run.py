"""Running the default suite: a cell (method × data set) after another, each kept as soon as it is
finished."""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import numpy as np

from .._checks import InputError, UQWarning, unknown_name
from .._extras import load_extra
from .._interrupt import interruptible
from ..data import BUNDLED
from ..evaluate import evaluate
from ..metrics import log_score
from ..plot import bands, reliability
from ..posterior import Posterior
from ..predictive import Predictive
from ..train import fit
from .store import DiskError, Store, device, fingerprint, versions
from .task import DEFAULT_METHODS, METHODS, Candidate, Task, bundled_task, recipe

Say = Callable[[str], None]
_TIMED_ROWS = 1000
"""Rows of one timed prediction."""
_TIMED_CALLS = 5
_DPI = 110


class Suite(NamedTuple):
    """What to run; names are checked by `checked`."""

    data: tuple[str, ...] = tuple(BUNDLED)
    methods: tuple[str, ...] = DEFAULT_METHODS
    size: int = 5
    """K, of the methods that have several members."""
    seed: int = 0
    """Decides the split, the initial weights and the batches."""
    epochs: int | None = None
    """None is what `fit` chooses from the number of rows."""

    def checked(self) -> Suite:
        """The suite without repetitions, after checking its names.

        Raises:
          InputError: an unknown data set or method; the nearest known one is suggested.
        """
        for name in self.data:
            if name not in BUNDLED:
                raise unknown_name("data set", name, BUNDLED)
        for name in self.methods:
            if name not in METHODS:
                raise unknown_name("method", name, METHODS)
        return self._replace(data=tuple(dict.fromkeys(self.data)), methods=tuple(dict.fromkeys(self.methods)))


class Outcome(NamedTuple):
    """How a run of a suite ended."""

    records: list[dict[str, Any]]
    """One for each finished cell, in the order of the suite."""
    planned: int
    """Cells in all."""
    skipped: int
    """Cells that an earlier run had finished."""
    failed: tuple[str, ...]
    """Sentences on cells that could not be run."""
    interrupted: bool


class _Cell(NamedTuple):
    task: Task
    candidate: Candidate
    config: dict[str, Any]
    hash: str

    @property
    def name(self) -> str:
        return f"{self.task.data.name}-{self.candidate.name}"

    def figures(self) -> dict[str, str]:
        """Files of its figures, by what they show; the hash tells those of different configurations apart."""
        shown = ["bands", "coverage"] if self.task.data.task == "regression" else ["reliability"]
        return {what: f"figures/{self.name}-{self.hash}-{what}.png" for what in shown}


def run_suite(
    suite: Suite,
    store: Store,
    *,
    say: Say,
    progress: bool | None = None,
    after: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Outcome:
    """Run every cell that `store` does not hold yet. Ctrl-C ends the run and keeps what is finished.

    Args:
      suite: what to run.
      store: where finished cells are.
      say: takes a line for people.
      progress: as in `uq.fit`.
      after: called with all records so far whenever a cell has finished.
    Raises:
      InputError: unknown names.
      DiskError: the output folder cannot be read or written to any more.
      MissingExtra: scikit-learn or matplotlib is not installed; found before anything is trained.
    """
    suite = suite.checked()
    load_extra("matplotlib", "matplotlib", "bench", "`uq bench`")
    cells = _plan(suite)
    done = store.read()
    if store.skipped_lines:
        say(f"{store.path.name}: {plural(store.skipped_lines, 'unreadable line')} left out.")
    found = {cell.hash: done[cell.hash] for cell in cells if _is_finished(cell, done, store)}
    skipped = len(found)
    if skipped:
        say(f"{skipped} of {plural(len(cells), 'cell')} finished before with the same configuration: skipped.")
    failed: list[str] = []
    interrupted = False
    try:
        with interruptible() as interrupts:
            for number, cell in enumerate(cells, start=1):
                if cell.hash in found:
                    continue
                interrupts.check()
                try:
                    record = _run_cell(cell, suite, store, progress)
                except DiskError:
                    raise
                except InputError as error:
                    failed.append(f"{cell.task.data.name}, {cell.candidate.title(suite.size)}: {error}")
                    say(f"[{number:>2}/{len(cells)}] failed: {failed[-1]}")
                    continue
                store.append(record)
                found[cell.hash] = record
                say(_line(number, len(cells), record))
                for text in record["warnings"]:
                    say(f"        warning: {text}")
                interrupts.check()
                if after is not None:
                    after(_in_order(cells, found))
    except KeyboardInterrupt:
        interrupted = True
    return Outcome(_in_order(cells, found), len(cells), skipped, tuple(failed), interrupted)


def _plan(suite: Suite) -> list[_Cell]:
    where = {"versions": versions(), "platform": jax.default_backend()}
    cells = []
    for data in suite.data:
        task = bundled_task(data, seed=suite.seed)
        for name in suite.methods:
            candidate = METHODS[name]
            config = {
                "suite": "bundled",
                "task": data,
                "data": task.data.digest,
                "method": name,
                "size": suite.size if candidate.size_matters else 1,
                "seed": suite.seed,
                **recipe(candidate, task, size=suite.size, epochs=suite.epochs),
                "hidden": list(task.hidden),
                "likelihood": repr(task.likelihood),
                "train_rows": len(task.train),
                "test_rows": len(task.test),
                **where,
            }
            cells.append(_Cell(task, candidate, config, fingerprint(config)))
    return cells


def _is_finished(cell: _Cell, done: dict[str, Any], store: Store) -> bool:
    return cell.hash in done and all((store.folder / file).is_file() for file in cell.figures().values())


def _in_order(cells: list[_Cell], found: dict[str, Any]) -> list[dict[str, Any]]:
    return [found[cell.hash] for cell in cells if cell.hash in found]


def _run_cell(cell: _Cell, suite: Suite, store: Store, progress: bool | None) -> dict[str, Any]:
    task, candidate = cell.task, cell.candidate
    with noted_warnings() as noted:
        method = candidate.build(task.network, task.likelihood, suite.size)
        how = {name: cell.config[name] for name in ("epochs", "batch_size", "validation")}
        posterior = fit(method, task.train_data, key=suite.seed, **how, progress=progress)
        pred, fit_times = finished(posterior, task.test_data[0])
        x, y = task.test_data
        measured = evaluate(pred, y).to_dict()
        scores = np.asarray(log_score(pred, y), np.float64)
        cost = {**fit_times, **predict_times(posterior, x)}
        for what, file in cell.figures().items():
            store.write(file, _figure(what, pred, y, task))
    return {
        "hash": cell.hash,
        "task": task.data.name,
        "kind": task.data.task,
        "target": task.data.target,
        "unit": task.data.unit,
        "source": task.data.source,
        "method": candidate.name,
        "label": candidate.title(suite.size),
        "reference": candidate.reference,
        "size": cell.config["size"],
        "seed": suite.seed,
        "metrics": measured,
        "log_scores": [float(f"{value:.7g}") for value in scores],
        "parameters": num_parameters(posterior),
        "cost": cost,
        "diverged": [] if posterior.history is None else posterior.history.diverged.tolist(),
        "warnings": noted,
        "figures": cell.figures(),
        "configuration": cell.config,
        "versions": cell.config["versions"],
        "device": device(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def finished(posterior: Posterior, x: np.ndarray) -> tuple[Predictive, dict[str, float]]:
    """Predictions and the seconds that training took.

    Raises:
      KeyboardInterrupt: the fit was interrupted, so that what it returned is not what was asked for.
    """
    history = posterior.history
    assert history is not None
    if history.interrupted:
        raise KeyboardInterrupt
    times = {"fit_seconds": history.seconds, "compile_seconds": history.compile_seconds}
    return posterior.predict(x), times


def predict_times(posterior: Posterior, x: np.ndarray) -> dict[str, float]:
    """Microseconds a row of a warm prediction of 1,000 rows: the median of five calls after the first."""
    rows = np.resize(np.arange(len(x)), _TIMED_ROWS)
    many = x[rows]
    taken = []
    for _ in range(_TIMED_CALLS + 1):
        began = time.perf_counter()
        jax.block_until_ready(posterior.predict(many).outputs)
        taken.append(time.perf_counter() - began)
    return {
        "predict_us_per_row": float(np.median(taken[1:]) / _TIMED_ROWS * 1e6),
        "predict_rows": _TIMED_ROWS,
    }


def num_parameters(posterior: Posterior) -> int:
    """How many numbers the method keeps, over all members."""
    leaves = jax.tree.leaves(posterior.state)
    return int(sum(np.size(leaf) for leaf in leaves if np.issubdtype(leaf.dtype, np.floating)))


@contextmanager
def noted_warnings() -> Iterator[list[str]]:
    """Our warnings as a list of sentences, each once; those of others pass."""
    noted: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UQWarning)
        yield noted
    for warning in caught:
        text = str(warning.message)
        if not issubclass(warning.category, UQWarning):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
        elif text not in noted:
            noted.append(text)


def _figure(what: str, pred: Predictive, y: np.ndarray, task: Task) -> bytes:
    """A PNG of 660 × 495 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4.5), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    ax = figure.add_subplot()
    if what == "bands":
        bands(pred, y, ax=ax)
        ax.set_xlabel("test rows in order of their predicted mean")
        ax.set_ylabel(f"{task.data.target} [{task.data.unit}]")
    else:
        reliability(pred, y, ax=ax)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _line(number: int, total: int, record: dict[str, Any]) -> str:
    metrics, cost = record["metrics"], record["cost"]
    said = [("nll", "log_score", ".3f")]
    if record["kind"] == "regression":
        said += [("rmse", "rmse", ".4g"), ("90 % covers", "coverage", ".0%")]
    else:
        said += [("accuracy", "accuracy", ".1%"), ("calib. error", "calibration_error", ".3f")]
    quality = ", ".join(f"{name} {_shown(metrics[key]['value'], form)}" for name, key, form in said)
    return f"[{number:>2}/{total}] {record['task']:<13} {record['label']:<24} {quality}, {cost['fit_seconds']:.1f} s"


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def plural(count: int, noun: str) -> str:
    """`1 cell`, `2 cells`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
