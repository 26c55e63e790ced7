"""A reference that is built on the spot: the merge base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pytest_llmperf.launch.checkout import built, default_branch, merge_base
from pytest_llmperf.records import MERGE_BASE, ServerRequest
from pytest_llmperf.settings import Settings


def build_reference(
    reference: ServerRequest, settings: Settings, root: Path, say: Callable[[str], None]
) -> tuple[ServerRequest, str]:
    """``reference`` with an interpreter to start it, and a name where that was built for it in a
    checkout of ``root``'s merge base; ``say`` hears how far that has come.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` where it cannot be had or built.
    """
    command = settings.reference.build
    if reference.python != MERGE_BASE or command is None:
        return reference, ""
    ref = settings.reference.ref or default_branch(root)
    checkout = built(root, merge_base(root, ref), command, settings.checkouts_dir, say=say)
    name = f"{checkout.commit[:8]}, the merge base with {ref}"
    return replace(reference, python=str(checkout.python)), name
