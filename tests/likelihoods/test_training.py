"""From `fit` to predictions in the target's own units: known parameters come back, and so do saved posteriors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

import uq
from uq import likelihoods as kinds
from uq.io import _describe_likelihood, _likelihood

from .cases import CASES

ROWS = 1000
X = np.random.default_rng(3).choice([-1.0, 1.0], (ROWS, 1)).astype(np.float32)
UP = X[:, 0] > 0


def trained(kind: Any, y: np.ndarray, loss: Any = uq.losses.negative_log_likelihood) -> uq.Predictive:
    """Predictions at −1 and 1 of a saturated model: one weight and one bias for each output."""
    method = uq.deep_ensemble(nn.Dense(kind.width), kind, size=2, loss=loss)
    posterior = uq.fit(method, (X, y), key=0, epochs=300, batch_size=200, validation=0, standardize_inputs=False)
    return posterior.predict(np.array([[-1.0], [1.0]], np.float32))


def law_of(pred: uq.Predictive) -> Any:
    """The first member's distribution."""
    return pred.likelihood.distribution(pred.outputs[0])


def test_gamma_recovers_mean_and_shape_in_its_units() -> None:
    rng = np.random.default_rng(0)
    y = np.where(UP, rng.gamma(4, 500, ROWS), rng.gamma(2, 100, ROWS))
    pred = trained(kinds.Gamma(), y)
    assert float(pred.likelihood.scale) == pytest.approx(y.mean())
    np.testing.assert_allclose(law_of(pred).base_dist.concentration, [2, 4], rtol=0.25)
    np.testing.assert_allclose(pred.likelihood.from_base(law_of(pred).base_dist.mean), [200, 2000], rtol=0.1)
    truth = st.gamma([2, 4], scale=[100, 500])
    np.testing.assert_allclose(
        pred.likelihood.log_prob(pred.outputs, [200, 2000]), [truth.logpdf([200, 2000])] * 2, atol=0.2
    )


def test_log_normal_recovers_its_parameters() -> None:
    rng = np.random.default_rng(0)
    y = rng.lognormal(np.where(UP, 9, 7), np.where(UP, 0.5, 1.0))
    pred = trained(kinds.LogNormal(), y)
    law = law_of(pred)
    assert type(law).__name__ == "LogNormal"
    np.testing.assert_allclose(law.loc, [7, 9], atol=0.15)
    np.testing.assert_allclose(law.scale, [1.0, 0.5], rtol=0.15)


def test_student_t_is_not_moved_by_outliers() -> None:
    rng = np.random.default_rng(0)
    y = 1000 + 20 * (3 * X[:, 0] + rng.standard_t(3, ROWS))
    law = law_of(trained(kinds.StudentT(df=3.0), y))
    np.testing.assert_allclose(law.loc, [940, 1060], atol=5)
    np.testing.assert_allclose(law.scale, 20, rtol=0.2)


def test_counts_recover_mean_and_dispersion() -> None:
    rng = np.random.default_rng(0)
    mean = np.where(UP, 30.0, 3.0)
    y = rng.poisson(rng.gamma(2.0, mean / 2.0))
    law = law_of(trained(kinds.NegativeBinomial(), y))
    np.testing.assert_allclose(law.mean, [3, 30], rtol=0.15)
    np.testing.assert_allclose(law.concentration, 2, rtol=0.35)


def test_ordinal_recovers_the_share_of_each_grade() -> None:
    rng = np.random.default_rng(0)
    latent = 1.5 * X[:, 0] + rng.logistic(size=ROWS)
    y = np.digitize(latent, [-2.0, 0.0, 1.0])
    probs = law_of(trained(kinds.Ordinal(4), y)).probs
    shares = np.stack([np.bincount(y[~UP], minlength=4) / (~UP).sum(), np.bincount(y[UP], minlength=4) / UP.sum()])
    np.testing.assert_allclose(probs, shares, atol=0.06)


def test_censored_sees_behind_the_limit() -> None:
    rng = np.random.default_rng(0)
    y = np.maximum(500 + 100 * (X[:, 0] + rng.normal(size=ROWS)), 450.0)
    assert (y == 450).mean() > 0.3
    law = law_of(trained(kinds.Censored(lower=450.0), y))
    np.testing.assert_allclose(law.loc, [400, 600], atol=20)
    np.testing.assert_allclose(law.scale, 100, rtol=0.2)
    np.testing.assert_allclose(law.low, 450, rtol=1e-5)


def test_quantiles_by_the_pinball_loss() -> None:
    rng = np.random.default_rng(0)
    y = 40 + np.where(UP, 10, 5) * rng.exponential(size=ROWS)
    kind = kinds.Quantile((0.1, 0.25, 0.5, 0.75, 0.9))
    law = law_of(trained(kind, y, uq.losses.pinball()))
    want = 40 + np.array([[5.0], [10.0]]) * st.expon.ppf(kind.levels)
    np.testing.assert_allclose(law.quantiles, want, rtol=0.06)


def test_correlation_between_outputs() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(ROWS, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    y = np.array([100.0, -3.0]) + noise * np.array([20.0, 0.1])
    law = law_of(trained(kinds.FullCovarianceGaussian(2), y))
    cov = np.asarray(law.covariance_matrix[0])
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), [20, 0.1], rtol=0.15)
    assert cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1]) == pytest.approx(0.8, abs=0.08)


def test_predictions_come_in_the_targets_units() -> None:
    """The same log-densities and means through `Predictive` as from scipy's truth."""
    rng = np.random.default_rng(0)
    y = 1000 + 20 * (3 * X[:, 0] + rng.laplace(size=ROWS))
    pred = trained(kinds.Laplace(), y)
    truth = st.laplace([940, 1060], 20)
    np.testing.assert_allclose(pred.mean, [940, 1060], atol=6)
    np.testing.assert_allclose(pred.log_prob([950.0, 1100.0]), truth.logpdf([950, 1100]), atol=0.2)


def same(one: Any, two: Any) -> None:
    """Equal likelihoods, whatever arrays their statistics are kept in."""
    assert type(one) is type(two)
    if isinstance(one, kinds.Transformed):
        np.testing.assert_array_equal(one.loc, two.loc)
        np.testing.assert_array_equal(one.scale, two.scale)
        assert one.base == two.base and one.transforms == two.transforms
    else:
        assert one == two


def in_own_units(name: str) -> tuple[Any, Any]:
    """What `fit` makes of a likelihood, and targets."""
    kind = CASES[name].kind
    y = np.asarray(kind.check(CASES[name].draw(np.random.default_rng(0), 12)))
    return (kinds._standardized(kind, y, np.arange(12))[0] if kinds._standardizes(kind) else kind), y


@pytest.mark.parametrize("name", list(CASES))
def test_every_likelihood_is_described_and_built_again(name: str) -> None:
    outer, _ = in_own_units(name)
    said = json.loads(json.dumps(_describe_likelihood(outer)))
    same(_likelihood(said, CASES[name].kind if name == "from_numpyro" else None), outer)


@pytest.mark.parametrize("name", ["LogNormal", "Ordinal", "Censored", "Quantile", "from_numpyro", "BoxCox"])
def test_likelihoods_come_back_from_a_file(name: str, tmp_path: Path) -> None:
    kind, own = CASES[name].kind, name == "from_numpyro"
    net, (outer, y) = nn.Dense(kind.width), in_own_units(name)
    method = uq.ensemble(uq.methods.map_estimate(net, kind), 2)
    state = method.init(jax.random.key(0), jnp.zeros((1, 1)))._replace(opt_state=())
    example = jax.ShapeDtypeStruct((1,), jnp.float32)
    uq.save(uq.Posterior(method, state, outer, jax.random.key(1), example=example), tmp_path / "a.uq")
    for given in (kind,) if own else (None, kind):
        again = uq.load(tmp_path / "a.uq", model=net, likelihood=given)
        same(again.method.likelihood, kind)
        same(again.likelihood, outer)
    outputs = jnp.ones((2, 12, kind.width + kind.free))
    np.testing.assert_array_equal(outer.log_prob(outputs, y), again.likelihood.log_prob(outputs, y))
    with pytest.raises(uq.InputError, match=r"saved with the likelihood .*, but HeteroscedasticLogits"):
        uq.load(tmp_path / "a.uq", model=net, likelihood=kinds.HeteroscedasticLogits(7))
