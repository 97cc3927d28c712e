"""Commands that read very many variables: through which handle they do it."""

import pytest

import shmvar
from shmvar.cli import main as cli


@pytest.fixture
def attached(monkeypatch):
    """Notes of each handle that a command gets whether it may write, and whether values may run code."""
    handles, attach = [], shmvar.attach

    def noted(*args, **options):
        handle = attach(*args, **options)
        handles.append((not handle.readonly, handle.trusted))
        return handle

    monkeypatch.setattr(shmvar, "attach", noted)
    return handles


@pytest.mark.parametrize("perm", [0o600, 0o666, 0o660])
@pytest.mark.parametrize("command", ["show", "copy"])
def test_a_segment_of_this_user_alone_is_listed_through_its_memory_and_one_of_others_by_calls(
    new_key, capsys, attached, command, perm
):
    key, other = new_key(), new_key()
    with shmvar.attach(key, perm=perm) as segment, shmvar.attach(other):
        segment.update({n: n for n in range(10)})
        attached.clear()
        assert cli.main([command, key] + [other] * (command == "copy")) == 0
        handles = attached[:2] if command == "copy" else attached
        # Never so that values run code.
        assert handles[-1] == (perm == 0o600, False)
    shmvar.destroy(key)
    shmvar.destroy(other)


def test_where_no_process_more_may_attach_it_is_read_by_calls(seg, key, capsys, attached, monkeypatch):
    seg[1] = "one"
    attach = shmvar.attach

    def busy(*args, **options):
        if not options.get("readonly"):
            raise shmvar.SegmentBusyError("1024 processes are attached")
        return attach(*args, **options)

    monkeypatch.setattr(shmvar, "attach", busy)
    assert cli.main(["show", key]) == 0
    assert "one" in capsys.readouterr().out and attached[-1] == (False, False)
