"""Run every runner in a new process, several passes interleaved, and write the medians and ratios.

python benchmarks/speed/compare.py --python-jax .venv/bin/python --python-torch .venv-torch/bin/python --passes 5
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
RUNNERS = [
    ("jax", "uq_fit.py", ""),
    ("jax", "uq_fit.py", "all-rows"),
    ("jax", "uq_fit.py", "same-init"),
    ("torch", "torch_vmap.py", ""),
    ("torch", "torch_loop.py", ""),
    ("jax", "flax_loop.py", ""),
]


def run_one(python, script, variant, arguments):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(HERE.parents[1])}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    command = [python, str(HERE / script), *arguments, "--variant", variant]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{script} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(lines, passes):
    by_runner = {}
    for line in lines:
        by_runner.setdefault(line["runner"], []).append(line)
    reference = statistics.median(line["cold_s"] for line in by_runner["uq.fit"])
    rows = [
        f"| runner | first fit, s (min–max of {passes}) | ÷ uq.fit | second fit, s | RMSE | NLL |",
        "|---|---|---|---|---|---|",
    ]
    for runner, found in by_runner.items():
        cold = [line["cold_s"] for line in found]
        warm, rmse, nll = (statistics.median(line[k] for line in found) for k in ("warm_s", "rmse", "nll"))
        middle = statistics.median(cold)
        spread = f"{middle:.2f} ({min(cold):.2f}–{max(cold):.2f})"
        rows.append(f"| {runner} | {spread} | {middle / reference:.2f} | {warm:.2f} | {rmse:.2f} | {nll:.3f} |")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python-jax", default=sys.executable, help="interpreter that has uq's requirements")
    parser.add_argument("--python-torch", default="", help="interpreter that has PyTorch; left out when not given")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--rows", default="1000")
    parser.add_argument("--members", default="20")
    parser.add_argument("--epochs", default="40")
    parser.add_argument("--out", type=Path, default=HERE / "results" / "fit.jsonl")
    args = parser.parse_args()
    shared = ["--rows", args.rows, "--members", args.members, "--epochs", args.epochs]
    pythons = {"jax": args.python_jax, "torch": args.python_torch}
    lines = []
    for number in range(args.passes):
        for kind, script, variant in RUNNERS:
            if pythons[kind]:
                line = run_one(pythons[kind], script, variant, [*shared, "--seed", str(10 * number)])
                line |= {"pass": number, "python": platform.python_version(), "cores": os.cpu_count()}
                lines.append(line)
                print(json.dumps(line), flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(table(lines, args.passes))


if __name__ == "__main__":
    main()
