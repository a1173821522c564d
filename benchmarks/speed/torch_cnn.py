"""One training step of ten small CNNs in PyTorch, one network after another: the network of `strategies.py cnn`.

python benchmarks/speed/torch_cnn.py        (in an environment that has PyTorch)
"""

import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F
from torch import nn

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--members", type=int, default=10)
parser.add_argument("--batch", type=int, default=128)
parser.add_argument("--passes", type=int, default=7)
args = parser.parse_args()


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.dense, self.head = nn.Linear(32 * 7 * 7, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.head(F.relu(self.dense(x.flatten(1))))


x, y = torch.randn(args.batch, 1, 28, 28), torch.randint(0, 10, (args.batch,))
for threads in (1, 2):
    torch.set_num_threads(threads)
    nets = [CNN() for _ in range(args.members)]
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3, fused=True) for net in nets]

    def step(nets=nets, optimizers=optimizers):
        for net, optimizer in zip(nets, optimizers, strict=True):
            loss = F.cross_entropy(net(x), y)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    step()
    paces = []
    for _ in range(args.passes):
        then = time.perf_counter()
        for _ in range(3):
            step()
        paces.append((time.perf_counter() - then) / 3)
    line = {"network": "cnn", "members": args.members, "batch": args.batch, "threads": threads}
    line |= {"contender": f"PyTorch, one network after another, {threads} threads"}
    line |= {"ms_a_step": round(statistics.median(paces) * 1e3, 2), "version": torch.__version__}
    print(json.dumps(line), flush=True)
