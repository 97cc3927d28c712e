"""Displays of segments that others change, stop in, detach and fork with, at the same moment."""

import os
import random
import signal
import threading
import time

import helpers
from helpers.shown_html import shown

import shmvar
from shmvar import _display

WRITER = """
import random
chance = random.Random(int(sys.argv[2]))
segment = shmvar.attach(key)
values = [1, "x" * 300, b"y" * 40_000, {"a": [1, 2]}, bytes(300_000)]
print("go", flush=True)
while True:
    number = chance.randrange(150)
    what = chance.randrange(6)
    if what == 0:
        segment.remove(number)
    elif what == 1:
        segment.put(number, chance.choice(values), ttl=chance.choice([0.001, 100]))
    elif what == 2:
        segment.put_many({chance.randrange(150): chance.choice(values) for _ in range(chance.choice([3, 40]))})
    elif what == 3 and chance.random() < 0.02:
        segment.clear()
    elif what == 4 and chance.random() < 0.05:
        segment.trim()
    else:
        segment[f"name {number}"] = chance.choice(values)
"""


def sound(html):
    """A display that says of nothing that it could not be shown."""
    found = shown(html)
    for word in ("unavailable", "half changed", "damaged", "not shown", "not readable: C", "not readable: S"):
        assert word not in found.text, found.text
    return found


def test_displays_while_others_write_are_whole(key, children):
    with shmvar.attach(key, 64 << 20) as seg, shmvar.attach(key, readonly=True) as reader:
        children += [helpers.start(WRITER, key, number) for number in range(2)]
        rows = 0
        for _ in range(10):
            rows += sum(len(table) for handle in (seg, reader) for table in sound(_display.html(handle)).tables)
            assert isinstance(_display.completions(seg), list) and repr(key) in _display.plain(seg)
        assert rows
        for child in children:
            helpers.end(child)
        seg.destroy()


def test_a_writer_that_is_stopped_at_any_moment_holds_no_display_up(key, children):
    chance = random.Random(5)
    with shmvar.attach(key, 64 << 20) as seg:
        writer = helpers.start(WRITER, key, 7)
        children.append(writer)
        for _ in range(20):
            time.sleep(chance.random() / 100)
            os.kill(writer.pid, signal.SIGSTOP)
            with helpers.promptly():
                sound(_display.html(seg))
                _display.completions(seg)
                _display.mimebundle(seg, include=["text/plain"])
            os.kill(writer.pid, signal.SIGCONT)
        helpers.end(writer)
        seg.destroy()


def test_a_handle_that_another_thread_detaches_is_shown_as_detached_in_the_end(new_key):
    key = new_key()
    with shmvar.attach(key) as kept:
        kept.put_many({number: "text" for number in range(100)})
        for _ in range(20):
            handle = shmvar.attach(key)
            detaching = threading.Thread(target=handle.detach)
            detaching.start()
            found = shown(_display.html(handle))
            detaching.join()
            assert "not shown" not in found.text and "unavailable" not in found.text
            assert "detached" in shown(_display.html(handle)).text


def test_a_forked_child_shows_what_its_parent_shows(seg):
    seg.put_many({"x": 1, "y": [2]})
    mine = [row[::5] for row in shown(_display.html(seg)).rows()]

    def show():
        assert [row[::5] for row in shown(_display.html(seg)).rows()] == mine

    helpers.in_child(show)


def test_threads_make_displays_at_the_same_time(seg):
    seg.put_many({number: "text" for number in range(50)})
    helpers.in_threads(lambda _: [sound(_display.html(seg)) for _ in range(5)], 4)
