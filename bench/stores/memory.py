"""Stores in shared memory: multiprocessing's own, and packages."""

import contextlib
import ctypes
import os
import pickle
import struct
from functools import partial
from typing import Annotated

import numpy as np

from stores.store import Store
from stores.values import COUNT, MIB, ROOM, codec, example


class OfSharedMemory(Store):
    """Slots of one size in a block of `multiprocessing.shared_memory`; nothing keeps a reader from a writer."""

    def create(self) -> None:
        from multiprocessing import shared_memory

        self.block = shared_memory.SharedMemory(self.word, create=True, size=ROOM[self.kind] * len(self.keys))
        self.open()

    def attach(self) -> None:
        from multiprocessing import shared_memory

        self.block = shared_memory.SharedMemory(self.word)
        self.open()

    def open(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        with contextlib.suppress(BufferError):
            self.block.close()

    def remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.block.unlink()


class SharedPickle(OfSharedMemory):
    name = "SharedMemory + pickle"

    def open(self) -> None:
        buffer, size, dumps, loads = self.block.buf, ROOM[self.kind], pickle.dumps, pickle.loads
        length = struct.Struct("<q")
        pack_into, unpack_from = length.pack_into, length.unpack_from

        def get(key):
            at = key * size
            (count,) = unpack_from(buffer, at)
            return loads(buffer[at + 8 : at + 8 + count])

        def put(key, value):
            data, at = dumps(value, 5), key * size
            buffer[at + 8 : at + 8 + len(data)] = data
            pack_into(buffer, at, len(data))

        self.get, self.put = get, put


class SharedNumpy(OfSharedMemory):
    name = "SharedMemory + numpy"
    kinds = ("bytes", "array")

    def open(self) -> None:
        buffer, size = self.block.buf, ROOM[self.kind]
        if self.kind == "bytes":
            length = len(example("bytes", 0))
            self.get = lambda key: bytes(buffer[key * size : key * size + length])

            def put(key, value):
                buffer[key * size : key * size + length] = value

            self.put = put
            return
        self.array = lambda key: np.ndarray(MIB // 8, np.float64, buffer, key * size)
        self.get = lambda key: self.array(key).copy()
        self.put = lambda key, value: np.copyto(self.array(key), value)

    def first(self, key) -> float:
        return self.array(key)[0]


class UltraDictStore(Store):
    name = "UltraDict"
    note = "each process keeps a copy of everything; a get returns that copy's own object, the same each time"
    packages = ("UltraDict", "atomics", "psutil")
    can_add = True
    way_to_add = "with d.lock"

    def create(self) -> None:
        self.open(create=True, buffer_size=4 << 20, full_dump_size=64 << 20)
        self.table["counter"] = 0

    def attach(self) -> None:
        self.open(create=False, buffer_size=4 << 20)

    def open(self, **options) -> None:
        from UltraDict import UltraDict

        self.table = UltraDict(name=self.word, shared_lock=True, auto_unlink=False, **options)
        self.get, self.put = self.table.__getitem__, self.table.__setitem__

    def add(self) -> None:
        with self.table.lock:
            self.table["counter"] += 1

    def total(self) -> int:
        return self.table["counter"]

    def remove(self) -> None:
        self.table.unlink()


class EasyGlobalsStore(Store):
    name = "EasyGlobals"
    note = "one writer for each variable"
    packages = ("EasyGlobals",)
    can_wait = one_writer = True
    way_to_wait = "g.wait_change(k), which polls with sleeps"
    way_to_add = "none: one writer for each variable"

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.keys = [f"k{number}" for number in self.keys]

    def create(self) -> None:
        self.attach()

    def attach(self) -> None:
        from EasyGlobals import Globals

        self.globals = Globals(self.word)
        self.get, self.put = self.globals.__getitem__, self.globals.__setitem__

    def receiver(self, key):
        return partial(self.globals.wait_change, key, 10)

    def close(self) -> None:
        self.globals.close()


class SharedBoxStore(Store):
    name = "sharedbox"
    packages = ("sharedbox",)
    can_wait = True
    way_to_wait = "box.watch(field)"
    note = "at most 256 fields of declared types; dicts as pickles"

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.keys = [f"f{number}" for number in self.keys]

    def box_class(self):
        from sharedbox import Capacity, DType, Shape, SharedBox

        of_kind = {
            "int": int,
            "str": Annotated[str, Capacity(ROOM["str"])],
            "dict": Annotated[bytes, Capacity(ROOM["dict"])],
            "bytes": Annotated[bytes, Capacity(ROOM["bytes"])],
            "array": Annotated[np.ndarray, Shape(MIB // 8), DType("float64")],
        }[self.kind]
        names = {"__annotations__": dict.fromkeys(self.keys, of_kind), "__module__": __name__}
        return type(SharedBox)("Measured", (SharedBox,), names)

    def create(self) -> None:
        encode = codec("dict")[0] if self.kind == "dict" else lambda value: value
        values = [encode(example(self.kind, number)) for number in range(len(self.keys))]
        self.open(self.box_class().create(self.word, *values))

    def attach(self) -> None:
        self.open(self.box_class().attach(self.word))

    def open(self, box) -> None:
        self.box = box
        if self.kind != "dict":
            self.get, self.put = partial(getattr, box), partial(setattr, box)
            return
        encode, decode = codec("dict")
        self.get = lambda key: decode(getattr(box, key))
        self.put = lambda key, value: setattr(box, key, encode(value))

    def receiver(self, key):
        return iter(self.box.watch(key)).__next__

    def close(self) -> None:
        self.box.close()

    def remove(self) -> None:
        type(self.box).unlink(self.word)


class Subetha(Store):
    name = "subetha-ipc"
    packages = ("subetha-ipc",)
    can_add = can_wait = True
    way_to_add = "Atomic.fetch_add, an object of its own"
    way_to_wait = "Condvar, an object of its own"
    note = "values of one size"

    def create(self) -> None:
        self.open()

    def attach(self) -> None:
        self.open()

    def open(self) -> None:
        import subetha

        path, count, kind = str(self.where / self.word), COUNT[self.kind], self.kind
        size = {"bytes": 1 << 14, "array": MIB}.get(kind, ROOM[kind])
        make = subetha.Slab.open if os.path.exists(path) else subetha.Slab
        self.slab, (encode, decode) = make(path, count, size), codec(kind)
        get, put = self.slab.get, self.slab.set
        if kind == "bytes":
            self.get, self.put = get, put
        elif kind == "array":
            self.get, self.put = lambda key: decode(get(key)), lambda key, value: put(key, value.tobytes())
        else:
            self.get, self.put = lambda key: decode(get(key)), lambda key, value: put(key, encode(value).ljust(size))
        counter = f"{path}-counter"
        self.counter = (subetha.Atomic.open if os.path.exists(counter) else subetha.Atomic)(counter)
        self.add, self.total = self.counter.fetch_add, self.counter.load
        self.conditions: dict = {}

    def condition(self, key):
        import subetha

        if key not in self.conditions:
            path = f"{self.where / self.word}-condition-{key}"
            self.conditions[key] = (subetha.Condvar.open if os.path.exists(path) else subetha.Condvar)(path)
        return self.conditions[key]

    def send(self, key, value) -> None:
        self.put(key, value)
        self.condition(key).notify_all()

    def receiver(self, key):
        condition, last = self.condition(key), self.get(key)

        def receive():
            nonlocal last
            condition.wait_for(lambda: self.get(key) != last, 10)
            last = self.get(key)
            return last

        return receive


class Iceoryx2(Store):
    name = "iceoryx2"
    packages = ("iceoryx2",)
    one_writer = True
    way_to_add = "none: one writer for each entry"
    note = "the blackboard: values of one size, one writer for each"

    def node(self):
        import iceoryx2 as iox2

        iox2.set_log_level(iox2.LogLevel.Fatal)
        config = iox2.config.default()
        config.global_cfg.root_path = iox2.Path.new(str(self.where))
        config.global_cfg.prefix = iox2.FileName.new(f"{self.word[:24]}_")
        return iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)

    def builder(self):
        import iceoryx2 as iox2

        size = {"bytes": 1 << 14, "array": MIB}.get(self.kind, ROOM[self.kind])
        self.block = type("Block", (ctypes.Structure,), {"_fields_": [("data", ctypes.c_ubyte * size)]})
        self.kept = self.node()
        return self.kept.service_builder(iox2.ServiceName.new(self.word))

    def create(self) -> None:
        adding = self.builder().blackboard_creator(ctypes.c_uint64)
        for key in self.keys:
            adding = adding.add(ctypes.c_uint64(key), self.block())
        self.open(adding.create())

    def attach(self) -> None:
        self.open(self.builder().blackboard_opener(ctypes.c_uint64).open())

    def open(self, service) -> None:
        self.service, (encode, decode) = service, codec(self.kind)
        reader, self.writer = service.reader_builder().create(), None
        self.reader = reader
        readers = {key: reader.entry(ctypes.c_uint64(key), self.block) for key in self.keys}
        writers: dict = {}
        own, move = self.block(), ctypes.memmove
        place = ctypes.addressof(own)

        def writing(key):
            if self.writer is None:
                self.writer = service.writer_builder().create()
            writers[key] = self.writer.entry(ctypes.c_uint64(key), self.block)
            return writers[key]

        def put(key, value):
            data = encode(value)
            move(place, bytes(data) if isinstance(data, memoryview) else data, len(data))
            (writers.get(key) or writing(key)).update_with_copy(own)

        self.get, self.put = lambda key: decode(readers[key].get().data), put

    def close(self) -> None:
        self.get = self.put = self.reader = self.writer = self.service = self.kept = None


STORES = SharedPickle, SharedNumpy, UltraDictStore, EasyGlobalsStore, SharedBoxStore, Subetha, Iceoryx2
