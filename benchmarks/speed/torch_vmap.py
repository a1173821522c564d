"""PyTorch with the members vectorised: torch.func.vmap over stacked parameters, one Adam on the stack, one thread."""

import numpy as np
import torch
import torch.nn.functional as F
from common import HIDDEN, Clock, arguments, data, initial_weights, report, scales, score
from torch import nn
from torch.func import functional_call, vmap

torch.set_num_threads(1)
args = arguments()
x, y, x_test, y_test = data(args.rows)
x_mean, x_scale, y_mean, y_scale = scales(x, y)
net = nn.Sequential(nn.Linear(x.shape[1], HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2))


def loss_of_one(params, inputs, targets):
    out = functional_call(net, params, (inputs,))
    variance = F.softplus(out[:, 1]) + 1e-6  # F.gaussian_nll_loss refuses vmap
    return 0.5 * (torch.log(variance) + (targets - out[:, 0]) ** 2 / variance).mean()


def fit(seed):
    torch.manual_seed(seed)
    w1, b1, w2, b2 = (torch.from_numpy(w) for w in initial_weights(args.members, x.shape[1], seed))
    stacked = {"0.weight": w1.transpose(1, 2), "0.bias": b1, "2.weight": w2.transpose(1, 2), "2.bias": b2}
    params = {name: w.contiguous().requires_grad_() for name, w in stacked.items()}
    inputs = torch.from_numpy((x - x_mean) / x_scale)
    targets = torch.from_numpy((y - y_mean) / y_scale)
    optimizer = torch.optim.Adam(params.values(), lr=0.01, fused=True)
    losses = vmap(loss_of_one)
    for _ in range(args.epochs):
        order = torch.stack([torch.randperm(len(inputs)) for _ in range(args.members)])
        for i in range(len(inputs) // args.batch):
            rows = order[:, i * args.batch : (i + 1) * args.batch]
            loss = losses(params, inputs[rows], targets[rows]).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return params


clock = Clock()
params = fit(args.seed)
cold = clock()
clock = Clock()
fit(args.seed + 1)
warm = clock()
with torch.inference_mode():
    z = torch.from_numpy((x_test - x_mean) / x_scale)
    out = vmap(lambda p: functional_call(net, p, (z,)))(params).numpy()
mean = out[..., 0] * y_scale + y_mean
variance = (np.logaddexp(0, out[..., 1]) + 1e-6) * y_scale**2
report("PyTorch vmap", args, cold, warm, score(mean, variance, y_test), versions=f"torch {torch.__version__}")
