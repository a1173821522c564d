"""`Table`: a small frozen table of results that reads well in a terminal and in a notebook."""

from __future__ import annotations

import html
import math
import numbers
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ._checks import InputError, unknown_name

_DIGITS = 4
_ARROWS = {"lower": "↓", "higher": "↑"}


@dataclass(frozen=True)
class Table:
    """Rows of numbers under named columns, identified by the first column or columns.

    Args:
      columns: names of the columns, labels first.
      rows: one tuple a row. A cell is a number, text, None where there is nothing to say, or a pair
        (value, standard error).
      labels: how many leading columns identify a row: 1 for a list of metrics, 2 for method × data set.
      better: for the name of a metric, wherever it stands (in a label or at the head of a column): "lower",
        "higher", or the number it should come to. Printed as an arrow.
      title: printed above.
      notes: lines printed below.
      places: for a column's name, how many decimals its numbers are printed with: one count, or one a row. None, and
        columns that are not named, leave it to the number: four significant digits.

    `table[label]` is the value in the first column after the labels, `table[label, column]` that of another
    column; with two label columns, `table[method, data, column]`. Iterating gives one dictionary a row.
    Raises:
      InputError: a row whose length is not that of `columns`, a repeated column, an unknown label or column.
    Example:
      >>> rows = ("crps", 0.12345678), ("accuracy", 0.9)
      >>> table = Table(("metric", "value"), rows, better={"crps": "lower"})
      >>> print(table)
      metric     value
      ────────────────
      crps ↓    0.1235
      accuracy  0.9000
      >>> table["crps"]
      0.12345678
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    labels: int = 1
    better: Mapping[str, str | float] = field(default_factory=dict)
    title: str = ""
    notes: tuple[str, ...] = ()
    places: Mapping[str, int | Sequence[int | None] | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "rows", tuple(tuple(row) for row in self.rows))
        object.__setattr__(self, "better", dict(self.better))
        object.__setattr__(self, "notes", tuple(self.notes))
        object.__setattr__(self, "places", dict(self.places))
        if len(set(self.columns)) != len(self.columns):
            raise InputError(f"`columns` expected different names, but they are {', '.join(self.columns)}.")
        if not 1 <= self.labels <= len(self.columns):
            raise InputError(f"`labels` expected 1 to {len(self.columns)}, but it is {self.labels}.")
        for name, goal in self.better.items():
            if isinstance(goal, str) and goal not in _ARROWS:
                raise InputError(f'`better` expected "lower", "higher" or a number for {name!r}, but it is {goal!r}.')
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InputError(
                    f"Row {number} expected {len(self.columns)} cells ({', '.join(self.columns)}), but has {len(row)}."
                )

    # Reading

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for row in self.rows:
            yield dict(zip(self.columns, row, strict=True))

    def __contains__(self, label: object) -> bool:
        return label in self.keys()

    def keys(self) -> tuple[Any, ...]:
        """The rows' labels: text, or tuples of text with several label columns."""
        if self.labels == 1:
            return tuple(row[0] for row in self.rows)
        return tuple(row[: self.labels] for row in self.rows)

    def __getitem__(self, key: Any) -> Any:
        key = key if isinstance(key, tuple) else (key,)
        label, rest = key[: self.labels], key[self.labels :]
        if len(label) < self.labels or len(rest) > 1:
            raise InputError(
                f"A row is looked up by {', '.join(self.columns[: self.labels])} and perhaps a column, but got {key}."
            )
        row = next((row for row in self.rows if row[: self.labels] == label), None)
        if row is None:
            known = [" / ".join(map(str, r[: self.labels])) for r in self.rows]
            raise unknown_name("row", " / ".join(map(str, label)), known)
        if rest and rest[0] not in self.columns:
            raise unknown_name("column", str(rest[0]), self.columns)
        at = self.columns.index(rest[0]) if rest else min(self.labels, len(self.columns) - 1)
        return row[at][0] if isinstance(row[at], tuple) else row[at]

    def column(self, name: str) -> tuple[Any, ...]:
        """The cells of one column, from top to bottom."""
        if name not in self.columns:
            raise unknown_name("column", name, self.columns)
        return tuple(row[self.columns.index(name)] for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """`{label: {column: cell}}`, one more level for each further label column; plain enough for JSON."""
        result: dict[str, Any] = {}
        for row in self.rows:
            inner = result
            for label in row[: self.labels]:
                inner = inner.setdefault(str(label), {})
            inner.update(zip(self.columns[self.labels :], row[self.labels :], strict=True))
        return result

    # Printing

    def _named(self, text: Any) -> str:
        """A label or heading with its arrow."""
        goal = self.better.get(text) if isinstance(text, str) else None
        if goal is None:
            return str(text)
        return f"{text} {_ARROWS[goal] if isinstance(goal, str) else f'→ {goal:g}'}"

    def head(self) -> list[str]:
        """The columns' names as printed, with their arrows."""
        return [self._named(name) for name in self.columns]

    def cells(self) -> list[list[str]]:
        """Every cell as text, row by row."""
        return [
            [
                self._named(cell) if at < self.labels else format_cell(cell, places=self._places(at, number))
                for at, cell in enumerate(row)
            ]
            for number, row in enumerate(self.rows)
        ]

    def _places(self, at: int, row: int) -> int | None:
        places = self.places.get(self.columns[at])
        return places[row] if isinstance(places, Sequence) else places

    def _left(self, at: int) -> bool:
        """Whether a column holds text, which is aligned to the left."""
        return at < self.labels or any(isinstance(row[at], str) and not _is_number(row[at]) for row in self.rows)

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, width: int | None = None, *, apart: Sequence[str] = ()) -> str:
        """The table for a terminal.

        Args:
          width: how many columns of text there are. Columns that do not fit follow in further tables below, each
            with the labels again; None prints all side by side.
          apart: names of columns; the first of them begins the further table if that makes no more tables.
        """
        head, body = self.head(), self.cells()
        widths = [max(len(line[at]) for line in [head, *body]) for at in range(len(head))]
        blocks = _blocks(widths, self.labels, width)
        at = next((at for at, name in enumerate(self.columns) if name in apart), 0)
        broken = _blocks(widths, self.labels, width, at)
        blocks = broken if 1 < len(broken) == len(blocks) else blocks
        parts = [self._block(block, widths, head, body) for block in blocks]
        around = [_wrapped(line, width) for line in self.notes]
        title = [_wrapped(self.title, width)] if self.title else []
        return "\n".join([*title, "\n\n".join(parts), *around])

    def _block(self, block: Sequence[int], widths: Sequence[int], head: list[str], body: list[list[str]]) -> str:
        def aligned(line: Sequence[str]) -> str:
            cells = [line[at].ljust(widths[at]) if self._left(at) else line[at].rjust(widths[at]) for at in block]
            return "  ".join(cells).rstrip()

        rule = "─" * (sum(widths[at] for at in block) + 2 * (len(block) - 1))
        return "\n".join([aligned(head), rule, *(aligned(line) for line in body)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, body = self.head(), self.cells()

        def line(cells: Sequence[str], tag: str) -> str:
            said = []
            for i, cell in enumerate(cells):
                side = "left" if self._left(i) else "right"
                said.append(f'<{tag} style="text-align:{side}">{html.escape(cell)}</{tag}>')
            return f"<tr>{''.join(said)}</tr>"

        caption = f"<caption>{html.escape(self.title)}</caption>" if self.title else ""
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        rows = "".join(line(cells, "td") for cells in body)
        return f"<table>{caption}<thead>{line(head, 'th')}</thead><tbody>{rows}</tbody></table>{notes}"


def _blocks(widths: Sequence[int], labels: int, width: int | None, new: int = 0) -> list[list[int]]:
    """Which columns stand side by side: the labels and as many others as fit, at least one; `new` does not join."""
    first = list(range(labels))
    if width is None:
        return [list(range(len(widths)))]
    blocks = [first.copy()]
    for at in range(labels, len(widths)):
        block = [*blocks[-1], at]
        if len(blocks[-1]) > labels and (at == new or sum(widths[i] + 2 for i in block) - 2 > width):
            blocks.append([*first, at])
        else:
            blocks[-1].append(at)
    return blocks


def _wrapped(text: str, width: int | None) -> str:
    return text if width is None else "\n".join(textwrap.wrap(text, width) or [""])


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def format_cell(cell: Any, *, places: int | None = None) -> str:
    """A cell as text, "value ± error" for a pair.

    Args:
      cell: what to print; whole numbers are printed in full.
      places: decimals; None prints four significant digits, an error with two and its value to the same place.
    """
    if cell is None:
        return "–"
    if isinstance(cell, tuple):
        value, error = float(cell[0]), cell[1]
        if error is None:
            return format_cell(value, places=places)
        if places is not None and math.isfinite(value) and math.isfinite(error):
            return f"{value:.{places}f} ± {float(error):.{places}f}"
        return _with_error(value, float(error))
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, str | numbers.Integral):
        return str(cell)
    value = float(cell)
    return _digits(value, _DIGITS) if places is None or not math.isfinite(value) else f"{value:.{places}f}"


def decimals(error: float | None, digits: int = 2) -> int | None:
    """How many decimals show so many significant digits of a standard error; None where there is none."""
    if error is None or not math.isfinite(error) or error == 0:
        return None
    said = f"{abs(error):.{digits - 1}e}"  # 0.0996 is 0.10 with two digits
    return min(max(digits - 1 - int(said.partition("e")[2]), 0), 12)


def column_places(cells: Sequence[Any]) -> int | None:
    """One number of decimals for a column of like numbers: two significant digits of the middle error, or three of the
    middle value where there are no errors, and at least one of the smallest.

    Whole numbers and text need none: None.
    """
    pairs = [cell for cell in cells if isinstance(cell, tuple) and cell[1]]
    sizes = [abs(float(error)) for _, error in pairs]
    if not pairs:
        values = [cell[0] if isinstance(cell, tuple) else cell for cell in cells]
        sizes = [abs(float(value)) for value in values if isinstance(value, float | np.floating)]
    sizes = sorted(size for size in sizes if size and math.isfinite(size))
    if not sizes:
        return None
    middle = decimals(sizes[len(sizes) // 2], 2 if pairs else 3) or 0
    return max(middle, decimals(sizes[0], 1) or 0)


def _with_error(value: float, error: float) -> str:
    """The error with two significant digits, and the value to the same place."""
    said = _digits(error, 2)
    if "e" in said or not math.isfinite(value) or not math.isfinite(error) or error == 0:
        return f"{_digits(value, _DIGITS)} ± {said}"
    return f"{value:.{len(said.partition('.')[2])}f} ± {said}"


def _digits(value: float, digits: int) -> str:
    """`value` with so many significant digits; in powers of ten only where it is very large or very small."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    places = digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    return f"{value:.{max(places, 0)}f}"
