"""Two readers in two processes against one; and what importing the package costs."""

import argparse
import statistics
import subprocess
import sys
import time

import shmvar

READER = """
import sys, time, shmvar
segment = shmvar.attach("bench-readers", create=False)
print("ready", flush=True)
sys.stdin.readline()
end, calls = time.perf_counter() + 1.5, 0
while time.perf_counter() < end:
    for i in range(1000):
        segment[i]
    calls += 1000
print(calls, flush=True)
"""


def readers(count: int) -> int:
    """Calls in a second and a half by so many processes."""
    children = [
        subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(count)
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


def import_ms(statement: str) -> float:
    times = []
    for _ in range(30):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", statement], check=True)
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    shmvar.destroy("bench-readers")
    segment = shmvar.attach("bench-readers")
    for i in range(1000):
        segment[i] = i
    ones, twos = [], []
    for _ in range(3):
        ones.append(readers(1))
        twos.append(readers(2))
    print(f"readers: one {max(ones)} calls, two {max(twos)} calls, gain {max(twos) / max(ones):.2f}")
    segment.destroy()
    bare, ours = import_ms("pass"), import_ms("import shmvar")
    print(f"import shmvar: {ours - bare:.2f} ms over bare Python ({bare:.2f} ms)")


if __name__ == "__main__":
    main()
