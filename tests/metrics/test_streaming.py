"""Streaming metrics: the same numbers as of all rows at once, in whatever order and place they were added."""

import math
import subprocess
import sys
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import uq
from uq import metrics
from uq.metrics import streaming
from uq.metrics.streaming import _sums

SIZE = 240


def classes(num_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    probs = special.softmax(2 * rng.normal(size=(SIZE, num_classes)), -1)
    probs[:20] = np.eye(num_classes)[rng.integers(0, num_classes, 20)]  # saturated
    labels = (probs.cumsum(1) < rng.uniform(size=(SIZE, 1))).sum(1).clip(0, num_classes - 1)  # calibrated
    labels[:5] = (labels[:5] + 1) % num_classes  # but for some that were ruled out
    return probs, labels


def numbers(seed=0, num_outputs=1):
    """A mixture predictive in units of its own, and outcomes."""
    rng = np.random.default_rng(seed)
    outputs = rng.normal(size=(3, SIZE, 2 * num_outputs)).astype(np.float32)
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(num_outputs), 1e4, 250.0)
    pred = uq.Predictive(jnp.asarray(outputs), likelihood)
    y = 1e4 + 250 * rng.normal(size=(SIZE, num_outputs))
    return pred, y[:, 0] if num_outputs == 1 else y


def shards(seed, parts):
    rng = np.random.default_rng(seed)
    order = rng.permutation(SIZE)
    cuts = np.sort(rng.choice(np.arange(1, SIZE), parts - 1, replace=False))
    return np.split(order, cuts)


CLASS_METRICS = {
    "log_score": streaming.Mean("log_score"),
    "brier": streaming.Mean("brier_score"),
    "accuracy": streaming.Mean("accuracy"),
    **{
        f"{kind}-{norm}": streaming.CalibrationError(kind, norm, 7, 3)
        for kind in ("confidence", "classwise", "top-label")
        for norm in ("l1", "l2", "max")
    },
}


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), parts=st.integers(1, 12))
def test_any_sharding_in_any_order_of_merging(seed, parts):
    probs, labels = classes()
    weight = np.random.default_rng(1).uniform(0.1, 3, SIZE)
    metric = streaming.collect(CLASS_METRICS)
    whole = metric.update(metric.empty(), probs, labels, weight=weight)
    states = [
        metric.update(metric.empty(), probs[rows], labels[rows], weight=weight[rows]) for rows in shards(seed, parts)
    ]
    rng = np.random.default_rng(seed)
    while len(states) > 1:  # a random tree of merges
        i, j = rng.choice(len(states), 2, replace=False)
        merged = metric.merge(states[i], states[j])
        states = [s for k, s in enumerate(states) if k not in (i, j)] + [merged]
    want, got = metric.compute(whole), metric.compute(states[0])
    for name in CLASS_METRICS:
        np.testing.assert_allclose(float(got[name]), float(want[name]), rtol=1e-12, atol=1e-14, err_msg=name)
        assert int(got[name].count) == SIZE
    for left, right in zip(jax.tree.leaves(states[0]), jax.tree.leaves(whole), strict=True):
        if np.issubdtype(left.dtype, np.integer):
            np.testing.assert_array_equal(left, right)


def test_merging_is_commutative_and_has_an_identity():
    probs, labels = classes()
    metric = streaming.collect(CLASS_METRICS)
    a, b = (metric.update(metric.empty(), probs[rows], labels[rows]) for rows in (slice(0, 100), slice(100, None)))
    for left, right in zip(jax.tree.leaves(metric.merge(a, b)), jax.tree.leaves(metric.merge(b, a)), strict=True):
        np.testing.assert_array_equal(left, right)
    for left, right in zip(jax.tree.leaves(metric.merge(a, metric.empty())), jax.tree.leaves(a), strict=True):
        np.testing.assert_array_equal(left, right)


def test_equal_to_the_metrics_of_all_rows():
    probs, labels = classes()
    metric = streaming.collect(CLASS_METRICS)
    state = metric.empty()
    for rows in shards(3, 6):
        state = metric.update(state, probs[rows], labels[rows])
    got = metric.compute(state)
    assert (probs[np.arange(SIZE), labels] == 0).any()
    assert math.isinf(float(got["log_score"])) and math.isnan(float(got["log_score"].stderr))
    hot = np.eye(3)[labels]
    brier = ((probs - hot) ** 2).sum(1)
    np.testing.assert_allclose(float(got["brier"]), brier.mean(), rtol=1e-13)
    np.testing.assert_allclose(float(got["brier"].stderr), brier.std(ddof=1) / math.sqrt(SIZE), rtol=1e-10)
    assert float(got["accuracy"]) == (probs.argmax(1) == labels).mean()
    for kind in ("confidence", "classwise", "top-label"):
        for norm in ("l1", "l2", "max"):
            want = metrics.calibration_error(probs, labels, kind=kind, norm=norm, bins=7)
            np.testing.assert_allclose(float(got[f"{kind}-{norm}"]), float(want), rtol=1e-6, err_msg=f"{kind} {norm}")


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_regression_in_batches(num_outputs):
    pred, y = numbers(num_outputs=num_outputs)
    metric = streaming.collect(
        {
            "log_score": streaming.Mean("log_score"),
            "crps": streaming.Mean("crps"),
            "rmse": streaming.Mean("squared_error", root=True),
            "coverage": streaming.Mean("coverage", level=0.8),
            "width": streaming.Mean("interval_width", level=0.8),
            "calibration": streaming.RegressionCalibrationError(num_outputs=num_outputs),
        }
    )
    state = metric.empty()
    for start in range(0, SIZE, 80):
        rows = slice(start, start + 80)
        state = metric.update(state, pred[rows], y[rows])
    got = metric.compute(state)
    mean = np.asarray(pred.mean, np.float64)
    np.testing.assert_allclose(float(got["rmse"]), np.sqrt(np.mean((y - mean) ** 2)), rtol=1e-5)
    lower, upper = pred.interval(0.8)
    np.testing.assert_allclose(float(got["coverage"]), np.mean((y >= lower) & (y <= upper)), atol=1e-12)
    np.testing.assert_allclose(float(got["width"]), np.mean(np.asarray(upper) - np.asarray(lower)), rtol=1e-4)
    u = np.asarray(pred.cdf(y), np.float64).reshape(SIZE, -1)
    levels = np.arange(1, 100) / 100
    want = np.mean([[abs((column <= t).mean() - t) for t in levels] for column in u.T])
    np.testing.assert_allclose(float(got["calibration"]), want, rtol=1e-6)
    np.testing.assert_allclose(float(got["log_score"]), -np.mean(np.asarray(pred.log_prob(y))), rtol=1e-6)


def test_padding_is_inert_whatever_it_holds():
    probs, labels = classes()
    metric = streaming.collect(CLASS_METRICS)
    want = metric.compute(metric.update(metric.empty(), probs, labels))
    padded = np.concatenate([np.full((3, 3), np.nan), probs, np.full((2, 3), -7.0)])
    y = np.concatenate([[99, 99, 99], labels, [-1, -1]])
    mask = np.r_[np.zeros(3, bool), np.ones(SIZE, bool), np.zeros(2, bool)]
    got = metric.compute(metric.update(metric.empty(), padded, y, mask))
    for name in CLASS_METRICS:
        assert float(got[name]) == pytest.approx(float(want[name]), rel=1e-12)
        assert int(got[name].count) == SIZE


def test_a_batch_of_padding_alone_changes_nothing():
    probs, labels = classes()
    metric = streaming.collect(CLASS_METRICS)
    state = metric.update(metric.empty(), probs, labels)
    again = metric.update(state, np.full((4, 3), np.nan), np.full(4, -9), mask=np.zeros(4, bool))
    for left, right in zip(jax.tree.leaves(state), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(left, right)


def test_integer_weights_count_rows():
    probs, labels = classes()
    repeats = np.random.default_rng(0).integers(0, 3, SIZE)
    metric = streaming.collect({k: v for k, v in CLASS_METRICS.items() if k != "log_score"})
    got = metric.compute(metric.update(metric.empty(), probs, labels, weight=repeats.astype(float)))
    many, y = np.repeat(probs, repeats, axis=0), np.repeat(labels, repeats)
    want = metric.compute(metric.update(metric.empty(), many, y))
    for name in got:
        assert float(got[name]) == pytest.approx(float(want[name]), rel=1e-12), name


def test_in_a_compiled_scan_and_the_second_call_does_not_recompile():
    probs, labels = classes()
    metric = streaming.collect({k: v for k, v in CLASS_METRICS.items() if k != "log_score"})
    batches = jnp.asarray(probs.reshape(6, 40, 3), jnp.float32), jnp.asarray(labels.reshape(6, 40), jnp.int32)
    traced = []

    @jax.jit
    def run(batches):
        traced.append(1)

        def step(state, batch):
            return metric.update(state, *batch, mask=jnp.ones(40, bool)), None

        empty = metric.update(metric.empty(), batches[0][0], batches[1][0], jnp.zeros(40, bool))
        return metric.compute(jax.lax.scan(step, empty, batches)[0])

    got = run(batches)
    run(batches)
    assert len(traced) == 1
    want = metric.compute(metric.update(metric.empty(), probs, labels))
    for name in got:
        np.testing.assert_allclose(float(got[name]), float(want[name]), rtol=2e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(float(got["brier"].stderr), float(want["brier"].stderr), rtol=1e-4)


def test_defect_34_ragged_last_batch_is_not_overweighted():
    values = np.r_[np.zeros(256), np.full(3, 5.0)]
    metric = streaming.Mean("squared_error")
    state = metric.empty()
    for rows in (slice(0, 128), slice(128, 256), slice(256, 259)):
        state = metric.update(state, np.zeros(len(values[rows])), values[rows])
    assert float(metric.compute(state)) == pytest.approx(3 * 25 / 259, rel=1e-14)


def test_defect_29_batches_do_not_average_calibration_errors():
    probs, labels = classes()
    metric = streaming.CalibrationError(num_classes=3)
    state = metric.empty()
    each = []
    for rows in np.array_split(np.arange(SIZE), 24):
        state = metric.update(state, probs[rows], labels[rows])
        each.append(float(metrics.calibration_error(probs[rows], labels[rows])))
    want = float(metrics.calibration_error(probs, labels))
    assert float(metric.compute(state)) == pytest.approx(want, rel=1e-6)
    assert np.mean(each) > 1.5 * want


def test_counts_stay_exact_beyond_float32():
    state = streaming.CalibrationError(kind="binary", bins=1).empty()
    metric = streaming.CalibrationError(kind="binary", bins=1)
    one = metric.update(metric.empty(), np.full(3, 0.5), np.array([0, 1, 1]))
    many = jax.tree.map(lambda leaf: leaf, one)
    many["count"] = np.full_like(one["count"], 2**24)
    both = metric.merge(many, metric.merge(one, state))
    assert int(metric.compute(both).count) == 2**24 + 3


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60), st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_sums_have_twice_the_digits(values, seed):
    values = np.asarray(values)
    exact = sum(Fraction(v) for v in values)
    total = _sums.total(np, _sums.of(np, values))
    assert (
        abs(Fraction(float(total.hi)) + Fraction(float(total.lo)) - exact)
        <= abs(sum(abs(Fraction(v)) for v in values)) * Fraction(2) ** -95
    )
    shuffled = np.random.default_rng(seed).permutation(values)
    again = _sums.total(np, _sums.of(np, shuffled))
    assert float(again.hi) == pytest.approx(float(total.hi), rel=1e-15, abs=1e-20)


def test_float32_sums_survive_compilation():
    values = np.r_[np.float32(1e8), np.full(4096, np.float32(0.125))].astype(np.float32)
    total = jax.jit(lambda v: _sums.total(jnp, _sums.of(jnp, v)))(jnp.asarray(values))
    assert float(total.hi) + float(total.lo) == 1e8 + 512
    a, b = np.float32(1.0000001), np.float32(3.1415927)
    product = jax.jit(lambda a, b: _sums.multiply(_sums.of(jnp, a), _sums.of(jnp, b)))(jnp.asarray(a), jnp.asarray(b))
    exact = Fraction(float(a)) * Fraction(float(b))
    assert abs(Fraction(float(product.hi)) + Fraction(float(product.lo)) - exact) < Fraction(2) ** -44


def test_standard_error_far_from_zero():
    """Scores of 10⁶ ± 10⁻² keep the digits of their spread, also compiled in float32."""
    rng = np.random.default_rng(0)
    values = (100 + 1e-3 * rng.normal(size=400)).astype(np.float32)
    metric = streaming.Mean("interval_width", level=0.5)
    zero = jnp.zeros(400)
    want = values.astype(np.float64).std(ddof=1) / 20

    @jax.jit
    def run(values):
        return streaming.Mean("squared_error").compute(
            streaming.Mean("squared_error").update(streaming.Mean("squared_error").empty(), zero, jnp.sqrt(values))
        )

    got = run(jnp.asarray(values))
    roots = np.sqrt(values).astype(np.float32).astype(np.float64) ** 2
    np.testing.assert_allclose(
        float(got.stderr), roots.astype(np.float32).astype(np.float64).std(ddof=1) / 20, rtol=0.05
    )
    assert float(got.stderr) == pytest.approx(want, rel=0.1)
    assert metric.level == 0.5


def test_host_and_device_batches_keep_the_digits_of_the_host():
    """A large batch goes to the device; what the host has summed so far is not rounded to single precision."""
    rng = np.random.default_rng(0)
    metric = streaming.Mean("squared_error")
    small, large = 1e4 + rng.normal(size=100), np.float32(1e4 + rng.normal(size=250_000))
    state = metric.update(metric.empty(), np.zeros(100), small)
    state = metric.update(state, jnp.zeros(250_000), jnp.asarray(large))
    state = metric.update(state, np.zeros(100), small)
    squares = np.r_[small**2, np.square(large).astype(np.float64), small**2]
    got = metric.compute(state)
    assert float(got) == pytest.approx(squares.mean(), rel=1e-12)
    assert float(got.stderr) == pytest.approx(squares.std(ddof=1) / math.sqrt(len(squares)), rel=1e-7)
    assert int(got.count) == 250_200
    halves = jax.jit(lambda y: metric.update(metric.empty(), jnp.zeros(250_000), y))(jnp.asarray(large))
    merged = metric.merge(metric.merge(metric.update(metric.empty(), np.zeros(100), small), halves), halves)
    assert int(metric.compute(merged).count) == 500_100


def test_rows_are_exact_for_any_metric():
    probs, labels = classes()
    metric = streaming.rows(metrics.calibration_error, {"binning": "mass", "bins": 5})
    state = metric.empty()
    for part in np.array_split(np.arange(SIZE), 5):
        state = metric.update(state, probs[part], labels[part])
    want = metrics.calibration_error(probs, labels, binning="mass", bins=5)
    assert float(metric.compute(state)) == pytest.approx(float(want), rel=1e-12)
    pred, y = numbers()
    metric = streaming.rows(metrics.rmse)
    state = metric.merge(metric.update(metric.empty(), pred[:100], y[:100]), metric.update((), pred[100:], y[100:]))
    assert float(metric.compute(state)) == pytest.approx(float(metrics.rmse(pred, y)), rel=1e-6)


DEVICES = """
import jax, numpy as np, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from uq.metrics import streaming
assert jax.device_count() == 8
rng = np.random.default_rng(0)
probs = rng.dirichlet(np.ones(3), 1600).astype(np.float32)
labels = rng.integers(0, 3, 1600).astype(np.int32)
metric = streaming.collect({
    "brier": streaming.Mean("brier_score"),
    "ece": streaming.CalibrationError(kind="classwise", num_classes=3),
})
mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))

def each(probs, labels):
    return metric.all_reduce(metric.update(metric.empty(), probs, labels, jnp.ones(len(labels), bool)), "data")

spread = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=False))
got = metric.compute(spread(probs, labels))
want = metric.compute(metric.update(metric.empty(), probs, labels))
for name in want:
    assert abs(float(got[name]) - float(want[name])) < 1e-6, name
    assert int(got[name].count) == 1600
print("equal")
"""


def test_over_eight_devices():
    environment = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    import os

    done = subprocess.run(
        [sys.executable, "-c", DEVICES], capture_output=True, text=True, env={**os.environ, **environment}, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


BRIER, ECE = streaming.Mean("brier_score"), streaming.CalibrationError()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: streaming.Mean("nonsense"), "no streaming score"),
        (lambda: streaming.CalibrationError(kind="other"), "no kind"),
        (lambda: streaming.collect({}), "by their names, but there are none"),
        (lambda: streaming.collect({"a": 3}), "'a' is 3"),
        (lambda: BRIER.update(BRIER.empty(), [0.5], [1], mask=[0.5]), "`mask` expected True or False"),
        (lambda: BRIER.update(BRIER.empty(), [0.5], [1], mask=[np.nan]), "`mask` expected True or False"),
        (lambda: BRIER.update(None, [0.5], [1]), "states of one metric"),
        (lambda: ECE.merge(ECE.empty(), BRIER.empty()), "states of one metric"),
        (lambda: ECE.merge(ECE.empty(), streaming.CalibrationError(bins=3).empty()), "with the same settings"),
        (lambda: streaming.Mean("coverage", level=2.0), "strictly between 0 and 1"),
        (lambda: streaming.Mean("brier_score").update(streaming.Mean("brier_score").empty(), [0.5], 1), "leading axis"),
    ],
)
def test_bad_input(make, said):
    with pytest.raises(uq.InputError, match=said):
        make()


@pytest.mark.parametrize("metric", [ECE, BRIER, streaming.RegressionCalibrationError()])
def test_of_no_rows_nothing_is_known(metric):
    found = metric.compute(metric.empty())
    assert np.isnan(float(found)) and int(found.count) == 0
    assert np.isnan(float(jax.jit(metric.compute)(metric.empty())))


def test_uniform_pit_scores_like_a_calibrated_model():
    u = stats.uniform.rvs(size=SIZE, random_state=0)
    draws = np.sort(np.random.default_rng(1).normal(size=(501, SIZE)), axis=0)
    y = stats.norm.ppf(u)
    metric = streaming.RegressionCalibrationError()
    got = metric.compute(metric.update(metric.empty(), draws, y))
    assert 0 < float(got) < 4 * 0.31 / math.sqrt(SIZE)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from(["auroc", "average_precision", "fpr_at_tpr"]))
def test_binned_rankings_bound_the_exact_one(seed, name):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 200)
    labels[:2] = 0, 1
    scores = np.clip(rng.normal(0.4 + 0.2 * labels, 0.2), 0, 1)
    exact = float(getattr(metrics, name)(scores, labels))
    width = []
    for cells in (8, 64, 4096):
        metric = streaming.Ranked(name, cells)
        state = metric.merge(
            metric.update(metric.empty(), scores[:70], labels[:70]),
            metric.update(metric.empty(), scores[70:], labels[70:]),
        )
        got = metric.compute(state)
        assert got.lower - 1e-12 <= exact <= got.upper + 1e-12
        assert got.lower <= float(got.estimate) <= got.upper
        assert int(got.estimate.count) == 200
        width.append(got.upper - got.lower)
    assert width[2] <= width[0]


@pytest.mark.parametrize("name", ["aurc", "eaurc", "augrc"])
def test_binned_selective_risk(name):
    probs, labels = classes()
    exact = float(getattr(metrics, name)(probs, labels))
    metric = streaming.Ranked(name, 256)
    mask = np.ones(SIZE, bool)
    state = metric.update(metric.empty(), probs, labels, mask)
    got = metric.compute(state)
    assert got.lower - 1e-12 <= exact <= got.upper + 1e-12
    assert got.upper - got.lower < 0.06  # twenty confidences are exactly 1, and tied


def test_defect_36_unbounded_scores_need_no_thresholds():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    scores = 1e4 + 50 * (rng.normal(size=300) + labels)
    metric = streaming.Ranked("auroc", 4096, low=scores.min(), high=scores.max())
    got = metric.compute(metric.update(metric.empty(), scores, labels))
    assert float(got.estimate) == pytest.approx(float(metrics.auroc(scores, labels)), abs=2e-3)
