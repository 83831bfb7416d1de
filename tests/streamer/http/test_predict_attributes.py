"""Customer attributes in `POST /predict`: those of the record, then those of the worker's file."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from features.arrays import Floats
from features.columns.vector import FEATURE_NAMES
from model.data.attributes import Attributes, Column
from model.decide.scoring import Scorer
from streamer.http.requests import BodyRefused, Terms, read
from streamer.pipeline.batch import Pipeline
from streamer.pipeline.partition import PartitionRunner
from streamer.records import LogRange, MemoryPublisher, Partition
from streamer.store.memory import MemoryStore
from tests.support.bodies import TERMS, body, features, orders, refused
from tests.support.fakes import LinearModel, every, judge, pipeline, records, scorer
from tests.support.served import of_features, of_orders, request, served

COLUMNS = (Column("age"), Column("channel", ("mail", "web")))
# What the worker's file says: ada is 40 and came by mail, of bob only the age is known.
KNOWN = Attributes(COLUMNS, np.array([[40.0, 0.0], [30.0, math.nan]]), {"ada": 0, "bob": 1})
WITH = replace(TERMS, attributes=KNOWN)
NAN = math.nan


class Knowing(LinearModel):
    """A model that adds the age, 50 where it is missing, and 1,000 for each code of the channel,
    -1 where it is missing."""

    def clv(self, X: Floats) -> Floats:
        age = np.nan_to_num(X[:, len(FEATURE_NAMES)], nan=50.0)
        channel = np.nan_to_num(X[:, len(FEATURE_NAMES) + 1], nan=-1.0)
        return np.asarray(super().clv(X) + age + 1_000 * (channel + 1), np.float64)


def knowing() -> Pipeline:
    by: Scorer = replace(scorer(Knowing()), attributes=KNOWN)
    return pipeline(judge(by=by))


def seen(record: dict[str, Any], terms: Terms = WITH) -> list[float]:
    (row,) = read(body(record), terms).rows
    return list(row.attributes)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        # The orders of TERMS' tests are ada's.
        (orders(), [40, 0]),
        (orders(attributes={}), [40, 0]),
        (orders(attributes=None), [40, 0]),
        (orders(attributes={"age": 20}), [20, 0]),
        (orders(attributes={"age": None}), [NAN, 0]),
        (orders(attributes={"channel": "web", "age": 0.5}), [0.5, 1]),
        (orders(attributes={"channel": " web "}), [40, 1]),
        (orders(attributes={"channel": "NA"}), [40, NAN]),
        (orders(attributes={"channel": "a crystal ball"}), [40, 2]),
        (features(), [NAN, NAN]),
        (features() | {"attributes": {"channel": "mail"}}, [NAN, 0]),
    ],
)
def test_what_the_record_says_comes_before_what_the_file_says(
    record: dict[str, Any], expected: list[float]
) -> None:
    np.testing.assert_array_equal(seen(record), expected)


def test_a_model_without_attributes_sees_none() -> None:
    assert seen(orders(attributes={}), TERMS) == seen(features(), TERMS) == []


@pytest.mark.parametrize(
    ("given", "pointer", "detail"),
    [
        (7, "", "attributes is not an object"),
        ({"agee": 3}, "/agee", "the model knows no such attribute; there are age, channel"),
        ({"age": "40"}, "/age", "age is a number: send one from -1e15 to 1e15, or null"),
        ({"age": True}, "/age", "age is a number"),
        ({"age": [1]}, "/age", "age is a number"),
        ({"age": 1e16}, "/age", "age is a number"),
        ({"age": 10**400}, "/age", "age is a number"),
        ({"channel": 1}, "/channel", "channel is a text, such as 'mail', 'web': send one, or null"),
        ({"channel": False}, "/channel", "channel is a text"),
    ],
)
def test_a_fault_names_record_attribute_and_remedy(given: Any, pointer: str, detail: str) -> None:
    (fault,) = refused(body(orders(), orders(attributes=given)), WITH).faults
    assert fault.pointer == f"#/records/1/attributes{pointer}"
    assert (fault.record, fault.field) == (1, pointer[1:] or "attributes")
    assert detail in fault.detail
    assert fault.value


def test_a_model_without_attributes_says_that_it_knows_none() -> None:
    (fault,) = refused(body(orders(attributes={"age": 3}))).faults
    assert fault.detail == "the model knows no such attribute; leave attributes out"


def test_faults_of_orders_and_of_attributes_come_at_once() -> None:
    wrong = orders(attributes={"age": "x", "b": 1}, as_of="x")
    assert {fault.field for fault in refused(body(wrong), WITH).faults} == {"age", "b", "as_of"}
    with pytest.raises(BodyRefused):
        read(body({"orders": [], "attributes": {"age": 1}}), WITH)


async def test_without_attributes_a_known_user_is_scored_as_by_the_stream() -> None:
    history = every("ada", 9, 8)
    publisher = MemoryPublisher()
    runner = PartitionRunner(Partition("orders", 0), MemoryStore(), publisher, knowing())
    await runner.claim(LogRange(0, len(history), 1))
    await runner.process(records(history))
    (*_, said) = publisher.of("clv-scores")
    async with served() as api:
        api.pipelines.append(knowing())
        plain, younger, stranger, ready = await api.predict(
            of_orders(history),
            of_orders(history, attributes={"age": 20, "channel": "web"}),
            of_orders(every("eve", 9, 8)),
            of_features(history, history[-1].ts_ms) | {"attributes": {"age": 20}},
            as_of=history[-1].ts_ms,
        )
        clv = plain["clv"]
        assert f'"clv":{clv}'.encode() in (said.value or b"")
        # 40 and mail; 20 and web; nothing; 20 and nothing.
        assert younger["clv"] == pytest.approx(clv - 20 + 1_000)
        assert stranger["clv"] == pytest.approx(clv + 10 - 1_000)
        assert ready["clv"] == pytest.approx(clv - 20 - 1_000)
        status, kind, told = await api.post(request(of_orders(history, attributes={"size": 3})))
        assert (status, kind) == (422, "application/problem+json")
        assert told["errors"][0]["pointer"] == "#/records/0/attributes/size"
        assert told["errors"][0]["value"] == "3"
