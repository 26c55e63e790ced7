"""Where what was measured goes when the place that was asked for refuses it: nothing is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import ReportError
from pytest_llmperf.records import Observation
from pytest_llmperf.report.write import write_report
from pytest_llmperf.store import StoreError, open_store


class StoreRescue:
    """A store of its own in the temporary directory, made when the one asked for first fails."""

    def __init__(self) -> None:
        self._directory: Path | None = None

    def keep(self, observation: Observation) -> str:
        """Keep ``observation``; a sentence that says where, or that no place was found."""
        try:
            if self._directory is None:
                self._directory = Path(tempfile.mkdtemp(prefix="pytest-llmperf-store-"))
            store = open_store(str(self._directory), self._directory)
            try:
                store.append(observation)
            finally:
                store.close()
        except (OSError, StoreError) as error:
            return f"Nor could it be kept in the temporary directory ({error})."
        return (
            f"What was measured is kept in {self._directory} instead, which is a store like any "
            "other: copy what is in it into yours once that can be written, or name it with "
            "--llmperf-store."
        )


def rescue_report(document: Mapping[str, Any], path: Path) -> str:
    """Keep a report that could not be written to ``path``; a sentence as above."""
    try:
        kept = Path(tempfile.mkdtemp(prefix="pytest-llmperf-report-"), path.name)
        write_report(document, kept, option="--llmperf-report")
    except (OSError, ReportError) as error:
        return f"Nor could it be kept in the temporary directory ({error})."
    return f"It is kept in {kept} instead."
