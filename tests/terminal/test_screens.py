"""The screens of the commands on a terminal: what is there, and what a terminal of another kind has instead."""

from helpers import screens

import shmvar


def test_on_a_terminal_there_are_columns_and_a_bold_title(seg, key):
    seg["one"] = 1
    found = screens.run("show", key)
    assert found.shown()[0].split()[0] == "INDEX" and found.shown()[1].startswith("'one' ")
    assert found.escapes() and found.coloured() and not found.too_long()
    assert found.left_alone()


def test_stdout_in_a_pipe_is_plain_beside_a_terminal(seg, key):
    seg["one"] = 1
    found = screens.run("show", key, stdout="pipe")
    assert found.printed.decode().splitlines()[0] == "INDEX\tTYPE\tSIZE\tVERSION\tEXPIRES\tVALUE"
    assert found.raw == b"" and shmvar.attach(key).get("one") == 1
