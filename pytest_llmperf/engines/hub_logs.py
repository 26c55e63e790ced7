"""Causes of failed starts that engines share, because they load models with the same libraries.

The messages are those of huggingface_hub 0.34 to 1.0 and transformers 4.56 to 5.6.
"""

from __future__ import annotations

from pytest_llmperf.records import FailureCause, LogProgress

DOWNLOADING = LogProgress(
    pattern=r"Fetching \d+ files:\s+\d+%.*?(\d+/\d+)", text=r"downloading files (\1)"
)


def cause(pattern: str, what: str, remedy: str) -> FailureCause:
    """A cause in one line less."""
    return FailureCause(pattern=pattern, cause=what, remedy=remedy)


PORT = cause(
    r"Errno 98|[Aa]ddress already in use|Failed to bind socket to",
    "the port is taken by another process",
    "stop the other server, or leave the choice of the port to the plugin",
)

HUB: tuple[FailureCause, ...] = (
    cause(
        r"GatedRepoError|Access to model .* is restricted|gated repo",
        "the model is gated and this machine has no access to it",
        "accept the model's terms on the hub and set HF_TOKEN in the environment",
    ),
    cause(
        r"RepositoryNotFoundError|Repository Not Found|is not a local folder and is not a valid"
        r"|Repo id must be in the form|HFValidationError",
        "there is no such model: neither a directory here nor a name on the hub",
        "check model= of llm_server; a local model needs the full path of its directory",
    ),
    cause(
        r"LocalEntryNotFoundError|couldn't connect to '?https?://|We couldn't connect to"
        r"|OfflineModeIsEnabled|outgoing traffic has been disabled",
        "the model is not on this machine and the hub could not be reached",
        "download it beforehand, or give the path of a local directory as model=",
    ),
)
