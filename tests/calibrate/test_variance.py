"""Variance made right: closed forms, searches without derivatives, few voters against many, known flaws."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import optimize, special, stats

import uq

from .numbers import ensemble, gaussians, mixture_log_score

SCALE, AFFINE, TAILS = uq.calibrate.scale(), uq.calibrate.affine_variance(), uq.calibrate.student_tails()


def test_one_factor_is_the_root_of_mean_standardised_squares():
    rng = np.random.default_rng(0)
    mean, sd, y = rng.normal(size=300), np.exp(rng.normal(size=300)), rng.normal(size=300) * 3
    state = SCALE.fit(gaussians(mean[None], sd[None]), y)
    np.testing.assert_allclose(state.factor, np.sqrt(np.mean(((y - mean) / sd) ** 2)), rtol=1e-5)
    found = optimize.minimize_scalar(lambda s: -stats.norm.logpdf(y, mean, s * sd).mean(), bounds=(0.1, 20))
    np.testing.assert_allclose(state.factor, found.x, rtol=1e-4)
    new = SCALE.apply(state, gaussians(mean[None], sd[None]))
    np.testing.assert_allclose(new.stddev, found.x * sd, rtol=1e-4)
    np.testing.assert_allclose(new.mean, mean, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pred", ["numpyro", "scipy", "predictive"])
def test_normal_distributions_of_any_kind(pred):
    rng = np.random.default_rng(1)
    mean, sd, y = 1e4 + rng.normal(size=200), 0.2 + rng.random(200), 1e4 + rng.normal(size=200)
    given = {
        "numpyro": dist.Normal(mean, sd),
        "scipy": stats.norm(mean, sd),
        "predictive": gaussians(mean[None], sd[None], loc=1e4),
    }[pred]
    new = SCALE.apply(SCALE.fit(given, y), given)
    want = np.sqrt(np.mean(((y - mean) / sd) ** 2)) * sd
    rtol = 3e-3 if pred == "numpyro" else 1e-4  # numpyro's own float32 mean of 10⁴ has three digits after the point
    np.testing.assert_allclose(new.stddev, want, rtol=rtol)


def by_search(means, scales, y, *, tails):
    """The same likelihood, written out, and searched without derivatives."""
    size = len(means)
    mean, share = means.mean(0), 1 / size
    spread = means.var(0, ddof=1)
    # Moderated by an inverse gamma law, whose moments of log S² are matched.
    half = (size - 1) / 2
    log = np.log(spread) - special.digamma(half) + np.log(half)
    excess = np.var(log) - special.polygamma(1, half)
    worth = 2 * optimize.brentq(lambda h: special.polygamma(1, h) - excess, 1e-3, 1e4)
    level = np.exp(log.mean() + special.digamma(worth / 2) - np.log(worth / 2))
    moderated = (worth * level + (size - 1) * spread) / (worth + size - 1)
    unit = np.mean((y - mean) ** 2)

    def place(p):
        a, b, c = np.exp(p[:3]) * [unit, 1, 1]
        wanted, inside = (c + share) * moderated, (1 - share) * spread
        total = a + b * (scales**2).mean(0) + wanted
        centre = mean + np.sqrt(np.minimum(wanted / inside, 1)) * (means - mean)
        rest = np.maximum(wanted - inside, 0)
        own = a + b * scales**2 + rest
        np.testing.assert_allclose(own.mean(0) + centre.var(0), total, rtol=1e-9)
        return centre, own, 1 / p[3] if tails else None

    def loss(p):
        if np.any(np.abs(p[:3]) > 18) or (tails and not 0.005 < p[3] < 0.47):
            return 1e9
        centre, own, df = place(p)
        return mixture_log_score(centre, np.sqrt(own), y, df).mean()

    starts = [[-3.0, 0.0, 0.0], [-1.0, -1.0, -2.0], [-5.0, 1.0, 1.0]]
    options = {"maxiter": 8000, "maxfev": 8000, "fatol": 1e-10, "xatol": 1e-6}
    best = min(
        (optimize.minimize(loss, [*start, *[0.1] * tails], method="Nelder-Mead", options=options) for start in starts),
        key=lambda found: found.fun,
    )
    return best.fun, place(best.x)


@pytest.mark.parametrize("tails", [False, True])
@pytest.mark.parametrize("flaw", [{"said": 0.4, "claimed": 2.0}, {"said": 2.0, "claimed": 0.1}, {"df": 4, "said": 0.7}])
def test_the_search_finds_what_one_without_derivatives_finds(flaw, tails):
    means, scales, y = ensemble(3, 400, 5, **flaw)
    best, (centre, own, df) = by_search(means, scales, y, tails=tails)
    pred = gaussians(means, scales)
    recalibrator = TAILS if tails else AFFINE
    state = recalibrator.fit(pred, y)
    assert bool(state.fitted.converged)
    assert float(state.fitted.after) <= best + 1e-5
    assert float(state.fitted.before) == pytest.approx(mixture_log_score(means, scales, y).mean(), rel=1e-4)
    new = recalibrator.apply(state, pred)
    np.testing.assert_allclose(-new.log_prob(y).mean(), state.fitted.after, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(new.mean, means.mean(0), rtol=1e-3, atol=1e-3)
    if float(state.fitted.after) > best - 1e-5:  # the same optimum
        wider = df / (df - 2) if tails else 1
        np.testing.assert_allclose(new.variance, wider * own.mean(0) + centre.var(0), rtol=3e-2)


def test_what_few_voters_teach_holds_for_many():
    """Members are right about the noise; two vote where it is fitted, twenty where it is used."""
    means, scales, y = ensemble(5, 4000, 2, spread=1.0, claimed=0.0)
    state = AFFINE.fit(gaussians(means, scales), y)
    many, wide, after = ensemble(6, 4000, 20, spread=1.0, claimed=0.0)
    new = AFFINE.apply(state, gaussians(many, wide))
    ratio = np.mean((after - many.mean(0)) ** 2) / np.mean(new.variance)
    assert 0.85 < ratio < 1.06  # the noise of a two-voter S² still costs some sharpness
    # Without the term it would be taken for noise: twice S² / 2 against S² / 20.
    naive = np.mean((y - means.mean(0)) ** 2) / np.mean((after - many.mean(0)) ** 2)
    assert naive > 1.2
    factor = SCALE.fit(gaussians(means, scales), y)
    scaled = SCALE.apply(factor, gaussians(many, wide))
    assert 0.85 < np.mean((after - many.mean(0)) ** 2) / np.mean(scaled.variance) < 1.06


@pytest.mark.parametrize("recalibrator", [SCALE, AFFINE, TAILS], ids=lambda r: r.name)
def test_a_single_voter_teaches_what_one_member_errs_by(recalibrator):
    """As many folds as members: S² cannot be seen, and many voters get the variance that one deserves."""
    means, scales, y = ensemble(16, 2000, 1, spread=0.5, claimed=0.0)
    state = recalibrator.fit(gaussians(means, scales), y)
    many, wide, _ = ensemble(17, 2000, 10, spread=0.5, claimed=0.0)
    new = recalibrator.apply(state, gaussians(many, wide))
    rtol = 0.35 if recalibrator is SCALE else 0.12  # one factor cannot follow both noise and disagreement
    np.testing.assert_allclose(np.mean(new.variance), np.mean((y - means[0]) ** 2), rtol=rtol)
    np.testing.assert_allclose(new.mean, many.mean(0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("recalibrator", [SCALE, AFFINE, TAILS], ids=lambda r: r.name)
def test_known_flaws_are_mended_and_calibrated_models_left_alone(recalibrator):
    means, scales, y = ensemble(7, 3000, 8, said=0.3, claimed=1.0)
    fresh = ensemble(8, 3000, 8, said=0.3, claimed=1.0)
    state = recalibrator.fit(gaussians(means, scales), y)
    new = recalibrator.apply(state, gaussians(*fresh[:2]))
    covered = uq.metrics.coverage(new, fresh[2], level=0.9)
    assert abs(float(covered) - 0.9) < (0.05 if recalibrator is SCALE else 0.025)
    right = ensemble(9, 3000, 8, claimed=1.0)
    state = recalibrator.fit(gaussians(*right[:2]), right[2])
    pred = gaussians(*right[:2])
    np.testing.assert_allclose(recalibrator.apply(state, pred).variance.mean(), pred.variance.mean(), rtol=0.1)


def test_heavy_tails_are_found():
    means, scales, y = ensemble(10, 4000, 4, spread=0.05, df=4.0)
    state = TAILS.fit(gaussians(means, scales), y)
    assert 3 < 1 / float(state.inverse_df) < 5.5
    new = TAILS.apply(state, gaussians(means, scales))
    assert isinstance(new._base, uq.likelihoods.StudentT)
    assert float(uq.metrics.coverage(new, y, level=0.99)) == pytest.approx(0.99, abs=0.006)


def test_weights_are_repetitions_and_zero_leaves_out():
    means, scales, y = ensemble(11, 60, 3)
    twice = np.r_[np.arange(60), np.arange(20)]
    weight = np.where(np.arange(60) < 20, 2.0, 1.0)
    for recalibrator in (SCALE, AFFINE, TAILS):
        a = recalibrator.fit(gaussians(means, scales), y, weight)
        b = recalibrator.fit(gaussians(means[:, twice], scales[:, twice]), y[twice])
        for p, q in zip(jax.tree.leaves(a)[:4], jax.tree.leaves(b)[:4], strict=True):
            np.testing.assert_allclose(p, q, rtol=2e-2, atol=1e-5)
        some = recalibrator.fit(gaussians(means, scales), np.where(weight == 2, y, 1e3), (weight == 2).astype(float))
        only = recalibrator.fit(gaussians(means[:, :20], scales[:, :20]), y[:20])
        for p, q in zip(jax.tree.leaves(some)[:4], jax.tree.leaves(only)[:4], strict=True):
            np.testing.assert_allclose(p, q, rtol=2e-2, atol=1e-5)


@pytest.mark.parametrize("recalibrator", [SCALE, AFFINE, TAILS], ids=lambda r: r.name)
def test_it_jits_and_moves_with_the_targets_units(recalibrator):
    means, scales, y = ensemble(12, 100, 3)
    pred = gaussians(means, scales)
    state = recalibrator.fit(pred, y)
    new = recalibrator.apply(state, pred)
    run = jax.jit(lambda state, pred: recalibrator.apply(state, pred).log_prob(jnp.asarray(y, jnp.float32)))
    np.testing.assert_allclose(run(state, pred), new.log_prob(y), rtol=2e-3, atol=2e-3)
    other = gaussians(50 * means - 1e3, 50 * scales, loc=-1e3)
    moved = recalibrator.apply(recalibrator.fit(other, 50 * y - 1e3), other)
    np.testing.assert_allclose(moved.stddev, 50 * np.asarray(new.stddev), rtol=1e-2)
    np.testing.assert_allclose(moved.log_prob(50 * y - 1e3), new.log_prob(y) - np.log(50), rtol=1e-2, atol=1e-2)


def test_several_outputs_are_mended_apart():
    rng = np.random.default_rng(13)
    outputs = jnp.asarray(rng.normal(size=(3, 500, 4)) * 0.1, jnp.float32)
    pred = uq.Predictive(outputs, uq.likelihoods.Gaussian(2))
    y = rng.normal(size=(500, 2)) * [0.3, 5.0]
    for recalibrator in (SCALE, AFFINE):
        new = recalibrator.apply(recalibrator.fit(pred, y), pred)
        np.testing.assert_allclose(np.mean(np.asarray(new.variance), 0), np.mean(y**2, 0), rtol=0.1)


@pytest.mark.parametrize(
    "likelihood",
    [
        uq.likelihoods.StudentT(),
        uq.likelihoods.Laplace(),
        uq.likelihoods.MixtureDensity(2),
        uq.likelihoods.Quantile(),
        uq.likelihoods.Evidential(),
    ],
    ids=lambda kind: type(kind).__name__,
)
def test_other_families_are_stretched(likelihood):
    rng = np.random.default_rng(14)
    outputs = jnp.asarray(0.1 * rng.normal(size=(3, 400, likelihood.width)), jnp.float32)
    pred = uq.Predictive(outputs, uq.likelihoods.transformed(likelihood, 100.0, 4.0))
    y = np.asarray(pred.mean) + 20 * rng.normal(size=400)
    new = SCALE.apply(SCALE.fit(pred, y), pred)
    factor = np.asarray(new.stddev) / np.asarray(pred.stddev)
    assert factor.std() < 0.05 * factor.mean()
    np.testing.assert_allclose(new.mean, pred.mean, atol=0.05)
    half = np.asarray(pred.quantile(0.75)) - np.asarray(pred.mean)
    upper = np.asarray(new.quantile(0.75)) - np.asarray(new.mean)
    np.testing.assert_allclose(upper, factor * half, rtol=0.03, atol=0.05)


def test_what_is_wrong_is_said():
    means, scales, y = ensemble(15, 30, 2)
    pred = gaussians(means, scales)
    with pytest.raises(uq.InputError, match="is for regression predictions"):
        SCALE.fit(uq.Predictive(jnp.zeros((1, 5, 3)), uq.likelihoods.Categorical(3)), np.zeros(5, int))
    for kind in (uq.likelihoods.Gamma(), uq.likelihoods.Censored(0.0)):  # these can be stretched, but not moved
        with pytest.raises(uq.InputError, match="has no way to express"):
            SCALE.fit(uq.Predictive(jnp.zeros((1, 5, 2)), kind), np.ones(5))
    with pytest.raises(uq.InputError, match="has no way to express"):
        AFFINE.fit(uq.Predictive(jnp.zeros((1, 5, 1)), uq.likelihoods.Poisson()), np.zeros(5, int))
    with pytest.raises(uq.InputError, match="expected normal members"):
        TAILS.fit(uq.Predictive(jnp.zeros((1, 5, 2)), uq.likelihoods.Laplace()), np.zeros(5))
    with pytest.raises(uq.InputError, match="draws or other families"):
        SCALE.fit(np.zeros((3, 5)), np.zeros(5))
    with pytest.raises(uq.InputError, match="not all 0"):
        AFFINE.fit(gaussians(np.ones((1, 5)), np.ones((1, 5))), np.ones(5))
    with pytest.raises(uq.InputError, match="30"):
        AFFINE.fit(pred, y[:20])
    state = SCALE.fit(
        uq.Predictive(jnp.zeros((2, 9, 4)), uq.likelihoods.Gaussian(2)), np.random.default_rng(0).normal(size=(9, 2))
    )
    with pytest.raises(uq.InputError, match="fitted to 2 outputs, but these predictions have 1"):
        SCALE.apply(state, pred)
