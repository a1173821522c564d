"""Cross-fitting against a fifth held out, at equal compute: which calibrates better?

    python benchmarks/calibration.py --data DIR [--more DIR] [--sets boston yacht] [--splits 10] [--out FILE]

Both arms train the same ten networks for as many epochs and choose a recalibrator by `uq.calibrate.auto`. One leaves
out a fold for each member and calibrates on out-of-fold predictions of all rows; the other keeps a random fifth of the
rows for it. `--data` holds the UCI sets with their published splits, `--more` files `airfoil.npz` and
`bikesharing.npz` (arrays X, y, index_train, index_test; further splits are random); digits come with scikit-learn.
A line of JSON for every split and arm; `--table FILE` prints what a file holds.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

import uq
from uq.benchmark.uci import hidden_units, uci_recipe
from uq.data import uci

UCI = ("boston", "concrete", "energy", "naval", "protein", "wine-red", "yacht")
SETS = (*UCI, "airfoil", "bikesharing", "digits")
SIZE = 10


class MLP(nn.Module):
    hidden: tuple[int, ...]
    width: int

    @nn.compact
    def __call__(self, x):
        for units in self.hidden:
            x = nn.relu(nn.Dense(units)(x))
        return nn.Dense(self.width)(x)


def read(name, split, args):
    """`(x, y)` to train on and to test on."""
    if name in UCI:
        return uci(name, args.data).split(split)
    if name == "digits":
        from sklearn.datasets import load_digits

        x, y = load_digits(return_X_y=True)
        x = (x / 16).astype(np.float32)
        order = np.random.default_rng(split).permutation(len(y))
        train, test = order[: int(0.8 * len(y))], order[int(0.8 * len(y)) :]
    else:
        found = np.load(Path(args.more) / f"{name}.npz")
        x, y = found["X"], found["y"]
        train, test = found["index_train"].astype(int), found["index_test"].astype(int)
        if split:
            order = np.random.default_rng(split).permutation(len(y))
            train, test = order[: len(train)], order[len(train) :]
    return (x[train], y[train]), (x[test], y[test])


def method_and_settings(name, x):
    recipe = uci_recipe(*x.shape)
    settings = {"epochs": recipe.epochs, "batch_size": recipe.batch_size, "progress": False}
    optimizer = uq.optimizers.one_cycle(recipe.learning_rate, weight_decay=recipe.weight_decay)
    if name == "digits":
        kind = uq.likelihoods.Categorical(10)
        return uq.deep_ensemble(MLP((50,), 10), kind, optimizer, size=SIZE), settings
    hidden = (50, 50) if name in ("airfoil", "bikesharing") else (hidden_units(name),)
    loss = uq.losses.beta_nll(recipe.beta)
    return uq.deep_ensemble(MLP(hidden, 2), uq.likelihoods.Gaussian(), optimizer, size=SIZE, loss=loss), settings


def measure(pred, y):
    if pred.task != "regression":
        probs = np.asarray(pred.probs)
        brier = float(uq.metrics.brier_score(pred, y).mean())
        return {"nll": -float(pred.log_prob(y).mean()), "brier": brier, "error": float(np.mean(probs.argmax(1) != y))}
    lower, upper = map(np.asarray, pred.interval(0.9))
    return {
        "nll": -float(pred.log_prob(y).mean()),
        "interval": float(uq.metrics.interval_score(lower, upper, np.asarray(y, lower.dtype), level=0.9).mean()),
        "coverage": float(np.mean((y >= lower) & (y <= upper))),
        "rmse": float(uq.metrics.rmse(pred, y)),
    }


def run(name, split, args):
    (x, y), (x_test, y_test) = read(name, split, args)
    if name != "digits":  # in standardised units, so that sets can be compared
        mean, scale = y.mean(), y.std()
        y, y_test = (y - mean) / scale, (y_test - mean) / scale
    key = jax.random.fold_in(jax.random.key(0), split)
    method, settings = method_and_settings(name, x)
    began = time.perf_counter()
    crossed = uq.fit(method, (x, y), key=key, holdout=uq.crossfit(5, stratify=name == "digits"), **settings)
    trained = time.perf_counter() - began
    posterior = crossed.calibrate()
    seconds = time.perf_counter() - began
    arms = {"cross-fit": (posterior, seconds, trained)}
    order = np.random.default_rng(1000 + split).permutation(len(y))
    rest, out = order[len(y) // 5 :], order[: len(y) // 5]
    began = time.perf_counter()
    held = uq.fit(method, (x[rest], y[rest]), key=key, **settings)
    trained = time.perf_counter() - began
    posterior = held.calibrate(data=(x[out], y[out]))
    arms["hold-out"] = (posterior, time.perf_counter() - began, trained)
    for arm, (posterior, seconds, trained) in arms.items():
        record = {"set": name, "split": split, "arm": arm, "rows": len(y), "test_rows": len(y_test)}
        record |= {"chosen": posterior.calibration.chosen, "seconds": round(seconds, 2), "trained": round(trained, 2)}
        record |= {f"before_{k}": v for k, v in measure(posterior.predict(x_test, calibrated=False), y_test).items()}
        record |= measure(posterior.predict(x_test), y_test)
        scores = {}
        for each in posterior.calibration.candidates:
            if each.name != "none":
                again = posterior.calibrate(
                    getattr(uq.calibrate, each.name)(), None if arm == "cross-fit" else (x[out], y[out])
                )
                scores[each.name] = -float(again.predict(x_test).log_prob(y_test).mean())
        record["nll_of"] = scores
        yield record


def table(path):
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    print("| set | splits | NLL before | NLL | score before | score | coverage of 90 % | s | chosen |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in SETS:
        for arm in ("cross-fit", "hold-out"):
            own = [r for r in records if r["set"] == name and r["arm"] == arm]
            if not own:
                continue
            score = "brier" if name == "digits" else "interval"
            cells = []
            for key in ("before_nll", "nll", f"before_{score}", score):
                values = np.array([r[key] for r in own])
                error = f" ± {values.std(ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
                cells.append(f"{values.mean():.3f}{error}")
            covered = "" if name == "digits" else f"{np.mean([r['coverage'] for r in own]):.3f}"
            names = [r["chosen"] for r in own]
            chosen = ", ".join(f"{n} {names.count(n)}" for n in sorted(set(names), key=names.count, reverse=True))
            seconds = np.median([r["seconds"] for r in own])
            print(f"| {name}, {arm} | {len(own)} | {' | '.join(cells)} | {covered} | {seconds:.1f} | {chosen} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data")
    parser.add_argument("--more")
    parser.add_argument("--sets", nargs="*", default=SETS)
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--out", default="benchmarks/results/calibration.jsonl")
    parser.add_argument("--table")
    args = parser.parse_args()
    if args.table:
        table(args.table)
        return
    warnings.filterwarnings("ignore", category=uq.UQWarning)
    Path(args.out).parent.mkdir(parents=True, exist_ok=True)
    for name in args.sets:
        splits = min(args.splits, uci(name, args.data).num_splits) if name in UCI else args.splits
        for split in range(splits):
            for record in run(name, split, args):
                with open(args.out, "a") as file:
                    file.write(json.dumps(record) + "\n")
                print(name, split, record["arm"], record["chosen"], round(record["nll"], 3), flush=True)


if __name__ == "__main__":
    main()
