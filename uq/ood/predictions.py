"""Scores of how unusual an input looks, from predictions of classes and their logits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError
from .._typing import Array
from ..likelihoods import Bernoulli, Categorical
from ..metrics import _inputs
from ..metrics.decomposition import _entropies, _entropy_of, member_probs
from ..predictive import Predictive


def max_probability(pred: Any) -> Array:
    """Probability of all classes but the most probable one.

    One minus the largest probability, as the sum of the others, so that predictions which round to 1 keep their order.

    Args:
      pred: a `Predictive` or a numpyro distribution of classes, or class probabilities `(N, C)` or `(N,)`.
    Returns:
      `(N,)`, from 0 to 1 − 1/C.
    Raises:
      InputError: numbers that are not probabilities.
    References:
      hendrycks2017, section 2. Checked against a loop.
    Example:
      >>> import numpy as np
      >>> max_probability(np.array([[0.75, 0.25, 0.0], [0.25, 0.25, 0.5]])).tolist()
      [0.25, 0.5]
    """
    probs = _probs("max_probability", pred)
    return probs.sum(-1, where=jnp.arange(probs.shape[-1]) != probs.argmax(-1)[:, None])


def max_logit(pred: Any) -> Array:
    """Minus the largest logit, averaged over members.

    Unlike the largest probability it falls with the length of the features, which is often shorter for unusual inputs.

    Args:
      pred: a `Predictive` with a Categorical or Bernoulli likelihood (whose logits are then ±½ its own), or logits
        `(N, C)` or `(M, N, C)`.
    Returns:
      `(N,)`.
    Raises:
      InputError: predictions without logits.
    References:
      hendrycks2022, section 3. Checked against a loop.
    Example:
      >>> import numpy as np
      >>> max_logit(np.array([[2.0, -1.0], [0.5, 0.25]])).tolist()
      [-2.0, -0.5]
    """
    logits, weight = _logits("max_logit", pred)
    return -_mean(logits.max(-1), weight)


def energy(pred: Any, *, temperature: float = 1.0) -> Array:
    """−T log Σ_c exp(logit_c / T), averaged over members: minus the unnormalised log-density that logits imply.

    Args:
      pred: as for `max_logit`.
      temperature: T above 0.
    Returns:
      `(N,)`.
    Raises:
      InputError: predictions without logits; a temperature that is not above 0.
    References:
      liu2020, eq. 4. Checked against scipy.special.logsumexp.
    Example:
      >>> import numpy as np
      >>> energy(np.zeros((1, 4))).round(2)
      Array([-1.39], dtype=float32)
    """
    if not (np.ndim(temperature) == 0 and 0 < float(temperature) < np.inf):
        raise InputError(f"`energy` expected `temperature` above 0, but it is {temperature!r}.")
    logits, weight = _logits("energy", pred)
    return -temperature * _mean(jax.nn.logsumexp(logits / temperature, axis=-1), weight)


def entropy(pred: Any) -> Array:
    """Entropy of the predicted probabilities of classes, of the mixture where there are members.

    High where classes overlap as well as where inputs are unusual: it does not tell the two apart.

    Args:
      pred: as for `max_probability`.
    Returns:
      `(N,)`, in nats.
    Raises:
      InputError: numbers that are not probabilities.
    References:
      lakshminarayanan2017, section 3.5. Checked against scipy.stats.entropy.
    Example:
      >>> import numpy as np
      >>> entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).round(2)
      Array([0.  , 0.69], dtype=float32)
    """
    return jnp.maximum(_entropy_of(jnp, _probs("entropy", pred)), 0)


def mutual_information(pred: Any) -> Array:
    """What the members disagree about: entropy of their mixture minus their mean entropy.

    Args:
      pred: a `Predictive` of classes with several members, or member probabilities `(M, N, C)`.
    Returns:
      `(N,)`, in nats; 0 with one member.
    Raises:
      InputError: predictions without members.
    References:
      houlsby2011, eq. 2; depeweg2018. Checked against a loop.
    Example:
      >>> import numpy as np
      >>> mutual_information(np.array([[[1.0, 0.0]], [[0.0, 1.0]]])).round(2)
      Array([0.69], dtype=float32)
    """
    if isinstance(pred, Predictive):
        pred._needs("binary", "multiclass", what="mutual_information")
        return pred.mutual_information
    probs, weight = (jnp.asarray(each) for each in member_probs("mutual_information", pred))
    total, expected = _entropies(jnp, probs, weight)
    return total - expected


def _probs(name: str, pred: Any) -> Array:
    if isinstance(pred, Predictive):
        pred._needs("binary", "multiclass", what=name)
    return jnp.asarray(_inputs.class_probs(name, pred))


def _logits(name: str, pred: Any) -> tuple[Array, Array]:
    """Logits `(M, N, C)` and weights `(M,)` or `(M, N)`."""
    if isinstance(pred, Predictive):
        base = pred._base
        if not isinstance(base, Categorical | Bernoulli):
            raise InputError(f"`{name}` expected logits of classes, but {base!r} has none.")
        weight = jnp.asarray(pred.weight)
        live = weight if weight.ndim == 2 else weight[:, None]
        outputs = jnp.where(live[..., None] > 0, pred.outputs, 0)
        return jnp.concatenate([-outputs / 2, outputs / 2], -1) if isinstance(base, Bernoulli) else outputs, weight
    logits = jnp.asarray(_inputs.array(name, "pred", pred))
    if logits.ndim not in (2, 3):
        raise InputError(f"`{name}` expected logits of shape (N, C) or (M, N, C), but got {logits.shape}.")
    logits = logits.astype(jnp.result_type(float)) if not jnp.issubdtype(logits.dtype, jnp.floating) else logits
    logits = logits if logits.ndim == 3 else logits[None]
    return logits, jnp.full(logits.shape[0], 1 / logits.shape[0], logits.dtype)


def _mean(values: Array, weight: Array) -> Array:
    """Over members."""
    weight = (weight if weight.ndim == 2 else weight[:, None]).astype(values.dtype)
    return (values * weight).sum(0) / weight.sum(0)
