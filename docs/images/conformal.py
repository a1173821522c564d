"""The picture of docs/conformal.md: intervals and sets as networks give them, and conformal ones, on real data.

python docs/images/conformal.py   # diabetes and digits come with scikit-learn
"""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import flax.linen as nn
import matplotlib.pyplot as plt
import numpy as np
from sklearn import datasets

import uq
from uq import conformal

HERE = Path(__file__).parent
BLUE, RED, GREY = "#2f6fb0", "#c8452f", "#8a8f98"
DRAWS = 300
"""How often the rows that are not trained on are divided anew into calibration and test."""


def fitted(data, likelihood, width, rows, **settings):
    x, y = data
    net = nn.Sequential([nn.Dense(100), nn.relu, nn.Dense(width)])
    method = uq.deep_ensemble(net, likelihood, size=5)
    posterior = uq.fit(method, (x[:rows], y[:rows]), key=0, validation=0, progress=False, **settings)
    return posterior.predict(x[rows:]), y[rows:]


def shuffled(load):
    x, y = load(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return x[order].astype(np.float32), y[order]


def divisions(size, rng):
    for _ in range(DRAWS):
        order = rng.permutation(size)
        yield order[: size // 2], order[size // 2 :]


def numbers(ax):
    """Coverage of 90 % intervals of diabetes progression."""
    pred, y = fitted(shuffled(datasets.load_diabetes), uq.likelihoods.Gaussian(), 2, 200, epochs=150)
    procedure = conformal.split(conformal.normalized())
    own, after = [], []
    for seen, new in divisions(len(y), np.random.default_rng(1)):
        state = procedure.fit(pred[seen], y[seen])
        after.append(np.mean(procedure.apply(state, pred[new], level=0.9).contains(y[new])))
        own.append(float(uq.metrics.coverage(pred[new], y[new], level=0.9)))
    bins = np.linspace(0.4, 1, 31)
    ax.hist(own, bins, color=RED, alpha=0.6, label=f"the networks' own: {np.mean(own):.3f}")
    ax.hist(after, bins, color=BLUE, alpha=0.6, label=f"split conformal: {np.mean(after):.3f}")
    ax.axvline(0.9, color=GREY, linewidth=1)
    ax.set_ylim(0, 115)
    ax.set(xlabel="diabetes: share of 121 test outcomes inside 90 % intervals", ylabel="divisions of the rows")


def classes(ax):
    """Coverage of sets of digits: classes from the most probable on until they add up to the level, and APS."""
    x, y = shuffled(datasets.load_digits)
    noise = np.random.default_rng(2).normal(0, 6, x.shape).astype(np.float32)  # as they are, one class is enough
    pred, y = fitted(((x + noise) / 16, y), uq.likelihoods.Categorical(10), 10, 400, epochs=80)
    levels = np.linspace(0.5, 0.98, 13)
    procedure = conformal.aps(randomized=True, allow_empty=True)
    probs = np.asarray(pred.probs)
    order = np.argsort(-probs, axis=1)
    before = np.take_along_axis(probs, order, 1).cumsum(1) - np.take_along_axis(probs, order, 1)
    place = (order == y[:, None]).argmax(1)
    own = [np.mean(before[np.arange(len(y)), place] < level) for level in levels]
    after = []
    for draw, (seen, new) in enumerate(divisions(len(y), np.random.default_rng(3))):
        if draw == 40:
            break
        state = procedure.fit(pred[seen], y[seen], key=2 * draw)
        sets = [procedure.apply(state, pred[new], level=float(level), key=2 * draw + 1) for level in levels]
        after.append([np.mean(each.contains(y[new])) for each in sets])
    ax.plot(levels, own, color=RED, label="probabilities added up to the level")
    ax.plot(levels, np.mean(after, 0), color=BLUE, label="adaptive prediction sets")
    ax.plot([0.5, 1], [0.5, 1], color=GREY, linewidth=1, zorder=0)
    ax.set(xlabel="noisy digits: level of the set", ylabel="share of test outcomes inside")


def main():
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), dpi=120, layout="constrained")
    numbers(axes[0])
    classes(axes[1])
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    figure.savefig(HERE / "conformal.png")


if __name__ == "__main__":
    main()
