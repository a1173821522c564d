"""What few voters do to maps of class probabilities, and whether they carry over to many.

    python benchmarks/voters.py [--splits 6] [--out FILE]

Needs scikit-learn. First table: 100 members, five folds, so that twenty members left out each row; 1/T as fitted to
out-of-fold predictions by 1, 2, 5, 10 and 20 of them, and what is said of 10 by 2. Second: ten members, five folds; the
log score on test rows of recalibrators as fitted to two voters, and carried over to ten.
"""

import argparse
import json
import warnings
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from sklearn import datasets

import uq

VOTERS = (1, 2, 5, 10, 20)
MAPS = ("temperature", "vector", "dirichlet")
SETS = {"digits": 80, "breast_cancer": 60, "simulated": 40}
"""Data sets, and epochs."""


class MLP(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width)(nn.relu(nn.Dense(50)(x)))


def read(name, split):
    """`(x, y)` to train on and to test on."""
    if name == "simulated":
        rng = np.random.default_rng(split)
        x, mix = rng.normal(size=(1500, 8)).astype(np.float32), rng.normal(size=(8, 4))
        logits = 1.5 * np.sin(x) @ mix
        y = (logits + rng.gumbel(size=logits.shape)).argmax(1)
    else:
        x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = np.random.default_rng(split).permutation(len(y))
    train, test = order[: int(0.8 * len(y))], order[int(0.8 * len(y)) :]
    return (x[train], y[train]), (x[test], y[test])


def fitted(name, split, data, size):
    classes = int(data[1].max()) + 1
    method = uq.deep_ensemble(MLP(classes), uq.likelihoods.Categorical(classes), size=size)
    scheme = uq.crossfit(5, stratify=True)
    return uq.fit(method, data, key=split, holdout=scheme, epochs=SETS[name], progress=False)


def temperatures(name, split):
    """1/T by number of voters, pooled over groups of that many, and what two say of ten."""
    (x, y), _ = read(name, split)
    found = fitted(name, split, (x, y), 100).out_of_fold()
    scaled, by_voters = uq.calibrate.temperature(), {}
    for voters in VOTERS:
        groups = found.outputs.reshape(-1, voters, *found.outputs.shape[1:])
        outputs = jnp.concatenate(list(groups), axis=1)
        state = scaled.fit(uq.Predictive(outputs, found.likelihood), np.tile(y, len(groups)))
        by_voters[voters] = float(state.inverse)
    carried = by_voters[2] + (1 / 10 - 1 / 2) / (1 - 1 / 2) * (by_voters[1] - by_voters[2])
    return {"set": name, "split": split, "inverse": by_voters, "ten_from_two": carried}


def scores(name, split):
    """Log scores on test rows."""
    train, (x, y) = read(name, split)
    posterior = fitted(name, split, train, 10)

    def score(posterior):
        return -float(posterior.predict(x).log_prob(y).mean())

    found = {"none": score(posterior), "auto": score(posterior.calibrate())}
    for each in MAPS:
        calibrated = posterior.calibrate(getattr(uq.calibrate, each)())
        state = calibrated.calibration
        still = state.voters._replace(change=jax.tree.map(np.zeros_like, state.voters.change))
        found[each] = score(calibrated)
        found[f"{each}, of two"] = score(replace(calibrated, calibration=state._replace(voters=still)))
    return {"set": name, "split": split, "scores": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--splits", type=int, default=6)
    parser.add_argument("--out", default="benchmarks/results/voters.jsonl")
    args = parser.parse_args()
    warnings.filterwarnings("ignore", category=uq.UQWarning)
    records = []
    for name in SETS:
        records += [temperatures(name, split) for split in range(2)]
        records += [scores(name, split) for split in range(args.splits)]
    with open(args.out, "w") as file:
        file.writelines(json.dumps(record) + "\n" for record in records)
    print(f"| set | {' | '.join(f'{v} voters' for v in VOTERS)} | ten, said by two |")
    print("|---" * (len(VOTERS) + 2) + "|")
    for name in SETS:
        own = [r for r in records if r["set"] == name and "inverse" in r]
        cells = [np.mean([r["inverse"][v] for r in own]) for v in VOTERS] + [np.mean([r["ten_from_two"] for r in own])]
        print(f"| {name} | {' | '.join(f'{cell:.3f}' for cell in cells)} |")
    columns = ["none", *(f"{each}{of}" for each in MAPS for of in (", of two", "")), "auto"]
    print(f"\n| set | {' | '.join(columns)} |")
    print("|---" * (len(columns) + 1) + "|")
    for name in SETS:
        own = [r["scores"] for r in records if r["set"] == name and "scores" in r]
        print(f"| {name} | {' | '.join(f'{np.mean([r[each] for r in own]):.4f}' for each in columns)} |")


if __name__ == "__main__":
    main()
