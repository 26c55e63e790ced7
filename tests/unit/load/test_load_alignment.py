"""Another clock is known as well as it is said to be."""

from __future__ import annotations

from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.alignment import Alignment, Beat, Sighting, sighting

MS, S = 10**6, 10**9
OFFSETS = st.integers(-(10**18), 10**18)
DELAYS = st.lists(
    st.tuples(st.integers(0, 50 * MS), st.integers(0, 50 * MS)), min_size=1, max_size=20
)


def beats(start: int, behind: int, delays: list[tuple[int, int]]) -> list[Beat]:
    """Questions one after the other; the two ways may take very different times."""
    found = []
    for there, back in delays:
        told = start + there - behind
        found.append(Beat(asked_ns=start, told_ns=told, heard_ns=start + there + back))
        start += there + back + 1
    return found


@given(OFFSETS, DELAYS)
def test_one_sighting_is_as_wrong_as_it_says_at_most(
    behind: int, delays: list[tuple[int, int]]
) -> None:
    seen = sighting(beats(7 * S, behind, delays))
    assert abs(seen.offset_ns - behind) <= seen.error_ns
    assert seen.error_ns <= min(there + back for there, back in delays) / 2 + 1


def test_of_the_round_trips_the_shortest_counts() -> None:
    seen = sighting(beats(0, 100, [(40 * MS, 2 * MS), (MS, MS), (0, 30 * MS)]))
    assert (seen.offset_ns, seen.error_ns) == (100, MS)


@given(
    OFFSETS,
    DELAYS,
    DELAYS,
    st.lists(st.integers(0, 3 * MS), min_size=1, max_size=8),
    st.sampled_from([-1, 1]),
    st.integers(0, 100 * S),
)
def test_a_time_of_theirs_is_as_wrong_as_it_says_at_most(
    behind: int,
    before: list[tuple[int, int]],
    after: list[tuple[int, int]],
    steps: list[int],
    direction: int,
    at: int,
) -> None:
    """Clocks that move apart in one direction, however unevenly."""
    begin, end = 10 * S, 110 * S

    def truly_behind(ours: int) -> int:
        """In steps, the hardest thing for a straight line between the two sightings."""
        edges = [
            begin + (number + 1) * (end - begin) // (len(steps) + 1) for number in range(len(steps))
        ]
        return behind + direction * sum(steps[: bisect_right(edges, ours)])

    aligned = Alignment(
        before=sighting(beats(begin - 5 * S, truly_behind(begin), before)),
        after=sighting(beats(end + S, truly_behind(end), after)),
    )
    ours = begin + at
    theirs = ours - truly_behind(ours)
    wrong = abs(theirs + aligned.shift_ns(theirs) - ours)
    assert wrong <= aligned.error_ns
    assert abs(aligned.drift_ns) <= sum(steps) + aligned.before.error_ns + aligned.after.error_ns


@given(st.integers(-(10**15), 10**15), st.integers(0, 10**6))
def test_between_two_sightings_the_difference_changes_evenly(behind: int, drift: int) -> None:
    aligned = Alignment(
        before=Sighting(at_ns=0, offset_ns=behind, error_ns=1),
        after=Sighting(at_ns=1000 * S, offset_ns=behind + drift, error_ns=1),
    )
    assert aligned.shift_ns(0 - behind) == behind
    assert abs(aligned.shift_ns(500 * S - behind) - (behind + drift / 2)) <= 1
    assert aligned.shift_ns(5000 * S - behind) == behind + drift
    assert aligned.shift_ns(-5 * S - behind) == behind
