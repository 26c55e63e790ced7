"""One engine asked by our client and by its own, alternately, with a tap on what goes over."""

from __future__ import annotations

import contextlib
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from benchmarks.clients.base import Load, Seen
from pytest_llmperf import clock
from pytest_llmperf.load.client import LoadClient
from pytest_llmperf.load.compose.asking import UsageLevel
from pytest_llmperf.load.messages import Learnt, Prepare, Prepared, Ready
from pytest_llmperf.metrics.summary import Reduction
from pytest_llmperf.records import Pass, RequestRecord, Workload

from .peers import Peer
from .servers import MODEL, Live
from .tap import Tapped, tapping
from .terms import FIGURES, Figures

#: Turns of a client that may fail, each time, before one goes well.
_FAILURES = 2
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


def trials(
    live: Live, peer: Peer, size: Size, rounds: int, scratch: Path
) -> list[Mapping[Arm, Trial]]:
    """All arms once a round, in an order drawn for each. Raises :class:`RuntimeError` when a
    client fails again and again, or requests of ours do."""
    done: list[Mapping[Arm, Trial]] = []
    with _ours(live, size) as plain, _ours(live, size, peer) as alike:
        prompts = _rehearse(live, plain, alike, size) if peer.takes_prompts else None
        for number in range(1, rounds + 1):
            runs = _runs(live, peer, size, number, scratch, prompts)
            runs["ours"] = lambda number=number: plain.run(number)  # type: ignore[misc]
            runs["ours_alike"] = lambda number=number: alike.run(number)  # type: ignore[misc]
            order = random.Random(number).sample(sorted(runs), len(runs))
            found = {}
            for arm in order:
                watch = clock.Stopwatch()
                found[arm] = _insisted(live, size, runs[arm])
                rate = found[arm].report["throughput"]
                told = f"round {number}: {arm}: {rate:.0f} tok/s, {watch.elapsed:.0f} s in all"
                print(told, file=sys.stderr)
            done.append(found)
    return done


#: A run gives its report and our records of it.
_Run = Callable[[], tuple[Figures, tuple[RequestRecord, ...]]]


def _runs(
    live: Live, peer: Peer, size: Size, number: int, scratch: Path, prompts: Sequence[str] | None
) -> dict[Arm, _Run]:
    def run(prompts: Sequence[str] | None) -> tuple[Figures, tuple[RequestRecord, ...]]:
        load = Load(
            url=live.url,
            model=MODEL,
            model_dir=live.model_dir,
            requests=size.requests,
            concurrency=size.concurrency,
            input_tokens=size.input_tokens,
            output_tokens=size.output_tokens,
            seed=number,
            core=size.core,
            scratch=Path(tempfile.mkdtemp(dir=scratch)),
        )
        return _reported(peer.run(load, prompts), size), ()

    found: dict[Arm, _Run] = {"theirs": lambda: run(None)}
    if prompts is not None:
        found["theirs_alike"] = lambda: run(prompts)
    return found


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
    with LoadClient(target, cores=(size.core,)) as client:
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
