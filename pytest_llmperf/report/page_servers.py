"""Servers as the page tells them: how they were started, and how the two sides differ."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from .words import rounded

Entry = Mapping[str, Any]
_NOTHING = object()


def servers(document: Entry) -> list[Entry]:
    """Every server in words; one that was compared with another begins with what differs."""
    by_id = {server["id"]: server for server in document["servers"]}
    measured = {each["id"]: each for each in document["measurements"]}
    against = {
        each["server"]: measured[each["reference"]]["server"]
        for each in document["measurements"]
        if each["reference"] in measured
    }
    return [
        {
            **_server(server, by_id.get(against.get(server["id"], ""))),
            "on": server.get("on", ""),
        }
        for server in document["servers"]
    ]


def _server(server: Entry, reference: Entry | None) -> Entry:
    """A server with the newest of its launches' facts, which all share but for port and log."""
    launches = server["launches"]
    last = launches[-1]
    took = [each["startup_time_s"] for each in launches if each["startup_time_s"] is not None]
    sides = sorted({each.get("side") or "candidate" for each in launches})
    return {
        "name": " ".join(str(word) for word in (server["engine"], server["version"]) if word),
        "model": server["model"] or "model unknown",
        "sides": ", ".join(sides),
        "command": shlex.join(last["argv"]) or f"attached at {last['url']}",
        "notes": last["notes"],
        "env": sorted(last["env"].items()),
        "args": [(name, _text(value)) for name, value in sorted(last["args"].items())],
        "compared": reference is not None,
        "differences": differences(last, reference["launches"][-1]) if reference else [],
        "launches": len(launches),
        "startup": ", ".join(f"{rounded(each, 3)} s" for each in took[:8]),
        "failures": [each["failure"] for each in launches if each["failure"]],
        "log": last["log"],
    }


def differences(ours: Entry, theirs: Entry) -> list[tuple[str, str, str]]:
    """What the resolved arguments and the environment of two launches do not share: its name, our
    value and theirs; without what no two launches share, where the launch says what it was."""
    here, there = ours.get("subject") or ours, theirs.get("subject") or theirs
    found = []
    for kind, part in (("", "args"), ("env ", "env")):
        # What was not started here has no environment that we know of.
        mine, other = here.get(part) or {}, there.get(part) or {}
        found += [
            (f"{kind}{name}", _text(mine.get(name, _NOTHING)), _text(other.get(name, _NOTHING)))
            for name in sorted({**mine, **other})
            if mine.get(name, _NOTHING) != other.get(name, _NOTHING)
        ]
    return found


def _text(value: object) -> str:
    if value is _NOTHING:
        return "not there"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
