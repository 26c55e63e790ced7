"""Ascend: through the tables of ``npu-smi info``, else by the device files that are here.

A device is what the runtime counts: one chip, that is one die. A 910C card has two of them. The
tables are those of npu-smi 23.0 to 26.0: of chips with HBM (910, 910B, 910C), where only a 910C has
the column "Phy-ID", and of those without (310, 310P, 310B), with a column "Device".
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.records import Accelerator, Device, Scalar, Vendor

from . import ascend_conditions
from .base import (
    STEP_S,
    RunTool,
    first_answer,
    mebibytes,
    number,
    read_text,
    run_tool,
    together,
    visible,
    whole,
    within,
)
from .conditions import Watcher
from .host import machine_id

_VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
_VERSION = re.compile(r"\|\s*npu-smi\s+\S+\s+Version:\s*(\S+)")
_FIRST_ROW = re.compile(
    r"^\|\s*(?P<card>\d+)\s+(?P<name>[A-Za-z0-9][\w-]*)\s*\|\s*(?P<health>[A-Za-z]+)\s*\|"
    r"\s*(?P<power>\S+)\s+(?P<temperature>\S+)\s"
)
_SECOND_ROW = re.compile(
    r"^\|\s*(?P<chip>\d+)(?:\s+(?P<physical>\d+))?\s*\|"
    r"\s*(?P<bus>[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]|NA)\s*\|"
    r"\s*(?P<busy>\S+)(?P<usage>.*)\|"
)
_AMOUNT = re.compile(r"(\d+|NA)\s*/\s*(\d+)")
_DIES_PER_910C = 2
_PHYSICAL = re.compile(r"\|\s*Chip\s+Phy-ID\s*\|")
_DEV, _PCI = Path("/dev"), Path("/sys/bus/pci/devices")
_HUAWEI = "0x19e5"
#: What is known of a chip from its PCI device alone; not which variant it is.
_CHIPS = {"0xd500": "310P", "0xd801": "910", "0xd802": "910B", "0xd803": "910C"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One chip of the table; memory in MiB, of the last pair of the row (HBM where it has any).

    ``power_w`` of a 910C is that of the card, and is told of its first die only.
    """

    card: int
    chip: int
    physical: int | None
    name: str
    health: str
    bus: str
    used_mib: int | None
    total_mib: int
    power_w: float | None
    temperature_c: float | None
    busy_percent: float | None


@dataclass(frozen=True, slots=True)
class AscendProbe:
    """``run`` runs a tool; the parameters are replaced in tests."""

    run: RunTool = run_tool
    vendor: Vendor = "ascend"
    limit_s: float = STEP_S
    dev: Path = _DEV
    pci: Path = _PCI

    def find(self, env: Mapping[str, str]) -> Accelerator | None:
        def shown(devices: list[Device]) -> list[Device] | None:
            return list(visible(devices, env.get(_VISIBLE))) if devices else None

        return first_answer(
            self.limit_s,
            (
                ("npu-smi", lambda: shown(devices_from_table(self._table(), machine_id()))),
                ("devfs", lambda: shown(devices_from_files(self.dev, self.pci, machine_id()))),
            ),
        )

    @contextlib.contextmanager
    def watching(self, accelerator: Accelerator) -> Iterator[Watcher | None]:
        if accelerator.source == "devfs":
            yield None
            return
        look = ascend_conditions.by_tool(self.run, accelerator.devices, parse_table)
        yield Watcher(look=look, period_s=ascend_conditions.TOOL_S, source="npu-smi")

    def memory_in_use(self, accelerator: Accelerator) -> int | None:
        text = within(self.limit_s, self._table) or ""
        # Not by the bus: the tool may say "NA" of several chips.
        used: dict[tuple[int | None, int | None], int | None] = {
            (chip.card, chip.chip): mebibytes(chip.used_mib) for chip in parse_table(text)
        }
        places = (ascend_conditions.place_of(device) for device in accelerator.devices)
        return together([used.get(place) for place in places])

    def _table(self) -> str:
        return self.run(["npu-smi", "info"]) or ""


def parse_table(text: str) -> list[Chip]:
    """The chips of ``npu-smi info``, two lines of the table each, in their order."""
    return list(_chips(text.splitlines()))


def _chips(lines: list[str]) -> Iterator[Chip]:
    head: re.Match[str] | None = None
    for line in lines:
        row = _SECOND_ROW.match(line)
        if row and head:
            # Total 0 is memory that this chip does not have, DDR or HBM.
            amounts = [(whole(used), whole(total)) for used, total in _AMOUNT.findall(row["usage"])]
            used, total = next((pair for pair in reversed(amounts) if pair[1]), (None, None))
            yield Chip(
                card=int(head["card"]),
                chip=int(row["chip"]),
                physical=None if row["physical"] is None else int(row["physical"]),
                name=head["name"],
                health=head["health"],
                bus=row["bus"].upper(),
                used_mib=used,
                total_mib=total or 0,
                power_w=number(head["power"]),
                temperature_c=number(head["temperature"]),
                busy_percent=number(row["busy"]),
            )
        head = _FIRST_ROW.match(line)


def devices_from_table(text: str, host: str) -> list[Device]:
    """One device a chip. The table has no serial number, so host and bus address stand in."""
    chips = parse_table(text)
    version = _VERSION.search(text)
    driver = version[1] if version else None
    # A container may have been given one die of a card's two.
    least = _DIES_PER_910C if _PHYSICAL.search(text) else 1
    return [
        _device(chip, position, host, driver, max(least, _dies(chips, chip.card)))
        for position, chip in enumerate(chips)
    ]


def _device(chip: Chip, position: int, host: str, driver: str | None, dies: int) -> Device:
    place = f"{chip.card}-{chip.chip}" if chip.bus == "NA" else chip.bus
    return Device(
        vendor="ascend",
        product=product_name(chip.name, dies),
        index=position if chip.physical is None else chip.physical,
        uuid=f"NPU-{host}-{place}",
        memory_bytes=mebibytes(chip.total_mib) or None,
        details=_details(chip, driver, dies),
    )


def devices_from_files(dev: Path, pci: Path, host: str) -> list[Device]:
    """One device a file ``davinci<n>``, for a container without ``npu-smi``: what they are is told
    by the chips on the bus, and nothing else is known of them."""
    numbers = sorted(
        int(file.name.removeprefix("davinci"))
        for file in dev.glob("davinci[0-9]*")
        if file.name.removeprefix("davinci").isdecimal()
    )
    if not numbers:
        return []
    kinds = {
        read_text(card / "device") or ""
        for card in pci.glob("*")
        if read_text(card / "vendor") == _HUAWEI
    }
    named = {_CHIPS[kind] for kind in kinds if kind in _CHIPS}
    product = f"Ascend {named.pop()}" if len(named) == 1 else "Ascend unknown"
    return [
        Device(
            vendor="ascend",
            product=product,
            index=number,
            uuid=f"NPU-{host}-davinci{number}",
            details={"bus": None},
        )
        for number in numbers
    ]


def product_name(name: str, dies: int) -> str:
    """ "910B3" is an Ascend 910B3; what calls itself "Ascend910" with two dies a card is a 910C."""
    plain = re.sub(r"(?i)^ascend[ _-]?", "", name)
    if plain == "910" and dies == _DIES_PER_910C:
        return "Ascend 910C"
    return f"Ascend {plain}"


def _dies(chips: list[Chip], card: int) -> int:
    return sum(chip.card == card for chip in chips)


def _details(chip: Chip, driver: str | None, dies: int) -> dict[str, Scalar]:
    return {
        "driver": driver,
        "card": chip.card,
        "chip": chip.chip,
        "dies_per_card": dies,
        "health": chip.health,
        "bus": chip.bus,
    }
