"""What pytest-llmperf has to know of the server: how to start it, and how to ask it.

Nothing here starts or opens anything. Every member is explained in
``pytest_llmperf.engines.base.Engine``.
"""

from pathlib import Path
from types import MappingProxyType

from pytest_llmperf.records import FailureCause, HttpProbe, LaunchPlan, ServerIdentity

SERVER = Path(__file__).with_name("counting_server.py")


class Counting:
    name = "counting"
    info_paths = ("/v1/models",)
    apis = ("chat",)
    # It always sends as many tokens as were asked for.
    exact_length = MappingProxyType({"ignore_eos": True})
    flush = None
    tokenize = None
    metrics_path = None
    counters = None

    def plan(self, request, placement):
        return LaunchPlan(
            engine=self.name,
            argv=(
                placement.python,
                str(SERVER),
                *("--port", str(placement.port)),
                *("--model", placement.served_name),
                *request.args,
            ),
            env=request.env,
            host=placement.host,
            port=placement.port,
            ready=HttpProbe(path="/v1/models"),
            start_timeout_s=request.timeout_s or 30.0,
            stop_grace_s=5.0,
            cores=placement.cores,
            causes=(
                FailureCause(
                    pattern=r"error: (unrecognized arguments|argument --[\w-]+)",
                    cause="the counting server does not accept its command line",
                    remedy="correct args= of llm_server; it knows --pause-ms",
                ),
            ),
        )

    def identify(self, answers):
        (card,) = answers["/v1/models"]["data"]
        return ServerIdentity(
            engine=self.name,
            version="1.0",
            model=card["id"],
            args={},
            max_context_tokens=card["max_model_len"],
        )

    def mismatch(self, identity, placement):
        if identity.model == placement.served_name:
            return None
        return f"it serves {identity.model!r}, not {placement.served_name!r}."
