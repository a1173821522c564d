"""Families of labels against scipy and loops over labels."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special, stats

from uq._checks import InputError
from uq.laws import classes
from uq.laws._family import family_of

PROBS = np.asarray([[0.05, 0.6, 0.0, 0.35], [0.25, 0.25, 0.25, 0.25], [0.0, 0.0, 1.0, 0.0]], np.float32)
LABELS = np.asarray([-1.0, 0.0, 1.0, 1.4, 3.0, 5.0], np.float32)


def score(probs, y):
    """∫ (F(x) − 1{y ≤ x})² dx."""
    below = np.cumsum(probs)
    total = max(-y, 0.0) + max(y - len(probs) + 1, 0.0)
    for label, level in enumerate(below[:-1]):
        share = np.clip(y - label, 0, 1)
        total += share * level**2 + (1 - share) * (1 - level) ** 2
    return total


def categorical(function, y, probs=PROBS):
    """All labels against all rows, `(rows, labels)`."""
    log_probs = classes._log(jnp.asarray(probs))[:, None, :]
    return np.asarray(jax.jit(function)(jnp.broadcast_to(y, (len(probs), len(y))), log_probs))


def test_categorical_is_a_distribution_of_numbers():
    family = classes.CATEGORICAL
    rows = PROBS.astype(float)
    cdf = np.asarray([[row[: int(np.floor(y)) + 1].sum() if y >= 0 else 0 for y in LABELS] for row in rows])
    np.testing.assert_allclose(categorical(family.cdf, LABELS), cdf, atol=1e-6)
    np.testing.assert_allclose(categorical(family.sf, LABELS), 1 - cdf, atol=1e-6)
    np.testing.assert_allclose(np.exp(categorical(family.log_cdf, LABELS)), cdf, atol=1e-6)
    np.testing.assert_allclose(np.exp(categorical(family.log_sf, LABELS)), 1 - cdf, atol=1e-6)
    pmf = np.asarray([[row[int(y)] if y in (0, 1, 3) else 0 for y in LABELS] for row in rows])
    np.testing.assert_allclose(np.exp(categorical(family.log_prob, LABELS)), pmf, atol=1e-6)
    exact = [[score(row, float(y)) for y in LABELS] for row in rows]
    np.testing.assert_allclose(categorical(family.crps, LABELS), exact, rtol=1e-5, atol=1e-6)


def test_categorical_quantiles_moments_entropy():
    family, log_probs = classes.CATEGORICAL, classes._log(jnp.asarray(PROBS))
    host = family.host(classes._log(PROBS.astype(float)))
    for level in (0.01, 0.05, 0.3, 0.66, 0.99):
        tail = jnp.full(3, level)
        lower = family.icdf(tail, jnp.zeros(3, bool), log_probs)
        upper = family.icdf(tail, jnp.ones(3, bool), log_probs)
        np.testing.assert_array_equal(lower, host.ppf(np.full(3, np.float32(level), float)))
        np.testing.assert_array_equal(upper, host.isf(np.full(3, np.float32(level), float)))
    np.testing.assert_array_equal(
        family.icdf(jnp.asarray([0.0, 1.0, 1.1]), jnp.zeros(3, bool), log_probs[:1]), [0, 3, np.nan]
    )
    labels = np.arange(4)
    mean = (PROBS * labels).sum(-1)
    np.testing.assert_allclose(family.moments(log_probs)[0], mean, rtol=1e-6)
    np.testing.assert_allclose(family.moments(log_probs)[1], (PROBS * (labels - mean[:, None]) ** 2).sum(-1), atol=1e-6)
    np.testing.assert_allclose(family.entropy(log_probs), stats.entropy(PROBS, axis=-1), atol=1e-6)
    np.testing.assert_allclose(host.entropy(), stats.entropy(PROBS.astype(float), axis=-1), atol=1e-6)


def test_the_host_twin_of_labels():
    twin = classes.Labels(np.log([0.2, 0.5, 0.3]))
    exact = stats.rv_discrete(values=(np.arange(3), [0.2, 0.5, 0.3]))
    y = np.asarray([-1.0, 0.0, 1.0, 2.0, 3.0])
    for name in ("pmf", "cdf", "sf"):
        np.testing.assert_allclose(getattr(twin, name)(y), getattr(exact, name)(y), atol=1e-12)
    np.testing.assert_allclose(np.exp(twin.logpmf(y)), exact.pmf(y), atol=1e-12)
    np.testing.assert_allclose(np.exp(twin.logcdf(y)), exact.cdf(y), atol=1e-12)
    np.testing.assert_allclose(np.exp(twin.logsf(y)), exact.sf(y), atol=1e-12)
    level = np.asarray([0.1, 0.5, 0.9])
    np.testing.assert_array_equal(twin.ppf(level), exact.ppf(level))
    np.testing.assert_array_equal(twin.isf(level), exact.isf(level))
    assert (twin.mean(), twin.var(), twin.entropy()) == pytest.approx((exact.mean(), exact.var(), exact.entropy()))


def test_bernoulli_is_scipys_and_the_categorical_of_two():
    p = np.asarray([0.0, 1e-4, 0.3, 1.0], np.float32)
    no, yes = classes._log(1 - jnp.asarray(p)), classes._log(jnp.asarray(p))
    host = classes.BERNOULLI.host(np.log1p(-p.astype(float)[1:3]), np.log(p.astype(float)[1:3]))
    pair = jnp.stack([no, yes], -1)
    for y in (-0.5, 0.0, 0.4, 1.0, 2.5):
        y = jnp.full(4, y)
        for name in ("log_prob", "cdf", "sf", "log_cdf", "log_sf", "crps"):
            ours, other = getattr(classes.BERNOULLI, name), getattr(classes.CATEGORICAL, name)
            np.testing.assert_allclose(ours(y, no, yes), other(y, pair), rtol=1e-5, atol=1e-7, err_msg=name)
        np.testing.assert_allclose(classes.BERNOULLI.cdf(y, no, yes)[1:3], host.cdf(np.asarray(y)[1:3]), rtol=1e-6)
    for level in (0.2, 0.9):
        for upper in (False, True):
            arguments = jnp.full(4, level), jnp.full(4, upper)
            found = classes.BERNOULLI.icdf(*arguments, no, yes)
            np.testing.assert_array_equal(found, classes.CATEGORICAL.icdf(*arguments, pair))
            exact = host.isf(level) if upper else host.ppf(level)
            np.testing.assert_array_equal(found[1:3], np.broadcast_to(exact, 2))
    np.testing.assert_allclose(classes.BERNOULLI.moments(no, yes), [p, p * (1 - p)], rtol=1e-5)
    np.testing.assert_allclose(classes.BERNOULLI.entropy(no, yes), special.entr(p) + special.entr(1 - p), atol=1e-6)


def test_logits_keep_what_probabilities_lose():
    family, parameters = family_of(dist.Bernoulli(logits=jnp.float32(-150.0)))
    assert float(family.log_prob(jnp.float32(1.0), *parameters)) == pytest.approx(-150)
    family, parameters = family_of(dist.Categorical(logits=jnp.asarray([0.0, -200.0])))
    assert float(family.log_prob(jnp.float32(1.0), *parameters)) == pytest.approx(-200)
    assert float(family.log_sf(jnp.float32(0.0), *parameters)) == pytest.approx(-200)


def ordered(latent, cuts):
    """Grades as differences of sigmoids in float64, each from its accurate side."""
    edges = np.concatenate([[-np.inf], np.asarray(cuts, float), [np.inf]]) - latent
    low, high = special.expit(edges[:-1]), special.expit(edges[1:])
    return np.where(edges[:-1] > 0, special.expit(-edges[:-1]) - special.expit(-edges[1:]), high - low)


@pytest.mark.parametrize("latent", [-40.0, -12.0, 0.3, 12.0, 40.0])
def test_grades_do_not_cancel_in_float32(latent):
    cuts = np.asarray([-1.0, -0.5, 1.5], np.float32)
    law = dist.OrderedLogistic(jnp.asarray([latent]), jnp.asarray(cuts))
    exact = ordered(np.float32(latent).astype(float), cuts)
    np.testing.assert_allclose(classes.class_probs(law)[0], exact, rtol=2e-5)
    family, (log_probs,) = family_of(law)
    assert family is classes.CATEGORICAL
    np.testing.assert_allclose(np.asarray(log_probs)[0], np.log(exact), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        classes.ordered_log_probs(np.float64(latent), cuts.astype(float)), np.log(exact), atol=1e-12
    )


def test_class_probs_of_every_kind():
    assert np.asarray(classes.class_probs(dist.Bernoulli(probs=jnp.asarray([0.25])))).tolist() == [[0.75, 0.25]]
    np.testing.assert_allclose(
        classes.class_probs(dist.Bernoulli(logits=jnp.asarray(-1.2))), special.expit([1.2, -1.2]), rtol=1e-6
    )
    np.testing.assert_allclose(classes.class_probs(dist.Categorical(probs=jnp.asarray(PROBS))), PROBS)
    logits = jnp.asarray([[1.0, 2.0, -1.0]])
    np.testing.assert_allclose(
        classes.class_probs(dist.Categorical(logits=logits)), special.softmax(logits, -1), rtol=1e-6
    )
    with pytest.raises(InputError, match="Normal"):
        classes.class_probs(dist.Normal(0.0, 1.0))


def test_class_entropy_at_certainty():
    np.testing.assert_allclose(classes.class_entropy(jnp.asarray(PROBS)), stats.entropy(PROBS, axis=-1), atol=1e-6)
    slope = jax.grad(lambda probs: classes.class_entropy(probs).sum())(jnp.asarray(PROBS))
    assert np.isfinite(slope).all()


def test_derivatives_are_finite_at_probabilities_of_zero_and_one():
    def total(probs, y):
        log_probs = classes._log(probs)
        family = classes.CATEGORICAL
        return (
            sum(getattr(family, name)(y, log_probs).sum() for name in ("cdf", "sf", "crps"))
            + jnp.where(y == 1, family.log_prob(jnp.ones_like(y), log_probs), 0)[0]
        )

    slope = jax.grad(lambda probs: total(probs, jnp.asarray([1.0, 2.0, 0.0])))(jnp.asarray(PROBS))
    assert np.isfinite(slope).all()

    def one(p):
        no, yes = classes._log(1 - p), classes._log(p)
        return sum(getattr(classes.BERNOULLI, name)(jnp.ones(3), no, yes).sum() for name in ("cdf", "crps", "sf"))

    assert np.isfinite(jax.grad(one)(jnp.asarray([0.0, 0.4, 1.0]))).all()


def test_labels_of_nan_are_nan():
    nan = jnp.asarray([jnp.nan, 1.0, 1.0])
    log_probs = classes._log(jnp.asarray(PROBS))
    for name in ("log_prob", "cdf", "sf", "crps"):
        assert np.isnan(np.asarray(getattr(classes.CATEGORICAL, name)(nan, log_probs))).tolist() == [True, False, False]
