"""What others change while a dump is under way, from within the function that it writes with: at known moments."""

import io

import pytest

import shmvar

LEASES = 20
# The moves of a slot are counted in 11 bits.
ROUND = 2048


class Beside(io.BytesIO):
    """A file that calls a function whenever a piece of a large value is written, a few times."""

    def __init__(self, change, times):
        super().__init__()
        self.change, self.times = change, times

    def write(self, data):
        if len(data) > 200_000 and self.times:
            self.times -= 1
            self.change(self.times)
        return super().write(data)


@pytest.mark.parametrize("readonly", [False, True])
def test_leases_that_are_renewed_until_their_moves_went_round_are_dumped_as_they_are(seg, key, new_key, readonly):
    for number in range(LEASES):
        seg.put(f"lease {number}", "v", ttl=5)
    for number in range(4):
        seg[f"large {number}"] = bytes(600_000)

    def renew(times):
        for number in range(LEASES):
            for _ in range(ROUND):
                seg.expire(f"lease {number}", 1000)
        if times and not readonly:
            # So that there is one more pass, which comes here, too.
            seg["large 0"] = bytes(600_000)

    with shmvar.attach(key, readonly=readonly) as handle:
        file = Beside(renew, 6)
        assert handle.dump(file) == LEASES + 4
    with shmvar.attach(new_key()) as again:
        again.load(io.BytesIO(file.getvalue()))
        assert {again.stat(f"lease {number}").expires_in > 500 for number in range(LEASES)} == {True}
        again.destroy()
