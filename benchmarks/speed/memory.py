"""Memory of one training step against the number of members and the size of chunks, as the compiler says.

python benchmarks/speed/memory.py
"""

import argparse

from networks import CASES
from strategies import work_of

from uq.execution import Strategy, chunked, looped, vmapped


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?", default="cnn", help=f"of {', '.join(CASES)}")
    parser.add_argument("--sizes", type=int, nargs="*", default=(8, 16, 32))
    args = parser.parse_args()
    mappings = (looped, chunked(2), chunked(4), chunked(8), vmapped)
    print(f"{args.network}: MiB beyond weights, optimizer and data\n")
    print("| K | " + " | ".join(map(str, mappings)) + " |\n|---|" + "---|" * len(mappings))
    for size in args.sizes:
        work = work_of(CASES[args.network]._replace(size=size))
        cells = [f"{work.build(Strategy(each, lowering=True)).temporary / 2**20:.0f}" for each in mappings]
        print(f"| {size} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
