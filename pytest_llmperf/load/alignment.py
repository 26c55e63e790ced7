"""Another machine's clock in terms of ours, and how wrong that may be.

We ask a worker for its time again and again, before a pass and after it. Its answer was made
between our asking and our hearing it: that bounds by how much the two clocks are apart, and the
shortest round trip bounds it best, as in NTP (RFC 5905, section 10). Between the two sightings the
difference is taken to change evenly.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """One question for the time: asked and heard by our clock, told by theirs, in nanoseconds."""

    asked_ns: int
    told_ns: int
    heard_ns: int

    @property
    def round_trip_ns(self) -> int:
        return self.heard_ns - self.asked_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """At ``at_ns`` of our clock theirs is ``offset_ns`` behind it, give or take ``error_ns``."""

    at_ns: int
    offset_ns: int
    error_ns: int


def sighting(beats: Iterable[Beat]) -> Sighting:
    """By the beat with the shortest round trip, of at least one."""
    best = min(beats, key=lambda beat: beat.round_trip_ns)
    middle_ns = (best.asked_ns + best.heard_ns) // 2
    return Sighting(
        at_ns=middle_ns,
        offset_ns=middle_ns - best.told_ns,
        error_ns=best.round_trip_ns - best.round_trip_ns // 2,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Their clock between two sightings of it."""

    before: Sighting
    after: Sighting

    @property
    def drift_ns(self) -> int:
        """What the clocks moved apart in between."""
        return self.after.offset_ns - self.before.offset_ns

    @property
    def error_ns(self) -> int:
        """How wrong :meth:`shift_ns` is at most, if the clocks moved apart in one direction:
        evenly or not, for the true difference then lies between those of the two ends."""
        return max(self.before.error_ns, self.after.error_ns) + abs(self.drift_ns)

    def shift_ns(self, told_ns: int) -> int:
        """What to add to one of their times to have it in ours."""
        before, after = self.before, self.after
        span = after.at_ns - before.at_ns
        passed = min(max(0, told_ns + before.offset_ns - before.at_ns), max(0, span))
        return before.offset_ns + (self.drift_ns * passed // span if span > 0 else 0)
