"""The command `uq`: benchmarks and the register of methods. A thin shell; everything it does can be imported.

Exit codes: 0 done; 1 some cells or splits of a benchmark could not be run; 2 something given cannot be used, said
in one sentence; 130 interrupted, with everything finished kept.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ._checks import InputError, unknown_name
from ._extras import MissingExtra
from ._interrupt import interruptible
from ._version import __version__
from .table import Table

_QUICK_EPOCHS = 20
_QUICK_DATA = ("diabetes", "wine")
_QUICK_METHODS = ("map_estimate", "deep_ensemble")
_SEEDS, _EPOCHS, _MEMBERS = 2**32 - 1, 10**9, 10**4
"""The largest seed, number of epochs and number of members that are taken."""

_TOP = """\
Calibrated uncertainty for Flax networks: deep ensembles, variational families, exact mixtures.

commands:
  uq bench       compare methods on real data
  uq bench uci   deep ensembles on the UCI sets with their published splits
  uq methods     list methods with cost and reference

examples:
  uq bench                                 compare methods on four real data sets, in about two minutes
  uq bench uci --data-dir uci              the UCI sets with their published splits
  uq methods                               what there is, what it costs, whom to cite
  uq COMMAND --help                        everything about a command
"""
_BENCH = """\
Compare methods on real data: accuracy, calibration and cost, side by side.

Four data sets that come with scikit-learn (a regression, yes or no, classes, images), one 80/20 split, and
four methods: a single network, a deep ensemble, a mean-field posterior, and a mixture of mean-fields. Needs
the extra `bench`. Writes to the output folder as it goes:

  results.jsonl   a line for each finished cell: metrics, times, configuration, versions, scores of test rows
  figures/        predictive bands and reliability diagrams (PNG)
  report.html     all of it in one file

Ctrl-C keeps what is finished; the same command continues there.
"""
_BENCH_EXAMPLES = """\
examples:
  uq bench                                           the default suite, into ./uq-bench
  uq bench --data wine digits --methods deep_ensemble low_rank_mixture --size 10
  uq bench --seed 1 --out seed-1                     another split, other initial weights
  uq bench --quick --out try                         two data sets, two methods: see that everything works
  uq bench --fresh                                   begin anew (old results are kept as .old, .old.1, …)
  uq bench uci --data-dir uci                        the UCI sets; see `uq bench uci --help`
"""
_UCI = """\
Deep ensembles on the UCI regression sets with their published splits, beside the published tables.

The data are not downloaded. DIR holds NAME/NAME.npz (or NAME.npz) for each set, with arrays X (n, d), y (n,),
index_train (splits, n_train) and index_test (splits, n_test). One hidden layer of 50 ReLU units (100 for
protein). Writes results.jsonl, a line for each finished split, and uci.md, the tables. Ctrl-C keeps what is
finished; the same command continues there.
"""
_UCI_EXAMPLES = """\
examples:
  uq bench uci --data-dir uci                        all sets in the folder, all splits, into ./uq-bench-uci
  uq bench uci --data-dir uci --data boston yacht --splits 5
"""
_METHODS = """\
List the methods: what they are, what they cost compared with one network, and whom to cite.

Each can be lifted to K members: `uq.ensemble(uq.methods.mean_field(…), 5)`. The names under "in uq bench" are
those that `uq bench --methods` takes.
"""


class _Parser(argparse.ArgumentParser):
    """Errors are one sentence and name the help to read."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def error(self, message: str) -> NoReturn:
        message = message.removeprefix("argument ")
        stop = "" if message.endswith((".", "?")) else "."
        print(f"{self.prog}: {message}{stop} See `{self.prog} --help`.", file=sys.stderr)
        raise SystemExit(2)


def _whole(least: int, most: int) -> Any:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {least}, but got {text!r}")
        if value > most:
            raise argparse.ArgumentTypeError(f"expected a whole number of at most {most}, but got {text!r}")
        return value

    return convert


def _folder(text: str) -> Path:
    if not text.strip():
        raise argparse.ArgumentTypeError(f"expected a folder, but got {text!r}; `.` is the present one")
    return Path(text)


def parser() -> argparse.ArgumentParser:
    """The command line, as argparse sees it."""
    shape = argparse.RawDescriptionHelpFormatter
    top = _Parser(prog="uq", usage="uq [-h] [--version] COMMAND ...", description=_TOP, formatter_class=shape)
    top.add_argument("--version", action="version", version=f"uq {__version__}")
    commands = top.add_subparsers(
        dest="command", metavar="COMMAND", parser_class=_Parser, prog="uq", help=argparse.SUPPRESS
    )

    bench = commands.add_parser(
        "bench",
        description=_BENCH,
        epilog=_BENCH_EXAMPLES,
        formatter_class=shape,
        usage="uq bench [options]\n       uq bench uci --data-dir DIR [options]",
    )
    _shared_options(bench, out="uq-bench", decides="the split, initial weights and batches")
    bench.add_argument(
        "--data", nargs="+", metavar="NAME", help="data sets: diabetes, breast_cancer, wine, digits (default: all)"
    )
    bench.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="methods: map_estimate, deep_ensemble, mean_field, mean_field_mixture, low_rank, "
        "low_rank_mixture (default: the first four)",
    )
    bench.add_argument(
        "--quick",
        action="store_true",
        help=f"{_QUICK_EPOCHS} epochs, data sets {' and '.join(_QUICK_DATA)}, methods {' and '.join(_QUICK_METHODS)}, "
        "where these are not given: shows that it works; its numbers mean little. Compiling takes most of its time",
    )

    uci = commands.add_parser(
        "bench uci",
        description=_UCI,
        epilog=_UCI_EXAMPLES,
        formatter_class=shape,
        prog="uq bench uci",
    )
    uci.add_argument("--data-dir", required=True, type=_folder, metavar="DIR", help="the folder that holds the sets")
    uci.add_argument("--data", nargs="+", metavar="NAME", help="sets (default: all that the folder holds)")
    uci.add_argument(
        "--splits", type=_whole(1, _EPOCHS), metavar="N", help="only the first N splits of each set (default: all)"
    )
    _shared_options(uci, out="uq-bench-uci", decides="initial weights and batches; the splits are the published ones")

    commands.add_parser("methods", description=_METHODS, formatter_class=shape)
    return top


def _shared_options(command: argparse.ArgumentParser, *, out: str, decides: str) -> None:
    command.add_argument(
        "--out", type=_folder, default=Path(out), metavar="DIR", help=f"output folder (default: ./{out})"
    )
    command.add_argument(
        "--size",
        type=_whole(1, _MEMBERS),
        default=5,
        metavar="K",
        help="members of an ensemble or mixture (default: 5)",
    )
    command.add_argument(
        "--seed", type=_whole(0, _SEEDS), default=0, metavar="N", help=f"decides {decides} (default: 0)"
    )
    command.add_argument(
        "--epochs", type=_whole(1, _EPOCHS), metavar="N", help="passes over the data (default: chosen by data size)"
    )
    command.add_argument("--fresh", action="store_true", help="begin anew instead of continuing")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code and never raises for bad input.

    Args:
      argv: words after `uq`; None takes those of the process.
    Example:
      >>> main(["--version"])  # doctest: +ELLIPSIS
      uq ...
      0
    """
    words = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # one that cannot encode × or ± shows ? instead
            stream.reconfigure(errors="replace")
    try:
        with interruptible():  # from the start: the imports below take a second
            return _main(words)
    except (InputError, MissingExtra) as error:
        print(f"uq: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nuq: interrupted.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `uq methods | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        named = f"{os.fsdecode(error.filename)!r}: " if isinstance(error.filename, str | bytes) else ""
        print(f"uq: {named}{error.strerror or type(error).__name__}.", file=sys.stderr)
        return 2


def _main(words: list[str]) -> int:
    known = {"bench": _bench, "bench uci": _uci, "methods": _methods}
    if words[:2] == ["bench", "uci"]:
        words = ["bench uci", *words[2:]]
    elif len(words) > 1 and words[0] == "bench" and not words[1].startswith("-"):
        raise unknown_name("benchmark", words[1], ("uci",))
    if words and not words[0].startswith("-") and words[0] not in known:
        raise unknown_name("command", words[0], ("bench", "methods"))
    command_line = parser()
    try:
        options = command_line.parse_args(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 2
    if options.command is None:
        command_line.print_help()
        return 0
    return known[options.command](options, words)


def _again(words: Sequence[str], *, fresh: bool) -> str:
    """The command to type again. It continues; it begins anew only if `fresh`: nothing new is there to continue."""
    rest = [word for word in words[1:] if fresh or word != "--fresh"]
    return shlex.join(["uq", *words[0].split(), *rest])


def _say(text: str) -> None:
    print(text, flush=True)


def _show(tables: Sequence[Table]) -> None:
    """Tables no wider than the terminal, or than 100 columns where there is none."""
    from .benchmark.compare import COST

    width = shutil.get_terminal_size((100, 24)).columns
    for table in tables:
        _say(f"\n{table.to_text(width, apart=COST)}")


def _bench(options: argparse.Namespace, words: list[str]) -> int:
    from . import benchmark
    from .benchmark.compare import suite_tables
    from .benchmark.report import write_report
    from .benchmark.run import plural

    suite = benchmark.Suite(size=options.size, seed=options.seed, epochs=options.epochs)
    if options.quick:
        suite = suite._replace(data=_QUICK_DATA, methods=_QUICK_METHODS, epochs=options.epochs or _QUICK_EPOCHS)
    if options.data:
        suite = suite._replace(data=tuple(options.data))
    if options.methods:
        suite = suite._replace(methods=tuple(options.methods))
    suite = suite.checked()
    store = benchmark.Store(options.out, "results.jsonl", fresh=options.fresh)
    planned = len(suite.data) * len(suite.methods)
    _say(
        f"{plural(len(suite.methods), 'method')} × {plural(len(suite.data), 'data set')}, K = {suite.size}, "
        f"seed {suite.seed}; results go to {_shown(store.folder)}"
    )

    def after(records: list[dict[str, Any]]) -> None:
        write_report(records, store, command=_again(words, fresh=False), planned=planned)

    outcome = benchmark.run_suite(suite, store, say=_say, after=after)
    if outcome.records:
        after(outcome.records)
        _show(suite_tables(outcome.records))
        _say(f"\nReport: {_shown(store.folder / 'report.html')}")
    return _ended(outcome, "cell", store, words, "uq bench")


def _uci(options: argparse.Namespace, words: list[str]) -> int:
    from . import benchmark

    suite = benchmark.UCISuite(
        data_dir=options.data_dir,
        data=tuple(options.data) if options.data else None,
        splits=options.splits,
        size=options.size,
        seed=options.seed,
        epochs=options.epochs,
    )
    store = benchmark.Store(options.out, "results.jsonl", fresh=options.fresh)
    _say(f"deep ensembles, K = {suite.size}, seed {suite.seed}; results go to {_shown(store.folder)}")

    def after(records: list[dict[str, Any]]) -> None:
        benchmark.write_uci(records, store, command=_again(words, fresh=False))

    outcome = benchmark.run_uci(suite, store, say=_say, after=after)
    if outcome.records:
        after(outcome.records)
        _show(benchmark.uci_tables(outcome.records))
        _say(f"\nTables: {_shown(store.folder / 'uci.md')}")
    return _ended(outcome, "split", store, words, "uq bench uci")


def _ended(outcome: Any, what: str, store: Any, words: list[str], command: str) -> int:
    """The exit code, and on stderr what failed and how to continue."""
    from .benchmark.run import plural

    for text in outcome.failed:
        print(f"{command}: failed: {text}", file=sys.stderr)
    if outcome.interrupted:
        print(
            f"\nInterrupted: {len(outcome.records)} of {plural(outcome.planned, what)} finished and kept in "
            f"{_shown(store.folder)}. To continue: {_again(words, fresh=store.fresh)}",
            file=sys.stderr,
        )
        return 130
    return 1 if outcome.failed else 0


def _methods(options: argparse.Namespace, words: list[str]) -> int:
    del options, words
    from .benchmark.task import METHODS
    from .methods import REGISTER

    for name, entry in REGISTER.items():
        alone = METHODS[name]
        lifted = next(other for other in METHODS.values() if other.lifts == name)
        print(f"{name}\n    {entry.summary}")
        print(f"    cost        {entry.cost}\n    cite        {entry.reference}")
        print(f"    in uq bench {alone.name}, {lifted.name}\n")
    print("Lift any of them to K members with uq.ensemble(method, K); uq.deep_ensemble is short for the first.")
    return 0


def _shown(path: Path) -> str:
    return str(path) if path.is_absolute() else f"./{path}"
