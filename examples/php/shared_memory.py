"""shared_memory.php in Python, over the same segment: either of the two sends, either of them gets.

python examples/php/shared_memory.py send 1 "Hello, world"
python examples/php/shared_memory.py get 1
python examples/php/shared_memory.py delete 1        one variable
python examples/php/shared_memory.py delete          the whole segment; its semaphore stays, for others may be waiting
"""

import sys

import shmvar
from shmvar import php

KEY = 987654
SIZE = 1024
PERMISSIONS = 0o666

USAGE = """\
Usage: shared_memory.py send <integer identifier> <value>
       shared_memory.py get <integer identifier>
       shared_memory.py delete [<integer identifier>]"""


def main(arguments: list[str]) -> int:
    action, *rest = arguments or [""]
    try:
        identifier = int(rest[0]) if rest else 0
    except ValueError:
        return usage()
    if identifier.bit_length() > 63:
        return usage()
    # Nobody else may be in the middle of a change: a segment of PHP's has no lock of its own.
    semaphore = php.sem_get(KEY, 1, PERMISSIONS)
    php.sem_acquire(semaphore)
    segment = php.shm_attach(KEY, SIZE, PERMISSIONS)
    match action, rest:
        case "send", [_, value]:
            return send(segment, identifier, value)
        case "get", [_]:
            return get(segment, identifier)
        case "delete", [_]:
            return delete(segment, identifier)
        case "delete", []:
            return delete_all(segment)
    return usage()


def usage() -> int:
    print(USAGE, file=sys.stderr)
    return 2


def send(segment: php.Segment, identifier: int, value: str) -> int:
    try:
        php.shm_put_var(segment, identifier, value)
    except shmvar.SegmentFullError as error:
        print(f"The value is too large, and an old one stays: {error}", file=sys.stderr)
        return 1
    print("Message sent to shared memory segment.")
    return 0


def get(segment: php.Segment, identifier: int) -> int:
    try:
        value = php.shm_get_var(segment, identifier)
    except KeyError:
        return missing(identifier)
    print(f"Received data: {value}")
    return 0


def delete(segment: php.Segment, identifier: int) -> int:
    try:
        php.shm_remove_var(segment, identifier)
    except KeyError:
        return missing(identifier)
    print("Shared memory segment content deleted.")
    return 0


def delete_all(segment: php.Segment) -> int:
    php.shm_remove(segment)
    print("Shared memory segment content deleted.")
    return 0


def missing(identifier: int) -> int:
    print(f"There is nothing under {identifier}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
