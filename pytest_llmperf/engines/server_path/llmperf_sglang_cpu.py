"""A plugin of SGLang that lets models with MLA run on its ``torch_native`` attention, and its
actors run on nodes of a Ray cluster that have no accelerator.

It lies on the server's own path, so that it works in any environment that has SGLang.
"""

import os


def register() -> None:
    """Called by SGLang in each of its processes. Does nothing unless our launcher asked for it."""
    if os.environ.get("PYTEST_LLMPERF_SGLANG_CPU") != "1":
        return
    from sglang.srt.models.deepseek_common import attention_backend_handler as handlers

    handlers.AttentionBackendRegistry.register("torch_native", handlers._dispatch_mla_subtype)
    _without_cuda()


def _without_cuda() -> None:
    """SGLang 0.5.23 chooses a CUDA device in every actor, whichever device it was told to use."""
    import torch

    if not torch.cuda.is_available():
        torch.cuda.set_device = lambda _: None
