"""Losses for classes: label smoothing, focal, evidence for a Dirichlet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from .._checks import InputError
from .._typing import Array
from ..likelihoods import Bernoulli, Categorical, DirichletEvidential, Multilabel
from ._common import check_coefficient


@dataclass(frozen=True)
class label_smoothing:
    """Cross-entropy against labels mixed with the uniform distribution: (1 − ε) at the label, ε over all classes.

    Keeps logits bounded, and so confidences below 1 − ε (C − 1)/C; it calibrates where a network is overconfident and
    makes underconfident one that is not. Yes-or-no labels and each of several labels have C = 2.

    Args:
      eps: ε in [0, 1).
    References:
      szegedy2016, section 7; muller2019 (what it does to calibration).
    """

    eps: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.eps, int | float) or not 0 <= self.eps < 1:
            raise InputError(f"`eps` expected a number from 0 to below 1, but it is {self.eps!r}.")

    def __call__(self, likelihood: Any, outputs: Array, y: Array) -> Array:
        log_probs, labels = _classes("label_smoothing", likelihood, outputs, y)
        value = -((1 - self.eps) * _at(log_probs, labels) + self.eps * log_probs.mean(-1))
        return value.sum(-1) if likelihood.task == "multilabel" else value


@dataclass(frozen=True)
class focal:
    """Cross-entropy weighted by (1 − p)^γ, p the probability of the label: examples that are right count less.

    For detection among many easy negatives, and against overconfidence; not a proper score, so that its minimum is
    not at the true probabilities: they come out less extreme.

    Args:
      gamma: γ ≥ 0; 0 is cross-entropy, 2 the paper's choice.
    References:
      lin2017, section 3.2; mukhoti2020 (calibration); charoenphakdee2021 (that it is not proper).
    """

    gamma: float = 2.0

    def __post_init__(self) -> None:
        if not isinstance(self.gamma, int | float) or not 0 <= self.gamma < math.inf:
            raise InputError(f"`gamma` expected a number of at least 0, but it is {self.gamma!r}.")

    def __call__(self, likelihood: Any, outputs: Array, y: Array) -> Array:
        log_probs, labels = _classes("focal", likelihood, outputs, y)
        log_p = _at(log_probs, labels)
        # 1 − p from below, so that neither the value nor the gradient is NaN at p = 1 for γ < 1.
        miss = jnp.maximum(-jnp.expm1(log_p), jnp.finfo(outputs.dtype).tiny)
        value = -(miss**self.gamma) * log_p
        return value.sum(-1) if likelihood.task == "multilabel" else value


@dataclass(frozen=True)
class dirichlet_evidential:
    """Expected squared error of Dirichlet probabilities, + coefficient · KL of misplaced evidence from none.

    Σ_c (t_c − p̂_c)² + p̂_c (1 − p̂_c) / (S + 1) with p̂ = α / S, and the divergence of the Dirichlet of
    α̃ = t + (1 − t) α from the uniform one.

    Args:
      coefficient: λ ≥ 0. The paper raises it from 0 to 1 over ten epochs; a loss does not know the epoch, and it is
        constant here.
    Raises:
      InputError: when called, another likelihood.
    References:
      sensoy2018, section 4; bengs2022 (its critique).
    """

    coefficient: float = 0.1

    def __post_init__(self) -> None:
        check_coefficient(self.coefficient)

    def __call__(self, likelihood: Any, outputs: Array, y: Array) -> Array:
        if not isinstance(likelihood, DirichletEvidential):
            raise InputError(
                f"The loss dirichlet_evidential is for uq.likelihoods.DirichletEvidential(C), but got {likelihood!r}."
            )
        (alpha,) = likelihood.parameters(outputs)
        target = jax.nn.one_hot(y, likelihood.num_classes, dtype=outputs.dtype)
        total = alpha.sum(-1, keepdims=True)
        mean = alpha / total
        error = (jnp.square(target - mean) + mean * (1 - mean) / (total + 1)).sum(-1)
        return error + self.coefficient * _kl_from_uniform(target + (1 - target) * alpha)


def _kl_from_uniform(alpha: Array) -> Array:
    """KL(Dirichlet(α) ‖ Dirichlet(1)), `(…,)`."""
    total, num = alpha.sum(-1), alpha.shape[-1]
    gammaln, digamma = jax.scipy.special.gammaln, jax.scipy.special.digamma
    entropy = gammaln(total) - gammaln(alpha).sum(-1) - math.lgamma(num)
    return entropy + ((alpha - 1) * (digamma(alpha) - digamma(total)[..., None])).sum(-1)


def _classes(name: str, likelihood: Any, outputs: Array, y: Array) -> tuple[Array, Array]:
    """Log-probabilities of classes `(…, C)`, and labels."""
    if isinstance(likelihood, Multilabel):
        return jnp.stack([jax.nn.log_sigmoid(-outputs), jax.nn.log_sigmoid(outputs)], -1), y
    if not hasattr(likelihood, "log_probs"):
        raise InputError(
            f"The loss {name} is for classes, such as {Categorical(3)!r} or {Bernoulli()!r}, but got {likelihood!r}."
        )
    return likelihood.log_probs(outputs), y


def _at(log_probs: Array, labels: Array) -> Array:
    labels = jnp.broadcast_to(labels, log_probs.shape[:-1])
    return jnp.take_along_axis(log_probs, labels[..., None], axis=-1)[..., 0]
