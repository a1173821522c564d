"""Where uncertainty comes from, and what an ensemble gains by being one."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np

from .. import laws
from .._checks import InputError, check_finite, is_concrete, unknown_name
from .._typing import ArrayLike
from ..predictive import Predictive
from . import _inputs, _route
from ._estimate import Estimate, mean

Measure = Literal["variance", "entropy"]
EnsembleScore = Literal["log", "brier", "crps", "squared"]


class UncertaintyDecomposition(NamedTuple):
    """total = aleatoric + epistemic."""

    total: Estimate
    """Of the mixture."""
    aleatoric: Estimate
    """Mean over members: noise that they agree about."""
    epistemic: Estimate
    """What members disagree about."""


class EnsembleDecomposition(NamedTuple):
    """ensemble = members − diversity."""

    ensemble: Estimate
    """Mean score of the mixture."""
    members: Estimate
    """Mean score of the members, each by itself."""
    diversity: Estimate
    """What mixing them gains; not negative."""


def uncertainty_decomposition(
    pred: Predictive, *, measure: Measure = "variance", weight: Any = None, key: Any = None
) -> UncertaintyDecomposition:
    """Mean total, aleatoric and epistemic uncertainty of the predictions.

    "variance": that of the mixture = mean of the members' variances + variance of their means (for classes, summed
    over the class indicators). "entropy": that of the mixture = mean entropy of the members + mutual information.

    Args:
      pred: a `Predictive`, or for "entropy" and classes member probabilities `(M, N, C)`.
      weight: case weights, `(N,)`.
      key: for bootstrap intervals.
    Returns:
      Three estimates; variances in squared units of y (several outputs averaged), entropies in nats.
    Raises:
      InputError: predictions that have no members; probabilities that are none; a measure that does not apply.
    References:
      depeweg2018. Checked against loops over members.
    Example:
      >>> import numpy as np
      >>> members = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])  # two members, sure of different classes
      >>> parts = uncertainty_decomposition(members, measure="entropy")
      >>> [round(float(part), 4) for part in parts]
      [0.6931, 0.0, 0.6931]
    """
    if measure not in get_args(Measure):
        raise unknown_name("measure", str(measure), get_args(Measure))
    name = "uncertainty_decomposition"
    if not isinstance(pred, Predictive) or pred.task != "regression":
        probs, members = member_probs(name, pred)
        if measure == "entropy":
            total, aleatoric = _route.run(_entropies, probs, members)
        else:
            total, aleatoric = _route.run(_indicator_variances, probs, members)
        epistemic = total - aleatoric
    elif measure == "variance":
        aleatoric, epistemic = pred.aleatoric, pred.epistemic
        total = aleatoric + epistemic
    else:
        total, aleatoric = pred.entropy, pred.expected_entropy
        epistemic = total - aleatoric
    parts = ((total, "total"), (aleatoric, "aleatoric"), (epistemic, "epistemic"))
    return UncertaintyDecomposition(
        *(mean(_plain(part), weight=weight, estimand=f"mean {kind} {measure}", key=key) for part, kind in parts)
    )


def mutual_information(pred: Any, *, weight: Any = None, key: Any = None) -> Estimate:
    """Mean mutual information between the outcome and which member is right: the epistemic part of the entropy.

    H(mean of p_m) − mean of H(p_m) = mean KL(p_m, mean), between 0 and log M; also called BALD.

    Args:
      pred: a `Predictive`, or member probabilities `(M, N, C)`.
      weight: case weights, `(N,)`.
      key: for a bootstrap interval.
    Returns:
      An `Estimate` in nats. `Predictive.mutual_information` has one value an example.
    Raises:
      InputError: predictions that are not of classes or have no members; probabilities that are none.
    References:
      houlsby2011. Checked against the mean Kullback–Leibler divergence from the members.
    Example:
      >>> import numpy as np
      >>> round(float(mutual_information(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]))), 4)
      0.6931
    """
    if isinstance(pred, Predictive):
        values = pred.mutual_information
    else:
        total, expected = _route.run(_entropies, *member_probs("mutual_information", pred))
        values = total - expected
    return mean(_plain(values), weight=weight, estimand="mean mutual information, nats", key=key)


def disagreement(pred: Any, *, weight: Any = None, key: Any = None) -> Estimate:
    """Share of pairs of different members that predict different classes; members weigh as in the mixture.

    Args:
      pred: a `Predictive` of classes, or member probabilities `(M, N, C)`; among equally probable classes the first
        is predicted.
      weight: case weights, `(N,)`.
      key: for a bootstrap interval.
    Returns:
      An `Estimate` in [0, 1]; 0 for a single member.
    Raises:
      InputError: predictions that are not of classes or have no members; probabilities that are none.
    References:
      fort2019. Checked against a loop over pairs.
    Example:
      >>> import numpy as np
      >>> members = np.array([[[0.9, 0.1]], [[0.2, 0.8]], [[0.6, 0.4]]])
      >>> round(float(disagreement(members)), 4)
      0.6667
    """
    values = _route.run(_disagreement, *member_probs("disagreement", pred))
    return mean(values, weight=weight, estimand="share of member pairs that differ in class", key=key)


def pairwise_kl(pred: Any, *, weight: Any = None, key: Any = None) -> Estimate:
    """Mean Kullback–Leibler divergence between the predictions of two different members.

    Args:
      pred: a `Predictive` of classes, or of a regression of one output with Normal members (closed form); or member
        probabilities `(M, N, C)`.
      weight: case weights, `(N,)`.
      key: for a bootstrap interval.
    Returns:
      An `Estimate` in nats, infinite where a member rules out what another allows.
    Raises:
      InputError: predictions that are not of classes or have no members; probabilities that are none.
    References:
      fort2019. Checked against scipy.stats.entropy over pairs.
    Example:
      >>> import numpy as np
      >>> members = np.array([[[0.5, 0.5]], [[0.25, 0.75]]])
      >>> round(float(pairwise_kl(members)), 4)
      0.1373
    """
    if isinstance(pred, Predictive) and pred.task == "regression":
        loc, scale = _normal_members("pairwise_kl", pred)
        values = _route.run(_normal_kl, loc, scale, pred.weight)
    else:
        values = _route.run(_class_kl, *member_probs("pairwise_kl", pred))
    return mean(values, weight=weight, estimand="mean pairwise Kullback–Leibler divergence, nats", key=key)


def ensemble_decomposition(
    pred: Any, y: ArrayLike, *, score: EnsembleScore | None = None, weight: Any = None, key: Any = None
) -> EnsembleDecomposition:
    """What the ensemble scores, what its members score by themselves, and the difference: their diversity.

    Exact for every convex score: "log" (any likelihood), "brier" (classes), "crps" and "squared" (of the mean;
    numbers). For Brier, CRPS and squared error diversity does not depend on y: it is Σ w ‖p_m − p̄‖², ½ ΣΣ w w E|X−X′|
    − ½ Σ w E|X_m−X_m′|, and the variance of the members' means.

    Args:
      pred: a `Predictive`; for "log" and "brier" also member probabilities `(M, N, C)`.
      y: labels `(N,)` or outcomes, `(N,)` or `(N, D)`.
      score: None is "log".
      weight: case weights, `(N,)`.
      key: for bootstrap intervals.
    Returns:
      Three estimates, with ensemble = members − diversity to rounding.
    Raises:
      InputError: predictions that have no members, or are not what `score` needs; outcomes that do not fit.
    References:
      krogh1995 (squared); wood2023 (the general identity). Checked against loops over members.
    Example:
      >>> import numpy as np
      >>> members = np.array([[[1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0]]])
      >>> [round(float(part), 4) for part in ensemble_decomposition(members, [0], score="brier")]
      [0.5, 1.0, 0.5]
    """
    score = score or "log"
    if score not in get_args(EnsembleScore):
        raise unknown_name("score", str(score), get_args(EnsembleScore))
    ensemble, members = ensemble_scores("ensemble_decomposition", pred, y, score)
    parts = ((ensemble, "of the ensemble"), (members, "of its members"), (_gap(members, ensemble), "gained by mixing"))
    return EnsembleDecomposition(
        *(mean(part, weight=weight, estimand=f"mean {score} score {words}", key=key) for part, words in parts)
    )


def _gap(members: Any, ensemble: Any) -> Any:
    """members − ensemble, 0 where both are infinite."""
    xp = np if _route.on_host(members, ensemble) else jnp
    both = xp.isinf(members) & xp.isinf(ensemble)
    zero = xp.zeros((), members.dtype)
    return xp.where(both, zero, xp.where(both, zero, members) - xp.where(both, zero, ensemble))


def ensemble_scores(name: str, pred: Any, y: ArrayLike, score: str) -> tuple[Any, Any]:
    """Per example, `(N,)`: the score of the mixture, and the weighted mean of the members' own."""
    each, weight = member_scores(name, pred, y, score)
    if score in ("log", "brier") and not (isinstance(pred, Predictive) and pred.task == "regression"):
        probs, member_weight = member_probs(name, pred)
        _, labels = (
            _inputs.classes(name, _weighted(np, np.asarray(probs), np.asarray(member_weight)), y)
            if (is_concrete((probs, y)))
            else (None, jnp.asarray(y))
        )
        ensemble = _route.run(_mixture_class_score, probs, member_weight, labels, score=score)
    elif score == "log":
        ensemble = -pred.log_prob(y)
    elif score == "crps":
        ensemble = pred.crps(y)
    elif score == "squared":
        ensemble = pred.residual(y) ** 2
    else:
        raise InputError(f'`{name}`: the score "{score}" is not for {pred.task} predictions.')
    ensemble = _flat(_plain(ensemble))
    return ensemble, _route.run(_weighted, each, weight)


def member_scores(name: str, pred: Any, y: ArrayLike, score: str) -> tuple[Any, Any]:
    """Scores of each member by itself, `(M, N)`, several outputs averaged (but for "log"), and their weights."""
    if isinstance(pred, Predictive) and pred.task == "regression":
        if score == "brier":
            raise InputError(f'`{name}`: the score "brier" is for classes, but these are regression predictions.')
        live = _live(pred.weight)
        ones = [Predictive(pred.outputs[m : m + 1], pred.likelihood) for m in live]
        function = {
            "log": lambda one: -one.log_prob(y),
            "crps": lambda one: one.crps(y),
            "squared": lambda one: one.residual(y) ** 2,
        }[score]
        each = jnp.stack([_flat(function(one)) for one in ones])
        return _plain(each), _plain(pred.weight[live])
    if score not in ("log", "brier"):
        raise InputError(f'`{name}`: the score "{score}" is for numbers, but these are predictions of classes.')
    probs, weight = member_probs(name, pred)
    labels = np.asarray(y) if not hasattr(y, "aval") else y
    if is_concrete((probs, labels)):
        _, labels = _inputs.classes(name, np.asarray(probs)[0], labels)
    return _route.run(_member_class_scores, probs, labels, score=score), weight


def _live(weight: Any) -> np.ndarray:
    """Which members have any weight."""
    if not is_concrete(weight):
        return np.arange(weight.shape[0])
    return np.flatnonzero((np.asarray(weight) > 0).reshape(len(weight), -1).any(1))


def member_probs(name: str, pred: Any) -> tuple[Any, Any]:
    """Members' class probabilities `(M, N, C)` and weights, checked; members of weight 0 are left out."""
    if isinstance(pred, Predictive):
        if pred.task not in ("binary", "multiclass"):
            raise InputError(f"`{name}` expected predictions of classes, but these are {pred.task} ones.")
        outputs, weight = pred.outputs, pred.weight
        live = _live(weight)
        outputs, weight = outputs[live], weight[live]
        probs = laws.class_probs(pred.likelihood.distribution(outputs))
        return _plain(probs), _plain(weight)
    probs = _inputs._array(name, pred)
    if probs.ndim != 3 or 0 in probs.shape:
        raise InputError(
            f"`{name}` expected a Predictive or member probabilities of shape (M, N, C), but got shape {probs.shape}."
        )
    check_finite("pred", probs)
    if is_concrete(probs):
        flat = np.asarray(probs, np.float64).reshape(-1, probs.shape[2])
        _inputs._check_probs(name, flat)
    size = probs.shape[0]
    uniform = np.full(size, 1 / size)
    return probs, uniform if isinstance(probs, np.ndarray) else jnp.full(size, 1 / size, probs.dtype)


def _normal_members(name: str, pred: Predictive) -> tuple[Any, Any]:
    import numpyro.distributions as dist

    d = pred.likelihood.distribution(pred.outputs)
    if not isinstance(d, dist.Normal):
        raise InputError(f"`{name}` has a closed form for Normal members of one output, but got {type(d).__name__}.")
    return _plain(d.loc), _plain(d.scale)


def _plain(values: Any) -> Any:
    """Small concrete device arrays as numpy."""
    return np.asarray(values) if _route.on_host(values) else values


def _flat(values: Any) -> Any:
    return values.reshape(values.shape[0], -1).mean(1) if values.ndim > 1 else values


# Cores: members first, `(M, N, C)`; weights `(M,)` or `(M, N)`.


def _weighted(xp: Any, values: Any, weight: Any) -> Any:
    weight = (weight / weight.sum(0)).astype(values.dtype)
    return (values * weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim))).sum(0)


def _entropy_of(xp: Any, probs: Any) -> Any:
    positive = probs > 0
    return -xp.where(positive, probs * xp.log(xp.where(positive, probs, xp.ones_like(probs))), 0).sum(-1)


def _entropies(xp: Any, probs: Any, weight: Any) -> tuple[Any, Any]:
    total = _entropy_of(xp, _weighted(xp, probs, weight))
    expected = _weighted(xp, _entropy_of(xp, probs), weight)
    return xp.maximum(total, expected), expected


def _indicator_variances(xp: Any, probs: Any, weight: Any) -> tuple[Any, Any]:
    mixed = _weighted(xp, probs, weight)
    within = _weighted(xp, (probs * (1 - probs)).sum(-1), weight)
    between = _weighted(xp, xp.square(probs - mixed).sum(-1), weight)
    return within + between, within


def _disagreement(xp: Any, probs: Any, weight: Any) -> Any:
    top = probs.argmax(-1)
    votes = _weighted(xp, (top[..., None] == xp.arange(probs.shape[-1])).astype(probs.dtype), weight)
    weight = weight.astype(probs.dtype) / weight.sum(0).astype(probs.dtype)
    different = 1 - xp.square(weight).sum(0)  # weight of pairs of different members
    return (1 - xp.square(votes).sum(-1)) / xp.where(different > 1e-12, different, xp.ones_like(different))


def _pair_mean(xp: Any, total: Any, weight: Any) -> Any:
    """Weighted sum over ordered pairs, `(N,)`, as a mean over pairs of different members."""
    weight = weight.astype(total.dtype) / weight.sum(0).astype(total.dtype)
    different = 1 - xp.square(weight).sum(0)
    return total / xp.where(different > 1e-12, different, xp.ones_like(different))


def _class_kl(xp: Any, probs: Any, weight: Any) -> Any:
    """Σ w w′ KL(p_m, p_m′) = Σ w Σ_c p_m log p_m − Σ_c p̄_c · (Σ w′ log p_m′)_c."""
    own = -_weighted(xp, _entropy_of(xp, probs), weight)
    safe = xp.where(probs > 0, probs, xp.ones_like(probs))
    logs = _weighted(xp, xp.log(safe), weight)
    mixed = _weighted(xp, probs, weight)
    cross = (mixed * logs).sum(-1)
    zeros = _weighted(xp, (probs == 0).astype(probs.dtype), weight)
    some = ((zeros > 0) & (mixed > 0)).any(-1)  # a class that one member rules out and another allows
    value = _pair_mean(xp, xp.maximum(own - cross, 0), weight)
    return xp.where(some, xp.full_like(value, np.inf), value)


def _normal_kl(xp: Any, loc: Any, scale: Any, weight: Any) -> Any:
    """Σ w w′ KL(N_m, N_m′) from moments: log σ′ − log σ cancels in the mean; the rest is separable."""
    inverse = _weighted(xp, 1 / xp.square(scale), weight)
    centre = _weighted(xp, loc, weight)
    shifted = loc - centre
    second = _weighted(xp, xp.square(scale) + xp.square(shifted), weight)
    first = _weighted(xp, shifted / xp.square(scale), weight)
    square = _weighted(xp, xp.square(shifted / scale), weight)
    mean_shift = _weighted(xp, shifted, weight)
    total = 0.5 * (second * inverse - 2 * mean_shift * first + square - 1)
    return _pair_mean(xp, xp.maximum(total, 0), weight)


def _member_class_scores(xp: Any, probs: Any, labels: Any, *, score: str) -> Any:
    return xp.stack([_class_score(xp, each, labels, score) for each in probs])


def _mixture_class_score(xp: Any, probs: Any, weight: Any, labels: Any, *, score: str) -> Any:
    return _class_score(xp, _weighted(xp, probs, weight), labels, score)


def _class_score(xp: Any, probs: Any, labels: Any, score: str) -> Any:
    if score == "log":
        chosen = xp.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
        if xp is np:
            with np.errstate(divide="ignore"):
                return -np.log(chosen)
        return -xp.log(chosen)
    if probs.shape[1] == 2:
        return xp.square(probs[:, 1] - labels.astype(probs.dtype))
    hot = (labels[:, None] == xp.arange(probs.shape[1], dtype=labels.dtype)).astype(probs.dtype)
    return xp.square(probs - hot).sum(1)
