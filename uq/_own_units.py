"""Units of a member's own: inputs and targets standardised by the rows that the member trains on, and no others.

What a member learned is carried with it: its inputs' mean and scale are in its variables' state, and so are the place
and the scale of its targets, by which its outputs are brought to the units that all members share.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import InputError
from ._training import is_as_built
from ._typing import Array, Key, PyTree
from ._units import Units, is_units
from .holdout import Rows
from .likelihoods import Transformed, columns
from .likelihoods import _standardized as standardized
from .likelihoods import _standardizes as standardizes
from .method import Method, ensemble
from .model import Model, Variables
from .standardize import Scaling, input_scaling, scaling_of


class WithUnits(NamedTuple):
    """The carried state of a network that has units of its own."""

    state: PyTree
    units: Units


class Prepared(NamedTuple):
    """What `fit` goes on with."""

    method: Method
    inputs: Scaling | None
    x: PyTree
    likelihood: Any
    """In the user's units."""
    units: Units | None
    """Of all members, `(K, …)`."""
    y: Any
    """Each member's targets in its own units, `(K, N, …)`; () where targets are left alone."""


def prepare(
    method: Method,
    x: PyTree,
    y: Any,
    rows: Rows,
    counted: np.ndarray,
    inputs: bool | None,
    targets: bool | None,
    start: PyTree,
) -> Prepared:
    """The method, data and units of a cross-fitted run; `inputs` and `targets` as `fit` was asked."""
    if start is not None and (inputs or targets):
        raise InputError(
            "`holdout` standardises by each member's own rows, which networks given as `start` were not trained with: "
            "leave `standardize_inputs` and `standardize_targets` out."
        )
    inputs, targets = (False, False) if start is not None else (inputs, targets)
    common, mean, scale = _inputs(x, rows, counted, inputs)
    x = x if common is None else common.apply(x)
    likelihood, own_y, loc, spread = _targets(method, y, rows, targets)
    if common is None and likelihood is method.likelihood:
        return Prepared(method, None, x, likelihood, None, ())
    units = Units(mean, scale, loc, spread)
    shapes = shapes_of(units)
    assert shapes is not None
    return Prepared(with_units(method, blank_units(shapes), likelihood), common, x, likelihood, units, own_y)


def _inputs(x: PyTree, rows: Rows, counted: np.ndarray, wanted: bool | None) -> tuple[Scaling | None, Any, Any]:
    found = None if wanted is False else input_scaling(jax.tree.map(lambda leaf: leaf[counted], x))
    if found is None:
        if wanted:
            raise InputError("`standardize_inputs` needs `x` to be one floating array of shape (N, d).")
        return None, (), ()
    common = _coarse(np.asarray(x, np.float64)[counted])
    z = common.apply(x)
    each = [scaling_of(z[np.concatenate(part)]) for part in _own_rows(rows)]
    return common, _stacked([s.mean for s in each]), _stacked([s.scale for s in each])


def _own_rows(rows: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
    """What each member may know: the rows it trains on and, unless all share them, those that stop it."""
    num = 0 if rows.left_out is None else rows.left_out.shape[1]
    return [(train[train >= 0], held[held < num]) for train, held in zip(rows.train, rows.held_out, strict=True)]


def _coarse(values: np.ndarray) -> Scaling:
    """What all members share: numbers as they are, but for columns far from 0, whose float32 would have no digits left.

    Those are moved by a round number that hardly any row could change: what a member knows of its inputs' size is its
    own. 10⁶ ± 1 is far, and so are 10³⁰ and 10⁻³⁰.
    """
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    spread = np.where(high > low, high - low, scaling_of(values).scale)
    unit = 2.0 ** np.round(np.log2(spread))
    loc = np.where(np.abs(middle) > 100 * unit, np.round(middle / (64 * unit)) * (64 * unit), 0.0)
    return Scaling(loc, np.where((unit < 1e-20) | (unit > 1e20), unit, 1.0))


def _targets(method: Method, y: Any, rows: Rows, wanted: bool | None) -> tuple[Any, Any, Any, Any]:
    """The likelihood in the user's units, every member's own targets, and where its outputs lie among all."""
    likelihood = method.likelihood
    if wanted is False or not standardizes(likelihood):
        if wanted:
            raise InputError("`standardize_targets` is for the target of a regression of any units.")
        return likelihood, (), (), ()
    each = [standardized(likelihood, y, np.concatenate(part)) for part in _own_rows(rows)]
    first = each[0][0]
    if not hasattr(first.base, "moved"):
        raise InputError(
            f"`holdout` standardises targets by each member's own rows, which {first.base!r} has no way to undo. Pass "
            "standardize_targets=False, and targets of order 1."
        )
    locs, scales = (np.stack([np.asarray(getattr(own, name), np.float64) for own, _ in each]) for name in _PLACE)
    loc, scale = locs.mean(0), scales.min(0) / 2  # half: scales have floors, which a wider unit would cut off
    loc = np.where((locs == locs[0]).all(0), locs[0], loc)
    common = Transformed(first.base, loc, scale, first.transforms)
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    return (
        common,
        np.stack([np.asarray(own, dtype) for _, own in each]),
        _stacked((locs - loc) / scale),
        _stacked(scales / scale),
    )


_PLACE = ("loc", "scale")


def _stacked(values: Any) -> np.ndarray:
    return np.stack(list(values)).astype(jax.dtypes.canonicalize_dtype(np.float64))


# Methods and models


def with_units(method: Method, blank: Units, likelihood: Any) -> Method:
    """The method for networks that carry units of their own.

    Args:
      method: an ensemble.
      blank: one member's units, of the right shapes.
      likelihood: in the user's units; its base says how outputs move.
    """
    single = method.member
    assert single is not None and method.size is not None
    if single.over is None or not is_as_built(single, single.over(lambda model: model)):
        raise InputError(
            f"`holdout` standardises by each member's own rows, which {single.name} cannot take over another network. "
            "Pass standardize_inputs=False, standardize_targets=False, and data of order 1."
        )
    own = single.over(lambda model: _with_own_inputs(model, blank))
    lifted = ensemble(own, method.size, mapping=method.mapping, hyperparams=method.hyperparams)
    return lifted._replace(model=_in_common_units(own.model, likelihood))


def _with_own_inputs(model: Model, blank: Units) -> Model:
    def init(key: Key, x: PyTree) -> Variables:
        variables = model.init(key, x)
        return Variables(variables.params, WithUnits(variables.state, blank))

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        state, units = variables.state
        if not isinstance(units.mean, tuple):
            x = (x - units.mean.astype(x.dtype)) / units.scale.astype(x.dtype)
        outputs, state = model.apply(Variables(variables.params, state), x, key=key, train=train)
        return outputs, WithUnits(state, units)

    return Model(init, apply)


def _in_common_units(model: Model, likelihood: Any) -> Model:
    """The trained network with its outputs in the units that all members share."""

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        outputs, state = model.apply(variables, x, key=key, train=train)
        units = variables.state.units
        if isinstance(units.loc, tuple):
            return outputs, state
        outputs = columns(outputs, likelihood)
        return likelihood.base.moved(
            outputs, *(leaf.astype(outputs.dtype) for leaf in (units.loc, units.spread))
        ), state

    return Model(model.init, apply)


def shapes_of(state: PyTree) -> dict[str, list[int] | None] | None:
    """The shape of each of one member's units, None for those left alone; None where the state holds no units."""
    found = [node for node in jax.tree.leaves(state, is_leaf=is_units) if is_units(node)]
    if not found:
        return None
    return {n: None if isinstance(v, tuple) else list(v.shape[1:]) for n, v in found[0]._asdict().items()}


def blank_units(shapes: dict[str, list[int] | None]) -> Units:
    """Units that change nothing, of the given shapes."""
    blank = {"mean": jnp.zeros, "scale": jnp.ones, "loc": jnp.zeros, "spread": jnp.ones}
    return Units(**{name: () if shapes[name] is None else make(shapes[name]) for name, make in blank.items()})


def placed(tree: PyTree, units: Units) -> PyTree:
    """`tree` with these units, `(K, …)`, in place of the blank ones; every place gets memory of its own."""

    def put(node: Any) -> Any:
        return jax.device_put(jax.tree.map(np.array, units)) if is_units(node) else node

    return jax.tree.map(put, tree, is_leaf=is_units)
