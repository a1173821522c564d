"""Deep evidential heads: one network that gives a distribution over the parameters of its distribution.

Both are trained with a regulariser (`uq.losses.evidential`, `uq.losses.dirichlet_evidential`): their likelihood alone
does not determine how much evidence to claim. What they call epistemic uncertainty is set by that regulariser rather
than by how much was seen (bengs2022; meinert2023); read it as a score, and prefer an ensemble where it matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp

from .._checks import check_count
from .._typing import Array
from ._links import check_floor, columns_of, law_log_prob, raw_of, softplus
from ._targets import check_labels, check_real
from .classes import pick


@dataclass(frozen=True)
class Evidential:
    """Normal with a normal-inverse-gamma distribution over its mean and variance: a Student's t once those are out.

    The network gives γ and raw ν, α, β: ν = softplus + floor, α = 1 + softplus + floor, β = softplus + floor.
    The predictive is t with 2α degrees of freedom, location γ and scale² = β (1 + ν) / (ν α). Its variance is
    E[σ²] = β / (α − 1) and Var[μ] = β / (ν (α − 1)) together, which `aleatoric_epistemic` gives apart.

    Train with `loss=uq.losses.evidential()`. Scaling ν, β against each other leaves the likelihood nearly
    unchanged: Var[μ] is not identified by data, and follows the regulariser.

    Args:
      floor: of ν, α − 1 and β, in the units the network is trained in.
    References:
      amini2020, section 3; bengs2022; meinert2023 (why its epistemic part cannot be trusted). Checked against
      scipy.stats.t and integration over the normal-inverse-gamma.
    """

    floor: float = 1e-2
    task: ClassVar[str] = "regression"
    standardize: ClassVar[str] = "affine"
    free: ClassVar[int] = 0
    width: ClassVar[int] = 4
    num_outputs: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_floor("floor", self.floor)

    def parameters(self, outputs: Array) -> tuple[Array, Array, Array, Array]:
        """γ, ν, α, β of the normal-inverse-gamma, each `(…,)`."""
        outputs = columns_of(self, outputs)
        raw = softplus(outputs[..., 1:]) + self.floor
        return outputs[..., 0], raw[..., 0], 1 + raw[..., 1], raw[..., 2]

    def aleatoric_epistemic(self, outputs: Array) -> tuple[Array, Array]:
        """E[σ²] and Var[μ] as the network claims them, each `(…,)`, in the units it is trained in, squared."""
        _, nu, alpha, beta = self.parameters(outputs)
        noise = beta / (alpha - 1)
        return noise, noise / nu

    def moved(self, outputs: Array, loc: Array, scale: Array) -> Array:
        """Outputs that say of loc + scale · Y what these say of Y."""
        beta = scale**2 * (softplus(outputs[..., 3:]) + self.floor)
        return jnp.concatenate([loc + scale * outputs[..., :1], outputs[..., 1:3], raw_of(beta, self.floor)], -1)

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return law_log_prob(self.distribution(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        loc, nu, alpha, beta = self.parameters(outputs)
        scale = jnp.sqrt(beta / alpha) * jnp.sqrt((1 + nu) / nu)
        return dist.StudentT(2 * alpha, loc, scale, validate_args=False)

    def check(self, y: Any) -> Any:
        return check_real(y, 1, "Evidential")


@dataclass(frozen=True)
class DirichletEvidential:
    """Class probabilities with a Dirichlet distribution: evidence e = softplus(output), concentrations α = e + 1.

    The predictive is the Dirichlet's mean α / Σα. `vacuity` C / Σα is the share of probability without evidence.
    Train with `loss=uq.losses.dirichlet_evidential()`.

    Args:
      num_classes: C; the network has C outputs.
    References:
      sensoy2018, section 3; bengs2022 (why its epistemic part cannot be trusted). Checked against draws from
      numpy's Dirichlet.
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

    def parameters(self, outputs: Array) -> tuple[Array]:
        """The concentrations, `(…, C)`."""
        outputs = columns_of(self, outputs)
        return (softplus(outputs) + 1,)

    def vacuity(self, outputs: Array) -> Array:
        """C / Σα, from 0 to 1, `(…,)`."""
        return self.num_classes / self.parameters(outputs)[0].sum(-1)

    def log_probs(self, outputs: Array) -> Array:
        """Log-probability of each class, `(…, C)`."""
        (concentration,) = self.parameters(outputs)
        return jnp.log(concentration) - jnp.log(concentration.sum(-1, keepdims=True))

    def log_prob(self, outputs: Array, y: Array) -> Array:
        return pick(self.log_probs(outputs), y)

    def distribution(self, outputs: Array) -> Any:
        import numpyro.distributions as dist

        return dist.Categorical(logits=self.log_probs(outputs), validate_args=False)

    def check(self, y: Any) -> Any:
        return check_labels(y, self.num_classes, f"DirichletEvidential({self.num_classes})")
