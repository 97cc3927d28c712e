"""The memory that a dump and a load take does not depend on how long the values are."""

import os

import helpers
import pytest

import shmvar

PEAK = """
import resource
import shmvar._dump.files, shmvar._dump.reading, shmvar._dump.writing
segment, path = shmvar.attach(key), sys.argv[2]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
segment.dump(path) if sys.argv[3] == "dump" else segment.load(path)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


@pytest.mark.slow
def test_eight_times_as_much_takes_no_more_memory(new_key, tmp_path):
    peaks = {"dump": [], "load": []}
    for mib in (48, 384):
        key, path = new_key(), tmp_path / "dump"
        with shmvar.attach(key, 1 << 30) as segment:
            for number in range(mib // 6):
                segment[number] = os.urandom(1 << 20) * 4
                segment[f"text {number}"] = "x" * (2 << 20)
            peaks["dump"].append(int(helpers.run(PEAK, key, path, "dump").stdout))
            segment.clear()
            segment.trim()
            peaks["load"].append(int(helpers.run(PEAK, key, path, "load").stdout))
            assert len(segment) == mib // 3
            segment.destroy()
        path.unlink()
    for small, large in peaks.values():
        assert large < small + 16, peaks
