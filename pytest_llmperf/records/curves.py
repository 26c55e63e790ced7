"""How a run went, in few numbers: what a page about it draws."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """What came out in equal bins of time from the first request's writing on.

    ``output_tokens`` are those of successful requests that came in each bin (spread evenly over
    what came where a server does not tell how many), ``in_flight`` the mean number of requests that
    were written and not ended, ``failed`` the requests that ended in it without success.
    """

    bin_s: float
    output_tokens: tuple[float, ...]
    in_flight: tuple[float, ...]
    failed: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRequests:
    """Some of a run's requests in the order of their writing, evenly spread; seconds from the first
    request's writing. ``first_s`` is the first token, ``None`` where none came alone."""

    written_s: tuple[float, ...]
    first_s: tuple[float | None, ...]
    ended_s: tuple[float, ...]
    ok: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """The shape of one run, as large for a million requests as for a hundred.

    ``quantiles`` holds by per-request metric its values at equal steps from 0 to 1, in the metric's
    unit; ``None`` where failed requests lie, which are infinitely late. ``requests`` is how many
    there were.
    """

    quantiles: Mapping[str, tuple[float | None, ...]]
    requests: int
    timeline: Timeline
    sample: SampledRequests
