"""Every request of what a process measures, kept where ``--llmperf-export requests`` asks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pytest_llmperf.records import Pass, Run, Side, Workload
from pytest_llmperf.report.requests.parts import Place, write_part

from .conclusions import Conclusions
from .measurement import measurement_id


class KeptRequests:
    """Leaves the requests of each run in ``directory``; without one, nowhere. Where that fails the
    session is red, and measuring goes on."""

    def __init__(self, directory: Path | None, conclusions: Conclusions) -> None:
        self._directory = directory
        self._conclusions = conclusions

    def keep(
        self,
        server_id: str,
        workload: Workload,
        side: Side,
        pair: int | None,
        run: Run,
        pass_: Pass,
    ) -> None:
        """Take a run that is over. Between runs nothing is measured that this could disturb."""
        if self._directory is None:
            return
        place = Place(
            test=self._conclusions.running,
            measurement=measurement_id(server_id, workload),
            server=server_id,
            workload=workload.name,
        )
        try:
            write_part(self._directory, replace(run, side=side, pair=pair), pass_, place)
        except OSError as error:
            self._tell(f"{self._directory}: {error.strerror or error}")

    def _tell(self, trouble: str) -> None:
        problem = (
            f"the requests of a run could not be kept in {trouble}. Give --llmperf-export requests "
            "another place, or make room."
        )
        if problem not in self._conclusions.problems:
            self._conclusions.problems.append(problem)
