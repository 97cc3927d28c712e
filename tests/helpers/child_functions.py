"""Functions that children of multiprocessing import, with any start method."""

import os

import shmvar


def put(segment, index, value):
    segment[index] = value


def put_own_pid(segment, index):
    segment[index] = os.getpid()
    return segment.key, segment.readonly, segment.trusted, segment.size


def read(segment, index):
    return segment[index]


def try_put(segment):
    try:
        segment[1] = 1
    except shmvar.Error as error:
        return type(error).__name__
    return "stored"


def count(segment, first, amount):
    for index in range(first, first + amount):
        segment[index] = index


def same_segment(segment):
    return segment


def double(jobs, done):
    while True:
        with jobs.take() as number:
            if number is None:
                return
            done.put(2 * number)


def receive_from_php(key):
    return shmvar.php.MessageQueue(key).receive(timeout=60)
