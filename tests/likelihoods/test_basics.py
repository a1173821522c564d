"""Likelihoods against scipy, their targets checked, and a change of units carried exactly."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import uq
from uq.likelihoods import _links as links
from uq.likelihoods import attach, check_width, columns

from ..nets import Unit

RNG = np.random.default_rng(0)


def softplus(raw: np.ndarray) -> np.ndarray:
    return np.logaddexp(raw.astype(np.float64), 0)


@pytest.mark.parametrize("shape", [(7,), (3, 7)])
@pytest.mark.parametrize(("loc", "scale"), [(0.0, 1.0), (50.0, 4.0)])
def test_gaussian_is_scipys_normal(shape: tuple, loc: float, scale: float) -> None:
    mean, raw = loc + scale * RNG.normal(size=shape), scale * RNG.normal(size=shape)
    y = loc + 2 * scale * RNG.normal(size=shape[-1:])
    outputs = jnp.asarray(np.stack([mean, raw], -1), jnp.float32)
    want = scipy.stats.norm(mean, softplus(raw) + 0.01)
    kind = uq.likelihoods.Gaussian(min_scale=0.01)
    np.testing.assert_allclose(kind.log_prob(outputs, jnp.asarray(y, jnp.float32)), want.logpdf(y), rtol=1e-3)
    law = kind.distribution(outputs)
    assert law.batch_shape == shape
    np.testing.assert_allclose(law.mean, want.mean(), rtol=1e-5)
    np.testing.assert_allclose(law.variance, want.var(), rtol=1e-5)


def test_several_outputs_are_independent_given_the_input() -> None:
    mean, raw, y = 10 + 3 * RNG.normal(size=(3, 7, 2))
    raw = raw - 10
    outputs = jnp.asarray(np.concatenate([mean, raw], -1), jnp.float32)
    want = scipy.stats.norm(mean, softplus(raw) + 0.5).logpdf(y).sum(-1)
    kind = uq.likelihoods.Gaussian(2, min_scale=0.5)
    np.testing.assert_allclose(kind.log_prob(outputs, jnp.asarray(y, jnp.float32)), want, rtol=1e-4)
    law = kind.distribution(outputs)
    assert law.batch_shape == (7,) and law.event_shape == (2,)
    np.testing.assert_allclose(law.log_prob(jnp.asarray(y, jnp.float32)), want, rtol=1e-4)


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_one_shared_variance(num_outputs: int) -> None:
    kind = uq.likelihoods.HomoscedasticGaussian(num_outputs)
    model = attach(uq.as_model(nn.Dense(num_outputs)), kind)
    x = jnp.asarray(RNG.normal(5, 3, (6, 4)), jnp.float32)
    variables = model.init(jax.random.key(0), x)
    raw = jnp.arange(1.0, 1.0 + num_outputs)
    variables.params["likelihood"] = raw
    outputs, _ = model.apply(variables, x)
    assert outputs.shape == (6, 2 * num_outputs)
    mean = np.asarray(x) @ np.asarray(variables.params["network"]["kernel"])
    y = mean + 1
    want = scipy.stats.norm(mean, softplus(np.asarray(raw)) + 1e-3).logpdf(y).sum(-1)
    y = y[:, 0] if num_outputs == 1 else y
    np.testing.assert_allclose(kind.log_prob(outputs, jnp.asarray(y, jnp.float32)), want, rtol=1e-4)
    grads = jax.grad(lambda p: kind.log_prob(model.apply(uq.Variables(p), x)[0], y).sum())(variables.params)
    assert np.all(np.asarray(grads["likelihood"]) != 0)


def test_attach_leaves_others_alone_and_takes_flat_outputs() -> None:
    model = uq.as_model(nn.Dense(2))
    assert attach(model, uq.likelihoods.Gaussian()) is model
    flat = uq.as_model((lambda key, x: {"w": jnp.ones(3)}, lambda p, x: x @ p["w"]))
    kind = uq.likelihoods.HomoscedasticGaussian()
    both = attach(flat, kind)
    x = jnp.ones((4, 3))
    assert both.apply(both.init(jax.random.key(0), x), x)[0].shape == (4, 2)
    assert columns(jnp.ones(4), uq.likelihoods.Bernoulli()).shape == (4, 1)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_categorical_is_a_log_softmax(shift: float) -> None:
    logits = 3 * RNG.normal(size=(2, 9, 4)) + shift
    y = RNG.integers(0, 4, 9)
    want = scipy.special.log_softmax(logits.astype(np.float32).astype(np.float64), -1)[:, np.arange(9), y]
    outputs = jnp.asarray(logits, jnp.float32)
    kind = uq.likelihoods.Categorical(4)
    got = kind.log_prob(outputs, jnp.broadcast_to(jnp.asarray(y, jnp.int32), (2, 9)))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        kind.distribution(outputs).probs, scipy.special.softmax(logits, -1), rtol=2e-2 if shift else 1e-4
    )


def test_bernoulli_is_a_log_sigmoid_and_stays_finite() -> None:
    logits = np.array([[-200.0], [-3.0], [0.0], [2.0], [200.0]])
    for y in (0, 1):
        want = scipy.special.log_expit(logits[:, 0] * (1 if y else -1))
        got = uq.likelihoods.Bernoulli().log_prob(jnp.asarray(logits, jnp.float32), jnp.full(5, y))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-30)
    grad = jax.grad(lambda z: uq.likelihoods.Bernoulli().log_prob(z, jnp.array([1, 0])).sum())
    assert np.all(np.isfinite(grad(jnp.array([[-1e4], [1e4]], jnp.float32))))
    np.testing.assert_allclose(
        uq.likelihoods.Bernoulli().distribution(jnp.asarray(logits[1:4], jnp.float32)).probs,
        scipy.special.expit(logits[1:4, 0]),
        rtol=1e-5,
    )


@pytest.mark.parametrize("raw", [-1e4, -100.0, 1e4])
def test_scales_have_a_floor_and_losses_stay_finite(raw: float) -> None:
    kind = uq.likelihoods.Gaussian(min_scale=1e-3)
    outputs = jnp.array([[1e3, raw]])
    value, grad = jax.value_and_grad(lambda z: kind.log_prob(z, jnp.array([0.0])).sum())(outputs)
    assert np.isfinite(value) and np.all(np.isfinite(grad))
    assert kind.parameters(outputs)[1][0] >= 1e-3


def test_softplus_and_its_derivatives() -> None:
    raw = jnp.asarray([-jnp.inf, -1e4, -100.0, -3.0, -1e-3, 0.0, 1e-3, 2.0, 30.0, 1e4, jnp.inf], jnp.float32)
    wide = np.asarray(raw, np.float64)
    sigmoid = scipy.special.expit(wide)
    np.testing.assert_allclose(links.softplus(raw), softplus(wide), rtol=1e-6, atol=2e-38)
    slope = jax.grad(links.softplus)
    np.testing.assert_allclose(jax.vmap(slope)(raw), sigmoid, rtol=1e-6, atol=2e-38)
    np.testing.assert_allclose(jax.vmap(jax.grad(slope))(raw), sigmoid * (1 - sigmoid), rtol=1e-5, atol=1e-7)
    assert np.isnan(links.softplus(jnp.nan))


@pytest.mark.parametrize("num_outputs", [1, 2])
def test_a_change_of_units_is_exact(num_outputs: int) -> None:
    loc, scale = (1e4, 250.0) if num_outputs == 1 else (np.array([1e4, -7.0]), np.array([250.0, 0.01]))
    base = uq.likelihoods.Gaussian(num_outputs)
    kind = uq.likelihoods.transformed(base, loc, scale)
    outputs = jnp.asarray(RNG.normal(size=(6, 2 * num_outputs)), jnp.float32)
    mean = np.asarray(outputs, np.float64)[:, :num_outputs]
    spread = softplus(np.asarray(outputs)[:, num_outputs:]) + 1e-3
    y = loc + scale * RNG.normal(size=(6, num_outputs))
    want = scipy.stats.norm(loc + scale * mean, scale * spread).logpdf(y).sum(-1)
    y = y[:, 0] if num_outputs == 1 else y
    np.testing.assert_allclose(kind.log_prob(outputs, y), want, rtol=1e-4, atol=1e-4)
    law = kind.distribution(outputs)
    np.testing.assert_allclose(np.asarray(law.mean).reshape(6, -1), loc + scale * mean, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(law.variance).reshape(6, -1), scale * spread, rtol=1e-4)
    assert (kind.task, kind.width, kind.free) == (base.task, base.width, base.free)
    # Under jit the constants are traced, and the values agree.
    again = jax.jit(lambda kind, outputs, y: kind.log_prob(outputs, y))(kind, outputs, jnp.asarray(y, jnp.float32))
    np.testing.assert_allclose(again, want, rtol=2e-2, atol=2e-2)


def test_a_change_of_units_of_any_law() -> None:
    kind = uq.likelihoods.transformed(Laplace(), 100.0, 5.0)
    outputs = jnp.array([[0.3], [-1.0]])
    law = kind.distribution(outputs)
    want = scipy.stats.laplace(100 + 5 * np.array([0.3, -1.0]), 5.0)
    np.testing.assert_allclose(law.log_prob(jnp.array([101.0, 99.0])), want.logpdf([101, 99]), rtol=1e-5)


class Laplace(Unit):
    def distribution(self, outputs: Any) -> Any:
        import numpyro.distributions as dist

        return dist.Laplace(outputs[..., 0], 1.0)


def test_large_targets_lose_nothing() -> None:
    kind = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 1e6, 1.0)
    y = np.array([1e6 + 0.001, 1e6 - 0.002])
    np.testing.assert_allclose(kind.to_base(y), [0.001, -0.002], rtol=1e-5)


@pytest.mark.parametrize(("loc", "scale"), [(0.0, 0.0), (0.0, -1.0), (np.nan, 1.0), (0.0, np.inf)])
def test_units_that_are_none(loc: float, scale: float) -> None:
    with pytest.raises(uq.InputError, match=r"`transformed` expected a finite loc and a positive scale"):
        uq.likelihoods.transformed(uq.likelihoods.Gaussian(), loc, scale)


# Targets


def test_targets_in_their_canonical_shape() -> None:
    assert uq.likelihoods.Gaussian().check([[1.0], [2.0]]).shape == (2,)
    assert uq.likelihoods.Categorical(3).check([[0], [2]]).tolist() == [0, 2]
    assert uq.likelihoods.Categorical(3).check(np.array([0.0, 2.0])).dtype == np.int32
    assert uq.likelihoods.Bernoulli().check(np.array([True, False])).tolist() == [1, 0]
    assert uq.likelihoods.Gaussian(2).check(np.ones((3, 2))).shape == (3, 2)


@pytest.mark.parametrize(
    ("kind", "y", "said"),
    [
        (uq.likelihoods.Gaussian(), ["a", "b"], "`y` expected numbers for Gaussian, but its dtype is <U1"),
        (
            uq.likelihoods.Gaussian(),
            np.ones((3, 2)),
            r"has shape \(3, 2\): several outputs need uq.likelihoods.Gaus.*=2",
        ),
        (
            uq.likelihoods.Gaussian(3),
            np.ones((3, 2)),
            r"Gaussian\(3\) expected targets of shape \(N, 3\), but got \(3, 2\)",
        ),
        (
            uq.likelihoods.Gaussian(),
            [1.0, np.nan, np.inf],
            "`y` expected finite numbers, but rows 1, 2 of 3 hold NaN",
        ),
        (uq.likelihoods.Categorical(3), [0, 1, 3], r"expected labels 0 to 2, but row 2 of `y` is 3"),
        (uq.likelihoods.Categorical(3), [0, -1, 2], r"expected labels 0 to 2, but row 1 of `y` is -1"),
        (uq.likelihoods.Categorical(3), [0.0, 1.5], r"expected whole-number labels, but row 1 of `y` is 1.5"),
        (uq.likelihoods.Categorical(3), np.eye(3), r"`y` looks one-hot: pass y.argmax\(1\)"),
        (
            uq.likelihoods.Categorical(3),
            ["x", "y"],
            r"whole-number labels, but the dtype of `y` is <U1: encode them",
        ),
        (
            uq.likelihoods.Categorical(3),
            [0, np.nan],
            r"`y` expected finite numbers, but row 1 of 2 holds NaN",
        ),
        (uq.likelihoods.Bernoulli(), [0, 2], r"Bernoulli expected labels 0 to 1, but row 1 of `y` is 2"),
    ],
)
def test_targets_that_do_not_fit(kind: Any, y: Any, said: str) -> None:
    with pytest.raises(uq.InputError, match=said):
        kind.check(y)


@pytest.mark.parametrize(
    ("kind", "shape", "said"),
    [
        (
            uq.likelihoods.Gaussian(),
            (5, 1),
            r"expected network outputs of shape \(N, 2\), that is 2 outputs an example",
        ),
        (
            uq.likelihoods.Gaussian(3),
            (5, 3),
            r"\(N, 6\), .* but the network gives \('N', 3\). Make its last layer 6 wide",
        ),
        (uq.likelihoods.Categorical(4), (5, 3), r"Categorical\(num_classes=4\) expected .* \(N, 4\)"),
        (uq.likelihoods.Bernoulli(), (5, 2), r"that is 1 output an example, .* Make its last layer 1 wide"),
        (uq.likelihoods.Gaussian(), (5,), r"but the network gives \('N',\)"),
        (uq.likelihoods.Gaussian(), (), r"but the network gives \(\)"),
        (uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 0, 1), (5, 3), r"^Gaussian\("),
    ],
)
def test_outputs_of_the_wrong_width(kind: Any, shape: tuple, said: str) -> None:
    with pytest.raises(uq.InputError, match=said):
        check_width(kind, shape, 5)


def test_widths_that_fit() -> None:
    check_width(uq.likelihoods.Bernoulli(), (5,), 5)
    check_width(uq.likelihoods.Categorical(4), (5, 7, 4), 5)


def test_settings_that_are_none() -> None:
    with pytest.raises(uq.InputError, match="`num_classes` expected a whole number of at least 2, but it is 1"):
        uq.likelihoods.Categorical(1)
