"""What the fixtures do, loaded when the first test takes one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .errors import UsageMistake
from .records import Accelerator, ServerRequest
from .runtime import EXPECTATION, PERF, activate
from .session.handle import LlmPerf, ServerHandle


def serve(
    config: pytest.Config, request: ServerRequest | None, temporary: pytest.TempPathFactory
) -> Iterator[ServerHandle]:
    """Body of the ``llm_server`` fixture; logs go to ``temporary`` unless an option says where."""
    if request is None:
        raise UsageMistake(
            "llm_server does not know what to start: mark the test, its class or its module with "
            'pytest.mark.llm_server("sglang", model="..."), and take the fixture as an argument.'
        )
    session = activate(config).session
    session.keep_logs(lambda: temporary.getbasetemp() / "llmperf")
    handle, block = session.handle(request), session.block(request)
    try:
        block.open()
        yield handle
        session.profile(request)
    finally:
        block.close()


def endpoint(config: pytest.Config, temporary: pytest.TempPathFactory) -> Iterator[ServerHandle]:
    """Body of the ``llm_endpoint`` fixture."""
    urls = activate(config).settings.urls
    url = urls.get("") or (next(iter(urls.values())) if len(urls) == 1 else None)
    if url is None:
        raise UsageMistake("llm_endpoint attaches to what --llmperf-url URL names; none was given.")
    model = next((name for name in urls if name), None)
    yield from serve(config, ServerRequest(engine="endpoint", url=url, model=model), temporary)


def perf_for(item: pytest.Item, server: object) -> LlmPerf:
    """Body of the ``llm_perf`` fixture."""
    if not isinstance(server, ServerHandle):
        raise UsageMistake(
            "llm_perf measures what the plugin's llm_server started; a fixture of your own with "
            "that name must hand on the plugin's."
        )
    session = activate(item.config).session
    perf = item.stash[PERF] = session.perf(server, item.stash[EXPECTATION])
    return perf


def accelerator_of(config: pytest.Config) -> Accelerator:
    """Body of the ``llm_accelerator`` fixture."""
    return activate(config).session.accelerator()
