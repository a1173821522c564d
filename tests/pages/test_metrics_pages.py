"""Snippets of the pages below run from the top, and print what the page shows."""

import contextlib
import io
import re
from pathlib import Path

import jax
import pytest

DOCS = Path(__file__).parents[2] / "docs"
FOLDERS = ("metrics", "calibrate", "conformal")
ALONE = ("calibration.md", "conformal.md", "performance.md")
PAGES = [page for folder in FOLDERS for page in sorted((DOCS / folder).glob("*.md"))] + [DOCS / page for page in ALONE]
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.S)
NUMBER = re.compile(r"[-−]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")


def numbers(text):
    return [float(found.replace(",", "").replace("−", "-")) for found in NUMBER.findall(text)]


def words(text):
    return re.sub(r"[\s\[\]─]+", " ", NUMBER.sub("", text)).strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets_run_and_print_what_the_page_shows(page):
    space = {}
    for code, shown in BLOCK.findall(page.read_text()):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), jax.numpy_dtype_promotion("standard"):
            exec(compile(code, page.name, "exec"), space)
        if shown:
            assert words(printed.getvalue()) == words(shown), code
            assert numbers(printed.getvalue()) == pytest.approx(numbers(shown), rel=0.02, abs=2e-3), code
