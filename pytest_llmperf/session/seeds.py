"""What a run's prompts are drawn from: never what was drawn from for another run on the server.

Where the prefix cache is emptied before each run and the server ends with the session, the
workload's own seed decides, and is the same for every launch, session and side. Where the cache
outlives a run, workloads of one seed would begin alike, so all that a workload says is mixed in.
Where it outlives the session as well, so is a number that each process draws for itself.

The seed of a run is in its record and decides its prompts alone, so they can be made again.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import cache

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Workload

#: Bits of a run's seed for its number, and one above them for the attempt.
_RUN_BITS = 15
MOST_RUNS = (1 << _RUN_BITS) - 1
#: A mixed seed and what is put behind it fit into the 53 bits that every reader of JSON keeps.
_MIXED_BITS = 53 - _RUN_BITS - 1


@cache
def session_number() -> int:
    """This process' own number, drawn when it is first needed."""
    return secrets.randbits(64)


def base_seed(workload: Workload, *, outlives: bool, visit: int = 0) -> int:
    """The seed of all that ``workload`` sends to one server, warming up included.

    ``outlives``: prompts of earlier sessions, and of an earlier ``visit`` in this one, may still be
    in the server's cache. Raises
    :class:`~pytest_llmperf.errors.UsageMistake` for more runs than there are seeds.
    """
    if workload.runs > MOST_RUNS:
        raise UsageMistake(
            f"workload {workload.name!r}: runs={workload.runs} is too many; at most {MOST_RUNS:,} "
            "runs have prompts of their own. Ask for fewer runs, each with more requests."
        )
    if workload.flush and not outlives:
        return workload.seed
    said = f"{f'{session_number()} {visit}' if outlives else ''} {workload.identity}"
    digest = hashlib.sha256(said.encode()).digest()
    return int.from_bytes(digest, "big") >> (8 * len(digest) - _MIXED_BITS)


def run_seed(base: int, index: int, attempt: int) -> int:
    """The seed of attempt 0 or 1 at run ``index``; no other base, index and attempt have it."""
    if not (0 <= index < MOST_RUNS and attempt in (0, 1)):
        raise ValueError(f"no seed for attempt {attempt} at run {index}")
    return (base << (_RUN_BITS + 1)) + (attempt << _RUN_BITS) + index + 1
