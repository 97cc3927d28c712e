"""Readers without a lock: PHP reads while Python writes, and the other way round. Bad reads are counted and printed.

PHP gives nothing by which a reader could notice that a writer came between. So a rare bad read is no fault; what is
shown here is how rare they are. (Two PHP processes: 2 to 3.5 of 100 reads are bad.)
"""

import json
import random
import time

import helpers
import pytest
from helpers import php as php_programs

import shmvar
from shmvar import php

pytestmark = [helpers.needs_php, pytest.mark.slow]

SECONDS = 3.0
FEW = 20
"""So many bad reads are let pass beside one for each time that the reader was halted: a reader is wrong only if it
stands still (`docs/php.md`), and it stands still when the kernel takes its processor away."""

READER = r"""
[, $key, $count, $size, $seconds] = $argv;
$s = shm_attach((int)$key);
$missing = $corrupted = $wrong = $older = $reads = 0;
$examples = [];
set_error_handler(function ($level, $text) {
    global $missing, $corrupted;
    if (str_contains($text, "doesn't exist")) $missing++;
    elseif (str_contains($text, 'is corrupted')) $corrupted++;
    return true;
});
$last = array_fill(0, $count, null);
function halts() {
    preg_match_all('/ctxt_switches:\s*(\d+)/', file_get_contents('/proc/self/status'), $found);
    return array_sum($found[1]);
}
echo "go\n";
$halts = halts();
$end = microtime(true) + $seconds;
while (microtime(true) < $end) {
    for ($turn = 0; $turn < 500; $turn++) {
        $index = $reads++ % $count;
        $bad = $missing + $corrupted;
        $value = shm_get_var($s, $index);
        if ($missing + $corrupted !== $bad) continue;
        if ($size === 'int') {
            $right = is_int($value) && $value % 100 === $index;
            $number = $right ? intdiv($value, 100) : 0;
        } else {
            $token = is_string($value) ? substr($value, 0, 8) : '';
            $right = strlen($token) === 8 && (int)substr($token, 0, 2) === $index
                && $value === str_repeat($token, intdiv(strlen($value), 8));
            if ($right && $size !== 'mixed') $right = strlen($value) === (int)$size;
            $number = $right ? (int)substr($token, 2) : 0;
        }
        if (!$right) {
            $wrong++;
            if (count($examples) < 3) $examples[] = substr(var_export($value, true), 0, 60);
        } else {
            if ($last[$index] !== null && ($number - $last[$index] + 2000000) % 1000000 > 500000) $older++;
            $last[$index] = $number;
        }
    }
}
echo json_encode([$reads, $missing, $corrupted, $wrong, $older, halts() - $halts, $examples],
    JSON_INVALID_UTF8_SUBSTITUTE), "\n";
"""


def value(index, number, size, draw):
    if size == "int":
        return number % 1_000_000 * 100 + index
    token = f"{index:02d}{number % 1_000_000:06d}"
    return token * ((draw.randrange(8, 2000) if size == "mixed" else size) // 8)


LOADS = [(count, size) for count in (1, 20) for size in ("int", 8, 200, 2000, "mixed")]


AMPLE, TIGHT = 16 << 20, 4 << 20
"""Segments in which eight places for each of 20 values of 2,000 bytes are less than a 32nd, and more than that."""


@pytest.mark.parametrize(
    "count, size, total", [(*load, AMPLE) for load in LOADS] + [(20, 2000, TIGHT), (20, "mixed", TIGHT)]
)
def test_php_reads_right_values_while_python_writes(php_key, children, count, size, total, capsys):
    draw = random.Random(1)
    with php.attach(php_key, total) as segment:
        for index in range(count):
            segment[index] = value(index, 0, size, draw)
        reader = php_programs.start(READER, php_key, count, size, SECONDS)
        children.append(reader)
        writes, numbers, began = 0, [0] * count, time.monotonic()
        while reader.poll() is None:
            for _ in range(200):
                index = draw.randrange(count)
                numbers[index] += 1
                segment.put(index, value(index, numbers[index], size, draw))
                writes += 1
        took = time.monotonic() - began
        reads, missing, corrupted, wrong, older, halts, examples = json.loads(reader.stdout.read())
        bad = missing + corrupted + wrong + older
        with capsys.disabled():
            print(
                f"\nPHP reads {count} x {size} in {total >> 20} MiB: {bad} bad of {reads:,} reads "
                f"({bad / reads:.1e}; {missing} missing, {corrupted} damaged, {wrong} wrong, {older} older), "
                f"halted {halts} times, beside {writes / took:,.0f} writes/s {examples}"
            )
        assert reads > 10_000 and writes > 1000
        # Without places of its own, a value goes to another gap, and a reader that passes meanwhile may miss it.
        assert bad <= (FEW + halts if total == AMPLE else reads / 1000)
        assert segment.info().count == count
        last = {index: segment[index] for index in range(count)}
        assert all(is_right(found, index, size) for index, found in last.items())


WRITER = r"""
[, $key, $count, $size] = $argv;
$s = shm_attach((int)$key);
mt_srand(5);
stream_set_blocking(STDIN, false);
echo "go\n";
$numbers = array_fill(0, $count, 0);
for ($writes = 0; $writes % 1000 !== 0 || fgets(STDIN) === false; $writes++) {
    $index = mt_rand(0, $count - 1);
    $number = ++$numbers[$index] % 1000000;
    $length = $size === 'mixed' ? intdiv(mt_rand(8, 1999), 8) : intdiv((int)$size, 8);
    $value = $size === 'int' ? $number * 100 + $index : str_repeat(sprintf('%02d%06d', $index, $number), $length);
    shm_put_var($s, $index, $value);
}
echo $writes, "\n";
"""

PYTHON_WRITER = """
import json
import random
from shmvar import php
segment, count, size = php.attach(int(key)), int(sys.argv[2]), sys.argv[3]
draw, writes, numbers = random.Random(3), 0, [0] * count
os.set_blocking(0, False)
print("go", flush=True)
while writes % 1000 or not os.path.exists(sys.argv[4]):
    index = draw.randrange(count)
    numbers[index] = number = (numbers[index] + 1) % 1_000_000
    length = (draw.randrange(8, 2000) if size == "mixed" else 8 if size == "int" else int(size)) // 8
    segment[index] = number * 100 + index if size == "int" else f"{index:02d}{number:06d}" * length
    writes += 1
print(writes)
"""


def halted():
    """How often this thread's processor was taken away."""
    with open("/proc/thread-self/status") as status:
        return sum(int(line.split()[1]) for line in status if "ctxt_switches" in line)


def is_right(found, index, size):
    if size == "int":
        return type(found) is int and found % 100 == index
    return (
        type(found) is str
        and len(found) >= 8
        and found == found[:8] * (len(found) // 8)
        and found[:2] == f"{index:02d}"
        and (size == "mixed" or len(found) == size)
    )


@pytest.mark.parametrize("writer", ["php", "python"])
@pytest.mark.parametrize("count, size", [(1, "int"), (1, 2000), (20, 200), (20, "mixed")])
def test_python_reads_right_values_or_tells_an_error_while_another_writes(
    php_key, children, tmp_path, writer, count, size, capsys
):
    """PHP moves chunks while it writes, and nothing tells that it does: a wrong value cannot always be noticed."""
    draw = random.Random(2)
    with php.attach(php_key, 4 << 20) as segment:
        for index in range(count):
            segment[index] = value(index, 0, size, draw)
        if writer == "php":
            child = php_programs.start(WRITER, php_key, count, size)
        else:
            child = helpers.start(PYTHON_WRITER, php_key, count, size, tmp_path / "end")
        children.append(child)
        right = missing = damaged = wrong = turns = 0
        halts = -halted()
        for _ in helpers.looks(seconds=SECONDS):
            for _ in range(500):
                index = turns % count
                turns += 1
                try:
                    found = segment[index]
                except KeyError:
                    missing += 1
                except shmvar.Error:  # damaged, or no end of changes
                    damaged += 1
                else:
                    if is_right(found, index, size):
                        right += 1
                    else:
                        wrong += 1
        halts += halted()
        (tmp_path / "end").touch()
        writes = int(child.communicate("end\n", timeout=60)[0])
        with capsys.disabled():
            print(
                f"\nPython reads {count} x {size} beside {writer}: {missing} missing, {damaged} damaged, {wrong} wrong "
                f"of {turns:,} reads, halted {halts} times, beside {writes / SECONDS:,.0f} writes/s"
            )
        assert right > 1000 and writes > 1000
        if writer == "python":
            assert missing + damaged + wrong <= FEW + halts
        else:
            assert wrong <= 20 + turns * 0.035  # no worse than PHP's own readers
        assert all(is_right(segment[index], index, size) for index in range(count))
