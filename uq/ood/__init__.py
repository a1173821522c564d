"""Out-of-distribution scores: how unlike the training data an input looks. Higher is less like it, always.

From predictions: `max_probability`, `max_logit`, `energy`, `entropy`, `mutual_information`. From members' features
`(K, N, d)`, after one pass over the training data: `mahalanobis`, `relative_mahalanobis`, `gaussian_density` and
`nearest_neighbours`. `uq.metrics.auroc` and `fpr_at_tpr` read all of them as they are. No threshold on them carries a
guarantee: inputs can be unlike the data in ways that no score sees.
"""

from ._detector import Detector as Detector
from .gaussians import gaussian_density as gaussian_density
from .gaussians import mahalanobis as mahalanobis
from .gaussians import relative_mahalanobis as relative_mahalanobis
from .neighbours import nearest_neighbours as nearest_neighbours
from .predictions import energy as energy
from .predictions import entropy as entropy
from .predictions import max_logit as max_logit
from .predictions import max_probability as max_probability
from .predictions import mutual_information as mutual_information
