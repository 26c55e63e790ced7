"""Posts what the gates found to a webhook: Slack's, or any that takes {"text": ...} as JSON.

Where to stands in the environment variable LLMPERF_WEBHOOK. Whoever knows that address may post
there, so it is shown nowhere, in no message and no traceback.
"""

import http.client
import json
import os
import urllib.error
import urllib.request

import pytest

ADDRESS = "LLMPERF_WEBHOOK"
#: How long a webhook that does not answer may hold up the end of a session.
SECONDS = 10
SHOWN = 5
TROUBLE = pytest.StashKey()


# optionalhook: without it, pytest refuses a hook that it does not know, where pytest-llmperf is
# not installed. trylast: what other implementations change in the report is changed by now.
@pytest.hookimpl(optionalhook=True, trylast=True)
def pytest_llmperf_report(config, document):
    address = os.environ.get(ADDRESS)
    if not address or not document["gates"]:
        return
    config.stash[TROUBLE] = post(address, {"text": message(document)})


# Whether a message arrives is no reason for a build to be red: a line to read, and no warning of
# Python's, which `filterwarnings = error` would make an exception of.
def pytest_terminal_summary(terminalreporter, config):
    if trouble := config.stash.get(TROUBLE, None):
        said = f"WARNING: the webhook in {ADDRESS} got no message: {trouble}"
        terminalreporter.write_line(said, yellow=True)


def message(document):
    """The verdict, what did not pass, and on what it was measured."""
    gates = document["gates"]
    missed = [gate for gate in gates if gate["verdict"] != "pass"]
    devices = ", ".join(each["product"] for each in document["environment"]["accelerators"])
    label = " SIMULATED" if document["simulated"] else ""
    lines = [f"*{document['verdict'].upper()}*{label}: {len(gates)} gates on {devices}"]
    lines += [f"- {gate['test']}: {gate['reason']}" for gate in missed[:SHOWN]]
    if len(missed) > SHOWN:
        lines.append(f"- and {len(missed) - SHOWN} more")
    return "\n".join(lines)


def post(address, payload):
    """Send ``payload`` as JSON; what went wrong in words that do not hold the address, or None."""
    if not address.startswith(("https://", "http://")):
        return "it begins with neither https:// nor http://"
    data, headers = json.dumps(payload).encode(), {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(address, data, headers)  # noqa: S310 - seen to above
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310
            answer.read(1024)
    except urllib.error.HTTPError as error:
        with error:
            return f"it answered {error.code}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return type(error).__name__  # its message may hold the address
    return None
