"""Plans: measured, explained, kept; and every strategy trains the same networks."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest

import uq
from uq import planning
from uq.execution import Strategy, chunked, looped, unrolled, vmapped

from .nets import OneFlag, mlp, regression

X, Y = regression(60)
LIKELIHOOD = uq.likelihoods.Gaussian()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UQ_CACHE_DIR", str(tmp_path))
    return tmp_path


class Small(nn.Module):
    """A convolution, for images of 6 × 6."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.Conv(3, (3, 3), strides=2)(x))
        return nn.Dense(3)(x.reshape(len(x), -1))


def fitted(strategy: Any, net: Any = None, size: int = 5, data: Any = (X, Y), **more: Any) -> uq.Posterior:
    method = uq.deep_ensemble(mlp() if net is None else net, LIKELIHOOD, optax.sgd(1e-2), size=size)
    return uq.fit(method, data, key=0, epochs=2, batch_size=20, strategy=strategy, **more)


def weights(posterior: uq.Posterior) -> list[Any]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(posterior.state)]


STRATEGIES = [
    Strategy(looped),
    Strategy(unrolled),
    Strategy(chunked(2)),
    Strategy(vmapped, loop=False),
    Strategy(vmapped, threads=2),
    Strategy(looped, loop=False, threads=2),
    Strategy(vmapped, threads=5),
]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_strategies_train_the_same_networks(strategy: Strategy) -> None:
    # A thread with one member computes other products than with several; BatchNorm enlarges what they differ by: below.
    for net in (None,) if strategy.threads == 5 else (None, OneFlag()):
        want, got = fitted(Strategy(), net), fitted(strategy, net)
        for a, b in zip(weights(got), weights(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(got.history.loss, want.history.loss, rtol=1e-5)
        assert got.history.strategy == f"{strategy} (given)"


@pytest.mark.parametrize("strategy", STRATEGIES, ids=str)
def test_strategies_differ_by_rounding_alone(strategy: Strategy) -> None:
    data = X.astype(np.float64), Y.astype(np.float64)
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        want, got = (fitted(how, OneFlag(), data=data) for how in (Strategy(), strategy))
    for a, b in zip(weights(got), weights(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.history.loss, want.history.loss, rtol=1e-9)


def test_threads_of_two_members_or_more_give_the_same_bits() -> None:
    for size in (4, 5, 7):
        for a, b in zip(
            weights(fitted(Strategy(threads=2), size=size)), weights(fitted(Strategy(), size=size)), strict=True
        ):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("strategy", [Strategy(vmapped, True), Strategy(looped, True, threads=2)], ids=str)
def test_lowered_convolutions_train_the_same_networks(strategy: Strategy) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6, 6, 1)).astype(np.float32), rng.integers(0, 3, 40)
    method = uq.deep_ensemble(Small(), uq.likelihoods.Categorical(3), optax.sgd(0.1), size=4)
    want, got = (uq.fit(method, (x, y), key=0, epochs=2, batch_size=20, strategy=how) for how in (Strategy(), strategy))
    for a, b in zip(weights(got), weights(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert uq.fit(method, (x, y), key=0, epochs=1).history.strategy.endswith("convolutions as products (rule)")


def test_a_plan_explains_itself_and_is_kept(own_folder: Path) -> None:
    found = uq.plan(mlp(), LIKELIHOOD, (X[:20], Y[:20]), 3, seconds=20)
    assert found.strategy in [each.strategy for each in found.candidates]
    measured = [each for each in found.candidates if each.seconds is not None]
    assert len(measured) >= 2 and all(each.memory > 0 and each.compile_seconds > 0 for each in measured)
    assert min(measured, key=lambda each: each.seconds).strategy == found.strategy
    text = str(found)
    assert "the fastest: chosen" in text and "times as long" in text and "3 members on" in text
    (file,) = (own_folder / "plans").iterdir()
    assert json.loads(file.read_text())["mapping"] == repr(found.strategy.mapping)
    again = uq.plan(mlp(), LIKELIHOOD, (X[20:40], Y[20:40]), 3, seconds=20)
    assert again.strategy == found.strategy and again.seconds == 0.0 and "kept" in str(again)
    file.write_text("cut sho")
    assert uq.plan(mlp(), LIKELIHOOD, (X[:20], Y[:20]), 3, seconds=1).seconds > 0
    posterior = fitted(found, size=3)
    assert posterior.history.strategy == f"{found.strategy} (planned)"


def test_another_network_or_size_is_another_plan(own_folder: Path) -> None:
    for net, size in ((mlp(), 2), (mlp(hidden=7), 2), (mlp(), 3)):
        uq.plan(net, LIKELIHOOD, (X[:20], Y[:20]), size, seconds=0.1)
    assert len(list((own_folder / "plans").iterdir())) == 3


def test_long_runs_are_planned_and_short_ones_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fitted(None).history.strategy.endswith("(rule)")
    monkeypatch.setattr(planning, "_WORTH", 0.0)
    monkeypatch.setattr(planning, "_SECONDS", 0.5)
    assert fitted(None).history.strategy.endswith("(planned)")
    assert fitted("rule").history.strategy.endswith("(rule)")


def test_what_does_not_fit_is_left_out_or_refused() -> None:
    batch = (X[:20], Y[:20])
    work = planning.work_on_one_batch(uq.methods.map_estimate(mlp(), LIKELIHOOD), batch, 8)
    one_by_one, at_once = (work.build(Strategy(how)).memory for how in (looped, vmapped))
    assert one_by_one < at_once
    tight = planning._measured(work, [Strategy(vmapped), Strategy(looped)], at_once - 1, math.inf)
    assert tight[0].why.startswith("left out: needs") and tight[0].seconds is None and tight[0].memory == at_once
    assert tight[1].seconds > 0
    with pytest.raises(uq.InputError, match=r"needs at least 0 MiB, but there are 0 MiB\. Take smaller batches"):
        uq.plan(mlp(), LIKELIHOOD, batch, 8, seconds=0, memory=10, cache=False)


def test_wrong_strategies_and_networks_get_a_sentence() -> None:
    with pytest.raises(uq.InputError, match=r'`strategy` expected None, "rule", a Plan'):
        fitted("fastest")
    with pytest.raises(uq.InputError, match="a method for one member"):
        uq.plan(uq.deep_ensemble(mlp(), LIKELIHOOD, size=2), None, (X, Y), 2)

    class Peeks(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            if x.sum() > 0:
                return nn.Dense(2)(x)
            return nn.Dense(2)(-x)

    with pytest.raises(uq.InputError, match=r"cannot be compiled: test_planning\.py, line \d+, asks for numbers"):
        uq.plan(Peeks(), LIKELIHOOD, (X, Y), 2)


def test_nothing_compiles_again_for_new_seeds_splits_and_epochs() -> None:
    strategy = Strategy(vmapped, threads=2)
    fitted(strategy)
    method = uq.deep_ensemble(mlp(), LIKELIHOOD, optax.sgd(1e-2), size=5)
    for seed, epochs in ((1, 2), (2, 5)):
        again = uq.fit(method, (X + seed, Y), key=seed, epochs=epochs, batch_size=20, strategy=strategy)
        assert again.history.compile_seconds == 0.0


def test_shared_batches_leave_out_the_same_rows_and_members_differ() -> None:
    posterior = fitted(None, shared_batches=True)
    few = fitted(None, shared_batches=True, size=4)
    for a, b in zip(weights(posterior), weights(few), strict=True):
        assert not np.array_equal(a[0], a[1])
        np.testing.assert_allclose(a[3], b[3], rtol=2e-5, atol=2e-6)
    own = fitted(None)
    assert not np.array_equal(weights(own)[0][1], weights(posterior)[0][1])


def test_given_weights_are_not_used_up() -> None:
    start = fitted(None).state.variables
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(start)]
    for _ in range(2):
        uq.fit(uq.deep_ensemble(mlp(), LIKELIHOOD, size=5), (X, Y), key=0, epochs=1, start=start)
    for a, b in zip(before, jax.tree.leaves(start), strict=True):
        assert np.array_equal(a, b)


def test_sweeps_are_planned_as_one_member_sees_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_WORTH", 0.0)
    monkeypatch.setattr(planning, "_SECONDS", 0.5)
    inside = optax.inject_hyperparams(optax.sgd)(learning_rate=np.geomspace(1e-4, 1e-2, 5))
    beside = optax.inject_hyperparams(optax.sgd)(learning_rate=1e-3)
    for method in (
        uq.deep_ensemble(mlp(), LIKELIHOOD, inside, size=5),
        uq.deep_ensemble(mlp(), LIKELIHOOD, beside, size=5, hyperparams={"learning_rate": np.geomspace(1e-4, 1e-2, 5)}),
    ):
        posterior = uq.fit(method, (X, Y), key=0, epochs=1, batch_size=20)
        assert posterior.history.strategy.endswith("(planned)")


def test_a_fit_that_cannot_be_planned_follows_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_WORTH", 0.0)
    monkeypatch.setattr(planning, "_SECONDS", 0.5)
    monkeypatch.setattr(planning, "available_memory", lambda: 10.0)
    assert fitted(None).history.strategy.endswith("(rule)")


def test_what_was_asked_with_less_memory_is_not_kept(own_folder: Path) -> None:
    batch = (X[:20], Y[:20])
    uq.plan(mlp(), LIKELIHOOD, batch, 3, seconds=0.5)
    with pytest.raises(uq.InputError, match="Take smaller batches"):
        uq.plan(mlp(), LIKELIHOOD, batch, 3, seconds=0.5, memory=10)
    assert len(list((own_folder / "plans").iterdir())) == 1


def test_a_replaced_update_is_lowered_and_not_lost() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6, 6, 1)).astype(np.float32), rng.integers(0, 3, 40)
    one = uq.methods.map_estimate(Small(), uq.likelihoods.Categorical(3), optax.sgd(0.1))

    def still(key: Any, state: Any, batch: Any) -> Any:
        return state, one.update(key, state, batch)[1]

    posterior = uq.fit(uq.ensemble(one._replace(update=still), 2), (x, y), key=0, epochs=2, validation=0)
    want = uq.batched_init(Small(), 0, x[:1], 2).params
    for a, b in zip(weights(posterior), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
