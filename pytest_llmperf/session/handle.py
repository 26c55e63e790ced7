"""What tests hold: the server (``llm_server``, ``llm_endpoint``), the measuring (``llm_perf``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.load.declare.fields import read_fields
from pytest_llmperf.metrics.slo import read_slos
from pytest_llmperf.metrics.sweep import read_search
from pytest_llmperf.records import Accelerator, Json, Verdict, Workload

from .block import Block
from .duel import Duel
from .measurement import Measurement
from .sweep import Points, Sweep, run_sweep


class ServerHandle:
    """A server that is up. It stays valid when the session launches the server anew."""

    def __init__(self, block: Block, duel: Duel | None = None) -> None:
        self._block = block
        self._duel = duel

    @property
    def url(self) -> str:
        """Base URL without a trailing slash, such as ``http://127.0.0.1:30000``."""
        return self._block.open().url

    @property
    def engine(self) -> str:
        return self._block.engine.name

    @property
    def version(self) -> str | None:
        """The engine's version as the server reports it."""
        return self._block.open().identity.version

    @property
    def model(self) -> str | None:
        """The name under which the server answers requests for the model."""
        return self._block.open().identity.model

    @property
    def args(self) -> Mapping[str, Json]:
        """The server's resolved arguments, as it reports them; secrets left out."""
        return self._block.open().identity.args

    @property
    def log_path(self) -> Path | None:
        """The server's log; ``None`` for an attached endpoint."""
        log = self._block.open().record.log
        return Path(log) if log else None

    @property
    def accelerator(self) -> Accelerator:
        return self._block.accelerator

    def metrics(self) -> str | None:
        """The server's own metrics in its own format; ``None`` where it offers none."""
        return self._block.open().asides.page()

    def measure(self, workload: Workload) -> Measurement:
        """Measure a workload, unless it was measured before, and its reference where a gate
        compares the two; ``llm_perf.run()`` does this."""
        if self._duel is not None and self._duel.concerns(workload):
            return self._duel.measure(workload)
        return self._block.measure(workload)

    def measure_point(self, workload: Workload, doing: str) -> Measurement:
        """Measure a workload on the launch that is up and no other; ``doing`` says what for."""
        return self._block.measure_point(workload, doing)

    @property
    def id(self) -> str:
        """The name of what was asked for, as the report has it."""
        return self._block.id

    def flush(self) -> None:
        """Empty the server's prefix cache, where the engine can."""
        self._block.open().flush()


class LlmPerf:
    """Measures what the test's markers declare. ``run()`` may be called more than once: what was
    measured is not measured again."""

    def __init__(
        self,
        server: ServerHandle,
        expectation: Expectation,
        make_workload: Callable[[object, Mapping[str, object]], Workload],
        *,
        short: bool = False,
    ) -> None:
        self.server = server
        self.expectation = expectation
        self.measurements: list[Measurement] = []
        self.sweeps: list[Sweep] = []
        self.verdicts: list[Verdict] = []
        self._make_workload = make_workload
        self._short = short

    def run(self, workload: str | Workload | None = None, **overrides: object) -> Measurement:
        """Warm up, measure, and return the :class:`~pytest_llmperf.Measurement`.

        Without arguments it measures the declared workload, which is what the gates judge. A
        workload named here that no marker declares is measured on its own and judged by nothing.
        Raises :class:`~pytest_llmperf.ServerError` when the server breaks.
        """
        return self._noted(self.server.measure(self._which("run", workload, overrides)))

    async def arun(
        self, workload: str | Workload | None = None, **overrides: object
    ) -> Measurement:
        """:meth:`run` for ``async def`` tests; the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.run, workload, **overrides)

    def sweep(
        self,
        workload: str | Workload | None = None,
        *,
        over: str = "concurrency",
        slo: str | Mapping[str, str] | None = None,
        low: float = 1,
        high: float = 256,
        values: Sequence[float] | None = None,
        requests: int | None = None,
        duration: float | str | None = None,
        runs: int | None = None,
        **overrides: object,
    ) -> Sweep:
        """Find the highest load at which the objectives hold, and the knee of throughput.

        ``over`` is "concurrency" (requests in flight) or "rate" (requests per second, Poisson
        arrivals unless the workload says others). Loads from ``low`` to ``high`` are searched, or
        all of ``values`` measured. ``slo`` is a preset's name or a mapping of limits for single
        requests, by default the workload's own; a load is within it when the 99th percentile of
        each of its metrics is within the limit in every valid run. ``requests`` or ``duration``
        say how long a point is measured, ``runs`` how often.

        Every point is an ordinary measurement, on one launch, and judged by no gate: write
        ``assert sweep.highest >= 8``. Raises :class:`~pytest_llmperf.UsageMistake` for what cannot
        be asked and :class:`~pytest_llmperf.ServerError` when the server breaks.
        """
        declared = self._which("sweep", workload, overrides)
        search = read_search(over, low, high, values)
        extent = {"requests": requests, "duration": duration, "runs": runs}
        said = read_fields({name: v for name, v in extent.items() if v is not None}, "sweep")
        points = Points(
            declared=replace(declared, runs=1 if self._short else said.get("runs", declared.runs)),
            over=search.over,
            slos=declared.slo if slo is None else read_slos(slo, "sweep"),
            requests=said.get("requests"),
            duration_s=said.get("duration_s"),
            short=self._short,
        )
        sweep = run_sweep(
            search,
            points,
            self.server.id,
            lambda point, doing: self._noted(self.server.measure_point(point, doing)),
        )
        self.sweeps = [*(known for known in self.sweeps if known.id != sweep.id), sweep]
        return sweep

    def _noted(self, measurement: Measurement) -> Measurement:
        if measurement not in self.measurements:
            self.measurements.append(measurement)
        return measurement

    @property
    def declared(self) -> Measurement | None:
        """The measurement of the declared workload, once it was taken."""
        wanted = self.expectation.workload
        return next((m for m in self.measurements if m.workload == wanted), None)

    def _which(
        self, caller: str, workload: str | Workload | None, overrides: Mapping[str, object]
    ) -> Workload:
        if workload is not None:
            return self._make_workload(workload, overrides)
        declared = self.expectation.workload
        if declared is None:
            raise UsageMistake(
                f"llm_perf.{caller}() does not know what to ask: mark the test with "
                '@pytest.mark.llm_workload("chat", concurrency=8), or name a workload in it.'
            )
        if overrides:
            raise UsageMistake(
                f"llm_perf.{caller}({', '.join(overrides)}=...): the declared workload is fixed at "
                "collection; put the change in llm_workload(...), or name a workload in the call."
            )
        return declared
