"""Small networks of every kind, in linen and NNX, and inputs that suit them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

import uq

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(6, 3)).astype(np.float32)
IMAGES = RNG.normal(size=(4, 6, 6, 2)).astype(np.float32)
SEQUENCES = RNG.normal(size=(4, 5, 4)).astype(np.float32)


class Conv(nn.Module):
    """A strided convolution and a dense layer."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        return nn.Dense(2)(x.reshape(x.shape[0], -1))


class Residual(nn.Module):
    """A residual block with BatchNorm."""

    @nn.compact
    def __call__(self, x: Any, *, use_running_average: bool = True) -> Any:
        x = nn.Conv(4, (1, 1))(x)
        y = nn.relu(nn.BatchNorm(use_running_average=use_running_average)(nn.Conv(4, (3, 3))(x)))
        y = nn.BatchNorm(use_running_average=use_running_average)(nn.Conv(4, (3, 3))(y))
        return nn.Dense(2)(nn.relu(x + y).mean((1, 2)))


class Attention(nn.Module):
    """A block of a transformer's encoder."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = x + nn.MultiHeadDotProductAttention(num_heads=2)(nn.LayerNorm()(x))
        x = x + nn.Dense(4)(nn.gelu(nn.Dense(8)(nn.LayerNorm()(x))))
        return nn.Dense(2)(x.mean(1))


class Recurrent(nn.Module):
    """A gated recurrent layer over a sequence."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(2)(nn.RNN(nn.GRUCell(5))(x)[:, -1])


def nnx_nets() -> dict[str, Callable[..., Any]]:
    """The same kinds in NNX, as constructors; made in a function, since NNX is slow to import."""
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.layers, self.last = self.parts(rngs)

        def __call__(self, x: Any) -> Any:
            return self.last(self.body(x))

    class Mlp(Net):
        def parts(self, rngs: nnx.Rngs) -> Any:
            return nnx.Linear(3, 6, rngs=rngs), nnx.Linear(6, 2, rngs=rngs)

        def body(self, x: Any) -> Any:
            return jnp.tanh(self.layers(x))

    class Cnn(Net):
        def parts(self, rngs: nnx.Rngs) -> Any:
            return nnx.Conv(2, 4, (3, 3), strides=2, rngs=rngs), nnx.Linear(36, 2, rngs=rngs)

        def body(self, x: Any) -> Any:
            return nnx.relu(self.layers(x)).reshape(x.shape[0], -1)

    class Resnet(Net):
        def parts(self, rngs: nnx.Rngs) -> Any:
            self.norm = nnx.BatchNorm(2, rngs=rngs)
            return nnx.Conv(2, 2, (3, 3), rngs=rngs), nnx.Linear(2, 2, rngs=rngs)

        def body(self, x: Any) -> Any:
            return (x + nnx.relu(self.norm(self.layers(x)))).mean((1, 2))

    class Attend(Net):
        def parts(self, rngs: nnx.Rngs) -> Any:
            return nnx.MultiHeadAttention(2, 4, decode=False, rngs=rngs), nnx.Linear(4, 2, rngs=rngs)

        def body(self, x: Any) -> Any:
            return (x + self.layers(x)).mean(1)

    class Recur(Net):
        def parts(self, rngs: nnx.Rngs) -> Any:
            return nnx.RNN(nnx.GRUCell(4, 5, rngs=rngs)), nnx.Linear(5, 2, rngs=rngs)

        def body(self, x: Any) -> Any:
            return self.layers(x)[:, -1]

    return {"mlp": Mlp, "cnn": Cnn, "resnet": Resnet, "attention": Attend, "rnn": Recur}


def linen_nets() -> dict[str, nn.Module]:
    mlp = nn.Sequential([nn.Dense(6), nn.tanh, nn.Dense(2)])
    return {"mlp": mlp, "cnn": Conv(), "resnet": Residual(), "attention": Attention(), "rnn": Recurrent()}


INPUTS = {"mlp": ROWS, "cnn": IMAGES, "resnet": IMAGES, "attention": SEQUENCES, "rnn": SEQUENCES}
KINDS = [(flavour, kind) for flavour in ("linen", "nnx") for kind in INPUTS]


def network(flavour: str, kind: str) -> uq.Model:
    """The network of a kind as a `Model`."""
    if flavour == "linen":
        return uq.as_model(linen_nets()[kind])
    make = nnx_nets()[kind]
    return uq.from_nnx(lambda rngs: make(rngs))
