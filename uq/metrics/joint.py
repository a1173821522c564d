"""Joint predictions: do the members agree on which groups of outcomes come together?"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, as_labels, check_count, is_concrete
from .._typing import ArrayLike
from ..members import as_key
from . import _route
from ._estimate import Estimate, mean
from .decomposition import member_scores


def joint_log_score(
    pred: Any, y: ArrayLike, *, groups: ArrayLike | None = None, size: int | None = None, key: Any = None
) -> Estimate:
    """Mean negative log-probability of whole groups of outcomes under the joint prediction of the mixture.

    Given a member, examples are independent; which member is right is common to the group. So the joint density of a
    group G is Σ_m w_m Π_{n∈G} p_m(y_n), and the score −log of it. Marginal scores cannot tell epistemic from
    aleatoric uncertainty, joint ones of larger groups do: of two models with equal `log_score`, the one that knows
    what it does not know has the lower joint score. Groups of 1 give `log_score`.

    Args:
      pred: a `Predictive`, or member probabilities `(M, N, C)`.
      y: labels or outcomes.
      groups: which group each example belongs to, `(N,)`, whole numbers; or
      size: examples a group, drawn without replacement by `key`; a remainder of fewer is left out.
      key: a key or seed, needed with `size`.
    Returns:
      An `Estimate` in nats a group; its standard error is over groups.
    Raises:
      InputError: neither or both of `groups` and `size`, `size` without a key or larger than N.
    References:
      osband2022. Checked against a loop over groups and members.
    Example:
      >>> import numpy as np
      >>> members = np.array([[[0.9, 0.1], [0.9, 0.1]], [[0.1, 0.9], [0.1, 0.9]]])
      >>> together = joint_log_score(members, [0, 0], groups=[0, 0])
      >>> apart = joint_log_score(members, [0, 0], groups=[0, 1])
      >>> round(float(together), 4), round(2 * float(apart), 4)
      (0.8916, 1.3863)
    """
    if (groups is None) == (size is None):
        raise InputError("`joint_log_score` expected either `groups`, or `size` and a `key` to draw them.")
    each, weight = member_scores("joint_log_score", pred, y, "log")
    number = each.shape[1]
    if size is not None:
        size = check_count("size", size)
        if key is None or size > number:
            raise InputError(
                f"`joint_log_score` expected a `key` and a `size` of at most the {number} examples, but `size` is "
                f"{size} and `key` {'None' if key is None else 'given'}."
            )
        order = jax.random.permutation(as_key(key), number)[: number // size * size]
        each, index, count = jnp.asarray(each)[:, order], np.repeat(np.arange(number // size), size), number // size
    else:
        if not is_concrete(groups):
            raise InputError("`joint_log_score` expected concrete `groups`; under jit, use `size`.")
        given = as_labels("groups", groups)
        if given.shape != (number,):
            raise InputError(f"`groups` expected shape ({number},), one an example, but it is {given.shape}.")
        names, index = np.unique(given, return_inverse=True)
        count = len(names)
    score = _route.run(_joint, each, index, weight, count=count)
    words = f"groups of {size}" if size is not None else "given groups"
    return mean(score, estimand=f"mean joint log score of {words}, nats a group")


def _joint(xp: Any, each: Any, index: Any, weight: Any, *, count: int) -> Any:
    """−log Σ_m w_m exp(−total_m) of each group, `(count,)`, from the scores of each member, `(M, N)`."""
    total: Any
    if xp is np:
        total = np.stack([np.bincount(index, row, count) for row in each])
    else:
        total = jnp.zeros((each.shape[0], count), each.dtype).at[:, index].add(each)
    weight = (weight / weight.sum()).astype(total.dtype)[:, None]
    best = xp.where(weight > 0, total, np.inf).min(0)
    best = xp.where(xp.isfinite(best), best, 0)
    likelihood = (weight * xp.exp(best - total)).sum(0)
    with np.errstate(divide="ignore"):  # what no member allows scores infinity
        return best - xp.log(likelihood)
