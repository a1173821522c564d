"""Likelihoods: the only place that knows what raw network outputs mean.

A likelihood turns outputs `(…, width)` into a distribution. Free parameters that do not depend on the input (one
shared noise scale, cutpoints) are leaves beside the network's own, one set a member: `attach` appends them to the
outputs as extra columns, so that everything downstream sees outputs alone. `transformed` carries a change of units or
scale of the target exactly, by change of variables.
"""

from collections.abc import Callable as _Callable
from typing import Any as _Any

from ._base import Likelihood as Likelihood
from ._base import attach as attach
from ._base import check_width as check_width
from ._base import columns as columns
from ._standardize import standardized as _standardized
from ._standardize import standardizes as _standardizes
from ._targets import check_labels as _check_labels
from ._transformed import Affine as _Affine
from ._transformed import BoxCox as BoxCox
from ._transformed import Log as Log
from ._transformed import Transformed as Transformed
from ._transformed import transformed as transformed
from .any_numpyro import from_numpyro as from_numpyro
from .censored import Censored as Censored
from .classes import Bernoulli as Bernoulli
from .classes import Categorical as Categorical
from .classes import Multilabel as Multilabel
from .classes import Ordinal as Ordinal
from .counts import NegativeBinomial as NegativeBinomial
from .counts import Poisson as Poisson
from .counts import ZeroInflatedPoisson as ZeroInflatedPoisson
from .evidential import DirichletEvidential as DirichletEvidential
from .evidential import Evidential as Evidential
from .gaussian import FullCovarianceGaussian as FullCovarianceGaussian
from .gaussian import Gaussian as Gaussian
from .gaussian import HomoscedasticGaussian as HomoscedasticGaussian
from .heteroscedastic import HeteroscedasticLogits as HeteroscedasticLogits
from .location_scale import Laplace as Laplace
from .location_scale import StudentT as StudentT
from .mixture_density import MixtureDensity as MixtureDensity
from .positive import Beta as Beta
from .positive import Gamma as Gamma
from .positive import LogNormal as LogNormal
from .quantile import Quantile as Quantile

REGISTER: dict[str, _Callable[..., _Any]] = {
    kind.__name__: kind
    for kind in (
        Gaussian,
        HomoscedasticGaussian,
        FullCovarianceGaussian,
        StudentT,
        Laplace,
        LogNormal,
        Gamma,
        Beta,
        Poisson,
        NegativeBinomial,
        ZeroInflatedPoisson,
        Bernoulli,
        Categorical,
        Multilabel,
        Ordinal,
        Censored,
        MixtureDensity,
        Quantile,
        Evidential,
        DirichletEvidential,
        HeteroscedasticLogits,
    )
}
"""Likelihoods that a saved file may name."""

_TRANSFORMS: dict[str, _Callable[..., _Any]] = {kind.__name__: kind for kind in (Log, BoxCox, _Affine)}
"""Transforms of the target that a saved file may name."""
