"""Families of labels 0, 1, …, C − 1: yes or no, categories, ordered grades. Their probabilities and entropy.

A label's distribution function is that of a number: the CRPS of a label is the ranked probability score. Parameters
are logarithms of probabilities, which float32 holds where probabilities underflow.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError
from .._typing import Array
from ._family import Family, register


def class_probs(d: Any) -> Array:
    """Class probabilities, `(…, C)`; `(…, 2)` for yes or no.

    Those of an OrderedLogistic are products, which keep their digits where differences of sigmoids cancel.

    Args:
      d: a numpyro Bernoulli, Categorical or OrderedLogistic distribution.
    Raises:
      InputError: any other distribution.
    Example:
      >>> import numpyro.distributions as dist
      >>> class_probs(dist.Bernoulli(probs=0.25)).tolist()
      [0.75, 0.25]
    """
    import numpyro.distributions as dist

    if isinstance(d, dist.OrderedLogistic):
        return jnp.exp(ordered_log_probs(d.predictor, d.cutpoints))
    if isinstance(d, dist.BernoulliLogits):
        return jnp.stack([jax.nn.sigmoid(-d.logits), jax.nn.sigmoid(d.logits)], -1)
    if isinstance(d, dist.BernoulliProbs):
        return jnp.stack([1 - d.probs, d.probs], -1)
    if isinstance(d, dist.CategoricalLogits):
        return jax.nn.softmax(d.logits, axis=-1)
    if isinstance(d, dist.CategoricalProbs):
        return d.probs
    raise InputError(f"Class probabilities need a categorical or Bernoulli distribution, but got {type(d).__name__}.")


def class_entropy(probs: Array) -> Array:
    """Entropy of class probabilities `(…, C)` in nats; 0·log 0 is 0."""
    positive = probs > 0
    return -jnp.where(positive, probs * jnp.log(jnp.where(positive, probs, 1.0)), 0.0).sum(-1)


def ordered_log_probs(predictor: Any, cutpoints: Any) -> Any:
    """Log-probability of each grade, `(…, C)`, of a predictor `(…,)` and rising cutpoints `(…, C − 1)`.

    σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a − b)): a product, which does not cancel in the tails.
    """
    xp = _kind(predictor, cutpoints)
    gap = cutpoints - xp.asarray(predictor)[..., None]
    below, above = -xp.logaddexp(-gap, 0 * gap), -xp.logaddexp(gap, 0 * gap)
    between = xp.log(-xp.expm1(gap[..., :-1] - gap[..., 1:]))
    middle = below[..., 1:] + above[..., :-1] + between
    return xp.concatenate([below[..., :1], middle, above[..., -1:]], -1)


def _kind(*values: Any) -> Any:
    return jnp if any(isinstance(value, jax.Array) for value in values) else np


def _log(probs: Any) -> Any:
    """log, −inf at 0 with a finite derivative."""
    xp = _kind(probs)
    positive = xp.asarray(probs) > 0
    return xp.where(positive, xp.log(xp.where(positive, probs, 1)), xp.where(xp.isnan(probs), probs, -np.inf))


# Yes or no, by log-probabilities of 0 and of 1


def _bernoulli_parameters(d: Any) -> tuple[Any, Any]:
    if "logits" in type(d).arg_constraints:
        xp = _kind(d.logits)
        zero = xp.zeros_like(d.logits)  # not 0 · logits, which may be infinite
        return -xp.logaddexp(d.logits, zero), -xp.logaddexp(-d.logits, zero)
    return _log(1 - d.probs), _log(d.probs)


def _bernoulli_log_prob(y: Array, no: Array, yes: Array) -> Array:
    return jnp.where(y == 1, yes, jnp.where(y == 0, no, jnp.where(jnp.isnan(y), y, -jnp.inf)))


def _bernoulli_log_cdf(y: Array, no: Array, yes: Array) -> Array:
    return jnp.where(y < 0, -jnp.inf, jnp.where(y >= 1, 0 * y, jnp.where(jnp.isnan(y), y, no)))


def _bernoulli_log_sf(y: Array, no: Array, yes: Array) -> Array:
    return jnp.where(y < 0, 0 * y, jnp.where(y >= 1, -jnp.inf, jnp.where(jnp.isnan(y), y, yes)))


def _bernoulli_icdf(tail: Array, upper: Any, no: Array, yes: Array) -> Array:
    zero = jnp.where(upper, jnp.exp(yes) <= tail, jnp.exp(no) >= tail)
    return jnp.where((tail >= 0) & (tail <= 1), jnp.where(zero, 0, 1).astype(tail.dtype), jnp.nan)


def _bernoulli_crps(y: Array, no: Array, yes: Array) -> Array:
    inside = jnp.clip(y, 0, 1)
    return jnp.abs(y - inside) + inside * jnp.exp(2 * no) + (1 - inside) * jnp.exp(2 * yes)


def _bernoulli_host(no: Any, yes: Any) -> Any:
    from scipy import stats

    from ._host_scipy import sound

    return sound(stats.bernoulli(np.exp(yes)))


BERNOULLI = Family(
    parameters=_bernoulli_parameters,
    log_prob=_bernoulli_log_prob,
    cdf=lambda y, no, yes: jnp.exp(_bernoulli_log_cdf(y, no, yes)),
    sf=lambda y, no, yes: jnp.exp(_bernoulli_log_sf(y, no, yes)),
    log_cdf=_bernoulli_log_cdf,
    log_sf=_bernoulli_log_sf,
    icdf=_bernoulli_icdf,
    moments=lambda no, yes: (jnp.exp(yes), jnp.exp(yes + no)),
    host=_bernoulli_host,
    crps=_bernoulli_crps,
    entropy=lambda no, yes: class_entropy(jnp.exp(jnp.stack([no, yes], -1))),
    discrete=True,
    support=lambda no, yes: (0.0, 1.0),
)


# Categories and grades, by log-probabilities on a trailing axis


def _categorical_parameters(d: Any) -> tuple[Any]:
    if hasattr(d, "cutpoints"):
        return (ordered_log_probs(d.predictor, d.cutpoints),)
    if "logits" in type(d).arg_constraints:
        top = d.logits.max(-1, keepdims=True)
        xp = _kind(d.logits)
        return (d.logits - top - xp.log(xp.exp(d.logits - top).sum(-1, keepdims=True)),)
    return (_log(d.probs),)


def _labels(log_probs: Array) -> Array:
    return jnp.arange(log_probs.shape[-1], dtype=log_probs.dtype)


def _log_sum(log_probs: Array, mask: Array) -> Array:
    """log Σ p over `mask`; −inf where it is empty, with finite derivatives."""
    kept = jnp.where(mask, log_probs, -jnp.inf)
    top = jax.lax.stop_gradient(kept.max(-1, keepdims=True))
    some = top > -jnp.inf
    total = jnp.where(mask, jnp.exp(log_probs - jnp.where(some, top, 0)), 0).sum(-1)
    some = some[..., 0]
    return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + jnp.where(some, top[..., 0], 0), -jnp.inf)


def _categorical_log_prob(y: Array, log_probs: Array) -> Array:
    hit = _labels(log_probs) == y[..., None]
    value = jnp.where(hit, log_probs, 0).sum(-1)
    return jnp.where(hit.any(-1), value, jnp.where(jnp.isnan(y), y, -jnp.inf))


def _categorical_log_cdf(y: Array, log_probs: Array) -> Array:
    value = jnp.minimum(_log_sum(log_probs, _labels(log_probs) <= y[..., None]), 0)
    return jnp.where(y >= log_probs.shape[-1] - 1, 0 * value, jnp.where(jnp.isnan(y), y, value))


def _categorical_log_sf(y: Array, log_probs: Array) -> Array:
    value = jnp.minimum(_log_sum(log_probs, _labels(log_probs) > y[..., None]), 0)
    return jnp.where(y < 0, jnp.zeros_like(value), jnp.where(jnp.isnan(y), y, value))


def _steps(log_probs: Array) -> tuple[Array, Array]:
    """P(Y ≤ c) and P(Y > c) for all labels c but the last."""
    probs = jnp.exp(log_probs)
    return jnp.cumsum(probs, -1)[..., :-1], jnp.cumsum(probs[..., ::-1], -1)[..., ::-1][..., 1:]


def _categorical_icdf(tail: Array, upper: Any, log_probs: Array) -> Array:
    below, above = _steps(log_probs)
    level = tail[..., None]
    missed = jnp.where(jnp.asarray(upper)[..., None], above > level, below < level)
    return jnp.where((tail >= 0) & (tail <= 1), missed.sum(-1).astype(tail.dtype), jnp.nan)


def _categorical_crps(y: Array, log_probs: Array) -> Array:
    below, above = _steps(log_probs)
    share = jnp.clip(y[..., None] - _labels(log_probs)[:-1], 0, 1)
    outside = jnp.abs(y - jnp.clip(y, 0, log_probs.shape[-1] - 1))
    return outside + (share * jnp.square(below) + (1 - share) * jnp.square(above)).sum(-1)


def _categorical_moments(log_probs: Array) -> tuple[Array, Array]:
    probs, labels = jnp.exp(log_probs), _labels(log_probs)
    mean = (probs * labels).sum(-1)
    return mean, (probs * jnp.square(labels - mean[..., None])).sum(-1)


class Labels:
    """Labels of given log-probabilities `(…, C)`, with the methods of a frozen scipy distribution."""

    def __init__(self, log_probs: Any) -> None:
        self.log_probs = np.asarray(log_probs)
        self.labels = np.arange(self.log_probs.shape[-1])

    def _sum(self, mask: Any) -> Any:
        return np.clip(np.where(mask, np.exp(self.log_probs), 0).sum(-1), 0, 1)

    def pmf(self, y: Any) -> Any:
        return self._sum(self.labels == np.asarray(y)[..., None])

    def logpmf(self, y: Any) -> Any:
        hit = self.labels == np.asarray(y)[..., None]
        return np.where(hit.any(-1), np.where(hit, self.log_probs, 0).sum(-1), -np.inf)

    def cdf(self, y: Any) -> Any:
        y = np.asarray(y)
        return np.where(y >= self.labels[-1], 1, self._sum(self.labels <= y[..., None]))

    def sf(self, y: Any) -> Any:
        y = np.asarray(y)
        return np.where(y < 0, 1, self._sum(self.labels > y[..., None]))

    def logcdf(self, y: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(self.cdf(y))

    def logsf(self, y: Any) -> Any:
        with np.errstate(divide="ignore"):
            return np.log(self.sf(y))

    def ppf(self, q: Any) -> Any:
        q = np.asarray(q)
        missed = np.cumsum(np.exp(self.log_probs), -1)[..., :-1] < q[..., None]
        return np.where((q >= 0) & (q <= 1), missed.sum(-1), np.nan)

    def isf(self, q: Any) -> Any:
        q = np.asarray(q)
        above = np.cumsum(np.exp(self.log_probs[..., ::-1]), -1)[..., ::-1][..., 1:]
        return np.where((q >= 0) & (q <= 1), (above > q[..., None]).sum(-1), np.nan)

    def mean(self) -> Any:
        return (np.exp(self.log_probs) * self.labels).sum(-1)

    def var(self) -> Any:
        return (np.exp(self.log_probs) * np.square(self.labels - self.mean()[..., None])).sum(-1)

    def entropy(self) -> Any:
        from scipy.special import entr

        return entr(np.exp(self.log_probs)).sum(-1)


CATEGORICAL = Family(
    parameters=_categorical_parameters,
    log_prob=_categorical_log_prob,
    cdf=lambda y, log_probs: jnp.exp(_categorical_log_cdf(y, log_probs)),
    sf=lambda y, log_probs: jnp.exp(_categorical_log_sf(y, log_probs)),
    log_cdf=_categorical_log_cdf,
    log_sf=_categorical_log_sf,
    icdf=_categorical_icdf,
    moments=_categorical_moments,
    host=Labels,
    crps=_categorical_crps,
    entropy=lambda log_probs: class_entropy(jnp.exp(log_probs)),
    discrete=True,
    support=lambda log_probs: (0.0, log_probs.shape[-1] - 1.0),
)

register("BernoulliProbs", BERNOULLI)
register("BernoulliLogits", BERNOULLI)
register("CategoricalProbs", CATEGORICAL)
register("CategoricalLogits", CATEGORICAL)
