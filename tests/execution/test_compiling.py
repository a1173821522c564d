"""Programs kept on disk serve the next process; the collector of cycles rests while programs are traced."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

import uq
from uq.execution.compiling import uncollected

SCRIPT = """
import sys, flax.linen as nn, jax, numpy as np, uq
uq.execution.keep_compiled(sys.argv[1])
x = np.random.default_rng(0).normal(size=(40, 3))
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
posterior = uq.fit(uq.deep_ensemble(nn.Dense(2), uq.likelihoods.Gaussian(), size=3), (x, x[:, 0]), key=0, epochs=1)
print(sum(name.endswith("compilation_cache/cache_hits") for name in hits), posterior.history.loss[0, 0])
"""


def test_the_next_process_finds_what_this_one_compiled(tmp_path: Path) -> None:
    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "kept")], capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    first, second = run(), run()
    assert any((tmp_path / "kept").iterdir())
    assert int(second[0]) >= 3 > int(first[0])
    assert first[1] == second[1]


def test_a_folder_that_cannot_be_made_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(uq.InputError, match="cannot write to"):
        uq.execution.keep_compiled(tmp_path / "file" / "inside")


@pytest.mark.parametrize("before", [True, False])
def test_the_collector_rests_and_works_again_as_before(before: bool) -> None:
    was = gc.isenabled()
    try:
        (gc.enable if before else gc.disable)()
        with uncollected() as resume:
            assert not gc.isenabled()
            resume()
            assert gc.isenabled() == before
            gc.disable()
        assert gc.isenabled() == before
        with pytest.raises(ZeroDivisionError), uncollected():
            _ = 1 / 0
        assert gc.isenabled() == before
    finally:
        (gc.enable if was else gc.disable)()
