"""Detectors on features: closed forms, one pass = many, shards merge, far origins, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors

import uq
from uq import ood

CLASSES, WIDTH = 3, 5


def sample(rng, num, members=2, loc=3.0, scale=2.0):
    labels = rng.choice(CLASSES, num, p=[0.6, 0.3, 0.1])
    mix = rng.normal(size=(members, WIDTH, WIDTH))
    centres = rng.normal(size=(members, CLASSES, WIDTH)) * 3
    spread = (1 + labels[:, None]) * rng.normal(size=(members, num, WIDTH))
    return loc + scale * (centres[:, labels] + spread @ mix), labels


FEATURES, LABELS = sample(np.random.default_rng(0), 400)
TESTS = np.concatenate([FEATURES[:, :20], FEATURES[:, :20] * 2 + 7], 1)


def by_hand(kind):
    """Scores from the definitions, member by member, in float64."""
    total = 0
    for member, tests in zip(FEATURES, TESTS, strict=True):
        means = [member[c == LABELS].mean(0) for c in range(CLASSES)]
        centred = member - np.stack(means)[LABELS]
        if kind == "gaussian_density":
            logs = [
                np.log((c == LABELS).mean())
                + stats.multivariate_normal(means[c], np.cov(member[c == LABELS].T, bias=True)).logpdf(tests)
                for c in range(CLASSES)
            ]
            total = total - special.logsumexp(logs, axis=0)
            continue
        inverse = np.linalg.inv(centred.T @ centred / len(member))
        distance = np.min([np.einsum("nd,de,ne->n", tests - m, inverse, tests - m) for m in means], 0)
        if kind == "relative_mahalanobis":
            distance = distance - EmpiricalCovariance().fit(member).mahalanobis(tests)
        total = total + distance
    return total / len(FEATURES)


DETECTORS = ("mahalanobis", "relative_mahalanobis", "gaussian_density")


@pytest.mark.parametrize("kind", DETECTORS)
def test_against_the_definition(kind):
    detector = getattr(ood, kind)(CLASSES, ridge=0.0)
    want = by_hand(kind)
    fitted = detector.fit([(FEATURES, LABELS)])
    np.testing.assert_allclose(detector.score(fitted, TESTS), want, rtol=1e-9)
    there = detector.fit([(jnp.asarray(FEATURES, jnp.float32), jnp.asarray(LABELS))])
    score = detector.score(there, jnp.asarray(TESTS, jnp.float32))
    assert isinstance(score, jax.Array)
    np.testing.assert_allclose(score, want, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("kind", DETECTORS)
def test_batches_and_shards_give_what_one_pass_gives(kind):
    detector = getattr(ood, kind)(CLASSES)
    whole = detector.fit([(FEATURES, LABELS)])
    parts = [slice(0, 1), slice(1, 7), slice(7, 200), slice(200, 400)]
    streamed = detector.fit([(FEATURES[:, s], LABELS[s]) for s in parts])
    one, other = (
        detector.update(detector.init(FEATURES), FEATURES[:, s], LABELS[s]) for s in (slice(150), slice(150, 400))
    )
    merged = detector.finish(detector.merge(detector.merge(detector.init(FEATURES), one), other))
    for fitted in (streamed, merged):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), fitted, whole)


@pytest.mark.parametrize("kind", DETECTORS)
def test_it_jits_and_streams_on_the_device(kind):
    detector = getattr(ood, kind)(CLASSES)
    features, labels = jnp.asarray(FEATURES, jnp.float32), jnp.asarray(LABELS)
    update, score = jax.jit(detector.update), jax.jit(detector.score)
    state = detector.init(features)
    for start in range(0, 400, 100):
        state = update(state, features[:, start : start + 100], labels[start : start + 100])
    fitted = jax.jit(detector.finish)(state)
    found = score(fitted, jnp.asarray(TESTS, jnp.float32))
    score(fitted, jnp.asarray(TESTS, jnp.float32) + 1)
    want = detector.score(detector.fit([(FEATURES, LABELS)]), TESTS)
    np.testing.assert_allclose(found, want, rtol=2e-3, atol=2e-3)
    assert update._cache_size() == 1 and score._cache_size() == 1


def test_a_far_origin_and_another_unit_change_no_mahalanobis_distance():
    for kind in DETECTORS[:2]:
        detector = getattr(ood, kind)(CLASSES)
        want = detector.score(detector.fit([(FEATURES, LABELS)]), TESTS)
        moved = [1e7 + 1e-3 * each for each in (FEATURES, TESTS)]
        batches = [(moved[0][:, s], LABELS[s]) for s in (slice(123), slice(123, 400))]
        np.testing.assert_allclose(detector.score(detector.fit(batches), moved[1]), want, rtol=1e-4)
        moved = [jnp.asarray(1024 + np.round(each * 64) / 64, jnp.float32) for each in (FEATURES, TESTS)]
        batches = [(moved[0][:, s], LABELS[s]) for s in (slice(123), slice(123, 400))]
        np.testing.assert_allclose(detector.score(detector.fit(batches), moved[1]), want, rtol=0.05, atol=0.1)


def test_classes_never_seen_are_near_nothing():
    few = [(FEATURES[:, LABELS < 2], LABELS[LABELS < 2])]
    for kind in DETECTORS:
        both = getattr(ood, kind)(2), getattr(ood, kind)(CLASSES)
        two, three = (d.score(d.fit(few), TESTS) for d in both)
        np.testing.assert_allclose(two, three, rtol=1e-9)


@pytest.mark.parametrize("normalize", [True, False])
def test_nearest_neighbours_against_scikit_learn(normalize):
    detector = ood.nearest_neighbours(4, normalize=normalize, capacity=1000)
    fitted = detector.fit([FEATURES[:, :150], FEATURES[:, 150:]])
    want = 0
    for member, tests in zip(FEATURES, TESTS, strict=True):
        if normalize:
            member, tests = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (member, tests))
        want = want + NearestNeighbors(n_neighbors=4).fit(member).kneighbors(tests)[0][:, -1] / 2
    np.testing.assert_allclose(detector.score(fitted, TESTS), want, rtol=1e-4, atol=1e-6)
    score = jax.jit(detector.score)
    np.testing.assert_allclose(score(fitted, TESTS), want, rtol=1e-4, atol=1e-6)


def test_the_bank_is_a_uniform_sample_and_merges():
    number = np.arange(60.0)[None, :, None]
    counts = np.zeros(60)
    for seed in range(150):
        one, other = (ood.nearest_neighbours(1, capacity=12, normalize=False, key=seed + 1000 * i) for i in (0, 1))
        a, b = one.init(number), other.init(number)
        for start in (0, 15):
            a = one.update(a, number[:, start : start + 15])
            b = other.update(b, number[:, 30 + start : 45 + start])
        rows = np.asarray(one.finish(one.merge(a, b)).rows)[0, :, 0].astype(int)
        assert len(set(rows)) == 12
        counts[rows] += 1
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("kind", [*DETECTORS, "nearest_neighbours"])
def test_unusual_is_high(kind):
    rng = np.random.default_rng(5)
    detector = ood.nearest_neighbours(5) if kind == "nearest_neighbours" else getattr(ood, kind)(CLASSES)
    shifted = FEATURES[:, 300:] + 6 * rng.normal(size=(2, 100, WIDTH)) + 10
    fitted = detector.fit([(FEATURES[:, :300], LABELS[:300])])
    value = detector.score(fitted, np.concatenate([FEATURES[:, 300:], shifted], 1))
    assert uq.metrics.auroc(value, np.repeat([0, 1], 100)) > 0.7


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda d: d.fit([]), "at least one batch"),
        (lambda d: d.fit([(FEATURES[0, 0], LABELS)]), "features of shape"),
        (lambda d: d.fit([(FEATURES, LABELS + 1)]), "3"),
        (lambda d: d.fit([(FEATURES, LABELS[:5])]), "400 examples"),
        (lambda d: d.fit([(np.where(FEATURES > 3, np.nan, FEATURES), LABELS)]), "finite"),
        (lambda d: d.score(d.fit([(FEATURES, LABELS)]), FEATURES[..., :2]), "2 members and width 5"),
        (lambda d: d.finish(d.init(FEATURES)), "no examples"),
        (lambda d: ood.mahalanobis(0), "num_classes"),
        (lambda d: ood.mahalanobis(2, ridge=-1.0), "ridge"),
        (lambda d: ood.nearest_neighbours(5, capacity=3), "capacity"),
        (lambda d: ood.nearest_neighbours(5).fit([FEATURES[:, :3]]), "k = 5"),
    ],
)
def test_bad_input(wrong, said):
    with pytest.raises(uq.InputError, match=said):
        wrong(ood.mahalanobis(CLASSES))
