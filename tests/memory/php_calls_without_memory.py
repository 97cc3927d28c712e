"""The calls of `shmvar.php` that `calls_without_memory.py` makes without memory, in a table like the one there.

The objects that they use have the keys that this process was given.
"""

import pickle
import sys

from shmvar import php
from shmvar.php import _bridge  # noqa: F401 - imported before memory is short

KEY, SECOND, RAW, NEW = map(int, sys.argv[3:])
SIZE = 4 << 20
PLAIN = {"a": [1, 2.5, "x"], "b": [None, True]}
OBJECT = php.PhpObject("User", {"id": 1, "name": "ann", "tags": ["x", "y"]})
LARGE = bytes(1 << 20)
MANY = [{"id": number, "name": f"user {number}"} for number in range(5_000)]
MANY_TEXT = php.dumps(MANY)
#: Fits a message queue as the kernel makes it.
MESSAGE = "m" * 7_000
VARIABLES = 200

lock = php.Semaphore(KEY)
seg = php.attach(KEY, SIZE, 0o600, create=True, lock=lock)
plain = php.attach(KEY, create=False)
semaphore = php.Semaphore(SECOND)
queue = php.MessageQueue(KEY, 0o600)
raw = php.Shmop(RAW, "n", 0o600, len(LARGE))
info, stat = seg.info(), queue.stat()


def fill():
    """The segment as each call finds it."""
    seg.clear()
    seg.update({number: f"value {number}" for number in range(VARIABLES)})
    seg.update({1_000: LARGE, 1_001: MANY, 1_002: OBJECT, 1_003: PLAIN})


def fingerprint():
    """Changes with whatever a call changes. It asks for little memory."""
    found = seg.info()
    last, third, messages = list(seg)[-3:], hash(seg._get_text(3)), queue.stat().messages
    return (found.count, found.used, last, third, messages, lock.held, semaphore.held)


def remove():
    """Removes the objects: the last thing that the process does."""
    seg.destroy()
    lock.remove()
    semaphore.remove()
    queue.remove()
    raw.delete()


def attached():
    again = php.attach(NEW, 4_096, 0o600)
    try:
        again[1] = PLAIN
        return again[1] == PLAIN
    finally:
        again.destroy()


def reattached():
    again = php.attach(KEY, create=False)
    again.detach()
    return again.detached


def semaphore_made():
    made = php.Semaphore(NEW, 2, 0o600)
    try:
        return made.acquire(5) and made.release() is None and made.max_acquire == 2
    finally:
        made.remove()


def queue_made():
    made = php.MessageQueue(NEW, 0o600)
    try:
        return made.stat().messages == 0
    finally:
        made.remove()


def raw_made():
    made = php.Shmop(NEW, "n", 0o600, 5_000)
    try:
        return made.write(b"hello", 3) == 5 and made.read(3, 5) == b"hello" and len(made) == made.size == 5_000
    finally:
        made.delete()
        made.close()


def held():
    with semaphore:
        return semaphore.held == 1


def acquired():
    return semaphore.acquire(5) and semaphore.held == 1 and semaphore.release() is None


def passed(message, **how):
    """Sends a message and receives it. One that cannot be told is in the queue no more: the error has it."""
    if not queue.send(message, 7, timeout=5, **({"serialize": how["unserialize"]} if how else {})):
        return False
    try:
        return queue.receive(timeout=5, **how) == (7, message)
    finally:
        # What was sent and not received, for lack of memory, would stand before the next one.
        drain()


def drain():
    try:
        while queue.receive(timeout=0, unserialize=False) is not None:
            pass
    except MemoryError:
        if queue.stat().messages:
            raise


def put(index, value):
    # Reading it would need memory again, when it is stored already.
    return seg.put(index, value) is None and index in seg


def gone(remove):
    remove()
    return 5 not in seg


def cleared():
    seg.clear()
    return len(seg) == 0


CALLS = {
    "php.dumps": lambda: php.loads(php.dumps(PLAIN)) == PLAIN,
    "php.dumps:large": lambda: len(php.dumps(LARGE)) > len(LARGE),
    "php.dumps:many": lambda: php.dumps(MANY) == MANY_TEXT,
    "php.loads": lambda: php.loads(php.dumps(OBJECT)) == OBJECT,
    "php.loads:many": lambda: php.loads(MANY_TEXT) == MANY,
    "php.attach": reattached,
    "php.attach:new": attached,
    "php.ftok": lambda: php.ftok("/", "t") != 0,
    "php.Segment.__contains__": lambda: 5 in seg and -5 not in seg,
    "php.Segment.__delitem__": lambda: gone(lambda: seg.__delitem__(5)),
    "php.Segment.__enter__": lambda: seg.__enter__() is seg,
    "php.Segment.__exit__": reattached,
    "php.Segment.__eq__": lambda: seg != {1: 2},
    "php.Segment.__getitem__": lambda: seg[1_003] == PLAIN,
    "php.Segment.__getitem__:large": lambda: len(plain[1_000]) == len(LARGE),
    "php.Segment.__getitem__:many": lambda: seg[1_001] == MANY,
    "php.Segment.__getitem__:object": lambda: seg[1_002] == OBJECT,
    "php.Segment.__iter__": lambda: sum(1 for _ in seg) >= VARIABLES,
    "php.Segment.__len__": lambda: len(seg) >= VARIABLES,
    "php.Segment.__ne__": lambda: seg != {1: 2},
    "php.Segment.__reduce__": lambda: pickle.loads(pickle.dumps(plain)).key == KEY,
    "php.Segment.__repr__": lambda: "Segment" in repr(seg),
    "php.Segment.__setitem__": lambda: seg.__setitem__(6, PLAIN) is None and 6 in seg,
    "php.Segment.arrays": lambda: seg.arrays == "auto",
    "php.Segment.clear": cleared,
    "php.Segment.copy": lambda: len(seg.copy()) == len(seg),
    "php.Segment.created": lambda: seg.created and not plain.created,
    "php.Segment.destroy": attached,
    "php.Segment.detach": reattached,
    "php.Segment.detached": lambda: not seg.detached,
    "php.Segment.get": lambda: len(seg.get(1_000)) == len(LARGE),
    "php.Segment.has": lambda: seg.has(5),
    "php.Segment.id": lambda: seg.id == plain.id,
    "php.Segment.info": lambda: seg.info().count == len(seg),
    "php.Segment.items": lambda: len(list(seg.items())) == len(seg),
    "php.Segment.key": lambda: seg.key == KEY,
    "php.Segment.keys": lambda: len(list(seg.keys())) == len(seg),
    "php.Segment.lock": lambda: seg.lock is lock and plain.lock is None,
    "php.Segment.pop": lambda: seg.pop(1_003) == PLAIN,
    "php.Segment.pop:many": lambda: seg.pop(1_001) == MANY,
    "php.Segment.popitem": lambda: len(seg.popitem()) == 2,
    "php.Segment.put": lambda: put(7, PLAIN),
    "php.Segment.put:large": lambda: put(1_000, LARGE),
    "php.Segment.put:many": lambda: put(8, MANY),
    "php.Segment.raw": lambda: seg.raw(1_001) == MANY_TEXT,
    "php.Segment.remove": lambda: gone(lambda: seg.remove(5)),
    "php.Segment.setdefault": lambda: seg.setdefault(9_999, PLAIN) == PLAIN,
    "php.Segment.size": lambda: seg.size >= SIZE,
    "php.Segment.strings": lambda: seg.strings == "auto",
    "php.Segment.update": lambda: seg.update({3: MANY, 4: OBJECT}) is None and 4 in seg,
    "php.Segment.values": lambda: len(list(seg.values())) == len(seg),
    "php.Semaphore": semaphore_made,
    "php.Semaphore.__enter__": held,
    "php.Semaphore.__exit__": held,
    "php.Semaphore.__reduce__": lambda: pickle.loads(pickle.dumps(semaphore)).id == semaphore.id,
    "php.Semaphore.__repr__": lambda: "Semaphore" in repr(semaphore),
    "php.Semaphore.acquire": acquired,
    "php.Semaphore.close": semaphore_made,
    "php.Semaphore.closed": lambda: not semaphore.closed,
    "php.Semaphore.held": acquired,
    "php.Semaphore.id": lambda: semaphore.id >= 0,
    "php.Semaphore.key": lambda: semaphore.key == SECOND,
    "php.Semaphore.max_acquire": lambda: semaphore.max_acquire == 1,
    "php.Semaphore.release": acquired,
    "php.Semaphore.remove": semaphore_made,
    "php.MessageQueue": queue_made,
    "php.MessageQueue.__reduce__": lambda: pickle.loads(pickle.dumps(queue)).id == queue.id,
    "php.MessageQueue.__repr__": lambda: "MessageQueue" in repr(queue),
    "php.MessageQueue.id": lambda: queue.id >= 0,
    "php.MessageQueue.key": lambda: queue.key == KEY,
    "php.MessageQueue.receive": lambda: passed(PLAIN),
    "php.MessageQueue.receive:bytes": lambda: passed(MESSAGE.encode(), unserialize=False),
    "php.MessageQueue.receive:text": lambda: passed(MESSAGE),
    "php.MessageQueue.remove": queue_made,
    "php.MessageQueue.send": lambda: passed(PLAIN),
    "php.MessageQueue.set": lambda: queue.set(permissions=0o600) is None,
    "php.MessageQueue.stat": lambda: queue.stat().permissions == 0o600,
    "php.Shmop": raw_made,
    "php.Shmop.__enter__": lambda: raw.__enter__() is raw,
    "php.Shmop.__exit__": raw_made,
    "php.Shmop.__len__": lambda: len(raw) == len(LARGE),
    "php.Shmop.__reduce__": lambda: pickle.loads(pickle.dumps(raw)).id == raw.id,
    "php.Shmop.__repr__": lambda: "Shmop" in repr(raw),
    "php.Shmop.close": raw_made,
    "php.Shmop.closed": lambda: not raw.closed,
    "php.Shmop.delete": raw_made,
    "php.Shmop.id": lambda: raw.id >= 0,
    "php.Shmop.key": lambda: raw.key == RAW,
    "php.Shmop.read": lambda: len(raw.read()) == len(LARGE),
    "php.Shmop.readonly": lambda: not raw.readonly,
    "php.Shmop.size": lambda: raw.size == len(LARGE),
    "php.Shmop.write": lambda: raw.write(LARGE) == len(LARGE),
    "php.PhpObject": lambda: pickle.loads(pickle.dumps(OBJECT)) == OBJECT and repr(OBJECT),
    "php.PhpEnum": lambda: php.loads(php.dumps(php.PhpEnum("Suit", "H"))) == php.PhpEnum("Suit", "H"),
    "php.PhpCustom": lambda: php.loads(php.dumps(php.PhpCustom("Old", b"x"))) == php.PhpCustom("Old", b"x"),
    "php.SegmentInfo": lambda: pickle.loads(pickle.dumps(info)) == info and repr(info),
    "php.MessageQueueInfo": lambda: pickle.loads(pickle.dumps(stat)) == stat and repr(stat),
    "php.shm_attach": lambda: php.shm_detach(php.shm_attach(KEY)),
    "php.shm_detach": lambda: php.shm_detach(php.shm_attach(KEY)),
    "php.shm_get_var": lambda: php.shm_get_var(seg, 1_001) == MANY,
    "php.shm_has_var": lambda: php.shm_has_var(seg, 5),
    "php.shm_put_var": lambda: php.shm_put_var(seg, 9, MANY),
    "php.shm_remove": lambda: php.shm_remove(php.shm_attach(NEW, 4_096)),
    "php.shm_remove_var": lambda: gone(lambda: php.shm_remove_var(seg, 5)),
    "php.sem_acquire": lambda: php.sem_acquire(semaphore) and php.sem_release(semaphore),
    "php.sem_get": lambda: php.sem_remove(php.sem_get(NEW)),
    "php.sem_release": lambda: php.sem_acquire(semaphore) and php.sem_release(semaphore),
    "php.sem_remove": lambda: php.sem_remove(php.sem_get(NEW)),
    "php.msg_get_queue": lambda: php.msg_remove_queue(php.msg_get_queue(NEW)),
    "php.msg_queue_exists": lambda: php.msg_queue_exists(KEY),
    "php.msg_receive": lambda: php.msg_send(queue, 3, PLAIN) and php.msg_receive(queue, 3, 8_000) == (3, PLAIN),
    "php.msg_remove_queue": lambda: php.msg_remove_queue(php.msg_get_queue(NEW)),
    "php.msg_send": lambda: php.msg_send(queue, 3, PLAIN) and php.msg_receive(queue, 3, 8_000) == (3, PLAIN),
    "php.msg_set_queue": lambda: php.msg_set_queue(queue, {"msg_perm.mode": 0o600}),
    "php.msg_stat_queue": lambda: php.msg_stat_queue(queue)["msg_perm.mode"] == 0o600,
    "php.shmop_close": lambda: php.shmop_close(php.shmop_open(RAW, "a", 0, 0)) is None,
    "php.shmop_delete": lambda: php.shmop_delete(php.shmop_open(NEW, "n", 0o600, 100)),
    "php.shmop_open": lambda: php.shmop_size(php.shmop_open(RAW, "a", 0, 0)) == len(LARGE),
    "php.shmop_read": lambda: php.shmop_read(raw, 0, 5) == raw.read(0, 5),
    "php.shmop_size": lambda: php.shmop_size(raw) == len(LARGE),
    "php.shmop_write": lambda: php.shmop_write(raw, LARGE, 0) == len(LARGE),
}
