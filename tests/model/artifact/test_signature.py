"""With keys named, only a model that one of them has signed is loaded, to the last bit."""

from __future__ import annotations

import builtins
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model.artifact import artifact, signature
from model.artifact.artifact import load, save
from model.artifact.files import ArtifactRefused
from model.artifact.signature import SigningError, Trust
from tests.support import modelling


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(tmp_path / "model", modelling.model(), modelling.fields())
    return tmp_path / "model"


def _pair(folder: Path, name: str) -> tuple[Path, Path]:
    """A private key's file, and a file of public keys that has its other half."""
    private, public = folder / f"{name}.pem", folder / f"{name}.keys"
    public.write_text(f"# who may sign\n\n{signature.generate(private, name)}\n")
    return private, public


def _sign(saved: Path, private: Path, registry: str = "") -> str:
    return signature.sign(saved, private, (saved / "manifest.json").read_bytes(), registry)


@pytest.fixture
def trust(saved: Path, tmp_path: Path) -> Trust:
    """Trust in the key by which the model was signed."""
    private, public = _pair(tmp_path, "alice")
    _sign(saved, private)
    return Trust.of(public)


def test_a_model_signed_by_a_trusted_key_is_loaded(saved: Path, trust: Trust) -> None:
    assert load(saved, trust).manifest == load(saved).manifest


def _flip(name: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        data = bytearray((path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (path / name).write_bytes(data)

    return change


def _space(path: Path) -> None:
    """A manifest that says the same."""
    with (path / "manifest.json").open("ab") as file:
        file.write(b" ")


def _strip(path: Path) -> None:
    (path / "signature.json").unlink()


def _edit(**changes: Any) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        said = msgspec.json.decode((path / "signature.json").read_bytes())
        (path / "signature.json").write_bytes(msgspec.json.encode(said | changes))

    return change


@pytest.mark.parametrize(
    ("tamper", "message"),
    [
        (_flip("model.json"), "SHA-256 of model.json"),
        (_flip("manifest.json"), "not one of this manifest.json"),
        (_space, "not one of this manifest.json"),
        (_strip, "signature.json is not there"),
        (_edit(signature="A" * 86 + "=="), "not one of this manifest.json"),
        (_edit(signature="short"), "malformed"),
        (_edit(key="x"), "malformed"),
        (_edit(schema="clv-signature/1"), "malformed"),
        (_edit(registry="another"), "not one of this manifest.json"),
        (_edit(signed_at="2100-01-01T00:00:00Z"), "not one of this manifest.json"),
        (lambda path: (path / "signature.json").write_text("{"), "unreadable"),
        (lambda path: (path / "signature.json").write_bytes(b"x" * 5000), "over 4096"),
    ],
)
def test_whatever_is_changed_is_refused(
    saved: Path, trust: Trust, tamper: Callable[[Path], None], message: str
) -> None:
    tamper(saved)
    with pytest.raises(ArtifactRefused, match=message):
        load(saved, trust)


def test_a_strangers_signature_is_refused_by_his_key(
    saved: Path, trust: Trust, tmp_path: Path
) -> None:
    key = _sign(saved, _pair(tmp_path, "mallory")[0])
    with pytest.raises(ArtifactRefused, match="expected by a key that is trusted") as refused:
        load(saved, trust)
    assert refused.value.found == f"by {key}"


def test_a_signature_is_for_one_registry_and_of_one_time(saved: Path, tmp_path: Path) -> None:
    private, public = _pair(tmp_path, "alice")
    _sign(saved, private, "shop")
    load(saved, Trust.of(public, registry="shop"))
    load(saved, Trust.of(public))
    with pytest.raises(ArtifactRefused, match=r"for the registry shop, of 20.*Z, expected for the"):
        load(saved, Trust.of(public, registry="outlet"))


def test_one_of_several_keys_is_enough(saved: Path, trust: Trust, tmp_path: Path) -> None:
    both = tmp_path / "both.keys"
    both.write_text(_pair(tmp_path, "bob")[1].read_text() + (tmp_path / "alice.keys").read_text())
    load(saved, Trust.of(both))


def test_a_signature_may_be_missing_only_where_that_is_said(saved: Path, tmp_path: Path) -> None:
    public = _pair(tmp_path, "alice")[1]
    load(saved, Trust.of(public, required=False))
    for required in (None, True):
        with pytest.raises(ArtifactRefused, match=r"signature\.json is not there"):
            load(saved, Trust.of(public, required=required))


def test_to_require_a_signature_without_keys_is_a_mistake() -> None:
    with pytest.raises(SigningError, match=r"name a file of public keys \(CLV_MODEL_KEYS, --keys"):
        Trust.of(None, required=True)
    assert Trust.of(None) == signature.ANYBODY


def test_saving_again_drops_the_signature_of_what_was_there(saved: Path, trust: Trust) -> None:
    save(saved, modelling.model(), modelling.fields())
    with pytest.raises(ArtifactRefused, match="not there"):
        load(saved, trust)


def test_a_private_key_is_for_its_owner_alone_and_never_overwritten(tmp_path: Path) -> None:
    private = _pair(tmp_path, "alice")[0]
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    with pytest.raises(SigningError, match="is there; name a new file"):
        signature.generate(private)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# nobody\n", "has no public key"),
        ("\nc2hvcnQ= bob\n", ":2 is not a public key"),
        ("ssh-ed25519 AAAA bob\n", ":1 is not a public key"),
    ],
)
def test_a_file_of_keys_that_is_none_is_named_with_its_line(
    tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(SigningError, match=message):
        signature.read_keys(tmp_path / "keys")


def test_what_is_no_private_key_is_named(saved: Path, tmp_path: Path) -> None:
    for content in (b"", b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n"):
        (tmp_path / "bad.pem").write_bytes(content)
        with pytest.raises(SigningError, match=r"bad\.pem is no Ed25519 private key"):
            _sign(saved, tmp_path / "bad.pem")
    with pytest.raises(SigningError, match="No such file"):
        _sign(saved, tmp_path / "missing.pem")


def test_without_cryptography_it_says_what_to_install(
    saved: Path, trust: Trust, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ArtifactRefused, match=r"not checked .*pip install 'clv-streamer\[sign\]'"):
        load(saved, trust)
    with pytest.raises(SigningError, match="pip install"):
        signature.generate(tmp_path / "new.pem")
    with pytest.raises(SigningError, match="pip install"):
        _sign(saved, tmp_path / "alice.pem")
    artifact.load(saved)
