"""What a CPU runs slowly, written in another way in the jaxpr: convolutions, and products of narrow matrices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend import core, linear_util

from ._convolution import convolution, writable
from ._narrow import is_narrow, product

_CALLS = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint", "scan", "while", "cond")
"""Operations that run the jaxprs among their parameters, and mean nothing more by them."""
_DERIVATIVES = {"custom_jvp_call": "jvp_jaxpr_fun", "custom_vjp_call": "fwd_jaxpr_thunk"}
"""Operations with a `call_jaxpr` and, under this name, a function that returns the jaxpr of their derivative."""


def lowered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with every convolution written as slices and matrix products.

    For CPUs: there the library's convolutions take a slow path inside a loop, and when each member has its own weights.
    Small image networks trained in a `scan` on two busy cores took a tenth of the processor time, mapped by `vmap` or
    `lax.map` (by the latter 2.2 times that of a large matrix product of as many operations); a residual network took
    a fourteenth, one-dimensional ones a thirtieth or less (one run each).
    Results and gradients agree to rounding (1e-5 of the largest value in float32, 1e-12 in float64).
    What comes back can be differentiated (both modes, any order), mapped, looped and compiled, like the original;
    it is traced anew at each call, so compile what contains it. Lower a loss before it is differentiated: the
    gradient of the products is faster than the lowered gradient of convolutions, and grouped ones have no other way.

    Convolutions are found inside `jit`, `scan`, `while`, `cond`, `checkpoint` and functions with derivative rules of
    their own, whose rules stay; the backward half of a `custom_vjp` is left alone, and so is any operation not known
    here. Left to the library as well: complex numbers and integers, `batch_group_count`, kernels of more than 256
    elements. Patches take up to a kernel's size times the memory of the input until the backward pass is over; a loop
    over members holds those of one.

    Args:
      function: takes and returns trees of arrays; other arguments are closed over.
    Returns:
      A function of the same signature. Without a convolution to rewrite it calls `function` itself.
    Example:
      >>> import jax.numpy as jnp
      >>> blur = lambda x: jnp.convolve(x, jnp.ones(3) / 3, mode="valid")
      >>> lowered(blur)(jnp.array([0.0, 3.0, 6.0, 9.0])).tolist()
      [3.0, 6.0]
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        jaxpr, structure, leaves = _traced(function, args, kwargs)
        if not holds_convolution(jaxpr.jaxpr):
            return function(*args, **kwargs)
        return jax.tree.unflatten(structure, core.jaxpr_as_fun(_rewritten(jaxpr, _CONVOLUTION))(*leaves))

    return run


def with_narrow_products(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function with products of narrow matrices written as `_narrow` does: for CPUs, to rounding.

    To be applied after differentiation, whose products are the slow ones.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        jaxpr, structure, leaves = _traced(function, args, kwargs)
        return jax.tree.unflatten(structure, core.jaxpr_as_fun(_rewritten(jaxpr, _NARROW))(*leaves))

    return run


def has_convolution(function: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether `lowered(function)` would rewrite anything for such arguments: arrays, or their shapes and dtypes."""
    return holds_convolution(_traced(function, args, kwargs)[0].jaxpr)


def holds_convolution(jaxpr: Any) -> bool:
    """Whether there is a convolution to rewrite in a jaxpr, a closed one or a tuple of them."""
    return _holds(jaxpr, _CONVOLUTION)


class _Rule(NamedTuple):
    """What is rewritten, and as what."""

    primitive: str
    applies: Callable[..., bool]
    """From the shapes of both operands, and parameters."""
    written: Callable[..., Any]
    """Of both operands, with the parameters as keywords."""


_CONVOLUTION = _Rule("conv_general_dilated", writable, convolution)
_NARROW = _Rule("dot_general", is_narrow, product)


def _traced(function: Callable[..., Any], args: Any, kwargs: Any) -> tuple[core.ClosedJaxpr, Any, list[Any]]:
    """The jaxpr of `function`, the structure of its result, and the leaves of its arguments."""
    leaves, structure = jax.tree.flatten((args, kwargs))

    def flat(*leaves: Any) -> Any:
        args, kwargs = jax.tree.unflatten(structure, leaves)
        return function(*args, **kwargs)

    jaxpr, shapes = jax.make_jaxpr(flat, return_shape=True)(*leaves)
    return jaxpr, jax.tree.structure(shapes), leaves


def _inner(eqn: core.JaxprEqn) -> dict[str, Any]:
    """The parameters of an operation that hold jaxprs which may be rewritten: a jaxpr or a tuple of them each."""
    name = eqn.primitive.name
    if name in _DERIVATIVES:
        return {"call_jaxpr": eqn.params["call_jaxpr"]}
    if name not in _CALLS:
        return {}
    held = {}
    for key, value in eqn.params.items():
        each = value if isinstance(value, tuple) else (value,)
        if each and all(isinstance(v, core.Jaxpr | core.ClosedJaxpr) for v in each):
            held[key] = value
    return held


def _is_for(rule: _Rule, eqn: core.JaxprEqn) -> bool:
    return eqn.primitive.name == rule.primitive and rule.applies(*(v.aval for v in eqn.invars), eqn.params)


def _holds(jaxpr: Any, rule: _Rule) -> bool:
    """Whether there is anything for the rule in a jaxpr, a closed one or a tuple of them."""
    if isinstance(jaxpr, tuple):
        return any(_holds(each, rule) for each in jaxpr)
    return any(_is_for(rule, eqn) or any(_holds(held, rule) for held in _inner(eqn).values()) for eqn in jaxpr.eqns)


def _rewritten(jaxpr: Any, rule: _Rule) -> Any:
    """The jaxpr with the rule applied; itself where there is nothing to apply it to."""
    if isinstance(jaxpr, tuple):
        return tuple(_rewritten(each, rule) for each in jaxpr)
    if not _holds(jaxpr, rule):
        return jaxpr
    if isinstance(jaxpr, core.ClosedJaxpr) and core.ClosedJaxpr is not core.Jaxpr:  # one class from jax 0.11 on
        return jaxpr.replace(jaxpr=_rewritten(jaxpr.jaxpr, rule))
    return jaxpr.replace(eqns=[_rewritten_eqn(eqn, rule) for eqn in jaxpr.eqns])


def _rewritten_eqn(eqn: core.JaxprEqn, rule: _Rule) -> core.JaxprEqn:
    if _is_for(rule, eqn):
        # One `jit` operation in its place: every transformation knows it.
        with jax.disable_jit(False):
            call = jax.make_jaxpr(jax.jit(functools.partial(rule.written, **eqn.params)))(*(v.aval for v in eqn.invars))
        (made,) = call.eqns
        return eqn.replace(primitive=made.primitive, params=made.params | {"name": rule.written.__name__})
    held = {key: _rewritten(value, rule) for key, value in _inner(eqn).items() if _holds(value, rule)}
    derivative = _DERIVATIVES.get(eqn.primitive.name)
    if derivative and held:
        held[derivative] = _rewritten_derivative(eqn.params[derivative], rule)
    return eqn.replace(params=eqn.params | held) if held else eqn


def _rewritten_derivative(derivative: Any, rule: _Rule) -> Any:
    """A derivative's function, which returns a jaxpr and more, with that jaxpr rewritten."""

    def run(*zeros: Any) -> Any:
        jaxpr, *more = derivative.call_wrapped(*zeros)
        return _rewritten(jaxpr, rule), *more

    return linear_util.wrap_init(run, debug_info=derivative.debug_info)
