"""The recipes: each is short and complete, and does what it says in several processes."""

import re

import helpers
import pytest
from helpers import pages

PAGE = "docs/recipes.md"
TEXT = (pages.ROOT / PAGE).read_text()
RECIPES = re.findall(r"^## (.*)$", TEXT, re.M)
CALLS = (
    "fill()\n",
    "report(lambda",
    'segment["frame"] =',
    "next(",
    "page(",
    "page.",
    "allowed(",
    "print(segment",
    "work()\n",
)
"""How lines begin that show a recipe at work; the tests call what the recipe defines themselves."""


def recipe(heading, number=0):
    """The source of a recipe without the lines that show it at work; its key is the test's own."""
    _, source = list(pages.blocks(PAGE, heading))[number]
    if missing := pages.lacks(source):
        pytest.skip(f"not here: {missing}")
    kept = "".join(line for line in source.splitlines(keepends=True) if not line.startswith(CALLS))
    changed = re.sub(r'attach\((os\.environ\.get\("SHARED", )?"\w+"(?(1)\))', "attach(key", kept)
    assert changed != kept
    return changed


def test_they_are_those_that_people_ask_for():
    asked = ["In place", "Cache", "Queue", "Rate limiter", "Share a frame", "Web application"]
    asked.append("The same code on two machines")
    assert asked == RECIPES
    readme = (pages.ROOT / "README.md").read_text()
    assert "docs/recipes.md" in readme[readme.index("## More") :]
    for title in asked:
        assert f"(#{title.lower().replace(' ', '-')})" in TEXT[: TEXT.index("\n## ")]


@pytest.mark.parametrize("heading", RECIPES)
def test_each_is_short_and_complete(heading):
    found = list(pages.blocks(PAGE, heading))
    assert found
    for _, source in found:
        lines = source.splitlines()
        assert len(lines) <= 15 and max(map(len, lines)) <= 120
        assert "import shmvar" in lines and "shmvar.attach(" in source


def test_in_place_each_row_is_filled_once_by_one_of_eight_processes(seg, key):
    code = recipe("In place") + "fill()\nprint(picture.sum(dtype='u8'))"
    helpers.run_in_processes(code, key, count=8)
    picture = seg.array("pixels")
    assert seg["rows done"] == 480 and seg["rows taken"] == 480 + 8
    assert all((picture[row] == row % 256).all() for row in range(480))


def test_cache_one_of_eight_processes_computes(seg, key):
    seg.destroy()  # the recipe makes it, of its size
    code = recipe("Cache") + "assert page('home', language='de') == '<h1 lang=de>home</h1>'\nprint(*page.cache_info())"
    counts = [tuple(map(int, said.split())) for said in helpers.run_in_processes(code, key, count=8)]
    assert sorted(counts) == [(0, 1)] + [(1, 0)] * 7


def test_queue_each_job_is_done_once(seg, key, children):
    code = recipe("Queue")
    work = "for _ in range(10):\n    work()"
    # What the recipe itself puts is one job for each process.
    said = "".join(helpers.run_in_processes(code + work.replace("10", "1"), key, count=8))
    assert said.count("ada@example.org") == 8
    for number in range(40):
        seg.queue("jobs").put(number)
    code = code.replace(next(line for line in code.splitlines() if ".put(" in line), "")
    said = "\n".join(helpers.run_in_processes(code + work, key, count=4)).split()
    assert sorted(map(int, said)) == list(range(40))


def test_queue_what_an_exception_or_a_kill_leaves_the_next_worker_gets(seg, key):
    code = recipe("Queue")
    for how in ("raise SystemExit", "os.kill(os.getpid(), signal.SIGKILL)"):
        helpers.run(code.replace("print(job)", how) + "work()", key, check=False)
        without = code.replace(next(line for line in code.splitlines() if ".put(" in line), "")
        assert "ada@example.org" in helpers.run(without + "work()", key).stdout


def test_rate_limiter_exactly_so_many_calls_of_eight_processes_are_allowed(seg, key):
    code = recipe("Rate limiter") + "print(sum(allowed('ann', 100, 3600) for _ in range(50)))"
    assert sum(map(int, helpers.run_in_processes(code, key, count=8))) == 100
    assert 0 < seg.stat("calls of ann").expires_in <= 3600


FRAMES = """
import numpy as np
segment = shmvar.attach(key)
for number in range(1, 201):
    segment["frame"] = np.full((100, 1000), number % 256, "u1")
segment["frame"] = np.zeros((1, 1), "u1")
"""
LOOK = """
print("ready", flush=True)
before = None
for frame in frames():
    if frame.shape == (1, 1):
        break
    assert (frame == frame[0, 0]).all() and not frame.flags.writeable
    if before is not None:
        assert (before == first).all(), "a view has changed"
    before, first = frame, int(frame[0, 0])
print("end")
"""


def test_share_a_frame_whole_ones_reach_two_processes_and_the_last_one_does(seg, key, children):
    code = recipe("Share a frame")
    for _ in range(2):
        children.append(helpers.start(code + LOOK, key))
    helpers.run(FRAMES, key)
    for child in children:
        assert child.stdout.readline() == "end\n"


def test_share_a_frame_of_pandas(seg, key):
    code = recipe("Share a frame", 1)
    assert helpers.run(code[: code.index("segment.view")], key).returncode == 0
    frame = seg.view("prices")
    assert len(frame) == 100_000 and frame["price"].sum() == 150_000 and seg.stat("prices").viewable


SERVE = """
from wsgiref.util import setup_testing_defaults

def visit(cookie="", address="10.0.0.1"):
    environ, answer = {"REMOTE_ADDR": address, "HTTP_COOKIE": cookie}, []
    setup_testing_defaults(environ)
    body = b"".join(application(environ, lambda status, headers: answer.extend([status, dict(headers)])))
    return answer[0], answer[1], body.decode()

if sys.argv[2] == "limit":
    print(sum(visit(address="10.0.0.2")[0] == "200 OK" for _ in range(80)))
else:
    for line in iter(sys.stdin.readline, ""):
        status, headers, body = visit(line.strip())
        print(status, headers.get("Set-Cookie", "").partition(";")[0], body, sep="|", flush=True)
"""


def test_web_application_two_processes_share_its_sessions_and_its_counter(seg, key, children):
    for name in ("a", "b"):
        children.append(helpers.start("print('up', flush=True)\n" + recipe("Web application") + SERVE, key, name))

    def visit(number, cookie=""):
        children[number].stdin.write(cookie + "\n")
        children[number].stdin.flush()
        return children[number].stdout.readline().rstrip("\n").split("|")

    status, ann, body = visit(0)
    assert (status, body) == ("200 OK", "Visit 1. You have seen 1 pages.") and re.fullmatch(r"guest=[\w-]{43}", ann)
    assert visit(1, ann) == ["200 OK", ann, "Visit 2. You have seen 2 pages."]
    assert visit(0, f"theme=dark; {ann}") == ["200 OK", ann, "Visit 3. You have seen 3 pages."]
    _, bob, body = visit(1)
    assert bob != ann and body == "Visit 4. You have seen 1 pages."
    # What names no session gets a new one: nobody chooses the name of a session, and no name is too long.
    for forged in ("guest=" + "x" * 43, "guest=" + "\xe9" * 5000, "guest=", ann[:-1], "=;;,"):
        _, other, body = visit(0, forged)
        assert other not in (ann, bob, forged) and body.endswith("You have seen 1 pages.")
    assert visit(1, ann)[2] == "Visit 10. You have seen 4 pages."
    assert seg["visits"] == 10 and 0 < seg.stat("session " + ann[6:]).expires_in <= 1800
    assert len([index for index in seg.keys("session ")]) == 7


def test_web_application_both_processes_together_allow_a_hundred_calls(seg, key):
    # The minute begins anew for a counter that has expired, however busy the machine is: this one lasts.
    code = recipe("Web application").replace("ttl=60", "ttl=3600") + SERVE
    assert sum(map(int, helpers.run_in_processes(code, key, "limit", count=2))) == 100
    assert seg["visits"] == 100
