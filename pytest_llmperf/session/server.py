"""One running server as the session knows it: launched or attached, identified, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pytest_llmperf import clock
from pytest_llmperf.engines.base import Engine, extras_of
from pytest_llmperf.engines.counters import Counters
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import http
from pytest_llmperf.launch.freezing import freeze, thaw
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.launch.tree import process_ids
from pytest_llmperf.load.client import LoadClient, LoadProgress, Target
from pytest_llmperf.load.declare.workloads import longest_request
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.metrics.cost import METRIC as COST
from pytest_llmperf.metrics.cost import cost_metric, price_of
from pytest_llmperf.metrics.prices import Prices
from pytest_llmperf.metrics.quality import output_quality
from pytest_llmperf.metrics.served import server_metrics
from pytest_llmperf.metrics.telemetry import telemetry_metrics, window_of
from pytest_llmperf.records import (
    Accelerator,
    Fingerprint,
    Json,
    LaunchRecord,
    MetricValue,
    Pass,
    Question,
    Run,
    ServerIdentity,
    Telemetry,
    Workload,
)

if TYPE_CHECKING:
    from pytest_llmperf.cluster.crew import RayLoad

from .asides import Asides, attempt
from .over_ray import RayServing
from .probe import Probe
from .seeds import base_seed, run_seed
from .uncounted import invalid, superseded
from .watching import watched

CONTROL_TIMEOUT_S = 10.0
FLUSH_TIMEOUT_S = 30.0
NEWS_OF_DEATH_S = 2.0
#: Failures of a request that a dying server causes.
_LOST = frozenset({"connect", "cut"})

#: Called with a run's index and how far it has come; with neither while the server warms up.
RunProgress = Callable[[int | None, LoadProgress | None], None]
#: Called with a run and its requests once all is known of it; the requests do not outlast the call.
Keep = Callable[[Run, Pass], None]


@dataclass(slots=True, kw_only=True)
class LiveServer:
    """A server that answers, with the runs it has given so far."""

    engine: Engine
    identity: ServerIdentity
    record: LaunchRecord
    url: str
    accelerator: Accelerator
    process: ServerProcess | None
    client_cores: tuple[int, ...] | None
    headers: tuple[tuple[str, str], ...] = ()
    #: Its part in a Ray cluster, where its ranks run in one.
    cluster: RayServing | None = None
    runs: dict[Workload, list[Run]] = field(default_factory=dict)
    cold_ttft_ms: float | None = None
    fingerprint: Fingerprint | None = None
    #: The cluster whose nodes ask, instead of this machine.
    ray: RayLoad | None = None
    _kept_client: LoadClient | None = None
    _cold_asked: bool = False
    _fingerprint_asked: bool = False

    @property
    def keeps_cache(self) -> bool:
        """Whether nobody here can empty the prefix cache, so that it outlives runs and sessions."""
        return self.process is None or self.engine.flush is None

    @property
    def asides(self) -> Asides:
        """Questions beside the load."""
        return Asides(engine=self.engine, url=self.url, headers=self.headers)

    def check(self) -> None:
        """Raise the full story if our server is no longer there."""
        if self.cluster is not None:
            self.cluster.check()
        if self.process is not None and (error := self.process.died()):
            raise error

    def flush(self) -> None:
        """Empty the prefix cache, where the engine can; waits while requests still drain."""
        call = self.engine.flush
        if call is None or self.process is None:
            return
        deadline = clock.Deadline(FLUSH_TIMEOUT_S)
        while True:
            status, body = http.call(call.method, self.url + call.path, timeout_s=CONTROL_TIMEOUT_S)
            if status == 200 and not call.refuses(body):
                return
            if deadline.passed:
                said = body[:200].decode("utf-8", "replace").strip()
                raise ServerError(
                    f"the server would not flush its prefix cache within {FLUSH_TIMEOUT_S:.0f} s: "
                    f"{call.method} {call.path} answered {status} {said}",
                    log_path=self.process.log_path,
                )
            clock.sleep(0.1)

    def measure(
        self,
        workload: Workload,
        on_progress: RunProgress,
        *,
        statistics: Sequence[str] = (),
        bounds: HealthBounds | None = None,
        prices: Prices | None = None,
        processes: int | None = None,
        keep: Keep = lambda *_: None,
        visit: int = 0,
        fingerprint: bool = False,
        turn: int | None = None,
    ) -> list[Run]:
        """Warm up, then measure ``workload.runs`` runs, each on an empty prefix cache; with
        ``turn`` only that one of them, warmed up before the first.

        A run that is not valid, or in which one or two requests failed, is repeated once with
        other prompts; both stay in the list, the first as invalid. ``visit`` tells times apart at
        which one server is measured that somebody else runs. ``fingerprint`` has the launch answer
        the fixed prompts before, if it has not yet.
        """
        seed = base_seed(workload, outlives=self.keeps_cache, visit=visit)
        self._check_context(workload)
        self._ask_cold(workload)
        if fingerprint:
            self._take_fingerprint(workload)
        with self._loading(), self._client(workload, processes, kept=turn is not None) as client:
            on_progress(None, None)
            client.prepare(workload)
            runs = self.runs.setdefault(workload, [])
            if turn is None or not runs:
                client.warm_up(workload, seed=seed)
            once = partial(
                self._run, client, workload, on_progress, statistics, bounds, prices, keep
            )
            fresh: list[Run] = []
            for index in range(workload.runs) if turn is None else (turn,):
                run = once(index, run_seed(seed, index, attempt=0), repeated=True)
                if not run.valid:
                    fresh.append(run)
                    run = once(index, run_seed(seed, index, attempt=1), repeated=False)
                fresh.append(run)
        runs += fresh
        return fresh

    def warm_up(
        self, workload: Workload, *, processes: int | None = None, fingerprint: bool = False
    ) -> float:
        """Send the warm-up requests alone; the seconds that measuring would take by their pace,
        that of the fixed prompts included where a ``fingerprint`` will be taken."""
        seed = base_seed(workload, outlives=self.keeps_cache)
        self._check_context(workload)
        asking = clock.Stopwatch()
        if fingerprint:
            self._take_fingerprint(workload)
        asked_s = asking.elapsed
        with self._loading(), self._client(workload, processes) as client:
            client.prepare(workload)
            watch = clock.Stopwatch()
            sent = len(client.warm_up(workload, seed=seed).records)
            seconds = asked_s + watch.elapsed
        if workload.duration_s is not None:
            return seconds + workload.runs * workload.duration_s
        pace = seconds / sent if sent else 0.0
        return seconds + workload.runs * (workload.requests or 0) * pace

    def send(self, workload: Workload, begin: Callable[[], None]) -> None:
        """Send a pass of ``workload`` for something other than its figures, which nobody gets;
        ``begin`` is called before its first request, when all else is done."""
        self._check_context(workload)
        seed = base_seed(workload, outlives=self.keeps_cache)
        with self._loading(), self._client(workload, None) as client:
            client.prepare(workload)
            if workload.flush:
                self.flush()
            begin()
            client.measure(workload, seed=run_seed(seed, 0, attempt=0))
            self.check()

    def _run(
        self,
        client: LoadClient,
        workload: Workload,
        on_progress: RunProgress,
        statistics: Sequence[str],
        bounds: HealthBounds | None,
        prices: Prices | None,
        keep: Keep,
        index: int,
        seed: int,
        *,
        repeated: bool,
    ) -> Run:
        """One run; with ``repeated`` it is not valid where it is to be measured once more."""
        if workload.flush:
            self.flush()
        if self.cluster is not None:
            self.cluster.settle()
        before = attempt(self.asides.counters, self.check)
        watch = self.cluster.watching if self.cluster is not None else None
        with watched(self.accelerator, self._processes, watch) as seen:
            pass_: Pass = client.measure(
                workload, seed=seed, on_progress=lambda p: on_progress(index, p)
            )
        self._check_after(pass_)
        # numpy: not before it is needed
        from pytest_llmperf.metrics.health import counted_hits
        from pytest_llmperf.metrics.summary import reduce_pass

        run = reduce_pass(
            pass_,
            workload=workload,
            launch_id=self.record.id,
            index=index,
            devices=self.accelerator.count,
            extra=statistics,
            bounds=bounds,
        )
        growth = attempt(
            lambda: self.asides.growth(before, sent=run.sent, succeeded=run.succeeded), self.check
        )
        window = window_of(pass_.records, run.duration_s)
        troubles = seen.troubles(window)
        if self.cluster is not None:
            troubles += self.cluster.silences(window)
        telemetry = seen.telemetry(window)
        run = replace(
            run,
            metrics={
                **run.metrics,
                **self._beside(run, growth),
                **telemetry_metrics(run, telemetry),
            },
            quality=output_quality(pass_.records),
            telemetry=telemetry,
        )
        run = self._with_price(run, prices)
        hits = counted_hits(
            growth, run, workload, bounds or HealthBounds(), keeps_cache=self.keeps_cache
        )
        run = invalid(run, *([hits] if hits else []), *troubles)
        run = superseded(run) if repeated else run
        keep(run, pass_)
        return run

    def _with_price(self, run: Run, prices: Prices | None) -> Run:
        price = price_of(self.accelerator, prices)
        cost = cost_metric(run, price, self.accelerator, prices)
        told = run.telemetry
        if price is not None:
            told = replace(told or Telemetry(), price=price)
        return replace(run, metrics={**run.metrics, COST: cost}, telemetry=told)

    def _processes(self) -> list[int]:
        roots = self.process.pids if self.process is not None else []
        ranks = self.cluster.pids if self.cluster is not None else ()
        return [*(pid for root in roots for pid in process_ids(root)), *ranks]

    def _beside(self, run: Run, growth: Counters | None) -> dict[str, MetricValue]:
        """What the launch and the server know of a run, which its requests do not tell."""
        return {
            **server_metrics(growth, run),
            "startup_time": MetricValue(value=self.record.startup_time_s),
            "cold_ttft": MetricValue(value=self.cold_ttft_ms),
        }

    def _ask_cold(self, workload: Workload) -> None:
        """The first request of a launch, which pays for what others find compiled and loaded."""
        if self.process is not None and not self._cold_asked:
            self._cold_asked = True  # a refused workload was tried on the server, too
            asked = partial(self.asides.first_answer_ms, workload, self.identity.model or "")
            self.cold_ttft_ms = attempt(asked, self.check)

    def _take_fingerprint(self, workload: Workload) -> None:
        """Once a launch. A server that refuses the fixed prompts has none."""
        if not self._fingerprint_asked:
            self._fingerprint_asked = True
            self.fingerprint = attempt(self._probe(workload).fingerprint, self.check)

    def solve(self, questions: Sequence[Question], workload: Workload) -> tuple[bool, ...]:
        """Which of ``questions`` the server answers rightly. Raises ServerError when it refuses
        one."""
        with self._loading():
            return self._probe(workload).solve(questions)

    def _probe(self, workload: Workload) -> Probe:
        return Probe(
            engine=self.engine,
            url=self.url,
            model=self.identity.model or "",
            headers=self.headers,
            timeout_s=workload.request_timeout_s,
        )

    def _check_after(self, pass_: Pass) -> None:
        """Tell a dead server from failing requests: its keeper may hear of the end after us."""
        lost = any(record.failure in _LOST for record in pass_.records)
        deadline = clock.Deadline(NEWS_OF_DEATH_S if lost else 0.0)
        self.check()
        while not deadline.passed:
            clock.sleep(0.05)
            self.check()

    def _check_context(self, workload: Workload) -> None:
        most = self.identity.max_context_tokens
        longest = longest_request(workload)
        if most is None or longest is None or sum(longest) <= most:
            return
        raise ServerError(
            f"the server's context is too small for workload {workload.name!r}: "
            f"{longest[0]} input + {longest[1]} output tokens = {sum(longest)} in its longest "
            f"request, but the server takes {most}",
            remedy="start it with a longer context, or ask for fewer input_tokens or output_tokens",
            argv=self.process.argv if self.process else (),
            log_path=self.process.log_path if self.process else None,
        )

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """A dead server explains a client's trouble better than the client can."""
        try:
            yield
        except Exception:
            self.check()
            raise

    @contextmanager
    def _client(
        self, workload: Workload, processes: int | None, *, kept: bool = False
    ) -> Iterator[LoadClient]:
        """A client, closed again unless it is ``kept`` for the turns to come: to start one and to
        try the workload takes longer than a short run."""
        fields = self._fields(workload)
        client, self._kept_client = self._kept_client, None
        if client is not None and client.api_fields != fields:
            client.close()
            client = None
        client = client or self._new_client(fields, processes)
        try:
            yield client
        except BaseException:
            client.close()
            raise
        if kept:
            self._kept_client = client
        else:
            client.close()

    def _fields(self, workload: Workload) -> dict[str, Json]:
        """What every request of ``workload`` says beside what is asked."""
        fields = dict(self.engine.exact_length)
        if workload.shares_prefixes:
            return fields
        return fields | dict(extras_of(self.engine).uncached)

    def _new_client(self, fields: Mapping[str, Json], processes: int | None) -> LoadClient:
        target = Target(
            url=self.url,
            model=self.identity.model or "",
            api_fields=fields,
            tokenize=self.engine.tokenize,
            headers=self.headers,
            exact_output=bool(self.engine.exact_length),
        )
        crew = None if self.ray is None else self.ray.crew(self.url)
        return LoadClient(target, cores=self.client_cores, processes=processes, crew=crew)

    def freeze(self) -> None:
        """Hold the server still, if we started it, so that another one has the device alone."""
        if self.process is not None:
            freeze(self.process.pid)

    def thaw(self) -> None:
        """Let it go on."""
        if self.process is not None:
            thaw(self.process.pid)

    def stop(self) -> None:
        """Stop the server if we started it; safe to call twice."""
        client, self._kept_client = self._kept_client, None
        if client is not None:
            client.close()
        try:
            if self.process is not None:
                self.process.stop()
        finally:
            if self.cluster is not None:
                self.cluster.finish()
