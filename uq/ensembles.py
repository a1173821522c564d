"""`deep_ensemble`: K point estimates from different initial weights and batches."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import optax

from ._checks import UQWarning
from ._typing import Array, ArrayLike
from .execution import Mapping
from .likelihoods import Likelihood
from .losses import negative_log_likelihood
from .method import Method, ensemble
from .methods.map_estimate import map_estimate


def deep_ensemble(
    model: Any,
    likelihood: Likelihood,
    optimizer: optax.GradientTransformation | None = None,
    *,
    size: int = 5,
    loss: Callable[[Likelihood, Array, Array], Array] = negative_log_likelihood,
    prior: Any = None,
    mapping: Mapping | None = None,
    hyperparams: dict[str, ArrayLike] | None = None,
) -> Method:
    """K networks trained from different initial weights on differently shuffled data.

    Short for `ensemble(map_estimate(model, likelihood, optimizer, …), size)`.

    Args:
      model: anything `uq.as_model` takes.
      likelihood: what the outputs mean.
      optimizer: any optax optimizer, run apart for each member; None is `uq.optimizers.one_cycle()`.
      size: K.
      loss, prior: as in `uq.methods.map_estimate`.
      mapping, hyperparams: as in `uq.ensemble`.
    References:
      lakshminarayanan2017, algorithm 1 (without its adversarial examples).
    """
    if size == 1:
        warnings.warn(
            "A deep ensemble of size 1 is one network: its epistemic part is 0. Use size=5 or more.",
            UQWarning,
            stacklevel=2,
        )
    one = map_estimate(model, likelihood, optimizer, loss=loss, prior=prior)
    return ensemble(one, size, mapping=mapping, hyperparams=hyperparams)
