"""Vector, matrix and Dirichlet scaling against scipy on the plain objective, and known distortions."""

import numpy as np
import pytest
from scipy import optimize, special

import uq

from .cases import drawn, predictive, problem, probs


def plain(features, y, weight, full, penalty):
    """Slope and intercept by scipy, with numerical gradients and nothing shared."""
    num_classes = features.shape[1]
    size = num_classes**2 if full else num_classes

    def parts(at):
        slope = at[:size].reshape(num_classes, num_classes) if full else np.diag(at[:size])
        return slope, at[size:]

    def loss(at):
        slope, intercept = parts(at)
        new = special.log_softmax(features @ slope.T + intercept, 1)
        return np.average(-new[np.arange(len(y)), y], weights=weight) + penalty(slope, intercept)

    start = np.concatenate([np.eye(num_classes).ravel() if full else np.ones(num_classes), np.zeros(num_classes)])
    return parts(optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-7}).x)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["vector", "matrix", "matrix λ", "dirichlet", "dirichlet λ"])
def test_against_a_plain_search(name, weighted):
    logits, y = problem(3, 150)
    pred = predictive(1.7 * logits + [0.5, 0, -0.5])
    weight = np.random.default_rng(0).integers(1, 4, 150).astype(float) if weighted else np.ones(150)
    features = np.log(probs(pred))
    if not name.startswith("dirichlet"):
        features -= features.mean(1, keepdims=True)
    total = weight.sum()
    off = ~np.eye(3, dtype=bool)

    def penalty(slope, intercept):
        diagonal = np.square(np.diag(slope) - 1).sum() / (2 * 100 * total)
        if name == "vector":
            return diagonal + np.square(intercept).sum() / (2 * 100 * total)
        if name.endswith("λ"):
            return diagonal + 0.02 * np.square(slope[off]).mean() + 0.05 * np.square(intercept).mean()
        return diagonal + np.square(slope[off]).sum() / (2 * 0.01 * total) + np.square(intercept).sum() / (2 * total)

    settings = {"off_diagonal": 0.02, "intercept": 0.05} if name.endswith("λ") else {}
    state = uq.calibrate.CLASSES[name.split()[0]](**settings).fit(pred, y, weight)
    slope, intercept = plain(features, y, weight, name != "vector", penalty)
    if name == "vector":
        slope = np.diag(slope)
    np.testing.assert_allclose(state.slope, slope, atol=2e-3)
    np.testing.assert_allclose(state.intercept, intercept, atol=2e-3)


def distorted(slope, intercept, size=20_000):
    """Predictions such that the truth is softmax(slope · z + intercept) of their centred logits z."""
    rng = np.random.default_rng(8)
    logits = 1.5 * rng.normal(size=(size, 3))
    logits -= logits.mean(1, keepdims=True)
    return predictive(logits, members=1, spread=0), drawn(rng, special.softmax(logits @ slope.T + intercept, 1))


def test_vector_finds_slopes_and_biases():
    slope, intercept = np.array([0.5, 1.0, 1.5]), np.array([1.0, 0.0, -1.0])
    state = uq.calibrate.vector().fit(*distorted(np.diag(slope), intercept))
    # A constant added to all slopes of one class's column shows only through differences, which centring ties down.
    np.testing.assert_allclose(state.slope, slope, atol=0.12)
    np.testing.assert_allclose(state.intercept - state.intercept.mean(), intercept, atol=0.08)


def test_matrix_finds_what_is_confused():
    slope = np.array([[1.0, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    pred, y = distorted(slope, np.array([0.3, 0.0, -0.3]))
    truth = special.softmax(np.asarray(pred.outputs[0], float) @ slope.T + [0.3, 0.0, -0.3], 1)
    for recalibrator in (uq.calibrate.matrix(), uq.calibrate.dirichlet()):
        after = probs(recalibrator.apply(recalibrator.fit(pred, y), pred))
        assert np.abs(after - truth).mean() < 0.015
    vector = uq.calibrate.vector()
    assert np.abs(probs(vector.apply(vector.fit(pred, y), pred)) - truth).mean() > 0.02


def test_dirichlet_mends_dirichlet_predictions():
    """Each class's predictions are Dirichlet: Bayes' rule gives a linear map of log p, which is found."""
    rng = np.random.default_rng(2)
    alpha = np.array([[4.0, 2.0, 1.0], [1.0, 3.0, 1.5], [2.0, 1.0, 5.0]])
    y = rng.choice(3, p=[0.5, 0.3, 0.2], size=20_000)
    p = np.array([rng.dirichlet(alpha[c]) for c in y])
    joint = np.stack([np.log(w) + _dirichlet_logpdf(p, a) for w, a in zip([0.5, 0.3, 0.2], alpha, strict=True)], 1)
    truth = special.softmax(joint, 1)
    recalibrator = uq.calibrate.dirichlet()
    after = probs(recalibrator.apply(recalibrator.fit(p, y), p))
    assert np.abs(after - truth).mean() < 0.01


def _dirichlet_logpdf(p, alpha):
    return special.gammaln(alpha.sum()) - special.gammaln(alpha).sum() + ((alpha - 1) * np.log(p)).sum(1)


def test_strong_penalties_leave_the_diagonal():
    logits, y = problem(3, 300)
    state = uq.calibrate.matrix(off_diagonal=1e4, intercept=1e4).fit(predictive(2 * logits), y)
    assert np.abs(state.slope[~np.eye(3, dtype=bool)]).max() < 1e-3 and np.abs(state.intercept).max() < 1e-3


@pytest.mark.parametrize("name", ["matrix", "dirichlet"])
@pytest.mark.parametrize("value", [-1.0, np.nan])
def test_penalties_are_checked(name, value):
    with pytest.raises(uq.InputError, match=f"`{name}` expected `off_diagonal` to be a penalty of at least 0"):
        uq.calibrate.CLASSES[name](off_diagonal=value)
    with pytest.raises(uq.InputError, match="`intercept`"):
        uq.calibrate.CLASSES[name](intercept=value)


def test_many_absent_classes_are_counted():
    with pytest.raises(uq.InputError, match="classes 1, 2, 3, 4, 5, 6 and 3 more are absent from the 5 rows"):
        uq.calibrate.vector().fit(np.full((5, 10), 0.1), np.zeros(5, int))


def test_separable_classes_have_a_finite_answer():
    p = np.full((60, 3), 0.2) + 0.4 * np.eye(3)[np.arange(60) % 3]
    state = uq.calibrate.vector().fit(p, np.arange(60) % 3)
    assert state.fitted.converged and np.abs(state.slope).max() < 60 and state.fitted.after < 0.01
