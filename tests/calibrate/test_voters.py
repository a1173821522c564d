"""What maps of classes learn from a few voters, carried over to many: against simulations whose truth is known."""

import jax
import numpy as np
import pytest

import uq
from uq import _calibration_file
from uq.calibrate import _voters

KIND = uq.likelihoods.Categorical(3)


def simulated(seed, rows, members, *, noise=1.0, sharp=1.0):
    """Members that err independently about the true logits, `(M, N, 3)`, and outcomes."""
    rng = np.random.default_rng(seed)
    truth = 1.5 * rng.normal(size=(rows, 3))
    y = (sharp * truth + rng.gumbel(size=truth.shape)).argmax(1)
    return (truth + noise * rng.normal(size=(members, rows, 3))).astype(np.float32), y


def out_of_fold(outputs):
    """Each example with voters of its own."""
    return uq.Predictive(jax.numpy.asarray(outputs), KIND, jax.numpy.full(outputs.shape[:2], 1 / len(outputs)))


def inverse(state, members):
    return float(_voters.settled(state, 1 / members).inverse)


@pytest.mark.parametrize("voters", [2, 4])
def test_temperature_of_forty_is_near_what_two_or_four_say_of_it(voters):
    outputs, y = simulated(0, 20_000, 40, noise=0.5)
    scaled = uq.calibrate.temperature()
    state = scaled.fit(out_of_fold(outputs[:voters]), y)
    right = float(scaled.fit(uq.Predictive(jax.numpy.asarray(outputs), KIND), y).inverse)
    few = float(state.inverse)
    assert right - few > 0.05
    assert abs(inverse(state, 40) - right) < 0.4 * (right - few)


def test_one_voter_gets_what_the_halves_of_two_say():
    outputs, y = simulated(1, 500, 2)
    scaled = uq.calibrate.temperature()
    state = scaled.fit(out_of_fold(outputs), y)
    both = uq.Predictive(jax.numpy.asarray(outputs.reshape(1, -1, 3)), KIND)
    assert inverse(state, 1) == pytest.approx(
        float(scaled.fit(both, np.tile(y, 2), np.full(1000, 0.5)).inverse), rel=1e-4
    )


@pytest.mark.parametrize("name", ["temperature", "vector", "matrix", "dirichlet"])
def test_every_map_is_linear_in_the_inverse_number_of_voters(name):
    outputs, y = simulated(2, 400, 2)
    each = getattr(uq.calibrate, name)()
    state = each.fit(out_of_fold(outputs), y)
    new = simulated(3, 50, 6)[0]
    whole = uq.Predictive(jax.numpy.asarray(new), KIND)
    by_hand = each.apply(_voters.settled(state, 1 / 6), whole)
    np.testing.assert_allclose(each.apply(state, whole).probs, by_hand.probs, atol=1e-5)
    assert max(np.abs(leaf).max() for leaf in state.voters.change.values()) > 1e-3


@pytest.mark.parametrize("name", ["platt", "beta"])
def test_maps_of_two_classes_too(name):
    outputs, y = simulated(4, 600, 2)
    kind = uq.likelihoods.Bernoulli()
    pred = uq.Predictive(jax.numpy.asarray(outputs[..., :1]), kind, jax.numpy.full(outputs.shape[:2], 0.5))
    each = getattr(uq.calibrate, name)()
    state = each.fit(pred, y == 0)
    new = uq.Predictive(jax.numpy.asarray(simulated(5, 40, 5)[0][..., :1]), kind)
    by_hand = each.apply(_voters.settled(state, 1 / 5), new)
    np.testing.assert_allclose(each.apply(state, new).mean, by_hand.mean, atol=1e-5)
    assert not np.allclose(by_hand.mean, each.apply(_voters.settled(state, 1 / 2), new).mean, atol=1e-3)


def test_examples_with_one_voter_have_no_say_in_the_change():
    outputs, y = simulated(6, 2000, 2)
    weight = np.full((2, 2000), 0.5, np.float32)
    weight[:, 1000:] = [[1.0], [0.0]]
    scaled = uq.calibrate.temperature()
    state = scaled.fit(uq.Predictive(jax.numpy.asarray(outputs), KIND, jax.numpy.asarray(weight)), y)
    alone = scaled.fit(out_of_fold(outputs[:, :1000]), y[:1000])
    assert float(state.voters.change["inverse"]) == pytest.approx(float(alone.voters.change["inverse"]), rel=1e-3)
    assert float(state.voters.share) == pytest.approx(0.75)


def test_too_few_examples_with_several_voters_change_nothing():
    outputs, y = simulated(12, 200, 2)
    weight = np.where(np.arange(200) < 2, 0.5, [[1.0], [0.0]]).astype(np.float32)
    y[:2] = 0  # the other classes have one voter each
    pred = uq.Predictive(jax.numpy.asarray(outputs), KIND, jax.numpy.asarray(weight))
    for each in (uq.calibrate.temperature(), uq.calibrate.vector()):
        change = each.fit(pred, y).voters.change
        assert all(not np.any(leaf) for leaf in change.values())


def test_each_example_is_mapped_for_its_own_number_of_voters():
    outputs, y = simulated(7, 1000, 2)
    scaled = uq.calibrate.temperature()
    state = scaled.fit(out_of_fold(outputs), y)
    new = simulated(8, 2, 4)[0]
    weight = np.array([[0.25, 1.0], [0.25, 0.0], [0.25, 0.0], [0.25, 0.0]], np.float32)
    found = scaled.apply(state, uq.Predictive(jax.numpy.asarray(new), KIND, jax.numpy.asarray(weight))).probs
    four = scaled.apply(state, uq.Predictive(jax.numpy.asarray(new[:, :1]), KIND)).probs
    one = scaled.apply(state, uq.Predictive(jax.numpy.asarray(new[:1, 1:]), KIND)).probs
    np.testing.assert_allclose(found, np.concatenate([four, one]), atol=1e-6)


def test_members_that_all_vote_change_nothing():
    outputs, y = simulated(9, 300, 4)
    state = uq.calibrate.temperature().fit(uq.Predictive(jax.numpy.asarray(outputs), KIND), y)
    assert float(state.voters.change["inverse"]) == 0
    assert inverse(state, 1) == inverse(state, 100) == float(state.inverse)


def test_a_state_survives_its_file():
    outputs, y = simulated(10, 300, 2)
    scaled = uq.calibrate.temperature()
    state = scaled.fit(out_of_fold(outputs), y)
    arrays, said = _calibration_file.describe(scaled, state)
    _, again = _calibration_file.restore(said, arrays)
    assert inverse(again, 7) == pytest.approx(inverse(state, 7), rel=1e-6)


def test_auto_chooses_for_as_many_as_will_vote():
    outputs, y = simulated(11, 8000, 40, noise=0.7, sharp=1.1)
    pred = out_of_fold(outputs[:2])  # two are as sure as they should be, forty are not sure enough
    assert abs(float(uq.calibrate.temperature().fit(pred, y).inverse) - 1) < 0.03
    tried = [uq.calibrate.temperature()]
    few, many = (uq.calibrate.auto(tried, voters=voters).fit(pred, y) for voters in (None, 40))
    assert many.chosen == "temperature" and many.candidates[1].difference < -3 * many.candidates[1].stderr
    whole = uq.Predictive(jax.numpy.asarray(outputs), KIND)
    gain = -float((uq.calibrate.temperature().apply(many.state, whole).log_prob(y) - whole.log_prob(y)).mean())
    assert many.candidates[1].difference == pytest.approx(gain, abs=0.3 * abs(gain))
    assert abs(few.candidates[1].difference) < 0.2 * abs(gain)


def test_voters_below_one_are_refused():
    with pytest.raises(uq.InputError, match="`voters` expected a number of members of at least 1, but got 0"):
        uq.calibrate.auto(voters=0)
