"""Time of metrics beside other packages: one process, the same inputs, and whether the answers are equal.

python benchmarks/speed/metrics.py

Every contender of a metric is called once, which includes any compilation, and then in turn with the others, so that a
busy machine is busy for all. Predictions are made before the clock starts: distributions for uq, arrays for the others.
Packages that are not installed are left out. `metrics_first_calls.py` has the cost of a first call of every metric.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
warnings.filterwarnings("ignore")

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import stats

import uq

HERE = Path(__file__).parent
BINS, CLASSES, DRAWS, COMPONENTS, RESAMPLES = 15, 10, 100, 20, 1000
INTERVALS = np.arange(1, 100) / 100
LEVELS = np.linspace(0, 1, 100)


class Ask(NamedTuple):
    """`contender` is to be `ratio` times as fast as the fastest of the others whose name begins with `against`."""

    metric: str
    contender: str
    against: str | tuple[str, ...]
    ratio: float
    tolerance: float


ASKS = [
    Ask("RMSCE, 100 levels", "uq float32", "uncertainty-toolbox", 1000, 1e-4),
    Ask("RMSCE, 100 levels", "uq float64", "uncertainty-toolbox", 400, 1e-12),
    Ask("interval score, 99 levels", "uq float32", "uncertainty-toolbox", 100, 1e-5),
    Ask("interval score, 99 levels", "uq float64", "uncertainty-toolbox", 100, 1e-12),
    Ask("calibration error", "uq float32", "torchmetrics", 2, 1e-6),
    Ask("calibration error", "uq float32", "netcal", 8, 1e-6),
    Ask("calibration error", "uq float32, inside jit", "torchmetrics", 5, 1e-6),
    Ask("calibration error", "uq float32, inside jit", "netcal", 20, 1e-6),
    Ask("CRPS, normal", "uq float32", "properscoring", 5, 1e-6),
    Ask("CRPS, 100 draws", "uq float64", ("properscoring", "NumPy", "scoringrules"), 1, 1e-12),
    Ask("CRPS, 100 draws", "uq float32", ("properscoring", "NumPy", "scoringrules"), 1, 1e-6),
]


def regressions(rows):
    """Mean, standard deviation and outcome; the outcomes are spread more widely than predicted."""
    rng = np.random.default_rng(0)
    mean, scale = rng.standard_normal(rows), 0.5 + rng.random(rows)
    return mean, scale, mean + 1.2 * scale * rng.standard_normal(rows)


def classes(rows):
    """Probabilities `(N, 10)` in float32, overconfident, and labels."""
    rng = np.random.default_rng(1)
    logits = 2 * rng.standard_normal((rows, CLASSES))
    labels = rng.integers(0, CLASSES, rows)
    logits[np.arange(rows), labels] += 2
    probs = np.exp(logits - logits.max(1, keepdims=True))
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32), labels


def optional(name):
    try:
        return __import__(name)
    except ImportError:
        return None


# What is compared: for each metric, contenders by name, each a call that gives the metric


def rmsce(rows):
    mean, scale, y = regressions(rows)
    settings = {"norm": "l2", "kind": "interval", "levels": LEVELS}
    wide, narrow, outcome = dist.Normal(mean, scale), normal32(mean, scale), device(y)
    frozen = stats.norm(mean, scale)
    found = {
        "uq float32": lambda: uq.metrics.regression_calibration_error(narrow, outcome, **settings),
        "uq float64": lambda: uq.metrics.regression_calibration_error(wide, y, **settings),
        "uq float64, scipy": lambda: uq.metrics.regression_calibration_error(frozen, y, **settings),
    }
    if toolbox := optional("uncertainty_toolbox"):
        found["uncertainty-toolbox"] = lambda: toolbox.root_mean_squared_calibration_error(mean, scale, y)
    return found


def interval_score(rows):
    mean, scale, y = regressions(rows)
    wide, narrow, outcome = dist.Normal(mean, scale), normal32(mean, scale), device(y)
    found = {
        "uq float32": lambda: uq.metrics.interval_score(narrow, outcome, level=INTERVALS).mean(),
        "uq float64": lambda: uq.metrics.interval_score(wide, y, level=INTERVALS).mean(),
    }
    if toolbox := optional("uncertainty_toolbox"):
        found["uncertainty-toolbox"] = lambda: toolbox.interval_score(mean, scale, y)
    return found


def calibration_error(rows):
    probs, labels = classes(rows)
    on_device, outcome = device(probs), jnp.asarray(labels)
    wide = probs.astype(np.float64)
    inside = jax.jit(lambda p, y: uq.metrics.calibration_error(p, y, bins=BINS).value)
    found = {
        "uq float32": lambda: uq.metrics.calibration_error(on_device, outcome, bins=BINS),
        "uq float32, inside jit": lambda: inside(on_device, outcome),
        "uq float32, NumPy": lambda: uq.metrics.calibration_error(probs, labels, bins=BINS),
        "uq float64, NumPy": lambda: uq.metrics.calibration_error(wide, labels, bins=BINS),
    }
    if optional("torchmetrics"):
        import torch
        from torchmetrics.functional.classification import multiclass_calibration_error

        tensors = torch.from_numpy(probs), torch.from_numpy(labels)
        settings = {"num_classes": CLASSES, "n_bins": BINS}

        def by_torchmetrics(threads, **more):
            torch.set_num_threads(threads)
            return multiclass_calibration_error(*tensors, **settings, **more)

        found["torchmetrics"] = lambda: by_torchmetrics(os.cpu_count())
        found["torchmetrics, one thread"] = lambda: by_torchmetrics(1)
        found["torchmetrics, unchecked"] = lambda: by_torchmetrics(os.cpu_count(), validate_args=False)
    if optional("netcal"):
        from netcal.metrics import ECE

        found["netcal"] = lambda: ECE(BINS).measure(probs, labels)
    return found


def crps_normal(rows):
    mean, scale, y = regressions(rows)
    wide, narrow, outcome = dist.Normal(mean, scale), normal32(mean, scale), device(y)
    inside = jax.jit(lambda loc, scale, y: uq.metrics.crps(dist.Normal(loc, scale), y))
    found = {
        "uq float32": lambda: uq.metrics.crps(narrow, outcome),
        "uq float32, inside jit": lambda: inside(narrow.loc, narrow.scale, outcome),
        "uq float64": lambda: uq.metrics.crps(wide, y),
    }
    if proper := optional("properscoring"):
        found["properscoring"] = lambda: proper.crps_gaussian(y, mean, scale)
    if rules := optional("scoringrules"):
        compiled = jax.jit(lambda y, mean, scale: rules.crps_normal(y, mean, scale, backend="jax"))
        found["scoringrules, NumPy"] = lambda: rules.crps_normal(y, mean, scale, backend="numpy")
        found["scoringrules, JAX inside jit"] = lambda: compiled(outcome, narrow.loc, narrow.scale)
    return found


def crps_draws(rows):
    """Each package's own layout: draws first for uq, last for the others."""
    mean, scale, y = regressions(rows)
    last = mean[:, None] + scale[:, None] * np.random.default_rng(2).standard_normal((rows, DRAWS))
    first = np.ascontiguousarray(last.T)
    last32, y32 = last.astype(np.float32), y.astype(np.float32)
    on_device, outcome = device(first), device(y)
    found = {
        "uq float64": lambda: uq.metrics.crps_ensemble(first, y),
        "uq float32": lambda: uq.metrics.crps_ensemble(on_device, outcome),
        "uq float32, NumPy": lambda: uq.metrics.crps_ensemble(on_device_host, y32),
        "NumPy sort": lambda: sorted_by_numpy(last, y),
        "NumPy sort, float32": lambda: sorted_by_numpy(last32, y32),
    }
    on_device_host = first.astype(np.float32)
    if proper := optional("properscoring"):
        found["properscoring"] = lambda: proper.crps_ensemble(y, last)
        found["properscoring, float32"] = lambda: proper.crps_ensemble(y32, last32)
    if rules := optional("scoringrules"):
        backends = ["numpy"] + (["numba"] if optional("numba") else [])
        for backend in backends:
            for estimator in ("qd", "pwm"):
                found[f"scoringrules, {backend} {estimator}"] = scoringrules_call(rules, y, last, estimator, backend)
        device_last = device(last)
        for estimator in ("qd", "pwm"):
            found[f"scoringrules, jax {estimator}"] = scoringrules_call(rules, outcome, device_last, estimator, "jax")
    return found


def scoringrules_call(rules, y, draws, estimator, backend):
    return lambda: rules.crps_ensemble(y, draws, estimator=estimator, backend=backend)


def sorted_by_numpy(draws, y):
    """The formula with a sort, as one would write it."""
    size = draws.shape[1]
    draws = np.sort(draws, axis=1)
    spread = (draws * (2 * np.arange(1, size + 1) - size - 1).astype(draws.dtype)).sum(1) / size**2
    return np.abs(draws - y[:, None]).mean(1) - spread


def crps_mixture(rows):
    mixture, outcome = mixtures(rows)
    inside = jax.jit(lambda weight, loc, scale, y: uq.metrics.crps(mixture_of(weight, loc, scale), y))
    parts = mixture.mixing_distribution.probs, mixture.component_distribution.loc, mixture.component_distribution.scale
    found = {
        "uq float32": lambda: uq.metrics.crps(mixture, outcome),
        "uq float32, inside jit": lambda: inside(*parts, outcome),
    }
    if rules := optional("scoringrules"):
        y, (weight, loc, scale) = np.asarray(outcome, np.float64), (np.asarray(part, np.float64) for part in parts)
        few = max(1, rows // 20)  # an (N, K, K) array of float64 for each term: a twentieth of the rows at a time
        found["scoringrules, NumPy, in 20 pieces"] = lambda: np.concatenate(
            [
                rules.crps_mixnorm(y[at], loc[at], scale[at], weight[at], backend="numpy")
                for at in (slice(start, start + few) for start in range(0, rows, few))
            ]
        )
    return found


def mixtures(rows):
    rng = np.random.default_rng(3)
    weight = rng.random((rows, COMPONENTS)) + 0.1
    loc, scale = rng.standard_normal((rows, COMPONENTS)), 0.5 + rng.random((rows, COMPONENTS))
    parts = (device(part) for part in (weight / weight.sum(1, keepdims=True), loc, scale))
    return mixture_of(*parts), device(1.5 * rng.standard_normal(rows))


def mixture_of(weight, loc, scale):
    return dist.MixtureSameFamily(dist.Categorical(probs=weight), dist.Normal(loc, scale))


def aurc_resampled(rows):
    """1,000 resamples in one compiled call; NumPy does 20 and its time is multiplied."""
    probs, labels = classes(rows)
    confidence, loss = probs.max(1), (probs.argmax(1) != labels).astype(np.float32)
    key, on_device = uq.metrics.Resample(0, RESAMPLES), (device(confidence), device(loss))
    return {
        "uq float32": lambda: uq.metrics.aurc(confidence=on_device[0], loss=on_device[1], key=key).interval.upper,
        "uq, NumPy in": lambda: uq.metrics.aurc(confidence=confidence, loss=loss, key=key).interval.upper,
    }


def device(values):
    return jnp.asarray(values, jnp.float32 if values.dtype == np.float64 else values.dtype)


def normal32(mean, scale):
    return dist.Normal(device(mean), device(scale))


METRICS = {
    "RMSCE, 100 levels": rmsce,
    "interval score, 99 levels": interval_score,
    "calibration error": calibration_error,
    "CRPS, normal": crps_normal,
    "CRPS, 100 draws": crps_draws,
    "CRPS, mixture of 20 normals": crps_mixture,
    "AURC, 1,000 resamples": aurc_resampled,
}

# The clock


def timed(call):
    began = time.perf_counter()
    value = jax.block_until_ready(call())
    return time.perf_counter() - began, value


def measure(metric, contenders, rows, repeats):
    """One line a contender: seconds of the first call, and median and minimum of later ones, taken in turn."""
    first, values, later = {}, {}, {name: [] for name in contenders}
    for name, call in contenders.items():
        first[name], values[name] = timed(call)
    for _ in range(repeats):
        for name, call in contenders.items():
            spent = 0.0
            while spent < 0.02:  # quick ones several times, the first of them to warm the caches
                seconds, _ = timed(call)
                later[name].append(seconds)
                spent += seconds
    return [
        {
            "metric": metric,
            "rows": rows,
            "contender": name,
            "first_s": round(first[name], 6),
            "median_s": round(statistics.median(later[name]), 7),
            "best_s": round(min(later[name]), 7),
            "calls": len(later[name]),
            "value": float(np.mean(np.asarray(values[name], np.float64))),
            "load1": round(os.getloadavg()[0], 2),
        }
        for name in contenders
    ]


def peak_of_mixture(rows):
    """Memory for one call of the mixture's CRPS: what the compiler sets aside, and growth of the process's peak."""
    import resource

    few, y = mixtures(100)
    jax.block_until_ready(uq.metrics.crps(few, y))
    mixture, y = mixtures(rows)
    jax.block_until_ready((mixture, y))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    jax.block_until_ready(uq.metrics.crps(mixture, y))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lowered = jax.jit(uq.metrics.crps).lower(mixture, y).compile().memory_analysis()
    inputs = sum(leaf.nbytes for leaf in jax.tree.leaves(mixture))
    megabytes = {"inputs": inputs, "temporary": lowered.temp_size_in_bytes, "growth": (after - before) * 1024}
    megabytes["one N x K x K array"] = rows * COMPONENTS**2 * 4
    return {"metric": "memory, CRPS of mixture", "rows": rows, **{k: round(v / 1e6, 1) for k, v in megabytes.items()}}


# The tables


def verdicts(lines):
    found = {(line["metric"], line["contender"]): line for line in lines if "contender" in line}
    rows = [
        "| metric | contender | ms | against | ms | ratio | of best times | asked | held | values |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for ask in ASKS:
        own = found.get((ask.metric, ask.contender))
        others = [
            line
            for (metric, name), line in found.items()
            if metric == ask.metric
            and name.startswith(ask.against)
            and ("float32" in ask.contender or not any(kind in name for kind in ("float32", "jax")))
        ]
        if own is None or not others:
            continue
        other = min(others, key=lambda line: line["median_s"])
        ratio, best = other["median_s"] / own["median_s"], other["best_s"] / own["best_s"]
        held = "yes" if ratio >= ask.ratio else "no"
        same = agreement(own, [line for line in others if not line["contender"].endswith(" pwm")], ask.tolerance)
        rows.append(
            f"| {ask.metric} | {ask.contender} | {1e3 * own['median_s']:.3g} | {other['contender']} "
            f"| {1e3 * other['median_s']:.4g} | {ratio:.1f} | {best:.1f} | ≥ {ask.ratio:g} | {held} | {same} |"
        )
    return "\n".join(rows)


def agreement(own, others, tolerance):
    gap = max(abs(own["value"] - line["value"]) / abs(line["value"]) for line in others)
    return f"equal to {tolerance:g}" if gap <= tolerance else f"differ by {gap:.1g}"


def every(lines):
    rows = ["| metric | contender | first call, ms | later, ms (least) | value |", "|---|---|---|---|---|"]
    for line in lines:
        if "contender" in line:
            first, later, least = (1e3 * line[k] for k in ("first_s", "median_s", "best_s"))
            rows.append(
                f"| {line['metric']} | {line['contender']} | {first:.3g} | {later:.3g} ({least:.3g}) "
                f"| {line['value']:.8g} |"
            )
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=7, help="rounds of later calls")
    parser.add_argument("--only", default="", help="metrics whose name has this")
    parser.add_argument("--out", type=Path, help="where to write the results, one JSON line each")
    parser.add_argument("--memory", action="store_true", help="measure the memory of a mixture's CRPS, nothing else")
    args = parser.parse_args()
    if args.memory:
        print(json.dumps(peak_of_mixture(args.rows)))
        return
    lines = []
    for metric, contenders in METRICS.items():
        if args.only in metric:
            lines += measure(metric, contenders(args.rows), args.rows, args.repeats)
            print(f"measured {metric}", file=sys.stderr, flush=True)
    if args.only in "CRPS, mixture":  # in a process of its own: the peak of this one is past
        command = [sys.executable, __file__, "--memory", "--rows", str(args.rows)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines.append(json.loads(done.stdout.strip().splitlines()[-1]))
        print(lines[-1])
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(every(lines), "", verdicts(lines), sep="\n")


if __name__ == "__main__":
    main()
