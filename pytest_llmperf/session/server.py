"""One running server as the session knows it: launched or attached, identified, measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from pytest_llmperf import clock
from pytest_llmperf.engines.base import Engine
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import http
from pytest_llmperf.launch.freezing import freeze, thaw
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.launch.tree import process_ids
from pytest_llmperf.load.client import Target
from pytest_llmperf.load.declare.workloads import longest_request
from pytest_llmperf.records import (
    Accelerator,
    Fingerprint,
    LaunchRecord,
    Pass,
    Question,
    Run,
    ServerIdentity,
    Workload,
)

from .asides import Asides, attempt
from .clients import Clients, FindCrew
from .one_run import Measuring, RunProgress, one_run
from .probe import Probe
from .ranks import Ranks, RanksHere
from .seeds import base_seed, run_seed

CONTROL_TIMEOUT_S = 10.0
FLUSH_TIMEOUT_S = 30.0
NEWS_OF_DEATH_S = 2.0
#: Failures of a request that a dying server causes.
_LOST = frozenset({"connect", "cut"})


@dataclass(slots=True, kw_only=True)
class LiveServer:
    """A server that answers, with the runs it has given so far."""

    engine: Engine
    identity: ServerIdentity
    record: LaunchRecord
    url: str
    accelerator: Accelerator
    process: ServerProcess | None
    crew: FindCrew
    headers: tuple[tuple[str, str], ...] = ()
    ranks: Ranks = field(default_factory=RanksHere)
    runs: dict[Workload, list[Run]] = field(default_factory=dict)
    cold_ttft_ms: float | None = None
    fingerprint: Fingerprint | None = None
    clients: Clients = field(init=False)
    _cold_asked: bool = False
    _fingerprint_asked: bool = False

    def __post_init__(self) -> None:
        target = Target(
            url=self.url,
            model=self.identity.model or "",
            tokenize=self.engine.tokenize,
            headers=self.headers,
            exact_output=bool(self.engine.exact_length),
        )
        serving = [rank.address for rank in self.record.ranks or ()]
        self.clients = Clients(
            engine=self.engine, target=target, crew=partial(self.crew, self.url, serving)
        )

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
        self.ranks.check()
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
        how: Measuring,
        *,
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
        with self._loading(), self.clients.asking(workload, kept=turn is not None) as client:
            on_progress(None, None)
            client.prepare(workload)
            runs = self.runs.setdefault(workload, [])
            if turn is None or not runs:
                client.warm_up(workload, seed=seed)
            once = partial(one_run, self, client, workload, how, on_progress)
            fresh: list[Run] = []
            for index in range(workload.runs) if turn is None else (turn,):
                run = once(index, run_seed(seed, index, attempt=0), repeated=True)
                if not run.valid:
                    fresh.append(run)
                    run = once(index, run_seed(seed, index, attempt=1), repeated=False)
                fresh.append(run)
        runs += fresh
        return fresh

    def warm_up(self, workload: Workload, *, fingerprint: bool = False) -> float:
        """Send the warm-up requests alone; the seconds that measuring would take by their pace,
        that of the fixed prompts included where a ``fingerprint`` will be taken."""
        seed = base_seed(workload, outlives=self.keeps_cache)
        self._check_context(workload)
        asking = clock.Stopwatch()
        if fingerprint:
            self._take_fingerprint(workload)
        asked_s = asking.elapsed
        with self._loading(), self.clients.asking(workload) as client:
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
        with self._loading(), self.clients.asking(workload) as client:
            client.prepare(workload)
            if workload.flush:
                self.flush()
            begin()
            client.measure(workload, seed=run_seed(seed, 0, attempt=0))
            self.check()

    def processes(self) -> list[int]:
        """Every process of it that runs on this machine."""
        roots = self.process.pids if self.process is not None else []
        return [*(pid for root in roots for pid in process_ids(root)), *self.ranks.pids]

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

    def check_after(self, pass_: Pass) -> None:
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
        self.clients.close()
        self.ranks.let_go()
        try:
            if self.process is not None:
                self.process.stop()
        finally:
            self.ranks.finish()
