"""Marks for tests that need something of the machine. A module of its own: it runs `unshare`, and needs pytest."""

import pytest

from helpers import php
from helpers.machine import IS_ROOT, unshare_works

needs_root = pytest.mark.skipif(not IS_ROOT, reason="needs root: other users, mounts")
needs_mounts = pytest.mark.skipif(not unshare_works("-m"), reason="needs root and `unshare -m`")
needs_pid_namespaces = pytest.mark.skipif(
    not unshare_works("-p", "-f", "--mount-proc"), reason="needs root and `unshare -p -f --mount-proc`"
)
needs_php = pytest.mark.skipif(not php.available(), reason="needs php-cli with sysvshm, which .ci/run installs")
