"""Time of one training step against the number of members, under the rule's strategy: does a member get cheaper?

python benchmarks/speed/members.py
"""

import argparse
import json
import platform
from pathlib import Path

import jax
from networks import CASES, batch_of
from strategies import ours

import uq
from uq import planning
from uq.execution._operations import operations

HERE = Path(__file__).parent
SIZES = (1, 2, 5, 10, 20, 50, 100, 1000)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["mlp"], help=f"of {', '.join(CASES)}")
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES)
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None, help="JSON lines; default results/members-DEVICE.jsonl")
    args = parser.parse_args()
    kind = jax.devices()[0].device_kind.lower().replace(" ", "-")
    out = args.out or HERE / "results" / f"members-{kind}.jsonl"
    out.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for name in args.networks:
        contenders = []
        for size in args.sizes:
            case = CASES[name]._replace(size=size)
            work = planning.work_on_one_batch(
                uq.methods.map_estimate(case.net, case.likelihood, case.optimizer), batch_of(case), size
            )
            (contender,) = ours(case, [uq.execution.rule(size, work.convolutions, operations=operations(work.update))])
            contender.once(0.1)
            contenders.append((size, contender))
        for _ in range(args.passes):
            for _, contender in contenders:
                contender.once(0.2)
        print(f"\n{name}, batch {CASES[name].batch}, {planning.device_name()}\n")
        print(
            "| K | strategy | ms a step (min–max) | µs a step and member | compile s | MiB |\n|---|---|---|---|---|---|"
        )
        for size, c in contenders:
            line = {
                "network": name,
                "members": size,
                "batch": CASES[name].batch,
                "strategy": c.name.removeprefix("uq: "),
                "ms_a_step": round(c.pace * 1e3, 4),
                "min_ms": round(min(c.paces[1:]) * 1e3, 4),
                "max_ms": round(max(c.paces[1:]) * 1e3, 4),
                "compile_s": round(c.compile_seconds, 2),
                "MiB": round(c.memory / 2**20, 1),
                "device": planning.device_name(),
                "python": platform.python_version(),
            }
            lines.append(line)
            spread = f"{line['ms_a_step']:.3g} ({line['min_ms']:.3g}–{line['max_ms']:.3g})"
            each = f"{c.pace * 1e6 / size:.3g}"
            print(
                f"| {size} | {line['strategy']} | {spread} | {each} | {line['compile_s']} | {line['MiB']} |", flush=True
            )
        out.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
