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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import holdout
from ._cache import ProgramCache, fingerprint
from ._checks import (
    InputError,
    UQWarning,
    check_count,
    check_finite,
    check_inputs,
    check_same_length,
    leading_size,
)
from ._training import Data, Run, Stretch, start_run, training_program, without_optimizer
from ._tree import tree_size
from ._typing import ArrayLike, Key, PyTree
from .execution import run_once, vmapped
from .likelihoods import Transformed, check_width, transformed
from .members import as_key, member_keys, num_members
from .method import Method, set_hyperparams
from .model import Variables
from .posterior import History, Posterior
from .progress import Progress
from .standardize import Scaling, input_scaling, scaling_of

_PROGRAMS = ProgramCache()
_CALL_SECONDS = 0.5
"""How long one call into the compiled program aims to last: the beat of progress, stopping and Ctrl-C."""
_CALL_ROWS = 2**21
"""How many row indices one call carries at most."""
_STEPS = 8000
"""The updates that the default number of epochs aims at."""


class _Settings(NamedTuple):
    """The shape of a run: what decides which program is compiled, and how long it goes."""

    size: int
    steps: int
    batch: int
    epochs: int
    call_epochs: int


def default_epochs(num_rows: int, batch_size: int) -> int:
    """Epochs such that about 8,000 updates are made, between 40 and 400: small data need more passes."""
    steps = -(-num_rows // batch_size)
    return int(np.clip(round(_STEPS / steps), 40, 400))


def fit(
    method: Method,
    data: tuple[Any, ...],
    *,
    key: Key,
    epochs: int | None = None,
    batch_size: int = 100,
    weight: ArrayLike | None = None,
    validation: float | tuple[Any, Any] | None = None,
    patience: int | None = None,
    start: PyTree = None,
    standardize_inputs: bool | None = None,
    standardize_targets: bool | None = None,
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
      batch_size: rows a minibatch; batches of an epoch are evened out, so none is left over or dropped.
      weight: one non-negative number an example; only ratios matter.
      validation: what decides when a member is best: a fraction of the rows that each member leaves out for itself,
        or one `(x, y)` for all, or 0 for none. None is a tenth for point estimates on 50 rows and more, and
        0 otherwise.
      patience: epochs without improvement on the left-out rows before a member stops; None trains every member to
        the end. The weights kept are those of its best epoch either way.
      start: trained `Variables` to begin from, with a leading member axis for ensembles. Inputs and targets then
        are not standardised unless asked for.
      standardize_inputs: None standardises inputs that are one rank-2 floating array.
      standardize_targets: None standardises the target of a regression; predictions are in its own units again.
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
    key = as_key(key)
    x, y, weight, held = _check_data(method, data, weight, validation)
    num_rows = len(y) - len(held[1]) if held else len(y)
    counted = np.flatnonzero(weight[:num_rows] > 0)
    inputs, x = _standardize_inputs(x, counted, standardize_inputs, start)
    likelihood, y = _standardize_targets(method, y, counted, standardize_targets, start)
    single, size = method.member or method, method.size or 1
    rows = _choose_rows(method, validation, held, num_rows, size, holdout.key_words(key))
    check_count("batch_size", batch_size)
    if batch_size > num_rows and batch_size != 100:
        raise InputError(
            f"`batch_size` is {batch_size}, but there are only {num_rows} examples; use at most {num_rows}."
        )
    batch_size = min(batch_size, rows.train.shape[1])
    epochs = default_epochs(rows.train.shape[1], batch_size) if epochs is None else check_count("epochs", epochs)
    settings = _plan(rows, size, batch_size, epochs)
    if patience is not None and rows.held_out.shape[1] == 0:
        raise InputError("`patience` needs left-out rows to judge by; pass validation=0.1 or validation=(x, y).")
    arrays = _device_data(x, y, weight, rows, settings, check_count("patience", patience or epochs + 1))
    example = jax.tree.map(lambda leaf: leaf[:1], arrays.x)
    _check_network(single, likelihood, example)

    bar = Progress(settings.steps * epochs, show=progress, label=f"{method.name} × {size}")
    bar.note("compiling")
    try:
        with _interruptible() as stopped:
            run, train, compiled = _prepare(method, single, key, start, example, arrays, rows, settings)
            run, losses, interrupted, ran = _run(train, run, arrays, rows, settings, key, bar, stopped)
    finally:
        bar.close()

    state = run.best if jax.tree.leaves(run.best) else without_optimizer(run.state)
    finite = np.asarray(run.finite)
    _report_divergence(finite)
    history = History(
        loss=losses[0],
        held_out_loss=losses[1],
        best_epoch=np.asarray(run.best_epoch),
        compile_seconds=compiled,
        run_seconds=ran,
        seconds=time.perf_counter() - began,
        interrupted=interrupted,
        diverged=np.flatnonzero(~finite),
    )
    return Posterior(
        method=method,
        state=state if method.member is not None else jax.tree.map(lambda leaf: leaf[0], state),
        likelihood=likelihood,
        key=key,
        inputs=inputs,
        weight=jnp.asarray(finite / max(finite.sum(), 1), jnp.float32),
        history=history,
        example=jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), x),
    )


# Data


def _check_data(method: Method, data: Any, weight: Any, validation: Any) -> tuple[PyTree, Any, np.ndarray, Any]:
    """Checked inputs and targets, with a given validation set appended, and normalised weights."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError("`data` expected a pair (x, y); pass example weights as weight=….")
    x, y = check_inputs(data[0]), method.likelihood.check(data[1])
    num_rows = leading_size("x", x)
    check_same_length(num_rows, y)
    if num_rows < 2:
        raise InputError("Training expected at least two examples, but `x` has one row.")
    weight = np.ones(num_rows) if weight is None else np.asarray(weight, np.float64)
    if weight.shape != (num_rows,):
        raise InputError(
            f"`weight` expected one number for each of the {num_rows} examples, but has shape {weight.shape}."
        )
    check_finite("weight", weight)
    if (weight < 0).any() or weight.sum() == 0:
        raise InputError("`weight` expected non-negative numbers that are not all zero.")
    weight = weight / weight.mean()
    if not isinstance(validation, tuple | list):
        return x, y, weight, None
    held_x, held_y = check_inputs(validation[0], name="validation x"), method.likelihood.check(validation[1])
    num_held = leading_size("validation x", held_x)
    check_same_length(num_held, held_y, name="validation y")
    if str(jax.tree.structure(held_x)) != str(jax.tree.structure(x)):
        raise InputError("The inputs of `validation` expected the same structure as `x`.")
    x = jax.tree.map(lambda a, b: np.concatenate([np.asarray(a), np.asarray(b)]), x, held_x)
    y = np.concatenate([np.asarray(y), np.asarray(held_y)])
    return x, y, np.concatenate([weight, np.ones(num_held)]), (held_x, held_y)


def _standardize_inputs(
    x: PyTree, counted: np.ndarray, wanted: bool | None, start: PyTree
) -> tuple[Scaling | None, PyTree]:
    """Statistics are of the rows `counted`: a validation set and rows of weight 0 do not enter them."""
    if wanted is False or (wanted is None and start is not None):
        return None, x
    scaling = input_scaling(jax.tree.map(lambda leaf: leaf[counted], x))
    if scaling is None:
        if wanted:
            raise InputError("`standardize_inputs` needs `x` to be one floating array of shape (N, d).")
        return None, x
    return scaling, scaling.apply(x)


def _standardize_targets(
    method: Method, y: Any, counted: np.ndarray, wanted: bool | None, start: PyTree
) -> tuple[Any, Any]:
    likelihood = method.likelihood
    if likelihood.task != "regression" or wanted is False or (wanted is None and start is not None):
        return likelihood, y
    if isinstance(likelihood, Transformed):
        return likelihood, y
    scaling = scaling_of(np.asarray(y)[counted])
    return transformed(likelihood, scaling.mean, scaling.scale), scaling.apply(y)


def _choose_rows(
    method: Method, validation: Any, held: Any, num_rows: int, size: int, words: tuple[int, ...]
) -> holdout.Rows:
    if held is not None:
        return holdout.same_for_all(size, num_rows, len(held[1]))
    share = validation
    if share is None:
        share = 0.1 if method.early_stopping and num_rows >= 50 else 0.0
    rows = holdout.fraction(words, size, num_rows, float(share))
    if rows.held_out.shape[1] and method.evaluate is None:
        raise InputError(f"{method.name} cannot be stopped by held-out rows; pass validation=0.")
    return rows


def _plan(rows: holdout.Rows, size: int, batch_size: int, epochs: int) -> _Settings:
    num = rows.train.shape[1]
    steps = -(-num // batch_size)
    batch = -(-num // steps)
    call_epochs = int(np.clip(_CALL_ROWS // (size * steps * batch), 1, 32))
    return _Settings(size, steps, batch, epochs, call_epochs)


def _device_data(
    x: PyTree, y: Any, weight: np.ndarray, rows: holdout.Rows, settings: _Settings, patience: int
) -> Data:
    dtype = jax.dtypes.canonicalize_dtype(np.float64)
    num, batch = rows.train.shape[1], settings.batch
    mask = (np.arange(settings.steps * batch) < num).reshape(settings.steps, batch).astype(dtype)
    mask *= batch / mask.sum(1, keepdims=True)
    num_held = rows.held_out.shape[1]
    tests = -(-num_held // batch)
    held = np.resize(rows.held_out, (settings.size, 0)) if tests == 0 else np.pad(
        rows.held_out, ((0, 0), (0, tests * batch - num_held)), mode="edge"
    )
    y = np.asarray(y)
    return Data(
        x=jax.tree.map(jnp.asarray, x),
        y=jnp.asarray(y, dtype if y.dtype.kind == "f" else None),
        weight=jnp.asarray(weight, dtype),
        mask=jnp.asarray(mask),
        held_out=jnp.asarray(held.reshape(settings.size, tests, batch), jnp.int32),
        held_out_mask=jnp.asarray((np.arange(tests * batch) < num_held).reshape(tests, batch).astype(dtype)),
        num_data=jnp.asarray(num, dtype),
        patience=jnp.asarray(patience, jnp.int32),
        progress=jnp.asarray([1 / (settings.steps * settings.epochs), 1.0], dtype),
    )


def _check_network(method: Method, likelihood: Any, example: PyTree) -> None:
    """Raise, in a sentence, where the network cannot take `x` or its outputs do not fit the likelihood."""
    key = jax.random.key(0)
    try:
        outputs = jax.eval_shape(lambda x: method.model.apply(method.model.init(key, x), x)[0], example)
    except InputError:
        raise
    except Exception as error:
        shapes = jax.tree.map(lambda leaf: ("N", *leaf.shape[1:]), example)
        text = str(error).strip().splitlines()
        raise InputError(
            f"The network cannot take inputs of shape {shapes}. It says: {text[0] if text else type(error).__name__}"
        ) from error
    if not hasattr(outputs, "shape"):
        raise InputError(f"The network expected to return one array, but returns a {type(outputs).__name__}.")
    if not likelihood.free:  # `attach` has checked the others
        check_width(likelihood, outputs.shape, 1)


# Programs


def _prepare(
    method: Method,
    single: Method,
    key: Key,
    start: PyTree,
    example: PyTree,
    arrays: Data,
    rows: holdout.Rows,
    settings: _Settings,
) -> tuple[Run, Callable[..., Any], float]:
    """The run at its start, and the training program; both programs compile at once, on two threads."""
    began = time.perf_counter()
    size, mapping = settings.size, method.mapping or vmapped
    if start is not None:
        start = _check_start(single, start, example, size, ensemble=method.member is not None)
    keep_best = rows.held_out.shape[1] > 0
    base = fingerprint((single, mapping, keep_best, size))
    swept = dict(method.hyperparams)

    def begin(key: Key, example: PyTree, start: PyTree, swept: Any) -> Run:
        def one(key: Key, index: Any, start: PyTree) -> PyTree:
            state = single.init(key, example, start)
            return set_hyperparams(state, swept, index, size) if method.member is not None else state

        state = mapping(one)(member_keys(key, size), jnp.arange(size), start)
        return start_run(state, size, keep_best=keep_best)

    begin_args = (key, example, start, swept)
    words = jax.eval_shape(jax.random.key_data, jax.ShapeDtypeStruct((), key.dtype)).shape[-1]
    index = jax.ShapeDtypeStruct((settings.call_epochs, size, settings.steps, settings.batch), jnp.int32)
    keys = jax.ShapeDtypeStruct((settings.call_epochs, size, settings.steps, words), jnp.uint32)
    scalar: Any = jax.ShapeDtypeStruct((), jnp.int32)
    begin_key = (base, "begin", _shapes(begin_args))
    train_key = (base, "train", _shapes((arrays, index, keys)), str(jax.random.key_impl(key)), _shapes(swept))

    def compile_train(run: Any) -> Any:
        program = training_program(single, mapping, str(jax.random.key_impl(key)))
        stretch = Stretch(scalar, scalar, scalar, scalar)
        return jax.jit(program).lower(run, arrays, index, keys, stretch).compile()

    if begin_key in _PROGRAMS and train_key in _PROGRAMS:
        return _PROGRAMS.get(begin_key, dict)(*begin_args), _PROGRAMS.get(train_key, dict), 0.0
    # Traced on this thread: settings such as `jax.enable_x64()` are the thread's own.
    traced = jax.jit(begin).lower(*begin_args)
    shape = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), traced.out_info)
    with ThreadPoolExecutor(1) as pool:
        options = run_once(tree_size(shape.state))
        first = pool.submit(lambda: _PROGRAMS.get(begin_key, lambda: traced.compile(compiler_options=options)))
        train = _PROGRAMS.get(train_key, lambda: compile_train(shape))
        run = first.result()(*begin_args)
    return run, train, time.perf_counter() - began


def _shapes(tree: PyTree) -> tuple:
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((np.shape(leaf), str(leaf.dtype)) for leaf in leaves)


def _check_start(single: Method, start: PyTree, example: PyTree, size: int, *, ensemble: bool) -> PyTree:
    """Trained variables with a leading axis K, of the structure that the network has."""
    want = jax.eval_shape(single.model.init, jax.random.key(0), example)
    if not isinstance(start, Variables):
        start = Variables(start, want.state) if not jax.tree.leaves(want.state) else start
    if str(jax.tree.structure(start)) != str(jax.tree.structure(want)):
        raise InputError(
            "`start` expected `Variables(params, state)` of the network's own structure "
            f"{jax.tree.structure(want)}, but got {jax.tree.structure(start)}."
        )
    if not ensemble:
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], start)
    if num_members(start) != size:
        raise InputError(f"`start` expected {size} networks (its leading axis), but holds {num_members(start)}.")
    return start


# The loop on the host


def _run(
    train: Callable[..., Any],
    run: Run,
    arrays: Data,
    rows: holdout.Rows,
    settings: _Settings,
    key: Key,
    bar: Progress,
    stopped: threading.Event,
) -> tuple[Run, tuple[np.ndarray, np.ndarray], bool, float]:
    """Call the program in stretches of about half a second until all is done, all have stopped, or Ctrl-C."""
    began = time.perf_counter()
    losses: list[np.ndarray] = []
    held: list[np.ndarray] = []
    interrupted = False
    pace = 0.0  # seconds an update
    try:
        for first, index, keys in _calls(rows, settings, key, lambda: pace):
            for low, high in _pieces(settings.steps, len(index), pace):
                then = time.perf_counter()
                stretch = Stretch(*(jnp.asarray(v, jnp.int32) for v in (first, len(index), low, high)))
                run, loss, out = train(run, arrays, _fill(index, settings), _fill(keys, settings), stretch)
                finished = high == settings.steps
                taken = (high - low) * len(index)
                if finished:
                    losses.append(np.asarray(loss)[: len(index)])
                    held.append(np.asarray(out)[: len(index)])
                active = np.asarray(run.active)
                pace = (time.perf_counter() - then) / taken
                alive = losses[-1][-1][np.asarray(run.finite)] if losses else np.array([np.nan])
                bar.advance(taken, float(np.mean(alive)) if alive.size else np.nan, int(active.sum()), settings.size)
                if stopped.is_set() or not active.any():
                    break
            if stopped.is_set():
                interrupted = True
                break
            if not active.any():
                break
    except KeyboardInterrupt:
        interrupted = True
    jax.block_until_ready(run.active)
    empty = np.zeros((0, settings.size), np.float32)
    joined = (np.concatenate(losses) if losses else empty, np.concatenate(held) if held else empty)
    if interrupted:
        warnings.warn(
            f"Interrupted after {len(joined[0])} of {settings.epochs} epochs; this is the posterior so far.",
            UQWarning,
            stacklevel=3,
        )
    return run, joined, interrupted, time.perf_counter() - began


def _calls(
    rows: holdout.Rows, settings: _Settings, key: Key, pace: Callable[[], float]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """The batches of the next epochs: as many as fit half a second at the pace measured, one to begin with."""
    width = jax.random.key_data(key).shape[-1]
    words = holdout.key_words(key)
    first = 0
    while first < settings.epochs:
        num = 1
        if pace():
            num = int(np.clip(_CALL_SECONDS / (pace() * settings.steps), 1, settings.call_epochs))
        num = min(num, settings.epochs - first)
        span = range(first, first + num)
        pairs = list(holdout.epoch_orders(words, rows.train, settings.steps, settings.batch, span, width))
        yield first, np.stack([index for index, _ in pairs]), np.stack([keys for _, keys in pairs])
        first += num


def _pieces(steps: int, epochs: int, pace: float) -> list[tuple[int, int]]:
    """Ranges of steps to call one after another: one, unless a single epoch outlasts half a second."""
    if epochs > 1:
        return [(0, steps)]
    piece = max(1, int(_CALL_SECONDS / pace)) if pace else min(steps, 50)
    bounds = [*range(0, steps, piece), steps]
    return list(itertools.pairwise(bounds))


def _fill(array: np.ndarray, settings: _Settings) -> np.ndarray:
    """`array` padded to the number of epochs that the program was compiled for."""
    missing = settings.call_epochs - len(array)
    return array if missing == 0 else np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])


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
        signal.signal(signal.SIGINT, previous)


def _report_divergence(finite: np.ndarray) -> None:
    bad = np.flatnonzero(~finite)
    if len(bad):
        which = ", ".join(str(k) for k in bad)
        rest = "the others are untouched" if len(bad) < len(finite) else "there is nothing left to predict with"
        warnings.warn(
            f"Member{'s' if len(bad) > 1 else ''} {which} of {len(finite)} diverged (a loss or gradient was not "
            f"finite) and {'have' if len(bad) > 1 else 'has'} weight 0; {rest}. Lower the learning rate.",
            UQWarning,
            stacklevel=3,
        )


