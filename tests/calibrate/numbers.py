"""Ensembles with a known flaw, and what they are checked against: mixtures of normals by scipy."""

import jax.numpy as jnp
import numpy as np
from scipy import special, stats

import uq
from uq.likelihoods._links import raw_of

UNIT = 1e-3
KIND = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), 0.0, UNIT)


def gaussians(means, scales, weight=None, *, loc=0.0):
    """Members `(M, N)` as a `Predictive`; scales of any size above 1e-6."""
    kind = uq.likelihoods.transformed(uq.likelihoods.Gaussian(), loc, UNIT)
    raw = raw_of(jnp.asarray(scales / UNIT, jnp.float32), 1e-3)
    outputs = jnp.stack([jnp.asarray((means - loc) / UNIT, jnp.float32), raw], -1)
    return uq.Predictive(outputs, kind, None if weight is None else jnp.asarray(weight, jnp.float32))


def ensemble(seed, num, size, *, noise=1.0, spread=0.5, said=1.0, claimed=1.0, df=None):
    """`size` members whose means err around a common one by `spread`, and outcomes with `noise` about that one.

    Members say `said` times the noise, and the common mean errs by `claimed` times the spread besides.
    """
    rng = np.random.default_rng(seed)
    level = np.exp(0.5 * rng.normal(size=num))
    centre = 10 * rng.normal(size=num)
    own = spread * np.exp(0.3 * rng.normal(size=num))
    truth = centre + claimed * own * rng.normal(size=num)
    draws = rng.normal(size=num) if df is None else rng.standard_t(df, num) * np.sqrt((df - 2) / df)
    y = truth + noise * level * draws
    means = centre + own * rng.normal(size=(size, num))
    scales = np.broadcast_to(said * noise * level, (size, num))
    return means, scales, y


def mixture_log_score(means, scales, y, df=None):
    law = stats.norm(means, scales) if df is None else stats.t(df, means, scales)
    log_prob = law.logpdf(y)
    return -(special.logsumexp(log_prob, axis=0) - np.log(len(means)))
