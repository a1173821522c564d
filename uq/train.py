"""`fit`: data and a method become a `Posterior`, with good defaults, a progress bar, and nothing lost on the way."""

from __future__ import annotations

import itertools
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _own_units as own_units
from . import _setup as setup
from ._checks import InputError, UQWarning, check_count
from ._preparing import Prepared, orders_of, prepare
from ._training import Data, Run, Stretch, without_optimizer
from ._tree import tree_where
from ._typing import ArrayLike, Key, PyTree
from .calibrate import Recalibrator
from .crossfit import CrossFit, crossfit
from .execution import Strategy
from .execution.compiling import uncollected
from .holdout import Rows, key_words
from .members import one_key
from .method import Method
from .planning import Plan, chosen
from .posterior import History, Posterior
from .progress import Progress

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
    whatever K. Ctrl-C returns the posterior so far (a second one raises). A member whose loss or weights stop
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
        through it; `posterior.predict(x, calibrated=False)` shows them as they were. Where it cannot be fitted (too
        few rows, a class that is missing), a warning says so, and predictions stay as they are.
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
    key = one_key(key)
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
        with _interruptible() as stopped, uncollected() as collect:
            prepared = prepare(method, single, how, key, start, example, arrays, rows, settings)
            if units is not None:
                prepared = prepared._replace(run=own_units.placed(prepared.run, units))
            run, losses, interrupted, ran = _run(prepared, arrays, rows, settings, key, bar, stopped, collect)
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
    try:
        posterior = posterior.calibrate(None if isinstance(calibrate, str) else calibrate, weight=weight[:num_rows])
    except InputError as error:
        warnings.warn(
            f"The networks are trained, but could not be calibrated, and predict as they are: {error} Then call "
            "`posterior.calibrate(…)`, which needs no training.",
            UQWarning,
            stacklevel=2,
        )
    return replace(posterior, history=history._replace(seconds=time.perf_counter() - began))


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
    task, known = method.likelihood.task, ("regression", "binary", "multiclass")
    tasks = known if isinstance(calibrate, str) else calibrate.tasks
    if task not in tasks:
        what = "there is no recalibrator" if isinstance(calibrate, str) else f"{calibrate.name} is not"
        raise InputError(f"`calibrate`: {what} for predictions of kind {task!r}, but for {', '.join(tasks)}.")


def _first_row(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf[:1])
    return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)


# The loop on the host


def _run(
    prepared: Prepared,
    arrays: Data,
    rows: Rows,
    settings: setup.Settings,
    key: Key,
    bar: Progress,
    stopped: threading.Event,
    collect: Callable[[], None],
) -> tuple[Run, tuple[np.ndarray, np.ndarray], bool, float]:
    """Call the program in stretches of about half a second until all is done, all have stopped, or Ctrl-C.

    `collect` lets Python's collector work again, which would take part of the time of a run that is over by then.
    """
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
            for low, high in _pieces(settings.steps, len(index), pace, train.block):
                then = time.perf_counter()
                parts, loss, out = train(parts, index, keys, Stretch(first, low, high))
                finished = high == settings.steps
                taken = (high - low) * len(index)
                if finished:
                    losses.append(loss)
                    held.append(out)
                active = train.active(parts)
                pace = (time.perf_counter() - then) / taken
                if time.perf_counter() - began > _CALL_SECONDS:
                    collect()
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
    """The batches of the next epochs: as many as fit half a second at the pace measured, one to begin with.

    A call's orders are drawn while the call before runs, in about a fifth of its time for as many epochs. So there are
    at most four times as many, unless they were drawn `ahead`.
    """
    first, num = 0, 1
    while first < settings.epochs:
        if pace():
            wanted = int(np.clip(_CALL_SECONDS / (pace() * settings.steps), 1, settings.call_epochs))
            num = min(wanted, max(len(ahead) - first, 4 * num))
        num = min(num, settings.epochs - first)
        pairs = ahead[first : first + num]
        pairs = pairs + orders_of(rows, settings, key, range(first + len(pairs), first + num))
        yield first, np.stack([index for index, _ in pairs]), np.stack([keys for _, keys in pairs])
        first += num


def _ahead(calls: Iterator[Any]) -> Iterator[Any]:
    """The same calls, each drawn while the one before is run."""
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, calls, None)
        while (call := coming.result()) is not None:
            coming = pool.submit(next, calls, None)
            yield call


def _pieces(steps: int, epochs: int, pace: float, block: int = 1) -> list[tuple[int, int]]:
    """Ranges of steps to call one after another: one, unless a single epoch outlasts half a second.

    Of blocks that are taken together, and that divide `steps`.
    """
    if epochs > 1:
        return [(0, steps)]
    piece = int(_CALL_SECONDS / pace) if pace else min(steps, 50)
    piece = max(block, piece // block * block)
    bounds = [*range(0, steps, piece), steps]
    return list(itertools.pairwise(bounds))


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
            f"Member{'s' if len(bad) > 1 else ''} {which} of {len(finite)} diverged (a loss or weight was not "
            f"finite) and {'have' if len(bad) > 1 else 'has'} weight 0; {rest}. "
            "Lower the learning rate, or look for infinite outputs of the network or the prior.",
            UQWarning,
            stacklevel=3,
        )
