"""Data sets: those that come with scikit-learn, and tables with published splits."""

from .bundled import BUNDLED as BUNDLED
from .bundled import Dataset as Dataset
from .bundled import bundled as bundled
from .tabular import UCI as UCI
from .tabular import Splits as Splits
from .tabular import uci as uci
