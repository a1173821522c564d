"""Any predictive distribution of numbers, seen through one small interface.

A `Predictive`, a numpyro distribution, a frozen scipy distribution or draws `(M, N, …)` answer the same questions:
`cdf`, `sf`, `log_prob`, `quantile`, `crps`, `mean`, `variance`, `sample`. What they cannot answer they say so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from .. import laws
from .._checks import InputError, is_concrete
from .._typing import Array, Key
from ..laws._family import has_steps
from ..laws._host_scipy import sound
from ..laws.mixture import just_below
from ..likelihoods import Transformed
from ..predictive import Predictive
from . import _inputs
from ._parameters import check_parameters, given, innermost
from ._parameters import is_scipy as is_scipy
from ._parameters import location_scale as location_scale
from ._route import like, on_host, widest

_SMALL = 1 << 15
"""Largest concrete jax array of parameters whose special functions are evaluated by scipy."""


class Forecast(Protocol):
    """Predictive distributions of N outcomes, `(N,)`, or of several outputs marginally, `(N, D)`."""

    shape: tuple[int, ...]
    """Shape of the outcomes."""
    discrete: bool
    """Whether outcomes are whole numbers."""
    steps: bool
    """Whether single outcomes have a probability: of counts, draws, and outcomes clipped at a limit."""

    def check(self, y: Any) -> Any:
        """Outcomes of shape `shape`, numbers, finite."""

    def log_prob(self, y: Any) -> Any:
        """Log-density or log-probability, `(N,)`, joint over outputs."""

    def cdf(self, y: Any) -> Any:
        """P(Y ≤ y), of shape `shape`."""

    def cdf_below(self, y: Any) -> Any:
        """P(Y < y): `cdf` but where single outcomes have a probability."""

    def quantile(self, level: Any) -> Any:
        """`shape` for one level, `(Q, *shape)` for several."""

    def crps(self, y: Any) -> Any:
        """Continuous ranked probability score, of shape `shape`."""

    @property
    def mean(self) -> Any: ...

    @property
    def variance(self) -> Any: ...

    @property
    def covariance(self) -> Any:
        """Covariance of several outputs, `(N, D, D)`."""

    def sample(self, key: Key, num: int) -> Any:
        """Draws `(num, *shape)`."""


def relative(law: Forecast, y: Any) -> tuple[Forecast, Any]:
    """Forecast and outcomes less the shift of the target, where there is one: for scores of differences alone, which
    lose their digits in float32 where targets are 10⁶ ± 1."""
    kind = getattr(getattr(law, "pred", None), "likelihood", None)
    if not isinstance(law, _Mixture) or not isinstance(kind, Transformed) or not kind.linear:
        return law, y
    if is_concrete((y, kind.loc)):
        loc: Any = np.zeros_like(kind.loc)
        y = np.asarray(y, np.float64) - np.asarray(kind.loc)
    else:
        loc, y = 0 * jnp.asarray(kind.loc), jnp.asarray(y) - jnp.asarray(kind.loc, jnp.asarray(y).dtype)
    return _Mixture(law.name, replace(law.pred, likelihood=replace(kind, loc=loc))), y


def forecast(name: str, pred: Any) -> Forecast:
    """What `pred` predicts, as a `Forecast`; raises a sentence for what is none.

    Arrays are draws: `(M, N)` or `(M, N, D)`.
    """
    found: Forecast
    if isinstance(pred, Predictive):
        found = _Mixture(name, _inputs.regression(name, pred))
    elif _inputs.is_distribution(pred):
        found = _Numpyro(name, pred)
    elif is_scipy(pred):
        found = _Scipy(name, pred)
    else:
        found = _Draws(name, pred)
    if 0 in found.shape:
        raise InputError(f"`{name}` expected at least one example, but the predictions have shape {found.shape}.")
    return found


def may_begin(pred: Any, y: Any) -> bool:
    """Whether these are large arrays on a device, of one shape and dtype: then it may compute while the host checks."""
    if not _inputs.is_distribution(pred) or not isinstance(y, jax.Array):
        return False
    arrays = [y, *given(pred)]
    alike = all(isinstance(each, jax.Array) and (each.shape, each.dtype) == (y.shape, y.dtype) for each in arrays)
    if not alike or y.size <= _SMALL or y.shape != pred.batch_shape or not is_concrete(arrays):
        return False
    return bool(jnp.issubdtype(y.dtype, jnp.floating)) and not has_steps(pred)


def is_forecast(pred: Any) -> bool:
    """Whether `pred` is a predictive distribution rather than plain numbers."""
    return isinstance(pred, Predictive) or _inputs.is_distribution(pred) or is_scipy(pred)


class _Mixture:
    """A regression `Predictive`."""

    def __init__(self, name: str, pred: Predictive) -> None:
        self.name, self.pred = name, pred
        self.shape: tuple[int, ...]
        self.shape = (len(pred),) if pred.num_outputs == 1 else (len(pred), pred.num_outputs)
        self.discrete = getattr(pred, "discrete", False)
        self.steps = getattr(pred, "steps", self.discrete)

    def check(self, y: Any) -> Any:
        return self.pred._check_y(y)

    def log_prob(self, y: Any) -> Any:
        return self.pred.log_prob(y)

    def cdf(self, y: Any) -> Any:
        return self.pred.cdf(y)

    def cdf_below(self, y: Any) -> Any:
        return self.pred.cdf_below(y) if self.steps else self.pred.cdf(y)

    def quantile(self, level: Any) -> Any:
        return self.pred.quantile(level)

    def crps(self, y: Any) -> Any:
        return self.pred.crps(y)

    def width(self, level: float) -> Any:
        return self.pred.width(level)

    @property
    def mean(self) -> Any:
        return self.pred.mean

    @property
    def variance(self) -> Any:
        return self.pred.variance

    @property
    def covariance(self) -> Any:
        return _mixture_covariance(self.name, self.pred)

    def sample(self, key: Key, num: int) -> Any:
        return self.pred.sample(key, num)


class _Numpyro:
    """A numpyro distribution, by `uq.laws`: on the host where its parameters are host arrays or small."""

    def __init__(self, name: str, d: Any) -> None:
        check_parameters(name, d)
        self.name, self.d = name, d
        self.shape = tuple(d.batch_shape) + tuple(d.event_shape)
        self.discrete, self.steps = bool(d.support.is_discrete), has_steps(d)

    def check(self, y: Any) -> Any:
        y = _outcomes(self.name, self.shape, y)
        if self.steps and not self.discrete:  # 0.1 in float64 is no outcome of a law that is clipped to float32's 0.1
            kinds = [leaf.dtype for leaf in given(self.d) if jnp.issubdtype(leaf.dtype, jnp.floating)]
            y = y.astype(widest(kinds)) if kinds else y
        classes = _inputs.num_classes(self.d)
        return y if classes is None else _inputs.labels(self.name, y, classes)

    def _law(self, law: str, *values: Any) -> Any:
        """`uq.laws.<law>(d, *values)`, by its float64 twin where everything is better computed on the host."""
        parameters = given(self.d)
        if not _quicker_on_host(jax.tree.leaves(self.d), values):
            # A float64 outcome beside float32 parameters takes their precision.
            kinds = [leaf.dtype for leaf in parameters if _has_jax([leaf]) and jnp.issubdtype(leaf.dtype, jnp.floating)]
            kind = widest(kinds) if kinds else jnp.result_type(float)
            return getattr(laws, law)(self.d, *(jnp.asarray(each, kind) for each in values))
        value = getattr(laws.host, law)(self.d, *(np.asarray(each) for each in values))
        deciding = [leaf for leaf in parameters if _has_jax([leaf])] or [leaf for leaf in parameters if np.ndim(leaf)]
        return like(value, *(deciding or values))

    def log_prob(self, y: Any) -> Any:
        if self.d.event_shape and innermost(self.d).event_shape:
            return self.d.log_prob(jnp.asarray(y, jnp.result_type(float)))  # a joint law: numpyro's own
        value = self._law("log_prob", y)
        outputs = len(self.d.event_shape)  # not the axes beyond the batch: one prediction may serve many outcomes
        return value.sum(tuple(range(-outputs, 0))) if outputs else value

    def cdf(self, y: Any) -> Any:
        return self._law("cdf", y)

    def cdf_below(self, y: Any) -> Any:
        if self.discrete or not self.steps:
            return self._law("cdf", y - 1 if self.discrete else y)
        return self._law("cdf", just_below(y))

    def quantile(self, level: Any) -> Any:
        if _quicker_on_host(jax.tree.leaves(self.d), level):
            return _each_level(lambda q: self._law("icdf", q), level)
        return _each_level(lambda q: laws.icdf(self.d, q), level)  # not rounded first: 1 − 1e-9 keeps its nine digits

    def crps(self, y: Any) -> Any:
        return self._law("crps", y)

    @property
    def mean(self) -> Any:
        return self._law("moments")[0]

    @property
    def variance(self) -> Any:
        return self._law("moments")[1]

    @property
    def covariance(self) -> Any:
        matrix = getattr(self.d, "covariance_matrix", None)
        return _diagonal(self.variance) if matrix is None else matrix

    def sample(self, key: Key, num: int) -> Any:
        return self.d.sample(key, (num,))


class _Scipy:
    """A frozen scipy distribution, in float64 on the host."""

    def __init__(self, name: str, frozen: Any) -> None:
        with np.errstate(invalid="ignore"):
            low, _ = frozen.support()
        if np.isnan(low).any():
            rows = np.flatnonzero(np.isnan(low).reshape(-1))
            raise InputError(
                f"`{name}` expected a {frozen.dist.name} distribution whose parameters are allowed (scales above 0, "
                f"no NaN), but those of row {rows[0]} are not."
            )
        self.name, self.frozen, self.shape = name, sound(frozen), np.shape(low)
        self.discrete = self.steps = hasattr(frozen.dist, "pmf")

    def check(self, y: Any) -> Any:
        y = _outcomes(self.name, self.shape, y)
        if not is_concrete(y):
            raise InputError(
                f"`{self.name}` of a scipy distribution cannot run under jit; pass a numpyro distribution."
            )
        return np.asarray(y, np.float64)

    def log_prob(self, y: Any) -> Any:
        value = np.asarray(laws.host.log_prob(self.frozen, y))
        return value if len(self.shape) < 2 else value.sum(-1)

    def cdf(self, y: Any) -> Any:
        return self.frozen.cdf(y)

    def cdf_below(self, y: Any) -> Any:
        return self.frozen.cdf(y - 1) if self.discrete else self.frozen.cdf(y)

    def quantile(self, level: Any) -> Any:
        return _each_level(self.frozen.ppf, level)

    def crps(self, y: Any) -> Any:
        return laws.host.crps(self.frozen, y)

    @property
    def mean(self) -> Any:
        return np.broadcast_to(self.frozen.mean(), self.shape)

    @property
    def variance(self) -> Any:
        return np.broadcast_to(self.frozen.var(), self.shape)

    @property
    def covariance(self) -> Any:
        return _diagonal(self.variance)

    def sample(self, key: Key, num: int) -> Any:
        seed = np.asarray(jax.random.key_data(key)).ravel()
        return self.frozen.rvs(size=(num, *self.shape), random_state=np.random.default_rng(seed))


class _Draws:
    """Draws `(M, N)` or `(M, N, D)`, as the step function that they are."""

    discrete, steps = False, True

    def __init__(self, name: str, draws: Any) -> None:
        draws = _inputs._array(name, draws)
        if draws.ndim not in (2, 3) or 0 in draws.shape:
            raise InputError(
                f"`{name}` expected a Predictive, a distribution, or draws of shape (M, N) or (M, N, D), but got shape "
                f"{draws.shape}."
            )
        draws = _inputs.floating(_inputs.array(name, "pred", draws))[0]
        self.name, self.draws, self.shape = name, draws, tuple(draws.shape[1:])

    def check(self, y: Any) -> Any:
        return _outcomes(self.name, self.shape, y)

    def log_prob(self, y: Any) -> Any:
        raise InputError(f"`{self.name}` needs a density, which draws do not have: use `crps` or `energy_score`.")

    def cdf(self, y: Any) -> Any:
        return (self.draws <= y).mean(0, dtype=self.draws.dtype)

    def cdf_below(self, y: Any) -> Any:
        return (self.draws < y).mean(0, dtype=self.draws.dtype)

    def quantile(self, level: Any) -> Any:
        """Order statistic ⌈M q⌉: the inverse of the step function."""
        xp = jnp if isinstance(self.draws, jax.Array) else np
        size = self.draws.shape[0]
        rank = np.clip(np.ceil(np.asarray(level, np.float64) * size - 1e-9).astype(int) - 1, 0, size - 1)
        return xp.sort(self.draws, axis=0)[rank]

    def crps(self, y: Any) -> Any:
        from .ensemble_scores import crps_ensemble

        return crps_ensemble(self.draws, y)

    @property
    def mean(self) -> Any:
        return self.draws.mean(0)

    @property
    def variance(self) -> Any:
        return self.draws.var(0)  # two passes: an offset of 10⁶ costs no digits

    @property
    def covariance(self) -> Any:
        gap = self.draws - self.draws.mean(0)
        xp = jnp if isinstance(gap, jax.Array) else np
        return xp.einsum("mnd,mne->nde", gap, gap) / len(gap)

    def sample(self, key: Key, num: int) -> Any:
        chosen = jax.random.randint(key, (num, self.shape[0]), 0, self.draws.shape[0])
        return jnp.asarray(self.draws)[chosen, jnp.arange(self.shape[0])]


def _mixture_covariance(name: str, pred: Predictive) -> Any:
    """Mean of the components' covariances plus the covariance of their means, both about nothing but their centre."""
    known = getattr(pred, "covariance", None)
    if known is not None:
        return known
    mixture = pred.to_numpyro()
    parts = mixture.component_distribution  # components last: (N, M)
    within = getattr(parts, "covariance_matrix", None)
    within = _diagonal(parts.variance) if within is None else within
    weight = jnp.asarray(pred.weight, within.dtype)
    weight = jnp.broadcast_to(weight.T, within.shape[:2])
    gap = parts.mean - jnp.einsum("nm,nmd->nd", weight, parts.mean)[:, None]
    return jnp.einsum("nm,nmde->nde", weight, within) + jnp.einsum("nm,nmd,nme->nde", weight, gap, gap)


def _diagonal(variance: Any) -> Any:
    """Covariance `(N, D, D)` of independent outputs."""
    xp = jnp if isinstance(variance, jax.Array) else np
    return variance[..., None] * xp.eye(variance.shape[-1], dtype=variance.dtype)


def _quicker_on_host(parameters: Any, values: Any) -> bool:
    """Host arrays stay there; of jax arrays only those so small that a compilation would cost more."""
    leaves = jax.tree.leaves((parameters, values))
    return on_host(leaves) and not any(isinstance(leaf, jax.Array) and leaf.size > _SMALL for leaf in leaves)


def _has_jax(parameters: Any) -> bool:
    return any(isinstance(leaf, jax.Array) for leaf in parameters)


def _each_level(function: Any, level: Any) -> Any:
    if np.ndim(level) == 0:
        return function(level)
    values = [function(each) for each in level]
    return jnp.stack(values) if _has_jax(values) else np.stack(values)


def _outcomes(name: str, shape: tuple[int, ...], y: Any) -> Array | np.ndarray:
    """`y` of exactly the shape of the predictions, never broadcast by accident; one prediction may serve them all."""
    y = _inputs.array(name, "y", y)
    if shape and y.ndim == len(shape) + 1 and y.shape[-1] == 1 and y.shape[:-1] == shape:
        y = y[..., 0]
    if shape and y.shape != shape:
        raise InputError(f"`{name}` expected `y` of shape {shape}, that of the predictions, but got {y.shape}.")
    return y
