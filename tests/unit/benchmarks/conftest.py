"""The benchmarks are no part of the package: found in the checkout, behind what is installed."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))
