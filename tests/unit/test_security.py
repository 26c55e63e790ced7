"""What docs/security.md promises, where no other test shows it."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pytest_llmperf
from pytest_llmperf.engines import BUILT_IN, resolve
from pytest_llmperf.engines.other_recipes import COOKBOOKS
from pytest_llmperf.engines.sglang_recipes import SGLANG
from pytest_llmperf.errors import ReportError, ServerError, UsageMistake
from pytest_llmperf.inert import cleaned
from pytest_llmperf.launch.environment import clean_environment
from pytest_llmperf.launch.http import get_json
from pytest_llmperf.launch.leftovers import run_file, sweep
from pytest_llmperf.launch.locks import DeviceLock, try_lock, unlock
from pytest_llmperf.launch.logs import clean_line, write_anew
from pytest_llmperf.records import Accelerator, Device, Placement, ServerRequest, Vendor
from pytest_llmperf.redact import HIDDEN, Secret, redact_printed, redact_text, secret_words
from pytest_llmperf.report.exports import figures
from pytest_llmperf.report.write import write_text
from pytest_llmperf.session.bring_up import trusting
from pytest_llmperf.session.keys import ApiKeys

PACKAGE = Path(pytest_llmperf.__file__).parent
KEY = "sk-0123456789abcdef"


# --- secrets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        f"ServerArgs(model_path='m', api_key='{KEY}', port=1)",
        f"ServerArgs(api_key='{KEY}')",
        f"{{'api_key': '{KEY}', 'port': 1}}",
        f'{{"admin_api_key":"{KEY}"}}',
        f"api_key: {KEY}",
        f"  hf_token : {KEY}",
        f"non-default args: {{'api_key': ['{KEY}']}}",
        f"python -m server --api-key {KEY} --port 1",
        f"python -m server --api-key={KEY}",
        f"HF_TOKEN={KEY} python -m server",
        f"Authorization: Bearer {KEY}",
        f"GET http://me:{KEY}@host/v1",
        f"GET http://host/v1?key={KEY}",
        f"password={KEY};user=me",
    ],
)
def test_a_key_that_a_program_prints_is_not_shown(line: str) -> None:
    assert KEY not in redact_printed(line)
    assert KEY not in clean_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "ServerArgs(model_path='m', api_key=None, tokenizer_path='t')",
        "max_total_num_tokens=20480, chunked_prefill_size=8192",
        "tokens: 512, eos_token_id: 2",
        "Load weight end. type=Qwen2ForCausalLM, dtype=torch.bfloat16, mem usage=0.02 GB.",
        "2026-11-20 10:00:00 INFO: Uvicorn running on http://127.0.0.1:30000 (Press CTRL+C)",
        "RuntimeError: CUDA out of memory. Tried to allocate 20.00 GiB",
        "error: argument --api-key: expected one argument",
    ],
)
def test_a_line_without_a_secret_is_shown_as_it_is(line: str) -> None:
    assert redact_printed(line) == line


def test_a_secret_of_the_environment_is_hidden_wherever_it_is_repeated(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LLMPERF_API_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "short")
    assert redact_text(f"Incorrect key provided: {KEY}.") == f"Incorrect key provided: {HIDDEN}."
    assert redact_text("a short text") == "a short text"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text() | st.text(alphabet="api_key=:'\"{}[](), \n\\-token?@/"))
@example("'" * 20_000)
@example("a" * 50_000 + "=")
@example("a=" * 20_000)
@example("://" * 20_000 + "@")
def test_hiding_ends_whatever_the_text(text: str) -> None:
    once = redact_printed(text)
    assert len(once) <= len(text) + 3 * len(text)


def test_records_and_locals_do_not_show_secrets() -> None:
    env = clean_environment({"HF_TOKEN": KEY, "PATH": "/bin"}, [("API_KEY", KEY)])
    words = secret_words(["--api-key", KEY, "--port", "1", f"--token={KEY}"])
    request = ServerRequest(engine="sim", args=words, env=tuple(env.items()))
    keys = ApiKeys.of({"LLMPERF_API_KEY": KEY})
    assert KEY not in f"{env!r} {request!r} {words!r} {keys!r} {keys.own!r}"
    assert (env["HF_TOKEN"], str(keys.own), json.dumps(words[1])) == (KEY, KEY, f'"{KEY}"')
    assert f"Bearer {keys.own}" == f"Bearer {KEY}"
    assert repr(Secret("a")) == repr(HIDDEN)


@pytest.mark.parametrize("key", ["a\r\nX-Other: 1", "é", "a\0b", "a\tb"])
def test_a_key_that_no_header_can_hold_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageMistake, match="the environment variable LLMPERF_API_KEY") as caught:
        ApiKeys.of({"LLMPERF_API_KEY": key})
    assert key not in str(caught.value)
    assert ApiKeys.of({"LLMPERF_API_KEY": f" {KEY}\n"}).own == KEY  # as `cat` of a file gives it


def test_keys_of_endpoints_are_not_handed_to_what_is_started() -> None:
    given_ = {"LLMPERF_API_KEY": KEY, "LLMPERF_REFERENCE_API_KEY": KEY, "HF_TOKEN": "hf"}
    assert clean_environment(given_) == {"HF_TOKEN": "hf"}


# --- code ------------------------------------------------------------------------------------


def _calls() -> Iterator[tuple[str, ast.Call, str]]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node, ast.unparse(node.func)


def test_there_is_no_shell_and_nothing_that_runs_what_it_reads() -> None:
    banned = re.compile(
        r"(?:os\.(?:system|popen|spawn\w*)|subprocess\.get(?:status)?output|eval|exec|compile"
        r"|__import__|(?:c?pickle|dill|marshal|shelve|yaml|torch|joblib)\.\w*loads?\w*"
        r"|\w*\.unpack_archive|\w*\.extractall|tempfile\.mktemp|runpy\.\w+|code\.interact"
        r"|np\.load|numpy\.load|\w+\.read_pickle)$"
    )
    found = [where for where, _, name in _calls() if banned.match(name)]
    assert found == []
    shells = [
        where
        for where, call, _ in _calls()
        for keyword in call.keywords
        if keyword.arg == "shell" and ast.unparse(keyword.value) != "False"
    ]
    assert shells == []


def test_programs_are_started_with_lists_of_words() -> None:
    texts = [
        where
        for where, call, name in _calls()
        if re.fullmatch(r"subprocess\.(run|Popen|call|check_\w+)", name)
        and call.args
        and isinstance(call.args[0], ast.Constant | ast.JoinedStr)
    ]
    assert texts == []


def test_no_module_reads_a_format_that_can_run_code() -> None:
    names = {"pickle", "marshal", "shelve", "dill", "yaml", "xml", "imp", "telnetlib", "ftplib"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not {alias.name.partition(".")[0] for alias in node.names} & names, path
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").partition(".")[0] not in names, path


# --- servers ---------------------------------------------------------------------------------

_VENDORS: dict[str, Vendor] = {"mindie": "ascend", "sglang-cpu": "cpu", "sim": "cpu"}


@pytest.mark.parametrize("host", ["127.0.0.1", "198.51.100.7"])
@pytest.mark.parametrize("name", sorted({*BUILT_IN} - {"endpoint"}))
def test_every_engine_listens_where_it_is_told_and_nowhere_else(
    name: str, host: str, tmp_path: Path
) -> None:
    vendor = _VENDORS.get(name, "nvidia")
    device = Device(vendor=vendor, product="p", index=0, uuid="u", memory_bytes=80 << 30)
    place = Placement(
        host=host,
        port=31000,
        accelerator=Accelerator(devices=(device,), source="override"),
        model_path="/models/x",
        served_name="m",
        python=sys.executable,
        scratch=tmp_path,
        environ={},
    )
    model = "owner/repo-GGUF:Q4_K_M" if name == "llama.cpp" else "/models/x"
    plan = resolve(name).plan(
        ServerRequest(engine=name, model=model), replace(place, model_path=model)
    )
    files = "\n".join(text for _, text in plan.files)
    said = "\n".join([*plan.argv, *(f"{key}={value}" for key, value in plan.env), files])
    assert plan.host == host
    assert set(re.findall(r"\d+\.\d+\.\d+\.\d+", said)) == {host}
    assert not re.search(r"\[::\]|--host[ =]?\n?::", said)
    assert all(path.is_relative_to(tmp_path) for path, _ in plan.files)
    assert not trusting(plan.argv)


def test_no_recipe_lets_a_model_run_code() -> None:
    for book in (SGLANG, *COOKBOOKS.values()):
        for row in book.rows:
            words = [word for flag in row.flags for word in flag]
            assert not trusting(words), row.name


@pytest.mark.parametrize(
    ("argv", "found"),
    [
        (["--trust-remote-code"], True),
        (["--trust_remote_code"], True),
        (["--trust-remote-code=true"], True),
        (["--trustRemoteCode"], True),
        (["--trust-remote-code=False"], False),
        (["--port", "1"], False),
    ],
)
def test_code_of_the_model_is_told_of(argv: list[str], found: bool) -> None:
    assert bool(trusting(argv)) is found


# --- files that others may have laid ---------------------------------------------------------


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    path = tmp_path / "victim"
    path.write_text("precious")
    return path


@pytest.mark.parametrize("how", ["symlink", "hardlink", "fifo", "directory"])
def test_a_lock_is_a_file_of_its_own(tmp_path: Path, victim: Path, how: str) -> None:
    locks = tmp_path / "locks"
    locks.mkdir()
    path = locks / "device-GPU-1.lock"
    {
        "symlink": lambda: path.symlink_to(victim),
        "hardlink": lambda: path.hardlink_to(victim),
        "fifo": lambda: os.mkfifo(path),
        "directory": lambda: path.mkdir(),
    }[how]()
    with pytest.raises(UsageMistake, match=r"GPU-1\.lock cannot be taken: .*--llmperf-lock-dir"):
        DeviceLock(["GPU-1"], locks).acquire()
    assert victim.read_text() == "precious"


def test_a_lock_that_nobody_may_take_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageMistake, match="cannot be taken: Not a directory"):
        try_lock(tmp_path / "file" / "x.lock")


@pytest.mark.parametrize(
    "note",
    [
        *(b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"pid": 1}'),
        b'{"pid": "\\u001b[2J\\u202e", "holder": [], "command": {}, "since": "'
        + b"a" * 9999
        + b'"}',
    ],
)
def test_who_holds_a_lock_is_told_whatever_its_note_says(tmp_path: Path, note: bytes) -> None:
    lock = DeviceLock(["GPU-1"], tmp_path)
    (path,) = (tmp_path / name for name in ["device-GPU-1.lock"])
    path.write_bytes(note)
    said = lock.describe("GPU-1")
    assert said == "another process" or said.startswith("process ")
    assert said.isprintable()
    assert len(said) < 2000
    path.unlink()
    assert lock.describe("GPU-1") == "another process"


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"place": 1}', b"\xff", b"[" * 100_000])
def test_a_note_of_a_dead_keeper_that_cannot_be_read_stops_nobody(note: bytes) -> None:
    path = run_file("0123456789ab")
    path.write_bytes(note)
    assert sweep() == []
    assert not path.exists()


def test_a_report_takes_the_place_of_a_link_and_not_of_its_target(
    tmp_path: Path, victim: Path
) -> None:
    path = tmp_path / "report.json"
    path.symlink_to(victim)
    (tmp_path / f".report.json.{os.getpid()}.tmp").symlink_to(victim)
    write_text("new", path, option="-o")
    assert (path.read_text(), path.is_symlink()) == ("new", False)
    assert victim.read_text() == "precious"
    assert not list(tmp_path.glob(".report*"))


def test_a_report_never_takes_the_place_of_a_device_or_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ReportError, match=r"it is no file that could be replaced\. Give -o"):
        write_text("new", path, option="-o")
    assert path.is_fifo()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/report.json"])
def test_a_report_never_takes_a_place_of_the_system(tmp_path: Path, name: str) -> None:
    """Nor that of a link to one, which may be a plain file just now: standard output often is."""
    path = tmp_path / "report.json"
    path.symlink_to(name)
    for place in (path, Path(name)):
        with pytest.raises(ReportError, match="belongs to the system, and is no place for a file"):
            write_text("new", place, option="-o")
    assert path.is_symlink()


def test_what_a_launch_writes_goes_through_no_link(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "server.log"
    path.symlink_to(victim)
    write_anew(path, "new")
    assert (path.read_text(), victim.read_text()) == ("new", "precious")


# --- names -----------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text())
@example("../../etc/passwd")
@example("a\0b")
@example("a" * 3000)
@example("\ud800")
def test_names_of_exported_files_are_plain(name: str) -> None:
    slug = figures.slug(name) if name.isprintable() else figures.slug(cleaned(name))
    assert re.fullmatch(r"[A-Za-z0-9-]{1,100}", slug)


def test_exported_names_that_differ_in_case_are_told_apart() -> None:
    assert figures.slug("test_A").casefold() != figures.slug("test_a").casefold()


@pytest.mark.parametrize("uuid", ["../../x", "a/b", "a\0b", "a" * 400, "GPU-é", ".", ""])
def test_a_device_names_no_other_file(tmp_path: Path, uuid: str) -> None:
    with DeviceLock([uuid], tmp_path):
        (path,) = tmp_path.iterdir()
        assert re.fullmatch(r"device-[A-Za-z0-9._-]{0,95}\.lock", path.name)


# --- answers ---------------------------------------------------------------------------------


class _Answers:
    """A server that answers once with ``body``, which is ``framed`` if its headers come first."""

    def __init__(self, body: bytes, *, framed: bool = False, status: bytes = b"200 OK") -> None:
        import socket
        import threading

        self.heard = b""
        self._status = status
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._body = body if framed else b"\r\n" + body
        self._thread = threading.Thread(target=self._answer, daemon=True)
        self._thread.start()

    def _answer(self) -> None:
        client, _ = self._socket.accept()
        with client:
            self.heard = client.recv(65536)
            client.sendall(b"HTTP/1.0 " + self._status + b"\r\n" + self._body)

    def close(self) -> None:
        self._thread.join(10)
        self._socket.close()


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b"", b'{"a":' * 100_000])
def test_a_page_that_is_no_json_is_an_error_of_the_server(body: bytes) -> None:
    server = _Answers(body)
    try:
        with pytest.raises(ServerError, match="did not answer with JSON"):
            get_json(f"{server.url}/info", timeout_s=10)
    finally:
        server.close()


def test_a_key_does_not_follow_to_another_host() -> None:
    other = _Answers(b"{}")
    head = f"Location: {other.url}/v1/models\r\nContent-Length: 0\r\n\r\n".encode()
    server = _Answers(head, framed=True, status=b"302 Found")
    try:
        get_json(
            f"{server.url}/v1/models", timeout_s=10, headers={"Authorization": f"Bearer {KEY}"}
        )
    finally:
        server.close()
        other.close()
    assert KEY.encode() in server.heard
    assert other.heard.startswith(b"GET /v1/models")
    assert KEY.encode() not in other.heard


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.launch.http._LARGEST", 1000)
    head = b"Content-Length: 2000\r\n\r\n"
    for body in (bytes(2000), head + bytes(2000)):
        server = _Answers(body, framed=body.startswith(head))
        try:
            with pytest.raises(ServerError, match="longer than the 1,000 bytes"):
                get_json(f"{server.url}/info", timeout_s=10)
        finally:
            server.close()


def test_locks_that_are_taken_are_given_back(tmp_path: Path) -> None:
    """The stricter opening of a lock leaves it what it was."""
    fd: Any = try_lock(tmp_path / "a.lock")
    assert try_lock(tmp_path / "a.lock") is None
    unlock(fd)
