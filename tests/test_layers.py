"""The arrow Model → Method → Members → Predictive → metrics never turns back: read from the imports."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import uq

ROOT = Path(uq.__file__).parent
READERS = ("metrics", "calibrate", "conformal", "decide", "ood")
"""Packages that see predictions and outcomes alone."""
TRAINING = (
    "model", "wrap", "layers", "method", "methods", "ensembles", "execution", "optimizers", "losses", "prior",
    "train", "_training", "refresh", "crossfit", "_own_units", "holdout", "predict", "predict_batches", "_rows",
    "posterior",
)  # fmt: skip
SHELL = (
    "posterior",
    "train",
    "_preparing",
    "evaluate",
    "cli",
    "__main__",
    "benchmark",
    "sklearn",
    "doctor",
    "io",
    "plot",
    "cite",
)
"""The top: may import everything; of the rest, nothing imports them."""
SLOW = ("numpyro", "scipy.stats", "flax.nnx", "matplotlib", "sklearn", "rich")


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield path.relative_to(ROOT).with_suffix("").parts, path


def imported(path, parts):
    """Absolute names of everything that a file imports, at its top or inside functions."""
    package = ("uq", *parts[:-1])  # of `uq/a/b.py` and `uq/a/__init__.py` alike
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            stem = ".".join([*base, *([node.module] if node.module else [])])
            yield stem
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def top(name):
    """`methods` for `uq.methods.swag`; None for other packages."""
    parts = name.split(".")
    return parts[1] if parts[0] == "uq" and len(parts) > 1 else None


FILES = list(modules())


def test_the_reader_of_imports_reads():
    seen = set(imported(ROOT / "metrics" / "_forecast.py", ("metrics", "_forecast")))
    assert {"uq.laws", "uq.predictive.Predictive", "uq.metrics._inputs"} <= seen
    assert "uq.posterior.posterior" in set(imported(ROOT / "__init__.py", ("__init__",)))


@pytest.mark.parametrize(("parts", "path"), [f for f in FILES if f[0][0] in READERS], ids=lambda v: str(v))
def test_metrics_see_predictions_alone(parts, path):
    for name in imported(path, parts):
        assert name.split(".")[0] not in ("flax", "optax"), f"{path.name} imports {name}"
        assert top(name) not in {*TRAINING, *SHELL}, f"{path.name} imports {name}"


@pytest.mark.parametrize("parts, path", [f for f in FILES if f[0][0] not in (*SHELL, "__init__")], ids=lambda v: str(v))
def test_nothing_in_the_core_imports_the_shell(parts, path):
    for name in imported(path, parts):
        assert top(name) not in SHELL, f"{path.relative_to(ROOT)} imports {name}"


def test_importing_is_light_and_starts_no_backend():
    code = (
        "import sys, uq\n"
        "from jax._src import xla_bridge\n"
        f"print([m for m in {SLOW!r} if m in sys.modules], xla_bridge._backends)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[] {}"
