"""Float32 error of numpyro's functions and of `uq.laws`, against scipy in float64, as a markdown table.

python benchmarks/accuracy.py
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from scipy import special, stats

from uq import laws

F32 = np.float32


def cases() -> Iterator[tuple[str, str, Any, Any, float]]:
    """Name, function, numpyro distribution, its frozen twin, and where."""
    for df in (1e3, 1e5, 1e7):
        d, twin = dist.StudentT(F32(df), F32(0), F32(1)), stats.t(df)
        yield f"StudentT(df={df:g})", "log_prob", d, twin, 1.0
        yield f"StudentT(df={df:g})", "cdf", d, twin, 1.0
    for mean in (1e3, 1e6):
        d = dist.Gamma(F32(mean), F32(1))
        yield f"Gamma({mean:g}, 1)", "log_prob", d, stats.gamma(mean), mean + mean**0.5
        yield f"Gamma({mean:g}, 1)", "cdf", d, stats.gamma(mean), mean - 3 * mean**0.5
    for size in (1e3, 1e6):
        d, twin = dist.Beta(F32(size), F32(3 * size)), stats.beta(size, 3 * size)
        yield f"Beta({size:g}, {3 * size:g})", "log_prob", d, twin, 0.25
        yield f"Beta({size:g}, {3 * size:g})", "cdf", d, twin, float(F32(0.25 - 1.3 / size**0.5))
    for rate in (1e3, 1e6):
        d, twin = dist.Poisson(F32(rate)), stats.poisson(rate)
        yield f"Poisson({rate:g})", "log_prob", d, twin, float(int(rate + rate**0.5))
        yield f"Poisson({rate:g})", "cdf", d, twin, float(int(rate - 3 * rate**0.5))
    for size in (1e3, 1e6):
        d, twin = dist.NegativeBinomial2(F32(100), F32(size)), stats.nbinom(size, size / (size + 100))
        yield f"NegativeBinomial2(100, {size:g})", "log_prob", d, twin, 110.0
        yield f"NegativeBinomial2(100, {size:g})", "cdf", d, twin, 80.0
    for low in (8.0, 40.0):
        d = dist.TruncatedNormal(F32(0), F32(1), low=F32(low), high=F32(low + 2))
        yield f"Normal on [{low:g}, {low + 2:g}]", "log_prob", d, stats.truncnorm(low, low + 2), low + 0.25
        yield f"Normal on [{low:g}, {low + 2:g}]", "cdf", d, stats.truncnorm(low, low + 2), low + 0.25
    yield "Laplace(0, 1)", "cdf", dist.Laplace(F32(0), F32(1)), stats.laplace(), -30.0
    yield "Logistic(0, 1)", "cdf", dist.Logistic(F32(0), F32(1)), stats.logistic(), -30.0
    yield "Weibull(1, 2)", "cdf", dist.Weibull(F32(1), F32(2)), stats.weibull_min(2.0), 1e-4
    yield "Exponential(1)", "cdf", dist.Exponential(F32(1)), stats.expon(), 1e-6


def error(compute: Callable[[], Any], want: float, *, relative: bool) -> str:
    """Absolute error of a log-density, relative error of a probability."""
    try:
        got = float(compute())
    except (NotImplementedError, ImportError, TypeError, ValueError):
        return "not implemented"
    if not np.isfinite(got):
        return str(got)
    return f"{abs(got - want) / (abs(want) if relative else 1):.0e}"


def slope_by_df(df: float) -> tuple[str, str]:
    """Of the log-density of Student's t at 3, by its degrees of freedom: relative error."""
    a = 0.5 * df
    if df < 1e5:
        want = 0.5 * (special.digamma(a + 0.5) - special.digamma(a) - 1 / df - np.log1p(9 / df))
        want += 0.5 * (df + 1) * 9 / df / (df + 9)
    else:  # the leading term of its expansion: digamma functions cancel in float64 too
        want = -(81 - 18 - 1) / (4 * df**2)
    ours = float(jax.grad(lambda v: laws.log_prob(dist.StudentT(v, F32(0), F32(1)), F32(3)))(F32(df)))
    theirs = float(jax.grad(lambda v: dist.StudentT(v, F32(0), F32(1)).log_prob(F32(3)))(F32(df)))
    return f"{abs(theirs / want - 1):.0e}", f"{abs(ours / want - 1):.0e}"


def main() -> None:
    print("| law | function | numpyro | uq.laws |\n|---|---|---|---|")
    for name, function, d, twin, y in cases():
        exact = {"log_prob": "logpmf" if hasattr(twin, "pmf") else "logpdf", "cdf": "cdf"}[function]
        want, relative = float(getattr(twin, exact)(y)), function == "cdf"
        point = jnp.float32(y)
        before = error(lambda d=d, f=function, p=point: getattr(d, f)(p), want, relative=relative)
        after = error(lambda d=d, f=function, p=point: getattr(laws, f)(d, p), want, relative=relative)
        print(f"| {name} at {y:g} | {function} | {before} | {after} |")
    for df in (3e3, 1e6):
        before, after = slope_by_df(df)
        print(f"| StudentT(df={df:g}) at 3 | d log_prob / d df | {before} | {after} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
