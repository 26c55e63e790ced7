"""Ascend: through the tables of ``npu-smi info``.

A device is what the runtime counts: one chip, that is one die. A 910C card has two of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from pytest_llmperf.records import Accelerator, Device, Scalar, Vendor

from .base import RunTool, alike, mebibytes, run_tool, visible
from .conditions import Watcher
from .host import machine_id

_VISIBLE = "ASCEND_RT_VISIBLE_DEVICES"
_VERSION = re.compile(r"\|\s*npu-smi\s+\S+\s+Version:\s*(\S+)")
_FIRST_ROW = re.compile(r"^\|\s*(?P<card>\d+)\s+(?P<name>\S+)\s*\|\s*(?P<health>\S+)\s*\|")
_SECOND_ROW = re.compile(
    r"^\|\s*(?P<chip>\d+)(?:\s+(?P<physical>\d+))?\s*\|"
    r"\s*(?P<bus>[0-9A-Fa-f]{4}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.\d)\s*\|(?P<usage>.*)\|"
)
_AMOUNT = re.compile(r"(\d+)\s*/\s*(\d+)")
_DIES_PER_910C = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One chip of the table; memory in MiB, of the last pair of the row (HBM where it has any)."""

    card: int
    chip: int
    physical: int | None
    name: str
    health: str
    bus: str
    used_mib: int
    total_mib: int


@dataclass(frozen=True, slots=True)
class AscendProbe:
    run: RunTool = run_tool
    vendor: Vendor = "ascend"

    def find(self, env: Mapping[str, str]) -> Accelerator | None:
        text = self.run(["npu-smi", "info"]) or ""
        devices = devices_from_table(text, machine_id())
        return alike(visible(devices, env.get(_VISIBLE)), "npu-smi")

    def watching(self, accelerator: Accelerator) -> AbstractContextManager[Watcher | None]:  # noqa: ARG002 - see Probe
        """Nothing is asked yet."""
        return nullcontext()

    def memory_in_use(self, accelerator: Accelerator) -> int | None:
        text = self.run(["npu-smi", "info"]) or ""
        used = {chip.bus: mebibytes(chip.used_mib) for chip in parse_table(text)}
        amounts = [used.get(str(device.details["bus"])) for device in accelerator.devices]
        known = [amount for amount in amounts if amount is not None]
        return sum(known) if len(known) == len(amounts) else None


def parse_table(text: str) -> list[Chip]:
    """The chips of ``npu-smi info``, two lines of the table each, in their order."""
    return list(_chips(text.splitlines()))


def _chips(lines: list[str]) -> Iterator[Chip]:
    head: re.Match[str] | None = None
    for line in lines:
        row = _SECOND_ROW.match(line)
        if row and head:
            # Total 0 is memory that this chip does not have, DDR or HBM.
            amounts = [(int(used), int(total)) for used, total in _AMOUNT.findall(row["usage"])]
            used, total = next((pair for pair in reversed(amounts) if pair[1]), (0, 0))
            yield Chip(
                card=int(head["card"]),
                chip=int(row["chip"]),
                physical=None if row["physical"] is None else int(row["physical"]),
                name=head["name"],
                health=head["health"],
                bus=row["bus"].upper(),
                used_mib=used,
                total_mib=total,
            )
        head = _FIRST_ROW.match(line)


def devices_from_table(text: str, host: str) -> list[Device]:
    """One device a chip. The table has no serial number, so host and bus address stand in."""
    chips = parse_table(text)
    version = _VERSION.search(text)
    driver = version[1] if version else None
    return [
        Device(
            vendor="ascend",
            product=product_name(chip.name, _dies(chips, chip.card)),
            index=position if chip.physical is None else chip.physical,
            uuid=f"NPU-{host}-{chip.bus}",
            memory_bytes=mebibytes(chip.total_mib) or None,
            details=_details(chip, driver, _dies(chips, chip.card)),
        )
        for position, chip in enumerate(chips)
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
