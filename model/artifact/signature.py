"""Detached Ed25519 signatures: who vouches for a model.

`signature.json` signs the bytes of `manifest.json` as they are, for which registry and when. The
manifest carries the SHA-256 of the model's file, so both are vouched for. Who may sign stands in a
file of public keys, one a line: 32 bytes in base64 and, after a space, whose it is.

The package `cryptography` is needed to sign and to check, and for nothing else.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from model.artifact.files import (
    MANIFEST_FILE,
    SIGNATURE_FILE,
    ArtifactRefused,
    read_bytes,
    replace_durably,
)
from model.errors import ModelError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SCHEMA: Final = "clv-signature/2"
_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_MAX_SIGNATURE_FILE: Final = 4_096
_MAX_KEYS_FILE: Final = 1_000_000
_INSTALL: Final = "install it: pip install 'clv-streamer[sign]'"

_T = TypeVar("_T")


class SigningError(ModelError):
    """Nothing was signed and no key was made; the message says why, and what to do."""


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """The file: a public key and its signature, in base64, over the manifest's bytes, the name of
    the registry that the model is for (empty: any) and when it was signed (RFC 3339)."""

    schema: str = SCHEMA
    key: str
    registry: str = ""
    signed_at: str
    signature: str = ""

    def statement(self, manifest: bytes) -> bytes:
        """What is signed."""
        told = (self.schema, self.key, self.registry, self.signed_at)
        return msgspec.json.encode((*told, hashlib.sha256(manifest).hexdigest()))


@dataclass(frozen=True, slots=True)
class Trust:
    """Who may have signed a model: public keys of 32 bytes, and whether somebody must have.

    Without keys nothing is checked. With keys, a signature that is there has to be of one of them,
    and for `registry` where that is named. `pickles` opens pickles that nobody signed: they can run
    any code.
    """

    keys: frozenset[bytes] = frozenset()
    required: bool = False
    pickles: bool = False
    registry: str = ""

    @classmethod
    def of(
        cls,
        keys_file: Path | None,
        required: bool | None = None,
        *,
        pickles: bool = False,
        registry: str = "",
    ) -> Trust:
        """Trust from a file of public keys; `required` None: as soon as there are keys.

        A model without its signature would otherwise pass for one that never had any. Raises
        SigningError.
        """
        if keys_file is None:
            if required:
                raise SigningError(
                    "a signature is required, and no keys are named that it could be checked"
                    " with: name a file of public keys (CLV_MODEL_KEYS, --keys)"
                )
            return cls(pickles=pickles, registry=registry)
        return cls(read_keys(keys_file), required is None or required, pickles, registry)


ANYBODY: Final = Trust()


def read_keys(path: Path) -> frozenset[bytes]:
    """The public keys in a file; empty lines and lines that begin with # are left out.

    Raises SigningError, with the line.
    """
    try:
        lines = (
            read_bytes(path.resolve().parent, path.resolve().name, _MAX_KEYS_FILE)
            .decode("utf-8")
            .splitlines()
        )
    except (ArtifactRefused, UnicodeDecodeError):
        raise SigningError(f"{path} is not a readable file of public keys") from None
    keys = set()
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.lstrip().startswith("#"):
            key = _decoded(line.split()[0], _KEY_BYTES)
            if key is None:
                raise SigningError(
                    f"{path}:{number} is not a public key: 32 bytes in base64, as `python -m model"
                    " registry keygen` writes them"
                )
            keys.add(key)
    if not keys:
        raise SigningError(
            f"{path} has no public key; python -m model registry keygen makes a pair"
        )
    return frozenset(keys)


def generate(private_file: Path, owner: str = "") -> str:
    """The line for a file of public keys, of a new pair whose private key was written to a file.

    Only its owner can read the file; one that is there already is not touched (SigningError).
    """
    ed25519, serialization = _ed25519(SigningError), _serialization(SigningError)
    key = ed25519.Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        handle = os.open(private_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise SigningError(f"{private_file} is there; name a new file") from None
    with os.fdopen(handle, "wb") as file:
        file.write(pem)
    comment = " ".join(owner.split())
    return f"{_public(key)} {comment}".rstrip()


def sign(directory: Path, private_file: Path, manifest: bytes, registry: str = "") -> str:
    """The public key by which a manifest was signed, whose bytes are those that were checked: what
    is in the directory may be another by now. Raises SigningError."""
    key = _private(private_file)
    at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    signature = Signature(key=_public(key), registry=registry, signed_at=at)
    signature = msgspec.structs.replace(
        signature, signature=_encoded(key.sign(signature.statement(manifest)))
    )
    text = msgspec.json.format(msgspec.json.encode(signature), indent=2)
    replace_durably(directory / SIGNATURE_FILE, text + b"\n")
    return signature.key


def told(signature: bytes | None) -> Signature | None:
    """What a signature's file says, unchecked; None where there is none or it is unreadable."""
    try:
        return None if signature is None else msgspec.json.decode(signature, type=Signature)
    except (ValueError, RecursionError):
        return None


def read(directory: Path) -> bytes | None:
    """The bytes of an artifact's signature; None where it has none. Raises ArtifactRefused."""
    if not os.path.lexists(directory / SIGNATURE_FILE):
        return None
    return read_bytes(directory, SIGNATURE_FILE, _MAX_SIGNATURE_FILE)


def verify(directory: Path, manifest: bytes, signature: bytes | None, trust: Trust) -> bool:
    """Whether a trusted key vouches for the manifest's bytes. Raises ArtifactRefused where that is
    not as `trust` asks."""
    if not trust.keys:
        return False
    if signature is None:
        if trust.required:
            raise ArtifactRefused(
                directory, SIGNATURE_FILE, "not there", "the signature of a key that is trusted",
                "sign it (python -m model registry sign) or do not use it",
            )  # fmt: skip
        return False
    try:
        said = msgspec.json.decode(signature, type=Signature)
    except (ValueError, RecursionError) as error:
        raise _refused(directory, f"unreadable ({error})", f"a signature of {SCHEMA}") from None
    key = _decoded(said.key, _KEY_BYTES)
    value = _decoded(said.signature, _SIGNATURE_BYTES)
    if said.schema != SCHEMA or key is None or value is None:
        raise _refused(directory, f"malformed ({said.schema})", f"a signature of {SCHEMA}")
    if key not in trust.keys:
        raise _refused(directory, f"by {said.key}", "by a key that is trusted")
    ed25519 = _ed25519(lambda why: _refused(directory, f"not checked ({why})", "checked"))
    from cryptography.exceptions import InvalidSignature

    try:
        ed25519.Ed25519PublicKey.from_public_bytes(key).verify(value, said.statement(manifest))
    except (InvalidSignature, ValueError):
        raise _refused(directory, f"not one of this {MANIFEST_FILE}", "one that fits") from None
    if trust.registry and said.registry != trust.registry:
        found = f"for the registry {said.registry or 'of anybody'}, of {said.signed_at}"
        raise _refused(directory, found, f"for the registry {trust.registry}")
    return True


def _refused(directory: Path, found: str, expected: str) -> ArtifactRefused:
    return ArtifactRefused(
        directory, SIGNATURE_FILE, found, expected,
        "do not use it before you know who made it and who has changed it",
    )  # fmt: skip


def _private(path: Path) -> Ed25519PrivateKey:
    ed25519, serialization = _ed25519(SigningError), _serialization(SigningError)
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise SigningError(
            f"private key {path} cannot be read: {error.strerror}; make one with `python -m model"
            " registry keygen`"
        ) from None
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise SigningError(
            f"{path} is no Ed25519 private key in PEM, without a password, as `python -m model"
            " registry keygen` writes it"
        )
    return key  # type: ignore[no-any-return]  # the check above is of a class behind Any


def _public(key: Ed25519PrivateKey) -> str:
    return _encoded(key.public_key().public_bytes_raw())


def _ed25519(refusal: Callable[[str], Exception]) -> Any:
    try:
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise refusal(f"the package cryptography is not there; {_INSTALL}") from None
    return ed25519


def _serialization(refusal: Callable[[str], Exception]) -> Any:
    _ed25519(refusal)
    from cryptography.hazmat.primitives import serialization

    return serialization


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _decoded(text: str, length: int) -> bytes | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == length else None
