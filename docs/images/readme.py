"""The picture of the README: runs its example as printed, then draws what it predicts.

python docs/images/readme.py
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import uq

HERE = Path(__file__).parent
block = re.search(r"```python\n(.*?)```", (HERE.parents[1] / "README.md").read_text(), re.S)
space: dict = {}
exec(compile(block.group(1), "README.md", "exec"), space)

figure, axes = plt.subplots(figsize=(8, 4), dpi=120, layout="constrained")
axes.plot(space["x"][:, 0], space["y"], ".", color="0.35", markersize=4, label="data")
uq.plot.bands(space["pred"], x=space["np"].linspace(-5, 5, 400), level=0.9, ax=axes)
axes.set(xlabel="x", ylabel="y", title="Ten networks: 90 % interval of the exact mixture")
axes.legend(loc="upper left", ncols=3)
figure.savefig(HERE / "readme.png")
