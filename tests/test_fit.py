"""`fit`: the same members whatever K, nothing recompiled, nothing lost."""

from __future__ import annotations

import io
import signal
import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import uq
from uq import _preparing
from uq._setup import default_epochs
from uq.progress import Progress

from .nets import OneFlag, TwoFlags, mlp, nnx_net, regression

X, Y = regression(60)
QUICK = {"epochs": 3, "batch_size": 20}


def same(a: Any, b: Any) -> None:
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, two in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert np.array_equal(one, two)


def members(size: int = 3, **settings: Any) -> uq.Method:
    return uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), optax.sgd(1e-2), size=size, **settings)


@pytest.fixture(scope="module")
def three() -> uq.Posterior:
    _preparing._PROGRAMS.clear()  # other tests of this process may have compiled the same program
    return uq.fit(members(), (X, Y), key=0, **QUICK)


# The same members, the same program


@pytest.mark.parametrize("width, rows", [(2, 120), (8, 60), (50, 200)])
def test_a_member_is_the_same_bits_whatever_the_width_and_k(width: int, rows: int) -> None:
    rng = np.random.default_rng(width)
    x = rng.normal(size=(rows, 3))
    y = np.sin(x[:, 0])
    net = nn.Sequential([nn.Dense(width), nn.relu, nn.Dense(2)])
    few, many = (
        uq.fit(uq.deep_ensemble(net, uq.likelihoods.Gaussian(), size=k), (x, y), key=0, epochs=4) for k in (4, 16)
    )
    for a, b in zip(jax.tree.leaves(few.state), jax.tree.leaves(many.state), strict=True):
        assert np.array_equal(a[3], b[3])


def test_member_three_of_four_is_member_three_of_sixteen() -> None:
    few, many = (
        uq.fit(uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), size=size), (X, Y), key=1, **QUICK)
        for size in (4, 16)
    )
    for leaf, other in zip(jax.tree.leaves(few.state), jax.tree.leaves(many.state), strict=True):
        assert np.array_equal(leaf[3], other[3])
        assert np.array_equal(leaf, other[:4])
    assert np.array_equal(few.history.loss, many.history.loss[:, :4])
    assert np.array_equal(few.history.held_out_loss, many.history.held_out_loss[:, :4])
    np.testing.assert_allclose(few.predict(X).outputs[3], many.predict(X).outputs[3], rtol=1e-6, atol=1e-6)


def test_nothing_recompiles_for_new_seeds_settings_objects_or_lengths(three: uq.Posterior) -> None:
    assert three.history.compile_seconds > 0
    again = uq.fit(members(), (X, Y), key=0, **QUICK)
    assert again.history.compile_seconds == 0.0
    same(again.state, three.state)
    other = uq.fit(members(), (2 * X + 1, Y - 3e4), key=7, epochs=5, batch_size=20)
    assert other.history.compile_seconds == 0.0
    assert other.history.loss.shape == (5, 3)
    assert not np.array_equal(
        other.state.variables.params["layers_0"]["kernel"], three.state.variables.params["layers_0"]["kernel"]
    )
    changed = uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), optax.sgd(2e-2), size=3)
    assert uq.fit(changed, (X, Y), key=0, epochs=1, batch_size=20).history.compile_seconds > 0


def test_old_and_new_keys_agree(three: uq.Posterior) -> None:
    for key in (np.int64(0), jax.random.key(0), jax.random.PRNGKey(0)):
        same(uq.fit(members(), (X, Y), key=key, **QUICK).state, three.state)


def test_looped_members_are_the_same_after_an_epoch(three: uq.Posterior) -> None:
    looped = uq.fit(members(mapping=uq.execution.looped), (X, Y), key=0, **QUICK)
    for one, two in zip(jax.tree.leaves(looped.state), jax.tree.leaves(three.state), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


def test_history_tells_what_happened(three: uq.Posterior) -> None:
    history = three.history
    assert history.loss.shape == history.held_out_loss.shape == (3, 3)
    assert np.isfinite(history.loss).all() and np.isfinite(history.held_out_loss).all()
    assert history.seconds >= history.run_seconds > 0
    assert not history.interrupted and history.diverged.size == 0
    np.testing.assert_allclose(three.weight, 1 / 3, rtol=1e-6)


def test_one_network_has_no_member_axis() -> None:
    one = uq.fit(uq.methods.map_estimate(mlp(), uq.likelihoods.Gaussian(), optax.sgd(1e-2)), (X, Y), key=0, **QUICK)
    assert one.state.variables.params["layers_0"]["kernel"].shape == (3, 6)
    assert one.size == 1
    assert one.predict(X).num_members == 1
    many = uq.fit(members(), (X, Y), key=0, **QUICK)
    np.testing.assert_allclose(one.predict(X).outputs[0], many.predict(X).outputs[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "batch", "want"), [(1000, 100, 400), (100, 100, 400), (100_000, 100, 40), (4000, 100, 200)]
)
def test_default_epochs(rows: int, batch: int, want: int) -> None:
    assert default_epochs(rows, batch) == want


def test_settings_of_the_callers_thread_hold() -> None:
    with jax.enable_x64(True):
        net = nn.Dense(2, param_dtype=jnp.float64)
        posterior = uq.fit(
            uq.deep_ensemble(net, uq.likelihoods.Gaussian(), optax.sgd(1e-2), size=2),
            (X.astype(np.float64), Y),
            key=0,
            **QUICK,
        )
        assert posterior.state.variables.params["kernel"].dtype == jnp.float64
        assert posterior.predict(X.astype(np.float64)).mean.dtype == jnp.float64


# Units


def test_targets_and_inputs_are_standardised_and_undone() -> None:
    train = uq.fit(members(), (X, Y), key=0, **QUICK)
    pred = train.predict(X)
    assert abs(float(pred.mean.mean()) - 1e4) < 300
    assert 10 < float(pred.stddev.mean()) < 1000
    mean, scale = X.astype(np.float64).mean(0), X.astype(np.float64).std(0)
    hand = ((X - mean) / scale).astype(np.float32)
    z = (Y - Y.mean()) / Y.std()
    by_hand = uq.fit(members(), (hand, z), key=0, standardize_inputs=False, standardize_targets=False, **QUICK)
    assert by_hand.inputs is None and by_hand.likelihood == uq.likelihoods.Gaussian()
    assert by_hand.history.compile_seconds == 0.0
    for one, two in zip(jax.tree.leaves(by_hand.state), jax.tree.leaves(train.state), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pred.mean, Y.mean() + Y.std() * np.asarray(by_hand.predict(hand).mean), rtol=1e-5)
    np.testing.assert_allclose(pred.stddev, Y.std() * np.asarray(by_hand.predict(hand).stddev), rtol=1e-4)
    np.testing.assert_allclose(
        pred.log_prob(Y),
        np.asarray(by_hand.predict(hand).log_prob(z)) - np.log(Y.std()),
        rtol=1e-3,
        atol=1e-4,
    )


def test_a_change_of_units_changes_nothing_else(three: uq.Posterior) -> None:
    x = (X.astype(np.float64) * 100 - 7).astype(np.float64)
    moved = uq.fit(members(), (x, Y / 1000 + 5), key=0, **QUICK)
    np.testing.assert_allclose(moved.predict(x).mean, np.asarray(three.predict(X).mean) / 1000 + 5, rtol=1e-4)


def test_given_networks_are_not_standardised_unless_asked(three: uq.Posterior) -> None:
    start = three.state.variables
    more = uq.fit(members(), (X, Y / 1e4), key=0, start=start, **QUICK)
    assert more.inputs is None and more.likelihood == uq.likelihoods.Gaussian()
    asked = uq.fit(members(), (X, Y), key=0, start=start, standardize_inputs=True, standardize_targets=True, **QUICK)
    assert asked.inputs is not None
    still = uq.fit(
        uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), optax.sgd(0.0), size=3),
        (X, Y),
        key=0,
        start=start.params,
        **QUICK,
    )
    same(still.state.variables.params, start.params)


# Weights


def test_only_ratios_of_weights_matter() -> None:
    weight = np.linspace(0, 2, 60)
    one = uq.fit(members(), (X, Y), key=0, weight=weight, **QUICK)
    two = uq.fit(members(), (X, Y), key=0, weight=8 * weight, **QUICK)
    same(one.state, two.state)
    flat = uq.fit(members(), (X, Y), key=0, weight=np.full(60, 3.0), **QUICK)
    same(flat.state, uq.fit(members(), (X, Y), key=0, **QUICK).state)
    assert not np.array_equal(one.history.loss, flat.history.loss)


def test_rows_of_weight_zero_do_not_matter() -> None:
    weight = np.ones(60)
    weight[:20] = 0
    absurd = np.where(weight == 0, -1e6, Y)
    far = np.where(weight[:, None] == 0, np.float32(1e3), X)
    settings = {"weight": weight, **QUICK}
    one = uq.fit(members(), (X, Y), key=0, **settings)
    two = uq.fit(members(), (far, absurd), key=0, **settings)
    same(one.state, two.state)
    assert np.array_equal(one.predict(X).mean, two.predict(X).mean)
    assert np.array_equal(one.history.loss, two.history.loss)
    assert np.array_equal(one.history.held_out_loss, two.history.held_out_loss, equal_nan=True)


# Held-out rows


def losses_of(posterior: uq.Posterior, x: Any, y: Any) -> np.ndarray:
    """Each member's mean NLL on standardised targets, from predictions in the user's units."""
    scale = float(posterior.likelihood.scale)
    return np.array(
        [-float(posterior.take([k]).predict(x).log_prob(y).mean()) - np.log(scale) for k in range(posterior.size)]
    )


def test_the_weights_kept_are_those_of_the_best_epoch() -> None:
    x, y = regression(30, seed=5)
    method = uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), optax.sgd(0.3), size=3)
    posterior = uq.fit(method, (X, Y), key=0, validation=(x, y), epochs=12, batch_size=20)
    history = posterior.history
    np.testing.assert_allclose(losses_of(posterior, x, y), history.held_out_loss.min(0), rtol=1e-3, atol=1e-4)
    assert np.array_equal(history.best_epoch, history.held_out_loss.argmin(0))
    np.testing.assert_allclose(posterior.inputs.mean, X.astype(np.float64).mean(0))  # of the training rows alone


def test_patience_stops_members_one_by_one() -> None:
    method = uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), optax.sgd(0.3), size=3)
    x, y = regression(30, seed=5)
    long = uq.fit(method, (X, Y), key=0, validation=(x, y), epochs=12, batch_size=20)
    short = uq.fit(method, (X, Y), key=0, validation=(x, y), epochs=12, batch_size=20, patience=2)
    assert short.history.compile_seconds == 0.0
    want = long.history.held_out_loss
    for k in range(3):
        best, stop = 0, 12
        for epoch in range(12):
            if want[epoch, k] < want[best, k]:
                best = epoch
            if epoch - best >= 2:
                stop = epoch + 1
                break
        assert short.history.best_epoch[k] == best
        seen = short.history.held_out_loss[: min(stop, len(short.history.held_out_loss)), k]
        assert np.array_equal(seen, want[: len(seen), k])


def test_a_share_is_left_out_by_each_member_for_itself() -> None:
    from uq import holdout

    rows = holdout.fraction((1, 2), 3, 60, 0.1)
    assert rows.train.shape == (3, 54) and rows.held_out.shape == (3, 6)
    for k in range(3):
        assert sorted([*rows.train[k], *rows.held_out[k]]) == list(range(60))
    assert not np.array_equal(rows.held_out[0], rows.held_out[1])
    assert np.array_equal(holdout.fraction((1, 2), 9, 60, 0.1).held_out[:3], rows.held_out)
    none = uq.fit(members(), (X, Y), key=0, validation=0, **QUICK)
    assert np.isnan(none.history.held_out_loss).all()
    assert none.history.best_epoch.tolist() == [-1, -1, -1]


def test_an_epoch_sees_every_row_once() -> None:
    from uq import holdout

    rows = holdout.fraction((1, 2), 2, 60, 0.1)
    orders = list(holdout.epoch_orders((1, 2), rows, 3, 18, range(2), 2))
    for index, keys in orders:
        assert index.shape == (2, 3, 18) and keys.shape == (2, 3, 2) and keys.dtype == np.uint32
        for k in range(2):
            assert np.array_equal(np.sort(index[k].reshape(-1)), rows.train[k])
    assert not np.array_equal(orders[0][0], orders[1][0])
    assert not np.array_equal(orders[0][0][0], orders[0][0][1])


# Sweeps and divergence


def sweep(rates: Any, **settings: Any) -> uq.Method:
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=1e-2)
    return uq.deep_ensemble(
        mlp(), uq.likelihoods.Gaussian(), optimizer, size=3, hyperparams={"learning_rate": rates}, **settings
    )


def test_a_member_that_diverges_is_masked_and_named() -> None:
    calm = uq.fit(sweep([1e-2, 1e-2, 2e-2]), (X, Y), key=0, **QUICK)
    with pytest.warns(uq.UQWarning, match=r"Member 1 of 3 diverged .* has weight 0; the others are untouched"):
        wild = uq.fit(sweep([1e-2, np.inf, 2e-2]), (X, Y), key=0, **QUICK)
    assert wild.history.compile_seconds == 0.0
    assert wild.history.diverged.tolist() == [1]
    assert wild.weight.tolist() == [0.5, 0.0, 0.5]
    for leaf, other in zip(jax.tree.leaves(wild.state), jax.tree.leaves(calm.state), strict=True):
        assert np.array_equal(leaf[0], other[0]) and np.array_equal(leaf[2], other[2])
    pred, rest = wild.predict(X), wild.take([0, 2]).predict(X)
    assert np.isfinite(pred.mean).all() and np.isfinite(pred.variance).all()
    np.testing.assert_allclose(pred.mean, rest.mean, rtol=1e-6)
    np.testing.assert_allclose(pred.log_prob(Y), rest.log_prob(Y), rtol=1e-4, atol=1e-5)


def test_when_all_diverge_it_says_so() -> None:
    with pytest.warns(uq.UQWarning, match=r"Members 0, 1, 2 of 3 diverged .* there is nothing left to predict with"):
        lost = uq.fit(sweep([np.inf, np.inf, np.inf]), (X, Y), key=0, **QUICK)
    with pytest.raises(uq.InputError, match="There is nothing to predict with: every member has weight 0"):
        lost.predict(X)


def test_values_may_come_inside_the_optimizer() -> None:
    rates = jnp.array([1e-2, 0.0, 2e-2])
    swept = uq.fit(sweep(rates), (X, Y), key=0, **QUICK)
    inside = optax.inject_hyperparams(optax.sgd)(learning_rate=rates)
    method = uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), inside, size=3)
    same(uq.fit(method, (X, Y), key=0, **QUICK).state, swept.state)
    z = uq.batched_init(mlp(), 0, np.zeros((1, 3), np.float32), 3)
    kept = swept.state.variables.params["layers_0"]["kernel"][1]  # its rate is 0: the initial weights
    assert np.array_equal(kept, z.params["layers_0"]["kernel"][1])
    winner = swept.best(swept.history.held_out_loss.min(0))
    assert winner.size == 1
    want = int(np.nanargmin(swept.history.held_out_loss.min(0)))
    assert np.array_equal(winner.predict(X).outputs[0], swept.predict(X).outputs[want])


def test_sweeps_that_do_not_fit() -> None:
    with pytest.raises(uq.InputError, match=r"Hyperparameter 'learning_rate' expected one value for each of the 3"):
        sweep([1e-2, 1e-3])
    method = uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), size=2, hyperparams={"learning_rate": [1.0, 2.0]})
    with pytest.raises(
        uq.InputError, match=r"'learning_rate' is not one that the optimizer injects \(it injects none\)"
    ):
        uq.fit(method, (X, Y), key=0, **QUICK)
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=1e-2)
    method = uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), optimizer, size=2, hyperparams={"decay": [1.0, 2.0]})
    with pytest.raises(uq.InputError, match=r"'decay' is not one .* \(it injects learning_rate\)"):
        uq.fit(method, (X, Y), key=0, **QUICK)


# Networks with state, and inputs in parts


@pytest.mark.parametrize("adapter", ["one flag", "two flags", "nnx"])
def test_batch_norm_and_dropout(adapter: str) -> None:
    net = {"one flag": OneFlag, "two flags": TwoFlags, "nnx": nnx_net}[adapter]()
    method = uq.deep_ensemble(net, uq.likelihoods.Gaussian(), size=2)
    posterior = uq.fit(method, (X, Y), key=0, epochs=20, batch_size=20, validation=0)
    assert posterior.history.loss[-1].mean() < posterior.history.loss[0].mean()
    pred = posterior.predict(X)
    for i in (0, 31, 59):
        one = posterior.predict(X[i : i + 1])
        np.testing.assert_allclose(one.outputs, pred.outputs[:, i : i + 1], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(one.mean, pred.mean[i : i + 1], rtol=1e-6)
    assert np.array_equal(pred.outputs, posterior.predict(X).outputs)
    assert not np.array_equal(pred.outputs[0], pred.outputs[1])
    assert (np.asarray(pred.epistemic) > 0).all()


def test_averages_are_refreshed_before_predicting() -> None:
    method = uq.deep_ensemble(OneFlag(), uq.likelihoods.Gaussian(), optax.sgd(0.0), size=2)
    posterior = uq.fit(method, (X, Y), key=0, epochs=1, batch_size=60, validation=0)
    z = (X.astype(np.float64) - X.astype(np.float64).mean(0)) / X.astype(np.float64).std(0)
    for k in range(2):
        hidden = z @ np.asarray(posterior.state.variables.params["first"]["kernel"][k], np.float64)
        found = posterior.state.variables.state["batch_stats"]["norm"]
        np.testing.assert_allclose(found["mean"][k], hidden.mean(0), atol=1e-4)
        np.testing.assert_allclose(found["var"][k], hidden.var(0), rtol=1e-3)


def test_inputs_in_parts() -> None:
    def init(key: Any, x: Any) -> Any:
        return {"w": 0.1 * jax.random.normal(key, (3, 2)), "v": jnp.zeros((2, 2))}

    def apply(params: Any, x: Any) -> Any:
        return x["a"] @ params["w"] + x["b"][1] @ params["v"]

    parts = {"a": X / 10, "b": (X[:, :1], X[:, 1:] / 10)}
    method = uq.deep_ensemble((init, apply), uq.likelihoods.Gaussian(), optax.sgd(1e-2), size=2)
    posterior = uq.fit(method, (parts, Y), key=0, epochs=2, batch_size=20, validation=(parts, Y))
    assert posterior.inputs is None
    pred = posterior.predict(parts)
    half = posterior.predict(jax.tree.map(lambda leaf: leaf[:7], parts))
    np.testing.assert_allclose(half.outputs, pred.outputs[:, :7], rtol=1e-5, atol=1e-6)


# Ctrl-C, progress, warnings


@pytest.mark.parametrize("after", [1, 4])
def test_ctrl_c_returns_the_posterior_so_far(after: int, monkeypatch: Any, three: uq.Posterior) -> None:
    calls = []

    def press(self: Progress, *args: Any) -> None:
        calls.append(args)
        if len(calls) == after:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(Progress, "advance", press)
    with pytest.warns(uq.UQWarning, match=r"Interrupted after \d+ of 3000 epochs; this is the posterior so far"):
        posterior = uq.fit(members(), (X, Y), key=0, epochs=3000, batch_size=20)
    assert signal.getsignal(signal.SIGINT) is handler
    assert posterior.history.interrupted
    assert 0 < len(posterior.history.loss) < 3000
    assert np.isfinite(posterior.predict(X).mean).all()
    shared = min(3, len(posterior.history.loss))
    assert np.array_equal(posterior.history.loss[:shared], three.history.loss[:shared])


def test_a_second_ctrl_c_raises(monkeypatch: Any) -> None:
    def press(self: Progress, *args: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Progress, "advance", press)
    with warnings.catch_warnings(), pytest.raises(KeyboardInterrupt):
        warnings.simplefilter("ignore", uq.UQWarning)
        if uq.fit(members(), (X, Y), key=0, **QUICK).history.interrupted:
            raise KeyboardInterrupt


def test_fit_runs_outside_the_main_thread(three: uq.Posterior) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        posterior = pool.submit(lambda: uq.fit(members(), (X, Y), key=0, **QUICK)).result()
    same(posterior.state, three.state)


def test_progress_shows_loss_and_time(capsys: Any) -> None:
    uq.fit(members(), (X, Y), key=0, progress=True, **QUICK)
    said = capsys.readouterr().err
    assert "map_estimate × 3" in said and "loss" in said and "step" in said
    uq.fit(members(), (X, Y), key=0, **QUICK)  # not a terminal
    uq.fit(members(), (X, Y), key=0, progress=False, **QUICK)
    assert capsys.readouterr().err == ""


def test_the_bar_on_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    bar = Progress(10, show=None, label="net", stream=stream)
    bar.note("compiling")
    bar.advance(5, 1.25, 3, 3)
    bar.advance(5, 0.5, 2, 3)
    bar.close()
    said = stream.getvalue()
    assert "compiling" in said and "loss 1.25" in said and "loss 0.5, 2/3 members training" in said
    quiet = io.StringIO()
    silent = Progress(10, show=None, label="net", stream=quiet)
    silent.advance(5, 1.0, 1, 1)
    silent.close()
    assert quiet.getvalue() == ""


def test_few_rows_and_one_batch() -> None:
    x, y = X[:3], Y[:3]
    posterior = uq.fit(members(), (x, y), key=0, epochs=2)
    assert posterior.history.loss.shape == (2, 3)
    assert np.isfinite(posterior.predict(x).mean).all()


def test_variational_ensembles_draw_from_each_member() -> None:
    one = uq.methods.mean_field(nn.Dense(2), uq.likelihoods.Gaussian(), num_draws=4)
    posterior = uq.fit(uq.ensemble(one, 2), (X, Y), key=0, **QUICK)
    pred = posterior.predict(X)
    assert pred.num_members == 8
    assert np.array_equal(pred.outputs, posterior.predict(X).outputs)
    assert not np.array_equal(pred.outputs, posterior.predict(X, key=3).outputs)
    assert posterior.predict(X, num_samples=6).num_members == 12
    assert np.isnan(posterior.history.held_out_loss).all()
