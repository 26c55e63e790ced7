"""Which fields of a workload go together; each rule says in one sentence what is wrong and what to
do instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.records import Source

from .lengths import bounds
from .sources import Item

#: What a file says for itself.
_SYNTHETIC = (
    "input_tokens",
    "length_spread",
    "shared_prefix_tokens",
    "prefixes",
    "turns",
    "turn_input_tokens",
    "think_time_s",
)


@dataclass(frozen=True, slots=True)
class Draft:
    """Fields as laid over each other, and the names of those that the user said himself.

    ``needed`` is how many requests the gated percentiles ask for; ``items`` are the file's.
    """

    name: str
    laid: Mapping[str, Any]
    said: frozenset[str]
    needed: int
    file: Source | None
    items: Sequence[Item]

    @property
    def turns(self) -> int:
        return int(self.laid["turns"])

    @property
    def mean_rate(self) -> float | None:
        """Sessions per second over the run, where a rate decides when they start."""
        first, last = self.laid["rate"], self.laid["final_rate"]
        if first is None:
            return None
        return float(first if last is None else (first + last) / 2)

    def whole_sessions(self, requests: int) -> int:
        """``requests``, or as few more as make whole sessions."""
        return -(-requests // self.turns) * self.turns


def check(draft: Draft) -> None:
    """Raise :class:`ValueError`, with a sentence for the user, for what cannot be meant."""
    for rule in _RULES:
        if (mistake := rule(draft)) is not None:
            raise ValueError(mistake)


# --- when ------------------------------------------------------------------------------------


def _closed(draft: Draft) -> str | None:
    if draft.laid["arrivals"] != "closed":
        return None
    if "rate" in draft.said:
        return (
            "rate belongs to an open loop, but arrivals='closed'; "
            "leave out arrivals for Poisson arrivals, or leave out rate."
        )
    return None


def _open(draft: Draft) -> str | None:
    arrivals = draft.laid["arrivals"]
    if arrivals in ("constant", "poisson", "gamma") and draft.laid["rate"] is None:
        return f'arrivals={arrivals!r} needs a rate; add rate="10 req/s".'
    if "ramp_up_s" in draft.said and arrivals != "closed":
        return (
            "ramp_up_s spreads the first requests of a closed loop; "
            "in an open loop say rate for its beginning and final_rate for its end."
        )
    if "final_rate" in draft.said and draft.laid["rate"] is None:
        return "final_rate needs rate, the rate to begin with; add it."
    if "burstiness" in draft.said and arrivals != "gamma":
        return (
            f"burstiness shapes gamma arrivals, not {arrivals!r} ones; "
            'add arrivals="gamma", or leave it out.'
        )
    return None


def _trace(draft: Draft) -> str | None:
    arrivals = draft.laid["arrivals"]
    if arrivals != "trace":
        if "trace_speed" in draft.said:
            return "trace_speed hurries the arrival times of a trace; name a trace, or use rate."
        return None
    if draft.file is None or draft.file.kind != "trace":
        return (
            f"arrivals='trace' needs a file with arrival times, and {draft.name!r} has none; "
            "name a trace, or use rate."
        )
    if draft.laid["rate"] is not None:
        return (
            "a trace has arrival times of its own, so rate says nothing; "
            "use trace_speed to hurry it, or another arrivals to replace its times."
        )
    return None


def _ramp_within(draft: Draft) -> str | None:
    ramp, span = draft.laid["ramp_up_s"], draft.laid["duration_s"]
    if span is not None and ramp >= span:
        return (
            f"ramp_up_s={ramp:g} takes all of duration_s={span:g}; measure longer, or start faster."
        )
    return None


# --- what ------------------------------------------------------------------------------------


def _lengths(draft: Draft) -> str | None:
    if draft.file is not None:
        said = [field for field in _SYNTHETIC if field in draft.said]
        if said:
            return (
                f"{said[0]} is for made-up prompts, but {draft.name} says what is asked; "
                "leave it out."
            )
        return None
    for field in ("input_tokens", "output_tokens"):
        if draft.laid[field] is None:
            return f"{field} is missing; say how many tokens a request has."
    return None


def _prefix(draft: Draft) -> str | None:
    if draft.file is not None:
        return None
    shared, mean = draft.laid["shared_prefix_tokens"], draft.laid["input_tokens"]
    if "prefixes" in draft.said and not shared:
        return (
            "prefixes needs shared_prefix_tokens, the length of the texts that requests share; "
            "add it."
        )
    shortest = bounds(mean, draft.laid["length_spread"])[0]
    if shared >= shortest:
        return (
            f"shared_prefix_tokens={shared} leaves nothing of its own to a request of {shortest} "
            f"input tokens; raise input_tokens, which counts the prefix, above {shared}."
        )
    return None


def _sessions(draft: Draft) -> str | None:
    if draft.file is not None:
        return None
    if draft.turns == 1:
        for field in ("turn_input_tokens", "think_time_s"):
            if field in draft.said:
                return f"{field} is for sessions of several turns; add turns=4, or leave it out."
        return None
    if not draft.laid["turn_input_tokens"]:
        return (
            f"turns={draft.turns} needs turn_input_tokens, "
            "what each turn after the first adds to the conversation; add it."
        )
    return None


def _api(draft: Draft) -> str | None:
    if draft.file is None or draft.file.kind == "trace":
        return None
    api = draft.laid["api"]
    if draft.file.kind == "ids":
        if api == "chat":
            return (
                f"{draft.name} holds token ids, which api='chat' does not take; "
                "use api='completions' or api='generate'."
            )
        return None
    if api == "generate":
        return (
            f"{draft.name} holds texts, but api='generate' is asked with token ids; "
            "use api='chat' or api='completions', or a file of token ids."
        )
    if api == "completions" and any(item.messages for item in draft.items):
        return f"{draft.name} holds messages, which only api='chat' takes; leave out api."
    return None


def _outputs(draft: Draft) -> str | None:
    if draft.file is None:
        return None
    unknown = sum(item.output_tokens is None for item in draft.items)
    if unknown and draft.laid["output_tokens"] is None:
        return (
            f"{draft.name} does not say how long the answers to {unknown} of its "
            f"{len(draft.items)} requests are, and only the model's tokenizer could count them; "
            "give output_tokens for those, or put output_tokens into the file."
        )
    if not unknown and "output_tokens" in draft.said:
        return (
            f"every request of {draft.name} says how long its answer is, so output_tokens "
            "changes nothing; leave it out."
        )
    return None


# --- how much --------------------------------------------------------------------------------


def _one_bound(draft: Draft) -> str | None:
    if draft.laid["duration_s"] is not None and "requests" in draft.said:
        return "requests and duration_s both say when a run ends; give one of them."
    return None


def _whole(draft: Draft) -> str | None:
    requests = draft.laid.get("requests")
    if requests is None or requests % draft.turns == 0:
        return None
    return (
        f"requests={requests} makes no whole number of sessions of {draft.turns} turns; "
        f"write requests={draft.whole_sessions(requests)}."
    )


def _enough(draft: Draft) -> str | None:
    requests = draft.laid.get("requests")
    if requests is None or requests >= draft.needed:
        return None
    return (
        f"requests={requests} is too few: the gated percentiles need {draft.needed} requests "
        f"in each run, so that ten of them lie beyond the highest. "
        f"Write requests={draft.whole_sessions(draft.needed)}, or gate a lower percentile."
    )


def _enough_time(draft: Draft) -> str | None:
    span, rate = draft.laid["duration_s"], draft.mean_rate
    if span is None or rate is None:
        return None
    expected = span * rate * draft.turns
    if expected >= max(1, draft.needed):
        return None
    return (
        f"duration_s={span:g} is too short: some {expected:.3g} requests begin in it, and "
        f"{max(1, draft.needed)} are needed in each run. "
        f"Write duration_s={-(-max(1, draft.needed) // (rate * draft.turns)):g}, or raise the rate."
    )


def _busy(draft: Draft) -> str | None:
    if draft.laid["arrivals"] != "closed":
        return None
    requests, concurrency = draft.laid.get("requests"), draft.laid["concurrency"]
    if requests is None or requests // draft.turns >= concurrency:
        return None
    what = "requests" if draft.turns == 1 else f"sessions of {draft.turns} turns"
    least = concurrency * draft.turns
    return (
        f"requests={requests} can never keep concurrency={concurrency} {what} in flight. "
        f"Ask for at least {least} requests, or lower the concurrency."
    )


def _file_holds(draft: Draft) -> str | None:
    if draft.file is None:
        return None
    held = len(draft.items)
    if draft.needed > held:
        return (
            f"{draft.name} holds {held} requests, but the gated percentiles need {draft.needed} "
            "in each run; take a longer file, or gate a lower percentile."
        )
    wanted = draft.laid.get("requests") or draft.laid["concurrency"] or 0
    span, rate = draft.laid["duration_s"], draft.mean_rate
    if span is not None and rate is not None:
        wanted = max(wanted, int(span * rate))
    if wanted > held:
        return (
            f"{draft.name} holds {held} requests, and {wanted} are asked for; nothing is sent "
            "twice, because the prefix cache would answer it. Ask for fewer, or take a longer file."
        )
    return None


_RULES: tuple[Callable[[Draft], str | None], ...] = (
    _closed,
    _trace,
    _open,
    _ramp_within,
    _lengths,
    _prefix,
    _sessions,
    _api,
    _outputs,
    _one_bound,
    _whole,
    _enough,
    _enough_time,
    _busy,
    _file_holds,
)
