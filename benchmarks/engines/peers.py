"""The engines' own load clients, asked as they come or with our prompts."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.clients import environments, sglang_python, vllm_bench
from benchmarks.clients.base import Load, Seen
from benchmarks.clients.peers import ask, surroundings, written
from pytest_llmperf.load.compose.asking import UsageLevel
from pytest_llmperf.records import Api

from .terms import Terms


class Peer(Protocol):
    """Another load client. ``usage``, ``body`` and ``headers`` make our own requests like its
    requests; ``takes_prompts`` is false where it cannot be given ours."""

    name: str
    api: Api
    terms: Terms
    usage: UsageLevel
    body: Mapping[str, object]
    headers: Mapping[str, str]
    takes_prompts: bool

    def run(self, load: Load, prompts: Sequence[str] | None) -> Seen:
        """Carry ``load`` out, with ``prompts`` in place of its own. Raises :class:`RuntimeError`
        quoting it when it fails."""


class SglangBench:
    """``python -m sglang.bench_serving``; each request goes over a connection of its own."""

    name = "sglang.bench_serving"
    api: Api = "chat"
    terms = Terms(
        connection=True,
        last="response",
        pace="request",
        gaps="text",
        window="questions",
        percentile="linear",
    )
    usage: UsageLevel = "final"
    body: Mapping[str, object] = {}
    headers: Mapping[str, str] = {"Connection": "close"}
    takes_prompts = True

    def run(self, load: Load, prompts: Sequence[str] | None) -> Seen:
        output = load.scratch / "seen.jsonl"
        python = environments.program("sglang")
        argv: list[str | Path] = [
            python,
            "-m",
            "sglang.bench_serving",
            *sglang_python.arguments(load, output),
        ]
        if prompts is not None:
            rows = [{"conversations": [{"content": each}, {"content": "?"}]} for each in prompts]
            path = load.scratch / "prompts.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            argv += ["--dataset-name", "custom", "--dataset-path", path]
            argv += ["--sharegpt-output-len", str(load.output_tokens)]
        finished = ask(self.name, argv, load)
        text = written(self.name, output, finished)
        return sglang_python.read(self.name, environments.version("sglang"), text, load.requests)


class VllmBench:
    """``vllm bench serve``; it names no temperature, so the model's own sampling applies."""

    name = "vllm bench serve"
    api: Api = "chat"
    terms = Terms(
        connection=True,
        first="message",
        last="message",
        pace="request",
        gaps="message",
        window="response",
        percentile="linear",
    )
    usage: UsageLevel = "final"
    body: Mapping[str, object] = {"temperature": None, "top_p": None}
    headers: Mapping[str, str] = {}
    takes_prompts = True

    def run(self, load: Load, prompts: Sequence[str] | None) -> Seen:
        output = load.scratch / "seen.json"
        python = environments.program("vllm")
        argv: list[str | Path] = [
            python,
            "-c",
            vllm_bench._LAUNCH,
            *vllm_bench.arguments(load, output),
        ]
        if prompts is not None:
            rows = [{"conversations": [{"value": each}, {"value": "?"}]} for each in prompts]
            path = load.scratch / "prompts.json"
            path.write_text(json.dumps(rows))
            argv += ["--dataset-name", "sharegpt", "--dataset-path", path]
            argv += ["--sharegpt-output-len", str(load.output_tokens)]
        finished = ask(self.name, argv, load)
        return vllm_bench.read(environments.version("vllm"), written(self.name, output, finished))


class LlamaBench:
    """``scripts/server-bench.py`` of llama.cpp's source, named by ``LLMPERF_LLAMA_BENCH``.

    It is in no package; ``LLMPERF_PEER_LLAMA_CPP`` names a virtual environment with what it
    imports (requests, numpy, tqdm, matplotlib, datasets). Its terms: TTFT from before the request
    is handed to requests until the first line with data; tokens are such lines, but for the last
    two; throughput up to the last of them. It says nothing of other latencies, and no sampling
    parameters go with its requests.
    """

    name = "server-bench.py"
    api: Api = "completions"
    terms = Terms(connection=True)
    usage: UsageLevel = "none"
    body: Mapping[str, object] = {"temperature": None, "top_p": None}
    headers: Mapping[str, str] = {}
    takes_prompts = False

    def run(self, load: Load, prompts: Sequence[str] | None) -> Seen:
        assert prompts is None
        script = os.environ["LLMPERF_LLAMA_BENCH"]
        lengths = f"rng-{load.input_tokens}-{load.input_tokens}"
        tokens = str(load.output_tokens)
        argv: list[str | Path] = [
            *(environments.program("llama_cpp"), script, "--path_server", load.url),
            *("--prompt_source", lengths, "--n_prompts", str(load.requests)),
            *("--n_predict", tokens, "--n_predict_min", tokens, "--seed_offset", str(load.seed)),
        ]
        slots = {"LLAMA_ARG_N_PARALLEL": str(load.concurrency), "MPLBACKEND": "agg"}
        finished = ask(self.name, argv, load, env=surroundings(slots))
        return self._read(finished.stdout + finished.stderr, load)

    def _read(self, said: str, load: Load) -> Seen:
        tokens = _after("Total generated tokens", said)
        return Seen(
            client=self.name,
            version=Path(os.environ["LLMPERF_LLAMA_BENCH"]).name,
            succeeded=load.requests,
            failed=0,
            output_tokens=round(tokens),
            duration_s=_after("Benchmark duration", said),
            throughput=_after("Average total generation speed", said),
            ttft_mean=_after("Average prompt latency", said),
        )


def peer_of(engine: str) -> Peer:
    """The engine's own client. For llama.cpp, unless its own is named, SGLang's as a second
    opinion: vllm's keeps connections, and loses what it asks on those that llama.cpp closes."""
    if engine == "vllm":
        return VllmBench()
    if engine == "llama.cpp" and os.environ.get("LLMPERF_LLAMA_BENCH"):
        return LlamaBench()
    return SglangBench()


def _after(words: str, said: str) -> float:
    found = re.search(rf"{words}:\s+([\d.]+)", said)
    if found is None:
        raise RuntimeError(f"the client did not say its {words!r}:\n{said[-2000:]}")
    return float(found[1])
