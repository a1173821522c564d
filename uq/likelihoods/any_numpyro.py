"""Any numpyro distribution as a likelihood, from a function of the network's outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count
from .._typing import Array
from ._links import columns_of, law_log_prob
from ._targets import _hold, check_counts, check_indicators, check_labels, check_real


@dataclass(frozen=True)
class FromNumpyro:
    """A likelihood made by `from_numpyro`."""

    function: Callable[[Array], Any]
    width: int
    free: int
    task: str
    standardize: str
    num_outputs: int = 1
    num_classes: int = 0
    support: str = "real"

    def log_prob(self, outputs: Array, y: Array) -> Array:
        d = self.distribution(outputs)
        if self.task == "regression":
            y = jnp.asarray(y).astype(outputs.dtype)
        return d.log_prob(y) if d.event_shape else law_log_prob(d, y)

    def distribution(self, outputs: Array) -> Any:
        return self.function(columns_of(self, outputs))

    def check(self, y: Any) -> Any:
        name = f"from_numpyro({_title(self.function)})"
        if self.task == "multilabel":
            return check_indicators(y, self.num_outputs, name)
        if self.task != "regression":
            return check_labels(y, self.num_classes, name)
        if self.support == "counts":
            return check_counts(y, name)
        y = check_real(y, self.num_outputs, name)
        said, holds = _SUPPORTS[self.support]
        return _hold(y, lambda v: holds(v).reshape(len(v), -1).all(1), f"{name} expected targets {said}", "")


_SUPPORTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "real": ("on the whole line", np.isfinite),
    "positive": ("above 0", lambda v: v > 0),
    "nonnegative": ("of at least 0", lambda v: v >= 0),
    "unit": ("strictly between 0 and 1", lambda v: (v > 0) & (v < 1)),
    "other": ("of finite value", np.isfinite),
}
_KINDS = {"Real": "real", "Positive": "positive", "Nonnegative": "nonnegative", "UnitInterval": "unit"}
"""Kinds of support, by the name of numpyro's constraint."""
_STANDARDIZE = {"real": "affine", "positive": "scale"}


def from_numpyro(
    function: Callable[[Array], Any], width: int, *, free: int = 0, standardize: str | None = None
) -> FromNumpyro:
    """A likelihood from a function that turns outputs into a numpyro distribution.

    The support of what the function returns decides the task, which targets are accepted, and how `fit` changes the
    target's units: the whole line is centred and scaled, positive targets are divided by their mean, all others stay.
    Keep the function finite at any outputs: use `jax.nn.softplus(raw) + floor` for what must be positive. Define it
    once, at the top of a module: two lambdas are two likelihoods, and compile twice.

    Args:
      function: outputs `(…, width + free)` to a distribution of batch shape `(…)`, with no event axis or one.
      width: outputs that the network must have for one example.
      free: parameters shared by all examples, the last columns of what the function gets.
      standardize: "affine", "scale" or "none", where the support's own choice does not suit.
    Returns:
      A likelihood. A saved posterior needs it again: `uq.load(…, likelihood=…)`.
    Raises:
      InputError: the function fails, returns no distribution, or one of another batch shape.
    References:
      phan2019. Checked against numpyro's own log-densities.
    Example:
      >>> import jax, numpyro.distributions as dist, uq
      >>> def gumbel(outputs):
      ...     return dist.Gumbel(outputs[..., 0], jax.nn.softplus(outputs[..., 1]) + 1e-3)
      >>> kind = uq.likelihoods.from_numpyro(gumbel, 2)
      >>> kind.task, kind.standardize
      ('regression', 'affine')
    """
    import numpyro.distributions as dist

    width, free = check_count("width", width), check_count("free", free, least=0)
    if not callable(function):
        raise InputError(f"`from_numpyro` expected a function of outputs, but got a {type(function).__name__}.")
    if isinstance(function, type) and issubclass(function, dist.Distribution):
        raise InputError(
            f"`from_numpyro` expected a function of outputs, but got the class {function.__name__}: write a function "
            f"that takes outputs (…, {width}) apart and returns {function.__name__}(…)."
        )
    try:
        d = function(jnp.zeros((3, width + free)))
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"The function given to `from_numpyro` fails for outputs of shape (3, {width + free}). It says: {said}"
        ) from error
    if not isinstance(d, dist.Distribution):
        raise InputError(
            f"The function given to `from_numpyro` expected to return a numpyro distribution, but returns a "
            f"{type(d).__name__}."
        )
    if d.batch_shape != (3,) or len(d.event_shape) > 1:
        raise InputError(
            "The function given to `from_numpyro` expected to return a distribution of batch shape (3,) for three rows "
            f"of outputs, with at most one event axis, but it has batch shape {d.batch_shape} and event shape "
            f"{d.event_shape}. Index the last axis of outputs (outputs[..., 0]); for vectors add .to_event(1)."
        )
    task, support, num_classes = _read(d)
    if standardize is None:
        standardize = _STANDARDIZE.get(support, "none") if task == "regression" else "none"
    if standardize not in ("affine", "scale", "none"):
        raise InputError(f'`standardize` expected "affine", "scale" or "none", but it is {standardize!r}.')
    outputs = d.event_shape[0] if d.event_shape else 1
    return FromNumpyro(function, width, free, task, standardize, outputs, num_classes, support)


def _read(d: Any) -> tuple[str, str, int]:
    """Task, kind of support and number of classes, from a distribution's support."""
    support = d.support
    while hasattr(support, "base_constraint"):  # one support for each output
        support = support.base_constraint
    name = type(support).__name__.strip("_")
    if name == "Boolean":
        return ("multilabel" if d.event_shape else "binary"), "labels", 2
    if name == "IntegerInterval" and _is_categorical(d):
        return "multiclass", "labels", int(np.max(np.asarray(support.upper_bound))) + 1
    if support.is_discrete:
        return "regression", "counts", 0
    return "regression", _KINDS.get(name, "other"), 0


def _is_categorical(d: Any) -> bool:
    return any("Categorical" in kind.__name__ or kind.__name__ == "OrderedLogistic" for kind in type(d).__mro__)


def _title(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)
