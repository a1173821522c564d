"""Classes: yes or no, one of C, several labels at once, ordered grades."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from .._checks import check_count
from .._tracing import straight
from .._typing import Array
from ._links import columns_of, softplus
from ._targets import check_indicators, check_labels


@straight
def pick(log_probs: Array, y: Array) -> Array:
    """The entry of `log_probs` `(…, C)` that each label names."""
    labels = jnp.broadcast_to(y, log_probs.shape[:-1])
    return jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]


@dataclass(frozen=True)
class Categorical:
    """One of C classes from C logits; `y` holds labels 0 … C−1.

    Args:
      num_classes: C; the network has C outputs.
    References:
      bishop2006, eq. 4.108. Checked against scipy.special.log_softmax.
    """

    num_classes: int
    task: ClassVar[str] = "multiclass"
    standardize: ClassVar[str] = "none"
    free: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_count("num_classes", self.num_classes, least=2)

    @property
    def width(self) -> int:
        return self.num_classes

    @straight
    def log_probs(self, outputs: Array) -> Array:
        """Log-probability of each class, `(…, C)`."""
        outputs = columns_of(self, outputs)
        return jax.nn.log_softmax(outputs, axis=-1)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return pick(self.log_probs(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        outputs = columns_of(self, outputs)
        return dist.Categorical(logits=outputs, validate_args=False)

    def check(self, y: Any) -> Any:
        return check_labels(y, self.num_classes, f"Categorical({self.num_classes})")


@dataclass(frozen=True)
class Bernoulli:
    """Yes or no from one logit; `y` holds 0 and 1.

    References:
      bishop2006, eq. 4.90. Checked against scipy.special.log_expit.
    """

    task: ClassVar[str] = "binary"
    standardize: ClassVar[str] = "none"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 1

    def log_probs(self, outputs: Array) -> Array:
        """Log-probability of 0 and of 1, `(…, 2)`."""
        outputs = columns_of(self, outputs)
        return jnp.stack([jax.nn.log_sigmoid(-outputs[..., 0]), jax.nn.log_sigmoid(outputs[..., 0])], -1)

    @straight
    def log_prob(self, outputs: Array, y: Array) -> Array:
        outputs = columns_of(self, outputs)
        logit = outputs[..., 0]
        return jax.nn.log_sigmoid(jnp.where(y == 1, logit, -logit))

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        outputs = columns_of(self, outputs)
        return dist.Bernoulli(logits=outputs[..., 0], validate_args=False)

    def check(self, y: Any) -> Any:
        return check_labels(y, 2, "Bernoulli")


@dataclass(frozen=True)
class Multilabel:
    """L labels, each present or not, independent given the input; `y` holds zeros and ones `(N, L)`.

    `log_prob` is joint: the sum over labels.

    Args:
      num_labels: L, at least 2; the network has L outputs, one logit a label.
    References:
      bishop2006, eq. 4.90, for each label. Checked against scipy.special.log_expit.
    """

    num_labels: int
    task: ClassVar[str] = "multilabel"
    standardize: ClassVar[str] = "none"
    free: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_count("num_labels", self.num_labels, least=2)

    @property
    def width(self) -> int:
        return self.num_labels

    @property
    def num_outputs(self) -> int:
        """L: a target is a vector."""
        return self.num_labels

    @straight
    def log_prob(self, outputs: Array, y: Array) -> Array:
        outputs = columns_of(self, outputs)
        return jax.nn.log_sigmoid(jnp.where(y == 1, outputs, -outputs)).sum(-1)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        outputs = columns_of(self, outputs)
        return dist.Bernoulli(logits=outputs, validate_args=False).to_event(1)

    def check(self, y: Any) -> Any:
        return check_indicators(y, self.num_labels, f"Multilabel({self.num_labels})")


@dataclass(frozen=True)
class Ordinal:
    """One of C ordered grades 0 … C−1 from one output: where a latent logistic variable lies among cutpoints.

    P(Y ≤ k) = σ(c_k − output). The C−1 cutpoints are free parameters, one set a member: the first is free, each
    next lies above by softplus(raw) + min_gap, and all begin evenly spaced about 0. "Proportional odds": the input
    moves all grades together.

    Args:
      num_classes: C, at least 2; the network has one output.
      min_gap: least distance of neighbouring cutpoints.
    References:
      mccullagh1980, section 2. Checked against differences of scipy.special.expit.
    """

    num_classes: int
    min_gap: float = 1e-3
    task: ClassVar[str] = "multiclass"
    standardize: ClassVar[str] = "none"
    width: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_count("num_classes", self.num_classes, least=2)

    @property
    def free(self) -> int:
        return self.num_classes - 1

    def parameters(self, outputs: Array) -> tuple[Array, Array]:
        """The latent location `(…,)` and the rising cutpoints `(…, C−1)`."""
        outputs = columns_of(self, outputs)
        first, rest = outputs[..., 1:2], outputs[..., 2:]
        first = first - 0.5 * (self.num_classes - 2) * (math.log(2) + self.min_gap)
        gaps = softplus(rest) + self.min_gap
        return outputs[..., 0], jnp.concatenate([first, first + jnp.cumsum(gaps, -1)], -1)

    def log_probs(self, outputs: Array) -> Array:
        """Log-probability of each grade, `(…, C)`.

        σ(b) − σ(a) = σ(b) σ(−a) (1 − e^(a−b)): a product, which does not cancel in the tails.
        """
        latent, cuts = self.parameters(outputs)
        below = jax.nn.log_sigmoid(cuts - latent[..., None])
        above = jax.nn.log_sigmoid(latent[..., None] - cuts)
        gaps = softplus(outputs[..., 2:]) + self.min_gap  # not differences of cuts, which round to 0 far out
        between = jnp.log(-jnp.expm1(-gaps))
        middle = below[..., 1:] + above[..., :-1] + between
        return jnp.concatenate([below[..., :1], middle, above[..., -1:]], -1)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return pick(self.log_probs(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.OrderedLogistic(*self.parameters(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_labels(y, self.num_classes, f"Ordinal({self.num_classes})")
