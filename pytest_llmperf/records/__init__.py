"""The vocabulary: frozen values that travel between rooms.

Units stand in the names (``_s`` seconds, ``_ns`` nanoseconds of :mod:`pytest_llmperf.clock`,
``_bytes``); ``None`` always means "not measured", never zero.
"""

from __future__ import annotations

from .asked import Api, Arrivals, Slo, Source, SourceKind, Workload
from .chunks import CHUNK_KINDS, NO_CHUNKS, UNKNOWN, Chunk, ChunkKind, Chunks
from .common import Direction, Json, Scalar, Side, Vendor, VerdictWord, WeightFormat
from .curves import Curves, SampledRequests, Timeline
from .decided import Limit, RegressionGate, Verdict
from .measured import ClientHealth, LoadWorker, MetricValue, Pass, RequestRecord, Run
from .place import Accelerator, Device
from .profiled import Profile
from .quality import Fingerprint, OutputQuality, Question, Reply
from .remembered import (
    GateHistory,
    HistoryPoint,
    HistoryStep,
    Judged,
    LaunchValues,
    Level,
    NoiseProfile,
    Observation,
)
from .serving import (
    MERGE_BASE,
    Container,
    FailureCause,
    HttpCall,
    HttpProbe,
    LaunchPlan,
    LaunchRecord,
    LogProgress,
    Placement,
    Rank,
    RankPlace,
    ServerIdentity,
    ServerRequest,
    TokenizeCall,
)
from .sizes import ModelSize
from .telemetry import DeviceTelemetry, Price, Series, Telemetry

__all__ = [
    "CHUNK_KINDS",
    "MERGE_BASE",
    "NO_CHUNKS",
    "UNKNOWN",
    "Accelerator",
    "Api",
    "Arrivals",
    "Chunk",
    "ChunkKind",
    "Chunks",
    "ClientHealth",
    "Container",
    "Curves",
    "Device",
    "DeviceTelemetry",
    "Direction",
    "FailureCause",
    "Fingerprint",
    "GateHistory",
    "HistoryPoint",
    "HistoryStep",
    "HttpCall",
    "HttpProbe",
    "Json",
    "Judged",
    "LaunchPlan",
    "LaunchRecord",
    "LaunchValues",
    "Level",
    "Limit",
    "LoadWorker",
    "LogProgress",
    "MetricValue",
    "ModelSize",
    "NoiseProfile",
    "Observation",
    "OutputQuality",
    "Pass",
    "Placement",
    "Price",
    "Profile",
    "Question",
    "Rank",
    "RankPlace",
    "RegressionGate",
    "Reply",
    "RequestRecord",
    "Run",
    "SampledRequests",
    "Scalar",
    "Series",
    "ServerIdentity",
    "ServerRequest",
    "Side",
    "Slo",
    "Source",
    "SourceKind",
    "Telemetry",
    "Timeline",
    "TokenizeCall",
    "Vendor",
    "Verdict",
    "VerdictWord",
    "WeightFormat",
    "Workload",
]
