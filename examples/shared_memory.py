"""Send a value to any other process, by number.

python examples/shared_memory.py send 1 "Hello, world"
python examples/shared_memory.py get 1
python examples/shared_memory.py delete 1        one variable
python examples/shared_memory.py delete          the whole segment
"""

import sys

import shmvar

KEY = 987654
SIZE = 1024
PERMISSIONS = 0o666

USAGE = """\
Usage: shared_memory.py send <integer identifier> <value>
       shared_memory.py get <integer identifier>
       shared_memory.py delete [<integer identifier>]"""


def main(arguments: list[str]) -> int:
    action, *rest = arguments or [""]
    if rest:
        try:
            identifier = int(rest[0])
        except ValueError:
            return usage()
        if identifier.bit_length() > 63:
            return usage()
    match action, rest:
        case "send", [_, value]:
            return send(identifier, value)
        case "get", [_]:
            return get(identifier)
        case "delete", [_]:
            return delete(identifier)
        case "delete", []:
            return delete_all()
    return usage()


def usage() -> int:
    print(USAGE, file=sys.stderr)
    return 2


def attach() -> shmvar.Segment:
    return shmvar.shm_attach(KEY, SIZE, PERMISSIONS)


def send(identifier: int, value: str) -> int:
    try:
        shmvar.shm_put_var(attach(), identifier, value)
    except shmvar.SegmentFullError as error:
        print(f"The value is too large: {error}", file=sys.stderr)
        return 1
    print("Message sent to shared memory segment.")
    return 0


def get(identifier: int) -> int:
    try:
        value = shmvar.shm_get_var(attach(), identifier)
    except KeyError:
        return missing(identifier)
    print(f"Received data: {value}")
    return 0


def delete(identifier: int) -> int:
    try:
        shmvar.shm_remove_var(attach(), identifier)
    except KeyError:
        return missing(identifier)
    print("Shared memory segment content deleted.")
    return 0


def delete_all() -> int:
    shmvar.shm_remove(attach())
    print("Shared memory segment content deleted.")
    return 0


def missing(identifier: int) -> int:
    print(f"There is nothing under {identifier}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
