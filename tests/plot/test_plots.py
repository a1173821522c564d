import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from scipy.stats import binomtest

import uq
from uq._extras import MissingExtra
from uq.plot import bands, reliability
from uq.plot.reliability import wilson

LOC, SCALE = 1000.0, 25.0


@pytest.fixture
def ax():
    return Figure().add_subplot()


def regression(rows=200, seed=0):
    """Correct predictions with means and scales of their own, far from 0 and 1."""
    stream = np.random.default_rng(seed)
    mean, scale = stream.normal(size=rows), np.exp(0.3 * stream.normal(size=rows))
    outputs = np.stack([mean, np.log(np.expm1(scale))], -1)[None].astype(np.float32)
    likelihood = uq.likelihoods.transformed(uq.likelihoods.Gaussian(min_scale=0.0), LOC, SCALE)
    y = LOC + SCALE * (mean + scale * stream.normal(size=rows))
    return uq.Predictive(jnp.asarray(outputs), likelihood), y


def line(ax, label):
    return next(line for line in ax.lines if line.get_label().startswith(label))


def legend_is_outside(ax):
    ax.figure.canvas.draw()
    return ax.get_legend().get_window_extent().y0 >= ax.get_window_extent().y1 - 2


def test_bands_show_mean_interval_and_misses_in_the_units_of_the_target(ax):
    pred, y = regression()
    assert bands(pred, y, ax=ax, level=0.8) is ax
    mean = line(ax, "mean").get_ydata()
    assert np.allclose(mean, np.sort(np.asarray(pred.mean)), rtol=1e-6) and abs(mean.mean() - LOC) < SCALE
    lower, upper = (np.asarray(end) for end in pred.interval(0.8))
    missed = int(((y < lower) | (y > upper)).sum())
    assert len(line(ax, "outside").get_ydata()) == missed
    assert line(ax, "outside").get_label() == f"outside: {missed}"
    assert ax.get_xlabel() and ax.get_ylabel() and legend_is_outside(ax)


def test_bands_against_x_are_in_its_order(ax):
    pred, y = regression(rows=20)
    x = np.random.default_rng(1).uniform(5, 9, 20)
    bands(pred, y, x[:, None], ax=ax)
    assert np.array_equal(line(ax, "mean").get_xdata(), np.sort(x))
    assert np.allclose(line(ax, "mean").get_ydata(), np.asarray(pred.mean)[np.argsort(x)], rtol=1e-6)


def test_bands_refuse_what_they_cannot_draw(ax):
    pred, y = regression(rows=10)
    with pytest.raises(uq.InputError, match="each of the 10"):
        bands(pred, y[:5], ax=ax)
    with pytest.raises(uq.InputError, match="pass one feature"):
        bands(pred, y, np.ones((10, 3)), ax=ax)
    with pytest.raises(uq.InputError, match="strictly between 0 and 1"):
        bands(pred, level=90, ax=ax)
    with pytest.raises(uq.InputError, match="one output"):
        bands(uq.Predictive(jnp.zeros((1, 3, 4)), uq.likelihoods.Categorical(4)), ax=ax)


def test_reliability_of_a_regression_is_the_share_inside_each_interval(ax):
    pred, y = regression(rows=400)
    reliability(pred, y, ax=ax)
    levels, observed = line(ax, "observed").get_data()
    for level in (0.2, 0.5, 0.9):
        lower, upper = (np.asarray(end, np.float64) for end in pred.interval(level))
        inside = np.mean((y >= lower) & (y <= upper))
        assert observed[np.argmin(np.abs(levels - level))] == pytest.approx(inside, abs=0.003)
    assert np.abs(observed - levels).max() < 0.1
    assert legend_is_outside(ax) and ax.get_xlabel() and ax.get_ylabel()


def test_reliability_of_classes_is_the_curve(ax):
    stream = np.random.default_rng(3)
    probs = stream.dirichlet(np.ones(4), 500)
    y = np.array([stream.choice(4, p=p) for p in probs])
    reliability(probs, y, ax=ax, bins=5)
    top, right = probs.max(1), probs.argmax(1) == y
    edges = np.linspace(0, 1, 6)
    expected = [
        (top[(top >= a) & (top < b)].mean(), right[(top >= a) & (top < b)].mean())
        for a, b in itertools.pairwise(edges)
        if ((top >= a) & (top < b)).any()
    ]
    drawn = next(points for points in ax.collections if points.get_label().startswith("observed"))
    assert np.allclose(drawn.get_offsets(), expected, atol=1e-6)
    assert ax.get_xlim()[0] == pytest.approx(0.2) and legend_is_outside(ax)


def test_markers_weigh_what_their_bin_does_and_no_line_joins_them(ax):
    said = np.r_[np.full(100, 0.95), np.full(50, 0.75), 0.55]
    reliability(said, np.ones(151, int), ax=ax, bins=5)
    points = next(points for points in ax.collections if points.get_label().startswith("observed"))
    few, half, full = points.get_sizes()
    assert half == pytest.approx(full / 2) and 0 < few < half / 2
    joined = [line for line in ax.lines if line.get_linestyle() != "None" and "calibrated" not in str(line.get_label())]
    assert joined == []


def test_reliability_of_two_classes_takes_one_column_or_two(ax):
    p = np.array([0.9, 0.8, 0.3, 0.4])
    for probs in (p, np.stack([1 - p, p], 1)):
        assert reliability(probs, [1, 1, 0, 1], ax=Figure().add_subplot(), bins=5).get_xlim()[0] == 0.5


def test_wilson_is_scipys():
    for count, hits in ((1, 0), (7, 7), (20, 13), (1000, 3)):
        low, high = wilson(np.array([hits / count]), np.array([count]))
        want = binomtest(hits, count).proportion_ci(0.9, method="wilson")
        assert low[0] == pytest.approx(want.low, abs=1e-12) and high[0] == pytest.approx(want.high, abs=1e-12)


def test_a_new_figure_is_made_where_none_is_given():
    from matplotlib import pyplot

    made = reliability([0.9, 0.8], [1, 1], bins=2)
    assert made.figure in [pyplot.figure(n) for n in pyplot.get_fignums()]
    pyplot.close("all")


def test_missing_matplotlib_is_one_sentence(monkeypatch):
    def absent(name, *args):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("importlib.import_module", absent)
    with pytest.raises(MissingExtra, match=r"`uq.plot.reliability` needs matplotlib.*pip install 'uq-jax\[plot\]'"):
        reliability([0.9], [1])
