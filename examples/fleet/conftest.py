"""Lets one machine stand for several kinds: PRETEND is what the session believes to run on.

A real fleet needs nothing of this: each session sees the accelerator of its own machine.
"""

import os


def pytest_llmperf_fingerprint(facts):
    if "PRETEND" in os.environ:
        facts["product"] = os.environ["PRETEND"]
