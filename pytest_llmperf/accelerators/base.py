"""What the vendors' probes share: running their tools, and choosing among the devices found."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from pytest_llmperf.records import Accelerator, Device, Vendor

from .conditions import Watcher

#: For a tool, and for all that one library or the kernel is asked at a time. A driver that nobody
#: holds open takes up to seconds a card to start.
STEP_S = 20.0
#: For watching to begin, while a server waits to be measured: for files of the kernel, whose driver
#: that server holds open, and for the first answer of a tool. One that takes longer each time would
#: tell too late how a run went.
READ_S, WATCH_S = 2.0, 8.0
#: For a library to close at the end: one that hangs is left as it is.
CLOSE_S = 2.0
#: Of a step's time, what one start of a tool may take: it is ended before the step is given up.
_TOOLS_PART = 0.9
MIB = 1024 * 1024

Answer = TypeVar("Answer")

#: Runs a vendor's tool; its output, or ``None`` when it is absent, fails or hangs.
RunTool = Callable[[Sequence[str]], str | None]


class Probe(Protocol):
    """One vendor's way of finding out what is here.

    ``find`` gives the devices that a server started with ``env`` would see, ``None`` for none.
    ``memory_in_use`` gives the bytes in use on all devices together, ``None`` where unknown.
    ``watching`` gives what tells their condition under load, ``None`` where nothing does.
    """

    @property
    def vendor(self) -> Vendor: ...

    def find(self, env: Mapping[str, str]) -> Accelerator | None: ...

    def memory_in_use(self, accelerator: Accelerator) -> int | None: ...

    def watching(self, accelerator: Accelerator) -> AbstractContextManager[Watcher | None]: ...


def within(seconds: float, call: Callable[[], Answer]) -> Answer | None:
    """What ``call`` returns, or ``None`` when it has not within ``seconds``.

    It runs in a thread, which is left behind when it hangs: a call into a driver cannot be
    interrupted, and a child process that waits for a driver cannot be killed. Raises what ``call``
    raises.
    """
    answers: list[Answer] = []
    raised: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=ask, name="llmperf-ask", daemon=True)
    thread.start()
    thread.join(seconds)
    if raised:
        raise raised[0]
    return answers[0] if answers else None


def first_answer(
    seconds: float, steps: Sequence[tuple[str, Callable[[], Sequence[Device] | None]]]
) -> Accelerator | None:
    """The accelerator of the first step that answers, under that step's name.

    ``None`` from a step, or nothing within ``seconds``, leaves it to the next; no devices are an
    answer too.
    """
    for source, step in steps:
        devices = within(seconds, step)
        if devices is not None:
            return alike(devices, source)
    return None


def run_tool(argv: Sequence[str], *, step_s: float = STEP_S) -> str | None:
    """The standard output of a vendor's tool, or ``None``."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            # Tables are read by their English words.
            env={**os.environ, "LC_ALL": "C"},
            timeout=_TOOLS_PART * step_s,
            check=False,
        )
    except (subprocess.TimeoutExpired, OSError):
        return None  # a driver that hangs is no reason to hang too: the next probe may answer
    return done.stdout if done.returncode == 0 else None


def visible(devices: Sequence[Device], chosen: str | None) -> tuple[Device, ...]:
    """The devices that a ``*_VISIBLE_DEVICES`` variable leaves, in its order.

    ``None`` leaves all. Entries are positions in ``devices`` or the beginning of a UUID. As in the
    vendors' own runtimes, the first entry that names nothing, or a device again, ends the list.
    ``visible_as`` of each is the entry to ask for it by: the one that it had, else its position.
    """
    if chosen is None:
        return tuple(replace(each, visible_as=str(at)) for at, each in enumerate(devices))
    left: list[Device] = []
    for entry in map(str.strip, chosen.split(",")):
        device = _named(devices, entry)
        if device is None or device in left:
            break
        left.append(replace(device, visible_as=entry))
    return tuple(left)


def _named(devices: Sequence[Device], entry: str) -> Device | None:
    if entry.isdecimal():
        position = int(entry)
        return devices[position] if position < len(devices) else None
    found = [device for device in devices if entry and device.uuid.startswith(entry)]
    return found[0] if len(found) == 1 else None


def alike(devices: Sequence[Device], source: str) -> Accelerator | None:
    """The devices as one accelerator, or ``None`` for none.

    Of several products the one with the most memory counts: the others are usually the graphics
    of the processor or a card for the display.
    """
    if not devices:
        return None
    product = max(devices, key=lambda device: device.memory_bytes or 0).product
    return Accelerator(
        devices=tuple(device for device in devices if device.product == product), source=source
    )


def number(text: object) -> float | None:
    """``text`` as a number; ``None`` for the tools' ways to say that they do not know."""
    try:
        value = float(str(text).strip())
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def whole(text: object) -> int | None:
    """``text`` as a number of nothing or more, written in plain digits; else ``None``."""
    digits = str(text).strip()
    return int(digits) if digits.isdecimal() and len(digits) < 20 else None


def together(amounts: Sequence[int | None]) -> int | None:
    """Their sum; ``None`` when one of them is not known."""
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


def read_text(path: Path) -> str | None:
    """What the kernel says in a file, stripped; ``None`` where it does not."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    text = read_text(path)
    return None if text is None else whole(text)


def mebibytes(text: object) -> int | None:
    """A number of MiB, in bytes."""
    value = number(text)
    return None if value is None else round(value * MIB)
