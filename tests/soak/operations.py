"""The table of what the processes of a soak do. A new operation is a function of a worker and a line here."""

from collections.abc import Callable
from typing import NamedTuple

from soak import atomic_operations as atomic
from soak import change_operations
from soak import child_operations as children
from soak import eviction_operations as evictions
from soak import in_place_operations as in_place
from soak import queue_operations as queues
from soak import segment_operations as segments
from soak import variable_operations as variables
from soak.worker import Worker


class Operation(NamedTuple):
    """A line of the table. `share`: how often it is done, compared with the others."""

    name: str
    share: int
    run: Callable[[Worker], None]


OPERATIONS = [
    Operation("put", 300, variables.put),
    Operation("put, read back", 100, variables.assign_and_read_back),
    Operation("put, 30 times", 100, variables.replace_at_once),
    Operation("put, interrupted", 40, variables.interrupted_put),
    Operation("remove", 80, variables.remove),
    Operation("pop", 60, variables.pop),
    Operation("setdefault", 60, variables.setdefault),
    Operation("update", 60, variables.update),
    Operation("threads", 10, variables.threads),
    Operation("get", 200, variables.get),
    Operation("get, held", 100, variables.get_and_hold),
    Operation("get, read-only", 100, variables.get_read_only),
    Operation("view", 150, variables.view),
    Operation("views held", 60, variables.look_at_held),
    Operation("has", 60, variables.has),
    Operation("iterate", 10, variables.iterate),
    Operation("keys, len", 40, variables.keys_and_len),
    Operation("stat", 60, variables.stat),
    Operation("info", 10, variables.info),
    Operation("crowd", 150, variables.crowd),
    Operation("queue", 150, variables.queue),
    Operation("add", 60, atomic.add),
    Operation("add, long ints", 40, atomic.add_to_long),
    Operation("compare_and_put", 60, atomic.compare),
    Operation("modify", 60, atomic.modify),
    Operation("lock", 60, atomic.locked),
    Operation("compare_and_put, own", 60, atomic.compare_own),
    Operation("swap, own", 60, atomic.swap_own),
    Operation("put_many", 80, atomic.put_group),
    Operation("get_many", 150, atomic.get_group),
    Operation("wait", 40, atomic.wait),
    Operation("put, then wait", 40, atomic.wait_for_own),
    Operation("changes", 30, change_operations.changes),
    Operation("expire", 60, atomic.expire),
    Operation("expire, anew", 60, atomic.expire_anew),
    Operation("expired", 60, atomic.expired),
    Operation("item, put", 120, queues.put),
    Operation("item, take", 120, queues.take),
    Operation("item, get", 40, queues.get),
    Operation("items, look", 15, queues.look),
    Operation("resize", 8, segments.resize),
    Operation("trim", 8, segments.trim),
    Operation("attach", 20, segments.attach),
    Operation("handle by pickle", 10, segments.handle_by_pickle),
    Operation("side segment", 30, segments.side),
    Operation("clear", 20, segments.clear),
    Operation("in place, write", 60, in_place.write),
    Operation("in place, look", 30, in_place.look),
    Operation("in place, remove", 15, in_place.remove),
    Operation("cache, store", 100, evictions.store),
    Operation("cache, batch", 40, evictions.batch),
    Operation("cache, read", 60, evictions.read),
    Operation("cache, others", 40, evictions.others),
    Operation("cache, follow", 20, evictions.follow),
    Operation("touch", 30, in_place.touch),
    Operation("in place, expire", 30, in_place.expire),
    Operation("fork", 25, children.fork),
    Operation("fork twice", 5, children.fork_twice),
    Operation("spawn", 1, children.spawn),
]
