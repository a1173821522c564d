"""`plan`: measure the ways to train K members on this machine, keep the fastest, and say why.

`fit` plans by itself where a run is long enough to pay for it. A plan is kept on disk, by the network's own program,
shapes, K, device and versions, so that the same fit on the same machine is executed the same way again.
"""

from __future__ import annotations

import math
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _kept, holdout
from . import _setup as setup
from ._checks import InputError, check_count
from ._programs import Program, Shapes, compile_training
from ._training import Data, Run, Stretch, start_run
from ._tree import is_float, is_key
from ._version import __version__
from .execution import Mapping, Strategy, candidates, rule
from .execution._operations import operations
from .execution.lowering import holds_convolution
from .execution.strategy import from_words, in_words, num_cores
from .members import as_key
from .method import Batch, Method, set_hyperparams
from .methods.map_estimate import map_estimate
from .table import Table

_SECONDS = 8.0
"""What planning may take inside `fit`."""
_WORTH = 60.0
"""A run that is expected to take this long is planned."""
_RATE = {"cpu": 5e9, "gpu": 2e12, "tpu": 2e12}
"""Operations a second that small networks reach, for that expectation."""


class Candidate(NamedTuple):
    """One strategy and what was found of it."""

    strategy: Strategy
    seconds: float | None
    """One step of all members, compiled; None where it was not run."""
    compile_seconds: float | None
    memory: int | None
    """Bytes of all arguments, results and intermediate values, as the compiler says."""
    why: str
    """Why it was chosen, or was not."""


@dataclass(frozen=True)
class Plan:
    """What was measured, and which strategy won. Printing it explains the choice."""

    strategy: Strategy
    candidates: tuple[Candidate, ...]
    size: int
    device: str
    seconds: float
    """What planning took; 0 for a plan found on disk."""

    def table(self) -> Table:
        """One row a candidate, the fastest first."""
        ordered = sorted(self.candidates, key=lambda each: math.inf if each.seconds is None else each.seconds)
        rows = [
            (
                str(each.strategy),
                None if each.seconds is None else each.seconds * 1e3,
                None if each.memory is None else each.memory / 2**20,
                each.compile_seconds,
                each.why,
            )
            for each in ordered
        ]
        return Table(
            ("strategy", "ms a step", "MiB", "compile s", "why"),
            tuple(rows),
            title=f"{self.size} members on {self.device}",
        )

    def __str__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def plan(
    model: Any,
    likelihood: Any,
    batch: tuple[Any, Any],
    size: int,
    *,
    optimizer: Any = None,
    mapping: Mapping | None = None,
    seconds: float = 60.0,
    memory: float | None = None,
    cache: bool = True,
) -> Plan:
    """Measure the ways to train `size` members, and keep the fastest that fits in memory.

    Every mapping of the member axis, with convolutions as they are and as matrix products, many steps a call and one,
    is compiled; those that need more memory than there is are left out, and the rest run a few steps on `batch`.

    Args:
      model: anything `uq.as_model` takes, or a `Method` for one member (then `likelihood` may be None).
      likelihood: what its outputs mean.
      batch: `(x, y)`: one batch of the size that training will use.
      size: K.
      optimizer: as in `uq.deep_ensemble`.
      mapping: given, only the other choices are measured.
      seconds: after which no more candidates are tried; the likely ones come first.
      memory: bytes that may be used; None asks the device.
      cache: whether an earlier plan of the same may be used, and this one be kept.
    Returns:
      A `Plan`; pass it or its `.strategy` as `uq.fit(…, strategy=…)`. `print(plan)` explains it.
    Raises:
      InputError: a batch the network cannot take, or a model that does not fit in memory in any way; the message says
        what it needs and what there is.
    Example:
      >>> import flax.linen as nn, numpy as np, uq
      >>> x = np.ones((32, 4)); y = x[:, 0]
      >>> found = uq.plan(nn.Dense(2), uq.likelihoods.Gaussian(), (x, y), 3, seconds=1, cache=False)
      >>> isinstance(found.strategy, uq.execution.Strategy)
      True
    """
    size = check_count("size", size)
    method = model if isinstance(model, Method) else map_estimate(model, likelihood, optimizer)
    if method.member is not None:
        raise InputError("`plan` expected a method for one member and `size`, but got an ensemble.")
    work = work_on_one_batch(method, batch, size)
    return planned(work, mapping=mapping, seconds=seconds, memory=memory, cache=cache)


# Measuring


class Work:
    """The training of one run, under any strategy, with made-up weights of the real shapes.

    Args:
      method: for one member.
      swept, size: the sweep of an ensemble, as `set_hyperparams` takes them.
    """

    def __init__(
        self,
        method: Method,
        arrays: Data,
        settings: setup.Settings,
        swept: Any = None,
        size: int | None = None,
    ) -> None:
        self.method, self.arrays, self.settings = method, arrays, settings
        example = jax.tree.map(lambda leaf: leaf[:1], arrays.x)

        def begin(key: Any) -> Any:
            return set_hyperparams(method.init(key, example, None), dict(swept or {}), jnp.int32(0), size)

        one = jax.eval_shape(begin, as_key(0))
        rows: Any = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct((settings.batch, *leaf.shape[1:]), leaf.dtype),
            (arrays.x, arrays.y, arrays.weight),
        )
        batch = Batch(rows[0], rows[1], rows[2], arrays.num_data, arrays.progress[0])
        self.update = jax.make_jaxpr(lambda state, batch: method.update(as_key(0), state, batch))(one, batch)
        """One update of one member, as jax reads it: what decides, with shapes, how fast a strategy is."""
        self.convolutions = holds_convolution(self.update)
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((settings.size, *leaf.shape), leaf.dtype), one)
        run = start_run(state, settings.size, keep_best=arrays.held_out.shape[1] > 0)
        words = jax.eval_shape(jax.random.key_data, as_key(0)).shape[-1]
        self.shapes = Shapes(run, arrays, str(jax.random.key_impl(as_key(0))), words)

    def build(self, strategy: Strategy) -> Program:
        """The compiled program."""
        return compile_training(self.method, strategy, self.settings, self.shapes)

    def start(self) -> Run:
        """A run to take steps from. Weights are small and random: zeros would let a kernel skip work."""
        rng = np.random.default_rng(0)

        def fill(leaf: Any) -> Any:
            if not isinstance(leaf, jax.ShapeDtypeStruct):
                return jnp.array(leaf)
            if is_key(leaf):
                return jnp.broadcast_to(as_key(0), leaf.shape)
            if is_float(leaf):
                return jnp.asarray(0.01 * np.abs(rng.standard_normal(leaf.shape)), leaf.dtype)
            return jnp.zeros(leaf.shape, leaf.dtype)

        return jax.tree.map(fill, self.shapes.run)

    def step_seconds(self, program: Program, until: float) -> float:
        """Seconds of one step: the median of five calls of a tenth of a second each, of fewer in haste."""
        s = self.settings
        rng = np.random.default_rng(0)
        orders = 1 if s.shared else s.size
        index = rng.integers(0, len(self.arrays.y), (1, orders, s.steps, s.batch), np.int32)
        words = rng.integers(0, 2**32, (1, s.size, s.steps, self.shapes.words), np.uint32)
        parts = program.spread(self.start(), self.arrays)

        def take(num: int) -> float:
            nonlocal parts
            then = time.perf_counter()
            parts, *_ = program(parts, index, words, Stretch(0, 0, num))
            jax.block_until_ready(parts)
            return (time.perf_counter() - then) / num

        least = program.block
        first = take(least)  # this call allocates
        if time.perf_counter() > until:
            return first
        num = int(
            np.clip(0.1 / max(take(least), 1e-6), 1, s.steps - 1)
        )  # short of the epoch's end, if it is longer than a block
        num = max(least, num // least * least)
        paces = [take(num)]
        while len(paces) < 5 and time.perf_counter() < until:
            paces.append(take(num))
        return statistics.median(paces)


def work_on_one_batch(method: Method, batch: tuple[Any, Any], size: int) -> Work:
    """Training of `size` members on one batch, again and again."""
    x, y, weight, _ = setup.check_data(method, batch, None, 0)
    # As many steps as an epoch of ordinary data has: what a call costs is shared among them.
    steps = int(np.clip(2**21 // (size * len(y)), 2, 200))
    once = holdout.fraction((0,), size, len(y), 0)
    rows = once._replace(train=np.tile(once.train, (1, steps)))
    settings = setup.Settings(size, steps, len(y), 1, 1)
    arrays = setup.device_data(x, y, weight, rows, settings, patience=2)
    setup.check_network(method, method.likelihood, jax.tree.map(lambda leaf: np.zeros_like(leaf[:2]), arrays.x), y)
    return Work(method, arrays, settings, size=size)


def planned(work: Work, **settings: Any) -> Plan:
    """The plan of a run: one found on disk, or one measured now.

    Raises:
      InputError: nothing fits in memory, or nothing was measured in time.
    """
    plan = _planned(work, **settings)
    if isinstance(plan, str):
        raise InputError(plan)
    return plan


def _planned(
    work: Work,
    *,
    mapping: Mapping | None = None,
    seconds: float = _SECONDS,
    memory: float | None = None,
    cache: bool = True,
) -> Plan | str:
    """As `planned`; why there is none, where there is none."""
    began = time.perf_counter()
    size, device = work.settings.size, device_name()
    shapes = [leaf.shape for leaf in jax.tree.leaves(work.arrays)]
    name = _kept.digest(work.update, work.settings._replace(epochs=0), shapes, device, mapping, seconds, __version__)
    cache = cache and memory is None
    if cache and (words := _kept.read("plans", name)) is not None and (found := from_words(words)) is not None:
        return Plan(found, (Candidate(found, None, None, None, "measured before, and kept"),), size, device, 0.0)
    limit = available_memory() if memory is None else memory
    strategies = candidates(size, work.convolutions, operations=operations(work.update), mapping=mapping)
    tried = _measured(work, strategies, limit, began + seconds)
    known = [each for each in tried if each.seconds is not None]
    if not known:
        return _too_large(tried, size, limit, seconds)
    best = min(known, key=lambda each: each.seconds or 0.0)
    if cache:
        _kept.write("plans", name, in_words(best.strategy))
    said = tuple(each._replace(why=_why(each, best)) for each in tried)
    return Plan(best.strategy, said, size, device, time.perf_counter() - began)


def _measured(work: Work, strategies: Sequence[Strategy], limit: float, until: float) -> list[Candidate]:
    """Each strategy, in order, while there is time; a new one is begun only if it can be expected to end in time."""
    tried: list[Candidate] = []
    last = 0.0
    for strategy in strategies:
        then = time.perf_counter()
        if tried and then + last > until:
            tried.append(Candidate(strategy, None, None, None, "not measured: no time was left"))
            continue
        try:
            program = work.build(strategy)
            if program.memory > limit:
                why = f"left out: needs {program.memory / 2**20:.0f} MiB of {limit / 2**20:.0f}"
                tried.append(Candidate(strategy, None, program.seconds, program.memory, why))
            else:
                pace = work.step_seconds(program, until)
                tried.append(Candidate(strategy, pace, program.seconds, program.memory, ""))
        except jax.errors.JaxRuntimeError as error:  # out of memory after all, say
            tried.append(Candidate(strategy, None, None, None, f"failed: {str(error).splitlines()[0][:60]}"))
        last = time.perf_counter() - then
    return tried


def _why(each: Candidate, best: Candidate) -> str:
    if each.seconds is None or best.seconds is None:
        return each.why
    return "the fastest: chosen" if each is best else f"takes {each.seconds / best.seconds:.2f} times as long"


def _too_large(tried: Sequence[Candidate], size: int, limit: float, seconds: float) -> str:
    needs = [each.memory for each in tried if each.memory is not None]
    if not needs:
        return f"Nothing could be measured within {seconds:g} s; give `plan` more seconds."
    return (
        f"One step of {size} members needs at least {min(needs) / 2**20:.0f} MiB, but there are "
        f"{limit / 2**20:.0f} MiB. Take smaller batches, or train the members in several fits."
    )


# The machine


def device_name() -> str:
    """The default device, with the number of cores where it is a CPU, and the versions that decide what is compiled."""
    device = jax.devices()[0]
    cores = f", {num_cores()} cores" if device.platform == "cpu" else ""
    return f"{device.device_kind}{cores}, jax {jax.__version__}"


def available_memory() -> float:
    """Bytes that a program may use: what the device says, or on a CPU nine tenths of what the system can give."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return float(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    try:
        found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    except OSError:
        found = None
    return 0.9 * 1024 * int(found[1]) if found else math.inf  # a system that does not tell


def expected_seconds(forward: Any, settings: setup.Settings) -> float:
    """A rough guess of how long a run takes, from the network on two rows."""
    each = _step_operations(forward, settings) * settings.size
    return each * settings.steps * settings.epochs / _RATE.get(jax.default_backend(), 2e12)


def _step_operations(forward: Any, settings: setup.Settings) -> float:
    """Of one member: about three times those of a forward pass."""
    return 3 * operations(forward) / 2 * settings.batch


def chosen(
    wanted: Any, method: Method, single: Method, forward: Any, arrays: Data, settings: setup.Settings
) -> tuple[Strategy, str]:
    """The strategy of a fit, and where it comes from: given, the rule, or a plan."""
    if isinstance(wanted, Plan):
        return wanted.strategy, "planned"
    if isinstance(wanted, Strategy):
        return wanted, "given"
    if wanted not in (None, "rule"):
        raise InputError(
            '`strategy` expected None, "rule", a Plan from uq.plan, or a Strategy such as '
            f"uq.execution.Strategy(uq.execution.chunked(4)), but got {wanted!r}."
        )
    if wanted is None and expected_seconds(forward, settings) >= _WORTH:
        size = None if method.member is None else settings.size
        plan = _planned(Work(single, arrays, settings, method.hyperparams, size), mapping=method.mapping)
        if not isinstance(plan, str):
            return plan.strategy, "planned"
    many = _step_operations(forward, settings)
    return rule(settings.size, holds_convolution(forward), operations=many, mapping=method.mapping), "rule"
