"""SGLang's Rust client, ``python -m sglang.benchmark.rust_client``, read at version 0.5.23.

It comes compiled in SGLang's own package (``sglang.srt.rust_extensions._bench``); its sources are
the crate ``rust/sglang-bench``. It writes the Python client's file with the Python client's terms,
with these differences:

- One pool of kept-alive connections for the whole run, which are opened inside the window but not
  again for each request; streams are parsed on Tokio's threads (``src/run.rs``: ``run``).
- A 200 whose stream has no text at all is a failure; a chunk that is no JSON is passed over
  (``src/request.rs``: ``StreamState::finish`` and ``feed``). An error inside the stream, after
  some text, is a success here too.
- Throughput's time ends with the last request (``src/run.rs``: ``run``).
- Time stamps are taken line by line while parsing, not once for a read.
"""

from __future__ import annotations

from .base import Load, Seen
from .sglang_python import carry_out


class SglangRust:
    """The Rust client, by the same options as the Python one."""

    name = "sglang_rust"

    def run(self, load: Load) -> Seen:
        return carry_out(self.name, "sglang.benchmark.rust_client", load)
