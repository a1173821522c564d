"""Predictions batch after batch are those of all rows at once, from one program, lazily, in bounded memory."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import uq
from uq._rows import inputs_source
from uq.metrics import streaming
from uq.standardize import scaling_of

from .nets import mlp, regression

predict_module = importlib.import_module("uq.predict")  # `uq.predict` itself is the function
batches_module = importlib.import_module("uq.predict_batches")

X, Y = regression(203)
UNEVEN = (7, 0, 100, 1, 95)


def pieces(*arrays: Any, sizes: tuple[int, ...] = UNEVEN) -> Iterator[Any]:
    """Rows in batches of given sizes."""
    start = 0
    for size in sizes:
        part = tuple(jax.tree.map(lambda leaf: leaf[start : start + size], tree) for tree in arrays)
        yield part[0] if len(part) == 1 else part
        start += size


def untrained(net: nn.Module, likelihood: Any, size: int = 4, x: Any = X) -> uq.Posterior:
    """Networks as they are initialised, for standardised inputs and, for numbers, shifted and scaled targets."""
    nets = [net.init(jax.random.key(k), jax.tree.map(lambda leaf: leaf[:1], x)) for k in range(size)]
    if likelihood.task == "regression":
        several = likelihood.num_outputs > 1
        likelihood = uq.likelihoods.transformed(likelihood, *(([1e4, 5.0], [250.0, 0.1]) if several else (1e4, 250.0)))
    return uq.posterior(net, likelihood, nets, x=x, inputs=scaling_of(x) if isinstance(x, np.ndarray) else None)


class Both(nn.Module):
    """A network of two inputs."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(2)(jnp.tanh(nn.Dense(6)(jnp.concatenate([x["a"], x["b"]], -1))))


class Loader:
    """Batches behind an iterable that is no iterator and no pytree."""

    def __iter__(self) -> Iterator[Any]:
        return pieces(X)


CASES = {
    "Gaussian": lambda: (untrained(mlp(), uq.likelihoods.Gaussian()), X),
    "Gaussian(2)": lambda: (untrained(mlp(4), uq.likelihoods.Gaussian(2)), X),
    "StudentT": lambda: (untrained(mlp(), uq.likelihoods.StudentT(df=5.0)), X),
    "Categorical": lambda: (untrained(mlp(3), uq.likelihoods.Categorical(3)), X),
    "pytree": lambda: (
        untrained(Both(), uq.likelihoods.Gaussian(), x={"a": X[:, :1], "b": X[:, 1:]}),
        {"a": X[:, :1], "b": X[:, 1:]},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_as_all_rows_at_once(case: str) -> None:
    posterior, x = CASES[case]()
    whole = posterior.predict(x)
    for source, size in ((x, 64), (pieces(x), 64), (pieces(x), None), (x, 1000)):
        found = list(posterior.predict_batches(source, batch_size=size))
        assert all(len(pred) == size for pred in found[:-1])
        outputs = np.concatenate([pred.outputs for pred in found], 1)
        np.testing.assert_allclose(outputs, whole.outputs, rtol=1e-6, atol=1e-6)
    moments = posterior.moments(pieces(x), batch_size=64)
    for name in ("mean", "aleatoric", "epistemic", "variance", "stddev"):
        got, want = getattr(moments, name), np.asarray(getattr(whole, name))
        assert isinstance(got, np.ndarray) and got.dtype == want.dtype
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6 * np.abs(want).max())
    if whole.task == "regression":
        levels = [0.05, 0.5, 0.95]
        got = posterior.moments(x, levels=levels, batch_size=64).quantiles
        np.testing.assert_allclose(got, whole.quantile(levels), rtol=1e-5)
    else:
        with pytest.raises(uq.InputError, match="`quantile` is for regression predictions"):
            posterior.moments(x, levels=[0.5])


@pytest.mark.parametrize(
    "what", ["memmap", "lists", "list of batches", "iterable", "jax", "one row", "one-row batches"]
)
def test_rows_from_wherever_they_lie(what: str, tmp_path: Path) -> None:
    posterior = untrained(mlp(), uq.likelihoods.Gaussian())
    want = np.asarray(posterior.predict(X).mean)
    x: Any = X
    if what == "memmap":
        x = np.memmap(tmp_path / "x", np.float32, "w+", shape=X.shape)
        x[:] = X
    elif what in ("lists", "jax"):
        x = X.tolist() if what == "lists" else jnp.asarray(X)
    elif what == "list of batches":
        x = list(pieces(X))
    elif what == "iterable":
        x = Loader()
    elif what == "one row":
        x, want = X[:1], want[:1]
    else:
        x = pieces(X, sizes=(1,) * len(X))
    np.testing.assert_allclose(posterior.moments(x, batch_size=50).mean, want, rtol=1e-6)


def test_draws_are_made_once_and_repeat() -> None:
    method = uq.ensemble(uq.methods.mean_field(mlp(), uq.likelihoods.Gaussian()), 2)
    posterior = uq.fit(method, (X, Y), key=0, epochs=1, progress=False)
    whole = posterior.predict(X, num_samples=5)
    found = list(posterior.predict_batches(pieces(X), num_samples=5, batch_size=50))
    assert found[0].num_members == 10
    np.testing.assert_allclose(np.concatenate([p.mean for p in found]), whole.mean, rtol=1e-6)
    other = posterior.moments(X, num_samples=5, key=3)
    np.testing.assert_allclose(other.mean, posterior.predict(X, num_samples=5, key=3).mean, rtol=1e-6)


def test_the_functions_of_members() -> None:
    members = uq.Members(uq.batched_init(mlp(), 0, X, 3), weight=jnp.array([0.5, 0.5, 0.0]))
    kind = uq.likelihoods.Gaussian()
    whole = uq.predict(mlp(), kind, members, X)
    found = list(uq.predict_batches(mlp(), kind, members, X, batch_size=64, member_size=2))
    np.testing.assert_allclose(np.concatenate([p.outputs for p in found], 1), whole.outputs, rtol=1e-5, atol=1e-6)
    moments = uq.predict_moments(mlp(), kind, members, pieces(X), levels=0.5, memory=20_000)
    np.testing.assert_allclose(moments.epistemic, whole.epistemic, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moments.quantiles[0], whole.quantile(0.5), rtol=1e-5, atol=1e-6)
    with pytest.raises(uq.InputError, match=r"`predict_batches` expected `Members`, but got a dict"):
        uq.predict_batches(mlp(), kind, {}, X)  # type: ignore[arg-type]


def test_one_program_for_all_batches(monkeypatch: Any) -> None:
    posterior = untrained(mlp(), uq.likelihoods.Gaussian(), size=3)
    seen, moments = set(), batches_module.Predictive._begin_moments
    monkeypatch.setattr(
        batches_module.Predictive, "_begin_moments", lambda pred: seen.add(pred.outputs.shape) or moments(pred)
    )
    monkeypatch.setattr(predict_module, "_PROGRAMS", predict_module.ProgramCache())
    list(posterior.predict_batches(X, batch_size=20))
    posterior.moments(pieces(X), batch_size=20)
    posterior.moments(pieces(X, sizes=(50, 3, 150)), batch_size=20)
    posterior.evaluate_batches(pieces(X, Y), {"nll": streaming.Mean("log_score")}, batch_size=20)
    assert seen == {(3, 20, 2)}
    (program,) = predict_module._PROGRAMS._programs.values()
    assert program._cache_size() == 1


def test_batches_are_read_when_needed() -> None:
    read = []

    def batches() -> Iterator[Any]:
        buffer = np.empty((10, 3), np.float32)
        for i in range(20):
            read.append(i)
            buffer[:] = X[10 * i : 10 * i + 10]  # memory that is used again
            yield buffer

    posterior = untrained(mlp(), uq.likelihoods.Gaussian())
    predictions = posterior.predict_batches(batches(), batch_size=20)
    assert read == []
    first = next(predictions)
    assert len(read) == 4  # its own rows, and those of the next
    rest = np.concatenate([pred.mean for pred in predictions])
    assert read == list(range(20))
    np.testing.assert_allclose(np.concatenate([first.mean, rest]), posterior.predict(X[:200]).mean, rtol=1e-6)


METRICS = {
    "nll": streaming.Mean("log_score"),
    "rmse": streaming.Mean("squared_error", root=True),
    "coverage": streaming.Mean("coverage"),
}


def test_streaming_metrics_are_those_of_all_rows() -> None:
    posterior = untrained(mlp(), uq.likelihoods.Gaussian())
    table = uq.evaluate(posterior.predict(X), Y, key=None)
    want = {row[0]: row[1] for row in table.rows}
    weight = np.linspace(0.5, 1.5, len(X))
    for data in ((X, Y), pieces(X, Y), list(pieces(X, Y))):
        got = posterior.evaluate_batches(data, METRICS, batch_size=50)
        assert got["nll"].count == len(X)
        for name, of in (("nll", "log_score"), ("rmse", "rmse"), ("coverage", "coverage")):
            assert float(got[name]) == pytest.approx(want[of], rel=1e-5)
    one = posterior.evaluate_batches(pieces(X, Y, weight), METRICS["nll"], batch_size=50)
    mean = uq.metrics.log_score(posterior.predict(X), Y)
    assert float(one) == pytest.approx(np.average(mean, weights=weight), rel=1e-5)
    classes = untrained(mlp(3), uq.likelihoods.Categorical(3))
    labels = np.arange(len(X)) % 3
    got = classes.evaluate_batches(pieces(X, labels), {"ece": streaming.CalibrationError()}, batch_size=50)
    assert float(got["ece"]) == pytest.approx(float(uq.metrics.calibration_error(classes.predict(X), labels)), rel=1e-5)


@pytest.mark.parametrize("size", [1, 10, 300])
def test_sizes_follow_the_memory(size: int) -> None:
    model, kind = uq.as_model(mlp()), uq.likelihoods.Gaussian()
    members = uq.Members(jax.eval_shape(lambda: uq.batched_init(mlp(), 0, X[:1], size)))
    values = predict_module.bytes_per_row(model, members, X[:1])
    for memory in (2**16, 2**20, 2**24):
        limits = batches_module.Limits(memory=memory)
        rows, at_once = batches_module.sizes(model, kind, members, X[:1], None, limits)
        assert rows * at_once * values <= 1.2 * memory and at_once <= size
        few, _ = batches_module.sizes(model, kind, members, X[:1], 100, limits)
        assert few <= 112


def test_what_does_not_fit() -> None:
    posterior = untrained(mlp(), uq.likelihoods.Gaussian())

    def of(x: Any, **settings: Any) -> Any:
        return posterior.moments(x, **settings)

    bad = X.copy()
    bad[[150, 170], 1] = np.nan
    for wrong, said in (
        (lambda: of(iter([])), r"`x` expected at least one example, but there is no batch \(was the iterator used up"),
        (lambda: of(iter([X[:0], X[:0]])), "at least one example, but all 2 batches are empty"),
        (lambda: of(X[:0]), r"`x` expected at least one example, but it is empty \(0 rows\)"),
        (lambda: of(X[:, :2]), r"`x` expected shape \('N', 3\), as in training, but has shape"),
        (lambda: of(iter([X, X[:5, :2]])), r"`batch 1 of x` expected shape \('N', 3\), as in training, .* \(5, 2\)"),
        (lambda: of(bad, batch_size=64), r"`x` expected finite numbers, but rows 150, 170 hold NaN or infinity"),
        (lambda: of(pieces(bad)), r"`x` expected finite numbers, but rows 150, 170 hold NaN or infinity"),
        (lambda: of(X, memory=10), r"`memory` expected at least \d+ bytes, which is what one row takes"),
        (lambda: of(X, memory=0), r"`memory` expected a whole number of at least 1"),
        (lambda: of(X, batch_size=True), r"`batch_size` expected a whole number of at least 1"),
        (lambda: of(X, levels=[0.5, 1.0]), r"`levels` expected a fraction strictly between 0 and 1"),
        (lambda: of(iter([["a", "b"]])), r"`batch 0 of x` expected numbers, but its dtype is"),
        (lambda: jax.jit(lambda x: of(x).mean)(X), r"`x` is read on the host, chunk by chunk, and cannot be traced"),
        (lambda: posterior.evaluate_batches((X, Y[:3]), METRICS), r"`data/x` has 203, `data/y` has 3"),
        (lambda: posterior.evaluate_batches([(X, Y), (X, Y[:3])], METRICS), r"`batch 1/x` has 203, `batch 1/y` has 3"),
        (
            lambda: posterior.evaluate_batches([X], METRICS),
            r"`batch 0` expected \(x, y\) or \(x, y, weight\), but got a",
        ),
        (lambda: posterior.evaluate_batches(X, METRICS), r"`data` expected \(x, y\), \(x, y, weight\) or an iterable"),
        (lambda: posterior.evaluate_batches((X, Y), "nll"), r"`metrics` expected uq.metrics.streaming metrics"),
    ):
        with pytest.raises(uq.InputError, match=said):
            wrong()


def test_lists_are_batches_only_where_a_row_is_no_list() -> None:
    row = jax.ShapeDtypeStruct((3,), jnp.float32)
    assert inputs_source([X, X], row).num_rows is None
    assert inputs_source([X, X], [row, row]).num_rows == len(X)
    assert inputs_source([X, X], None).num_rows == len(X)
    assert inputs_source({"a": X}, {"a": row}).num_rows == len(X)
    assert inputs_source(iter([X]), None).num_rows is None
