"""Networks, data and sizes that the comparisons of strategies train."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax

import uq


class MLP(nn.Module):
    """10 → 50 → 2."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Dense(50)(x)))


class CNN(nn.Module):
    """Two strided convolutions and two dense layers, for 28 × 28 images."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(16, (3, 3), strides=2)(x))
        x = nn.relu(nn.Conv(32, (3, 3), strides=2)(x))
        x = nn.relu(nn.Dense(64)(x.reshape(x.shape[0], -1)))
        return nn.Dense(10)(x)


class CNN1D(nn.Module):
    """Three convolutions along a sequence of 128."""

    @nn.compact
    def __call__(self, x):
        for width in (16, 32, 32):
            x = nn.relu(nn.Conv(width, (5,), strides=2)(x))
        return nn.Dense(10)(x.mean(1))


class ResNet8(nn.Module):
    """Three residual blocks of 16, 32 and 64 channels with BatchNorm, for 28 × 28 images."""

    @nn.compact
    def __call__(self, x, train: bool = False):
        def norm(x):
            return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)

        x = nn.relu(norm(nn.Conv(16, (3, 3), use_bias=False)(x)))
        for width, stride in ((16, 1), (32, 2), (64, 2)):
            y = nn.relu(norm(nn.Conv(width, (3, 3), strides=stride, use_bias=False)(x)))
            y = norm(nn.Conv(width, (3, 3), use_bias=False)(y))
            if y.shape != x.shape:
                x = norm(nn.Conv(width, (1, 1), strides=stride, use_bias=False)(x))
            x = nn.relu(x + y)
        return nn.Dense(10)(x.mean((1, 2)))


class Encoder(nn.Module):
    """Two transformer encoder blocks of width 64 on sequences of 64."""

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            x = x + nn.MultiHeadDotProductAttention(num_heads=4)(nn.LayerNorm()(x))
            x = x + nn.Dense(64)(nn.gelu(nn.Dense(128)(nn.LayerNorm()(x))))
        return nn.Dense(10)(x.mean(1))


class Case(NamedTuple):
    net: Any
    likelihood: Any
    shape: tuple[int, ...]
    """Of one input."""
    batch: int
    size: int
    optimizer: Any


CASES = {
    "mlp": Case(MLP(), uq.likelihoods.Gaussian(), (10,), 100, 20, None),
    "mlp-100": Case(MLP(), uq.likelihoods.Gaussian(), (10,), 100, 100, None),
    "cnn": Case(CNN(), uq.likelihoods.Categorical(10), (28, 28, 1), 128, 10, optax.adam(1e-3)),
    "cnn-1d": Case(CNN1D(), uq.likelihoods.Categorical(10), (128, 4), 128, 10, optax.adam(1e-3)),
    "resnet-8": Case(ResNet8(), uq.likelihoods.Categorical(10), (28, 28, 1), 128, 4, optax.adam(1e-3)),
    "transformer": Case(Encoder(), uq.likelihoods.Categorical(10), (64, 64), 32, 8, optax.adam(1e-3)),
}


def batch_of(case, rows=None):
    """One batch `(x, y)` of random inputs and targets of the right kind."""
    rng = np.random.default_rng(0)
    rows = case.batch if rows is None else rows
    x = rng.normal(size=(rows, *case.shape)).astype(np.float32)
    if case.likelihood.task == "regression":
        return x, rng.normal(size=rows).astype(np.float32)
    return x, rng.integers(0, 10, rows)


def loss_of(case):
    """`loss(params, state, x, y) -> (loss, state)`, as one writes it without `uq`."""

    def loss(params, state, x, y):
        variables = {"params": params, **state}
        if state:
            out, state = case.net.apply(variables, x, train=True, mutable=list(state))
        else:
            out = case.net.apply(variables, x)
        if case.likelihood.task == "regression":
            scale = jnp.logaddexp(0.0, out[:, 1]) + 1e-3
            return (jnp.log(scale) + 0.5 * ((y - out[:, 0]) / scale) ** 2).mean(), state
        return optax.softmax_cross_entropy_with_integer_labels(out, y).mean(), state

    return loss
