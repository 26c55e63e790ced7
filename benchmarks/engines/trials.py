"""One engine asked by our client and by its own, alternately, with a tap on what goes over."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from benchmarks.clients.base import Load, Seen
from pytest_llmperf import clock
from pytest_llmperf.load.child import Processes
from pytest_llmperf.load.client import LoadClient
from pytest_llmperf.load.compose.asking import UsageLevel
from pytest_llmperf.load.messages import Learnt, Prepare, Prepared, Ready
from pytest_llmperf.metrics.summary import Reduction
from pytest_llmperf.records import Pass, RequestRecord, Workload

from .peers import Peer
from .replay import REWIND, Script, replaying
from .servers import MODEL, Live
from .tap import Tapped, tapping
from .terms import FIGURES, Figures

#: Turns of a client that may fail, each time, before one goes well.
_FAILURES = 2
#: A run gives its report and our records of it.
_Run = Callable[[], tuple[Figures, tuple[RequestRecord, ...]]]
#: ``ours_alike`` is our client asking in the other's manner, ``theirs_alike`` the other one with
#: our prompts.
Arm = Literal["ours", "theirs", "ours_alike", "theirs_alike"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What every client is asked for; ``core`` is the CPU core it stays on."""

    requests: int
    concurrency: int
    input_tokens: int
    output_tokens: int
    core: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run: what the client reported, what our own records hold (none of another's run), and
    what went over the wire. ``failures`` say what went wrong with it before."""

    report: Figures
    records: tuple[RequestRecord, ...]
    tapped: Tapped
    failures: tuple[str, ...] = ()


class Sitting:
    """The clients that take turns at one engine: ours as the plugin asks, ours in the manner of
    ``peer``, and ``peer``."""

    def __init__(self, live: Live, peer: Peer, size: Size, scratch: Path) -> None:
        self._live, self._peer, self._size, self._scratch = live, peer, size, scratch

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self._plain = stack.enter_context(_ours(self._live, self._size))
            self._alike = stack.enter_context(_ours(self._live, self._size, self._peer))
            self._prompts = _rehearse(self._live, self._plain, self._alike, self._size)
            self._clients = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._clients.close()

    def trials(self, rounds: int) -> list[Mapping[Arm, Trial]]:
        """All arms once a round, in an order drawn for each. Raises :class:`RuntimeError` when a
        client fails again and again, or requests of ours do."""
        return [self._round(self._live, number, self._runs(number)) for number in _count(rounds)]

    def replayed(self, rounds: int, script: Script) -> list[Mapping[Arm, Trial]]:
        """The two arms that are alike, of a server that answers by ``script`` in place of the
        engine, which must have ended."""
        live = replace(self._live, flush_call=REWIND)
        done = []
        with replaying(script, live.port, live.core):
            for number in _count(rounds):
                runs = self._runs(number)
                runs.pop("ours")
                if "theirs_alike" in runs:
                    runs.pop("theirs")
                done.append(self._round(live, number, runs))
        return done

    def _round(self, live: Live, number: int, runs: Mapping[Arm, _Run]) -> Mapping[Arm, Trial]:
        order = random.Random(number).sample(sorted(runs), len(runs))
        found = {}
        for arm in order:
            watch = clock.Stopwatch()
            found[arm] = _insisted(live, self._size, runs[arm])
            rate = found[arm].report["throughput"]
            told = f"round {number}: {arm}: {rate:.0f} tok/s, {watch.elapsed:.0f} s in all"
            print(told, file=sys.stderr)
        return found

    def _runs(self, number: int) -> dict[Arm, _Run]:
        found: dict[Arm, _Run] = {
            "ours": lambda: self._plain.run(number),
            "ours_alike": lambda: self._alike.run(number),
            "theirs": lambda: self._ask_peer(number, None),
        }
        if self._peer.takes_prompts:
            found["theirs_alike"] = lambda: self._ask_peer(number, self._prompts)
        return found

    def _ask_peer(
        self, number: int, prompts: Sequence[str] | None
    ) -> tuple[Figures, tuple[RequestRecord, ...]]:
        size = self._size
        load = Load(
            url=self._live.url,
            model=MODEL,
            model_dir=self._live.model_dir,
            requests=size.requests,
            concurrency=size.concurrency,
            input_tokens=size.input_tokens,
            output_tokens=size.output_tokens,
            seed=number,
            core=size.core,
            scratch=Path(tempfile.mkdtemp(dir=self._scratch)),
        )
        return _reported(self._peer.run(load, prompts), size), ()


def like_ours_of(trials: Mapping[Arm, Trial]) -> Trial:
    """The other client's run with our prompts, or with its own where it takes none."""
    return trials["theirs_alike" if "theirs_alike" in trials else "theirs"]


def _count(rounds: int) -> range:
    return range(1, rounds + 1)


def _reported(seen: Seen, size: Size) -> Figures:
    if seen.succeeded != size.requests:
        raise RuntimeError(f"{seen.client}: {seen.succeeded} of {size.requests} succeeded")
    return {name: value for name in FIGURES if (value := getattr(seen, name)) is not None}


def _insisted(live: Live, size: Size, run: _Run) -> Trial:
    """A run that went well, after as many as may fail."""
    failures: list[str] = []
    while True:
        try:
            return replace(_tapped(live, size, run), failures=tuple(failures))
        except RuntimeError as error:
            failures.append(str(error).splitlines()[-1])
            print(f"failed: {failures[-1]}", file=sys.stderr)
            if len(failures) > _FAILURES:
                raise


def _tapped(live: Live, size: Size, run: _Run) -> Trial:
    live.flush()
    with tapping(live.port) as tap:
        report, records = run()
        tapped = tap.read(output_tokens=size.output_tokens)
    if len(tapped.records) != size.requests:
        raise RuntimeError(f"{len(tapped.records)} requests went over, not {size.requests}")
    return Trial(report=report, records=records, tapped=tapped)


# --- our client


class _Ours:
    def __init__(self, client: LoadClient, workload: Workload) -> None:
        self.workload = workload
        self._client = client

    def run(self, seed: int) -> tuple[Figures, tuple[RequestRecord, ...]]:
        """One pass, and what the plugin would make of it."""
        result = self._client.measure(self.workload, seed)
        _check(result)
        reduction = Reduction(result, workload=self.workload)
        values = {name: reduction.value(_NAMES.get(name, name)).value for name in FIGURES}
        return {name: v for name, v in values.items() if v is not None}, result.records

    def warm_up(self) -> None:
        self._client.warm_up(self.workload, seed=0)


_NAMES = {"throughput": "output_throughput"}


@contextlib.contextmanager
def _ours(live: Live, size: Size, manner: Peer | None = None) -> Iterator[_Ours]:
    """Our client, as the plugin asks, or in the manner of another one."""
    target = live.target(manner.body if manner else {}, manner.headers if manner else {})
    workload = Workload(
        name="real engines",
        input_tokens=size.input_tokens,
        output_tokens=size.output_tokens,
        concurrency=size.concurrency,
        requests=size.requests,
        warmup_requests=2 * size.concurrency,
        runs=1,
        api=manner.api if manner else "chat",
    )
    with LoadClient(target, crew=Processes((size.core,))) as client:
        client.prepare(workload)
        if manner is not None:
            _ask_usage(client, workload, manner.usage)
        yield _Ours(client, workload)


def _ask_usage(client: LoadClient, workload: Workload, usage: UsageLevel) -> None:
    """Have ``client`` ask for less usage than the server would send, by what it was taught."""
    child = client._children[0]
    child.tell(Prepare(workload))
    prepared = child.hear()
    assert isinstance(prepared, Prepared)
    child.tell(Learnt(workload, replace(prepared.recipe, usage=usage)))
    assert isinstance(child.hear(), Ready)


def _rehearse(live: Live, plain: _Ours, alike: _Ours, size: Size) -> list[str]:
    """Warm the server up with a run of each kind; the prompts that ours were."""
    plain.warm_up()
    alike.warm_up()
    rehearsal = _tapped(live, size, lambda: plain.run(0))
    return rehearsal.tapped.prompts


def _check(result: Pass) -> None:
    bad = next((record for record in result.records if not record.ok), None)
    if bad is not None:
        raise RuntimeError(f"our client: {bad.failure}: {bad.detail}")
