"""A pass of requests reduced to the numbers of one run.

**Failed requests** are infinitely late. A percentile that lands among them is unbounded, and so
is every mean and maximum of a latency as soon as one request failed. They count as zero in
``throughput_per_user``, add no tokens to the throughputs, and yet stretch the span that those are
divided by. For gaps between tokens a failed request weighs as much as a successful one does on
average. A successful request that never reached an answer, where others did, is infinitely late
in ``ttfat``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Curves, MetricValue, Pass, RequestRecord, Run, Workload

from . import steady
from .bounds import HealthBounds
from .curves import curves
from .health import invalid_reasons
from .requests import Arrivals, Flags, Floats, Gaps, raw_gaps, timings, token_gaps
from .sample import Sample
from .units import METRICS, STANDARD_STATISTICS, resolve

NOT_MEASURED = MetricValue(value=None)
#: A trend takes this many requests to be looked for, or a run bounded by time.
_REQUESTS_FOR_TREND = 100
#: Mean latencies in the steady part below which it shows the first requests' phases only.
_LATENCIES_FOR_TREND = 4


class Reduction:
    """Every metric of one pass, computed when asked for and remembered.

    Without ``workload`` the metrics that depend on how the load was asked for are not measured.
    """

    def __init__(self, pass_: Pass, *, workload: Workload | None = None, devices: int = 1) -> None:
        self._records = pass_.records
        self._started_ns = pass_.started_ns
        self._workload = workload
        self._devices = devices
        self._ok = [record for record in pass_.records if record.ok]
        self._is_ok: Flags = np.array([record.ok for record in pass_.records], bool)
        self._timings = timings(pass_.records)
        self._samples: dict[str, Sample | None] = {}

    @cached_property
    def span_s(self) -> float | None:
        """First request written to last token of any request; ``None`` without a token."""
        last = self._timings.last_ns[self._timings.has_last]
        if not len(last):
            return None
        span = int(last.max()) - min(record.written_ns for record in self._records)
        return span / 1e9 if span > 0 else None

    @cached_property
    def steady_span(self) -> steady.Span | None:
        """The part in which the load was whole; see :mod:`.steady`."""
        if self._workload is None:
            return None
        return steady.steady_span(self._records, self._workload, self._started_ns)

    @cached_property
    def trend(self) -> steady.Trend | None:
        """The trend of the output, where the run is long enough to tell."""
        workload, span = self._workload, self._long_span
        if workload is None or span is None:
            return None
        if len(self._ok) < _REQUESTS_FOR_TREND and workload.duration_s is None:
            return None
        return steady.trend(self._arrivals, span)

    @cached_property
    def _long_span(self) -> steady.Span | None:
        """The steady part if it is many times as long as a request."""
        latencies = self._of_ok("e2e")
        if self.steady_span is None or not len(latencies) or np.isnan(latencies).any():
            return None
        needed_s = _LATENCIES_FOR_TREND * float(latencies.mean()) / 1e3
        return self.steady_span if self.steady_span.seconds >= needed_s else None

    @property
    def curves(self) -> Curves | None:
        """The shape of the pass, to be drawn."""
        return curves(self._records, self._timings, self._statistic, self._is_ok)

    @cached_property
    def _arrivals(self) -> Arrivals:
        """The tokens of successful requests."""
        return self._timings.arrivals.of(self._is_ok)

    def _of_ok(self, base: str) -> Floats:
        found: Floats = getattr(self._timings, base)[self._is_ok]
        return found

    def value(self, name: str) -> MetricValue:
        """The metric ``name``: one of a whole run, or a per-request one with its statistic.

        What the launch or the server knows is not in a pass and not measured here. Raises
        :class:`~pytest_llmperf.errors.UsageMistake` for names that are not in the table.
        """
        base, _, statistic = name.rpartition("_")
        if statistic == "max" and base in METRICS and METRICS[base].per_request:
            return self._statistic(base, 1.0)
        resolved = resolve(name)
        if resolved.metric.per_request:
            return self._statistic(resolved.metric.name, resolved.quantile)
        compute = _RUN_METRICS.get(name)
        return compute(self) if compute else NOT_MEASURED

    def _statistic(self, base: str, quantile: float | None) -> MetricValue:
        if base not in self._samples:
            self._samples[base] = self._sample(base)
        sample = self._samples[base]
        if sample is None:
            return NOT_MEASURED
        return sample.mean() if quantile is None else sample.at(quantile)

    # --- per request

    def _sample(self, base: str) -> Sample | None:
        failed = len(self._records) - len(self._ok)
        if not any(_can_have(base, record) for record in self._records):
            return None
        if not self._ok:
            return Sample(np.zeros(0), failed=failed)
        if base in _GAPS:
            return self._pooled(_GAPS[base](self._arrivals), failed)
        values = self._of_ok(base)
        measured = values[~np.isnan(values)]
        missing = len(values) - len(measured)
        if not len(measured) or (missing and not base.startswith("ttfat")):
            return None
        return Sample(measured, failed=failed + missing)

    def _pooled(self, gaps: Gaps | None, failed: int) -> Sample | None:
        weight = 0 if gaps is None else int(gaps.tokens.sum())
        if gaps is None or not weight:
            return None
        late = math.ceil(weight * failed / len(self._ok))
        return Sample(gaps.ms, gaps.tokens, failed=failed, late=late)

    # --- per run

    def _rate(self, amount: float) -> MetricValue:
        """``amount`` over the span; a pass in which nothing succeeded has a rate of zero."""
        if not self._ok:
            return MetricValue(value=0.0) if self._records else NOT_MEASURED
        span = self.span_s
        return MetricValue(value=amount / span) if span else NOT_MEASURED

    def output_throughput(self) -> MetricValue:
        return self._rate(sum(record.output_tokens or 0 for record in self._ok))

    def total_throughput(self) -> MetricValue:
        if any(record.prompt_tokens is None for record in self._ok):
            return NOT_MEASURED
        tokens = sum((r.prompt_tokens or 0) + (r.output_tokens or 0) for r in self._ok)
        return self._rate(tokens)

    def steady_output_throughput(self) -> MetricValue:
        span = self.steady_span
        tokens = None if span is None else steady.tokens_within(self._arrivals, span)
        if span is None or tokens is None or not self._streamed():
            return NOT_MEASURED
        return MetricValue(value=tokens / span.seconds)

    def throughput_retention(self) -> MetricValue:
        span = self._long_span
        if span is None or not self._streamed():
            return NOT_MEASURED
        return MetricValue(value=steady.retention(self._arrivals, span))

    def _streamed(self) -> bool:
        return all(record.streamed for record in self._ok)

    def throughput_per_accelerator(self) -> MetricValue:
        whole = self.output_throughput().value
        return NOT_MEASURED if whole is None else MetricValue(value=whole / self._devices)

    def throughput_per_user(self) -> MetricValue:
        paces = self._of_ok("tpot")
        if not self._records or not (paces > 0).all():
            return NOT_MEASURED
        return MetricValue(value=sum((1000 / paces).tolist()) / len(self._records))

    def request_throughput(self) -> MetricValue:
        return self._rate(len(self._ok))

    def goodput(self) -> MetricValue:
        good = self._good()
        return NOT_MEASURED if good is None else self._rate(good)

    def goodput_share(self) -> MetricValue:
        good = self._good()
        if good is None or not self._records:
            return NOT_MEASURED
        return MetricValue(value=good / len(self._records))

    def _good(self) -> int | None:
        """Successful requests within every objective; ``None`` where there are no objectives."""
        slos = self._workload.slo if self._workload else ()
        if not slos:
            return None
        good = np.ones(len(self._ok), bool)
        for slo in slos:
            if slo.metric not in SINGLE:
                raise UsageMistake(
                    f"slo: {slo.metric!r} is no number of one request; one of {', '.join(SINGLE)}."
                )
            good &= self._of_ok(slo.metric) <= slo.limit_ms  # false where there is none
        return int(good.sum())

    def success_rate(self) -> MetricValue:
        if not self._records:
            return NOT_MEASURED
        return MetricValue(value=len(self._ok) / len(self._records))


#: Metrics that a request has one value of: the columns of :class:`~.requests.Timings`.
SINGLE = (
    "ttft",
    "ttfat",
    "tpot",
    "e2e",
    "ttft_from_schedule",
    "ttfat_from_schedule",
    "e2e_from_schedule",
)
_GAPS: Mapping[str, Callable[[Arrivals], Gaps | None]] = {"itl": token_gaps, "icl": raw_gaps}
_RUN_METRICS: Mapping[str, Callable[[Reduction], MetricValue]] = {
    "output_throughput": Reduction.output_throughput,
    "total_throughput": Reduction.total_throughput,
    "steady_output_throughput": Reduction.steady_output_throughput,
    "throughput_retention": Reduction.throughput_retention,
    "throughput_per_user": Reduction.throughput_per_user,
    "throughput_per_accelerator": Reduction.throughput_per_accelerator,
    "request_throughput": Reduction.request_throughput,
    "goodput": Reduction.goodput,
    "goodput_share": Reduction.goodput_share,
    "success_rate": Reduction.success_rate,
}


def _can_have(base: str, record: RequestRecord) -> bool:
    """Whether ``record`` would have the metric if all went well."""
    if base.endswith("_from_schedule") and record.scheduled_ns is None:
        return False
    return record.streamed or base.startswith("e2e")


def standard_names() -> list[str]:
    """Every name that a pass gives a run whether or not a gate asks for it."""
    names = list(_RUN_METRICS)
    for base in (*SINGLE, *_GAPS):
        names += [f"{base}_{statistic}" for statistic in STANDARD_STATISTICS]
    return names


def reduce_pass(
    pass_: Pass,
    *,
    workload: Workload,
    launch_id: str,
    index: int,
    devices: int,
    extra: Iterable[str] = (),
    bounds: HealthBounds | None = None,
) -> Run:
    """The run that ``pass_`` amounts to, with all standard metrics and those named in ``extra``.

    Names in ``extra`` that the launch or the server knows are passed over. Where the retention of
    throughput is gated, a drift is that gate's to judge and does not make the run invalid.
    """
    reduction = Reduction(pass_, workload=workload, devices=devices)
    extra = [name for name in extra if _from_requests(name)]
    wanted = dict.fromkeys([*standard_names(), *extra])
    bounds = bounds or HealthBounds()
    if "throughput_retention" in extra:
        bounds = replace(bounds, drift=None)
    records = pass_.records
    ok = [record for record in records if record.ok]
    trend = reduction.trend if bounds.drift is not None else None
    reasons = invalid_reasons(pass_, workload, bounds, steady=reduction.steady_span, trend=trend)
    return Run(
        launch_id=launch_id,
        index=index,
        seed=pass_.seed,
        started_at=pass_.started_at,
        duration_s=reduction.span_s or 0.0,
        valid=not reasons,
        invalid_reasons=reasons,
        metrics={name: reduction.value(name) for name in wanted},
        sent=len(records),
        succeeded=len(ok),
        failed=dict(Counter(record.failure for record in records if record.failure)),
        input_tokens_mean=_mean(record.prompt_tokens for record in ok),
        output_tokens_mean=_mean(record.output_tokens for record in ok),
        reasoning_tokens_mean=_mean(record.reasoning_tokens for record in ok),
        cached_tokens_total=_total(record.cached_tokens for record in ok),
        token_source=_sources(ok),
        client=pass_.client,
        curves=reduction.curves,
    )


def _from_requests(name: str) -> bool:
    row = METRICS.get(name)
    return row is None or row.source == "requests"


def _known(values: Iterable[int | None]) -> list[int] | None:
    """All the values, or ``None`` if there are none or any is unknown."""
    found = list(values)
    known = [value for value in found if value is not None]
    return known if found and len(known) == len(found) else None


def _mean(values: Iterable[int | None]) -> float | None:
    known = _known(values)
    return sum(known) / len(known) if known else None


def _total(values: Iterable[int | None]) -> int | None:
    known = _known(values)
    return sum(known) if known else None


def _sources(records: Sequence[RequestRecord]) -> str | None:
    sources = sorted({record.token_source for record in records if record.token_source})
    return "+".join(sources) or None
