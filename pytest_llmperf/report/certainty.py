"""How sure a verdict is, in plain words: the same on the page and in the whole story."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmperf.metrics.units import confidence_text

from .words import count, ends, percent, size

Gate = Mapping[str, Any]


def certainty(gate: Gate) -> str:
    """Of a limit: between what bounds the value is, or how far so few launches may be off. Of a
    loss: the bounds that decide. Empty where nothing was compared."""
    if gate["observed"] is None:
        return ""
    return _of_loss(gate) if gate["kind"] == "regression" else _of_limit(gate)


def _of_limit(gate: Gate) -> str:
    if gate["ci_low"] is not None and gate["ci_high"] is not None:
        bounds = ends(gate["ci_low"], gate["ci_high"], gate["unit"], gate["limit"])
        sure = None if gate["alpha"] is None else 1 - gate["alpha"] / gate["family"]
        return _surely(sure, " to ".join(bounds))
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
    low = _bound(gate["loss_low"], gate["allow"], "at least", "no more than")
    high = _bound(gate["loss_high"], gate["loss_to_catch"], "at worst", "at least")
    low, high = _surely(gate.get("sure_low"), low), _surely(gate.get("sure_high"), high)
    told = {"fail": [low or high], "pass": [high]}.get(gate["verdict"], [low, high])
    return "; ".join(filter(None, told))


def _bound(loss: float | None, bar: float | None, if_worse: str, if_better: str) -> str:
    if loss is None:
        return ""
    shown = size(loss, bar)
    return f"{if_worse} {shown} worse" if loss >= 0 else f"{if_better} {shown} better"


def _surely(sure: float | None, bound: str) -> str:
    """ "99 % sure: at least 3 % worse"; older reports do not tell how sure."""
    return f"{confidence_text(1 - sure)} sure: {bound}" if sure is not None and bound else bound
