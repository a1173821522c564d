"""LAC, APS, RAPS, SAPS and top-k: coverage and size by simulation, enumeration, and a second implementation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uq
from uq import conformal

from . import plain
from .bands import LEVELS, SIMULATIONS, SIZES, band, place

KINDS = {
    "lac": (conformal.lac, ()),
    "top_k": (conformal.top_k, ()),
    "aps": (conformal.aps, ()),
    "raps": (lambda **how: conformal.raps(2, 0.125, **how), (2, 0.125)),
    "saps": (lambda **how: conformal.saps(0.25, **how), (0.25,)),
}
CLASSES, TESTS = 5, 4


def softmax(z):
    z = np.exp(z - z.max(-1, keepdims=True))
    return z / z.sum(-1, keepdims=True)


def draw(rng, shape, num_classes=CLASSES, *, tied=False):
    """Overconfident probabilities of unequally frequent classes, and labels from what is true."""
    logits = rng.normal(size=(*shape, num_classes)) * 1.2 + np.linspace(0.7, -0.7, num_classes)
    truth, said = softmax(logits), softmax(1.8 * logits)
    if tied:  # multiples of 1/8 that sum to 1
        counts = np.floor(said * 8)
        counts[..., 0] += 8 - counts.sum(-1)
        said = counts / 8
    labels = (truth.cumsum(-1) < rng.random((*shape, 1))).sum(-1)
    return said.astype(np.float32), np.minimum(labels, num_classes - 1).astype(np.int32)


def check(procedure, tied, found):
    """That covered examples are as many as promised, for (number of scores, level, hits, mean size)."""
    exact = procedure.fit.__self__.score.randomized or (procedure.name == "lac" and not tied)
    for num, level, hit, size in found:
        low, high = band(num, level, TESTS)
        assert low <= hit and (hit <= high or not exact), (num, level)
        assert tied or size < CLASSES or place(num, level) > num, (num, level)


def at_once(procedure, rng, sizes, tied):
    """Every simulation is one group: all calibration sets of all sizes are sorted in one call."""
    randomized = procedure.fit.__self__.score.randomized
    grouped = conformal.group_conditional(procedure)
    many = np.repeat(sizes, SIMULATIONS)
    probs, labels = draw(rng, (many.sum(),), tied=tied)
    how = {"key": 1} if randomized else {}
    state = grouped.fit(probs, labels, groups=np.repeat(np.arange(len(many)), many), **how)
    probs, labels = draw(rng, (len(many) * TESTS,), tied=tied)
    groups = np.repeat(np.arange(len(many)), TESTS)
    for level in LEVELS:
        sets = grouped.apply(state, probs, level, groups=groups, **how)
        hits = np.asarray(sets.contains(labels)).reshape(len(sizes), -1)
        for num, hit, size in zip(sizes, hits, np.asarray(sets.size).reshape(len(sizes), -1), strict=True):
            yield num, level, hit.sum(), size.mean()


@pytest.mark.parametrize("kind, randomized, tied", [*((k, True, True) for k in KINDS), ("lac", False, False)])
@pytest.mark.filterwarnings("ignore:Calibration examples are too few")
def test_coverage(kind, randomized, tied):
    """Exactly the level where scores are continuous or ties broken at random, at least that elsewhere."""
    procedure = KINDS[kind][0](randomized=randomized, allow_empty=True)
    check(procedure, tied, at_once(procedure, np.random.default_rng(5), SIZES[:5], tied))


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "distinct"])
@pytest.mark.parametrize("randomized", [True, False], ids=["randomized", "deterministic"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Calibration examples are too few")
def test_coverage_of_all_sizes(kind, randomized, tied):
    procedure = KINDS[kind][0](randomized=randomized, allow_empty=True)
    check(procedure, tied, at_once(procedure, np.random.default_rng(6), SIZES, tied))


def mapped(procedure, data, num):
    """Simulation by simulation under vmap."""

    def one(p, y, key):
        state = procedure.fit(p[TESTS:], y[TESTS:], key=key)
        sets = [procedure.apply(state, p[:TESTS], level, key=key) for level in LEVELS]
        return jnp.stack([each.contains(y[:TESTS]).sum() for each in sets]), jnp.stack([s.size.sum() for s in sets])

    hits, sizes = jax.jit(jax.vmap(one))(*data, jax.random.split(jax.random.key(1), SIMULATIONS))
    for level, hit, size in zip(LEVELS, hits.sum(0), sizes.sum(0) / (SIMULATIONS * TESTS), strict=True):
        yield num, level, int(hit), float(size)


@pytest.mark.parametrize("kind", ["lac", pytest.param("aps", marks=pytest.mark.slow)])
def test_coverage_one_simulation_at_a_time(kind):
    procedure = KINDS[kind][0](randomized=True, allow_empty=True)
    data = draw(np.random.default_rng(7), (SIMULATIONS, 20 + TESTS), tied=True)
    check(procedure, True, mapped(procedure, data, 20))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_sets_as_plain_python(kind, tied):
    rng = np.random.default_rng(11)
    make, numbers = KINDS[kind]
    for num, level, empty in [(3, 0.8, False), (9, 0.9, True), (20, 0.8, True), (20, 0.95, False), (61, 0.5, True)]:
        probs, labels = draw(rng, (num + 40,), tied=tied)
        if not tied:  # multiples of 2⁻²⁰ that sum to 1: sums are exact
            probs = np.round(probs * 2**20) / np.float32(2**20)
            probs[:, 0] = 1 - probs[:, 1:].sum(1)
        procedure = make(allow_empty=empty)
        state = procedure.fit(probs[40:], labels[40:])
        if place(num, level) > num:
            with pytest.warns(uq.UQWarning, match="are enough"):
                found = procedure.apply(state, probs[:40], level)
        else:
            found = procedure.apply(state, probs[:40], level)
        exact = probs.astype(np.float64)
        wanted = plain.sets(kind, exact[40:], labels[40:], exact[:40], level, numbers, empty)
        assert [set(each.tolist()) for each in found] == wanted


@pytest.mark.parametrize("kind", ["lac", "saps"])
@pytest.mark.parametrize("num", range(1, 9))
@pytest.mark.filterwarnings("ignore:.*are enough")
def test_enumeration_each_of_few_examples_is_the_test_example_once(kind, num):
    """Of n + 1 exchangeable examples with different scores exactly k are covered, whichever they are."""
    probs, labels = draw(np.random.default_rng(num), (num + 1,))
    procedure = KINDS[kind][0](allow_empty=True)
    for level in (0.3, 0.5, 0.8, 0.875, 0.9):
        hits = 0
        for test in range(num + 1):
            rest = np.arange(num + 1) != test
            found = procedure.apply(procedure.fit(probs[rest], labels[rest]), probs[test : test + 1], level)
            hits += int(found.contains(labels[test : test + 1])[0])
        assert hits == min(place(num, level), num + 1)


def eighths(num):
    """Rows of probabilities that are multiples of 1/8, so that ties are common and sums exact."""
    row = st.lists(st.integers(0, 8), min_size=3, max_size=3).map(
        lambda cuts: np.diff([0, *sorted(cuts), 8]).astype(np.float32) / 8
    )
    return st.lists(row, min_size=num, max_size=num).map(np.stack)


cases = st.tuples(eighths(10), st.lists(st.integers(0, 3), min_size=10, max_size=10), eighths(3))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None)
@given(case=cases, data=st.data())
@pytest.mark.filterwarnings("ignore:.*are enough")
def test_laws(kind, case, data):
    """Nested in the level; most conforming classes; argmax; permutations of rows and of classes change nothing."""
    probs, labels, tests = case
    labels = np.array(labels)
    procedure = KINDS[kind][0]()
    state = procedure.fit(probs, labels)
    sets = [np.asarray(procedure.apply(state, tests, level).included) for level in (0.3, 0.5, 0.8, 0.9, 0.95)]
    for small, large in itertools.pairwise(sets):
        assert (small <= large).all()
    for included in sets:
        assert included[tests == tests.max(1, keepdims=True)].all()
        least = np.where(included, tests, 2).min(1)  # none left out is as probable as one that is in
        assert (np.where(included, -1, tests).max(1) < least).all()
    rows, classes = data.draw(st.permutations(range(10))), np.array(data.draw(st.permutations(range(4))))
    again = procedure.fit(probs[rows], labels[rows])
    np.testing.assert_array_equal(procedure.apply(again, tests, 0.8).included, sets[2])
    renamed = procedure.fit(probs[:, classes], np.argsort(classes)[labels])
    np.testing.assert_array_equal(procedure.apply(renamed, tests[:, classes], 0.8).included, sets[2][:, classes])


@pytest.mark.parametrize("kind", KINDS)
def test_sets_hold_the_most_conforming_classes_and_are_small(kind):
    """An inverted comparison covers as often, with the least probable classes."""
    probs, labels = draw(np.random.default_rng(2), (700,))
    procedure = KINDS[kind][0]()
    sets = procedure.apply(procedure.fit(probs[:500], labels[:500]), probs[500:], 0.8)
    included = np.asarray(sets.included)
    assert included[np.arange(200), probs[500:].argmax(1)].all()
    assert included[np.arange(200), probs[500:].argmin(1)].mean() < 0.1
    assert 1.5 < included.sum(1).mean() <= 3.0
    np.testing.assert_array_equal(sets.size, included.sum(1))
    assert [len(each) for each in sets] == included.sum(1).tolist() and len(sets) == 200
    assert sets.realised.lower < 0.8 < sets.realised.upper


def test_sets_are_smallest_with_lac_where_probabilities_are_right():
    rng = np.random.default_rng(4)
    probs = softmax(rng.normal(size=(6000, 10)) * 2).astype(np.float32)
    labels = (probs.cumsum(1) < rng.random((6000, 1))).sum(1).clip(0, 9)
    size = {}
    for kind, (make, _) in KINDS.items():
        procedure = make()
        size[kind] = float(procedure.apply(procedure.fit(probs[:3000], labels[:3000]), probs[3000:], 0.9).size.mean())
    assert size["lac"] == min(size.values()) and size["top_k"] > size["aps"] > size["lac"]


@pytest.mark.parametrize("kind", ["lac", "raps"])
def test_it_jits_and_does_not_recompile(kind):
    procedure = KINDS[kind][0](randomized=True)
    apply = jax.jit(procedure.apply, static_argnames="level")
    rng = np.random.default_rng(0)
    for seed in (0, 1):
        probs, labels = draw(rng, (60,))
        state = jax.jit(procedure.fit)(probs[:40], labels[:40], key=jax.random.key(seed))
        jax.tree.map(np.testing.assert_array_equal, state, procedure.fit(probs[:40], labels[:40], key=seed))
        sets = apply(state, probs[40:], level=0.8, key=jax.random.key(seed))
        np.testing.assert_array_equal(sets.included, procedure.apply(state, probs[40:], 0.8, key=seed).included)
    assert apply._cache_size() == 1


def test_other_settings_use_the_same_program():
    probs, labels = draw(np.random.default_rng(0), (60,))
    state = conformal.raps(1, 0.1).fit(probs, labels)
    other = conformal.raps(3, 0.5).fit(probs, labels)
    apply = jax.jit(conformal.raps(1, 0.1).apply)
    apply(state, probs), apply(other, probs)
    assert apply._cache_size() == 1


def test_fit_and_apply_draw_different_numbers_from_one_key():
    probs = np.full((4000, 4), 0.25, np.float32)
    procedure = conformal.aps(randomized=True, allow_empty=True)
    labels = np.arange(4000) % 4
    sets = procedure.apply(procedure.fit(probs, labels, key=7), probs, 0.8, key=7)
    low, high = band(4000, 0.8, 4000, 1)
    assert low <= int(sets.contains(labels).sum()) <= high < 4000
    assert set(np.asarray(sets.size).tolist()) == {0, 4}  # equally probable classes enter together


@pytest.mark.parametrize("free, penalty", [(None, None), (2, None)])
def test_settings_of_raps_chosen_from_the_data(free, penalty):
    probs, labels = draw(np.random.default_rng(8), (1500,), 12)
    procedure = conformal.raps(free, penalty, tune_level=0.8, tune_share=0.3)
    state = procedure.fit(probs[:1000], labels[:1000], key=0)
    assert state.scores.shape == (700,)
    assert float(state.settings[0]) in ([2.0] if free else [1, 2, 3, 4, 5]) and state.settings.shape == (2,)
    fixed = conformal.raps(*map(float, state.settings))
    np.testing.assert_allclose(procedure.apply(state, probs, 0.8).included, fixed.apply(state, probs, 0.8).included)
    with pytest.raises(uq.InputError, match="`key=`"):
        procedure.fit(probs, labels)
    with pytest.raises(uq.InputError, match="0 of 1 examples"):
        procedure.fit(probs[:1], labels[:1], key=0)


def test_choosing_settings_of_raps_keeps_the_guarantee():
    rng = np.random.default_rng(9)
    hits = 0
    for seed in range(12):
        probs, labels = draw(rng, (525,), 6)
        procedure = conformal.raps(None, None, randomized=True, allow_empty=True, tune_share=0.2)
        sets = procedure.apply(procedure.fit(probs[:125], labels[:125], key=seed), probs[125:], 0.9, key=seed)
        hits += int(sets.contains(labels[125:]).sum())
    low, high = band(100, 0.9, 400, 12)
    assert low <= hits <= high


def test_what_predictions_may_be():
    logits = np.random.default_rng(3).normal(size=(2, 30, 3)).astype(np.float32)
    labels = np.arange(30) % 3
    pred = uq.Predictive(jnp.asarray(logits), uq.likelihoods.Categorical(3))
    procedure = conformal.aps()
    sets = [procedure.apply(procedure.fit(p, labels), p, 0.8).included for p in (pred, pred.probs, pred.to_numpyro())]
    np.testing.assert_array_equal(sets[0], sets[1])
    np.testing.assert_array_equal(sets[0], sets[2])
    binary = uq.Predictive(jnp.asarray(logits[..., :1]), uq.likelihoods.Bernoulli())
    sets = [procedure.apply(procedure.fit(p, labels % 2), p, 0.8).included for p in (binary, binary.mean)]
    np.testing.assert_array_equal(sets[0], sets[1])
    assert sets[0].shape == (30, 2)


def test_half_precision_and_double_hosts():
    probs, labels = draw(np.random.default_rng(3), (50,), tied=True)
    procedure = conformal.aps()
    want = procedure.apply(procedure.fit(probs, labels), probs, 0.8).included
    for dtype in (np.float16, np.float64):
        cast = probs.astype(dtype)
        np.testing.assert_array_equal(procedure.apply(procedure.fit(cast, labels), cast, 0.8).included, want)


def test_repeated_predictions_tie_also_between_programs():
    """A threshold that is the score of the very test row must hold in it, however sums are rounded."""
    rng = np.random.default_rng(1)
    kinds = softmax(rng.normal(size=(7, 30)) * 2).astype(np.float32)
    which = rng.integers(0, 7, 2000)
    labels = rng.integers(0, 30, 2000)
    for kind in ("aps", "raps"):
        procedure = KINDS[kind][0](allow_empty=True)
        state = procedure.fit(kinds[which[:1000]], labels[:1000])
        apart = procedure.apply(state, kinds, 0.9).included
        together = jax.jit(procedure.apply)(state, kinds[which]).included
        np.testing.assert_array_equal(np.asarray(apart)[which], together)
        hits = int(procedure.apply(state, kinds[which[1000:]], 0.9).contains(labels[1000:]).sum())
        assert hits >= band(1000, 0.9, 1000, 1)[0]


PROBS = np.array([[0.6, 0.4, 0.0], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])


@pytest.mark.parametrize(
    "wrong, said",
    [
        (lambda p, s: p.fit(PROBS, [0, 1, 3]), "3"),
        (lambda p, s: p.fit(PROBS, [0, 1]), "labels of shape"),
        (lambda p, s: p.fit(PROBS * 1.5, [0, 1, 2]), "sum to 1|between 0 and 1"),
        (lambda p, s: p.fit(np.log(PROBS + 0.1), [0, 1, 2]), "between 0 and 1"),
        (lambda p, s: p.apply(s, PROBS[:, :2] / PROBS[:, :2].sum(1, keepdims=True), 0.5), "3 classes.*of 2"),
        (lambda p, s: p.apply(s, PROBS, 90), "strictly between 0 and 1"),
        (lambda p, s: p.apply(s, PROBS, 0.0), "strictly between 0 and 1"),
        (lambda p, s: jax.jit(p.apply)(s, PROBS, 0.5), "static_argnames"),
        (lambda p, s: p.apply(s, PROBS, [0.5, 0.9]), "one plain number"),
        (lambda p, s: p.fit(PROBS, [0, 1, 2], key=0), "not randomized"),
        (lambda p, s: conformal.lac(randomized=True).fit(PROBS, [0, 1, 2]), "`key=`"),
        (lambda p, s: conformal.saps(-1.0), "not negative"),
        (lambda p, s: conformal.raps(2, np.nan), "not negative"),
        (lambda p, s: p.apply(s, PROBS, 0.5).contains([0, 1]), "3 examples|shape"),
        (
            lambda p, s: p.fit(uq.Predictive(jnp.zeros((1, 3, 2)), uq.likelihoods.Gaussian()), [0, 1, 2]),
            "binary or multiclass",
        ),
        (
            lambda p, s: p.fit(uq.Predictive(jnp.zeros((1, 3, 2)), uq.likelihoods.Multilabel(2)), [0, 1, 2]),
            "binary or multiclass",
        ),
    ],
)
def test_bad_input(wrong, said):
    procedure = conformal.lac()
    state = procedure.fit(PROBS, [0, 1, 2])
    with pytest.raises(uq.InputError, match=said):
        wrong(procedure, state)


def test_too_few_examples_give_full_sets_and_say_how_many_are_enough():
    procedure = conformal.lac()
    state = procedure.fit(PROBS, [0, 1, 2])
    with pytest.warns(uq.UQWarning, match=r"3 calibration examples are too few for level 0\.9.*9 are enough"):
        sets = procedure.apply(state, PROBS, 0.9)
    assert sets.included.all() and sets.realised == (1, 1)
    assert "mean size 3" in repr(sets)
