"""The choice by cross-validation, calibrated posteriors, and their files."""

import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq import calibrate

from .numbers import ensemble, gaussians


def test_scores_are_those_of_maps_that_did_not_see_the_example():
    means, scales, y = ensemble(0, 60, 3, said=0.3)
    pred, recalibrator = gaussians(means, scales), calibrate.scale()
    state = calibrate.auto([recalibrator], folds=4, seed=5).fit(pred, y)
    fold = np.random.default_rng(5).permutation(np.arange(60) % 4)
    scores = np.empty(60)
    for f in range(4):
        inside, out = np.flatnonzero(fold != f), np.flatnonzero(fold == f)
        own = recalibrator.fit(pred[inside], y[inside])
        scores[out] = -np.asarray(recalibrator.apply(own, pred[out]).log_prob(y[out]))
    assert state.chosen == "scale"
    assert state.candidates[1].score == pytest.approx(scores.mean(), rel=1e-4)
    assert state.candidates[0].score == pytest.approx(-float(pred.log_prob(y).mean()), rel=1e-5)
    gap = scores + np.asarray(pred.log_prob(y))
    assert state.candidates[1].difference == pytest.approx(gap.mean(), rel=1e-3)
    assert state.candidates[1].stderr == pytest.approx(gap.std() / np.sqrt(60), rel=1e-3)
    assert state.gain[0] < gap.mean() < state.gain[1] < 0
    assert "scale" in repr(state) and "choosing changes the score by" in repr(state)


def test_a_calibrated_model_is_left_alone_and_a_flawed_one_mended():
    recalibrator = calibrate.auto(folds=3)
    means, scales, y = ensemble(1, 400, 4, claimed=0.5**0.5)  # claimed² + 1/4 = 1 − 1/4
    right = recalibrator.fit(gaussians(means, scales), y)
    best = next(each for each in right.candidates if each.name == right.chosen)
    assert best.name == "none" or abs(best.difference) < 2.5 * best.stderr
    new = recalibrator.apply(right, gaussians(means, scales))
    np.testing.assert_allclose(new.variance.mean(), gaussians(means, scales).variance.mean(), rtol=0.15)
    means, scales, y = ensemble(2, 400, 4, said=0.2, spread=0.1)
    wrong = recalibrator.fit(gaussians(means, scales), y)
    assert wrong.chosen != "none" and wrong.gain[1] < 0
    new = recalibrator.apply(wrong, gaussians(means, scales))
    assert abs(float(uq.metrics.coverage(new, y, level=0.9)) - 0.9) < 0.04


def test_candidates_that_cannot_take_the_predictions_are_passed_over():
    rng = np.random.default_rng(3)
    probs = jax.nn.log_softmax(jnp.asarray(4 * rng.normal(size=(1, 90, 3)), jnp.float32))
    pred = uq.Predictive(probs, uq.likelihoods.Categorical(3))
    y = np.asarray(probs)[0, :, :2].argmax(-1)
    y = np.where(rng.random(90) < 0.2, 1 - y, y)  # two of three classes: the third never came
    state = calibrate.auto(folds=3).fit(pred, y)
    assert [each.name for each in state.candidates] == ["none", "temperature"]
    with pytest.raises(uq.InputError, match="has no candidate for multiclass"):
        calibrate.auto([calibrate.scale()]).fit(pred, y)
    with pytest.raises(uq.InputError, match="at least 20 examples for 10 folds"):
        calibrate.auto().fit(pred[:15], y[:15])
    with pytest.raises(uq.InputError, match="`auto` expected a Predictive"):
        calibrate.auto().fit(np.ones((3, 2)) / 2, np.zeros(3, int))


RNG = np.random.default_rng(8)
X = RNG.normal(size=(90, 2))
Y = 5 + X[:, 0] + 0.3 * RNG.normal(size=90)
NET = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])
QUICK = {"key": 0, "epochs": 4, "progress": False}


@pytest.fixture(scope="module")
def posterior():
    method = uq.deep_ensemble(NET, uq.likelihoods.Gaussian(), size=4)
    return uq.fit(method, (X, Y), calibrate=calibrate.affine_variance(), **QUICK)


def test_predictions_pass_through_the_recalibrator(posterior, tmp_path):
    bare = posterior.predict(X, calibrated=False)
    state = calibrate.affine_variance().fit(posterior.out_of_fold(), Y)
    want = calibrate.affine_variance().apply(state, bare)
    np.testing.assert_allclose(posterior.predict(X).log_prob(Y), want.log_prob(Y), rtol=1e-5)
    parts = [np.asarray(part.stddev) for part in posterior.predict_batches(X, batch_size=40)]
    np.testing.assert_allclose(np.concatenate(parts), want.stddev, rtol=1e-5)
    np.testing.assert_allclose(posterior.moments(X).aleatoric, want.aleatoric, rtol=1e-4)
    assert "calibrated by affine_variance" in repr(posterior)
    posterior.save(tmp_path / "p.uq")
    again = uq.load(tmp_path / "p.uq", model=NET)
    np.testing.assert_array_equal(again.predict(X).log_prob(Y), posterior.predict(X).log_prob(Y))
    np.testing.assert_array_equal(again.predict(X, calibrated=False).mean, bare.mean)


def test_held_out_data_and_other_recalibrators(posterior, tmp_path):
    again = posterior.calibrate(calibrate.compose(calibrate.scale(), calibrate.quantiles()), (X[:50], Y[:50]))
    both = again.predict(X)
    assert isinstance(both, calibrate.MappedPredictive)
    again.save(tmp_path / "q.uq")
    loaded = uq.load(tmp_path / "q.uq", model=NET)
    np.testing.assert_array_equal(loaded.predict(X).cdf(Y), both.cdf(Y))
    chosen = posterior.calibrate(calibrate.auto([calibrate.scale()], folds=3))
    chosen.save(tmp_path / "r.uq")
    loaded = uq.load(tmp_path / "r.uq", model=NET)
    np.testing.assert_allclose(loaded.predict(X).log_prob(Y), chosen.predict(X).log_prob(Y), rtol=1e-6)


def test_classes(tmp_path):
    labels = (Y > 5).astype(int)
    net = nn.Dense(2)
    posterior = uq.fit(
        uq.deep_ensemble(net, uq.likelihoods.Categorical(2), size=2), (X, labels),
        calibrate=calibrate.temperature(), **QUICK,
    )  # fmt: skip
    state = calibrate.temperature().fit(posterior.out_of_fold(), labels)
    want = calibrate.temperature().apply(state, posterior.predict(X, calibrated=False))
    np.testing.assert_allclose(posterior.predict(X).probs, want.probs, rtol=1e-5)
    posterior.save(tmp_path / "c.uq")
    np.testing.assert_array_equal(uq.load(tmp_path / "c.uq", model=net).predict(X).probs, posterior.predict(X).probs)


def test_what_is_wrong_is_said(posterior):
    method = uq.deep_ensemble(NET, uq.likelihoods.Gaussian(), size=2)
    with pytest.raises(uq.InputError, match='expected "auto" or a recalibrator'):
        uq.fit(method, (X, Y), calibrate="temperature", **QUICK)
    single = uq.methods.map_estimate(NET, uq.likelihoods.Gaussian())
    with pytest.raises(uq.InputError, match="this method is for one network"):
        uq.fit(single, (X, Y), calibrate="auto", **QUICK)
    plain = uq.fit(method, (X, Y), **QUICK)
    with pytest.raises(uq.InputError, match="needs held-out data"):
        plain.calibrate()
    with pytest.raises(uq.InputError, match=r"expected one of uq\.calibrate"):
        plain.calibrate("temperature", (X, Y))


@pytest.mark.parametrize("gain, chosen", [(0.5, 0), (2.0, 1)])
def test_a_freer_map_of_classes_must_gain_more_than_a_standard_error(gain, chosen):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=400)
    noise = (noise - noise.mean()) / noise.std()
    table = np.stack([np.ones(400), 1 - gain / 20 + noise])  # the standard error of the difference is 1 / 20
    choose = importlib.import_module("uq.calibrate.auto")._choose
    assert choose(table, np.ones(400), 1.0) == chosen
    assert choose(table, np.ones(400), 0.0) == 1
    assert choose(table[::-1], np.ones(400), 1.0) == 0
