"""`Model`: two pure functions; and the adapters that make one from Flax (linen, NNX) or from a plain pair.

Knowledge of a framework lives here and nowhere else. Two switches that frameworks usually fuse are kept apart:
randomness is on exactly when a key is given; carried state (BatchNorm averages) changes exactly when
`train=True`. So Monte-Carlo dropout over a BatchNorm network is `apply(variables, x, key=key)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ._checks import InputError
from ._tree import is_key
from ._typing import Array, Key, PyTree

compute_dtype: ContextVar[Any] = ContextVar("compute_dtype", default=None)
"""The dtype NNX layers compute in, where `mixed_precision` asks for one; linen's follow their weights by themselves."""


class Variables(NamedTuple):
    """Everything one network carries."""

    params: PyTree
    """What gradients and posteriors act on."""
    state: PyTree = ()
    """The rest (BatchNorm averages, input statistics); an empty pytree when there is nothing."""


class Init(Protocol):
    """`init(key, x) -> Variables`: fresh variables for example inputs `x`."""

    def __call__(self, key: Key, x: PyTree) -> Variables: ...


class Apply(Protocol):
    """`apply(variables, x, *, key=None, train=False) -> (outputs, state)`."""

    def __call__(
        self, variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False
    ) -> tuple[Array, PyTree]: ...


class Model(NamedTuple):
    """A network as two pure functions. Outputs are `(N, positions…, event)`."""

    init: Init
    apply: Apply


Flags = Callable[..., dict[str, Any]]

_ON_WHEN_TRAINING = ("train", "training", "is_training", "is_train")
_OFF_WHEN_RANDOM = ("deterministic", "inference", "eval", "is_eval")
_OFF_WHEN_TRAINING = ("use_running_average",)


def as_model(network: Any) -> Model:
    """A `Model` from whatever describes one network.

    Args:
      network: a linen module; an NNX constructor `lambda rngs: MLP(..., rngs=rngs)` (or an NNX class whose only
        required argument is `rngs`); a pair `(init, apply)` with `init(key, x) -> params` and
        `apply(params, x) -> outputs`; or a `Model`, returned as it is.
    Returns:
      The `Model`.
    Raises:
      InputError: `network` is none of these; for an NNX instance the message says how to pass its constructor.
    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp
      >>> model = as_model(nn.Dense(2))
      >>> outputs, _ = model.apply(model.init(jax.random.key(0), jnp.ones((3, 4))), jnp.ones((3, 4)))
      >>> outputs.shape
      (3, 2)
    """
    if isinstance(network, Model):
        return network
    if _is_linen(network):
        return from_linen(network)
    if _is_nnx_instance(network):
        return from_nnx(network)  # raises, and says how to pass the constructor
    if isinstance(network, tuple) and len(network) == 2 and all(callable(part) for part in network):
        return from_functions(*network)
    if callable(network):
        names = _parameters(network)
        if "rngs" in names:
            return from_nnx(lambda rngs: network(rngs=rngs))
        if len(names) == 1:
            return from_nnx(network)
    raise InputError(
        "`as_model` expected a linen module, an NNX constructor `lambda rngs: MLP(..., rngs=rngs)` or a pair "
        f"(init, apply), but got {_describe(network)}. For another framework pass "
        "(init, apply) with init(key, x) -> params and apply(params, x) -> outputs."
    )


def _describe(network: Any) -> str:
    if isinstance(network, type):
        return f"the class {network.__name__} (an instance, or a constructor taking `rngs`, is needed)"
    return f"a {type(network).__name__}"


def _parameters(function: Any) -> list[str]:
    try:
        if isinstance(function, type):  # NNX classes hide their own signature behind a metaclass
            return list(inspect.signature(function.__init__).parameters)[1:]  # type: ignore[misc]
        return list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return []


def _is_linen(network: Any) -> bool:
    import flax.linen as nn

    return isinstance(network, nn.Module)


def _is_nnx_instance(network: Any) -> bool:
    # `flax.nnx` is slow to import; an NNX module cannot exist before something has imported it.
    import sys

    nnx = sys.modules.get("flax.nnx")
    return nnx is not None and isinstance(network, nnx.Module)


def from_functions(init: Callable[..., PyTree], apply: Callable[..., Array]) -> Model:
    """A `Model` from `init(key, x) -> params` and `apply(params, x) -> outputs`, without state or randomness.

    Example:
      >>> import jax.numpy as jnp
      >>> model = from_functions(lambda key, x: {"w": jnp.ones((x.shape[-1], 1))}, lambda p, x: x @ p["w"])
    """

    def model_init(key: Key, x: PyTree) -> Variables:
        return Variables(init(key, x), ())

    def model_apply(
        variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False
    ) -> tuple[Array, PyTree]:
        del key, train
        return apply(variables.params, x), variables.state

    return Model(model_init, model_apply)


def _streams(key: Key, names: tuple[str, ...]) -> dict[str, Key]:
    """One key a stream. The first keeps `key` itself, so that weights equal those of `module.init(key, x)`."""
    return {name: key if i == 0 else jax.random.fold_in(key, i) for i, name in enumerate(names)}


def from_linen(module: Any, *, flags: Flags | None = None) -> Model:
    """A `Model` from a linen module.

    Every collection but `"params"` becomes carried state. Linen has no convention for switching dropout and
    BatchNorm between training and evaluation: the common argument names (`train`, `training`, `deterministic`,
    `use_running_average`, …) are found in the signature of `__call__`, and calls of `Dropout`, `BatchNorm` and
    attention inside are made to obey their own switch even where the module fuses the two.

    Args:
      module: a linen module, called with the inputs as its one positional argument.
      flags: `flags(train=, stochastic=) -> dict` of keywords for `__call__`, where the names above do not do.
    Raises:
      InputError: `__call__` has a required argument that is not recognised and `flags` is not given.
    """
    import flax.linen as nn

    flags = flags or _find_flags(module)

    def run(method: Callable[..., Any], *args: Any, train: bool, stochastic: bool, **kwargs: Any) -> Any:
        with nn.intercept_methods(_obey(train=train, stochastic=stochastic)):
            return method(*args, **kwargs, **flags(train=train, stochastic=stochastic))

    def init(key: Key, x: PyTree) -> Variables:
        rngs = _streams(key, ("params", "dropout"))
        collections = dict(run(module.init, rngs, x, train=False, stochastic=False))
        # Sown values are tuples: what a call tells, not what the network carries.
        collections = {name: part for name, part in collections.items() if not _is_sown(part)}
        return Variables(collections.pop("params", {}), collections)

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        # A stream that is asked for under any other name falls back to "params".
        rngs = None if key is None else _streams(key, ("dropout", "params"))
        carried = dict(variables.state)
        outputs, updated = run(
            module.apply,
            {"params": variables.params, **carried},
            x,
            train=train,
            stochastic=key is not None,
            rngs=rngs,
            mutable=list(carried) if train else [],
        )
        return outputs, _as_before({**carried, **updated}, carried) if carried else variables.state

    return Model(init, apply)


def _as_before(new: PyTree, old: PyTree) -> PyTree:
    """`new` in the dtypes of `old`: averages of float64 inputs are kept as they began."""
    same = str(jax.tree.structure(new)) == str(jax.tree.structure(old))
    return jax.tree.map(lambda now, was: now.astype(was.dtype), new, old) if same else new


def _is_sown(collection: PyTree) -> bool:
    nodes = jax.tree.leaves(collection, is_leaf=lambda node: isinstance(node, tuple))
    return bool(nodes) and all(isinstance(node, tuple) for node in nodes)


def _find_flags(module: Any) -> Flags:
    """The module's own names for the two switches, read from the signature of `__call__`."""
    parameters = list(inspect.signature(type(module).__call__).parameters.values())[2:]
    names = {p.name for p in parameters}
    known = (*_ON_WHEN_TRAINING, *_OFF_WHEN_RANDOM, *_OFF_WHEN_TRAINING)
    required = [
        p.name
        for p in parameters
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in known
    ]
    if required:
        raise InputError(
            f"{type(module).__name__}.__call__ requires `{required[0]}`, which `uq` does not know. Say what to pass: "
            f"uq.from_linen(module, flags=lambda *, train, stochastic: {{{required[0]!r}: train}})."
        )

    def flags(*, train: bool, stochastic: bool) -> dict[str, bool]:
        values = {name: train or stochastic for name in _ON_WHEN_TRAINING}
        values |= {name: not (train or stochastic) for name in _OFF_WHEN_RANDOM}
        values |= {name: not train for name in _OFF_WHEN_TRAINING}
        return {name: value for name, value in values.items() if name in names}

    return flags


def _obey(*, train: bool, stochastic: bool) -> Callable[..., Any]:
    """An interceptor that sets the switch of each Dropout, BatchNorm and attention layer from ours."""
    import flax.linen as nn

    switches: tuple[tuple[type, str, int | None, bool], ...] = (
        (nn.Dropout, "deterministic", 1, not stochastic),
        (nn.BatchNorm, "use_running_average", 1, not train),
        (nn.MultiHeadDotProductAttention, "deterministic", None, not stochastic),
        (nn.SpectralNorm, "update_stats", None, train),
    )

    def interceptor(call: Callable[..., Any], args: tuple, kwargs: dict, context: Any) -> Any:
        if context.method_name == "__call__":
            for layer, name, position, value in switches:
                if isinstance(context.module, layer):
                    return _switched(call, args, kwargs, context.module, name, position, value)
        return call(*args, **kwargs)

    return interceptor


def _switched(
    call: Callable[..., Any], args: tuple, kwargs: dict, module: Any, name: str, position: int | None, value: bool
) -> Any:
    if position is not None and len(args) > position:
        args = (*args[:position], value, *args[position + 1 :])
    else:
        kwargs = {**kwargs, name: value}
    # Linen refuses a switch given both as attribute and as argument: the attribute steps aside for this call.
    attribute = getattr(module, name, None)
    object.__setattr__(module, name, None)
    try:
        return call(*args, **kwargs)
    finally:
        object.__setattr__(module, name, attribute)


def from_nnx(make: Callable[..., Any]) -> Model:
    """A `Model` from an NNX constructor.

    Args:
      make: `make(rngs) -> nnx.Module`. A constructor, because an instance has already drawn its weights and
        cannot be re-initialised into K members.
    Raises:
      InputError: `make` is an instance.
    Example:
      >>> from flax import nnx
      >>> model = from_nnx(lambda rngs: nnx.Linear(4, 2, rngs=rngs))
    """
    from flax import nnx

    if isinstance(make, nnx.Module):
        raise InputError(
            f"Expected a constructor, but got a {type(make).__name__} that has already drawn its weights: K members "
            f"cannot be made from it. Pass `lambda rngs: {type(make).__name__}(..., rngs=rngs)`."
        )

    def build(key: Key) -> Any:
        return make(nnx.Rngs(**_streams(key, ("params", "dropout"))))

    def split(module: Any) -> tuple[Any, ...]:
        return nnx.split(module, nnx.Param, nnx.RngState, ...)

    graphdef, _, abstract_rngs, abstract_state = split(nnx.eval_shape(build, jax.random.key(0)))

    def tags() -> tuple[str, ...]:
        """The names of the random streams the module holds."""
        found = (getattr(v, "tag", None) for v in jax.tree.leaves(abstract_rngs, is_leaf=lambda v: hasattr(v, "tag")))
        return tuple(sorted({tag for tag in found if isinstance(tag, str)}))

    def blank(leaf: Any) -> Any:
        if is_key(leaf):
            return jnp.broadcast_to(jax.random.key(0), leaf.shape)
        return jnp.zeros(leaf.shape, leaf.dtype)

    def init(key: Key, x: PyTree) -> Variables:
        del x
        _, params, _, state = split(build(key))
        return Variables(params, state)

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        empty = not jax.tree.leaves(variables.state)  # `()` where bare parameters were given
        carried = abstract_state if empty else variables.state
        rngs = jax.tree.map(blank, abstract_rngs)
        module = nnx.merge(graphdef, variables.params, rngs, carried, copy=True)
        module.set_attributes(deterministic=key is None, use_running_average=not train, raise_if_not_found=False)
        if compute_dtype.get() is not None:  # else the averages of a BatchNorm widen what follows
            module.set_attributes(dtype=compute_dtype.get(), raise_if_not_found=False)
        names = tags()
        if key is not None and names:
            nnx.reseed(module, **_streams(key, names))
        outputs = module(x)
        return outputs, split(module)[3] if train and not empty else variables.state

    return Model(init, apply)
