"""URLs: what they say, what is refused, and that nobody who uses none imports anything."""

import pickle

import helpers
import pytest

import shmvar

pytest.importorskip("redis", reason="needs redis-py: shmvar[valkey]")

GOOD = {
    "valkey://host/#5": ("host", 6379, 0, None, None, 5),
    "redis://host:7/#5": ("host", 7, 0, None, None, 5),
    "valkeys://host/3#five": ("host", 6379, 3, None, None, "five"),
    "valkey://ann:se%40cret@host/#s:5": ("host", 6379, 0, "ann", "se@cret", "5"),
    "valkey://host/#'5'": ("host", 6379, 0, None, None, "'5'"),
    "valkey://host/#s:s:5": ("host", 6379, 0, None, None, "s:5"),
    "valkey://:secret@[::1]:70/#a%20b": ("::1", 70, 0, None, "secret", "a b"),
    "valkey://ann@host#-1": ("host", 6379, 0, "ann", None, -1),
}

BAD = {
    "valkey:///#5": "no host",
    "valkey://host:port/#5": "port must be",
    "valkey://host:70000/#5": "port must be",
    "valkey://host/x#5": "db must be",
    "valkey://a,,b/#5": "none between two commas",
    "valkey://a,a:6379/#5": "twice",
    "valkey://::1/#5": "no host|in brackets",
    "valkey://[::1/#5": "in brackets",
    "valkey://[::1]7/#5": "in brackets",
    "valkey://host/?acks=-1#5": "acks must be",
    "valkey://host/?acks=101#5": "acks must be",
    "valkey://host/?fsync=2#5": "fsync must be",
    "valkey://host/?fsync=yes#5": "fsync must be",
    "valkey://host/?sentinel=#5": "sentinel must be",
    "valkey+unix:///x?sentinel=a#5": "sentinel needs the hosts",
    "valkey://host/?lease=0#5": "lease must be",
    "valkey://host/?lease=90000#5": "lease must be",
    "valkey://host/?grace=inf#5": "grace must be",
    "valkey://host/?grace=2&lease=1#5": "grace must be at most the lease",
    "valkey://host/?near=x#5": "near must be",
    "valkey://host/?near=-1#5": "near must be",
    "valkey://host/?near=1T#5": "near must be",
    "valkey://host/?tmeout=1#5": "no option tmeout",
    "valkey://host/?timeout=0#5": "timeout must be",
    "valkey://host/?timeout=nan#5": "timeout must be",
    "valkey://host/?timeout=1&timeout=2#5": "twice",
    "valkey://host/?evicting=maybe#5": "evicting must be",
    "valkey://host/": "names no segment",
    "valkey+unix://relative#5": "path of a socket",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_url_says_this(text, monkeypatch):
    from shmvar._remote.url import parse

    monkeypatch.delenv("SHMVAR_PASSWORD", raising=False)
    url = parse(text)
    server = url.server
    assert (*server.hosts[0], server.db, server.user, server.password, url.key) == GOOD[text]
    assert server.tls == text.startswith("valkeys")
    assert "secret" not in repr(url) + url.public and "%40cret" not in repr(url) + url.public


def test_several_hosts_are_nodes_of_a_cluster_or_sentinels():
    from shmvar._remote.url import parse

    server = parse("valkey://ann:secret@a,b:7,[::1]:8,[fe80::2]/#5").server
    assert server.hosts == (("a", 6379), ("b", 7), ("::1", 8), ("fe80::2", 6379)) and server.sentinel is None
    assert server.place == "a:6379,b:7,[::1]:8,[fe80::2]:6379" and "secret" not in repr(server)
    server = parse("valkey://a,b:7/?sentinel=mine#5").server
    assert server.hosts == (("a", 26379), ("b", 7)) and server.sentinel == "mine"


def test_options_of_replicas_locks_and_the_near_cache(tmp_path, monkeypatch):
    from shmvar._remote.url import parse

    usual = parse("valkey://a/#5").server
    assert (usual.acks, usual.fsync, usual.lease, usual.grace, usual.near) == (0, False, 10.0, 0.3, 0)
    server = parse("valkey://a/?acks=2&fsync=1&lease=3&grace=0.1&near=64MiB#5").server
    assert (server.acks, server.fsync, server.lease, server.grace, server.near) == (2, True, 3.0, 0.1, 64 << 20)
    sizes = {"4096": 4096, "1k": 1 << 10, "2G": 2 << 30, "64%20MiB": 64 << 20}
    assert {text: parse(f"valkey://a/?near={text}#5").server.near for text in sizes} == sizes
    monkeypatch.setenv("SHMVAR_SENTINEL_PASSWORD", "from the environment")
    assert parse("valkey://a/#5").server.sentinel_password is None
    assert parse("valkey://a/?sentinel=m#5").server.sentinel_password == "from the environment"
    file = tmp_path / "password"
    file.write_text("from a file\n")
    server = parse(f"valkey://a/?sentinel=m&sentinel_user=watch&sentinel_password_file={file}#5").server
    assert (server.sentinel_user, server.sentinel_password) == ("watch", "from a file")
    assert "from a" not in repr(server)


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_a_value_error_that_names_it(text):
    with pytest.raises(ValueError, match=BAD[text]):
        shmvar.attach(text)


MANY = "5" * 5000


@pytest.mark.parametrize("name", ["db", "acks", "fsync"])
def test_a_number_of_thousands_of_digits_is_as_wrong_as_others(name):
    url = f"valkey://host/{MANY}#5" if name == "db" else f"valkey://host/?{name}={MANY}#5"
    with pytest.raises(ValueError, match=f"{name} must be a number from 0 to \\d+, not '5{{40}}'$"):
        shmvar.attach(url)
    if name == "db":
        with pytest.raises(ValueError, match="db must be a number"):
            shmvar.attach(f"valkey+unix:///x?db={MANY}#5")


def test_zeros_before_the_digits_of_a_key_do_not_count():
    from shmvar._remote.url import parse

    for text, key in {"0" * 5000: 0, "-" + "0" * 5000 + "5": -5, "0x" + "0" * 5000 + "1f": 31, "+0X0": 0}.items():
        assert parse(f"valkey://h/#{text}").key == key


@pytest.mark.parametrize("path", ["missing", ".", "binary", "%00", ""])
def test_a_password_file_that_cannot_be_read_is_a_value_error_that_names_it(tmp_path, path):
    (tmp_path / "binary").write_bytes(b"\xff" * 20)
    file = path and f"{tmp_path}/{path}"
    for option in ("password_file", "sentinel=m&sentinel_password_file"):
        with pytest.raises(
            ValueError, match=r"password_file '.*' cannot be read: .*Remedy: the path of a file"
        ) as caught:
            shmvar.attach(f"valkey://h/?{option}={file}#5")
        assert repr(str(tmp_path) if path else "")[1:-1] in str(caught.value) and type(caught.value) is ValueError
        assert r"\xff" not in str(caught.value)


@pytest.mark.parametrize(
    "key, error",
    [
        ("valkey://h/#" + "x" * 129, OverflowError),
        (f"redis://h/#{2**63}", OverflowError),
        (f"redis://h/#{MANY}", OverflowError),
        (f"redis://h/#-{MANY}", OverflowError),
        (f"redis://h/#0x{MANY}", OverflowError),
    ],
    ids=["text", "63 bits", "digits", "minus", "hexadecimal"],
)
def test_a_key_out_of_range_is_refused_as_on_this_machine(key, error):
    for call in (shmvar.attach, shmvar.destroy, shmvar.exists):
        with pytest.raises(error):
            call(key)


def test_other_texts_are_keys_of_this_machine():
    for key in ("http://host/#5", "valkey:5", "VALKEY://host/#5", "x valkey://host/#5"):
        with shmvar.attach(key) as segment:
            assert type(segment) is shmvar.Segment and segment.key == key
            segment.destroy()
    with pytest.raises(ValueError, match="must be a URL"):
        shmvar.segments("http://host")


def test_the_password_comes_from_a_file_or_the_environment(tmp_path, monkeypatch):
    from shmvar._remote.url import parse

    file = tmp_path / "password"
    file.write_text("from a file\n")
    monkeypatch.setenv("SHMVAR_PASSWORD", "from the environment")
    assert parse(f"valkey://h/?password_file={file}#5").server.password == "from a file"
    assert parse("valkey://h/#5").server.password == "from the environment"
    assert parse("valkey://:given@h/#5").server.password == "given"


@pytest.mark.parametrize("arguments", [{"perm": 0o640}, {"reserve": 1 << 30}, {"evict": "lru"}], ids=str)
def test_what_only_a_segment_of_this_machine_has_is_a_value_error(arguments):
    with pytest.raises(ValueError, match="is for segments of this machine"):
        shmvar.attach("valkey://host/#5", **arguments)


def test_whoever_uses_no_url_imports_nothing_of_it():
    helpers.run("""
    s = shmvar.attach("no-url"); s[1] = 1; s.destroy()
    shmvar.exists("no-url"), shmvar.destroy("no-url"), shmvar.segments(), dir(shmvar)
    from shmvar import *
    loaded = [name for name in sys.modules if name.partition(".")[0] in ("redis", "hiredis") or "_remote" in name]
    assert not loaded, loaded
    """)


def test_without_the_client_library_the_error_says_what_to_install():
    helpers.run("""
    sys.modules["redis"] = None
    try:
        shmvar.attach("valkey://host/#5")
    except ModuleNotFoundError as error:
        assert 'pip install "shmvar[valkey]"' in str(error) and error.name == "redis", error
    else:
        raise AssertionError
    """)


@pytest.mark.parametrize(
    "place", ["valkey://127.0.0.1:1/#5", "valkey://no-such-host.invalid/#5", "valkey+unix:///no/socket#5"]
)
def test_a_server_that_cannot_be_reached_is_an_error_at_once(place):
    with helpers.promptly():
        for call in (shmvar.attach, shmvar.exists, shmvar.destroy, shmvar.segments):
            with pytest.raises(shmvar.SegmentUnavailableError, match="cannot be reached") as caught:
                call(place)
            assert caught.value.maybe_applied is False
            assert pickle.loads(pickle.dumps(caught.value)).maybe_applied is False


@pytest.mark.parametrize(
    "place",
    [
        "app:hunter2/x@host/#k",
        "app:hunter2?x@host/#k",
        "app:hunter2#x@host/#k",
        "app:99/hunter2@host",
        "app:6379?hunter2@host",
        "app:6379#hunter2@host/#k",
        "app:p@ss/hunter2@host/#k",
        "app:p@ss#hunter2@host/#k",
        "app:hunter2",
        "app:hunter2,x",
        "app@host:hunter2/#k",
    ],
)
def test_a_password_that_was_not_percent_encoded_is_refused_and_not_quoted(place):
    with pytest.raises(ValueError) as caught:
        shmvar.attach(f"valkey://{place}")
    assert not [
        word for word in ("hunter", "ss", "x@", "6379", "99") if word in str(caught.value).replace("password", "")
    ]


def test_a_key_with_an_at_sign_is_percent_encoded():
    from shmvar._remote.url import fragment_of, parse

    assert parse("valkey://host/#a%40b").key == "a@b" and fragment_of("a@b") == "a%40b"
    assert parse("valkey+unix:///run/a@b#c").server.path == "/run/a@b"


@pytest.mark.parametrize("timeout", ["0", "-1", "601", "1e10", "inf", "nan", "x"])
def test_a_timeout_is_at_most_ten_minutes(timeout):
    with pytest.raises(ValueError, match="at most 600 seconds"):
        shmvar.attach(f"valkey://host/?timeout={timeout}#k")
