"""Pages that a batch obtained serve the next slabs before more are obtained."""

import pytest
import shmvar


@pytest.mark.parametrize("length, values", [(300, 20_000), (2_900, 5_000), (7_900, 2_000)])
def test_values_filled_once_take_little_more_than_they_are_charged(length, values, key):
    with shmvar.attach(key, 1 << 30) as segment:
        for index in range(values):
            segment[index] = bytes(length)
        info = segment.info()
        # Blocks are up to a quarter larger than what they hold, the table up to 73 bytes a variable.
        assert info.resident <= 1.5 * info.used + values * 80 + (2 << 20)
