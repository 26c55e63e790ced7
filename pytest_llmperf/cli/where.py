"""Where the store is that a command reads."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pytest_llmperf.errors import LlmPerfError
from pytest_llmperf.store import Store, open_store

#: Where a store lies unless somebody says otherwise.
DEFAULT = "perf"


def add_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        metavar="WHERE",
        help="a directory (perf/), sqlite:///FILE or postgresql://USER@HOST/DATABASE "
        f"(default: {DEFAULT}/ in the current directory)",
    )


@contextmanager
def opened(where: str | None) -> Iterator[Store]:
    """The store that ``--store`` names, else the usual place, if it is there."""
    here = Path.cwd()
    if where is None and not (here / DEFAULT).is_dir():
        raise LlmPerfError(
            f"no store here: there is no directory {DEFAULT}/ in {here}. Say where it is with "
            "--store; pytest's ini value llmperf_store is not read by this command."
        )
    store = open_store(where or DEFAULT, here)
    try:
        yield store
    finally:
        store.close()
