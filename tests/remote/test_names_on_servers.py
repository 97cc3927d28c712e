"""Indexes, and the names of locks and queues, on a server: their bounds are those of the embedded segment."""

import os

import pytest

import shmvar

LETTERS = ["x", "é", "€", "😀"]


@pytest.fixture
def embedded():
    key = f"names-{os.getpid()}"
    with shmvar.attach(key) as segment:
        yield segment
    shmvar.destroy(key)


@pytest.mark.parametrize("letter", LETTERS, ids=["1 byte", "2 bytes", "3 bytes", "4 bytes"])
def test_a_text_of_1024_bytes_is_the_longest_whatever_its_letters_are(seg, embedded, letter):
    """A longer one that was stored would be in the way of everybody who iterates over the segment."""
    longest = letter * (1024 // len(letter.encode()))
    for segment in (seg, embedded):
        segment[longest] = 1
        segment.queue(longest).put(1)
        with segment.lock(longest):
            pass
        assert list(segment) == [longest] and list(segment.info().queues) == [longest]
    texts = []
    for segment in (embedded, seg):
        for use in (
            lambda name, segment=segment: segment.put(name, 1),
            lambda name, segment=segment: segment.get(name),
            lambda name, segment=segment: segment.put_many({name: 1}),
            lambda name, segment=segment: segment.queue(name).put(1),
            lambda name, segment=segment: segment.lock(name).acquire(),
        ):
            with pytest.raises(OverflowError) as caught:
                use(longest + letter)
            texts.append(str(caught.value))
    assert texts[:5] == texts[5:]
