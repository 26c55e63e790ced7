"""A server to be launched by tests: ``toy_server.py PORT [trick ...]``. Standard library only."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

SLEEPER = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-S",
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = 200 if self.path in ("/health", "/facts") else 404
        body = b"ok"
        if self.path == "/facts":
            cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
            body = repr((dict(os.environ), cores)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def daemon() -> None:
    """A grandchild in a session of its own whose parent is gone."""
    if os.fork() == 0:
        os.setsid()
        subprocess.Popen(STUBBORN)
        os._exit(0)
    os.wait()


def hide_environment() -> None:
    """A child that runs in our session without the marks of our environment."""
    subprocess.Popen(SLEEPER, env={"PATH": os.environ["PATH"]})


def progress() -> None:
    for shard in (1, 2):
        print(f"Loading shards: {shard}/2", flush=True)
        time.sleep(0.3)


def crash() -> None:
    print("RuntimeError: no kernel image is available for execution on the device", flush=True)
    sys.exit(3)


def never_ready() -> None:
    print("still warming up", flush=True)
    time.sleep(600)


TRICKS: dict[str, Callable[[], object]] = {
    "stubborn": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN),
    "child": lambda: subprocess.Popen(SLEEPER),
    "stubborn-child": lambda: subprocess.Popen(STUBBORN),
    "daemon": daemon,
    "hidden-child": hide_environment,
    "progress": progress,
    "crash": crash,
    "never-ready": never_ready,
    "slow": lambda: time.sleep(0.5),
}


def main() -> None:
    for trick in sys.argv[2:]:
        TRICKS[trick]()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.serve_forever()


if __name__ == "__main__":
    main()
