"""Named workloads, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_llmperf.records import Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The fields, of :class:`~pytest_llmperf.records.Workload`, that give a workload its name.

    ``slo`` names the objectives that its goodput counts by unless others are given.
    """

    fields: Mapping[str, Scalar]
    slo: str | None = None


def _preset(slo: str | None = None, **fields: Scalar) -> Preset:
    return Preset(fields=MappingProxyType(fields), slo=slo)


PRESETS: Mapping[str, Preset] = {
    "chat": _preset(input_tokens=1024, output_tokens=1024),
    "reasoning": _preset(input_tokens=1024, output_tokens=8192),
    "summarize": _preset(input_tokens=8192, output_tokens=1024),
    # The shape of MLPerf Inference's DeepSeek-R1 benchmark, not its data set: that one's 4,388
    # prompts have 803.8 tokens in the mean, and the reference answers to them, cut at 20,000
    # tokens, 3,886.2. Both spread more widely than a uniform draw can.
    "mlperf-r1": _preset(
        slo="mlperf-r1-server", input_tokens=804, output_tokens=3886, length_spread=0.9
    ),
    # Eight long system prompts, as agents and assistants have.
    "shared-prefix": _preset(
        input_tokens=2304, output_tokens=256, shared_prefix_tokens=2048, prefixes=8
    ),
    # Conversations: each turn asks with all that was said before.
    "sessions": _preset(
        input_tokens=1024, output_tokens=256, turns=4, turn_input_tokens=256, think_time_s=1.0
    ),
}
