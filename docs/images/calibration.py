"""The picture of docs/calibration.md: airfoil self-noise before and after recalibration, out of fold.

python docs/images/calibration.py airfoil.npz   # arrays X, y, index_train, index_test
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import flax.linen as nn
import matplotlib.pyplot as plt
import numpy as np

import uq

HERE = Path(__file__).parent
BLUE, RED, GREY = "#2f6fb0", "#c8452f", "#8a8f98"


def main():
    data = np.load(sys.argv[1])
    train, test = data["index_train"].astype(int), data["index_test"].astype(int)
    x, y = data["X"], data["y"]
    mean, scale = y[train].mean(), y[train].std()
    y = (y - mean) / scale
    layers = [layer for _ in range(2) for layer in (nn.Dense(128), nn.relu)]
    optimizer = uq.optimizers.one_cycle(0.01, weight_decay=1e-3)
    method = uq.deep_ensemble(
        nn.Sequential([*layers, nn.Dense(2)]),
        uq.likelihoods.Gaussian(),
        optimizer,
        loss=uq.losses.beta_nll(0.5),
        size=20,
    )
    settings = {"epochs": 2000, "batch_size": 50, "validation": 0, "holdout": uq.crossfit(10), "calibrate": "auto"}
    posterior = uq.fit(method, (x[train], y[train]), key=0, **settings)
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), dpi=120, layout="constrained")
    levels = np.linspace(0.02, 0.98, 49)
    for calibrated, colour, name in (
        (False, RED, "twenty members as trained"),
        (True, BLUE, "recalibrated out of fold"),
    ):
        pred = posterior.predict(x[test], calibrated=calibrated)
        score = -float(pred.log_prob(y[test]).mean())
        value = np.asarray(pred.cdf(y[test]))
        covered = [(np.abs(value - 0.5) <= level / 2).mean() for level in levels]
        axes[0].plot(levels, covered, color=colour, label=f"{name}: log score {score:.2f}")
        axes[1].hist(value, np.linspace(0, 1, 21), color=colour, alpha=0.6, density=True, label=name)
    axes[0].plot([0, 1], [0, 1], color=GREY, linewidth=1, zorder=0)
    axes[0].set(
        xlabel="level of the central interval", ylabel="share of test outcomes inside", xlim=(0, 1), ylim=(0, 1)
    )
    axes[1].axhline(1, color=GREY, linewidth=1)
    axes[1].set(xlabel="F(y) of test outcomes", ylabel="density", xlim=(0, 1))
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=9)
    figure.savefig(HERE / "calibration-airfoil.png")


if __name__ == "__main__":
    main()
