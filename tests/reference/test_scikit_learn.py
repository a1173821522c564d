"""scikit-learn agrees: rankings with ties and weights, scores of classes, pinball loss, isotonic regression."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uq import metrics
from uq.metrics.isotonic import isotonic

learn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: pip install scikit-learn")


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 5, 1000]), weighted=st.booleans())
def test_rankings(seed, levels, weighted):
    rng = np.random.default_rng(seed)
    labels = np.r_[0, 1, (rng.uniform(size=58) < 0.2).astype(int)]
    scores = 100 + rng.integers(0, levels, 60)
    weight = rng.uniform(0.1, 3, 60) if weighted else None
    for ours, theirs in (
        (metrics.auroc, learn.roc_auc_score),
        (metrics.average_precision, learn.average_precision_score),
    ):
        found = float(ours(scores, labels, weight=weight))
        assert found == pytest.approx(theirs(labels, scores, sample_weight=weight), abs=1e-12)
    fpr, tpr, _ = learn.roc_curve(labels, scores, sample_weight=weight, drop_intermediate=False)
    found = float(metrics.fpr_at_tpr(scores, labels, weight=weight))
    assert found == pytest.approx(fpr[np.argmax(tpr >= 0.95 - 1e-12)], abs=1e-12)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), classes=st.integers(2, 5))
def test_scores_of_classes(seed, classes):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(classes, 0.8), 50) * 0.98 + 0.02 / classes
    y = np.r_[
        np.arange(classes),
        rng.choice(classes, 50 - classes, p=np.arange(1, classes + 1) / (classes * (classes + 1) / 2)),
    ]
    assert metrics.log_score(probs, y).mean() == pytest.approx(learn.log_loss(y, probs), rel=1e-12)
    assert float(metrics.accuracy(probs, y)) == pytest.approx(learn.accuracy_score(y, probs.argmax(1)))
    assert metrics.zero_one_score(probs, y).mean() == pytest.approx(learn.zero_one_loss(y, probs.argmax(1)))
    if classes == 2:
        assert metrics.brier_score(probs, y).mean() == pytest.approx(learn.brier_score_loss(y, probs[:, 1]))


def test_numbers():
    rng = np.random.default_rng(0)
    y, guess = 300 + 40 * rng.normal(size=50), 300 + 40 * rng.normal(size=50)
    weight = rng.uniform(0, 2, 50)
    for level in (0.1, 0.5, 0.9):
        want = learn.mean_pinball_loss(y, guess, alpha=level)
        assert metrics.quantile_score(guess, y, level=level).mean() == pytest.approx(want)
    assert float(metrics.mae(guess, y, weight=weight)) == pytest.approx(
        learn.mean_absolute_error(y, guess, sample_weight=weight)
    )
    assert float(metrics.rmse(guess, y, weight=weight)) ** 2 == pytest.approx(
        learn.mean_squared_error(y, guess, sample_weight=weight)
    )


@pytest.mark.filterwarnings("ignore")
def test_isotonic_regression_and_the_decomposition_by_it():
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(1)
    p, weight = np.round(rng.beta(1.2, 2, 300), 2), rng.uniform(0.1, 2, 300)  # ties, which it pools
    y = (rng.uniform(size=300) < p**1.4).astype(int)
    fit = IsotonicRegression().fit(p, y, sample_weight=weight).predict(p)
    order = np.argsort(p, kind="stable")
    _, where = np.unique(p, return_inverse=True)
    mass = np.bincount(where, weight)
    pooled = isotonic(np.bincount(where, weight * y) / mass, mass)
    np.testing.assert_allclose(pooled[where][order], fit[order], atol=1e-9)
    parts = metrics.score_decomposition(p, y, weight=weight)
    mean = np.average(y, weights=weight)
    brier = [np.average((q - y) ** 2, weights=weight) for q in (p, fit, mean)]
    assert [float(part) for part in parts] == pytest.approx(
        [brier[0], brier[0] - brier[1], brier[2] - brier[1], brier[2]], rel=1e-9
    )


def test_calibration_curve():
    from sklearn.calibration import calibration_curve

    rng = np.random.default_rng(2)
    p = rng.beta(1.2, 2, 500)
    y = (rng.uniform(size=500) < p).astype(int)
    share, mean = calibration_curve(y, p, n_bins=10)
    counts = np.histogram(p, np.linspace(0, 1, 11))[0]
    want = (np.abs(share - mean) * counts[counts > 0]).sum() / 500
    assert float(metrics.calibration_error(p, y, kind="binary", bins=10)) == pytest.approx(want, abs=1e-12)
