"""What MindIE's log tells: how far a start has come, and why one failed.

Read off the sources and the documentation of 3.0.0 (``src/server/daemon/llm_daemon.cpp``,
``src/config_manager/``, ``docs/zh/faq/faq.md``); never seen running. Causes stand from the most to
the least specific; the first that matches is told.
"""

from __future__ import annotations

from pytest_llmperf.records import FailureCause, LogProgress

from .hub_logs import cause

PROGRESS: tuple[LogProgress, ...] = (
    LogProgress(pattern=r"g_mainPid = \d+", text="reading its settings"),
    LogProgress(pattern=r"Daemon start success!", text="the server says it is ready"),
)

CAUSES: tuple[FailureCause, ...] = (
    cause(
        r"pytest-llmperf: there is no MindIE server at",
        "MindIE is not installed where it was looked for",
        "set MIES_INSTALL_PATH in env= to the directory of mindie-service, or name an image of "
        "MindIE with image=",
    ),
    cause(
        r"Socket bind failed|listen port is occupied|please check if \w+ ip and (?:\w+ )?port",
        "the port is taken by another process",
        "stop the other server, or leave the choice of the port to the plugin",
    ),
    cause(
        r"missing compulsory field|The type of param \w+ should be|The value of param \w+ for"
        r"|[Ii]nvalid param|is invalid\. supported values|should be in \[",
        "MindIE does not accept one of its settings",
        "correct args= of llm_server; the line in the log names the setting, and the file it was "
        "given lies beside the log",
    ),
    cause(
        r"The size of npuDeviceIds(?: \(subset\))? does not equal",
        "the number of devices and of the model's parts differ",
        "give --worldSize or --npuDeviceIds in args=, not two that differ",
    ),
    cause(
        r"[Cc]heck_?path: \S*config\.json failed|file permission|owner of the file|FILE_MODE"
        r"|permission of .* (?:should|is)",
        "MindIE does not trust the model's files: others may write them, or they are not this "
        "user's",
        "run: chmod -R o-w,g-w on the model's directory and chmod 640 on its config.json, and make "
        "the user who starts the server their owner",
    ),
    cause(
        r"NPU out of memory|out of memory, need block|aclrtMalloc|OutOfMemoryError"
        r"|[Nn]ot enough (?:npu )?memory|npu out of memory",
        "the device ran out of memory",
        "lower --maxSeqLen, --maxPrefillTokens or --maxBatchSize in args=, set NPU_MEMORY_FRACTION "
        "in env=, or take a smaller or quantised model or more devices",
    ),
    cause(
        r"HCCL.*(?:[Tt]imeout|[Tt]imed out)|HCCL function error|EI0006",
        "the devices waited for each other in vain",
        "check the links between the devices; HCCL_CONNECT_TIMEOUT in env= sets the time",
    ),
    cause(
        r"Max retries exceeded with url",
        "the model's own code asked the hub, which could not be reached",
        "download what it asks for beforehand",
    ),
    cause(
        r"No module named '?atb_llm|cannot import.*atb_llm",
        "the models of MindIE are not on the server's Python path",
        "source set_env.sh of atb-models before pytest, or name an image of MindIE with image=",
    ),
    cause(
        r"error while loading shared libraries: lib[\w.+-]+\.so|ImportError: lib[\w.+-]+\.so",
        "a library that MindIE needs is missing",
        "source the set_env.sh files of CANN, ATB and MindIE before pytest, or name an image of "
        "MindIE with image=",
    ),
    cause(
        r"pybind11::error_already_set|LLMPythonModel initializes fail|ModuleNotFoundError",
        "a Python package that the model needs is missing or of an unfitting version",
        "install what requirements/models of atb-models names for it",
    ),
    cause(
        r"Failed to set process group",
        "the server was started as the leader of a session, which it cannot be",
        "start it through the plugin's own script",
    ),
    cause(
        r"Failed to init endpoint",
        "MindIE's server did not come up",
        "the lines before it in the log say why; more is in its own logs (~/mindie/log/debug)",
    ),
    cause(
        r"Process \d+ (?:was terminated by signal|exited normally with status [1-9])",
        "one of the server's own processes crashed",
        "the first error in the log says where; more is in its own logs (~/mindie/log/debug)",
    ),
)
