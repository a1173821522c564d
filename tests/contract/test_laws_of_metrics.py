"""Laws that scores and summaries keep whatever the numbers: propriety, equivariance, limits, bounds, identities.

Laws of merging are in tests/metrics/test_streaming.py, p-values of single tests beside each test; those that were not
covered there are at the end.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uq import metrics

from .families import FAMILIES, nodes, quiet, wrong

few = settings(max_examples=4, deadline=None)
some = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 10**6)
CONTINUOUS = [name for name in FAMILIES if name not in ("Poisson", "NegativeBinomial")]
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)


# Propriety: nothing scores better in expectation than the truth


STRICT = {"log_score": metrics.log_score, "crps": metrics.crps}
PROPER = {
    "dawid_sebastiani": metrics.dawid_sebastiani,
    "quantile_score": functools.partial(metrics.quantile_score, level=0.2),
    "interval_score": functools.partial(metrics.interval_score, level=0.8),
    "weighted_interval_score": functools.partial(metrics.weighted_interval_score, level=LEVELS),
    "threshold_weighted_crps": functools.partial(metrics.threshold_weighted_crps, lower=2.0),
}


@few
@given(size=st.floats(0.25, 0.9))
@pytest.mark.parametrize("family", FAMILIES)
def test_propriety(family, size):
    ours, theirs, base = FAMILIES[family]
    truth = theirs(*base)
    y, weight = nodes(truth, 200)
    candidates = [base, *wrong(base, size)]
    pred = ours(*(np.repeat(values, len(y)) for values in zip(*candidates, strict=True)))
    for name, score in (STRICT | PROPER).items():
        best, *others = score(pred, np.tile(y, len(candidates))).reshape(len(candidates), -1) @ weight
        assert min(others) >= best - 1e-4 * (1 + abs(best)), name  # to the quadrature's own error
        if name in STRICT:
            assert min(others) > best + 1e-5, name
        if name == "log_score" and family in CONTINUOUS:  # the nodes integrate
            assert best == pytest.approx(truth.entropy(), abs=1e-4)


@pytest.mark.parametrize("family", ["Normal", "Gamma", "NegativeBinomial"])
def test_one_prediction_for_all_is_as_many_alike_and_rows_do_not_touch_each_other(family):
    ours, theirs, base = FAMILIES[family]
    y = np.array([1.0, 4.0, 7.0, 1e6])  # an outlier leaves the other rows as they are
    alike = ours(*(np.full(4, value) for value in base))
    for name, score in (STRICT | PROPER).items():
        want = score(alike, y)
        assert want.shape == (4,), name
        np.testing.assert_allclose(score(ours(*base), y), want, rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(score(theirs(*base), y), want, rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(
            score(ours(*(np.full(3, v) for v in base)), y[:3]), want[:3], rtol=1e-9, err_msg=name
        )
        assert np.shape(score(ours(*base), y[:1])) == (1,), name


CLASS_SCORES = ("log_score", "brier_score", "spherical_score", "ranked_probability_score", "zero_one_score")


@some
@given(seed=seeds, classes=st.integers(2, 6))
def test_propriety_of_class_scores(seed, classes):
    rng = np.random.default_rng(seed)
    truth, other = rng.dirichlet(np.full(classes, 0.7), 2) + 1e-9
    truth, other = truth / truth.sum(), other / other.sum()
    labels = np.arange(classes)
    for name in CLASS_SCORES:
        score = getattr(metrics, name)
        right, worse = (truth @ score(np.tile(p, (classes, 1)), labels) for p in (truth, other))
        assert worse >= right - 1e-12, name
        if name not in ("zero_one_score",) and np.abs(truth - other).max() > 1e-3:
            assert worse > right, name


@some
@given(seed=seeds, members=st.integers(2, 7), outputs=st.integers(1, 3))
def test_propriety_of_scores_of_draws(seed, members, outputs):
    """The truth is one of finitely many vectors, so that the expectation is a sum."""
    rng = np.random.default_rng(seed)
    truth = 30 + 4 * rng.normal(size=(members, outputs))
    mass = rng.dirichlet(np.ones(members))
    other = 30 + 4 * rng.normal(size=(members + 1, outputs))

    def expected(score, draws, **more):
        return mass @ score(np.repeat(draws[:, None], members, 1), truth, **more)

    for score in (metrics.energy_score, metrics.variogram_score):
        right = expected(score, truth, member_weight=mass)
        assert right <= expected(score, other) + 1e-10
        assert right <= expected(score, truth) + 1e-10  # equal weights are wrong ones

    def of_numbers(score, draws, **more):
        return mass @ score(np.repeat(draws[:, :1], members, 1), truth[:, 0], **more)

    clipped = functools.partial(metrics.threshold_weighted_crps, lower=28.0, upper=31.0)
    for score in (metrics.crps_ensemble, clipped):
        assert of_numbers(score, truth, member_weight=mass) <= of_numbers(score, other) + 1e-10
    even = np.full(members, 1 / members)
    errors = [even @ metrics.error_spread_score(np.repeat(d[:, :1], members, 1), truth[:, 0]) for d in (truth, other)]
    assert errors[0] <= errors[1] * (1 + 1e-9)


# Equivariance: scores are in the units of the outcome


@few
@given(shift=st.floats(-500, 500), factor=st.floats(0.01, 50), flip=st.booleans())
@pytest.mark.parametrize("name", ["Normal", "StudentT", "Laplace", "Logistic", "Gumbel"])
def test_location_and_scale(name, shift, factor, flip):
    family = getattr(dist, name)
    symmetric = name != "Gumbel"
    b = -factor if flip and symmetric else factor
    rng = np.random.default_rng(0)
    loc, scale, y = rng.normal(size=20), rng.uniform(0.5, 2, 20), 2 * rng.normal(size=20)
    make = functools.partial(quiet(family), 5.0) if name == "StudentT" else quiet(family)
    before, after, moved = make(loc, scale), make(shift + b * loc, abs(b) * scale), shift + b * y
    close = functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9 * (abs(b) + abs(shift)))
    close(metrics.crps(after, moved), abs(b) * metrics.crps(before, y))
    close(metrics.log_score(after, moved), metrics.log_score(before, y) + np.log(abs(b)))
    close(metrics.dawid_sebastiani(after, moved), metrics.dawid_sebastiani(before, y) + 2 * np.log(abs(b)))
    close(metrics.interval_score(after, moved, level=0.8), abs(b) * metrics.interval_score(before, y, level=0.8))
    wis = functools.partial(metrics.weighted_interval_score, level=LEVELS)
    close(wis(after, moved), abs(b) * wis(before, y))
    level = 0.2 if b > 0 else 0.8
    close(metrics.quantile_score(after, moved, level=level), abs(b) * metrics.quantile_score(before, y, level=0.2))
    u, v = metrics.pit(before, y), metrics.pit(after, moved)
    np.testing.assert_allclose(v, u if b > 0 else 1 - u, atol=1e-9)


SCALED = {  # parameters of b Y from those of Y
    "LogNormal": lambda b, m, s: (m + np.log(b), s),
    "Gamma": lambda b, a, r: (a, r / b),
    "Weibull": lambda b, s, c: (s * b, c),
    "Exponential": lambda b, r: (r / b,),
}


@few
@given(b=st.floats(0.01, 50))
@pytest.mark.parametrize("name", SCALED)
def test_scale_of_positive_families(name, b):
    ours, theirs, base = FAMILIES[name]
    y = theirs(*base).ppf(np.linspace(0.01, 0.99, 15))
    before, after = (ours(*(np.full(15, v) for v in each)) for each in (base, SCALED[name](b, *base)))
    np.testing.assert_allclose(metrics.crps(after, b * y), b * metrics.crps(before, y), rtol=1e-6)
    np.testing.assert_allclose(metrics.log_score(after, b * y), metrics.log_score(before, y) + np.log(b), atol=1e-9)
    np.testing.assert_allclose(metrics.pit(after, b * y), metrics.pit(before, y), atol=1e-10)
    score = functools.partial(metrics.interval_score, level=0.9)
    np.testing.assert_allclose(score(after, b * y), b * score(before, y), rtol=1e-8)


@some
@given(seed=seeds, shift=st.floats(-1e3, 1e3), b=st.floats(-50, 50).filter(lambda b: abs(b) > 0.01))
def test_location_and_scale_of_draws(seed, shift, b):
    rng = np.random.default_rng(seed)
    draws, y = np.round(rng.normal(size=(6, 4, 3)), 1), np.round(rng.normal(size=(4, 3)), 1)  # ties
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    after, moved = shift + b * draws, shift + b * y
    close = functools.partial(np.testing.assert_allclose, rtol=1e-7, atol=1e-8 * (abs(b) + abs(shift)))
    for estimator in ("empirical", "fair"):
        energy = functools.partial(metrics.energy_score, estimator=estimator)
        close(energy(after, moved), abs(b) * energy(draws, y))
        close(energy(draws @ turn, y @ turn), energy(draws, y))
        number = functools.partial(metrics.crps_ensemble, estimator=estimator)
        close(number(after, moved), abs(b) * number(draws, y))
        variogram = functools.partial(metrics.variogram_score, p=1.0, estimator=estimator)
        np.testing.assert_allclose(variogram(after, moved), b * b * variogram(draws, y), rtol=1e-6, atol=1e-6 * b * b)
    np.testing.assert_allclose(
        metrics.error_spread_score(after, moved),
        b**4 * metrics.error_spread_score(draws, y),
        rtol=1e-5,
        atol=1e-5 * b**4,
    )
    order = rng.permutation(6)
    close(metrics.energy_score(draws[order], y), metrics.energy_score(draws, y))
    close(metrics.crps_ensemble(draws[order], y), metrics.crps_ensemble(draws, y))


def test_transforms_are_uniform_under_monotone_maps():
    y = np.random.default_rng(0).normal(1.0, 0.8, 30)
    one, scale = np.ones(30), np.full(30, 0.6)
    normal, lognormal = quiet(dist.Normal)(one, scale), quiet(dist.LogNormal)(one, scale)
    np.testing.assert_allclose(metrics.pit(lognormal, np.exp(y)), metrics.pit(normal, y), rtol=1e-10)
    np.testing.assert_allclose(metrics.log_score(lognormal, np.exp(y)), metrics.log_score(normal, y) + y, rtol=1e-10)


@some
@given(seed=seeds, power=st.floats(0.2, 4))
def test_rankings_see_order_alone(seed, power):
    rng = np.random.default_rng(seed)
    scores = np.round(rng.normal(size=40), 1)  # ties
    labels = np.r_[0, 1, rng.integers(0, 2, 38)]
    maps = (lambda s: 1e3 + 7 * s, np.exp, lambda s: np.sign(s) * np.abs(s) ** power, np.arctan)
    for metric in (metrics.auroc, metrics.average_precision, metrics.fpr_at_tpr):
        for increasing in maps:
            assert float(metric(increasing(scores), labels)) == pytest.approx(float(metric(scores, labels)), abs=1e-12)
    turned = float(metrics.auroc(-scores, labels))
    assert turned == pytest.approx(1 - float(metrics.auroc(scores, labels)), abs=1e-12)
    assert turned == pytest.approx(float(metrics.auroc(scores, 1 - labels)), abs=1e-12)
    for metric in (metrics.aurc, metrics.augrc, metrics.eaurc):
        found = metric(confidence=np.exp(scores), loss=labels)
        assert float(found) == pytest.approx(float(metric(confidence=scores, loss=labels)), abs=1e-12)


@some
@given(seed=seeds, classes=st.integers(3, 6))
def test_names_of_classes_do_not_matter(seed, classes):
    rng = np.random.default_rng(seed)
    probs, y = rng.dirichlet(np.ones(classes), 50), rng.integers(0, classes, 50)
    order = rng.permutation(classes)
    renamed, labels = probs[:, order], np.argsort(order)[y]
    for kind in ("confidence", "classwise", "top-label"):
        for norm in ("l1", "l2", "max"):
            error = functools.partial(metrics.calibration_error, kind=kind, norm=norm, binning="mass", bins=5)
            assert float(error(renamed, labels)) == pytest.approx(float(error(probs, y)), abs=1e-12)
    for score in (metrics.log_score, metrics.brier_score, metrics.spherical_score):
        # 1 − p·q rounds by 1e-16 of 1, whatever is left of it; sums in another order by as much
        np.testing.assert_allclose(score(renamed, labels), score(probs, y), rtol=1e-12, atol=1e-15)
    mirrored = metrics.ranked_probability_score(probs[:, ::-1], classes - 1 - y)
    np.testing.assert_allclose(mirrored, metrics.ranked_probability_score(probs, y), atol=1e-12)
    error = metrics.kernel_calibration_error
    assert float(error(renamed, labels)) == pytest.approx(float(error(probs, y)), rel=1e-9)


# Limits


@pytest.mark.parametrize("name", CONTINUOUS)
def test_many_draws_are_their_distribution(name):
    ours, theirs, base = FAMILIES[name]
    truth = theirs(*base)
    y = truth.ppf([0.001, 0.3, 0.9])
    draws = truth.ppf((np.arange(4000) + 0.5) / 4000)
    got = metrics.crps_ensemble(np.repeat(draws[:, None], 3, 1), y)
    np.testing.assert_allclose(got, metrics.crps(ours(*base), y), rtol=3e-3, atol=2e-4 * truth.std())
    levels = (np.arange(400) + 0.5) / 400
    quantiles = np.repeat(truth.ppf(levels)[:, None], 3, 1)
    got = metrics.crps_quantile(quantiles, y, level=levels)
    np.testing.assert_allclose(got, metrics.crps(ours(*base), y), rtol=5e-3, atol=2e-3 * truth.std())
    got = 2 * metrics.quantile_score(quantiles, y, level=levels)
    np.testing.assert_allclose(got, metrics.crps(ours(*base), y), rtol=5e-3, atol=2e-3 * truth.std())


def test_limits_of_families():
    y = np.array([-4.0, 0.3, 7.0])
    normal, t = quiet(dist.Normal)(1.0, 2.0), quiet(dist.StudentT)(1e7, 1.0, 2.0)
    for score in (metrics.crps, metrics.log_score):
        np.testing.assert_allclose(score(t, y), score(normal, y), rtol=1e-5)
    counts = np.arange(960.0, 1041.0, 20.0)
    many = quiet(dist.NegativeBinomial2)(1e3, 1e9)
    np.testing.assert_allclose(metrics.crps(many, counts), metrics.crps(quiet(dist.Poisson)(1e3), counts), rtol=1e-4)
    np.testing.assert_allclose(
        metrics.crps(quiet(dist.Gamma)(1.0, 0.3), y + 5), metrics.crps(quiet(dist.Exponential)(0.3), y + 5), rtol=1e-6
    )
    np.testing.assert_allclose(
        metrics.crps(quiet(dist.Weibull)(2.0, 1.0), y + 5), metrics.crps(quiet(dist.Exponential)(0.5), y + 5), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["Normal", "StudentT", "Laplace", "Logistic", "Gumbel"])
def test_certain_predictions_score_their_distance(name):
    make = functools.partial(quiet(getattr(dist, name)), 5.0) if name == "StudentT" else quiet(getattr(dist, name))
    y = np.array([299.0, 300.0, 304.5])
    np.testing.assert_allclose(metrics.crps(make(np.full(3, 300.0), 1e-9), y), np.abs(y - 300), atol=1e-8)


def test_identical_components_are_one():
    """Of a mixture, of an ensemble of classifiers and of draws."""
    y = jnp.asarray([-3.0, 0.2, 1.5, 9.0])
    loc, scale = jnp.asarray([0.0, 0.5, 1.0, 2.0]), jnp.asarray([1.0, 0.5, 2.0, 1.5])
    spread = functools.partial(jnp.broadcast_to, shape=(4, 3))
    weights = dist.Categorical(probs=spread(jnp.asarray([0.2, 0.5, 0.3])))
    mixture = dist.MixtureSameFamily(weights, dist.Normal(spread(loc[:, None]), spread(scale[:, None])))
    for score in (metrics.crps, metrics.log_score):
        np.testing.assert_allclose(score(mixture, y), score(dist.Normal(loc, scale), y), rtol=2e-5, atol=1e-6)
    probs = np.random.default_rng(0).dirichlet(np.ones(3), 10)
    labels = np.arange(10) % 3
    same = np.repeat(probs[None], 4, 0)
    for score in ("log", "brier"):
        parts = metrics.ensemble_decomposition(same, labels, score=score)
        assert float(parts.diversity) == pytest.approx(0, abs=1e-12)
        assert float(parts.ensemble) == pytest.approx(float(parts.members), rel=1e-12)
    for measure in (metrics.mutual_information, metrics.disagreement, metrics.pairwise_kl):
        assert float(measure(same)) == pytest.approx(0, abs=1e-12)
    draws = np.full((5, 4), 300.0)
    outcome = np.asarray(y, np.float64)
    np.testing.assert_allclose(metrics.crps_ensemble(draws, 300 + outcome), np.abs(outcome), rtol=1e-10)


def test_ranked_probabilities_on_a_grid_are_the_crps():
    grid = np.linspace(-8.0, 9.0, 3401)
    law, y = stats.norm(0.4, 1.3), 1.2
    probs = np.diff(law.cdf(np.r_[-np.inf, (grid[1:] + grid[:-1]) / 2, np.inf]))
    got = metrics.ranked_probability_score(probs[None], [int(np.argmin(np.abs(grid - y)))])[0] * (grid[1] - grid[0])
    assert got == pytest.approx(float(metrics.crps(quiet(dist.Normal)(0.4, 1.3), np.array([y]))[0]), rel=2e-3)


# Bounds


@some
@given(seed=seeds, classes=st.integers(2, 5), bins=st.integers(1, 20))
def test_bounds_of_summaries_of_classes(seed, classes, bins):
    rng = np.random.default_rng(seed)
    members = np.round(rng.dirichlet(np.full(classes, 0.4), (3, 30)), 1)
    members[..., -1] = 1 - members[..., :-1].sum(-1)
    members = np.clip(members, 0, 1)
    members /= members.sum(-1, keepdims=True)
    y = rng.integers(0, classes, 30)
    probs = members[0]
    for kind in ("confidence", "classwise", "top-label"):
        for binning in ("width", "mass"):
            error = functools.partial(metrics.calibration_error, probs, y, kind=kind, bins=bins, binning=binning)
            l1, l2, largest = (float(error(norm=norm)) for norm in ("l1", "l2", "max"))
            assert 0 <= l1 <= l2 + 1e-12 <= largest + 2e-12 <= 1 + 3e-12
    event, confidence = (probs.argmax(1) == y), probs.max(1)
    one = float(metrics.calibration_error(probs, y, bins=1))
    assert one == pytest.approx(abs(confidence.mean() - event.mean()), abs=1e-12)
    assert 0 <= float(metrics.smooth_calibration_error(probs, y, kind="confidence")) <= 1
    assert float(metrics.kernel_calibration_error(probs, y, estimator="biased", bandwidth=0.5)) >= -1e-15
    assert -1e-12 <= float(metrics.mutual_information(members)) <= np.log(min(classes, 3)) + 1e-12
    assert 0 <= float(metrics.disagreement(members)) <= 1
    parts = metrics.uncertainty_decomposition(members, measure="entropy")
    assert float(parts.total) <= np.log(classes) + 1e-12 and float(parts.aleatoric) >= 0
    assert ((brier := metrics.brier_score(probs, y)) >= 0).all() and (brier <= (1 if classes == 2 else 2)).all()
    ranked = metrics.ranked_probability_score(probs, y)
    assert (ranked >= 0).all() and (ranked <= classes - 1 + 1e-12).all()
    assert ((spherical := metrics.spherical_score(probs, y)) >= -1e-15).all() and (spherical <= 1).all()
    assert 0 <= float(metrics.augrc(probs, y)) <= 0.5
    assert -1e-12 <= float(metrics.eaurc(probs, y)) <= float(metrics.aurc(probs, y)) + 1e-12 <= 1 + 2e-12


@some
@given(seed=seeds)
def test_bounds_of_summaries_of_numbers(seed):
    rng = np.random.default_rng(seed)
    loc, scale = 300 + 20 * rng.normal(size=25), rng.uniform(0.1, 40, 25)
    pred, y = quiet(dist.Normal)(loc, scale), 300 + 20 * rng.normal(size=25)
    low, high = (float(metrics.regression_calibration_error(pred, y, norm=norm)) for norm in ("l1", "max"))
    assert 0 <= low <= high <= 1
    assert 0 <= float(metrics.miscalibration_area(pred, y)) <= 0.5
    assert 0 <= float(metrics.coverage(pred, y)) <= 1
    score = metrics.crps(pred, y)
    assert (score >= 0).all() and (score <= np.abs(y - loc) + scale / np.sqrt(np.pi) + 1e-9).all()
    draws = loc + scale * rng.normal(size=(4, 25))
    assert (metrics.crps_ensemble(draws, y) >= 0).all()
    assert (metrics.crps_ensemble(draws, y, estimator="fair") <= metrics.crps_ensemble(draws, y) + 1e-12).all()
    assert (metrics.threshold_weighted_crps(draws, y, lower=300.0) <= metrics.crps_ensemble(draws, y) + 1e-9).all()
    assert (metrics.interval_score(pred, y, level=0.8) >= metrics.interval_width(pred, level=0.8) - 1e-9).all()


def test_fair_scores_may_be_negative():
    assert float(metrics.crps_ensemble([0.0, 1.0, 2.0], 1.0, estimator="fair")) == pytest.approx(0.0)
    assert float(metrics.crps_ensemble([0.0, 2.0, 4.0, 6.0], 3.0, estimator="fair")) < 0.34
    assert float(metrics.crps_ensemble([0.0, 3.0, 3.0, 3.0, 6.0], 3.0, estimator="fair")) < 0


# Decompositions: the parts add up


@some
@given(seed=seeds, weighted=st.booleans(), score=st.sampled_from(["brier", "log", "quantile", "crps"]))
def test_scores_are_miscalibration_less_discrimination_and_uncertainty(seed, weighted, score):
    rng = np.random.default_rng(seed)
    size, classes = 20, 2 if score == "log" else 3
    weight = rng.uniform(0, 3, size) * (rng.uniform(size=size) < 0.8) + 1e-3 if weighted else None
    if score in ("brier", "log"):
        pred = rng.dirichlet(np.ones(classes), size).round(1) * 0.94 + 0.02  # ties
        pred /= pred.sum(1, keepdims=True)
        y = rng.integers(0, classes, size)
    else:
        pred = stats.norm(300 + 9 * rng.normal(size=size).round(), 10 * rng.uniform(0.5, 2, size))
        y = 300 + 12 * rng.normal(size=size)
    whole, miscalibration, discrimination, uncertainty = (
        float(part) for part in metrics.score_decomposition(pred, y, score=score, level=0.7, weight=weight)
    )
    assert whole == pytest.approx(miscalibration - discrimination + uncertainty, rel=1e-10, abs=1e-12)
    assert min(miscalibration, discrimination, uncertainty) >= -1e-12
    if score in ("brier", "log"):
        values = {"brier": metrics.brier_score, "log": metrics.log_score}[score](pred, y)
        assert whole == pytest.approx(np.average(values, weights=weight), rel=1e-10)


@some
@given(seed=seeds, weighted=st.booleans(), classes=st.integers(2, 4), bins=st.integers(1, 12))
def test_the_binned_brier_score_adds_up(seed, weighted, classes, bins):
    rng = np.random.default_rng(seed)
    probs, y = rng.dirichlet(np.ones(classes), 40), rng.integers(0, classes, 40)
    weight = rng.integers(0, 3, 40) + 0.5 * (np.arange(40) == 0) if weighted else None
    parts = metrics.brier_decomposition(probs, y, bins=bins, weight=weight)
    brier, reliability, resolution, uncertainty, variance, covariance = (float(part) for part in parts)
    assert brier == pytest.approx(reliability - resolution + uncertainty + variance - covariance, rel=1e-10, abs=1e-12)
    assert brier == pytest.approx(np.average(metrics.brier_score(probs, y), weights=weight), rel=1e-10)
    assert min(reliability, resolution, uncertainty, variance) >= -1e-15


@some
@given(seed=seeds, weighted=st.booleans(), classes=st.integers(2, 4), score=st.sampled_from(["log", "brier"]))
def test_ensembles_score_their_members_less_diversity(seed, weighted, classes, score):
    rng = np.random.default_rng(seed)
    members, y = rng.dirichlet(np.ones(classes), (5, 20)), rng.integers(0, classes, 20)
    weight = rng.uniform(0.1, 3, 20) if weighted else None
    parts = metrics.ensemble_decomposition(members, y, score=score, weight=weight)
    ensemble, each, diversity = (float(part) for part in parts)
    assert ensemble == pytest.approx(each - diversity, rel=1e-10, abs=1e-12) and diversity >= -1e-12
    function = {"log": metrics.log_score, "brier": metrics.brier_score}[score]
    assert ensemble == pytest.approx(np.average(function(members.mean(0), y), weights=weight), rel=1e-10)
    if score == "brier":
        spread = np.square(members - members.mean(0)).sum(-1).mean(0) / (2 if classes == 2 else 1)
        assert diversity == pytest.approx(np.average(spread, weights=weight), rel=1e-10, abs=1e-12)
    total, aleatoric, epistemic = metrics.uncertainty_decomposition(members, measure="entropy", weight=weight)
    assert float(total) == pytest.approx(float(aleatoric) + float(epistemic), rel=1e-10)
    assert float(epistemic) == pytest.approx(float(metrics.mutual_information(members, weight=weight)), abs=1e-12)


# Consistency: routes and precisions


@pytest.mark.parametrize("name", FAMILIES)
def test_single_precision_compiled_agrees_with_double_on_the_host(name):
    """To 1e-4 of the score, up to 20 standard deviations from the centre, and far beyond."""
    ours, theirs, base = FAMILIES[name]
    truth = theirs(*base)
    y = truth.mean() + truth.std() * np.r_[np.linspace(-20, 20, 41), -1e5, -1e3, 1e3, 1e5]
    y = np.round(y) if hasattr(truth.dist, "pmf") else y.astype(np.float32).astype(np.float64)
    low, high = truth.support()
    y = y[(y >= low) & (y <= high) & (y != 0.0)]
    parameters = tuple(np.full(y.shape, value, np.float32) for value in base)

    @jax.jit
    def both(y, *parameters):
        pred = ours(*parameters)
        return metrics.log_score(pred, y), metrics.crps(pred, y)

    compiled = both(jnp.asarray(y, jnp.float32), *map(jnp.asarray, parameters))
    assert all(value.dtype == jnp.float32 for value in compiled)
    doubled = [value.astype(np.float64) for value in parameters]
    exact = metrics.log_score(ours(*doubled), y), metrics.crps(ours(*doubled), y)
    for got, want in zip(compiled, exact, strict=True):
        assert want.dtype == np.float64
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.median(np.abs(want)))
    near = np.abs(y - truth.mean()) <= 20 * truth.std()  # scipy's log-densities are those of the truth there
    theirs = truth.logpmf if hasattr(truth.dist, "pmf") else truth.logpdf
    np.testing.assert_allclose(exact[0][near], -theirs(y[near]), rtol=1e-5)
