"""A registry that is down is waited for; one that does not know an id is believed in the end."""

from __future__ import annotations

import json

import pytest

from features.events.orders import Reason, Rejected
from streamer.clock import ManualClock
from streamer.ingest import decoders as module
from streamer.ingest.decoders import REFUSED_FOR_S, DecoderCache
from streamer.ingest.metrics import IngestMetrics
from streamer.ingest.registry import Registry, UnknownSchema
from streamer.ingest.schemas import AVRO, Schema, SchemaRefused
from streamer.process.outage import Outage
from streamer.records import RegistryUnavailable
from tests.support.schemas.loopback import ORDER_AVRO, serving_schemas


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: float) -> None:
        return None

    monkeypatch.setattr(module.asyncio, "sleep", at_once)


class Source:
    """Answers with what it is given, in turn; the last one for ever."""

    def __init__(self, *answers: Schema | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def schema(self, number: int) -> Schema:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


GOOD = Schema(AVRO, json.dumps(ORDER_AVRO))


def cache_of(source: Source, clock: ManualClock | None = None) -> tuple[DecoderCache, Outage]:
    outage = Outage(IngestMetrics())
    return DecoderCache(source, outage, clock or ManualClock()), outage


async def test_a_schema_is_asked_for_once() -> None:
    source = Source(GOOD)
    cache, _ = cache_of(source)
    for _ in range(3):
        assert not isinstance((await cache.of({1}))[1], Rejected)
    assert source.asked == 1


async def test_an_outage_is_waited_out_and_nothing_is_set_aside_for_it() -> None:
    away = RegistryUnavailable("down")
    cache, outage = cache_of(Source(*[away] * 20, GOOD))
    assert not isinstance((await cache.of({1}))[1], Rejected)
    assert (outage.attempts, outage.reasons) == (20, [])


async def test_an_id_that_nobody_knows_is_asked_for_twice_and_then_not_for_a_minute() -> None:
    source, clock = Source(UnknownSchema()), ManualClock()
    cache, _ = cache_of(source, clock)
    for _ in range(3):
        refused = (await cache.of({9}))[9]
        assert isinstance(refused, Rejected)
        assert refused.reason is Reason.UNKNOWN_SCHEMA
    assert source.asked == 2
    clock.advance(int(REFUSED_FOR_S * 1000) + 1)
    source.answers = [GOOD]
    assert not isinstance((await cache.of({9}))[9], Rejected)


async def test_an_id_that_is_known_a_moment_later_is_no_unknown_one() -> None:
    cache, _ = cache_of(Source(UnknownSchema(), GOOD))
    assert not isinstance((await cache.of({9}))[9], Rejected)


async def test_a_schema_that_cannot_be_used_is_told_with_the_reason() -> None:
    for answer in (SchemaRefused("names itself"), Schema(AVRO, "{")):
        refused = (await cache_of(Source(answer))[0].of({3}))[3]
        assert isinstance(refused, Rejected)
        assert refused.detail.startswith("schema 3 ")


# --- the client ---------------------------------------------------------------------------------


async def test_the_client_brings_a_schema_with_all_that_it_names() -> None:
    async with serving_schemas() as served:
        part = {"schema": '{"type": "fixed", "name": "F", "size": 2}'}
        served.subjects["a/b", 2] = part
        named = [{"name": "F", "subject": "a/b", "version": 2}]
        served.schemas[7] = {"schema": '"F"', "references": named}
        url = served.url.replace("http://", "http://us%40er:p%3Ass@")
        async with Registry(url + "/") as registry:
            schema = await registry.schema(7)
            assert schema == Schema(AVRO, '"F"', (("F", Schema(AVRO, part["schema"])),))
            assert served.logins[-1] == "Basic dXNAZXI6cDpzcw=="
            with pytest.raises(UnknownSchema):
                await registry.schema(8)


@pytest.mark.parametrize(
    ("status", "why"), [(500, "status 500"), (401, "login"), (404, "path"), (302, "status 302")]
)
async def test_every_other_answer_is_an_outage_and_tells_no_login(status: int, why: str) -> None:
    async with serving_schemas() as served:
        served.status = status
        async with Registry(served.url.replace("http://", "http://user:hidden@")) as registry:
            with pytest.raises(RegistryUnavailable, match=why) as raised:
                await registry.schema(1)
            assert "hidden" not in str(raised.value)
    async with Registry("http://127.0.0.1:1") as registry:
        with pytest.raises(RegistryUnavailable, match="does not answer"):
            await registry.schema(1)


async def test_a_schema_that_names_itself_ends() -> None:
    async with serving_schemas() as served:
        own = {"schema": '"a"', "references": [{"name": "a", "subject": "a", "version": 1}]}
        served.schemas[1] = served.subjects["a", 1] = own
        async with Registry(served.url) as registry:
            with pytest.raises(SchemaRefused, match="itself"):
                await registry.schema(1)
