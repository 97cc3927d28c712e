"""A segment on a server has the same calls with the same documentation as one of this machine."""

import ast
import inspect
from pathlib import Path

import pytest

import shmvar

pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")

STUB = {
    node.name: {call.name: call for call in node.body if isinstance(call, ast.FunctionDef)}
    for node in ast.parse(Path(shmvar.__file__).with_name("_core.pyi").read_text()).body
    if isinstance(node, ast.ClassDef)
}
"""By class: its calls and properties, as the stub of the local ones declares them."""

REMOTE = {
    "Segment": shmvar.attach,
    "Lock": lambda url: shmvar.attach(url).lock("l"),
    "Queue": lambda url: shmvar.attach(url).queue("q"),
    "TakenItem": lambda url: shmvar.attach(url).queue("q").take(),
    "Changes": lambda url: shmvar.attach(url).changes(),
}
"""By class: how an object is made that stands for it on a server."""
MORE = {"Segment": {"aio", "url"}, "Lock": {"fence", "lost"}}
"""What these have beyond the local ones."""


def public(name):
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def shape(arguments):
    given = [name.arg for name in [*arguments.posonlyargs, *arguments.args]]
    return given[1:], [name.arg for name in arguments.kwonlyargs]


@pytest.mark.parametrize("kind", REMOTE)
def test_a_call_has_the_signature_and_documentation_of_the_local_one(kind, key):
    there = type(REMOTE[kind](key))
    for name, stub in STUB[kind].items():
        if not public(name):
            continue
        remote = inspect.getattr_static(there, name)
        if not name.startswith("__"):
            assert getattr(there, name).__doc__, f"{name} has a text"
        if isinstance(remote, property):
            assert [ast.unparse(decorator) for decorator in stub.decorator_list] == ["property"], name
            continue
        if name.startswith("__"):
            continue
        found = inspect.signature(remote).parameters.values()
        plain = [p.name for p in found if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][1:]
        assert (plain, [p.name for p in found if p.kind is p.KEYWORD_ONLY]) == shape(stub.args), name


@pytest.mark.parametrize("kind", REMOTE)
def test_nothing_is_missing_and_what_is_more_is_known(kind, key):
    there = type(REMOTE[kind](key))
    assert [name for name in STUB[kind] if public(name) and not hasattr(there, name)] == []
    own = {name for name in dir(there) if not name.startswith("_")}
    assert own - {*STUB[kind]} == MORE.get(kind, set())


def test_array_and_buffer_name_what_to_use_instead(seg):
    for call in (lambda: seg.array("a", 3), lambda: seg.buffer("a", 3)):
        with pytest.raises(shmvar.UnsupportedError, match=r"`put`.*`view`") as caught:
            call()
        assert isinstance(caught.value, OSError) and isinstance(caught.value, ValueError)


def test_segments_of_a_server_are_listed_and_their_names_are_their_own(server, new_key):
    keys = [5, "5", "a b", "{x}", "ключ", "%41", "A", "x" * 128, -(2**63)]
    base = server.url()
    import urllib.parse

    urls = {key: base + (str(key) if isinstance(key, int) else "s:" + urllib.parse.quote(key)) for key in keys}
    try:
        for key, url in urls.items():
            with shmvar.attach(url, create=True) as segment:
                segment["key"] = key
        found = {info.key: info for info in shmvar.segments(base)}
        assert set(keys) <= set(found) and all(found[key].count == 1 for key in keys)
        for key, url in urls.items():
            with shmvar.attach(url, create=False) as segment:
                assert segment["key"] == key == segment.key
    finally:
        assert [shmvar.destroy(url) for url in urls.values()] == [True] * len(urls)
