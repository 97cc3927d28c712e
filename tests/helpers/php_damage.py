"""Damaged PHP segments by the number, and what `docs/php.md` says of each: a second reader, in a few lines of Python.

`storm(seeds, notes)` is run in a child process: it makes one segment for each seed, damages it, calls what there is,
and compares each outcome with what the document says.
"""

import collections
import concurrent.futures
import functools
import random
import struct

import shmvar
from helpers import system_v
from helpers.system_v import FIELDS, FREE, HEADER, MAGIC, PREPARED, RawSegment, chunk, prepared_chunk, segment_bytes
from shmvar import php

TEXTS = [
    *(b"N;", b"b:1;", b"i:5;", b"i:-9223372036854775808;", b"d:0.1;", b"d:NAN;", b's:0:"";', b's:5:"hello";'),
    *(b"a:0:{}", b'a:2:{i:0;i:1;s:1:"k";a:1:{i:0;N;}}', b'O:8:"stdClass":1:{s:1:"p";r:1;}', b'E:6:"Suit:H";'),
    *(b'C:1:"S":3:{abc}', b"a:2:{i:0;a:0:{}i:1;R:2;}", b'a:3:{i:0;O:1:"A":0:{}i:1;r:2;i:2;r:2;}', b'S:3:"a\\41b";'),
    b's:300:"' + b"x" * 300 + b'";',
    *(b"a:1:{i:0;" * 30 + b"N;" + b"}" * 30, b"a:40:{" + b"".join(b"i:%d;d:1.5;" % n for n in range(40)) + b"}"),
]
TOKENS = [
    *(
        b"a:9999999999:{",
        b's:99999999999999999999:"',
        b"R:1;",
        b"r:1;",
        b"R:99999;",
        b"i:",
        b"d:",
        b"}",
        b"{",
        b'"',
        b";",
    ),
    *(b"a:-1:{", b's:-1:"', b'O:8:"stdClass":2147483647:{', b"N;", b"b:2;", b"d:1e999;", b"i:99999999999999999999;"),
    *(
        b'C:1:"S":99999:{',
        b"a:1:{" * 50,
        b"\0",
        b"E:1:",
        b'S:9:"\\zz',
        b'O:0:"":0:{}',
        b"a:1:{a:0:{}N;}",
        b"i:0x1F;",
        b"d:.;",
    ),
]
NUMBERS = [0, 1, -1, 7, 8, -8, 16, 23, 24, 32, 40, 48, 2**31, 2**32, 2**63 - 1, 2**63 - 8, -(2**63), 2**62, -(2**31)]
INDEXES = [0, 1, 2, 3, -1, 2**63 - 1, -(2**63)]


def damaged_text(draw):
    text = bytearray(draw.choice(TEXTS))
    for _ in range(draw.choice([0, 0, 1, 1, 2, 5])):
        at = draw.randrange(len(text) + 1)
        how = draw.randrange(5)
        if how == 0 and at < len(text):
            text[at] ^= 1 << draw.randrange(8)
        elif how == 1:
            text[at : at + draw.randrange(4)] = b""
        elif how == 2:
            text[at:at] = draw.choice(TOKENS)
        elif how == 3:
            text[at:] = draw.choice(TEXTS)[draw.randrange(4) :]
        elif at < len(text):
            text[at] = draw.choice(b'0123456789;:"{}-+.aNbidsSOCErR\0\xff')
    return bytes(text)


def damaged(seed):
    """The bytes of a segment: sound for some seeds, damaged a little or beyond recognition for others."""
    draw = random.Random(seed)
    size = draw.choice([40, 48, 80, 100, 200, 400, 1000, 2000, 4096, 5001])
    made, left = [], size - HEADER
    for _ in range(draw.randrange(9)):
        gap = draw.choice([0, 0, 0, 8, 40])
        one = chunk(draw.choice([*INDEXES, *INDEXES, FREE]), damaged_text(draw), gap=gap)
        if draw.random() < 0.1:
            one = prepared_chunk(draw.choice(INDEXES), damaged_text(draw))
        if len(one) <= left:
            made.append(one)
            left -= len(one)
    private = bytes(draw.choice([0, 0, 0, 8, 24])) if left >= 24 else b""
    content = bytearray(segment_bytes(made, size, private=private, byte_7=draw.choice([0, 0, 0, 1, 255])))
    places = [*FIELDS.values()]
    at = HEADER + len(private)
    for one in made:
        places += [at, at + 8, at + 16]
        at += len(one)
    for _ in range(draw.choice([0, 0, 1, 1, 1, 2, 4])):
        where = draw.choice(places)
        (old,) = struct.unpack_from("<q", content, where)
        around = [old + step for step in (-48, -40, -8, -1, 1, 8, 40, 48)] + [size, size - 8, size + 8]
        new = draw.choice([*NUMBERS, *around, draw.randrange(-(2**63), 2**63)])
        struct.pack_into("<Q", content, where, new & 2**64 - 1)
    if draw.random() < 0.15:
        for _ in range(draw.randrange(1, 20)):
            content[draw.randrange(size)] = draw.randrange(256)
    if draw.random() < 0.05:  # cut short
        content = content[: draw.randrange(1, size + 1)]
    return bytes(content)


# --- what the document says of such bytes


def header_is_sound(content, for_a_change=False):
    if len(content) < HEADER:
        return False
    start, end, free, total = struct.unpack_from("<4q", content, 8)
    if not HEADER <= start <= end <= total <= len(content) or start % 8 or end % 8:
        return False
    return free >= 0 or not for_a_change


def chunks_of(content):
    """The chunks up to the first that is damaged, as (offset, key, length, next), and whether there is one."""
    position, end = struct.unpack_from("<2q", content, 8)
    found = []
    while position < end:
        if end - position < 24:
            return found, True
        key, length, following = struct.unpack_from("<3q", content, position)
        if length < 0 or following % 8 or following < 24 + length or following > end - position:
            return found, True
        found.append((position, key, length, following))
        position += following
    return found, False


def first_of(chunks, content):
    """The texts that count, by their keys: the first of each."""
    found = {}
    for at, key, length, _ in chunks:
        if key not in (FREE, PREPARED):
            found.setdefault(key, content[at + 24 : at + 24 + length])
    return found


def keys_of(chunks):
    return [key for _, key, _, _ in chunks]


# --- the calls


def outcome(call):
    """What a call returns, or the error that it may raise."""
    try:
        return call()
    except (shmvar.Error, KeyError) as error:
        return error


def is_error(result):
    return isinstance(result, Exception)


def examine(key, content, draw):
    """Attaches to a segment of these bytes and tries everything. Returns a word for the count."""
    system_v.make(key, content)
    with RawSegment(key) as raw:
        try:
            segment = outcome(lambda: php.attach(key))
            assert raw[:] == content
            if not content.startswith(MAGIC) or len(content) < len(MAGIC):
                assert isinstance(segment, shmvar.IncompatibleSegmentError), segment
                return "foreign"
            if not header_is_sound(content):
                assert isinstance(segment, (shmvar.CorruptSegmentError, shmvar.IncompatibleSegmentError)), segment
                return "header"
            with segment:
                chunks, broken = chunks_of(content)
                read(segment, raw, content, chunks, broken, draw)
                change(segment, raw, draw, 2 if broken else 6)
            return "chain" if broken else "sound"
        finally:
            system_v.remove({("shm", raw.id, key)})


def read(segment, raw, content, chunks, broken, draw):
    """The calls that read: they find what is before the damage, and never write."""
    texts = first_of(chunks, content)
    missing = [index for index in INDEXES if index not in texts]
    # A call that finds damage looks again for milliseconds: one index tells as much as all of them.
    for index in {*texts, *(missing[:1] if broken else missing)}:
        found = outcome(lambda index=index: segment.raw(index))
        value = outcome(lambda index=index: segment[index])
        has = outcome(lambda index=index: segment.has(index))
        if index in texts:
            assert found == texts[index] and has is True
            expected = outcome(lambda index=index: php.loads(texts[index]))
            if is_error(expected):
                assert isinstance(value, shmvar.CorruptSegmentError), value
            else:
                assert type(value) is type(expected)
        elif broken:
            assert isinstance(has, shmvar.CorruptSegmentError) and isinstance(value, shmvar.CorruptSegmentError)
        else:
            assert has is False and isinstance(value, KeyError) and not isinstance(value, shmvar.Error)
        assert raw[:] == content
    calls = [segment.info, segment.__repr__, lambda: len(segment), lambda: list(segment), lambda: dict(segment)]
    for call in draw.sample(calls, 2) if broken else calls:
        result = outcome(call)
        assert raw[:] == content
        if isinstance(result, php.SegmentInfo):
            assert not broken and result.free == max(0, min(raw.free, raw.total - raw.end))


def change(segment, raw, draw, count):
    """Calls that change: refused without a byte written, or done, and then the others are as they were."""
    for _ in range(count):
        content = raw[:]
        chunks, broken = chunks_of(content)
        index = draw.choice(INDEXES)
        value = draw.choice([5, "x" * draw.choice([0, 9, 100, 1000, 10_000]), [1, {"k": None}], None])
        removes = draw.random() < 0.3
        call = [segment.remove, index] if removes else [segment.put, index, value]
        result = outcome(functools.partial(*call))
        sound = header_is_sound(content, for_a_change=True) and not broken
        if not sound or (not removes and keys_of(chunks).count(index) > 1):
            assert isinstance(result, shmvar.CorruptSegmentError), result
        published = prepared_in(chunks, content)
        if is_error(result):
            assert raw[:] == content, f"{result!r} and yet bytes were written"
            if isinstance(result, KeyError):
                assert removes and index not in keys_of(chunks) and index not in published
            elif sound:
                assert isinstance(result, shmvar.SegmentFullError) or keys_of(chunks).count(index) > 1, result
            continue
        after = raw[:]
        assert header_is_sound(after, for_a_change=True), struct.unpack_from("<4q", after, 8)
        _, end, free, total = struct.unpack_from("<4q", after, 8)
        assert free <= total - end and after[32:40] == content[32:40] and after[7:16] == content[7:16]
        now, damage = chunks_of(after)
        assert not damage and PREPARED not in keys_of(now)
        texts = {key: [text] for key, text in (first_of(chunks, content) | published).items()}
        texts |= {index: [php.dumps(value)]} if not removes else {}
        if removes:
            del texts[index]
        for at, key, length, _ in chunks:  # of an index that occurs twice any may come first, after others were moved
            if key in texts and key != index:
                texts[key].append(content[at + 24 : at + 24 + length])
        found = first_of(now, after)
        assert found.keys() == texts.keys()
        for key, text in found.items():
            assert text in texts[key], key


def prepared_in(chunks, content):
    """The value that the next change publishes, by its index: of the last chunk `PREPARED`, if nobody has the index."""
    for at, key, length, following in reversed(chunks):
        if key == PREPARED:
            own = 32 + (length + 7) // 8 * 8
            index = struct.unpack_from("<q", content, at + own - 8)[0] if following >= own else FREE
            is_published = index not in (FREE, PREPARED, *keys_of(chunks))
            return {index: content[at + 24 : at + 24 + length]} if is_published else {}
    return {}


THREADS = 16
"""Whoever attaches to a damaged header waits for 0.1 s: so many wait at a time."""


def storm(seeds, notes):
    """Examines a segment for each seed, and stores the seed in `notes` before. Returns the counts of each kind."""

    def work(thread):
        key, words = system_v.unused_key(), []
        for seed in seeds[thread::THREADS]:
            notes[thread] = seed
            try:
                words.append(examine(key, damaged(seed), random.Random(seed)))
            except Exception as error:
                raise AssertionError(f"seed {seed}") from error
        return words

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return collections.Counter(word for words in pool.map(work, range(THREADS)) for word in words)
