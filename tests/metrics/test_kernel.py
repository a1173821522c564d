"""Kernel calibration error against double loops; its test for size and power."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import uq
from uq.metrics import kernel as kernels
from uq.metrics._estimate import Resample
from uq.metrics.kernel import kernel_calibration_error, kernel_calibration_test


def data(size=41, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    probs = special.softmax(2 * rng.normal(size=(size, classes)), -1)
    probs[1] = probs[0]  # a tie
    return probs, rng.choice(classes, size=size, p=[0.7] + [0.3 / (classes - 1)] * (classes - 1))


def looped(p, event, estimator, kernel, bandwidth):
    def h(i, j):
        d = np.linalg.norm(p[i] - p[j]) / bandwidth
        return (np.exp(-d) if kernel == "laplacian" else np.exp(-d * d / 2)) * ((event[i] - p[i]) @ (event[j] - p[j]))

    n = len(p)
    if estimator == "ul":
        return np.mean([h(i, i + 1) for i in range(0, n - 1, 2)])
    pairs = [h(i, j) for i in range(n) for j in range(n) if estimator == "biased" or i != j]
    return sum(pairs) / (n * n if estimator == "biased" else n * (n - 1))


@pytest.mark.parametrize("kernel", ["laplacian", "gaussian"])
@pytest.mark.parametrize("estimator", ["uq", "ul", "biased"])
def test_against_double_loops(estimator, kernel):
    probs, y = data()
    top = probs.argmax(1)
    seen = {
        "canonical": (probs, np.eye(3)[y]),
        "confidence": (probs.max(1)[:, None], (top == y).astype(float)[:, None]),
    }
    for kind, (p, event) in seen.items():
        for bandwidth in (0.3, None):
            got = kernel_calibration_error(probs, y, kind=kind, estimator=estimator, kernel=kernel, bandwidth=bandwidth)
            width = bandwidth or np.sqrt(2 * p.var(0).sum())
            want = looped(p, event, estimator, kernel, width)
            assert float(got) == pytest.approx(want, rel=1e-9, abs=1e-12)
            assert kind in got.estimand and estimator in got.estimand


def test_jit_equals_eager_and_blocks_do_not_matter(monkeypatch):
    probs, y = data()
    small = probs.astype(np.float32)
    for estimator in ("uq", "ul", "biased"):
        for kernel in ("laplacian", "gaussian"):

            def error(p, y, estimator=estimator, kernel=kernel):
                return kernel_calibration_error(p, y, estimator=estimator, kernel=kernel).value

            assert float(jax.jit(error)(small, y)) == pytest.approx(float(error(probs, y)), rel=1e-3, abs=1e-5)
    whole = float(kernel_calibration_error(probs, y))
    monkeypatch.setattr(kernels, "_PAIRS", 3 * len(y) + 1)
    assert float(kernel_calibration_error(probs, y)) == pytest.approx(whole, rel=1e-12)


def test_a_weight_of_two_is_two_rows():
    probs, y = data()
    weight = np.random.default_rng(1).integers(0, 3, len(y))
    again = np.repeat(np.arange(len(y)), weight)
    holed, labels = np.where(weight[:, None] == 0, np.nan, probs), np.where(weight == 0, 9, y)
    for estimator in ("uq", "biased"):
        got = kernel_calibration_error(holed, labels, estimator=estimator, weight=weight.astype(float))
        want = kernel_calibration_error(probs[again][::-1], y[again][::-1], estimator=estimator)
        assert float(got) == pytest.approx(float(want), rel=1e-9)
    pairs = (weight[0:40:2] > 0) & (weight[1:40:2] > 0)
    masked = kernel_calibration_error(holed, labels, estimator="ul", bandwidth=0.5, weight=(weight > 0).astype(float))
    each = [looped(probs[i : i + 2], np.eye(3)[y[i : i + 2]], "ul", "laplacian", 0.5) for i in range(0, 40, 2)]
    assert float(masked) == pytest.approx(np.mean(np.array(each)[pairs]))


def test_standard_error_is_the_jackknife():
    probs, y = data(200)
    found = kernel_calibration_error(probs, y, bandwidth=0.5)
    left_out = [
        float(kernel_calibration_error(np.delete(probs, i, 0), np.delete(y, i), bandwidth=0.5)) for i in range(200)
    ]
    assert float(found.stderr) == pytest.approx(np.sqrt(199 * np.var(left_out)), rel=0.05)


def test_unbiased_estimates_of_a_calibrated_model_average_zero():
    probs, y = data(60)
    found = kernel_calibration_error(probs, y, key=Resample(0, num=300))
    assert abs(float(found.null.mean)) < 0.01
    assert float(found.null.p_value) < 0.01  # y does not follow these probabilities
    biased = kernel_calibration_error(probs, y, estimator="biased", key=Resample(0, num=300))
    assert float(biased.null.mean) > 0.005


def test_mmce_is_the_root_of_the_biased_estimate():
    probs, y = data()
    conf, right = probs.max(1), (probs.argmax(1) == y).astype(float)
    gap = right - conf
    want = np.sqrt((gap[:, None] * gap * np.exp(-np.abs(conf[:, None] - conf) / 0.4)).mean())
    got = kernel_calibration_error(probs, y, kind="confidence", estimator="biased", bandwidth=0.4)
    assert np.sqrt(float(got)) == pytest.approx(want)


@pytest.mark.parametrize("estimator", ["uq", "ul"])
def test_p_values_are_uniform_under_calibration_and_small_otherwise(estimator):
    num, size = 300, 120 if estimator == "uq" else 300
    rng = np.random.default_rng(3)
    probs = special.softmax(1.5 * rng.normal(size=(num, size, 3)), -1)
    y = (rng.uniform(size=(num, size, 1)) > probs.cumsum(-1)).sum(-1)
    sharp = probs**4 / (probs**4).sum(-1, keepdims=True)

    @jax.jit
    @jax.vmap
    def p_value(probs, y, key):
        key = Resample(key, num=199) if estimator == "uq" else None
        return kernel_calibration_test(probs, y, estimator=estimator, key=key).p_value

    keys = jax.random.split(jax.random.key(0), num)
    null = np.asarray(p_value(probs.astype(np.float32), y, keys))
    for level in (0.05, 0.2, 0.5):
        assert stats.binomtest(int((null <= level).sum()), num, level).pvalue > 1e-3, level
    if estimator == "uq":
        power = np.asarray(p_value(sharp.astype(np.float32), y, keys))
        assert (power < 0.05).mean() > 0.8


def test_linear_test_has_power_with_many_examples():
    rng = np.random.default_rng(0)
    probs = special.softmax(rng.normal(size=(20_000, 3)), -1)
    y = (rng.uniform(size=(20_000, 1)) > probs.cumsum(-1)).sum(-1)
    assert 0.01 < float(kernel_calibration_test(probs, y, estimator="ul").p_value) < 0.99
    sharp = probs**2.5 / (probs**2.5).sum(-1, keepdims=True)
    assert float(kernel_calibration_test(sharp, y, estimator="ul").p_value) < 1e-3


def test_gradients_are_finite_where_predictions_coincide():
    probs, y = data(12)
    for kernel in ("laplacian", "gaussian"):
        slope = jax.grad(lambda p, kernel=kernel: kernel_calibration_error(p, jnp.asarray(y), kernel=kernel).value)
        assert np.isfinite(slope(jnp.asarray(probs, jnp.float32))).all()
    same = jax.grad(lambda p: kernel_calibration_error(p, jnp.asarray([0, 1, 1])).value)
    assert np.isfinite(same(jnp.full((3, 2), 0.5))).all()


def test_defect_33_every_sample_counts():
    probs, y = data()
    for i in (0, 20, 40):
        other = y.copy()
        other[i] = (other[i] + 1) % 3
        assert abs(float(kernel_calibration_error(probs, y)) - float(kernel_calibration_error(probs, other))) > 1e-5


WRONG = [
    (lambda: kernel_calibration_error([0.5, 0.5], [1, 0], kernel="rbf"), "no kernel 'rbf'"),
    (lambda: kernel_calibration_error([0.5, 0.5], [1, 0], estimator="u"), "no estimator 'u'"),
    (lambda: kernel_calibration_error([0.5, 0.5], [1, 0], bandwidth=0.0), "positive `bandwidth`, but it is 0.0"),
    (lambda: kernel_calibration_error([0.5], [1]), "at least 2, but there is 1"),
    (lambda: kernel_calibration_test([0.5, 0.5], [1, 0]), "expected a `key` for its bootstrap"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=[sentence for _, sentence in WRONG])
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()
