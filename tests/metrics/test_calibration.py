"""Calibration and summaries against loops in plain Python, with rational arithmetic where edges matter."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.metrics import accuracy_score, root_mean_squared_error

import uq
from tests.metrics.oracle import Mixture, softplus
from uq import metrics

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


# Regression


def regression(loc, scale, size=40, num_outputs=1):
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(3, size, 2 * num_outputs)).astype(np.float32)
    weight = np.float32([0.2, 0.5, 0.3])
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(num_outputs), loc, scale)
    means = loc + scale * outputs[..., :num_outputs].astype(np.float64)
    scales = scale * (softplus(outputs[..., num_outputs:]) + 1e-3)
    pred = uq.Predictive(jnp.asarray(outputs), likelihood, jnp.asarray(weight))
    exact = [[Mixture(means[:, n, d], scales[:, n, d], weight) for d in range(num_outputs)] for n in range(size)]
    y = loc + 1.5 * scale * rng.normal(size=(size, num_outputs))
    return pred, exact, y


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (1e4, 0.01), (-300.0, 250.0)])
def test_regression_summaries(loc, scale):
    pred, exact, y = regression(loc, scale)
    outcome = y[:, 0]
    u = [row[0].cdf(t) for row, t in zip(exact, outcome, strict=True)]
    np.testing.assert_allclose(metrics.pit(pred, outcome), u, rtol=1e-4, atol=1e-6)
    inside = [row[0].quantile(0.1) <= t <= row[0].quantile(0.9) for row, t in zip(exact, outcome, strict=True)]
    np.testing.assert_allclose(metrics.coverage(pred, outcome, level=0.8), np.mean(inside), rtol=1e-6)
    gaps = [abs(sum(v <= k / 100 for v in u) / len(u) - k / 100) for k in range(1, 100)]
    np.testing.assert_allclose(metrics.regression_calibration_error(pred, outcome), np.mean(gaps), atol=1e-6)
    mean = [row[0].weights @ row[0].locs for row in exact]
    np.testing.assert_allclose(metrics.rmse(pred, outcome), root_mean_squared_error(outcome, mean), rtol=1e-5)
    np.testing.assert_array_equal(metrics.rmse(pred, y), metrics.rmse(pred, outcome))  # (N, 1) is (N,)


def test_several_outputs():
    pred, exact, y = regression(np.array([1e4, -3.0]), np.array([0.01, 25.0]), size=20, num_outputs=2)
    u = np.array([[m.cdf(t) for m, t in zip(row, ts, strict=True)] for row, ts in zip(exact, y, strict=True)])
    np.testing.assert_allclose(metrics.pit(pred, y), u, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics.coverage(pred, y, level=0.7), np.mean((u >= 0.15) & (u <= 0.85)), rtol=1e-6)
    gaps = [abs(np.mean(u[:, d] <= k / 100) - k / 100) for d in range(2) for k in range(1, 100)]
    np.testing.assert_allclose(metrics.regression_calibration_error(pred, y), np.mean(gaps), atol=1e-6)
    mean = np.array([[m.weights @ m.locs for m in row] for row in exact])
    np.testing.assert_allclose(metrics.rmse(pred, y), np.sqrt(np.mean((y - mean) ** 2)), rtol=1e-5)


def test_a_right_mixture_is_calibrated():
    pred, _, _ = regression(-300.0, 250.0)
    draws = np.asarray(pred.sample(jax.random.key(3), 25), np.float64)
    u = np.concatenate([metrics.pit(pred, row) for row in draws])
    assert stats.kstest(u, "uniform").pvalue > 1e-3
    errors = [float(metrics.regression_calibration_error(pred, row)) for row in draws]
    assert np.mean(errors) == pytest.approx(0.313 / np.sqrt(40), rel=0.35)  # the null the docstring states


def test_points_intervals_and_jit():
    y = np.array([100.0, 250.0, -3.0])
    assert float(metrics.rmse(y + np.array([3.0, -3.0, 3.0]), y)) == pytest.approx(3.0)
    lower, upper = y - 1, np.array([101.0, 249.0, np.inf])
    assert float(metrics.coverage((lower, upper), y)) == pytest.approx(2 / 3)
    assert float(metrics.coverage((y, y), y)) == 1.0  # ends are inside
    interval = uq.Interval(jnp.asarray(lower, jnp.float32), jnp.asarray(upper, jnp.float32))
    assert float(jax.jit(metrics.coverage)(interval, np.float32(y))) == pytest.approx(2 / 3)
    pred, _, y = regression(-300.0, 250.0)
    y = np.float32(y[:, 0])
    for summary in (metrics.coverage, metrics.rmse, metrics.pit, metrics.regression_calibration_error):
        np.testing.assert_allclose(jax.jit(summary)(pred, y), summary(pred, y), rtol=1e-4, atol=1e-6)


def test_accuracy():
    probs, y = data("smooth")
    assert float(metrics.accuracy(probs, y)) == pytest.approx(accuracy_score(y, probs.argmax(1)))
    assert float(jax.jit(metrics.accuracy)(probs, y)) == pytest.approx(accuracy_score(y, probs.argmax(1)))
    assert float(metrics.accuracy([[0.5, 0.5]], [0])) == 1.0  # the first of equally probable classes


WRONG = [
    (
        lambda: metrics.calibration_error([0.5], [1], kind="toplabel"),
        "no kind 'toplabel'.* did you mean 'top-label'",
    ),
    (lambda: metrics.calibration_error([0.5], [1], norm="L2"), "no norm 'L2'.* did you mean 'l2'"),
    (lambda: metrics.calibration_error([0.5], [1], binning="equal"), "no binning 'equal'"),
    (lambda: metrics.calibration_error([0.5], [1], bins=0), "`bins` expected a whole number of at least 1"),
    (lambda: metrics.calibration_error([0.5], [1], bins=2.5), "`bins` expected a whole number"),
    (
        lambda: metrics.calibration_error([[0.5, 0.2, 0.3]], [1], kind="binary"),
        "is for two classes, but there are 3",
    ),
    (lambda: metrics.calibration_error([0.5, 0.5], [1]), "one entry for each of the 2 examples"),
    (
        lambda: metrics.calibration_error(regression(0.0, 1.0)[0], [1]),
        "predictions of classes, but these are regression",
    ),
    (
        lambda: metrics.pit(np.ones(3), np.ones(3)),
        r"Predictive of a regression, but got ndarray of shape \(3,\)",
    ),
    (lambda: metrics.coverage(regression(0.0, 1.0)[0], np.ones(39)), "one entry for each of the 40 examples"),
    (lambda: metrics.coverage(regression(0.0, 1.0)[0], np.ones(40), level=1.0), "strictly between 0 and 1"),
    (
        lambda: metrics.coverage(([0.0], [np.nan]), [1.0]),
        "`upper` expected finite numbers, but row 0 of 1 holds NaN",
    ),
    (lambda: metrics.coverage(([0.0], [1.0]), [1.0, 2.0]), "`lower` and `y` of one shape"),
    (
        lambda: metrics.rmse([1.0, np.nan], [1.0, 2.0]),
        "`pred` expected finite numbers, but row 1 of 2 holds NaN",
    ),
    (lambda: metrics.rmse([], []), "with N ≥ 1"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence[:40] for _, sentence in WRONG])
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()
