"""Coverage of every conformal procedure for regression: found, and the band that its exact law gives.

python benchmarks/coverage.py --out benchmarks/results/coverage.jsonl

One line a cell: procedure or score, n, level, how many outcomes were covered of how many, and the range where that
number lies with probability 1 − 1e-5 (for guarantees from below, up to all of them). Minutes on one core.
The simulations are those of the tests: `pip install '.[test]'`.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import uq
from tests.conformal import simulation, test_cross, test_distribution, test_groups_and_weights, test_joint

SIZES = simulation.SIZES
FOLDS = {9: 9, 19: 19, 20: 5, 50: 10, 200: 10, 1000: 10}


def cells():
    """Every cell of the table, one after another."""
    for n in SIZES:
        for name in simulation.SCORES:
            yield from simulation.split_coverage(name, n)
        yield from test_groups_and_weights.mondrian_coverage(n)
        for name in ("max_norm", "copula", "ellipsoid"):
            yield from test_joint.joint_coverage(name, n)
        for kind in ("mass", "density"):
            yield from test_distribution.density_coverage(kind, n)
        for localize in (False, True):
            yield from test_groups_and_weights.shifted_coverage(n, 2000, localize)
        yield from test_cross.cross_coverage(n, FOLDS[n], 2000)
        yield from test_cross.bootstrap_coverage(n, 2000)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/coverage.jsonl")
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", uq.UQWarning)
    start, missed, number = time.time(), [], 0
    with out.open("w") as file:
        for cell in cells():
            number += 1
            cell = {**cell, "coverage": round(cell["covered"] / cell["of"], 5), "uq": uq.__version__}
            file.write(json.dumps(cell) + "\n")
            file.flush()
            if not cell["low"] <= cell["covered"] <= cell["high"]:
                missed.append(cell)
    print(f"{number} cells in {time.time() - start:.0f} s, {len(missed)} outside their band: {missed}")


if __name__ == "__main__":
    main()
