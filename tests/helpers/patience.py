"""For suites that tests start: the machine may be as busy as it likes, so they do not ask whether
their load client was late."""

from __future__ import annotations

_BOUNDS = (
    *("llmperf_client_cpu", "llmperf_client_lag", "llmperf_client_send_delay"),
    *("llmperf_client_delivered", "llmperf_client_in_flight", "llmperf_client_clock"),
    *("llmperf_client_silence", "llmperf_max_drift"),
)
#: Arguments of pytest.
PATIENT_ARGS = tuple(word for name in _BOUNDS for word in ("-o", f"{name}=off"))
#: The same for ``PYTEST_ADDOPTS``.
PATIENT = " ".join(PATIENT_ARGS)
