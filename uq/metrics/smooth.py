"""Calibration error without bins: gaps smoothed by a kernel whose width the data choose."""

from __future__ import annotations

from typing import Any, Literal

import jax
import numpy as np

from .._typing import ArrayLike, Key
from . import _events
from ._binning import add_up
from ._estimate import Estimate, Resample, Statistic, summarize
from ._events import simulate_events

_GRID = 4096
"""Steps into which [0, 1] is divided."""
_HALVINGS = 40


def smooth_calibration_error(
    pred: Any,
    y: ArrayLike,
    *,
    kind: Literal["binary", "confidence"] | None = None,
    weight: ArrayLike | None = None,
    key: Key | Resample | None = None,
) -> Estimate:
    """Smooth calibration error (smECE): the mean absolute gap between frequency and probability, after smoothing.

    With the Gaussian kernel K_σ reflected at 0 and 1, smECE_σ = ∫₀¹ |Σ_i (event_i − p_i) K_σ(t, p_i) / n| dt. It
    falls as σ grows, and the error is where it meets σ: smECE_σ = σ. Unlike a binned error it moves little when
    predictions do, and there is nothing to choose. A perfectly calibrated model does not score 0: with
    probabilities spread over [½, 1] about 0.055 for 100 examples and 0.024 for 1,000, more if they are spread
    over [0, 1]; with a `key`, `null` says what it would score here.

    Computed on 4,096 steps by a Fourier transform, in which reflection is exact; values below 0.001 carry the
    error of that grid.

    Args:
      pred: a `Predictive` of classes, or class probabilities `(N, C)`, `(N, 1)` or `(N,)`.
      y: labels `(N,)`.
      kind: "binary", P(1) against y = 1; or "confidence", the largest probability against its class being
        right; None is "binary" for two classes, else "confidence".
      weight: case weights `(N,)`.
      key: a key, a seed or a `Resample`: adds a bootstrap interval and `null`.
    Returns:
      An `Estimate` of one number in [0, 1]; its standard error is the delta method's at the fixed point.
    Raises:
      InputError: as `calibration_error`.
    References:
      blasiok2024. Checked against dense quadrature with reflected kernels, without a
      Fourier transform, and a bisection of its own.
    Example:
      >>> import numpy as np
      >>> p = np.linspace(0.1, 0.9, 200)
      >>> round(float(smooth_calibration_error(p, np.ones(200, int))), 2)
      0.5
    """
    stated, chosen = _events.single("smooth_calibration_error", pred, y, kind, weight)
    return summarize(
        _SMOOTH, stated, weight=weight, estimand=f"{chosen} smooth calibration error", key=key, reverse=True
    )


def _smooth(xp: Any, rows: Any, weight: Any) -> Any:
    spectrum = _spectrum(xp, rows, weight)
    sigma = _fixed_point(xp, spectrum)
    gap = _smoothed(xp, spectrum, sigma)
    step = (_integral(xp.abs(gap)) - sigma) / (1 - _slope(xp, spectrum, sigma, xp.sign(gap)))
    return sigma + step  # of Newton's method, through which gradients flow


def _influence(xp: Any, rows: Any, weight: Any, value: Any) -> Any:
    """Of smECE_σ at fixed σ, divided by 1 − ∂smECE_σ/∂σ, since σ moves with it."""
    spectrum = _spectrum(xp, rows, weight)
    gap = _smoothed(xp, spectrum, value)
    sign = xp.sign(gap)
    # ∫ sign(t) K(t, p) dt for every row: the smoothed sign, read off at p.
    mirrored = xp.concatenate([sign, sign[-2:0:-1]])
    half = _transformed(xp, xp.fft.rfft(mirrored).real / (2 * _GRID) * _damping(xp, value, gap.dtype)) * 2
    p = rows.p.astype(gap.dtype)
    at, share = _place(xp, p)
    towards = (1 - share) * half[at] + share * half[at + 1]
    own = rows.event.astype(gap.dtype) - p
    return xp.where(value > 0, own * towards - value, xp.nan) / (1 - _slope(xp, spectrum, value, sign))


_SMOOTH = Statistic(_smooth, _influence, simulate_events)


def _spectrum(xp: Any, rows: Any, weight: Any) -> Any:
    """Coefficients of cos(π k t), k = 0 … G, of Σ w_i (event_i − p_i) δ(t − p_i) / Σ w, mirrored at 0 and 1."""
    p = rows.p.astype(weight.dtype)
    at, share = _place(xp, p)
    gap = weight * (rows.event.astype(weight.dtype) - p) / weight.sum()
    grid = add_up(xp, at, gap * (1 - share), _GRID + 1) + add_up(xp, at + 1, gap * share, _GRID + 1)
    # A point and its mirror image fall on the same end: there the kernel counts twice.
    inner = xp.concatenate([2 * grid[:1], grid[1:-1], 2 * grid[-1:]])
    return xp.fft.rfft(xp.concatenate([inner, inner[-2:0:-1]])).real


def _place(xp: Any, p: Any) -> tuple[Any, Any]:
    """The step below p, and how far p is on its way to the next."""
    scaled = xp.clip(p, 0, 1) * _GRID
    at = xp.clip(scaled.astype(np.int32), 0, _GRID - 1)
    return at, scaled - at.astype(p.dtype)


def _damping(xp: Any, sigma: Any, dtype: Any) -> Any:
    """What the kernel makes of each wave; sharing a point between two steps has smoothed by h² / 6 already."""
    wave = xp.asarray(np.pi * np.arange(_GRID + 1), dtype)
    return xp.exp(-0.5 * xp.square(wave) * xp.maximum(xp.square(sigma) - 1 / (6 * _GRID**2), 0))


def _transformed(xp: Any, spectrum: Any) -> Any:
    """Values at the steps 0 … G, of density."""
    return xp.fft.irfft(spectrum, 2 * _GRID)[: _GRID + 1] * _GRID


def _smoothed(xp: Any, spectrum: Any, sigma: Any) -> Any:
    return _transformed(xp, spectrum * _damping(xp, sigma, spectrum.dtype))


def _slope(xp: Any, spectrum: Any, sigma: Any, sign: Any) -> Any:
    """∂smECE_σ/∂σ."""
    wave = xp.asarray(np.pi * np.arange(_GRID + 1), spectrum.dtype)
    change = -sigma * xp.square(wave) * _damping(xp, sigma, spectrum.dtype)
    return _integral(sign * _transformed(xp, spectrum * change))


def _integral(values: Any) -> Any:
    """Over [0, 1], by the trapezoidal rule."""
    return (values.sum() - 0.5 * (values[0] + values[-1])) / _GRID


def _fixed_point(xp: Any, spectrum: Any) -> Any:
    def halve(ends: tuple[Any, Any]) -> tuple[Any, Any]:
        low, high = ends
        middle = 0.5 * (low + high)
        above = _integral(xp.abs(_smoothed(xp, spectrum, middle))) > middle
        return xp.where(above, middle, low), xp.where(above, high, middle)

    ends = xp.zeros((), spectrum.dtype), xp.ones((), spectrum.dtype)
    if xp is not np:
        spectrum = jax.lax.stop_gradient(spectrum)
    if xp is np:
        for _ in range(_HALVINGS):
            ends = halve(ends)
    else:
        ends = jax.lax.fori_loop(0, _HALVINGS, lambda _, ends: halve(ends), ends)
    return 0.5 * (ends[0] + ends[1])
