"""Class probabilities out of a mixture and back into one: what recalibrators of classes have in common."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .. import laws
from .._checks import InputError
from .._typing import Array
from ..likelihoods import Bernoulli, Categorical
from ..metrics import _inputs
from ..predictive import Predictive


def log_probs(name: str, pred: Any) -> Array:
    """Log-probabilities of the mixture, `(N, C)`, C = 2 for yes or no; −inf where a class has none.

    Args:
      name: of the recalibrator, for the sentence that says what is wrong.
      pred: a `Predictive` of classes, class probabilities `(N, C)`, P(1) `(N,)`, or a numpyro distribution of classes.
    """
    if isinstance(pred, Predictive):
        pred._needs("binary", "multiclass", what=name)
        return _mixture_log_probs(pred)
    probs = jnp.asarray(_inputs.class_probs(name, pred))
    if probs.ndim == 1:
        probs = jnp.stack([1 - probs, probs], -1)
    return jnp.log(probs)


def _member_log_probs(pred: Predictive) -> Array:
    """`(M, N, C)`, exact also for a probability that rounds to 1."""
    base = pred._base
    outputs = jnp.where(_weight(pred)[..., None] > 0, pred.outputs, 0)
    if hasattr(base, "log_probs"):
        return base.log_probs(outputs)
    return jnp.log(laws.class_probs(base.distribution(outputs)))


def _weight(pred: Predictive) -> Array:
    weight = jnp.asarray(pred.weight)
    return jnp.broadcast_to(weight if weight.ndim == 2 else weight[:, None], pred.outputs.shape[:2])


def _mixture_log_probs(pred: Predictive) -> Array:
    return jax.nn.logsumexp(_member_log_probs(pred), axis=0, b=_weight(pred)[..., None])


def with_log_probs(pred: Any, new: Array) -> Predictive:
    """A `Predictive` whose mixture has log-probabilities `new` `(N, C)`, not necessarily normalised.

    Members stay: of all ways to give the mixture new class probabilities, this is the one that changes the joint law
    of (member, class) least in Kullback–Leibler divergence, which keeps the probability of each member given the class
    (jeffrey1983, chapter 11). The mutual information therefore still tells what members disagree about. Their weights
    become those of an example, `(M, N)`.
    """
    new = jax.nn.log_softmax(new)
    binary = new.shape[-1] == 2 and (not isinstance(pred, Predictive) or pred.task == "binary")
    kind: Any = Bernoulli() if binary else Categorical(new.shape[-1])
    if not isinstance(pred, Predictive) or pred.num_members == 1:
        members, weight = new[None], jnp.ones(1, new.dtype)
    else:
        each = _member_log_probs(pred)
        old = jax.nn.logsumexp(each, axis=0, b=_weight(pred)[..., None])
        joint = jnp.where(jnp.isfinite(each), each + jnp.where(jnp.isfinite(old), new - old, 0), -jnp.inf)
        total = jax.nn.logsumexp(joint, axis=-1)
        weight = _weight(pred) * jnp.exp(total)
        weight = weight / weight.sum(0)
        members = joint - total[..., None]
    outputs = (members[..., 1] - members[..., 0])[..., None] if binary else members
    return Predictive(outputs, kind, weight)


def check_classes(name: str, state_classes: int, found: int) -> None:
    """That predictions have as many classes as those the recalibrator was fitted to."""
    if state_classes != found:
        raise InputError(
            f"`{name}` was fitted to predictions of {state_classes} classes, but these are of {found}. Fit it anew."
        )
