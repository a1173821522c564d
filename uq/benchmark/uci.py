"""The UCI regression sets with their published splits, beside the table of the deep-ensembles paper."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import losses, optimizers
from .._checks import InputError, UQWarning
from .._interrupt import interruptible
from ..data import Splits, uci
from ..data.tabular import available, find
from ..ensembles import deep_ensemble
from ..likelihoods import Gaussian
from ..metrics import coverage, crps, log_score, rmse
from ..predictive import Predictive
from ..table import Table, decimals, format_cell
from ..train import fit
from .run import Say, finished, noted_warnings, plural
from .store import DiskError, Store, device, fingerprint, versions
from .task import MLP, OPTIMIZER


class Recipe(NamedTuple):
    """How an ensemble is trained; plain numbers, kept with every result."""

    epochs: int
    learning_rate: float
    weight_decay: float
    beta: float
    """Of `uq.losses.beta_nll`."""
    validation: float
    """The share of the training rows that each member leaves out and is stopped by."""
    batch_size: int


def uci_recipe(num_rows: int, num_features: int) -> Recipe:
    """One rule for all sets, from the shape of the training data alone; fixed before any test row was seen.

    Larger data want a smaller peak learning rate, a weaker decay (a prior's weight is one over the number of
    rows) and fewer passes. The constants were chosen on random 80/20 divisions of the *training* rows of the
    first split of each set.
    """
    del num_features
    return Recipe(
        epochs=int(np.clip(round(1_000_000 / num_rows), 100, 400)),
        learning_rate=0.04 * min(1.0, (500 / num_rows) ** 0.5),
        weight_decay=30 / num_rows,
        beta=0.5,
        validation=0.1,
        batch_size=50 if num_rows <= 5000 else 100,
    )


def hidden_units(name: str) -> int:
    """The published protocol: one hidden layer of 50 ReLU units, 100 for protein."""
    return 100 if name == "protein" else 50


class Published(NamedTuple):
    """Mean NLL and RMSE over the splits, as printed."""

    nll: float
    rmse: float


DEEP_ENSEMBLES: dict[str, Published] = {
    "boston": Published(2.41, 3.28),
    "concrete": Published(3.06, 6.03),
    "energy": Published(1.38, 2.09),
    "naval": Published(-5.63, 0.00),
    "protein": Published(2.83, 4.71),
    "wine-red": Published(0.94, 0.64),
    "yacht": Published(1.18, 1.58),
}
"""Lakshminarayanan, Pritzel & Blundell 2017, Table 1: five networks, moments matched to one Gaussian."""

MC_DROPOUT: dict[str, Published] = {
    "boston": Published(2.4019, 2.9036),
    "concrete": Published(2.9367, 4.8265),
    "energy": Published(1.2115, 0.5389),
    "naval": Published(-4.4495, 0.00074),
    "protein": Published(2.8713, 4.2742),
    "wine-red": Published(0.9281, 0.6218),
    "yacht": Published(1.2501, 0.6663),
}
"""Monte-Carlo dropout on the same splits, 4,000 epochs (protein 2,000), hyperparameters by grid on each split
(Mukhoti, Stenetorp & Gal 2018; means over the published results of every split)."""


class UCISuite(NamedTuple):
    """What to run."""

    data_dir: Path
    data: tuple[str, ...] | None = None
    """Sets; None is all that the folder holds."""
    splits: int | None = None
    """How many of the published splits, from the first; None is all."""
    size: int = 5
    seed: int = 0
    epochs: int | None = None
    """None is the recipe's."""


class UCIOutcome(NamedTuple):
    """How a run ended."""

    records: list[dict[str, Any]]
    """One for each finished split."""
    planned: int
    skipped: int
    failed: tuple[str, ...]
    """Sentences on splits that could not be run."""
    interrupted: bool


def run_uci(
    suite: UCISuite,
    store: Store,
    *,
    say: Say,
    progress: bool | None = None,
    after: Callable[[list[dict[str, Any]]], None] | None = None,
) -> UCIOutcome:
    """Train and test on every split that `store` does not hold yet; Ctrl-C keeps what is finished.

    Arguments are those of `run_suite`; `after` is called when a set has finished. A split that `fit` refuses is
    named, and the others go on.
    Raises:
      DiskError: the output folder cannot be read or written to any more.
      InputError: a folder, set or file that is not there or cannot be read; found before anything is trained.
    """
    sets = _read(suite)
    where = {"versions": versions(), "platform": jax.default_backend()}
    plan = [(data, k, _config(suite, data, k, where)) for data in sets for k in range(_num_splits(suite, data))]
    hashes = [fingerprint(config) for _, _, config in plan]
    done = store.read()
    if store.skipped_lines:
        say(f"{store.path.name}: {plural(store.skipped_lines, 'unreadable line')} left out.")
    found = {key: done[key] for key in hashes if key in done}
    skipped = len(found)
    if skipped:
        say(f"{skipped} of {plural(len(plan), 'split')} finished before with the same configuration: skipped.")
    failed: list[str] = []
    interrupted = False
    try:
        with interruptible() as interrupts:
            for number, ((data, k, config), key) in enumerate(zip(plan, hashes, strict=True), start=1):
                if key not in found:
                    interrupts.check()
                    try:
                        record = _run_split(suite, data, k, config, key, progress)
                    except DiskError:
                        raise
                    except InputError as error:
                        failed.append(f"{data.name}, split {k}: {error}")
                        say(f"[{number:>3}/{len(plan)}] failed: {failed[-1]}")
                    else:
                        store.append(record)
                        found[key] = record
                        say(_line(number, len(plan), record))
                        for text in record["warnings"]:
                            say(f"        warning: {text}")
                        interrupts.check()
                own = [found[h] for h, (other, _, _) in zip(hashes, plan, strict=True) if other is data and h in found]
                if k == _num_splits(suite, data) - 1 and own:
                    say(_set_line(own))
                    if after is not None:
                        after([found[h] for h in hashes if h in found])
    except KeyboardInterrupt:
        interrupted = True
    records = [found[key] for key in hashes if key in found]
    return UCIOutcome(records, len(plan), skipped, tuple(failed), interrupted)


def _read(suite: UCISuite) -> list[Splits]:
    """The sets, read and checked."""
    names = suite.data
    if names is None:
        names = tuple(available(suite.data_dir)) if suite.data_dir.is_dir() else ()
        if not names:
            find(suite.data_dir, "")  # says what is wrong with the folder
    return [uci(name, suite.data_dir) for name in dict.fromkeys(names)]


def _num_splits(suite: UCISuite, data: Splits) -> int:
    return data.num_splits if suite.splits is None else min(suite.splits, data.num_splits)


def _config(suite: UCISuite, data: Splits, k: int, where: dict[str, Any]) -> dict[str, Any]:
    recipe = uci_recipe(data.index_train.shape[1], data.x.shape[1])
    if suite.epochs is not None:
        recipe = recipe._replace(epochs=suite.epochs)
    return {
        "suite": "uci",
        "task": data.name,
        "data": data.digest,
        "split": k,
        "method": "deep_ensemble",
        "size": suite.size,
        "seed": suite.seed,
        "hidden": [hidden_units(data.name)],
        "recipe": recipe._asdict(),
        "optimizer": {
            "name": "one_cycle",
            **OPTIMIZER,
            "learning_rate": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "fan_in": None,
        },
        **where,
    }


def _run_split(
    suite: UCISuite, data: Splits, k: int, config: dict[str, Any], key: str, progress: bool | None
) -> dict[str, Any]:
    recipe = Recipe(**config["recipe"])
    train, (x, y) = data.split(k)
    began = time.perf_counter()
    with noted_warnings() as noted:
        warnings.filterwarnings("ignore", message=r"Features? .* constant", category=UQWarning)
        method = deep_ensemble(
            MLP(tuple(config["hidden"]), 2),
            Gaussian(),
            optimizers.one_cycle(**{name: value for name, value in config["optimizer"].items() if name != "name"}),
            size=suite.size,
            loss=losses.beta_nll(recipe.beta),
        )
        posterior = fit(
            method,
            train,
            key=jax.random.fold_in(jax.random.key(suite.seed), k),
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            validation=recipe.validation,
            progress=progress,
        )
        pred, times = finished(posterior, x)
        measured = _measure(pred, y)
    return {
        "hash": key,
        "task": data.name,
        "split": k,
        "method": "deep_ensemble",
        "size": suite.size,
        "seed": suite.seed,
        "metrics": measured,
        "cost": {**times, "seconds": time.perf_counter() - began},
        "diverged": [] if posterior.history is None else posterior.history.diverged.tolist(),
        "warnings": noted,
        "configuration": config,
        "versions": config["versions"],
        "device": device(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _measure(pred: Predictive, y: np.ndarray) -> dict[str, float]:
    """Means over the test rows of a split, in the target's own units."""
    return {
        "nll": float(np.mean(np.asarray(log_score(pred, y), np.float64))),
        "nll_moment_matched": moment_matched_nll(pred, y),
        "rmse": float(rmse(pred, y)),
        "crps": float(np.mean(np.asarray(crps(pred, y), np.float64))),
        "coverage": float(coverage(pred, y, level=0.9)),
    }


def moment_matched_nll(pred: Predictive, y: np.ndarray) -> float:
    """Mean NLL of the Gaussian that has the mixture's mean and variance: the protocol of the paper."""
    mean, variance = np.asarray(pred.mean, np.float64), np.asarray(pred.variance, np.float64)
    return float(np.mean(0.5 * np.log(2 * math.pi * variance) + (y - mean) ** 2 / (2 * variance)))


class Summary(NamedTuple):
    """Mean over splits and its standard error, None where that cannot be told: one split, or all alike."""

    mean: float
    stderr: float | None
    median: float


def summary(records: Sequence[dict[str, Any]], metric: str) -> Summary:
    """A metric over the splits of one set."""
    values = np.array([np.nan if r["metrics"][metric] is None else r["metrics"][metric] for r in records], np.float64)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Summary(float(values.mean()), error or None, float(np.median(values)))


def uci_tables(records: Sequence[dict[str, Any]]) -> list[Table]:
    """NLL, RMSE and the rest, a row for each set, with the published numbers beside ours."""
    names = list(dict.fromkeys(record["task"] for record in records))
    own = {name: [record for record in records if record["task"] == name] for name in names}
    nll, error, rest = [], [], []
    nll_places, error_places = [], []
    for name in names:
        mixture, matched, root, score, covered = (
            summary(own[name], metric) for metric in ("nll", "nll_moment_matched", "rmse", "crps", "coverage")
        )
        paper, dropout = DEEP_ENSEMBLES.get(name), MC_DROPOUT.get(name)
        splits = len(own[name])
        nll.append(
            (
                name,
                splits,
                mixture[:2],
                mixture.median,
                matched[:2],
                paper and f"{paper.nll:.2f}",
                dropout and dropout.nll,
                paper and _at_or_below(mixture.mean, paper.nll),
                paper and _at_or_below(matched.mean, paper.nll),
            )
        )
        error.append(
            (
                name,
                splits,
                root[:2],
                root.median,
                paper and f"{paper.rmse:.2f}",
                dropout and dropout.rmse,
                paper and _at_or_below(root.mean, paper.rmse),
            )
        )
        seconds = sum(record["cost"]["seconds"] for record in own[name])
        compiled = sum(record["cost"]["compile_seconds"] for record in own[name])
        rest.append((name, splits, score[:2], covered[:2], seconds, compiled))
        nll_places.append(decimals(mixture.stderr))
        error_places.append(decimals(root.stderr))
    ours, theirs, dropped = "ours", "deep ensembles 2017", "MC dropout 2018"
    return [
        Table(
            (
                "data set",
                "splits",
                f"{ours}, mixture",
                "median",
                f"{ours}, one Gaussian",
                theirs,
                dropped,
                "mixture ≤ 2017",
                "Gaussian ≤ 2017",
            ),
            tuple(nll),
            title="Negative log-likelihood, nats a row, original units: mean ± standard error over splits",
            places={"median": tuple(nll_places)},
        ),
        Table(
            ("data set", "splits", ours, "median", theirs, dropped, "ours ≤ 2017"),
            tuple(error),
            title="RMSE, original units: mean ± standard error over splits",
            places={"median": tuple(error_places)},
        ),
        Table(
            ("data set", "splits", "crps", "90 % coverage", "seconds", "of it compiling"),
            tuple(rest),
            title="Calibration and cost of all splits together",
            places={"seconds": 1, "of it compiling": 1},
        ),
    ]


def _at_or_below(value: float, published: float) -> bool:
    """At the precision that the paper prints: two decimals."""
    return round(value, 2) <= published


def write_uci(records: Sequence[dict[str, Any]], store: Store, *, command: str) -> Path:
    """Write `uci.md`: the tables, the recipe and how to reproduce them."""
    parts = ["# UCI regression, published splits", ""]
    if records:
        config = records[0]["configuration"]
        parts += [
            f"Deep ensembles of K = {config['size']}, one hidden layer of 50 ReLU units (100 for protein), "
            f"seed {config['seed']}. Published rows: Lakshminarayanan, Pritzel & Blundell 2017, Table 1 "
            "(five networks, moments matched to one Gaussian), and Monte-Carlo dropout with tuned "
            "hyperparameters and 4,000 epochs (Mukhoti, Stenetorp & Gal 2018).",
            "",
        ]
    for table in uci_tables(records):
        parts += [f"## {table.title}", "", *_markdown(table), ""]
    if records:
        recipes = {record["task"]: record["configuration"]["recipe"] for record in records}
        parts += ["## Recipe", "", *(f"- {name}: {_listed(recipe)}" for name, recipe in recipes.items()), ""]
        said = _listed(records[0]["versions"])
        parts += [
            "## How to reproduce",
            "",
            "```",
            command,
            "```",
            "",
            f"With {said}; {records[0]['device']['kind']}.",
        ]
    return store.write("uci.md", ("\n".join(parts) + "\n").encode(errors="replace"))


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())


def _markdown(table: Table) -> list[str]:
    lines = [
        "| " + " | ".join(table.columns) + " |",
        "|" + "|".join(["---"] + ["--:"] * (len(table.columns) - 1)) + "|",
    ]
    return lines + ["| " + " | ".join(row) + " |" for row in table.cells()]


def _line(number: int, total: int, record: dict[str, Any]) -> str:
    m, cost = record["metrics"], record["cost"]
    return (
        f"[{number:>3}/{total}] {record['task']:<9} split {record['split']:>2}  nll {m['nll']:.3f}  "
        f"one Gaussian {m['nll_moment_matched']:.3f}  rmse {m['rmse']:.4g}  {cost['seconds']:.1f} s"
        + (f" ({cost['compile_seconds']:.1f} s compiling)" if cost["compile_seconds"] else "")
    )


def _set_line(records: Sequence[dict[str, Any]]) -> str:
    nll, matched, root = (summary(records, metric) for metric in ("nll", "nll_moment_matched", "rmse"))
    name = records[0]["task"]
    paper = DEEP_ENSEMBLES.get(name)
    beside = f"\n        deep ensembles 2017: nll {paper.nll:.2f}, rmse {paper.rmse:.2f}" if paper else ""
    return (
        f"{name}: nll {format_cell(nll[:2])}, one Gaussian {format_cell(matched[:2])}, rmse {format_cell(root[:2])} "
        f"over {plural(len(records), 'split')}{beside}"
    )
