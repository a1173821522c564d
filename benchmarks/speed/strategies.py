"""Time of one training step of K networks under every strategy, beside how one would write it with jax alone.

python benchmarks/speed/strategies.py cnn resnet-8 --seconds 60

For each network: the strategies of `uq.execution`, in the program that `fit` runs; plain jax (vmap, `lax.map` or a
Python loop over members; a scan over steps or one step a call; the library's convolutions and compiler options); and
one large matrix product, for the machine's own limit. All are called in turn, so that a busy machine is busy for all.
"""

import argparse
import functools
import json
import platform
import statistics
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from networks import CASES, batch_of, loss_of

import uq
from uq import planning
from uq._training import Stretch
from uq.execution._operations import operations

HERE = Path(__file__).parent


class Contender:
    """Something that takes steps, a multiple of `least`: `call(num)` takes some, and returns when they are done."""

    def __init__(self, name, call, compile_seconds, memory=0, least=1):
        self.name, self.call, self.compile_seconds, self.memory = name, call, compile_seconds, memory
        self.least, self.paces = least, []

    def once(self, seconds):
        """Run for about so long, once."""
        num = 1 if not self.paces else int(np.clip(seconds / self.paces[-1], 1, 100))
        num = max(self.least, num // self.least * self.least)
        then = time.perf_counter()
        self.call(num)
        self.paces.append((time.perf_counter() - then) / num)

    @property
    def pace(self):
        return statistics.median(self.paces[1:])


def ours(case, strategies):
    """The program of `fit` under each strategy."""
    work = work_of(case)
    for strategy in strategies:
        program = work.build(strategy)
        rng = np.random.default_rng(0)
        settings = work.settings
        index = rng.integers(0, case.batch, (1, settings.size, settings.steps, settings.batch), np.int32)
        words = rng.integers(0, 2**32, (1, settings.size, settings.steps, work.shapes.words), np.uint32)
        held = [program.spread(work.start(), work.arrays)]

        def call(num, program=program, held=held, index=index, words=words):
            held[0], *_ = program(held[0], index, words, Stretch(0, 0, num))
            jax.block_until_ready(held[0])

        yield Contender(f"uq: {strategy}", call, program.seconds, program.memory, program.block)


def work_of(case):
    method = uq.methods.map_estimate(case.net, case.likelihood, case.optimizer)
    return planning.work_on_one_batch(method, batch_of(case), case.size)


def plain(case, mapping, loop):
    """Plain jax: the update of one member, mapped over members, in a scan over steps or one step a call."""
    loss, optimizer = loss_of(case), case.optimizer or optax.adam(1e-2)
    x, y = map(jnp.asarray, batch_of(case))
    keys = jax.random.split(jax.random.key(0), case.size)

    def begin(key):
        variables = dict(case.net.init(key, x[:1]))
        params = variables.pop("params")
        return params, variables, optimizer.init(params)

    def update(carried, x, y):
        params, state, memory = carried
        (_, state), grads = jax.value_and_grad(loss, has_aux=True)(params, state, x, y)
        change, memory = optimizer.update(grads, memory, params)
        return optax.apply_updates(params, change), state, memory

    def step(carried, index):
        if mapping == "vmap":
            return jax.vmap(lambda one, rows: update(one, x[rows], y[rows]))(carried, index)
        if mapping == "map":
            return jax.lax.map(lambda each: update(each[0], x[each[1]], y[each[1]]), (carried, index))
        parts = [
            update(jax.tree.map(lambda leaf, k=k: leaf[k], carried), x[index[k]], y[index[k]]) for k in range(case.size)
        ]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)

    carried = jax.jit(jax.vmap(begin))(keys)
    many = 2 if len(case.shape) == 3 and case.size < 10 else 10  # library convolutions in a loop take seconds
    index = jnp.asarray(np.random.default_rng(0).integers(0, case.batch, (many, case.size, case.batch), np.int32))
    then = time.perf_counter()
    if loop:
        run = jax.jit(lambda c, i: jax.lax.scan(lambda c, i: (step(c, i), None), c, i)[0], donate_argnums=0)
        program = run.lower(carried, index).compile()
    else:
        program = jax.jit(step, donate_argnums=0).lower(carried, index[0]).compile()
    seconds = time.perf_counter() - then
    held = [carried]

    def call(num):
        if loop:
            for _ in range(num // many):
                held[0] = program(held[0], index)
        else:
            for _ in range(num):
                held[0] = program(held[0], index[0])
        jax.block_until_ready(held[0])

    found = program.memory_analysis()
    memory = 0 if found is None else found.temp_size_in_bytes + found.argument_size_in_bytes
    name = f"jax: {mapping}, {'scan over steps' if loop else 'one step a call'}"
    return Contender(name, call, seconds, memory, many if loop else 1)


def product(size=2048):
    """One large product of float32 matrices: operations a second are the machine's limit."""
    a = jnp.ones((size, size), jnp.float32)
    times = jax.jit(lambda a: a @ a)
    jax.block_until_ready(times(a))

    def call(num):
        for _ in range(num):
            out = times(a)
        jax.block_until_ready(out)

    contender = Contender("one large product", call, 0.0)
    contender.operations = 2.0 * size**3
    return contender


def compare(name, seconds, passes):
    """All contenders of one network: lines for the results, and the table."""
    case = CASES[name]
    work = work_of(case)
    plan = planning.planned(work, cache=False)
    flops = operations(work.update) * case.size
    deadline = time.perf_counter() + seconds
    limit = product()
    contenders = [limit]
    skipped = []
    strategies = uq.execution.candidates(case.size, work.convolutions, operations=operations(work.update))
    makers = [functools.partial(plain, case, *how) for how in PLAIN if how[0] != "unrolled" or case.size <= 20]
    makers = [
        *(functools.partial(lambda s: next(iter(ours(case, [s]))), s) for s in strategies[:1]),
        *makers,
        *(functools.partial(lambda s: next(iter(ours(case, [s]))), s) for s in strategies[1:]),
    ]
    for make in makers:
        if time.perf_counter() > deadline:
            skipped.append(make)
            continue
        contender = make()
        contender.once(0.1)
        contenders.append(contender)
    for _ in range(passes):
        for contender in contenders:
            contender.once(0.2)
    peak = limit.operations / limit.pace
    reference = next(c for c in contenders if c.name.startswith("uq:")).pace
    lines = [
        {
            "network": name,
            "members": case.size,
            "batch": case.batch,
            "contender": c.name,
            "ms_a_step": round(c.pace * 1e3, 4),
            "min_ms": round(min(c.paces[1:]) * 1e3, 4),
            "max_ms": round(max(c.paces[1:]) * 1e3, 4),
            "compile_s": round(c.compile_seconds, 2),
            "MiB": round(c.memory / 2**20, 1),
            "share_of_peak": round(flops / c.pace / peak, 3),
            "over_rule": round(c.pace / reference, 2),
            "device": planning.device_name(),
            "python": platform.python_version(),
        }
        for c in contenders
        if c is not limit
    ]
    best = min(line["ms_a_step"] for line in lines if line["contender"].startswith("uq:"))
    chosen = next((line["ms_a_step"] for line in lines if line["contender"] == f"uq: {plan.strategy}"), None)
    for line in lines:
        line |= {"peak_gflops": round(peak / 1e9, 1), "planned": str(plan.strategy), "plan_s": round(plan.seconds, 1)}
    print(f"\n{name}: {case.size} members, batch {case.batch}, {flops / 1e9:.3g} GFLOP a step. One large product runs")
    print(f"at {peak / 1e9:.0f} GFLOP/s: {flops / peak * 1e3:.3g} ms. Not run for lack of time: {len(skipped)}.\n")
    worth = "which was not run again" if chosen is None else f"{chosen / best:.2f} times the best strategy here"
    print(f"A plan took {plan.seconds:.1f} s and chose: {plan.strategy}; {worth}.\n")
    print("| contender | ms a step (min–max) | ÷ the rule's | share of peak | compile s | MiB |")
    print("|---|---|---|---|---|---|")
    for line in sorted(lines, key=lambda line: line["ms_a_step"]):
        spread = f"{line['ms_a_step']:.3g} ({line['min_ms']:.3g}–{line['max_ms']:.3g})"
        cells = (line["contender"], spread, line["over_rule"], line["share_of_peak"], line["compile_s"], line["MiB"])
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    return lines


PLAIN = [("vmap", True), ("vmap", False), ("map", False), ("unrolled", False)]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--seconds", type=float, default=60, help="after which no more contenders are built")
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="JSON lines; default results/strategies-DEVICE.jsonl")
    args = parser.parse_args()
    kind = jax.devices()[0].device_kind.lower().replace(" ", "-")
    out = args.out or HERE / "results" / f"strategies-{kind}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    kept = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
    for name in args.networks:
        kept = [line for line in kept if line["network"] != name] + compare(name, args.seconds, args.passes)
        out.write_text("".join(json.dumps(line) + "\n" for line in kept))


if __name__ == "__main__":
    main()
