"""Time and memory of predictions for many rows: chunk after chunk, beside everything in one program.

python benchmarks/speed/predict_scale.py

A network 10 -> 50 -> 2 with K members, Gaussian outputs with shifted and scaled targets; inputs are made chunk by
chunk. Memory: the peak of a new process for each number of rows, and before the first of them. Throughput: the streamed
moments and, called in turn, one program for all rows at once, as if memory did not matter; ratios of medians.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import uq
from uq.metrics import streaming

HERE = Path(__file__).parent
FEATURES, PIECE = 10, 50_000
NET = nn.Sequential([nn.Dense(50), nn.relu, nn.Dense(2)])


def ensemble(members):
    example = jnp.ones((1, FEATURES))
    variables = jax.jit(lambda: uq.batched_init(NET, 0, example, members))()
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 100.0, 25.0)
    inputs = uq.standardize.scaling_of(np.random.default_rng(0).normal(5.0, 3.0, (1000, FEATURES)))
    return uq.posterior(NET, likelihood, variables, x=example, inputs=inputs)


def batches(rows):
    """`(x, y)` in batches that do not divide anything."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, PIECE):
        size = min(PIECE, rows - start)
        x = rng.standard_normal((size, FEATURES), np.float32) * 3 + 5
        yield x, 100 + 25 * x[:, 0]


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(what, rows, members):
    """In this process: peak memory of one pass over the rows."""
    posterior = ensemble(members)
    metrics = {"nll": streaming.Mean("log_score"), "rmse": streaming.Mean("squared_error", root=True)}

    def run(rows):
        if what == "moments":
            return posterior.moments((x for x, _ in batches(rows)))
        return posterior.evaluate_batches(batches(rows), metrics)

    run(2 * PIECE)  # compiles
    before, began = peak_mb(), time.perf_counter()
    run(rows)
    seconds = time.perf_counter() - began
    kept = 3 * 4 * rows / 2**20 if what == "moments" else 0
    return {
        "what": what, "rows": rows, "members": members, "before_mb": round(before), "peak_mb": round(peak_mb()),
        "kept_mb": round(kept), "rows_per_s": round(rows / seconds),
    }  # fmt: skip


def throughput(rows, members, passes):
    """Streamed and whole, in turn."""
    posterior = ensemble(members)
    x = np.concatenate([x for x, _ in batches(rows)])

    def whole():
        pred = posterior.predict(x, batch_size=rows, member_size=members)
        return [np.asarray(value) for value in pred._moments()]

    contenders = {
        "streamed": lambda: posterior.moments(x),
        "predict": lambda: [np.asarray(value) for value in posterior.predict(x)._moments()],
        "whole": whole,
        **{
            f"chunks of {size:,}": lambda size=size: posterior.moments(x, batch_size=size)
            for size in (1024, 8192, 65536)
        },
    }
    seconds = {name: [] for name in contenders}
    for number in range(passes + 1):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            if number:  # the first compiles
                seconds[name].append(time.perf_counter() - began)
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    return [
        {
            "what": name, "rows": rows, "members": members, "median_s": round(median, 4),
            "of_whole": round(median / medians["whole"], 3), "rows_per_s": round(rows / median),
        }
        for name, median in medians.items()
    ]  # fmt: skip


def about():
    return {
        "device": jax.devices()[0].device_kind, "jax": jax.__version__, "uq": uq.__version__,
        "python": platform.python_version(), "cores": os.cpu_count(), "load1": round(os.getloadavg()[0], 2),
    }  # fmt: skip


def in_new_process(*arguments):
    command = [sys.executable, __file__, "--one", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{arguments} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10**6, 10**7])
    parser.add_argument("--whole-rows", type=int, nargs="+", default=[10**5, 10**6])
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--many-members", type=int, default=200)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "predict_scale.jsonl")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(memory(args.one[0], int(args.one[1]), int(args.one[2]))))
        return
    asked = [(what, rows, args.members) for what in ("moments", "metrics") for rows in args.rows]
    asked.append(("moments", args.rows[0] // 10, args.many_members))
    lines = [{**in_new_process(*one), **about()} for one in asked]
    print("| of | rows | members | before, MB | peak, MB | results, MB | rows a second |")
    print("|---|---|---|---|---|---|---|")
    for line in lines:
        numbers = (line[name] for name in ("rows", "members", "before_mb", "peak_mb", "kept_mb", "rows_per_s"))
        print(f"| {line['what']} | " + " | ".join(f"{number:,}" for number in numbers) + " |")
    print("\n| rows | how | ÷ one program for all | rows a second |\n|---|---|---|---|")
    for rows in args.whole_rows:
        for line in throughput(rows, args.members, args.passes):
            lines.append({**line, **about()})
            print(f"| {rows:,} | {line['what']} | {line['of_whole']:.2f} | {line['rows_per_s']:,} |")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
