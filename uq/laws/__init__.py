"""Distribution functions for numpyro distributions and for mixtures of them.

Every univariate family that a network head may emit, marginally where a distribution has several outputs. The
functions here run under `jit` in the precision of the parameters, keep their digits in both tails, and have finite
gradients. `uq.laws.host` has the same names in float64 on the host, by scipy. Mixtures lead with the component axis:
a distribution of batch shape `(M, …)` with weights `(M,)` or `(M, …)`; a component of weight 0 is inert.
"""

from . import censored as _censored
from . import counts as _counts
from . import gamma as _gamma
from . import host as host
from . import interpolated as _interpolated
from . import location_scale as _location_scale
from . import positive as _positive
from . import student as _student
from . import transformed as _transformed
from . import truncated as _truncated
from . import unit as _unit
from . import zero_inflated as _zero_inflated
from ._functions import cdf as cdf
from ._functions import crps as crps
from ._functions import entropy as entropy
from ._functions import icdf as icdf
from ._functions import log_cdf as log_cdf
from ._functions import log_prob as log_prob
from ._functions import log_sf as log_sf
from ._functions import moments as moments
from ._functions import sf as sf
from ._functions import tail as tail
from ._weighted import mixture_log_prob as mixture_log_prob
from ._weighted import mixture_mean as mixture_mean
from ._weighted import mixture_variance as mixture_variance
from .classes import class_entropy as class_entropy
from .classes import class_probs as class_probs
from .mixture import mixture_cdf as mixture_cdf
from .mixture import mixture_crps as mixture_crps
from .mixture import mixture_entropy as mixture_entropy
from .mixture import mixture_icdf as mixture_icdf
from .mixture import mixture_log_cdf as mixture_log_cdf
from .mixture import mixture_log_sf as mixture_log_sf
from .mixture import mixture_sf as mixture_sf
from .mixture import mixture_tail as mixture_tail
