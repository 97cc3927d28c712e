"""The values of a soak: each is a pure function of its number and round, so all of a value can be compared."""

import struct
from typing import Any

try:
    import numpy
except ImportError:  # the soak runs without numpy, with fewer kinds of values
    numpy = None

MISSING = object()
"""Stands for a value that is not there."""

HEAD = struct.Struct("<4sIQQ")
TEXT = "pneumonoultramicroscopic äöü € 🙂 "


class TornError(AssertionError):
    """A value that no process has stored."""


def mix(number: int, round: int) -> int:
    """64 bits that differ for each number and round."""
    word = (number * 0x9E3779B97F4A7C15 + round * 0xD1B54A32D192ED03) & (1 << 64) - 1
    return (word ^ word >> 29) * 0xBF58476D1CE4E5B9 & (1 << 64) - 1


def length_of(word: int) -> int:
    """A length: mostly short, seldom several MiB."""
    share, rest = word >> 32 & 0xFF, word & 0xFFFF_FFFF
    for limit, least, most in (
        (90, 24, 200),
        (150, 200, 9_000),
        (210, 9_000, 120_000),
        (245, 120_000, 600_000),
        (253, 600_000, 2 << 20),
        (256, 2 << 20, 5 << 20),
    ):
        if share < limit:
            return least + rest % (most - least)
    raise AssertionError(share)


def bulk(number: int, round: int) -> bytes:
    word = mix(number, round)
    length = length_of(word)
    return HEAD.pack(b"soak", number, round, length) + struct.pack("<Q", word) * (length // 8)


def array(number: int, round: int) -> Any:
    word = mix(number, round)
    made = numpy.full(length_of(word) // 8 + 2, word, numpy.uint64)
    made[0], made[1] = number, round
    return made.reshape(1, -1) if word & 1 else made


def make(number: int, round: int) -> Any:
    """The value of that number and round."""
    kind = mix(round, number) % 16
    if kind >= 14 and numpy is None:
        kind -= 6
    match kind:
        case 0 | 1:
            return round << 12 | number
        case 2:
            return float(round << 12 | number)
        case 3:
            return complex(number, round)
        case 4 | 5:
            return f"{number}:{round}:{mix(number, round):x}"
        case 6:
            return f"{number}:{round}:" + TEXT * (length_of(mix(number, round)) // 100)
        case 7:
            size = length_of(mix(number, round)) // 200
            return [number, round, {"a": (number, round)}, (str(round),) * size]
        case 8:
            return bytearray(bulk(number, round))
        case 13:
            return {"number": number, "round": round, "bulk": bulk(number, round)}
        case 14:
            return array(number, round)
        case 15:
            return {"number": number, "round": round, "array": array(number, round), "bulk": bulk(number, round)[:2000]}
        case _:
            return bulk(number, round)


def told(value: Any) -> tuple[int, int]:
    """The number and round that a value itself tells."""
    if numpy is not None and isinstance(value, numpy.ndarray):
        return int(value.flat[0]), int(value.flat[1])
    match value:
        case int():
            return value & 0xFFF, value >> 12
        case float():
            return int(value) & 0xFFF, int(value) >> 12
        case complex():
            return int(value.real), int(value.imag)
        case str():
            number, round, _ = value.split(":", 2)
            return int(number), int(round)
        case bytes() | bytearray() | memoryview():
            _, number, round, _ = HEAD.unpack(value[: HEAD.size])
            return number, round
        case list():
            return value[0], value[1]
        case dict():
            return value["number"], value["round"]
    raise TypeError(type(value))


def same(found: Any, made: Any) -> bool:
    if isinstance(found, memoryview):
        found = type(made)(found)
    if type(found) is not type(made):
        return False
    if isinstance(found, dict):
        return found.keys() == made.keys() and all(same(found[name], made[name]) for name in made)
    if numpy is not None and isinstance(found, numpy.ndarray):
        return found.dtype == made.dtype and numpy.array_equal(found, made)
    return bool(found == made)


def round_of(number: int, value: Any) -> int:
    """The round of a value found under that number; `TornError` if it is no value of that number."""
    try:
        its, round = told(value)
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, struct.error) as error:
        raise TornError(f"number {number}: no value of the soak: {value!r:.300}") from error
    if its != number or not same(value, make(number, round)):
        raise TornError(f"number {number}: says number {its}, round {round}, and is not that: {value!r:.300}")
    return round
