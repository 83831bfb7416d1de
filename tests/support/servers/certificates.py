"""Certificates for tests of TLS: an authority, and what it signs, as PEM files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True)
class Certificate:
    """PEM files: the certificate, its key, and both in one, the key first."""

    cert: Path
    key: Path
    both: Path


class Authority:
    """Signs certificates; `ca` is its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._authority = trustme.CA()
        self.ca = directory / "ca.pem"
        self._authority.cert_pem.write_to_path(str(self.ca))

    def signs(self, *names: str) -> Certificate:
        """A certificate for these host names and addresses, for servers and clients."""
        issued = self._authority.issue_cert(*names)
        stem = "-".join(names).replace("@", "-at-")
        cert, key, both = (self._directory / f"{stem}.{end}.pem" for end in ("cert", "key", "both"))
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        # PKCS #8, the one form that Kafka reads.
        secret = load_pem_private_key(issued.private_key_pem.bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )
        cert.write_bytes(chain)
        key.write_bytes(secret)
        both.write_bytes(secret + chain)
        return Certificate(cert, key, both)
