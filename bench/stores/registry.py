"""All stores, by name."""

from stores import memory, servers
from stores.ours import Shmvar
from stores.store import Store

ALL: dict[str, type[Store]] = {each.name: each for each in (Shmvar, *memory.STORES, *servers.STORES)}
