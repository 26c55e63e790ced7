"""The fake server as a process: ``python -m pytest_llmperf.testing``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import fields

from pytest_llmperf import clock

from .script import Script
from .server import listen
from .state import State
from .tls import TlsFiles


async def _serve(script: Script, host: str, port: int, tls: TlsFiles | None) -> None:
    server = await listen(State(script), host, port, tls)
    print(f"sim: ready on {'https' if tls else 'http'}://{host}:{port}", flush=True)
    await server.serve_forever()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pytest_llmperf.testing")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=30000)
    parser.add_argument("--tls-cert", help="serve https with this certificate (PEM)")
    parser.add_argument("--tls-key", help="the certificate's private key (PEM)")
    kinds: dict[str, type] = {"int": int, "float": float, "str": str}
    for option in fields(Script):
        flag = "--" + option.name.replace("_", "-")
        if option.type == "bool":
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=option.default)
        else:
            kind = kinds.get(str(option.type).removesuffix(" | None"), str)
            parser.add_argument(flag, type=kind, default=option.default)
    parser.add_argument("--no-usage", dest="usage", action="store_const", const="none")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end (SIGTERM, SIGINT)."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    cert, key = options.pop("tls_cert"), options.pop("tls_key")
    if (cert is None) != (key is None):
        parser.error("--tls-cert and --tls-key: give both or neither")
    try:
        script = Script(**options)
    except ValueError as error:
        parser.error(f"--{error}")
    clock.sleep(script.start_delay_s)
    if script.fail_start is not None:
        print(script.fail_start, file=sys.stderr, flush=True)
        return script.die_status
    try:
        asyncio.run(_serve(script, host, port, TlsFiles(cert, key) if cert else None))
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
