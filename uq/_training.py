"""The compiled part of `fit`: a stretch of updates for all members, and the end of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._cache import fingerprint
from ._tree import tree_where
from ._typing import Array, PyTree
from .execution import Strategy, lowered
from .execution.lowering import with_narrow_products
from .method import Batch, Method, all_finite
from .wrap import with_products

REFRESH_BATCHES = 8
"""Batches that carried averages are estimated from anew at the end of an epoch, at most."""


class Run(NamedTuple):
    """Everything that training carries from one call to the next; every leaf leads with the member axis K."""

    state: PyTree
    """The method's state."""
    best: PyTree
    """The state kept so far, without `opt_state`; () where nothing is held out."""
    best_loss: Array
    """Its held-out loss, `(K,)`."""
    best_epoch: Array
    """When it was, `(K,)`, int32; −1 before the first."""
    active: Array
    """Members still training, `(K,)`, bool."""
    finite: Array
    """Members that never met a loss, nor at the end of an epoch a weight, that is not finite, `(K,)`, bool."""
    unscored: Array
    """Members whose left-out rows were scored, but never with a finite loss, `(K,)`, bool."""
    epoch_loss: Array
    """Sum of the losses of the epoch under way, `(K,)`."""
    before: PyTree
    """The state at the start of the epoch, without `opt_state`: where a member that diverges or has stopped stays."""


class Data(NamedTuple):
    x: PyTree
    """All inputs, `(N, …)`."""
    y: Array
    """All targets, `(N, …)`."""
    weight: Array
    """Example weights, `(N,)`, mean 1."""
    mask: Array
    """`(S, B)`: 1 for a row, 0 for padding, scaled so that the mean over a batch is a mean over its rows."""
    held_out: Array
    """`(K, T, B)` held-out rows in batches; T may be 0."""
    held_out_mask: Array
    """`(T, B)`, 1 for a row and 0 for padding."""
    num_data: Array
    """How many rows a member trains on, ()."""
    patience: Array
    """Epochs without improvement before a member stops, ()."""
    progress: Array
    """`(2,)`: what one update adds to the fraction of training done, and the fraction at its end."""
    own: Any = ()
    """What each member has of its own under cross-fitting, as `Own`."""


class Own(NamedTuple):
    """Data that differ between members; leaves lead with the member axis K."""

    y: Any
    """All targets in each member's own units, `(K, N, …)`; () where there is one for all."""
    num_data: Array
    """How many rows each trains on, `(K,)`."""


class Stretch(NamedTuple):
    """Which updates one call does: steps `low` to `high` of each epoch from `first` on."""

    first: int
    low: int
    high: int


def without_optimizer(state: PyTree) -> PyTree:
    """The state without what only training needs."""
    return state._replace(opt_state=()) if hasattr(state, "opt_state") else state


def with_optimizer_of(state: PyTree, stripped: PyTree) -> PyTree:
    """`stripped` with the `opt_state` of `state`, where it has one."""
    return stripped._replace(opt_state=state.opt_state) if hasattr(state, "opt_state") else stripped


def start_run(state: PyTree, size: int, *, keep_best: bool) -> Run:
    """A run about to begin, around the state as it is."""
    kept, dtype = without_optimizer(state), jax.dtypes.canonicalize_dtype(np.float64)
    parts: dict[str, Any] = dict(
        state=state,
        best=kept if keep_best else (),
        best_loss=np.full(size, np.inf, dtype),
        best_epoch=np.full(size, -1, np.int32),
        active=np.ones(size, bool),
        finite=np.ones(size, bool),
        unscored=np.zeros(size, bool),
        epoch_loss=np.zeros(size, dtype),
        before=kept,
    )
    return Run(**parts)


class Parts(NamedTuple):
    """What a run is made of, for all members."""

    update: Callable[[Run, Data, Array, Array, Array, Array], Run]
    """`update(run, data, index (K, S, B), keys (K, S, W), epoch, step)`."""
    end_epoch: Callable[[Run, Data, Array, Array], tuple[Run, Array, Array]]
    """`end_epoch(run, data, index, epoch) -> (run, losses (K,), held_out_losses (K,))`."""


def training_parts(method: Method, strategy: Strategy, key_impl: str) -> Parts:
    """The two parts, executed as `strategy` says; every number that is not a shape is traced."""
    mapping = strategy.mapping
    if strategy.lowering:
        method = _lowered(method)
    one_update = with_narrow_products(method.update) if jax.default_backend() == "cpu" else method.update
    evaluate: Any = method.evaluate
    refresh: Any = method.refresh

    def rows(tree: PyTree, index: Array) -> PyTree:
        return jax.tree.map(lambda leaf: _rows(leaf, index), tree)

    def targets(data: Data, own: Any) -> Array:
        """The targets of all rows, in the member's own units where it has any."""
        return own.y if own and not isinstance(own.y, tuple) else data.y

    def update(run: Run, data: Data, index: Array, keys: Array, epoch: Array, step: Array) -> Run:
        # Read in the middle of the step: the first rate is not 0, nor the last.
        done = ((epoch * data.mask.shape[0] + step).astype(data.progress.dtype) + 0.5) * data.progress[0]

        def batch(index: Array, own: Any) -> Batch:
            weight = _rows(data.weight, index) * _at(data.mask, step)
            num_data = own.num_data if own else data.num_data
            return Batch(rows(data.x, index), _rows(targets(data, own), index), weight, num_data, done)

        def one(state: PyTree, index: Array, words: Array, own: Any) -> tuple[PyTree, Any]:
            return one_update(jax.random.wrap_key_data(words, impl=key_impl), state, batch(index, own))

        now = _at(index, step, 1)
        if now.shape[0] < keys.shape[0]:  # one order for all members: the batch is taken once
            same = batch(now[0], ())
            state, info = mapping(
                lambda state, words: one_update(jax.random.wrap_key_data(words, impl=key_impl), state, same)
            )(run.state, _at(keys, step, 1))
        else:
            state, info = mapping(one)(run.state, now, _at(keys, step, 1), data.own)
        # Gradients that are not finite show here a step later, or in the weights at the end of the epoch, unless the
        # optimizer knows what to do with them.
        finite = run.finite & (jnp.isfinite(info.loss) | ~run.active)
        loss = jnp.where(run.active, info.loss.astype(run.epoch_loss.dtype), 0)
        return run._replace(state=state, finite=finite, epoch_loss=run.epoch_loss + loss)

    def held_out_loss(state: PyTree, data: Data) -> Array:
        def one(state: PyTree, index: Array, own: Any) -> Array:
            y = targets(data, own)

            def batch(args: tuple[Array, Array]) -> tuple[Array, Array]:
                index, mask = args
                losses = evaluate(state, Batch(rows(data.x, index), _rows(y, index)))
                weight = mask * _rows(data.weight, index)
                return jnp.where(weight > 0, losses * weight, 0).sum(), weight.sum()

            total, weight = jax.lax.map(batch, (index, data.held_out_mask))
            return total.sum() / weight.sum()

        return mapping(one)(state, data.held_out, data.own)

    def end_epoch(run: Run, data: Data, index: Array, epoch: Array) -> tuple[Run, Array, Array]:
        steps = data.mask.shape[0]
        finite = run.finite & (mapping(lambda state: all_finite(without_optimizer(state)))(run.state) | ~run.active)
        keep, losses = run.active & finite, jnp.where(run.active, run.epoch_loss / steps, jnp.nan)
        state = run.state
        if refresh is not None:
            some = index[:, : min(steps, REFRESH_BATCHES)]
            some = jnp.broadcast_to(some, (keep.shape[0], *some.shape[1:]))
            state = mapping(lambda state, index: refresh(state, rows(data.x, index)))(state, some)
        before = tree_where(keep, without_optimizer(state), run.before)
        state = with_optimizer_of(state, before)
        run = run._replace(state=state, before=before, active=keep, finite=finite)
        held = jnp.full_like(losses, jnp.nan)
        if jax.tree.leaves(run.best):
            held = held_out_loss(without_optimizer(state), data).astype(run.best_loss.dtype)
            held = jnp.where(keep, held, jnp.nan)
            better = keep & (held < run.best_loss)
            run = run._replace(
                best=tree_where(better, without_optimizer(state), run.best),
                best_loss=jnp.where(better, held, run.best_loss),
                best_epoch=jnp.where(better, epoch.astype(jnp.int32), run.best_epoch),
            )
            run = run._replace(unscored=run.best_epoch < 0)
            waited = epoch - jnp.maximum(run.best_epoch, 0)
            run = run._replace(active=keep & (waited < data.patience))
        return run._replace(epoch_loss=jnp.zeros_like(run.epoch_loss)), losses, held

    return Parts(update, end_epoch)


def _lowered(method: Method) -> Method:
    """The method with convolutions as matrix products.

    The network is lowered where the method can be built over another: gradients of products are products, while the
    library's gradients of convolutions are convolutions of larger kernels.
    """
    if method.over is not None and is_as_built(method, method.over(lambda model: model)):
        return method.over(with_products)
    return method._replace(
        update=lowered(method.update),
        evaluate=method.evaluate and lowered(method.evaluate),
        refresh=method.refresh and lowered(method.refresh),
    )


def is_as_built(method: Method, fresh: Method) -> bool:
    """Whether nobody has put other functions in the place of the factory's."""
    names = ("update", "evaluate", "refresh")
    return all(fingerprint(getattr(method, name)) == fingerprint(getattr(fresh, name)) for name in names)


def many_steps(update: Callable[..., Run], block: int = 1) -> Callable[..., Run]:
    """`(run, data, index, keys, epoch, low, high) -> run`: steps `low` to `high` of an epoch in one call.

    All bounds are traced: one program serves any number of epochs, seeds and data of equal shape. They are multiples
    of `block`, steps that are always taken together: a GPU asks the host after each turn of a loop whether there is
    another, unless it knows beforehand.
    """

    def program(run: Run, data: Data, index: Array, keys: Array, epoch: Array, low: Array, high: Array) -> Run:
        def step(s: Array, run: Run) -> Run:
            return update(run, data, index, keys, epoch, s.astype(jnp.int32))

        def together(b: Array, run: Run) -> Run:
            return jax.lax.fori_loop(0, block, lambda i, run: step(b * block + i, run), run)

        if block == 1:
            return jax.lax.fori_loop(low, high, step, run)
        return jax.lax.fori_loop(low // block, high // block, together, run)

    return program


def single_steps(update: Callable[..., Run]) -> Callable[..., Run]:
    """The same signature and numbers as `many_steps`, one call of a compiled `update` a step."""

    def program(run: Run, data: Data, index: Array, keys: Array, epoch: Any, low: Any, high: Any) -> Run:
        for s in range(int(low), int(high)):
            run = update(run, data, index, keys, epoch, np.int32(s))
        return run

    return program


def take_stretch(
    advance: Callable[..., Run],
    end_epoch: Callable[..., tuple[Run, Array, Array]],
    run: Run,
    data: Data,
    index: np.ndarray,
    keys: np.ndarray,
    stretch: Stretch,
) -> tuple[Run, np.ndarray, np.ndarray]:
    """The run after a stretch, and the losses and held-out losses `(E, K)`.

    `index` `(E, K, S, B)`, or `(E, 1, S, B)` for one order of all, and `keys` `(E, K, S, W)` hold the batches of E
    epochs. Calls are dispatched without waiting for the one before; losses are read when the stretch is over.
    """
    found = []
    bounds = np.int32(stretch.low), np.int32(stretch.high)
    epochs: Any = [(index[e], keys[e], np.int32(stretch.first + e)) for e in range(len(index))]
    if jax.default_backend() != "cpu":  # sent ahead in one go: each transfer takes as long as several steps
        epochs = jax.device_put(epochs)
    for orders, noise, epoch in epochs:
        run = advance(run, data, orders, noise, epoch, *bounds)
        if stretch.high == index.shape[2]:
            run, *losses = end_epoch(run, data, orders, epoch)
            found.append(losses)
    all_losses = np.full((2, len(index), keys.shape[1]), np.nan, run.epoch_loss.dtype)
    for e, losses in enumerate(jax.device_get(found)):
        all_losses[:, e] = losses
    return run, all_losses[0], all_losses[1]


# Positions here are never negative nor too large; saying so spares the program the code for those that are.


def _rows(leaf: Array, index: Array) -> Array:
    return leaf.at[index].get(mode="promise_in_bounds", wrap_negative_indices=False)


def _at(array: Array, position: Array, axis: int = 0) -> Array:
    return jax.lax.dynamic_index_in_dim(array, position, axis, keepdims=False, allow_negative_indices=False)
