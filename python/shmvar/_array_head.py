"""What the pickle of an array says of its dtype and its shape, read without numpy and without running anything."""

import pickletools
import re

LONGEST = 64 << 10
"""Bytes of a pickle that is read; that of an array is longer only if it is a struct of many fields."""

_AXES = 64
# Names of dtypes as numpy pickles them: a kind and the bytes of an item.
_NAME = re.compile(r"[biufcmMSUV][0-9]{1,19}")
_ORDERS = ("<", ">", "|", "=")


def dtype_and_shape(stream: bytes) -> tuple[str | None, list[int] | None]:
    """Return the dtype (`<f4`; of a struct, its bytes: `|V16`) and the shape. None stands for what is not said."""
    name = order = None
    shape: list[int] | None = None
    if len(stream) > LONGEST:
        return None, None
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if shape is None and name is None and isinstance(argument, str) and _NAME.fullmatch(argument):
                name = argument
            elif shape is None and order is None and name is not None and argument in _ORDERS:
                order = argument
            if opcode.name == "BUILD":
                shape = []  # what follows the last state of a dtype is the shape
            elif shape is not None and isinstance(argument, int) and opcode.name.startswith(("BININT", "LONG")):
                shape.append(argument)
    except ValueError:
        return None, None
    if shape is not None and (len(shape) > _AXES or not all(0 <= length < 1 << 63 for length in shape)):
        shape = None
    return (None if name is None else (order or "") + name), shape
