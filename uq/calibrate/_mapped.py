"""A mixture seen through a map of its distribution function: G(y) = R(F(y))."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _member_laws
from .._checks import InputError, check_count
from .._typing import Array, ArrayLike, Key
from ..laws import mixture
from ..members import as_key
from ..predictive import Predictive

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)


@dataclass(frozen=True)
class MappedPredictive(Predictive):
    """Predictions whose distribution function was mapped by a rising, piecewise linear R from [0, 1] onto [0, 1].

    Densities, quantiles, intervals, draws, CRPS and moments are those of R(F), which is no mixture of the members any
    more: what needs members (`epistemic`, `to_numpyro`) says so.

    Args:
      before, after: knots of R, `(L,)`, both strictly rising from 0 to 1.
    """

    before: Array = None  # type: ignore[assignment]
    after: Array = None  # type: ignore[assignment]

    def __getitem__(self, rows: Any) -> MappedPredictive:
        part = super().__getitem__(rows)
        return MappedPredictive(part.outputs, part.likelihood, part.weight, self.before, self.after)

    def __repr__(self) -> str:
        return super().__repr__().replace("Predictive(", "MappedPredictive(", 1)

    @property
    def has_parts(self) -> bool:
        return False

    @property
    def unmapped(self) -> Predictive:
        """The mixture before the map."""
        return Predictive(self.outputs, self.likelihood, self.weight)

    # Tails are mapped from their own side: 1 − (1 − 1e-9) would keep no digit.

    def _tail(self, tail: Array, upper: bool, *, back: bool = False) -> Array:
        """R of a lower tail, or 1 − R of an upper one; or the inverses."""
        before, after = (self.after, self.before) if back else (self.before, self.after)
        if upper:
            before, after = 1 - before[::-1], 1 - after[::-1]
        return jnp.interp(tail, before.astype(tail.dtype), after.astype(tail.dtype))

    def cdf(self, y: ArrayLike) -> Array:
        return self._tail(self.unmapped.cdf(y), False)

    def sf(self, y: ArrayLike) -> Array:
        return self._tail(self.unmapped.sf(y), True)

    def cdf_below(self, y: ArrayLike) -> Array:
        return self._tail(self.unmapped.cdf_below(y), False)

    def log_prob(self, y: ArrayLike) -> Array:
        self._one_output("log_prob")
        inner = self.unmapped
        if self.discrete:
            below, above = self.cdf(y), self.sf(y)
            last = jnp.asarray(y, below.dtype) - 1
            mass = jnp.where(below < 0.5, below - self.cdf_below(y), self.sf(last) - above)
            return jnp.log(jnp.where(mass > 0, mass, 1)) + jnp.where(mass > 0, 0, -jnp.inf)
        slope = jnp.diff(self.after) / jnp.diff(self.before)
        piece = jnp.clip(jnp.searchsorted(self.before, inner.cdf(y), side="right") - 1, 0, slope.shape[0] - 1)
        value = inner.log_prob(y)
        return value + jnp.log(slope)[piece].astype(value.dtype)

    def _tails(self, tail: Any, upper: Any) -> Array:
        tail, upper = jnp.asarray(tail, self.outputs.dtype), jnp.asarray(upper)
        mapped = jnp.where(upper, self._tail(tail, True, back=True), self._tail(tail, False, back=True))
        return super()._tails(mapped, upper)

    def _quantiles_of_rows(self, levels: Array) -> Array:
        """Quantiles on the base's scale at levels of G, `(Q, N)` or `(Q, N, D)`, one for every row."""
        upper = levels > 0.5
        tail = jnp.where(upper, 1 - levels, levels)
        mapped = jnp.where(upper, self._tail(tail, True, back=True), self._tail(tail, False, back=True))
        d = _member_laws.members(self._base, None, self.outputs, self.weight)
        tiny = jnp.finfo(mapped.dtype).tiny
        return mixture.solve(_member_laws.components(d, self.weight), jnp.maximum(mapped, tiny), upper)

    # Integrals over levels: of the quantile function, in pieces that end at the knots of R

    def _over_levels(self) -> tuple[Array, Array]:
        """Weights of levels of G, `(Q,)`, and quantiles there, `(Q, N, …)`, on the base's scale.

        Eight in each piece, and more in the tails, which are cut in decades and measured from their own end.
        """
        tails, shares = zip(*(self._half(knots) for knots in (self.after, 1 - self.after)), strict=True)
        upper = jnp.repeat(jnp.array([False, True]), tails[0].shape[0])
        return jnp.concatenate(shares), self._tails(jnp.concatenate(tails), upper)

    def _half(self, knots: Array) -> tuple[Array, Array]:
        """Nodes and weights of one half of the levels, from its end to the middle."""
        cuts = jnp.asarray([0.0, *10.0 ** np.arange(-7.0, 0), 0.25, 0.5], knots.dtype)
        ends = jnp.sort(jnp.concatenate([jnp.minimum(knots, 0.5), cuts]))
        middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
        nodes = middle[:, None] + half[:, None] * jnp.asarray(_NODES, ends.dtype)
        nodes = jnp.where(nodes > 0, nodes, 0.5)  # of an empty piece, whose weight is 0
        return nodes.reshape(-1), (half[:, None] * jnp.asarray(_WEIGHTS, ends.dtype)).reshape(-1)

    def _moments(self) -> tuple[Array, Array, Array]:
        raise InputError(
            "The members' parts of the variance are gone once a distribution function is mapped: ask the predictions "
            "before the map (`pred.unmapped`) for `aleatoric` and `epistemic`."
        )

    @property
    def mean(self) -> Array:
        share, quantiles = self._over_levels()
        if not self._linear:
            return jnp.einsum("q,q...->...", share, self._from_base(quantiles))
        return self._from_base(jnp.einsum("q,q...->...", share, quantiles))

    @property
    def variance(self) -> Array:
        share, quantiles = self._over_levels()
        quantiles = quantiles if self._linear else self._from_base(quantiles)
        gap = quantiles - jnp.einsum("q,q...->...", share, quantiles)
        square = jnp.einsum("q,q...->...", share, gap**2)
        return self._scaled(square, 2) if self._linear else square

    @property
    def stddev(self) -> Array:
        return jnp.sqrt(self.variance)

    def residual(self, y: ArrayLike) -> Array:
        y = self._check_y(y)
        share, quantiles = self._over_levels()
        return self._scaled(jnp.einsum("q,q...->...", share, self._gap(y, quantiles)), 1 if self._linear else 0)

    def crps(self, y: ArrayLike) -> Array:
        """By quadrature of the quantile score over levels, split at G(y): 2 ∫ v (y − Q) up to it, (1 − v)(Q − y) on."""
        y = self._check_y(y)
        at, ends = self.cdf(y), _PIECES
        lower = at * ends[:, None] if at.ndim == 1 else at * ends[:, None, None]
        upper = 1 - (1 - at) * (ends[:, None] if at.ndim == 1 else ends[:, None, None])
        total = jnp.zeros_like(at)
        for cuts, below in ((lower, True), (upper, False)):
            a, b = cuts[:-1], cuts[1:]
            for node, share in zip(_NODES, _WEIGHTS, strict=True):
                level = (a + b) / 2 + (b - a) / 2 * node
                gap = self._gap(y, self._quantiles_of_rows(level))
                part = jnp.where(level > 0, level * gap, 0) if below else jnp.where(level < 1, (level - 1) * gap, 0)
                total = total + (share * jnp.abs(b - a) / 2 * part).sum(0)
        return 2 * (self._scaled(total, 1) if self._linear else total)

    def _gap(self, y: ArrayLike, quantiles: Array) -> Array:
        """y − Q, on the base's scale where it is linear, else in the user's units."""
        if self._linear:
            return self._to_base(y) - quantiles
        return jnp.asarray(y, quantiles.dtype) - self._from_base(quantiles)

    def _entropies(self) -> tuple[Array, Array]:
        raise InputError("The entropy of a mapped distribution is not computed: use the mean of −log_prob of draws.")

    def sample(self, key: Key, num: int = 1) -> Array:
        shape = (check_count("num", num), *self.outputs.shape[1:-1])
        if self.num_outputs > 1:
            raise InputError("Draws of several outputs that were mapped one by one would lose their dependence.")
        return self._from_base(self._quantiles_of_rows(jax.random.uniform(as_key(key), shape, self.outputs.dtype)))

    def to_numpyro(self) -> Any:
        raise InputError("A mapped distribution has no counterpart in numpyro: use draws, or `pred.unmapped`.")

    def _one_output(self, what: str) -> None:
        if self.num_outputs > 1:
            raise InputError(f"`{what}` of several outputs that were mapped one by one is not defined.")


_PIECES = np.concatenate([[0.0], 10.0 ** np.arange(-5, 0), [0.3, 0.6, 0.85, 1.0]])
"""Of the way to a level: fine towards the tail, where quantiles run away."""


def _flatten(pred: MappedPredictive) -> tuple[tuple, Any]:
    leaves, structure = jax.tree.flatten(pred.unmapped)
    return (leaves, pred.before, pred.after), structure


def _unflatten(structure: Any, children: tuple) -> MappedPredictive:
    leaves, before, after = children
    inner = jax.tree.unflatten(structure, leaves)
    pred = object.__new__(MappedPredictive)
    for name, value in (
        ("outputs", inner.outputs),
        ("likelihood", inner.likelihood),
        ("weight", inner.weight),
        ("before", before),
        ("after", after),
    ):
        object.__setattr__(pred, name, value)
    return pred


jax.tree_util.register_pytree_node(MappedPredictive, _flatten, _unflatten)


def mapped(pred: Predictive, before: ArrayLike, after: ArrayLike) -> MappedPredictive:
    """`pred` seen through R, or through one more map where it was mapped already."""
    before, after = jnp.asarray(before), jnp.asarray(after)
    if isinstance(pred, MappedPredictive):
        inner, outer = (pred.before, pred.after), (before, after)
        knots = jnp.sort(jnp.concatenate([inner[0], jnp.interp(outer[0], inner[1], inner[0])]))
        return MappedPredictive(
            pred.outputs,
            pred.likelihood,
            pred.weight,
            knots,
            jnp.interp(jnp.interp(knots, *inner), *outer),
        )
    return MappedPredictive(pred.outputs, pred.likelihood, pred.weight, before, after)
