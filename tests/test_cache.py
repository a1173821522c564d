"""Programs are cached by what settings are worth, not by which objects hold them."""

from __future__ import annotations

import functools
import types
from collections import namedtuple
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import uq
from uq._cache import ProgramCache, fingerprint

from .nets import OneFlag, mlp, nnx_net, raw_apply, raw_init


@dataclass
class Settings:
    rate: float
    names: list


def closure(value: Any) -> Any:
    return lambda x: x + value


Pair = namedtuple("Pair", "a b")

SAME = {
    "adam": lambda: optax.adam(1e-3),
    "chain": lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3, weight_decay=1e-2)),
    "schedule": lambda: optax.adam(optax.cosine_decay_schedule(1e-2, 100)),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=jnp.array([1.0, 2.0])),
    "module": mlp,
    "class module": lambda: OneFlag(2),
    "model": lambda: uq.as_model(mlp()),
    "pair": lambda: uq.as_model((raw_init, raw_apply)),
    "method": lambda: uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), size=3),
    "mean field": lambda: uq.methods.mean_field(mlp(), uq.likelihoods.Gaussian(), optax.adam(1e-3)),
    "partial": lambda: functools.partial(closure, value=2.0),
    "closure": lambda: closure([1, {"a": np.arange(3)}]),
    "dataclass": lambda: Settings(0.1, ["a"]),
    "tuple": lambda: Pair(1, (2.0, None)),
    "set": lambda: {1, 2},
    "key": lambda: jax.random.key(1),
    "bound": lambda: Bound(3).method,
    "nan": lambda: float("nan"),
}


class Bound:
    def __init__(self, value: int) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and other.value == self.value

    def __hash__(self) -> int:
        return self.value

    def method(self, x: Any) -> Any:
        return x + self.value


@pytest.mark.parametrize("name", SAME)
def test_equal_settings_have_equal_fingerprints(name: str) -> None:
    one, two = fingerprint(SAME[name]()), fingerprint(SAME[name]())
    assert one == two
    assert hash(one) == hash(two)


DIFFERENT = {
    "rate": (lambda: optax.adam(1e-3), lambda: optax.adam(2e-3)),
    "schedule": (
        lambda: optax.adam(optax.cosine_decay_schedule(1e-2, 100)),
        lambda: optax.adam(optax.cosine_decay_schedule(1e-2, 101)),
    ),
    "width": (lambda: mlp(hidden=6), lambda: mlp(hidden=7)),
    "field": (lambda: OneFlag(2), lambda: OneFlag(3)),
    "likelihood": (
        lambda: uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), size=3),
        lambda: uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(min_scale=1e-2), size=3),
    ),
    "loss": (
        lambda: uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), loss=uq.losses.beta_nll(0.5)),
        lambda: uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), loss=uq.losses.beta_nll(0.4)),
    ),
    "activation": (
        lambda: nn.Sequential([nn.Dense(2), nn.relu]),
        lambda: nn.Sequential([nn.Dense(2), nn.tanh]),
    ),
    "closure": (lambda: closure(np.arange(3)), lambda: closure(np.arange(3) + 1)),
    "dtype": (lambda: np.float32(1), lambda: np.float64(1)),
    "shape": (lambda: np.zeros((2, 3)), lambda: np.zeros((3, 2))),
    "type": (lambda: 1, lambda: True),
    "container": (lambda: (1, 2), lambda: [1, 2]),
    "names": (lambda: {"a": 1}, lambda: {"b": 1}),
    "key": (lambda: jax.random.key(1), lambda: jax.random.key(2)),
    "code": (lambda: lambda x: x + 1, lambda: lambda x: x + 2),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_different_settings_have_different_fingerprints(name: str) -> None:
    one, two = DIFFERENT[name]
    assert fingerprint(one()) != fingerprint(two())


FACTOR = 2.0


def by_global(x: Any) -> Any:
    return x * FACTOR


def test_a_changed_global_is_noticed(monkeypatch: Any) -> None:
    before = fingerprint(by_global)
    assert before == fingerprint(by_global)
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    assert fingerprint(by_global) != before


def test_what_cannot_be_looked_into_is_compared_by_identity() -> None:
    one = object()
    assert fingerprint(one) == fingerprint(one)
    assert fingerprint(one) != fingerprint(object())


def test_things_that_hold_themselves() -> None:
    loop: list = []
    loop.append(loop)
    assert fingerprint(loop) == fingerprint(loop)


def test_nnx_constructors_have_fingerprints() -> None:
    net = nnx_net()
    assert fingerprint(uq.as_model(net)) == fingerprint(uq.as_model(net))


def test_the_least_recently_used_program_goes_first() -> None:
    cache = ProgramCache(size=2)
    built = []

    def build(name: str) -> Any:
        return cache.get(name, lambda: built.append(name) or name)

    assert [build(name) for name in ("a", "b", "a", "c", "a", "b")] == ["a", "b", "a", "c", "a", "b"]
    assert built == ["a", "b", "c", "b"]
    assert cache.peek("a") is not None and cache.peek("c") is None
    cache.clear()
    assert cache.peek("a") is None


NOTEBOOK = """
class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(ACT(nn.Dense(8)(x)) * SCALE)
"""


def test_what_a_notebook_changes_in_place_is_seen() -> None:
    space = {"nn": nn, "ACT": nn.relu, "SCALE": 1.0, "__name__": "__main__"}
    exec(NOTEBOOK, space)

    def now() -> object:
        return fingerprint(uq.methods.map_estimate(space["Net"](), uq.likelihoods.Gaussian()))

    first = now()
    assert now() == first
    space["SCALE"] = 2.0
    assert now() != first
    space["SCALE"] = 1.0
    assert now() == first
    space["ACT"] = nn.tanh
    assert now() != first
    space["ACT"] = nn.relu
    space["Net"].__call__ = lambda self, x: x  # type: ignore[attr-defined]
    assert now() != first


def test_what_a_class_holds_is_seen() -> None:
    class Settings:
        widths: ClassVar[list[int]] = [8]

    class Net(nn.Module):
        C = np.array(1.0)

        @staticmethod
        def act(x: jax.Array) -> jax.Array:
            return nn.relu(x)

        @property
        def half(self) -> float:
            return 0.5

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            for width in Settings.widths:
                x = self.act(nn.Dense(width)(x))
            return nn.Dense(2)(x) * self.C * self.half

    changes = (
        lambda: setattr(Settings, "widths", [64]),
        lambda: Settings.widths.append(4),
        lambda: setattr(Net, "C", np.array(2.0)),
        lambda: setattr(Net, "act", staticmethod(nn.tanh)),
        lambda: setattr(Net, "half", property(lambda self: 0.7)),
    )
    for change in changes:
        before = fingerprint(Net())
        assert fingerprint(Net()) == before
        change()
        assert fingerprint(Net()) != before


def test_attributes_of_objects_are_seen() -> None:
    class Loss:
        def __init__(self) -> None:
            self.factor = 1.0

        def __call__(self, likelihood: object, outputs: object, y: object) -> None: ...

    loss, config = Loss(), types.SimpleNamespace(a=1)
    one = fingerprint(loss)
    loss.factor = 3.0
    assert fingerprint(loss) != one
    one = fingerprint(loss.__call__)
    loss.factor = 4.0
    assert fingerprint(loss.__call__) != one
    one = fingerprint(config)
    config.a = 2
    assert fingerprint(config) != one
