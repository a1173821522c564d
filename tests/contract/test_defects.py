"""The 36 defects of other packages that a survey found, each with a test that we do not have it.

The tests are called `test_defect_<number>_…` and stand beside what they test; those here show the wrong answer next to
ours, or have no better place. The wrong computations are written out from their description.
"""

import ast
import re
from fractions import Fraction
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats
from sklearn.metrics import roc_auc_score

import uq
from uq import metrics
from uq.metrics._forecast import forecast

DEFECTS = {
    1: "the wrong tail is counted: the least likely is kept, and coverage alone does not show it",
    2: "proportions below quantiles are mirrored",
    3: "ties of scores are not grouped",
    4: "weighted interval score measured from 0 and not from the median",
    5: "log score as the logarithm of a density that underflows",
    6: "Poisson CRPS by factorials and unscaled Bessel functions",
    7: "logistic CRPS overflows far out",
    8: "truncated normal by a difference of distribution functions",
    9: "Student t CRPS in float32 at large degrees of freedom; its gradients",
    10: "arrays of the caller are modified",
    11: "uniform weights differ from no weights for an even number of members",
    12: "one fixed axis, so that other shapes fail",
    13: "a sum over a lattice that ends too early",
    14: "NaN for outcomes outside the support",
    15: "CRPS of quantiles that ignores the spacing of levels",
    16: "skewness with one factor too few",
    17: "isotonic recalibration that does not pool ties",
    18: "value checks on tracers; NaN gradients where members coincide",
    19: "resolution pairs the forecast with the wrong axis",
    20: "largest gap multiplied by counts",
    21: "coverage at a risk is NaN when the most confident example is wrong",
    22: "an interpolated quantile in place of an order statistic",
    23: "the binning silently changes the estimand",
    24: "an interval that is not equal-tailed; none for mixtures",
    25: "one bin fewer than asked for; bins of unsorted scores",
    26: "an order statistic one rank too high, by floating-point levels",
    27: "pinball loss of the nearer end of an interval",
    28: "ties or constant spread have no bins",
    29: "classes inferred from labels; calibration errors averaged over batches",
    30: "probability 1 in a bin of its own; scores squashed batch by batch",
    31: "variance as a difference of squares in float32",
    32: "a quantile that cannot be reached is silently the largest value",
    33: "the last example is never used",
    34: "mean of the means of batches of different sizes",
    35: "a binned decomposition that does not add up",
    36: "thresholds on a fixed grid",
}
"""1, 22, 26 and 32 were found in conformal procedures; what is tested here is what shares their trap."""

ROOT = Path(__file__).parents[1]


def named_tests():
    """Numbers of defects → names of the tests that assert something about them."""
    found = {}
    for path in sorted(ROOT.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_defect_"):
                numbers = re.match(r"test_defect_((?:\d\d_(?:and_)?)+)", node.name).group(1)
                if any(map(asserts, ast.walk(node))):
                    for number in re.findall(r"\d\d", numbers):
                        found.setdefault(int(number), []).append(f"{path.relative_to(ROOT)}::{node.name}")
    return found


def asserts(node):
    if isinstance(node, ast.Assert):
        return True
    return isinstance(node, ast.Attribute) and (node.attr.startswith("assert_") or node.attr == "raises")


def test_each_defect_has_a_named_test():
    found = named_tests()
    assert sorted(DEFECTS) == list(range(1, 37))
    assert sorted(found) == sorted(DEFECTS), sorted(set(DEFECTS) - set(found))


# Defects shown beside the wrong answer


def classifier(size=400, classes=5):
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(classes, 0.25), size)
    return probs, (probs.cumsum(1) < rng.uniform(size=(size, 1))).sum(1).clip(0, classes - 1)


def test_defect_01_the_more_likely_is_kept_which_coverage_does_not_show():
    probs, y = classifier()
    score = 1 - probs[np.arange(400), y]
    rank = int(np.ceil(401 * 0.9))
    kept = 1 - probs <= np.sort(score)[rank - 1]
    mirrored = 1 - probs >= np.sort(score)[400 - rank]  # as many scores above as there should be below
    for sets in (kept, mirrored):
        assert sets[np.arange(400), y].mean() == pytest.approx(0.9, abs=0.02)  # coverage sees no difference
    assert kept.sum(1).mean() < 3 < 4 < mirrored.sum(1).mean()
    # Ours: confidence is the largest probability, the most confident are kept first, and width beside coverage tells.
    order = np.argsort(-probs.max(1), kind="stable")
    wrong = (probs.argmax(1) != y)[order]
    assert float(metrics.risk_at_coverage(probs, y, coverage=0.25)) == pytest.approx(wrong[:100].mean())
    assert float(metrics.risk_at_coverage(probs, y, coverage=0.25)) < wrong[-100:].mean()
    assert float(metrics.accuracy(probs, y)) == pytest.approx(1 - wrong.mean())
    normal, outcome = stats.norm(300.0, 20.0), stats.norm(300.0, 20.0).rvs(4000, random_state=1)
    low, high = forecast("test", normal).quantile([0.05, 0.95])
    assert (low, high) == pytest.approx((300 - 20 * 1.6448536, 300 + 20 * 1.6448536))
    inside, outside = (low, high), (normal.ppf(0.45), normal.ppf(0.55))
    assert float(metrics.coverage(tuple(np.full(4000, end) for end in inside), outcome)) == pytest.approx(0.9, abs=0.02)
    assert float(metrics.coverage(tuple(np.full(4000, end) for end in outside), outcome)) == pytest.approx(
        0.1, abs=0.02
    )


def test_defect_02_mirrored_proportions_make_a_bias_worse():
    """With P(y ≥ μ − σ z) for P(y ≤ μ + σ z), recalibrating a biased forecast doubles its bias."""
    rng = np.random.default_rng(0)
    loc = 300 + 40 * rng.normal(size=4000)
    y = loc - 10 + 20 * rng.normal(size=4000)
    levels = np.array([0.25, 0.5, 0.75, 0.9])
    z = stats.norm.ppf(levels)[:, None]
    mirrored = ((loc - y) / 20 <= z).mean(1)
    right = (y <= loc + 20 * z).mean(1)
    ours = metrics.quantile_calibration(stats.norm(loc, 20.0), y, levels=levels).observed
    np.testing.assert_allclose(ours, right)
    assert (ours > levels).all() and (mirrored < levels).all()
    grid = np.linspace(0.001, 0.999, 999)
    observed = metrics.quantile_calibration(stats.norm(loc, 20.0), y, levels=grid).observed
    recalibrated = np.interp(levels, observed, grid)  # the level that has the wanted share below it
    np.testing.assert_allclose((y <= loc + 20 * stats.norm.ppf(recalibrated)[:, None]).mean(1), levels, atol=2e-3)


def area_without_ties(scores, labels):
    """One threshold a row, from the highest score on."""
    order = np.argsort(-scores, kind="stable")
    tpr = np.r_[0, np.cumsum(labels[order])] / labels.sum()
    fpr = np.r_[0, np.cumsum(1 - labels[order])] / (1 - labels).sum()
    return ((tpr[1:] + tpr[:-1]) / 2 * np.diff(fpr)).sum()


def test_defect_03_one_threshold_a_row_depends_on_their_order():
    rng = np.random.default_rng(1)
    votes, labels = rng.integers(0, 3, 300) / 2, np.repeat([1, 0], [100, 200])
    assert area_without_ties(np.ones(300), labels) == 1.0  # of a score that says nothing
    assert area_without_ties(np.ones(300), labels[::-1]) == 0.0
    first, last = area_without_ties(votes, labels), area_without_ties(votes[::-1], labels[::-1])
    exact = roc_auc_score(labels, votes)
    assert last < exact - 0.1 and exact + 0.1 < first
    for order in (slice(None), slice(None, None, -1)):
        assert float(metrics.auroc(votes[order], labels[order])) == pytest.approx(exact, abs=1e-12)
        assert float(metrics.auroc(np.ones(300), labels[order])) == 0.5
        assert float(metrics.average_precision(np.ones(300), labels[order])) == pytest.approx(1 / 3)
        assert float(metrics.fpr_at_tpr(np.ones(300), labels[order])) == 1.0


def test_defect_04_the_median_is_subtracted_from_the_outcome():
    wrong = (0.5 * 10.0 + 0.25 * 2.0 + 0) / 1.5  # half the median, not half the distance from it
    assert wrong == pytest.approx(3.6667, abs=1e-4)
    ours = metrics.weighted_interval_score([[9.0], [10.0], [11.0]], [10.0], level=[0.25, 0.5, 0.75])
    assert float(ours[0]) == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_defect_07_logistic_crps_far_out(kind):
    y, loc = np.array([-800.0, -100.0, 0.0, 100.0, 800.0], kind), np.zeros(5, kind)
    with np.errstate(over="ignore", divide="ignore"):
        assert not np.isfinite(y - 2 * np.log(1 / (1 + np.exp(-y))) - 1).all()
    law = stats.logistic(0, 1)
    want = [abs(v) - 1 if abs(v) > 50 else 2 * np.log(2) - 1 for v in np.float64(y)]
    got = metrics.crps(dist.Logistic(loc, np.ones(5, kind), validate_args=False), y)
    np.testing.assert_allclose(got, want, rtol=1e-6 if kind is np.float32 else 1e-10)
    np.testing.assert_allclose(metrics.crps(law, np.float64(y)), want, rtol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(8.0, 10.0), (40.0, 42.0), (-42.0, -40.0), (-1.0, 0.0)])
def test_defect_08_truncated_normals_in_the_tails(low, high):
    """Between 8 and 10 standard deviations a difference of distribution functions says 9.003 where it is 0.818."""
    y = (low + high) / 2
    law = stats.truncnorm(low, high)
    width = high - low
    below = integrate.quad(lambda t: law.cdf(t) ** 2, low, y, epsabs=1e-12, limit=200, points=[low + 0.05 * width])[0]
    above = integrate.quad(lambda t: law.sf(t) ** 2, y, high, epsabs=1e-12, limit=200, points=[high - 0.05 * width])[0]
    if low == 8.0:
        assert below + above == pytest.approx(0.818, abs=1e-3)
    for kind in (np.float64, np.float32):
        given = [np.array([value], kind) for value in (0.0, 1.0, low, high)]
        pred = dist.TruncatedNormal(given[0], given[1], low=given[2], high=given[3], validate_args=False)
        outcome = np.array([y], kind)
        assert float(metrics.crps(pred, outcome)[0]) == pytest.approx(below + above, rel=1e-4)
        assert float(metrics.log_score(pred, outcome)[0]) == pytest.approx(-law.logpdf(y), rel=1e-4)


def test_defect_16_skewness_is_divided_by_all_members():
    rng = np.random.default_rng(2)
    draws, y = 30 + rng.gamma(2.0, 3.0, (10, 6)), 30 + rng.gamma(2.0, 3.0, 6)
    mean, sd = draws.mean(0), draws.std(0)
    third = ((draws - mean) ** 3).sum(0) / sd**3
    right = (sd**2 - (mean - y) ** 2 - (mean - y) * sd * third / 10) ** 2
    wrong = (sd**2 - (mean - y) ** 2 - (mean - y) * sd * third / (9 * 8)) ** 2
    ours = metrics.error_spread_score(draws, y)
    np.testing.assert_allclose(ours, right, rtol=1e-10)
    assert (np.abs(ours - wrong) > 1e-3 * np.abs(ours)).all()


def test_defect_21_the_most_confident_example_may_be_wrong():
    """A flipped search indexes the curve from the wrong end, and has no answer where its first point is too high."""
    rng = np.random.default_rng(3)
    unanswered = 0
    for _ in range(100):
        confidence, wrong = rng.random(50), (rng.random(50) < 0.2).astype(float)
        risk = np.cumsum(wrong[np.argsort(-confidence)]) / np.arange(1, 51)
        unanswered += risk[0] > 0.2 and (risk <= 0.2).any()
        exact = (np.flatnonzero(risk <= 0.2).max() + 1) / 50 if (risk <= 0.2).any() else 0.0
        assert float(metrics.coverage_at_risk(confidence=confidence, loss=wrong, risk=0.2)) == pytest.approx(exact)
    assert unanswered > 5


def ranks_of(size, level):
    """Which of the draws 1, 2, …, `size` is our quantile of that level."""
    return int(forecast("test", np.arange(1.0, size + 1)[:, None]).quantile(level)[0])


CELLS = [(size, percent) for size in range(1, 101) for percent in range(1, 100)]


def test_defect_22_quantiles_of_draws_are_order_statistics():
    """Linear interpolation lies below the order statistic in most cells."""
    low = 0
    for size, percent in CELLS[::7]:
        exact = -(-size * percent // 100)  # ⌈size · level⌉ in whole numbers
        assert ranks_of(size, percent / 100) == exact
        low += np.quantile(np.arange(1.0, size + 1), percent / 100) < exact - 1e-9
    assert low > 0.4 * len(CELLS[::7])


def test_defect_24_equal_tails_also_of_mixtures():
    """The interval is between two quantiles of the mixture, not of all points at least as dense as one of them."""
    mixture = dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.asarray([[0.3, 0.7]])),
        dist.Normal(jnp.asarray([[0.0, 9.0]]), jnp.asarray([[1.0, 2.0]])),
    )
    low, high = (float(end[0]) for end in forecast("test", mixture).quantile([0.1, 0.9]))
    both = [0.3 * stats.norm.cdf(end, 0, 1) + 0.7 * stats.norm.cdf(end, 9, 2) for end in (low, high)]
    assert both == pytest.approx([0.1, 0.9], abs=1e-5)
    skewed = stats.gamma(1.5, scale=4.0)
    y = skewed.rvs(4000, random_state=0)
    assert float(metrics.coverage(stats.gamma(np.full(4000, 1.5), scale=4.0), y, level=0.8)) == pytest.approx(
        0.8, abs=0.02
    )
    denser = skewed.pdf(y) >= skewed.pdf(skewed.ppf(0.1))
    assert abs(denser.mean() - 0.8) > 0.02


def test_defect_26_levels_are_rational():
    """⌈M q⌉ in floating point is one rank too high where M q should be a whole number."""
    high = 0
    for size, percent in CELLS:
        exact = -(-size * percent // 100)
        floating = int(np.ceil(size * (1 - (1 - percent / 100))))
        high += floating > exact
        assert floating >= exact - 1
    assert high > 20
    for size, percent in ((25, 56), (50, 14), (100, 7), (100, 29), (75, 28), (100, 57), (40, 55)):
        level = 1 - (1 - percent / 100)  # a level that has been through arithmetic
        assert ranks_of(size, level) == Fraction(size * percent, 100) == ranks_of(size, percent / 100)


def test_defect_32_levels_that_do_not_exist_are_refused_and_not_replaced():
    draws, y = np.arange(5.0)[:, None], [2.0]
    for level in (1.0, 1.05, 0.0, np.nan):
        with pytest.raises(uq.InputError, match="level"):
            metrics.coverage(draws, y, level=level)
        with pytest.raises(uq.InputError, match="level"):
            metrics.quantile_score(stats.norm([0.0], 1.0), y, level=level)
    assert float(metrics.coverage((np.array([-np.inf]), np.array([np.inf])), y)) == 1.0  # all is a legal answer
    assert np.isinf(metrics.interval_score([-np.inf], [np.inf], y, level=0.9)).all()


def test_defect_35_three_terms_are_not_the_binned_brier_score():
    rng = np.random.default_rng(5)
    p = rng.beta(1.2, 2.5, 800)
    y = (rng.uniform(size=800) < p**1.2).astype(int)
    found = metrics.brier_decomposition(p, y, bins=5)
    three = float(found.reliability) - float(found.resolution) + float(found.uncertainty)
    brier = ((p - y) ** 2).mean()
    assert abs(three - brier) > 1e-3
    assert three + float(found.within_variance) - float(found.within_covariance) == pytest.approx(brier, rel=1e-12)
