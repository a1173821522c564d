"""`Posterior`: what `fit` returns and `load` reads; a short path to predictions."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ._cache import ProgramCache, fingerprint, shapes_of, trace_context
from ._checks import (
    InputError,
    UQWarning,
    check_count,
    check_inputs,
    check_width_of_inputs,
    is_concrete,
    leading_size,
)
from ._rows import Source, inputs_source, pairs_source
from ._tree import tree_size
from ._typing import Array, ArrayLike, Key, PyTree
from .calibrate import Recalibrator, auto
from .execution import compiled, run_once
from .likelihoods import Likelihood
from .members import Members, num_members, one_key, stack
from .method import Method, ensemble
from .methods.map_estimate import MapState, map_estimate
from .metrics import streaming
from .metrics._estimate import check_weight
from .model import Model, Variables, as_model
from .predict import predict
from .predict_batches import Limits, Moments, Part, check_limits, cut, evaluated, moments_of, stream
from .predictive import Predictive
from .standardize import Scaling
from .wrap import standardized

_PROGRAMS = ProgramCache()


class History(NamedTuple):
    """How training went. Losses are on the scale the networks were trained in."""

    loss: np.ndarray
    """Mean training objective, `(epochs, K)`; NaN after a member has stopped."""
    held_out_loss: np.ndarray
    """Negative log-likelihood of each member's left-out rows, `(epochs, K)`; NaN where there are none."""
    best_epoch: np.ndarray
    """The epoch whose weights were kept, `(K,)`; −1 for the last."""
    compile_seconds: float
    run_seconds: float
    seconds: float
    """All of `fit`, with checks and compilation."""
    interrupted: bool
    diverged: np.ndarray
    """Members whose loss or weights stopped being finite."""
    strategy: str = ""
    """How the members were executed, and whether by the rule, a plan, or as given."""

    def take(self, index: np.ndarray) -> History:
        """The history of some members."""
        return self._replace(
            loss=self.loss[:, index],
            held_out_loss=self.held_out_loss[:, index],
            best_epoch=self.best_epoch[index],
            diverged=np.flatnonzero(np.isin(index, self.diverged)),
        )


@dataclass(frozen=True)
class Posterior:
    """Trained networks, with everything needed to predict in the user's own units."""

    method: Method
    state: PyTree
    """The method's state (leading axis K for an ensemble), without what only training needs."""
    likelihood: Likelihood
    """What the outputs mean, in the user's units."""
    key: Array
    """The key of the fit; predictions draw from it unless given another."""
    inputs: Scaling | None = None
    """How raw inputs are standardised before the networks see them."""
    weight: Array | None = None
    """Member weights, `(K,)`."""
    history: History | None = None
    example: PyTree = None
    """Shape and dtype of one example of `x`."""
    origin: Array | None = None
    """Which member of the fit each is, `(K,)`; None means 0 … K − 1. A member's draws depend on it alone."""
    left_out: np.ndarray | None = None
    """Which rows of the training data had no part in each member, `(K, N)`, bool; None without cross-fitting."""
    data: tuple[Any, Any] | None = field(default=None, repr=False)
    """The training data `(x, y)` of a cross-fitted posterior, as given; not saved with it."""
    recalibrator: Recalibrator | None = None
    """What predictions pass through; `calibrate` attaches one."""
    calibration: PyTree = None
    """Its fitted state; printing that of `uq.calibrate.auto` tells what was tried."""

    @property
    def size(self) -> int:
        """K."""
        return self.method.size or 1

    @property
    def model(self) -> Model:
        """The networks as a function of raw inputs."""
        if self.inputs is None:
            return self.method.model
        return standardized(self.method.model, self.inputs.mean, self.inputs.scale)

    @property
    def num_params(self) -> int:
        """Numbers that the posterior keeps: weights of all members, and the spread over them where there is one."""
        kept = self.state._replace(carried=()) if hasattr(self.state, "carried") else self.state
        if isinstance(kept, MapState):
            kept = kept.variables.params
        return sum(leaf.size for leaf in jax.tree.leaves(kept))

    def __repr__(self) -> str:
        calibrated = "" if self.recalibrator is None else f", calibrated by {self.recalibrator.name}"
        return f"Posterior({self.method.name}, members={self.size}, parameters={self.num_params}{calibrated})"

    def sample(self, num: int | None = None, *, key: Key | None = None) -> Members:
        """`num` networks from each member (the method's own number by default), member-major, with weights."""
        num = self.method.num_draws if num is None else check_count("num", num)
        method, own = self.method, key is None
        origin = jnp.arange(self.size) if self.origin is None else jnp.asarray(self.origin)

        def draw(key: Key, state: PyTree, origin: Array) -> Members:
            key = jax.random.fold_in(key, 1) if own else key
            if method.member is not None:
                key = jax.vmap(lambda k: jax.random.fold_in(key, k))(origin)
            return method.sample(key, state, num)

        arguments = (self.key if own else one_key(key), self.state, origin)
        if is_concrete(arguments):
            options = run_once(num * tree_size(self.state) // self.size)
            program = _PROGRAMS.get(
                (fingerprint(method), num, own, shapes_of(arguments), trace_context()),
                lambda: compiled(jax.jit(draw).lower(*arguments), options),
            )
            members = program(*arguments)
        else:
            members = draw(*arguments)
        weight = jnp.full(self.size, 1 / self.size) if self.weight is None else self.weight
        return members._replace(weight=jnp.repeat(weight / num, num), origin=jnp.repeat(origin, num))

    def predict(
        self,
        x: PyTree,
        *,
        num_samples: int | None = None,
        key: Key | None = None,
        batch_size: int | None = None,
        member_size: int | None = None,
        calibrated: bool = True,
    ) -> Predictive:
        """The predictive distribution of every example of `x`, in the units of the training target.

        Args:
          x: inputs `(N, …)` as in training.
          num_samples: draws from each member's posterior; None is the method's own number (1 for point estimates).
          key: for those draws; None is the fit's own, so that predictions repeat.
          batch_size, member_size: rows and networks at a time; None bounds memory by itself.
          calibrated: whether predictions pass through the recalibrator, where there is one.
        Raises:
          InputError: inputs unlike those of training, or not finite.
        """
        x = check_inputs(x)
        if self.example is not None:
            check_width_of_inputs(x, self.example)
        z = x if self.inputs is None else self.inputs.apply(x)
        members = self.sample(num_samples, key=key)
        pred = predict(self.method.model, self.likelihood, members, z, batch_size=batch_size, member_size=member_size)
        return self._recalibrated(pred) if calibrated else pred

    def _recalibrated(self, pred: Predictive) -> Predictive:
        return pred if self.recalibrator is None else self.recalibrator.apply(self.calibration, pred)

    def calibrate(
        self,
        recalibrator: Recalibrator | None = None,
        data: tuple[Any, Any] | None = None,
        *,
        weight: ArrayLike | None = None,
    ) -> Posterior:
        """The same posterior with a recalibrator fitted to predictions of rows that trained none of those who predict.

        Args:
          recalibrator: of `uq.calibrate`; None is `uq.calibrate.auto()` for as many voters as there are members.
          data: held-out `(x, y)`; None takes out-of-fold predictions of the training data of a cross-fitted posterior.
          weight: one non-negative number an example.
        Raises:
          InputError: neither held-out data nor a cross-fitted posterior; what the recalibrator says of the predictions.
        """
        bare = replace(self, recalibrator=None, calibration=None)
        num = self.method.num_draws * (self.size if self.weight is None else int((np.asarray(self.weight) > 0).sum()))
        chosen = auto(voters=max(num, 1)) if recalibrator is None else recalibrator
        if not isinstance(chosen, Recalibrator):
            raise InputError(
                "`recalibrator` expected one of uq.calibrate, such as uq.calibrate.temperature(), but got "
                f"{recalibrator!r}."
            )
        if data is not None:
            if not isinstance(data, tuple | list) or len(data) != 2:
                raise InputError("`data` expected a pair (x, y); pass example weights as weight=….")
            state = chosen.fit(bare.predict(data[0]), data[1], weight)
            return replace(self, recalibrator=chosen, calibration=state)
        if self.data is None or self.left_out is None:
            raise InputError(
                "`calibrate` needs held-out data=(x, y), or a posterior that was cross-fitted: "
                "uq.fit(…, holdout=uq.crossfit())."
            )
        pred, rows = bare.out_of_fold(), np.flatnonzero(self._votes()[1].any(0))
        if weight is not None:
            weight = np.asarray(check_weight("calibrate", weight, len(self.data[1])))[rows]
        return replace(self, recalibrator=chosen, calibration=chosen.fit(pred, np.asarray(self.data[1])[rows], weight))

    def out_of_fold(self, x: PyTree = None, *, num_samples: int | None = None, key: Key | None = None) -> Predictive:
        """What the members that did not see a row say of it, for every row of the training data.

        Their weights are a row's own, `(V, N)`. Rows that every member saw (fewer members than folds) are left out;
        `posterior.left_out.any(0)` tells which rows there are.

        Args:
          x: the training inputs, for a posterior that was loaded from a file; else None.
          num_samples, key: as in `predict`.
        Raises:
          InputError: the posterior was not cross-fitted; inputs of another number of rows; no member left any out.
        """
        x = self._training_inputs(x)
        alive, votes = self._votes()
        rows = np.flatnonzero(votes.any(0))
        if len(rows) == 0:
            raise InputError("No member that did not diverge left out any row.")
        if len(rows) < votes.shape[1]:
            warnings.warn(
                f"{votes.shape[1] - len(rows)} of {votes.shape[1]} rows were left out by no member, and are missing "
                "here; `posterior.left_out.any(0)` tells which rows there are.",
                UQWarning,
                stacklevel=2,
            )
        num = self.method.num_draws if num_samples is None else check_count("num_samples", num_samples)
        votes, weight = np.repeat(votes[:, rows], num, axis=0), np.repeat(alive / num, num)
        first = np.argsort(~votes, axis=0, kind="stable")[: votes.sum(0).max()]  # those who vote, for every row
        weight = np.where(np.take_along_axis(votes, first, 0), weight[first], 0)
        parts, start = [], 0
        bare = replace(self, recalibrator=None, calibration=None)
        for part in bare.predict_batches(_take_rows(x, rows), num_samples=num, key=key):
            which = first[:, start : start + len(part)]
            outputs = np.asarray(part.outputs)
            parts.append(np.take_along_axis(outputs, which.reshape(*which.shape, *(1,) * (outputs.ndim - 2)), 0))
            start += len(part)
        dtype = parts[0].dtype
        return Predictive(
            jnp.asarray(np.concatenate(parts, 1)), self.likelihood, jnp.asarray((weight / weight.sum(0)).astype(dtype))
        )

    def _votes(self) -> tuple[np.ndarray, np.ndarray]:
        """Member weights `(K,)`, and which members that predict left out which rows, `(K, N)`."""
        assert self.left_out is not None
        alive = np.ones(self.size) if self.weight is None else np.asarray(self.weight, np.float64)
        return alive, self.left_out & (alive > 0)[:, None]

    def _training_inputs(self, x: PyTree) -> PyTree:
        if self.left_out is None:
            raise InputError("`out_of_fold` needs a cross-fitted posterior: uq.fit(…, holdout=uq.crossfit()).")
        if x is None:
            if self.data is None:
                raise InputError("`out_of_fold` of a loaded posterior needs the training inputs: pass x=….")
            return self.data[0]
        num = leading_size("x", x)
        if num != self.left_out.shape[1]:
            raise InputError(f"`out_of_fold` expected the {self.left_out.shape[1]} training rows, but `x` has {num}.")
        return x

    def predict_batches(
        self,
        x: Any,
        *,
        num_samples: int | None = None,
        key: Key | None = None,
        batch_size: int | None = None,
        member_size: int | None = None,
        memory: int | None = None,
    ) -> Iterator[Predictive]:
        """`predict` for more rows than fit in memory: one `Predictive` after another, for consecutive rows.

        Each has `batch_size` rows, the last one what remains, however the rows were batched; all run in one program.

        Args:
          x: inputs `(N, …)` as in training, which may be a memory map; or an iterator (or list) of batches of them, of
            any sizes, read when needed.
          num_samples, key: as in `predict`; drawn once.
          batch_size, member_size: rows and networks at a time; None chooses from `memory`.
          memory: bytes that the values of one chunk may take; None is 32 MiB on a CPU, whose caches they fit, and 256
            MiB elsewhere.
        Raises:
          InputError: as `predict`, with the number of the batch or of the row.
        """
        limits = check_limits(Limits(batch_size, member_size, memory))
        return map(cut, self._stream(inputs_source(x, self.example), num_samples, key, limits))

    def moments(
        self,
        x: Any,
        *,
        levels: ArrayLike | None = None,
        num_samples: int | None = None,
        key: Key | None = None,
        batch_size: int | None = None,
        member_size: int | None = None,
        memory: int | None = None,
    ) -> Moments:
        """Mean, variances and, at the `levels` asked for, quantiles of every row, without holding members' outputs.

        Args:
          x, num_samples, key, batch_size, member_size, memory: as in `predict_batches`.
          levels: levels of quantiles, `(Q,)`, in (0, 1).
        Raises:
          InputError: as `predict_batches`; quantiles of classes.
        """
        limits = check_limits(Limits(batch_size, member_size, memory))
        return moments_of(self._stream(inputs_source(x, self.example), num_samples, key, limits), levels)

    def evaluate_batches(
        self,
        data: Any,
        metrics: Mapping[str, streaming.Streaming] | streaming.Streaming,
        *,
        num_samples: int | None = None,
        key: Key | None = None,
        batch_size: int | None = None,
        member_size: int | None = None,
        memory: int | None = None,
    ) -> Any:
        """Streaming metrics over more rows than fit in memory.

        Args:
          data: `(x, y)` or `(x, y, weight)`; or an iterable of such tuples, of any sizes, read when needed.
          metrics: `{name: metric}` of `uq.metrics.streaming`, or one of them.
          num_samples, key, batch_size, member_size, memory: as in `predict_batches`.
        Returns:
          `{name: Estimate}`, or what the one metric computes.
        Raises:
          InputError: as `predict_batches`; targets unlike the inputs in number, or not what the likelihood takes.
        """
        limits = check_limits(Limits(batch_size, member_size, memory))
        metric = streaming.collect(metrics) if isinstance(metrics, Mapping) else metrics
        if not isinstance(metric, streaming.Streaming):
            raise InputError(
                "`metrics` expected uq.metrics.streaming metrics, {name: metric} or one of them, but got a "
                f"{type(metrics).__name__}."
            )
        return evaluated(self._stream(pairs_source(data), num_samples, key, limits), metric)

    def _stream(self, source: Source, num_samples: int | None, key: Key | None, limits: Limits) -> Iterator[Part]:
        members = self.sample(num_samples, key=key)
        prepare = (lambda x: x) if self.inputs is None else self.inputs.apply
        model, likelihood, example = self.method.model, self.likelihood, self.example
        parts = stream(model, likelihood, members, source, limits, example=example, prepare=prepare)
        if self.recalibrator is None:
            return parts
        return (part._replace(pred=self._recalibrated(part.pred)) for part in parts)

    def take(self, index: Any) -> Posterior:
        """The posterior of some members: an int, a slice, or a list of them; `best` picks one by a score.

        A recalibrator, which was fitted to what all members say together, does not come along.
        """
        self._needs_ensemble("take")
        try:
            index = np.atleast_1d(np.arange(self.size)[index])
        except IndexError:
            raise InputError(
                f"There are {self.size} members (0 to {self.size - 1}), but member {index} was asked for."
            ) from None
        if len(index) == 0:
            raise InputError("`take` expected at least one member.")
        weight = None if self.weight is None else np.asarray(self.weight)[index]
        if weight is not None:
            weight = jnp.asarray(weight / max(weight.sum(), 1e-30))
        origin = np.arange(self.size) if self.origin is None else np.asarray(self.origin)
        whole = np.array_equal(index, np.arange(self.size))
        return replace(
            self,
            recalibrator=self.recalibrator if whole else None,
            calibration=self.calibration if whole else None,
            method=_resized(self.method, len(index)),
            state=jax.tree.map(lambda leaf: leaf[index], self.state),
            weight=weight,
            history=None if self.history is None else self.history.take(index),
            origin=jnp.asarray(origin[index]),
            left_out=None if self.left_out is None else self.left_out[index],
        )

    def best(self, score: ArrayLike) -> Posterior:
        """The member with the lowest score `(K,)`: the winner of a sweep. NaN never wins."""
        score = np.asarray(score, np.float64)
        if score.shape != (self.size,):
            raise InputError(f"`best` expected one score for each of the {self.size} members, but got {score.shape}.")
        if not np.isfinite(score).any():
            raise InputError("`best` expected at least one finite score, but every member's is NaN or infinite.")
        return self.take([int(np.nanargmin(np.where(np.isfinite(score), score, np.nan)))])

    def _needs_ensemble(self, what: str) -> None:
        if self.method.member is None:
            raise InputError(f"`{what}` needs an ensemble, but this posterior is of one network.")

    def save(self, path: str | Path) -> None:
        """Write the posterior to one file; see `uq.save`."""
        from .io import save

        save(self, path)


def _resized(method: Method, size: int) -> Method:
    assert method.member is not None
    return ensemble(method.member, size, mapping=method.mapping)._replace(model=method.model)


def _take_rows(x: PyTree, rows: np.ndarray) -> PyTree:
    size = leading_size("x", x)
    return x if len(rows) == size else jax.tree.map(lambda leaf: np.asarray(leaf)[rows], x)


def posterior(
    model: Any,
    likelihood: Likelihood,
    variables: Sequence[PyTree] | PyTree,
    *,
    x: PyTree = None,
    inputs: Scaling | None = None,
) -> Posterior:
    """A `Posterior` from networks that are already trained: nothing is trained or changed.

    Args:
      model: anything `as_model` takes.
      likelihood: what the outputs mean, in the units the networks were trained in (see
        `uq.likelihoods.transformed` for others).
      variables: a list of K networks' variables, or one tree with a leading axis K. Each may be `Variables`, a
        linen dictionary `{"params": …, "batch_stats": …}`, or bare parameters for networks without state.
      x: example inputs; without them here, loading a saved file asks for some.
      inputs: how inputs were standardised, if they were.
    Example:
      >>> import flax.linen as nn, jax, jax.numpy as jnp, uq
      >>> net, x = nn.Dense(2), jnp.ones((3, 4))
      >>> nets = [net.init(jax.random.key(i), x) for i in range(5)]
      >>> uq.posterior(net, uq.likelihoods.Gaussian(), nets).predict(x).num_members
      5
    """
    if isinstance(variables, list | tuple) and not isinstance(variables, Variables):
        if not variables:
            raise InputError("`variables` expected at least one network, but the list is empty.")
        tree = stack([as_variables(v) for v in variables])
    else:
        tree = as_variables(variables)
    size = num_members(tree)
    if likelihood.free and not (isinstance(tree.params, dict) and set(tree.params) == {"network", "likelihood"}):
        raise InputError(
            f"{likelihood!r} has parameters of its own; pass params as "
            "{'network': …, 'likelihood': (K, free)}, raw scales before softplus."
        )
    method = ensemble(map_estimate(as_model(model), likelihood), size)
    tree = jax.tree.map(jnp.asarray, tree)
    example = None
    if x is not None:
        example = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), check_inputs(x))
    weight = jnp.full(size, 1 / size)
    return Posterior(method, MapState(tree, ()), likelihood, jax.random.key(0), inputs, weight, None, example)


def as_variables(tree: PyTree) -> Variables:
    """`Variables` from what frameworks hand out."""
    if isinstance(tree, Variables):
        return tree
    if isinstance(tree, dict) and "params" in tree:
        return Variables(tree["params"], {name: part for name, part in tree.items() if name != "params"})
    return Variables(tree, ())
