"""What SGLang's log tells: how far a start has come, and why one failed.

Checked against SGLang 0.5.23. Causes stand from the most to the least specific; the first that
matches is told.
"""

from __future__ import annotations

from pytest_llmperf.records import FailureCause, LogProgress


def _progress(pattern: str, text: str) -> LogProgress:
    return LogProgress(pattern=pattern, text=text)


def _cause(pattern: str, cause: str, remedy: str) -> FailureCause:
    return FailureCause(pattern=pattern, cause=cause, remedy=remedy)


PROGRESS: tuple[LogProgress, ...] = (
    _progress(r"server_args=", "reading the model's configuration"),
    _progress(r"Fetching \d+ files:\s+\d+%.*?(\d+/\d+)", r"downloading files (\1)"),
    _progress(r"Init torch distributed begin", "setting up the devices"),
    _progress(r"Load weight begin", "loading weights"),
    _progress(r"(?i:shards):\s+\d+% Completed \| (\d+/\d+)", r"loading weights (\1 shards)"),
    _progress(r"Load weight end", "weights are loaded"),
    _progress(r"DeepGEMM warmup:\s+(\d+%)", r"compiling DeepGEMM kernels (\1)"),
    _progress(r"KV Cache is allocated\..*?#tokens: (\d+)", r"key-value cache of \1 tokens"),
    _progress(r"Capture .*(?i:graph) begin", "capturing graphs"),
    _progress(r"Capturing batches.*?\s(\d+/\d+)", r"capturing graphs (\1)"),
    _progress(r"Application startup complete", "warming up"),
    _progress(r"fired up and ready to roll", "the server says it is ready"),
)

CAUSES: tuple[FailureCause, ...] = (
    _cause(
        r"contains custom code which must be executed|trust_remote_code=True` to remove",
        "the model brings code of its own, which runs only with leave",
        "if you trust the model, add --trust-remote-code to args=",
    ),
    _cause(
        r"No module named '?sglang(\.launch_server)?'?\s*$|No module named 'sglang'",
        "SGLang is not installed in the Python that was to run it",
        "pip install 'pytest-llmperf[sglang]' there, or name another Python with python=",
    ),
    _cause(
        r"error: (unrecognized arguments|ambiguous option|argument --[\w-]+|the following arg)",
        "SGLang does not accept its command line",
        "correct args= of llm_server; the line in the log names the argument, and the installed "
        "version lists its own with: python -m sglang.launch_server --help",
    ),
    _cause(
        r"Errno 98|[Aa]ddress already in use|port \d+ is (already in use|not available)",
        "the port is taken by another process",
        "stop the other server, or leave the choice of the port to the plugin",
    ),
    _cause(
        r"GatedRepoError|Access to model .* is restricted|gated repo",
        "the model is gated and this machine has no access to it",
        "accept the model's terms on the hub and set HF_TOKEN in the environment",
    ),
    _cause(
        r"RepositoryNotFoundError|Repository Not Found|is not a local folder and is not a valid"
        r"|Repo id must be in the form|HFValidationError",
        "there is no such model: neither a directory here nor a name on the hub",
        "check model= of llm_server; a local model needs the full path of its directory",
    ),
    _cause(
        r"LocalEntryNotFoundError|couldn't connect to '?https?://|We couldn't connect to"
        r"|OfflineModeIsEnabled|outgoing traffic has been disabled",
        "the model is not on this machine and the hub could not be reached",
        "download it beforehand, or give the path of a local directory as model=",
    ),
    _cause(
        r"Cannot find any model weights|Error while deserializing header|incomplete metadata"
        r"|No such file or directory: .*\.safetensors",
        "the model's directory holds no usable weights",
        "complete the download; a directory needs *.safetensors beside its config.json",
    ),
    _cause(
        r"Unrecognized model in|does not appear to have a file named config\.json"
        r"|should have a `?model_type`? key|are not supported for now\. Supported arch",
        "the model's directory does not describe a model that SGLang knows",
        "check model=, and whether this version of SGLang supports the architecture",
    ),
    _cause(
        r"(context.?length|context_length) \(?\d+\)? is greater than the derived"
        r"|longer than the model's context length"
        r"|exceeds? the (model's )?(maximum )?context length",
        "the context length and the model, or a request, do not fit together",
        "set --context-length in args= within what the model allows, or ask for shorter texts",
    ),
    _cause(
        r"Prefill out of memory|Decode out of memory|out of memory.*(?:prefill|decode)",
        "the key-value cache ran out of memory while requests ran",
        "lower --max-running-requests or --chunked-prefill-size, or raise --mem-fraction-static",
    ),
    _cause(
        r"leave no GPU memory for the KV cache|Not enough memory\. Please try to increase"
        r"|max_total_num_tokens.*(?:<=|is not positive|too small)",
        "after loading the weights no memory was left for the key-value cache",
        "raise --mem-fraction-static, spread the model over more devices with --tp, or take a "
        "smaller or quantised model; check that no other process holds the device's memory",
    ),
    _cause(
        r"(?:CUDA|HIP|NPU|XPU)(?: error:)? out of memory|OutOfMemoryError|hipErrorOutOfMemory"
        r"|DefaultCPUAllocator: can't allocate memory|std::bad_alloc",
        "the device ran out of memory",
        "take a smaller or quantised model or more devices (--tp); check that no other process "
        "holds the device's memory; if it happened while capturing graphs, lower "
        "--mem-fraction-static or --cuda-graph-max-bs",
    ),
    _cause(
        r"requires SM\s*>=?\s*\d+|no kernel image is available|invalid device function"
        r"|not supported on (this|your) GPU|Unsupported (gfx|arch)",
        "the kernels or the attention backend do not support this device",
        "choose another --attention-backend (triton runs on most), or a build of SGLang for it",
    ),
    _cause(
        r"no compiled sgl_kernel loads on this machine",
        "the model needs a compiled kernel that does not exist for this processor",
        "choose another model, or install SGLang's own build for CPUs",
    ),
    _cause(
        r"SGLANG_CPU_OMP_THREADS_BIND is not set, in this case"
        r"|NUMA index \d+ .*is out of range for \d+ (?:numa nodes|SGLANG_CPU_OMP_THREADS_BIND)",
        "on processors SGLang wants a NUMA node for each rank, or to be told each rank's cores",
        'name the cores of all ranks, as in env={"SGLANG_CPU_OMP_THREADS_BIND": "0-15|16-31"} for '
        "two, or lower --tp, --dp and --pp until there are no more ranks than NUMA nodes",
    ),
    _cause(
        r"Unknown attention backend|[Ii]nvalid attention backend"
        r"|attention backend .* not supported",
        "SGLang knows no such attention backend, or not for this model",
        "correct --attention-backend in args=, or leave the choice to SGLang",
    ),
    _cause(
        r"^\s*(?:ImportError|OSError): lib[\w.+-]+\.so[\w.]*",
        "a library of the device's driver is missing",
        "install the driver, or in a container pass the devices through",
    ),
    _cause(
        r"^\s*(?:ModuleNotFoundError: No module named|ImportError: cannot import name)",
        "a Python package that SGLang needs here is missing or of an unfitting version",
        "install it into the server's Python; the last import in the log names it",
    ),
    _cause(
        r"(?:NCCL|HCCL|RCCL).*(?:[Tt]imeout|[Tt]imed out|[Ww]atchdog)|Watchdog caught collective",
        "the devices waited for each other in vain",
        "check the links between the devices and nodes, and --dist-timeout",
    ),
    _cause(
        r"index out of range in self|device-side assert triggered",
        "a request held a token id that the model does not have, and the server does not check",
        "send only ids below the model's vocabulary size",
    ),
    _cause(
        r"[Ww]atchdog timeout",
        "the server hung: its scheduler did not answer its own watchdog",
        "look for what it was doing in the log; --watchdog-timeout sets the time",
    ),
    _cause(
        r"Received sigquit from a child process|SIGQUIT received|Scheduler hit an exception",
        "one of the server's own processes crashed",
        "the first traceback in the log says where",
    ),
)
