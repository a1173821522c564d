"""What `fit` does before its first step: the programs, found again or compiled, and the run at its start."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _setup as setup
from ._cache import ProgramCache, fingerprint, shapes_of, trace_context
from ._checks import InputError, path_name
from ._programs import Program, Shapes, compiling_training, reads_little
from ._training import Data, Run, start_run
from ._tree import tree_size
from ._typing import Key, PyTree
from .execution import Strategy, compiled, run_once, vmapped
from .execution._host_program import on_host
from .execution._host_random import with_host_random
from .execution.compiling import runs_on_host, start_kernels
from .holdout import Rows, epoch_orders, key_words
from .members import member_keys, num_members
from .method import Method, set_hyperparams
from .posterior import as_variables

_PROGRAMS = ProgramCache()


class Prepared(NamedTuple):
    """What training begins with."""

    run: Run
    """The run at its start."""
    train: Program
    """The training program."""
    orders: list[tuple[np.ndarray, np.ndarray]]
    """Orders and keys of the first epochs, drawn while the compiler worked; none where it had nothing to do."""
    seconds: float
    """How long it took."""


def prepare(
    method: Method,
    single: Method,
    strategy: Strategy,
    key: Key,
    start: PyTree,
    example: PyTree,
    arrays: Data,
    rows: Rows,
    settings: setup.Settings,
) -> Prepared:
    """What training begins with; the program that makes it and those that train compile at once, on threads."""
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
    shape_of_run = (settings._replace(epochs=0), reads_little(settings, arrays))
    train_key = (base, "train", shapes_of(arrays), shape_of_run, impl, shapes_of(swept))

    ready, train = _PROGRAMS.peek(begin_key), _PROGRAMS.peek(train_key)
    if ready is not None and train is not None:
        return Prepared(own(ready(*begin_args)), train, [], 0.0)
    shape, lower_begin = _begin_program(begin, begin_args, size)
    with ThreadPoolExecutor(1) as pool:
        # First, though it is the shorter: a compiler leaves one core to the tracing of the training program.
        making = pool.submit(_PROGRAMS.get, begin_key, lower_begin() if ready is None else lambda: ready)
        pool.submit(start_kernels)
        compiling = None
        if train is None:
            compiling = compiling_training(single, strategy, settings, Shapes(shape, arrays, impl, words))
        # Here, while the compilers work: on a thread of their own they would have taken turns with tracing.
        orders = orders_of(rows, settings, key, range(min(settings.epochs, settings.call_epochs)))
        run = own(making.result()(*begin_args))
    if compiling is not None:
        train = _PROGRAMS.get(train_key, compiling)
    return Prepared(run, train, orders, time.perf_counter() - began)


def _begin_program(
    begin: Callable[..., Run], args: tuple[Any, ...], size: int
) -> tuple[Run, Callable[[], Callable[[], Any]]]:
    """The shapes of what `begin` makes, and a function that lowers it and returns one that compiles it."""
    traced = jax.jit(begin).trace(*args)
    shape = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), traced.out_info)
    options = run_once(tree_size(shape.state) // size)

    def lower() -> Callable[[], Any]:
        whole = on_host(traced.jaxpr) if runs_on_host(tree_size(shape.state) // size) else None
        if whole is not None:
            return lambda: _of_trees(lambda *leaves: jax.device_put(whole(*leaves)), shape)
        parts = with_host_random(traced.jaxpr)
        if parts is None:
            return functools.partial(compiled, traced.lower(), options)
        leaves = jax.tree.leaves(args)
        rest = jax.jit(parts.rest).lower(parts.draw(*leaves), *leaves)

        def compile() -> Callable[..., Run]:
            program = compiled(rest, options)
            return _of_trees(lambda *leaves: program(parts.draw(*leaves), *leaves), shape)

        return compile

    return shape, lower


def _of_trees(program: Callable[..., Any], shape: Run) -> Callable[..., Run]:
    """A program of flat leaves as one of trees, which makes a run."""

    def run(*args: Any) -> Run:
        return jax.tree.unflatten(jax.tree.structure(shape), program(*jax.tree.leaves(args)))

    return run


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


def orders_of(rows: Rows, settings: setup.Settings, key: Key, epochs: range) -> list[tuple[np.ndarray, np.ndarray]]:
    words, width = key_words(key), jax.random.key_data(key).shape[-1]
    steps, batch = settings.steps, settings.batch
    return list(epoch_orders(words, rows, steps, batch, epochs, width, shared=settings.shared))
