"""Message queues that PHP shares: values and bytes in both directions, which message comes, waiting, errors."""

import errno
import os
import pickle
import signal
import threading
import time

import helpers
import pytest
from helpers import programs, system_v

import shmvar
from shmvar import php

VALUES = [
    None,
    True,
    False,
    0,
    -(2**63),
    0.1,
    -0.0,
    "",
    "é\0",
    b"\xff\0",
    [],
    [1, [2.5, "x"]],
    {"a": {"b": [None]}},
    {5: 1},
]


def as_user():
    """Options for a program of another user. It imports what it needs before it becomes that user."""
    options = programs.as_user()
    return {**options, "drop": "from shmvar import php\n" + options["drop"]}


@pytest.fixture
def queue(php_key):
    return php.MessageQueue(php_key)


@helpers.needs_php
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_go_both_ways(queue, in_php, value):
    assert queue.send(value, 3) is True
    code = "$q = msg_get_queue($a[0]); $ok = msg_receive($q, 0, $type, 8192, $m); return [$ok, $type, $m];"
    assert repr(in_php(code, queue.key)) == repr([True, 3, value])
    assert in_php("return msg_send($q, 5, $a[0]);", value) is True
    assert repr(queue.receive()) == repr((5, value))


@helpers.needs_php
@pytest.mark.parametrize("raw", [b"", b"i:5;", b"\0\xff" * 100, b"x" * 8192])
def test_bytes_go_both_ways(queue, in_php, raw):
    assert queue.send(raw, serialize=False)
    code = "$q = msg_get_queue($a[0]); msg_receive($q, 1, $type, 8192, $m, false); return $m;"
    back = in_php(code, queue.key)
    assert (back.encode() if isinstance(back, str) else back) == raw
    assert in_php("return msg_send($q, 1, $a[0], false);", raw) is True
    assert queue.receive(unserialize=False) == (1, raw)
    for same in (bytearray(raw), memoryview(raw)):
        assert queue.send(same, serialize=False) and queue.receive(unserialize=False) == (1, raw)
    assert queue.send("é", serialize=False) and queue.receive(unserialize=False) == (1, "é".encode())


@helpers.needs_php
def test_php_and_python_choose_the_same_messages(queue, in_php):
    """Which message is received, by every way to ask: PHP and Python take turns with equal queues."""
    in_php("$q = msg_get_queue($a[0]);", queue.key)
    wanted = [(0, False), (2, False), (-2, False), (-9, False), (3, True), (9, False), (9, True), (-(2**63), False)]
    for kind, except_ in wanted:
        found = []
        for side in ("python", "php"):
            for number, sent in enumerate([3, 2, 3, 1, 2]):
                assert queue.send(number, sent)
            if side == "python":
                found.append(queue.receive(kind, timeout=0, except_=except_))
            else:
                flags = 1 | (4 if except_ else 0)
                code = "return msg_receive($q, $a[0], $t, 99, $m, true, $a[1]) ? [$t, $m] : null;"
                back = in_php(code, kind, flags)
                found.append(None if back is None else tuple(back))
            while queue.receive(timeout=0):
                pass
        assert found[0] == found[1], (kind, except_)
    assert php.msg_receive(queue, 0, 99, True, php.MSG_IPC_NOWAIT) is None


@helpers.needs_php
def test_the_functions_do_what_those_of_php_do(php_key, in_php):
    assert php.msg_queue_exists(php_key) is False
    queue = php.msg_get_queue(php_key, 0o640)
    assert php.msg_queue_exists(php_key) is True and type(queue) is php.MessageQueue
    assert php.msg_send(queue, 4, [1, "x"]) is True
    in_php("$q = msg_get_queue($a[0]); $s = fn() => msg_stat_queue($q);", php_key)
    ours, theirs = php.msg_stat_queue(queue), in_php("return $s();")
    assert ours == theirs and list(ours) == list(theirs)
    assert (ours["msg_qnum"], ours["msg_perm.mode"], ours["msg_lspid"]) == (1, 0o640, os.getpid())
    assert php.msg_receive(queue, 0, 100) == (4, [1, "x"])
    assert php.msg_set_queue(queue, {"msg_perm.mode": 0o600, "msg_qbytes": 1000, "msg_qnum": 7}) is True
    theirs = in_php("return $s();")
    assert (theirs["msg_perm.mode"], theirs["msg_qbytes"], theirs["msg_qnum"]) == (0o600, 1000, 0)
    for raw, sent in ((5, b"5"), (True, b"1"), (False, b"0"), ("x", b"x")):
        php.msg_send(queue, 1, raw, False)
        code = "msg_receive($q, 0, $t, 99, $m, false); return $m;"
        assert in_php(code) == sent.decode()
        in_php("msg_send($q, 1, $a[0], false);", raw)
        assert php.msg_receive(queue, 0, 99, False) == (1, sent)
    assert php.msg_remove_queue(queue) is True and php.msg_queue_exists(php_key) is False
    constants = "return [MSG_IPC_NOWAIT, MSG_NOERROR, MSG_EXCEPT, MSG_EAGAIN, MSG_ENOMSG];"
    ours = [php.MSG_IPC_NOWAIT, php.MSG_NOERROR, php.MSG_EXCEPT, php.MSG_EAGAIN, php.MSG_ENOMSG]
    assert in_php(constants) == ours
    for wrong in (None, 5):
        with pytest.raises(TypeError):
            php.msg_send(wrong, 1, 1)
        with pytest.raises(TypeError):
            php.msg_receive(wrong, 1, 1)
    with pytest.raises(ValueError, match="flags are"):
        php.msg_receive(queue, 0, 10, True, 8)


def test_stat_tells_what_the_kernel_does(queue):
    before = queue.stat()
    assert (before.key, before.id, before.messages, before.bytes) == (queue.key, queue.id, 0, 0)
    assert (before.sent_at, before.received_at, before.last_sender_pid, before.permissions) == (None, None, 0, 0o666)
    queue.send(b"12345", serialize=False)
    after = queue.stat()
    assert (after.messages, after.bytes, after.last_sender_pid) == (1, 5, os.getpid())
    assert abs(after.sent_at - time.time()) < 100 and after != before and hash(after) != hash(before)
    assert pickle.loads(pickle.dumps(after)) == after
    assert f"0x{queue.key:08x}" in repr(after) and "messages=1" in repr(after)
    with pytest.raises(AttributeError):
        after.messages = 2


def test_a_message_that_is_too_long_stays_unless_it_may_be_cut(queue):
    queue.send(b"0123456789", 2, serialize=False)
    for receive in (
        lambda: queue.receive(max_size=9, unserialize=False),
        lambda: php.msg_receive(queue, 0, 9, False),
        lambda: queue.receive(2, max_size=1, unserialize=False, timeout=0),
    ):
        with pytest.raises(shmvar.SegmentSystemError, match="stays in the queue") as caught:
            receive()
        assert caught.value.errno == errno.E2BIG and queue.stat().messages == 1
    assert php.msg_receive(queue, 0, 4, False, php.MSG_NOERROR) == (2, b"0123")
    assert queue.stat().messages == 0


def test_what_cannot_be_unserialized_is_in_the_error(queue):
    queue.send(b"no text", 9, serialize=False)
    with pytest.raises(php.UnserializeError) as caught:
        queue.receive()
    assert caught.value.message == (9, b"no text") and queue.stat().messages == 0
    queue.send(b'O:3:"Foo":0:{}', 9, serialize=False)
    assert queue.receive()[1] == php.PhpObject("Foo")
    with pytest.raises(php.SerializeError):
        queue.send({"set": {1}})
    assert queue.stat().messages == 0


def test_a_message_that_never_fits_is_refused_with_the_numbers(queue):
    with open("/proc/sys/kernel/msgmax") as file:
        longest = int(file.read())
    with pytest.raises(shmvar.SegmentFullError, match="msgmax") as caught:
        queue.send(b"x" * (longest + 1), serialize=False)
    assert (caught.value.needed, caught.value.size) == (longest + 1, longest)
    queue.set(max_bytes=1000)
    # PHP waits for ever.
    with pytest.raises(shmvar.SegmentFullError, match="even an empty one") as caught:
        queue.send(b"x" * 1001, serialize=False)
    assert (caught.value.needed, caught.value.free, caught.value.size) == (1001, 1000, 1000)
    assert queue.stat().messages == 0 and queue.send(b"x" * 1000, serialize=False)


def test_a_full_queue_makes_a_send_wait(queue):
    queue.set(max_bytes=100)
    assert queue.send(b"x" * 60, serialize=False)
    assert queue.send(b"y" * 60, serialize=False, timeout=0) is False
    assert queue.send(b"y" * 60, serialize=False, timeout=0.05) is False
    with pytest.raises(shmvar.SegmentFullError, match="1 messages wait") as caught:
        php.msg_send(queue, 1, b"y" * 60, False, False)
    assert (caught.value.needed, caught.value.free, caught.value.size) == (60, 40, 100)
    for timeout in (None, 60):
        sent = []
        sender = threading.Thread(
            target=lambda limit=timeout, sent=sent: sent.append(queue.send(b"y" * 60, serialize=False, timeout=limit))
        )
        sender.start()
        time.sleep(0.05)
        assert not sent
        queue.receive(unserialize=False)
        sender.join(60)
        assert sent == [True] and queue.stat().messages == 1


@helpers.needs_php
@pytest.mark.parametrize("timeout", [None, 60])
def test_a_receiver_waits_for_php_while_other_threads_run(queue, in_php, timeout):
    got, ran = [], 0
    waiter = threading.Thread(target=lambda: got.append(queue.receive(timeout=timeout)))
    waiter.start()
    for _ in range(20):
        time.sleep(0.005)
        ran += 1
    assert ran == 20 and not got
    in_php("msg_send(msg_get_queue($a[0]), 7, ['job' => 1]);", queue.key)
    waiter.join(60)
    assert got == [(7, {"job": 1})]


def test_a_timeout_ends_the_wait(queue):
    began = time.monotonic()
    assert queue.receive(timeout=0.2) is None and time.monotonic() - began >= 0.2
    assert queue.receive(5, timeout=0) is None


INTERRUPTED = """
    from shmvar import php
    queue = php.MessageQueue(int(key))
    if sys.argv[2] == "returns":
        signal.signal(signal.SIGINT, lambda *_: print("handler", flush=True))
    timeout = float(sys.argv[3]) if len(sys.argv) > 3 else None
    print("waiting", flush=True)
    try:
        print(queue.receive(timeout=timeout), flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.parametrize("timeout", [[], [100]], ids=["none", "finite"])
def test_ctrl_c_ends_the_wait_and_a_handler_that_returns_does_not(queue, timeout):
    child = programs.start(INTERRUPTED, queue.key, "default", *timeout)
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    assert child.communicate(timeout=60)[0] == "interrupted\n"
    child = programs.start(INTERRUPTED, queue.key, "returns", *timeout)
    for _ in range(3):
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
    time.sleep(0.1)
    queue.send("sent")
    assert child.communicate(timeout=60)[0] == "handler\nhandler\nhandler\n(1, 'sent')\n"


@pytest.mark.parametrize("timeout", [None, 60])
def test_a_removal_ends_every_wait_with_an_error_that_says_so(queue, timeout):
    errors = []

    def wait():
        with pytest.raises(shmvar.SegmentNotFoundError) as caught:
            queue.receive(timeout=timeout)
        errors.append(str(caught.value))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    queue.remove()
    for thread in threads:
        thread.join(60)
    assert len(errors) == 3 and all(f"key {queue.key} " in text and "removed meanwhile" in text for text in errors)
    for call in (queue.stat, queue.remove, queue.receive, lambda: queue.send(1), lambda: queue.set(max_bytes=10)):
        with pytest.raises(shmvar.SegmentNotFoundError, match="removed"):
            call()


def test_a_handle_goes_into_children_and_through_pickle(queue):
    again = pickle.loads(pickle.dumps(queue))
    assert (again.key, again.id) == (queue.key, queue.id)
    helpers.in_child(lambda: queue.send("from the child"))
    assert again.receive() == (1, "from the child")


def test_each_message_goes_to_one_receiver(queue):
    senders, receivers, each = 2, 3, 500
    found, lock = [], threading.Lock()

    def receive():
        while (got := queue.receive(timeout=30)[1]) is not None:
            with lock:
                found.append(got)

    def send(number):
        for one in range(each):
            queue.send([number, one])

    threads = [threading.Thread(target=receive) for _ in range(receivers)]
    for thread in threads:
        thread.start()
    children = [helpers.fork(send, number) for number in range(senders)]
    assert [helpers.reap(child) for child in children] == [0] * senders
    for _ in range(receivers):
        queue.send(None)
    for thread in threads:
        thread.join(100)
    assert sorted(found) == [[number, one] for number in range(senders) for one in range(each)]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda q: q.send(1, 0), ValueError, "1 to 2\\*\\*63 - 1, not 0"),
        (lambda q: q.send(1, -1), ValueError, "not -1"),
        (lambda q: q.send(1, 2**63), ValueError, "not 9223372036854775808"),
        (lambda q: q.send(1, "1"), TypeError, "must be an int, not str"),
        (lambda q: q.send(1, True), TypeError, "must be an int, not bool"),
        (lambda q: q.send(1, serialize=False), TypeError, "must be bytes"),
        (lambda q: q.send([1], serialize=False), TypeError, "must be bytes"),
        (lambda q: q.send(1, timeout=-1), ValueError, "timeout"),
        (lambda q: q.receive(2**63), ValueError, "type cannot be 9223372036854775808"),
        (lambda q: q.receive("1"), TypeError, "must be an int, not str"),
        (lambda q: q.receive(max_size=0), ValueError, "max_size cannot be 0"),
        (lambda q: q.receive(max_size=-1), ValueError, "max_size cannot be -1"),
        (lambda q: q.receive(truncate=True), TypeError, "needs max_size"),
        (lambda q: q.receive(except_=True), ValueError, "above 0: 0"),
        (lambda q: q.receive(-1, except_=True), ValueError, "above 0: -1"),
        (lambda q: q.receive(timeout=float("nan")), ValueError, "timeout"),
        (lambda q: q.set(max_bytes=-1), ValueError, "max_bytes cannot be -1"),
        (lambda q: q.set(uid=2**40), ValueError, "uid cannot be"),
        (lambda q: q.set(permissions=0o1777), ValueError, "nine bits"),
        (lambda q: php.MessageQueue(0), ValueError, "key 0 is no key"),
        (lambda q: php.MessageQueue(2**32), ValueError, "beyond 32 bits"),
        (lambda q: php.MessageQueue("x"), TypeError, "must be an int"),
        (lambda q: php.msg_queue_exists(0), ValueError, "key 0 is no key"),
        (lambda q: php.MessageQueue(5, -1), ValueError, "nine bits"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_happens(queue, call, error, text):
    queue.send(b"stays", serialize=False)
    before = system_v.objects()
    with pytest.raises(error, match=text):
        call(queue)
    assert system_v.objects() == before and queue.stat().messages == 1


def test_max_size_may_be_larger_than_any_message(queue):
    queue.send(b"x" * 5000, serialize=False)
    assert queue.receive(max_size=2**62, unserialize=False) == (1, b"x" * 5000)


@helpers.needs_root
def test_without_permission_the_error_names_owner_and_mode(php_key):
    queue = php.MessageQueue(php_key, 0o644)
    queue.send("secret")
    code = """
        from shmvar import php
        queue = php.MessageQueue(int(key))
        for call in (lambda: queue.send(1), queue.remove, lambda: queue.set(max_bytes=1)):
            try:
                call()
            except shmvar.SegmentAccessError as error:
                print(error)
        print(queue.receive())
    """
    said = programs.run(code, php_key, **as_user()).stdout.splitlines()
    assert len(said) == 4 and all("has mode 0644" in line and f"key {php_key} " in line for line in said[:3])
    assert said[3] == "(1, 'secret')"


@helpers.needs_root
@pytest.mark.skipif(not system_v.private_namespace(), reason="changes the limits of an IPC namespace")
def test_limits_of_the_kernel_are_in_the_errors_and_longer_messages_come(queue, new_php_key):
    limits = {}
    for name in ("msgmax", "msgmnb", "msgmni"):
        with open(f"/proc/sys/kernel/{name}") as file:
            limits[name] = file.read()

    def set_limit(name, number):
        with open(f"/proc/sys/kernel/{name}", "w") as file:
            file.write(str(number))

    try:
        set_limit("msgmax", 200_000)
        set_limit("msgmnb", 300_000)
        queue.set(max_bytes=300_000)
        assert queue.send(b"z" * 200_000, serialize=False)
        set_limit("msgmax", 1000)
        # It was sent while longer ones were allowed.
        assert queue.receive(unserialize=False) == (1, b"z" * 200_000)
        set_limit("msgmni", 1)
        with pytest.raises(shmvar.SegmentSystemError, match=r"1 message queues, .*msgmni") as caught:
            php.MessageQueue(new_php_key())
        assert caught.value.errno == errno.ENOSPC
    finally:
        for name, number in limits.items():
            set_limit(name, number)
