"""What it costs to decode responses after they were received, in CPU ms for 1,000 tokens.

Responses are made up: a chunk for each token, each read by itself, in the form of SGLang 0.5. Chat
and text completions carry continuous usage. SGLang's own API is measured in both of its forms:
"generate" adds to what came before, "generate-repeating" says everything again in every event, so
that its cost grows with the length of a response.

Three ways are compared, each in a process of its own: "ours"; "json", which does no more than
json.loads on every event; and, with --against, the decoder of another commit of this repository.
Prints JSON: the least and the median of the repeats.

    python -m benchmarks.decode_cost --against HEAD~1
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
APIS = {
    "chat": "chat",
    "completions": "completions",
    "generate": "generate",
    "generate-repeating": "generate",
}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
INPUT_TOKENS = 1024
Reads = list[bytes]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="REVISION", help="another commit to compare with")
    parser.add_argument("--tokens", type=int, default=1000, help="of each response")
    parser.add_argument("--responses", type=int, default=32, help="decoded in each repeat")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--way", choices=["ours", "json", "against"], help=argparse.SUPPRESS)
    parser.add_argument("--api", choices=APIS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.way:
        json.dump(measured(chosen), sys.stdout)
        return
    with checkout(chosen.against) as other:
        rows = [
            {"api": api, "way": way, **in_a_process(chosen, way, api, place)}
            for api in APIS
            for way, place in (("ours", ROOT), ("json", ROOT), ("against", other))
            if place is not None
        ]
    print(json.dumps({"python": sys.version.split()[0], "rows": rows}, indent=2))


@contextmanager
def checkout(revision: str | None) -> Iterator[Path | None]:
    """The package as it was at a revision, in a directory of its own."""
    if revision is None:
        yield None
        return
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision, "pytest_llmperf"],  # noqa: S607
        check=True,
        stdout=subprocess.PIPE,
    ).stdout
    with tempfile.TemporaryDirectory() as directory:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            tar.extractall(directory, filter="data")
        yield Path(directory)


def in_a_process(chosen: argparse.Namespace, way: str, api: str, place: Path) -> dict[str, Any]:
    sizes = {name: str(getattr(chosen, name)) for name in ("tokens", "responses", "repeats")}
    command = [sys.executable, __file__, "--way", way, "--api", api]
    for name, value in sizes.items():
        command += [f"--{name}", value]
    environment = {**os.environ, "PYTHONPATH": str(place)}
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, env=environment)
    if done.returncode:
        return {"cannot": f"status {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(chosen: argparse.Namespace) -> dict[str, float]:
    reads = response(chosen.api, chosen.tokens)
    read = by_json if chosen.way == "json" else decoder(APIS[chosen.api], chosen.tokens)
    spent = []
    for _ in range(chosen.repeats):
        waiting = [list(reads) for _ in range(chosen.responses)]
        began = time.process_time()
        while waiting:
            read(waiting.pop())
        spent.append((time.process_time() - began) * 1e3)
    thousands = chosen.tokens * chosen.responses / 1000
    return {
        "bytes_per_token": round(sum(map(len, reads)) / chosen.tokens, 1),
        "least_ms": round(min(spent) / thousands, 3),
        "median_ms": round(statistics.median(spent) / thousands, 3),
    }


def by_json(reads: Reads) -> None:
    for data in reads:
        begin = data.find(b"data: ")
        if begin >= 0 and not data.startswith(b"data: [DONE]", begin):
            json.loads(data[begin + 6 : -4])


def decoder(api: str, tokens: int) -> Callable[[Reads], None]:
    """The package's decoder, by whichever of its interfaces it has."""
    wire = importlib.import_module("pytest_llmperf.load.send.wire")
    decode = importlib.import_module("pytest_llmperf.load.read.decode").decode
    if "turn" in inspect.signature(decode).parameters:
        planned = importlib.import_module("pytest_llmperf.load.planned")
        asked = planned.Asked(output_tokens=tokens, api=api)
        judged = of = planned.Turn(index=0, payload=b"", asked=asked)
    else:
        reading = importlib.import_module("pytest_llmperf.load.read.reading")
        judged, of = reading.Asked(output_tokens=tokens, api=api), 0

    def read(reads: Reads) -> None:
        exchange = wire.Exchange(of)
        exchange.outcome = "complete"
        exchange.reads.extend(reads)
        exchange.stamps.extend(range(len(reads)))
        found = decode(exchange, judged)
        row = found[0] if isinstance(found, tuple) else found
        if row.failure is not None:
            raise RuntimeError(f"{row.failure}: {row.detail}")

    return read


def response(api: str, tokens: int) -> Reads:
    """What a client reads of one response."""
    events = [event(api, count, tokens) for count in range(1, tokens + 1)]
    datas = [json.dumps(each, separators=(",", ":")).encode() for each in events]
    framed = [b"data: %b\n\n" % data for data in [*datas, b"[DONE]"]]
    return [HEAD, *(b"%x\r\n%b\r\n" % (len(each), each) for each in framed), b"0\r\n\r\n"]


def event(api: str, count: int, tokens: int) -> dict[str, Any]:
    last = count == tokens
    if APIS[api] == "generate":
        return native_event(count, repeats=api == "generate-repeating", last=last)
    said: dict[str, Any] = {"index": 0, "text": " word"}
    if api == "chat":
        said = {"index": 0, "delta": {"reasoning_content": " word"}}
    return {
        "id": "ad4941e57efb43e8a26a5c3a5abfe592",
        "object": "chat.completion.chunk" if api == "chat" else "text_completion",
        "created": 1795331209,
        "model": "tiny-r1-distill-qwen",
        "choices": [
            {
                **said,
                "logprobs": None,
                "finish_reason": "length" if last else None,
                "matched_stop": None,
            }
        ],
        "usage": {
            "prompt_tokens": INPUT_TOKENS,
            "total_tokens": INPUT_TOKENS + count,
            "completion_tokens": count,
        },
    }


def native_event(count: int, *, repeats: bool, last: bool) -> dict[str, Any]:
    shown = count if repeats else 1
    return {
        "text": " word" * shown,
        "output_ids": [336] * shown,
        "meta_info": {
            "id": "f0ee56116c6c40eea3052beb93aa5be7",
            "finish_reason": {"type": "length", "length": count} if last else None,
            "prompt_tokens": INPUT_TOKENS,
            "weight_version": "default",
            "num_retractions": 0,
            "completion_tokens": count,
            "cached_tokens": 0,
        },
    }


if __name__ == "__main__":
    main()
