"""A password comes from the URL, a file or the environment, and is in no text: start methods, pickles, errors."""

import copy
import logging
import multiprocessing
import pickle
import subprocess
import sys
import traceback

import helpers
import pytest
from helpers import servers

import shmvar

SECRET = "hunter-two-and-more"
METHODS = multiprocessing.get_all_start_methods()


@pytest.fixture(scope="module")
def guarded(server):
    """A server that lets in nobody but one user with a password."""
    started = servers.Server(server.options[0], port=servers.free_port())
    started.call("ACL", "SETUSER", "app", "on", f">{SECRET}", "~*", "&*", "+@all")
    started.call("ACL", "SETUSER", "default", "resetpass", ">for-the-test-itself", "-@all", "+ping")
    yield started
    started.end()


@pytest.fixture
def ways(guarded, tmp_path):
    """URLs of the three ways to give the password. The third needs the environment to have it."""
    file = tmp_path / "password"
    file.write_text(SECRET + "\n")

    def of(key):
        return {
            "url": guarded.tcp(key, f"app:{SECRET}@"),
            "file": guarded.tcp(key, "app@", password_file=file),
            "environment": guarded.tcp(key, "app@"),
        }

    return of


STARTS = """
import multiprocessing

def child(handles, urls):
    for name, handle in handles.items():
        handle.add(name)
        handle["large " + name] = bytes([7]) * 100_000
        assert handle["large " + name] == bytes([7]) * 100_000
    for url in urls:
        with shmvar.attach(url, create=False) as segment:
            segment.add("attached")
    with open(f"/proc/{os.getpid()}/cmdline", "rb") as words:
        print("words", SECRET.encode() in words.read(), flush=True)

def main():
    context = multiprocessing.get_context(sys.argv[1])
    urls = sys.argv[2:]
    handles = dict(zip(["url", "file", "environment"], map(shmvar.attach, urls)))
    readers = {"reader": shmvar.attach(urls[0], readonly=True)}
    handles["url"].put("read me", 5)
    for start in range(2):
        process = context.Process(target=child, args=(handles, urls[:start]))
        process.start()
        process.join(100)
        assert process.exitcode == 0, process.exitcode
    with context.Pool(1, initializer=child, initargs=({"url": handles["url"]}, [])) as pool:
        # What a pool is given goes through a queue: only a process that is being started gets the password of a URL.
        assert pool.apply(shmvar.RemoteSegment.get, (handles["file"], "read me")) == 5
        assert pool.apply(shmvar.RemoteSegment.get, (handles["environment"], "read me")) == 5
        try:
            pool.apply(shmvar.RemoteSegment.get, (handles["url"], "read me"))
        except ValueError as error:
            assert "SHMVAR_PASSWORD" in str(error) and SECRET not in str(error)
        else:
            raise AssertionError("a password went through a queue")
    print("done", dict(handles["url"].get_many(["url", "file", "environment", "attached"])))

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_child_of_any_start_method_has_what_its_handles_need(ways, tmp_path, monkeypatch, method):
    """A program of its own: the fork server keeps the environment that it was started with."""
    monkeypatch.setenv("SHMVAR_PASSWORD", SECRET)
    urls = ways(f"start-{method}").values()
    program = tmp_path / "program.py"
    program.write_text(f"import os, sys\nimport shmvar\nSECRET = os.environ['SHMVAR_PASSWORD']\n{STARTS}")
    try:
        done = subprocess.run(
            [sys.executable, str(program), method, *urls],
            capture_output=True,
            text=True,
            timeout=100 * helpers.machine.SLOWER,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        *words, last = done.stdout.splitlines()
        assert last == "done {'url': 3, 'file': 2, 'environment': 2, 'attached': 1}"
        # The parent's own words have the URL: it was started so.
        assert words == [f"words {method == 'fork'}"] * 3
        assert SECRET not in done.stderr
    finally:
        shmvar.destroy(ways(f"start-{method}")["url"])


def test_a_pickle_has_no_password_wherever_it_came_from(ways, monkeypatch):
    monkeypatch.setenv("SHMVAR_PASSWORD", SECRET)
    for name, url in ways("pickled").items():
        segment = shmvar.attach(url)
        segment["n"] = 1
        if name == "url":
            with pytest.raises(ValueError, match="SHMVAR_PASSWORD") as caught:
                pickle.dumps(segment)
            assert SECRET not in str(caught.value)
            continue
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            data = pickle.dumps(segment, protocol)
            assert SECRET.encode() not in data
            with pickle.loads(data) as again:
                assert again["n"] == 1 and again.url == segment.url
    monkeypatch.delenv("SHMVAR_PASSWORD")
    # Without it the one that named the environment is refused, and the one with a file is not.
    with helpers.promptly(), pytest.raises(shmvar.SegmentAccessError, match="SHMVAR_PASSWORD"):
        pickle.loads(data)
    segment.destroy()


@pytest.mark.parametrize("way", ["url", "file", "environment"])
def test_a_copy_of_a_handle_keeps_its_password_within_the_process(ways, tmp_path, monkeypatch, way):
    monkeypatch.setenv("SHMVAR_PASSWORD", SECRET)
    url = ways("copied")[way]
    segment, reader = shmvar.attach(url), shmvar.attach(url, readonly=True)
    segment["n"] = 1
    # What the handle was made with counts, whatever has become of that.
    monkeypatch.delenv("SHMVAR_PASSWORD")
    (tmp_path / "password").unlink()
    for act in (copy.copy, copy.deepcopy):
        with act(segment) as again:
            assert type(again) is shmvar.RemoteSegment and again["n"] == 1 and again.add("n", 0) == 1
            assert again.url == segment.url and SECRET not in repr(again)
        with act(reader) as again:
            assert again.readonly and again["n"] == 1
    assert copy.deepcopy(segment.queue("q")).qsize() == 0
    segment.destroy()
    for act in (copy.copy, copy.deepcopy):
        with pytest.raises(shmvar.SegmentNotFoundError):
            act(segment)
    segment.detach()
    with pytest.raises(shmvar.DetachedError):
        copy.copy(segment)
    reader.detach()


def errors(ways):
    """Errors of every kind that a handle with a password raises, and texts that it gives."""
    url = ways("texts")["url"]
    segment = shmvar.attach(url, 1 << 16)
    segment["a"] = 1
    segment["code"] = ValueError("its class needs trust")
    calls = [
        lambda: shmvar.attach(url, create=True),
        lambda: shmvar.attach(url, perm=0o666),
        lambda: shmvar.attach(url, evict="lru"),
        lambda: shmvar.attach(url.replace("#texts", "#" + "k" * 200)),
        lambda: shmvar.attach(url.replace("#texts", "")),
        lambda: shmvar.attach(url.replace("#texts", "?timeout=never#texts")),
        lambda: shmvar.attach(url.replace("#texts", "?other=1#texts")),
        lambda: shmvar.attach(url.replace("#texts", "-none"), create=False),
        lambda: shmvar.attach(url.replace("app:", "other:")),
        lambda: shmvar.attach(url.replace("127.0.0.1", "")),
        lambda: shmvar.attach(url.replace("@", "/@")),
        lambda: shmvar.attach(url.replace("@", "#@")),
        lambda: shmvar.attach(url.replace("127.0.0.1", "127.0.0.1:77777777")),
        lambda: shmvar.attach(url.replace("valkey://", "valkeys://").replace("#", "?timeout=1#")),
        lambda: shmvar.attach(url, readonly=True).put("a", 1),
        lambda: segment["missing"],
        lambda: segment["code"],
        lambda: segment.put("b", b"x" * 100_000),
        lambda: segment.resize(1),
        lambda: segment.array("a"),
        lambda: segment.add("code"),
        lambda: segment.put("a", lambda: None),
        lambda: shmvar.segments(url.replace("app:", "other:")),
        lambda: shmvar.exists(url.replace("app:", "other:")),
        lambda: shmvar.destroy(url.replace("app:", "other:")),
        lambda: pickle.dumps(segment),
    ]
    for number, call in enumerate(calls):
        try:
            call()
        except Exception as error:
            yield error
        else:
            raise AssertionError(f"call {number} raised nothing")
    segment.destroy()
    gone = [lambda: segment["a"], lambda: segment.put("a", 1), lambda: segment.check(), lambda: segment.info()]
    gone.append(lambda: (segment.detach(), segment["a"]))
    for call in gone:
        try:
            call()
        except Exception as error:
            yield error
        else:
            raise AssertionError("it is not gone")


def test_no_error_has_the_password_nor_what_it_comes_from(ways, caplog):
    caplog.set_level(logging.DEBUG)
    seen = list(errors(ways))
    for error in seen:
        # With causes and contexts. The lines of this file are shown, and have no password.
        text = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args) + repr(vars(error))
        assert SECRET not in text and "hunter" not in text, text
    assert len({type(error) for error in seen}) > 10
    assert SECRET not in caplog.text


def test_no_repr_has_the_password(ways):
    url = ways("shown")["url"]
    with shmvar.attach(url) as segment:
        segment["a"] = 1
        things = [segment, segment.url, segment.info(), segment.keys(), segment.items(), segment.values(), segment._url]
        things += [segment._url.server, segment._link, segment._link.server, segment._requests, shmvar.segments(url)]
        things += [segment.lock("l"), segment.stat("a"), segment.check()]
        assert not [thing for thing in things if SECRET in repr(thing) + str(thing)]
        assert "app@" in segment.url and segment.url.endswith("#shown")
        segment.destroy()


@pytest.mark.parametrize("way", ["file", "environment"])
def test_a_password_that_is_wrong_or_missing_is_refused_at_once(ways, tmp_path, monkeypatch, way):
    url = ways("wrong")[way]
    (tmp_path / "password").write_text("hunter-three")
    if way == "environment":
        monkeypatch.setenv("SHMVAR_PASSWORD", "hunter-three")
    for act in (shmvar.attach, shmvar.exists, shmvar.destroy, shmvar.segments):
        with helpers.promptly(), pytest.raises(shmvar.SegmentAccessError, match="Remedies") as caught:
            act(url)
        assert "hunter" not in str(caught.value)
    if way == "file":
        (tmp_path / "password").unlink()
        # No FileNotFoundError, which says that there is no such segment.
        for act in (shmvar.attach, shmvar.exists, shmvar.destroy, shmvar.segments):
            with helpers.promptly(), pytest.raises(ValueError, match=r"password_file '.*' cannot be read: .*Remedy"):
                act(url)
