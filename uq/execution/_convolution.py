"""One convolution written as slices and matrix products, in the form that is cheapest for its shapes."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from .._typing import Array

Dot = Callable[[Array, Array, Any], Array]
Pairs = Sequence[tuple[int, int]]

_PIECES = 256
"""More slices than this compile slowly: the convolution stays as it is."""
_FEW = 4
"""Up to so many input channels, patches are gathered along a leading axis."""
_FLOATS = ("float16", "bfloat16", "float32", "float64")


def writable(lhs: Any, rhs: Any, params: dict[str, Any]) -> bool:
    """Whether `convolution` knows this one: real numbers, no batch groups, no sharding asked for, not too many slices.

    Args:
      lhs, rhs: anything with a shape and a dtype.
      params: the parameters of `conv_general_dilated`.
    """
    spec, preferred = params["dimension_numbers"], params["preferred_element_type"]
    kernel = [rhs.shape[d] for d in spec.rhs_spec[2:]]
    if not kernel or params["batch_group_count"] != 1 or params.get("out_sharding") is not None:
        return False
    if any(str(jnp.dtype(t)) not in _FLOATS for t in (lhs.dtype, rhs.dtype, preferred or lhs.dtype)):
        return False
    out = _sizes_out(lhs.shape, kernel, params)
    if 0 in (*lhs.shape, *rhs.shape) or min(out) <= 0:
        return False
    fewest = math.prod(kernel) if params["feature_group_count"] > 1 else min(math.prod(kernel), math.prod(out))
    return fewest <= _PIECES


def convolution(lhs: Array, rhs: Array, **params: Any) -> Array:
    """What `conv_general_dilated` with these parameters returns, by slices and matrix products.

    Slices depend on `lhs` alone and meet the weights in the product only: members that share an input share its
    patches under `vmap`, and a loop over members computes them once, before it. Numbers of 16 bits are multiplied and
    added as 32.

    The form follows from the shapes, see `_direct`. An input with zeros in between (a transposed convolution, the
    gradient of a strided one) is the transpose of a strided convolution; a kernel larger than the output (the gradient
    of the weights) takes a slice for each element of the output instead of the kernel.
    """
    spec, groups, dilation = params["dimension_numbers"], params["feature_group_count"], params["rhs_dilation"]
    strides, padding, stretch = params["window_strides"], params["padding"], params["lhs_dilation"]
    dtype = jnp.dtype(params["preferred_element_type"] or lhs.dtype)
    working = jnp.float64 if max(lhs.dtype.itemsize, dtype.itemsize) == 8 else jnp.float32
    lhs, rhs = lhs.astype(working), rhs.astype(working)
    dot: Dot = functools.partial(lax.dot_general, precision=params["precision"])
    kernel = [rhs.shape[d] for d in spec.rhs_spec[2:]]
    out = _sizes_out(lhs.shape, kernel, params)
    if math.prod(out) < math.prod(kernel) and groups == 1:
        y = _by_position(_padded(lhs, spec.lhs_spec[2:], padding, stretch), rhs, spec, strides, dilation, out, dot)
    else:
        x = lax.transpose(lhs, (spec.lhs_spec[0], *spec.lhs_spec[2:], spec.lhs_spec[1]))
        w = lax.transpose(rhs, (*spec.rhs_spec[2:], spec.rhs_spec[1], spec.rhs_spec[0]))
        if max(stretch) > 1 and max(strides) == 1:
            y = _transposed(x, w, stretch, padding, dilation, groups, out, dot)
        else:
            y = _direct(_padded(x, range(1, x.ndim - 1), padding, stretch), w, strides, dilation, groups, dot)
    lies = (spec.out_spec[0], *spec.out_spec[2:], spec.out_spec[1])
    return lax.transpose(y, sorted(range(y.ndim), key=lambda d: lies[d])).astype(dtype)


def _direct(x: Array, w: Array, strides: Sequence[int], dilation: Sequence[int], groups: int, dot: Dot) -> Array:
    """A convolution without padding of `x`, (N, *space, C), with `w`, (*kernel, C / groups, F): (N, *out, F).

    - One channel a group (depthwise): slices times their weights, added.
    - Few channels: every slice is a row of one matrix; one number a pixel, side by side, is slow to gather.
    - No stride along the first axis, and features few enough: slices along the other axes side by side, one product
      for all rows of the kernel, and its results shifted and added. The patches are smaller by the kernel's height.
    - Otherwise: one product for each row of the kernel, added.

    Measured on two CPU cores, forward and backward in a loop, 3×3 kernels, processor time in multiples of a large
    matrix product with as many operations (one matrix of all patches / a product a row / rows shifted and added):
    28×28, 16 → 16 channels: 5.5 / 4.2 / 3.0; 14×14, 32 → 32: 3.1 / 2.7 / 2.9; 7×7, 64 → 64: 1.8 / 1.8 / 2.0; 14×14,
    16 → 32, stride 2: 1.7 / 1.4 / 3.1. Shifting along both axes (no patches at all) costs 5–24.
    """
    *kernel, inputs, features = w.shape
    space = x.shape[1:-1]
    out = [(n - (k - 1) * d - 1) // s + 1 for n, k, d, s in zip(space, kernel, dilation, strides, strict=True)]
    axes = tuple(range(len(space)))

    def piece(tap: tuple[int, ...]) -> Array:
        """The numbers that one element of the kernel meets; an element of its last axes: along these axes."""
        start, end, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for i, axis in zip(tap, axes[len(axes) - len(tap) :], strict=True):
            start[axis + 1], step[axis + 1] = i * dilation[axis], strides[axis]
            end[axis + 1] = start[axis + 1] + (out[axis] - 1) * strides[axis] + 1
        return lax.slice(x, start, end, step)

    taps = list(itertools.product(*map(range, kernel)))
    if inputs == 1 and groups > 1:
        w = w.reshape(*kernel, groups, features // groups)
        y = functools.reduce(jnp.add, [piece(tap)[..., None] * w[tap] for tap in taps])
        return y.reshape(x.shape[0], *out, features)
    if inputs <= _FEW and groups == 1:
        flat = [piece(tap)[..., c].reshape(1, -1) for tap in taps for c in range(inputs)]
        y = dot(jnp.concatenate(flat), w.reshape(-1, features), (((0,), (0,)), ((), ())))
        return y.reshape(x.shape[0], *out, features)
    rows, *rest = kernel if len(kernel) > 1 else (1, *kernel)
    w = w.reshape(rows, *rest, inputs, features)
    inner = list(itertools.product(*map(range, rest)))
    if rows > 1 and strides[0] == 1 and groups == 1 and len(inner) * inputs + rows * features < len(taps) * inputs:
        wide = jnp.moveaxis(w, 0, -2).reshape(-1, rows * features)
        z = _product(_side_by_side([piece(tap) for tap in inner], 1), wide, 1, dot)
        z = z.reshape(*z.shape[:-1], rows, features)
        firsts = [i * dilation[0] for i in range(rows)]
        parts = [lax.slice_in_dim(z[..., i, :], first, first + out[0], axis=1) for i, first in enumerate(firsts)]
    else:
        groups_of_taps = [[(i, *tap) if len(kernel) > 1 else tap for tap in inner] for i in range(rows)]
        patches = [_side_by_side([piece(tap) for tap in row], groups) for row in groups_of_taps]
        parts = [_product(p, w[i].reshape(-1, features), groups, dot) for i, p in enumerate(patches)]
    return functools.reduce(jnp.add, parts)


def _side_by_side(pieces: list[Array], groups: int) -> Array:
    """Slices, each (…, C), joined to (…, taps × C), or with groups to (…, groups, taps × C / groups)."""
    if groups > 1:
        pieces = [p.reshape(*p.shape[:-1], groups, -1) for p in pieces]
    return jnp.concatenate(pieces, axis=-1)


def _product(p: Array, w: Array, groups: int, dot: Dot) -> Array:
    """Patches of `_side_by_side` times weights, (K, F), as a product of plain matrices: others are copied first."""
    features = w.shape[-1]
    if groups == 1:
        return dot(p.reshape(-1, p.shape[-1]), w, (((1,), (0,)), ((), ()))).reshape(*p.shape[:-1], features)
    w = w.reshape(w.shape[0], groups, -1)
    y = dot(p.reshape(-1, *p.shape[-2:]), w, (((2,), (0,)), ((1,), (1,))))
    return lax.transpose(y, (1, 0, 2)).reshape(*p.shape[:-2], features)


def _transposed(
    x: Array,
    w: Array,
    stretch: Sequence[int],
    padding: Pairs,
    dilation: Sequence[int],
    groups: int,
    out: Sequence[int],
    dot: Dot,
) -> Array:
    """A convolution of an input with zeros in between: the transpose of the strided one that leads back from `out`."""
    *kernel, inputs, features = w.shape
    back = jnp.flip(w, range(len(kernel))).reshape(*kernel, inputs, groups, features // groups)
    back = back.swapaxes(-3, -1).reshape(*kernel, features // groups, groups * inputs)
    around = []
    for n, k, d, s, (low, _), size in zip(x.shape[1:-1], kernel, dilation, stretch, padding, out, strict=True):
        before = (k - 1) * d - low
        around.append((before, (n - 1) * s + 1 + (k - 1) * d - size - before))

    def forward(y: Array) -> Array:
        return _direct(_padded(y, range(1, y.ndim - 1), around, (1,) * len(out)), back, stretch, dilation, groups, dot)

    (y,) = jax.linear_transpose(forward, jax.ShapeDtypeStruct((x.shape[0], *out, features), x.dtype))(x)
    return y


def _by_position(
    x: Array, w: Array, spec: Any, strides: Sequence[int], dilation: Sequence[int], out: Sequence[int], dot: Dot
) -> Array:
    """A convolution without padding by one slice for each element of its output: (N, *out, F)."""
    batch, *summed = spec.lhs_spec
    partner = dict(zip(summed, spec.rhs_spec[1:], strict=True))
    summed = sorted(summed)  # as they lie in memory, so that nothing needs to move
    w = lax.transpose(w, (*(partner[d] for d in summed), spec.rhs_spec[0]))
    slices = []
    for position in itertools.product(*map(range, out)):
        start, end, step = [0] * x.ndim, list(x.shape), [1] * x.ndim
        for d, i, s, r in zip(spec.lhs_spec[2:], position, strides, dilation, strict=True):
            size = w.shape[summed.index(d)]
            start[d], end[d], step[d] = i * s, i * s + (size - 1) * r + 1, r
        slices.append(lax.transpose(lax.slice(x, start, end, step), (*summed, batch)).reshape(-1, x.shape[batch]))
    y = dot(jnp.concatenate(slices, axis=-1), w.reshape(-1, w.shape[-1]), (((0,), (0,)), ((), ())))
    return y.reshape(*out, x.shape[batch], -1).transpose(len(out), *range(len(out)), len(out) + 1)


def _padded(x: Array, axes: Sequence[int], padding: Pairs, stretch: Sequence[int]) -> Array:
    """Zeros around and between the elements along some axes; negative padding cuts off."""
    config = [(0, 0, 0)] * x.ndim
    for axis, (low, high), s in zip(axes, padding, stretch, strict=True):
        config[axis] = (low, high, s - 1)
    return x if not any(map(any, config)) else lax.pad(x, jnp.zeros((), x.dtype), config)


def _sizes_out(shape: Sequence[int], kernel: Sequence[int], params: dict[str, Any]) -> list[int]:
    """The size of the output along each axis of space."""
    sizes = []
    for d, k, s, (low, high), stretch, r in zip(
        params["dimension_numbers"].lhs_spec[2:],
        kernel,
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
        strict=True,
    ):
        sizes.append((max(0, (shape[d] - 1) * stretch + 1) + low + high - (k - 1) * r - 1) // s + 1)
    return sizes
