"""The register of methods: one factory a file, one line here."""

from collections.abc import Callable
from typing import NamedTuple

from ..method import Method
from .low_rank import low_rank as low_rank
from .map_estimate import map_estimate as map_estimate
from .mean_field import mean_field as mean_field


class Entry(NamedTuple):
    """What `uq methods` says of a method; costs are relative to one network."""

    factory: Callable[..., Method]
    summary: str
    cost: str
    reference: str


REGISTER: dict[str, Entry] = {
    "map_estimate": Entry(
        map_estimate,
        "penalised maximum likelihood; K of them are a deep ensemble",
        "train 1x, predict 1x, memory 1x a member",
        "Lakshminarayanan et al. 2017 (as an ensemble)",
    ),
    "mean_field": Entry(
        mean_field,
        "factorised Gaussian over the weights, by the evidence lower bound",
        "train 1-2x, predict 1x a draw (32 draws), memory 2x a member",
        "Blundell et al. 2015",
    ),
    "low_rank": Entry(
        low_rank,
        "Gaussian with diagonal plus low-rank covariance over the weights",
        "train 2-3x, predict 1x a draw (32 draws), memory (2 + rank)x a member",
        "Ong et al. 2018",
    ),
}
