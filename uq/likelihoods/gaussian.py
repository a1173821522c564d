"""Normal noise: independent for each output, of one shared variance, or correlated between outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, check_count
from .._tracing import straight
from .._typing import Array
from ._links import columns_of, positive, raw_of
from ._targets import check_real

_LOG_2PI = math.log(2 * math.pi)


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
    standardize: ClassVar[str] = "affine"
    free: ClassVar[int] = 0

    def __post_init__(self) -> None:
        _check_settings(self.num_outputs, self.min_scale)

    @property
    def width(self) -> int:
        return 2 * self.num_outputs

    @straight
    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, `(…,)` for one output and `(…, D)` for several."""
        outputs = columns_of(self, outputs)
        mean, raw = outputs[..., : self.num_outputs], outputs[..., self.num_outputs :]
        scale = positive(raw, self.min_scale)
        return (mean[..., 0], scale[..., 0]) if self.num_outputs == 1 else (mean, scale)

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of loc + scale · Y what these say of Y."""
        mean, raw = outputs[..., : self.num_outputs], outputs[..., self.num_outputs :]
        wider = scale * positive(raw, self.min_scale)
        return jnp.concatenate([loc + scale * mean, raw_of(wider, self.min_scale)], -1)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return _normal_log_prob(*self.parameters(outputs), y, self.num_outputs)

    def distribution(self, outputs: Array) -> Any:
        return _normal(*self.parameters(outputs), self.num_outputs)

    def check(self, y: Any) -> Any:
        return check_real(y, self.num_outputs, "Gaussian")


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
    standardize: ClassVar[str] = "affine"

    def __post_init__(self) -> None:
        _check_settings(self.num_outputs, self.min_scale)

    @property
    def width(self) -> int:
        return self.num_outputs

    @property
    def free(self) -> int:
        return self.num_outputs

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, `(…,)` for one output and `(…, D)` for several."""
        outputs = columns_of(self, outputs)
        return Gaussian(self.num_outputs, self.min_scale).parameters(outputs)

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of loc + scale · Y what these say of Y."""
        return Gaussian(self.num_outputs, self.min_scale).moved(outputs, loc, scale)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return _normal_log_prob(*self.parameters(outputs), y, self.num_outputs)

    def distribution(self, outputs: Array) -> Any:
        return _normal(*self.parameters(outputs), self.num_outputs)

    def check(self, y: Any) -> Any:
        return check_real(y, self.num_outputs, "HomoscedasticGaussian")


@dataclass(frozen=True)
class FullCovarianceGaussian:
    """Normal over D outputs whose noise is correlated, with a learned covariance for every input.

    The network gives D means μ, D raw scales and D(D−1)/2 entries t (row by row below the diagonal). With
    `s = softplus(raw) + min_scale` and T the unit lower-triangular matrix of t,

        z = diag(1/s) T (y − μ) ~ N(0, I),   Σ = T⁻¹ diag(s²) T⁻ᵀ:

    the Cholesky factor of the covariance is T⁻¹ diag(s). −t are the coefficients of each residual on those before
    it, and s is what remains. No matrix is inverted for the density, so that it is finite at any output.

    Args:
      num_outputs: D, at least 2; `y` is `(N, D)` and outputs `(N, 2·D + D(D−1)/2)`.
      min_scale: floor of s, in the units the network is trained in.
    References:
      pourahmadi1999, section 2 (the parameters). Checked against scipy.stats.multivariate_normal.
    """

    num_outputs: int
    min_scale: float = 1e-3
    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "affine"
    free: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_count("num_outputs", self.num_outputs, least=2)
        _check_settings(self.num_outputs, self.min_scale)

    @property
    def width(self) -> int:
        return 2 * self.num_outputs + self.num_outputs * (self.num_outputs - 1) // 2

    def _whitening(self, outputs: Array) -> tuple[Array, Array, Array]:
        """Means `(…, D)`, innovation scales `(…, D)` and T `(…, D, D)`."""
        outputs = columns_of(self, outputs)
        num = self.num_outputs
        mean, raw, below = outputs[..., :num], outputs[..., num : 2 * num], outputs[..., 2 * num :]
        rows, cols = jnp.tril_indices(num, -1)
        eye = jnp.broadcast_to(jnp.eye(num, dtype=outputs.dtype), (*outputs.shape[:-1], num, num))
        return mean, positive(raw, self.min_scale), eye.at[..., rows, cols].set(below)

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """Mean `(…, D)` and lower Cholesky factor of the covariance `(…, D, D)`."""
        outputs = columns_of(self, outputs)
        mean, scale, unit = self._whitening(outputs)
        eye = jnp.broadcast_to(jnp.eye(self.num_outputs, dtype=outputs.dtype), unit.shape)
        inverse = jax.scipy.linalg.solve_triangular(unit, eye, lower=True, unit_diagonal=True)
        return mean, inverse * scale[..., None, :]

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of loc + scale · Y what these say of Y."""
        num = self.num_outputs
        mean, raw, below = outputs[..., :num], outputs[..., num : 2 * num], outputs[..., 2 * num :]
        scale = jnp.broadcast_to(scale, (num,))
        rows, cols = np.tril_indices(num, -1)
        wider = raw_of(scale * positive(raw, self.min_scale), self.min_scale)
        return jnp.concatenate([loc + scale * mean, wider, below * (scale[rows] / scale[cols])], -1)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        mean, scale, unit = self._whitening(outputs)
        z = (unit * (y - mean)[..., None, :]).sum(-1) / scale
        return (-0.5 * jnp.square(z) - jnp.log(scale) - 0.5 * _LOG_2PI).sum(-1)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        mean, scale_tril = self.parameters(outputs)
        return dist.MultivariateNormal(mean, scale_tril=scale_tril, validate_args=False)

    def check(self, y: Any) -> Any:
        return check_real(y, self.num_outputs, "FullCovarianceGaussian")


def _check_settings(num_outputs: Any, min_scale: Any) -> None:
    check_count("num_outputs", num_outputs)
    if not isinstance(min_scale, int | float) or not 0 <= min_scale < math.inf:
        raise InputError(f"`min_scale` expected a standard deviation of at least 0, but it is {min_scale!r}.")


@straight
def _normal_log_prob(mean: Array, scale: Array, y: Array, num_outputs: int) -> Array:
    log_prob = -0.5 * jnp.square((y - mean) / scale) - jnp.log(scale) - 0.5 * _LOG_2PI
    return log_prob if num_outputs == 1 else log_prob.sum(-1)


def _normal(mean: Array, scale: Array, num_outputs: int) -> Any:
    import numpyro.distributions as dist

    normal = dist.Normal(mean, scale, validate_args=False)
    return normal if num_outputs == 1 else normal.to_event(1)
