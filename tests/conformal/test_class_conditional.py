"""Guarantees within classes, groups, clusters of classes, and under covariate shift."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq import conformal
from uq.conformal._clusters import k_means

from . import plain
from .bands import band, place
from .test_label_sets import KINDS, draw


def eighths(rng, num, classes=4):
    counts = rng.multinomial(8, np.full(classes, 1 / classes), num)
    return (counts / 8).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Calibration examples are too few")
def test_each_class_has_the_threshold_of_its_own_examples(kind):
    make, numbers = KINDS[kind]
    rng = np.random.default_rng(3)
    probs, tests = eighths(rng, 60), eighths(rng, 30)
    labels = np.concatenate([np.arange(4), rng.choice(4, 56, p=[0.5, 0.3, 0.15, 0.05])])
    procedure = conformal.class_conditional(make())
    state = procedure.fit(probs, labels)
    for level in (0.5, 0.8, 0.9):
        wanted = np.zeros((30, 4), bool)
        for c in range(4):
            rows = labels == c
            bound = plain.order_statistic([plain.score(kind, list(p), c, 1.0, numbers) for p in probs[rows]], level)
            for i, row in enumerate(tests):
                wanted[i, c] = c in plain.one(kind, list(row), bound, numbers, False)
        np.testing.assert_array_equal(procedure.apply(state, tests, level).included, wanted)


@pytest.mark.filterwarnings("ignore:Calibration examples are too few")
def test_each_group_has_the_threshold_of_its_own_examples():
    rng = np.random.default_rng(4)
    probs, tests = eighths(rng, 60), eighths(rng, 30)
    labels, groups, asked = rng.integers(0, 4, 60), rng.choice([-3, 7, 1000], 60), rng.choice([-3, 7, 1000], 30)
    base, procedure = conformal.aps(), conformal.group_conditional(conformal.aps())
    sets = procedure.apply(procedure.fit(probs, labels, groups=groups), tests, 0.8, groups=asked)
    for group in (-3, 7, 1000):
        own = base.apply(base.fit(probs[groups == group], labels[groups == group]), tests[asked == group], 0.8)
        np.testing.assert_array_equal(np.asarray(sets.included)[asked == group], own.included)
        at = [-3, 7, 1000].index(group)
        assert (sets.realised.lower[at], sets.realised.upper[at]) == pytest.approx(own.realised, rel=1e-6)


@pytest.mark.parametrize("name", ["class", "group"])
def test_coverage_within(name):
    """Of the examples of each class or group, whose numbers are what is given."""
    rng = np.random.default_rng(6)
    simulations, sizes, tests, level = 500, (9, 19, 50), 3, 0.9
    category = np.repeat([0, 1, 2], sizes)
    asked = np.repeat([0, 1, 2], tests)
    logits = rng.normal(size=(simulations, len(category) + len(asked), 3)) * 1.5
    every = np.concatenate([category, asked])
    if name == "class":
        labels = np.broadcast_to(every, logits.shape[:2])
        logits = logits + 2 * np.eye(3)[labels] * (0.3 + labels[..., None])  # some classes are harder
        procedure = conformal.class_conditional(conformal.aps(randomized=True, allow_empty=True))
        how = {}
    else:
        truth = np.exp(logits - logits.max(-1, keepdims=True))
        labels = (truth.cumsum(-1) < rng.random((*truth.shape[:2], 1)) * truth.sum(-1, keepdims=True)).sum(-1)
        logits = logits * (1 + every[:, None])
        procedure = conformal.group_conditional(conformal.aps(randomized=True, allow_empty=True))
        how = {"groups": category}
    probs = jax.nn.softmax(jnp.asarray(logits, jnp.float32))
    num = len(category)

    def one(p, y, key):
        state = procedure.fit(p[:num], y[:num], key=key, **how)
        more = {"groups": asked} if how else {}
        return procedure.apply(state, p[num:], level, key=key, **more).contains(y[num:])

    keys = jax.random.split(jax.random.key(0), simulations)
    hits = np.asarray(jax.jit(jax.vmap(one))(probs, jnp.asarray(labels, jnp.int32), keys)).sum(0)
    for c, size in enumerate(sizes):
        low, high = band(size, level, tests, simulations)
        assert low <= hits[asked == c].sum() <= high


def test_classes_absent_or_rare():
    probs, labels = draw(np.random.default_rng(0), (100,), 4)
    labels = np.where(labels == 2, 0, labels)
    with pytest.raises(uq.InputError, match=r"each of the 4 classes, but has none of class 2\..*absent"):
        conformal.class_conditional(conformal.lac()).fit(probs, labels)
    procedure = conformal.class_conditional(conformal.lac(), absent="include")
    state = procedure.fit(probs, labels)
    with pytest.warns(uq.UQWarning, match=r"class 2 \(0\).*in every set\. 9 are enough"):
        sets = procedure.apply(state, probs, 0.9)
    assert sets.included[:, 2].all() and sets.realised.lower[2] == 1
    jitted = jax.jit(procedure.apply)(state, probs)
    np.testing.assert_array_equal(jitted.included, sets.included)
    np.testing.assert_allclose(jitted.realised, np.stack(sets.realised), rtol=1e-5)


def test_groups_unseen_or_malformed():
    probs, labels = draw(np.random.default_rng(0), (40,), 3)
    procedure = conformal.group_conditional(conformal.lac())
    groups = np.arange(40) % 2 + 4
    state = procedure.fit(probs, labels, groups=groups)
    with pytest.raises(uq.InputError, match=r"not fitted to group 9; it knows groups 4, 5"):
        procedure.apply(state, probs[:2], groups=[4, 9])
    apply = jax.jit(procedure.apply, static_argnames="level")
    traced = apply(state, probs[:2], level=0.3, groups=jnp.array([4, 9]))
    assert traced.included[1].all() and not traced.included[0].all()
    for wrong in ([0.5] * 40, [1] * 39, ["a"] * 40, [2**40] * 40):
        with pytest.raises(uq.InputError, match="groups"):
            procedure.fit(probs, labels, groups=wrong)


def many_classes(rng, num, classes=40):
    """Even classes are easy and odd ones hard; a few are rare."""
    weight = np.where(np.arange(classes) < 4, 0.05, 1.0)
    labels = rng.choice(classes, num, p=weight / weight.sum())
    logits = rng.normal(size=(num, classes))
    logits[np.arange(num), labels] += np.where(labels % 2, 1.5, 5.0)
    probs = np.exp(logits)
    return (probs / probs.sum(1, keepdims=True)).astype(np.float32), labels.astype(np.int32)


def test_clusters_cover_classes_more_evenly_than_one_threshold():
    rng = np.random.default_rng(1)
    probs, labels = many_classes(rng, 1600)
    tests, truth = many_classes(rng, 40000)
    gaps, sizes = {}, {}
    procedures = {
        "marginal": (conformal.lac(), {}),
        "clustered": (conformal.clustered(conformal.lac(), num_clusters=2, share=0.4), {"key": 0}),
        "class": (conformal.class_conditional(conformal.lac(), absent="include"), {}),
    }
    for name, (procedure, how) in procedures.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", uq.UQWarning)
            sets = procedure.apply(procedure.fit(probs, labels, **how), tests, 0.9)
        hit = np.asarray(sets.contains(truth))
        gaps[name] = np.mean([abs(hit[truth == c].mean() - 0.9) for c in range(40)])
        sizes[name] = float(sets.size.mean())
        assert 0.86 < hit.mean() < 0.98
    assert gaps["clustered"] < 0.6 * gaps["marginal"]
    assert sizes["clustered"] < sizes["class"]


def test_clusters_are_of_alike_classes_and_their_thresholds_of_their_examples():
    rng = np.random.default_rng(2)
    probs, labels = many_classes(rng, 1600)
    procedure = conformal.clustered(conformal.lac(), num_clusters=2, share=0.5)
    state = procedure.fit(probs, labels, key=3)
    cluster = np.asarray(state.category)
    assert set(cluster[:4]) == {2}  # the rare ones
    assert len(set(cluster[4::2])) == 1 and len(set(cluster[5::2])) == 1 and cluster[4] != cluster[5]
    kept = np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.key(3), 2), 1600))[800:]
    scores = -probs[np.arange(1600), labels][kept]
    sets = np.asarray(procedure.apply(state, probs[:50], 0.9).included)
    for c in range(40):
        own = scores if cluster[c] == 2 else scores[cluster[labels[kept]] == cluster[c]]
        bound = np.sort(own)[place(len(own), 0.9) - 1]
        top = probs[:50, c] == probs[:50].max(1)
        np.testing.assert_array_equal(sets[:, c], (-probs[:50, c] <= bound) | top)


def test_the_rule_of_the_paper_and_too_few_to_cluster():
    probs, labels = many_classes(np.random.default_rng(3), 6000)
    procedure = conformal.clustered(conformal.aps(randomized=True))
    state = procedure.fit(probs, labels, key=0)
    assert state.counts.shape[0] >= 2
    procedure.apply(state, probs[:5], key=1)
    few = conformal.clustered(conformal.lac())
    state = few.fit(probs[:40], labels[:40], key=0)
    base = conformal.lac()
    assert state.counts.shape == (1,)  # one threshold for all
    kept = np.asarray(jax.random.permutation(jax.random.fold_in(jax.random.key(0), 2), 40))[-state.scores.shape[0] :]
    np.testing.assert_array_equal(
        few.apply(state, probs, 0.8).included, base.apply(base.fit(probs[kept], labels[kept]), probs, 0.8).included
    )
    with pytest.raises(uq.InputError, match="`key=`"):
        few.fit(probs, labels)


def test_k_means_finds_what_is_apart():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(c, 0.1, (20, 2)) for c in (0, 3, 9)])
    found = k_means(points, rng.random(60) + 0.1, 3, rng)
    assert [len(set(found[i : i + 20])) for i in (0, 20, 40)] == [1, 1, 1] and len(set(found)) == 3
    assert (k_means(np.ones((5, 2)), np.ones(5), 3, rng) == 0).all()


# Covariate shift


@pytest.mark.parametrize("kind", ["lac", "saps"])
@pytest.mark.filterwarnings("ignore:.*are enough", "ignore:.*sets are full")
def test_equal_weights_change_nothing(kind):
    rng = np.random.default_rng(5)
    probs, tests, labels = eighths(rng, 60), eighths(rng, 30), rng.integers(0, 4, 60)
    base = KINDS[kind][0]()
    procedure = conformal.covariate_shift(base)
    for num in (3, 9, 60):
        for weight in (1.0, 0.37):
            state = procedure.fit(probs[:num], labels[:num], weight=np.full(num, weight))
            for level in (0.5, 0.8, 0.9):
                sets = procedure.apply(state, tests, level, weight=np.full(30, weight))
                want = base.apply(base.fit(probs[:num], labels[:num]), tests, level)
                np.testing.assert_array_equal(sets.included, want.included)
                assert sets.realised is None


def test_weighted_sets_against_a_loop():
    rng = np.random.default_rng(6)
    probs, labels = draw(rng, (40,), 4)
    weight = rng.integers(1, 16, 40).astype(np.float32)
    procedure = conformal.covariate_shift(conformal.lac())
    sets = procedure.apply(
        procedure.fit(probs[10:], labels[10:], weight=weight[10:]), probs[:10], 0.75, weight=weight[:10]
    )
    scores = [-float(probs[i, labels[i]]) for i in range(10, 40)]
    for i, found in enumerate(sets):
        total = weight[10:].sum() + weight[i]
        wanted = set()
        for c in range(4):
            below = sum(w for s, w in zip(scores, weight[10:], strict=True) if s < -float(probs[i, c]))
            if below < 0.75 * total or probs[i, c] == probs[i].max():
                wanted.add(c)
        assert set(found.tolist()) == wanted


def test_coverage_under_a_shift_that_is_known():
    """Hard inputs are nine times as frequent in the test; without weights coverage falls."""
    rng = np.random.default_rng(7)
    simulations, num, tests = 600, 100, 10

    def sample(shape, share):
        hard = rng.random(shape) < share
        said = rng.dirichlet([6.0, 1.0, 1.0], shape)
        truth = np.where(hard[..., None], 0.4 * said + 0.2, said)
        labels = (truth.cumsum(-1) < rng.random((*shape, 1))).sum(-1).clip(0, 2)
        return said.astype(np.float32), labels.astype(np.int32), np.where(hard, 0.9 / 0.1, 0.1 / 0.9).astype(np.float32)

    before, after = sample((simulations, num), 0.1), sample((simulations, tests), 0.9)
    base = conformal.aps(randomized=True, allow_empty=True)
    weighted = conformal.covariate_shift(base)

    def one(old, new, key):
        plainly = base.apply(base.fit(*old[:2], key=key), new[0], 0.8, key=key)
        state = weighted.fit(*old[:2], weight=old[2], key=key)
        return plainly.contains(new[1]), weighted.apply(state, new[0], 0.8, weight=new[2], key=key).contains(new[1])

    keys = jax.random.split(jax.random.key(0), simulations)
    without, with_weight = jax.jit(jax.vmap(one))(before, after, keys)
    assert without.mean() < 0.74
    error = float(with_weight.mean(1).std()) / simulations**0.5
    assert with_weight.mean() > 0.8 - 4.5 * error


def test_bad_weights():
    probs, labels = draw(np.random.default_rng(0), (20,), 3)
    procedure = conformal.covariate_shift(conformal.lac())
    for wrong, said in [(np.ones(19), "shape"), (-np.ones(20), "negative"), (np.zeros(20), "all 0")]:
        with pytest.raises(uq.InputError, match=said):
            procedure.fit(probs, labels, weight=wrong)
    state = procedure.fit(probs, labels, weight=np.ones(20))
    with pytest.raises(uq.InputError, match="finite"):
        procedure.apply(state, probs, weight=np.full(20, np.nan))
    with pytest.warns(uq.UQWarning, match=r"2 of 3 sets are full.*effective number is 20"):
        sets = procedure.apply(state, probs[:3], weight=[1.0, 9.0, 1e6])
    assert sets.included[1:].all()


@pytest.mark.parametrize("wrap", [conformal.class_conditional, conformal.group_conditional, conformal.covariate_shift])
def test_what_may_be_wrapped(wrap):
    for wrong in (conformal.class_conditional(conformal.lac()), "lac", conformal.lac):
        with pytest.raises(uq.InputError, match="expected one of `lac"):
            wrap(wrong)
    with pytest.raises(uq.InputError, match="choose them first"):
        wrap(conformal.raps(None, None))
