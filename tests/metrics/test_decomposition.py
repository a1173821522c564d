"""Decompositions: they add up, and each part is what a loop says it is."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.isotonic import IsotonicRegression

import uq
from tests.metrics.oracle import Mixture, entropy, softplus
from uq.metrics import decomposition, extrapolation, isotonic, joint, murphy

SIZE, MEMBERS = 60, 4


def members(num_classes=3, seed=0, size=SIZE):
    rng = np.random.default_rng(seed)
    return special.softmax(1.5 * rng.normal(size=(MEMBERS, size, num_classes)), -1), rng.integers(0, num_classes, size)


def regression(loc=1e4, scale=250.0, weight=None, seed=0):
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(MEMBERS, SIZE, 2)).astype(np.float32)
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), loc, scale)
    pred = uq.Predictive(jnp.asarray(outputs), likelihood, None if weight is None else jnp.asarray(weight))
    means = loc + scale * outputs[..., 0].astype(np.float64)
    scales = scale * (softplus(outputs[..., 1]) + 1e-3)
    return pred, means, scales, loc + scale * rng.normal(size=SIZE)


def test_entropies_against_loops():
    probs, _ = members()
    parts = decomposition.uncertainty_decomposition(probs, measure="entropy")
    total = np.mean([entropy(probs[:, n].mean(0)) for n in range(SIZE)])
    inner = np.mean([[entropy(p) for p in one] for one in probs])
    assert float(parts.total) == pytest.approx(total, rel=1e-12)
    assert float(parts.aleatoric) == pytest.approx(inner, rel=1e-12)
    assert float(parts.total) == pytest.approx(float(parts.aleatoric) + float(parts.epistemic), rel=1e-12)
    mixed = probs.mean(0)
    kl = np.mean([[stats.entropy(probs[m, n], mixed[n]) for n in range(SIZE)] for m in range(MEMBERS)])
    assert float(decomposition.mutual_information(probs)) == pytest.approx(kl, rel=1e-10)
    assert 0 <= kl <= math.log(MEMBERS)


def test_variances_of_numbers_and_of_classes():
    pred, means, scales, _ = regression()
    parts = decomposition.uncertainty_decomposition(pred)
    np.testing.assert_allclose(float(parts.aleatoric), (scales**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(float(parts.epistemic), means.var(0).mean(), rtol=1e-4)
    probs, _ = members()
    parts = decomposition.uncertainty_decomposition(probs)
    mixed = probs.mean(0)
    np.testing.assert_allclose(float(parts.total), (mixed * (1 - mixed)).sum(-1).mean(), rtol=1e-12)
    np.testing.assert_allclose(float(parts.aleatoric), (probs * (1 - probs)).sum(-1).mean(), rtol=1e-12)


def test_pairs_of_members():
    probs, _ = members()
    pairs = list(itertools.permutations(range(MEMBERS), 2))
    differ = np.mean([(probs[a].argmax(-1) != probs[b].argmax(-1)).mean() for a, b in pairs])
    assert float(decomposition.disagreement(probs)) == pytest.approx(differ, rel=1e-12)
    kl = np.mean([[stats.entropy(probs[a, n], probs[b, n]) for n in range(SIZE)] for a, b in pairs])
    assert float(decomposition.pairwise_kl(probs)) == pytest.approx(kl, rel=1e-10)
    pred, means, scales, _ = regression()
    normal = np.mean(
        [
            np.log(scales[b] / scales[a]) + (scales[a] ** 2 + (means[a] - means[b]) ** 2) / (2 * scales[b] ** 2) - 0.5
            for a, b in pairs
        ]
    )
    np.testing.assert_allclose(float(decomposition.pairwise_kl(pred)), normal, rtol=1e-3)


def test_one_member_neither_disagrees_nor_diverges():
    probs, _ = members()
    assert float(decomposition.disagreement(probs[:1])) == 0
    assert float(decomposition.pairwise_kl(probs[:1])) == 0
    assert float(decomposition.mutual_information(probs[:1])) == 0


def test_ruling_out_what_another_allows_is_infinitely_far():
    probs = np.array([[[1.0, 0.0]], [[0.5, 0.5]]])
    assert math.isinf(float(decomposition.pairwise_kl(probs)))
    same = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    assert float(decomposition.pairwise_kl(same)) == 0


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), num_classes=st.integers(2, 5), score=st.sampled_from(["log", "brier"]))
def test_ensemble_is_members_less_diversity(seed, num_classes, score):
    probs, y = members(num_classes, seed, size=12)
    parts = decomposition.ensemble_decomposition(probs, y, score=score)
    assert float(parts.ensemble) == pytest.approx(float(parts.members) - float(parts.diversity), rel=1e-10)
    assert float(parts.diversity) >= -1e-12
    mixed = probs.mean(0)
    rows = np.arange(12)
    if score == "log":
        want = -np.log(mixed[rows, y]).mean(), -np.log(probs[:, rows, y]).mean()
    else:
        hot = np.eye(num_classes)[y]
        half = 0.5 if num_classes == 2 else 1.0
        want = half * ((mixed - hot) ** 2).sum(-1).mean(), half * ((probs - hot) ** 2).sum(-1).mean()
        spread = half * ((probs - mixed) ** 2).sum(-1).mean()
        assert float(parts.diversity) == pytest.approx(spread, rel=1e-9)
    assert float(parts.ensemble) == pytest.approx(want[0], rel=1e-12)
    assert float(parts.members) == pytest.approx(want[1], rel=1e-12)


@pytest.mark.parametrize("weight", [None, [0.1, 0.4, 0.2, 0.3]])
@pytest.mark.parametrize("score", ["log", "crps", "squared"])
def test_ensemble_of_regressions(score, weight):
    pred, means, scales, y = regression(weight=None if weight is None else np.float32(weight))
    w = np.full(MEMBERS, 0.25) if weight is None else np.asarray(weight)
    parts = decomposition.ensemble_decomposition(pred, y, score=score)
    if score == "log":
        each = -stats.norm.logpdf(y, means, scales)
        ensemble = -special.logsumexp(-each, axis=0, b=w[:, None])
    elif score == "squared":
        each = (y - means) ** 2
        ensemble = (y - w @ means) ** 2
        np.testing.assert_allclose(float(parts.diversity), (w @ (means - w @ means) ** 2).mean(), rtol=1e-3)
    else:
        each = np.array(
            [
                [Mixture([m], [s], [1.0]).crps(t) for m, s, t in zip(*row, y, strict=True)]
                for row in zip(means, scales, strict=True)
            ]
        )
        ensemble = np.array([Mixture(means[:, n], scales[:, n], w).crps(y[n]) for n in range(SIZE)])
    np.testing.assert_allclose(float(parts.ensemble), ensemble.mean(), rtol=2e-5)
    np.testing.assert_allclose(float(parts.members), (w @ each).mean(), rtol=2e-5)


def test_a_diverged_member_is_left_out():
    pred, *_ = regression(weight=np.float32([0.5, 0.5, 0, 0]))
    broken = uq.Predictive(pred.outputs.at[2:].set(jnp.nan), pred.likelihood, pred.weight)
    parts = decomposition.ensemble_decomposition(broken, np.full(SIZE, 1e4), score="crps")
    assert all(math.isfinite(float(part)) for part in parts)


# Murphy


@pytest.mark.parametrize("num_classes", [2, 3])
def test_defect_35_binned_brier_adds_up_with_the_within_bin_terms(num_classes):
    rng = np.random.default_rng(0)
    probs = special.softmax(1.5 * rng.normal(size=(400, num_classes)), -1)
    y = rng.choice(num_classes, 400, p=[0.7, 0.3] if num_classes == 2 else [0.7, 0.2, 0.1])  # imbalanced
    b = murphy.brier_decomposition(probs, y, bins=5)
    brier = float(b.brier)
    half = 0.5 if num_classes == 2 else 1.0
    assert brier == pytest.approx(half * ((probs - np.eye(num_classes)[y]) ** 2).sum(1).mean(), rel=1e-12)
    three = float(b.reliability) - float(b.resolution) + float(b.uncertainty)
    assert three + float(b.within_variance) - float(b.within_covariance) == pytest.approx(brier, rel=1e-10)
    assert abs(three - brier) > 1e-4


def test_defect_19_resolution_pairs_the_label_with_the_forecast():
    """Forecasts that know nothing have no resolution, however imbalanced the classes are."""
    rng = np.random.default_rng(1)
    y = rng.choice(3, 3000, p=[0.8, 0.15, 0.05])
    probs = np.tile([0.8, 0.15, 0.05], (3000, 1))
    b = murphy.brier_decomposition(probs, y)
    assert float(b.resolution) < 1e-12
    assert float(b.uncertainty) == pytest.approx(1 - sum((y == c).mean() ** 2 for c in range(3)), rel=1e-10)


# Isotonic


def pooled_isotonic(p, y, w):
    values, index = np.unique(p, return_inverse=True)
    mass = np.bincount(index, w)
    fit = IsotonicRegression().fit_transform(values, np.bincount(index, w * y) / mass, sample_weight=mass)
    return fit[index]


@pytest.mark.parametrize("score", ["brier", "log"])
def test_defect_17_ties_are_pooled(score):
    rng = np.random.default_rng(0)
    p = np.round(rng.uniform(0.05, 0.95, size=1000), 1)
    y = (rng.uniform(size=1000) < p).astype(int)
    parts = isotonic.score_decomposition(p, y, score=score)
    fit = pooled_isotonic(p, y, np.ones(1000))
    function = (lambda q: (q - y) ** 2) if score == "brier" else lambda q: -np.log(np.where(y == 1, q, 1 - q))
    assert float(parts.miscalibration) == pytest.approx((function(p) - function(fit)).mean(), abs=1e-10)
    constant = np.full(1000, y.mean())
    assert float(parts.discrimination) == pytest.approx((function(constant) - function(fit)).mean(), abs=1e-10)
    shuffled = rng.permutation(1000)
    again = isotonic.score_decomposition(p[shuffled], y[shuffled], score=score)
    assert float(again.miscalibration) == pytest.approx(float(parts.miscalibration), rel=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), score=st.sampled_from(["brier", "log", "quantile", "crps"]))
def test_parts_add_up_and_are_not_negative(seed, score):
    rng = np.random.default_rng(seed)
    size = 25
    if score in ("brier", "log"):
        pred, y = np.round(rng.uniform(0.01, 0.99, size), 2), rng.integers(0, 2, size)
    else:
        pred, y = (
            stats.norm(100 + rng.normal(size=size), 3 * rng.uniform(0.5, 2, size)),
            100 + 3 * rng.normal(size=size),
        )
    parts = isotonic.score_decomposition(pred, y, score=score, level=0.8)
    whole, miscalibration, discrimination, uncertainty = (float(part) for part in parts)
    assert whole == pytest.approx(miscalibration - discrimination + uncertainty, rel=1e-10, abs=1e-12)
    assert min(miscalibration, discrimination, uncertainty) >= 0


def test_crps_parts_against_the_score_and_the_climate():
    rng = np.random.default_rng(3)
    pred, y = stats.norm(50 + 4 * rng.normal(size=200), 2.0), 50 + 5 * rng.normal(size=200)
    parts = isotonic.score_decomposition(pred, y, score="crps")
    mean, scale = pred.mean(), 2.0
    z = (y - mean) / scale
    closed = scale * (z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi))
    assert float(parts.score) == pytest.approx(closed.mean(), rel=2e-3)
    climate = np.abs(y[:, None] - y).mean() - 0.5 * np.abs(y[:, None] - y).mean()
    assert float(parts.uncertainty) == pytest.approx(climate, rel=2e-3)


def test_quantile_parts_against_brute_force():
    """Isotonic quantile regression by trying every non-decreasing assignment of sample values."""
    rng = np.random.default_rng(5)
    p, y = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0]), rng.normal(3, 2, 6)
    pred = stats.norm(p, 1e-9)
    parts = isotonic.score_decomposition(pred, y, score="quantile", level=0.7)

    def loss(q):
        return np.maximum(0.7 * (y - q), -0.3 * (y - q)).mean()

    grid = np.sort(y)
    best = min(
        loss(np.array(q)[[0, 1, 1, 2, 3, 4]])
        for q in itertools.product(grid, repeat=5)
        if all(a <= b for a, b in itertools.pairwise(q))
    )
    assert float(parts.score) - float(parts.miscalibration) == pytest.approx(best, abs=1e-8)


def test_integer_weights_are_repeated_rows():
    rng = np.random.default_rng(0)
    p, y, w = np.round(rng.uniform(size=80), 1), rng.integers(0, 2, 80), rng.integers(0, 4, 80)
    a = isotonic.score_decomposition(p, y, weight=w)
    b = isotonic.score_decomposition(np.repeat(p, w), np.repeat(y, w))
    c = murphy.brier_decomposition(p, y, weight=w.astype(float))
    d = murphy.brier_decomposition(np.repeat(p, w), np.repeat(y, w))
    for left, right in [*zip(a, b, strict=True), *zip(c, d, strict=True)]:
        assert float(left) == pytest.approx(float(right), rel=1e-10, abs=1e-14)
    assert isotonic.score_decomposition(p, y, key=0).score.stderr == pytest.approx(
        ((p - y) ** 2).std() / math.sqrt(80), rel=0.3
    )


# Joint


def test_joint_scores_against_a_loop():
    probs, y = members()
    groups = np.arange(SIZE) % 7
    rows = np.arange(SIZE)
    each = np.log(probs[:, rows, y])
    want = np.mean([-special.logsumexp(each[:, groups == g].sum(1), b=1 / MEMBERS) for g in range(7)])
    assert float(joint.joint_log_score(probs, y, groups=groups)) == pytest.approx(want, rel=1e-5)
    alone = joint.joint_log_score(probs, y, size=1, key=0)
    assert float(alone) == pytest.approx(-np.log(probs.mean(0)[rows, y]).mean(), rel=1e-5)
    assert int(joint.joint_log_score(probs, y, size=8, key=0).count) == SIZE // 8
    pred, means, scales, t = regression()
    each = stats.norm.logpdf(t, means, scales)
    want = np.mean([-special.logsumexp(each[:, groups == g].sum(1), b=1 / MEMBERS) for g in range(7)])
    assert float(joint.joint_log_score(pred, t, groups=groups)) == pytest.approx(want, rel=1e-4)


def test_joint_scores_tell_apart_what_marginal_ones_cannot():
    """All members unsure, or each member sure of another: equal marginals, unequal joints."""
    unsure = np.full((2, 4, 2), 0.5)
    divided = np.stack([np.tile([0.99, 0.01], (4, 1)), np.tile([0.01, 0.99], (4, 1))])
    y = np.zeros(4, int)
    same = [float(joint.joint_log_score(p, y, groups=np.arange(4))) for p in (unsure, divided)]
    assert same[0] == pytest.approx(same[1], rel=1e-5)
    together = [float(joint.joint_log_score(p, y, groups=np.zeros(4, int))) for p in (unsure, divided)]
    assert together[1] < together[0] / 3


# Sizes


def subsets(number, size):
    return list(itertools.combinations(range(number), size))


@pytest.mark.parametrize("score", ["brier", "crps", "squared", "log"])
def test_sizes_against_the_average_over_all_subsets(score):
    if score == "brier":
        pred, y = members()
    else:
        pred, means, scales, y = regression()
    sizes = range(1, MEMBERS + 1)
    found = extrapolation.size_extrapolation(pred, y, score=score, sizes=tuple(sizes))
    for size, got in zip(sizes, found.scores, strict=True):
        values = []
        for chosen in subsets(MEMBERS, size):
            at = list(chosen)
            if score == "brier":
                values.append(((pred[at].mean(0) - np.eye(3)[y]) ** 2).sum(-1).mean())
            elif score == "squared":
                values.append(((y - means[at].mean(0)) ** 2).mean())
            elif score == "log":
                values.append(
                    -special.logsumexp(stats.norm.logpdf(y, means[at], scales[at]), axis=0, b=1 / size).mean()
                )
            else:
                values.append(
                    np.mean([Mixture(means[at, n], scales[at, n], np.ones(size)).crps(y[n]) for n in range(0, SIZE, 6)])
                )
        if score == "crps":
            part = extrapolation.size_extrapolation(pred[::6], y[::6], score=score, sizes=(size,))
            got = part.scores[0]
        assert float(got) == pytest.approx(np.mean(values), rel=2e-4), (score, size)
    assert found.exact
    beyond = extrapolation.size_extrapolation(pred, y, score=score, sizes=(MEMBERS, math.inf))
    assert float(beyond.scores[1]) < float(beyond.scores[0])
    assert beyond.exact == (score != "log")


def test_the_limit_of_many_members_is_unbiased():
    """Ensembles of 3 predict what one of 2,000 scores, on average."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=40)
    y = truth + rng.normal(size=40)
    limit = [
        np.mean(
            [
                float(value)
                for value in extrapolation.size_extrapolation(
                    uq.Predictive(
                        jnp.asarray(
                            np.stack([truth + 0.7 * rng.normal(size=(3, 40)), np.full((3, 40), 0.5)], -1), jnp.float32
                        ),
                        uq.likelihoods.Gaussian(),
                    ),
                    y,
                    score="squared",
                    sizes=(math.inf,),
                ).scores
            ]
        )
        for _ in range(60)
    ]
    want = np.mean((y - truth) ** 2)  # infinitely many members average to the truth
    assert np.mean(limit) == pytest.approx(want, abs=4 * np.std(limit) / math.sqrt(60))


# Contract


def test_under_jit_and_with_keys():
    probs, y = members()
    p, labels = jnp.asarray(probs, jnp.float32), jnp.asarray(y, jnp.int32)
    eager = decomposition.ensemble_decomposition(probs, y, score="brier", key=0)
    jitted = jax.jit(lambda p, y: decomposition.ensemble_decomposition(p, y, score="brier"))(p, labels)
    for a, b in zip(eager, jitted, strict=True):
        assert float(a) == pytest.approx(float(b), rel=1e-5)
        assert a.interval.lower < float(a) < a.interval.upper
    jitted = jax.jit(decomposition.mutual_information)(p)
    assert float(jitted) == pytest.approx(float(decomposition.mutual_information(probs)), rel=1e-4)
    gradient = jax.grad(lambda p: decomposition.mutual_information(p).value)(p)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p, y: decomposition.disagreement(p[0]), r"\(M, N, C\)"),
        (lambda p, y: decomposition.disagreement(p * np.nan), "NaN"),
        (lambda p, y: decomposition.disagreement(2 * p), "between 0 and 1"),
        (lambda p, y: decomposition.ensemble_decomposition(p, y, score="crps"), "for numbers"),
        (lambda p, y: decomposition.ensemble_decomposition(p, y, score="nll"), "score"),
        (lambda p, y: decomposition.uncertainty_decomposition(p, measure="mad"), "measure"),
        (lambda p, y: joint.joint_log_score(p, y), "either"),
        (lambda p, y: joint.joint_log_score(p, y, size=10**6, key=0), "at most"),
        (lambda p, y: joint.joint_log_score(p, y, groups=[0, 1]), "one an example"),
        (lambda p, y: extrapolation.size_extrapolation(p[:1], y, score="brier"), "at least two"),
        (lambda p, y: extrapolation.size_extrapolation(p, y, score="brier", sizes=(0.5,)), "at least 1"),
        (lambda p, y: isotonic.score_decomposition(p[0], y, score="log"), "two classes"),
        (lambda p, y: isotonic.score_decomposition(p[0], y, score="dss"), "score"),
    ],
)
def test_bad_input(call, said):
    with pytest.raises(uq.InputError, match=said):
        call(*members())


@pytest.mark.parametrize("case", ["good", "narrow", "mixed", "shifted", "one wide", "heavy"])
def test_decomposed_crps_is_the_crps(case):
    rng = np.random.default_rng(0)
    size = 500
    loc = rng.normal(size=size)
    y = loc + rng.normal(size=size)
    scale = {"narrow": 0.01, "mixed": np.exp(1.5 * rng.normal(size=size)), "one wide": np.where(loc == loc[3], 100, 1)}
    law = (stats.t(2, loc, 1) if case == "heavy" else
           stats.norm(loc + 100 * (case == "shifted"), scale.get(case, 1.0) * np.ones(size)))  # fmt: skip
    found = uq.metrics.score_decomposition(law, y, score="crps")
    np.testing.assert_allclose(float(found[0]), uq.metrics.crps(law, y).mean(), rtol=3e-3)
    ranked = np.sort(y)
    share = np.arange(1, size) / size
    np.testing.assert_allclose(float(found[3]), (share * (1 - share) * np.diff(ranked)).sum(), rtol=5e-3)


@pytest.mark.parametrize("score", ["crps", "quantile"])
def test_decomposed_scores_do_not_look_at_rows_of_weight_0(score):
    rng = np.random.default_rng(1)
    loc, weight = rng.normal(size=SIZE), rng.integers(0, 3, SIZE)
    y, live = loc + rng.normal(size=SIZE), weight > 0
    outputs = np.stack([loc, 0 * loc], -1)[None].astype(np.float32)
    pred = uq.Predictive(outputs, uq.likelihoods.Gaussian())
    other = uq.Predictive(np.where(live[:, None], outputs, np.nan), uq.likelihoods.Gaussian())
    again = np.repeat(np.arange(SIZE), weight)
    want = uq.metrics.score_decomposition(pred[again], y[again], score=score)
    for said, outcome in ((pred, y), (other, np.where(live, y, 1e6))):
        found = uq.metrics.score_decomposition(said, outcome, score=score, weight=weight)
        np.testing.assert_allclose(np.asarray(found, float), np.asarray(want, float), rtol=4e-3, atol=1e-4)
        assert found[0].count == live.sum()


def test_sizes_are_one_or_several_and_scores_are_known():
    probs, y = members()
    assert extrapolation.size_extrapolation(probs, y, score="brier", sizes=3).sizes == (3.0,)
    with pytest.raises(uq.InputError, match="no score 'foo'"):
        extrapolation.size_extrapolation(probs, y, score="foo")


@pytest.mark.parametrize("score", ["crps", "quantile"])
def test_one_forecast_for_all_discriminates_nothing(score):
    y = np.random.default_rng(0).normal(size=50)
    one, many = stats.norm(0.3, 1.5), stats.norm(np.full(50, 0.3), 1.5)
    found, want = (uq.metrics.score_decomposition(law, y, score=score, level=0.7) for law in (one, many))
    np.testing.assert_allclose(np.asarray(found, float), np.asarray(want, float), rtol=1e-12)
    assert float(found[2]) == 0
