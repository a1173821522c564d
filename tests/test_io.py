"""Saving and loading: bit for bit, one readable file, and a clear refusal of anything else."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import os
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import uq
import uq.io
from uq._training import without_optimizer
from uq.standardize import scaling_of

from .nets import OneFlag, Unit, mlp, nnx_net, problem, raw_apply, raw_init, regression

LIKELIHOODS = {
    "Gaussian": uq.likelihoods.Gaussian(),
    "Gaussian(2)": uq.likelihoods.Gaussian(2, min_scale=1e-2),
    "HomoscedasticGaussian": uq.likelihoods.HomoscedasticGaussian(),
    "Categorical": uq.likelihoods.Categorical(3),
    "Bernoulli": uq.likelihoods.Bernoulli(),
}


def same_posterior(a: uq.Posterior, b: uq.Posterior) -> None:
    assert jax.tree.structure(a.state) == jax.tree.structure(b.state)
    for one, two in zip(jax.tree.leaves(a.state), jax.tree.leaves(b.state), strict=True):
        assert one.dtype == two.dtype and one.shape == two.shape
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


def same_predictions(a: uq.Posterior, b: uq.Posterior, x: Any) -> None:
    one, two = a.predict(x), b.predict(x)
    assert np.array_equal(one.outputs, two.outputs)
    assert np.array_equal(one.weight, two.weight)
    assert np.array_equal(one.mean, two.mean)
    same_likelihood(a.likelihood, b.likelihood)


def same_likelihood(one: Any, two: Any) -> None:
    assert type(one) is type(two)
    if isinstance(one, uq.likelihoods.Transformed):
        assert np.asarray(two.loc).dtype == np.asarray(two.scale).dtype == np.float64
        assert np.array_equal(one.loc, two.loc) and np.array_equal(one.scale, two.scale)
        same_likelihood(one.base, two.base)
    else:
        assert one == two


def untrained(method: uq.Method, x: Any, y: Any, **fields: Any) -> uq.Posterior:
    """What `fit` returns, without the training: the same parts, in a fraction of the time."""
    likelihood, inputs, z = method.likelihood, None, x
    if isinstance(x, np.ndarray):
        inputs = scaling_of(x)
        z = inputs.apply(x)
    if likelihood.task == "regression":
        target = scaling_of(y)
        likelihood = uq.likelihoods.transformed(likelihood, target.mean, target.scale)
    state = without_optimizer(method.init(jax.random.key(7), jax.tree.map(lambda leaf: jnp.asarray(leaf[:1]), z)))
    example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), z)
    parts = {"inputs": inputs, "weight": jnp.ones(method.size or 1) / (method.size or 1), "example": example}
    return uq.Posterior(method, state, likelihood, jax.random.key(3), **{**parts, **fields})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: Any) -> tuple[uq.Posterior, Path, Any]:
    x, y = regression()
    posterior = uq.fit(uq.deep_ensemble(mlp(), uq.likelihoods.Gaussian(), size=3), (x, y), key=0, epochs=2)
    path = tmp_path_factory.mktemp("io") / "ensemble.uq"
    posterior.save(path)
    return posterior, path, x


def header_of(path: Path) -> dict[str, Any]:
    """An independent reading of the layout, from its published description."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])


def rewrite(path: Path, to: Path, change: Any) -> None:
    """A file with another header, and sums made right again."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    header["__metadata__"]["sha256"] = "0" * 64
    text = json.dumps(header, separators=(",", ":")).encode()
    size = len(text).to_bytes(8, "little")
    total = hashlib.sha256(size + text + content[8 + length :]).hexdigest().encode()
    to.write_bytes(size + text.replace(b"0" * 64, total, 1) + content[8 + length :])


# Round trips


@pytest.mark.parametrize("method", list(uq.methods.REGISTER))
@pytest.mark.parametrize("likelihood", ["Gaussian", "HomoscedasticGaussian"])
def test_every_method_comes_back(method: str, likelihood: str, tmp_path: Path) -> None:
    kind = LIKELIHOODS[likelihood]
    x, y = problem(kind)
    net = mlp(kind.width)
    one = uq.methods.REGISTER[method].factory(net, kind)
    posterior = untrained(uq.ensemble(one, 2), x, y)
    posterior.save(tmp_path / "a.uq")
    again = uq.load(tmp_path / "a.uq", model=net)
    same_posterior(posterior, again)
    same_predictions(posterior, again, x)
    assert again.method.name == method and again.size == 2
    assert again.method.settings == posterior.method.settings
    assert again.num_params == posterior.num_params


@pytest.mark.parametrize("likelihood", ["Gaussian(2)", "Categorical", "Bernoulli"])
def test_every_likelihood_comes_back(likelihood: str, tmp_path: Path) -> None:
    kind = LIKELIHOODS[likelihood]
    x, y = problem(kind)
    net = mlp(kind.width)
    posterior = untrained(uq.methods.map_estimate(net, kind), x, y)
    posterior.save(tmp_path / "a.uq")
    again = uq.load(tmp_path / "a.uq", model=net)
    same_posterior(posterior, again)
    same_predictions(posterior, again, x)
    assert again.method.size is None


@pytest.mark.parametrize("adapter", ["linen", "nnx", "pair"])
def test_every_adapter_comes_back(adapter: str, tmp_path: Path) -> None:
    net = {"linen": OneFlag(), "nnx": nnx_net(), "pair": (raw_init, raw_apply)}[adapter]
    x, y = regression()
    posterior = untrained(uq.deep_ensemble(net, uq.likelihoods.Gaussian(), size=2), x, y)
    posterior.save(tmp_path / "a.uq")
    again = uq.load(tmp_path / "a.uq", model=net)
    same_posterior(posterior, again)
    same_predictions(posterior, again, x)


def test_everything_beside_the_weights_comes_back(saved: Any) -> None:
    posterior, path, x = saved
    again = uq.load(path, model=mlp())
    assert np.array_equal(jax.random.key_data(again.key), jax.random.key_data(posterior.key))
    assert again.inputs.mean.dtype == np.float64
    assert np.array_equal(again.inputs.mean, posterior.inputs.mean)
    assert np.array_equal(again.inputs.scale, posterior.inputs.scale)
    assert np.array_equal(again.weight, posterior.weight)
    assert again.example == posterior.example
    for name, value in posterior.history._asdict().items():
        kept = getattr(again.history, name)
        same = kept == value if isinstance(value, str) else np.array_equal(kept, value, equal_nan=True)
        assert same and type(kept) is type(value), name
    same_predictions(posterior.take([2, 0]), again.take([2, 0]), x)


def test_a_loaded_posterior_is_saved_to_the_same_bytes(saved: Any, tmp_path: Path) -> None:
    _, path, _ = saved
    uq.load(path, model=mlp()).save(tmp_path / "b.uq")
    assert (tmp_path / "b.uq").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("mapping", [uq.execution.looped, uq.execution.unrolled, uq.execution.chunked(3)], ids=repr)
def test_members_come_back_under_their_strategy(mapping: Any, tmp_path: Path) -> None:
    x, y = regression()
    one = uq.methods.low_rank(mlp(), uq.likelihoods.Gaussian(), rank=2, num_draws=4)
    posterior = untrained(uq.ensemble(one, 4, mapping=mapping), x, y)
    posterior.save(tmp_path / "a.uq")
    again = uq.load(tmp_path / "a.uq", model=mlp())
    assert again.method.mapping == mapping
    same_predictions(posterior, again, x)


def test_bfloat16_and_cast_weights(tmp_path: Path) -> None:
    import flax.linen as nn

    x, _y = regression(20)
    narrow = nn.Dense(2, dtype=jnp.float32, param_dtype=jnp.bfloat16)
    nets = [narrow.init(jax.random.key(i), x) for i in range(2)]
    assert nets[0]["params"]["kernel"].dtype == jnp.bfloat16
    posterior = uq.posterior(narrow, uq.likelihoods.Gaussian(), nets, x=x)
    posterior.save(tmp_path / "a.uq")
    same_posterior(posterior, uq.load(tmp_path / "a.uq", model=narrow))
    # Weights cast after training, so that they differ from what the model makes.
    wide = nn.Dense(2, dtype=jnp.float32)
    cast = [jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), wide.init(jax.random.key(i), x)) for i in range(2)]
    posterior = uq.posterior(wide, uq.likelihoods.Gaussian(), cast, x=x)
    posterior.save(tmp_path / "b.uq")
    same_posterior(posterior, uq.load(tmp_path / "b.uq", model=wide))
    with pytest.raises(uq.FileError, match=r"`variables/params/bias` has dtype float32 in the file, .* bfloat16"):
        uq.load(tmp_path / "b.uq", model=narrow)


def test_networks_given_without_inputs_need_them_at_load(tmp_path: Path) -> None:
    x, _ = regression(20)
    net = OneFlag()
    nets = [net.init(jax.random.key(i), x, False) for i in range(2)]
    target = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 1e4, 250.0)
    posterior = uq.posterior(net, target, nets)
    posterior.save(tmp_path / "a.uq")
    with pytest.raises(uq.InputError, match=r"does not say what inputs look like .* pass x="):
        uq.load(tmp_path / "a.uq", model=net)
    again = uq.load(tmp_path / "a.uq", model=net, x=x)
    same_predictions(posterior, again, x)
    assert again.history is None and again.example.shape == (3,)


def test_inputs_in_parts_keep_their_structure(tmp_path: Path) -> None:
    def init(key: Any, x: Any) -> Any:
        return {"w": jax.random.normal(key, (x["a"].shape[-1], 2))}

    def apply(params: Any, x: Any) -> Any:
        return x["a"] @ params["w"] + x["b"][1][:, None]

    x, y = regression()
    parts = {"a": (x - 5) / 3, "b": [x[:, :1], x[:, 1] / 10]}
    posterior = untrained(uq.deep_ensemble((init, apply), uq.likelihoods.Gaussian(), size=2), parts, y)
    posterior.save(tmp_path / "a.uq")
    again = uq.load(tmp_path / "a.uq", model=(init, apply))
    assert again.example == posterior.example
    same_predictions(posterior, again, parts)


def test_carried_keys_come_back(tmp_path: Path) -> None:
    class State(NamedTuple):
        variables: Any
        noise: Any

    base = uq.methods.map_estimate(mlp(), uq.likelihoods.Gaussian())
    method = base._replace(
        name="noisy",
        init=lambda key, x, start=None: State(base.init(key, x).variables, jax.random.key(3, impl="rbg")),
        sample=lambda key, state, num=1: uq.Members(
            jax.tree.map(lambda leaf: leaf[None].repeat(num, 0), state.variables)
        ),
    )
    x, _ = regression(10)
    example = jax.ShapeDtypeStruct((3,), jnp.float32)
    posterior = uq.Posterior(
        method, method.init(jax.random.key(0), x), method.likelihood, jax.random.key(5), example=example
    )
    posterior.save(tmp_path / "a.uq")
    with pytest.raises(uq.InputError, match=r"method 'noisy', which is not in uq.methods.REGISTER: pass it"):
        uq.load(tmp_path / "a.uq", model=mlp())
    again = uq.load(tmp_path / "a.uq", method=method)
    assert np.array_equal(jax.random.key_data(again.state.noise), jax.random.key_data(posterior.state.noise))
    assert again.weight is None
    same_predictions(posterior, again, x)


def test_a_likelihood_of_ones_own_is_passed_again(tmp_path: Path) -> None:
    x, y = regression()
    posterior = untrained(uq.deep_ensemble(mlp(1), Unit(), size=2), x, y)
    posterior.save(tmp_path / "a.uq")
    with pytest.raises(uq.InputError, match=r"likelihood of your own, Unit, .* pass it as likelihood="):
        uq.load(tmp_path / "a.uq", model=mlp(1))
    with pytest.raises(uq.InputError, match=r"saved with the likelihood Unit, but Gaussian"):
        uq.load(tmp_path / "a.uq", model=mlp(1), likelihood=uq.likelihoods.Gaussian())
    again = uq.load(tmp_path / "a.uq", model=mlp(1), likelihood=Unit())
    same_likelihood(again.likelihood, posterior.likelihood)
    same_predictions(posterior, again, x)
    again = uq.load(tmp_path / "a.uq", model=mlp(1), likelihood=posterior.likelihood)
    same_likelihood(again.likelihood, posterior.likelihood)


# What is refused


def test_another_network_is_refused_with_the_leaf(saved: Any) -> None:
    _, path, _ = saved
    with pytest.raises(uq.FileError) as caught:
        uq.load(path, model=mlp(hidden=8))
    assert str(caught.value) == (
        "`variables/params/layers_0/bias` has shape (3, 6) in the file, but the model's is (3, 8)."
    )
    import flax.linen as nn

    with pytest.raises(uq.FileError, match=r"`variables/params/layers_\d/bias` .* in the file"):
        uq.load(path, model=nn.Sequential([nn.Dense(6), nn.tanh]))
    with pytest.raises(uq.FileError, match=r"`variables/params/layers_3/bias` is missing in the file, .*\(3, 2\)"):
        uq.load(path, model=nn.Sequential([nn.Dense(6), nn.tanh, nn.Dense(2), nn.Dense(2)]))
    with pytest.raises(uq.FileError, match=r"has dtype float32 in the file, but the model's is bfloat16"):
        uq.load(
            path,
            model=nn.Sequential([nn.Dense(6, dtype=jnp.float32, param_dtype=jnp.bfloat16), nn.tanh, nn.Dense(2)]),
        )
    with pytest.raises(uq.FileError, match=r"`variables/params/layers_2/bias` of shape \(3, 2\) is in the file, but"):
        uq.load(path, model=nn.Sequential([nn.Dense(6)]))
    with pytest.raises(uq.FileError, match=r"cannot take inputs of shape .*'N', 3"):
        uq.load(path, model=(lambda key, x: {"w": x @ jnp.ones((4, 2))}, lambda p, x: x @ p["w"]))


def test_other_settings_are_refused(saved: Any) -> None:
    _, path, _ = saved
    with pytest.raises(uq.InputError, match=r"`load` needs model="):
        uq.load(path)
    with pytest.raises(uq.InputError, match=r"saved with the likelihood Gaussian\(.*, but Bernoulli\(\) was passed"):
        uq.load(path, model=mlp(), likelihood=uq.likelihoods.Bernoulli())
    one = uq.methods.map_estimate(mlp(), uq.likelihoods.Gaussian())
    assert uq.load(path, method=one).size == 3
    with pytest.raises(uq.FileError, match=r"`variables/params/layers_0/bias` has shape \(3, 6\) in the file"):
        uq.load(path, method=uq.ensemble(one, 2))


def test_any_altered_bit_is_refused(saved: Any, tmp_path: Path) -> None:
    _, path, _ = saved
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    spans = {name: entry["data_offsets"] for name, entry in header_of(path).items() if name != "__metadata__"}
    rng = random.Random(0)
    bits = [
        *range(64),
        *rng.sample(range(64, 8 * (8 + length)), 200),
        *rng.sample(range(8 * (8 + length), 8 * len(content)), 250),
    ]
    broken = tmp_path / "broken.uq"
    for bit in bits:
        altered = bytearray(content)
        altered[bit // 8] ^= 1 << (bit % 8)
        broken.write_bytes(altered)
        with pytest.raises(uq.FileError) as caught:
            uq.load(broken, model=mlp())
        place = bit // 8 - 8 - length
        if place >= 0:
            name = next(name for name, (start, end) in spans.items() if start <= place < end)
            assert f"the data of `{name}` are not what was written" in str(caught.value)


def test_a_file_cut_short_is_refused(saved: Any, tmp_path: Path) -> None:
    _, path, _ = saved
    content = path.read_bytes()
    rng = random.Random(1)
    broken = tmp_path / "broken.uq"
    for size in [0, 1, 7, 8, 9, 10, 100, len(content) - 1, *rng.sample(range(len(content)), 50)]:
        broken.write_bytes(content[:size])
        with pytest.raises(uq.FileError, match=r"cut short|not a file that"):
            uq.load(broken, model=mlp())
    broken.write_bytes(content + b"\0")
    with pytest.raises(uq.FileError, match=r"1 bytes were added at its end"):
        uq.load(broken, model=mlp())


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05hello\x94.",
        b"plain text, long enough to look like something",
        (2).to_bytes(8, "little") + b"{}",
        (20).to_bytes(8, "little") + b'{"__metadata__": {}}',
        (22).to_bytes(8, "little") + b'{"__metadata__": null}',
        (6).to_bytes(8, "little") + b"{nope}",
        (2**63).to_bytes(8, "little") + b"{" * 50,
        (100_000).to_bytes(8, "little") + b'{"a":' * 20_000,
    ],
)
def test_another_kind_of_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(uq.FileError, match=r"is not a file that `uq.save` wrote|cut short"):
        uq.load(tmp_path / "other", model=mlp())


def test_a_missing_file_and_a_newer_format(saved: Any, tmp_path: Path) -> None:
    _, path, _ = saved
    with pytest.raises(uq.FileError, match=r"Cannot read .*nothing.uq': No such file"):
        uq.load(tmp_path / "nothing.uq", model=mlp())
    with pytest.raises(uq.FileError, match=r"Cannot read .*directory"):
        uq.load(tmp_path, model=mlp())
    rewrite(path, tmp_path / "new.uq", lambda header: header["__metadata__"].update(format_version="2"))
    with pytest.raises(uq.FileError, match=rf"has file format 2, .* install uq {uq.__version__}"):
        uq.load(tmp_path / "new.uq", model=mlp())
    rewrite(path, tmp_path / "same.uq", lambda header: None)
    assert uq.load(tmp_path / "same.uq", model=mlp()).size == 3


def test_what_could_not_be_loaded_is_not_saved(saved: Any, tmp_path: Path) -> None:
    posterior, _, _ = saved
    wrong = replace(posterior, state=jax.tree.map(lambda leaf: leaf[:2], posterior.state))
    with pytest.raises(uq.FileError, match=r"has shape \(2, 6\) in this posterior, but the model's is \(3, 6\)"):
        wrong.save(tmp_path / "a.uq")
    odd = replace(posterior, state=jax.tree.map(lambda leaf: leaf.astype(jnp.int4), posterior.state))
    with pytest.raises(uq.FileError, match=r"has dtype int4, which the file format has no name for"):
        odd.save(tmp_path / "a.uq")
    assert list(tmp_path.iterdir()) == []


# The file itself


def test_the_header_is_readable(saved: Any) -> None:
    posterior, path, _ = saved
    header = header_of(path)
    said = header["__metadata__"]
    assert all(isinstance(value, str) for value in said.values())
    assert set(json.loads(said["versions"])) == {"uq", "jax", "flax", "optax", "numpyro"}
    method = json.loads(said["method"])
    assert method["name"] == "map_estimate" and method["size"] == 3
    assert method["likelihood"] == {"name": "Gaussian", "fields": {"num_outputs": 1, "min_scale": 1e-3}}
    target = json.loads(said["likelihood"])
    assert target["loc"] == float(posterior.likelihood.loc) and target["scale"] == float(posterior.likelihood.scale)
    kernel = header["variables/params/layers_0/kernel"]
    assert kernel["dtype"] == "F32" and kernel["shape"] == [3, 3, 6]
    data = path.read_bytes()[8 + int.from_bytes(path.read_bytes()[:8], "little") :]
    start, end = kernel["data_offsets"]
    values = np.frombuffer(data[start:end], "<f4").reshape(3, 3, 6)
    assert np.array_equal(values, posterior.state.variables.params["layers_0"]["kernel"])
    # The format asks for spans without gaps or overlaps, in a header that starts with a brace.
    spans = sorted(entry["data_offsets"] for name, entry in header.items() if name != "__metadata__")
    assert spans[0][0] == 0 and spans[-1][1] == len(data)
    assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))


def test_the_safetensors_package_reads_it(saved: Any) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    posterior, path, _ = saved
    arrays = safetensors.load_file(path)
    kernel = posterior.state.variables.params["layers_2"]["kernel"]
    assert np.array_equal(arrays["variables/params/layers_2/kernel"], kernel)


@pytest.mark.parametrize("file", ["io.py", "_archive.py"])
def test_no_code_is_ever_read(file: str) -> None:
    tree = ast.parse((Path(uq.__file__).parent / file).read_text())
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not imported & {"pickle", "marshal", "shelve", "dill", "cloudpickle", "importlib"}
    assert not called & {"eval", "exec", "compile", "__import__"}


def test_the_old_file_stays_when_writing_fails(saved: Any, tmp_path: Path, monkeypatch: Any) -> None:
    posterior, _path, _ = saved
    target = tmp_path / "a.uq"
    posterior.save(target)
    before = target.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, name, lambda *args: full(0))
            with pytest.raises(
                uq.FileError, match=r"Cannot write .*No space left .* a file that was there is unchanged"
            ):
                posterior.take([0]).save(target)
        assert target.read_bytes() == before
        assert [item.name for item in tmp_path.iterdir()] == ["a.uq"]
    posterior.take([0]).save(target)
    assert uq.load(target, model=mlp()).size == 1


def test_a_folder_that_cannot_be_written_to(saved: Any, tmp_path: Path) -> None:
    posterior, _path, _ = saved
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "no" / "a.uq", tmp_path / "file" / "a.uq", tmp_path):
        with pytest.raises(uq.FileError, match=r"Cannot write .* Give a path in an existing folder"):
            posterior.save(target)


def test_sweeps_and_schedules_come_back(tmp_path: Path) -> None:
    x, y = regression()
    optimizer = optax.inject_hyperparams(optax.adamw)(learning_rate=1e-2)
    method = uq.deep_ensemble(
        mlp(), uq.likelihoods.Gaussian(), optimizer, size=2, hyperparams={"learning_rate": [1e-2, 1e-3]}
    )
    posterior = untrained(method, x, y)
    posterior.save(tmp_path / "a.uq")
    same_predictions(posterior, uq.load(tmp_path / "a.uq", model=mlp()), x)
