"""Class probabilities out of a mixture and back into one: what recalibrators of classes have in common."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .. import laws
from .._checks import InputError, is_concrete
from .._typing import Array
from ..likelihoods import Bernoulli, Categorical
from ..metrics import _inputs
from ..metrics._estimate import check_weight
from ..predictive import Predictive


class Sample(NamedTuple):
    """What a recalibrator of classes is fitted to, on the host; rows of weight 0 are left out."""

    log_probs: np.ndarray
    """Of the mixture, `(N, C)`, float64 of the digits that `apply` will see."""
    labels: np.ndarray
    """`(N,)`, from 0 to C − 1."""
    weight: np.ndarray
    """`(N,)`, positive; 2 counts as two rows."""

    @property
    def num_classes(self) -> int:
        return self.log_probs.shape[1]


def sample(name: str, pred: Any, y: Any, weight: Any = None) -> Sample:
    """Log-probabilities, labels and weights, checked."""
    if not is_concrete((pred, y, weight)):
        raise InputError(f"`{name}` is fitted on the host, and cannot be under jit; its `apply` can.")
    y = y if isinstance(y, jax.Array) else np.asarray(y)
    size = len(pred) if isinstance(pred, Predictive) else None
    live = None
    if weight is not None:
        if size is None:
            size = len(y) if y.ndim else 0
            pred = _inputs.live_rows(name, pred if _inputs.is_distribution(pred) else np.asarray(pred), weight)
        weight = np.asarray(check_weight(name, weight, size), np.float64)
        live = weight > 0
    found = np.asarray(log_probs(name, pred)).astype(np.float64)
    size, num_classes = found.shape
    if size == 0:
        raise InputError(f"`{name}` expected at least one prediction to be fitted to, but got none.")
    if y.ndim == 0 or len(y) != size:
        raise InputError(f"`{name}` expected one label for each of the {size} predictions, but `y` is {y.shape}.")
    if live is None:
        weight = np.ones(size)
    else:
        found, y, weight = found[live], np.asarray(y)[live], weight[live]
    labels = np.asarray(_inputs.labels(name, y, num_classes))
    if labels.ndim != 1:
        raise InputError(f"`{name}` expected labels of shape ({size},), but `y` has shape {y.shape}.")
    if np.isnan(found).any():
        row = np.flatnonzero(np.isnan(found).any(1))[0]
        raise InputError(f"`{name}` expected predictions without NaN, but row {row} holds some. Drop those rows first.")
    return Sample(found, labels, weight)


def needs_every_class(name: str, data: Sample) -> None:
    """Raise where no outcome is of some class: what is learned of it would be that it never comes about."""
    missing = np.flatnonzero(np.bincount(data.labels, minlength=data.num_classes) == 0)
    if len(missing):
        shown = ", ".join(map(str, missing[:6])) + (f" and {len(missing) - 6} more" if len(missing) > 6 else "")
        noun = f"class {shown} is" if len(missing) == 1 else f"classes {shown} are"
        raise InputError(
            f"`{name}` needs outcomes of each of the {data.num_classes} classes, but {noun} absent from the "
            f"{len(data.labels)} rows that it is fitted to. Add some, or use `temperature`, which needs none of them."
        )


def needs_two_classes(name: str, num_classes: int) -> None:
    """Raise unless predictions are of two classes."""
    if num_classes != 2:
        raise InputError(f"`{name}` is for two classes, but these are {num_classes}: use `temperature` or `dirichlet`.")


def check_classes(name: str, state_classes: int, found: int) -> None:
    """That predictions have as many classes as those the recalibrator was fitted to."""
    if state_classes != found:
        raise InputError(
            f"`{name}` was fitted to predictions of {state_classes} classes, but these are of {found}. Fit it anew."
        )


def log_probs(name: str, pred: Any) -> Array:
    """Log-probabilities of the mixture, `(N, C)`, C = 2 for yes or no.

    All are finite: a probability of 0 counts as the smallest number above it that its floating dtype holds (1.4e-45 for
    float32), since a 0 is most often one that underflowed, and no map of the others could mend it.

    Args:
      name: of the recalibrator, for the sentence that says what is wrong.
      pred: a `Predictive` of classes, class probabilities `(N, C)`, P(1) `(N,)`, or a numpyro distribution of classes.
    """
    if isinstance(pred, Predictive):
        pred._needs("binary", "multiclass", what=name)
        _inputs.check_one_each(name, pred)
        return _mixture_log_probs(pred._base, pred.outputs, pred.weight)
    probs = _inputs.class_probs(name, pred)
    if isinstance(probs, jax.Array):
        return _finite(jnp.log(jnp.maximum(probs, 0)))
    with np.errstate(divide="ignore"):
        return jnp.asarray(_finite(np.log(np.maximum(probs, 0))))


def log_odds(log_probs: Array) -> Array:
    """log p − log(1 − p) of every class, `(N, C)`; of the second of two, `(N, 1)`."""
    if log_probs.shape[1] == 2:
        return log_probs[:, 1:] - log_probs[:, :1]
    top = jnp.arange(log_probs.shape[1]) == log_probs.argmax(1)[:, None]
    others = jax.nn.logsumexp(jnp.where(top, -jnp.inf, log_probs), axis=1, keepdims=True)
    return log_probs - jnp.where(top, others, jnp.log1p(-jnp.exp(jnp.where(top, -1, log_probs))))


def with_log_probs(pred: Any, new: Array) -> Predictive:
    """A `Predictive` whose mixture has log-probabilities `new` `(N, C)`, not necessarily normalised.

    Members stay: of all ways to give the mixture new class probabilities, this is the one that changes the joint law
    of (member, class) least in Kullback–Leibler divergence, which keeps the probability of each member given the class
    (Jeffrey's rule). The mutual information therefore still tells what members disagree about. Their weights
    become those of an example, `(M, N)`. A class that no member believes possible is given to all of them alike.

    References:
      jeffrey1983, chapter 11.
    """
    binary = new.shape[-1] == 2 and (not isinstance(pred, Predictive) or pred.task == "binary")
    kind: Any = Bernoulli() if binary else Categorical(new.shape[-1])
    if not isinstance(pred, Predictive) or pred.num_members == 1:
        return Predictive(_alone(new, binary), kind)
    outputs, weight = _reweighted((pred._base, binary), pred.outputs, pred.weight, new)
    return Predictive(outputs, kind, weight)


def _finite(log_probs: Any) -> Any:
    xp: Any = jnp if isinstance(log_probs, jax.Array) else np
    least = float(np.log(np.float64(jnp.finfo(log_probs.dtype).smallest_subnormal)))
    return xp.where(log_probs == -np.inf, xp.asarray(least, log_probs.dtype), log_probs)


def _wide(outputs: Array) -> Array:
    """Half precision as float32."""
    return outputs.astype(jnp.float32) if outputs.dtype.itemsize < 4 else outputs


def _spread(weight: Array, outputs: Array) -> Array:
    """Member weights of every example, `(M, N, 1)`."""
    weight = weight if weight.ndim == 2 else weight[:, None]
    return jnp.broadcast_to(weight, outputs.shape[:2]).astype(outputs.dtype)[..., None]


def _member_log_probs(base: Any, outputs: Array) -> Array:
    """`(…, C)`, exact also for a probability that rounds to 1."""
    if hasattr(base, "log_probs"):
        return base.log_probs(outputs)
    return jnp.log(laws.class_probs(base.distribution(outputs)))


def _member_probs(base: Any, outputs: Array) -> Array:
    """`(…, C)`; what underflows is 0."""
    return jax.nn.softmax(outputs) if isinstance(base, Categorical) else jnp.exp(_member_log_probs(base, outputs))


def _mixed(base: Any, outputs: Array, weight: Array) -> Array:
    """log Σ w p, one member after the other, so that there is memory for many.

    The sum itself, at one exponential a number; where a class is so improbable that some member's probability may have
    underflowed, the sum of logarithms.
    """

    def add(total: Array, member: tuple[Array, Array]) -> tuple[Array, None]:
        outputs, weight = member
        each = _member_probs(base, jnp.where(weight > 0, outputs, 0))
        return total + jnp.where(weight > 0, weight * each, 0), None

    shape = jax.eval_shape(functools.partial(_member_probs, base), outputs[0])
    total, _ = jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), (outputs, weight))
    safe = (total > 1e8 * jnp.finfo(total.dtype).tiny).all()
    return jax.lax.cond(
        safe, lambda total, *_: jnp.log(total), lambda _, *given: _mixed_logs(base, *given), total, outputs, weight
    )


def _mixed_logs(base: Any, outputs: Array, weight: Array) -> Array:
    """`_mixed`, in logarithms throughout."""

    def add(carry: tuple[Array, Array], member: tuple[Array, Array]) -> tuple[Any, None]:
        (top, total), (outputs, weight) = carry, member
        each = jnp.where(weight > 0, _member_log_probs(base, jnp.where(weight > 0, outputs, 0)), -jnp.inf)
        higher = jnp.maximum(top, each)
        known = jnp.where(higher == -jnp.inf, 0, higher)
        return (higher, total * jnp.exp(top - known) + weight * jnp.exp(each - known)), None

    shape = jax.eval_shape(functools.partial(_member_log_probs, base), outputs[0])
    start = jnp.full(shape.shape, -jnp.inf, shape.dtype), jnp.zeros(shape.shape, shape.dtype)
    (top, total), _ = jax.lax.scan(add, start, (outputs, weight))
    return top + jnp.log(total)


@functools.partial(jax.jit, static_argnums=0)
def _mixture_log_probs(base: Any, outputs: Array, weight: Array) -> Array:
    outputs = _wide(outputs)
    return _finite(_mixed(base, outputs, _spread(weight, outputs)))


def _outputs(log_probs: Array, binary: bool) -> Array:
    """What `Bernoulli` or `Categorical` make these log-probabilities of."""
    return (log_probs[..., 1] - log_probs[..., 0])[..., None] if binary else log_probs


@functools.partial(jax.jit, static_argnums=1)
def _alone(new: Array, binary: bool) -> Array:
    return _outputs(jax.nn.log_softmax(new), binary)[None]


@functools.partial(jax.jit, static_argnums=0)
def _reweighted(static: tuple[Any, bool], outputs: Array, weight: Array, new: Array) -> tuple[Array, Array]:
    """Outputs `(M, N, …)` and weights `(M, N)` of members, given the log-probabilities of their mixture."""
    base, binary = static
    outputs, new = _wide(outputs), jax.nn.log_softmax(new)
    weight = _spread(weight, outputs)
    old = _mixed(base, outputs, weight)
    possible = old > -jnp.inf
    change = jnp.where(possible, new - old, new)

    def member(given: tuple[Array, Array]) -> tuple[Array, Array]:
        outputs, weight = given
        each = _member_log_probs(base, jnp.where(weight > 0, outputs, 0))
        joint = jnp.where(possible, each, 0) + change
        total = jax.nn.logsumexp(joint, axis=-1, keepdims=True)
        none = total == -jnp.inf  # a member certain of what has become impossible: its weight is 0
        weight = jnp.where(weight > 0, weight * jnp.exp(total), 0)
        return _outputs(jnp.where(none, new, joint - jnp.where(none, 0, total)), binary), weight

    moved, weight = jax.lax.map(member, (outputs, weight))
    return moved, (weight / weight.sum(0))[..., 0]
