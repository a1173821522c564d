"""PyTorch as usually written: a Python loop over members, epochs and minibatches, data in memory, one thread."""

import numpy as np
import torch
import torch.nn.functional as F
from common import HIDDEN, Clock, arguments, data, initial_weights, report, scales, score
from torch import nn

torch.set_num_threads(1)
args = arguments()
x, y, x_test, y_test = data(args.rows)
x_mean, x_scale, y_mean, y_scale = scales(x, y)


def network(weights, k):
    w1, b1, w2, b2 = (torch.from_numpy(w[k]) for w in weights)
    net = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))
    with torch.no_grad():
        net[0].weight.copy_(w1.T), net[0].bias.copy_(b1), net[2].weight.copy_(w2.T), net[2].bias.copy_(b2)
    return net


def fit(seed):
    torch.manual_seed(seed)
    weights = initial_weights(args.members, x.shape[1], seed)
    inputs = torch.from_numpy((x - x_mean) / x_scale)
    targets = torch.from_numpy((y - y_mean) / y_scale)
    nets = []
    for k in range(args.members):
        net = network(weights, k)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01, fused=True)
        for _ in range(args.epochs):
            order = torch.randperm(len(inputs))
            for i in range(len(inputs) // args.batch):
                rows = order[i * args.batch : (i + 1) * args.batch]
                out = net(inputs[rows])
                loss = F.gaussian_nll_loss(out[:, 0], targets[rows], F.softplus(out[:, 1]) + 1e-6)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
        nets.append(net)
    return nets


clock = Clock()
nets = fit(args.seed)
cold = clock()
clock = Clock()
fit(args.seed + 1)
warm = clock()
with torch.inference_mode():
    z = torch.from_numpy((x_test - x_mean) / x_scale)
    out = np.stack([net(z).numpy() for net in nets])
mean = out[..., 0] * y_scale + y_mean
variance = (np.logaddexp(0, out[..., 1]) + 1e-6) * y_scale**2
report("PyTorch loop", args, cold, warm, score(mean, variance, y_test), versions=f"torch {torch.__version__}")
