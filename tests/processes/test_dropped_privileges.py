"""A process that gave up its privileges, and its children: what they may do, and what the error for the rest says."""

import textwrap

import helpers

DROP = f"""
def drop():
    os.setgroups([])
    os.setgid({helpers.NOBODY})
    os.setuid({helpers.NOBODY})
def child(act):
    pid = os.fork()
    if pid == 0:
        try:
            act()
        except BaseException as caught:
            print(type(caught).__name__, caught, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
def store():
    segment[2] = bytes(1 << 20)
"""


@helpers.needs_root
def test_a_child_that_is_forked_afterwards_is_told_what_helps(key):
    code = """
    segment = shmvar.attach(key)
    segment[1] = "one"
    drop()
    segment[1] = "two"
    def reads():
        assert segment[1] == "two"
        store()
    assert child(reads) == 1
    for options in ({}, {"create": False}, {"readonly": True}):
        try:
            shmvar.attach(key, **options)
        except shmvar.SegmentAccessError:
            continue
        raise SystemExit(f"attached with {options}")
    """
    said = helpers.run(DROP + textwrap.dedent(code), key).stdout
    assert said.startswith("SegmentAccessError ") and f"uid {helpers.NOBODY}" in said and "mode 600, owner 0" in said
    assert "fork it before the privileges are dropped" in said and "perm" in said


@helpers.needs_root
def test_what_it_says_helps(key):
    code = """
    segment = shmvar.attach(key)
    segment[1] = "one"
    def drop_and_store():
        drop()
        store()
    assert child(drop_and_store) == 0 and segment[2] == bytes(1 << 20)
    segment.destroy()
    segment = shmvar.attach(key, perm=0o666)
    segment[1] = "one"
    drop()
    assert child(store) == 0 and segment[2] == bytes(1 << 20)
    """
    helpers.run(DROP + textwrap.dedent(code), key)
