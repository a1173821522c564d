"""What is compared on what: tasks (data, split, network, likelihood) and candidate methods, each declared
once."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from .. import _setup as setup
from .. import holdout, likelihoods, methods
from ..data import Dataset, bundled
from ..method import Method, ensemble
from ..optimizers import one_cycle

TEST_SHARE = 0.2
"""The share of the rows that a task tests on."""
_HIDDEN = 50


class MLP(nn.Module):
    """Flattened inputs, hidden layers with ReLU, a linear layer: Flax's own initial weights."""

    hidden: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width)(x))
        return nn.Dense(self.outputs)(x)


class Task(NamedTuple):
    """A data set with one split, and the network and likelihood that every method is given."""

    data: Dataset
    train: np.ndarray
    """Rows to train on."""
    test: np.ndarray
    """Rows to test on."""
    likelihood: Any
    hidden: tuple[int, ...]
    """Widths of the network's hidden layers."""

    @property
    def network(self) -> nn.Module:
        return MLP(self.hidden, self.likelihood.width)

    @property
    def train_data(self) -> tuple[np.ndarray, np.ndarray]:
        return self.data.x[self.train], self.data.y[self.train]

    @property
    def test_data(self) -> tuple[np.ndarray, np.ndarray]:
        return self.data.x[self.test], self.data.y[self.test]


def bundled_task(name: str, *, seed: int = 0) -> Task:
    """One of scikit-learn's data sets, split 80/20 by the seed; one hidden layer of 50 units.

    Raises:
      InputError: an unknown name.
      MissingExtra: scikit-learn is not installed.
    """
    data = bundled(name)
    order = _permutation(seed, len(data.y))
    num_test = round(TEST_SHARE * len(order))
    return Task(data, np.sort(order[num_test:]), np.sort(order[:num_test]), likelihood_of(data), (_HIDDEN,))


def likelihood_of(data: Dataset) -> Any:
    """Gaussian, Bernoulli or Categorical, as the data need."""
    if data.task == "regression":
        return likelihoods.Gaussian()
    return likelihoods.Bernoulli() if data.task == "binary" else likelihoods.Categorical(len(data.classes))


def _permutation(seed: int, num: int) -> np.ndarray:
    """The same on every machine and version: from a counter-based stream that is fixed by definition."""
    bits = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(80, 20)))
    return np.argsort(bits.random_raw(num), kind="stable")


class Candidate(NamedTuple):
    """A method as the benchmark runs it."""

    name: str
    label: str
    """For tables; `{size}` is K."""
    build: Callable[[Any, Any, int], Method]
    """`build(network, likelihood, size) -> Method`."""
    size_matters: bool
    """Whether K changes it."""
    reference: str
    lifts: str | None = None
    """The method of the register that it is K of."""

    def title(self, size: int) -> str:
        """Its label for K members."""
        return self.label.format(size=size)


def _candidates() -> dict[str, Candidate]:
    """Two for each line of the register: one network, and `ensemble` of K."""
    found = {}
    for name, entry in methods.REGISTER.items():
        plain = name.replace("_", "-")
        one, many = (plain, f"mixture of {{size}} {plain}s")
        lifted = f"{name}_mixture"
        if name == "map_estimate":
            one, many, lifted = "single network", "deep ensemble of {size}", "deep_ensemble"
        found[name] = Candidate(name, one, _single(entry.factory), False, entry.reference)
        found[lifted] = Candidate(lifted, many, _lifted(entry.factory), True, entry.reference, name)
    return found


def _defaults(function: Callable[..., Any]) -> dict[str, Any]:
    """The settings that a function has when none are given, where they are numbers."""
    found = {name: setting.default for name, setting in inspect.signature(function).parameters.items()}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


OPTIMIZER = _defaults(one_cycle)
"""The settings of `uq.optimizers.one_cycle` that every method is trained with: its own defaults."""


def _single(factory: Callable[..., Method]) -> Callable[[Any, Any, int], Method]:
    return lambda network, likelihood, size: factory(network, likelihood, one_cycle(**OPTIMIZER))


def _lifted(factory: Callable[..., Method]) -> Callable[[Any, Any, int], Method]:
    return lambda network, likelihood, size: ensemble(_single(factory)(network, likelihood, size), size)


def recipe(candidate: Candidate, task: Task, *, size: int, epochs: int | None) -> dict[str, Any]:
    """How a method is trained on a task, every choice in numbers: what `fit` chooses by itself where nothing is asked
    for, and the settings of the method and of its optimizer.
    """
    method = candidate.build(task.network, task.likelihood, size)
    num_rows = len(task.train)
    validation = 0.1 if method.early_stopping and num_rows >= 50 else 0.0
    trained = len(holdout.fraction((0, 0), 1, num_rows, validation).train[0])
    batch_size = min(setup._BATCH, trained)
    return {
        "epochs": setup.default_epochs(trained, batch_size) if epochs is None else epochs,
        "batch_size": batch_size,
        "validation": validation,
        "optimizer": {"name": "one_cycle", **OPTIMIZER},
        "prior": "none" if method.early_stopping else "Normal(0, 1)",
        "settings": _defaults(methods.REGISTER[candidate.lifts or candidate.name].factory),
        "draws": method.num_draws,
    }


METHODS: dict[str, Candidate] = _candidates()
"""Every method of the register, alone and as an ensemble of K."""
DEFAULT_METHODS = ("map_estimate", "deep_ensemble", "mean_field", "mean_field_mixture")
BASELINE = "map_estimate"
"""What the others are compared with, example by example."""
