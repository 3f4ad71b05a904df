"""The control process over the small live system, started as the real one is."""

from __future__ import annotations

import sys

from clew.server.control import main
from tests.server.small_live import open_small_live

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], open_small_live))
