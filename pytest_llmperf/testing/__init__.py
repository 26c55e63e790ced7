"""A scripted fake of an LLM server, for tests of load clients, gates and launchers.

It speaks the OpenAI API and SGLang's ``/generate``, streamed and not, enough of SGLang's side
calls and of HTTP to be measured, does exactly what its :class:`Script` says, faults included, and
keeps the truth: when each request reached it and when each chunk left it, on the same clock as
the load client's.

In a test::

    with FakeServer(Script(ttft_ms=5, itl_ms=1)) as server:
        ...  # server.url, server.truth

As a process: ``python -m pytest_llmperf.testing --port 30000 --ttft-ms 20 --itl-ms 2``.
"""

from __future__ import annotations

from .script import CHAT_OVERHEAD_TOKENS, FAULTS, Fault, Script, SentChunk, Truth, Usage
from .server import FakeServer
from .tls import TlsFiles, self_signed

__all__ = [
    "CHAT_OVERHEAD_TOKENS",
    "FAULTS",
    "FakeServer",
    "Fault",
    "Script",
    "SentChunk",
    "TlsFiles",
    "Truth",
    "Usage",
    "self_signed",
]
