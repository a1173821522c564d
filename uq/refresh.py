"""Re-estimate the averages a network carries (BatchNorm), which lag behind the weights on short runs.

Carried averages follow `new = m · old + (1 − m) · batch`. Applying the network twice to one batch, once with the
averages at 0 and once at values of their own size, gives `m` and the batch's own statistic, whatever the layer or its
momentum; their mean over several batches is the refreshed value. Leaves that do not follow this law are left alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ._tree import is_float
from ._typing import Array, PyTree
from ._units import map_but_units
from .model import Model, Variables


def refreshed_state(model: Model, variables: Variables, xs: PyTree) -> PyTree:
    """The carried state with its averages re-estimated.

    Args:
      model: the network.
      variables: its parameters and the state to refresh.
      xs: inputs of T batches, leaves `(T, B, …)`.
    Returns:
      A state of the same structure.
    References:
      izmailov2018, section 3.1 (a pass over the data), here without assuming a momentum.
    """

    def after(state: PyTree, x: PyTree) -> PyTree:
        return model.apply(Variables(variables.params, state), x, train=True)[1]

    zeros = map_but_units(lambda leaf: jnp.zeros_like(leaf) if is_float(leaf) else leaf, variables.state)
    shares = jax.lax.map(lambda x: after(zeros, x), xs)
    own = jax.tree.map(lambda leaf: leaf[0], shares)
    # A probe much smaller than the batch's share would drown in its rounding.
    probe = map_but_units(lambda a: jnp.where(a == 0, 1, a) if is_float(a) else a, own)
    moved = after(probe, jax.tree.map(lambda leaf: leaf[0], xs))
    momentum = map_but_units(lambda a, b, p: (b - a) / p if is_float(a) else a, own, moved, probe)

    def mend(old: Array, m: Array, share: Array) -> Array:
        if not is_float(old):
            return old
        average = share.mean(0) / (1 - m)
        follows = (m >= 0) & (m < 1 - 1e-6) & jnp.isfinite(average)
        # An average that no batch moves (m = 1, or a constant such as input statistics) keeps its value.
        return jnp.where(follows, average, old)

    return map_but_units(mend, variables.state, momentum, shares)
