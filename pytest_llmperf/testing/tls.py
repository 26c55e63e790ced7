"""Certificates for servers that only tests talk to."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.errors import UsageMistake

_REQUEST = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = localhost
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
"""
_KEY_KIND = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate and its private key, each a file in PEM."""

    cert: Path | str
    key: Path | str

    def context(self) -> ssl.SSLContext:
        """What a server listens with. Raises :class:`OSError` for files that will not do."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        return context


def self_signed(directory: Path) -> TlsFiles:
    """A new certificate for ``localhost`` and ``127.0.0.1``, valid for two days.

    Made in ``directory`` by the ``openssl`` command; raises :class:`UsageMistake` where there is
    none. A client trusts it when told to: by ``SSL_CERT_FILE`` in its environment, or
    ``ssl.create_default_context(cafile=files.cert)``.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise UsageMistake(
            "No certificate could be made: the openssl command is not installed. Install it, or "
            "give TlsFiles a certificate of your own."
        )
    files = TlsFiles(directory / "cert.pem", directory / "key.pem")
    request = directory / "request.cnf"
    request.write_text(_REQUEST)
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-config", str(request), "-days", "2", *_KEY_KIND),
            *("-out", str(files.cert), "-keyout", str(files.key)),
        ],
        check=True,
        capture_output=True,
    )
    return files
