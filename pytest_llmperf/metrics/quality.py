"""What the responses of a run were like, beside how fast they came."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from pytest_llmperf.records import OutputQuality, RequestRecord


def output_quality(records: Sequence[RequestRecord]) -> OutputQuality:
    """The successful ones of ``records`` in short."""
    ok = [record for record in records if record.ok]
    digests = [record.text_digest for record in ok if record.text_digest is not None]
    repeated = [record.repetition for record in ok if record.repetition is not None]
    return OutputQuality(
        answered=len(ok),
        without_text=sum(not any(record.chunks.characters) for record in ok),
        finish_reasons=dict(sorted(Counter(r.finish_reason or "none" for r in ok).items())),
        sampled=len(digests),
        distinct=len(set(digests)),
        repetition=fmean(repeated) if repeated else None,
    )
