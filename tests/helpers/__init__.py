"""What the tests share: `helpers.run` and the like are of the first seven modules, the others are imported by name.

machine             users, namespaces, /dev/shm, open descriptors and maps
marks               marks for tests that need root, mounts or namespaces
programs            child processes that run a program
forks               child processes that are forked
threads             threads of the test's own process
waiting             waits with a limit
segment_file        the bytes of a segment, by docs/format.md

event_loops         a coroutine with a time limit
servers             Valkey or Redis, and a proxy before it that cuts
shown_html          the HTML of a display, taken apart by a strict reader
screens             a command on a terminal of some size, and what is on its screen
live_screens        the same for a program that draws on one screen for long
pages               the Python of README and of docs/, and a program that runs it as pasted
child_functions     what the children of multiprocessing run
installed_programs  servers and tools from the package index
process_trees       all that a process has started, and its end
browser             headless Chromium
jupyter             a Jupyter server
notebook_pages      a notebook in a page of the browser
arrays              arrays to store
array_kinds         arrays of every kind that numpy would copy, and is what was read equal to one?
array_opcodes       pickles of arrays that no pickler writes
data_only_values    values that the data-only decoder takes, as hypothesis draws them
indexes             what may stand for an index
kernels             kernels of IPython, as a notebook has them
main_classes        values of classes that another process's `__main__` defines, and every call that reads one
hostile_texts       texts that would command a terminal or a browser, and values that are bombs
local_doctor        `shmvar doctor` in a process of its own, and what it found
segment_damage      edits that damage a segment, and undo them
golden_dumps        the values of the golden dumps
in_place            is it written in place, a copy or plain, and is all its memory given back?
value_comparison    is a decoded value what pickle makes of it?
php                 real PHP: programs in it, and a process that evaluates what it is told
php_values          values that PHP can hold, as hypothesis draws them
php_damage          damaged PHP segments by the number, and what the document says of each
php_semaphores      PHP's semaphores, each step of opening one, without the code under test
php_texts           texts of PHP's `serialize`, and texts that PHP does not read
system_v            System V objects and the bytes of PHP's segments, without the code under test

caches              a cache that evicts by last use, exactly, and what programs ask a cache for
changes             what an iterator over changes has to tell
containers          containers of scalars, as the core and as pickle write and read them
clusters            servers that stand in for each other
failovers           what goes on while a primary is replaced
remote_queues       queues on a server
remote_locks        named locks on a server
server_doctor       what `shmvar doctor URL` found
near_caches         near caches of segments on a server
subscriptions       subscriptions to the channels of a segment on a server
"""

from helpers.forks import fork, in_child, kill, reap
from helpers.machine import (
    IS_ROOT,
    NOBODY,
    SHM,
    TESTS,
    count_descriptors,
    count_mappings,
    private_shm,
    unshare_works,
)
from helpers.programs import HOLD_A_LOCK, LOCKER, as_user, command, end, run, run_in_processes, start
from helpers.segment_file import CLASSES, GRANULE, ZONE, Leaf, Raw, path_of
from helpers.threads import in_threads
from helpers.waiting import looks, promptly, until


def __getattr__(name):
    """Imports the marks only for tests: child programs and children of multiprocessing use this package, too."""
    if name.startswith("needs_"):
        from helpers import marks

        return getattr(marks, name)
    raise AttributeError(name)
