"""What `shmvar.php` has in the extension module."""

from collections.abc import Buffer
from typing import Any, Literal

__all__ = ["dumps", "loads"]

def dumps(value: Any, *, max_depth: int = 4096, max_size: int | None = None) -> bytes:
    """The text that PHP's `serialize` makes of a value.

    None, bool, int, float, str, bytes, bytearray and memoryview (all four are strings in PHP, a str in UTF-8), list and
    tuple (arrays with the keys 0, 1, 2 ...), dict, PhpObject, PhpEnum, PhpCustom; classes derived from these, as what
    they derive from; ints and floats of numpy and whatever else has `__index__`. A str with surrogates that
    `errors="surrogateescape"` made of bytes is written as these bytes.

    The same PhpObject twice is the same object twice in PHP. The same list or dict twice is two arrays: PHP's arrays
    are values.

    Args:
        value: what to write.
        max_depth: how many containers may be inside each other. PHP reads 4096.
        max_size: how many bytes the text may have; None is 1 GiB.

    Raises:
        SerializeError: PHP does not have it, or would not give it back: an int beyond 64 bits, a str key that PHP takes
            for an int ("5"), a set, a list that contains itself. `place` says where in the value it is.
    """

def loads(
    data: Buffer,
    *,
    strings: Literal["auto", "bytes"] = "auto",
    arrays: Literal["auto", "dict"] = "auto",
    max_depth: int = 4096,
    max_values: int = 10_000_000,
    max_memory: int = 1 << 30,
) -> Any:
    """The value of a text that PHP's `serialize` has made.

    It runs no code, whatever the text says: objects become PhpObject, cases of enums PhpEnum, and objects with data of
    their own PhpCustom. What PHP has in two places as one object (`r`) or one variable (`R`) is one object of Python,
    too; a scalar is copied.

    Args:
        data: the text.
        strings: "auto" makes a str of what is UTF-8, and bytes of anything else; "bytes" makes bytes of every string.
            Names of classes and properties are str in any case.
        arrays: "auto" makes a list of an array with the keys 0, 1, 2 ... in this order (an empty one, too), and a dict
            of any other; "dict" makes a dict of every array.
        max_depth: how many arrays and objects may be inside each other.
        max_values: how many values the text may have.
        max_memory: how many bytes the values may take, by estimate.

    Raises:
        UnserializeError: the text is damaged, something follows the value, an int is beyond 64 bits, or a limit is
            exceeded. `offset` says where.
    """
