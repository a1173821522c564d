"""numpyro distributions that numpyro lacks, and changes of units of those it has. Imported when first needed."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from .._typing import Array, ArrayLike
from ..laws.censored import CENSORED
from ..laws.interpolated import INTERPOLATED


class CensoredNormal(dist.Distribution):
    """A normal clipped to [low, high]: a density between, a probability at each end (infinite ends have none).

    The support is said to be the whole line, since numpyro mixes no distributions whose support depends on parameters.
    """

    support = constraints.real
    arg_constraints = {  # noqa: RUF012
        "loc": constraints.real,
        "scale": constraints.positive,
        "low": constraints.dependent(is_discrete=False, event_dim=0),
        "high": constraints.dependent(is_discrete=False, event_dim=0),
    }
    reparametrized_params = ["loc", "scale", "low", "high"]  # noqa: RUF012
    pytree_data_fields = ("loc", "scale", "low", "high")

    def __init__(self, loc: Any, scale: Any, low: ArrayLike, high: ArrayLike) -> None:
        self.loc, self.scale = jnp.asarray(loc), jnp.asarray(scale)
        self.low, self.high = jnp.asarray(low, self.loc.dtype), jnp.asarray(high, self.loc.dtype)
        shape = jnp.broadcast_shapes(self.loc.shape, self.scale.shape, self.low.shape, self.high.shape)
        super().__init__(batch_shape=shape, event_shape=(), validate_args=False)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        noise = jax.random.normal(key, (*sample_shape, *self.batch_shape), self.loc.dtype)
        return jnp.clip(self.loc + self.scale * noise, self.low, self.high)

    def log_prob(self, value: Any) -> Array:
        return CENSORED.log_prob(jnp.asarray(value, self.loc.dtype), *CENSORED.parameters(self))

    def cdf(self, value: Any) -> Array:
        return CENSORED.cdf(jnp.asarray(value, self.loc.dtype), *CENSORED.parameters(self))

    def icdf(self, q: Any) -> Array:
        q = jnp.asarray(q, self.loc.dtype)
        upper = q > 0.5
        return CENSORED.icdf(jnp.where(upper, 1 - q, q), upper, *CENSORED.parameters(self))

    @property
    def mean(self) -> Array:
        return CENSORED.moments(*CENSORED.parameters(self))[0]

    @property
    def variance(self) -> Array:
        return CENSORED.moments(*CENSORED.parameters(self))[1]

    def moved(self, loc: Array, scale: Array) -> CensoredNormal:
        """The distribution of loc + scale · Y."""
        return CensoredNormal(
            loc + scale * self.loc, scale * self.scale, loc + scale * self.low, loc + scale * self.high
        )


class QuantileInterpolation(dist.Distribution):
    """Linear CDF between quantiles `(…, Q)` at fixed levels, exponential tails; see `uq.likelihoods.Quantile`."""

    arg_constraints = {"quantiles": constraints.ordered_vector}  # noqa: RUF012
    support = constraints.real
    reparametrized_params = ["quantiles"]  # noqa: RUF012
    pytree_data_fields = ("quantiles",)
    pytree_aux_fields = ("levels",)

    def __init__(self, quantiles: Any, levels: tuple[float, ...]) -> None:
        self.quantiles, self.levels = jnp.asarray(quantiles), tuple(levels)
        super().__init__(batch_shape=self.quantiles.shape[:-1], event_shape=(), validate_args=False)

    def _call(self, name: str, *args: Any) -> Any:
        parameters = [jnp.asarray(leaf, self.quantiles.dtype) for leaf in INTERPOLATED.parameters(self)]
        return getattr(INTERPOLATED, name)(*args, *parameters)

    def sample(self, key: Any, sample_shape: tuple[int, ...] = ()) -> Array:
        shape = (*sample_shape, *self.batch_shape)
        tiny = jnp.finfo(self.quantiles.dtype).tiny
        level = jax.random.uniform(key, shape, self.quantiles.dtype, minval=tiny)
        upper = level > 0.5
        return self._call("icdf", jnp.where(upper, 1 - level, level), upper)

    def log_prob(self, value: Any) -> Array:
        return self._call("log_prob", jnp.asarray(value, self.quantiles.dtype))

    def cdf(self, value: Any) -> Array:
        return self._call("cdf", jnp.asarray(value, self.quantiles.dtype))

    def icdf(self, q: Any) -> Array:
        q = jnp.asarray(q, self.quantiles.dtype)
        return self._call("icdf", jnp.where(q > 0.5, 1 - q, q), q > 0.5)

    @property
    def mean(self) -> Array:
        return self._call("moments")[0]

    @property
    def variance(self) -> Array:
        return self._call("moments")[1]

    def moved(self, loc: Array, scale: Array) -> QuantileInterpolation:
        """The distribution of loc + scale · Y."""
        return QuantileInterpolation(loc + scale * self.quantiles, self.levels)


class FromNewScale(dist.transforms.ParameterFreeTransform):
    """The inverse of a target transform, as numpyro's: from the modelled scale to the target's own."""

    domain = constraints.real
    codomain = constraints.real
    sign = 1

    def __init__(self, change: Any) -> None:
        self.change = change

    def __call__(self, w: Any) -> Any:
        return self.change.inverse(w)

    def _inverse(self, y: Any) -> Any:
        return self.change.forward(y)

    def log_abs_det_jacobian(self, w: Any, y: Any, intermediates: Any = None) -> Any:
        return -self.change.log_derivative(y)

    def tree_flatten(self) -> Any:
        return (), ((), {"change": self.change})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FromNewScale) and self.change == other.change

    def __hash__(self) -> int:
        return hash(self.change)


def moved(d: Any, loc: Array, scale: Array) -> Any:
    """The distribution of loc + scale · Y, of the same family where it has a location and a scale."""
    if isinstance(d, dist.Independent):
        return moved(d.base_dist, loc, scale).to_event(d.reinterpreted_batch_ndims)
    if hasattr(d, "moved"):
        return d.moved(loc, scale)
    if isinstance(d, dist.StudentT):
        return dist.StudentT(d.df, loc + scale * d.loc, scale * d.scale, validate_args=False)
    if type(d) in (dist.Normal, dist.Laplace, dist.Logistic, dist.Gumbel, dist.Cauchy):
        return type(d)(loc + scale * d.loc, scale * d.scale, validate_args=False)
    if isinstance(d, dist.MultivariateNormal):
        scale = jnp.broadcast_to(scale, d.loc.shape[-1:])
        return dist.MultivariateNormal(
            loc + scale * d.loc, scale_tril=scale[:, None] * d.scale_tril, validate_args=False
        )
    if isinstance(d, dist.MixtureSameFamily) and not d.event_shape:
        parts = moved(d.component_distribution, loc, scale)
        return dist.MixtureSameFamily(d.mixing_distribution, parts, validate_args=False)
    return dist.TransformedDistribution(d, dist.transforms.AffineTransform(loc, scale), validate_args=False)


def untransformed(d: Any, change: Any) -> Any:
    """The distribution of the target whose transform is distributed as `d`."""
    from ._transformed import Affine, Log

    if isinstance(change, Affine):
        kind = jnp.result_type(float)
        return moved(d, jnp.asarray(change.loc, kind), jnp.asarray(change.scale, kind))
    if isinstance(d, dist.Independent):
        return untransformed(d.base_dist, change).to_event(d.reinterpreted_batch_ndims)
    if isinstance(d, dist.MixtureSameFamily) and not d.event_shape:
        parts = untransformed(d.component_distribution, change)
        return dist.MixtureSameFamily(d.mixing_distribution, parts, validate_args=False)
    if isinstance(change, Log) and change.shift == 0 and type(d) is dist.Normal:
        return dist.LogNormal(d.loc, d.scale, validate_args=False)
    return dist.TransformedDistribution(d, FromNewScale(change), validate_args=False)
