"""Why a cluster could not be joined, in one sentence and a remedy."""

from __future__ import annotations

import re

from pytest_llmperf.engines.over_ray import NO_NODE_HERE, VERSIONS_DIFFER
from pytest_llmperf.errors import ClusterError

#: Texts of Ray 2.60's ``ray.init``: _private/worker.py, _private/services.py, _private/node.py and
#: _private/utils.py (check_version_info).
_REASONS = (
    (
        VERSIONS_DIFFER + r".*?Ray: (?P<theirs>\S+)\s+Python: (?P<their_python>\S+).*?"
        r"Ray: (?P<ours>\S+)\s+Python: (?P<our_python>\S+)",
        "the cluster runs Ray {theirs} on Python {their_python}, and here is Ray {ours} on Python "
        "{our_python}",
        "run the tests with the cluster's versions of both",
    ),
    (
        rf"{NO_NODE_HERE.pattern}|local raylet|node_ip_address|This node has an IP address",
        NO_NODE_HERE.cause,
        NO_NODE_HERE.remedy,
    ),
    (
        r"Failed to connect to GCS|Unable to connect to GCS|GCS.* (?:timed out|unavailable)|"
        r"RpcError|failed to connect to all addresses|Connection refused|timed out|"
        r"unreachable|No route to host",
        "nothing that belongs to Ray answers there",
        "see whether the head is up, and give the HOST:PORT that `ray start --head` printed",
    ),
    (
        r"gaierror|Name or service not known|nodename nor servname|Temporary failure in name",
        "its host is not known here by that name",
        "give the head's HOST:PORT by a name or address that this machine knows",
    ),
)


def why_not_joined(address: str, kind: str, text: str) -> ClusterError:
    """The error for what ``ray.init`` raised: ``kind`` is its class, ``text`` what it says."""
    summary = f"the Ray cluster at {address} could not be joined"
    said = " ".join(text.split())
    for pattern, cause, remedy in _REASONS:
        if found := re.search(pattern, said):
            words = {name: word.rstrip(".,") for name, word in found.groupdict().items()}
            return ClusterError(summary, cause=cause.format(**words), remedy=remedy)
    return ClusterError(summary, cause=f"{kind}: {said}" if said else kind)
