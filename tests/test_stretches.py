"""How many steps a call takes: in blocks on accelerators, in pieces of half a second, until a member diverges."""

import inspect
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import uq
from uq import _programs, _setup, planning, train
from uq.execution import Strategy, vmapped

RNG = np.random.default_rng(0)
X = RNG.normal(3, 2, (80, 3)).astype(np.float32)
Y = (100 + 5 * np.sin(X[:, 0])).astype(np.float32)
NET = nn.Sequential([nn.Dense(6), nn.tanh, nn.Dense(2)])


def fitted(size=3, **settings):
    method = uq.deep_ensemble(NET, uq.likelihoods.Gaussian(), size=size)
    settings = {"epochs": 5, "batch_size": 6, "validation": 0.1, "strategy": Strategy(vmapped)} | settings
    return uq.fit(method, (X, Y), key=0, **settings)  # 72 rows: 12 steps an epoch


@pytest.mark.parametrize(("block", "size"), [(2, 4), (4, 5), (12, 6)])
def test_blocks_of_steps_are_the_same_steps(monkeypatch, block, size):
    plain = fitted()
    monkeypatch.setattr(_programs, "_block", lambda steps: block)
    together = fitted(size=size)  # of a size of its own: a program that was compiled is kept
    assert together.history.compile_seconds > 0
    for a, b in zip(*(jax.tree.leaves(each.take([0, 1, 2]).state) for each in (plain, together)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(plain.history.loss, together.history.loss[:, :3], rtol=1e-4)


def test_blocks_divide_an_epoch_and_are_for_accelerators(monkeypatch):
    assert _programs._block(12) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = {steps: _programs._block(steps) for steps in range(1, 200)}
    assert all(steps % block == 0 and 1 <= block <= 10 for steps, block in found.items())
    assert (found[9], found[10], found[12], found[80], found[101]) == (9, 10, 6, 10, 1)


@pytest.mark.parametrize(("steps", "block"), [(12, 1), (12, 4), (100, 10), (7, 7), (1, 1)])
@pytest.mark.parametrize("pace", [0.0, 1e-6, 0.02, 0.3, 9.0])
def test_pieces_cover_an_epoch_in_whole_blocks(steps, block, pace):
    pieces = train._pieces(steps, 1, pace, block)
    assert pieces[0][0] == 0 and pieces[-1][1] == steps
    assert all(high == low for (_, high), (low, _) in itertools.pairwise(pieces))
    assert all(low % block == 0 and high % block == 0 and high > low for low, high in pieces)
    longest = max(high - low for low, high in pieces)
    assert longest == block or pace == 0 or longest * pace <= 0.5
    assert train._pieces(steps, 3, pace, block) == [(0, steps)]


@pytest.mark.parametrize(("drawn", "want"), [(0, [1, 1, 4, 16, 64, 14]), (40, [1, 1, 38, 60])])
def test_calls_grow_at_most_fourfold_while_orders_are_drawn(monkeypatch, drawn, want):
    seen = []
    pair = (np.zeros((2, 3, 4), np.int32), np.zeros((2, 3, 2), np.uint32))
    monkeypatch.setattr(train, "orders_of", lambda rows, settings, key, epochs: [pair] * len(epochs))
    settings = _setup.Settings(size=2, steps=3, batch=4, epochs=100, call_epochs=64)
    paces = iter([0.0, 0.0, *[1e-6] * 9])  # the second call is made up before the first has run
    for first, index, keys in train._calls([pair] * drawn, None, settings, None, lambda: next(paces, 1e-6)):
        assert len(index) == len(keys) and first == sum(seen)
        seen.append(len(index))
    assert seen == want and sum(seen) == 100


def test_batches_that_are_sent_ahead_are_the_same_batches(monkeypatch):
    plain = fitted(size=7)
    real = jax.default_backend
    inside = []

    def backend():
        """An accelerator for `take_stretch` alone."""
        caller = inspect.stack()[1].function
        inside.append(caller)
        return "gpu" if caller == "take_stretch" else real()

    monkeypatch.setattr(jax, "default_backend", backend)
    sent = fitted(size=7)
    assert "take_stretch" in inside
    for a, b in zip(jax.tree.leaves(plain.state), jax.tree.leaves(sent.state), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_plan_measures_whole_blocks(monkeypatch):
    monkeypatch.setattr(_programs, "_block", lambda steps: 2 if steps % 2 == 0 else 1)
    method = uq.methods.map_estimate(NET, uq.likelihoods.Gaussian())
    work = planning.work_on_one_batch(method, (X, Y), 2)
    program = work.build(Strategy(vmapped))
    assert program.block == 2 and work.settings.steps % 2 == 0
    assert work.step_seconds(program, np.inf) > 0
    assert work.build(Strategy(vmapped, loop=False)).block == 1


class SquareRoot(nn.Module):
    """Finite outputs whose gradient is infinite where x[0] · w is 0."""

    @nn.compact
    def __call__(self, x):
        w = self.param("w", nn.initializers.zeros, (2,))
        return jnp.stack([jnp.sqrt(jnp.abs(x[:, 0] * w[0])), x[:, 1] * w[1]], -1)


@pytest.mark.parametrize(
    "optimizer", [optax.sgd(1e-2), optax.sgd(1e-2, momentum=0.9), None], ids=["sgd", "momentum", "one cycle"]
)
def test_gradients_that_are_not_finite_at_a_finite_loss_are_found(optimizer):
    method = uq.deep_ensemble(SquareRoot(), uq.likelihoods.Gaussian(), optimizer, size=2)
    with pytest.warns(uq.UQWarning, match="Members 0, 1 of 2 diverged"):
        lost = uq.fit(method, (X, Y), key=0, epochs=1, batch_size=80, validation=0)  # a single step
    assert np.isfinite(lost.history.loss).all()
    assert lost.history.diverged.tolist() == [0, 1]


def test_an_optimizer_that_leaves_out_such_steps_is_left_to_it():
    guarded = optax.apply_if_finite(optax.sgd(1e-2), 1000)
    method = uq.deep_ensemble(SquareRoot(), uq.likelihoods.Gaussian(), guarded, size=2)
    kept = uq.fit(method, (X, Y), key=0, epochs=2, validation=0)
    assert kept.history.diverged.tolist() == []
