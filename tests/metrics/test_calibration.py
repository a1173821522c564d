"""Calibration and summaries against loops in plain Python, with rational arithmetic where edges matter."""

import itertools
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.metrics import accuracy_score

import uq
from uq.metrics import calibration as metrics
from uq.metrics._estimate import Resample

KINDS = ("confidence", "classwise", "top-label", "binary")


# A second implementation: lists, loops and fractions.


def edges_of(values, bins, binning):
    if binning == "width":
        return [Fraction(float(Fraction(k, bins))) for k in range(bins + 1)]
    ranked = sorted(values)
    return [Fraction(0)] + [ranked[k * len(ranked) // bins] for k in range(1, bins)] + [Fraction(1)]


def bin_of(value, edges):
    """The last bin whose lower edge is not above the value; 1 belongs to the last bin of all."""
    found = [k for k, edge in enumerate(edges) if edge <= value]
    return min(found[-1], len(edges) - 2)


def groups_of(probs, y, kind):
    """(probability, event) pairs of each group, exact."""
    rows = [[Fraction(float(p)) for p in row] for row in probs]
    if kind == "binary":
        return [[(row[1], int(t == 1)) for row, t in zip(rows, y, strict=True)]]
    if kind == "classwise":
        return [[(row[c], int(t == c)) for row, t in zip(rows, y, strict=True)] for c in range(len(rows[0]))]
    top = [row.index(max(row)) for row in rows]
    pairs = [(max(row), int(k == t)) for row, k, t in zip(rows, top, y, strict=True)]
    if kind == "confidence":
        return [pairs]
    return [[pair for pair, k in zip(pairs, top, strict=True) if k == c] for c in range(len(rows[0]))]


def looped(probs, y, kind, norm, bins, binning):
    """(error, bins as {(group, bin): [pairs]})"""
    groups = groups_of(probs, y, kind)
    cells = {}
    for g, pairs in enumerate(groups):
        if pairs:
            edges = edges_of([p for p, _ in pairs], bins, binning)
            for p, event in pairs:
                cells.setdefault((g, bin_of(p, edges)), []).append((p, event))
    total = sum(len(pairs) for pairs in groups)
    gaps = [(len(c), abs(sum(e for _, e in c) - sum(p for p, _ in c)) / len(c)) for c in cells.values()]
    if norm == "max":
        return float(max(gap for _, gap in gaps)), cells
    if norm == "l1":
        return float(sum(n * gap for n, gap in gaps) / total), cells
    return float(sum(n * gap * gap for n, gap in gaps) / total) ** 0.5, cells


def data(case, num_classes=3, size=60):
    """Probabilities and labels: smooth, rounded (many ties), certain, and on the edges of tenths."""
    rng = np.random.default_rng(4)
    y = rng.choice(num_classes, size=size, p=rng.dirichlet(np.ones(num_classes)))
    if case == "smooth":
        return special.softmax(2 * rng.normal(size=(size, num_classes)), -1), y
    if case == "certain":
        return np.eye(num_classes)[rng.integers(0, num_classes, size)], y
    counts = rng.multinomial(10, np.full(num_classes, 1 / num_classes), size=size)
    return counts / 10, y


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["smooth", "tenths", "certain"])
def test_calibration_error_against_a_loop(case, kind, binning):
    probs, y = data(case, 2 if kind == "binary" else 3)
    for bins in (1, 4, 10, 15):
        for norm in ("l1", "l2", "max"):
            want, _ = looped(probs, y, kind, norm, bins, binning)
            got = metrics.calibration_error(probs, y, kind=kind, norm=norm, bins=bins, binning=binning)
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-7, err_msg=f"{norm} {bins}")


@pytest.mark.parametrize("binning", ["width", "mass"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["smooth", "tenths"])
def test_reliability_curve_against_a_loop(case, kind, binning):
    probs, y = data(case, 2 if kind == "binary" else 3)
    curve = metrics.reliability_curve(probs, y, kind=kind, bins=10, binning=binning)
    _, cells = looped(probs, y, kind, "l1", 10, binning)
    groups = len(groups_of(probs, y, kind))
    shape = (10,) if kind in ("confidence", "binary") else (groups, 10)
    assert curve.count.shape == curve.confidence.shape == curve.frequency.shape == shape
    assert jnp.issubdtype(curve.count.dtype, jnp.integer)
    assert int(curve.count.sum()) == len(y) * (groups if kind == "classwise" else 1)
    confidence, frequency, count = (np.reshape(part, (groups, 10)) for part in curve[:3])
    for g in range(groups):
        for b in range(10):
            cell = cells.get((g, b), [])
            assert count[g, b] == len(cell)
            if cell:
                np.testing.assert_allclose(confidence[g, b], float(sum(p for p, _ in cell) / len(cell)), rtol=1e-6)
                np.testing.assert_allclose(frequency[g, b], sum(e for _, e in cell) / len(cell), rtol=1e-6)
            else:
                assert np.isnan(confidence[g, b]) and np.isnan(frequency[g, b])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("bins", [3, 7, 10, 15])
def test_probabilities_on_edges(dtype, bins):
    """k / B opens bin k, 0 is in the first, 1 in the last; `int(p * B)` and `int(p / (1 / B))` slip."""
    p = (np.arange(bins + 1) / bins).astype(dtype)
    p = np.concatenate([p, np.nextafter(p[1:-1], dtype(0)), np.array([0.3, 0.1, 0.7, 0.29, 0.99999994], dtype)])
    y = (np.arange(len(p)) % 2).astype(int)
    edges = edges_of(p, bins, "width")
    want = np.bincount([bin_of(Fraction(float(v)), edges) for v in p], minlength=bins)
    curve = metrics.reliability_curve(p, y, kind="binary", bins=bins)
    np.testing.assert_array_equal(curve.count, want)
    assert curve.count.sum() == len(p)
    if dtype is np.float32:  # a compiled program has no float64 edges, and yet the same bins
        jitted = jax.jit(lambda p, y: metrics.reliability_curve(p, y, kind="binary", bins=bins))(p, y)
        np.testing.assert_array_equal(jitted.count, want)


def test_three_tenths_is_in_the_fourth_of_ten_bins():
    assert metrics.reliability_curve([0.3], [1], kind="binary", bins=10).count.tolist() == [
        0,
        0,
        0,
        1,
    ] + 6 * [0]
    assert metrics.reliability_curve([0.0, 1.0], [0, 1], kind="binary", bins=2).count.tolist() == [1, 1]


def test_equal_values_never_part():
    p = np.repeat([0.2, 0.6, 0.9, 1.0], [5, 1, 1, 13])
    curve = metrics.reliability_curve(p, np.ones(20, int), kind="binary", bins=5, binning="mass")
    used = np.asarray(curve.count)[np.asarray(curve.count) > 0]
    assert used.sum() == 20 and 13 in used and used.max() == 13
    np.testing.assert_allclose(curve.edges, [0, 0.2, 1, 1, 1, 1], rtol=1e-6)
    spread = metrics.reliability_curve(
        np.linspace(0.01, 0.99, 20), np.ones(20, int), kind="binary", bins=5, binning="mass"
    )
    assert spread.count.tolist() == [4, 4, 4, 4, 4]


@pytest.mark.parametrize("kind", KINDS)
def test_jit_equals_eager(kind):
    probs, y = data("smooth", 2 if kind == "binary" else 3)
    probs = probs.astype(np.float32)
    for binning in ("width", "mass"):
        for norm in ("l1", "l2", "max"):

            def error(p, y, binning=binning, norm=norm):
                return metrics.calibration_error(p, y, kind=kind, norm=norm, binning=binning)

            np.testing.assert_allclose(jax.jit(error)(probs, y), error(probs, y), rtol=1e-5, atol=1e-6)


def test_binary_shapes_give_one_answer():
    logit = np.random.default_rng(0).normal(size=(2, 30, 1)).astype(np.float32)
    pred = uq.Predictive(jnp.asarray(logit), uq.likelihoods.Bernoulli())
    p = special.expit(logit[..., 0].astype(np.float64)).mean(0)
    y = np.random.default_rng(1).integers(0, 2, 30)
    for kind in KINDS:
        want, _ = looped(np.stack([1 - p, p], -1), y, kind, "l1", 15, "width")
        for given_as in (pred, p, p[:, None], np.stack([1 - p, p], -1)):
            got = metrics.calibration_error(given_as, y, kind=kind)
            np.testing.assert_allclose(got, want, rtol=1e-4, err_msg=kind)


probability = st.one_of(st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 1.0]), st.floats(0, 1))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(probability, st.booleans()), min_size=1, max_size=30), st.integers(1, 20), st.randoms())
@pytest.mark.parametrize("binning", ["width", "mass"])
def test_laws_of_calibration_errors(binning, pairs, bins, random):
    p, y = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    for kind in ("binary", "confidence"):

        def error(p, y, norm, kind=kind):
            return float(metrics.calibration_error(p, y, kind=kind, norm=norm, bins=bins, binning=binning))

        l1, l2, largest = (error(p, y, norm) for norm in ("l1", "l2", "max"))
        assert 0 <= l1 <= l2 + 1e-6 <= largest + 2e-6 <= 1 + 3e-6
        order = list(range(len(p)))
        random.shuffle(order)
        assert error(p[order], y[order], "l1") == pytest.approx(l1, abs=1e-6)
    one = float(metrics.calibration_error(p, y, kind="binary", bins=1, binning=binning))
    assert one == pytest.approx(abs(p.mean() - y.mean()), abs=1e-6)


def test_accuracy():
    probs, y = data("smooth")
    assert float(metrics.accuracy(probs, y)) == pytest.approx(accuracy_score(y, probs.argmax(1)))
    assert float(jax.jit(metrics.accuracy)(probs, y)) == pytest.approx(accuracy_score(y, probs.argmax(1)))
    assert float(metrics.accuracy([[0.5, 0.5]], [0])) == 1.0  # the first of equally probable classes


WRONG = [
    (lambda: metrics.calibration_error([0.5], [1], kind="toplabel"), "no kind 'toplabel'.* did you mean 'top-label'"),
    (lambda: metrics.calibration_error([0.5], [1], norm="L2"), "no norm 'L2'.* did you mean 'l2'"),
    (lambda: metrics.calibration_error([0.5], [1], binning="equal"), "no binning 'equal'"),
    (lambda: metrics.calibration_error([0.5], [1], bins=0), "`bins` expected a whole number of at least 1"),
    (lambda: metrics.calibration_error([0.5], [1], bins=2.5), "`bins` expected a whole number"),
    (lambda: metrics.calibration_error([[0.5, 0.2, 0.3]], [1], kind="binary"), "is for two classes, but there are 3"),
    (lambda: metrics.calibration_error([0.5, 0.5], [1]), "one entry for each of the 2 examples"),
    (lambda: metrics.calibration_error([0.5], [1], debias=True), 'can debias norm "l2" only, but the norm is "l1"'),
    (lambda: metrics.calibration_error([1.5], [1]), "between 0 and 1, but row 0 is"),
    (lambda: metrics.calibration_error([[0.5, 0.6]], [1]), "sum to 1, but row 0 sums to 1.1"),
    (lambda: metrics.calibration_error([0.5, np.nan], [1, 0]), "row 1 of 2 holds NaN"),
    (lambda: metrics.calibration_error([0.5], [2]), "labels 0 to 1, but row 0 of `y` is 2"),
    (
        lambda: metrics.calibration_error([0.5, 0.5], [1, 0], weight=[1.0, -1.0]),
        "weights that are finite, not negative",
    ),
    (lambda: metrics.reliability_curve([0.5], [1], consistency=True), "expected a `key` to simulate"),
    (
        lambda: metrics.calibration_error(uq.Predictive(jnp.zeros((1, 2, 2)), uq.likelihoods.Gaussian()), [1, 1]),
        "predictions of classes, but these are regression",
    ),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()


# What a number comes with


SETTINGS = [
    {"norm": "l1"},
    {"norm": "l2"},
    {"norm": "max"},
    {"norm": "l2", "debias": True},
    {"norm": "l1", "binning": "mass", "bins": 4},
    {"norm": "l2", "binning": "sweep"},
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["smooth", "tenths"])
def test_a_weight_of_two_is_two_rows(case, kind):
    probs, y = data(case, 2 if kind == "binary" else 3)
    weight = np.random.default_rng(1).integers(0, 4, len(y))
    again = np.repeat(np.arange(len(y)), weight)
    order = np.random.default_rng(2).permutation(len(again))
    holed, labels = np.where(weight[:, None] == 0, np.nan, probs), np.where(weight == 0, 99, y)
    for chosen in SETTINGS:
        want = metrics.calibration_error(probs[again][order], y[again][order], kind=kind, **chosen)
        got = metrics.calibration_error(holed, labels, kind=kind, weight=weight.astype(float), **chosen)
        np.testing.assert_allclose(float(got), float(want), rtol=1e-10, atol=1e-12, err_msg=str(chosen))
        assert got.count == (weight > 0).sum()
    curve = metrics.reliability_curve(holed, labels, kind=kind, weight=weight.astype(float), binning="mass", bins=4)
    want = metrics.reliability_curve(probs[again], y[again], kind=kind, binning="mass", bins=4)
    for name in ("confidence", "frequency", "edges"):
        np.testing.assert_allclose(getattr(curve, name), getattr(want, name), rtol=1e-10, atol=1e-12)


def test_debiased_square_against_a_loop():
    probs, y = data("smooth", 3, size=200)
    for kind in KINDS[:3]:
        _, cells = looped(probs, y, kind, "l2", 10, "width")
        total = Fraction(0)
        for cell in cells.values():
            n, hits, said = len(cell), sum(e for _, e in cell), sum(p for p, _ in cell)
            if n > 1:
                rate = Fraction(hits, n)
                total += n * ((rate - said / n) ** 2 - rate * (1 - rate) / (n - 1))
        want = max(float(total / sum(len(cell) for cell in cells.values())), 0.0) ** 0.5
        got = metrics.calibration_error(probs, y, kind=kind, norm="l2", bins=10, debias=True)
        assert float(got) == pytest.approx(want, rel=1e-9)


def test_debiasing_takes_the_bias_away():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.5, 1, (300, 200))
    y = (rng.uniform(size=p.shape) < p).astype(int)

    def square(p, y):
        plain, less = (metrics.calibration_error(p, y, kind="binary", norm="l2", debias=d) for d in (False, True))
        return plain.value**2, less.value**2

    plain, less = jax.vmap(square)(jnp.asarray(p, jnp.float32), jnp.asarray(y))
    assert plain.mean() > 0.006
    assert less.mean() < 0.5 * plain.mean()  # half of it is cut off at 0


def swept(pairs, most):
    """Roelofs' algorithm: as many bins of equal mass as keep the frequencies rising."""
    best = None
    for bins in range(1, most + 1):
        edges = edges_of([p for p, _ in pairs], bins, "mass")
        cells = {}
        for p, event in pairs:
            cells.setdefault(bin_of(p, edges), []).append((p, event))
        rates = [Fraction(sum(e for _, e in cells[k]), len(cells[k])) for k in sorted(cells)]
        if any(b < a for a, b in itertools.pairwise(rates)):
            break
        best = sum(abs(sum(e for _, e in c) - sum(p for p, _ in c)) for c in cells.values()) / len(pairs)
    return float(best)


@pytest.mark.parametrize("case", ["smooth", "tenths", "certain", "right"])
def test_sweep_against_a_loop(case):
    probs, y = (np.tile([[0.2, 0.8]], (60, 1)), np.ones(60, int)) if case == "right" else data(case, 2)
    y = y if case == "right" else (np.random.default_rng(5).uniform(size=60) < probs[:, 1]).astype(int)
    (pairs,) = groups_of(probs, y, "binary")
    want = swept(pairs, 60)
    assert float(metrics.calibration_error(probs, y, kind="binary", binning="sweep")) == pytest.approx(want, abs=1e-12)
    jitted = jax.jit(lambda p, y: metrics.calibration_error(p, y, kind="binary", binning="sweep").value)
    assert float(jitted(probs.astype(np.float32), y)) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("kind", ["confidence", "classwise"])
@pytest.mark.parametrize("norm", ["l1", "l2"])
def test_standard_error_is_the_jackknife(kind, norm):
    rng = np.random.default_rng(3)
    probs = special.softmax(3 * rng.normal(size=(400, 3)), -1)
    y = rng.choice(3, size=400, p=[0.6, 0.3, 0.1])
    found = metrics.calibration_error(probs, y, kind=kind, norm=norm, bins=4)
    left_out = [
        float(metrics.calibration_error(np.delete(probs, i, 0), np.delete(y, i), kind=kind, norm=norm, bins=4))
        for i in range(400)
    ]
    assert float(found.stderr) == pytest.approx(np.sqrt(399 * np.var(left_out)), rel=0.03)


@pytest.mark.parametrize(("size", "expected"), [(50, 0.129), (100, 0.089), (500, 0.041), (1000, 0.029)])
def test_a_calibrated_model_does_not_score_zero(size, expected):
    """The sizes of the bias that research/metrics.md, 3B, reports, from `null` alone."""
    rng = np.random.default_rng(size)
    p = rng.uniform(size=size)
    y = (rng.uniform(size=size) < p).astype(int)
    found = metrics.calibration_error(p, y, key=Resample(0, num=400))
    assert float(found.null.mean) == pytest.approx(expected, rel=0.08)
    assert float(found.null.p_value) > 0.01 and found.null.upper > found.null.mean
    worse = metrics.calibration_error(np.where(p > 0.5, 0.99, 0.01), y, key=Resample(1, num=400))
    assert float(worse.null.p_value) < 0.01 and worse.interval.lower < float(worse) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_the_null_of_every_kind(kind):
    """Against events drawn by numpy from the same probabilities."""
    rng = np.random.default_rng(0)
    classes = 2 if kind == "binary" else 3
    probs = special.softmax(rng.normal(size=(200, classes)), -1)
    u = rng.uniform(size=(300, 200, 1))
    draws = (u > probs.cumsum(-1)).sum(-1)
    each = [float(metrics.calibration_error(probs, y, kind=kind)) for y in draws]
    found = metrics.calibration_error(probs, draws[0], kind=kind, key=Resample(0, num=300))
    assert float(found.null.mean) == pytest.approx(np.mean(each), abs=4 * np.std(each) / np.sqrt(150))
    assert float(found.null.upper) == pytest.approx(np.quantile(each, 0.95), rel=0.1)


def test_consistency_band_is_binomial():
    p = np.repeat([0.2, 0.9], [400, 100])
    curve = metrics.reliability_curve(p, (p > 0.5).astype(int), kind="binary", bins=2, consistency=True, key=0)
    for k, (share, n) in enumerate([(0.2, 400), (0.9, 100)]):
        spread = np.sqrt(share * (1 - share) / n)
        np.testing.assert_allclose(curve.lower[k], share - 1.96 * spread, atol=0.2 * spread + 0.5 / n)
        np.testing.assert_allclose(curve.upper[k], share + 1.96 * spread, atol=0.2 * spread + 0.5 / n)
    assert curve.frequency[0] < curve.lower[0] and curve.frequency[1] > curve.upper[1]
    assert metrics.reliability_curve(p, (p > 0.5).astype(int), kind="binary").lower is None


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite(kind):
    probs, y = data("tenths", 2 if kind == "binary" else 3)
    for chosen in ({"norm": "l1"}, {"norm": "l2", "binning": "mass"}, {"norm": "l2", "debias": True}):
        slope = jax.grad(lambda p, chosen=chosen: metrics.calibration_error(p, y, kind=kind, **chosen).value)
        assert np.isfinite(slope(jnp.asarray(probs, jnp.float32))).all()
    perfect = jax.grad(lambda p: metrics.calibration_error(p, jnp.asarray([1, 0]), norm="l2").value)
    assert np.isfinite(perfect(jnp.asarray([1.0, 0.0]))).all()


def test_rows_that_hold_the_largest_twice():
    """The quick way to the largest of each row must see ties, in whichever block they are."""
    rng = np.random.default_rng(0)
    probs = special.softmax(rng.normal(size=(20_000, 10)), -1)
    probs[-1] = [0.3, 0.3, 0.4 / 8, 0.4 / 8, 0.4 / 8, 0.4 / 8, 0.4 / 8, 0.4 / 8, 0.4 / 8, 0.4 / 8]
    y = rng.integers(0, 10, 20_000)
    for last in (0, 1):
        y[-1] = last
        assert float(metrics.accuracy(probs, y)) == (probs.argmax(1) == y).mean()


# Defects of other packages, by their number in the survey


def test_defect_20_largest_gap_is_a_gap():
    probs, y = data("smooth", 3, size=500)
    largest = metrics.calibration_error(probs, y, norm="max", bins=10)
    assert 0 <= float(largest) <= 1
    assert float(largest) == pytest.approx(looped(probs, y, "confidence", "max", 10, "width")[0])
    np.testing.assert_allclose(metrics.reliability_curve(probs, y, bins=10).edges, np.arange(11) / 10)


def test_defect_23_the_binning_does_not_change_the_estimand():
    p, y = np.array([0.1, 0.2, 0.3, 0.9]), np.array([0, 1, 0, 1])
    for binning in ("width", "mass", "sweep"):
        found = metrics.calibration_error(p, y, kind="binary", binning=binning, bins=40)  # more bins than rows
        assert "binary" in found.estimand and np.isfinite(float(found))
        confident = metrics.calibration_error(p, y, kind="confidence", binning=binning, bins=40)
        assert "confidence" in confident.estimand
    assert float(metrics.calibration_error(p, y, kind="binary")) != float(metrics.calibration_error(p, y))


def test_defect_25_as_many_bins_as_asked_for_whatever_the_order():
    probs, y = data("smooth", 2, size=300)
    for bins in (1, 2, 10):
        for binning in ("width", "mass"):
            curve = metrics.reliability_curve(probs, y, bins=bins, binning=binning)
            assert len(curve.count) == bins == len(curve.edges) - 1 and curve.count.sum() == 300
            order = probs.max(1).argsort()
            shuffled = metrics.calibration_error(probs, y, bins=bins, binning=binning)
            ordered = metrics.calibration_error(probs[order], y[order], bins=bins, binning=binning)
            assert float(shuffled) == pytest.approx(float(ordered), abs=1e-14)


def test_defect_28_saturated_confidences_have_bins():
    probs = np.tile([[1.0, 0.0, 0.0]], (50, 1))
    y = np.repeat([0, 1], [40, 10])
    for binning in ("width", "mass", "sweep"):
        for kind in KINDS[:3]:
            found = metrics.calibration_error(probs, y, kind=kind, binning=binning, norm="l1")
            assert float(found) == pytest.approx(0.4 / 3 if kind == "classwise" else 0.2)


def test_defect_29_classes_come_from_the_probabilities_and_batches_are_not_averaged():
    rng = np.random.default_rng(0)
    probs = special.softmax(rng.normal(size=(240, 4)), -1)
    y = rng.integers(0, 2, 240)  # of four classes, only two happen to occur
    whole = float(metrics.calibration_error(probs, y))
    assert whole == pytest.approx(looped(probs, y, "confidence", "l1", 15, "width")[0])
    parts = np.mean([float(metrics.calibration_error(probs[i : i + 24], y[i : i + 24])) for i in range(0, 240, 24)])
    assert parts > whole + 0.02  # what averaging would have said


def test_defect_30_certainty_is_in_the_last_bin():
    for dtype in (np.float32, np.float64):
        p = np.array([1.0, 1.0, 0.0, 0.95, 0.3, 0.3], dtype)
        for binning in ("width", "mass"):
            curve = metrics.reliability_curve(p, [1, 0, 0, 1, 0, 1], kind="binary", bins=10, binning=binning)
            assert curve.count.sum() == 6 and curve.count.shape == (10,)
            assert curve.count[-1] == (3 if binning == "width" else 2)
        assert metrics.reliability_curve(p, [1, 0, 0, 1, 0, 1], kind="binary", bins=10).count[3] == 2  # 0.3 / 0.1 < 3


def test_defect_34_a_short_last_batch_weighs_what_it_holds():
    from uq.metrics import streaming

    rng = np.random.default_rng(0)
    probs = special.softmax(rng.normal(size=(259, 3)), -1)
    y = probs.argmax(1)
    y[-3:] = probs[-3:].argmin(1)  # the short batch is all wrong
    metric = streaming.CalibrationError()
    state = metric.empty()
    for part in (slice(0, 128), slice(128, 256), slice(256, 259)):
        state = metric.update(state, probs[part], y[part])
    whole = float(metrics.calibration_error(probs, y))
    assert float(metric.compute(state)) == pytest.approx(whole, rel=1e-6)
    assert float(metrics.accuracy(probs, y)) == pytest.approx(256 / 259)


# Large tables on a device, which are checked, binned and summed in programs of their own


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.ones(10), 30_000).astype(np.float32)
    probs[:200] = 0.1  # ties
    return probs, rng.integers(0, 10, 30_000), rng.integers(0, 3, 30_000).astype(np.float32)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("more", [{}, {"norm": "l2"}, {"norm": "l2", "debias": True}, {"norm": "max"}, {"bins": 7}])
def test_large_tables_on_a_device_say_what_the_host_says(large, weighted, more):
    probs, y, weight = large
    device = jnp.asarray(probs)
    if weighted:
        more = {**more, "weight": weight}
        device = device.at[np.flatnonzero(weight == 0)].set(jnp.nan)  # rows that may hold anything
    want = uq.metrics.calibration_error(probs, y, **more)
    for labels in (y, jnp.asarray(y)):
        got = uq.metrics.calibration_error(device, labels, **more)
        np.testing.assert_allclose(got.value, want.value, rtol=2e-5)
        assert got.count == want.count and got.estimand == want.estimand
        if want.stderr is not None:
            np.testing.assert_allclose(got.stderr, want.stderr, rtol=1e-3)
    curve, other = (uq.metrics.reliability_curve(p, y, bins=7, weight=more.get("weight")) for p in (device, probs))
    np.testing.assert_array_equal(curve.count, other.count)
    np.testing.assert_allclose(curve.frequency, other.frequency, rtol=1e-5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -0.1, 1.2, 0.5])
def test_large_tables_on_a_device_are_checked(large, wrong):
    probs, y, _ = large
    device = jnp.asarray(probs).at[17, 3].set(wrong)
    for metric in (uq.metrics.calibration_error, uq.metrics.reliability_curve, uq.metrics.accuracy):
        with pytest.raises(uq.InputError, match=r"row 17|\[17, 3\]"):
            metric(device, y)
    with pytest.raises(uq.InputError, match="bins"):
        uq.metrics.calibration_error(jnp.asarray(probs), y, bins=0)
    with pytest.raises(uq.InputError, match="10"):
        uq.metrics.calibration_error(jnp.asarray(probs), np.where(np.arange(len(y)) == 5, 10, y))
