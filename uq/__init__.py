"""Calibrated uncertainty for Flax networks.

    Model ─► Method (init → update… → sample) ─► Members ─► predict ─► Predictive ─► metrics
                         ▲ Likelihood ───────────────────────────────────┘

Importing changes nothing: no backend starts, no configuration is touched, and slow third-party packages load when
they are first needed.
"""

from . import calibrate as calibrate
from . import conformal as conformal
from . import data as data
from . import decide as decide
from . import execution as execution
from . import laws as laws
from . import likelihoods as likelihoods
from . import losses as losses
from . import methods as methods
from . import metrics as metrics
from . import ood as ood
from . import optimizers as optimizers
from . import plot as plot
from ._checks import InputError as InputError
from ._checks import UQWarning as UQWarning
from ._version import __version__ as __version__
from .crossfit import CrossFit as CrossFit
from .crossfit import bootstrap as bootstrap
from .crossfit import crossfit as crossfit
from .ensembles import deep_ensemble as deep_ensemble
from .evaluate import evaluate as evaluate
from .io import FileError as FileError
from .io import load as load
from .io import save as save
from .likelihoods import Likelihood as Likelihood
from .members import Members as Members
from .members import batched_init as batched_init
from .members import batched_init_param_count as batched_init_param_count
from .members import best as best
from .members import concatenate as concatenate
from .members import member_keys as member_keys
from .members import num_members as num_members
from .members import stack as stack
from .members import take as take
from .method import Batch as Batch
from .method import Method as Method
from .method import ensemble as ensemble
from .model import Model as Model
from .model import Variables as Variables
from .model import as_model as as_model
from .model import from_functions as from_functions
from .model import from_linen as from_linen
from .model import from_nnx as from_nnx
from .planning import Plan as Plan
from .planning import plan as plan
from .posterior import Posterior as Posterior
from .posterior import posterior as posterior
from .predict import predict as predict
from .predict_batches import Moments as Moments
from .predict_batches import predict_batches as predict_batches
from .predict_batches import predict_moments as predict_moments
from .predictive import Interval as Interval
from .predictive import Predictive as Predictive
from .table import Table as Table
from .train import fit as fit
from .wrap import mixed_precision as mixed_precision
