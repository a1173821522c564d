"""README and docs say what is true: their code runs, every public name has an entry, every reference exists."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import jax
import pytest

import uq

ROOT = Path(__file__).parents[2]
NAMESPACES = (
    "likelihoods", "losses", "methods", "metrics", "calibrate", "conformal", "ood", "decide", "optimizers", "execution",
    "laws", "plot", "data",
)  # fmt: skip
MODULES = sorted(
    name for _, name, _ in pkgutil.walk_packages(uq.__path__, "uq.") if name not in ("uq.__main__", "uq.cli")
)


def public_names():
    """Top-level names of the form `x as x`, and the public functions and classes of each namespace."""
    tree = ast.parse((ROOT / "uq/__init__.py").read_text())
    top = {
        alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names if alias.asname
    }
    names = {f"uq.{name}" for name in top if not name.startswith("__") and name not in NAMESPACES}
    for space in NAMESPACES:
        module = importlib.import_module(f"uq.{space}")
        for name, value in vars(module).items():
            if name.startswith("_") or inspect.ismodule(value) or not callable(value):
                continue
            if getattr(value, "__module__", "").startswith(f"uq.{space}"):
                names.add(f"uq.{space}.{name}")
    return names


def test_every_public_name_has_an_entry_and_every_entry_a_name():
    listed = set(re.findall(r"^- `(uq\.[\w.]+)`", (ROOT / "docs/api.md").read_text(), re.M))
    assert listed == public_names()


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    with jax.numpy_dtype_promotion("standard"):
        failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


def test_readme_example_runs_and_has_ten_lines(monkeypatch, tmp_path, capsys):
    block = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S).group(1)
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    fast = block.replace("key=0)", "key=0, epochs=2)")
    assert fast != block
    with jax.numpy_dtype_promotion("standard"):
        exec(compile(fast, "README.md", "exec"), {})
    assert "crps" in capsys.readouterr().out


def test_readme_commands_make_their_own_environment():
    text = (ROOT / "README.md").read_text()
    commands = re.findall(r"^python3 -m venv .*$", text, re.M)
    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install '.[bench]' && .venv/bin/uq bench",
        "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/python -m pytest",
    ]


def test_links_between_pages_lead_somewhere():
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_references_exist_and_none_is_unused():
    known = set(re.findall(r"^@\w+\{(\w+),", (ROOT / "docs/references.bib").read_text(), re.M))
    cited = set()
    for path in (ROOT / "uq").rglob("*.py"):
        for section in re.findall(r"References:\n(.*?)(?:\n\s*\n|\n\s*[A-Z]\w+:\n|\"\"\")", path.read_text(), re.S):
            cited |= set(re.findall(r"\b([a-z]+(?:19|20)\d\d[a-z]?)\b", section))
    assert cited - known == set()
    assert known - cited == set()


def test_every_method_has_a_page_and_every_page_a_method():
    pages = {path.stem for path in (ROOT / "docs/methods").glob("*.md")}
    assert pages == set(uq.methods.REGISTER)


def test_citation_has_the_version_of_the_package():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (\S+)$", text, re.M).group(1) == uq.__version__
