"""How sure a verdict is, in plain words: the same on the page and in the whole story."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import zip_longest
from typing import Any

from pytest_llmperf.metrics.units import format_number

from .words import count, ends, percent, size

Gate = Mapping[str, Any]
#: How sure a bound of a loss is, as the gate's own sentence says it: the false alarms are shared
#: among gates and looks, and the sentence was made by who knows how.
_SURE = re.compile(r"\b([\d.]+ % sure): (?:at|no more than)\b")


def certainty(gate: Gate) -> str:
    """Of a limit: between what bounds the value is, or how far so few launches may be off. Of a
    loss: the bounds that decide. Empty where nothing was compared."""
    if gate["observed"] is None:
        return ""
    return _of_loss(gate) if gate["kind"] == "regression" else _of_limit(gate)


def _of_limit(gate: Gate) -> str:
    if gate["ci_low"] is not None and gate["ci_high"] is not None:
        bounds = ends(gate["ci_low"], gate["ci_high"], gate["unit"], gate["limit"])
        return f"{_share(gate)}{' to '.join(bounds)}"
    if gate["detectable_loss"] is None:
        return "compared as it is, nothing is allowed for noise"
    compared = {"fail": ", and this is further", "inconclusive": ", and this is less"}
    launches = count(gate["n_launches"], "launch", "launches")
    return (
        f"{launches} may be off by {percent(gate['detectable_loss'])} by chance"
        f"{compared.get(gate['verdict'], '')}"
    )


def _of_loss(gate: Gate) -> str:
    """The bound that decides of a failure or of a pass, both where nothing is decided."""
    low, high = _at_least(gate), _at_worst(gate)
    if gate["verdict"] == "fail":
        told = [low or high]
    elif gate["verdict"] == "pass":
        told = [high]
    else:
        told = [low, high]
    bounds = [bound for bound in told if bound]
    sure = [f"{found}: " for found in _SURE.findall(gate["reason"])]
    return "; ".join(
        how + bound for how, bound in zip_longest(sure[: len(bounds)], bounds, fillvalue="")
    )


def _at_least(gate: Gate) -> str:
    low = gate["loss_low"]
    if low is None:
        return ""
    shown = size(low, gate["allow"])
    return f"at least {shown} worse" if low >= 0 else f"no more than {shown} better"


def _at_worst(gate: Gate) -> str:
    high = gate["loss_high"]
    if high is None:
        return ""
    shown = size(high, gate["loss_to_catch"])
    return f"at worst {shown} worse" if high >= 0 else f"at least {shown} better"


def _share(gate: Gate) -> str:
    """ "99 % sure: ", by this gate's own share of the false alarms; empty where that is unknown."""
    if gate["alpha"] is None:
        return ""
    return f"{format_number(100 * (1 - gate['alpha'] / gate['family']), digits=5)} % sure: "
