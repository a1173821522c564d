"""scipy agrees: tests of uniformity, densities of every family, entropies of probabilities, rank statistics."""

import numpy as np
import pytest
from scipy import special, stats

from uq import metrics

from ..contract.families import FAMILIES


@pytest.mark.parametrize("size", [5, 60, 2000])
def test_uniformity(size):
    u = np.random.default_rng(0).beta(1.1, 0.9, size)
    for test, want in (("ks", stats.kstest(u, "uniform")), ("cvm", stats.cramervonmises(u, "uniform"))):
        found = metrics.pit_test(u, test=test)
        assert (found.statistic, found.p_value) == pytest.approx((want.statistic, want.pvalue), rel=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_families(name):
    """Log-densities, distribution functions, quantiles and moments, for a numpyro and for a scipy distribution."""
    ours, theirs, base = FAMILIES[name]
    law = theirs(*base)
    levels = np.array([1e-4, 0.03, 0.5, 0.8, 0.999])
    y = law.ppf(levels)
    pred = ours(*(np.full(5, value) for value in base))
    column = theirs(*(np.full(5, value) for value in base))
    want = -(law.logpmf if hasattr(law.dist, "pmf") else law.logpdf)(y)
    for each in (pred, column):
        np.testing.assert_allclose(metrics.log_score(each, y), want, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(metrics.squared_error(each, y), (y - law.mean()) ** 2, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(metrics.absolute_error(each, y), np.abs(y - law.median()), rtol=1e-7, atol=1e-9)
        low, high = law.ppf(0.1), law.isf(0.1)
        want_width = np.full(5, high - low)
        np.testing.assert_allclose(metrics.interval_width(each, level=0.8), want_width, rtol=1e-8)
        if not hasattr(law.dist, "pmf"):
            np.testing.assert_allclose(metrics.pit(each, y), levels, rtol=1e-6)
        if np.isfinite(law.var()):
            want_score = (y - law.mean()) ** 2 / law.var() + np.log(law.var())
            np.testing.assert_allclose(metrics.dawid_sebastiani(each, y), want_score, rtol=1e-7, atol=1e-9)


def test_information():
    members = np.random.default_rng(1).dirichlet(np.ones(4), (5, 12))
    mean = members.mean(0)
    want = np.mean([[stats.entropy(p, q) for p, q in zip(member, mean, strict=True)] for member in members])
    assert float(metrics.mutual_information(members)) == pytest.approx(want)
    pairs = [
        special.rel_entr(a, b).sum(-1).mean() for i, a in enumerate(members) for j, b in enumerate(members) if i != j
    ]
    assert float(metrics.pairwise_kl(members)) == pytest.approx(np.mean(pairs))
    total = metrics.uncertainty_decomposition(members, measure="entropy").total
    assert float(total) == pytest.approx(stats.entropy(mean, axis=-1).mean())


def test_ranks_and_pairs():
    rng = np.random.default_rng(2)
    scores, labels = np.round(100 + 5 * rng.normal(size=80)), (rng.uniform(size=80) < 0.3).astype(int)
    u = stats.mannwhitneyu(scores[labels == 1], scores[labels == 0]).statistic
    assert float(metrics.auroc(scores, labels)) == pytest.approx(u / (labels.sum() * (1 - labels).sum()))
    a, b, y = (300 + 40 * rng.normal(size=50) for _ in range(3))
    found = metrics.compare(a, b, y, metric="absolute_error")
    assert found.p_value == pytest.approx(stats.ttest_rel(np.abs(a - y), np.abs(b - y)).pvalue)
    draws = rng.normal(size=(50, 2))
    assert metrics.crps_ensemble(draws[:, 0], 3.0) == pytest.approx(
        stats.energy_distance(draws[:, 0], [3.0]) ** 2 / 2, rel=1e-9
    )


def test_the_multivariate_normal():
    rng = np.random.default_rng(3)
    root = rng.normal(size=(3, 3))
    covariance, mean, y = root @ root.T + np.eye(3), rng.normal(size=3), rng.normal(size=(6, 3))
    want = -2 * stats.multivariate_normal(mean, covariance).logpdf(y) - 3 * np.log(2 * np.pi)
    found = metrics.dawid_sebastiani((np.tile(mean, (6, 1)), np.tile(covariance, (6, 1, 1))), y)
    np.testing.assert_allclose(found, want, rtol=1e-10)
