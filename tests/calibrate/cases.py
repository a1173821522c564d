"""Predictions with known truth: calibrated ones, and what a known distortion makes of them."""

import jax.numpy as jnp
import numpy as np
from scipy import special

import uq

BINARY = ("platt", "beta")
"""Recalibrators of two classes alone."""


def drawn(rng, probs):
    """Outcomes `(N,)` of class probabilities `(N, C)`."""
    return (rng.random((len(probs), 1)) > np.cumsum(probs, 1)[:, :-1]).sum(1)


def problem(num_classes, size, seed=0, scale=1.5):
    """True logits `(N, C)`, imbalanced, and outcomes that follow them."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(size, num_classes)) + np.linspace(0, 1, num_classes)
    return logits, drawn(rng, special.softmax(logits, 1))


def predictive(logits, members=3, seed=1, spread=0.7, weight=None, dtype=np.float32):
    """Members that disagree about `logits` `(N, C)`; of two classes, yes or no."""
    rng = np.random.default_rng(seed)
    outputs = logits + spread * rng.normal(size=(members, *logits.shape))
    num_classes = logits.shape[1]
    if num_classes == 2:
        return uq.Predictive(
            jnp.asarray((outputs[..., 1:] - outputs[..., :1]).astype(dtype)), uq.likelihoods.Bernoulli(), weight
        )
    return uq.Predictive(jnp.asarray(outputs.astype(dtype)), uq.likelihoods.Categorical(num_classes), weight)


def probs(pred):
    return np.asarray(pred.probs, np.float64)


def log_loss(p, y, weight=None):
    p = np.asarray(p, np.float64)
    if p.ndim == 1:
        p = np.stack([1 - p, p], 1)
    with np.errstate(divide="ignore"):
        return np.average(-np.log(p[np.arange(len(y)), y]), weights=weight)


def recalibrators(num_classes):
    return [name for name in uq.calibrate.CLASSES if num_classes == 2 or name not in BINARY]
