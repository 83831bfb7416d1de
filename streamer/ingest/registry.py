"""Schemas by their ids, from a registry that speaks Confluent's REST API, as Apicurio, Karapace and
Redpanda do.

An id means the same schema for ever, so each is asked for once. A registry that does not answer is
waited for; only one that answers that it has no such schema is believed.
"""

from __future__ import annotations

import base64
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import msgspec
from aiohttp import ClientError, ClientSession, ClientTimeout

from streamer.ingest.schemas import AVRO, Schema, SchemaRefused
from streamer.records import RegistryUnavailable

ASK_WITHIN_S: Final = 10.0
MAX_ANSWER_BYTES: Final = 4 << 20
MAX_REFERENCES: Final = 100
# Confluent's codes for what is not there: a subject, a version, a schema.
_NOT_THERE: Final = frozenset({40401, 40402, 40403})


class UnknownSchema(Exception):
    """The registry says that it has no schema of this id."""


class Registry:
    """A client, to be entered; without logins in anything that it raises."""

    def __init__(self, url: str) -> None:
        """`url` may have a login: `https://user:password@registry:8081/path`."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        self._url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Accept": "application/vnd.schemaregistry.v1+json, application/json"}
        if parts.username:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"

    async def __aenter__(self) -> Self:
        self._session = ClientSession(
            timeout=ClientTimeout(total=ASK_WITHIN_S), headers=self._headers
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def schema(self, number: int) -> Schema:
        """The schema of an id, with all that it names. Raises UnknownSchema, RegistryUnavailable,
        and SchemaRefused where it names more than a hundred others, or itself."""
        found = await self._ask(f"/schemas/ids/{number}")
        return await self._whole(found, [MAX_REFERENCES])

    async def _whole(self, found: dict[str, Any], left: list[int]) -> Schema:
        parts = []
        for reference in found.get("references") or ():
            left[0] -= 1
            if left[0] < 0:
                raise SchemaRefused(f"names more than {MAX_REFERENCES} others, or itself")
            try:
                subject = quote(str(reference["subject"]), safe="")
                version, name = int(reference["version"]), str(reference["name"])
            except (KeyError, TypeError, ValueError):
                raise SchemaRefused("names another one, and not by subject and version") from None
            try:
                other = await self._ask(f"/subjects/{subject}/versions/{version}")
            except UnknownSchema:
                raise SchemaRefused(f"names {name!r}, which the registry does not have") from None
            parts.append((name, await self._whole(other, left)))
        return Schema(str(found.get("schemaType") or AVRO), str(found["schema"]), tuple(parts))

    async def _ask(self, path: str) -> dict[str, Any]:
        """An answer with a schema in it. Raises UnknownSchema and RegistryUnavailable."""
        try:
            async with self._session.get(self._url + path, allow_redirects=False) as answer:
                body = await answer.content.read(MAX_ANSWER_BYTES + 1)
                while len(body) <= MAX_ANSWER_BYTES and not answer.content.at_eof():
                    body += await answer.content.read(MAX_ANSWER_BYTES + 1 - len(body))
                status = answer.status
        except (ClientError, OSError, TimeoutError) as error:
            raise self._away(f"does not answer ({type(error).__name__})") from None
        if len(body) > MAX_ANSWER_BYTES:
            raise self._away(f"answers with more than {MAX_ANSWER_BYTES:,} bytes")
        try:
            said = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            said = None
        if not isinstance(said, dict):
            said = {}
        # A 404 without the code comes of a wrong path, where no schema is to be had at all.
        if status == 404 and said.get("error_code") in _NOT_THERE:
            raise UnknownSchema
        if status in (401, 403):
            raise self._away(f"refuses the login (status {status}); put it into the URL")
        if status != 200 or not isinstance(said.get("schema"), str):
            raise self._away(f"answers with status {status} and no schema; check the URL's path")
        return said

    def _away(self, why: str) -> RegistryUnavailable:
        return RegistryUnavailable(f"the schema registry at {self._url} {why}")
