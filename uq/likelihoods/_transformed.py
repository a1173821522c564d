"""A likelihood for a transformed target as one for the target itself, exactly: densities carry the Jacobian.

`y` goes through the changes in `transforms`, the first first, then `z = (w − loc) / scale`; the base likelihood is
that of `z`. Statistics (`loc`, `scale`) are leaves, so that new ones do not compile again; transforms are settings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from .._typing import Array, ArrayLike
from ._targets import _hold, check_real


@dataclass(frozen=True)
class Log:
    """The target is modelled on the scale of log(y + shift).

    Args:
      shift: added before the logarithm; `y + shift` must be positive.
    References:
      box1964, section 2, with λ = 0.
    """

    shift: float = 0.0

    @property
    def low(self) -> float:
        """Outcomes lie above it."""
        return 0.0 - self.shift

    def forward(self, y: Any, xp: Any = jnp) -> Any:
        return _log(y + self.shift, -math.inf, xp)

    def inverse(self, w: Any, xp: Any = jnp) -> Any:
        return xp.exp(w) - self.shift

    def log_derivative(self, y: Any, xp: Any = jnp) -> Any:
        return -_log(y + self.shift, 0.0, xp)

    def check(self, y: Any) -> Any:
        return _hold(y, lambda v: (v + self.shift > 0).reshape(len(v), -1).all(1), *_above(self.shift, "Log"))


@dataclass(frozen=True)
class BoxCox:
    """The target is modelled on the scale of ((y + shift)^λ − 1) / λ, and of its logarithm for λ = 0.

    For λ > 0 the power continues below −shift with its sign, (sign(u)|u|^λ − 1) / λ: so it maps the line onto the
    line, and a normal on the new scale is a proper density on the old one, with whatever small probability it has
    below −shift stated rather than cut. Targets themselves must lie above −shift.

    Args:
      power: λ ≥ 0. (For λ < 0 the scale ends at −1/λ, and a normal on it is no density of `y`.)
      shift: added before the power.
    References:
      box1964, section 2; bickel1981, section 1 (the sign). Checked against scipy.special.boxcox.
    """

    power: float
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.power, int | float) or not 0 <= self.power < math.inf:
            raise InputError(
                f"BoxCox expected a power of at least 0, but it is {self.power!r}: below 0 the new scale ends, and a "
                "distribution of the whole line on it is none of the target. Use Log(), or model 1/y."
            )

    @property
    def low(self) -> float:
        """Outcomes lie above it."""
        return 0.0 - self.shift if self.power == 0 else -math.inf

    @property
    def kink(self) -> float | None:
        """Where the power changes its sign."""
        return None if self.power in (0, 1) else 0.0 - self.shift

    def forward(self, y: Any, xp: Any = jnp) -> Any:
        u = y + self.shift
        if self.power == 0:
            return _log(u, -math.inf, xp)
        size = xp.log(xp.where(u == 0, 1, xp.abs(u)))
        above = xp.expm1(self.power * size) / self.power
        below = -(xp.exp(self.power * size) + 1) / self.power
        return xp.where(u > 0, above, xp.where(u < 0, below, -1 / self.power))

    def inverse(self, w: Any, xp: Any = jnp) -> Any:
        if self.power == 0:
            return xp.exp(w) - self.shift
        t = 1 + self.power * w
        above = xp.exp(xp.log1p(xp.where(t > 0, self.power * w, 0)) / self.power)
        below = -xp.exp(xp.log(xp.where(t < 0, -t, 1)) / self.power)
        return xp.where(t > 0, above, xp.where(t < 0, below, 0)) - self.shift

    def log_derivative(self, y: Any, xp: Any = jnp) -> Any:
        if self.power == 0:
            return -_log(y + self.shift, 0.0, xp)
        if self.power == 1:
            return 0 * y
        return (self.power - 1) * xp.log(xp.abs(y + self.shift))

    def check(self, y: Any) -> Any:
        return _hold(y, lambda v: (v + self.shift > 0).reshape(len(v), -1).all(1), *_above(self.shift, "BoxCox"))


@dataclass(frozen=True)
class Affine:
    """The target is modelled on the scale of (y − loc) / scale: what `transformed` puts before another transform."""

    loc: float
    scale: float

    def forward(self, y: Any, xp: Any = jnp) -> Any:
        return (y - self.loc) / self.scale

    def inverse(self, w: Any, xp: Any = jnp) -> Any:
        return self.loc + self.scale * w

    def log_derivative(self, y: Any, xp: Any = jnp) -> Any:
        return 0 * y - math.log(self.scale)

    def check(self, y: Any) -> Any:
        return y


def _log(u: Any, otherwise: float, xp: Any) -> Any:
    """log u where u is positive: below its support a law has a distribution function too."""
    inside = u > 0
    return xp.where(inside, xp.log(xp.where(inside, u, 1)), xp.where(xp.isnan(u), u, otherwise))


def _above(shift: float, name: str) -> tuple[str, str]:
    return f"{name} expected targets above {0.0 - shift:g}", "Give a larger `shift`, or use another transform."


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Transformed:
    """A likelihood for `z` as one for `y`, where loc + scale · z is y or a transform of it; `transformed` makes it.

    Densities carry the Jacobian, so that everything downstream is in the units of `y`. `loc` and `scale` are kept in
    float64 where they are concrete: a target of 10⁶ ± 1 loses nothing.
    """

    base: Any = field(metadata={"static": True})
    loc: ArrayLike
    scale: ArrayLike
    transforms: tuple[Any, ...] = field(default=(), metadata={"static": True})

    @property
    def task(self) -> str:
        return self.base.task

    @property
    def width(self) -> int | None:
        return self.base.width

    @property
    def free(self) -> int:
        return self.base.free

    @property
    def num_outputs(self) -> int:
        """D, as of the base."""
        return getattr(self.base, "num_outputs", 1)

    @property
    def linear(self) -> bool:
        """Whether `y` is loc + scale · z and no more."""
        return not self.transforms

    def _host(self, *values: Any) -> bool:
        return is_concrete((*values, self.loc, self.scale))

    def to_base(self, y: ArrayLike) -> Array:
        """`z` for `y`; in float64 on the host where both are concrete."""
        if self._host(y):
            return jnp.asarray(self.host_to_base(y), jnp.result_type(float))
        w = jnp.asarray(y, jnp.result_type(float))
        for change in self.transforms:
            w = change.forward(w)
        return self._at_limits(jnp, (w - self._loc) / self._scale, w)

    def host_to_base(self, y: ArrayLike) -> np.ndarray:
        """`z` for `y` in float64."""
        w = np.asarray(y, np.float64)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            for change in self.transforms:
                w = change.forward(w, np)
        kind = np.float32 if getattr(y, "dtype", None) == np.float32 else np.float64
        return self._at_limits(np, (w - np.asarray(self.loc)) / np.asarray(self.scale), w, kind)

    def _at_limits(self, xp: Any, z: Any, w: Any, kind: Any = None) -> Any:
        """`z`, where a rounding away from a limit of the base, the limit: there outcomes have a probability."""
        if not hasattr(self.base, "at_limit"):
            return z
        scale = xp.asarray(self.scale, z.dtype)
        room = 4 * np.finfo(kind or z.dtype).eps * (xp.abs(w) + xp.abs(xp.asarray(self.loc, z.dtype))) / scale
        for end in (self.base.lower, self.base.upper):
            if end is not None:
                z = xp.where(xp.isfinite(z) & (xp.abs(z - end) <= room), xp.asarray(end, z.dtype), z)
        return z

    def from_base(self, z: ArrayLike) -> Array:
        """`y` for `z`, rising in each output; in float64 on the host where both are concrete."""
        if self._host(z):
            dtype = z.dtype if isinstance(z, jax.Array) else jnp.result_type(float)
            return jnp.asarray(self.host_from_base(z), dtype)
        z = jnp.asarray(z)
        w = jnp.asarray(self.loc, z.dtype) + jnp.asarray(self.scale, z.dtype) * z
        for change in reversed(self.transforms):
            w = change.inverse(w)
        return w

    def host_from_base(self, z: ArrayLike) -> np.ndarray:
        """`y` for `z` in float64."""
        exact = np.asarray(z, np.float64)
        for end in (self.base.lower, self.base.upper) if hasattr(self.base, "at_limit") else ():
            if end is not None:  # a limit as float32 holds it is the limit
                exact = np.where(np.asarray(z) == np.asarray(end, np.asarray(z).dtype), end, exact)
        w = np.asarray(self.loc) + np.asarray(self.scale) * exact
        with np.errstate(over="ignore"):
            for change in reversed(self.transforms):
                w = change.inverse(w, np)
        return w

    @property
    def _loc(self) -> Array:
        return jnp.asarray(self.loc, jnp.result_type(float))

    @property
    def _scale(self) -> Array:
        return jnp.asarray(self.scale, jnp.result_type(float))

    @property
    def log_jacobian(self) -> Array:
        """log |dy/dz| of a linear change, summed over outputs; `log_derivative` for others and at limits."""
        if not self.linear:
            raise InputError(f"log |dy/dz| of {self.transforms} depends on y: use `log_derivative(y)`.")
        if is_concrete(self.scale):
            return jnp.asarray(np.log(np.asarray(self.scale, np.float64)).sum(), jnp.result_type(float))
        return jnp.sum(jnp.log(self._scale))

    def log_derivative(self, y: ArrayLike) -> Array:
        """log |dz/dy| at `y`, summed over outputs: `(…,)`, what a log-density gains; 0 at a limit with probability."""
        host, several = self._host(y), self.num_outputs > 1
        xp: Any = np if host else jnp
        w = np.asarray(y, np.float64) if host else jnp.asarray(y, jnp.result_type(float))
        scale = np.asarray(self.scale, np.float64) if host else self._scale
        total = 0 * w - xp.log(scale)
        with np.errstate(divide="ignore", invalid="ignore"):
            for change in self.transforms:
                total = total + change.log_derivative(w, xp)
                w = change.forward(w, xp)
        total = jnp.asarray(total.sum(-1) if several else total, jnp.result_type(float))
        if hasattr(self.base, "at_limit"):
            total = jnp.where(self.base.at_limit(self.to_base(y)), 0, total)
        return total

    def log_prob(self, outputs: Array, y: Array) -> Array:
        value = self.base.log_prob(outputs, self.to_base(y))
        if self.linear and not hasattr(self.base, "at_limit"):
            return value - self.log_jacobian.astype(value.dtype)
        return value + self.log_derivative(y).astype(value.dtype)

    def distribution(self, outputs: Array) -> Any:
        from ._distributions import moved, untransformed

        law = moved(self.base.distribution(outputs), self._loc, self._scale)
        for change in reversed(self.transforms):
            law = untransformed(law, change)
        return law

    def check(self, y: Any) -> Any:
        if self.linear and not hasattr(self.base, "at_limit"):
            return self.base.check(y)
        y = check_real(y, self.num_outputs, type(self.base).__name__)
        for index, change in enumerate(self.transforms):
            before = y
            if is_concrete(y):
                for earlier in self.transforms[:index]:
                    before = earlier.forward(np.asarray(before, np.float64), np)
            change.check(before)
        if self._host(y):
            try:
                self.base.check(self.host_to_base(y))
            except InputError as error:
                raise InputError(f"{error} (Values are those after the change of the target's units.)") from None
        return y


def transformed(likelihood: Any, change: Any, scale: ArrayLike | None = None) -> Transformed:
    """The likelihood of `y`, given that of `z`, where y = loc + scale · z, or where z is a transform of y.

    Args:
      likelihood: of `z`.
      change: `loc`, a scalar or `(D,)`, with `scale`; or a transform: `Log()` or `BoxCox(power)`, which need a
        likelihood on the whole line. Changes compose: the last one made is the first that `y` goes through.
      scale: positive, a scalar or `(D,)`.
    Raises:
      InputError: a scale that is not positive and finite; a transform of a target that is not on the whole line.
    Example:
      >>> import jax.numpy as jnp, uq
      >>> kind = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), uq.likelihoods.Log())
      >>> type(kind.distribution(jnp.zeros((3, 2)))).__name__
      'LogNormal'
    """
    if scale is None:
        return _through(likelihood, change)
    loc = change
    if is_concrete((loc, scale)):
        loc, scale = np.asarray(loc, np.float64), np.asarray(scale, np.float64)
        if not (np.all(np.isfinite(loc)) and np.all(np.isfinite(scale)) and np.all(scale > 0)):
            raise InputError(f"`transformed` expected a finite loc and a positive scale, but got {loc} and {scale}.")
    if isinstance(likelihood, Transformed) and likelihood.transforms:
        if not is_concrete((loc, scale)) or np.size(loc) > 1 or np.size(scale) > 1:
            raise InputError(
                "`transformed` expected one concrete loc and scale before another transform; change the units of each "
                "output before training instead."
            )
        return _through(likelihood, Affine(float(np.asarray(loc)), float(np.asarray(scale))))
    if isinstance(likelihood, Transformed):  # two changes of units are one
        loc, scale = loc + scale * likelihood.loc, scale * likelihood.scale
        likelihood = likelihood.base
    return Transformed(likelihood, loc, scale)


def _through(likelihood: Any, change: Any) -> Transformed:
    if not all(hasattr(change, name) for name in ("forward", "inverse", "log_derivative", "check")):
        raise InputError(
            f"`transformed` expected loc and scale, or a transform such as uq.likelihoods.Log(), but got {change!r}."
        )
    if not isinstance(likelihood, Transformed):
        likelihood = Transformed(likelihood, np.float64(0), np.float64(1))
    whole = "affine" if likelihood.base.task == "regression" else "none"
    if getattr(likelihood.base, "standardize", whole) != "affine":
        raise InputError(
            f"{type(change).__name__} maps the target onto the whole line, but {likelihood.base!r} is not a likelihood "
            "of the whole line; use uq.likelihoods.Gaussian() or another that is."
        )
    return replace(likelihood, transforms=(change, *likelihood.transforms))
