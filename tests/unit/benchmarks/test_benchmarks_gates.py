"""The simulation behind docs/gating.md: its noise, its twins, its rivals, its tables."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as some

from benchmarks.gates import (
    ab,
    counting,
    creep,
    errors,
    noise,
    remembered,
    rivals,
    tables,
    twin,
    twin_history,
)
from benchmarks.gates.counting import Counted, holm, standings, upper_bound
from benchmarks.gates.noise import MORE_SHAPES, SHAPES, Floats, abba, correlated, noise_of_pairs
from benchmarks.gates.otava_child import first_look
from benchmarks.gates.otava_nights import BEFORE
from benchmarks.gates.promises import promises
from benchmarks.gates.rivals import Session
from benchmarks.gates.rows import percent
from benchmarks.gates.twin import FAILED, PASSED, Priors
from pytest_llmperf.gates.design import Design
from pytest_llmperf.gates.sequential import decide

ROOT = Path(__file__).parents[3]
RESULTS = sorted((ROOT / "benchmarks" / "gates" / "results").glob("*-errors.json"))[-1]
SEED = 7


def rng() -> np.random.Generator:
    return np.random.default_rng(SEED)


# --- noise ---------------------------------------------------------------------------------------


EVERY_SHAPE = {**SHAPES, **MORE_SHAPES}


@pytest.mark.parametrize("shape", [name for name in EVERY_SHAPE if "drift" not in name])
def test_luck_has_mean_zero_and_standard_deviation_one(shape: str) -> None:
    luck = EVERY_SHAPE[shape](rng(), 20_000, 8)
    assert float(luck.mean()) == pytest.approx(0, abs=0.03)
    assert float(luck.std()) == pytest.approx(1, abs=0.1)  # t3 has a restless variance


@pytest.mark.parametrize(
    ("shape", "side"),
    [
        ("skewed", "skewed to the good side"),
        ("linear drift", "linear drift to the good side"),
        ("two kinds far apart, 20 % slow", "two kinds far apart, 20 % fast"),
    ],
)
def test_luck_can_be_good_as_well(shape: str, side: str) -> None:
    assert np.array_equal(SHAPES[shape](rng(), 9, 8), -MORE_SHAPES[side](rng(), 9, 8))


def test_neighbours_are_as_alike_as_is_said() -> None:
    luck = SHAPES["neighbours alike (0.5)"](rng(), 20_000, 4)
    assert np.corrcoef(luck[:, 1], luck[:, 2])[0, 1] == pytest.approx(0.5, abs=0.03)
    assert np.corrcoef(luck[:, 0], luck[:, 2])[0, 1] == pytest.approx(0.25, abs=0.03)


def test_a_sequence_without_correlation_is_left_as_it_is() -> None:
    fresh = rng().standard_normal((3, 5))
    assert correlated(fresh, 0.0) is fresh


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_pairs_differ_by_what_was_asked_for(phi: float) -> None:
    seen = noise.shifts(rng(), noise_of_pairs(0.03, phi=phi), 5000, 4)
    assert float(seen.std()) == pytest.approx(0.03, rel=0.03)


def test_launches_are_dealt_in_blocks_that_begin_and_end_on_the_same_side() -> None:
    order = np.tile(np.arange(8.0), (200, 1))
    sides = abba(rng(), order)
    blocks = {
        tuple((sides.candidate[row, at : at + 2] - 2 * at).tolist())
        for row in range(200)
        for at in (0, 2)
    }
    assert blocks == {(0.0, 3.0), (1.0, 2.0)}
    assert np.array_equal(
        np.sort(np.concatenate([sides.candidate, sides.reference], axis=1)), order
    )


def test_a_straight_drift_cancels_within_a_block() -> None:
    sides = abba(rng(), np.tile(np.arange(12.0), (50, 1)))
    apart = (sides.candidate - sides.reference).reshape(50, 3, 2).sum(axis=2)
    assert not apart.any()


def test_launches_with_runs_are_dealt_whole() -> None:
    launches = np.arange(2 * 4 * 3, dtype=np.float64).reshape(2, 4, 3)
    sides = abba(rng(), launches)
    assert sides.candidate.shape == (2, 2, 3)
    assert {row[0] // 3 for row in sides.candidate[0].tolist()} in ({0, 3}, {1, 2})


# --- the twins are the shipped rules -------------------------------------------------------------

SEQUENCES = some.arrays(np.float64, (12,), elements=st.floats(-0.25, 0.25, width=32)).map(
    lambda row: row + np.linspace(0, 1e-3, 12)
)


@given(SEQUENCES, st.sampled_from([0.001, 0.03, 0.1]), st.sampled_from([0.01, 0.0005]))
@settings(max_examples=60, deadline=None)
def test_the_twin_decides_as_the_shipped_rule(row: Floats, wish: float, alpha: float) -> None:
    design = Design(loss_to_catch=wish, alpha=alpha)
    ends = twin.decide_all(row[None, :], design)
    assert twin.check(row[None, :], design, ends) == 1


@given(st.floats(0.002, 0.2), st.sampled_from([3, 12, 85]), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_the_twin_leans_on_a_profile_as_the_shipped_rule(sigma: float, df: int, seed: int) -> None:
    rows = np.random.default_rng(seed).standard_normal((20, 12)) * 0.02 + 0.02
    priors = Priors(sigma=np.full(20, sigma), df=df)
    design = Design(loss_to_catch=0.03)
    ends = twin.decide_all(rows, design, priors)
    assert twin.check(rows, design, ends, priors) == 20


def test_a_twin_that_errs_is_found_out() -> None:
    rows, design = rng().standard_normal((5, 12)) * 0.01, Design(loss_to_catch=0.03)
    ends = twin.decide_all(rows, design)
    with pytest.raises(AssertionError, match="its twin"):
        twin.check(rows, design, replace(ends, pairs=ends.pairs + 2))
    with pytest.raises(AssertionError, match="its twin"):
        twin.check(rows, design, replace(ends, words=(ends.words + 1) % 3))


@given(
    st.sampled_from(list(EVERY_SHAPE)),
    st.integers(8, 21),
    st.sampled_from([0.001, 0.05, 0.15]),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.sampled_from([1, 20]),
    st.sampled_from([0.005, 0.03, 0.06]),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_histories_have_a_twin_too(
    shape: str, stored: int, wish: float, loss: float, family: int, cv: float, seed: int
) -> None:
    case = remembered.History(
        stored=stored, loss_to_catch=wish, shape=shape, loss=loss, family=family, session_cv=cv
    )
    assert remembered.play(case, np.random.default_rng(seed), 20)["checked"] == 20


def test_a_history_twin_that_errs_is_found_out() -> None:
    case = remembered.History(stored=8, loss_to_catch=0.05)
    sessions = case.launches(rng(), 20)
    ends = twin_history.judge_all(np.log(sessions), case.gate, 0.01)
    for wrong in (
        replace(ends, two_kinds=~ends.two_kinds),
        replace(ends, suspected=~ends.suspected),
        replace(ends, words=(ends.words + 1) % 3),
    ):
        with pytest.raises(AssertionError, match="its twin"):
            remembered._checked(case, sessions, wrong)


def test_no_history_alarms_more_often_than_it_may() -> None:
    """The ten noises, both shares, eight and twenty sessions; the rest is said to be beyond it."""
    kept = {str(row["name"]): row for row in kept_rows() if row["table"] == "false alarms, history"}
    assert len(kept) == 40
    assert not [name for name, row in kept.items() if row["standing"] == "above"]
    wide = [row for row in kept_rows() if row["table"] == "false alarms, history wide"]
    assert len(wide) == 22
    assert all(row["broken"] for row in wide)


# --- counting ------------------------------------------------------------------------------------


def test_holm_stops_at_the_first_that_stands() -> None:
    # 0.01 <= 0.05/4, 0.015 <= 0.05/3, 0.03 > 0.05/2: 0.04 would fall alone, and does not here
    assert holm([0.04, 0.01, 0.03, 0.015]) == [False, True, False, True]
    assert holm([]) == []


def test_cells_are_above_below_or_near_their_nominal_rate() -> None:
    def counted(alarms: int) -> Counted:
        return Counted(alarms=alarms, repetitions=20_000, nominal=0.01)

    cells = {"many": counted(300), "few": counted(100), "as many": counted(205)}
    assert standings(cells) == {"many": "above", "few": "below", "as many": "near"}


def test_no_alarm_is_no_proof_above() -> None:
    none = Counted(alarms=0, repetitions=100, nominal=0.01)
    assert counting.chance_of_so_many(none) == 1
    assert counting.chance_of_so_few(none) == pytest.approx(0.99**100)


def test_an_upper_bound_covers_all_the_cells_at_once() -> None:
    one = Counted(alarms=10, repetitions=1000, nominal=0.01)
    assert 0.01 < upper_bound(one, 1) < upper_bound(one, 100) < 0.04
    assert upper_bound(replace(one, alarms=1000), 1) == 1


# --- rivals --------------------------------------------------------------------------------------


def session(stored: Floats, fresh: Floats) -> Session:
    """One row of launches x runs for each side; the requests are the first launch's runs."""
    return Session(
        stored=stored[None],
        fresh=fresh[None],
        stored_requests=stored[None, 0],
        fresh_requests=fresh[None, 0],
    )


def flat(value: float) -> Floats:
    return np.full((12, 5), value)


@pytest.mark.parametrize(("slower", "alarms"), [(1.04, False), (1.06, True)])
def test_compare_fail_takes_percent_of_time(slower: float, alarms: bool) -> None:
    assert bool(rivals.compare_fail(session(flat(1.0), flat(1 / slower)))[0]) is alarms


@pytest.mark.parametrize(("threshold", "alarms"), [(1.05, True), (1.5, False)])
def test_a_ratio_alarms_beyond_its_threshold(threshold: float, alarms: bool) -> None:
    assert bool(rivals.ratio(threshold)(session(flat(1.0), flat(0.9)))[0]) is alarms


def test_a_retry_needs_three_bad_launches_in_a_row() -> None:
    fresh = flat(0.9)
    assert rivals.retry(session(flat(1.0), fresh))[0]
    fresh[2, 0] = 1.0
    assert not rivals.retry(session(flat(1.0), fresh))[0]


def test_welch_is_that_of_scipy() -> None:
    from scipy.stats import ttest_ind

    one, other = rng().normal(1, 0.1, (20, 5)), rng().normal(1.1, 0.3, (20, 5))
    wanted = ttest_ind(one, other, axis=1, equal_var=False).pvalue
    assert rivals.welch_p(one, other) == pytest.approx(wanted)


def test_mann_whitney_is_that_of_scipy() -> None:
    from scipy.stats import mannwhitneyu

    one, other = rng().normal(0.9, 0.3, (20, 40)), rng().normal(1.1, 0.3, (20, 40))
    wanted = mannwhitneyu(one, other, axis=1, method="asymptotic", use_continuity=False).pvalue
    chance, fewer = rivals.mann_whitney_p(one, other)
    assert chance == pytest.approx(wanted)
    assert fewer.mean() > 0.9


def test_only_the_bad_side_alarms() -> None:
    worse = session(rng().normal(1, 0.001, (12, 5)), rng().normal(0.8, 0.001, (12, 5)))
    better = Session(
        stored=worse.fresh,
        fresh=worse.stored,
        stored_requests=worse.fresh_requests,
        fresh_requests=worse.stored_requests,
    )
    for rival in rivals.RIVALS:
        assert bool(rival.alarms(worse)[0]) is (rival.name != "ratio to the last value, 150 %")
        assert not rival.alarms(better)[0], rival.name


def test_peeking_alarms_more_often_than_its_level() -> None:
    equal = np.exp(0.01 * rng().standard_normal((2000, 2, 12, 1)))
    seen = Session(
        stored=equal[:, 0],
        fresh=equal[:, 1],
        stored_requests=equal[:, 0, :, 0],
        fresh_requests=equal[:, 1, :, 0],
    )
    assert 0.05 < rivals.peeking(seen).mean() < 0.16


def test_otava_is_asked_each_night_and_only_for_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    class Series:
        def __init__(self, *whole: object) -> None:
            self.seen = whole[4]

        def analyze(self, _: object) -> SimpleNamespace:
            values = self.seen["x"]  # type: ignore[index]
            points = [SimpleNamespace(forward_change_percent=lambda: values[-1] - values[0])]
            return SimpleNamespace(change_points={"x": points})

    module = SimpleNamespace(Series=Series, Metric=lambda *_: None, AnalysisOptions=lambda: None)
    monkeypatch.setitem(sys.modules, "otava.series", module)
    monkeypatch.setitem(sys.modules, "otava", SimpleNamespace(series=module))
    nights = [1.0] * (BEFORE + 2) + [0.9]
    assert first_look(nights, BEFORE) == 3
    assert first_look([1.0] * BEFORE + [1.1, 1.1], BEFORE) is None


# --- creep ---------------------------------------------------------------------------------------


def test_steps_add_up_against_a_release_and_not_against_last_night() -> None:
    nights = creep.Nights(
        design=Design(loss_to_catch=0.1), how="fresh each night", creeping=True
    ).shifts()
    assert nights[0] == nights[9] == pytest.approx(-math.log(0.99))
    assert nights[90] == nights[-1] == pytest.approx(-10 * math.log(0.99))
    last = creep.Nights(
        design=Design(loss_to_catch=0.1), how="against the night before", creeping=True
    ).shifts()
    assert np.flatnonzero(last).tolist() == list(range(0, 100, 10))


def test_a_kept_sequence_goes_through_the_shipped_rule() -> None:
    design = Design(loss_to_catch=0.05)
    bad = [[0.2, 0.21], [0.19, 0.2], [0.2, 0.22]]
    assert creep._first_alarm(bad, design) == 2
    assert decide([0.0, 0.001, 0.0, 0.002], design).word == "pass"
    quiet = [[0.0, 0.001], [0.0, 0.002]]  # passes on the second night: a new sequence begins
    assert creep._first_alarm([*quiet, *bad], design) == 4
    assert creep._first_alarm(quiet, design) == 2


# --- cells, seeds and the file -------------------------------------------------------------------


def test_cells_have_names_of_their_own() -> None:
    names = [cell.name for cell in errors.all_cells()]
    assert len(names) == len(set(names)) > 400


def test_a_cell_has_a_seed_of_its_own_and_the_same_figures_each_time() -> None:
    name = next(cell.name for cell in errors.chosen(["false alarms, limits: 1 launches"]))
    first, again = (errors.play(name, seed=1, quicker=400) for _ in range(2))
    other = errors.play(name, seed=2, quicker=400)
    assert {**first, "seconds": 0} == {**again, "seconds": 0}
    assert first["detectable_median"] == other["detectable_median"] > 0
    assert errors.seed_of("a", 1).entropy != errors.seed_of("b", 1).entropy


def test_false_alarms_are_found_where_a_rule_is_broken() -> None:
    design = Design(loss_to_catch=0.001, alpha=0.3, looks=(4,))
    found = ab.play(ab.Ab(design=design, pair_sigma=0.01), rng(), 2000)
    assert found["alarms"] == pytest.approx(600, abs=120)
    assert found["checked"] == 400


def test_a_suite_counts_sessions_with_any_alarm() -> None:
    design = Design(loss_to_catch=0.001, alpha=0.05, looks=(4,))
    alone = ab.play_suite(ab.Suite(design=design, pair_sigma=0.01, alike=0.0), rng(), 400)
    alike = ab.play_suite(ab.Suite(design=design, pair_sigma=0.01, alike=1.0), rng(), 400)
    assert alone["false_alarm"] == pytest.approx(1 - 0.95**20, abs=0.13)
    assert alike["false_alarm"] == pytest.approx(0.05, abs=0.06)


def test_one_command_prints_the_cells_that_are_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "false alarms, limits: 1 launches, CV 3%, normal, loss 0%"
    errors.main(["--quick", "--cell", name, "--processes", "1"])
    whole = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in whole["rows"]] == [f"{name}, family 1", f"{name}, family 20"]
    assert {row["standing"] for row in whole["rows"]} <= {"below", "near", "above"}
    assert whole["rows"][0]["repetitions"] == 1000


def test_cells_are_replaced_in_a_file_of_results(tmp_path: Path) -> None:
    def row(name: str, alarms: int) -> dict[str, object]:
        common = {"table": "t", "repetitions": 1000, "nominal": 0.01, "seconds": 1.0}
        return {"name": name, "alarms": alarms, **common}

    first, second = (cell.name for cell in errors.chosen([])[:2])
    old = {"rows": errors.judged([row(first, 100), row(second, 10)])}
    new = errors.judged(errors.merged([row(first, 11)], old))
    assert [(each["name"], each["alarms"]) for each in new] == [(first, 11), (second, 10)]
    assert {each["standing"] for each in old["rows"]} == {"above", "near"}
    assert {each["standing"] for each in new} == {"near"}


def test_an_unknown_cell_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        errors.main(["--cell", "no such cell"])
    assert "no cell has 'no such cell'" in capsys.readouterr().err


# --- the page ------------------------------------------------------------------------------------


def kept_rows() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    return rows


def test_the_page_shows_the_results_that_are_kept() -> None:
    page = tables.PAGE.read_text(encoding="utf-8")
    assert tables.filled(page, kept_rows()) == page
    assert all(f"<!-- figures: {name} -->" in page for name in tables.TABLES)
    assert RESULTS.name in page


def test_the_readme_shows_them_in_short() -> None:
    page = tables.README.read_text(encoding="utf-8")
    assert tables.filled(page, kept_rows()) == page
    assert all(f"<!-- figures: {name} -->" in page for name in tables.IN_SHORT)


def test_the_results_are_of_the_cells_that_there_are() -> None:
    kept = {row["name"]: row["repetitions"] for row in kept_rows()}
    assert kept == {cell.name: cell.repetitions for cell in errors.all_cells()}


def test_every_cell_with_a_twin_was_held_against_the_shipped_rule() -> None:
    of_twins = [row for row in kept_rows() if "ab" in str(row["table"]).split(", ")]
    assert of_twins
    assert all(row["checked"] == 400 for row in of_twins)


def test_a_table_that_is_unknown_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        tables.filled("<!-- figures: nothing -->\n<!-- end of figures -->", [])


def test_a_promise_is_broken_by_a_cell_above_and_unproven_by_one_near() -> None:
    def told(standing: str) -> list[str]:
        rows = [{**row, "standing": standing} if "standing" in row else row for row in kept_rows()]
        return [
            line for line in promises(rows) if "whatever the noise" in line and "alarms" in line
        ]

    assert all(line.endswith("| yes |") for line in told("below"))
    assert all(line.endswith("| not refuted |") for line in told("near"))
    assert all(line.endswith("| **no** |") for line in told("above"))


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [(1.0, "100"), (0.9996, "99.96"), (0.99999, "99.999"), (0.5, "50"), (0.0, "0")],
)
def test_percent_is_never_rounded_to_all(fraction: float, shown: str) -> None:
    assert percent(fraction, 1 if fraction in (0.9996, 0.5) else 2) == shown


def test_words_of_ends() -> None:
    ends = twin.Ends(words=np.array([FAILED, PASSED]), pairs=np.array([6, 4]))
    assert ends.share(FAILED) == 0.5
