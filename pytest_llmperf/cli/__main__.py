"""``python -m pytest_llmperf.cli``: the console script where none is installed."""

from __future__ import annotations

import sys

from . import main

if __name__ == "__main__":
    sys.exit(main())
