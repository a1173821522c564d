"""The pictures of docs/metrics, from synthetic predictions with fixed seeds.

python docs/images/metrics.py            # all
python docs/images/metrics.py pit sizes  # some
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import numpyro.distributions as dist
from matplotlib.ticker import FuncFormatter

import uq
from uq import metrics

HERE = Path(__file__).parent
BLUE, RED, GREY, INK = "#2f6fb0", "#c8452f", "#8a8f98", "#22252a"


def panels(number, width, height, **settings):
    figure, axes = plt.subplots(1, number, figsize=(width, height), dpi=120, layout="constrained", **settings)
    for ax in np.atleast_1d(axes):
        ax.grid(True, color="#d9dce1", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def sharpen(p, slope):
    """Probabilities with their log-odds multiplied by `slope`: above 1 overconfident, below 1 underconfident."""
    return 1 / (1 + ((1 - p) / p) ** slope)


def reliability():
    """Reliability diagrams with the band in which a calibrated model falls."""
    figure, axes = panels(2, 9, 4.4, sharey=True)
    rng = np.random.default_rng(1)
    for ax, number, slope, name in ((axes[0], 300, 1, "Calibrated"), (axes[1], 2000, 2, "Overconfident")):
        p = rng.beta(1.2, 1.2, number)
        y = (rng.random(number) < p).astype(int)
        said = sharpen(p, slope)
        curve = metrics.reliability_curve(said, y, kind="binary", bins=10, consistency=True, key=0)
        error = metrics.calibration_error(said, y, kind="binary", bins=10, key=0)
        width = np.diff(curve.edges)
        ax.bar(curve.edges[:-1], curve.upper - curve.lower, width, curve.lower, align="edge", color=GREY, alpha=0.3,
               linewidth=0, label="calibrated, 95 % of test sets")  # fmt: skip
        ax.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="perfect")
        outside = (curve.frequency < curve.lower) | (curve.frequency > curve.upper)
        ax.plot(curve.confidence, curve.frequency, color=BLUE, linewidth=1)
        ax.plot(curve.confidence[~outside], curve.frequency[~outside], "o", color=BLUE, label="bin inside its band")
        ax.plot(curve.confidence[outside], curve.frequency[outside], "o", color=RED, label="bin outside")
        ax.set_title(
            f"{name}, N = {number:,}\nECE {float(error):.3f}; calibrated {error.null.mean:.3f}, "
            f"p = {float(error.null.p_value):.2g}",
            fontsize=10,
        )
        ax.set(xlabel="predicted probability", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[0].set_ylabel("frequency of the event")
    axes[1].legend(loc="lower right", fontsize=8.5, framealpha=0.9, edgecolor="none")
    return figure


def bars(ax, found, title):
    width = np.diff(found.edges)
    ax.axhspan(float(found.lower), float(found.upper), color=GREY, alpha=0.3, linewidth=0)
    ax.bar(found.edges[:-1], found.share, width, align="edge", color=BLUE, alpha=0.75, edgecolor="white")
    ax.axhline(1 / len(found.share), color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_title(title, fontsize=10)
    ax.set(xlabel="F(y)", xlim=(0, 1))


def pit():
    """PIT histograms of four forecasts."""
    figure, axes = panels(4, 11, 2.9, sharey=True)
    rng = np.random.default_rng(2)
    y = rng.normal(10, 2, 1000)
    for ax, (shift, factor, title) in zip(
        axes,
        (
            (0, 1, "calibrated: flat"),
            (0, 0.6, "too narrow: U"),
            (0, 1.6, "too wide: hump"),
            (-0.8, 1, "too low: slope"),
        ),
        strict=True,
    ):
        pred = dist.Normal(np.full(1000, 10.0 + shift), 2.0 * factor)
        bars(ax, metrics.pit_histogram(pred, y), title)
    axes[0].set_ylabel("share of outcomes")
    return figure


def mixture_pit():
    """A calibrated mixture, judged by its own distribution and by the normal of its mean and variance."""
    figure, axes = panels(2, 8, 3.2, sharey=True)
    rng = np.random.default_rng(3)
    number, members = 2000, 5
    mean = rng.normal(0, 1, (number, 1)) + np.array([-2.0, -1.8, -2.2, 2.2, 2.6])
    scale = np.full((number, members), 0.7)
    which = rng.integers(members, size=number)
    y = rng.normal(mean[np.arange(number), which], 0.7)
    exact = dist.MixtureSameFamily(dist.Categorical(np.full((number, members), 1 / members)), dist.Normal(mean, scale))
    spread = np.sqrt(scale[:, 0] ** 2 + mean.var(1))
    for ax, pred, name in (
        (axes[0], exact, "the exact mixture"),
        (axes[1], dist.Normal(mean.mean(1), spread), "a normal of the same moments"),
    ):
        tested = metrics.pit_test(pred, y)
        bars(ax, metrics.pit_histogram(pred, y, bins=20), f"{name}\nCramér–von Mises p = {tested.p_value:.2g}")
    axes[0].set_ylabel("share of outcomes")
    return figure


def ece_null():
    """ECE of a calibrated and of an overconfident model against the number of examples."""
    figure, ax = panels(1, 7, 4.2)
    rng = np.random.default_rng(4)
    numbers = np.array([50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000])
    grid = (np.arange(400_000) + 0.5) / 400_000
    for color, slope, name in ((BLUE, 1.0, "calibrated"), (RED, 1.25, "overconfident")):
        from scipy.stats import beta

        p = beta(2, 2).ppf(grid)
        truth = np.abs(sharpen(p, slope) - p).mean()
        drawn = []
        for number in numbers:
            repeats = []
            for _ in range(200):
                p = rng.beta(2, 2, number)
                y = (rng.random(number) < p).astype(int)
                repeats.append(float(metrics.calibration_error(sharpen(p, slope), y)))
            drawn.append(repeats)
        low, middle, high = np.quantile(drawn, 0.05, 1), np.mean(drawn, 1), np.quantile(drawn, 0.95, 1)
        ax.fill_between(numbers, low, high, color=color, alpha=0.18, linewidth=0)
        ax.plot(
            numbers,
            middle,
            color=color,
            marker="o",
            markersize=4,
            label=f"{name}: mean ECE found, and 90 % of test sets",
        )
        ax.axhline(truth, color=color, linewidth=1.2, linestyle=(0, (4, 3)), label=f"{name}: true error {truth:.3f}")
    ax.set_xscale("log")
    ax.set_xticks([100, 1000, 10000])
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set(xlabel="examples in the test set", ylabel="ECE, 15 bins", ylim=(-0.004, None))
    ax.legend(fontsize=8.5, frameon=False)
    return figure


def risk_coverage():
    """Two classifiers: one is right more often, the other knows better when."""
    figure, ax = panels(1, 7, 4.2)
    rng = np.random.default_rng(5)
    number = 4000
    for color, accuracy, told, name in ((BLUE, 0.90, 0.5, "A"), (RED, 0.87, 1.7, "B")):
        wrong = (np.arange(number) >= accuracy * number).astype(float)
        confidence = rng.normal(-told * wrong, 1)
        curve = metrics.risk_coverage(confidence=confidence, loss=wrong)
        found = [float(f(confidence=confidence, loss=wrong)) for f in (metrics.aurc, metrics.augrc, metrics.eaurc)]
        ax.plot(
            curve.coverage,
            curve.risk,
            color=color,
            linewidth=1.6,
            label=f"{name}: accuracy {accuracy:.2f}, AURC {found[0]:.3f}, AUGRC {found[1]:.3f}, E-AURC {found[2]:.3f}",
        )
        ideal = metrics.risk_coverage(confidence=-wrong, loss=wrong)
        ax.plot(np.r_[0, ideal.coverage], np.r_[0, np.maximum(0, 1 - accuracy / ideal.coverage)], color=color,
                linewidth=1, linestyle=(0, (1, 1.5)), label=f"{name}: best order of its own errors")  # fmt: skip
    ax.set(xlabel="coverage: share of examples answered", ylabel="risk: error rate among them", xlim=(0, 1))
    ax.set_ylim(0, 0.19)
    ax.legend(fontsize=8.5, frameon=False, loc="upper left")
    return figure


def members_of(rng, number, size):
    """Outcomes, and a `Predictive` of `size` normal members that scatter about the truth."""
    truth = rng.normal(20, 5, number)
    mean = truth + rng.normal(0, 1.4, (size, number))
    outputs = np.stack([mean, np.full_like(mean, np.log(1.7))], -1).astype(np.float32)
    return uq.Predictive(outputs, uq.likelihoods.from_numpyro(normal, 2)), rng.normal(truth, 2).astype(np.float32)


def normal(outputs):
    return dist.Normal(outputs[..., 0], jnp.exp(outputs[..., 1]))


def sizes():
    """Mean CRPS of ensembles of K members, measured and extrapolated from 4."""
    figure, ax = panels(1, 7, 4.2)
    rng = np.random.default_rng(6)
    pred, y = members_of(rng, 3000, 16)
    outputs = np.asarray(pred.outputs)
    some = uq.Predictive(outputs[:4], pred.likelihood)
    grid = (*np.geomspace(1, 24, 40), np.inf)
    found = metrics.size_extrapolation(some, y, score="crps", sizes=grid)
    value, error = (np.array([float(getattr(s, part)) for s in found.scores]) for part in ("value", "stderr"))
    ax.fill_between(grid[:-1], (value - 2 * error)[:-1], (value + 2 * error)[:-1], color=BLUE, alpha=0.18, linewidth=0)
    ax.plot(grid[:-1], value[:-1], color=BLUE, label="told from the first 4 members, ± 2 standard errors")
    ax.axhline(value[-1], color=BLUE, linewidth=1.2, linestyle=(0, (4, 3)), label="told from them, K = ∞")
    for size in (1, 2, 4, 8, 16):
        scores = [
            float(np.mean(metrics.crps(uq.Predictive(outputs[k : k + size], pred.likelihood), y)))
            for k in range(0, 16, size)
        ]
        ax.plot([size] * len(scores), scores, "o", color=RED, markersize=4,
                label="ensembles of K of all 16" if size == 1 else None)  # fmt: skip
    ax.set_xscale("log", base=2)
    ax.set_xticks([1, 2, 4, 8, 16], labels=["1", "2", "4", "8", "16"])
    ax.set(xlabel="members K", ylabel="mean CRPS")
    ax.legend(fontsize=8.5, frameon=False)
    return figure


def mcb_dsc():
    """Brier scores of five models, taken apart."""
    figure, ax = panels(1, 7, 4.6)
    rng = np.random.default_rng(7)
    number = 5000
    logit = rng.normal(0, 2, number)
    p = 1 / (1 + np.exp(-logit))
    y = (rng.random(number) < p).astype(int)
    seen = (logit + rng.normal(0, 2, number)) / 2  # the mean of the log-odds given noisy features; their variance is 2
    noisy = 1 / (1 + np.exp(-seen / np.sqrt(1 + np.pi * 2 / 8)))
    models = {
        "true probabilities": p,
        "overconfident (log-odds × 2.5)": sharpen(p, 2.5),
        "underconfident (log-odds × 0.4)": sharpen(p, 0.4),
        "noisy features, calibrated": noisy,
        "base rate for all": np.full(number, y.mean()),
    }
    parts = {name: metrics.score_decomposition(said, y) for name, said in models.items()}
    unc = float(next(iter(parts.values())).uncertainty)
    across = np.array([-0.002, 0.036])
    for level in np.arange(0.14, 0.27, 0.02):
        ax.plot(across, across + unc - level, color=GREY, linewidth=0.8, alpha=0.7)
        ax.annotate(f"{level:.2f}", (across[1], across[1] + unc - level), color=GREY, fontsize=8, va="center",
                    xytext=(3, 0), textcoords="offset points", annotation_clip=True)  # fmt: skip
    for name, part in parts.items():
        x, z = float(part.miscalibration), float(part.discrimination)
        ax.plot(x, z, "o", color=BLUE, markersize=7)
        above = name.startswith("over")
        ax.annotate(f"{name}\nBrier {float(part.score):.3f}", (x, z), xytext=(-4 if above else 8, 8 if above else -4),
                    textcoords="offset points", fontsize=8.5, va="bottom" if above else "top",
                    bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none"})  # fmt: skip
    ax.grid(False)
    ax.set(
        xlabel="miscalibration (MCB): smaller is better",
        ylabel="discrimination (DSC): larger is better",
        xlim=(-0.002, 0.036),
        ylim=(-0.02, 0.125),
    )
    ax.set_title(f"Grey: lines of equal Brier score = MCB − DSC + {unc:.3f}", fontsize=10)
    return figure


PICTURES = {
    "reliability": reliability,
    "pit": pit,
    "mixture-pit": mixture_pit,
    "ece-null": ece_null,
    "risk-coverage": risk_coverage,
    "sizes": sizes,
    "mcb-dsc": mcb_dsc,
}

for name in sys.argv[1:] or PICTURES:
    PICTURES[name]().savefig(HERE / f"metrics-{name}.png")
