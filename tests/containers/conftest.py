"""A docker of our own, so that containers can be tried where there are none."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import scipy.stats  # noqa: F401 - see tests/plugin/conftest.py

from processes import until
from pytest_llmperf.launch import container_tool, inside

SCRIPT = Path(__file__).with_name("fake_docker.py")


@pytest.fixture(autouse=True)
def _any_machine(busy_machine: None) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FakeDocker:
    """The daemon's directory, and the process that it is."""

    directory: Path
    process: subprocess.Popen[bytes]

    def offer(self, **images: Mapping[str, object]) -> None:
        """Images by name: "id", and if need be "env" and words to "append" to every command."""
        (self.directory / "images.json").write_text(json.dumps(images))

    def calls(self, *words: str) -> list[list[str]]:
        """The command lines of all clients that begin with ``words``."""
        path = self.directory / "calls.jsonl"
        every = [json.loads(line) for line in path.read_text().splitlines()]
        return [call["argv"] for call in every if tuple(call["argv"][: len(words)]) == words]

    def containers(self) -> list[str]:
        """The names of the containers that run now, of all that were ever started."""
        names = [call[call.index("--name") + 1] for call in self.calls("run")]
        return [name for name in names if self.ask("container", "inspect", "--format", "", name)]

    def ask(self, *words: str) -> str:
        command = [sys.executable, "-S", str(SCRIPT), "client", str(self.directory), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def program(self, name: str, text: str) -> None:
        """A shell script that is found as ``name``, beside docker."""
        path = self.directory / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    @staticmethod
    def image(id_: str, **more: Any) -> dict[str, Any]:
        """An image whose id is as long as docker's."""
        return {"id": f"sha256:{id_ * (64 // len(id_))}", **more}

    def stop(self) -> None:
        self.process.communicate()
        (self.directory / "docker.sock").unlink(missing_ok=True)


@pytest.fixture
def docker(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FakeDocker]:
    """Is found as ``docker``, and no podman with it."""
    directory = tmp_path_factory.mktemp("docker")
    monkeypatch.setenv("PATH", f"{directory / 'bin'}:/usr/bin:/bin")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    container_tool._images.clear()
    inside._answers.clear()
    command = [sys.executable, "-S", str(SCRIPT), "daemon", str(directory)]
    fake = FakeDocker(directory=directory, process=subprocess.Popen(command, stdin=subprocess.PIPE))
    fake.program("docker", f'exec {sys.executable} -S {SCRIPT} client {directory} "$@"')
    fake.offer()
    assert until((directory / "docker.sock").exists)
    yield fake
    fake.stop()
