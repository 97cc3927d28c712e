"""Calls in processes that have almost no memory left. Each is forked from this one, which has imported everything.

Reads names of calls, one a line, and answers each with a line of JSON: what happened at each limit. A limit is what the
process uses at that moment, plus so many bytes.
"""

import asyncio
import ctypes
import io
import json
import os
import pickle
import resource
import signal
import sys
import time

import numpy  # noqa: F401 - what is made of arrays is to be imported before memory is short
import php_calls_without_memory as of_php  # a neighbour of this file

import shmvar
import shmvar._arrays_in_place
import shmvar._dump.files
import shmvar._dump.reading
import shmvar._dump.writing
import shmvar._errors
import shmvar._mapping_views
import shmvar._memoize
import shmvar._queue
import shmvar._queue_errors
import shmvar._read_only_arrays

KIB, MIB = 1 << 10, 1 << 20
MANY = 400_000
FEW = 20_000
STEPS = (0, 64 * KIB, 256 * KIB, 1 * MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB, 32 * MIB)
KINDS = {"AS": (resource.RLIMIT_AS, "VmSize:"), "DATA": (resource.RLIMIT_DATA, "VmData:")}
LARGE = 3 * MIB
PLAIN = {"a": [1, 2.5, "x"], "b": (None, True)}
#: Indexes that the calls below change: compared before and after.
TOUCHED = (1, 2, 3, 4, 5, 6, 7, 8, 9, MANY + 1, "text 000007", "large", "plain", "new", MANY * 2, MANY * 2 + 29_999)

key, archive = sys.argv[1:3]
libc = ctypes.CDLL(None)


def fill():
    segment = shmvar.attach(key, 1 << 30)
    half = MANY // 2
    segment.update({number: number for number in range(half)})
    segment.update({f"text {number:06}": "v" * (number % 40) for number in range(half)})
    segment.put_many({"large": bytes(LARGE), "plain": PLAIN})
    segment.array("array", LARGE, "u1")
    segment.buffer("buffer", LARGE)
    few = shmvar.attach(key + "-few", 1 << 28)
    fill_few(few)
    few.dump(archive)


def fill_few(few=None):
    few = few or shmvar.attach(key + "-few")
    few.update({number: str(number) * 9 for number in range(FEW)})
    # In the small segment: where a variable expires, counting looks at all of them.
    few.put("ttl", 1, ttl=10_000)


def elsewhere(work):
    """Runs work in another process, so that its memory does not count here."""
    pid = os.fork()
    if pid == 0:
        work()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


elsewhere(fill)
seg = shmvar.attach(key)
few = shmvar.attach(key + "-few")
readonly = shmvar.attach(key, readonly=True)
readonly_few = shmvar.attach(key + "-few", readonly=True)
untrusted = shmvar.attach(key, trust=False)
lock = seg.lock("a lock")
jobs = seg.queue("jobs")
info, stat, report = few.info(), seg.stat("plain"), few.check()
handle = pickle.dumps(seg)
all_of = len(seg)
large = bytes(LARGE)
batch = {number: number for number in range(MANY * 2, MANY * 2 + 30_000)}
asked = list(range(MANY // 2))
RIGHT = object()


def of_len(call, length):
    return lambda: len(call()) == length


def is_(call, value):
    return lambda: call() == value


def restored(call, before=None):
    """A call that has an effect; its result does not matter."""
    return lambda: (call(), True)[1]


def of_task(make):
    async def task():
        return await make()

    def call():
        return asyncio.run(task())

    # asyncio starts a thread.
    call.starts_thread = True
    return call


async def entered():
    async with lock:
        return True


def told():
    """An iterator that has everything to tell. A child has to make its own."""
    return seg.changes(newer_than={}, timeout=0)


def held(handle=seg):
    with handle.lock("another", timeout=5):
        return True


def dumped():
    out = io.BytesIO()
    return few.dump(out) >= FEW and len(out.getvalue()) > FEW


def loaded():
    return few.load(archive) >= FEW


def attached():
    with shmvar.attach(key + "-few") as again:
        return len(again) >= FEW


def detached():
    again = shmvar.attach(key)
    again.detach()
    return again.detached


def created():
    with shmvar.attach(f"{key}-{os.getpid()}", create=True) as again:
        again["x"] = 1
        again.destroy()
    return True


def deleted(index, delete=shmvar.Segment.__delitem__):
    try:
        delete(seg, index)
    except KeyError:
        return True
    return index not in seg


def added():
    before = seg.version(5)
    return isinstance(seg.add(5), int) and seg.version(5) != before


def put_item(value):
    jobs.put(value)
    return True


def got():
    jobs.clear()
    jobs.put(PLAIN)
    return jobs.get() == PLAIN


def got_large():
    jobs.clear()
    jobs.put(large)
    try:
        return len(jobs.get()) == LARGE
    finally:
        jobs.clear()  # an item for which there was no memory stays in the queue


def taken():
    jobs.clear()
    jobs.put(PLAIN)
    item = jobs.take()
    with item as value:
        return value == PLAIN and item.attempts == 1


async def put_by_task():
    jobs.clear()
    await jobs.aput(PLAIN)
    return jobs.get() == PLAIN


async def got_by_task():
    jobs.clear()
    jobs.put(PLAIN)
    return await jobs.aget() == PLAIN


async def taken_by_task():
    jobs.clear()
    jobs.put(PLAIN)
    async with jobs.take() as value:
        return value == PLAIN


#: Name (in `dir()` of a class or the module) -> call that says whether its result is right. A colon adds a variant.
CALLS = {
    "Segment.__contains__": lambda: 5 in seg and "text 000007" in seg,
    "Segment.__delitem__": lambda: deleted(1),
    "Segment.__enter__": lambda: seg.__enter__() is seg,
    "Segment.__exit__": detached,
    "Segment.__eq__": lambda: seg != {1: 2},
    "Segment.__getitem__": is_(lambda: seg["text 000007"], "v" * 7),
    "Segment.__getitem__:large": of_len(lambda: seg["large"], LARGE),
    "Segment.__getitem__:plain": is_(lambda: seg["plain"], PLAIN),
    "Segment.__getitem__:untrusted": is_(lambda: untrusted["plain"], PLAIN),
    "Segment.__getitem__:untrusted-large": of_len(lambda: untrusted["large"], LARGE),
    "Segment.__ior__": restored(lambda: seg.__ior__(batch)),
    "Segment.__iter__": lambda: sum(1 for _ in seg) == len(seg),
    "Segment.__iter__:readonly": lambda: sum(1 for _ in readonly_few) >= FEW,
    "Segment.__len__": lambda: len(seg) >= all_of - 20,
    "Segment.__ne__": lambda: seg != few,
    "Segment.__or__": lambda: len(few | batch) == len(few) + len(batch),
    "Segment.__or__:segments": of_len(lambda: few | readonly_few, FEW + 1),
    "Segment.__reduce__": lambda: len(pickle.dumps(seg)) > 20,
    "Segment.__reduce__:back": lambda: pickle.loads(handle).key == key,
    "Segment.__repr__": lambda: "Segment" in repr(seg),
    "Segment.__ror__": lambda: len(batch | few) == len(few) + len(batch),
    "Segment.__setitem__": restored(lambda: seg.__setitem__("new", PLAIN)),
    "Segment.add": added,
    "Segment.array": of_len(lambda: seg.array("array", (LARGE,), "u1"), LARGE),
    "Segment.array:new": restored(lambda: seg.array("new array", (1000,), initial=7)),
    "Segment.array:untrusted": of_len(lambda: untrusted.array("array"), LARGE),
    "Segment.buffer": of_len(lambda: seg.buffer("buffer"), LARGE),
    "Segment.buffer:new": restored(lambda: seg.buffer("new buffer", LARGE)),
    "Segment.changed": of_task(lambda: seg.changed(5, 10, newer_than=12345678)),
    "Segment.changed_any": of_task(lambda: seg.changed_any(asked, 10, newer_than={5: 12345678})),
    "Segment.check": lambda: seg.check().variables == len(seg),
    "Segment.check:readonly": lambda: readonly.check().variables == len(seg),
    "Segment.clear": lambda: few.clear() is None and len(few) == 0,
    "Segment.compare_and_put": lambda: seg.compare_and_put(6, seg.version(6), large),
    "Segment.copy": lambda: len(few.copy()) == len(few),
    "Segment.created": lambda: not seg.created,
    "Segment.destroy": created,
    "Segment.detach": detached,
    "Segment.detached": lambda: not seg.detached,
    "Segment.expire": lambda: seg.expire("plain", 9_000 + os.getpid()),
    "Segment.expire:large": lambda: seg.expire("large", 9_000 + os.getpid()),
    "Segment.expire:ends": lambda: seg.expire("plain", None),
    "Segment.get": of_len(lambda: seg.get("large"), LARGE),
    "Segment.get_many": lambda: len(seg.get_many(asked)) > 1_000,
    "Segment.get_versioned": of_len(lambda: seg.get_versioned("large")[0], LARGE),
    "Segment.has": lambda: seg.has("large"),
    "Segment.info": lambda: seg.info().count == len(seg),
    "Segment.items": lambda: sum(1 for _ in list(seg.items())) == len(seg),
    "Segment.key": is_(lambda: seg.key, key),
    "Segment.keys": lambda: len(list(seg.keys())) == len(seg),
    "Segment.keys:prefix": lambda: len(list(seg.keys("text 0"))) == len(seg.keys("text 0")) >= 99_000,
    "Segment.lock": held,
    "Segment.memoize": lambda: seg.memoize(len, name="length")(bytes(os.getpid() % 999)) == os.getpid() % 999,
    "Segment.modify": lambda: len(seg.modify("large", lambda old: old[:-1] + b"x")) == LARGE,
    "Segment.pop": lambda: seg.pop(2, 2) == 2,
    "Segment.popitem": of_len(seg.popitem, 2),
    "Segment.put": restored(lambda: seg.put("large", large)),
    "Segment.put:ttl": restored(lambda: few.put("ttl", "x" * 1000, ttl=9_000)),
    "Segment.put_many": restored(lambda: seg.put_many(batch)),
    "Segment.put_many:large": restored(lambda: seg.put_many({7: large, 8: PLAIN, "new": large})),
    "Segment.readonly": lambda: readonly.readonly,
    "Segment.remove": lambda: seg.remove(3) in (True, False),
    "Segment.resize": restored(lambda: seg.resize((1 << 30) + os.getpid())),
    "Segment.setdefault": lambda: seg.setdefault("new", PLAIN) is not None,
    "Segment.evict": lambda: seg.evict is None,
    "Segment.size": lambda: seg.size >= 1 << 30,
    "Segment.stat": lambda: seg.stat("plain").type == "dict",
    "Segment.swap": lambda: seg.swap("large", large) is not None,
    "Segment.touch": lambda: seg.touch("plain") == seg.version("plain"),
    "Segment.trim": restored(lambda: few.trim()),
    "Segment.trusted": lambda: seg.trusted and not untrusted.trusted,
    "Segment.update": restored(lambda: seg.update(batch)),
    "Segment.values": lambda: len(list(seg.values())) == len(seg),
    "Segment.version": lambda: seg.version("large") > 0,
    "Segment.view": of_len(lambda: seg.view("large"), LARGE),
    "Segment.view:untrusted": of_len(lambda: untrusted.view("large"), LARGE),
    "Segment.wait": lambda: seg.wait(5, 10, newer_than=12345678) > 0,
    "Segment.wait_any": of_len(lambda: seg.wait_any(asked, 10, newer_than={5: 12345678}), 2),
    "Segment.changes": lambda: len(list(zip(range(9), seg.changes(newer_than={}, timeout=0), strict=False))) == 9,
    "Changes.__aiter__": lambda: (of := told()).__aiter__() is of,
    "Changes.__anext__": of_task(lambda: told().__anext__()),
    "Changes.__iter__": lambda: iter(of := told()) is of,
    "Changes.__next__": lambda: next(told()) is not None,
    "Changes.close": lambda: told().close() is None,
    "Changes.segment": lambda: told().segment is seg,
    "Changes.timeout": lambda: told().timeout == 0,
    "Lock.__aenter__": of_task(entered),
    "Lock.__aexit__": of_task(entered),
    "Lock.__enter__": held,
    "Lock.__exit__": held,
    "Lock.acquire": lambda: lock.acquire(5) and lock.release() is None,
    "Lock.locked": lambda: lock.locked() is False,
    "Lock.name": is_(lambda: lock.name, "a lock"),
    "Lock.release": lambda: lock.acquire(5) and lock.release() is None,
    "Lock.segment": lambda: lock.segment is seg,
    "Lock.timeout": lambda: lock.timeout is None,
    "Segment.queue": lambda: seg.queue("jobs", maxsize=3).maxsize == 3,
    "Queue.aget": of_task(got_by_task),
    "Queue.aput": of_task(put_by_task),
    "Queue.clear": lambda: put_item(b"x") and jobs.clear() is None and jobs.empty(),
    "Queue.empty": lambda: jobs.empty() in (True, False),
    "Queue.full": lambda: not jobs.full(),
    "Queue.get": got,
    "Queue.get:large": got_large,
    "Queue.get_nowait": got,
    "Queue.maxsize": is_(lambda: jobs.maxsize, 0),
    "Queue.name": is_(lambda: jobs.name, "jobs"),
    "Queue.put": got,
    "Queue.put:large": got_large,
    "Queue.put_nowait": lambda: jobs.put_nowait(PLAIN) is None,
    "Queue.qsize": lambda: jobs.qsize() >= 0,
    "Queue.segment": lambda: jobs.segment is seg,
    "Queue.take": taken,
    "TakenItem.__aenter__": of_task(taken_by_task),
    "TakenItem.__aexit__": of_task(taken_by_task),
    "TakenItem.__enter__": taken,
    "TakenItem.__exit__": taken,
    "TakenItem.attempts": taken,
    "TakenItem.queue": lambda: jobs.take().queue is jobs,
    "attach": attached,
    "attach:create": created,
    "copy": restored(lambda: shmvar.copy(few, seg, [3])),
    "destroy": lambda: shmvar.destroy(key + "-none") is False,
    "exists": lambda: shmvar.exists(key),
    "ftok": lambda: isinstance(shmvar.ftok("/", 1), int),
    "segments": lambda: any(one.key == key for one in shmvar.segments()),
    "shm_attach": lambda: shmvar.shm_detach(shmvar.shm_attach(key)),
    "shm_detach": lambda: shmvar.shm_detach(shmvar.shm_attach(key)),
    "shm_get_var": of_len(lambda: shmvar.shm_get_var(seg, "large"), LARGE),
    "shm_has_var": lambda: shmvar.shm_has_var(seg, "large"),
    "shm_put_var": lambda: shmvar.shm_put_var(seg, "large", large) in (None, True),
    "shm_remove": restored(lambda: shmvar.shm_remove(created_for_removal())),
    "shm_remove_var": lambda: deleted(4, shmvar.shm_remove_var),
    "SegmentInfo": lambda: pickle.loads(pickle.dumps(info)) == info and info._asdict()["count"] >= FEW and repr(info),
    "VariableInfo": lambda: pickle.loads(pickle.dumps(stat)) == stat and stat._asdict()["type"] == "dict",
    "CheckReport": lambda: pickle.loads(pickle.dumps(report)) == report and repr(report),
    "Segment.dump": dumped,
    "Segment.load": loaded,
    "_core._survey": lambda: any(one["name"].startswith("shmvar") for one in shmvar._core._survey()),
}


def created_for_removal():
    return shmvar.attach(f"{key}-{os.getpid()}", create=True)


def control():
    """What any program does, without the package."""
    numbers = list(range(100_000))
    return len({number: str(number) for number in numbers})


def used(line):
    with open("/proc/self/status") as status:
        return next(int(row.split()[1]) * KIB for row in status if row.startswith(line))


def fingerprint():
    # Asks for little memory: what this process frees, its children could use.
    versions = [seg.version(index) for index in TOUCHED]
    return (seg.info().used, few.info().used, len(few), few.version("ttl"), versions, of_php.fingerprint())


def limited(call, kind, extra, *, warm, thorough):
    """In the child: makes the call under the limit; returns the outcome in a word or two."""
    which, line = KINDS[kind]
    if warm:
        lock.acquire()
        lock.release()
    resource.setrlimit(which, (used(line) + extra, resource.RLIM_INFINITY))
    try:
        said = "right" if call() else "wrong"
    except shmvar.SegmentFullError as error:
        # It is a `MemoryError`, too; but the segment has room, so only a lack of addresses for a map is a true reason.
        resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return "no address space" if "more addresses" in str(error) else f"SegmentFullError: {error}"
    except MemoryError:
        said = "MemoryError"
    except RuntimeError as error:
        resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return "no thread" if "start new thread" in str(error) else str(error)
    except BaseException as error:
        resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return f"{type(error).__name__}: {error}"
    resource.setrlimit(which, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    # This process must be sound, too: the call that failed works now.
    if thorough and said == "MemoryError" and not call():
        said = "wrong afterwards"
    return said


def in_child(call, kind, extra, **how):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        # The child ends even if it hangs; the parent sees the signal.
        signal.alarm(60)
        said = limited(call, kind, extra, **how)
        os.write(writing, said.encode()[:2_000])
        os._exit(0)
    os.close(writing)
    said = b""
    while more := os.read(reading, 4_096):
        said += more
    os.close(reading)
    status = os.waitpid(pid, 0)[1]
    return said.decode() if status == 0 else signal.Signals(os.WTERMSIG(status)).name


def try_all(call):
    rows, at_first, filled = [], fingerprint(), of_php.fingerprint()
    for kind in KINDS:
        for extra in STEPS:
            before = fingerprint()
            # Both kinds of limit, but every second step only with the first kind.
            if kind == "DATA" and STEPS.index(extra) % 2:
                continue
            # Enough for the stack of a thread and no more: `Thread.start` of the interpreter then waits for ever.
            if extra == 8 * MIB and hasattr(call, "starts_thread"):
                continue
            thorough = kind == "AS" and extra == MIB
            libc.malloc_trim(0)
            said = in_child(call, kind, extra, warm=kind == "DATA", thorough=thorough)
            if said.startswith("SIG") and in_child(control, kind, extra, warm=False, thorough=False).startswith("SIG"):
                said = "the interpreter itself"
            if said == "MemoryError" and not thorough and fingerprint() != before:
                said = "MemoryError, and something changed"
            rows.append([kind, extra // KIB, said])
            if len(few) < FEW:
                elsewhere(fill_few)
            if of_php.fingerprint() != filled:
                elsewhere(of_php.fill)
    if fingerprint() != at_first:
        elsewhere(check)
    return rows


def check():
    """Verifies both segments, in a process that made none of the calls."""
    seg.check()
    few.check()


if __name__ == "__main__":
    CALLS |= of_php.CALLS
    elsewhere(of_php.fill)
    print(json.dumps(sorted(CALLS)), flush=True)
    for name in sys.stdin:
        began = time.monotonic()
        print(json.dumps(try_all(CALLS[name.strip()])), flush=True)
        print(name.strip(), f"{time.monotonic() - began:.2f} s", file=sys.stderr, flush=True)
    elsewhere(check)
    seg.destroy()
    few.destroy()
    of_php.remove()
