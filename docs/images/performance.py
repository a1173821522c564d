"""The picture of docs/performance.md: time of a step against the number of members, from the results of
`benchmarks/speed/members.py`.

python docs/images/performance.py
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "benchmarks" / "speed" / "results"

figure, (whole, each) = plt.subplots(1, 2, figsize=(9, 3.6), dpi=120, layout="constrained")
for path in sorted(RESULTS.glob("members-*.jsonl")):
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    sizes = [line["members"] for line in lines]
    paces = [line["ms_a_step"] for line in lines]
    label = lines[0]["device"].split(", jax")[0].replace("cpu", "CPU")
    whole.plot(sizes, paces, "o-", label=label)
    each.plot(sizes, [1e3 * pace / size for pace, size in zip(paces, sizes, strict=True)], "o-", label=label)
for axes, title in ((whole, "ms a step of all members"), (each, "µs a step and member")):
    axes.set(xscale="log", yscale="log", xlabel="members K", title=title)
    axes.grid(alpha=0.3, which="both")
whole.legend()
figure.savefig(HERE / "performance-members.png")
