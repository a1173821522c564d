"""Every bad input gets one clear sentence: what was expected, what came, what to do."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import uq
from uq._checks import check_level, unknown_name

from .nets import mlp

RNG = np.random.default_rng(0)
X = RNG.normal(5.0, 3.0, (12, 3)).astype(np.float32)
Y = RNG.normal(1e4, 250.0, 12)
LABELS = RNG.integers(0, 3, 12)
GAUSSIAN, CLASSES, YES = uq.likelihoods.Gaussian(), uq.likelihoods.Categorical(3), uq.likelihoods.Bernoulli()


def broken(values: np.ndarray, where: Any, value: float) -> np.ndarray:
    values = values.astype(np.float64)
    values[where] = value
    return values


def fit(x: Any, y: Any, likelihood: Any = GAUSSIAN, width: int | None = None, **settings: Any) -> uq.Posterior:
    net = mlp(likelihood.width if width is None else width)
    return uq.fit(uq.deep_ensemble(net, likelihood, size=2), (x, y), key=0, **settings)


CASES: dict[str, tuple[Any, Any, Any, dict[str, Any], str]] = {
    "y too short": (
        X,
        Y[:-2],
        GAUSSIAN,
        {},
        r"`y` expected one entry for each of the 12 examples of `x`, but its shape is \(10,\)",
    ),
    "y a number": (
        X,
        3.0,
        GAUSSIAN,
        {},
        r"`y` expected one entry for each of the 12 examples of `x`, but its shape is \(\)",
    ),
    "labels too many": (
        X,
        np.r_[LABELS, 1],
        CLASSES,
        {},
        r"each of the 12 examples of `x`, but its shape is \(13,\)",
    ),
    "several targets": (
        X,
        np.stack([Y, Y], 1),
        GAUSSIAN,
        {},
        r"targets of shape \(N,\), but `y` has shape \(12, 2\)",
    ),
    "one target of two": (
        X,
        Y,
        uq.likelihoods.Gaussian(2),
        {},
        r"expected targets of shape \(N, 2\), but got \(12,\)",
    ),
    "NaN in x": (
        broken(X, (3, 1), np.nan),
        Y,
        GAUSSIAN,
        {},
        r"`x` expected finite numbers, but row 3 of 12 holds NaN or infinity. Drop or impute",
    ),
    "inf in x": (
        broken(X, ([2, 7], 0), np.inf),
        Y,
        GAUSSIAN,
        {},
        r"`x` expected finite numbers, but rows 2, 7 of 12 hold NaN",
    ),
    "many rows": (broken(X, slice(0, 9), np.nan), Y, GAUSSIAN, {}, r"rows 0, 1, 2, 3, 4 and 4 more of 12"),
    "NaN in y": (
        X,
        broken(Y, 5, np.nan),
        GAUSSIAN,
        {},
        r"`y` expected finite numbers, but row 5 of 12 holds NaN",
    ),
    "inf in y": (
        X,
        broken(Y, [0, 11], -np.inf),
        GAUSSIAN,
        {},
        r"`y` expected finite numbers, but rows 0, 11 of 12 hold",
    ),
    "NaN in a part": (
        {"a": X, "b": broken(X, (4, 0), np.nan)},
        Y,
        GAUSSIAN,
        {},
        r"`x/b` expected finite numbers, but row 4 of 12",
    ),
    "parts of two lengths": (
        {"a": X, "b": X[:5]},
        Y,
        GAUSSIAN,
        {},
        r"same number of examples \(leading axis\) everywhere, but `x/a` has 12, `x/b` has 5",
    ),
    "no parts": ({}, Y, GAUSSIAN, {}, r"`x` expected at least one array, but it is an empty pytree"),
    "a scalar input": (3.0, Y, GAUSSIAN, {}, r"`x` expected one entry an example, but it is a scalar"),
    "label out of range": (
        X,
        np.where(LABELS == 2, 3, LABELS),
        CLASSES,
        {},
        r"expected labels 0 to 2, but row \d+ of `y` is 3",
    ),
    "negative label": (X, LABELS - 1, CLASSES, {}, r"expected labels 0 to 2, but row \d+ of `y` is -1"),
    "label not whole": (
        X,
        LABELS + 0.5,
        CLASSES,
        {},
        r"expected whole-number labels, but row 0 of `y` is \d.5",
    ),
    "label text": (
        X,
        np.array(["cat"] * 12),
        CLASSES,
        {},
        r"whole-number labels, but the dtype of `y` is <U3: encode them first",
    ),
    "one-hot": (
        X,
        np.eye(3)[LABELS],
        CLASSES,
        {},
        r"labels of shape \(N,\), but `y` looks one-hot: pass y.argmax\(1\)",
    ),
    "three values of two": (X, LABELS, YES, {}, r"Bernoulli expected labels 0 to 1, but row \d+ of `y` is 2"),
    "target text": (
        X,
        np.array(["a"] * 12),
        GAUSSIAN,
        {},
        r"`y` expected numbers for Gaussian, but its dtype is <U1",
    ),
    "input text": (
        np.array([["a"] * 3] * 12),
        Y,
        GAUSSIAN,
        {},
        r"`x` expected numbers, but its dtype is <U1. Encode text",
    ),
    "ragged": (
        [[1.0, 2.0], [3.0]],
        [1.0, 2.0],
        GAUSSIAN,
        {},
        r"`x` expected a rectangular array, but .* Pad ragged rows to one length",
    ),
    "empty": (X[:0], Y[:0], GAUSSIAN, {}, r"`x` expected at least one example, but it is empty \(0 rows\)"),
    "one row": (X[:1], Y[:1], GAUSSIAN, {}, r"Training expected at least two examples, but `x` has one row"),
    "batch too large": (
        X,
        Y,
        GAUSSIAN,
        {"batch_size": 13},
        r"`batch_size` is 13, but there are only 12 examples; use at most 12",
    ),
    "batch of none": (
        X,
        Y,
        GAUSSIAN,
        {"batch_size": 0},
        r"`batch_size` expected a whole number of at least 1, but it is 0",
    ),
    "epochs of none": (
        X,
        Y,
        GAUSSIAN,
        {"epochs": 0},
        r"`epochs` expected a whole number of at least 1, but it is 0",
    ),
    "epochs not whole": (
        X,
        Y,
        GAUSSIAN,
        {"epochs": 1.5},
        r"`epochs` expected a whole number of at least 1, but it is 1.5",
    ),
    "weights too few": (
        X,
        Y,
        GAUSSIAN,
        {"weight": [1.0]},
        r"`weight` expected one number for each of the 12 examples, but has shape \(1,\)",
    ),
    "negative weight": (
        X,
        Y,
        GAUSSIAN,
        {"weight": -np.ones(12)},
        r"`weight` expected non-negative numbers that are not all zero",
    ),
    "no weight": (
        X,
        Y,
        GAUSSIAN,
        {"weight": np.zeros(12)},
        r"`weight` expected non-negative numbers that are not all zero",
    ),
    "NaN weight": (
        X,
        Y,
        GAUSSIAN,
        {"weight": broken(np.ones(12), 2, np.nan)},
        r"`weight` expected finite numbers, but row 2 of 12",
    ),
    "all left out": (
        X,
        Y,
        GAUSSIAN,
        {"validation": 1.0},
        r"`validation` expected a fraction from 0 to below 1, but it is 1.0",
    ),
    "validation lengths": (
        X,
        Y,
        GAUSSIAN,
        {"validation": (X, Y[:3])},
        r"`validation y` expected one entry for each of the 12",
    ),
    "validation NaN": (
        X,
        Y,
        GAUSSIAN,
        {"validation": (broken(X, (1, 1), np.nan), Y)},
        r"`validation x` expected finite numbers, but row 1",
    ),
    "validation parts": (
        X,
        Y,
        GAUSSIAN,
        {"validation": ({"a": X}, Y)},
        r"`validation` expected the same structure as `x`",
    ),
    "patience alone": (
        X,
        Y,
        GAUSSIAN,
        {"patience": 3, "validation": 0},
        r"`patience` needs left-out rows to judge by; pass validation=0.1",
    ),
    "images asked to be scaled": (
        np.ones((12, 2, 2, 1)),
        Y,
        GAUSSIAN,
        {"standardize_inputs": True},
        r"`standardize_inputs` needs `x` to be one floating array",
    ),
    "start of two": (
        X,
        Y,
        GAUSSIAN,
        {"start": uq.batched_init(mlp(), 0, X, 3)},
        r"`start` expected 2 networks \(its leading axis\), but holds 3",
    ),
    "start of another": (
        X,
        Y,
        GAUSSIAN,
        {"start": {"w": np.ones((2, 3))}},
        r"`start` expected `Variables\(params, state\)` of the network's own",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_fit_says_what_is_wrong(name: str) -> None:
    x, y, likelihood, settings, said = CASES[name]
    with pytest.raises(uq.InputError, match=said) as caught:
        fit(x, y, likelihood, **settings)
    text = str(caught.value)
    assert text.endswith((".", "?", ")", "]")) or "says" in text
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("likelihood", "width", "y", "said"),
    [
        (
            GAUSSIAN,
            1,
            Y,
            r"\(N, 2\), that is 2 outputs an example, but the network gives \('N', 1\). Make its last layer 2 wide",
        ),
        (CLASSES, 2, LABELS, r"Categorical\(num_classes=3\) expected network outputs of shape \(N, 3\)"),
        (
            YES,
            2,
            LABELS % 2,
            r"Bernoulli\(\) expected network outputs of shape \(N, 1\), that is 1 output an example",
        ),
        (uq.likelihoods.HomoscedasticGaussian(), 2, Y, r"HomoscedasticGaussian\(.*\(N, 1\)"),
        (
            uq.likelihoods.HomoscedasticGaussian(2),
            1,
            np.stack([Y, Y], 1),
            r"HomoscedasticGaussian\(.*\(N, 2\)",
        ),
    ],
)
def test_the_wrong_width_names_the_right_one(likelihood: Any, width: int, y: Any, said: str) -> None:
    with pytest.raises(uq.InputError, match=said):
        fit(X, y, likelihood, width)


def test_nested_lists_are_arrays() -> None:
    posterior = fit(X.tolist(), Y.tolist(), epochs=1)
    assert posterior.predict(X.tolist()).mean.shape == (12,)


def test_data_that_are_no_pair() -> None:
    method = uq.deep_ensemble(mlp(), GAUSSIAN, size=2)
    for data in (X, (X, Y, Y), {"x": X, "y": Y}):
        with pytest.raises(uq.InputError, match=r"`data` expected a pair \(x, y\); pass example weights as weight="):
            uq.fit(method, data, key=0)


def test_a_network_that_cannot_take_the_inputs() -> None:
    pair = (lambda key, x: {"w": np.ones((4, 2), np.float32)}, lambda p, x: x @ p["w"])
    with pytest.raises(uq.InputError, match=r"The network cannot take inputs of shape \('N', 3\). It says: "):
        uq.fit(uq.deep_ensemble(pair, GAUSSIAN, size=2), (X, Y), key=0)
    pair = (lambda key, x: {"w": np.ones((3, 2), np.float32)}, lambda p, x: (x @ p["w"], x))
    with pytest.raises(uq.InputError, match=r"expected to return one array, but returns a tuple"):
        uq.fit(uq.deep_ensemble(pair, GAUSSIAN, size=2), (X, Y), key=0)


def test_a_key_that_is_none() -> None:
    with pytest.raises(uq.InputError, match=r"`key` expected a key \(`jax.random.key\(0\)`\) or an int seed"):
        uq.fit(uq.deep_ensemble(mlp(), GAUSSIAN, size=2), (X, Y), key="zero")


def test_ensembles_that_are_none() -> None:
    method = uq.methods.map_estimate(mlp(), GAUSSIAN)
    with pytest.raises(uq.InputError, match=r"`size` expected a whole number of at least 1, but it is 0"):
        uq.ensemble(method, 0)
    with pytest.raises(uq.InputError, match=r"expected a method for one member, but got an ensemble; make one larger"):
        uq.ensemble(uq.ensemble(method, 2), 2)


def test_a_constant_feature_is_warned_of_and_stays_finite() -> None:
    x = np.concatenate([X, np.full((12, 1), 7.0, np.float32)], 1)
    with pytest.warns(uq.UQWarning, match=r"Feature 3 of `x` is constant and cannot inform a prediction"):
        posterior = fit(x, Y, epochs=1)
    assert np.isfinite(posterior.predict(x).mean).all()
    with pytest.warns(uq.UQWarning, match=r"Features 0, 1, 2 of `x` are constant"):
        posterior = fit(np.ones((12, 3), np.float32), Y, epochs=1)
    with pytest.warns(uq.UQWarning, match=r"of size 1 is one network"):
        uq.deep_ensemble(mlp(), GAUSSIAN, size=1)


def test_a_constant_target_trains() -> None:
    posterior = fit(X, np.full(12, 1e4), epochs=1)
    assert np.isfinite(posterior.predict(X).mean).all()


def test_unknown_names_suggest_the_near_match() -> None:
    error = unknown_name("method", "mean_feild", uq.methods.REGISTER)
    assert str(error) == (
        "There is no method 'mean_feild'; the methods are low_rank, map_estimate, mean_field: "
        "did you mean 'mean_field'?"
    )
    assert "choose one of those" in str(unknown_name("method", "zzz", uq.methods.REGISTER))


@pytest.mark.parametrize("level", [0.0, 1.0, 90, -0.1, np.nan])
def test_levels_are_fractions(level: float) -> None:
    with pytest.raises(uq.InputError, match=r"strictly between 0 and 1, but it is .*; 0.9 means 90 %"):
        check_level("level", level)


def test_rows_in_a_list_and_masked_rows() -> None:
    method = uq.deep_ensemble(mlp(), GAUSSIAN, size=2)
    with pytest.raises(uq.InputError, match=rf"`x` is a list of {len(X)} arrays.* np\.stack\(x\)"):
        uq.fit(method, (list(X), Y), key=0)
    hidden = np.zeros(len(Y), bool)
    hidden[[3, 5]] = True
    for data, name in (
        ((X, np.ma.array(Y, mask=hidden)), "y"),
        ((np.ma.array(X, mask=hidden[:, None] | (X > 1e9)), Y), "x"),
    ):
        with pytest.raises(uq.InputError, match=f"`{name}` masks rows 3, 5: drop those rows"):
            uq.fit(method, data, key=0)
    with pytest.raises(uq.InputError, match="`rmse` masks rows 3, 5"):
        uq.metrics.rmse(np.ma.array(Y, mask=hidden), Y)


@pytest.mark.parametrize("wide", [False, True])
def test_float64_with_averages_that_are_carried(wide: bool) -> None:
    import flax.linen as nn

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool = False) -> Any:
            return nn.Dense(2)(nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(x)))

    kind = np.float64 if wide else np.float32
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        method = uq.deep_ensemble(Net(), GAUSSIAN, size=2)
        posterior = uq.fit(method, (X.astype(kind), Y.astype(kind)), key=0, epochs=2, progress=False)
        assert posterior.predict(X.astype(kind)).outputs.dtype == kind
        assert np.isfinite(posterior.predict(X.astype(kind)).mean).all()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (((np.ones((4, 2)), np.ones((4, 2))), 3.0), "one entry for each of the 4 examples"),
        (([[1.0, 2.0]], 3.0), "one entry for each of the 1 examples"),
        ((np.ones((3, 2)), np.ma.masked), "`y` masks row 0"),
    ],
)
def test_targets_that_are_one_number(data: Any, said: str) -> None:
    with pytest.raises(uq.InputError, match=said):
        uq.fit(uq.deep_ensemble(mlp(), GAUSSIAN, size=2), data, key=0)
