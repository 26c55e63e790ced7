"""Quantities, losses, prices and questions as a fuzzer writes them: a value, or one sentence."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.prices import Prices, read_prices
from pytest_llmperf.metrics.questions import final_number, read_questions
from pytest_llmperf.metrics.slo import read_slos

Broken = Callable[[Any], st.SearchStrategy[bytes]]

FUZZ = settings(
    max_examples=int(os.environ.get("LLMPERF_FUZZ", "100")),
    derandomize="LLMPERF_FUZZ" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
#: Numbers and units, and what looks like them.
NEARLY = st.text(alphabet="0123456789.,_eE+-% msktokreqJ/$GiB\u0663\u00b2\x00\n")
WORDS = st.one_of(
    st.text(), NEARLY, st.none(), st.booleans(), st.integers(), st.floats(), st.binary()
)
METRICS = ("output_throughput", "ttft_p95", "success_rate", "startup_time", "peak_memory")


def outcome(call: Callable[[], Any]) -> Any:
    """What ``call`` returns, or the sentence with which it refuses."""
    try:
        return call()
    except UsageMistake as mistake:
        said = str(mistake)
        assert said.endswith((".", "?"))
        assert "Traceback" not in said
        return None


@FUZZ
@given(st.sampled_from(METRICS), WORDS)
@example("output_throughput", "9" * 400 + " tok/s")
@example("output_throughput", "1" * 100_000)
@example("output_throughput", "1e999 tok/s")
@example("output_throughput", "-0 tok/s")
@example("ttft_p95", "1,2,3ms")
@example("ttft_p95", "٣ ms")
@example("success_rate", True)
def test_a_quantity_is_finite_or_refused(metric: str, text: Any) -> None:
    value = outcome(lambda: units.parse_quantity(text, units.resolve(metric)))
    assert value is None or (math.isfinite(value) and value >= 0)


@FUZZ
@given(WORDS)
@example("1.2.3%")
@example("." * 50_000 + "%")
@example("0.%")
@example("99.99999999999999999999%")
def test_a_loss_lies_between_nothing_and_all_or_is_refused(text: Any) -> None:
    value = outcome(lambda: units.parse_loss(text, "llm_no_regression(x"))
    assert value is None or 0 < value < 1


@FUZZ
@given(st.one_of(st.text(), st.text(alphabet="ttfpoulm_0129\u0663")))
@example("ttft_p000")
@example("ttft_p٣")
@example("_p50")
@example("ttft_")
@example("x" * 100_000)
def test_a_name_is_a_metric_or_refused(name: str) -> None:
    found = outcome(lambda: units.resolve(name))
    assert found is None or found.quantile is None or 0 < found.quantile < 1


@FUZZ
@given(
    st.one_of(WORDS, st.dictionaries(st.sampled_from(["ttft", "tpot", "e2e", "x"]) | WORDS, WORDS))
)
@example({"ttft": "9" * 400 + " ms"})
@example({1: "2 s"})
@example(())
def test_objectives_are_read_or_refused(value: Any) -> None:
    for slo in outcome(lambda: read_slos(value, "llm_workload")) or ():
        assert math.isfinite(slo.limit_ms)


# --- prices ----------------------------------------------------------------------------------

PRICES = {
    "$schema": "prices-v1.schema.json",
    "currency": "CNY",
    "usd": 0.14,
    "dated": "2026-01-01",
    "source": "our contract",
    "prices": [
        {"accelerator": "H200", "per_hour": 3.5, "note": "n"},
        {"accelerator": "MI3..X", "per_hour": 2},
    ],
}


@FUZZ
@given(data=st.data())
def test_a_price_file_is_read_or_refused(
    data: st.DataObject, broken: Broken, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("prices") / "prices.json"
    path.write_bytes(data.draw(broken(PRICES)))
    found = outcome(lambda: read_prices(path, f"--llmperf-prices={path}"))
    assert found is None or (isinstance(found, Prices) and found.prices)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"usd": 10**400}, "too large a number"),
        ({"usd": float("nan")}, "NaN is no JSON number"),
        ({"dated": "2026-1-1"}, "'dated' is '2026-1-1'; expected a day"),
        ({"dated": "٢٠٢٦-٠١-٠١"}, "'dated' is "),
        ({"currency": "ＵＳＤ"}, "expected three letters"),
        ({"prices": [{"accelerator": "a{99999999999}", "per_hour": 1}]}, "regular expression"),
        ({"prices": [{"accelerator": "(" * 5000 + ")" * 5000, "per_hour": 1}]}, "regular expres"),
        ({"prices": [{"accelerator": "x", "per_hour": True}]}, "expected a number above zero"),
    ],
)
def test_what_is_wrong_with_prices_is_said(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({**PRICES, **changed}))
    with pytest.raises(UsageMistake, match=said) as caught:
        read_prices(path, "--llmperf-prices=prices.json")
    assert str(caught.value).startswith("--llmperf-prices=prices.json: ")
    assert "docs/telemetry.md" in str(caught.value)


def test_a_price_that_stands_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text(json.dumps(PRICES).replace('"usd"', '"currency": "EUR", "usd"'))
    with pytest.raises(UsageMistake, match="'currency' stands twice in one object"):
        read_prices(path, "--llmperf-prices=x")


# --- questions -------------------------------------------------------------------------------

QUESTION = {"question": "How many?", "answer": "Two and two.\n#### 4"}


@FUZZ
@given(data=st.data())
def test_a_file_of_questions_is_read_or_refused(
    data: st.DataObject, broken: Broken, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("questions") / "gsm8k.jsonl"
    path.write_bytes(json.dumps(QUESTION).encode() + b"\n" + data.draw(broken(QUESTION)))
    found = outcome(lambda: read_questions(path, 2))
    assert found is None or len(found) == 2


def test_a_line_of_another_kind_of_break_is_counted_as_editors_do(tmp_path: Path) -> None:
    """A line separator inside of a text ends no line of JSON lines."""
    path = tmp_path / "gsm8k.jsonl"
    good = json.dumps({**QUESTION, "question": "a\u2028b\x85c"}, ensure_ascii=False)
    path.write_text(f"{good}\r\n{good}\r\n\r\n{{\r\n", encoding="utf-8", newline="")
    assert read_questions(path, 2)[1].text == "a\u2028b\x85c"
    with pytest.raises(UsageMistake, match=r"gsm8k\.jsonl:4 is not JSON"):
        read_questions(path, 3)


@FUZZ
@given(st.text(alphabet="0123456789.,-# \n\u0663"))
@example("-")
@example("####")
@example("0." + "0" * 5000 + "1")
@example("1,,,,,2")
def test_any_answer_has_a_number_or_none(text: str) -> None:
    found = final_number(text)
    assert found is None or found == final_number(found)


def test_a_number_larger_than_any_is_no_answer() -> None:
    assert final_number("#### " + "9" * 2_000_000) is None
