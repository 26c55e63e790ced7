"""What the difference between two clients' figures is made of."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from pytest_llmperf.records import RequestRecord

from .peers import Peer
from .terms import FIGURES, OURS, WORDS, Figures, figures, steps
from .trials import Arm, Trial, like_ours_of

Row = dict[str, Any]
#: A difference from here on wants a cause, in percent.
WORTH_A_CAUSE = 2.0
_DIGITS = 2


class Round:
    """One turn of everybody, as figures.

    ``parts`` are what the difference is made of, cause by cause; for each figure their sum is the
    whole of it. ``converted`` is what our records of requests in the other's manner are in the
    other's terms. Where only those took turns that ask alike, there is no other way of asking.
    """

    def __init__(self, peer: Peer, trials: Mapping[Arm, Trial]) -> None:
        asked_alike = figures(trials["ours_alike"].records, OURS)
        alike = replace(trials["ours_alike"], report=asked_alike)
        like_ours = like_ours_of(trials)
        trials = {"ours": alike, "theirs": like_ours, **trials, "ours_alike": alike}
        theirs = trials["theirs"]
        tapped, tail_s = theirs.tapped.records, theirs.tapped.tail_s
        self.reports = {arm: trial.report for arm, trial in trials.items()}
        self.like_ours = like_ours.report
        self.wire = figures(trials["ours"].tapped.records, OURS)
        self.converted = figures(alike.records, peer.terms, tail_s=like_ours.tapped.tail_s)
        in_our_terms = figures(tapped, OURS)
        like_ours_in_our_terms = figures(like_ours.tapped.records, OURS)
        slower = in_flight(like_ours.tapped.records) / in_flight(alike.tapped.records) - 1
        asks_later = {"throughput": slower * asked_alike["throughput"]}
        left = _less(like_ours_in_our_terms, asked_alike)
        self.parts: dict[str, Figures] = {
            "what it is late by itself": _less(
                theirs.report, figures(tapped, peer.terms, tail_s=tail_s)
            ),
            **{WORDS[term]: change for term, change in steps(tapped, peer.terms, tail_s)},
            "its prompts": _less(in_our_terms, like_ours_in_our_terms),
            "its manner of asking": _less(asked_alike, trials["ours"].report),
            "it takes longer between a response and the next request": asks_later,
            "left": {name: value - asks_later.get(name, 0.0) for name, value in left.items()},
        }


def table(rounds: Sequence[Round]) -> dict[str, Row]:
    """A row for each figure that both clients report."""
    there = set.intersection(*(set(report) for each in rounds for report in each.reports.values()))
    return {name: _row(name, rounds) for name in FIGURES if name in there}


def _row(name: str, rounds: Sequence[Round]) -> Row:
    ours = [each.reports["ours"][name] for each in rounds]
    theirs = [each.reports["theirs"][name] for each in rounds]
    before = 100 * (statistics.median(theirs) / statistics.median(ours) - 1)
    alike = [each.reports["ours_alike"][name] for each in rounds]
    left = [each.parts["left"][name] for each in rounds]
    noise = {arm: _noise([each.reports[arm][name] for each in rounds]) for arm in rounds[0].reports}
    return {
        "ours": round(statistics.median(ours), _DIGITS),
        "theirs": round(statistics.median(theirs), _DIGITS),
        "difference_percent": round(before, _DIGITS),
        "worth_a_cause": abs(before) > WORTH_A_CAUSE,
        "made_of_percent": {
            part: _share([each.parts[part].get(name, 0.0) for each in rounds], ours)
            for part in rounds[0].parts
        },
        "after_percent": {
            "definitions and load alike": _share(
                [each.like_ours[name] - each.converted[name] for each in rounds],
                [each.converted[name] for each in rounds],
            ),
            "and both stamped by the kernel": _share(left, alike),
        },
        "ours_less_kernel_percent": _share(
            [each.reports["ours"][name] - each.wire[name] for each in rounds], ours
        ),
        "left_from_to_percent": _extent(left, alike),
        "noise_percent": noise,
    }


def in_flight(records: Sequence[RequestRecord]) -> float:
    """Requests at a time, by Little's law; less than was asked for where a client is slow to ask
    again."""
    begun, ended = [r.written_ns for r in records], [r.ended_ns for r in records]
    return (sum(ended) - sum(begun)) / (max(ended) - min(begun))


def _less(ones: Figures, others: Figures) -> Figures:
    return {name: ones[name] - others[name] for name in ones if name in others}


def _share(parts: Iterable[float], wholes: Iterable[float]) -> float:
    """Median over the rounds, in percent."""
    shares = [100 * part / whole for part, whole in zip(parts, wholes, strict=True)]
    return round(statistics.median(shares), _DIGITS)


def _extent(parts: Iterable[float], wholes: Iterable[float]) -> list[float]:
    """Least and largest over the rounds, in percent."""
    shares = [100 * part / whole for part, whole in zip(parts, wholes, strict=True)]
    return [round(min(shares), _DIGITS), round(max(shares), _DIGITS)]


def _noise(values: Sequence[float]) -> Mapping[str, float] | None:
    """What two turns of one client differ by, in percent; ``None`` of a single turn."""
    apart = [100 * abs(a - b) / min(a, b) for a, b in combinations(values, 2)]
    if not apart:
        return None
    return {
        "median": round(statistics.median(apart), _DIGITS),
        "max": round(max(apart), _DIGITS),
    }
