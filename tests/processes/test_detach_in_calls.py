"""F13: a handle is detached while calls of other threads are under way that let the interpreter's lock go.

Uses of a handle are counted with that lock held. A use that began or ended without it was sometimes not counted: then
the segment was unmapped in the middle of a call, or stayed mapped.
"""

import os

import helpers
import pytest

import shmvar

PHP = """
import threading
from shmvar import php
sys.setswitchinterval(1e-6)
number = int(sys.argv[2])
def mapped():
    return sum(f"SYSV{number:08x}" in line for line in open("/proc/self/maps"))
def until_detached(call):
    try:
        while True:
            call()
    except shmvar.DetachedError:
        pass
end = time.monotonic() + 5
while time.monotonic() < end:
    segment = php.attach(number, 8_000_000)
    assert mapped()
    put = lambda: segment.put(1, text)
    text = b"x" * 3_000_000
    calls = put, put, lambda: segment.has(2)
    threads = [threading.Thread(target=until_detached, args=(call,)) for call in calls]
    for thread in threads: thread.start()
    time.sleep(0.05)
    segment.destroy(), segment.detach()
    for thread in threads: thread.join()
    assert not mapped()
"""


def test_f13_long_texts_for_php_are_stored_while_the_handle_is_detached():
    helpers.run(PHP, "", 0x64740000 + os.getpid() % 0xFFFF)


QUEUE = """
import threading
sys.setswitchinterval(1e-6)
segment = shmvar.attach(key)
jobs, over = segment.queue("jobs"), False
def mapped():
    return sum(f"{key}" in line for line in open("/proc/self/maps"))
assert mapped()
jobs.put(1)
def take():
    while not over:
        item = jobs.take()
        item.__enter__()
        del item  # gives it back
def look():
    has = segment.has
    while not over:
        for _ in range(2_000): has(5)
threads = [threading.Thread(target=call) for call in (take, look)]
for thread in threads: thread.start()
time.sleep(5)
over = True
for thread in threads: thread.join()
segment.destroy()
del jobs
segment.detach()
assert not mapped(), mapped()
"""
WRITER = """
segment, many = shmvar.attach(key), {n: n for n in range(20_000)}
print("writes", flush=True)
while True:
    try:
        segment.put_many(many)
    except shmvar.Error:
        break
"""


@pytest.mark.slow
def test_f13_items_are_given_back_by_their_destructors_beside_other_calls(key, children):
    children.append(helpers.start(WRITER, key))
    helpers.run(QUEUE, key)
    shmvar.destroy(key)
