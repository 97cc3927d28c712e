"""Two readers in two processes against one; and what importing the package costs."""

import argparse
import statistics
import subprocess
import sys
import time

import shmvar

READER = """
import sys, time, shmvar
seconds = float(sys.argv[1])
segment = shmvar.attach("bench-readers", create=False)
print("ready", flush=True)
sys.stdin.readline()
end, calls = time.perf_counter() + seconds, 0
while time.perf_counter() < end:
    for i in range(1000):
        segment[i]
    calls += 1000
print(calls, flush=True)
"""


def readers(count: int, seconds: float) -> int:
    """Calls in so many seconds by so many processes."""
    command = [sys.executable, "-c", READER, str(seconds)]
    children = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(count)
    ]
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    total = sum(int(child.stdout.readline()) for child in children)
    for child in children:
        child.communicate()
    return total


def import_ms(statement: str, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", statement], check=True)
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="for a moment, to see that it runs")
    smoke = parser.parse_args().smoke
    seconds, rounds, imports = (0.05, 1, 2) if smoke else (1.5, 3, 30)
    shmvar.destroy("bench-readers")
    segment = shmvar.attach("bench-readers")
    for i in range(1000):
        segment[i] = i
    ones, twos = [], []
    for _ in range(rounds):
        ones.append(readers(1, seconds))
        twos.append(readers(2, seconds))
    print(f"readers: one {max(ones)} calls, two {max(twos)} calls, gain {max(twos) / max(ones):.2f}")
    segment.destroy()
    bare, ours = import_ms("pass", imports), import_ms("import shmvar", imports)
    print(f"import shmvar: {ours - bare:.2f} ms over bare Python ({bare:.2f} ms)")


if __name__ == "__main__":
    main()
