"""`shmvar doctor URL` says which right is missing that docs/remote.md lists, and that a password is wrong."""

import json

import helpers
import pytest
from helpers import servers
from helpers.server_doctor import of, problem

import shmvar
from shmvar.cli.doctor.server import examination, rights


@pytest.fixture(scope="module")
def guarded(server):
    if not servers.PAGE.exists():
        pytest.skip("the page is not beside the tests")
    started = servers.Server(server.options[0], port=servers.free_port())
    for name in ("app", "reader"):
        assert started.call("ACL", "SETUSER", name, "on", f">{name}-secret", *servers.rights(name)) == b"OK"
    with shmvar.attach(started.tcp("here")) as segment:
        segment["large"] = b"x" * 100_000
    yield started
    started.end()


def test_who_has_the_rights_of_the_page_sees_segments_and_no_settings(guarded, doctor):
    found = doctor(guarded.tcp("", "app:app-secret@"))
    assert found["healthy"] and set(found["unseen"]) == {"CONFIG GET", "TTL"} and not of(found, "problem")
    assert found["server"]["limits"]["proto_max_bulk_len"] is None and found["server"]["user"] == "app"
    assert [seen["check"]["result"] for seen in found["segments"]] == ["sound"]
    assert not found["rights"]["lacking"].keys() & {rights.READING, rights.CHANGES, "the list of segments"}


def test_who_only_reads_lacks_nothing_for_that(guarded, doctor):
    found = doctor(guarded.tcp("here", "reader:reader-secret@"))
    assert found["healthy"] and not of(found, "problem") and not of(found, "problem", "user")
    assert not [text for text in of(found, "warning", "user") if "for waiting" not in text]
    assert "CONFIG GET" in found["unseen"] and rights.reads_only(found["rights"])
    assert [seen["check"]["result"] for seen in found["segments"]] == ["sound"]


def test_each_right_of_the_page_is_asked_for():
    if not servers.PAGE.exists():
        pytest.skip("the page is not beside the tests")
    asked = {*rights.SCRIPTS, *rights.SCRIPTS_OF_READERS, *rights.CONNECTING}
    asked |= {right for needs in rights.NEEDS.values() for right in needs.split()}
    for name in ("app", "reader"):
        granted = {word[1:] for word in servers.rights(name) if word.startswith("+")}
        assert not granted - asked, "shmvar.cli.doctor.server.rights.NEEDS has not all rights of docs/remote.md"


def test_each_right_that_is_missing_is_named_with_its_remedy(guarded):
    url = guarded.tcp("here", "app:app-secret@")
    granted = [word[1:] for word in servers.rights("app") if word.startswith("+")]
    for right in granted:
        if right in rights.CONNECTING:
            continue
        guarded.call("ACL", "SETUSER", "app", f"-{right}")
        found = examination.examine(url, False)
        guarded.call("ACL", "SETUSER", "app", f"+{right}")
        named = [f for f in found["findings"] if f["about"] == "user app" and f"+{right}" in f["remedy"]]
        if right == "evalsha":  # the text of a script goes with EVAL
            named = named or [f for f in found["findings"] if "may not run scripts" in f["text"]]
        for what in rights.ON_DEMAND:  # who needs it says so in the URL, or uses a cluster
            if right in rights.NEEDS[what].split():
                named = [found["rights"]["lacking"][what]]
        assert named, f"{right}: {found['findings']}"
        if right in " ".join(rights.NEEDS[what] for what in (rights.READING, rights.CHANGES)).split():
            assert named[0]["level"] == "problem", right


def test_without_the_right_to_the_keys_everything_is_missing(guarded):
    guarded.call("ACL", "SETUSER", "other", "on", ">word", *servers.rights("app"), "resetkeys", "~other:*")
    found = examination.examine(guarded.tcp("here", "other:word@"), False)
    (lacks,) = [f for f in found["findings"] if "for reading" in f["text"]]
    assert "hget" in lacks["text"] and "~shmvar:*" in lacks["remedy"] and not found["healthy"]
    assert not [f for f in found["findings"] if f["level"] == "repaired"]


@pytest.mark.parametrize("credentials", ["", "app:wrong-word@", "nobody:wrong-word@", ":wrong-word@"])
def test_a_wrong_password(guarded, own_server, doctor, credentials):
    closed = guarded if credentials else own_server("--requirepass", "other", port=servers.free_port())
    if credentials.startswith(":"):
        closed = own_server("--requirepass", "other", port=servers.free_port())
    with helpers.promptly():
        found = problem(doctor(closed.tcp("x", credentials)))
    assert "SHMVAR_PASSWORD" in found["remedy"] and "wrong-word" not in json.dumps(found)
