"""The memory of what is written in place is never moved, by no trim, writer or thread; and what `info` counts of it."""

import os
import threading

import helpers
import numpy as np
import pytest
from helpers.arrays import MIB
from helpers.in_place import SIZE, freed, held

import shmvar


def taken(segment):
    """The bytes of the memory file system that the object takes."""
    return os.stat(helpers.path_of(segment)).st_blocks * 512


# --- who keeps it


def test_info_counts_what_is_held_spare_and_used(seg):
    field = seg.array(1, MIB)
    info = seg.info()
    assert info.used >= 8 * MIB and info.held == 0 and info.resident >= 8 * MIB <= taken(seg)
    seg.remove(1)
    info = seg.info()
    assert info.used == 0 and 8 * MIB <= info.held < 9 * MIB and info.resident >= 8 * MIB
    seg.trim()
    assert seg.info().held >= 8 * MIB and taken(seg) >= 8 * MIB
    del field
    seg["a change"] = 0
    info = seg.info()
    assert info.held == 0 and (info.spare >= 7 * MIB or info.resident < MIB)
    seg.trim()
    assert seg.info().spare <= MIB // 4 and taken(seg) < MIB


# --- trim and moving


def test_trim_and_what_moves_others_never_moves_it(key):
    with shmvar.attach(key, 1 << 30) as segment:
        fields, unheld = {}, {}
        for number in range(60):
            segment[f"large {number}"] = bytes([number]) * (300_000 + 7000 * number)
            segment[f"small {number}"] = bytes([number]) * 300
            if number % 6 == 0:
                fields[number] = segment.array(number, SIZE, initial=number)
            if number % 6 == 3:
                segment.array(number, SIZE, initial=number)
                unheld[number] = bytes([number]) * 100
                segment.buffer(f"raw {number}", 100)[:] = unheld[number]
        addresses = {number: field.ctypes.data for number, field in fields.items()}
        for turn in range(3):
            for number in range(turn, 60, 4):
                segment.remove(f"large {number}")
                segment.remove(f"small {number}")
            segment.trim()
            for number, field in fields.items():
                assert (field == number).all()
                field[turn] = -1.0
                again = segment.array(number)
                assert again[turn] == -1 and again.ctypes.data == addresses[number]
                again[turn] = number
                assert field[turn] == number
            for number, value in unheld.items():
                assert (segment.array(number) == number).all() and segment.buffer(f"raw {number}") == value
            segment.check()
        rest = [number for number in range(60) if number % 4 == 3]
        assert all(segment[f"large {n}"] == bytes([n]) * (300_000 + 7000 * n) for n in rest)
        assert all(segment[f"small {n}"] == bytes([n]) * 300 for n in rest)


def test_trim_gives_back_what_is_free_around_it(key):
    with shmvar.attach(key, 1 << 30) as segment:
        segment["large"] = bytes(64 * MIB)
        field = segment.array("field", SIZE)
        segment["more"] = bytes(64 * MIB)
        del segment["large"], segment["more"]
        segment.trim()
        assert taken(segment) < 3 * 8 * SIZE
        field[:] = 1
        assert (segment["field"] == 1).all()
        segment.check()


def test_writers_trims_and_other_values_at_the_same_time(key):
    with shmvar.attach(key, 1 << 30) as segment:
        fields = [segment.array(number, 20_000) for number in range(3)]
        stop = []

        def write(number):
            turn = 0
            while not stop:
                turn += 1
                fields[number][:] = turn
                assert (fields[number] == turn).all() and segment.array(number)[turn % 20_000] == turn

        def others():
            for turn in range(40):
                for number in range(10, 30):
                    if (turn + number) % 3:
                        segment[number] = bytes([turn]) * (number * 9000)
                    else:
                        segment.remove(number)
                segment.trim()
                for number in range(10, 30):
                    value = segment.get(number, b"")
                    assert value == value[:1] * len(value)
            stop.append(1)

        def work(number):
            try:
                (write if number < 3 else lambda _: others())(number)
            finally:
                stop.append(1)

        helpers.in_threads(work, 4)
        segment.check()


# --- threads of one process


@pytest.mark.parametrize("given", ["zeros", "initial"])
def test_threads_that_race_to_make_one_have_one_memory(key, given):
    count, rounds = 8, 40
    meet = threading.Barrier(count)
    winners = [set() for _ in range(rounds)]
    with shmvar.attach(key) as segment:

        def work(number):
            try:
                with shmvar.attach(key) as own:
                    handle = own if number % 2 else segment
                    for turn in range(rounds):
                        meet.wait(300)
                        if given == "zeros":
                            field = handle.array(turn, 5000, "i8")
                        else:
                            field = handle.array(turn, initial=np.full(5000, number + 1))
                        first = int(field[0])
                        assert (field[: 5000 - count] == first).all(), "half made"
                        field[5000 - 1 - number] = -1 - number
                        winners[turn].add(first)
                        meet.wait(300)
                        assert field[: -count - 1 : -1].tolist() == [-1 - n for n in range(count)]
            except BaseException:
                meet.abort()
                raise

        helpers.in_threads(work, count)
        assert all(len(each) == 1 for each in winners) and len(segment) == rounds
        assert held(segment) == 0
        segment.clear()
        freed(segment)


def test_threads_make_remove_replace_and_write_at_the_same_time(key):
    with shmvar.attach(key) as segment:
        stop = []

        def work(number):
            turn = 0
            try:
                while not stop:
                    turn += 1
                    try:
                        field = segment.array(turn % 3, initial=np.full(3000, 5))
                    except ValueError as error:
                        assert not isinstance(error, shmvar.Error), error  # a plain variable is there
                    else:
                        assert (field >= 5).all() and field.shape == (3000,)
                        field[number] += 1
                    if number == 0:
                        segment.remove(turn % 3)
                    elif number == 1:
                        segment[turn % 3] = b"\xff" * 30_000
                    elif number == 2 and turn % 5 == 0:
                        segment.clear()
                    if number == 0 and turn >= 500:
                        break
            finally:
                stop.append(1)

        helpers.in_threads(work, 4)
        segment.clear()
        freed(segment)
