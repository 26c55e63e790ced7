"""What must be told in several places is told in all of them: engines, vendors, exports.

A colleague adds one and forgets a table far away; nothing breaks, and a user meets the gap."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from pytest_llmperf.accelerators.detect import VENDOR_WORDS, probes
from pytest_llmperf.engines import BUILT_IN
from pytest_llmperf.engines.parallel import SPREADS
from pytest_llmperf.records import Vendor
from pytest_llmperf.report.exports import KINDS
from pytest_llmperf.schema import load_schema
from pytest_llmperf.session.devices import VARIABLES

ROOT = Path(__file__).parents[2]
#: Engines that are started: not the simulator, and not what runs already.
STARTED = sorted({*BUILT_IN} - {"sim", "endpoint"})
#: Vendors whose devices are in this machine, and can be chosen among.
CARDS = sorted({*get_args(Vendor)} - {"cpu", "remote"})


def rows(page: str) -> set[str]:
    """What the first cells of a page's tables name as code."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize("engine", BUILT_IN)
def test_an_engine_has_its_row_in_the_docs(engine: str) -> None:
    assert engine in rows("engines.md")


@pytest.mark.parametrize("engine", STARTED)
def test_the_doctor_knows_an_engine_that_is_started(engine: str) -> None:
    doctor = ROOT / "pytest_llmperf" / "doctor"
    known = re.findall(r"[\w.-]+", (doctor / "examination.py").read_text(encoding="utf-8"))
    assert engine in known, f"{doctor.name}/examination.py and engines.py look for engines"


@pytest.mark.parametrize("engine", STARTED)
def test_how_many_devices_an_engine_takes_is_known(engine: str) -> None:
    assert engine in SPREADS or engine == "llama.cpp", "engines/parallel.py"


def test_every_vendor_is_looked_for() -> None:
    looked_for = {probe.vendor for probe in probes()}
    assert looked_for == {*CARDS, "cpu"}
    assert set(VENDOR_WORDS.values()) == looked_for


@pytest.mark.parametrize("vendor", CARDS)
def test_devices_of_a_vendor_can_be_chosen(vendor: Vendor) -> None:
    assert vendor in VARIABLES, "session/devices.py"


def test_a_report_may_name_every_vendor() -> None:
    text = json.dumps(load_schema("report-v1"))
    vendors = [json.loads(each) for each in re.findall(r'"enum": (\[[^]]*"ascend"[^]]*\])', text)]
    assert vendors
    assert all(set(each) >= {*CARDS, "cpu"} for each in vendors)


@pytest.mark.parametrize("kind", [*KINDS, "requests"])
def test_an_export_has_its_row_in_the_docs(kind: str) -> None:
    assert kind in rows("exports.md")
