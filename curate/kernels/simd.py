"""The few machine operations that numba does not offer: wide loads, masks of bytes, bit counts.

Vectors are written as LLVM's, 64 bytes long, so one source serves AVX-512, AVX2, SSE and NEON.
A mask has bit k set where byte k of the 64 has the property. Nothing here checks a boundary:
reading 8 or 64 bytes at `index` needs that many bytes behind it.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

__all__ = [
    "copy_64",
    "count_ones",
    "equal_64",
    "fold_ascii_64",
    "load_64",
    "lower_ascii_64",
    "nonzero_64",
    "store_32",
    "trailing_zeros",
]

U8 = npt.NDArray[np.uint8]

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(_I8, 64)


def _splat(value: int) -> Any:
    return ir.Constant(_BYTES, [value] * 64)


def _address(
    context: Any, builder: Any, signature: Any, arguments: Any, first: int, target: Any
) -> Any:
    """Return the address of element `arguments[first + 1]` of the array `arguments[first]`."""
    array = arrayobj.make_array(signature.args[first])(context, builder, arguments[first])
    place = builder.gep(array.data, [arguments[first + 1]])
    return builder.bitcast(place, target.as_pointer())


def _mask(builder: Any, bits: Any) -> Any:
    return builder.bitcast(bits, _I64)


def _between(builder: Any, data: Any, low: str, high: str) -> Any:
    shifted = builder.sub(data, _splat(ord(low)))
    return builder.icmp_unsigned("<=", shifted, _splat(ord(high) - ord(low)))


def _load_64(_context: Any, data: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = _address(context, builder, signature, arguments, 0, _I64)
        return builder.load(where, align=1)

    return types.uint64(data, types.intp), generate


def _nonzero_64(_context: Any, data: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = _address(context, builder, signature, arguments, 0, _BYTES)
        return _mask(builder, builder.icmp_unsigned("!=", builder.load(where, align=1), _splat(0)))

    return types.uint64(data, types.intp), generate


def _fold_ascii_64(_context: Any, data: Any, index: Any, out: Any, place: Any, zero: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = _address(context, builder, signature, arguments, 0, _BYTES)
        target = _address(context, builder, signature, arguments, 2, _BYTES)
        text = builder.load(where, align=1)
        lowered = builder.select(
            _between(builder, text, "A", "Z"), builder.or_(text, _splat(0x20)), text
        )
        digit = _between(builder, text, "0", "9")
        blank = cgutils.alloca_once_value(builder, lowered)
        with builder.if_then(builder.trunc(arguments[4], ir.IntType(1))):
            builder.store(builder.select(digit, _splat(ord("0")), lowered), blank)
        kept = builder.or_(_between(builder, lowered, "a", "z"), digit)
        folded = builder.select(kept, builder.load(blank), _splat(0))
        builder.store(folded, target, align=1)
        return _mask(builder, builder.icmp_signed("<", text, _splat(0)))

    return types.uint64(data, types.intp, out, types.intp, types.boolean), generate


def _lower_ascii_64(_context: Any, data: Any, index: Any, out: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = _address(context, builder, signature, arguments, 0, _BYTES)
        target = _address(context, builder, signature, arguments, 2, _BYTES)
        text = builder.load(where, align=1)
        lowered = builder.select(
            _between(builder, text, "A", "Z"), builder.or_(text, _splat(0x20)), text
        )
        blank = _between(builder, text, "\t", "\r")
        builder.store(builder.select(blank, _splat(0x20), lowered), target, align=1)
        return _mask(builder, builder.icmp_signed("<", text, _splat(0)))

    return types.uint64(data, types.intp, out, types.intp), generate


def _equal_64(_context: Any, data: Any, index: Any, byte: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = _address(context, builder, signature, arguments, 0, _BYTES)
        text = builder.load(where, align=1)
        zero = ir.Constant(_BYTES, ir.Undefined)
        one = builder.insert_element(zero, arguments[2], ir.Constant(_I32, 0))
        lanes = ir.Constant(ir.VectorType(_I32, 64), [0] * 64)
        wanted = builder.shuffle_vector(one, zero, lanes)
        return _mask(builder, builder.icmp_unsigned("==", text, wanted))

    return types.uint64(data, types.intp, types.uint8), generate


def _store_32(_context: Any, out: Any, place: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target = _address(context, builder, signature, arguments, 0, _I32)
        builder.store(builder.trunc(arguments[2], _I32), target, align=1)
        return context.get_dummy_value()

    return types.none(out, types.intp, types.uint64), generate


def _copy_64(_context: Any, data: Any, index: Any, out: Any, place: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        where = _address(context, builder, signature, arguments, 0, _BYTES)
        target = _address(context, builder, signature, arguments, 2, _BYTES)
        builder.store(builder.load(where, align=1), target, align=1)
        return context.get_dummy_value()

    return types.none(data, types.intp, out, types.intp), generate


def _count_ones(_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


def _trailing_zeros(_context: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), generate


# The little-endian 64-bit word at data[index : index + 8].
load_64 = cast(Callable[[U8, int], np.uint64], intrinsic(_load_64))

# Which of data[index : index + 64] are not zero.
nonzero_64 = cast(Callable[[U8, int], np.uint64], intrinsic(_nonzero_64))

# Fold 64 bytes of ASCII from data[index:] to out[place:]: letters to lower case, digits as they
# are (or to "0" where the last argument is true), all else 0. Returns which bytes were not ASCII.
fold_ascii_64 = cast(Callable[[U8, int, U8, int, bool], np.uint64], intrinsic(_fold_ascii_64))

# Copy 64 bytes of ASCII from data[index:] to out[place:], in lower case, white space as a space.
# Returns which bytes were not ASCII.
lower_ascii_64 = cast(Callable[[U8, int, U8, int], np.uint64], intrinsic(_lower_ascii_64))

# Which of data[index : index + 64] equal a byte.
equal_64 = cast(Callable[[U8, int, np.uint8], np.uint64], intrinsic(_equal_64))

# Write the low 32 bits of a number to out[place : place + 4], little-endian.
store_32 = cast(Callable[[U8, int, np.uint64], None], intrinsic(_store_32))

# Copy 64 bytes from data[index:] to out[place:].
copy_64 = cast(Callable[[U8, int, U8, int], None], intrinsic(_copy_64))

# The number of zero bits below the lowest one; 64 for 0.
trailing_zeros = cast(Callable[[np.uint64], int], intrinsic(_trailing_zeros))

# The number of one bits.
count_ones = cast(Callable[[np.uint64], int], intrinsic(_count_ones))
