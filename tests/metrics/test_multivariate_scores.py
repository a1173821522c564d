"""Scores of vectors against loops and scoringrules; on the host and on the device."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq.metrics.ensemble_scores import crps_ensemble
from uq.metrics.multivariate_scores import energy_score, variogram_score

SCORES = {"energy": energy_score, "variogram": variogram_score}


def some_draws(size=6, number=5, width=3, seed=0):
    """Dependent, skewed, shifted, with two equal members."""
    rng = np.random.default_rng(seed)
    mixing = np.array([[3.0, 0.0, 0.0], [2.0, 1.0, 0.0], [-1.0, 0.5, 4.0]])[:width, :width]
    draws = 100 + rng.gamma(2.0, size=(size, number, width)) @ mixing
    draws[4] = draws[0]
    return draws, 100 + rng.gamma(2.0, size=(number, width)) @ mixing


def energy_loop(draws, y, estimator, weight):
    members = range(len(draws))
    apart = sum(
        weight[i] * weight[j] * np.linalg.norm(draws[i] - draws[j], axis=-1)
        for i, j in itertools.product(members, members)
    )
    if estimator == "fair":
        apart = apart / (1 - (weight**2).sum())
    return sum(weight[i] * np.linalg.norm(draws[i] - y, axis=-1) for i in members) - apart / 2


def variogram_loop(draws, y, estimator, weight, p=0.5, pair_weight=None):
    """Fair: the square of the mean estimated by the products of different members."""
    width = draws.shape[-1]
    pair_weight = np.ones((width, width)) if pair_weight is None else pair_weight
    total = 0
    for i, j in itertools.product(range(width), range(width)):
        each = np.abs(draws[..., i] - draws[..., j]) ** p
        mean = weight @ each
        square = mean**2
        if estimator == "fair":
            square = (square - weight**2 @ each**2) / (1 - (weight**2).sum())
        seen = np.abs(y[:, i] - y[:, j]) ** p
        total = total + pair_weight[i, j] * (seen**2 - 2 * seen * mean + square)
    return total


LOOPS = {"energy": energy_loop, "variogram": variogram_loop}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("estimator", ["empirical", "fair"])
@pytest.mark.parametrize("member_weight", [None, [1, 2, 0.5, 3, 1, 2]])
def test_by_loops(name, estimator, member_weight):
    draws, y = some_draws()
    weight = np.full(6, 1 / 6) if member_weight is None else np.array(member_weight) / np.sum(member_weight)
    want = LOOPS[name](draws, y, estimator, weight)
    settings = {"estimator": estimator, "member_weight": member_weight}
    got = SCORES[name](draws, y, **settings)
    assert got.shape == (5,) and got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-10)
    traced = jax.jit(lambda d, y: SCORES[name](d, y, **settings))(jnp.float32(draws), jnp.float32(y))
    np.testing.assert_allclose(traced, want, rtol=2e-4, atol=1e-4)


def test_variogram_with_weights_of_pairs_and_another_order():
    draws, y = some_draws()
    pair_weight = np.random.default_rng(3).uniform(size=(3, 3))  # not symmetric: (i, j) and (j, i) both count
    weight = np.full(6, 1 / 6)
    for p in (0.5, 1.0, 2.0):
        got = variogram_score(draws, y, p=p, pair_weight=pair_weight)
        np.testing.assert_allclose(got, variogram_loop(draws, y, "empirical", weight, p, pair_weight), rtol=1e-10)
    moved = variogram_score(draws + 7.0, y + 7.0)
    np.testing.assert_allclose(moved, variogram_score(draws, y), rtol=1e-9)


def test_energy_score_of_one_output_is_the_crps():
    draws, y = some_draws()
    for estimator in ("empirical", "fair"):
        got = energy_score(draws[..., :1], y[:, :1], estimator=estimator)
        np.testing.assert_allclose(got, crps_ensemble(draws[..., 0], y[:, 0], estimator=estimator), rtol=1e-9)


def test_many_rows_are_done_in_pieces(monkeypatch):
    from uq.metrics import multivariate_scores

    draws, y = some_draws(number=40)
    whole = energy_score(draws, y)
    monkeypatch.setattr(multivariate_scores, "_CHUNK", 6 * 3 * 7)
    np.testing.assert_allclose(energy_score(draws, y), whole, rtol=1e-12)


def test_defect_18_jit_and_gradients_where_members_coincide():
    draws, y = jnp.ones((4, 5, 3)), jnp.ones((5, 3))
    for score in SCORES.values():
        for estimator in ("empirical", "fair"):
            slope = jax.jit(jax.grad(lambda d, s=score, e=estimator: s(d, y, estimator=e).sum()))(draws)
            np.testing.assert_array_equal(slope, 0)


def test_memory_has_no_array_of_pairs_of_members():
    for score in SCORES.values():
        text = jax.jit(score).lower(jnp.zeros((64, 10, 3)), jnp.zeros((10, 3))).as_text()
        assert "64x64x" not in text and "10x64x64" not in text
        slope = jax.jit(jax.grad(lambda d, y, s=score: s(d, y).sum()))
        assert "64x64x" not in slope.lower(jnp.zeros((64, 10, 3)), jnp.zeros((10, 3))).as_text()


def test_scoringrules_agrees():
    scoringrules = pytest.importorskip("scoringrules")
    draws, y = some_draws()
    theirs = np.moveaxis(draws, 0, 1)
    for ours, name in (("empirical", "nrg"), ("fair", "fair")):
        want = scoringrules.es_ensemble(y, theirs, estimator=name, backend="numpy")
        np.testing.assert_allclose(energy_score(draws, y, estimator=ours), want, rtol=1e-9)
        want = scoringrules.vs_ensemble(y, theirs, p=0.5, estimator=name, backend="numpy")
        np.testing.assert_allclose(variogram_score(draws, y, estimator=ours), want, rtol=1e-9)


def test_arrays_stay_as_they_were():
    draws, y = some_draws()
    kept, outcome = draws.copy(), y.copy()
    for score in SCORES.values():
        score(draws, y)
    np.testing.assert_array_equal(draws, kept)
    np.testing.assert_array_equal(y, outcome)


WRONG = [
    (lambda: energy_score(np.ones((3, 4)), np.ones(4)), r"shape \(M, N, D\), members first"),
    (lambda: energy_score(np.ones((3, 4, 2)), np.ones((4, 1))), r"but got \(3, 4, 2\) and \(4, 1\)"),
    (lambda: energy_score(np.ones((3, 4, 2)), np.ones((2, 4))), r"but got \(3, 4, 2\) and \(2, 4\)"),
    (lambda: energy_score(np.ones((3, 2, 4, 2)), np.ones((2, 4, 2))), r"shape \(M, N, D\), but got \(3, 2, 4, 2\)"),
    (lambda: energy_score(np.ones((1, 4, 2)), np.ones((4, 2)), estimator="fair"), "at least two draws"),
    (lambda: energy_score(np.full((3, 4, 2), np.inf), np.ones((4, 2))), r"`draws\[0, 0, 0\]` is inf"),
    (lambda: variogram_score(np.ones((3, 4, 2)), np.ones((4, 2)), p=0.0), "positive number `p`, but it is 0.0"),
    (lambda: variogram_score(np.ones((3, 4, 2)), np.ones((4, 2)), pair_weight=np.ones(2)), r"shape \(2, 2\)"),
    (lambda: variogram_score(np.ones((3, 4, 2)), np.ones((4, 2)), pair_weight=-np.ones((2, 2))), "not negative"),
]


@pytest.mark.parametrize(("call", "sentence"), WRONG, ids=range(len(WRONG)))
def test_wrong_inputs_get_a_sentence(call, sentence):
    with pytest.raises(uq.InputError, match=sentence):
        call()
