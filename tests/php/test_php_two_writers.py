"""PHP and Python change the same segment, and PHP's semaphore keeps them apart: no update is lost."""

import time

import helpers
import pytest
from helpers import php as php_programs
from helpers import system_v

from shmvar import php

pytestmark = [helpers.needs_php, pytest.mark.slow]

EACH = 250_000

PHP_COUNTS = r"""
[, $key, $count, $number] = $argv;
$sem = sem_get((int)$key);
$s = shm_attach((int)$key);
echo "ready\n";
fgets(STDIN);
for ($i = 0; $i < $count; $i++) {
    sem_acquire($sem);
    shm_put_var($s, 1, shm_get_var($s, 1) + 1);
    sem_release($sem);
}
echo "done\n";
"""

PYTHON_COUNTS = """
from shmvar import php
semaphore = php.Semaphore(int(key))
segment = php.attach(int(key), lock=semaphore)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    with semaphore:
        segment[1] += 1
print("done")
"""


def finish(each, timeout=600):
    for child in each:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in each:
        out, _ = child.communicate(timeout=timeout)
        assert (out, child.returncode) == ("done\n", 0)


def test_a_million_updates_by_two_of_each_and_none_is_lost(php_key, children, capsys):
    with php.attach(php_key) as segment:
        segment[1] = 0
        each = [php_programs.start(PHP_COUNTS, php_key, EACH, n) for n in range(2)]
        each += [helpers.start(PYTHON_COUNTS, php_key, EACH) for _ in range(2)]
        children.extend(each)
        began = time.monotonic()
        finish(each)
        took = time.monotonic() - began
        with capsys.disabled():
            print(f"\n{4 * EACH:,} updates under the semaphore by 2 PHP and 2 Python processes: {took:.1f} s")
        assert segment[1] == 4 * EACH


PHP_CHANGES = r"""
[, $key, $count, $number] = $argv;
$sem = sem_get((int)$key);
$s = shm_attach((int)$key);
mt_srand((int)$number);
echo "ready\n";
fgets(STDIN);
for ($i = 0; $i < $count; $i++) {
    sem_acquire($sem);
    $index = mt_rand(0, 9);
    $v = shm_get_var($s, $index);
    if ($v['text'] !== str_repeat('x', $v['n'] % 97)) exit("damaged\n");
    $n = $v['n'] + 1;
    if ($n % 5 === 0) shm_remove_var($s, $index);
    shm_put_var($s, $index, ['n' => $n, 'text' => str_repeat('x', $n % 97)]);
    sem_release($sem);
}
echo "done\n";
"""

PYTHON_CHANGES = """
import random
from shmvar import php
semaphore = php.Semaphore(int(key))
segment = php.attach(int(key), lock=semaphore)
draw = random.Random(int(sys.argv[3]))
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    with semaphore:
        index = draw.randrange(10)
        found = segment.pop(index) if draw.random() < 0.2 else segment[index]
        assert found["text"] == "x" * (found["n"] % 97)
        segment[index] = {"n": found["n"] + 1, "text": "x" * ((found["n"] + 1) % 97)}
print("done")
"""


def test_values_of_changing_sizes_at_ten_indexes_are_never_torn_under_the_semaphore(php_key, children, in_php):
    count = 30_000
    with php.attach(php_key, 4000) as segment, system_v.RawSegment(php_key) as raw:
        segment.update({index: {"n": 0, "text": ""} for index in range(10)})
        each = [php_programs.start(PHP_CHANGES, php_key, count, n) for n in range(2)]
        each += [helpers.start(PYTHON_CHANGES, php_key, count, n) for n in range(2)]
        children.extend(each)
        finish(each)
        assert sum(found["n"] for found in segment.values()) == 4 * count and len(segment) == 10
        assert raw.end + raw.free == raw.total and system_v.newer_php_accepts(raw)
        in_php("$s = shm_attach($a[0]);", php_key)
        assert in_php("$n = 0; for ($i = 0; $i < 10; $i++) $n += shm_get_var($s, $i)['n']; return $n;") == 4 * count


def test_each_call_alone_takes_the_semaphore_when_nobody_holds_it(php_key, children):
    """Without `with`: puts of one process each, at indexes of its own, are not lost either."""
    code = """
        from shmvar import php
        segment, number = php.attach(int(key), lock=php.Semaphore(int(key))), int(sys.argv[2])
        for turn in range(5000):
            segment[number] = "x" * (turn % 50)
            assert segment[number] == "x" * (turn % 50)
            if turn % 10 == 0:
                del segment[number]
                assert number not in segment
        segment[number] = "end"
    """
    php_code = r"""
        [, $key, $number] = $argv;
        $sem = sem_get((int)$key); $s = shm_attach((int)$key);
        echo "ready\n";
        for ($i = 0; $i < 50000; $i++) {
            sem_acquire($sem);
            shm_put_var($s, (int)$number, str_repeat('y', $i % 70));
            sem_release($sem);
        }
    """
    with php.attach(php_key, 4000) as segment:
        beside = php_programs.start(php_code, php_key, 100)
        children.append(beside)
        helpers.run_in_processes(code, php_key, count=3, timeout=300)
        assert beside.wait(300) == 0
        assert dict(segment) == {0: "end", 1: "end", 2: "end", 100: "y" * (49_999 % 70)}


def test_a_call_of_php_waits_while_python_holds_the_semaphore_and_the_other_way(php_key, in_php):
    semaphore = php.Semaphore(php_key)
    segment = php.attach(php_key, lock=semaphore)
    with segment:
        in_php("$sem = sem_get($a[0]); $s = shm_attach($a[0]);", php_key)
        with semaphore:
            segment[1] = 1  # the thread that holds it does not wait for itself
            with semaphore:
                segment[1] += 1
            assert in_php("return sem_acquire($sem, true);") is False
            assert semaphore.held
        assert in_php("return sem_acquire($sem, true);") is True
        assert semaphore.acquire(timeout=0) is False and semaphore.acquire(timeout=0.05) is False
        in_php.send("usleep(200000); shm_put_var($s, 1, 'php'); sem_release($sem);")
        with semaphore:
            assert segment[1] == "php"
        in_php.receive()
    semaphore.close()
