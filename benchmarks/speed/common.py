"""What every runner trains, and how it reports: NumPy only, so that any environment can import it.

K members x -> Dense(50) -> ReLU -> Dense(2), mean and raw scale with softplus, Gaussian negative log-likelihood, Adam
at 0.01, minibatches of 100 reshuffled every epoch; inputs and targets standardised inside the timed fit. Every runner
starts from the same initial weights, drawn here (uniform ±1/√fan-in, PyTorch's rule), except where it says otherwise.
"""

import argparse
import json
import os
import resource
import time

import numpy as np

HIDDEN = 50


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--members", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--variant", default="")
    return parser.parse_args()


def data(rows, seed=0, features=10, tests=2000):
    """A smooth function of ten inputs with noise that grows along the first; shifted and scaled targets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows + tests, features)).astype(np.float32)
    mean = np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.3 * x[:, 3]
    noise = 0.1 + 0.3 / (1 + np.exp(-2 * x[:, 0]))
    y = (100 + 25 * (mean + noise * rng.normal(size=rows + tests))).astype(np.float32)
    return x[:rows], y[:rows], x[rows:], y[rows:]


def initial_weights(members, features, seed):
    """`(w1, b1, w2, b2)`, each with a leading member axis; kernels are (in, out)."""
    rng = np.random.default_rng(1000 + seed)

    def draw(fan_in, *shape):
        return (rng.uniform(-1, 1, (members, *shape)) / np.sqrt(fan_in)).astype(np.float32)

    return (
        draw(features, features, HIDDEN),
        draw(features, HIDDEN),
        draw(HIDDEN, HIDDEN, 2),
        draw(HIDDEN, 2),
    )


def scales(x, y):
    return x.mean(0), x.std(0) + 1e-8, y.mean(), y.std() + 1e-8


def score(mean, variance, y):
    """RMSE and NLL of the moment-matched mixture; `mean` and `variance` are (K, N) in the units of y."""
    mean, variance, y = (np.asarray(a, np.float64) for a in (mean, variance, y))
    centre = mean.mean(0)
    spread = variance.mean(0) + mean.var(0)
    nll = 0.5 * np.mean(np.log(2 * np.pi * spread) + (y - centre) ** 2 / spread)
    return {"rmse": float(np.sqrt(np.mean((centre - y) ** 2))), "nll": float(nll)}


class Clock:
    def __init__(self):
        self.began = time.perf_counter()

    def __call__(self):
        return time.perf_counter() - self.began


def report(name, args, cold, warm, scores, **more):
    """One JSON line: seconds of the first fit of the process (compilation included, imports not) and of the second."""
    line = {
        "runner": name,
        "rows": args.rows,
        "members": args.members,
        "epochs": args.epochs,
        "batch": args.batch,
        "cold_s": round(cold, 4),
        "warm_s": round(warm, 4),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load1": round(os.getloadavg()[0], 2),
        **{k: round(v, 4) for k, v in scores.items()},
        **more,
    }
    print(json.dumps(line), flush=True)
