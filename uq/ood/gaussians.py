"""Normal distributions of features: Mahalanobis distance, its relative form, and density, from one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .._checks import InputError, check_count, check_same_length, is_concrete
from ..likelihoods import _check_labels
from ._detector import Detector, checked, each_class, kind


class Moments(NamedTuple):
    """Sums over the examples of each of C classes, for K members."""

    count: Any
    """int `(C,)`."""
    mean: Any
    """`(K, C, d)`."""
    scatter: Any
    """Σ (x − mean)(x − mean)ᵀ of each class `(K, C, d, d)`, or of all `(K, 1, d, d)`."""


class _Gaussians(NamedTuple):
    centre: Any
    """Mean of all examples, `(K, d)`: distances are computed from it."""
    mean: Any
    """`(K, C, d)`, relative to it."""
    whiten: Any
    """Inverse Cholesky factors, `(K, C or 1, d, d)`."""
    overall: Any
    """The same for all examples as one class, `(K, d, d)`."""
    log_prior: Any
    """`(C,)`; −inf for classes without examples."""


def mahalanobis(num_classes: int, *, ridge: float = 1e-6) -> Detector:
    """Squared Mahalanobis distance to the nearest class mean, with one covariance for all classes.

    Dominated by directions in which features hardly vary at all; see `relative_mahalanobis`.

    Args:
      num_classes: C of the labels.
      ridge: added to the covariance, in units of its mean variance.
    Returns:
      A `Detector`; scores are without units.
    Raises:
      InputError: features of another shape, labels out of range, no examples.
    References:
      lee2018, eq. 1 and 2; chan1983. Checked against loops, sklearn's EmpiricalCovariance and one-pass sums of shards.
    Example:
      >>> import numpy as np
      >>> detector = mahalanobis(1, ridge=0.0)
      >>> fitted = detector.fit([(np.array([[-1.0], [1.0]]), [0, 0])])
      >>> detector.score(fitted, np.array([[0.0], [3.0]])).tolist()
      [0.0, 9.0]
    """
    return _gaussian("mahalanobis", num_classes, ridge, _nearest, each=False)


def relative_mahalanobis(num_classes: int, *, ridge: float = 1e-6) -> Detector:
    """`mahalanobis` minus the distance under one normal for all classes: only what tells classes apart counts.

    Args:
      num_classes, ridge: as for `mahalanobis`.
    Returns:
      A `Detector`; scores may be negative.
    Raises:
      InputError: as for `mahalanobis`.
    References:
      ren2021, eq. 3; chan1983. Checked against loops.
    Example:
      >>> import numpy as np
      >>> detector = relative_mahalanobis(2, ridge=0.0)
      >>> fitted = detector.fit([(np.array([[-3.0], [-1.0], [1.0], [3.0]]), [0, 0, 1, 1])])
      >>> detector.score(fitted, np.array([[0.0], [2.0]])).round(3).tolist()
      [4.0, -0.8]
    """
    return _gaussian("relative_mahalanobis", num_classes, ridge, _relative, each=False)


def gaussian_density(num_classes: int, *, ridge: float = 1e-6) -> Detector:
    """Minus the log-density of features under one normal a class, weighted by the frequency of classes.

    Each class has its own covariance, so that it needs more examples than features, or a ridge.

    Args:
      num_classes, ridge: as for `mahalanobis`.
    Returns:
      A `Detector`; scores are in nats.
    Raises:
      InputError: as for `mahalanobis`.
    References:
      mukhoti2023, section 3; chan1983. Checked against scipy.stats.multivariate_normal.
    Example:
      >>> import numpy as np
      >>> detector = gaussian_density(1, ridge=0.0)
      >>> fitted = detector.fit([(np.array([[-1.0], [1.0]]), [0, 0])])
      >>> detector.score(fitted, np.array([[0.0]])).round(4).tolist()  # ½ log 2π
      [0.9189]
    """
    return _gaussian("gaussian_density", num_classes, ridge, _density, each=True)


def _gaussian(name: str, num_classes: int, ridge: float, score: Callable[..., Any], *, each: bool) -> Detector:
    classes = check_count("num_classes", num_classes)
    if not (np.ndim(ridge) == 0 and float(ridge) >= 0):
        raise InputError(f"`{name}` expected `ridge` that is not negative, but it is {ridge!r}.")

    def init(features: Any) -> Moments:
        features = checked(name, features)
        xp = kind(features)
        members, _, width = features.shape
        shape = (members, classes if each else 1, width, width)
        zeros = lambda *size: xp.zeros(size, features.dtype)  # noqa: E731
        return Moments(xp.zeros(classes, xp.int32), zeros(members, classes, width), zeros(*shape))

    def update(state: Moments, features: Any, y: Any) -> Moments:
        features = checked(name, features, state.mean)
        if features.shape[1] == 0:
            return state
        xp = kind(features)
        check_same_length(features.shape[1], y)
        labels = xp.asarray(_check_labels(y, classes, f"`{name}`"))
        own = labels[:, None] == xp.arange(classes)
        hot = own.astype(features.dtype)
        count = own.sum(0).astype(xp.int32)
        origin = features[:, :1]  # a row: means far from 0 keep their digits
        number = xp.maximum(count, 1).astype(features.dtype)[:, None]
        mean = origin + xp.einsum("nc,knd->kcd", hot, features - origin) / number
        centred = features - mean[:, labels]
        if each:
            scatter = each_class(xp, lambda h: xp.einsum("n,knd,kne->kde", h, centred, centred), hot.T)
            scatter = xp.moveaxis(scatter, 0, 1)
        else:
            scatter = xp.einsum("knd,kne->kde", centred, centred)[:, None]
        return merge(state, Moments(count, mean, scatter))

    def merge(one: Moments, other: Moments) -> Moments:
        xp = kind(one.mean)
        dtype = one.mean.dtype
        a, b = one.count.astype(dtype), other.count.astype(dtype)
        share = b / xp.maximum(a + b, 1)
        shift = other.mean - one.mean
        weight = xp.sqrt(a * share)[:, None]
        if each:
            between = xp.einsum("kcd,kce->kcde", weight * shift, weight * shift)
        else:
            between = xp.einsum("kcd,kce->kde", weight * shift, weight * shift)[:, None]
        mean = one.mean + share[:, None] * shift
        return Moments(one.count + other.count, mean, one.scatter + other.scatter + between)

    def finish(state: Moments) -> _Gaussians:
        xp = kind(state.mean)
        dtype = state.mean.dtype
        count = state.count.astype(dtype)
        if is_concrete(state.count) and not np.asarray(state.count).any():
            raise InputError(f"`{name}` has seen no examples.")
        total = xp.maximum(count.sum(), 1)
        centre = xp.einsum("c,kcd->kd", count / total, state.mean)
        mean = state.mean - centre[:, None]
        scale = xp.sqrt(count)[:, None]
        between = xp.einsum("kcd,kce->kde", scale * mean, scale * mean)
        sizes = xp.maximum(count, 1)[:, None, None] if each else total
        with np.errstate(divide="ignore"):
            prior = xp.log(count / total)
        overall = _whiten(xp, (state.scatter.sum(1) + between) / total, ridge)
        return _Gaussians(centre, mean, _whiten(xp, state.scatter / sizes, ridge), overall, prior)

    def apply(fitted: _Gaussians, features: Any) -> Any:
        features = checked(name, features, fitted.mean)
        xp = kind(features)
        return score(xp, fitted, features - fitted.centre[:, None]).mean(0)

    return Detector(name, init, update, merge, finish, apply)


def _whiten(xp: Any, covariance: Any, ridge: float) -> Any:
    """W with Wᵀ W the inverse of the covariance, `(…, d, d)`; a covariance of zeros counts as the ridge alone."""
    width = covariance.shape[-1]
    spread = xp.trace(covariance, axis1=-2, axis2=-1)[..., None, None] / width
    small = xp.where(spread > 0, ridge * spread, xp.ones_like(spread))
    eye = xp.eye(width, dtype=covariance.dtype)
    return xp.linalg.inv(xp.linalg.cholesky(covariance + small * eye))


def _nearest(xp: Any, fitted: _Gaussians, features: Any) -> Any:
    white = xp.einsum("kde,kne->knd", fitted.whiten[:, 0], features)
    means = xp.einsum("kde,kce->kcd", fitted.whiten[:, 0], fitted.mean)
    distances = each_class(xp, lambda mean: xp.square(white - mean[:, None]).sum(-1), xp.moveaxis(means, 1, 0))
    return xp.where(xp.isfinite(fitted.log_prior)[:, None, None], distances, xp.inf).min(0)


def _relative(xp: Any, fitted: _Gaussians, features: Any) -> Any:
    white = xp.einsum("kde,kne->knd", fitted.overall, features)
    return _nearest(xp, fitted, features) - xp.square(white).sum(-1)


def _density(xp: Any, fitted: _Gaussians, features: Any) -> Any:
    def one(parts: Any) -> Any:
        mean, whiten, prior = parts
        white = xp.einsum("kde,kne->knd", whiten, features - mean[:, None])
        log_det = xp.log(xp.diagonal(whiten, axis1=-2, axis2=-1)).sum(-1)[:, None]
        return prior + log_det - 0.5 * xp.square(white).sum(-1)

    logs = each_class(xp, one, (xp.moveaxis(fitted.mean, 1, 0), xp.moveaxis(fitted.whiten, 1, 0), fitted.log_prior))
    top = logs.max(0)
    width = features.shape[-1]
    return -(top + xp.log(xp.exp(logs - top).sum(0))) + width * np.log(2 * np.pi).astype(features.dtype) / 2
