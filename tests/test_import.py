"""Importing `uq` loads nothing slow, starts nothing and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import sys
import jax, flax.linen, optax
before = dict(jax.config.values)
loaded = set(sys.modules)
import uq
slow = {"numpyro", "scipy.stats", "matplotlib", "sklearn", "rich", "tqdm", "orbax"}
print(sorted((set(sys.modules) - loaded) & slow | set(sys.modules) & {"numpyro", "scipy.stats"}))
print("flax.nnx" in sys.modules and "flax.nnx" not in loaded)
from jax._src import xla_bridge
print(sorted(xla_bridge._backends))
print(dict(jax.config.values) == before)
"""


def test_import_is_light() -> None:
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=env, capture_output=True, text=True, check=True)
    slow, nnx, backends, same = done.stdout.splitlines()
    assert slow == "[]"
    assert nnx == "False"
    assert backends == "[]"
    assert same == "True"
