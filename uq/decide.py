"""What to do, given predictions and what each mistake costs: the action of least expected cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import InputError, check_count, check_finite, is_concrete
from ._typing import Array, ArrayLike, Key
from .members import as_key
from .metrics import _inputs
from .predictive import Predictive


class Decision(NamedTuple):
    """One action an example, and what it is expected to cost."""

    action: Array
    """Index of the action of least expected cost, int `(N,)`; the first of several equally good ones."""
    cost: Array
    """Its expected cost, `(N,)`."""
    stderr: Array
    """Standard error of `cost` where it is a mean over draws; 0 where it is exact."""


def expected_cost(pred: Any, cost: ArrayLike) -> Array:
    """Expected cost of every action: Σ_c P(c) · cost[c, a].

    As good as the probabilities: an overconfident model underrates what rare mistakes cost. Recalibrate first.

    Args:
      pred: a `Predictive` of classes, class probabilities `(N, C)` or P(1) `(N,)`, or a numpyro distribution.
      cost: `(C, A)`, what action a costs where class c comes about; in any units, gains negative. Abstaining is one
        more column.
    Returns:
      `(N, A)`, in the units of `cost`.
    Raises:
      InputError: a cost matrix that has not one row a class, or is not finite; numbers that are not probabilities.
    References:
      elkan2001, eq. 1. Checked against a loop.
    Example:
      >>> import numpy as np
      >>> expected_cost(np.array([[0.75, 0.25]]), [[0, 1], [10, 0]]).tolist()
      [[2.5, 0.75]]
    """
    probs = jnp.asarray(_inputs.class_probs("expected_cost", pred))
    if isinstance(pred, Predictive):
        pred._needs("binary", "multiclass", what="expected_cost")
    matrix = _inputs.array("expected_cost", "cost", cost)
    if matrix.ndim != 2 or matrix.shape[0] != probs.shape[1]:
        raise InputError(
            f"`expected_cost` expected `cost` of shape ({probs.shape[1]}, A), a row a class and a column an action, "
            f"but its shape is {matrix.shape}."
        )
    return jnp.matmul(probs, jnp.asarray(matrix).astype(probs.dtype), precision="highest")


def least_cost(pred: Any, cost: ArrayLike) -> Decision:
    """The action of least expected cost for each example.

    With cost 1 for every mistake it is the most probable class; in general it is not.

    Args:
      pred, cost: as for `expected_cost`.
    Returns:
      A `Decision`; equally good actions yield the first.
    Raises:
      InputError: as for `expected_cost`.
    References:
      elkan2001, section 1. Checked against a loop.
    Example:
      >>> import numpy as np
      >>> ill = np.array([0.05, 0.25, 0.9])  # treat: 1; let go: 10 if ill; more tests: 0.6
      >>> least_cost(ill, [[1, 0, 0.6], [0, 10, 0.6]]).action.tolist()
      [1, 2, 0]
    """
    every = expected_cost(pred, cost)
    return Decision(every.argmin(1), every.min(1), jnp.zeros(every.shape[0], every.dtype))


def newsvendor(pred: Predictive, *, too_low: float, too_high: float) -> Array:
    """The number of least expected cost where each unit too low or too high costs a fixed amount.

    It is the quantile at too_low / (too_low + too_high): how much to stock, to staff, to charge a battery.

    Args:
      pred: a regression `Predictive`, or anything with `quantile(level)`.
      too_low: cost a unit by which the number falls short of the outcome, above 0.
      too_high: cost a unit by which it exceeds the outcome, above 0.
    Returns:
      `(N,)`, or `(N, D)` for several outputs, in the units of the target.
    Raises:
      InputError: costs that are not above 0; predictions that have no quantiles.
    References:
      koenker1978, section 1; gneiting2011b, theorem 9. Checked against minimisation over draws.
    Example:
      >>> import jax.numpy as jnp, uq
      >>> pred = uq.Predictive(jnp.zeros((1, 2, 2)), uq.likelihoods.Gaussian())
      >>> bool((newsvendor(pred, too_low=9.0, too_high=1.0) == pred.quantile(0.9)).all())
      True
    """
    for name, value in (("too_low", too_low), ("too_high", too_high)):
        if is_concrete(value) and not (np.ndim(value) == 0 and 0 < float(value) < np.inf):
            raise InputError(f"`newsvendor` expected `{name}` to be a cost above 0, but it is {value!r}.")
    if not hasattr(pred, "quantile"):
        raise InputError(f"`newsvendor` expected a regression Predictive, but got {type(pred).__name__}.")
    return pred.quantile(too_low / (too_low + too_high))


def least_cost_of_draws(pred: Any, cost: Callable[[Any, Array], Array], actions: ArrayLike, *, key: Key | None = None,
                        num: int = 1000) -> Decision:  # fmt: skip
    """The action of least expected cost for any cost function, from draws of the outcome.

    All actions see the same draws, so that their order is surer than `stderr` says. The cost of the best of many is
    a little too low, since it was chosen on these draws.

    Args:
      pred: a `Predictive` of any kind, or draws `(M, N)` or `(M, N, D)`.
      cost: `cost(action, y)`, from one action and draws `(M, N)` or `(M, N, D)` to costs `(M, N)`; traced.
      actions: candidates, `(A,)` or `(A, …)`.
      key, num: for draws from a `Predictive`.
    Returns:
      A `Decision`; `action` is an index into `actions`.
    Raises:
      InputError: no key for a `Predictive`; a cost of another shape, or not finite.
    References:
      berger1985, section 1.5. Checked against the closed form of quadratic and pinball costs.
    Example:
      >>> import numpy as np
      >>> draws = np.array([[1.0], [2.0], [9.0]])
      >>> least_cost_of_draws(draws, lambda a, y: abs(a - y), [0.0, 2.0, 4.0]).action.tolist()
      [1]
    """
    name = "least_cost_of_draws"
    if isinstance(pred, Predictive):
        if key is None:
            raise InputError(f"`{name}` expected `key=` to draw from a Predictive.")
        draws = pred.sample(as_key(key), check_count("num", num))
    else:
        draws = jnp.asarray(_inputs.array(name, "pred", pred))
        if draws.ndim not in (2, 3):
            raise InputError(f"`{name}` expected draws of shape (M, N) or (M, N, D), but got {draws.shape}.")
    choices = jnp.asarray(_inputs.array(name, "actions", actions))
    if choices.ndim == 0:
        raise InputError(f"`{name}` expected several actions, but got one number.")

    def of_one(action: Array) -> tuple[Array, Array]:
        each = jnp.asarray(cost(action, draws))
        if each.shape != draws.shape[:2]:
            raise InputError(f"`{name}` expected costs of shape {draws.shape[:2]}, but `cost` returned {each.shape}.")
        each = each.astype(jnp.result_type(float)) if not jnp.issubdtype(each.dtype, jnp.floating) else each
        return each.mean(0), each.std(0)

    mean, spread = jax.lax.map(of_one, choices)
    check_finite("cost", mean)
    best = mean.argmin(0)
    pick = lambda table: jnp.take_along_axis(table, best[None], 0)[0]  # noqa: E731
    return Decision(best, pick(mean), pick(spread) / max(draws.shape[0] - 1, 1) ** 0.5)
