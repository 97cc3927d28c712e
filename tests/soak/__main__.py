"""`python tests/soak`: the command line of the soak."""

import sys
from pathlib import Path

# Python put this folder itself on the path; the package is found from its parent.
sys.path[0] = str(Path(__file__).parents[1])

from soak.director import main  # noqa: E402

sys.exit(main())
