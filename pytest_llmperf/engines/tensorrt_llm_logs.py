"""What TensorRT-LLM's log tells: how far a start has come, and why one failed.

Read off the sources of 1.3.0rc3 (``_torch/pyexecutor/``, ``_torch/models/checkpoints/hf/
weight_loader.py``, ``llmapi/llm.py``, ``executor/proxy.py``, ``commands/serve.py``); never seen
running. Causes stand from the most to the least specific; the first that matches is told.
"""

from __future__ import annotations

from pytest_llmperf.records import FailureCause, LogProgress

from .hub_logs import DOWNLOADING, HUB, PORT, cause

PROGRESS: tuple[LogProgress, ...] = (
    DOWNLOADING,
    LogProgress(pattern=r"start MpiSession with (\d+) workers", text=r"starting \1 workers"),
    LogProgress(
        pattern=r"Prefetching ([\d.]+)GB checkpoint files", text=r"reading weights (\1 GB)"
    ),
    LogProgress(
        pattern=r"Loading (?:safetensors|bin) weights in parallel:\s+\d+%.*?(\d+/\d+)",
        text=r"loading weights (\1 files)",
    ),
    LogProgress(pattern=r"Use [\d.]+ GB for model weights", text="weights are loaded"),
    LogProgress(pattern=r"Running autotuner warmup", text="tuning kernels"),
    LogProgress(
        pattern=r"CUDA graph warmup for batch size=(\d+)", text=r"capturing graphs (batch of \1)"
    ),
    LogProgress(
        pattern=r"Estimated max memory in KV cache : ([\d.]+ GiB)", text=r"key-value cache of \1"
    ),
    LogProgress(pattern=r"Application startup complete", text="the server says it is ready"),
)

CAUSES: tuple[FailureCause, ...] = (
    cause(
        r"No module named '?tensorrt_llm",
        "TensorRT-LLM is not installed in the Python that was to run it",
        "pip install tensorrt-llm there, or name another Python with python=, or NVIDIA's image "
        "with image=",
    ),
    cause(
        r"(?:^|\s)Error: (?:No such option|Invalid value|Got unexpected extra argument|Missing)"
        r"|No such command",
        "TensorRT-LLM does not accept its command line",
        "correct args= of llm_server (its options are written with underscores); the line in the "
        "log names the argument, and the installed version lists its own with: "
        "trtllm-serve serve --help",
    ),
    cause(
        r"validation errors? for (?:\w*LlmArgs|\w*Config)|Extra inputs are not permitted",
        "TensorRT-LLM does not accept a field of its options' file",
        "correct the file given with --extra_llm_api_options; the lines after it in the log name "
        "the field",
    ),
    PORT,
    *HUB,
    cause(
        r"No GPU devices found on the node",
        "TensorRT-LLM sees no NVIDIA device",
        "install the driver, or in a container pass the devices through",
    ),
    cause(
        r"Only \d+ GPUs are available, but \d+ are required",
        "fewer devices are visible than the model is to be spread over",
        "lower --tp_size or --pp_size in args=, or make more devices visible",
    ),
    cause(
        r"No weight files found in|Error while deserializing header",
        "the model's directory holds no usable weights",
        "complete the download; a directory needs *.safetensors beside its config.json",
    ),
    cause(
        r"Unknown architecture for AutoModelForCausalLM|Unrecognized model in"
        r"|does not appear to have a file named config\.json",
        "the model's directory does not describe a model that TensorRT-LLM knows",
        "check model=, and whether this version of TensorRT-LLM supports the architecture",
    ),
    cause(
        r"insufficient GPU memory|(?:CUDA|cuda)(?: error:)? out of memory|OutOfMemoryError"
        r"|[Nn]ot enough memory for KV cache",
        "the device ran out of memory",
        "take a smaller or quantised model or more devices (--tp_size); lower --max_batch_size, "
        "--max_num_tokens, --max_seq_len or --kv_cache_free_gpu_memory_fraction; check that no "
        "other process holds the device's memory",
    ),
    cause(
        r"no kernel image is available|invalid device function|[Uu]nsupported SM|requires SM",
        "the kernels do not support this device",
        "take a version of TensorRT-LLM that does, or another moe_config.backend or "
        "attn_backend in the options' file",
    ),
    cause(
        r"mpirun: (?:command )?not found|execute 'mpirun'",
        "mpirun is not here, and on a node of Slurm TensorRT-LLM is started under it",
        "install Open MPI, or leave the allocation (unset SLURM_JOB_ID)",
    ),
    cause(
        r"not enough slots available|PMIX ERROR|ORTE was unable|MPI_Init\w* fail"
        r"|MPI_ABORT was invoked|only rank 0 can start multi-node session",
        "MPI could not start the workers",
        "the lines around it in the log say why; TensorRT-LLM's page on trouble with MPI: "
        "llm-api, Tips and Troubleshooting",
    ),
    cause(
        r"NCCL error|NCCL.*(?:[Tt]imeout|[Tt]imed out|[Ww]atchdog)",
        "the devices could not talk to each other",
        "check the links between the devices; NCCL_DEBUG=INFO in env= tells more",
    ),
    cause(
        r"^\s*(?:ImportError|OSError): lib[\w.+-]+\.so[\w.]*",
        "a library that TensorRT-LLM needs is missing",
        "install the driver, TensorRT and Open MPI, or take NVIDIA's image with image=",
    ),
    cause(
        r"^\s*(?:ModuleNotFoundError: No module named|ImportError: cannot import name)",
        "a Python package that TensorRT-LLM needs is missing or of an unfitting version",
        "install it into the server's Python; the last import in the log names it",
    ),
    cause(
        r"Executor worker died during initialization|Executor worker (?:returned|initialization)"
        r" error",
        "one of the server's own workers crashed",
        "the first traceback in the log says where",
    ),
)
