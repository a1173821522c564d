"""`fit`: data and a method become a `Posterior`, with good defaults, a progress bar, and nothing lost on the way."""

from __future__ import annotations

import gc
import itertools
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _own_units as own_units
from . import _setup as setup
from ._cache import ProgramCache, fingerprint, shapes_of, trace_context
from ._checks import InputError, UQWarning, check_count, path_name
from ._programs import Program, Shapes, compile_training
from ._training import Data, Run, Stretch, start_run, without_optimizer
from ._tree import tree_size, tree_where
from ._typing import ArrayLike, Key, PyTree
from .calibrate import Recalibrator
from .crossfit import CrossFit, crossfit
from .execution import Strategy, compiled, run_once, vmapped
from .execution._host_random import with_host_random
from .holdout import Rows, epoch_orders, key_words
from .members import as_key, member_keys, num_members
from .method import Method, set_hyperparams
from .planning import Plan, chosen
from .posterior import History, Posterior, as_variables
from .progress import Progress

_PROGRAMS = ProgramCache()
_CALL_SECONDS = 0.5
"""How long one call into the compiled program aims to last: the beat of progress, stopping and Ctrl-C."""


def fit(
    method: Method,
    data: tuple[Any, ...],
    *,
    key: Key,
    epochs: int | None = None,
    batch_size: int | None = None,
    weight: ArrayLike | None = None,
    validation: float | tuple[Any, Any] | None = None,
    patience: int | None = None,
    holdout: CrossFit | None = None,
    calibrate: Recalibrator | str | None = None,
    start: PyTree = None,
    standardize_inputs: bool | None = None,
    standardize_targets: bool | None = None,
    shared_batches: bool = False,
    strategy: Strategy | Plan | str | None = None,
    progress: bool | None = None,
) -> Posterior:
    """Train a method on data.

    Every member draws its own minibatches, shuffled anew each epoch from keys, so that member k is the same network
    whatever K. Ctrl-C returns the posterior so far (a second one raises). A member whose loss or gradient stops
    being finite is frozen, named in a warning, and given weight 0; the others are not touched by it.

    Args:
      method: from `uq.deep_ensemble`, `uq.ensemble`, or one of `uq.methods`.
      data: `(x, y)`; `x` is `(N, …)` or a pytree of such, `y` what the likelihood takes.
      key: a key or an int seed.
      epochs: passes over the data; None makes about 8,000 updates, in 40 to 400 epochs.
      batch_size: rows a minibatch at most, None for 100; the batches of an epoch are evened out, so that no row is
        left over or dropped.
      weight: one non-negative number an example; only ratios matter.
      validation: what decides when a member is best: a fraction of the rows that each member leaves out for itself,
        or one `(x, y)` for all, or 0 for none. None is a tenth for point estimates on 50 rows and more, and
        0 otherwise.
      patience: epochs without improvement on the left-out rows before a member stops; None trains every member to
        the end. The weights kept are those of its best epoch either way.
      holdout: `uq.crossfit(…)` or `uq.bootstrap()`: every member leaves out rows of its own, which have no part in
        it at all (`validation` takes what stops it from the rest), and `posterior.out_of_fold()` predicts every row
        by the members that did not see it: what calibrates the ensemble, without giving up data.
      calibrate: a recalibrator of `uq.calibrate`, or "auto" for the one with the best cross-validated log score:
        fitted to out-of-fold predictions, so that `holdout` is `uq.crossfit()` where it is None. Predictions pass
        through it; `posterior.predict(x, calibrated=False)` shows them as they were.
      start: trained `Variables` to begin from, with a leading member axis for ensembles. Inputs and targets then
        are not standardised unless asked for.
      standardize_inputs: None standardises inputs that are one rank-2 floating array; under `holdout`, each member's
        by the rows that it sees.
      standardize_targets: None standardises the target of a regression; predictions are in its own units again.
      shared_batches: whether all members see the same batches, in one order, and leave out the same rows: a batch is
        taken once and its first layer is one product, at the price of members that differ less.
      strategy: how the members are executed: a `Strategy`, a `Plan` from `uq.plan`, "rule" for the written rule
        (`uq.execution.rule`), or None: the rule, and for runs expected to last a minute a plan, which is measured, and
        kept on disk. `posterior.history.strategy` says which it was. Numbers agree to rounding whatever it is; for the
        same bits on every machine of a kind, pass "rule" or a `Strategy`.
      progress: a bar with loss and time left; None shows it on a terminal.
    Returns:
      A `Posterior`.
    Raises:
      InputError: data of unequal length, empty, of one row, or not finite; labels out of range; a batch larger than
        the data; network outputs that do not fit the likelihood.
    Example:
      >>> import flax.linen as nn, numpy as np, uq
      >>> x = np.linspace(-1, 1, 200)[:, None]; y = np.sin(3 * x[:, 0])
      >>> net = nn.Sequential([nn.Dense(20), nn.relu, nn.Dense(2)])
      >>> posterior = uq.fit(uq.deep_ensemble(net, uq.likelihoods.Gaussian(), size=3), (x, y), key=0, epochs=10)
      >>> posterior.predict(x).mean.shape
      (200,)
    """
    began = time.perf_counter()
    if not isinstance(method, Method):
        raise InputError(
            "`fit` expected a method, such as uq.deep_ensemble(network, likelihood), but got a "
            f"{type(method).__name__}."
        )
    if calibrate is not None:
        _check_calibrate(method, calibrate)
        holdout = crossfit() if holdout is None else holdout
    key = as_key(key)
    if key.ndim:
        raise InputError(f"`key` expected one key, from which each member derives its own, but got {key.shape} keys.")
    x, y, weight, held = setup.check_data(method, data, weight, validation)
    num_rows = len(y) - len(held[1]) if held else len(y)
    counted = np.flatnonzero(weight[:num_rows] > 0)
    size, words, given, units, own_y = method.size or 1, key_words(key), (x, y), None, ()
    rows = setup.choose_rows(
        method, validation, held, counted, num_rows, size, words, shared=shared_batches, scheme=holdout, y=y
    )
    if holdout is None:
        inputs, x = setup.standardize_inputs(x, counted, standardize_inputs, start)
        likelihood, y = setup.standardize_targets(method, y, counted, standardize_targets, start)
    else:
        prepared_units = own_units.prepare(method, x, y, rows, counted, standardize_inputs, standardize_targets, start)
        method, inputs, x, likelihood, units, own_y = prepared_units
        y = own_y[0] if len(own_y) else y
    single = method.member or method
    batch_size = setup.choose_batch_size(batch_size, num_rows, rows)
    epochs = setup.default_epochs(rows.num_train, batch_size) if epochs is None else check_count("epochs", epochs)
    settings = setup.plan(rows, size, batch_size, epochs, shared=shared_batches)
    if patience is not None and rows.held_out.shape[1] == 0:
        raise InputError("`patience` needs left-out rows to judge by; pass validation=0.1 or validation=(x, y).")
    patience = epochs + 1 if patience is None else check_count("patience", patience)
    arrays = setup.device_data(x, y, weight, rows, settings, patience, own_y)
    two = jax.tree.map(lambda leaf: np.zeros((2, *leaf.shape[1:]), leaf.dtype), arrays.x)
    forward = setup.check_network(single, likelihood, two, y)
    example = jax.device_put(jax.tree.map(_first_row, x))

    bar = Progress(settings.steps * epochs, show=progress, label=f"{method.name} × {size}")
    try:
        bar.note("choosing how to run")
        how, source = chosen(strategy, method, single, forward, arrays, settings)
        bar.note(f"compiling: {how}")
        with _interruptible() as stopped:
            with _uncollected():
                prepared = _prepare(method, single, how, key, start, example, arrays, rows, settings)
            if units is not None:
                prepared = prepared._replace(run=own_units.placed(prepared.run, units))
            run, losses, interrupted, ran = _run(prepared, arrays, rows, settings, key, bar, stopped)
    finally:
        bar.close()

    state, finite = _kept(run)
    _report_divergence(finite)
    history = History(
        loss=losses[0],
        held_out_loss=losses[1],
        best_epoch=np.asarray(run.best_epoch),
        compile_seconds=prepared.seconds,
        run_seconds=ran,
        seconds=time.perf_counter() - began,
        interrupted=interrupted,
        diverged=np.flatnonzero(~finite),
        strategy=f"{how} ({source})",
    )
    posterior = Posterior(
        method=method,
        state=state if method.member is not None else jax.tree.map(lambda leaf: leaf[0], state),
        likelihood=likelihood,
        key=key,
        inputs=inputs,
        weight=jax.device_put((finite / max(finite.sum(), 1)).astype(np.float32)),
        history=history,
        example=jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x),
        left_out=rows.left_out,
        data=None if holdout is None else jax.tree.map(lambda leaf: leaf[:num_rows], given),
    )
    if calibrate is None:
        return posterior
    return posterior.calibrate(None if isinstance(calibrate, str) else calibrate, weight=weight[:num_rows])


def _check_calibrate(method: Method, calibrate: Recalibrator | str) -> None:
    """That it says a recalibrator, and that there are members to leave rows out."""
    if calibrate != "auto" and not isinstance(calibrate, Recalibrator):
        raise InputError(
            f'`calibrate` expected "auto" or a recalibrator of uq.calibrate, such as uq.calibrate.temperature(), but '
            f"got {calibrate!r}."
        )
    if method.size is None:
        raise InputError(
            "`calibrate` takes predictions of members that left rows out, but this method is for one network. Keep "
            "some data back, and use posterior.calibrate(data=(x, y))."
        )


def _first_row(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf[:1])
    return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)


# Programs


class _Prepared(NamedTuple):
    run: Run
    """The run at its start."""
    train: Program
    """The training program."""
    orders: list[tuple[np.ndarray, np.ndarray]]
    """Orders and keys of the first epochs, drawn while the compiler worked; none where it had nothing to do."""
    seconds: float
    """How long it took."""


def _prepare(
    method: Method,
    single: Method,
    strategy: Strategy,
    key: Key,
    start: PyTree,
    example: PyTree,
    arrays: Data,
    rows: Rows,
    settings: setup.Settings,
) -> _Prepared:
    """What training begins with; the program that makes it and the one that trains compile at once, on two threads."""
    began = time.perf_counter()
    size = settings.size
    if start is not None:
        start = _check_start(single, start, example, size, ensemble=method.member is not None)
    keep_best = rows.held_out.shape[1] > 0
    base = (fingerprint((single, strategy, keep_best, settings.shared, size)), trace_context())
    swept = dict(method.hyperparams)

    def begin(key: Key, example: PyTree, start: PyTree, swept: Any) -> Run:
        def one(key: Key, index: Any, start: PyTree) -> PyTree:
            state = single.init(key, example, start)
            return set_hyperparams(state, swept, index, size if method.member is not None else None)

        state = vmapped(one)(member_keys(key, size), jnp.arange(size), start)
        return start_run(state, size, keep_best=keep_best)

    def own(run: Run) -> Run:
        """Arrays of its own, that training may use again: those given as `start` would come back as they are."""
        return run if start is None else jax.tree.map(lambda leaf: jnp.array(leaf, copy=True), run)

    begin_args = (key, example, start, swept)
    words = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct((), key.dtype)).shape[-1]
    impl = str(jax.random.key_impl(key))
    begin_key = (base, "begin", shapes_of(begin_args))
    train_key = (base, "train", shapes_of(arrays), settings._replace(epochs=0), impl, shapes_of(swept))

    ready, train = _PROGRAMS.peek(begin_key), _PROGRAMS.peek(train_key)
    if ready is not None and train is not None:
        return _Prepared(own(ready(*begin_args)), train, [], 0.0)
    shape, compile_begin = _begin_program(begin, begin_args, size)

    def compile_train() -> Program:
        shapes = Shapes(shape, arrays, impl, words)
        return compile_training(single, strategy, settings, shapes, lambda: _PROGRAMS.get(begin_key, compile_begin))

    with ThreadPoolExecutor(1) as pool:
        orders = pool.submit(_orders, rows, settings, key, range(min(settings.epochs, settings.call_epochs)))
        train = _PROGRAMS.get(train_key, compile_train)
        run = own(_PROGRAMS.get(begin_key, compile_begin)(*begin_args))
    return _Prepared(run, train, orders.result(), time.perf_counter() - began)


def _begin_program(begin: Callable[..., Run], args: tuple[Any, ...], size: int) -> tuple[Run, Callable[[], Any]]:
    """The shapes of what `begin` makes, and a function that compiles it."""
    traced = jax.jit(begin).trace(*args)
    shape = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), traced.out_info)
    options = run_once(tree_size(shape.state) // size)

    def compile_begin() -> Callable[..., Run]:
        parts = with_host_random(traced.jaxpr)
        if parts is None:
            return compiled(traced.lower(), options)
        leaves = jax.tree.leaves(args)
        program = compiled(jax.jit(parts.rest).lower(parts.draw(*leaves), *leaves), options)

        def run(*args: Any) -> Run:
            leaves = jax.tree.leaves(args)
            return jax.tree.unflatten(jax.tree.structure(shape), program(parts.draw(*leaves), *leaves))

        return run

    return shape, compile_begin


def _check_start(single: Method, start: PyTree, example: PyTree, size: int, *, ensemble: bool) -> PyTree:
    """Trained variables with a leading axis K, of the structure that the network has."""
    want = jax.eval_shape(single.model.init, jax.random.key(0), example)
    start = as_variables(start)
    if not jax.tree.leaves(want.state):
        start = start._replace(state=want.state)
    if str(jax.tree.structure(start)) != str(jax.tree.structure(want)):
        raise InputError(
            "`start` expected `Variables(params, state)` of the network's own structure "
            f"{jax.tree.structure(want)}, but got {jax.tree.structure(start)}."
        )
    if not ensemble:
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], start)
    if num_members(start) != size:
        raise InputError(f"`start` expected {size} networks (its leading axis), but holds {num_members(start)}.")
    for (path, leaf), given in zip(jax.tree_util.tree_leaves_with_path(want), jax.tree.leaves(start), strict=True):
        if given.shape[1:] != leaf.shape:
            raise InputError(
                f"`start` has {path_name(path)} of shape {given.shape[1:]}, but the network's is {leaf.shape}."
            )
    return jax.tree.map(lambda leaf, given: jnp.asarray(given, leaf.dtype), want, start)


# The loop on the host


def _run(
    prepared: _Prepared,
    arrays: Data,
    rows: Rows,
    settings: setup.Settings,
    key: Key,
    bar: Progress,
    stopped: threading.Event,
) -> tuple[Run, tuple[np.ndarray, np.ndarray], bool, float]:
    """Call the program in stretches of about half a second until all is done, all have stopped, or Ctrl-C."""
    began = time.perf_counter()
    train = prepared.train
    parts = train.spread(prepared.run, arrays)
    losses: list[np.ndarray] = []
    held: list[np.ndarray] = []
    interrupted = False
    pace = 0.0  # seconds an update
    active = np.ones(settings.size, bool)
    try:
        for first, index, keys in _ahead(_calls(prepared.orders, rows, settings, key, lambda: pace)):
            for low, high in _pieces(settings.steps, len(index), pace):
                then = time.perf_counter()
                parts, loss, out = train(parts, index, keys, Stretch(first, low, high))
                finished = high == settings.steps
                taken = (high - low) * len(index)
                if finished:
                    losses.append(loss)
                    held.append(out)
                active = train.active(parts)
                pace = (time.perf_counter() - then) / taken
                last = losses[-1][-1] if losses else np.array([np.nan])
                mean = float(np.nanmean(last)) if np.isfinite(last).any() else np.nan
                bar.advance(taken, mean, int(active.sum()), settings.size)
                if stopped.is_set() or not active.any():
                    break
            if stopped.is_set():
                interrupted = True
                break
            if not active.any():
                break
    except KeyboardInterrupt:
        if stopped.is_set():  # the second Ctrl-C
            raise
        interrupted = True
    run = jax.block_until_ready(train.join(parts))
    empty = np.zeros((0, settings.size), np.float32)
    joined = (np.concatenate(losses) if losses else empty, np.concatenate(held) if held else empty)
    ran = ~np.isnan(joined[0]).all(1) if interrupted or not active.any() else np.ones(len(joined[0]), bool)
    joined = (joined[0][ran], joined[1][ran])  # without epochs after all had stopped
    if interrupted:
        warnings.warn(
            f"Interrupted after {len(joined[0])} of {settings.epochs} epochs; this is the posterior so far.",
            UQWarning,
            stacklevel=3,
        )
    return run, joined, interrupted, time.perf_counter() - began


def _calls(
    ahead: list[tuple[np.ndarray, np.ndarray]],
    rows: Rows,
    settings: setup.Settings,
    key: Key,
    pace: Callable[[], float],
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The batches of the next epochs: as many as fit half a second at the pace measured, one to begin with."""
    first = 0
    while first < settings.epochs:
        num = 1
        if pace():
            num = int(np.clip(_CALL_SECONDS / (pace() * settings.steps), 1, settings.call_epochs))
        num = min(num, settings.epochs - first)
        pairs = ahead[first : first + num]
        pairs = pairs + _orders(rows, settings, key, range(first + len(pairs), first + num))
        yield first, np.stack([index for index, _ in pairs]), np.stack([keys for _, keys in pairs])
        first += num


def _ahead(calls: Iterator[Any]) -> Iterator[Any]:
    """The same calls, each drawn while the one before is run."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, calls, None)
        while (call := coming.result()) is not None:
            coming = pool.submit(next, calls, None)
            yield call


def _orders(rows: Rows, settings: setup.Settings, key: Key, epochs: range) -> list[tuple[np.ndarray, np.ndarray]]:
    words, width = key_words(key), jax.random.key_data(key).shape[-1]
    steps, batch = settings.steps, settings.batch
    return list(epoch_orders(words, rows, steps, batch, epochs, width, shared=settings.shared))


def _pieces(steps: int, epochs: int, pace: float) -> list[tuple[int, int]]:
    """Ranges of steps to call one after another: one, unless a single epoch outlasts half a second."""
    if epochs > 1:
        return [(0, steps)]
    piece = max(1, int(_CALL_SECONDS / pace)) if pace else min(steps, 50)
    bounds = [*range(0, steps, piece), steps]
    return list(itertools.pairwise(bounds))


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's collector of cycles: tracing makes many objects and no garbage, and searching both takes a
    third of its time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """While training, the first Ctrl-C asks for a stop at the next call's end; the second raises."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def handler(signum: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    previous = signal.signal(signal.SIGINT, handler)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if previous is None else previous)


def _kept(run: Run) -> tuple[PyTree, np.ndarray]:
    """The state to keep, and which members may be predicted with.

    A member whose left-out rows were scored, but never with a finite loss, has diverged too. One that was never
    scored (Ctrl-C in its first epoch) keeps what it has.
    """
    last, finite = without_optimizer(run.state), np.asarray(run.finite)
    if not jax.tree.leaves(run.best):
        return last, finite
    scored = np.asarray(run.best_epoch) >= 0
    best = run.best if scored.all() else tree_where(jnp.asarray(scored), run.best, last)
    return best, finite & ~np.asarray(run.unscored)


def _report_divergence(finite: np.ndarray) -> None:
    bad = np.flatnonzero(~finite)
    if len(bad):
        which = ", ".join(str(k) for k in bad)
        rest = "the others are untouched" if len(bad) < len(finite) else "there is nothing left to predict with"
        warnings.warn(
            f"Member{'s' if len(bad) > 1 else ''} {which} of {len(finite)} diverged (a loss or gradient was not "
            f"finite) and {'have' if len(bad) > 1 else 'has'} weight 0; {rest}. "
            "Lower the learning rate, or look for infinite outputs of the network or the prior.",
            UQWarning,
            stacklevel=3,
        )
