"""Metrics that accumulate over batches and devices, as pure functions of a pytree state.

metric = streaming.collect({"ece": streaming.CalibrationError(), "nll": streaming.Mean("log_score")})
state = metric.empty()
for pred, y, mask in batches:
    state = metric.update(state, pred, y, mask)
metric.compute(state)["ece"]
"""

from ._metric import Collection as Collection
from ._metric import Streaming as Streaming
from ._metric import collect as collect
from .binned import CalibrationError as CalibrationError
from .binned import RegressionCalibrationError as RegressionCalibrationError
from .means import Mean as Mean
from .ranked import Binned as Binned
from .ranked import Ranked as Ranked
from .rows import Rows as Rows
from .rows import rows as rows
