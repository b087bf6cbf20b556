"""Which of 64 bytes lie in a range, as masks: what a scan of text asks of every byte.

Bit k of a mask stands for byte k. Nothing here checks a boundary: 64 bytes are read at `index`.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

__all__ = ["between_64", "letters_64"]

U8 = npt.NDArray[np.uint8]

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES = ir.VectorType(_I8, 64)
_LANES = ir.Constant(ir.VectorType(_I32, 64), [0] * 64)


def _constant(value: int) -> Any:
    return ir.Constant(_BYTES, [value] * 64)


def _splat(builder: Any, byte: Any) -> Any:
    nothing = ir.Constant(_BYTES, ir.Undefined)
    one = builder.insert_element(nothing, byte, ir.Constant(_I32, 0))
    return builder.shuffle_vector(one, nothing, _LANES)


def _load(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = arrayobj.make_array(signature.args[0])(context, builder, arguments[0])
    place = builder.gep(array.data, [arguments[1]])
    return builder.load(builder.bitcast(place, _BYTES.as_pointer()), align=1)


def _between_64(_context: Any, data: Any, index: Any, low: Any, high: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        text = _load(context, builder, signature, arguments)
        shifted = builder.sub(text, _splat(builder, arguments[2]))
        span = _splat(builder, builder.sub(arguments[3], arguments[2]))
        return builder.bitcast(builder.icmp_unsigned("<=", shifted, span), _I64)

    return types.uint64(data, types.intp, types.uint8, types.uint8), generate


def _letters_64(_context: Any, data: Any, index: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        text = _load(context, builder, signature, arguments)
        shifted = builder.sub(builder.or_(text, _constant(0x20)), _constant(ord("a")))
        return builder.bitcast(builder.icmp_unsigned("<=", shifted, _constant(25)), _I64)

    return types.uint64(data, types.intp), generate


# Which of data[index : index + 64] are at least `low` and at most `high`.
between_64 = cast(Callable[[U8, int, np.uint8, np.uint8], np.uint64], intrinsic(_between_64))

# Which of data[index : index + 64] are ASCII letters.
letters_64 = cast(Callable[[U8, int], np.uint64], intrinsic(_letters_64))
