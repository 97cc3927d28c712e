"""What the errors of `shmvar.php` advise works when it is done; and mix-ups of the two packages are told."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import php as real_php
from helpers import programs
from helpers.marks import needs_root

import shmvar
from shmvar import php
from shmvar.cli import main


@pytest.fixture
def segment(php_key):
    with php.attach(php_key, 10_000, create=True) as segment:
        yield segment
        segment.destroy()


@pytest.mark.parametrize(
    "name", ["shm_put_var", "shm_get_var", "shm_has_var", "shm_remove_var", "shm_remove", "shm_detach"]
)
def test_a_segment_of_the_other_package_is_named_with_the_function_that_takes_it(segment, key, name):
    arguments = {"shm_put_var": (1, 1), "shm_remove": (), "shm_detach": ()}.get(name, (1,))
    with pytest.raises(TypeError, match=rf"shmvar\.Segment: call shmvar\.{name}$"):
        getattr(php, name)(shmvar.attach(key), *arguments)
    with pytest.raises(TypeError, match=rf"not a shmvar\.php\.Segment: call shmvar\.php\.{name}$"):
        getattr(shmvar, name)(segment, *arguments)
    assert not segment.detached and list(segment) == []


def test_the_module_comes_when_it_is_asked_for_and_not_before():
    code = "import sys, shmvar; assert 'shmvar.php' not in sys.modules; print(shmvar.php.dumps(1).decode())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "i:1;\n"


def test_a_copy_that_stops_says_that_the_variables_before_it_were_copied(segment, key):
    source = shmvar.attach(key)
    source[1], source[2] = "a", "b" * 20_000
    with pytest.raises(shmvar.SegmentFullError, match="those before it were copied") as full:
        shmvar.copy(source, segment, [1, 2])
    assert dict(segment) == {1: "a"} and full.value.needed > 20_000
    source[2], source[-1] = "b", "c"
    reserved = -(1 << 63) + 1
    source[reserved] = 1
    with pytest.raises(ValueError, match=r"reserved.*those before it were copied"):
        shmvar.copy(source, segment, [2, reserved])
    assert segment[2] == "b"


def run(capfd, *words):
    status = main.main(["php", *map(str, words)])
    return status, *capfd.readouterr()


@pytest.mark.parametrize("words", ["show K", "info K", "get K 1", "put K 1 1", "remove K 1", "clear K", "destroy K"])
def test_a_command_makes_no_semaphore(segment, new_php_key, capfd, words):
    lock, segment[1] = new_php_key(), 7
    command = words.replace("K", str(segment.key)).split()
    status, _, said = run(capfd, *command, "--lock", lock)
    assert status == 1 and f"no semaphore of PHP's with key {lock}" in said
    assert segment[1] == 7
    there = [line.split()[0] for line in Path("/proc/sysvipc/sem").read_text().splitlines()]
    assert str(lock) not in there


def test_a_put_without_the_semaphore_makes_no_segment(new_php_key, capfd):
    key, lock = new_php_key(), new_php_key()
    assert run(capfd, "put", key, 1, 1, "--lock", lock)[0] == 1
    with pytest.raises(shmvar.SegmentNotFoundError):
        php.attach(key, create=False)
    (semaphore := php.Semaphore(lock)).close()
    assert run(capfd, "put", key, 1, 1, "--lock", lock)[0] == 0
    with php.attach(key, create=False) as made:
        assert made[1] == 1
        made.destroy()
    php.Semaphore(lock).remove()
    assert semaphore.closed


def damage(segment):
    """As a put of PHP's leaves it that was killed: the second variable reaches behind the end. Returns its offset."""
    segment[1], segment[2] = "first", "second"
    text = segment.raw(2)
    with php.Shmop(segment.key, "w") as opened:
        whole = opened.read(0, opened.size)
        at = whole.index(text) - 24
        opened.write((1 << 20).to_bytes(8, "little"), at + 8)
    return at


def test_clear_mends_a_damaged_segment_and_info_shows_what_there_is(segment, capfd):
    at = damage(segment)
    with pytest.raises(
        shmvar.CorruptSegmentError, match=r"before it can still be read; clear\(\) empties.*destroy\(\)"
    ):
        segment[2]
    assert segment[1] == "first"
    status, out, said = run(capfd, "info", segment.key)
    assert status == 1 and f"at offset {at}" in said
    assert re.search(r"^total\t10000$", out, re.M) and re.search(r"^start\t40$", out, re.M)
    assert re.search(rf"^id\t{segment.id}$", out, re.M)
    status, out, _ = run(capfd, "info", segment.key, "--json")
    assert status == 1 and f"at offset {at}" in out
    assert run(capfd, "clear", segment.key) == (0, "", "")
    assert dict(segment) == {}
    segment[2] = "again"
    assert segment[2] == "again"


def in_shell(error):
    """Runs the command that an error has in brackets."""
    command = re.search(r"ipcrm -[mM] \w+", str(error)).group()
    subprocess.run(command, shell=True, check=True, timeout=60)


def test_the_command_of_an_error_removes_the_segment(segment):
    with pytest.raises(shmvar.SegmentExistsError) as exists:
        php.attach(segment.key, create=True)
    in_shell(exists.value)
    with pytest.raises(shmvar.SegmentNotFoundError):
        php.attach(segment.key, create=False)
    for offset, number in ((16, 1 << 40), (0, 1)):
        made = php.attach(segment.key, create=True)
        with php.Shmop(segment.key, "w") as opened:
            opened.write(number.to_bytes(8, "little"), offset)
        with pytest.raises((shmvar.CorruptSegmentError, shmvar.IncompatibleSegmentError)) as damaged:
            php.attach(segment.key)
        in_shell(damaged.value)
        made.detach()
        with pytest.raises(shmvar.SegmentNotFoundError):
            php.attach(segment.key, create=False)


def test_a_segment_that_is_full_says_what_is_left_and_what_is_counted(php_key):
    with php.attach(php_key, 1000, create=True) as segment:
        with pytest.raises(shmvar.SegmentFullError, match="nothing was stored: destroy the segment"):
            segment[1] = "x" * 2000
        segment[1] = "x" * 500
        text = "variable 1 is as it was, and its 544 bytes are counted as free: destroy the segment"
        with pytest.raises(shmvar.SegmentFullError, match=text):
            segment[1] = "x" * 2000
        segment[2] = 1
        with pytest.raises(shmvar.SegmentFullError, match="counted as free: remove others, or destroy"):
            segment[1] = "x" * 2000
        with pytest.raises(shmvar.SegmentFullError, match="nothing was stored: remove others, or destroy"):
            segment[3] = "x" * 2000
        segment.destroy()


def test_no_limit_is_none():
    text = php.dumps([0] * 1000)
    for limits in ({"max_values": 1000}, {"max_memory": 1000}):
        with pytest.raises(php.UnserializeError, match=f"Remedy: a larger {next(iter(limits))}"):
            php.loads(text, **limits)
        assert php.loads(text, **dict.fromkeys(limits)) == [0] * 1000


def test_what_is_nested_too_deeply_is_stored_as_the_error_says(php_key):
    deep = []
    for _ in range(4_999):
        deep = [deep]
    queue = php.MessageQueue(php_key)
    with php.attach(php_key, 1 << 20, create=True) as segment:
        for call in (
            lambda: segment.put(1, deep),
            lambda: segment.update({1: deep}),
            lambda: segment.setdefault(1, deep),
            lambda: queue.send(deep),
        ):
            with pytest.raises(php.SerializeError, match="more than 4096 containers inside each other") as caught:
                call()
            said = str(caught.value)
            assert "larger max_depth" not in said and "max_depth = " not in said
            assert "Remedy: store php.dumps(value, max_depth=None), a string" in said
            assert "php.loads(…, max_depth=None) reads" in said and "unserialize(…, ['max_depth' => 0])" in said
        segment[1] = php.dumps(deep, max_depth=None)
        assert depth_of(php.loads(segment[1].encode(), max_depth=None)) == 5_000
        if real_php.available():
            code = "$v = unserialize(shm_get_var(shm_attach((int) $argv[1]), 1), ['max_depth' => 0]);"
            code += " for ($deep = 0; is_array($v); $deep++) $v = $v[0] ?? null; echo $deep;"
            assert real_php.run(code, segment.key).stdout == "5000"
        segment.destroy()
    queue.remove()
    with pytest.raises(php.SerializeError, match="Remedy: a larger max_depth"):
        php.dumps(deep)


def test_what_is_too_long_is_not_told_of_an_argument_that_a_put_does_not_have(php_key):
    code = """
        from shmvar import php
        segment = php.attach(int(key))
        part = b"x" * (64 << 20)
        try:
            segment[1] = [part] * 17
        except php.SerializeError as error:
            print(error)
        segment.destroy()
    """
    said = programs.run(code, php_key).stdout  # in a process of its own, for it takes a GiB
    assert said.startswith("value[15]: up to here the text has more than 1073741824 bytes, the most that is stored.")
    assert "Remedy: store parts of it" in said and "max_size" not in said


def depth_of(value):
    """How many lists are inside each other."""
    deep = 0
    while isinstance(value, list):
        value, deep = value[0] if value else None, deep + 1
    return deep


def test_a_message_that_is_no_text_is_told_with_all_there_is_to_know(php_key):
    queue = php.MessageQueue(php_key)
    queue.send(b"not serialized", 7, serialize=False)
    with pytest.raises(php.UnserializeError) as caught:
        queue.receive()
    said, message = str(caught.value), caught.value.message
    assert f"key {php_key}" in said and "type 7 was taken from the queue" in said and "its 14 bytes" in said
    assert message == (7, b"not serialized") and "error.message" in said and caught.value.offset == 0
    queue.send(b"not serialized", 7, serialize=False)
    assert "receive(unserialize=False)" in said and queue.receive(unserialize=False) == (7, b"not serialized")
    queue.remove()


@needs_root
def test_a_segment_of_another_user_is_named_with_owner_and_mode(php_key):
    segment = php.attach(php_key, 1000, 0o600, create=True)
    code = """
        from shmvar import php
        try:
            php.attach(int(key))
        except shmvar.SegmentAccessError as error:
            print(error)
    """
    options = programs.as_user()
    said = programs.run(code, php_key, **{**options, "drop": "from shmvar import php\n" + options["drop"]}).stdout
    assert "refuses user 65534: it belongs to uid 0 and has mode 0600; its owner, or root, has to remove it" in said
    segment.destroy()
