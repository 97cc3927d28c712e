"""shmvar as a store."""

import shmvar
from stores.store import Store


class Shmvar(Store):
    name = "shmvar"
    packages = ("shmvar",)
    can_add = can_wait = True
    way_to_add = "seg.add(i)"
    way_to_wait = "seg.wait(i)"

    def create(self) -> None:
        self.attach()
        self.segment["counter"] = 0

    def attach(self) -> None:
        self.segment = shmvar.attach(self.word, 1 << 30)
        self.get, self.put = self.segment.get, self.segment.put

    def first(self, key) -> float:
        return self.segment.view(key)[0]

    def add(self) -> None:
        self.segment.add("counter")

    def total(self) -> int:
        return self.segment["counter"]

    def receiver(self, key):
        segment, version = self.segment, self.segment.version(key)

        def receive():
            nonlocal version
            version = segment.wait(key, newer_than=version, timeout=10)
            return segment[key]

        return receive

    def close(self) -> None:
        self.segment.detach()

    def remove(self) -> None:
        shmvar.destroy(self.word)
