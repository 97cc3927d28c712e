"""`shm_attach` and the others: PHP's names and argument order, an error where PHP warns; and `ftok`."""

import inspect
import os

import helpers
import pytest
from helpers import php as real_php
from helpers import system_v

import shmvar
from shmvar import php


def test_the_functions_do_what_phps_do(php_key):
    shm = php.shm_attach(php_key)
    assert isinstance(shm, php.Segment) and shm.size == 10_000 and system_v.permissions_of(php_key) == 0o666
    assert php.shm_has_var(shm, 1) is False
    assert php.shm_put_var(shm, 1, {"a": [1, 2.5, None]}) is True
    assert php.shm_has_var(shm, 1) is True and php.shm_get_var(shm, 1) == {"a": [1, 2.5, None]}
    assert php.shm_put_var(shm, 2, False) is True and php.shm_get_var(shm, 2) is False
    assert php.shm_remove_var(shm, 1) is True and php.shm_has_var(shm, 1) is False
    assert php.shm_remove(shm) is True and php.shm_get_var(shm, 2) is False
    other = php.shm_attach(php_key, 500, 0o600)
    assert other.id != shm.id and other.size == 500 and system_v.permissions_of(php_key) == 0o600
    assert php.shm_attach(php_key, None).id == other.id
    assert php.shm_detach(shm) is True and php.shm_remove(other) is True


def test_they_raise_where_php_warns(php_key):
    shm = php.shm_attach(php_key, 200)
    for call in (php.shm_get_var, php.shm_remove_var):
        with pytest.raises(KeyError) as caught:
            call(shm, 5)
        assert caught.value.args == (5,)
    php.shm_put_var(shm, 1, "old")
    with pytest.raises(shmvar.SegmentFullError):
        php.shm_put_var(shm, 1, "x" * 500)
    with pytest.raises(php.SerializeError):
        php.shm_put_var(shm, 1, lambda: None)
    assert php.shm_get_var(shm, 1) == "old"
    for wrong in (0, 2**32, -(2**31) - 1):
        with pytest.raises(ValueError):
            php.shm_attach(wrong)
    with pytest.raises(ValueError):
        php.shm_attach(php_key, 0)
    php.shm_remove(shm)
    php.shm_detach(shm)
    for call in (php.shm_detach, php.shm_remove, lambda shm: php.shm_put_var(shm, 1, 1)):
        with pytest.raises(shmvar.DetachedError):
            call(shm)


FUNCTIONS = [
    php.shm_detach,
    php.shm_remove,
    lambda shm: php.shm_has_var(shm, 1),
    lambda shm: php.shm_get_var(shm, 1),
    lambda shm: php.shm_put_var(shm, 1, 1),
    lambda shm: php.shm_remove_var(shm, 1),
]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_they_take_handles_of_phps_segments_alone(function, seg):
    for wrong in (None, 5, "x", {1: 1}, seg):
        with pytest.raises(TypeError, match=r"php\.Segment"):
            function(wrong)
    assert seg == {} and not seg.detached


def test_arguments_have_phps_names_and_order():
    expected = {
        "shm_attach": ["key", "size", "permissions"],
        "shm_detach": ["shm"],
        "shm_remove": ["shm"],
        "shm_has_var": ["shm", "key"],
        "shm_put_var": ["shm", "key", "value"],
        "shm_get_var": ["shm", "key"],
        "shm_remove_var": ["shm", "key"],
        "ftok": ["filename", "project_id"],
    }
    for name, arguments in expected.items():
        function = getattr(php, name)
        assert list(inspect.signature(function).parameters) == arguments and function.__doc__, name


def test_every_public_name_is_there_and_has_a_docstring():
    assert sorted(set(php.__all__)) == sorted(php.__all__) and php.__doc__
    for name in php.__all__:
        member = getattr(php, name)
        assert isinstance(member, int) or member.__doc__, name
        if isinstance(member, type):
            assert member.__module__.startswith("shmvar.php"), name


def test_importing_the_package_alone_makes_nothing_of_phps():
    helpers.run("assert not [name for name in sys.modules if name.startswith('shmvar.php')]")


# --- ftok


def test_ftok_is_made_of_project_device_and_inode(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    stat = os.stat(file)
    low = (stat.st_dev & 0xFF) << 16 | stat.st_ino & 0xFFFF
    assert php.ftok(file, "t") == php.ftok(str(file), b"t") == php.ftok(os.fsencode(file), "t") == 0x74000000 | low
    assert php.ftok(file, b"\x80") == (0x80000000 | low) - 2**32 < 0
    assert php.ftok(file, b"\xff") == (0xFF000000 | low) - 2**32
    assert php.ftok(file, b"\0") == low
    assert php.ftok(tmp_path, "a") != php.ftok(file, "a")
    assert php.ftok(file, "t") == shmvar.ftok(file, "t")


def test_ftok_refuses_what_php_refuses(tmp_path):
    for project in ("", "tt", b"", b"tt", "é"):
        with pytest.raises(ValueError, match="one byte"):
            php.ftok(tmp_path, project)
    with pytest.raises(ValueError, match="empty"):
        php.ftok("", "t")
    with pytest.raises(FileNotFoundError):
        php.ftok(tmp_path / "none", "t")
    with pytest.raises(ValueError):
        php.ftok("a\0b", "t")
    for filename, project in ((5, "t"), (None, "t"), (tmp_path, 5), (tmp_path, None)):
        with pytest.raises(TypeError):
            php.ftok(filename, project)


@helpers.needs_php
def test_ftok_is_phps(tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    code = "foreach (str_split($argv[2]) as $project) echo ftok($argv[1], $project), ' ';"
    printed = real_php.run(code, file, "aZ0~").stdout.split()
    assert list(map(int, printed)) == [php.ftok(file, project) for project in "aZ0~"]
    code = 'echo ftok($argv[1], "\\x80"), " ", ftok($argv[1], "\\xff");'
    printed = real_php.run(code, file).stdout.split()
    assert list(map(int, printed)) == [php.ftok(file, b"\x80"), php.ftok(file, b"\xff")]
