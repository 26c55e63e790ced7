"""Stands in for docker: a client that answers to its command line, and a daemon that runs things.

``fake_docker.py daemon DIR`` serves a socket in DIR until its standard input ends; ``fake_docker.py
client DIR ...`` is the command. An "image" is an entry of DIR/images.json: an id, an environment
words to put at the end of every command, and an
entrypoint that goes before it. A "container" is a process of the daemon, as docker's
are: killing a client ends none of them. All calls of clients are kept in DIR/calls.jsonl.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

SOCKET = "docker.sock"
IMAGES = "images.json"
CALLS = "calls.jsonl"
#: Options of ``run`` that take no value.
BARE = frozenset({"--rm", "--init"})
Answer = tuple[int, str, str]


# --- the daemon ------------------------------------------------------------------------------


class Daemon:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._containers: dict[str, subprocess.Popen[bytes]] = {}
        self._env: dict[str, dict[str, str]] = {}
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def serve(self) -> None:
        # Relative: the path of a socket has little room.
        os.chdir(self._directory)
        self._listener.bind(SOCKET)
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()
        sys.stdin.read()
        for name in list(self._containers):
            self._remove(name)

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            data, fds, _, _ = socket.recv_fds(connection, 1 << 20, 1)
            asked = json.loads(data)
            do = {"run": self._run, "remove": self._rm, "signal": self._signal, "ask": self._ask}
            answer = do[asked["do"]](asked, fds[0] if fds else -1)
            connection.sendall(json.dumps(answer).encode())

    def _image(self, name: str) -> dict[str, Any] | None:
        images = json.loads(Path(IMAGES).read_text())
        found = images.get(name)
        by_id = (image for image in images.values() if image["id"] == name)
        return found or next(by_id, None)

    def _run(self, asked: dict[str, Any], output: int) -> Answer:
        image = self._image(asked["image"])
        if image is None:
            return 125, "", f"docker: Error response from daemon: No such image: {asked['image']}\n"
        first = asked["entrypoint"] or image.get("entrypoint", [])
        words = [*first, *asked["argv"]]
        argv = [sys.executable if word == "python3" else word for word in words]
        place = {"PATH": os.environ["PATH"], "HOME": "/root"}
        env = self._env[asked["name"]] = {**place, **image.get("env", {}), **asked["env"]}
        try:
            with self._lock:
                process = self._containers[asked["name"]] = subprocess.Popen(
                    [*argv, *image.get("append", [])],
                    cwd="/",
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
        except OSError:
            said = f'exec: "{argv[0]}": executable file not found in $PATH'
            return 127, "", f"docker: Error response from daemon: {said}\n"
        finally:
            os.close(output)
        status = process.wait()
        self._containers.pop(asked["name"], None)
        return 128 - status if status < 0 else status, "", ""

    def _rm(self, asked: dict[str, Any], _: int) -> Answer:
        name = asked["name"]
        with self._lock:
            known = name in self._containers
        if not known:
            return 0, "", f"Error response from daemon: No such container: {name}\n"
        self._remove(name)
        return 0, f"{name}\n", ""

    def _remove(self, name: str) -> None:
        process = self._containers.get(name)
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _signal(self, asked: dict[str, Any], _: int) -> Answer:
        if process := self._containers.get(asked["name"]):
            process.send_signal(asked["signal"])
        return 0, "", ""

    def _ask(self, asked: dict[str, Any], _: int) -> Answer:
        if "image" in asked:
            image = self._image(asked["image"])
            if image is None:
                return 1, "[]\n", f"Error response from daemon: No such image: {asked['image']}\n"
            env = [f"{name}={value}" for name, value in image.get("env", {}).items()]
            return 0, _inspected(image, env), ""
        process = self._containers.get(asked["name"])
        if process is None:
            return 1, "", f"Error response from daemon: No such container: {asked['name']}\n"
        return 0, json.dumps({"pid": process.pid, "env": self._env[asked["name"]]}), ""


def _inspected(image: dict[str, Any], env: list[str]) -> str:
    config = {"Env": env, "Entrypoint": image.get("entrypoint")}
    return json.dumps([{"Id": image["id"], "Config": config}])


# --- the client ------------------------------------------------------------------------------


class Client:
    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def command(self, words: list[str]) -> Answer:
        with (self._directory / CALLS).open("a") as calls:
            calls.write(json.dumps({"argv": words, "token": os.environ.get("HF_TOKEN")}) + "\n")
        match words:
            case ["run", *rest]:
                return self._run(rest)
            case ["image", "inspect", name]:
                return self._ask(do="ask", image=name)
            case ["container", "inspect", "--format", _, name]:
                status, out, said = self._ask(do="ask", name=name)
                return status, f"{json.loads(out)['pid']} no-id\n" if out else "", said
            case ["exec", name, *argv]:
                return self._exec(name, argv)
            case ["rm", *_, name]:
                return self._ask(do="remove", name=name)
            case ["kill", name]:
                return self._ask(do="signal", name=name, signal=signal.SIGKILL)
            case _:
                return 1, "", f"docker: {words[0]!r} is not a docker command.\n"

    def _ask(self, output: int | None = None, **asked: object) -> Answer:
        os.chdir(self._directory)
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(SOCKET)
        except OSError:
            said = f"Cannot connect to the Docker daemon at unix://{SOCKET}. Is it running?\n"
            return 1, "", said
        with connection:
            socket.send_fds(connection, [json.dumps(asked).encode()], [output] if output else [])
            data = b""
            while more := connection.recv(1 << 20):
                data += more
        status, out, said = json.loads(data)
        return status, out, said

    def _run(self, words: list[str]) -> Answer:
        options: dict[str, list[str]] = {}
        at = 0
        while words[at].startswith("-"):
            bare = words[at] in BARE
            options.setdefault(words[at], []).append("" if bare else words[at + 1])
            at += 1 if bare else 2
        (name,) = options["--name"]
        env = {}
        for told in options.get("--env", []):
            key, assigned, value = told.partition("=")
            if assigned or key in os.environ:
                env[key] = value if assigned else os.environ[key]

        def pass_on(number: int, _: object) -> None:
            self._ask(do="signal", name=name, signal=number)

        signal.signal(signal.SIGTERM, pass_on)
        return self._ask(
            1,
            do="run",
            name=name,
            image=words[at],
            argv=words[at + 1 :],
            env=env,
            entrypoint=options.get("--entrypoint", []),
        )

    def _exec(self, name: str, argv: list[str]) -> Answer:
        status, out, said = self._ask(do="ask", name=name)
        if status != 0:
            return status, "", said
        words = [sys.executable if word == "python3" else word for word in argv]
        env = json.loads(out)["env"]
        done = subprocess.run(words, cwd="/", env=env, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


def main() -> int:
    what, directory, *words = sys.argv[1:]
    if what == "daemon":
        Daemon(Path(directory)).serve()
        return 0
    status, out, said = Client(Path(directory)).command(words)
    sys.stdout.write(out)
    sys.stderr.write(said)
    return status


if __name__ == "__main__":
    sys.exit(main())
