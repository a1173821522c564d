"""Training losses for `map_estimate(loss=…)`: `(likelihood, outputs, y) -> (N,)`, one value an example.

They shape training only. Predictions, early stopping and Bayesian methods use the likelihood's log-density.
"""

from .classes import dirichlet_evidential as dirichlet_evidential
from .classes import focal as focal
from .classes import label_smoothing as label_smoothing
from .likelihood import beta_nll as beta_nll
from .likelihood import evidential as evidential
from .likelihood import negative_log_likelihood as negative_log_likelihood
from .scores import crps as crps
from .scores import energy_score as energy_score
from .scores import pinball as pinball
