"""The items of a load are those that were verified, and whatever ends it says how many there are."""

import io
import os
import signal
import threading

import helpers
import pytest

import shmvar
from shmvar import _dump as dumps
from shmvar._dump import items as kept
from shmvar.cli import main as cli


@pytest.fixture
def dump(new_key):
    with shmvar.attach(new_key()) as segment:
        segment["v"] = 1
        for number in range(50):
            segment.queue("jobs").put(b"item%03d" % number + bytes(10_000))
        file = io.BytesIO()
        segment.dump(file)
    return file.getvalue()


@pytest.mark.parametrize("memory", [8 << 20, 50_000])  # what is kept stays in memory, or goes to a file
@pytest.mark.parametrize("how", ["change", "rename", "cut", "fail"])
def test_a_file_that_changes_once_it_was_verified_is_no_matter(how, memory, seg, dump, monkeypatch):
    monkeypatch.setattr(kept, "_IN_MEMORY", memory)

    class Changing(io.BytesIO):
        def read(self, most=-1):
            data = super().read(most)
            if "v" not in seg:
                return data
            if how == "fail":
                raise OSError(5, "a disk that is broken")
            return {
                "change": data.replace(b"item0", b"EVIL0"),
                "rename": data.replace(b'"jobs"', b'"jabs"'),
                "cut": b"",
            }[how]

    assert seg.load(Changing(dump)) == 1
    queue = seg.queue("jobs")
    assert [queue.get_nowait()[:7] for _ in range(queue.qsize())] == [b"item%03d" % number for number in range(50)]
    assert seg.queue("jabs").qsize() == 0


def ending_at(at, error, monkeypatch):
    """The item of that number is not put."""
    put, count = kept._put_item, 0

    def puts(*args):
        nonlocal count
        count += 1
        if count > at:
            raise error
        put(*args)

    monkeypatch.setattr(kept, "_put_item", puts)


@pytest.mark.parametrize(
    "error", [OSError(5, "broken"), KeyboardInterrupt(), shmvar.SegmentBusyError("busy"), MemoryError("none left")]
)
def test_whatever_ends_a_load_says_how_many_items_there_are(error, seg, dump, monkeypatch):
    ending_at(7, error, monkeypatch)
    with pytest.raises(type(error)) as caught:
        seg.load(io.BytesIO(dump))
    text = " ".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    assert "all variables and 7 of 50 items were loaded" in text
    assert seg["v"] == 1 and seg.queue("jobs").qsize() == 7


def test_the_command_line_says_so_too(seg, key, dump, monkeypatch, tmp_path, capsys):
    (tmp_path / "dump").write_bytes(dump)
    for error in (OSError(5, "broken"), shmvar.SegmentBusyError("busy"), shmvar.SegmentFullError("full", 1, 0, 1)):
        monkeypatch.undo()
        ending_at(3, error, monkeypatch)
        assert cli.main(["load", key, str(tmp_path / "dump")]) == 1
        said = capsys.readouterr().err
        assert "all variables and 3 of 50 items were loaded" in said and "nothing was loaded" not in said


def test_a_writer_that_is_stopped_for_some_seconds_is_waited_for(seg, key, dump, children, monkeypatch):
    """Any other change waits for 10 s."""
    holder = helpers.start(
        """
        segment = shmvar.attach(key)
        print("ready", flush=True)
        while True:
            segment.update(dict.fromkeys(range(2000), "x" * 100))
        """,
        key,
    )
    children.append(holder)
    put, stopped = kept._put_item, []

    def stopping(*args):
        if not stopped:
            os.kill(holder.pid, signal.SIGSTOP)
            stopped.append(threading.Timer(2, os.kill, (holder.pid, signal.SIGCONT)))
            stopped[0].start()
        put(*args)

    monkeypatch.setattr(kept, "_put_item", stopping)
    seg.load(io.BytesIO(dump))
    stopped[0].join()
    assert seg.queue("jobs").qsize() == 50


def test_a_file_that_changes_while_it_is_loaded_into_a_server_is_told(dump):
    """There is no batch on a server: what was read is stored already."""

    class Server:
        stored = ()

        def put_many(self, values):
            assert values == {}

        def _put_stored(self, index, *_):
            self.stored += (index,)

        def queue(self, name):
            return self

        def _put_pickle(self, pickle):
            self.stored += (pickle,)

    class Changing(io.BytesIO):
        def seek(self, at, whence=0):
            self.begun += at == 0 and whence == 0
            return super().seek(at, whence)

        def read(self, most=-1):
            data = super().read(most)
            return data.replace(b"item0", b"EVIL0") if self.begun > 2 else data

        begun = 0

    server = Server()
    with pytest.raises(shmvar.DumpError, match="51 of 51 variables and items were loaded"):
        dumps.load(server, Changing(dump))
    assert len(server.stored) == 51
