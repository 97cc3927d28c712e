"""What a queue's message loses and keeps: the error has what was taken, and PHP's kinds of messages are sent alike."""

import copy
import math
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor

import pytest
from helpers import child_functions
from helpers.marks import needs_php

from shmvar import php


@pytest.fixture
def queue(php_key):
    return php.MessageQueue(php_key)


def taken(queue):
    """The error of a message that is no text."""
    queue.send(b"no text", 9, serialize=False)
    with pytest.raises(php.UnserializeError) as caught:
        queue.receive()
    return caught.value


def test_the_message_of_an_error_survives_pickle_and_copy(queue):
    error = taken(queue)
    ways = [lambda e, p=p: pickle.loads(pickle.dumps(e, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
    for way in (*ways, copy.copy, copy.deepcopy):
        again = way(error)
        assert again is not error and type(again) is php.UnserializeError
        assert (again.message, again.offset, str(again)) == ((9, b"no text"), error.offset, str(error))


def test_the_error_of_any_other_text_has_no_message():
    with pytest.raises(php.UnserializeError) as caught:
        php.loads(b"no text")
    assert caught.value.message is None and pickle.loads(pickle.dumps(caught.value)).message is None
    assert php.UnserializeError("text", 5).message is None and php.UnserializeError("text", 5).offset == 5


def test_the_message_comes_out_of_another_process(queue):
    queue.send(b"no text", 9, serialize=False)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        error = pool.submit(child_functions.receive_from_php, queue.key).exception()
    assert type(error) is php.UnserializeError and error.message == (9, b"no text") and queue.stat().messages == 0


@pytest.mark.parametrize("wanted", [0, -3])
@needs_php
def test_msg_except_counts_for_nothing_where_no_type_is_asked_for(queue, in_php, wanted):
    in_php("$q = msg_get_queue($a[0]);", queue.key)
    for _ in range(2):
        queue.send("x", 2)
    flags = php.MSG_EXCEPT | php.MSG_IPC_NOWAIT
    code = "return [msg_receive($q, $a[0], $t, 50, $m, true, $a[1]), $t, $m];"
    assert in_php(code, wanted, flags) == [True, 2, "x"]
    assert php.msg_receive(queue, wanted, 50, True, flags) == (2, "x")
    assert php.msg_receive(queue, wanted, 50, True, flags) is None
    queue.send("x", 2)
    assert php.msg_receive(queue, 2, 50, True, flags) is None and php.msg_receive(queue, 1, 50, True, flags)[0] == 2
    with pytest.raises(TypeError, match="must be an int, not str"):
        php.msg_receive(queue, "0", 50, True, flags)


FLOATS = [1.5, -1.5, 0.0, -0.0, 1e-9, -1e-9, 0.1, 1e22, 1e300, -1.7976931348623157e308, 123456789.1234565, 2.5e-6]


@needs_php
def test_a_float_is_sent_as_phps_digits(queue, in_php):
    in_php("$q = msg_get_queue($a[0]);", queue.key)
    for number in (*FLOATS, math.inf, -math.inf, math.nan):
        in_php("msg_send($q, 1, $a[0], false);", number)
        expected = queue.receive(unserialize=False)
        assert php.msg_send(queue, 1, number, False) is True
        assert queue.receive(unserialize=False) == expected
    assert php.msg_send(queue, 1, 1.5, False) and queue.receive(unserialize=False) == (1, b"1.500000")


def test_a_str_of_surrogateescape_is_sent_as_the_bytes_that_it_stands_for(queue):
    for text, expected in (("\udcff", b"\xff"), ("é\udc80\udcfe", b"\xc3\xa9\x80\xfe")):
        assert php.loads(php.dumps(text)) == expected
        queue.send(text, serialize=False)
        assert queue.receive(unserialize=False) == (1, expected)
        php.msg_send(queue, 1, text, False)
        assert queue.receive(unserialize=False) == (1, expected)
    with pytest.raises(ValueError, match=r"message .* not serialized: .* surrogate at index 1.*surrogatepass"):
        queue.send("x\ud800", serialize=False)
    assert queue.stat().messages == 0
