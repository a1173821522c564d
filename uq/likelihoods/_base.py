"""The contract of a likelihood, and how networks meet it: widths, event axes, free parameters as extra columns."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from .._checks import InputError
from .._typing import Array, Key, PyTree
from ..model import Model, Variables
from ._transformed import Transformed


@runtime_checkable
class Likelihood(Protocol):
    """What raw outputs mean.

    `task` is "regression", "binary", "multiclass" or "multilabel". `width` is the number of outputs a network must
    have for one example (None: any), and `free` how many shared parameters `attach` appends to them.

    Optional: `num_outputs` (D, where a target is a vector), `num_classes`, and `standardize`, which tells `fit` how
    to change the units of the target before training: "affine" (centre and scale; the default of a regression),
    "scale" (divide by the mean, for positive targets), "log" (standardise the logarithm) or "none".
    """

    @property
    def task(self) -> str: ...

    @property
    def width(self) -> int | None: ...

    @property
    def free(self) -> int: ...

    def log_prob(self, outputs: Array, y: Array) -> Array:
        """Log-density of `y` under `outputs` `(…, width + free)`, in nats, `(…,)`."""

    def distribution(self, outputs: Array) -> Any:
        """The numpyro distribution with batch shape `outputs.shape[:-1]`."""

    def check(self, y: Any) -> Any:
        """`y` in its canonical shape and dtype, after checking concrete values."""


def attach(model: Model, likelihood: Likelihood) -> Model:
    """The model whose outputs carry the likelihood's free parameters as extra columns.

    Parameters become `{"network": …, "likelihood": (free,)}`. Without free parameters they are unchanged, and the
    outputs of a network of width 1 get their event axis where it leaves it out.
    """
    _check_likelihood(likelihood)
    if not likelihood.free:
        return _with_columns(model, likelihood) if likelihood.width == 1 else model

    def init(key: Key, x: PyTree) -> Variables:
        variables = model.init(key, x)
        return Variables({"network": variables.params, "likelihood": jnp.zeros(likelihood.free)}, variables.state)

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        inner = Variables(variables.params["network"], variables.state)
        outputs, state = model.apply(inner, x, key=key, train=train)
        outputs = columns(outputs, likelihood)
        check_width(likelihood, outputs.shape, outputs.shape[0] if outputs.ndim else 0)
        extra = variables.params["likelihood"].astype(outputs.dtype)
        return jnp.concatenate([outputs, jnp.broadcast_to(extra, (*outputs.shape[:-1], extra.size))], -1), state

    return Model(init, apply)


def _check_likelihood(likelihood: Any) -> None:
    if isinstance(likelihood, type):
        raise InputError(
            f"Expected a likelihood, but got the class {likelihood.__name__}: write {likelihood.__name__}(…)."
        )
    if not isinstance(likelihood, Likelihood):
        raise InputError(f"Expected a likelihood, such as uq.likelihoods.Gaussian(), but got {likelihood!r}.")
    try:
        hash(likelihood.base if isinstance(likelihood, Transformed) else likelihood)
    except TypeError:
        raise InputError(
            f"The likelihood {type(likelihood).__name__} cannot be hashed, and so not be compiled for; make it a "
            "frozen dataclass."
        ) from None


def _with_columns(model: Model, likelihood: Likelihood) -> Model:
    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        outputs, state = model.apply(variables, x, key=key, train=train)
        return columns(outputs, likelihood), state

    return Model(model.init, apply)


def columns(outputs: Array, likelihood: Likelihood) -> Array:
    """Outputs with their event axis: a network of width 1 may leave it out."""
    return outputs[..., None] if likelihood.width == 1 and outputs.ndim == 1 else outputs


def check_width(likelihood: Likelihood, shape: tuple[int, ...], num_examples: int) -> None:
    """Raise unless network outputs of `shape` fit the likelihood; the message says which width it wants."""
    width = likelihood.width
    if width is None:
        return
    if shape == (num_examples,) and width == 1:
        return
    if len(shape) >= 2 and shape[0] == num_examples and shape[-1] == width:
        return
    raise InputError(
        f"{_name(likelihood)} expected network outputs of shape (N, {width}), that is {width} "
        f"output{'s' if width > 1 else ''} an example, but the network gives {('N', *shape[1:]) if shape else ()}. "
        f"Make its last layer {width} wide."
    )


def _name(likelihood: Any) -> str:
    return repr(likelihood.base if isinstance(likelihood, Transformed) else likelihood)
