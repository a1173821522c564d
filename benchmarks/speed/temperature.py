"""Temperature scaling of ten members, 50,000 x 100: uq, netcal and torch-uncertainty, on the same probabilities.

python benchmarks/speed/temperature.py --peers .venv-torch/bin/python

`--peers` is a Python with netcal and torch-uncertainty (either may be missing; it may be this one). From the logits
of ten members to 1 / T of their mixture: the peers, who know one model, are given the mean of the members'
probabilities by PyTorch, and its seconds are told apart. Contenders run in turn, each in a process of its own, for
several passes; medians of fits after the first.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MEMBERS, CLASSES = 10, 100
CONTENDERS = ("uq", "uq, given the mean", "torch-uncertainty", "netcal")


def made(rows):
    """Logits of the members, of which each errs by itself, and labels: the members are twice too sure."""
    rng = np.random.default_rng(0)
    truth = 2 * rng.normal(size=(rows, CLASSES)).astype(np.float32)
    labels = (truth + rng.gumbel(size=truth.shape)).argmax(1)
    noise = rng.normal(size=(MEMBERS, rows, CLASSES)).astype(np.float32)
    return 2 * truth + noise, labels


def contender(name, logits, labels):
    """A call that mixes, and a call that takes what it gives and finds 1 / T."""
    if name.startswith("uq"):
        import jax
        import jax.numpy as jnp

        import uq

        if name != "uq":
            members, mean = jnp.asarray(logits), jax.jit(lambda members: jax.nn.softmax(members).mean(0))
            fit = uq.calibrate.temperature().fit
            return lambda: mean(members).block_until_ready(), lambda probs: float(fit(probs, labels).inverse)
        pred = jax.block_until_ready(uq.Predictive(jnp.asarray(logits), uq.likelihoods.Categorical(CLASSES)))
        return lambda: pred, lambda pred: float(uq.calibrate.temperature().fit(pred, labels).inverse)
    import torch

    members = torch.from_numpy(logits)

    def mixed():
        return torch.softmax(members, -1).mean(0)

    if name == "netcal":
        from netcal.scaling import TemperatureScaling

        def fit(probs):  # in float32 its search stops where it begins
            return float(np.ravel(TemperatureScaling().fit(probs.double().numpy(), labels).weights)[0])

        return mixed, fit
    from torch.utils.data import DataLoader, TensorDataset
    from torch_uncertainty.post_processing import TemperatureScaler

    def fit(probs):
        scaler = TemperatureScaler()
        data = TensorDataset(probs.log(), torch.from_numpy(labels))
        scaler.fit(DataLoader(data, batch_size=10_000), progress=False)
        return 1 / float(scaler.temperature[0])

    return mixed, fit


def run_one(name, rows, calls):
    mix, fit = contender(name, *made(rows))
    mixing, fitting = [], []
    for _ in range(calls + 1):
        began = time.perf_counter()
        mixture = mix()
        mixing.append(time.perf_counter() - began)
        inverse = fit(mixture)
        fitting.append(time.perf_counter() - began - mixing[-1])
    record = {"contender": name, "rows": rows, "inverse": inverse, "load1": round(os.getloadavg()[0], 2)}
    print(json.dumps(record | {"first_s": mixing[0] + fitting[0], "mix_s": mixing[1:], "fit_s": fitting[1:]}))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--out", default=str(Path(__file__).parent / "results" / "temperature.jsonl"))
    parser.add_argument("--one", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        run_one(args.one, args.rows, args.calls)
        return
    records = []
    for _ in range(args.passes):
        for name in CONTENDERS:
            python = sys.executable if name.startswith("uq") else args.peers
            command = [python, __file__, "--one", name, "--rows", str(args.rows), "--calls", str(args.calls)]
            with tempfile.TemporaryFile("w+") as errors:
                done = subprocess.run(command, stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
                if done.returncode:
                    errors.seek(0)
                    print(f"{name} did not run: {errors.read().strip().splitlines()[-1]}", file=sys.stderr)
                    continue
            records.append(json.loads(done.stdout.splitlines()[-1]))
    Path(args.out).write_text("".join(json.dumps(record) + "\n" for record in records))
    print("| contender | first, s | later, s | of which mixing | ratio | 1/T |")
    print("|---|---|---|---|---|---|")
    own = {name: [record for record in records if record["contender"] == name] for name in CONTENDERS}
    own = {name: found for name, found in own.items() if found}

    def later(name, what):
        return statistics.median([second for record in own[name] for second in record[what]])

    for name, found in own.items():
        mix, total = later(name, "mix_s"), later(name, "mix_s") + later(name, "fit_s")
        first = statistics.median(record["first_s"] for record in found)
        ratio = total / (later("uq", "mix_s") + later("uq", "fit_s"))
        print(f"| {name} | {first:.2f} | {total:.2f} | {mix:.2f} | {ratio:.1f} | {found[0]['inverse']:.5f} |")


if __name__ == "__main__":
    main()
