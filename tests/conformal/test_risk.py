"""Conformal risk control, risk-controlling prediction sets, learn then test: loops, known cases, simulation."""

import math

import numpy as np
import pytest
from scipy import stats

import uq
from uq import conformal
from uq.conformal._bounds import p_value, upper_bound

GRID = np.linspace(0, 1, 41)


def losses_of(rng, num, *, fall=True):
    """A smooth loss that falls from about 1 to 0, unequally from row to row; or one that falls and rises."""
    where = rng.beta(2, 5, num)
    loss = np.clip((where[:, None] - GRID) * 4 + 0.5, 0, 1)
    loss[:, -1] = 0
    return loss if fall else np.maximum(loss, np.clip((GRID - where[:, None] - 0.4) * 3, 0, 0.6))


def true_risk(fall=True):
    return losses_of(np.random.default_rng(99), 400_000, fall=fall).mean(0)


RISK = true_risk()
RISK_UP = true_risk(False)


# Bounds


def hoeffding_bentkus(losses, risk):
    """angelopoulos2025, equation of section 2.2, in plain Python."""
    n, mean = len(losses), math.fsum(losses) / len(losses)
    a = min(mean, risk)
    kl = (a * math.log(a / risk) if a > 0 else 0) + ((1 - a) * math.log((1 - a) / (1 - risk)) if a < 1 else 0)
    return min(math.exp(-n * kl), math.e * stats.binom.cdf(math.ceil(math.fsum(losses) - 1e-9), n, risk), 1)


def wealth(losses, risk, delta):
    """bates2021, proposition 5, in plain Python: the most the gambler had."""
    n, capital, best = len(losses), 1.0, 1.0
    total, squares, variance = 0.0, 0.0, 0.25
    for i, loss in enumerate(losses, 1):
        bet = min(1, math.sqrt(2 * math.log(1 / delta) / (n * variance)))
        capital *= 1 - bet * (loss - risk)
        best = max(best, capital)
        total += loss
        mean = (0.5 + total) / (1 + i)
        squares += (loss - mean) ** 2
        variance = (0.25 + squares) / (1 + i)
    return best


@pytest.mark.parametrize("num", [1, 7, 50, 300])
def test_p_values_against_loops(num):
    rng = np.random.default_rng(num)
    matrix = rng.beta(0.5, 3, (num, 4))
    zeros_and_ones = (rng.random((num, 4)) < [0, 0.05, 0.2, 1]).astype(float)
    for risk in (0.02, 0.1, 0.5):
        for losses in (matrix, zeros_and_ones):
            columns = losses.T.tolist()
            np.testing.assert_allclose(
                p_value("hoeffding_bentkus", losses, risk), [hoeffding_bentkus(c, risk) for c in columns], rtol=1e-9
            )
            np.testing.assert_allclose(
                p_value("betting", losses, risk, 0.1), [1 / wealth(c, risk, 0.1) for c in columns], rtol=1e-9
            )
        exact = [stats.binom.cdf(sum(c), num, risk) for c in zeros_and_ones.T.tolist()]
        np.testing.assert_allclose(p_value("binomial", zeros_and_ones, risk), exact, rtol=1e-9)


@pytest.mark.parametrize("test", ["hoeffding_bentkus", "betting", "binomial"])
def test_upper_bounds_hold_as_often_as_they_say(test):
    rng = np.random.default_rng(0)
    for mean, num in ((0.02, 60), (0.3, 40), (0.9, 30)):
        draws = rng.random((400, num)) < mean if test == "binomial" else rng.beta(mean * 2, (1 - mean) * 2, (400, num))
        bounds = np.array([upper_bound(test, each.astype(float), 0.9) for each in draws])
        assert stats.binom.cdf((bounds >= mean).sum(), 400, 0.9) > 1e-5
        assert (bounds <= 1).all() and bounds.mean() > mean


def test_exact_upper_bounds():
    for errors, num in ((0, 20), (3, 50), (20, 20)):
        losses = np.arange(num) < errors
        clopper = 1.0 if errors == num else stats.beta.ppf(0.95, errors + 1, num - errors)
        assert upper_bound("binomial", losses.astype(float), 0.95) == pytest.approx(clopper, rel=1e-9)
    assert upper_bound("betting", np.zeros(500), 0.95) < upper_bound("hoeffding_bentkus", np.full(500, 0.01), 0.95)


# Conformal risk control


@pytest.mark.parametrize("bound", [1.0, 4.0])
def test_conformal_risk_control_against_a_loop(bound):
    rng = np.random.default_rng(1)
    for num, risk in ((30, 0.2), (200, 0.1), (9, 0.5)):
        losses = losses_of(rng, num) * bound
        found = conformal.conformal_risk_control(losses, GRID, risk=risk * bound, bound=bound)
        for column in range(len(GRID)):
            if num / (num + 1) * losses[:, column].mean() + bound / (num + 1) <= risk * bound:
                break
        assert (found.column, found.setting) == (column, GRID[column])
        assert found.risk == pytest.approx(losses[:, column].mean()) and found.bound <= risk * bound


def test_of_the_loss_of_missing_it_is_split_conformal_prediction():
    rng = np.random.default_rng(2)
    for num in (9, 19, 20, 55):
        scores = rng.permutation(100)[:num] / 100
        grid = np.arange(101) / 100
        found = conformal.conformal_risk_control((scores[:, None] > grid).astype(float), grid, risk=0.1)
        place = math.ceil((num + 1) * 0.9 - 1e-9)
        assert found.setting == np.sort(scores)[place - 1]


@pytest.mark.parametrize("num, risk", [(9, 0.2), (20, 0.1), (50, 0.1), (200, 0.05)])
def test_conformal_risk_control_on_average(num, risk):
    """E[risk of the setting found] ≤ risk, and not much below: within 2 bound / (n + 1) and a step of the grid."""
    rng = np.random.default_rng(3)
    reached = [RISK[conformal.conformal_risk_control(losses_of(rng, num), GRID, risk=risk).column] for _ in range(1000)]
    error = np.std(reached) / 1000**0.5
    assert np.mean(reached) <= risk + 4.4 * error
    assert np.mean(reached) >= risk - 2 / (num + 1) - 0.06


@pytest.mark.parametrize("test", ["hoeffding_bentkus", "betting"])
@pytest.mark.parametrize("num, risk", [(100, 0.2), (500, 0.1)])
def test_rcps_with_confidence(num, risk, test):
    rng = np.random.default_rng(4)
    found = [conformal.rcps(losses_of(rng, num), GRID, risk=risk, confidence=0.9, test=test) for _ in range(400)]
    reached = RISK[[each.column for each in found]]
    assert stats.binom.cdf((reached <= risk).sum(), 400, 0.9) > 1e-5
    assert all(each.bound <= risk + 1e-9 for each in found)
    assert reached.mean() > risk / 3


def test_rcps_against_a_loop_and_betting_is_tighter():
    rng = np.random.default_rng(5)
    settings = {"hoeffding_bentkus": [], "betting": []}
    for _ in range(10):
        losses = losses_of(rng, 400) * 3
        for test, known in settings.items():
            found = conformal.rcps(losses, GRID, risk=0.3, confidence=0.9, bound=3.0, test=test)
            column = len(GRID) - 1
            while column >= 0 and upper_bound(test, losses[:, column] / 3, 0.9) <= 0.1:
                column -= 1
            assert found.column == column + 1
            known.append(found.setting)
    assert np.mean(settings["betting"]) < np.mean(settings["hoeffding_bentkus"])


# Learn then test


@pytest.mark.parametrize("how", [{}, {"starts": 4}, {"method": "bonferroni"}, {"test": "betting"}], ids=str)
def test_learn_then_test_with_confidence(how):
    """No setting above the risk is called valid, but in a tenth of the calibration sets at most."""
    rng = np.random.default_rng(6)
    order = np.argsort(np.abs(GRID - 0.6), kind="stable")
    wrong, found = 0, 0
    for _ in range(300):
        more = how if how.get("method") else {**how, "order": order}
        tests = conformal.learn_then_test(losses_of(rng, 300, fall=False), GRID, risk=0.3, confidence=0.9, **more)
        wrong += (RISK_UP[tests.valid] > 0.3).any()
        found += tests.valid.sum()
    assert stats.binom.sf(wrong - 1, 300, 0.1) > 1e-5
    assert found > 300 * 3


def test_learn_then_test_against_loops():
    rng = np.random.default_rng(7)
    losses = losses_of(rng, 150, fall=False)
    for starts in (1, 3):
        order = np.roll(np.argsort(np.abs(GRID - 0.6), kind="stable"), 3 * (starts - 1))
        tests = conformal.learn_then_test(losses, risk=0.35, confidence=0.8, order=order, starts=starts)
        wanted = set()
        for start in [int(i * 41 / starts) for i in range(starts)]:
            for at in order[start:]:
                if hoeffding_bentkus(losses[:, at].tolist(), 0.35) > 0.2 / starts:
                    break
                wanted.add(int(at))
        assert set(np.flatnonzero(tests.valid).tolist()) == wanted and wanted
    tests = conformal.learn_then_test(losses, GRID, risk=0.35, confidence=0.8, method="bonferroni")
    np.testing.assert_array_equal(tests.valid, tests.p_value <= 0.2 / 41)
    np.testing.assert_array_equal(tests.settings, GRID)
    np.testing.assert_allclose(tests.risk, losses.mean(0))


def test_losses_as_a_function_and_settings_of_several_numbers():
    rng = np.random.default_rng(8)
    where = rng.beta(2, 5, 100)
    loss = lambda setting: np.clip((where - setting) * 4 + 0.5, 0, 1) * (setting < 1)  # noqa: E731
    found = conformal.conformal_risk_control(loss, GRID, risk=0.1)
    assert found == conformal.conformal_risk_control(np.stack([loss(s) for s in GRID], 1), GRID, risk=0.1)
    pairs = np.stack([GRID, GRID[::-1]], 1)
    tests = conformal.learn_then_test(lambda pair: loss(pair[0]), pairs, risk=0.2)
    assert tests.settings[tests.valid].shape[1] == 2


GOOD = np.array([[1.0, 0.5, 0.0]] * 30)


@pytest.mark.parametrize("control", [conformal.conformal_risk_control, conformal.rcps, conformal.learn_then_test])
@pytest.mark.parametrize(
    "losses, how, said",
    [
        (GOOD * 2, {}, "row 0 of column 0 is 2"),
        (-GOOD, {}, "between 0 and"),
        (np.where(GOOD == 0.5, np.nan, GOOD), {}, "row 0 of column 1 is nan"),
        (GOOD[0], {}, "shape"),
        (GOOD, {"settings": [1, 2]}, "3 columns"),
        (lambda s: GOOD[:, 0], {}, "expected `settings`"),
        (GOOD, {"risk": 0.0}, "`risk` between 0"),
        (GOOD, {"risk": 1.0}, "`risk` between 0"),
        (GOOD, {"bound": 0.0}, "`bound`"),
    ],
)
def test_bad_input(control, losses, how, said):
    with pytest.raises(uq.InputError, match=said):
        control(losses, **{"risk": 0.3, **how})


@pytest.mark.parametrize("control", [conformal.conformal_risk_control, conformal.rcps])
def test_losses_that_rise_are_refused_with_the_place(control):
    losses = GOOD.copy()
    losses[7] = [0.2, 0.9, 0.0]
    with pytest.raises(uq.InputError, match=r"row 7 rises from 0\.2 in column 0 to 0\.9 in column 1.*learn_then_test"):
        control(losses, risk=0.3)
    with pytest.raises(uq.InputError, match="Reverse the settings"):
        control(GOOD[:, ::-1], risk=0.3)


def test_too_few_examples():
    few = GOOD[:5]
    with pytest.warns(uq.UQWarning, match="5 examples, too few.*At least 9 are needed"):
        assert conformal.conformal_risk_control(few, risk=0.1).column == 2
    with pytest.warns(uq.UQWarning, match="At least 29 are needed"):
        assert conformal.rcps(few, risk=0.1).column == 2
    assert conformal.conformal_risk_control(GOOD[:9], risk=0.1).column == 2  # nine, without a warning
    assert conformal.rcps(GOOD[:29], risk=0.1).column == 2
    with pytest.raises(uq.InputError, match="Add a setting that costs nothing"):
        conformal.conformal_risk_control(few[:, :2], risk=0.1)
    with pytest.warns(uq.UQWarning, match="No setting is shown"):
        assert not conformal.learn_then_test(few, risk=0.1).valid.any()


def test_other_bad_settings():
    with pytest.raises(uq.InputError, match="each index"):
        conformal.learn_then_test(GOOD, risk=0.3, order=[0, 1, 1])
    with pytest.raises(uq.InputError, match="0 or 1"):
        conformal.rcps(GOOD, risk=0.3, test="binomial")
    with pytest.raises(uq.InputError, match="hoeffding_bentkus"):
        conformal.rcps(GOOD, risk=0.3, test="hoeffding")
    with pytest.raises(uq.InputError, match="strictly between"):
        conformal.rcps(GOOD, risk=0.3, confidence=95)
