"""Cross-fitting: who leaves out what, that left-out rows have no part in a member, and what is predicted of them."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import uq
from uq.crossfit import rows_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(83, 3)) * [1, 10, 0.1] + [0, 100, 0]
SIGNAL = np.sin(X[:, 0]) + 0.2 * RNG.normal(size=83)
NET = nn.Sequential([nn.Dense(8), nn.relu, nn.Dense(2)])


class Norm(nn.Module):
    width: int = 2

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dense(self.width)(nn.relu(x))


def rows(scheme, size, *, seed=0, num=40, counted=None, y=None, share=0.0):
    counted = np.arange(num) if counted is None else counted
    return rows_of(scheme, (7, seed), size, num, counted, np.arange(num) if y is None else y, share)


# Who leaves out what


@settings(max_examples=30, deadline=None)
@given(folds=st.integers(2, 7), repeats=st.integers(1, 3), num=st.integers(14, 60), seed=st.integers(0, 99))
def test_every_row_is_left_out_equally_often_where_folds_divide_members(folds, repeats, num, seed):
    found = rows(uq.crossfit(folds), folds * repeats, seed=seed, num=num)
    assert (found.left_out.sum(0) == repeats).all()
    sizes = found.left_out.sum(1)
    assert sizes.max() - sizes.min() <= 1
    for k in range(folds * repeats):
        own = found.train[k][found.train[k] >= 0]
        assert sorted(own) == sorted(np.flatnonzero(~found.left_out[k]))


@pytest.mark.parametrize(
    "scheme",
    [
        uq.crossfit(5),
        uq.crossfit(fraction=0.3),
        uq.crossfit(3, groups=np.arange(40) // 4),
        uq.crossfit(4, stratify=True),
        uq.crossfit(4, time=True, gap=2),
        uq.bootstrap(),
    ],
    ids=repr,
)
def test_member_k_does_not_depend_on_how_many_there_are(scheme):
    with pytest.warns() if scheme.folds in (3, 4, 5) else _nothing():
        few, many = rows(scheme, 2, share=0.1), rows(scheme, 11, share=0.1)
    assert few.num_train == many.num_train
    for k in range(2):
        np.testing.assert_array_equal(few.left_out[k], many.left_out[k])
        np.testing.assert_array_equal(few.held_out[k], many.held_out[k])
        own = few.train[k][few.train[k] >= 0]
        np.testing.assert_array_equal(own, many.train[k][many.train[k] >= 0])
        assert not few.left_out[k][own].any()
        assert not few.left_out[k][few.held_out[k]].any()
        assert not np.isin(own, few.held_out[k]).any()


class _nothing:
    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None


def test_permutations_differ_and_keys_too():
    found = rows(uq.crossfit(4), 8)
    assert (found.left_out[0] != found.left_out[4]).any()
    assert (found.left_out != rows(uq.crossfit(4), 8, seed=1).left_out).any()


def test_groups_stay_together_and_folds_are_of_like_size():
    groups = np.repeat(list("abcdefghij"), [10, 8, 6, 4, 4, 2, 2, 2, 1, 1])
    found = rows(uq.crossfit(4, groups=groups), 4, num=40)
    for name in "abcdefghij":
        assert np.ptp(found.left_out[:, groups == name].astype(int), axis=1).max() == 0
    assert sorted(found.left_out.sum(1)) == [10, 10, 10, 10]


def test_classes_and_ranges_are_dealt_evenly():
    y = RNG.permutation(np.repeat([0, 1, 2], [20, 12, 8]))
    found = rows(uq.crossfit(4, stratify=True), 4, y=y)
    for label, each in ((0, 5), (1, 3), (2, 2)):
        assert (found.left_out[:, y == label].sum(1) == each).all()
    numbers = RNG.permutation(40)
    found = rows(uq.crossfit(4, stratify=True), 4, y=numbers)
    for low in range(0, 40, 4):  # one of every four neighbours
        assert (found.left_out[:, (numbers >= low) & (numbers < low + 4)].sum(1) == 1).all()


def test_time_is_left_out_in_blocks_with_a_gap():
    found = rows(uq.crossfit(4, time=True, gap=3), 8)
    for k in range(8):
        block = np.flatnonzero(found.left_out[k])
        assert len(block) == 10 and np.ptp(block) == 9 and block[0] == 10 * (k % 4)
        own = found.train[k][found.train[k] >= 0]
        assert np.abs(own[:, None] - block).min() == 4


def test_bootstrap_draws_with_replacement_and_leaves_out_what_was_not_drawn():
    found = rows(uq.bootstrap(), 200, num=200)
    assert found.train.shape == (200, 200)
    assert 0.35 < found.left_out.mean() < 0.39
    for k in range(3):
        assert set(found.train[k]) == set(np.flatnonzero(~found.left_out[k]))
    drawn = np.bincount(found.train.reshape(-1), minlength=200)
    assert abs(drawn / 200 - 1).max() < 5 / np.sqrt(200)


def test_rows_of_no_weight_are_nobodys():
    counted = np.arange(0, 40, 2)
    found = rows(uq.crossfit(5), 5, counted=counted)
    assert not found.left_out[:, 1::2].any() and (found.left_out[:, ::2].sum(0) == 1).all()
    assert np.isin(found.train[found.train >= 0], counted).all()


# What a member knows


def positive(y):
    return np.exp(y / 3)


CASES = {
    "gaussian": (NET, uq.likelihoods.Gaussian(), lambda y: 1e4 + 30 * y, {}),
    "batch norm": (Norm(), uq.likelihoods.Gaussian(), lambda y: y, {}),
    "shared variance": (nn.Dense(1), uq.likelihoods.HomoscedasticGaussian(), lambda y: 5 * y, {}),
    "student": (Norm(3), uq.likelihoods.StudentT(), lambda y: 3 * y, {"holdout": uq.bootstrap()}),
    "log-normal": (NET, uq.likelihoods.LogNormal(), positive, {}),
    "gamma": (NET, uq.likelihoods.Gamma(), positive, {"holdout": uq.crossfit(2, groups=np.arange(83) % 5)}),
    "censored": (NET, uq.likelihoods.Censored(lower=0.0), lambda y: np.maximum(y, 0), {}),
    "classes": (Norm(), uq.likelihoods.Categorical(2), lambda y: (y > 0).astype(int), {}),
    "validation": (NET, uq.likelihoods.Gaussian(), lambda y: y, {"validation": (X[:9], SIGNAL[:9])}),
}


@pytest.mark.parametrize("case", CASES)
def test_rows_that_a_member_left_out_have_no_part_in_it(case):
    net, likelihood, make, more = CASES[case]
    method, y = uq.deep_ensemble(net, likelihood, size=2), make(SIGNAL)
    settings = {"key": 1, "epochs": 3, "batch_size": 20, "holdout": uq.crossfit(2), "progress": False} | more
    one = uq.fit(method, (X, y), **settings)
    out = one.left_out[0]
    x2, y2 = X.copy(), y.copy()
    x2[out] = x2[out] * 1.5 + 1
    y2[out] = 1 - y2[out] if likelihood.task != "regression" else y2[out] * 3 + 1
    two = uq.fit(method, (x2, y2), **settings)
    np.testing.assert_array_equal(one.left_out, two.left_out)
    a, b = (posterior.take([0]).predict(X[~out]) for posterior in (one, two))
    np.testing.assert_allclose(a.mean, b.mean, rtol=2e-6, atol=2e-6 * np.abs(y).max())
    np.testing.assert_allclose(a.variance, b.variance, rtol=2e-5)
    for p, q in zip(*(jax.tree.leaves(each.state.variables.params) for each in (one, two)), strict=True):
        np.testing.assert_array_equal(p[0], q[0])
    assert any(
        (np.asarray(p[1]) != np.asarray(q[1])).any()
        for p, q in zip(*(jax.tree.leaves(each.state.variables.params) for each in (one, two)), strict=True)
    )


def test_a_cross_fitted_member_is_what_a_fit_on_its_rows_alone_would_be():
    y = 50 + 7 * SIGNAL
    method = uq.deep_ensemble(NET, uq.likelihoods.Gaussian(), size=2)
    settings = {"key": 3, "epochs": 60, "validation": 0, "progress": False}
    crossed = uq.fit(method, (X, y), holdout=uq.crossfit(2), **settings)
    own = ~crossed.left_out[1]
    alone = uq.fit(method, (X[own], y[own]), **settings)
    a, b = crossed.take([1]).predict(X), alone.take([1]).predict(X)  # other batches, the same units
    assert np.corrcoef(a.mean, b.mean)[0, 1] > 0.9
    inner = crossed.state.variables.state.units
    z = crossed.inputs.apply(X)[own]
    np.testing.assert_allclose(inner.mean[1], z.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(inner.scale[1], z.std(0), rtol=1e-5)
    back = np.asarray(crossed.likelihood.loc) + np.asarray(crossed.likelihood.scale) * np.asarray(inner.loc[1])
    np.testing.assert_allclose(back, y[own].mean(), rtol=1e-6)


def test_members_are_the_same_whatever_their_number():
    settings = {"key": 5, "epochs": 3, "holdout": uq.crossfit(2), "progress": False}
    few, many = (
        uq.fit(uq.deep_ensemble(NET, uq.likelihoods.Gaussian(), size=size), (X, SIGNAL), **settings) for size in (2, 6)
    )
    for a, b in zip(*(jax.tree.leaves(each.state.variables.params) for each in (few, many)), strict=True):
        np.testing.assert_array_equal(a, b[:2])


def test_other_methods_leave_out_rows_too():
    method = uq.ensemble(uq.methods.mean_field(NET, uq.likelihoods.Gaussian()), 2)
    posterior = uq.fit(method, (X, SIGNAL), key=0, epochs=3, holdout=uq.crossfit(2), progress=False)
    pred = posterior.out_of_fold(num_samples=3)
    assert len(pred) == 83 and pred.num_members == 3
    assert np.isfinite(pred.log_prob(SIGNAL)).all()


# What is predicted of left-out rows


@pytest.fixture(scope="module")
def posterior():
    method = uq.deep_ensemble(NET, uq.likelihoods.Gaussian(), size=5)
    with pytest.warns(uq.UQWarning, match="some rows are left out by 3 members and others by 2"):
        return uq.fit(method, (X, 10 + SIGNAL), key=2, epochs=5, holdout=uq.crossfit(2), progress=False)


def test_out_of_fold_is_the_mixture_of_those_that_did_not_see_the_row(posterior):
    found = posterior.out_of_fold()
    y = 10 + SIGNAL
    each = np.stack([posterior.take([k]).predict(X).log_prob(y) for k in range(5)])
    votes = posterior.left_out
    want = np.log((np.exp(each) * votes).sum(0) / votes.sum(0))
    np.testing.assert_allclose(found.log_prob(y), want, rtol=1e-4, atol=1e-5)
    assert found.num_members == 3


def test_a_file_brings_it_back(posterior, tmp_path):
    posterior.save(tmp_path / "p.uq")
    again = uq.load(tmp_path / "p.uq", model=NET)
    np.testing.assert_array_equal(again.left_out, posterior.left_out)
    np.testing.assert_array_equal(again.predict(X).mean, posterior.predict(X).mean)
    np.testing.assert_array_equal(again.out_of_fold(X).mean, posterior.out_of_fold().mean)
    with pytest.raises(uq.InputError, match="needs the training inputs"):
        again.out_of_fold()
    with pytest.raises(uq.InputError, match="the 83 training rows, but `x` has 80"):
        again.out_of_fold(X[:80])
    some = again.take([1, 3])
    np.testing.assert_array_equal(some.left_out, posterior.left_out[[1, 3]])


def test_members_moments_and_intervals_that_need_no_rows_of_their_own():
    """Jackknife+ after bootstrap on a cross-fitted ensemble: every member is left out by some rows."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(560, 1))
    y = 100 + 20 * (x[:, 0] + 0.5 * rng.normal(size=560))
    method = uq.deep_ensemble(NET, uq.likelihoods.Gaussian(), size=4)
    posterior = uq.fit(method, (x[:160], y[:160]), key=0, epochs=60, holdout=uq.crossfit(2), progress=False)
    seen, new = posterior.predict(x[:160]), posterior.predict(x[160:])
    for k in range(4):
        alone = posterior.take([k]).predict(x[:160])
        np.testing.assert_allclose(seen.member_mean[k], alone.mean, rtol=1e-5)
        np.testing.assert_allclose(seen.member_stddev[k], alone.stddev, rtol=1e-4)
    procedure = uq.conformal.jackknife_after_bootstrap(uq.conformal.normalized())
    state = procedure.fit((seen.member_mean, seen.member_stddev), y[:160], ~posterior.left_out)
    interval = procedure.apply(state, (new.member_mean, new.member_stddev), level=0.9)
    assert 0.85 < float(np.mean(np.asarray(interval.contains(y[160:])))) < 0.96
    split = uq.conformal.split(uq.conformal.normalized())
    found = split.apply(split.fit(posterior.out_of_fold(), y[:160]), new, level=0.9)
    assert 0.85 < float(np.mean(np.asarray(found.contains(y[160:])))) < 0.97


def test_fewer_members_than_folds():
    method = uq.deep_ensemble(NET, uq.likelihoods.Gaussian(), size=2)
    with pytest.warns(uq.UQWarning, match="the rows of 1 folds are left out by none"):
        posterior = uq.fit(method, (X, SIGNAL), key=2, epochs=2, holdout=uq.crossfit(3), progress=False)
    with pytest.warns(uq.UQWarning, match="of 83 rows were left out by no member"):
        found = posterior.out_of_fold()
    assert len(found) == posterior.left_out.any(0).sum() < 83


def test_folds_by_default():
    found = {size: rows(uq.crossfit(), size).left_out.sum(1).max() for size in (2, 3, 4, 5, 6, 7, 10, 20)}
    assert found == {2: 20, 3: 14, 4: 10, 5: 8, 6: 14, 7: 6, 10: 8, 20: 8}


# What is wrong is said


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda: uq.crossfit(1), "`folds` expected"),
        (lambda: uq.crossfit(fraction=1.0), r"a share of the rows in \(0, 1\)"),
        (lambda: uq.crossfit(3, fraction=0.2), "give it alone"),
        (lambda: uq.crossfit(groups=[1], stratify=True), "exclude each other"),
        (lambda: uq.crossfit(time=True, groups=[1]), "takes rows in their order"),
        (lambda: uq.crossfit(gap=2), "pass time=True"),
    ],
)
def test_schemes_that_contradict_themselves(build, said):
    with pytest.raises(uq.InputError, match=said):
        build()


def ensemble(net=NET, likelihood=None, size=2):
    return uq.deep_ensemble(net, likelihood or uq.likelihoods.Gaussian(), size=size)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"holdout": 5}, r"expected uq.crossfit\(…\) or uq.bootstrap\(\), but got a int"),
        ({"holdout": uq.crossfit(groups=np.zeros(5))}, "`groups` has 5 labels, but there are 83 rows"),
        ({"holdout": uq.crossfit(2, groups=np.zeros(83))}, "at least as many groups, but there are 1"),
        ({"holdout": uq.crossfit(2), "shared_batches": True}, "`shared_batches` cannot"),
        ({"holdout": uq.crossfit(2), "start": 0, "standardize_targets": True}, "were not trained with"),
    ],
)
def test_runs_that_cannot_be_cross_fitted(settings, said):
    with pytest.raises(uq.InputError, match=said):
        uq.fit(ensemble(), (X, SIGNAL), key=0, epochs=1, **settings)


def test_one_network_and_likelihoods_without_units_of_their_own():
    single = uq.methods.map_estimate(NET, uq.likelihoods.Gaussian())
    with pytest.raises(uq.InputError, match="this method is for one network"):
        uq.fit(single, (X, SIGNAL), key=0, epochs=1, holdout=uq.crossfit(2))
    import numpyro.distributions as dist

    def gumbel(outputs):
        return dist.Gumbel(outputs[..., 0], jax.nn.softplus(outputs[..., 1]) + 1e-3)

    kind = uq.likelihoods.from_numpyro(gumbel, 2)
    with pytest.raises(uq.InputError, match="has no way to undo"):
        uq.fit(ensemble(likelihood=kind), (X, SIGNAL), key=0, epochs=1, holdout=uq.crossfit(2))
    posterior = uq.fit(
        ensemble(likelihood=kind),
        (X, SIGNAL),
        key=0,
        epochs=1,
        holdout=uq.crossfit(2),
        standardize_targets=False,
        progress=False,
    )
    assert np.isfinite(posterior.out_of_fold().log_prob(SIGNAL)).all()


def test_posteriors_that_were_not_cross_fitted():
    posterior = uq.fit(ensemble(), (X, SIGNAL), key=0, epochs=1, progress=False)
    with pytest.raises(uq.InputError, match="needs a cross-fitted posterior"):
        posterior.out_of_fold()


def test_what_cannot_be_calibrated_is_said_before_training_or_leaves_the_networks():
    with pytest.raises(uq.InputError, match="temperature is not for predictions of kind 'regression'"):
        uq.fit(ensemble(), (X, SIGNAL), key=0, epochs=1, calibrate=uq.calibrate.temperature())
    labels = uq.deep_ensemble(NET, uq.likelihoods.Multilabel(2), size=4)
    with pytest.raises(uq.InputError, match="there is no recalibrator for predictions of kind 'multilabel'"):
        uq.fit(labels, (X, np.zeros((83, 2), int)), key=0, epochs=1, calibrate="auto")
    with pytest.warns(uq.UQWarning, match=r"trained, but could not be calibrated.* at least 20 examples .* got 15"):
        posterior = uq.fit(ensemble(), (X[:15], SIGNAL[:15]), key=0, epochs=1, calibrate="auto", progress=False)
    assert posterior.recalibrator is None and np.isfinite(posterior.predict(X).mean).all()
    posterior = posterior.calibrate(uq.calibrate.scale())
    for more, said in (
        ({"weight": np.ones(20)}, r"`weight` of shape \(15,\)"),
        ({"data": (X,)}, r"`data` expected a pair \(x, y\)"),
        ({"data": (X, SIGNAL, SIGNAL)}, r"`data` expected a pair \(x, y\)"),
    ):
        with pytest.raises(uq.InputError, match=said):
            posterior.calibrate(uq.calibrate.scale(), **more)
    assert posterior.take(0).recalibrator is None and posterior.take(slice(None)).recalibrator is not None
    with pytest.raises(uq.InputError, match=r"expected one key.* got \(3,\) keys"):
        posterior.predict(X, key=jax.random.split(jax.random.key(0), 3))


@pytest.mark.parametrize("name", ["groups", "stratify"])
@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array(["a", None, "b"] * 4, object), r"row 1 has none \(it is None\)"),
        (["a", np.nan, "b"] * 4, r"row 1 has none \(it is nan\)"),
        (np.array([0.0, np.nan, 1.0]), r"row 1 has none \(it is nan\)"),
        (np.array(["2026-01-01", "NaT"], "datetime64[D]"), "row 1 has none"),
        (np.ma.masked_array([1, 2, 3], [0, 1, 0]), "masks row 1"),
        (np.array([1, "a"] * 3, object), "can be put in order, but they are int and str"),
        (np.array([{}, {1: 2}], object), "can be put in order, but they are dict"),
        ([["a"], ["b", "c"]], "different numbers of them"),
        ([("a", "x"), ("b", "y"), ("c", "z")], r"one label a row, \(N,\), but its shape is \(3, 2\)"),
    ],
)
def test_labels_that_are_none_get_a_sentence(name, labels, words):
    """One label for all that are missing would keep unrelated rows together."""
    with pytest.raises(uq.InputError, match=f"`{name}`.*{words}"):
        uq.crossfit(2, **{name: labels})


def test_labels_of_any_kind_that_has_an_order():
    want = uq.crossfit(2, groups=[0, 1, 2] * 2).groups
    for labels in (
        ["a", "b", "c"] * 2, np.array([1, 2.5, 3] * 2, object), [1, np.int64(2), 3] * 2, np.array([[5], [6], [7]] * 2),
        np.array(["a", np.str_("b"), "c"] * 2, object),
    ):  # fmt: skip
        np.testing.assert_array_equal(uq.crossfit(2, groups=labels).groups, want)
