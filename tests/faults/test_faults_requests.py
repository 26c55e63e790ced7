"""What befalls requests: the server lives, and answers badly or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.conftest import Record, Suite

#: A fault of the simulator: what it is in words, and what requests are said to have failed by.
ANSWERS = {
    "stall": ("hang mid-stream", "timeout"),
    "garbage": ("garbage bytes", "garbage"),
    "wrong_type": ("wrong content type", "garbage"),
    "half_json": ("half a JSON", "garbage"),
    "infinite": ("infinite stream", "long"),
    "http_429": ("a storm of status 429", "http_429"),
    "http_503": ("a storm of status 503", "http_503"),
    "redirect": ("redirect", "http_302"),
    "cut": ("connection closed mid-stream", "cut"),
    "error": ("an error within the stream", "stream_error"),
}
FEW = """
@sim("--fault reset --fault-every 12")
@CHAT
@FLOOR
def test_few(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0
"""
DRIP = """
@sim("--fault drip --fault-from 6")
@CHAT
@FLOOR
def test_drip(llm_perf): llm_perf.run()
"""


def faulty(fault: str) -> str:
    return f"""
@sim("--fault {fault} --fault-from 6")
@CHAT
@FLOOR
def test_{fault}(llm_perf): llm_perf.run()
"""


def test_bad_answers_are_failures_that_name_their_cause(suite: Suite, record: Record) -> None:
    suite.write("".join(faulty(fault) for fault in ANSWERS) + DRIP + FEW)
    outcome = suite.run()
    assert outcome.status == 10, outcome.said
    assert outcome.whole
    for fault, (words, cause) in ANSWERS.items():
        kind, message = outcome.ended(f"test_{fault}")
        assert kind == "slow", message
        assert f"requests failed: 8 of 8 ({cause})" in message
        record("server", words, f"failure: requests failed ({cause})")
    assert outcome.ended("test_drip") == ("passed", "")
    record("server", "slow drip, seven bytes at a time", "measured as it came")
    # One or two failures may be bad luck: the run is made once more, and both are reported.
    assert outcome.ended("test_few") == ("passed", "")
    runs = [m["runs"] for m in outcome.report["measurements"] if "test_few" in m["test"]]
    assert [run["requests"]["failed"] for run in runs[0]] == [{"cut": 1}, {}]
    assert not runs[0][0]["valid"]
    record("server", "one connection reset", "the run is repeated, both are reported")
    assert outcome.ended("test_next") == ("passed", "")


STAGES = {
    "reset-connection": "as it is opened",
    "reset-at-once": "before any answer",
    "reset-in-status": "within the status line",
    "reset-in-head": "within the head",
    "reset-after-head": "between head and body",
    "reset-in-chunk": "within the body",
    "reset-when-done": "after an answer, with the next request on its way",
}
RESET = """
@pytest.mark.llm_server("bad", model="m", args="{trick}")
@CHAT
@FLOOR
def test_{name}(llm_perf): llm_perf.run()
"""


def test_a_connection_may_be_reset_at_any_stage(
    suite: Suite, record: Record, bad_engine: str
) -> None:
    names = {stage: stage.replace("-", "_") for stage in (*STAGES, "reset-control")}
    body = "".join(RESET.format(trick=stage, name=name) for stage, name in names.items())
    suite.write(body, conftest=bad_engine)
    outcome = suite.run()
    assert outcome.whole, outcome.said
    for stage, when in STAGES.items():
        kind, message = outcome.ended(f"test_{names[stage]}")
        if stage == "reset-connection":
            assert kind == "broken", message
            record("server", f"connection reset {when}", "error: the server does not answer")
            continue
        assert kind == "slow", message
        assert "requests failed: " in message
        assert "of 8 (cut)" in message
        record("server", f"connection reset {when}", "failure: requests failed (cut)")
    kind, message = outcome.ended("test_reset_control")
    assert kind == "broken"
    assert "flush_cache" in message
    assert "got no answer" in message
    record("server", "connection reset at a control call", "error: it names the call")
    assert outcome.ended("test_next") == ("passed", "")
