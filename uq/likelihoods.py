"""Likelihoods: the only place that knows what raw network outputs mean.

A likelihood turns outputs `(…, width)` into a distribution. Free parameters that do not depend on the input (one
shared noise scale) are leaves beside the network's own, one set a member: `attach` appends them to the outputs as
extra columns, so that everything downstream sees outputs alone. `transformed` carries a change of units of the
target exactly, by change of variables.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from ._checks import InputError, check_count, check_finite, is_concrete
from ._typing import Array, ArrayLike, Key, PyTree
from .model import Model, Variables

_LOG_2PI = math.log(2 * math.pi)


@runtime_checkable
class Likelihood(Protocol):
    """What raw outputs mean.

    `task` is "regression", "binary" or "multiclass". `width` is the number of outputs a network must have for one
    example (None: any), and `free` how many shared parameters `attach` appends to them.
    """

    @property
    def task(self) -> str: ...

    @property
    def width(self) -> int | None: ...

    @property
    def free(self) -> int: ...

    def log_prob(self, outputs: Array, y: Array) -> Array:
        """Log-density of `y` under `outputs` `(…, width + free)`, in nats, `(…,)`."""

    def distribution(self, outputs: Array) -> Any:
        """The numpyro distribution with batch shape `outputs.shape[:-1]`."""

    def check(self, y: Any) -> Any:
        """`y` in its canonical shape and dtype, after checking concrete values."""


@dataclass(frozen=True)
class Gaussian:
    """Normal with learned mean and variance, one or several outputs with independent noise.

    The network gives, for D outputs, D means and then D raw scales; `scale = softplus(raw) + min_scale`.

    Args:
      num_outputs: D. With 1, `y` is `(N,)` and outputs are `(N, 2)`; otherwise `(N, D)` and `(N, 2·D)`.
      min_scale: floor of the standard deviation in the units the network is trained in (after `fit` has
        standardised the target, a fraction of its standard deviation). Without a floor the density of a discrete
        or duplicated target can be driven to infinity.
    References:
      nix1994, eq. 5; lakshminarayanan2017, eq. 1. Checked against scipy.stats.norm.
    """

    num_outputs: int = 1
    min_scale: float = 1e-3
    task: ClassVar[str] = "regression"
    free: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_gaussian(self.num_outputs, self.min_scale)

    @property
    def width(self) -> int:
        return 2 * self.num_outputs

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, `(…,)` for one output and `(…, D)` for several."""
        mean, raw = outputs[..., : self.num_outputs], outputs[..., self.num_outputs :]
        scale = jax.nn.softplus(raw) + self.min_scale
        return (mean[..., 0], scale[..., 0]) if self.num_outputs == 1 else (mean, scale)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return _normal_log_prob(*self.parameters(outputs), y, self.num_outputs)

    def distribution(self, outputs: Array) -> Any:
        return _normal(*self.parameters(outputs), self.num_outputs)

    def check(self, y: Any) -> Any:
        return _check_real(y, self.num_outputs, "Gaussian")


@dataclass(frozen=True)
class HomoscedasticGaussian:
    """Normal with a learned mean and one shared variance a member (and output): the network gives means alone.

    Args:
      num_outputs: D; the network has D outputs.
      min_scale: floor of the standard deviation, as for `Gaussian`.
    References:
      bishop2006, eq. 5.12. Checked against scipy.stats.norm.
    """

    num_outputs: int = 1
    min_scale: float = 1e-3
    task: ClassVar[str] = "regression"

    def __post_init__(self) -> None:
        _check_gaussian(self.num_outputs, self.min_scale)

    @property
    def width(self) -> int:
        return self.num_outputs

    @property
    def free(self) -> int:
        return self.num_outputs

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, `(…,)` for one output and `(…, D)` for several."""
        return Gaussian(self.num_outputs, self.min_scale).parameters(outputs)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return _normal_log_prob(*self.parameters(outputs), y, self.num_outputs)

    def distribution(self, outputs: Array) -> Any:
        return _normal(*self.parameters(outputs), self.num_outputs)

    def check(self, y: Any) -> Any:
        return _check_real(y, self.num_outputs, "HomoscedasticGaussian")


@dataclass(frozen=True)
class Categorical:
    """One of C classes from C logits; `y` holds labels 0 … C−1.

    Args:
      num_classes: C; the network has C outputs.
    References:
      bishop2006, eq. 4.108. Checked against scipy.special.log_softmax.
    """

    num_classes: int
    task: ClassVar[str] = "multiclass"
    free: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_count("num_classes", self.num_classes, least=2)

    @property
    def width(self) -> int:
        return self.num_classes

    def log_prob(self, outputs: Array, y: Array) -> Array:
        logits = jax.nn.log_softmax(outputs, axis=-1)
        labels = jnp.broadcast_to(y, logits.shape[:-1])
        return jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.Categorical(logits=outputs, validate_args=False)

    def check(self, y: Any) -> Any:
        return _check_labels(y, self.num_classes, f"Categorical({self.num_classes})")


@dataclass(frozen=True)
class Bernoulli:
    """Yes or no from one logit; `y` holds 0 and 1.

    References:
      bishop2006, eq. 4.90. Checked against scipy.special.log_expit.
    """

    task: ClassVar[str] = "binary"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 1

    def log_prob(self, outputs: Array, y: Array) -> Array:
        logit = outputs[..., 0]
        return jax.nn.log_sigmoid(jnp.where(y == 1, logit, -logit))

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.Bernoulli(logits=outputs[..., 0], validate_args=False)

    def check(self, y: Any) -> Any:
        return _check_labels(y, 2, "Bernoulli")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Transformed:
    """A likelihood for `z` as one for `y = loc + scale · z`, exactly: densities carry the Jacobian.

    `loc` and `scale` are kept in float64 where they are concrete: a target of 10⁶ ± 1 loses nothing. Make it with
    `transformed`.
    """

    base: Any = field(metadata={"static": True})
    loc: ArrayLike
    scale: ArrayLike

    @property
    def task(self) -> str:
        return self.base.task

    @property
    def width(self) -> int | None:
        return self.base.width

    @property
    def free(self) -> int:
        return self.base.free

    def to_base(self, y: ArrayLike) -> Array:
        """`z` for `y`; in float64 on the host where both are concrete."""
        if is_concrete((y, self.loc, self.scale)):
            z = (np.asarray(y, np.float64) - np.asarray(self.loc)) / np.asarray(self.scale)
            return jnp.asarray(z, jnp.result_type(float))
        return (jnp.asarray(y, jnp.result_type(float)) - self._loc) / self._scale

    @property
    def _loc(self) -> Array:
        return jnp.asarray(self.loc, jnp.result_type(float))

    @property
    def _scale(self) -> Array:
        return jnp.asarray(self.scale, jnp.result_type(float))

    @property
    def log_jacobian(self) -> Array:
        """log |dy/dz|, summed over outputs; in float64 on the host where the scale is concrete."""
        if is_concrete(self.scale):
            return jnp.asarray(np.log(np.asarray(self.scale, np.float64)).sum(), jnp.result_type(float))
        return jnp.sum(jnp.log(self._scale))

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return self.base.log_prob(outputs, self.to_base(y)) - self.log_jacobian

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        base = self.base.distribution(outputs)
        if isinstance(base, dist.Normal):
            return dist.Normal(self._loc + self._scale * base.loc, self._scale * base.scale, validate_args=False)
        if isinstance(base, dist.Independent) and isinstance(base.base_dist, dist.Normal):
            inner = base.base_dist
            shifted = dist.Normal(self._loc + self._scale * inner.loc, self._scale * inner.scale, validate_args=False)
            return shifted.to_event(1)
        affine = dist.transforms.AffineTransform(self._loc, self._scale)
        return dist.TransformedDistribution(base, affine, validate_args=False)

    def check(self, y: Any) -> Any:
        return self.base.check(y)


def transformed(likelihood: Likelihood, loc: ArrayLike, scale: ArrayLike) -> Transformed:
    """The likelihood of `y = loc + scale · z`, given that of `z`; both scalars or `(D,)`.

    Raises:
      InputError: a scale that is not positive and finite.
    """
    if is_concrete((loc, scale)):
        loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
        if not (np.all(np.isfinite(loc)) and np.all(np.isfinite(scale)) and np.all(scale > 0)):
            raise InputError(f"`transformed` expected a finite loc and a positive scale, but got {loc} and {scale}.")
    if isinstance(likelihood, Transformed):  # two changes of units are one
        loc, scale = loc + scale * likelihood.loc, scale * likelihood.scale
        likelihood = likelihood.base
    return Transformed(likelihood, loc, scale)


def attach(model: Model, likelihood: Likelihood) -> Model:
    """The model whose outputs carry the likelihood's free parameters as extra columns.

    Parameters become `{"network": …, "likelihood": (free,)}`. Without free parameters they are unchanged, and the
    outputs of a network of width 1 get their event axis where it leaves it out.
    """
    _check_likelihood(likelihood)
    if not likelihood.free:
        return _with_columns(model, likelihood) if likelihood.width == 1 else model

    def init(key: Key, x: PyTree) -> Variables:
        variables = model.init(key, x)
        return Variables({"network": variables.params, "likelihood": jnp.zeros(likelihood.free)}, variables.state)

    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        inner = Variables(variables.params["network"], variables.state)
        outputs, state = model.apply(inner, x, key=key, train=train)
        outputs = columns(outputs, likelihood)
        check_width(likelihood, outputs.shape, outputs.shape[0] if outputs.ndim else 0)
        extra = variables.params["likelihood"].astype(outputs.dtype)
        return jnp.concatenate([outputs, jnp.broadcast_to(extra, (*outputs.shape[:-1], extra.size))], -1), state

    return Model(init, apply)


def _check_likelihood(likelihood: Any) -> None:
    if isinstance(likelihood, type):
        raise InputError(
            f"Expected a likelihood, but got the class {likelihood.__name__}: write {likelihood.__name__}(…)."
        )
    if not isinstance(likelihood, Likelihood):
        raise InputError(f"Expected a likelihood, such as uq.likelihoods.Gaussian(), but got {likelihood!r}.")
    try:
        hash(likelihood.base if isinstance(likelihood, Transformed) else likelihood)
    except TypeError:
        raise InputError(
            f"The likelihood {type(likelihood).__name__} cannot be hashed, and so not be compiled for; make it a "
            "frozen dataclass."
        ) from None


def _with_columns(model: Model, likelihood: Likelihood) -> Model:
    def apply(variables: Variables, x: PyTree, *, key: Key | None = None, train: bool = False) -> tuple[Array, PyTree]:
        outputs, state = model.apply(variables, x, key=key, train=train)
        return columns(outputs, likelihood), state

    return Model(model.init, apply)


def columns(outputs: Array, likelihood: Likelihood) -> Array:
    """Outputs with their event axis: a network of width 1 may leave it out."""
    return outputs[..., None] if likelihood.width == 1 and outputs.ndim == 1 else outputs


def check_width(likelihood: Likelihood, shape: tuple[int, ...], num_examples: int) -> None:
    """Raise unless network outputs of `shape` fit the likelihood; the message says which width it wants."""
    width = likelihood.width
    if width is None:
        return
    if shape == (num_examples,) and width == 1:
        return
    if len(shape) >= 2 and shape[0] == num_examples and shape[-1] == width:
        return
    raise InputError(
        f"{_name(likelihood)} expected network outputs of shape (N, {width}), that is {width} "
        f"output{'s' if width > 1 else ''} an example, but the network gives {('N', *shape[1:]) if shape else ()}. "
        f"Make its last layer {width} wide."
    )


def _check_gaussian(num_outputs: Any, min_scale: Any) -> None:
    check_count("num_outputs", num_outputs)
    if not isinstance(min_scale, int | float) or not 0 <= min_scale < math.inf:
        raise InputError(f"`min_scale` expected a standard deviation of at least 0, but it is {min_scale!r}.")


def _name(likelihood: Any) -> str:
    return repr(likelihood.base if isinstance(likelihood, Transformed) else likelihood)


def _normal_log_prob(mean: Array, scale: Array, y: Array, num_outputs: int) -> Array:
    log_prob = -0.5 * jnp.square((y - mean) / scale) - jnp.log(scale) - 0.5 * _LOG_2PI
    return log_prob if num_outputs == 1 else log_prob.sum(-1)


def _normal(mean: Array, scale: Array, num_outputs: int) -> Any:
    import numpyro.distributions as dist

    normal = dist.Normal(mean, scale, validate_args=False)
    return normal if num_outputs == 1 else normal.to_event(1)


def _check_real(y: Any, num_outputs: int, name: str) -> Any:
    """Targets as `(N,)` or `(N, D)`, finite."""
    if not isinstance(y, jax.Array):
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            raise InputError(f"`y` expected numbers for {name}, but its dtype is {y.dtype}.")
    if num_outputs == 1:
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim == 2:
            raise InputError(
                f"{name} expected targets of shape (N,), but `y` has shape {y.shape}: several outputs need "
                f"uq.likelihoods.{name}(num_outputs={y.shape[1]})."
            )
    elif y.ndim == 0 or y.shape[-1] != num_outputs:
        raise InputError(f"{name}({num_outputs}) expected targets of shape (N, {num_outputs}), but got {y.shape}.")
    check_finite("y", y)
    return y


def _check_labels(y: Any, num_classes: int, name: str) -> Any:
    """Labels as int32 `(N,)`, all of them in range."""
    if not is_concrete(y):
        return y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    elif y.ndim == 2 and y.shape[1] == num_classes and set(np.unique(y)) <= {0, 1} and (y.sum(1) == 1).all():
        raise InputError(f"{name} expected labels of shape (N,), but `y` looks one-hot: pass y.argmax(1).")
    if y.dtype.kind not in "biuf":
        raise InputError(f"{name} expected whole-number labels, but the dtype of `y` is {y.dtype}: encode them first.")
    check_finite("y", y)
    wrong: Any = np.flatnonzero((y != np.round(y.astype(np.float64))).reshape(len(y), -1).any(1)) if y.ndim else []
    if len(wrong):
        raise InputError(f"{name} expected whole-number labels, but row {wrong[0]} of `y` is {y[wrong[0]]}.")
    outside: Any = np.flatnonzero(((y < 0) | (y >= num_classes)).reshape(len(y), -1).any(1)) if y.ndim else []
    if len(outside):
        raise InputError(
            f"{name} expected labels 0 to {num_classes - 1}, but row {outside[0]} of `y` is {y[outside[0]]}."
        )
    return y.astype(np.int32)


REGISTER: dict[str, Callable[..., Any]] = {
    "Gaussian": Gaussian,
    "HomoscedasticGaussian": HomoscedasticGaussian,
    "Categorical": Categorical,
    "Bernoulli": Bernoulli,
}
"""Likelihoods that a saved file may name."""
