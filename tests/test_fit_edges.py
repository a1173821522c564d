"""Edges of `fit` and of what it returns: each of these was wrong once."""

from __future__ import annotations

import gc
import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import uq

RNG = np.random.default_rng(3)
X = RNG.normal(2.0, 3.0, (60, 3)).astype(np.float32)
Y = (1e3 + 50 * np.sin(X[:, 0])).astype(np.float32)
YES = (X[:, 0] > 2).astype(int)
NET = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])


class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(8)(x)))[:, 0]


class Column(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.relu(nn.Dense(8)(x)))


def ensemble(network=NET, likelihood=None, optimizer=None, size=2, **more):
    return uq.deep_ensemble(network, likelihood or uq.likelihoods.Gaussian(), optimizer, size=size, **more)


def same(a, b):
    return all(jax.tree.leaves(jax.tree.map(lambda p, q: bool(jnp.array_equal(p, q)), a, b)))


def test_one_logit_without_its_axis_is_the_same_network():
    kind = uq.likelihoods.Bernoulli()
    flat = uq.fit(ensemble(Flat(), kind), (X, YES), key=0, epochs=20)
    column = uq.fit(ensemble(Column(), kind), (X, YES), key=0, epochs=20)
    assert np.array_equal(flat.history.loss, column.history.loss)
    np.testing.assert_allclose(flat.predict(X).probs, column.predict(X).probs, rtol=1e-6)


def test_a_single_update_trains():
    posterior = uq.fit(ensemble(), (X, Y), key=0, epochs=1, validation=0)
    fresh = uq.batched_init(NET, 0, X[:1], 2)
    assert not same(posterior.state.variables.params, fresh.params)


def test_rows_of_weight_zero_enter_neither_training_nor_stopping():
    weight = np.zeros(60)
    weight[:30] = 2.0
    for method in (ensemble(), uq.ensemble(uq.methods.mean_field(NET, uq.likelihoods.Gaussian()), 2)):
        whole = uq.fit(method, (X, Y), key=0, epochs=3, weight=weight, validation=0.2)
        part = uq.fit(method, (X[:30], Y[:30]), key=0, epochs=3, validation=0.2)
        np.testing.assert_allclose(whole.history.loss, part.history.loss, rtol=1e-5)
        np.testing.assert_allclose(whole.history.held_out_loss, part.history.held_out_loss, rtol=1e-5)
    with pytest.raises(uq.InputError, match="two examples of positive weight"):
        uq.fit(ensemble(), (X, Y), key=0, weight=np.eye(60)[0])


def test_a_last_update_that_overflows_is_told():
    with pytest.warns(uq.UQWarning, match="diverged"):
        posterior = uq.fit(ensemble(optimizer=optax.sgd(1e38), size=8), (X, Y), key=0, epochs=1, validation=0)
    finite = [np.isfinite(leaf.reshape(8, -1)).all(1) for leaf in jax.tree.leaves(posterior.state.variables.params)]
    # A member that overflowed stands at its initial weights, without a say.
    assert np.all(finite) and 0 < np.sum(posterior.weight == 0) == len(posterior.history.diverged)


def test_losses_of_stopped_members_are_not_numbers():
    posterior = uq.fit(ensemble(size=4), (X, Y), key=0, epochs=60, patience=2)
    loss, held = posterior.history.loss, posterior.history.held_out_loss
    assert np.isfinite(loss).any(1).all()  # no epoch after all had stopped
    for k, best in enumerate(posterior.history.best_epoch):
        assert np.nanargmin(held[:, k]) == best
        assert np.isnan(loss[min(best + 3, len(loss)) :, k]).all()


def test_a_network_that_was_not_flattened_is_refused():
    x = np.zeros((60, 54, 3), np.float32)
    with pytest.raises(uq.InputError, match=r"outputs of shape \('N', 54, 2\) for targets of shape \('N',\).*Flatten"):
        uq.fit(ensemble(), (x, Y), key=0, epochs=1)


def test_a_member_taken_out_draws_what_it_drew():
    method = uq.ensemble(uq.methods.mean_field(NET, uq.likelihoods.Gaussian()), 4)
    four = uq.fit(method, (X, Y), key=0, epochs=2)
    one = four.take([3])
    np.testing.assert_allclose(one.predict(X).outputs, four.predict(X).outputs[96:], rtol=1e-5, atol=1e-5)
    assert one.history.loss.shape == (2, 1) and one.sample().origin.tolist() == [3] * 32


@pytest.mark.parametrize("factory", [uq.methods.map_estimate, uq.methods.mean_field, uq.methods.low_rank])
def test_batch_norm_averages_follow_the_weights(factory):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x) * 10 + 30)
            return nn.Dense(2)(nn.relu(x))

    posterior = uq.fit(factory(Net(), uq.likelihoods.Gaussian()), (X, Y), key=0, epochs=4, validation=0)
    state = posterior.state
    carried = state.variables.state if hasattr(state, "variables") else state.carried
    assert np.all(np.asarray(carried["batch_stats"]["BatchNorm_0"]["var"]) > 10)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4, 1e6])
def test_batch_norm_averages_at_any_scale(scale):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, train=False):
            return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(x))

    x = X * scale
    fit = uq.fit(
        uq.methods.map_estimate(Net(), uq.likelihoods.Gaussian()),
        (x, Y),
        key=0,
        epochs=1,
        validation=0,
        batch_size=60,
        standardize_inputs=False,
    )
    stats = fit.state.variables.state["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(stats["mean"], x.mean(0), rtol=1e-4)
    np.testing.assert_allclose(stats["var"], x.var(0), rtol=1e-3)


@pytest.fixture
def loose():
    """optax's own promotion of types."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.usefixtures("loose")
def test_sweeps_that_cannot_work_are_refused():
    inject = optax.inject_hyperparams(optax.adam)
    rates = {"learning_rate": [1e-3, 1e-2]}
    whole = uq.fit(ensemble(optimizer=inject(1), hyperparams=rates), (X, Y), key=0, epochs=2)
    assert not same(whole.state.variables.params, uq.batched_init(NET, 0, X[:1], 2).params)
    for optimizer, more, sentence in (
        (inject(optax.cosine_decay_schedule(1e-3, 10)), {"hyperparams": rates}, "follows a schedule"),
        (inject(jnp.ones(3)), {}, r"one value for each of the 2 members, but has shape \(3,\)"),
    ):
        with pytest.raises(uq.InputError, match=sentence):
            uq.fit(ensemble(optimizer=optimizer, **more), (X, Y), key=0, epochs=1)
    with pytest.raises(uq.InputError, match="expected a number, but has shape"):
        uq.fit(uq.methods.map_estimate(NET, uq.likelihoods.Gaussian(), inject(jnp.ones(2))), (X, Y), key=0, epochs=1)


@pytest.mark.parametrize(
    ("attempt", "sentence"),
    [
        (lambda: uq.fit(NET, (X, Y), key=0), "expected a method, such as uq.deep_ensemble"),
        (lambda: uq.ensemble(NET, 3), "expected a method, such as uq.methods.map_estimate"),
        (lambda: ensemble(likelihood=uq.likelihoods.Gaussian), r"write Gaussian\(…\)"),
        (lambda: ensemble(optimizer=1e-3), "expected an optax optimizer"),
        (lambda: ensemble(loss=uq.losses.beta_nll), r"such as uq.losses.beta_nll\(0.5\)"),
        (lambda: uq.fit(ensemble(), (X, Y), key=jax.random.split(jax.random.key(0), 2)), "expected one key"),
        (lambda: uq.fit(ensemble(), (X, Y), key=0, patience=0), "`patience` expected a whole number"),
        (lambda: uq.fit(ensemble(), (X, Y), key=0, validation=(X[:5, :2], Y[:5])), "`validation x` expected shape"),
        (lambda: uq.fit(ensemble(), (X, Y), key=0, validation="a"), "`validation` expected a fraction or a pair"),
        (
            lambda: uq.fit(ensemble(Flat(), uq.likelihoods.Bernoulli()), (X, YES), key=0, standardize_targets=True),
            "reg",
        ),
        (lambda: uq.optimizers.one_cycle(warmup=1.0), "`warmup` expected a fraction"),
        (lambda: uq.optimizers.one_cycle(0.0), "`learning_rate` expected a positive number"),
        (lambda: uq.methods.mean_field(NET, uq.likelihoods.Gaussian(), temperature=-1.0), "`temperature` expected"),
        (lambda: uq.predict(NET, uq.likelihoods.Gaussian(), NET, X), "expected `Members`"),
    ],
)
def test_what_cannot_be_is_said(attempt, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        attempt()


def test_no_warmup_and_lbfgs_train():
    optimizer = uq.optimizers.one_cycle(warmup=0.0)
    assert np.isfinite(uq.fit(ensemble(optimizer=optimizer), (X, Y), key=0, epochs=2).history.loss).all()
    with jax.numpy_dtype_promotion("standard"):
        found = uq.fit(ensemble(optimizer=optax.lbfgs()), (X, Y), key=0, epochs=3, validation=0).history.loss
    assert np.isfinite(found).all() and (found[-1] < found[0]).all()


def test_a_start_of_another_shape_is_named_and_other_dtypes_are_cast():
    wide = uq.batched_init(nn.Sequential([nn.Dense(9), nn.relu, nn.Dense(2)]), 0, X[:1], 2)
    with pytest.raises(uq.InputError, match=r"params/layers_0/bias of shape \(9,\), but the network's is \(8,\)"):
        uq.fit(ensemble(), (X, Y), key=0, epochs=1, start=wide)
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.float16), uq.batched_init(NET, 0, X[:1], 2))
    assert uq.fit(ensemble(), (X, Y), key=0, epochs=1, start=half).state.variables.params["layers_0"][
        "kernel"
    ].dtype == jnp.dtype("float32")


def test_predicting_under_jit():
    posterior = uq.fit(ensemble(), (X, Y), key=0, epochs=2)
    inside = jax.jit(lambda x: posterior.predict(x).mean)(jnp.asarray(X))
    np.testing.assert_allclose(inside, posterior.predict(X).mean, rtol=1e-5)


def test_networks_in_half_precision_predict():
    class Half(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = x.astype(jnp.bfloat16)
            return nn.Dense(2, dtype=jnp.bfloat16)(nn.relu(nn.Dense(8, dtype=jnp.bfloat16)(x)))

    with jax.numpy_dtype_promotion("standard"):
        pred = uq.fit(ensemble(Half()), (X, Y), key=0, epochs=2).predict(X)
        assert np.isfinite(pred.interval(0.9).lower).all() and np.isfinite(pred.crps(Y)).all()


def test_sown_values_are_not_carried():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("losses", "penalty", jnp.sum(x))
            return nn.Dense(2)(x)

    assert np.isfinite(uq.fit(ensemble(Net()), (X, Y), key=0, epochs=2).history.loss).all()


def test_nan_in_bfloat16_is_found():
    x = jnp.asarray(X, jnp.bfloat16).at[7, 0].set(jnp.nan)
    with pytest.raises(uq.InputError, match="row 7"):
        uq.fit(ensemble(), (x, Y), key=0)


def test_the_model_of_a_posterior_takes_whole_numbers():
    posterior = uq.fit(ensemble(), (X, Y), key=0, epochs=1)
    whole = np.round(X).astype(np.int32)
    members = posterior.sample()
    with jax.numpy_dtype_promotion("standard"):
        pred = uq.predict(posterior.model, posterior.likelihood, members, whole)
    np.testing.assert_allclose(pred.mean, posterior.predict(whole).mean, rtol=1e-4)


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_targets_of_any_scale(scale):
    kind = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 0.0, scale)
    pred = uq.Predictive(jnp.zeros((1, 2, 2)), kind)
    sigma = float(jax.nn.softplus(0.0)) + 1e-3
    np.testing.assert_allclose(np.asarray(pred.stddev, np.float64), sigma * scale, rtol=1e-5)
    want = -np.log(sigma) - 0.5 * np.log(2 * np.pi) - np.log(scale)
    np.testing.assert_allclose(pred.log_prob([0.0, 0.0]), want, rtol=1e-5)


def test_extreme_intervals_are_even():
    from scipy.stats import norm

    pred = uq.Predictive(jnp.zeros((1, 1, 2)), uq.likelihoods.Gaussian())
    sigma = float(jax.nn.softplus(0.0)) + 1e-3
    for level in (0.9, 0.999999, 0.99999999):
        lower, upper = pred.interval(level)
        assert float(lower[0]) == -float(upper[0])
        np.testing.assert_allclose(upper[0], sigma * norm.isf((1 - level) / 2), rtol=1e-5)
    np.testing.assert_allclose(pred.quantile(1 - 1e-9)[0], sigma * norm.isf(1e-9), rtol=1e-5)


def test_two_changes_of_units_are_one():
    once = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 3.0, 2.0)
    twice = uq.likelihoods.transformed(once, 10.0, 5.0)
    assert not isinstance(twice.base, uq.likelihoods.Transformed)
    assert float(twice.loc) == 25.0 and float(twice.scale) == 10.0


def test_constant_targets_and_features_are_legal():
    x = X.copy()
    x[:, 1] = 7.0
    with pytest.warns(uq.UQWarning, match="Feature 1 of `x` is constant"):
        posterior = uq.fit(ensemble(), (x, np.full(60, 5.0)), key=0, epochs=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(posterior.predict(x).mean, 5.0, atol=3.0)


@pytest.mark.parametrize("was", [True, False])
def test_the_collector_of_cycles_is_left_as_it_was(was):
    x = np.linspace(-1, 1, 40)[:, None]
    method = uq.deep_ensemble(nn.Dense(2), uq.likelihoods.Gaussian(), size=2)
    before = gc.isenabled()
    try:
        (gc.enable if was else gc.disable)()
        uq.fit(method, (x, x[:, 0]), key=0, epochs=1)
        assert gc.isenabled() is was
    finally:
        (gc.enable if before else gc.disable)()
