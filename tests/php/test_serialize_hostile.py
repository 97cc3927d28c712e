"""`php.loads` over texts that want to harm: damaged, and made to take time or memory."""

import random
import resource
import subprocess
import sys

import pytest
from helpers.php_texts import BOTH_WAYS, DAMAGED

from shmvar import php

SEEDS = [
    *(text for text, _ in BOTH_WAYS),
    *(text for text, _, _ in DAMAGED),
    b'a:7:{i:0;i:5;i:1;R:2;i:2;O:8:"stdClass":1:{s:4:"self";r:3;}i:3;R:3;i:4;R:3;i:5;r:3;i:6;i:7;}',
    b'a:4:{i:0;a:2:{i:0;i:1;i:1;i:2;}i:1;R:2;i:2;O:8:"stdClass":1:{s:4:"self";r:5;}i:3;r:5;}',
    b'a:3:{s:1:"a";R:1;i:0;a:2:{i:0;R:1;i:1;R:3;}i:9;S:2:"\\41\\42";}',
    b'a:4:{i:0;E:6:"Suit:H";i:1;r:2;i:2;C:1:"S":1:{x}i:3;r:4;}',
    php.dumps([{"id": 1, "name": "x", "tags": ["a", "b"], "score": 0.5}, None, True, [[[]]], {7: {8: 9}}]),
]
PIECES = [b"a:", b"O:", b"i:", b"s:", b"d:", b"r:", b"R:", b"C:", b"E:", b"S:", b"N;", b"{", b"}", b";", b'"', b":"]
PIECES += [
    b"a:1:{i:0;",
    b"r:1;",
    b"R:1;",
    b"R:2;",
    b"i:0;",
    b"99999999999",
    b"-1",
    b"18446744073709551615",
    b"\\",
    b"\xff",
]


def damaged(numbers: random.Random) -> bytes:
    text = bytearray(numbers.choice(SEEDS))
    for _ in range(numbers.randrange(1, 5)):
        at = numbers.randrange(len(text) + 1)
        match numbers.randrange(6):
            case 0 if text:
                text[numbers.randrange(len(text))] = numbers.randrange(256)
            case 1:
                text[at:at] = numbers.choice(PIECES)
            case 2:
                del text[at : at + numbers.randrange(1, 8)]
            case 3:
                end = numbers.randrange(len(text) + 1)
                text[at:at] = text[min(at, end) : max(at, end)]
            case 4 if text:
                place = numbers.randrange(len(text))
                text[place] = numbers.choice(b'0123456789{};:"aOsidbNCERrS')
            case _:
                text[at:] = numbers.choice(SEEDS)[numbers.randrange(8) :]
    return bytes(text[: 1 << 14])


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_text_is_a_value_or_an_error_and_takes_little_memory(seed):
    numbers, values, before = random.Random(seed), 0, peak()
    for _ in range(5_000):
        text = damaged(numbers)
        options = {"strings": numbers.choice(["auto", "bytes"]), "arrays": numbers.choice(["auto", "dict"])}
        try:
            value = php.loads(text, max_memory=1 << 24, **options)
        except php.UnserializeError as error:
            assert 0 <= error.offset <= len(text)
            continue
        values += 1
        repr(value)
        try:
            again = php.dumps(value, max_size=1 << 20)
        except php.SerializeError:
            continue  # it contains itself, or an array grew without bounds
        assert repr(php.loads(again, **options)) == repr(value)
    assert values > 50
    assert peak() - before < 64 << 20


def test_a_text_of_random_pieces_is_a_value_or_an_error():
    numbers = random.Random(1)
    for _ in range(5_000):
        text = b"".join(numbers.choice(PIECES) for _ in range(numbers.randrange(40)))
        try:
            php.loads(text)
        except php.UnserializeError:
            continue


@pytest.mark.parametrize(
    "text",
    [
        b"a:1000000000:{",
        b"a:1000000000:{" + b"i:0;N;" * 1000,
        b'O:8:"stdClass":1000000000:{',
        b's:4000000000:"x";',
        b'S:4000000000:"x";',
        b'C:1:"S":4000000000:{x}',
        b"a:18446744073709551615:{",
        b"a:1:{i:0;" * 200_000,
        b'O:1:"C":1:{s:1:"x";' * 200_000,
        b"a:9:{i:0;" * 200_000,
    ],
    ids=lambda text: f"{text[:24]!r}-{len(text)}",
)
def test_a_bomb_is_refused_with_little_memory(text):
    before = peak()
    with pytest.raises(php.UnserializeError):
        php.loads(text)
    with pytest.raises(php.UnserializeError):
        php.loads(text, max_depth=10_000_000)
    # Some 70 bytes for each array that is open.
    assert peak() - before < 200 << 20


def test_references_do_not_multiply_what_they_refer_to():
    layers = 60
    text = b"i:7;"
    for _ in range(layers):
        text = b"a:2:{i:0;" + text + b"i:1;R:%d;}"
    text %= tuple(range(layers + 1, 1, -1))
    before = peak()
    value = php.loads(text)
    assert peak() - before < 16 << 20
    depth = 0
    while isinstance(value, list):
        assert value[0] is value[1]
        value, depth = value[0], depth + 1
    assert (value, depth) == (7, layers)


def test_a_million_references_take_the_memory_of_a_million_places():
    count = 1_000_000
    text = b"a:%d:{i:0;a:0:{}" % (count + 1) + b"".join(b"i:%d;R:2;" % number for number in range(1, count + 1)) + b"}"
    value = php.loads(text)
    assert len(value) == count + 1 and value[-1] is value[0]
    with pytest.raises(php.UnserializeError, match="bytes of memory"):
        php.loads(text, max_memory=1 << 20)


def test_the_estimate_of_memory_is_no_less_than_what_is_taken():
    # Each in a process of its own, because peaks do not go down.
    program = (
        "import resource, sys; from shmvar import php\n"
        "text = eval(sys.argv[1]); peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "php.loads(b'a:0:{}'); before = peak()\n"
        "try: php.loads(text, max_memory=64 << 20); raise SystemExit('no limit')\n"
        "except php.UnserializeError as error: assert 'bytes of memory' in str(error), error\n"
        "taken = peak() - before\n"
        "assert taken < 80 << 20, taken"
    )
    count = 2_000_000
    for text in (
        f"b'a:{count}:{{' + b''.join(b'i:%d;i:%d;' % (n, n + 10**6) for n in range({count})) + b'}}'",
        f"b'a:{count}:{{' + b''.join(b'i:%d;a:0:{{}}' % n for n in range({count})) + b'}}'",
        f"b'a:{count}:{{' + b''.join(b'i:%d;d:0.5;' % (n * 3) for n in range({count})) + b'}}'",
        f"b'a:{count}:{{' + b''.join(b's:7:\"%07d\";N;' % (n + 10**6) for n in range(1000000)) * 2 + b'}}'",
        f"b'a:{count}:{{' + b''.join(b'i:%d;O:1:\"C\":0:{{}}' % n for n in range({count})) + b'}}'",
        "b's:40000000:\"' + '\\N{GRINNING FACE}'.encode() + b'x' * 39999996 + b'\";'",
    ):
        run = subprocess.run([sys.executable, "-c", program, text], capture_output=True, text=True, timeout=100)
        assert run.returncode == 0, (text, run.stderr)
