"""Whatever is sent to `POST /predict` is answered, or refused with its faults; nothing else."""

from __future__ import annotations

import msgspec
from hypothesis import given

from streamer.http.answers import predictions
from streamer.http.requests import MAX_FAULTS, BodyRefused, Terms, read
from tests.fuzz.mutate import fuzzed, mutated, seeds_of
from tests.support.served import NOW_MS, a_pipeline

SEEDS = seeds_of("http_body")
PIPELINE = a_pipeline()
TERMS = Terms(PIPELINE.order_rules, PIPELINE.judge.memory, NOW_MS)


def answered(body: bytes) -> bytes:
    """The answer, or the faults; a fault of a kind that the product does not know is raised."""
    refused: BodyRefused | None = None
    try:
        asked = read(body, TERMS)
        found = predictions(PIPELINE, asked.rows, contributions=asked.contributions)
    except BodyRefused as error:
        refused = error
    if refused is None:
        assert len(found) == len(asked.rows)
        return msgspec.json.encode(found)
    assert refused.status in (400, 422)
    assert 1 <= len(refused.faults) <= MAX_FAULTS
    for fault in refused.faults:
        assert fault.pointer.startswith("#")
        assert len(fault.detail) < 1_000
    return msgspec.json.encode(refused.faults)


def test_every_seed_is_answered_or_refused_as_it_is_named() -> None:
    for body in SEEDS:
        assert answered(body)


@fuzzed
@given(mutated(SEEDS))
def test_any_body_is_answered_or_refused(body: bytes) -> None:
    assert msgspec.json.decode(answered(body))
