"""What every likelihood must keep: one table, all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq.likelihoods import REGISTER, Transformed, attach, check_width

from .cases import CASES, Case, outputs_for

MEMBERS, ROWS = 2, 5
named = pytest.mark.parametrize("name", list(CASES))


def data(case: Case, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    y = case.kind.check(case.draw(rng, ROWS))
    y = np.asarray(y)
    y = jnp.asarray(y.astype(np.float32) if y.dtype.kind == "f" else y.astype(np.int32))
    return jnp.asarray(outputs_for(case.kind, rng, MEMBERS, ROWS)), y


def test_the_table_holds_the_register() -> None:
    held = {
        type(case.kind.base if isinstance(case.kind, Transformed) else case.kind).__name__ for case in CASES.values()
    }
    assert held == {*REGISTER, "FromNumpyro"}


@named
def test_is_a_hashable_value(name: str) -> None:
    kind = CASES[name].kind
    assert isinstance(kind, uq.Likelihood)
    inner = kind.base if isinstance(kind, Transformed) else kind
    assert hash(inner) == hash(dataclasses.replace(inner)) and inner == dataclasses.replace(inner)
    assert kind.task in ("regression", "binary", "multiclass", "multilabel")
    assert inner.standardize in ("affine", "scale", "log", "limit", "none")
    check_width(kind, (ROWS, kind.width), ROWS)
    with pytest.raises(uq.InputError, match=f"Make its last layer {kind.width} wide"):
        check_width(kind, (ROWS, kind.width + 1), ROWS)


@named
def test_density_and_distribution_agree_under_jit_with_members_first(name: str) -> None:
    case = CASES[name]
    outputs, y = data(case)

    def both(kind: Any, outputs: Any, y: Any) -> Any:
        law = kind.distribution(outputs)
        assert law.batch_shape == (MEMBERS, ROWS)
        assert law.event_shape == y.shape[1:]
        own = y if law.support.is_discrete else y.astype(jnp.float32)
        return kind.log_prob(outputs, y), law.log_prob(own), law.sample(jax.random.key(0))

    both = jax.jit(both, static_argnums=() if isinstance(case.kind, Transformed) else 0)
    with jax.numpy_dtype_promotion("standard"):  # numpyro's own densities promote
        value, again, draw = both(case.kind, outputs, y)
    assert value.shape == (MEMBERS, ROWS) and value.dtype == jnp.float32
    assert draw.shape == (MEMBERS, *y.shape)
    case.kind.check(np.asarray(draw[0]))
    np.testing.assert_allclose(value, again, rtol=2e-4, atol=2e-4)


@named
def test_finite_at_extreme_outputs(name: str) -> None:
    case = CASES[name]
    _, y = data(case)
    width = case.kind.width + case.kind.free
    rng = np.random.default_rng(1)
    rows = np.concatenate([1e4 * rng.choice([-1, 1], (24, width)), np.full((2, width), 1e4), np.full((2, width), -1e4)])
    outputs = jnp.asarray(rows[:, None], jnp.float32)

    @jax.jit
    def both(outputs: Any, y: Any) -> Any:
        return jax.value_and_grad(lambda z: case.kind.log_prob(z, y).sum())(outputs)

    value, grad = both(jnp.broadcast_to(outputs, (len(rows), ROWS, width)), y)
    assert np.isfinite(value), value
    assert np.isfinite(grad).all()


@named
def test_targets_that_do_not_fit(name: str) -> None:
    case = CASES[name]
    with pytest.raises(uq.InputError, match=case.said):
        case.kind.check(case.wrong)


@named
def test_no_strict_promotion_and_float64_is_kept(name: str) -> None:
    """float64 outputs stay so: log-densities agree with those of float32."""
    case = CASES[name]
    outputs, y = data(case)
    with jax.enable_x64():
        wide = jnp.asarray(np.asarray(outputs, np.float64))
        target = np.asarray(y)
        target = jnp.asarray(target.astype(np.float64) if target.dtype.kind == "f" else target)
        with jax.numpy_dtype_promotion("standard"):
            value = case.kind.log_prob(wide, target)
    assert value.dtype == np.float64
    np.testing.assert_allclose(value, case.kind.log_prob(outputs, y), rtol=2e-4, atol=2e-4)  # eager


@named
def test_network_and_free_parameters(name: str) -> None:
    kind = CASES[name].kind
    model = attach(uq.from_functions(lambda key, x: {}, lambda params, x: jnp.zeros((x.shape[0], kind.width))), kind)
    x = jnp.zeros((ROWS, 1))
    variables = model.init(jax.random.key(0), x)
    outputs, _ = model.apply(variables, x)
    assert outputs.shape == (ROWS, kind.width + kind.free)


@pytest.mark.parametrize("name", list(REGISTER))
def test_the_register_builds_from_saved_fields(name: str) -> None:
    kind = next(case.kind for case in CASES.values() if type(case.kind) is REGISTER[name])
    fields = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(kind).items()}
    assert REGISTER[name](**fields) == kind


@named
def test_outputs_of_another_width_are_a_sentence(name: str) -> None:
    outputs, y = data(CASES[name])
    kind = CASES[name].kind
    for wrong in (outputs[..., :-1], jnp.concatenate([outputs, outputs[..., :1]], -1)):
        for call in (lambda o: kind.log_prob(o, y), kind.distribution):
            with pytest.raises(uq.InputError, match=r"expected outputs of shape \(…, \d+\).*but got"):
                call(wrong)


@named
def test_log_prob_and_gradient_are_finite_far_out(name: str) -> None:
    case = CASES[name]
    size = 1e4 if "FullCovariance" in name else 1e5  # there outputs are multiplied, and the product squared
    _, y = data(case)
    width = case.kind.width + case.kind.free
    signs = np.random.default_rng(1).choice([-1.0, 0.0, 1.0], (24, ROWS, width))
    signs[:2] = [[[1.0]], [[-1.0]]]
    value, slope = jax.value_and_grad(lambda o: case.kind.log_prob(o, y).sum())(jnp.asarray(size * signs, jnp.float32))
    assert np.isfinite(value)
    assert np.isfinite(slope).all()
