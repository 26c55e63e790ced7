"""``python -m docs.generate``: write the generated pages of this checkout."""

from __future__ import annotations

from pathlib import Path

from . import write

write(Path(__file__).parents[2])
