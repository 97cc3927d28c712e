"""Values that prove that they are whole: each has its index, a number and a checksum."""

import os
import random
from typing import Any
from zlib import crc32

PAYLOAD = 64 << 10  # bytes, the longest
NOISE = 2 * PAYLOAD  # bytes that payloads are cut from


def noise() -> bytes:
    """Random bytes for `compose`."""
    return os.urandom(NOISE)


def compose(index: int, number: int, noise: bytes) -> Any:
    """A value for `index`. There are three kinds, by index: an int, a str and a dict with bytes."""
    if index % 4 == 0:
        return number << 32 | crc32(b"%d:%d" % (index, number))
    if index % 4 == 1:
        text = f"{index}:{number}:{'*' * random.randrange(200)}"
        return f"{text}:{crc32(text.encode())}"
    # As many short payloads as long ones, and no two of them the same.
    start, length = random.randrange(PAYLOAD), int(2 ** random.uniform(0, 16))
    payload = noise[start : start + length]
    return {"index": index, "number": number, "payload": payload, "sum": crc32(payload, index ^ number)}


def number_of(index: int, value: Any) -> int | None:
    """The number of a value; None if `compose` did not make this value for `index`."""
    try:
        if index % 4 == 0:
            number = value >> 32
            return number if value & 0xFFFF_FFFF == crc32(b"%d:%d" % (index, number)) else None
        if index % 4 == 1:
            text, _, checksum = value.rpartition(":")
            whole = crc32(text.encode()) == int(checksum) and text.startswith(f"{index}:")
            return int(text.split(":")[1]) if whole else None
        whole = value["index"] == index and value["sum"] == crc32(value["payload"], index ^ value["number"])
        return int(value["number"]) if whole else None
    except (TypeError, ValueError, AttributeError, KeyError, IndexError):
        return None


def check(index: int, stored: int, value: Any) -> tuple[int, int]:
    """Whether a value is lost and whether it is torn, as numbers, if `value` was read when `stored` had been stored.

    `stored` is a number as for `compose`: an older value than that, or None, means that one is lost.
    """
    if value is None:
        return int(stored > 0), 0
    number = number_of(index, value)
    if number is None:
        return 0, 1
    return int(number < stored), 0
