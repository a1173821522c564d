"""The functions of `uq.laws` in float64 on the host, by scipy: numpy in, numpy out, nothing compiled.

They take numpyro distributions with concrete parameters (mixtures as well), and frozen scipy distributions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import InputError, is_concrete
from . import _host_scores
from ._family import Family, family_of
from ._host_mixture import Mixture
from ._host_objects import Monotone as Monotone
from ._host_objects import Normal as Normal
from ._host_objects import Truncated as Truncated
from ._host_scipy import sound
from ._quadrature import is_positive


def frozen(d: Any, *, outcome: bool = False) -> Any:
    """A frozen scipy distribution, or an object with its methods, for whatever is given.

    With `outcome`, the law of the outcome itself where `log_prob` is of what was recorded of it.

    Raises:
      InputError: parameters that are being traced, or a family that is not known.
    """
    if hasattr(d, "ppf") and hasattr(d, "isf"):
        return sound(d)
    if type(d).__name__ == "MixtureSameFamily":
        return _split(d, outcome=outcome)
    family, parameters = family_of(d)
    return family.host(*_concrete(family.of_outcome(parameters) if outcome else parameters))


def _concrete(parameters: Any) -> tuple[np.ndarray, ...]:
    if not is_concrete(parameters):
        raise InputError("`uq.laws.host` computes with numbers and cannot run under jit; use `uq.laws` there.")
    return tuple(np.asarray(leaf, np.float64) for leaf in parameters)


def _split(d: Any, *, outcome: bool = False) -> Mixture:
    """A numpyro `MixtureSameFamily`, whose component axis comes last."""
    inner = d.component_distribution
    family, parameters = family_of(inner)
    parameters = family.of_outcome(parameters) if outcome else parameters
    axis = len(inner.batch_shape) - 1
    shape = tuple(inner.batch_shape) + tuple(inner.event_shape)
    (weight, *own) = _concrete((d.mixing_distribution.probs, *parameters))
    moved = [np.moveaxis(np.broadcast_to(leaf, shape), axis, 0) for leaf in own]
    return _mixture(family, moved, np.moveaxis(np.broadcast_to(weight, inner.batch_shape), -1, 0))


def _mixture(family: Family, parameters: Any, weight: np.ndarray) -> Mixture:
    weight = weight.reshape(weight.shape + (1,) * (parameters[0].ndim - weight.ndim))
    dead = np.broadcast_to(weight == 0, parameters[0].shape)
    if dead.any():  # a component of weight 0 becomes a copy of one that counts
        first = np.argmax(~dead, axis=0)[None]
        parameters = [np.where(dead, np.take_along_axis(leaf, first, 0), leaf) for leaf in parameters]

    def mixed(parameters: Any) -> Mixture:
        def make(extra: int) -> Any:
            return family.host(*(leaf.reshape(leaf.shape[0], *(1,) * extra, *leaf.shape[1:]) for leaf in parameters))

        return Mixture(make, weight / weight.sum(0), family.discrete)

    law = mixed(parameters)
    law.positive = is_positive(family, parameters)
    law.mirror = None if family.mirror is None else mixed(family.mirror(*parameters))
    if law.mirror is not None:
        law.mirror.positive = True
    return law


def _components(d: Any, weight: Any, *, outcome: bool = False) -> Mixture:
    """Components of batch shape `(M, …)` with weights `(M,)` or `(M, …)`; `outcome` as in `frozen`."""
    family, parameters = family_of(d)
    parameters = family.of_outcome(parameters) if outcome else parameters
    shape = tuple(d.batch_shape) + tuple(d.event_shape)
    widened = [np.broadcast_to(leaf, shape) for leaf in _concrete(parameters)]
    return _mixture(family, widened, _concrete((weight,))[0])


def _floats(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


def log_prob(d: Any, y: Any) -> Any:
    """Log-density or log-probability at `y`; −inf outside the support."""
    law = frozen(d)
    with np.errstate(all="ignore"):
        return (law.logpdf if hasattr(law, "logpdf") and not _is_discrete(law) else law.logpmf)(_floats(y))


def _is_discrete(law: Any) -> bool:
    return hasattr(getattr(law, "dist", law), "logpmf") and not hasattr(getattr(law, "dist", law), "logpdf")


def cdf(d: Any, y: Any) -> Any:
    """P(Y ≤ y)."""
    return frozen(d).cdf(_floats(y))


def sf(d: Any, y: Any) -> Any:
    """P(Y > y), exact in the upper tail."""
    return frozen(d).sf(_floats(y))


def log_cdf(d: Any, y: Any) -> Any:
    """log P(Y ≤ y)."""
    with np.errstate(divide="ignore"):
        return frozen(d).logcdf(_floats(y))


def log_sf(d: Any, y: Any) -> Any:
    """log P(Y > y)."""
    with np.errstate(divide="ignore"):
        return frozen(d).logsf(_floats(y))


def icdf(d: Any, q: Any) -> Any:
    """The quantile of level `q`; an upper level is looked for from above."""
    law, q = frozen(d), _floats(q)
    if not (q > 0.5).any():
        return law.ppf(q)
    return np.where(q > 0.5, law.isf(1 - q), law.ppf(q))[()] if not _is_discrete(law) else law.ppf(q)


def tail(d: Any, tail: Any, upper: Any) -> Any:
    """The point with probability `tail` below it, or above it where `upper`."""
    law = frozen(d)
    return np.where(upper, law.isf(_floats(tail)), law.ppf(_floats(tail)))[()]


def moments(d: Any) -> tuple[Any, Any]:
    """Mean and variance; inf or nan where they do not exist."""
    law = frozen(d)
    return law.mean(), law.var()


def entropy(d: Any) -> Any:
    """Entropy in nats; differential for continuous families."""
    law = frozen(d, outcome=True)
    name = getattr(getattr(law, "dist", None), "name", "")
    if name == "truncnorm":  # scipy's own cancels in the tails
        return _host_scores.entropy(law)
    if name in ("poisson", "nbinom", "binom"):  # scipy's own stops summing too early where the law is wide
        return _entropy_of_counts(law)
    return law.entropy()


def _entropy_of_counts(law: Any) -> Any:
    """−Σ p log p between the quantiles of 1e-15, in pieces; over very many numbers, by quadrature."""
    low, high = law.ppf(1e-15), law.isf(1e-15)
    length = int(np.max(high - low)) + 1
    if length * np.size(low) > 3e7:
        return _alone(law).entropy()
    rows, total = max(1, 10**6 // np.size(low)), np.zeros(np.shape(low))
    for start in range(0, length, rows):
        k = low + np.arange(start, min(start + rows, length)).reshape(-1, *(1,) * np.ndim(low))
        log_p = law.logpmf(np.where(k <= high, k, -1.0))
        total = total - np.where(log_p > -np.inf, np.exp(log_p) * np.where(log_p > -np.inf, log_p, 0), 0).sum(0)
    return total[()]


def _alone(law: Any) -> Mixture:
    """A frozen scipy distribution of counts as a mixture of one component."""
    leaves = np.broadcast_arrays(*law.args, *law.kwds.values())

    def make(extra: int) -> Any:
        widened = [leaf.reshape(*(1,) * (1 + extra), *leaf.shape) for leaf in leaves]
        return law.dist(*widened[: len(law.args)], **dict(zip(law.kwds, widened[len(law.args) :], strict=True)))

    return Mixture(make, np.ones((1,) * (1 + leaves[0].ndim)), discrete=True)


def crps(d: Any, y: Any) -> Any:
    """Continuous ranked probability score: closed forms where the family has one, else quadrature or summation.

    Example:
      >>> from scipy import stats
      >>> round(float(crps(stats.norm(0.0, 1.0), 0.0)), 6)
      0.233695
    """
    return _host_scores.crps(frozen(d), _floats(y))


def mixture_cdf(d: Any, weight: Any, y: Any) -> Any:
    """P(Y ≤ y) of components `(M, …)` with weights `(M,)` or `(M, …)`."""
    return _components(d, weight).cdf(_floats(y))


def mixture_sf(d: Any, weight: Any, y: Any) -> Any:
    """P(Y > y) of the mixture."""
    return _components(d, weight).sf(_floats(y))


def mixture_log_prob(d: Any, weight: Any, y: Any) -> Any:
    """Log-density or log-probability of the mixture, from its components' distribution (not their densities)."""
    return log_prob(_components(d, weight), y)


def mixture_log_cdf(d: Any, weight: Any, y: Any) -> Any:
    """log P(Y ≤ y) of the mixture."""
    return _components(d, weight).logcdf(_floats(y))


def mixture_log_sf(d: Any, weight: Any, y: Any) -> Any:
    """log P(Y > y) of the mixture."""
    return _components(d, weight).logsf(_floats(y))


def mixture_icdf(d: Any, weight: Any, q: Any) -> Any:
    """The mixture's quantile of level `q`."""
    return icdf(_components(d, weight), q)


def mixture_tail(d: Any, weight: Any, tail: Any, upper: Any) -> Any:
    """The point beyond which the mixture has probability `tail`."""
    mixed = _components(d, weight)
    return np.where(upper, mixed.isf(_floats(tail)), mixed.ppf(_floats(tail)))[()]


def mixture_crps(d: Any, weight: Any, y: Any) -> Any:
    """CRPS of the mixture."""
    return _components(d, weight).crps(_floats(y))


def mixture_entropy(d: Any, weight: Any) -> Any:
    """Entropy of the mixture in nats."""
    return _components(d, weight, outcome=True).entropy()


def mixture_mean(values: Any, weight: Any) -> Any:
    """Weighted mean over the component axis."""
    values, weight = _floats(values), _floats(weight)
    weight = weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))
    return np.where(weight > 0, weight * np.where(weight > 0, values, 0), 0).sum(0)


def mixture_variance(means: Any, weight: Any) -> Any:
    """Variance of component means about their mixture mean, two-pass."""
    return mixture_mean(np.square(_floats(means) - mixture_mean(means, weight)), weight)
