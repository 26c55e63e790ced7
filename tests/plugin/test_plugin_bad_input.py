"""Options, ini values and markers as nobody means them: a usage error that says which and why."""

from __future__ import annotations

import argparse
import os
from typing import cast

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.options import INI, add_options
from pytest_llmperf.settings import Settings

pytestmark = pytest.mark.client_bounds

TEST = """
import pytest
@pytest.mark.llm_server("sim", model="m")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=40)
@pytest.mark.llm_floor(output_throughput="1 tok/s")
def test_a(llm_perf): llm_perf.run()
"""
LONG = "a" * 300
WHOLE = ("x", "", "0", "-1", "1.5", "1e3", "1_0", "٣", "9" * 12, "9" * 5000)
FILE = (
    *("", " ", ".", "test_it.py/r.json", LONG, "pipe"),
    *("/dev/stdout", "/dev/fd/1", "/proc/r.json", "stdout", "devices/r.json"),
)
DIRECTORY = ("", "test_it.py", "test_it.py/below", LONG)
#: Of every option that takes a value, values that cannot be meant.
OPTIONS: dict[str, tuple[str, ...]] = {
    "--llmperf": ("maybe", ""),
    "--llmperf-report": FILE,
    "--llmperf-html": FILE,
    "--llmperf-markdown": FILE,
    "--llmperf-export": ("", "x", "csv:x", "markdown:", "markdown:.", "markdown:pipe"),
    "--llmperf-launches": WHOLE,
    "--llmperf-runs": WHOLE,
    "--llmperf-client-processes": WHOLE,
    "--llmperf-ray": ("", "local", "ray://h:10001", "http://h:8265", "h", "h:", "h:x"),
    "--llmperf-ray-workers": (*WHOLE, "2"),
    "--llmperf-pin": ("x", ""),
    "--llmperf-require": ("", "none.py", LONG, "a\0b"),
    "--llmperf-accelerator": ("", "abacus"),
    "--llmperf-python": ("",),
    "--llmperf-container": ("", "lxc"),
    "--llmperf-bind": ("", " ", "0.0.0.0", "::", "*", "203.0.113.9", "-x", "a\0b", "é" * 70),
    "--llmperf-hosts": (",", "a,a", "a,,b", "-oProxyCommand=x", "a b"),
    "--llmperf-node-command": ("", "ssh", "'"),
    "--llmperf-server-timeout": ("x", "nan", "inf", "-1", "0", "1e3", "9" * 15),
    "--llmperf-reference-python": ("", "none/python", "~nobody-of-that-name/p", LONG + "/p"),
    "--llmperf-reference-build": ("", "'"),
    "--llmperf-reference-ref": ("", "--all"),
    "--llmperf-reference-args": ("'",),
    "--llmperf-reference-image": ("", "-v", "a b"),
    "--llmperf-reference-url": ("", "x", "http://h:0", "http://h/a b", "ftp://h", "http://[::1"),
    "--llmperf-anchor": ("", " ", "-x"),
    "--llmperf-pairs": (*WHOLE, "2", "5"),
    "--llmperf-budget": ("", "x", "0m", "-1m", "9" * 400 + "m"),
    "--llmperf-quality": ("", "x"),
    "--llmperf-gsm8k": ("", "none.jsonl", ".", "pipe", "test_it.py"),
    "--llmperf-gsm8k-questions": (*WHOLE, "3"),
    "--llmperf-store": ("", " ", "a\0b"),
    "--llmperf-limits-from": ("", "--output=x"),
    "--llmperf-calibrate": (*WHOLE, "5", "7"),
    "--llmperf-url": ("", "x", "m=", "http://h:x", "http://h/\n", "http://é/"),
    "--llmperf-model": ("", "a", "a=", "=b"),
    "--llmperf-log-dir": DIRECTORY,
    "--llmperf-lock-dir": DIRECTORY,
    "--llmperf-shard": ("", "x", "2", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "1/" + "9" * 12),
    "--llmperf-prices": ("", "none.json", ".", "pipe", "test_it.py", LONG),
}
INTERNAL = "--llmperf-declarations"
BOUND = ("x", "-1", "1e3%", "5 kg", "9" * 400, "", "1 2")
INI_VALUES: dict[str, tuple[str, ...]] = {
    "llmperf": ("maybe", "ON"),
    "llmperf_launches": WHOLE[:-1],
    "llmperf_hosts": ("a,a",),
    "llmperf_bind": ("0.0.0.0", "203.0.113.9"),
    "llmperf_node_command": ("ssh",),
    "llmperf_runs": WHOLE[:-1],
    "llmperf_family": ("x", "-1", "1.5", "9" * 5000),
    **{
        name: BOUND
        for name in INI
        if name.startswith("llmperf_client_") or name == "llmperf_max_drift"
    },
    "llmperf_pin": ("x",),
    "llmperf_pairs": ("3", "x"),
    "llmperf_prices": ("none.json", "~nobody-of-that-name/x"),
    "llmperf_cache_dir": ("~nobody-of-that-name/x",),
}
#: Ini values of which any text may be meant until something is looked for there.
FREE = {"llmperf_store"}


class Options:
    """Collects what is declared, as argparse has it."""

    def __init__(self) -> None:
        self.valued: set[str] = set()

    def getgroup(self, *_: object, **__: object) -> Options:
        return self

    def addoption(self, *names: str, **attributes: object) -> None:
        if attributes.get("action") != "store_true":
            self.valued |= {name for name in names if attributes.get("help") != argparse.SUPPRESS}

    def addini(self, *_: object, **__: object) -> None: ...


def test_every_option_is_tried_here() -> None:
    options = Options()
    add_options(cast(pytest.Parser, options))
    assert options.valued - {INTERNAL} == OPTIONS.keys()
    assert INI.keys() == INI_VALUES.keys() | FREE


@pytest.fixture(autouse=True)
def _files(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST)
    os.mkfifo(pytester.path / "pipe")
    (pytester.path / "stdout").symlink_to("/dev/stdout")
    (pytester.path / "devices").symlink_to("/dev")


def told(pytester: pytest.Pytester, *args: str) -> str:
    """What a whole run of pytest says that ends with a usage error."""
    before = {path.name for path in pytester.path.iterdir()}
    result = pytester.runpytest("--collect-only", "-p", "no:cacheprovider", *args)
    said = result.stderr.str()
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str() + said
    assert "Traceback" not in said + result.stdout.str()
    assert "INTERNALERROR" not in said + result.stdout.str()
    assert {path.name for path in pytester.path.iterdir()} - before <= {"__pycache__"}
    return said


def refused(pytester: pytest.Pytester, *args: str) -> str:
    """The same where only options are read, which takes a tenth of the time."""
    with pytest.raises((UsageMistake, pytest.UsageError)) as caught:
        Settings.from_config(pytester.parseconfig(*args))
    return str(caught.value)


def check_option(said: str, option: str, value: str) -> None:
    assert option in said
    assert len(said) < len(value) * 4 + 3000
    if value.strip():
        shown = value.strip()[:20]
        assert shown in said or repr(shown)[1:-1] in said


@pytest.mark.parametrize(
    ("option", "value"),
    [
        pytest.param(option, value, id=f"{option}-{at}")
        for option, values in OPTIONS.items()
        for at, value in enumerate(values)
    ],
)
def test_an_option_that_cannot_be_meant(pytester: pytest.Pytester, option: str, value: str) -> None:
    check_option(refused(pytester, f"{option}={value}"), option, value)


@pytest.mark.parametrize("option", OPTIONS)
def test_it_ends_a_run_before_anything_starts(pytester: pytest.Pytester, option: str) -> None:
    value = OPTIONS[option][-1]
    check_option(told(pytester, f"{option}={value}"), option, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(i, v, id=f"{i}-{n}") for i, vs in INI_VALUES.items() for n, v in enumerate(vs)],
)
def test_an_ini_value_that_cannot_be_meant(
    pytester: pytest.Pytester, name: str, value: str
) -> None:
    said = refused(pytester, "-o", f"{name}={value}")
    assert name in said or "--" + name.replace("_", "-") in said
    assert value[:20] in said or repr(value[:20])[1:-1] in said


def test_an_ini_value_that_is_a_list(pytester: pytest.Pytester) -> None:
    pytester.makepyprojecttoml('[tool.pytest.ini_options]\nllmperf_launches = ["3"]\n')
    assert "ini value llmperf_launches = ['3']: expected one text" in told(pytester)


def test_credentials_in_a_mistake_are_not_shown(pytester: pytest.Pytester) -> None:
    for option in ("--llmperf-url", "--llmperf-reference-url"):
        pytester.makepyfile(test_it=TEST)
        result = pytester.runpytest("--collect-only", f"{option}=http://me:hunter22@h/v1")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "hunter22" not in result.stderr.str() + result.stdout.str()
        assert "holds credentials" in result.stderr.str()


# --- markers ---------------------------------------------------------------------------------

SERVER = [
    'args="--tp \'2"',
    "args=5",
    "args=[None]",
    'args="a\\0b"',
    "env=5",
    'env=["A"]',
    'env={"A": None}',
    'env={"A=B": "c"}',
    'env={"": "c"}',
    'env={5: "c"}',
    'env={"A": "b\\0c"}',
    "timeout='1.2.3 s'",
    "timeout=[1]",
    "timeout=-1",
    "timeout=float('nan')",
    "timeout=10**400",
    "timeout='9' * 400 + ' s'",
    "timeout=True",
    "python=5",
    'python="a\\0b"',
    "accelerator=5",
    "url=5",
    "image=5",
    "devices=-1",
    "devices=''",
    "nodes=0",
    "reference=5",
    "reference={'args': 5}",
]
FLOOR = [
    "output_throughput=None",
    "output_throughput=[]",
    "output_throughput='٣'",
    "output_throughput='9' * 400 + ' tok/s'",
    "output_throughput='1 tok/s', on=5",
    "**{'': '1 tok/s'}",
    "**{'x\\n': '1 tok/s'}",
]
REGRESSION = [
    "output_throughput=None",
    "output_throughput='nan%'",
    "output_throughput='3%', allow='x'",
    "output_throughput='3%', subject=5",
]
WORKLOAD = [
    "5",
    "'chat', rate=[]",
    "'chat', requests=10**400",
    "'chat', duration='9' * 400 + ' s'",
    "'chat', slo=5",
    "'a' * 300 + '.json'",
    "'x\\0y.json'",
    "'../pipe.json'",
]


@pytest.mark.parametrize(
    ("marker", "given"),
    [
        ("llm_server", [f'"sim", {each}' for each in SERVER]),
        ("llm_floor", FLOOR),
        ("llm_no_regression", REGRESSION),
        ("llm_workload", WORKLOAD),
    ],
)
def test_markers_that_cannot_be_meant(
    pytester: pytest.Pytester, marker: str, given: list[str]
) -> None:
    """All of them in one run: every mistake is told with its place, in one line."""
    tests = "".join(
        '@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=40)\n'
        '@pytest.mark.llm_server("sim", model="m")\n'
        f"@pytest.mark.{marker}({arguments})\n"
        f"def test_{at}(llm_perf): llm_perf.run()\n\n"
        for at, arguments in enumerate(given)
    )
    pytester.makepyfile(test_it="import pytest\n\n" + tests)
    said = told(pytester)
    lines = [
        line for line in said.splitlines() if line.startswith(("test_it.py", "ERROR: test_it"))
    ]
    for at, arguments in enumerate(given):
        assert [line for line in lines if f"(test_{at}): " in line], (arguments, said)
    assert len(lines) == len(given)
