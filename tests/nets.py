"""Small networks and data that several tests share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax.numpy as jnp
import numpy as np


def mlp(width: int = 2, hidden: int = 6) -> nn.Module:
    """One hidden layer."""
    return nn.Sequential([nn.Dense(hidden), nn.tanh, nn.Dense(width)])


class OneFlag(nn.Module):
    """BatchNorm and dropout behind one `train` flag, as most linen code writes them."""

    width: int = 2

    @nn.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x = nn.Dense(8, name="first")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.Dropout(0.2, deterministic=not train)(nn.relu(x))
        return nn.Dense(self.width, name="last")(x)


class TwoFlags(nn.Module):
    """The same network, with a switch for each."""

    width: int = 2

    @nn.compact
    def __call__(self, x: Any, *, deterministic: bool = True, use_running_average: bool = True) -> Any:
        x = nn.Dense(8, name="first")(x)
        x = nn.BatchNorm(use_running_average=use_running_average, name="norm")(x)
        x = nn.Dropout(0.2, deterministic=deterministic)(nn.relu(x))
        return nn.Dense(self.width, name="last")(x)


def nnx_net(width: int = 2) -> Any:
    """The same network as an NNX class, for 3 inputs; made in a function, since NNX is slow to import."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.first = nnx.Linear(3, 8, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.drop = nnx.Dropout(0.2, rngs=rngs)
            self.last = nnx.Linear(8, width, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(self.drop(nnx.relu(self.norm(self.first(x)))))

    return Net


def raw_init(key: Any, x: Any) -> Any:
    """The first half of a raw pair: weights of one hidden layer."""
    import jax

    one, two = jax.random.split(key)
    return {
        "first": {"kernel": jax.random.normal(one, (x.shape[-1], 6)) * 0.5, "bias": jnp.zeros(6)},
        "last": {"kernel": jax.random.normal(two, (6, 2)) * 0.5, "bias": jnp.zeros(2)},
    }


def raw_apply(params: Any, x: Any) -> Any:
    """The second half of a raw pair."""
    hidden = jnp.tanh(x @ params["first"]["kernel"] + params["first"]["bias"])
    return hidden @ params["last"]["kernel"] + params["last"]["bias"]


def regression(num: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs around 5 of scale 3; targets of mean about 1e4 and standard deviation about 250."""
    rng = np.random.default_rng(seed)
    x = rng.normal(5.0, 3.0, (num, 3)).astype(np.float32)
    y = 1e4 + 250 * np.sin((x[:, 0] - 5) / 3) + 50 * rng.normal(size=num)
    return x, y


def classes(num: int = 60, num_classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Inputs around 5 of scale 3, and labels that depend on the first of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(5.0, 3.0, (num, 3)).astype(np.float32)
    noisy = x[:, 0] + rng.normal(0, 1, num)
    return x, np.digitize(noisy, np.quantile(noisy, np.arange(1, num_classes) / num_classes))


def problem(likelihood: Any, num: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Data that suit a likelihood."""
    if likelihood.task == "regression":
        x, y = regression(num)
        outputs = likelihood.num_outputs
        return x, y if outputs == 1 else np.stack([y, -3 * y + 7], 1)[:, :outputs]
    return classes(num, getattr(likelihood, "num_classes", 2))


@dataclass(frozen=True)
class Unit:
    """A likelihood that the register does not know: Normal of unit variance."""

    task: ClassVar[str] = "regression"
    width: ClassVar[int] = 1
    free: ClassVar[int] = 0
    num_outputs: ClassVar[int] = 1

    def log_prob(self, outputs: Any, y: Any) -> Any:
        return -0.5 * (y - outputs[..., 0]) ** 2 - 0.5 * np.log(2 * np.pi)

    def distribution(self, outputs: Any) -> Any:
        import numpyro.distributions as dist

        return dist.Normal(outputs[..., 0], 1.0)

    def check(self, y: Any) -> Any:
        return np.asarray(y)
