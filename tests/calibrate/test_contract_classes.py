"""What every recalibrator of classes does, over the register."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import uq

from .cases import BINARY, log_loss, predictive, problem, probs, recalibrators

TABLE = [(name, classes) for classes in (2, 3) for name in recalibrators(classes)]
LIKELIHOOD = ("temperature", "vector", "matrix", "dirichlet", "platt", "beta", "spline", "isotonic")
"""Fitted by the log loss, or minimising it too."""
VARIANTS = {
    "isotonic centred": functools.partial(uq.calibrate.isotonic, centered=True),
    "histogram width": functools.partial(uq.calibrate.histogram_binning, binning="width"),
    "spline natural": functools.partial(uq.calibrate.spline, monotone=False),
    "platt plain": functools.partial(uq.calibrate.platt, smooth=False),
}
over_the_register = pytest.mark.parametrize(("name", "classes"), TABLE)


def made(name):
    return (uq.calibrate.CLASSES | VARIANTS)[name]()


@functools.cache
def data(classes, size=300, distortion=2.0):
    logits, y = problem(classes, size)
    return predictive(distortion * logits), y


@functools.cache
def fitted(name, classes):
    recalibrator = made(name)
    return recalibrator, recalibrator.fit(*data(classes))


def same(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for one, other in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.float64(one), np.float64(other), **tolerance)


def without_search(state):
    """A state less the account of how it was found."""
    return state._replace(fitted=None) if "fitted" in getattr(state, "_fields", ()) else state


@over_the_register
def test_name_tasks_and_shapes(name, classes):
    recalibrator, state = fitted(name, classes)
    assert recalibrator.name == name and ("binary" if classes == 2 else "multiclass") in recalibrator.tasks
    pred, _ = data(classes)
    after = recalibrator.apply(state, pred)
    assert isinstance(after, uq.Predictive) and after.task == pred.task
    assert after.num_members == 3 and len(after) == len(pred) and after.outputs.dtype == pred.outputs.dtype
    np.testing.assert_allclose(probs(after).sum(1), 1, rtol=1e-5)
    assert (np.asarray(after.mutual_information) >= 0).all()


@pytest.mark.parametrize(
    ("name", "classes"),
    [*((name, 2) for name in uq.calibrate.CLASSES if name not in ("dirichlet", "bayesian_binning")), ("matrix", 3)],
)
def test_apply_jits_and_does_not_compile_again(name, classes):
    recalibrator, state = fitted(name, classes)
    pred, _ = data(classes)
    traces = []

    @jax.jit
    def apply(state, pred):
        traces.append(1)
        return recalibrator.apply(state, pred)

    compiled = apply(state, pred)
    np.testing.assert_allclose(probs(compiled), probs(recalibrator.apply(state, pred)), atol=2e-6)
    apply(jax.tree.map(np.array, state), pred)
    assert len(traces) == 1


@over_the_register
def test_the_state_is_a_pytree_of_arrays(name, classes):
    recalibrator, state = fitted(name, classes)
    leaves, structure = jax.tree.flatten(state)
    assert leaves and all(isinstance(leaf, np.ndarray) for leaf in leaves)
    again = jax.tree.unflatten(structure, [np.asarray(jnp.asarray(np.asarray(leaf))) for leaf in leaves])
    pred, _ = data(classes)
    np.testing.assert_allclose(
        probs(recalibrator.apply(again, pred)), probs(recalibrator.apply(state, pred)), atol=1e-6
    )
    if hasattr(state, "fitted"):
        assert np.all(state.fitted.converged) and np.all(state.fitted.after <= state.fitted.before + 1e-3)


@over_the_register
def test_the_order_of_rows_and_the_form_of_weights_do_not_matter(name, classes):
    recalibrator, state = fitted(name, classes)
    pred, y = data(classes)
    reference = probs(recalibrator.apply(state, pred))
    order = np.random.default_rng(0).permutation(len(y))
    rng = np.random.default_rng(1)
    counts = rng.integers(0, 3, len(y))
    rows = np.repeat(np.arange(len(y)), counts)
    for other in (recalibrator.fit(pred[order], y[order]), recalibrator.fit(pred, y, np.ones(len(y)))):
        np.testing.assert_allclose(probs(recalibrator.apply(other, pred)), reference, atol=1e-4)
    weighted = recalibrator.fit(pred, y, counts)
    repeated = recalibrator.fit(pred[rows], y[rows])
    same(without_search(weighted), without_search(repeated), rtol=1e-4, atol=1e-4)


@over_the_register
def test_a_predictive_its_probabilities_and_a_distribution_are_one_input(name, classes):
    recalibrator, state = fitted(name, classes)
    pred, y = data(classes)
    reference = probs(recalibrator.apply(state, pred))
    for form in (
        np.asarray(pred.probs, np.float64),
        np.asarray(pred.probs),
        jnp.asarray(pred.probs),
        pred.to_numpyro(),
    ):
        other = recalibrator.fit(form, y)
        np.testing.assert_allclose(probs(recalibrator.apply(other, form)), reference, atol=2e-3)
    if classes == 2:
        other = recalibrator.fit(pred.mean, y)
        np.testing.assert_allclose(probs(recalibrator.apply(other, pred.mean)), reference, atol=2e-3)


@pytest.mark.parametrize(("name", "classes"), [("isotonic", 3), ("beta", 2)])
def test_float64(name, classes):
    recalibrator, state = fitted(name, classes)
    pred, y = data(classes)
    with jax.enable_x64(True):
        wide = uq.Predictive(jnp.asarray(np.float64(pred.outputs)), pred.likelihood)
        after = recalibrator.apply(recalibrator.fit(wide, y), wide)
        assert after.outputs.dtype == jnp.float64
        after = probs(after)
    np.testing.assert_allclose(after, probs(recalibrator.apply(state, pred)), atol=2e-3)


@pytest.mark.parametrize(("name", "classes"), [*TABLE, *((name, 2) for name in VARIANTS)])
def test_an_overconfident_model_is_mended(name, classes):
    """Outcomes are those of half the log-odds; the truth is known."""
    logits, y = problem(classes, 4000, seed=4)
    p, truth = np.float32(special.softmax(2 * logits, 1)), special.softmax(logits, 1)[:300]
    recalibrator = made(name)
    after = probs(recalibrator.apply(recalibrator.fit(p, y), p[:300]))
    share = 0.55 if name == "histogram width" else 0.4
    assert np.abs(after - truth).mean() < share * np.abs(p[:300] - truth).mean()


@pytest.mark.parametrize(("name", "classes"), [*TABLE, *((name, 2) for name in VARIANTS)])
def test_a_calibrated_model_is_left_alone(name, classes):
    """Within what outcomes can tell: the excess log loss is of the order of parameters / 2n."""
    logits, y = problem(classes, 4000, seed=5)
    p = np.float32(special.softmax(logits, 1))
    recalibrator = made(name)
    after = probs(recalibrator.apply(recalibrator.fit(p, y), p[:300]))
    squared = np.square(after - p[:300]).mean()
    assert squared < (3e-4 if name in ("temperature", "vector", "matrix", "dirichlet", "platt", "beta") else 2e-3)


@pytest.mark.parametrize(("name", "classes"), [row for row in TABLE if row[0] in LIKELIHOOD])
def test_its_own_rows_are_scored_better(name, classes):
    recalibrator, state = fitted(name, classes)
    pred, y = data(classes)
    after = recalibrator.apply(state, pred)
    if classes == 2 or name in ("temperature", "vector", "matrix", "dirichlet"):
        assert log_loss(probs(after), y) < log_loss(probs(pred), y)
    assert float(np.mean(uq.metrics.brier_score(after, y))) < float(np.mean(uq.metrics.brier_score(pred, y)))


@over_the_register
def test_predictions_of_another_kind_are_refused(name, classes):
    recalibrator, state = fitted(name, classes)
    other = predictive(problem(4, 20)[0])
    with pytest.raises(
        uq.InputError, match="`" + name + "` was fitted to predictions of [23] classes, but these are of 4"
    ):
        recalibrator.apply(state, other)
    numbers = uq.Predictive(jnp.zeros((2, 5, 2)), uq.likelihoods.Gaussian())
    with pytest.raises(uq.InputError, match="regression"):
        recalibrator.apply(state, numbers)
    with pytest.raises(uq.InputError, match="regression"):
        recalibrator.fit(numbers, np.zeros(5))


@pytest.mark.parametrize("name", BINARY)
def test_two_classes_alone(name):
    pred, y = data(3)
    with pytest.raises(uq.InputError, match=f"`{name}` is for two classes, but these are 3: use"):
        made(name).fit(pred, y)


@pytest.mark.parametrize("name", [n for n in uq.calibrate.CLASSES if n not in ("platt", "beta")])
def test_a_class_without_outcomes(name):
    pred, y = data(3)
    y = np.where(y == 1, 2, y)
    if name in ("temperature", "bayesian_binning", "venn_abers"):
        recalibrator = made(name)
        after = probs(recalibrator.apply(recalibrator.fit(pred, y), pred))
        assert np.isfinite(after).all() and (after > 0).all()
    else:
        with pytest.raises(uq.InputError, match="each of the 3 classes, but class 1 is absent from the 300 rows"):
            made(name).fit(pred, y)


@over_the_register
def test_hard_data_give_finite_probabilities(name, classes):
    """Separable outcomes, equal predictions, probabilities of 0 and 1, one row a class."""
    recalibrator = made(name)
    y = np.arange(300) % classes
    sure = np.eye(classes)[y]
    blind = np.full((300, classes), 1 / classes)
    mild = 0.5 * sure + 0.5 * blind
    wrong = np.roll(mild, 1, axis=1)
    one_each = np.arange(300) < classes
    for form, weight in ((sure, None), (blind, None), (mild, None), (wrong, None), (mild, one_each)):
        p = np.float32(form)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", uq.UQWarning)
            state = recalibrator.fit(p, y, weight)
        after = probs(recalibrator.apply(state, p))
        assert np.isfinite(after).all(), name
        np.testing.assert_allclose(after.sum(1), 1, rtol=1e-5)
        if form is not wrong:
            assert log_loss(after, y) <= np.log(classes) + 1e-3
