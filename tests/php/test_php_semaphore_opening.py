"""Opening PHP's semaphores: wrong arguments, what is none of PHP's, other users, and kills at every step."""

import os

import helpers
import pytest
from helpers import php_semaphores, programs, system_v

import shmvar
from shmvar import php


def as_user():
    """Options for a program of another user. It imports what it needs before it becomes that user."""
    options = programs.as_user()
    return {**options, "drop": "from shmvar import php\n" + options["drop"]}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((0,), ValueError, "key 0 is no key"),
        ((2**32,), ValueError, "beyond 32 bits"),
        ((-(2**31) - 1,), ValueError, "beyond 32 bits"),
        ((10**30,), ValueError, "beyond 32 bits"),
        ((True,), TypeError, "must be an int, not bool"),
        (("1",), TypeError, "must be an int, not str"),
        ((1.0,), TypeError, "must be an int, not float"),
        ((None,), TypeError, "must be an int, not NoneType"),
        ((5, 0), ValueError, "1 to 32767: not 0"),
        ((5, -1), ValueError, "1 to 32767: not -1"),
        ((5, 32768), ValueError, "1 to 32767: not 32768"),
        ((5, 2**70), ValueError, "1 to 32767: not a larger number"),
        ((5, -(2**70)), ValueError, "1 to 32767: not a smaller number"),
        ((5, "1"), TypeError, "must be an int, not str"),
        ((5, 1, 0o1000), ValueError, "nine bits"),
        ((5, 1, -1), ValueError, "nine bits"),
        ((5, 1, "0666"), TypeError, "must be an int, not str"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_made(arguments, error, text):
    before = system_v.objects()
    with pytest.raises(error, match=text):
        php.Semaphore(*arguments)
    assert system_v.objects() == before


def test_keys_of_the_upper_half_are_the_negative_ones(php_key):
    key = php_key | 0x8000_0000
    try:
        semaphore = php.Semaphore(key)
        assert semaphore.key == key - 2**32 == php.Semaphore(key - 2**32).key
    finally:
        system_v.remove(system_v.objects({key - 2**32}))


@pytest.mark.parametrize("wrong", [-1, float("nan"), "x", b"1"])
def test_a_wrong_timeout_is_refused(php_key, wrong):
    semaphore = php.Semaphore(php_key)
    with pytest.raises((ValueError, TypeError)):
        semaphore.acquire(wrong)
    assert semaphore.held == 0
    assert semaphore.acquire(float("inf")) and semaphore.acquire(1e300)


@pytest.mark.parametrize("count", [1, 2])
def test_a_set_of_another_program_is_refused_and_stays_as_it_is(php_key, count):
    identity = php_semaphores.get(php_key, count)
    with pytest.raises(shmvar.IncompatibleSegmentError, match=f"{php_key} .*fewer than 3 semaphores"):
        php.Semaphore(php_key)
    assert php_semaphores._libc.semctl(identity, 0, php_semaphores.GETVAL) == 0


@helpers.needs_root
def test_without_permission_the_error_names_owner_and_mode(php_key):
    semaphore = php.Semaphore(php_key, 1, 0o600)
    code = """
        from shmvar import php
        try:
            php.Semaphore(int(key))
        except shmvar.SegmentAccessError as error:
            print(error)
    """
    said = programs.run(code, php_key, **as_user()).stdout
    assert (
        "user 65534" in said
        and f"key {php_key}" in said
        and f"uid 0 and has mode 0600; its owner, or root, has to remove it (ipcrm -S 0x{php_key:08x})" in said
    )
    assert semaphore.acquire(0)


@helpers.needs_root
def test_a_right_that_is_not_needed_is_not_asked_for(php_key):
    php.Semaphore(php_key, 1, 0o666).close()
    code = """
        from shmvar import php
        for permissions in (0o777, 0o666):
            try:
                print(php.Semaphore(int(key), 1, permissions).acquire(0))
            except shmvar.SegmentAccessError as error:
                print(error)
    """
    said = programs.run(code, php_key, **as_user()).stdout.splitlines()
    assert "uid 0 and has mode 0666" in said[0] and said[0].endswith("ask for 0o666") and said[1] == "True"


@helpers.needs_root
def test_another_user_may_use_it_and_not_remove_it(php_key):
    php.Semaphore(php_key, 1, 0o666).close()
    code = """
        from shmvar import php
        semaphore = php.Semaphore(int(key))
        with semaphore:
            try:
                semaphore.remove()
            except shmvar.SegmentAccessError as error:
                print(error)
    """
    said = programs.run(code, php_key, **as_user()).stdout
    assert "belongs to uid 0 and has mode 0666; only its owner" in said


@helpers.needs_root
@pytest.mark.skipif(not system_v.private_namespace(), reason="changes the limits of an IPC namespace")
def test_where_the_machine_has_no_more_semaphores_the_error_has_its_limits(php_key):
    with open("/proc/sys/kernel/sem") as file:
        before = file.read()
    try:
        with open("/proc/sys/kernel/sem", "w") as file:
            file.write("3 3 10 1")
        php_semaphores.get(php_key + 1)
        with pytest.raises(shmvar.SegmentSystemError, match="1 sets and 3 semaphores, /proc/sys/kernel/sem") as caught:
            php.Semaphore(php_key)
        assert caught.value.errno == 28
    finally:
        with open("/proc/sys/kernel/sem", "w") as file:
            file.write(before)
        system_v.remove(system_v.objects({php_key + 1}))


STEPS = [
    (),
    (php_semaphores.enter,),
    (php_semaphores.enter, lambda identity: php_semaphores.set_up(identity, 1)),
    (php_semaphores.enter, lambda identity: php_semaphores.set_up(identity, 1), php_semaphores.leave_set_up),
]


@pytest.mark.parametrize("opened", [0, 1])
@pytest.mark.parametrize("steps", range(len(STEPS)))
def test_a_kill_at_any_step_of_opening_is_repaired_by_whoever_opens_next(php_key, steps, opened):
    identity = php_semaphores.get(php_key)
    holder = php.Semaphore(php_key) if opened else None
    if holder:
        holder.acquire()

    def die():
        for step in STEPS[steps]:
            step(identity)
        os.kill(os.getpid(), 9)

    assert helpers.reap(helpers.fork(die)) == -9
    semaphore = php.Semaphore(php_key)
    assert php_semaphores.values(identity) == (1 - opened, 1 + opened, 0)
    assert semaphore.acquire(0) is not bool(opened)


def test_kills_at_random_moments_leave_the_values_right(php_key):
    """Whatever processes open, hold and close: killed, they leave one free place and no open handle."""
    first = php.Semaphore(php_key)
    identity = first.id
    first.close()

    def work():
        while True:
            with php.Semaphore(php_key):
                pass

    for turn in range(60):
        children = [helpers.fork(work) for _ in range(2)]
        helpers.waiting.time.sleep(0.002 + turn % 7 * 0.003)
        for child in children:
            helpers.kill(child)
        places, handles, opening = php_semaphores.values(identity)
        assert (handles, opening) == (0, 0)
        semaphore = php.Semaphore(php_key)
        assert php_semaphores.values(identity) == (1, 1, 0)
        assert semaphore.acquire(0), (turn, places)
        semaphore.close()
