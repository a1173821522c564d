"""What a distribution was made with: its parameters, whether they are allowed, and whether two of them say it all."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from .._checks import InputError, is_concrete
from . import _inputs


def is_scipy(pred: Any) -> bool:
    """Whether `pred` is a frozen scipy distribution, without importing scipy.stats."""
    return hasattr(pred, "dist") and hasattr(pred, "ppf") and hasattr(pred, "kwds")


def innermost(d: Any) -> Any:
    """The distribution that `Independent` makes a joint one of."""
    return innermost(d.base_dist) if type(d).__name__ == "Independent" else d


def _parts(d: Any) -> list[Any]:
    """The distributions that one is made of."""
    names = ("base_dist", "component_distribution", "component_distributions", "mixing_distribution")
    found = [part for name in names if (part := getattr(d, name, None)) is not None and part is not d]
    return [part for each in found for part in (each if isinstance(each, list | tuple) else [each])]


def given(d: Any) -> list[Any]:
    """The parameters that a distribution was made with; beside them numpyro keeps arrays of its own, always jax's."""
    own = [vars(d).get(name) for name in getattr(d, "arg_constraints", {})]
    leaves = jax.tree.leaves([each for each in own if each is not None] + [given(part) for part in _parts(d)])
    return leaves or jax.tree.leaves(d)


def check_parameters(name: str, d: Any) -> None:
    """A sentence where concrete parameters are outside what they may be: a scale of 0, a rate below 0, NaN."""
    for part in _parts(d):
        check_parameters(name, part)
    for parameter, constraint in getattr(d, "arg_constraints", {}).items():
        value = vars(d).get(parameter)
        if value is None or not is_concrete(value) or not _inputs._is_arraylike(value):
            continue
        if _is_dependent(constraint) or constraint.event_dim:
            continue
        values = np.asarray(value)
        if _is_real(constraint) and _inputs.sums_to_a_number(values):
            continue
        fine = np.asarray(constraint(values))
        if not fine.all():
            place = tuple(int(i) for i in np.argwhere(~fine)[0])
            row = f" of row {place[0]}" if place else ""
            raise InputError(
                f"`{name}` expected a {type(d).__name__} whose `{parameter}` is {_allowed(constraint)}, but that{row} "
                f"is {values[place]}."
            )


def _is_dependent(constraint: Any) -> bool:
    """Whether it hangs on other parameters, as the ends of a truncated distribution: numpyro cannot tell."""
    return type(constraint).__name__.lower().strip("_").startswith("dependent")


def _is_real(constraint: Any) -> bool:
    """Whether it allows every finite number and nothing else."""
    return type(constraint).__name__.strip("_") == "Real"


def _allowed(constraint: Any) -> str:
    """What a constraint allows, in words."""
    name = type(constraint).__name__.strip("_")
    if _is_real(constraint):
        return "a finite number"
    said = []
    for end, at, beyond in (("lower_bound", "at least", "above"), ("upper_bound", "at most", "below")):
        bound = getattr(constraint, end, None)
        if bound is not None:
            said.append(f"{at if constraint(np.asarray(bound, np.float64)) else beyond} {bound:g}")
    return " and ".join(said) or name


def location_scale(pred: Any) -> tuple[Any, Any, Any] | None:
    """Location, scale and the standard quantile function of a family that has nothing else; None for any other."""
    if _inputs.is_distribution(pred):
        base = innermost(pred)
        known = _STANDARD.get(type(base).__name__)
        return None if known is None else (_widened(base.loc), _widened(base.scale), known)
    if is_scipy(pred) and pred.dist.name in _STANDARD:
        _, loc, scale = pred.dist._parse_args(*pred.args, **pred.kwds)
        return np.asarray(loc, np.float64), np.asarray(scale, np.float64), _STANDARD[pred.dist.name]
    return None


def _widened(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else np.asarray(value)


def _symmetric(quantile: Any) -> Any:
    """`(tail, upper=False)`: the point with probability `tail` below it, or above it."""
    return lambda tail, upper=False: -quantile(tail) if upper else quantile(tail)


def _normal_quantile(tail: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    return ndtri(tail)


def _gumbel_quantile(tail: np.ndarray, upper: bool = False) -> np.ndarray:
    return -np.log(-(np.log1p(-tail) if upper else np.log(tail)))


_LAPLACE = _symmetric(lambda tail: np.where(tail < 0.5, np.log(2 * tail), -np.log(2 * (1 - tail))))
_LOGISTIC = _symmetric(lambda tail: np.log(tail) - np.log1p(-tail))
_CAUCHY = _symmetric(lambda tail: np.where(tail < 0.25, -1 / np.tan(np.pi * tail), np.tan(np.pi * (tail - 0.5))))
_STANDARD = {
    **dict.fromkeys(("Normal", "norm"), _symmetric(_normal_quantile)),
    **dict.fromkeys(("Laplace", "laplace"), _LAPLACE),
    **dict.fromkeys(("Logistic", "logistic"), _LOGISTIC),
    **dict.fromkeys(("Gumbel", "gumbel_r"), _gumbel_quantile),
    **dict.fromkeys(("Cauchy", "cauchy"), _CAUCHY),
}
