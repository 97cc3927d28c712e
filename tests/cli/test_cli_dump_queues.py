"""`shmvar dump` and `load` of queues: items keep their order, and a damaged dump loads none."""

import hashlib
import json
import threading

import pytest

import shmvar
from shmvar.cli import main as cli


class Evil:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        raise_it = AssertionError("unpickled")
        return exec, (f"raise {raise_it!r}",)


def test_items_come_back_in_order_what_is_taken_as_if_it_waited(seg, key, new_key, tmp_path):
    values = ["first", b"x" * 70_000, {"a": [1, 2]}, bytearray(9_000), None]
    for name in ("jobs", 5, "5", "", -(2**63)):
        for value in values:
            seg.queue(name).put(value)
    seg["jobs"] = "a variable"
    again, path = new_key(), str(tmp_path / "dump")
    taken = [seg.queue("jobs").take() for _ in range(2)]
    assert [item.__enter__() for item in taken] == values[:2]
    assert cli.main(["dump", key, path]) == 0
    for item in taken:
        item.__exit__(ValueError)
    assert [seg.queue("jobs").get() for _ in values] == values  # a dump takes nothing out
    for turn in (1, 2):
        assert cli.main(["load", again, path]) == 0
        with shmvar.attach(again, create=False) as loaded:
            assert dict(loaded) == {"jobs": "a variable"} and loaded.queue("jobs").qsize() == 5 * turn
            loaded.check()
    with shmvar.attach(again, create=False) as loaded:
        for name in ("jobs", 5, "5", "", -(2**63)):
            assert [loaded.queue(name).get() for _ in range(10)] == values * 2
        assert loaded.info().queues == {}


def test_the_format_of_items_is_as_the_guide_says(seg, key, tmp_path):
    seg[1] = "x"
    seg.queue("jobs").put(7)
    path = tmp_path / "dump"
    assert cli.main(["dump", key, str(path)]) == 0
    body = (
        b'shmvar dump 2\n{"index": 1, "length": 6}\n\x80\x04\x8c\x01x.\n'
        b'{"queue": "jobs", "length": 5}\n\x80\x04K\x07.\n'
    )
    end = {"variables": 1, "items": 1, "sha256": hashlib.sha256(body).hexdigest()}
    assert path.read_bytes() == body + json.dumps(end).encode() + b"\n"


def test_items_are_moved_without_running_their_code(seg, key, new_key, tmp_path):
    seg.queue("jobs").put(Evil())
    again, path = new_key(), str(tmp_path / "dump")
    assert cli.main(["dump", key, path]) == 0 and cli.main(["load", again, path]) == 0
    with shmvar.attach(again, create=False) as loaded, pytest.raises(AssertionError, match="unpickled"):
        loaded.queue("jobs").get()


def test_a_dump_beside_takers_and_getters_is_whole(seg, key, new_key, tmp_path):
    jobs, over, path = seg.queue("jobs"), threading.Event(), str(tmp_path / "dump")
    for number in range(50):
        jobs.put([number, "x" * number * 50])

    def pass_on():
        while not over.is_set():
            with jobs.take() as job:
                jobs.put(job)
            jobs.put(jobs.get())

    thread = threading.Thread(target=pass_on)
    thread.start()
    try:
        for _ in range(10):
            again = new_key()
            assert cli.main(["dump", key, path]) == 0 and cli.main(["load", again, path]) == 0
            with shmvar.attach(again, create=False) as loaded:
                found = [loaded.queue("jobs").get() for _ in range(loaded.queue("jobs").qsize())]
            assert all(text == "x" * number * 50 for number, text in found)
    finally:
        over.set()
        thread.join()


def test_f31_no_cut_of_a_dump_with_items_and_no_changed_byte_loads_anything(seg, key, new_key, tmp_path, capsys):
    seg[1] = "one"
    for value in ("two", [2] * 40, b"3" * 300):
        seg.queue("jobs").put(value)
    path, damaged = tmp_path / "dump", tmp_path / "damaged"
    assert cli.main(["dump", key, str(path)]) == 0
    sound = path.read_bytes()
    again = new_key()
    attempts = [sound[:cut] for cut in range(0, len(sound), 7)] + [sound[:-1], sound + b"x", sound + sound]
    attempts += [sound[:at] + bytes([sound[at] ^ 1]) + sound[at + 1 :] for at in range(0, len(sound), 3)]
    for data in attempts:
        damaged.write_bytes(data)
        assert cli.main(["load", again, str(damaged)]) == 1, data
        said = capsys.readouterr().err
        assert said.startswith("shmvar: ") and "nothing was loaded" in said and said.count("\n") == 1
    assert not shmvar.exists(again)


def forged(tmp_path, line, value=b"N.", **end):
    body = b"shmvar dump 1\n" + line + b"\n" + value + b"\n"
    path = tmp_path / "forged"
    path.write_bytes(body + json.dumps(end | {"sha256": hashlib.sha256(body).hexdigest()}).encode() + b"\n")
    return str(path)


def test_what_is_forged_below_would_be_loaded_if_it_were_right(new_key, tmp_path):
    key = new_key()
    path = forged(tmp_path, b'{"queue": "jobs", "length": 2}', variables=0, items=1)
    assert cli.main(["load", key, path]) == 0
    with shmvar.attach(key, create=False) as loaded:
        assert loaded.queue("jobs").get(0) is None


@pytest.mark.parametrize(
    "line",
    [
        b'{"queue": null, "length": 2}',
        b'{"queue": 1.5, "length": 2}',
        b'{"queue": true, "length": 2}',
        b'{"queue": ["jobs"], "length": 2}',
        b'{"queue": 9223372036854775808, "length": 2}',
        b'{"queue": "' + b"x" * 1_025 + b'", "length": 2}',
        b'{"queue": "\\ud800", "length": 2}',
        b'{"queue": "jobs", "length": -2}',
        b'{"queue": "jobs", "length": 0}',
        b'{"queue": "jobs", "length": 2.0}',
        b'{"queue": "jobs", "length": true}',
        b'{"queue": "jobs", "length": "2"}',
        b'{"queue": "jobs", "length": 999999999999999}',
        b'{"queue": "jobs"}',
        b'{"queue": "jobs", "length": 2, "expires_in": null}',
        b'{"queue": "jobs", "index": 1, "length": 2}',
        b'{"queue": "jobs", "length": 2, "more": 1}',
        b'{"queue": "jobs", "sha256": "", "length": 2}',
    ],
)
def test_a_forged_line_of_an_item_with_a_right_check_sum_is_refused(line, new_key, tmp_path, capsys):
    key = new_key()
    assert cli.main(["load", key, forged(tmp_path, line, variables=0, items=1)]) == 1 and not shmvar.exists(key)
    assert "nothing was loaded" in capsys.readouterr().err


@pytest.mark.parametrize(
    "end",
    [{"variables": 0}, {"variables": 1}, {"variables": 0, "items": 2}, {"items": 1}, {"variables": 1, "items": 0}],
)
def test_a_count_that_is_not_true_is_refused(end, new_key, tmp_path, capsys):
    key = new_key()
    path = forged(tmp_path, b'{"queue": "jobs", "length": 2}', **end)
    assert cli.main(["load", key, path]) == 1 and not shmvar.exists(key)
    assert "nothing was loaded" in capsys.readouterr().err


@pytest.mark.parametrize("pickle", [b"no pickle", b"N", b"NN", b"N.N.", b"\x80\x09N.", b"\x80\x05\x97."])
def test_an_item_that_is_not_one_pickle_is_not_put(pickle, new_key, tmp_path, capsys):
    key = new_key()
    line = b'{"queue": "jobs", "length": %d}' % len(pickle)
    assert cli.main(["load", key, forged(tmp_path, line, pickle, variables=0, items=1)]) == 1
    assert not shmvar.exists(key) and 'an item of queue "jobs"' in capsys.readouterr().err


def test_a_load_of_items_that_do_not_fit_changes_nothing(seg, key, new_key, tmp_path, capsys):
    seg[1] = "a variable"
    for _ in range(30):
        seg.queue("jobs").put(b"x" * 100_000)
    again, path = new_key(), str(tmp_path / "dump")
    assert cli.main(["dump", key, path]) == 0
    assert cli.main(["load", again, path, "--size", "1M"]) == 1
    assert "nothing was loaded" in capsys.readouterr().err and not shmvar.exists(again)
    with shmvar.attach(again, 4 << 20) as loaded:
        loaded[2] = b"y" * 2_000_000
        with pytest.raises(shmvar.SegmentFullError):
            loaded.load(path)
        assert list(loaded) == [2] and loaded.info().queues == {}
        del loaded[2]
        assert loaded.load(path) == 1 and loaded.queue("jobs").qsize() == 30
        loaded.check()
