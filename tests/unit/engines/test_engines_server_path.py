"""What lies on the path of a CPU server, tried in a Python that starts with that path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from pytest_llmperf.engines.sglang_cpu import SERVER_PATH, SWITCH

REGISTRY = """
class AttentionBackendRegistry:
    handlers = {}
    @classmethod
    def register(cls, name, handler):
        cls.handlers[name] = handler

def _dispatch_mla_subtype(attn, batch):
    return "mla"
"""


def run(code: str, *paths: Path, **env: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(str(p) for p in (SERVER_PATH, *paths))
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": path, **env},
        capture_output=True,
        text=True,
        check=False,
    )


def package(directory: Path, text: str) -> Path:
    (directory / "sgl_kernel").mkdir(parents=True)
    (directory / "sgl_kernel" / "__init__.py").write_text(text)
    (directory / "sgl_kernel" / "part.py").write_text("WHERE = 'installed'\n")
    return directory


def test_an_installed_kernel_that_loads_is_used(tmp_path: Path) -> None:
    installed = package(tmp_path, "from sgl_kernel.part import WHERE\n")
    done = run("import sgl_kernel; print(sgl_kernel.WHERE, sgl_kernel.__file__)", installed)
    assert done.stdout.split() == ["installed", str(tmp_path / "sgl_kernel" / "__init__.py")]
    assert done.stderr == ""


def test_a_kernel_that_does_not_load_is_stood_in_for(tmp_path: Path) -> None:
    broken = package(
        tmp_path, "import sgl_kernel.part\nraise ImportError('libcuda.so.1: cannot open')\n"
    )
    code = (
        "from sgl_kernel import silu_and_mul as f; import sys;"
        "assert 'sgl_kernel.part' not in sys.modules\n"
        "try: f(1)\nexcept NotImplementedError as e: print(e)"
    )
    done = run(code, broken)
    assert "sgl_kernel.silu_and_mul was called" in done.stdout
    assert "does not load here (libcuda.so.1: cannot open)" in done.stderr
    assert done.stderr.count("\n") == 1


def test_none_installed_is_stood_in_for_and_told_once() -> None:
    code = (
        "import sgl_kernel, subprocess, sys;"
        "subprocess.run([sys.executable, '-S', '-c', 'import sgl_kernel; sgl_kernel.x'])"
    )
    done = run(code)
    assert done.returncode == 0
    assert done.stderr.count("none is installed") == 1


def test_a_bug_in_an_installed_kernel_is_not_hidden(tmp_path: Path) -> None:
    broken = package(tmp_path, "1 / 0\n")
    assert "ZeroDivisionError" in run("import sgl_kernel", broken).stderr


def sglang(directory: Path) -> Path:
    module = directory / "sglang" / "srt" / "models" / "deepseek_common"
    module.mkdir(parents=True)
    (module / "attention_backend_handler.py").write_text(REGISTRY)
    (directory / "torch.py").write_text("class cuda: is_available = staticmethod(lambda: False)\n")
    return directory


LOAD = (
    "from importlib.metadata import entry_points;"
    "[ep.load()() for ep in entry_points(group='sglang.srt.plugins')];"
)
SHOW = (
    "from sglang.srt.models.deepseek_common.attention_backend_handler import *;"
    "print(sorted(AttentionBackendRegistry.handlers))"
)


def test_sglang_finds_the_plugin_by_the_path_alone(tmp_path: Path) -> None:
    done = run(LOAD + SHOW, sglang(tmp_path), **{SWITCH: "1"})
    assert done.stdout.strip() == "['torch_native']", done.stderr


def test_the_plugin_does_nothing_unasked(tmp_path: Path) -> None:
    done = run(LOAD + SHOW, sglang(tmp_path))
    assert done.stdout.strip() == "[]", done.stderr
