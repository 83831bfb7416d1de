"""Records with a schema registry's prefix: one zero byte, the schema's id in four, and then what
that schema decodes.

`decoder` makes of a schema the function that decodes its records: Avro by fastavro, Protobuf by
Google's own runtime and compiler, JSON Schema as the JSON that it is. A record that its schema does
not fit raises Undecodable; what a stranger's bytes can do ends there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, Final

import msgspec

from streamer.errors import StreamerError
from streamer.reading import read_json

MAGIC: Final = 0
PREFIX_BYTES: Final = 5
AVRO, PROTOBUF, JSON = "AVRO", "PROTOBUF", "JSON"
# protoc takes a fraction of a second.
_COMPILE_WITHIN_S: Final = 30.0
_SHOWN_CHARS: Final = 200
_MOST_DECIMAL_BYTES: Final = 96

Decode = Callable[[bytes], Any]
"""A record's bytes, prefix included, as the document that they are. Raises Undecodable."""


class Undecodable(Exception):
    """The record is not what its schema says; the message says where, and nothing of its values."""


class SchemaRefused(StreamerError):
    """The registry has a schema that cannot be used: correct it there, or leave its records out."""


class FormatMissing(StreamerError):
    """Install the extra that the message names, and start again."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema as its registry has it: its kind (AVRO, PROTOBUF or JSON), its text, and the schemas
    that it names, by the names that it gives them."""

    kind: str
    text: str
    references: tuple[tuple[str, Schema], ...] = ()

    def named(self) -> Iterator[tuple[str, Schema]]:
        """All that it builds on, the deepest first."""
        for name, schema in self.references:
            yield from schema.named()
            yield name, schema


def schema_id(value: bytes) -> int | None:
    """The id in a record's prefix; None where it has none."""
    if len(value) < PREFIX_BYTES or value[0] != MAGIC:
        return None
    return int.from_bytes(value[1:PREFIX_BYTES], "big")


def decoder(schema: Schema) -> Decode:
    """What decodes the records of a schema. Blocks while Protobuf is compiled.

    Raises SchemaRefused, and FormatMissing where the extra `ingest` is not installed.
    """
    makers: Mapping[str, Callable[[Schema], Decode]] = {
        AVRO: _avro,
        PROTOBUF: _protobuf,
        JSON: lambda _: _json,
    }
    if schema.kind not in makers:
        raise SchemaRefused(f"is {schema.kind!r}, none of {', '.join(makers)}")
    try:
        return makers[schema.kind](schema)
    except ImportError as error:
        raise FormatMissing(
            f"records in {schema.kind} need {error.name or 'a library'}: install"
            " clv-streamer[ingest]"
        ) from None


# --- JSON -------------------------------------------------------------------------------------


def _json(value: bytes) -> Any:
    try:
        return read_json(value[PREFIX_BYTES:])
    except (ValueError, RecursionError) as error:
        raise Undecodable(f"behind the prefix is no JSON: {_short(error)}") from None


# --- Avro -------------------------------------------------------------------------------------


def _avro(schema: Schema) -> Decode:
    import fastavro
    from fastavro.schema import SchemaParseException, UnknownType

    _bound_decimals()
    known: dict[str, Any] = {}
    try:
        for _, part in schema.named():
            fastavro.parse_schema(msgspec.json.decode(part.text), named_schemas=known)
        parsed = fastavro.parse_schema(msgspec.json.decode(schema.text), named_schemas=known)
    except (SchemaParseException, UnknownType, ValueError, KeyError, TypeError) as error:
        raise SchemaRefused(f"is no Avro schema: {_short(error)}") from None
    if _weightless(parsed, known):
        raise SchemaRefused("has a list of what takes no bytes: any number of them fits a record")
    ids_are_objects = '"uuid"' in schema.text + "".join(part.text for _, part in schema.named())
    read = fastavro.schemaless_reader

    def decode(value: bytes) -> Any:
        source = BytesIO(value)
        source.seek(PREFIX_BYTES)
        try:
            document = read(source, parsed, None)
        # Whatever bytes can make it raise: EOFError, IndexError, UnicodeDecodeError, ...
        except Exception as error:
            raise Undecodable(f"does not fit its Avro schema ({type(error).__name__})") from None
        if source.tell() != len(value):
            raise Undecodable(
                f"does not fit its Avro schema: {len(value) - source.tell():,} bytes are left"
            )
        return _without_uuids(document) if ids_are_objects else document

    return decode


@cache
def _bound_decimals() -> None:
    """Has a decimal of more bytes than any amount has refused: reading one of a megabyte, a
    stranger's, takes minutes."""
    from fastavro.read import LOGICAL_READERS

    def bounded(read: Callable[..., Any]) -> Callable[..., Any]:
        def reads(data: bytes, *schemas: Any) -> Any:
            if len(data) > _MOST_DECIMAL_BYTES:
                raise ValueError("a decimal of too many digits")
            return read(data, *schemas)

        return reads

    for name in ("bytes-decimal", "fixed-decimal"):
        LOGICAL_READERS[name] = bounded(LOGICAL_READERS[name])


def _weightless(schema: Any, known: Mapping[str, Any]) -> bool:
    """Whether the schema has a list of things of no bytes, whose length nothing bounds."""

    def light(one: Any, within: tuple[str, ...]) -> bool:
        if isinstance(one, str):
            if one in within or one not in known:
                return one == "null"
            return light(known[one], (*within, one))
        if not isinstance(one, Mapping):
            return False
        if one["type"] == "record":
            name = str(one.get("name"))
            inner = (*within, name)
            return name not in within and all(light(f["type"], inner) for f in one["fields"])
        return bool(one["type"] == "null" or (one["type"] == "fixed" and not one["size"]))

    def found(one: Any) -> bool:
        if isinstance(one, list):
            return any(map(found, one))
        if not isinstance(one, Mapping):
            return False
        if one["type"] == "array" and light(one["items"], ()):
            return True
        parts = [one.get("items"), one.get("values")]
        parts += [each["type"] for each in one.get("fields", ())]
        return any(map(found, parts))

    return found(schema) or any(map(found, known.values()))


def _without_uuids(value: Any) -> Any:
    """The document with ids as texts, which orders have."""
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, dict):
        return {name: _without_uuids(one) for name, one in value.items()}
    return [_without_uuids(one) for one in value] if isinstance(value, list) else value


# --- Protobuf ---------------------------------------------------------------------------------


def _protobuf(schema: Schema) -> Decode:
    from google.protobuf import json_format, message_factory
    from google.protobuf.message import DecodeError

    descriptor = _compiled(schema)
    classes: dict[tuple[int, ...], Any] = {}

    def message_class(path: tuple[int, ...]) -> Any:
        kinds: Any = descriptor.message_types_by_name.values()
        found: Any = None
        for index in path:
            listed = list(kinds)
            if not 0 <= index < len(listed):
                raise Undecodable("names a message that its Protobuf schema does not have")
            found = listed[index]
            kinds = found.nested_types
        return message_factory.GetMessageClass(found)

    def decode(value: bytes) -> Any:
        path, at = _message_path(value)
        if path not in classes:
            classes[path] = message_class(path)
        try:
            message = classes[path].FromString(value[at:])
            return json_format.MessageToDict(
                message,
                preserving_proto_field_name=True,
                # In proto3 an amount of 0 is not on the wire.
                always_print_fields_with_no_presence=True,
            )
        except (DecodeError, json_format.Error, ValueError, TypeError, RecursionError) as error:
            raise Undecodable(
                f"does not fit its Protobuf schema ({type(error).__name__})"
            ) from None

    return decode


def _message_path(value: bytes) -> tuple[tuple[int, ...], int]:
    """Which message of its file a record is, and where it begins: behind the prefix stands a list
    of indexes, counted and zigzag-encoded; a single 0 for the first message."""

    def number(at: int) -> tuple[int, int]:
        found = shift = 0
        while True:
            if at >= len(value) or shift > 28:
                raise Undecodable("has no list of message indexes behind the prefix")
            byte = value[at]
            found |= (byte & 0x7F) << shift
            at, shift = at + 1, shift + 7
            if byte < 0x80:
                return (found >> 1) ^ -(found & 1), at

    count, at = number(PREFIX_BYTES)
    if count == 0:
        return (0,), at
    if not 0 < count <= len(value) - at:
        raise Undecodable("has no list of message indexes behind the prefix")
    path = []
    for _ in range(count):
        index, at = number(at)
        path.append(index)
    return tuple(path), at


def _compiled(schema: Schema) -> Any:
    """The descriptor of a .proto file, by protoc in a process of its own: what ends it ends nothing
    else. Raises SchemaRefused."""
    import grpc_tools.protoc  # noqa: F401 - that it is there
    from google.protobuf import descriptor_pb2, descriptor_pool

    root = "schema.proto"
    with tempfile.TemporaryDirectory(prefix="clv-proto-") as temporary:
        directory = Path(temporary)
        for name, part in [*schema.named(), (root, schema)]:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise SchemaRefused(f"names a file outside of the registry: {name!r}")
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(part.text)
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{directory}"]
        command += ["--include_imports", f"--descriptor_set_out={directory / 'out'}", root]
        try:
            run = subprocess.run(
                command,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMPILE_WITHIN_S,
            )
        except subprocess.TimeoutExpired:
            raise SchemaRefused(f"took more than {_COMPILE_WITHIN_S:g} s to compile") from None
        if run.returncode:
            raise SchemaRefused(f"is no Protobuf schema: {_first(run.stderr)}")
        files = descriptor_pb2.FileDescriptorSet.FromString((directory / "out").read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool.FindFileByName(root)


def _first(lines: str) -> str:
    found: Sequence[str] = [line for line in lines.splitlines() if line.strip()]
    return found[0][:_SHOWN_CHARS] if found else "protoc does not say why"


def _short(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:_SHOWN_CHARS]
