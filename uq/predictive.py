"""`Predictive`: what K networks say about N examples, as the exact mixture of their distributions.

Member outputs are never averaged before a distribution is formed. Members come first, examples second, outputs
last: `(M, N, …)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from . import _member_laws
from ._checks import InputError, check_count, check_level, check_same_length, is_concrete
from ._predictive_checks import check_outputs, check_weight, selection
from ._typing import Array, ArrayLike, Key
from .likelihoods import Transformed, transformed
from .members import as_key


class Interval(NamedTuple):
    """Ends of a central interval; unpacks as `lower, upper`."""

    lower: Array
    """Lower ends, `(N,)` or `(N, D)`, in the units of the target."""
    upper: Array
    """Upper ends."""


@dataclass(frozen=True)
class Predictive:
    """The predictive distribution of each of N examples: a mixture over M member outputs.

    Args:
      outputs: network outputs, `(M, N, …, width)`, with any free parameters of the likelihood appended.
      likelihood: what they mean, in the user's units.
      weight: member weights, `(M,)`, summing to 1; a member of weight 0 (diverged) is inert. None means equal. Or
        weights of every example's own, `(M, N)`, where not all members speak for all examples.

    It is a pytree: it can be passed through `jax.jit`, saved or sharded. `pred[rows]` selects examples.
    """

    outputs: Array
    likelihood: Any
    weight: Array = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        check_outputs(self.outputs, self._base)
        if self.outputs.dtype.itemsize < 4:  # half precision, in which a quantile has three digits
            object.__setattr__(self, "outputs", jnp.asarray(self.outputs, jnp.float32))
        if isinstance(self.weight, list | tuple):
            object.__setattr__(self, "weight", jnp.asarray(self.weight, self.outputs.dtype))
        if self.weight is None:
            size = self.outputs.shape[0]
            object.__setattr__(self, "weight", jnp.full(size, 1 / size, self.outputs.dtype))
        elif is_concrete(self.weight):
            check_weight(np.asarray(self.weight), self.outputs.shape[:2])

    # Shape

    @property
    def num_members(self) -> int:
        """M."""
        return self.outputs.shape[0]

    def __len__(self) -> int:
        return self.outputs.shape[1]

    def __iter__(self) -> Iterator[Predictive]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, rows: Any) -> Predictive:
        rows = selection(rows, len(self))
        weight = self.weight if self.weight.ndim == 1 else self.weight[:, rows]
        return Predictive(self.outputs[:, rows], self.likelihood, weight)

    def __repr__(self) -> str:
        return f"Predictive(members={self.num_members}, examples={len(self)}, likelihood={self._base!r})"

    @property
    def task(self) -> str:
        """ "regression", "binary" or "multiclass"."""
        return self.likelihood.task

    @property
    def has_parts(self) -> bool:
        """Whether the variance has aleatoric and epistemic parts: not of a distribution function that was mapped."""
        return True

    @property
    def _base(self) -> Any:
        return self.likelihood.base if isinstance(self.likelihood, Transformed) else self.likelihood

    @property
    def num_outputs(self) -> int:
        """D: how many numbers a regression predicts for one example."""
        return getattr(self._base, "num_outputs", 1)

    @property
    def discrete(self) -> bool:
        """Whether outcomes are whole numbers."""
        return self.task != "regression" or _member_laws.outcomes(self._base, self.outputs.shape[-1]).discrete

    @property
    def steps(self) -> bool:
        """Whether single outcomes have a probability: counts, and outcomes clipped at a limit."""
        return self.task != "regression" or _member_laws.outcomes(self._base, self.outputs.shape[-1]).steps

    @property
    def _linear(self) -> bool:
        """Whether the target's units differ from those of the likelihood's base by loc + scale · z alone, or not."""
        return not isinstance(self.likelihood, Transformed) or self.likelihood.linear

    def _to_base(self, y: ArrayLike) -> Array:
        if isinstance(self.likelihood, Transformed):
            return self.likelihood.to_base(y)
        return jnp.asarray(y, self.outputs.dtype)

    def _from_base(self, z: Array) -> Array:
        """Back to the user's units; in float64 on the host where everything is concrete."""
        return self.likelihood.from_base(z) if isinstance(self.likelihood, Transformed) else z

    def _scaled(self, z: Array, power: int) -> Array:
        if not isinstance(self.likelihood, Transformed):
            return z
        for _ in range(power):  # one at a time: where the square of a scale overflows, 0 stays 0
            z = z * jnp.asarray(self.likelihood.scale, z.dtype)
        return z

    def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        """On the scale of the likelihood's base, where a shift of the target costs no digits."""
        return function(self._base, None, self.outputs, self.weight, *args)

    def _run_here(self, function: Callable[..., Any], *args: Any) -> Any:
        """In the user's units, for what does not pass through a transform that bends."""
        return function(self._base, self.likelihood, self.outputs, self.weight, *args)

    def _moments(self) -> tuple[Array, Array, Array]:
        """Mean, aleatoric and epistemic variance, in the user's units."""
        return self._end_moments(self._begin_moments())

    def _begin_moments(self) -> tuple[Array, Array, Array]:
        """The device's part of `_moments`, which does not wait for it."""
        return self._run(_member_laws.moments) if self._linear else self._run_here(_member_laws.moments)

    def _end_moments(self, moments: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        """The change of units, which does."""
        if not self._linear:
            return moments
        mean, aleatoric, epistemic = moments
        return self._from_base(mean), self._scaled(aleatoric, 2), self._scaled(epistemic, 2)

    def _needs(self, *tasks: str, what: str) -> None:
        if self.task not in tasks:
            said = " or ".join([", ".join(tasks[:-1]), tasks[-1]] if len(tasks) > 1 else tasks)
            raise InputError(f"`{what}` is for {said} predictions, but these are {self.task} ones.")

    def _check_y(self, y: Any) -> Any:
        y = self.likelihood.check(y)
        check_same_length(len(self), y)
        return y

    # Moments

    @property
    def mean(self) -> Array:
        """Mean, `(N,)` or `(N, D)`; for classes the probabilities `(N, C)`, for yes or no P(1), `(N,)` or `(N, L)`.

        inf or nan where members have none, as a Student t with one degree of freedom.
        """
        return self._moments()[0]

    @property
    def aleatoric(self) -> Array:
        """Variance within members, averaged: noise that no member expects to predict. As `mean`, units squared."""
        return self._moments()[1]

    @property
    def epistemic(self) -> Array:
        """Variance of the members' means: what they disagree about. As `mean`, units squared."""
        return self._moments()[2]

    @property
    def variance(self) -> Array:
        """Variance of the mixture: aleatoric + epistemic."""
        _, aleatoric, epistemic = self._moments()
        return aleatoric + epistemic

    @property
    def stddev(self) -> Array:
        """Standard deviation of the mixture; finite also in units whose square is not."""
        if not self._linear:
            return jnp.sqrt(self.variance)
        _, aleatoric, epistemic = self._run(_member_laws.moments)
        return self._scaled(jnp.sqrt(aleatoric + epistemic), 1)

    @property
    def member_mean(self) -> Array:
        """Mean of each member, `(M, N)` or `(M, N, D)`; what a member of weight 0 says means nothing."""
        return self._members()[0]

    @property
    def member_stddev(self) -> Array:
        """Standard deviation of each member; shapes as `member_mean`."""
        return self._members()[1]

    def _members(self) -> tuple[Array, Array]:
        self._needs("regression", what="member_mean")
        if not self._linear:
            mean, variance = self._run_here(_member_laws.each)
            return mean, jnp.sqrt(variance)
        mean, variance = self._run(_member_laws.each)
        return self._from_base(mean), self._scaled(jnp.sqrt(variance), 1)

    def residual(self, y: ArrayLike) -> Array:
        """`y − mean`, `(N,)` or `(N, D)`, formed before the target's shift is undone: 10⁶ ± 1 loses nothing."""
        self._needs("regression", what="residual")
        y = self._check_y(y)
        if not self._linear:
            return jnp.asarray(y, self.outputs.dtype) - self._moments()[0]
        return self._scaled(self._to_base(y) - self._run(_member_laws.moments)[0], 1)

    # Density and distribution function

    def log_prob(self, y: ArrayLike) -> Array:
        """Log-density (or log-probability) of `y`, `(N,)`, in nats; joint over several outputs.

        Args:
          y: targets `(N,)` or `(N, D)` in the user's units, or labels `(N,)`.
        Raises:
          InputError: wrong length, labels out of range, not finite.
        """
        y = self._check_y(y)
        if self.task != "regression":
            return self._run(_member_laws.log_prob, jnp.asarray(y))
        value = self._run(_member_laws.log_prob, self._to_base(y))
        if not isinstance(self.likelihood, Transformed):
            return value
        return value + self.likelihood.log_derivative(y).astype(value.dtype)

    def cdf(self, y: ArrayLike) -> Array:
        """P(Y ≤ y), `(N,)`, or marginally for each output `(N, D)`; `y` broadcasts."""
        return self._run(_member_laws.probability, self._point("cdf", y), "cdf")

    def sf(self, y: ArrayLike) -> Array:
        """P(Y > y), exact in the upper tail; shapes as `cdf`."""
        return self._run(_member_laws.probability, self._point("sf", y), "sf")

    def cdf_below(self, y: ArrayLike) -> Array:
        """P(Y < y): `cdf(y)` without the probability of y itself, of counts and of outcomes clipped at a limit."""
        return self._run(_member_laws.probability, self._point("cdf_below", y), "cdf_below")

    def _point(self, what: str, y: ArrayLike) -> Array:
        """`y` on the scale of the base, if it broadcasts against the predictions."""
        self._needs("regression", what=what)
        tail = (len(self),) if self.num_outputs == 1 else (len(self), self.num_outputs)
        shape = np.shape(y)
        if len(shape) > len(tail) or any(
            a not in (1, b) for a, b in zip(reversed(shape), reversed(tail), strict=False)
        ):
            raise InputError(f"`{what}` expected `y` that broadcasts to shape {tail}, but its shape is {shape}.")
        return self._to_base(y)

    def quantile(self, level: ArrayLike) -> Array:
        """The value below which the outcome falls with probability `level`: the smallest y with P(Y ≤ y) ≥ `level`.

        A whole number where outcomes are.

        Args:
          level: one level in (0, 1), or several `(Q,)`.
        Returns:
          `(N,)` or `(N, D)` for one level, with a leading axis Q for several.
        """
        return self._from_base(self._begin_quantile(level))

    def _begin_quantile(self, level: ArrayLike) -> Array:
        """Quantiles on the scale of the likelihood's base: the device's part, which does not wait for it."""
        self._needs("regression", what="quantile")
        check_level("level", level)
        if np.ndim(level) > 1:
            raise InputError(f"`level` expected one level or several (Q,), but has shape {np.shape(level)}.")
        # The smaller tail is formed before rounding to float32: 1 − 1e-9 keeps its nine digits.
        level = np.asarray(level, np.float64) if is_concrete(level) else jnp.asarray(level, self.outputs.dtype)
        upper = level > 0.5
        xp: Any = np if is_concrete(level) else jnp
        return self._tails(xp.where(upper, 1 - level, level), upper)

    def _tails(self, tail: Any, upper: Any) -> Array:
        """Quantiles on the scale of the likelihood's base: `tail` is the probability beyond them, on the side given."""
        tail, upper = jnp.asarray(tail, self.outputs.dtype), jnp.asarray(upper)
        return self._run(_member_laws.quantile if tail.ndim == 0 else _member_laws.quantiles, tail, upper)

    def _central(self, level: Any) -> Array:
        """Both ends of the central interval on the scale of the base, `(2, N, …)`."""
        self._needs("regression", what="interval")
        check_level("level", level)
        if np.ndim(level):
            raise InputError(f"`level` expected one level, but has shape {np.shape(level)}.")
        tail = (1 - level) / 2
        return self._tails(jnp.stack([tail, tail]) if not is_concrete(tail) else np.array([tail, tail]), [False, True])

    def interval(self, level: float = 0.9) -> Interval:
        """The central interval that holds the outcome with probability `level`: 0.9 is a 90 % interval.

        For counts its ends are whole numbers, and it holds the outcome at least as often.
        """
        lower, upper = self._from_base(self._central(level))
        return Interval(lower, upper)

    def width(self, level: float = 0.9) -> Array:
        """Width of `interval(level)`, formed before a shift of the target is undone, `(N,)` or `(N, D)`."""
        lower, upper = self._central(level)
        if not self._linear:
            return self._from_base(upper) - self._from_base(lower)
        return self._scaled(upper - lower, 1)

    def crps(self, y: ArrayLike) -> Array:
        """Continuous ranked probability score of the mixture, `(N,)` or `(N, D)`, in the units of `y`.

        In closed form for mixtures of normals and of other families that have one, else by quadrature.
        """
        self._needs("regression", what="crps")
        y = self._check_y(y)
        if not self._linear:
            return self._run_here(_member_laws.crps, jnp.asarray(y, self.outputs.dtype))
        return self._scaled(self._run(_member_laws.crps, self._to_base(y)), 1)

    # Classes

    @property
    def probs(self) -> Array:
        """Class probabilities of the mixture, `(N, C)`; `(N, 2)` for yes or no; P(1) of each of several labels."""
        self._needs("binary", "multiclass", "multilabel", what="probs")
        return self._run(_member_laws.probs)

    # Information

    def _entropies(self) -> tuple[Array, Array]:
        """Of the mixture, and of the members on average."""
        if not isinstance(self.likelihood, Transformed) or self.task != "regression":
            return self._run(_member_laws.entropy)
        if not self._linear or hasattr(self._base, "at_limit"):  # probability at a point has no units
            return self._run_here(_member_laws.entropy)
        total, expected = self._run(_member_laws.entropy)
        shift = self.likelihood.log_jacobian.astype(total.dtype)
        return total + shift, expected + shift

    @property
    def entropy(self) -> Array:
        """Entropy of the mixture, `(N,)`, in nats; for numbers, its differential entropy (by quadrature).

        For labels that do not exclude each other, that of each label, `(N, L)`.
        """
        return self._entropies()[0]

    @property
    def expected_entropy(self) -> Array:
        """Mean entropy of the members: the aleatoric part; shapes as `entropy`."""
        return self._entropies()[1]

    @property
    def mutual_information(self) -> Array:
        """Entropy of the mixture minus mean entropy of the members, ≥ 0: the epistemic part; shapes as `entropy`."""
        total, expected = self._entropies()
        return jnp.maximum(total - expected, 0.0)

    # Draws

    def sample(self, key: Key, num: int = 1) -> Array:
        """Draws of the outcome, `(num, N, …)`: a member by its weight, then from its distribution."""
        draws = _member_laws.sample(self._base, self.outputs, self.weight, as_key(key), check_count("num", num))
        return draws if self.task != "regression" else self._from_base(draws)

    def to_numpyro(self) -> Any:
        """The same mixture as a numpyro distribution with batch shape `(N,)`."""
        import numpyro.distributions as dist

        if self.task == "multiclass":
            return dist.Categorical(probs=self.probs)
        if self.task == "binary":
            return dist.Bernoulli(probs=self.mean)
        outputs = jnp.moveaxis(_member_laws.inert(self.outputs, self.weight), 0, -2)
        weight = jnp.moveaxis(self.weight, 0, -1)
        weight = weight.reshape(*weight.shape[:-1], *(1,) * (outputs.ndim - 3), weight.shape[-1])
        probs = jnp.broadcast_to(weight, outputs.shape[:-1])
        law = self.likelihood.distribution(outputs)
        if isinstance(law, dist.MixtureSameFamily):  # a mixture of mixtures is one mixture
            probs = (probs[..., None] * law.mixing_distribution.probs).reshape(*probs.shape[:-1], -1)
            law = _joined(law.component_distribution)
        return dist.MixtureSameFamily(dist.Categorical(probs=probs), law)


def _joined(law: Any) -> Any:
    """A distribution whose last two batch axes are made one."""
    if type(law).__name__ == "TransformedDistribution":  # by a transform of the target, the same for all
        return type(law)(_joined(law.base_dist), law.transforms, validate_args=False)
    shape = tuple(law.batch_shape)
    parameters = {
        name: jnp.broadcast_to(getattr(law, name), shape).reshape(*shape[:-2], -1) for name in law.arg_constraints
    }
    return type(law)(**parameters, validate_args=False)


def _flatten(pred: Predictive) -> tuple[tuple, Any]:
    if isinstance(pred.likelihood, Transformed):
        change = pred.likelihood
        return (pred.outputs, pred.weight, change.loc, change.scale), (change.base, change.transforms)
    return (pred.outputs, pred.weight, None, None), (pred.likelihood, None)


def _unflatten(static: tuple, children: tuple) -> Predictive:
    outputs, weight, loc, scale = children
    base, transforms = static
    pred = object.__new__(Predictive)
    object.__setattr__(pred, "outputs", outputs)
    object.__setattr__(pred, "likelihood", base if transforms is None else Transformed(base, loc, scale, transforms))
    object.__setattr__(pred, "weight", weight)
    return pred


jax.tree_util.register_pytree_node(Predictive, _flatten, _unflatten)


def from_outputs(likelihood: Any, outputs: Array, *, loc: Any = None, scale: Any = None) -> Predictive:
    """A `Predictive` from raw outputs, with the target's units where they were standardised."""
    return Predictive(outputs, likelihood if loc is None else transformed(likelihood, loc, scale))
