"""Every likelihood with targets that suit it and targets that do not, for the tables of tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from uq import likelihoods as kinds


class Case(NamedTuple):
    """One likelihood."""

    kind: Any
    draw: Callable[[np.random.Generator, int], np.ndarray]
    """Targets that it accepts."""
    wrong: Any
    """Targets that it does not."""
    said: str
    """What it says of them."""


def logistic(outputs: Any) -> Any:
    import numpyro.distributions as dist

    return dist.Logistic(outputs[..., 0], jax.nn.softplus(outputs[..., 1]) + 1e-2)


def real(rng: np.random.Generator, num: int) -> np.ndarray:
    return rng.normal(3, 2, num)


def counts(rng: np.random.Generator, num: int) -> np.ndarray:
    return rng.poisson(3.0, num)


def labels(num_classes: int) -> Callable[[np.random.Generator, int], np.ndarray]:
    return lambda rng, num: rng.integers(0, num_classes, num)


NOT_FINITE = ([0.5, np.nan, 1.0], r"row 1 of 3 holds NaN")
SEVERAL = (np.ones((3, 2)), r"expected targets of shape \(N,\), but `y` has shape \(3, 2\)")
NO_COUNT = ([1.0, 2.5, -1.0], r"whole numbers of at least 0, but row 1 of `y` is 2.5 \(and 1 more")
CASES = {
    "Gaussian": Case(kinds.Gaussian(), real, *NOT_FINITE),
    "Gaussian(2)": Case(kinds.Gaussian(2), lambda rng, num: rng.normal(3, 2, (num, 2)), np.ones((3, 3)), r"\(N, 2\)"),
    "HomoscedasticGaussian": Case(kinds.HomoscedasticGaussian(), real, *SEVERAL),
    "FullCovarianceGaussian": Case(
        kinds.FullCovarianceGaussian(3), lambda rng, num: rng.normal(3, 2, (num, 3)), np.ones(3), r"\(N, 3\), but got"
    ),
    "StudentT": Case(kinds.StudentT(), real, *SEVERAL),
    "StudentT(5)": Case(kinds.StudentT(df=5.0), real, *NOT_FINITE),
    "Laplace": Case(kinds.Laplace(), real, *NOT_FINITE),
    "LogNormal": Case(
        kinds.LogNormal(), lambda rng, num: rng.lognormal(1, 1, num), [1.0, 0.0], "above 0, but row 1 of `y` is 0"
    ),
    "Gamma": Case(
        kinds.Gamma(), lambda rng, num: rng.gamma(2, 3, num), [1.0, 2.0, -3.0], "above 0, but row 2 of `y` is -3"
    ),
    "Beta": Case(
        kinds.Beta(), lambda rng, num: rng.beta(2, 3, num), [0.5, 1.0], "between 0 and 1, but row 1 of `y` is 1"
    ),
    "Poisson": Case(kinds.Poisson(), counts, *NO_COUNT),
    "NegativeBinomial": Case(kinds.NegativeBinomial(), counts, *NO_COUNT),
    "ZeroInflatedPoisson": Case(kinds.ZeroInflatedPoisson(), counts, *NO_COUNT),
    "Bernoulli": Case(kinds.Bernoulli(), labels(2), [0, 2], "labels 0 to 1, but row 1 of `y` is 2"),
    "Categorical": Case(kinds.Categorical(3), labels(3), [0, 3], "labels 0 to 2, but row 1 of `y` is 3"),
    "Multilabel": Case(
        kinds.Multilabel(3),
        lambda rng, num: rng.integers(0, 2, (num, 3)),
        [[0, 1, 0], [0, 0, 2]],
        "zeros and ones, but row 1 of `y` holds 2 for label 2",
    ),
    "Ordinal": Case(kinds.Ordinal(4), labels(4), [0, -1], "labels 0 to 3, but row 1 of `y` is -1"),
    "Censored": Case(
        kinds.Censored(lower=1.0),
        lambda rng, num: np.maximum(rng.normal(2, 2, num), 1.0),
        [1.0, 0.5],
        "from 1 to inf, but row 1 of `y` is 0.5",
    ),
    "Censored(1, 5)": Case(
        kinds.Censored(1.0, 5.0),
        lambda rng, num: np.clip(rng.normal(3, 2, num), 1.0, 5.0),
        [1.0, 6.0, 7.0],
        r"from 1 to 5, but row 1 of `y` is 6 \(and 1 more",
    ),
    "MixtureDensity": Case(kinds.MixtureDensity(3), real, *SEVERAL),
    "Quantile": Case(kinds.Quantile((0.1, 0.3, 0.6, 0.9)), real, *SEVERAL),
    "Evidential": Case(kinds.Evidential(), real, *NOT_FINITE),
    "DirichletEvidential": Case(kinds.DirichletEvidential(3), labels(3), np.eye(3), r"looks one-hot: pass y.argmax"),
    "HeteroscedasticLogits": Case(
        kinds.HeteroscedasticLogits(3, rank=1, num_draws=16), labels(3), ["a", "b"], "encode them first"
    ),
    "from_numpyro": Case(kinds.from_numpyro(logistic, 2), real, *NOT_FINITE),
    "units": Case(kinds.transformed(kinds.StudentT(), 3.0, 2.0), real, *NOT_FINITE),
    "Log": Case(
        kinds.transformed(kinds.transformed(kinds.Gaussian(), 1.0, 2.0), kinds.Log(shift=1.0)),
        lambda rng, num: rng.lognormal(1, 1, num),
        [1.0, -1.0],
        "Log expected targets above -1, but row 1 of `y` is -1",
    ),
    "BoxCox": Case(
        kinds.transformed(kinds.transformed(kinds.MixtureDensity(2), 1.0, 2.0), kinds.BoxCox(0.5)),
        lambda rng, num: rng.lognormal(1, 1, num),
        [0.0, 1.0],
        "BoxCox expected targets above 0, but row 0 of `y` is 0",
    ),
}


def outputs_for(kind: Any, rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Outputs of order 1, with the free parameters' columns."""
    return rng.normal(0, 1, (*shape, kind.width + kind.free)).astype(np.float32)
