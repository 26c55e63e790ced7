"""One run on a server that is up: sent, reduced, and told with what else is known of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_llmperf.engines.counters import Counters
from pytest_llmperf.load.client import LoadClient, LoadProgress
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.metrics.cost import METRIC as COST
from pytest_llmperf.metrics.cost import cost_metric, price_of
from pytest_llmperf.metrics.prices import Prices
from pytest_llmperf.metrics.quality import output_quality
from pytest_llmperf.metrics.served import server_metrics
from pytest_llmperf.metrics.telemetry import telemetry_metrics, window_of
from pytest_llmperf.records import Accelerator, MetricValue, Pass, Run, Telemetry, Workload

from .asides import attempt
from .uncounted import invalid, superseded
from .watching import watched

if TYPE_CHECKING:
    from .server import LiveServer

#: Called with a run's index and how far it has come; with neither while the server warms up.
RunProgress = Callable[[int | None, LoadProgress | None], None]
#: Called with a run and its requests once all is known of it; the requests do not outlast the call.
Keep = Callable[[Run, Pass], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring:
    """What is made of runs. ``statistics`` are those that gates want beside the standard ones,
    ``bounds`` say when a run is not the server's, ``prices`` what accelerators cost, where the user
    told; ``keep`` gets each run."""

    statistics: Sequence[str] = ()
    bounds: HealthBounds = field(default_factory=HealthBounds)
    prices: Prices | None = None
    keep: Keep = lambda *_: None


def one_run(
    server: LiveServer,
    client: LoadClient,
    workload: Workload,
    how: Measuring,
    on_progress: RunProgress,
    index: int,
    seed: int,
    *,
    repeated: bool,
) -> Run:
    """One run; with ``repeated`` it is not valid where it is to be measured once more."""
    if workload.flush:
        server.flush()
    server.ranks.settle()
    before = attempt(server.asides.counters, server.check)
    with watched(
        server.accelerator, server.processes, server.ranks.watching, server.ranks.sharing
    ) as seen:
        pass_ = client.measure(workload, seed=seed, on_progress=lambda p: on_progress(index, p))
    server.check_after(pass_)
    # numpy: not before it is needed
    from pytest_llmperf.metrics.health import counted_hits
    from pytest_llmperf.metrics.summary import reduce_pass

    run = reduce_pass(
        pass_,
        workload=workload,
        launch_id=server.record.id,
        index=index,
        devices=server.accelerator.count,
        extra=how.statistics,
        bounds=how.bounds,
    )
    growth = attempt(
        lambda: server.asides.growth(before, sent=run.sent, succeeded=run.succeeded), server.check
    )
    window = window_of(pass_.records, run.duration_s)
    troubles = [*seen.troubles(window), *server.ranks.silences(window)]
    known = replace(run, quality=output_quality(pass_.records), telemetry=seen.telemetry(window))
    known = _with_price(_with_beside(known, server, growth), server.accelerator, how.prices)
    hits = counted_hits(growth, known, workload, how.bounds, keeps_cache=server.keeps_cache)
    known = invalid(known, *([hits] if hits else []), *troubles)
    known = superseded(known) if repeated else known
    how.keep(known, pass_)
    return known


def _with_beside(run: Run, server: LiveServer, growth: Counters | None) -> Run:
    """``run`` with what launch, server and devices know of it, which its requests do not tell."""
    beside = {
        **server_metrics(growth, run),
        "startup_time": MetricValue(value=server.record.startup_time_s),
        "cold_ttft": MetricValue(value=server.cold_ttft_ms),
        **telemetry_metrics(run, run.telemetry),
    }
    return replace(run, metrics={**run.metrics, **beside})


def _with_price(run: Run, accelerator: Accelerator, prices: Prices | None) -> Run:
    price = price_of(accelerator, prices)
    cost = cost_metric(run, price, accelerator, prices)
    told = run.telemetry
    if price is not None:
        told = replace(told or Telemetry(), price=price)
    return replace(run, metrics={**run.metrics, COST: cost}, telemetry=told)
