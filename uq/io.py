"""Save and load a `Posterior`: one file of arrays and a readable header under a content hash; never code.

The layout is that of safetensors (eight bytes of header length, a JSON header, raw little-endian data), so
that any reader of that format opens the arrays. What the header says beside them is text: versions, the
method and its settings, the likelihood and its target transform, the shape of one input, and SHA-256 sums.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _calibration_file as calibration_file
from . import _own_units as own_units
from . import execution, likelihoods, methods
from ._archive import CODES, decode, encode, write
from ._archive import FileError as FileError
from ._checks import InputError, check_inputs, path_name
from ._training import without_optimizer
from ._tree import is_key
from ._typing import PyTree
from ._version import __version__
from .likelihoods import Likelihood, Transformed, transformed
from .members import as_key
from .method import Method, ensemble
from .model import as_model
from .posterior import History, Posterior
from .standardize import Scaling

_HISTORY_ARRAYS = ("loss", "held_out_loss", "best_epoch", "diverged")


def save(posterior: Posterior, path: str | Path) -> None:
    """Write a posterior to one file.

    Arrays are stored bit for bit, so that predictions after `load` are the same numbers. The network's code
    is not stored: `load` needs the model again. The file appears whole or not at all; an older one at `path`
    stays as it is until then.

    Args:
      posterior: from `uq.fit` or `uq.posterior`.
      path: where; the folder must exist.
    Raises:
      FileError: the folder cannot be written to, or the networks are not such as the model makes.
    Example:
      >>> import tempfile, flax.linen as nn, jax, jax.numpy as jnp, uq
      >>> net, x = nn.Dense(2), jnp.ones((3, 4))
      >>> posterior = uq.posterior(net, uq.likelihoods.Gaussian(), [net.init(jax.random.key(0), x)], x=x)
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     uq.save(posterior, f"{folder}/net.uq")
      ...     again = uq.load(f"{folder}/net.uq", model=net)
      >>> bool((again.predict(x).mean == posterior.predict(x).mean).all())
      True
    """
    arrays, meta = _describe(posterior)
    write(Path(path), encode(arrays, meta))


def load(
    path: str | Path,
    *,
    model: Any = None,
    likelihood: Likelihood | None = None,
    method: Method | None = None,
    x: PyTree = None,
) -> Posterior:
    """Read a posterior that `save` wrote.

    Every array is compared with what the model makes, by name, shape and dtype, before anything is returned.

    Args:
      path: the file.
      model: the network, as it was given to the method: anything `uq.as_model` takes. May be left out where
        `method` is given.
      likelihood: the likelihood given to the method, where it is a class of your own; the target's units are
        in the file.
      method: the method (for one member, or the ensemble), where it is one of your own.
      x: example inputs, where the file has none (`uq.posterior` without `x`).
    Raises:
      FileError: the file is missing, cut short, altered (the array is named where its data were), not written
        by `uq`, or does not fit the model (the first leaf that differs is named).
      InputError: something that the file cannot hold has to be passed.
    """
    arrays, meta = decode(Path(path))
    inner = _likelihood(meta["method"]["likelihood"], likelihood)
    method = _method(meta["method"], inner, model, method)
    outer = method.likelihood
    if meta["likelihood"] is not None:
        outer = _likelihood(meta["likelihood"], likelihood if _is_own(meta["likelihood"]) else None)
    if meta.get("units") is not None:
        method = own_units.with_units(method, own_units.blank_units(meta["units"]), outer)
    example = _example(meta["example"], x)
    expected, structure = _expected(method, example)
    state = {name: arrays[name] for name in meta["state"]}
    _compare(state, expected, meta["recast"], where="the file")
    size = meta["method"]["size"]
    if method.size != size:
        raise FileError(f"The file holds {size} members, but `method` is an ensemble of {method.size}.")
    leaves = [
        jax.random.wrap_key_data(jnp.asarray(state[name]), impl=meta["keys"][name])
        if name in meta["keys"]
        else jnp.asarray(state[name])
        for name in expected
    ]
    recalibrator = calibration = None
    if meta.get("calibration") is not None:
        recalibrator, calibration = calibration_file.restore(meta["calibration"], arrays)
    scaling = [arrays[name] for name in ("uq.inputs/mean", "uq.inputs/scale") if name in arrays]
    return Posterior(
        method=method,
        state=jax.tree.unflatten(structure, leaves),
        likelihood=outer,
        key=jax.random.wrap_key_data(jnp.asarray(arrays["uq.key"]), impl=meta["key_impl"]),
        inputs=Scaling(*scaling) if scaling else None,
        weight=jnp.asarray(arrays["uq.weight"]) if "uq.weight" in arrays else None,
        origin=jnp.asarray(arrays["uq.origin"]) if "uq.origin" in arrays else None,
        history=_history(meta["history"], arrays),
        example=example,
        recalibrator=recalibrator,
        calibration=calibration,
        left_out=_unpacked(arrays["uq.left_out"], meta["rows"]) if "uq.left_out" in arrays else None,
    )


# What a posterior is, as arrays and text


def _describe(posterior: Posterior) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    method = posterior.method
    state, keys = {}, {}
    for name, leaf in _named(posterior.state).items():
        if is_key(leaf):
            keys[name], leaf = str(jax.random.key_impl(leaf)), jax.random.key_data(leaf)
        state[name] = np.asarray(leaf)
        if state[name].dtype.name not in CODES:
            raise FileError(f"`{name}` has dtype {state[name].dtype}, which the file format has no name for.")
    recast: dict[str, str] | None = None
    if posterior.example is not None:
        expected, _ = _expected(method, posterior.example)
        _compare(state, expected, None, where="this posterior")
        own = {name: _spec(leaf)[1] for name, leaf in expected.items()}
        recast = {name: own[name] for name in state if own[name] != state[name].dtype.name}
    key = as_key(posterior.key)
    arrays = {**state, "uq.key": np.asarray(jax.random.key_data(key))}
    if posterior.weight is not None:
        arrays["uq.weight"] = np.asarray(posterior.weight)
    if posterior.origin is not None:
        arrays["uq.origin"] = np.asarray(posterior.origin)
    if posterior.inputs is not None:
        arrays |= {"uq.inputs/mean": posterior.inputs.mean, "uq.inputs/scale": posterior.inputs.scale}
    if posterior.left_out is not None:
        arrays["uq.left_out"] = np.packbits(posterior.left_out, axis=1)
    history = posterior.history
    if history is not None:
        arrays |= {f"uq.history/{name}": np.asarray(getattr(history, name)) for name in _HISTORY_ARRAYS}
    calibration = None
    if posterior.recalibrator is not None:
        parts, calibration = calibration_file.describe(posterior.recalibrator, posterior.calibration)
        arrays |= parts
    packages = ("jax", "flax", "optax", "numpyro")
    mapping = None if execution.mapping_of(repr(method.mapping)) is None else repr(method.mapping)
    return arrays, {
        "versions": {"uq": __version__, **{name: importlib.metadata.version(name) for name in packages}},
        "method": {
            "name": method.name,
            "settings": dict(method.settings),
            "size": method.size,
            "mapping": mapping,
            "likelihood": _describe_likelihood(method.likelihood),
        },
        "likelihood": None if posterior.likelihood is method.likelihood else _describe_likelihood(posterior.likelihood),
        "example": _describe_example(posterior.example),
        "key_impl": str(jax.random.key_impl(key)),
        "history": None
        if history is None
        else {name: value for name, value in history._asdict().items() if name not in _HISTORY_ARRAYS},
        "state": list(state),
        "keys": keys,
        "recast": recast,
        "calibration": calibration,
        "units": own_units.shapes_of(posterior.state),
        "rows": None if posterior.left_out is None else posterior.left_out.shape[1],
    }


def _named(tree: PyTree) -> dict[str, Any]:
    """Leaves by path; a name that comes twice is numbered."""
    named: dict[str, Any] = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        name = full = path_name(path) or "state"
        count = 1
        while full in named:
            count += 1
            full = f"{name}#{count}"
        named[full] = leaf
    return named


def _spec(leaf: Any) -> tuple[tuple[int, ...], str]:
    """Shape and dtype as stored."""
    if is_key(leaf):
        leaf = jax.eval_shape(jax.random.key_data, leaf)
    return tuple(leaf.shape), np.dtype(leaf.dtype).name


def _expected(method: Method, example: PyTree) -> tuple[dict[str, Any], Any]:
    """The leaves that the method makes from inputs like `example`, by name, and the tree that they are of."""

    def one_row(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *leaf.shape), jax.dtypes.canonicalize_dtype(leaf.dtype))

    def begin(x: PyTree) -> PyTree:
        return without_optimizer(method.init(jax.random.key(0), x))

    try:
        state = jax.eval_shape(begin, jax.tree.map(one_row, example))
    except InputError:
        raise
    except Exception as error:
        shapes = jax.tree.map(lambda leaf: ("N", *leaf.shape), example)
        said = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileError(
            f"The model cannot take inputs of shape {shapes}, as the saved one does. It says: {said}"
        ) from error
    return _named(state), jax.tree.structure(state)


def _compare(
    state: dict[str, np.ndarray], expected: dict[str, Any], recast: dict[str, str] | None, *, where: str
) -> None:
    """Raise at the first leaf that differs.

    `recast` holds the model's own dtype for each leaf that was saved with another; None compares no dtypes.
    """
    for name, leaf in expected.items():
        shape, dtype = _spec(leaf)
        if name not in state:
            raise FileError(f"`{name}` is missing in {where}, but the model has it, with shape {shape}.")
        if state[name].shape != shape:
            raise FileError(f"`{name}` has shape {state[name].shape} in {where}, but the model's is {shape}.")
        stored = state[name].dtype.name
        if recast is not None and recast.get(name, stored) != dtype:
            hint = " (is jax_enable_x64 set as it was?)" if "64" in stored + dtype else ""
            raise FileError(
                f"`{name}` has dtype {recast.get(name, stored)} in {where}, but the model's is {dtype}{hint}."
            )
    for name, value in state.items():
        if name not in expected:
            raise FileError(f"`{name}` of shape {value.shape} is in {where}, but the model has no such leaf.")


def _describe_likelihood(likelihood: Any) -> dict[str, Any]:
    if isinstance(likelihood, Transformed):
        base = _describe_likelihood(likelihood.base)
        loc, scale = np.asarray(likelihood.loc, np.float64), np.asarray(likelihood.scale, np.float64)
        said = {"name": "Transformed", "base": base, "loc": loc.tolist(), "scale": scale.tolist()}
        if likelihood.transforms:
            said["transforms"] = [_describe_transform(change) for change in likelihood.transforms]
        return said
    name = type(likelihood).__name__
    if likelihoods.REGISTER.get(name) is not type(likelihood):
        return {"name": name, "own": True}
    return {
        "name": name,
        "fields": {f.name: getattr(likelihood, f.name) for f in dataclasses.fields(likelihood)},
    }


def _describe_transform(change: Any) -> dict[str, Any]:
    name = type(change).__name__
    if likelihoods._TRANSFORMS.get(name) is not type(change):
        raise FileError(f"The target's transform {change!r} is not one that a file can name: use Log or BoxCox.")
    return {"name": name, "fields": dataclasses.asdict(change)}


def _likelihood(said: dict[str, Any], given: Any) -> Any:
    """The likelihood that the file describes; its innermost one is `given` where it is not the register's."""
    if isinstance(given, Transformed):
        return _likelihood(said, given.base)
    if said["name"] == "Transformed":
        changes = [likelihoods._TRANSFORMS[each["name"]](**each["fields"]) for each in said.get("transforms", ())]
        own = transformed(_likelihood(said["base"], given), said["loc"], said["scale"])
        return dataclasses.replace(own, transforms=tuple(changes))
    if said.get("own") and given is None:
        raise InputError(
            f"The file was saved with a likelihood of your own, {said['name']}, whose code it does not hold: "
            "pass it as likelihood=…."
        )
    stored = said["name"] if said.get("own") else likelihoods.REGISTER[said["name"]](**said["fields"])
    if given is not None and given != stored and not (said.get("own") and type(given).__name__ == stored):
        raise InputError(f"The file was saved with the likelihood {stored}, but {given!r} was passed.")
    return stored if given is None else given


def _is_own(said: dict[str, Any]) -> bool:
    """Whether the innermost likelihood is one that the register does not hold."""
    return _is_own(said["base"]) if said["name"] == "Transformed" else bool(said.get("own"))


def _method(said: dict[str, Any], likelihood: Any, model: Any, given: Method | None) -> Method:
    if given is None:
        if model is None:
            raise InputError("`load` needs model=…: a file holds arrays, never the code of a network.")
        if said["name"] not in methods.REGISTER:
            raise InputError(
                f"The file was saved with the method {said['name']!r}, which is not in uq.methods.REGISTER: "
                "pass it as method=…."
            )
        given = methods.REGISTER[said["name"]].factory(as_model(model), likelihood, **said["settings"])
    if said["size"] is None or given.member is not None:
        return given
    return ensemble(given, said["size"], mapping=execution.mapping_of(str(said["mapping"])))


def _describe_example(example: PyTree) -> Any:
    """The structure of one input as JSON; None where it is unknown or holds other than built-in nodes."""
    if isinstance(example, dict) and all(isinstance(name, str) for name in example):
        parts: Any = {name: _describe_example(part) for name, part in example.items()}
        return None if None in parts.values() else {"dict": parts}
    if type(example) in (list, tuple):
        parts = [_describe_example(part) for part in example]
        return None if None in parts else {type(example).__name__: parts}
    if isinstance(example, jax.ShapeDtypeStruct):
        return {"shape": list(example.shape), "dtype": np.dtype(example.dtype).name}
    return None


def _example(said: Any, x: PyTree) -> PyTree:
    """Shape and dtype of one example: what the file says, or else those of `x`."""
    if said is None:
        if x is None:
            raise InputError("The file does not say what inputs look like (it was saved without them): pass x=….")
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), check_inputs(x))
    if "dict" in said:
        return {name: _example(part, None) for name, part in said["dict"].items()}
    for kind in (list, tuple):
        if kind.__name__ in said:
            return kind(_example(part, None) for part in said[kind.__name__])
    return jax.ShapeDtypeStruct(tuple(said["shape"]), jnp.dtype(said["dtype"]))


def _unpacked(bits: np.ndarray, num_rows: int) -> np.ndarray:
    return np.unpackbits(bits, axis=1, count=num_rows).astype(bool)


def _history(said: dict[str, Any] | None, arrays: dict[str, np.ndarray]) -> History | None:
    if said is None:
        return None
    fields: dict[str, Any] = {name: arrays[f"uq.history/{name}"] for name in _HISTORY_ARRAYS}
    return History(**said, **fields)
