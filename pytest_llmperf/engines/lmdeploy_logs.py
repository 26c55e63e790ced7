"""What LMDeploy's log tells: how far a start has come, and why one failed.

Read off the sources of LMDeploy 0.16 and 0.18 (``pytorch/check_env/``, ``pytorch/engine/executor/
base.py``, ``pytorch/weight_loader/``, ``turbomind/checkpoint.py``, ``serve/openai/api_server.py``);
never seen running. At its default log level it says little. Causes stand from the most to the least
specific; the first that matches is told.
"""

from __future__ import annotations

from pytest_llmperf.records import FailureCause, LogProgress

from .hub_logs import DOWNLOADING, HUB, PORT, cause

PROGRESS: tuple[LogProgress, ...] = (
    DOWNLOADING,
    LogProgress(
        pattern=r"Loading weights from safetensors:\s+\d+%.*?(\d+/\d+)",
        text=r"loading weights (\1 files)",
    ),
    LogProgress(pattern=r"Loading:\s+\d+%.*?(\d+/\d+)", text=r"loading weights (\1 layers)"),
    LogProgress(pattern=r"HINT:\s+Please open", text="the model is loaded"),
    LogProgress(pattern=r"Application startup complete", text="the server says it is ready"),
)

CAUSES: tuple[FailureCause, ...] = (
    cause(
        r"No module named '?lmdeploy",
        "LMDeploy is not installed in the Python that was to run it",
        "pip install lmdeploy there, or name another Python with python=",
    ),
    cause(
        r"error: (unrecognized arguments|ambiguous option|argument --[\w-]+|the following arg)",
        "LMDeploy does not accept its command line",
        "correct args= of llm_server; the line in the log names the argument, and the installed "
        "version lists its own with: lmdeploy serve api_server --help",
    ),
    cause(
        r"The (?:reasoning|tool) parser .* is not in the parser list"
        r"|could not get reasoning tokens from the tokenizer",
        "LMDeploy cannot use the parser that it was given for this model",
        "give another --reasoning-parser or --tool-call-parser in args=; the log lists those that "
        "the installed version has",
    ),
    PORT,
    *HUB,
    cause(
        r"No enough gpu memory for (?:kv cache|runtime)",
        "after loading the weights too little memory was left for the key-value cache",
        "spread the model over more devices with --tp, or take a smaller or quantised model; "
        "--cache-max-entry-count sets the share of the free memory that the cache takes, and "
        "--max-prefill-token-num how much a prefill needs beside it",
    ),
    cause(
        r"(?:CUDA|NPU)(?: error:)? out of memory|OutOfMemoryError|cudaErrorMemoryAllocation",
        "the device ran out of memory",
        "take a smaller or quantised model or more devices (--tp); check that no other process "
        "holds the device's memory; lower --cache-max-entry-count",
    ),
    cause(
        r"cuda is not available|<CUDA> check failed",
        "LMDeploy sees no NVIDIA device",
        "install the driver, or in a container pass the devices through; on Ascend the device is "
        "chosen with --device ascend",
    ),
    cause(
        r"No module named '?dlinfer|<DeepLink\w*> check failed|dlinfer is not available",
        "the package that brings LMDeploy to this device is missing",
        "pip install dlinfer-ascend there, of the version that the installed LMDeploy names",
    ),
    cause(
        r"no kernel image is available|invalid device function|model_format=\w+ requires sm",
        "the kernels of this build do not support the device",
        "install the build of LMDeploy that is made for the device, or try --backend pytorch",
    ),
    cause(
        r"<Model> check failed|[Uu]nsupported model arch|Unrecognized model in"
        r"|does not appear to have a file named config\.json",
        "the model's directory does not describe a model that LMDeploy knows",
        "check model=, and whether this version of LMDeploy supports the architecture",
    ),
    cause(
        r"contains custom code which must be executed|trust_remote_code=True",
        "the model brings code of its own, which runs only with leave",
        "if you trust the model, add --trust-remote-code to args= (LMDeploy 0.13 and later)",
    ),
    cause(
        r"^\s*(?:ImportError|OSError): lib[\w.+-]+\.so[\w.]*",
        "a library of the device's driver is missing",
        "install the driver, or in a container pass the devices through",
    ),
    cause(
        r"^\s*(?:ModuleNotFoundError: No module named|ImportError: cannot import name)",
        "a Python package that LMDeploy needs here is missing or of an unfitting version",
        "install it into the server's Python; the last import in the log names it",
    ),
    cause(
        r"<\w+> check failed!",
        "LMDeploy's own check of its surroundings failed",
        "the lines after it in the log say what is missing",
    ),
    cause(
        r"Received custom termination signal from sub processing|The actor died|ActorDiedError",
        "one of the server's own processes crashed",
        "the first traceback in the log says where",
    ),
)
