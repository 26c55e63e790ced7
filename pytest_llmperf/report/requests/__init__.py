"""Every single request of a session as CSV or Parquet: ``--llmperf-export requests:PATH``.

The report holds no single requests, so these files are not made of it. The process that measured a
run leaves its requests in a part file right after it (:mod:`.parts`), whatever becomes of the test
or of the process; at the end all parts become one file (:mod:`.gather`, :mod:`.files`). What a row
holds, one table tells (:mod:`.columns`).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pytest_llmperf.errors import UsageMistake

KIND = "requests"
CSV, GZIPPED, PARQUET = SUFFIXES = (".csv", ".csv.gz", ".parquet")


def parts_directory(path: Path) -> Path:
    """Where the parts lie of what will be written to ``path``. A session that is cut off leaves
    them there, for one that goes on with it."""
    return path.with_name(f"{path.name}.unfinished")


def check_path(path: str, said: str) -> None:
    """Raises :class:`~pytest_llmperf.errors.UsageMistake` for a ``path`` that no format goes with,
    and for Parquet where pyarrow is not installed; ``said`` is what the user wrote."""
    if not path.endswith(SUFFIXES):
        raise UsageMistake(
            f"{said}: the file's name says the format, so it must end in .csv, .csv.gz or .parquet."
        )
    if path.endswith(PARQUET) and find_spec("pyarrow") is None:
        raise UsageMistake(
            f"{said}: Parquet needs pyarrow, which is not installed here; "
            "pip install 'pytest-llmperf[parquet]', or write .csv.gz."
        )
