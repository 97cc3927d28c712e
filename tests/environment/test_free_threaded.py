"""On a free-threaded interpreter the GIL stays off, and threads share a handle (F55)."""

import sys
import sysconfig
import threading

import helpers
import pytest

free_threaded = pytest.mark.skipif(
    not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="needs a free-threaded interpreter, 3.14t"
)


@free_threaded
def test_f55_importing_and_using_it_leaves_the_gil_off(key):
    code = """
    import warnings
    assert not sys._is_gil_enabled()
    with shmvar.attach(key) as segment:
        segment[1] = b"x" * 1_000_000
        assert bytes(segment.view(1)) == segment[1]
        segment.destroy()
    assert not sys._is_gil_enabled()
    """
    assert "GIL" not in helpers.run(code, key).stderr


def test_f55_threads_on_one_handle_see_whole_values_of_their_own_and_of_others(seg):
    wrong, begin = [], threading.Barrier(6)

    def work(me):
        begin.wait(30)
        try:
            for turn in range(150):
                seg[me] = [me, turn, "x" * (turn % 7 * 300)]
                seg["shared"] = bytes([me]) * (turn % 5 * 40_000 + 1)
                assert seg[me][:2] == [me, turn]
                for value in (seg["shared"], seg.view("shared")):
                    assert bytes(value) == bytes(value[:1]) * len(value)
                other = seg.get((me + 1) % 6)
                assert other is None or (other[0] == (me + 1) % 6 and set(other[2]) <= {"x"})
                if turn % 10 == 0:
                    assert dict(seg.items()) and len(seg) >= 2 and seg.pop(f"{me} own", 1) == 1
        except BaseException as error:
            wrong.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(me,)) for me in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(100)
    finally:
        sys.setswitchinterval(interval)
    assert not wrong and not any(thread.is_alive() for thread in threads), wrong
    assert len(seg) == 7
