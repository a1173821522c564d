"""One self-contained HTML file: tables with cost beside quality, figures, and how to reproduce it all."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..table import Table
from .compare import suite_tables
from .store import Store

NAME = "report.html"
_CAPTIONS = {
    "bands": "Mean and central 90 % interval of the test rows, in order of their predicted mean; outcomes "
    "outside their interval in red (about one in ten should be).",
    "coverage": "Share of outcomes inside central intervals, for every level. Grey: where a perfectly "
    "calibrated model would be in 90 of 100 test sets of this size.",
    "reliability": "Share of right labels against predicted confidence, with 90 % intervals; bars are the "
    "share of test rows in each bin, and so are the areas of the points. Above the diagonal is underconfident.",
}
_MEANING = (
    (
        "nll",
        "negative log-likelihood of the exact mixture on test rows, nats a row, in the target's units; lower",
    ),
    ("vs single", "paired difference to the single network on the same rows; negative is better than it"),
    ("rmse", "root-mean-square error of the predicted mean, in the target's own units; lower"),
    ("coverage", "share of test outcomes inside their 90 % interval; should be 0.9"),
    ("width", "mean width of that interval, in the target's own units; lower, if coverage is right"),
    ("accuracy", "share of test rows whose most probable label is right; higher"),
    (
        "calib. error",
        "expected calibration error, 15 bins of equal width; lower, but not 0 for few rows",
    ),
    ("fit s", "seconds of training with compilation, one process"),
    ("predict µs/row", "microseconds a row of a warm prediction of 1,000 rows"),
    ("parameters", "numbers kept for prediction, over all members"),
)
_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1f2328; --soft: #59636e; --line: #d8dce2; --page: #ffffff; --band: #f5f7f9; --accent: #2f6fb0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8eaed; --soft: #a3abb5; --line: #3a4048; --page: #16191d; --band: #1e2227; --accent: #7fb2e8;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 78rem; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
}
h1 { font-size: 1.7rem; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .6rem; }
h3 { font-size: 1.02rem; margin: 1.6rem 0 .5rem; font-weight: 600; }
p { max-width: 48rem; margin: .5rem 0; }
.soft { color: var(--soft); }
.scroll { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .5rem; text-align: right; white-space: nowrap; }
th { font-weight: 600; color: var(--soft); border-bottom: 1.5px solid var(--line); vertical-align: bottom; }
td.text, th.text { text-align: left; }
tr.first td { border-top: 1px solid var(--line); }
tbody tr:hover { background: var(--band); }
td.best { font-weight: 700; color: var(--accent); }
.figures {
  display: grid; gap: 1rem; margin: .6rem 0 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr));
}
figure { margin: 0; }
figure img {
  width: 100%; height: auto; display: block; background: #fff; padding: .3rem; border: 1px solid var(--line);
  border-radius: 6px;
}
figcaption { font-size: .84rem; color: var(--soft); margin-top: .35rem; }
figcaption b { color: var(--ink); }
pre {
  background: var(--band); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem;
  overflow-x: auto; font-size: .85rem;
}
dl {
  display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; max-width: 60rem; font-size: .88rem;
}
dt { font-weight: 600; }
dd { margin: 0; color: var(--soft); }
.note { border-left: 3px solid var(--accent); padding: .2rem .9rem; background: var(--band); }
"""


def write_report(records: Sequence[dict[str, Any]], store: Store, *, command: str, planned: int) -> Path:
    """Write `report.html`: inline style, figures inside the file, nothing loaded from elsewhere.

    Args:
      records: finished cells, as `run_suite` returns them.
      store: the output folder.
      command: the command that computes them.
      planned: how many cells there will be; fewer records are said to be a part.
    Returns:
      The file.
    """
    text = render(records, store.folder, command=command, planned=planned)
    return store.write(NAME, text.encode(errors="replace"))


def render(records: Sequence[dict[str, Any]], folder: Path, *, command: str, planned: int) -> str:
    """The report as text."""
    first = records[0] if records else None
    parts = ["<h1>Calibration benchmark</h1>"]
    if first is None:
        parts.append("<p>No cell has finished yet.</p>")
    else:
        size = max(record["size"] for record in records)
        where = first["device"]
        parts.append(
            f'<p class="soft">uq {first["versions"]["uq"]} · K = {size} · seed {first["seed"]} · '
            f"one 80/20 split · {where['kind']}, {where['cpu_cores']} CPU cores</p>"
        )
    if len(records) < planned:
        parts.append(
            f'<p class="note">{len(records)} of {planned} cells finished. The same command continues from here.</p>'
        )
    parts.append(
        "<p>Every method is given the same rows, the same network and the same initial weights. Of the rows to train "
        "on, each point estimate (the single network, every member of the deep ensemble) leaves out a random tenth, "
        "by which its best epoch is chosen; the variational methods train on all of them. Predictions are exact "
        "mixtures over the members: densities are averaged, outputs are not. ± is one standard error over test rows; "
        "a share of exactly 0 or 1 has none, since equal outcomes do not tell it. <b>Bold</b> marks the best mean, "
        "which is often within the error of others.</p>"
    )
    parts += [f"<h2>{html.escape(table.title)}</h2>{_table(table)}" for table in suite_tables(records)]
    if records:
        meaning = "".join(f"<dt>{html.escape(a)}</dt><dd>{html.escape(b)}</dd>" for a, b in _MEANING)
        parts.append(f"<h3>What the columns mean</h3><dl>{meaning}</dl>")
    tasks = dict.fromkeys(record["task"] for record in records)
    parts += [_figures([record for record in records if record["task"] == task], folder) for task in tasks]
    parts.append(_reproduce(first, command))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>uq: calibration benchmark</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _table(table: Table) -> str:
    """The table with the best value of each data set in bold, and a rule between data sets."""
    heads = [f"<th{_text(at < table.labels)}>{html.escape(name)}</th>" for at, name in enumerate(table.head())]
    rows, before = [], None
    for row, said in zip(table.rows, table.cells(), strict=True):
        group = [other for other in table.rows if other[0] == row[0]]
        cells = []
        for at, cell in enumerate(row):
            text = "" if at == 0 and row[0] == before else _typeset(cell, said[at])
            best = at >= table.labels and _is_best(table, at, cell, [other[at] for other in group])
            cells.append(f"<td{_text(at < table.labels, best=best)}>{html.escape(text)}</td>")
        opening = "<tr>" if row[0] == before else '<tr class="first">'
        rows.append(f"{opening}{''.join(cells)}</tr>")
        before = row[0]
    inner = f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="scroll"><table>{inner}</table></div>'


def _typeset(cell: Any, text: str) -> str:
    """Counts with separators, and a minus sign that is as wide as a digit."""
    if isinstance(cell, str):
        return text
    return f"{cell:,}" if isinstance(cell, int) else text.replace("-", "−")


def _text(text: bool, *, best: bool = False) -> str:
    return ' class="text"' if text else ' class="best"' if best else ""


def _is_best(table: Table, at: int, cell: Any, column: list[Any]) -> bool:
    goal = table.better.get(table.columns[at])
    values = [value[0] if isinstance(value, tuple) else value for value in column]
    numbers = [value for value in values if value is not None]
    if table.columns[at] not in ("nll", "rmse", "accuracy", "calib. error") or len(numbers) < 2:
        return False
    value = cell[0] if isinstance(cell, tuple) else cell
    return value == (min(numbers) if goal == "lower" else max(numbers))


def _figures(records: Sequence[dict[str, Any]], folder: Path) -> str:
    first = records[0]
    unit = f" [{first['unit']}]" if first["unit"] else ""
    about = f"{first['target']}{unit}; {first['configuration']['train_rows']} rows to train on, "
    about += f"{first['configuration']['test_rows']} to test on. {first['source']}."
    parts = [f"<h2>{html.escape(first['task'])}</h2>", f'<p class="soft">{html.escape(about)}</p>']
    for what in first["figures"]:
        parts.append(f'<p class="soft">{html.escape(_CAPTIONS[what])}</p><div class="figures">')
        for record in records:
            path = folder / record["figures"][what]
            if not path.is_file():
                continue
            data = base64.b64encode(path.read_bytes()).decode()
            title = f"{record['task']}, {record['label']}"
            caption = f"<b>{html.escape(record['label'])}</b> · {html.escape(_summary(record))}"
            parts.append(
                f'<figure><img alt="{html.escape(f"{title}: {what}")}" src="data:image/png;base64,{data}">'
                f"<figcaption>{caption}</figcaption></figure>"
            )
        parts.append("</div>")
    return "\n".join(parts)


def _summary(record: dict[str, Any]) -> str:
    metrics = record["metrics"]
    if record["kind"] == "regression":
        shown = (("nll", "log_score"), ("rmse", "rmse"), ("90 % coverage", "coverage"))
    else:
        shown = (("nll", "log_score"), ("accuracy", "accuracy"), ("calibration error", "calibration_error"))
    return ", ".join(f"{name} {_shown(metrics[key]['value'])}" for name, key in shown)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _reproduce(first: dict[str, Any] | None, command: str) -> str:
    parts = [f"<h2>How to reproduce</h2><pre>{html.escape(command)}</pre>"]
    if first is not None:
        versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
        where = first["device"]
        parts.append(
            f"<p>With {html.escape(versions)}; on {html.escape(where['system'])} "
            f"{html.escape(where['machine'])}, {html.escape(where['kind'])}. "
            "The split, initial weights and batches follow from the seed alone; trained weights may differ "
            "between versions and devices in the last digits. <code>results.jsonl</code> beside this file "
            "has one line for each cell, with its whole configuration and the score of every test row.</p>"
        )
    return "".join(parts)
