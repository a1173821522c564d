"""Does the default recipe depend on how the weights start? Flax's initialisers against PyTorch's rule, eight seeds.

python benchmarks/initialisation.py            # with fit's default epochs, and with 40
"""

import json
import sys
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "speed"))

from common import data

import uq


def uniform(key, shape, dtype=np.float32):
    """PyTorch's rule for a linear layer: ±1/√fan-in, for kernels."""
    return jax.random.uniform(key, shape, dtype, -1, 1) / np.sqrt(shape[0])


class Net(nn.Module):
    torch_like: bool

    @nn.compact
    def __call__(self, x):
        return self.layer(2, nn.relu(self.layer(50, x)))

    def layer(self, width, x):
        def bias(key, shape, dtype=np.float32):
            return jax.random.uniform(key, shape, dtype, -1, 1) / np.sqrt(x.shape[-1])

        start = {"kernel_init": uniform, "bias_init": bias} if self.torch_like else {}
        return nn.Dense(width, **start)(x)


x, y, x_test, y_test = data(1000)
for epochs in (40, None):
    for name, torch_like in (("Flax's default", False), ("PyTorch's rule", True)):
        scores = []
        for seed in range(8):
            method = uq.deep_ensemble(Net(torch_like), uq.likelihoods.Gaussian(), size=5)
            posterior = uq.fit(method, (x, y), key=seed, epochs=epochs, progress=False)
            pred = posterior.predict(x_test)
            scores.append((float(uq.metrics.rmse(pred, y_test)), float(uq.metrics.log_score(pred, y_test).mean())))
        rmse, nll = np.mean(scores, axis=0)
        error = np.std(scores, axis=0, ddof=1) / np.sqrt(len(scores))
        line = {"start": name, "epochs": len(posterior.history.loss), "rmse": rmse, "rmse_stderr": error[0]}
        print(json.dumps(line | {"nll": nll, "nll_stderr": error[1]}), flush=True)
