"""What the first call of each metric costs: every metric in a new process, on host arrays, then on the device.

python benchmarks/speed/metrics_first_calls.py

The clock starts after `import uq`, after the prediction has been made and after JAX has found its device. Host arrays
(NumPy, float64) should cost no compilation; on the device the first call compiles, which is told apart.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
warnings.filterwarnings("ignore")

import jax
import jax.numpy as jnp
import numpy as np

import uq

CLASSES, MEMBERS, OUTPUTS = 10, 5, 3
SLOW_IMPORTS = ["scipy.special", "scipy.optimize", "scipy.stats"]


class Inputs:
    """Predictions and outcomes, made only when asked for: arrays of NumPy in float64, or of JAX in float32."""

    def __init__(self, rows, device):
        self.rows, self.device, self.rng = rows, device, np.random.default_rng(0)

    def array(self, values):
        values = np.asarray(values)
        if not self.device:
            return values
        return jnp.asarray(values, jnp.float32 if values.dtype == np.float64 else values.dtype)

    def draw(self, *shape):
        return self.array(self.rng.standard_normal(shape))

    @property
    def normal(self):
        import numpyro.distributions as dist

        return dist.Normal(self.draw(self.rows), self.array(0.5 + self.rng.random(self.rows)))

    @property
    def y(self):
        return self.draw(self.rows)

    @property
    def ends(self):
        low = self.rng.standard_normal(self.rows)
        return self.array(low), self.array(low + 2)

    @property
    def draws(self):
        return self.draw(20, self.rows)

    @property
    def quantiles(self):
        return self.array(np.sort(self.rng.standard_normal((23, self.rows)), axis=0))

    @property
    def several(self):
        """Draws of several outputs, `(M, N, D)`."""
        return self.draw(20, self.rows, OUTPUTS)

    @property
    def targets(self):
        return self.draw(self.rows, OUTPUTS)

    @property
    def joint(self):
        import numpyro.distributions as dist

        lower = self.array(np.broadcast_to(np.eye(OUTPUTS), (self.rows, OUTPUTS, OUTPUTS)))
        return dist.MultivariateNormal(self.draw(self.rows, OUTPUTS), scale_tril=lower)

    @property
    def probs(self):
        return self.array(self.rng.dirichlet(np.ones(CLASSES), self.rows))

    @property
    def members(self):
        """Class probabilities of each member, `(M, N, C)`."""
        return self.array(self.rng.dirichlet(np.ones(CLASSES), (MEMBERS, self.rows)))

    @property
    def labels(self):
        return self.array(self.rng.integers(0, CLASSES, self.rows))

    @property
    def chance(self):
        return self.array(self.rng.random(self.rows))

    @property
    def yes(self):
        return self.array(self.rng.integers(0, 2, self.rows))


# For each metric what it is given, by name of an attribute of `Inputs`, and its settings

OF_NUMBERS = {
    **dict.fromkeys(
        ["log_score", "crps", "dawid_sebastiani", "squared_error", "absolute_error", "rmse", "mae", "pit", "coverage",
         "pit_histogram", "pit_test", "coverage_by_spread", "regression_calibration_error", "miscalibration_area",
         "quantile_calibration", "ence", "uce", "spread_curve", "spread_skill", "coverage_test",
         "weighted_interval_score"],
        (("normal", "y"), {}),
    ),
    "interval_score": (("normal", "y"), {"level": 0.9}),
    "quantile_score": (("normal", "y"), {"level": 0.9}),
    "threshold_weighted_crps": (("draws", "y"), {"lower": 0.0}),
    "crps_ensemble": (("draws", "y"), {}),
    "crps_quantile": (("quantiles", "y"), {"level": np.arange(1, 24) / 24}),
    "error_spread_score": (("draws", "y"), {}),
    "energy_score": (("several", "targets"), {}),
    "variogram_score": (("several", "targets"), {}),
    "multivariate_pit": (("several", "targets"), {"kind": "average", "key": 0}),
    "mahalanobis": (("several", "targets"), {}),
    "anees": (("several", "targets"), {}),
    "multivariate_coverage": (("joint", "targets"), {}),
    **dict.fromkeys(["sharpness", "dispersion", "interval_width"], (("normal",), {})),
}  # fmt: skip
OF_CLASSES = {
    **dict.fromkeys(
        ["brier_score", "spherical_score", "zero_one_score", "ranked_probability_score", "calibration_error",
         "reliability_curve", "accuracy", "brier_decomposition", "smooth_calibration_error", "aurc", "eaurc", "augrc",
         "risk_at_coverage", "risk_coverage", "sparsification_error"],
        (("probs", "labels"), {}),
    ),
    **dict.fromkeys(
        ["calibration_in_the_large", "spiegelhalter_test", "cumulative_calibration_test", "hosmer_lemeshow_test",
         "logistic_recalibration", "auroc", "average_precision", "fpr_at_tpr", "roc_curve", "precision_recall_curve",
         "score_decomposition"],
        (("chance", "yes"), {}),
    ),
    "coverage_at_risk": (("probs", "labels"), {"risk": 0.5}),
    **dict.fromkeys(
        ["uncertainty_decomposition", "mutual_information", "disagreement", "pairwise_kl"], (("members",), {})
    ),
    "ensemble_decomposition": (("members", "labels"), {"score": "brier"}),
    "size_extrapolation": (("members", "labels"), {"score": "brier"}),
    "joint_log_score": (("members", "labels"), {"groups": "tens"}),
    "kernel_calibration_error": (("probs", "labels"), {"estimator": "ul"}),
    "kernel_calibration_test": (("probs", "labels"), {"estimator": "ul"}),
}  # fmt: skip
METRICS = OF_NUMBERS | OF_CLASSES


def one(name, rows, device):
    """Seconds of the first call and of the second, in this process."""
    jax.block_until_ready(jnp.zeros(3) + 1)  # the device is there
    inputs = Inputs(rows, device)
    names, settings = METRICS[name]
    settings = settings | ({"groups": np.arange(rows) // 10} if "groups" in settings else {})
    given = [getattr(inputs, each) for each in names]
    jax.block_until_ready([leaf for leaf in jax.tree.leaves(given) if isinstance(leaf, jax.Array)])
    seconds, before = [], set(sys.modules)
    with compilations() as compiled:
        for _ in range(4):
            began = time.perf_counter()
            jax.block_until_ready(getattr(uq.metrics, name)(*given, **settings))
            seconds.append(time.perf_counter() - began)
    line = {"metric": name, "rows": rows, "route": "device" if device else "host", "first_s": round(seconds[0], 5)}
    line |= {"later_s": round(min(seconds[1:]), 6), "compiled": len(compiled), "compile_s": round(sum(compiled), 4)}
    return line | {"imported": [each for each in SLOW_IMPORTS if each in sys.modules and each not in before]}


class compilations(list):
    """Collects an entry for each program that JAX compiles."""

    def __enter__(self):
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self

    def __exit__(self, *_):
        jax.monitoring.clear_event_listeners()

    def _heard(self, event, seconds, **_):
        if "backend_compile" in event:
            self.append(seconds)


def table(lines):
    by = {(line["metric"], line["route"]): line for line in lines}
    rows = [
        "| metric | host: first, ms | later | compiled | device: first, ms | later | compiled | compiling, ms |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in METRICS:
        cells = [name]
        for route in ("host", "device"):
            line = by.get((name, route))
            if line is None or "error" in line:
                cells += ["–", "–", "–"] + (["–"] if route == "device" else [])
                continue
            cells += [f"{1e3 * line['first_s']:.3g}", f"{1e3 * line['later_s']:.3g}", str(line["compiled"])]
            cells += [f"{1e3 * line['compile_s']:.3g}"] if route == "device" else []
        rows.append(f"| {' | '.join(cells)} |")
    slow = [line for line in lines if line["route"] == "host" and line.get("first_s", 1) > 0.03]
    said = [" ".join([line["metric"], *(f"(imports {each})" for each in line.get("imported", []))]) for line in slow]
    rows.append(f"\nOn the host more than 30 ms: {', '.join(said) or 'none'}.")
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rows-device", type=int, default=100_000)
    parser.add_argument("--only", default="", help="metrics whose name has this")
    parser.add_argument("--route", choices=["host", "device"], help="one of the two alone")
    parser.add_argument("--metric", help="measure this one in this process, nothing else")
    parser.add_argument("--out", type=Path, help="where to write the results, one JSON line each")
    args = parser.parse_args()
    if args.metric:
        print(json.dumps(one(args.metric, args.rows, args.route == "device")))
        return
    lines = []
    for route, rows in (("host", args.rows), ("device", args.rows_device)):
        for name in METRICS:
            if args.only not in name or (args.route or route) != route:
                continue
            command = [sys.executable, __file__, "--metric", name, "--route", route, "--rows", str(rows)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            failed = {"metric": name, "route": route, "error": done.stderr.strip().splitlines()[-1:]}
            lines.append(failed if done.returncode else json.loads(done.stdout.strip().splitlines()[-1]))
            print(lines[-1], file=sys.stderr, flush=True)
    if args.out:
        args.out.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(table(lines))


if __name__ == "__main__":
    main()
