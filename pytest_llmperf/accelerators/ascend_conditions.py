"""What Ascend's devices say of themselves under load, through ``npu-smi``.

One table tells power, temperature, load and memory of all chips at once, and who uses them. Clocks
are only told card by card (``npu-smi info -t common -i <card>``), each by another start of the
tool: one card is asked at a look, in turn, and so is the power of a 310P, which its controller
knows. No version of the tool tells energy, nor why a clock is low.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from pytest_llmperf import clock
from pytest_llmperf.records import Device

from . import cards
from .base import MIB, RunTool, number, whole
from .conditions import Condition

#: The tool starts a process each time; energy wants samples at most 3 s apart.
TOOL_S = 2.5
#: A chip at work is held down when it runs at this part of its rated clock or below.
_LEAST_CLOCK = 0.5
_PROCESS = re.compile(r"^\|\s*(\d+)\s+(\d+)\s*\|\s*(\d+)\s*\|\s*\S+\s*\|\s*\d+\s*\|")
_FIELD = re.compile(r"^\s*(?P<name>[A-Za-z][^:]*?)\s*:\s*(?P<value>.*?)\s*$")


class Reading(Protocol):
    """What the table tells of a chip; see :class:`~pytest_llmperf.accelerators.ascend.Chip`."""

    @property
    def card(self) -> int: ...
    @property
    def chip(self) -> int: ...
    @property
    def used_mib(self) -> int | None: ...
    @property
    def power_w(self) -> float | None: ...
    @property
    def temperature_c(self) -> float | None: ...
    @property
    def busy_percent(self) -> float | None: ...


def by_tool(
    run: RunTool, devices: Sequence[Device], parse: Callable[[str], Sequence[Reading]]
) -> Callable[[], Sequence[Condition]]:
    """Asks ``npu-smi`` of these devices; ``parse`` reads its table."""
    numbers = sorted({card for device in devices if (card := place_of(device)[0]) is not None})
    turn = itertools.cycle(numbers)

    def look() -> list[Condition]:
        at_ns = clock.now_ns()
        table = run(["npu-smi", "info"]) or ""
        card = next(turn, None)
        common = {} if card is None else parse_common(_common(run, card))
        told = {(chip.card, chip.chip): chip for chip in parse(table)}
        running = parse_processes(table)
        return [
            _condition(
                device.uuid,
                told[place],
                _fields(common, place[1]) if place[0] == card else {},
                # Without that part of the table nobody knows.
                None if running is None else running.get(place, ()),
                at_ns,
            )
            for device in devices
            if (place := place_of(device)) in told
        ]

    return cards.counted_once(look, devices, _part_of, cards.POWER)


def _part_of(device: Device) -> cards.Part | None:
    """A die of a card with several: their power is told of the card, with the first of them."""
    dies = whole(device.details.get("dies_per_card")) or 1
    return cards.Part(card=str(device.details.get("card")), of=dies) if dies > 1 else None


def parse_common(text: str) -> dict[int | None, dict[str, str]]:
    """The fields of ``npu-smi info -t common`` by chip; those of the controller under ``None``."""
    chips: dict[int | None, dict[str, str]] = {}
    fields: dict[str, str] = {}
    for line in text.splitlines():
        match = _FIELD.match(line)
        if match is None:
            continue
        if match["name"] in ("Chip ID", "Chip Name"):
            # The controller ("mcu") follows the chips, with a name and no number.
            fields = chips.setdefault(whole(match["value"]), {})
        fields[match["name"]] = match["value"]
    return chips


def parse_processes(text: str) -> dict[tuple[int | None, int | None], tuple[int, ...]] | None:
    """The process ids by card and chip; ``None`` for a table that does not tell of them."""
    _, heading, rest = text.partition("Process id")
    if not heading:
        return None
    found: dict[tuple[int | None, int | None], tuple[int, ...]] = {}
    for card, chip, pid in _processes(rest):
        found[card, chip] = (*found.get((card, chip), ()), pid)
    return found


def _processes(text: str) -> Iterator[tuple[int | None, int | None, int]]:
    for line in text.splitlines():
        match = _PROCESS.match(line)
        pid = whole(match[3]) if match else None
        if match and pid is not None:
            yield whole(match[1]), whole(match[2]), pid


def place_of(device: Device) -> tuple[int | None, int | None]:
    return whole(device.details.get("card")), whole(device.details.get("chip"))


def _fields(common: dict[int | None, dict[str, str]], chip: int | None) -> dict[str, str]:
    """Those of a chip, and of the controller of its card with the first one."""
    mine = common.get(chip, {})
    return {**common.get(None, {}), **mine} if chip == 0 else mine


def _common(run: RunTool, card: int) -> str:
    return run(["npu-smi", "info", "-t", "common", "-i", str(card)]) or ""


def _condition(
    uuid: str,
    chip: Reading,
    common: dict[str, str],
    processes: tuple[int, ...] | None,
    at_ns: int,
) -> Condition:
    now, rated = number(common.get("Aicore curFreq(MHZ)")), number(common.get("Aicore Freq(MHZ)"))
    held = bool(now and rated and chip.busy_percent and now <= _LEAST_CLOCK * rated)
    part = chip.busy_percent
    power_w = number(common.get("NPU Real-time Power(W)"))
    return Condition(
        uuid=uuid,
        slowed=("a clock at half of its rating or less",) if held else (),
        clock_mhz=now,
        processes=processes,
        power_w=power_w if chip.power_w is None else chip.power_w,
        temperature_c=chip.temperature_c,
        memory_used_bytes=None if chip.used_mib is None else chip.used_mib * MIB,
        utilisation=part / 100 if part is not None and 0 <= part <= 100 else None,
        at_ns=at_ns,
    )
