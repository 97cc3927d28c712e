"""What `shmvar doctor URL` found, taken apart."""


def of(found, level, about=""):
    return [f["text"] for f in found["findings"] if f["level"] == level and about in f["about"]]


def problem(found):
    (finding,) = found["findings"]
    assert finding["level"] == "problem" and found["server"] is None and finding["remedy"]
    return finding
