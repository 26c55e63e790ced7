from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.accelerators.ascend import (
    AscendProbe,
    Chip,
    devices_from_files,
    devices_from_table,
    parse_table,
)
from pytest_llmperf.accelerators.ascend_conditions import parse_common, parse_processes
from pytest_llmperf.accelerators.conditions import Condition
from pytest_llmperf.records import Accelerator

TABLE_910B = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 24.1.0                   Version: 24.1.0                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                      | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 0     910B3               | OK            | 93.6        40                0    / 0             |
| 0                         | 0000:C1:00.0  | 0           0    / 0          3161 / 65536         |
+===========================+===============+====================================================+
| 1     910B3               | OK            | 91.9        38                0    / 0             |
| 0                         | 0000:C2:00.0  | 10          0    / 0          57895/ 65536         |
+===========================+===============+====================================================+
+---------------------------+---------------+----------------------------------------------------+
| NPU     Chip              | Process id    | Process name             | Process memory(MB)      |
+===========================+===============+====================================================+
| No running processes found in NPU 0                                                            |
+===========================+===============+====================================================+
| 1       0                 | 692318        | python3                  | 12417                   |
+===========================+===============+====================================================+
"""
TABLE_910C = """\
+------------------------------------------------------------------------------------------------+
| npu-smi 25.2.0                   Version: 25.2.0                                               |
+---------------------------+---------------+----------------------------------------------------+
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Phy-ID              | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+===========================+===============+====================================================+
| 1     Ascend910           | OK            | 188.5       36                0    / 0             |
| 0     2                   | 0000:99:00.0  | 0           0    / 0          3414 / 65536         |
+------------------------------------------------------------------------------------------------+
| 1     Ascend910           | OK            | -           36                0    / 0             |
| 1     3                   | 0000:9B:00.0  | 0           0    / 0          3193 / 65536         |
+===========================+===============+====================================================+
"""
TABLE_310P = """\
| npu-smi 24.1.0                   Version: 24.1.0                                               |
| NPU   Name                | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip  Device              | Bus-Id        | AICore(%)   Memory-Usage(MB)                       |
| 2     310P3               | OK            | NA          45                0     / 0            |
| 0     0                   | 0000:01:00.0  | 0           1699 / 21527                           |
"""


def probe(table: str | None) -> AscendProbe:
    def run(argv: Sequence[str]) -> str | None:
        assert list(argv) == ["npu-smi", "info"]
        return table

    return AscendProbe(run=run)


def found(table: str, **env: str) -> Accelerator:
    accelerator = probe(table).find(env)
    assert accelerator is not None
    return accelerator


def test_each_chip_of_the_table_is_a_device() -> None:
    devices = devices_from_table(TABLE_910B, "host")
    assert [device.product for device in devices] == ["Ascend 910B3", "Ascend 910B3"]
    assert [device.index for device in devices] == [0, 1]
    assert [device.uuid for device in devices] == ["NPU-host-0000:C1:00.0", "NPU-host-0000:C2:00.0"]
    assert devices[0].memory_bytes == 65536 * 2**20
    assert devices[0].details["driver"] == "24.1.0"
    assert devices[0].details["dies_per_card"] == 1


def test_a_910c_is_told_by_its_two_dies() -> None:
    devices = devices_from_table(TABLE_910C, "host")
    assert [device.product for device in devices] == ["Ascend 910C", "Ascend 910C"]
    assert [device.index for device in devices] == [2, 3]
    assert [(d.details["card"], d.details["chip"]) for d in devices] == [(1, 0), (1, 1)]
    assert devices[0].details["dies_per_card"] == 2


def test_a_chip_without_hbm_has_its_other_memory() -> None:
    (chip,) = parse_table(TABLE_310P)
    assert (chip.name, chip.used_mib, chip.total_mib) == ("310P3", 1699, 21527)


@pytest.mark.parametrize(("chosen", "indices"), [("1", [1]), ("1,0", [1, 0]), ("0,9", [0])])
def test_the_variable_chooses(chosen: str, indices: list[int]) -> None:
    devices = found(TABLE_910B, ASCEND_RT_VISIBLE_DEVICES=chosen).devices
    assert [device.index for device in devices] == indices


def test_memory_in_use_is_of_the_devices_used() -> None:
    one = found(TABLE_910B, ASCEND_RT_VISIBLE_DEVICES="1")
    assert probe(TABLE_910B).memory_in_use(one) == 57895 * 2**20
    assert probe(TABLE_310P).memory_in_use(one) is None


@pytest.mark.parametrize("table", [None, "", "dcmi module initialize failed. ret is -8005\n"])
def test_no_table_no_device(table: str | None) -> None:
    assert probe(table).find({}) is None


# --- more versions of the tool ---------------------------------------------------------------

#: 23.0.2: a 910 of the first generation has memory of both kinds.
TABLE_910 = """\
| npu-smi 23.0.2              Version: 23.0.2                                               |
| NPU   Name           | Health        | Power(W)    Temp(C)           Hugepages-Usage(page)|
| Chip                 | Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |
+======================+===============+====================================================+
| 0     910A           | OK            | 67.8        40                0    / 0             |
| 0                    | 0000:C1:00.0  | 7           882  / 15169      310  / 32768         |
"""
#: 23.0.rc3: a development kit without a bus.
TABLE_310B = """\
| npu-smi 23.0.rc3                                 Version: 23.0.rc3                                     |
| NPU     Name                  | Health          | Power(W)     Temp(C)           Hugepages-Usage(page) |
| Chip    Device                | Bus-Id          | AICore(%)    Memory-Usage(MB)                        |
+===============================+=================+======================================================+
| 0       310B4                 | Alarm           | 7.2          37                15    / 15            |
| 0       0                     | NA              | 0            NA / 3513                               |
"""  # noqa: E501 - the width is a part of it
#: 26.0.rc2: wider columns; a container with one die of a card.
TABLE_26 = """\
| npu-smi 26.0.rc2                            Version: 26.0.rc2                                                    |
+---------------------------+---------------+----------------------------------------------------------------------+
| NPU   Name                | Health        | Power(W)             Temp(C)                 Hugepages-Usage(page)   |
| Chip  Phy-ID              | Bus-Id        | AICore(%)            Memory-Usage(MB)        HBM-Usage(MB)           |
+===========================+===============+======================================================================+
| 0     Ascend910           | OK            | -                    34                      0    / 0                |
| 1     1                   | 0000:9F:00.0  | 12                   0    / 0                2874 / 65536            |
+===========================+===============+======================================================================+
"""  # noqa: E501 - the width is a part of it


@pytest.mark.parametrize(
    ("table", "product", "driver", "mib"),
    [
        (TABLE_910, "Ascend 910A", "23.0.2", 32768),
        (TABLE_310B, "Ascend 310B4", "23.0.rc3", 3513),
        (TABLE_310P, "Ascend 310P3", "24.1.0", 21527),
        (TABLE_26, "Ascend 910C", "26.0.rc2", 65536),
    ],
)
def test_versions_of_the_table(table: str, product: str, driver: str, mib: int) -> None:
    (device,) = devices_from_table(table, "host")
    assert (device.product, device.details["driver"]) == (product, driver)
    assert device.memory_bytes == mib * 2**20


def test_one_die_of_a_910c_is_still_a_910c() -> None:
    (device,) = devices_from_table(TABLE_26, "host")
    assert (device.index, device.details["dies_per_card"]) == (1, 2)


def test_a_chip_without_a_bus_is_told_by_its_place() -> None:
    (device,) = devices_from_table(TABLE_310B, "host")
    assert (device.uuid, device.details["health"]) == ("NPU-host-0-0", "Alarm")
    assert probe(TABLE_310B).memory_in_use(found(TABLE_310B)) is None


@settings(deadline=None, max_examples=50)
@given(st.text())
def test_no_text_is_a_device(text: str) -> None:
    assert devices_from_table(text, "host") == []
    assert parse_processes(text) is None or "Process id" in text
    assert isinstance(parse_common(text), dict)


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="| 0123456789:./NA-OK\n"))
def test_no_table_of_the_kind_breaks_it(text: str) -> None:
    for chip in parse_table(text):
        assert isinstance(chip, Chip)


# --- without the tool ------------------------------------------------------------------------


def here(directory: Path, *kinds: str) -> AscendProbe:
    dev, pci = directory / "dev", directory / "pci"
    dev.mkdir()
    for name in ("davinci10", "davinci2", "davinci_manager"):
        (dev / name).touch()
    for at, kind in enumerate(kinds):
        card = pci / f"0000:0{at}:00.0"
        card.mkdir(parents=True)
        (card / "vendor").write_text("0x19e5\n")
        (card / "device").write_text(f"{kind}\n")
    return AscendProbe(run=lambda _: None, dev=dev, pci=pci)


@pytest.mark.parametrize(
    ("kinds", "product"),
    [
        (("0xd802", "0xd802", "0x1711"), "Ascend 910B"),
        (("0xffff",), "Ascend unknown"),
        (("0xd802", "0xd500"), "Ascend unknown"),
        ((), "Ascend unknown"),
    ],
)
def test_device_files_are_better_than_nothing(
    tmp_path: Path, kinds: tuple[str, ...], product: str
) -> None:
    by = here(tmp_path, *kinds)
    accelerator = by.find({"ASCEND_RT_VISIBLE_DEVICES": "1"})
    assert accelerator is not None
    assert (accelerator.product, accelerator.source) == (product, "devfs")
    assert [device.index for device in accelerator.devices] == [10]
    with by.watching(accelerator) as watcher:
        assert watcher is None


def test_no_device_file_no_device(tmp_path: Path) -> None:
    assert devices_from_files(tmp_path, tmp_path, "host") == []


# --- conditions ------------------------------------------------------------------------------

#: ``npu-smi info -t common -i 0`` of a 910B and of a 310P, as in the tool's sources.
COMMON_910B = """\
\tNPU ID                         : 0
\tChip Count                     : 1

\tChip ID                        : 0
\tMemory Usage Rate(%)           : 0
\tHBM Usage Rate(%)              : 88
\tAicore Usage Rate(%)           : 97
\tAicore Freq(MHZ)               : 1800
\tAicore curFreq(MHZ)            : {now}
\tAicore Count                   : 20
\tTemperature(C)                 : 46
\tNPU Real-time Power(W)         : 269.0

\tChip Name                      : mcu
\tTemperature(C)                 : 41
"""
COMMON_310P = """\
\tNPU ID                         : 2
\tChip ID                        : 0
\tAicore Freq(MHZ)               : 1080
\tAicore curFreq(MHZ)            : 960
\tTemperature(C)                 : 43

\tChip Name                      : mcu
\tTemperature(C)                 : 41
\tNPU Real-time Power(W)         : 13.4
"""


def looks(table: str, common: str, times: int = 1) -> list[list[Condition]]:
    def run(argv: Sequence[str]) -> str:
        return table if list(argv) == ["npu-smi", "info"] else common

    by = AscendProbe(run=run)
    accelerator = by.find({})
    assert accelerator is not None
    with by.watching(accelerator) as watcher:
        assert watcher is not None
        assert watcher.period_s <= 3
        return [list(watcher.look()) for _ in range(times)]


def test_the_table_tells_power_load_and_processes() -> None:
    ((first, second),) = looks(TABLE_910B, "")
    assert (first.power_w, first.temperature_c, first.utilisation) == (93.6, 40.0, 0.0)
    assert (first.processes, second.processes) == ((), (692318,))
    assert second.memory_used_bytes == 57895 * 2**20
    assert (second.clock_mhz, second.energy_j) == (None, None)


def test_cards_are_asked_for_their_clocks_in_turn() -> None:
    clocks = [
        [one.clock_mhz for one in look]
        for look in looks(TABLE_910B, COMMON_910B.format(now=1800), times=3)
    ]
    assert clocks == [[1800.0, None], [None, 1800.0], [1800.0, None]]


@pytest.mark.parametrize(("now", "held"), [(900, True), (950, False), (1800, False)])
def test_a_busy_chip_at_half_its_clock_is_held_down(now: int, held: bool) -> None:
    _, (_, second) = looks(TABLE_910B, COMMON_910B.format(now=now), times=2)
    assert bool(second.slowed) is held


def test_a_resting_chip_is_not_held_down() -> None:
    ((first, _),) = looks(TABLE_910B, COMMON_910B.format(now=800))
    assert first.slowed == ()


def test_the_power_of_a_910c_is_counted_once() -> None:
    ((first, second),) = looks(TABLE_910C, "")
    assert (first.power_w, second.power_w) == (94.25, 94.25)
    assert (first.memory_used_bytes, second.memory_used_bytes) == (3414 * 2**20, 3193 * 2**20)
    assert first.processes is None  # this table does not tell of any


@pytest.mark.parametrize("die", ["0", "1"])
def test_one_die_of_a_910c_does_not_know_its_power(die: str) -> None:
    by = AscendProbe(run=lambda argv: TABLE_910C if len(argv) == 2 else None)
    with by.watching(found(TABLE_910C, ASCEND_RT_VISIBLE_DEVICES=die)) as watcher:
        assert watcher is not None
        (one,) = watcher.look()
    assert one.power_w is None
    assert "1 of the 2 parts of a card" in one.untold
    assert one.memory_used_bytes is not None


def test_memory_of_chips_without_a_bus_is_told_apart() -> None:
    table = TABLE_910C.replace("0000:99:00.0", "NA          ").replace(
        "0000:9B:00.0", "NA          "
    )
    assert probe(table).memory_in_use(found(table)) == (3414 + 3193) * 2**20


def test_the_controller_tells_the_power_of_a_310p() -> None:
    (((one,)),) = looks(TABLE_310P, COMMON_310P)
    assert (one.power_w, one.clock_mhz) == (13.4, 960.0)


def test_a_tool_that_falls_silent_leaves_the_devices_out() -> None:
    by = AscendProbe(run=lambda _: TABLE_910B)
    accelerator = by.find({})
    assert accelerator is not None
    with AscendProbe(run=lambda _: None).watching(accelerator) as watcher:
        assert watcher is not None
        assert watcher.look() == []
