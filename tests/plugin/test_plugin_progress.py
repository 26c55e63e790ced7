"""What a waiting person sees, on terminals and in logs, and that tests' own output is theirs."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

TEST = """
import pytest
pytestmark = [
    pytest.mark.llm_server("sim", model="m", args="--ttft-ms 20 --itl-ms 20"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=40, concurrency=4),
]

@pytest.mark.parametrize("parameter_with_a_long_name", ["and-a-long-value"])
def test_with_a_name_that_fills_a_line(llm_perf, capfd, parameter_with_a_long_name):
    llm_perf.run()
    heard = capfd.readouterr()
    assert heard.out + heard.err == ""
"""
OFTEN = "from pytest_llmperf.session import progress\nprogress.HEARTBEAT_S = 0.05\n"
DASH = " ── "
ROWS = 10


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_it=TEST)
    pytester.makeconftest(OFTEN)
    return pytester


def in_terminal(suite: pytest.Pytester, columns: int, *args: str, term: str = "xterm") -> str:
    """All that pytest writes to a terminal of so many columns."""
    words = [sys.executable, "-m", "pytest", "--llmperf-runs=1", "-p", "no:cacheprovider", *args]
    terminal, inside = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    environ = {**os.environ, "TERM": term}
    session = subprocess.Popen(
        words, stdin=inside, stdout=inside, stderr=inside, cwd=suite.path, env=environ
    )
    os.close(inside)
    written = b""
    try:
        while part := os.read(terminal, 65536):
            written += part
    except OSError:  # how Linux tells that the other end is closed
        pass
    os.close(terminal)
    session.wait()
    return written.decode()


class Screen:
    """As much of a terminal as pytest and we use; ``live`` is every line that had our dash."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines = [[" "] * columns for _ in range(ROWS)]
        self.gone: list[str] = []
        self.live: set[str] = set()
        self.x = self.y = 0
        self._saved = (0, 0)

    def show(self, text: str) -> list[str]:
        """Every line that there is in the end, those that scrolled away included."""
        for part in re.findall(r"\x1b(?:\[[0-9;]*[A-Za-z]|[78D])|[^\x1b]", text):
            (self._obey if part[0] == "\x1b" else self._put)(part)
        return [*self.gone, *(self._line(y) for y in range(ROWS))]

    def _line(self, y: int) -> str:
        return "".join(self.lines[y]).rstrip()

    def _down(self) -> None:
        if self.y < ROWS - 1:
            self.y += 1
            return
        self.gone.append(self._line(0))
        self.lines = [*self.lines[1:], [" "] * self.columns]

    def _obey(self, part: str) -> None:
        if part == "\x1bD":
            self._down()
        elif part == "\x1b7":
            self._saved = (self.x, self.y)
        elif part == "\x1b8":
            self.x, self.y = self._saved
        elif part in ("\x1b[A", "\x1b[B"):
            step = 1 if part[-1] == "B" else -1
            self.y = min(max(self.y + step, 0), ROWS - 1)
        elif part == "\x1b[K":
            self.lines[self.y][self.x :] = [" "] * (self.columns - self.x)
        else:
            assert part[-1] == "m", f"a sequence that this screen does not know: {part!r}"

    def _put(self, letter: str) -> None:
        if letter == "\r":
            self.x = 0
        elif letter == "\n":
            self._down()
        else:
            if self.x == self.columns:
                self.x = 0
                self._down()
            self.lines[self.y][self.x] = letter
            self.x += 1
        if DASH in (line := self._line(self.y)):
            self.live.add(line)


@pytest.mark.parametrize("columns", [60, 100])
def test_the_live_line_fits_and_leaves_nothing(suite: pytest.Pytester, columns: int) -> None:
    screen = Screen(columns)
    left = screen.show(in_terminal(suite, columns, "-v", "-p", "no:xdist"))
    text = "\n".join(left)
    assert "1 passed" in text
    assert DASH not in text
    assert any(re.search(r"\d/40 requests", line) for line in screen.live), screen.live
    assert all(line.startswith(("test_", "sim")) for line in screen.live)


def test_a_terminal_that_cannot_draw_gets_lines(suite: pytest.Pytester) -> None:
    written = in_terminal(suite, 80, "--color=no", term="dumb")
    assert "\x1b" not in written
    assert "\nllmperf: test_with_a_name" in written
    assert "1 passed" in written


def test_silence_on_a_terminal(suite: pytest.Pytester) -> None:
    written = in_terminal(suite, 80, "--llmperf-no-progress")
    assert DASH not in written
    assert "1 passed" in written


@pytest.mark.parametrize("how", [(), ("-s",), ("-n2",), ("--capture=sys",)])
def test_a_log_gets_heartbeats_beside_what_tests_print(
    suite: pytest.Pytester, how: tuple[str, ...]
) -> None:
    result = suite.runpytest_subprocess("--llmperf-runs=1", *how)
    result.assert_outcomes(passed=1)
    told = [line for line in result.stderr.lines if line.startswith("llmperf: ")]
    assert any("requests" in line for line in told), result.stderr.lines
    assert DASH not in result.stdout.str()
    silent = suite.runpytest_subprocess("--llmperf-runs=1", "--llmperf-no-progress", *how)
    assert DASH not in silent.stdout.str() + silent.stderr.str()
