"""MindIE's plan, its file of settings and its script; its answers are in
test_engines_recorded.py."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_llmperf.engines.mindie import SCRIPT, MindIE
from pytest_llmperf.engines.mindie_config import model_name
from pytest_llmperf.engines.mindie_logs import CAUSES, PROGRESS
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.launch import http, ports
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.records import (
    Accelerator,
    Device,
    LaunchPlan,
    Placement,
    ServerRequest,
    Vendor,
)

REQUEST = ServerRequest(engine="mindie", model="m")
BASH = shutil.which("bash") or "bash"
R1 = "/models/DeepSeek-R1-w8a8"

Config = dict[str, Any]


def placement(vendor: Vendor = "ascend", model: str = R1, count: int = 8) -> Placement:
    devices = tuple(
        Device(vendor=vendor, product="Ascend 910B", index=number, uuid=f"u{number}")
        for number in range(count)
    )
    return Placement(
        host="127.0.0.1",
        port=31000,
        accelerator=Accelerator(devices=devices, source="override"),
        model_path=model,
        served_name=model,
        python="/opt/python",
        scratch=Path("/scratch"),
    )


def plan(place: Placement | None = None, *args: str) -> LaunchPlan:
    return MindIE().plan(replace(REQUEST, args=args), place or placement())


def config(place: Placement | None = None, *args: str) -> Config:
    (path, text), _ = plan(place, *args).files
    assert path == Path("/scratch/mindie-31000.json")
    made: Config = json.loads(text)
    return made


def model_of(made: Config) -> Config:
    (model,) = made["BackendConfig"]["ModelDeployConfig"]["ModelConfig"]
    found: Config = model
    return found


# --- the plan --------------------------------------------------------------------------------


def test_a_script_starts_it_with_our_settings() -> None:
    made = plan()
    (config_file, _), (script, text) = made.files
    assert made.argv[:2] == ("bash", str(script))
    assert text == SCRIPT
    env = dict(made.env)
    assert env["LLMPERF_MINDIE_CONFIG"] == str(config_file)
    assert env["MIES_CONTAINER_IP"] == env["MIES_CONTAINER_MANAGEMENT_IP"] == "127.0.0.1"
    assert made.ready.path == "/v2/health/ready"
    assert made.stop_grace_s > 20


def test_everything_is_offered_at_one_plain_address() -> None:
    server = config()["ServerConfig"]
    assert {server[name] for name in ("port", "managementPort", "metricsPort")} == {31000}
    assert server["ipAddress"] == server["managementIpAddress"] == "127.0.0.1"
    assert server["httpsEnabled"] is False


def test_the_model_takes_the_devices_found() -> None:
    made = config()
    assert made["BackendConfig"]["npuDeviceIds"] == [list(range(8))]
    assert model_of(made)["worldSize"] == 8
    assert model_of(made)["modelWeightPath"] == R1
    assert model_of(made)["modelName"] == "DeepSeek-R1-w8a8"


def test_a_model_of_unknown_size_takes_all_of_them() -> None:
    made = plan(placement(model="/models/something", count=4))
    assert made.argv[2:] == ("--worldSize", "4")


def test_the_thoughts_of_r1_are_parsed_and_those_of_its_distills_are_not() -> None:
    assert model_of(config())["models"] == {"deepseekv2": {"enable_reasoning": True}}
    distill = placement(model="/models/DeepSeek-R1-Distill-Qwen-7B")
    assert "models" not in model_of(config(distill))


def test_answers_may_be_as_long_as_the_sequence() -> None:
    made = config()["BackendConfig"]
    deploy, schedule = made["ModelDeployConfig"], made["ScheduleConfig"]
    assert schedule["maxIterTimes"] == deploy["maxSeqLen"]
    assert schedule["maxPrefillTokens"] >= deploy["maxInputTokenLen"]


@pytest.mark.parametrize("vendor", ["cpu", "nvidia", "amd"])
def test_devices_without_a_build_are_told_with_engines_that_have_one(vendor: Vendor) -> None:
    with pytest.raises(UsageMistake, match=r'"mindie" has no build for .* take .*"sglang"'):
        plan(placement(vendor))


def test_it_downloads_nothing() -> None:
    with pytest.raises(UsageMistake, match="loads models from a directory"):
        plan(placement(model="deepseek-ai/DeepSeek-R1"))


def test_an_interpreter_means_nothing() -> None:
    with pytest.raises(UsageMistake, match=r"python='/opt/py' means nothing"):
        MindIE().plan(replace(REQUEST, python="/opt/py"), placement())


@pytest.mark.parametrize(
    ("served", "name"),
    [
        ("deepseek-ai/DeepSeek-R1", "DeepSeek-R1"),
        ("/models/My model (1)", "My-model--1"),
        ("tiny-r1:x", "tiny-r1-x"),
        ("/", "model"),
        ("_.-", "model"),
    ],
)
def test_names_are_made_fit(served: str, name: str) -> None:
    assert model_name(served) == name
    assert re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", name)


# --- the user's settings ---------------------------------------------------------------------


def test_the_users_settings_win_by_name() -> None:
    made = config(None, "--maxBatchSize", "16", "--maxSeqLen=4096", "--supportSelectBatch", "true")
    schedule = made["BackendConfig"]["ScheduleConfig"]
    assert schedule["maxBatchSize"] == 16
    assert schedule["maxPrefillBatchSize"] <= 16
    assert schedule["supportSelectBatch"] is True
    assert made["BackendConfig"]["ModelDeployConfig"]["maxSeqLen"] == 4096
    assert made["BackendConfig"]["ModelDeployConfig"]["maxInputTokenLen"] <= 4096
    assert schedule["maxIterTimes"] == 4096


def test_settings_that_the_file_lacks_need_their_section() -> None:
    params = '{"plugin_type":"mtp","num_speculative_tokens":1}'
    made = config(None, f"--ModelConfig.plugin_params={params}", "--ScheduleConfig.maxN", "4")
    assert model_of(made)["plugin_params"] == params
    assert made["BackendConfig"]["ScheduleConfig"]["maxN"] == 4
    whole = config(None, '--BackendConfig.ModelDeployConfig.ModelConfig.models={"a": 1}')
    assert model_of(whole)["models"] == {"a": 1}


def test_what_the_user_says_of_devices_is_said_of_both() -> None:
    made = config(None, "--worldSize", "2")
    assert made["BackendConfig"]["npuDeviceIds"] == [[0, 1]]
    made = config(None, "--npuDeviceIds", "[[4,5,6]]")
    assert made["BackendConfig"]["npuDeviceIds"] == [[4, 5, 6]]
    assert model_of(made)["worldSize"] == 3


def test_settings_show_on_the_command_line() -> None:
    words = ("--worldSize", "2", "--maxBatchSize", "16")
    made = plan(None, *words)
    assert made.argv[2:] == words
    assert made.recipe is None
    assert plan().recipe is not None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--port", "1"), "--port cannot stand in args="),
        (("--ServerConfig.httpsEnabled=true",), "--ServerConfig.httpsEnabled cannot stand in"),
        (("--modelWeightPath", "/x"), "model's directory with model="),
        (("maxBatchSize", "16"), "MindIE takes settings of its config.json"),
        (("--maxBatchSize",), "--maxBatchSize in args= of llm_server has no value"),
        (("--maxBatchSize", "many"), "expected a whole number of at least 1"),
        (("--worldSize", "0"), "expected a whole number of at least 1"),
        (("--maxBatchSise", "16"), "Did you mean 'maxBatchSize'"),
        (("--ScheduleConfg.maxN", "4"), "Did you mean 'ScheduleConfig'"),
        (
            ("--ModelConfig", '[{"modelName": "n", "modelWeightPath": "/other", "cpuMemSize": 5}]'),
            "one by one, such as --ModelConfig.cpuMemSize.",
        ),
        (
            ("--BackendConfig.ModelDeployConfig", '{"maxSeqLen": 4096, "ModelConfig": []}'),
            "--BackendConfig.ModelDeployConfig in args= of llm_server is a whole section: give its "
            "settings one by one, such as --ModelDeployConfig.maxSeqLen.",
        ),
        (("--ServerConfig={}",), "such as --ServerConfig.allowAllZeroIpListening."),
        (("--ModelConfig", "null"), "--ModelConfig in args= of llm_server is a whole section"),
    ],
)
def test_mistakes_in_settings_are_told(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageMistake, match=re.escape(told)):
        plan(None, *words)


# --- the script ------------------------------------------------------------------------------

DAEMON = """\
import os, signal, sys, time
os.setpgid(0, 0)
config = os.environ["MIES_CONFIG_JSON_PATH"]
print("mode %o" % (os.stat(config).st_mode & 0o777), "links", os.path.realpath(config) != config)
print("here", os.path.dirname(config) == os.getcwd(), os.getcwd())
def stop(number, frame):
    os.write(1, b"asked to stop\\n")
    time.sleep(0.2)
    sys.exit(int(os.environ.get("ENDS_WITH", "3")))
signal.signal(signal.SIGTERM, stop)
print("Daemon start success!", flush=True)
if os.environ.get("DIES"):
    sys.exit(5)
time.sleep(60)
"""


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """An environment with a stand-in for MindIE's daemon, and our files for one launch."""
    home = tmp_path / "mindie-service"
    (home / "bin").mkdir(parents=True)
    daemon = home / "bin" / "mindieservice_daemon"
    daemon.write_text(f"#!{sys.executable}\n{DAEMON}")
    daemon.chmod(0o755)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "start.sh").write_text(SCRIPT)
    return {
        "PATH": os.environ["PATH"],
        "TMPDIR": str(tmp_path),
        "MIES_INSTALL_PATH": str(home),
        "LLMPERF_MINDIE_CONFIG": str(tmp_path / "config.json"),
    }


def start(tmp_path: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    # As the keeper does: the script leads a session of its own.
    return subprocess.Popen(
        [BASH, str(tmp_path / "start.sh"), "--worldSize", "1"],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def test_the_script_starts_the_daemon_and_stops_it(
    tmp_path: Path, installed: dict[str, str]
) -> None:
    script = start(tmp_path, installed)
    assert script.stdout is not None
    said = [script.stdout.readline().strip() for _ in range(3)]
    assert said[0] == "mode 640 links False"
    assert said[1].startswith("here True ")
    assert said[2] == "Daemon start success!"
    script.send_signal(signal.SIGTERM)
    rest, _ = script.communicate(timeout=20)
    assert rest.strip() == "asked to stop"
    assert script.returncode == 3
    assert not Path(said[1].removeprefix("here True ")).exists()
    assert stat.S_IMODE((tmp_path / "config.json").stat().st_mode) != 0o640


def test_the_script_ends_as_the_daemon_does(tmp_path: Path, installed: dict[str, str]) -> None:
    script = start(tmp_path, {**installed, "DIES": "1"})
    script.communicate(timeout=20)
    assert script.returncode == 5


def test_the_script_says_that_there_is_no_daemon(tmp_path: Path, installed: dict[str, str]) -> None:
    script = start(tmp_path, {**installed, "MIES_INSTALL_PATH": str(tmp_path / "none")})
    said, _ = script.communicate(timeout=20)
    assert script.returncode == 127
    assert CAUSES[0].cause == "MindIE is not installed where it was looked for"
    assert re.search(CAUSES[0].pattern, said)


def test_the_leader_of_a_session_could_not_be_the_daemon(
    tmp_path: Path, installed: dict[str, str]
) -> None:
    daemon = Path(installed["MIES_INSTALL_PATH"], "bin", "mindieservice_daemon")
    env = {**installed, "MIES_CONFIG_JSON_PATH": "x"}
    done = subprocess.run(
        [str(daemon)], env=env, capture_output=True, text=True, start_new_session=True, check=False
    )
    assert "PermissionError" in done.stderr


SERVING = """\
import json, os, subprocess, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer
os.setpgid(0, 0)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open(os.environ["MIES_CONFIG_JSON_PATH"]) as file:
    config = json.load(file)
model = config["BackendConfig"]["ModelDeployConfig"]["ModelConfig"][0]["modelName"]
answers = {
    "/v2/health/ready": "",
    "/info": {"version": "3.0.0", "models": [{"model_id": model, "max_total_tokens": 10240}]},
    "/v1/models": {"data": [{"id": model}]},
}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answers[self.path]).encode())
server = config["ServerConfig"]
httpd = HTTPServer((server["ipAddress"], server["port"]), Handler)
print("Daemon start success!", flush=True)
httpd.serve_forever()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's prctl and /proc")
def test_a_whole_launch(
    tmp_path: Path, installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_LLMPERF_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir(mode=0o700)
    daemon = Path(installed["MIES_INSTALL_PATH"], "bin", "mindieservice_daemon")
    daemon.write_text(f"#!{sys.executable}\n{SERVING}")
    port = ports.claim_port("127.0.0.1")
    place = replace(placement(), port=port, scratch=tmp_path)
    request = replace(REQUEST, env=(("MIES_INSTALL_PATH", installed["MIES_INSTALL_PATH"]),))
    engine = MindIE()
    made = replace(engine.plan(request, place), start_timeout_s=30.0)
    process = ServerProcess.start(made, log_path=tmp_path / "server.log")
    try:
        told = {path: http.get_json(process.url + path, timeout_s=10) for path in engine.info_paths}
        identity = engine.identify(told)
        assert engine.mismatch(identity, place) is None
        assert identity.max_context_tokens == 10240
        server = psutil.Process(process.pid)
        below = server.children(recursive=True)
        assert len(below) == 2
    finally:
        process.stop()
    assert not any(each.is_running() for each in (server, *below))


# --- the log ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("[ERROR] Socket bind failed, bind_result is -1. Address already in use", "port"),
        ("[ParamChecker::CheckJsonParamType] maxLinkNum: missing compulsory field", "settings"),
        ("The type of param maxBatchSize should be uint32_t, but got string", "settings"),
        ("The size of npuDeviceIds (subset) does not equal to worldSize", "differ"),
        ("Check_path: config.json failed, by: wrong mode", "does not trust"),
        ("RuntimeError: NPU out of memory. Tried to allocate 20.00 MiB", "out of memory"),
        ("error while loading shared libraries: libboost_thread.so.1.82.0: cannot", "library"),
        ("terminate called after throwing an instance of 'pybind11::error_already_set'", "package"),
        ("Failed to set process group. errno is 1", "leader of a session"),
        ("Failed to init endpoint! Please check the service log or console output.", "come up"),
        ("Process 77 was terminated by signal 9 (Killed)", "processes crashed"),
    ],
)
def test_causes(line: str, cause: str) -> None:
    found = next(each for each in CAUSES if re.search(each.pattern, line))
    assert cause in found.cause


def test_progress() -> None:
    assert re.search(PROGRESS[0].pattern, "g_mainPid = 12")
    assert re.search(PROGRESS[-1].pattern, "Daemon start success!")
