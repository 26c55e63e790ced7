from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.sweep import (
    RATIO,
    Over,
    Point,
    Search,
    best_load,
    highest_within,
    knee,
    next_load,
    read_search,
)
from pytest_llmperf.metrics.sweep_points import percentile, read_points, requests_needed
from pytest_llmperf.metrics.sweep_words import Outcome, conclude
from pytest_llmperf.records import ClientHealth, MetricValue, Run, Slo

TTFT = Slo(metric="ttft", limit_ms=1500.0)
TPOT = Slo(metric="tpot", limit_ms=15.0)
CLIENT = ClientHealth(
    cpu_share=0.1,
    loop_lag_ms_p99=0.2,
    loop_lag_ms_max=0.5,
    peak_rss_bytes=1,
    mean_in_flight=1.0,
)
Answer = bool | None


def point(load: float, within: Answer = True, throughput: float | None = None) -> Point:
    reason = {True: "", False: "p99 TTFT is 2 s, above 1.5 s", None: "no valid run: busy"}[within]
    return Point(
        load=load,
        throughput=throughput,
        per_user=None,
        attainment=None,
        within=within,
        reason=reason,
    )


def search(low: float = 1, high: float = 256, over: Over = "concurrency") -> Search:
    return Search(over=over, low=low, high=high)


def walk(
    wanted: Search,
    answer: Callable[[float], Answer],
    throughput: Callable[[float], float] = lambda load: load,
) -> list[Point]:
    points: list[Point] = []
    while (load := next_load(wanted, points)) is not None:
        assert load not in {known.load for known in points}
        through = None if answer(load) is None else throughput(load)
        points.append(point(load, answer(load), through))
        assert len(points) <= wanted.most
    return points


def loads(points: list[Point]) -> list[float]:
    return [known.load for known in points]


# --- the search ------------------------------------------------------------------------------


def test_it_doubles_until_a_load_is_outside_and_halves_the_gap() -> None:
    points = walk(search(), lambda load: load <= 11)
    assert loads(points) == [1, 2, 4, 8, 16, 11, 13, 12]
    assert highest_within(points) == 11


def test_neighbours_need_no_halving() -> None:
    assert loads(walk(search(), lambda load: load <= 1)) == [1, 2]


def test_the_lowest_load_may_be_outside() -> None:
    points = walk(search(), lambda load: False)
    assert loads(points) == [1]
    assert highest_within(points) is None


def test_it_goes_no_higher_than_asked() -> None:
    assert loads(walk(search(3, 20), lambda load: True)) == [3, 6, 12, 20]
    assert loads(walk(search(8, 8), lambda load: True)) == [8]


def test_it_stops_where_throughput_stops_growing() -> None:
    points = walk(search(), lambda load: True, lambda load: min(load, 8.0))
    assert loads(points) == [1, 2, 4, 8, 16, 32]


def test_slow_growth_is_growth() -> None:
    points = walk(search(1, 16), lambda load: True, lambda load: 1.02 ** math.log2(load))
    assert loads(points)[-1] == 16


def test_one_undecided_load_is_stepped_over_and_two_end_the_climb() -> None:
    assert loads(walk(search(1, 16), lambda load: None if load == 4 else True)) == [1, 2, 4, 8, 16]
    assert loads(walk(search(), lambda load: None if load >= 4 else True)) == [1, 2, 4, 8]


def test_an_undecided_load_in_the_gap_ends_the_search() -> None:
    answers: dict[float, Answer] = {16: None, 32: False}
    assert loads(walk(search(), lambda load: answers.get(load, True))) == [1, 2, 4, 8, 16, 32]
    answers = {16: False, 11: None}
    assert loads(walk(search(), lambda load: answers.get(load, True))) == [1, 2, 4, 8, 16, 11]


def test_named_values_are_all_measured() -> None:
    wanted = read_search("concurrency", 1, 256, [32, 4, 8])
    points = walk(wanted, lambda load: load == 4, lambda load: 1.0)
    assert loads(points) == [4, 8, 32]
    assert wanted.most == 3


def test_rates_are_halved_to_fractions() -> None:
    points = walk(search(0.5, 64, "rate"), lambda load: load <= 5)
    assert loads(points) == [0.5, 1, 2, 4, 8, 5.66, 4.76, 5.19]


@given(
    low=st.integers(1, 50),
    span=st.integers(0, 1000),
    edge=st.floats(0.5, 2000),
    over=st.sampled_from(["concurrency", "rate"]),
)
def test_the_edge_is_found_to_the_ratio(low: int, span: int, edge: float, over: Over) -> None:
    wanted = search(low, low + span, over)
    points = walk(wanted, lambda load: load <= edge)
    highest = highest_within(points)
    outside = [known.load for known in points if known.within is False]
    if highest is None:
        assert low > edge
    elif not outside:
        assert highest == wanted.high <= edge
    else:
        assert highest <= edge < min(outside)
        neighbours = over == "concurrency" and min(outside) - highest == 1
        assert neighbours or min(outside) / highest <= RATIO


@given(st.data(), st.integers(1, 9), st.integers(0, 500), st.sampled_from(["concurrency", "rate"]))
def test_the_number_of_points_is_known_beforehand(
    data: st.DataObject, low: int, span: int, over: Over
) -> None:
    answers: dict[float, Answer] = {}

    def answer(load: float) -> Answer:
        return answers.setdefault(load, data.draw(st.sampled_from([True, True, False, None])))

    points = walk(search(low, low + span, over), answer)  # asserts the bound at every step
    assert all(low <= known.load <= low + span for known in points)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("speed", 1, 2, None), "Did you mean|Valid: concurrency, rate"),
        (("concurrency", 0, 2, None), "low=0.*whole number of at least 1"),
        (("concurrency", 1, 2.5, None), "high=2.5.*whole number"),
        (("concurrency", True, 2, None), "low=True"),
        (("rate", 0, 2, None), "above 0"),
        (("rate", 1, math.inf, None), "above 0"),
        (("rate", 1, math.nan, None), "above 0"),
        (("concurrency", 8, 2, None), "exchange the two"),
        (("concurrency", 1, 2, []), "at least one"),
        (("concurrency", 1, 2, [4, 4]), "each load once"),
        (("concurrency", 1, 2, ["4"]), "values='4'"),
    ],
)
def test_what_cannot_be_meant_is_told(
    asked: tuple[str, object, object, list[object] | None], said: str
) -> None:
    with pytest.raises(UsageMistake, match=said):
        read_search(*asked)


def test_a_search_is_read_as_it_is_asked_for() -> None:
    assert read_search("concurrency", 1, 256, None) == search(1, 256)
    assert read_search("rate", 0.5, 8, None) == search(0.5, 8.0, "rate")
    assert read_search("rate", 2, 2, None) == search(2, 2, "rate")
    named = read_search("concurrency", 1, 256, [8, 2, 32])
    assert (named.low, named.high, named.values) == (2, 32, (2, 8, 32))
    for over, low in (("rate", 0), ("rate", math.inf), ("concurrency", 0), ("concurrency", 1.5)):
        with pytest.raises(UsageMistake, match=f"low={low}"):
            read_search(over, low, 8, None)


# --- points ----------------------------------------------------------------------------------


def run(metrics: Mapping[str, float | MetricValue | None], *invalid: str) -> Run:
    values = {
        name: value if isinstance(value, MetricValue) else MetricValue(value=value)
        for name, value in metrics.items()
    }
    return Run(
        launch_id="l",
        index=0,
        seed=0,
        started_at="",
        duration_s=1.0,
        valid=not invalid,
        invalid_reasons=invalid,
        metrics=values,
        sent=10,
        succeeded=10,
        failed={},
        input_tokens_mean=1.0,
        output_tokens_mean=1.0,
        reasoning_tokens_mean=None,
        cached_tokens_total=0,
        token_source="usage",
        client=CLIENT,
    )


def only(*runs: Run, slos: tuple[Slo, ...] = (TTFT, TPOT)) -> Point:
    _, (found,) = read_points({8: runs}, slos)
    return found


GOOD = {"ttft_p99": 1500.0, "tpot_p99": 15.0}


def test_a_limit_is_still_within() -> None:
    found = only(run(GOOD))
    assert (found.within, found.reason) == (True, "")


@pytest.mark.parametrize("name", ["ttft_p99", "tpot_p99"])
def test_every_objective_counts_in_every_valid_run(name: str) -> None:
    found = only(run(GOOD), run({**GOOD, name: 1500.1}))
    assert found.within is False
    assert found.worst[name] == MetricValue(value=1500.1)
    assert "above" in found.reason
    assert only(run(GOOD), run({**GOOD, name: 1500.1}, "busy")).within is True


def test_failed_requests_are_infinitely_late() -> None:
    lost = MetricValue(value=None, unbounded=True, failed=3)
    found = only(run({**GOOD, "ttft_p99": lost}), run({**GOOD, "ttft_p99": None}))
    assert found.within is False
    assert found.worst["ttft_p99"] == lost
    assert "unbounded, 3 of the requests failed" in found.reason


def test_what_was_not_measured_is_undecided_unless_something_is_outside() -> None:
    assert only(run({"ttft_p99": 1.0})).reason == "p99 TPOT was not measured"
    assert only(run({"ttft_p99": 1.0})).within is None
    assert only(run({"ttft_p99": 1501.0})).within is False
    assert only(run(GOOD), run({"ttft_p99": 1.0})).undecided
    assert only(run({**GOOD, "tpot_p99": 16.0}), run({"ttft_p99": 1.0})).within is False


def test_without_a_valid_run_a_point_is_undecided_and_says_why() -> None:
    found = only(run(GOOD, "client-bound: late", "hot"), run(GOOD, "hot"))
    assert found.undecided
    assert found.reason == "no valid run: client-bound: late; hot"
    assert found.throughput is None
    assert found.worst == {}


def test_without_objectives_nothing_is_judged() -> None:
    found = only(run({"output_throughput": 5.0}), slos=())
    assert (found.within, found.undecided, found.throughput) == (None, False, 5.0)


def test_figures_are_means_over_valid_runs() -> None:
    names = ("output_throughput", "throughput_per_user", "goodput_share")
    found = only(
        run({**GOOD, **dict.fromkeys(names, 1.0)}),
        run({**GOOD, **dict.fromkeys(names, 2.0)}),
        run({**GOOD, **dict.fromkeys(names, 9.0)}, "busy"),
    )
    assert (found.throughput, found.per_user, found.attainment) == (1.5, 1.5, 1.5)


def test_all_points_have_the_same_throughput_metric() -> None:
    both = {"output_throughput": 1.0, "steady_output_throughput": 2.0}
    metric, points = read_points({2: [run(both)], 1: [run(both)], 3: [run({}, "busy")]}, ())
    assert metric == "steady_output_throughput"
    assert [(known.load, known.throughput) for known in points] == [(1, 2.0), (2, 2.0), (3, None)]
    metric, points = read_points({1: [run(both)], 2: [run({"output_throughput": 1.5})]}, ())
    assert metric == "output_throughput"
    assert [known.throughput for known in points] == [1.0, 1.5]


def test_the_percentile_and_what_it_needs() -> None:
    assert percentile(TTFT) == "ttft_p99"
    assert requests_needed([TTFT, TPOT]) == 1000
    assert requests_needed([]) == 1


# --- the outcome -----------------------------------------------------------------------------


def outcome(points: list[Point], wanted: Search | None = None, sent: int = 1000) -> Outcome:
    return conclude(
        wanted or search(),
        points,
        objectives=[TTFT],
        throughput_metric="output_throughput",
        fewest_sent=sent,
        needed=1000,
    )


def test_the_highest_and_what_is_above_it_are_told() -> None:
    found = outcome(walk(search(), lambda load: load <= 11))
    assert found.highest == found.best == 11
    assert "Concurrency 11 is the highest within the objectives" in found.reason
    assert "concurrency 12 is outside: p99 TTFT is 2 s, above 1.5 s" in found.reason


def test_nothing_within_is_told() -> None:
    found = outcome(walk(search(), lambda load: False))
    assert (found.highest, found.best, found.knee) == (None, None, None)
    assert "Already concurrency 1, the lowest measured, is outside" in found.reason


def test_the_end_of_the_range_is_told() -> None:
    found = outcome(walk(search(1, 4), lambda load: True), search(1, 4))
    assert "no higher load was asked for" in found.reason


def test_the_end_of_growth_is_told() -> None:
    found = outcome(walk(search(), lambda load: True, lambda load: min(load, 8.0)))
    assert found.highest == 32
    assert found.best == 8
    assert "stopped growing over the last two doublings (8 tok/s at 8, 8 tok/s at 32)" in (
        found.reason
    )


def test_a_load_within_above_one_outside_is_told_and_not_the_highest() -> None:
    found = outcome([point(4), point(8, False), point(16), point(32)])
    assert found.highest == 4
    assert "But concurrency 16, concurrency 32 are within although concurrency 8" in found.reason
    assert "measure again" in found.reason


def test_undecided_loads_are_told() -> None:
    found = outcome(walk(search(), lambda load: None if load >= 4 else True))
    assert found.highest == 2
    assert "what lies above could not be judged" in found.reason
    assert "Concurrency 8 is undecided: no valid run: busy." in found.reason
    assert "No load could be judged" in outcome([point(1, None)]).reason


def test_too_few_requests_for_the_percentile_are_told() -> None:
    assert "With 24 requests" in outcome([point(4)], search(4, 4), sent=24).reason
    assert "requests in a run" not in outcome([point(4)], search(4, 4)).reason


def test_without_objectives_there_is_no_highest_but_a_best() -> None:
    points = [
        Point(load=load, throughput=min(load, 8.0), per_user=None, attainment=None, within=None)
        for load in (1, 2, 4, 8, 16, 32)
    ]
    found = conclude(
        search(),
        points,
        objectives=[],
        throughput_metric="output_throughput",
        fewest_sent=9,
        needed=1,
    )
    assert (found.highest, found.best, found.knee) == (None, 8, 8)
    assert "No objectives were named" in found.reason
    assert "stopped growing" in found.reason


@pytest.mark.parametrize(("loads", "grows"), [((1, 2, 4), True), ((1, 2, 4, 8, 16, 256), False)])
def test_growth_that_went_on_or_was_not_waited_for_is_not_told_of(
    loads: tuple[int, ...], grows: bool
) -> None:
    points = [
        Point(
            load=load,
            throughput=float(load if grows else min(load, 8)),
            per_user=None,
            attainment=None,
            within=None,
        )
        for load in loads
    ]
    found = conclude(
        search(),
        points,
        objectives=[],
        throughput_metric="output_throughput",
        fewest_sent=9,
        needed=1,
    )
    assert "so no load is the highest within them." in found.reason
    assert "stopped growing" not in found.reason


def test_the_best_is_within_and_not_above_the_highest() -> None:
    points = [point(1, throughput=5.0), point(2, False, 9.0), point(4, throughput=8.0)]
    assert best_load(points) == 1


# --- the knee --------------------------------------------------------------------------------


def curve(xs: list[float], ys: list[float]) -> list[Point]:
    return [point(x, throughput=y) for x, y in zip(xs, ys, strict=True)]


DOUBLINGS = [float(2**step) for step in range(8)]
rising = st.lists(st.floats(0.01, 100), min_size=3, max_size=12)


def test_a_corner_is_the_knee() -> None:
    for corner in DOUBLINGS[1:-2]:
        assert knee(curve(DOUBLINGS, [min(load, corner) for load in DOUBLINGS])) == corner


def test_a_plateau_with_noise_has_its_knee_at_its_beginning() -> None:
    ys = [1.0, 1.9, 3.9, 7.9, 8.3, 8.1, 8.4, 8.2]
    assert knee(curve(DOUBLINGS, ys)) == 8


@given(st.lists(st.floats(0.5, 50), min_size=4, max_size=12), st.floats(0.1, 10), st.floats(0, 9))
def test_a_straight_line_has_none(steps: list[float], slope: float, offset: float) -> None:
    xs = [sum(steps[: at + 1]) for at in range(len(steps))]
    assert knee(curve(xs, [offset + slope * x for x in xs])) is None


def test_what_bends_upwards_or_falls_or_is_level_has_none() -> None:
    assert knee(curve(DOUBLINGS, [load**2 for load in DOUBLINGS])) is None
    assert knee(curve(DOUBLINGS, [-load for load in DOUBLINGS])) is None
    assert knee(curve(DOUBLINGS, [3.0] * 8)) is None


def test_a_slight_bend_is_below_the_threshold() -> None:
    assert knee(curve([1, 2, 3, 4, 5], [1, 2.1, 3.1, 4.05, 5])) is None


def test_fewer_than_four_points_have_none() -> None:
    assert knee(curve([1, 2, 16], [1, 8, 8])) is None
    assert knee([*curve([1, 2, 16], [1, 8, 8]), point(32)]) is None
    assert knee(curve([1, 2, 16, 32], [1, 8, 8, 8])) == 2


@given(rising, rising)
def test_the_knee_of_a_concave_curve_lies_inside(steps: list[float], slopes: list[float]) -> None:
    size = min(len(steps), len(slopes))
    falling = sorted(slopes[:size], reverse=True)
    xs, ys = [1.0], [1.0]
    for step, slope in zip(steps[:size], falling, strict=True):
        xs.append(xs[-1] + step)
        ys.append(ys[-1] + step * slope)
    found = knee(curve(xs, ys))
    assert found is None or xs[0] < found < xs[-1]


@given(
    st.lists(st.integers(0, 1000), min_size=4, max_size=10),
    st.integers(-8, 8),
    st.integers(-8, 8),
    st.integers(0, 1000),
)
def test_units_and_offsets_do_not_matter(ys: list[int], by_x: int, by_y: int, offset: int) -> None:
    xs = [float(2**step) for step in range(len(ys))]
    plain = knee(curve(xs, [float(y) for y in ys]))
    # Powers of two and whole numbers, so that no rounding decides between ties.
    scaled = knee(curve([x * 2.0**by_x for x in xs], [(y + offset) * 2.0**by_y for y in ys]))
    assert scaled == (None if plain is None else plain * 2.0**by_x)


def test_a_higher_sensitivity_is_more_careful() -> None:
    points = curve(DOUBLINGS, [load / (load + 16) for load in DOUBLINGS])
    assert knee(points) is not None
    assert knee(points, sensitivity=7) is None
