"""The OpenAPI document and docs/api.md against the code that answers."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from features.events.orders import OrderRules
from features.facts.ledger import IdMemory
from streamer.http.openapi import document
from streamer.http.requests import BodyRefused, Terms, read
from tests.support.bodies import BAD, NOW_MS
from tests.support.fakes import an_order, at, every
from tests.support.served import Served, of_features, of_orders, request, served

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "api.md"
TERMS = Terms(OrderRules(), IdMemory(), NOW_MS)


def openapi() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(document())
    return found


def validator(name: str) -> Draft202012Validator:
    """Of a schema of the document; answers may not have a field that it does not name."""
    schema = {"$ref": f"#/components/schemas/{name}", "components": openapi()["components"]}
    for one in schema["components"]["schemas"].values():  # type: ignore[index]
        if one.get("type") == "object":
            one.setdefault("additionalProperties", False)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_it_is_openapi_3_1() -> None:
    from openapi_spec_validator import OpenAPIV31SpecValidator  # slow to import

    OpenAPIV31SpecValidator(openapi()).validate()


def test_the_published_document_is_the_one_that_is_served() -> None:
    published = (ROOT / "docs" / "openapi.json").read_bytes()
    assert published == document(), "run: python -m streamer reference openapi > docs/openapi.json"


def test_every_example_is_taken_by_the_code_and_fits_its_schema() -> None:
    body = openapi()["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    assert len(body["examples"]) == 3
    for example in body["examples"].values():
        validator("PredictRequest").validate(example["value"])
        read(json.dumps(example["value"]).encode(), TERMS)


@pytest.mark.parametrize("data", [data for data, *_ in BAD if b"12345" not in data])
def test_what_the_schema_refuses_the_code_refuses(data: bytes) -> None:
    with pytest.raises(BodyRefused):
        read(data, TERMS)
    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    # What a schema cannot say: orders of the future, of two customers, another currency, ...
    wrong = {"ahead of", "before the newest", "not that of", "is not USD", "has no offset"}
    if not any(word in str(told) for word in wrong for told in faults(data)):
        assert not validator("PredictRequest").is_valid(given)


def faults(data: bytes) -> list[str]:
    with pytest.raises(BodyRefused) as caught:
        read(data, TERMS)
    return [fault.detail for fault in caught.value.faults]


async def test_answers_and_problems_fit_their_schemas() -> None:
    async with served() as api:
        await api.apply([*every("ada", 5, 8, 1_000), an_order("bob", 75)], 0)
        history = every("eve", 9, 3)
        found = await api.predict(of_orders(history), of_features(history, at(70)))
        for one in found:
            validator("Prediction").validate(one)
        for user, query in (("ada", "?as_of=event-time"), ("ada", ""), ("bob", "")):
            validator("CustomerView").validate(await api.customer(user, query))
        await api.apply(every("fay", 4, 5), 1, until_day=60)
        for path, name in (
            ("/warnings", "WarningsPage"),
            ("/warnings?state=all", "WarningsPage"),
            ("/outcomes", "OutcomesView"),
            ("/status", "Status"),
            ("/customers/fay/history", "CustomerHistory"),
            ("/customers/bob/history", "CustomerHistory"),
        ):
            api.clock.advance(2_000)
            found = (await api.ask(path))[2]
            validator(name).validate(found)
            assert found.get("warnings") != []
        validator("Forgotten").validate((await api.ask("/customers/fay", "DELETE"))[2])
        for data in (b"{", request({}), request(*[{}] * 70)):
            validator("Problem").validate((await api.post(data))[2])
        assert (await api.ask("/openapi.json"))[2] == openapi()


async def test_every_status_that_was_seen_is_in_the_document() -> None:
    told = {
        page: set(openapi()["paths"][path][method]["responses"])
        for page, path, method in (
            ("predict", "/predict", "post"),
            ("customers", "/customers/{user_id}", "get"),
            ("forget", "/customers/{user_id}", "delete"),
            ("history", "/customers/{user_id}/history", "get"),
            ("warnings", "/warnings", "get"),
            ("csv", "/warnings.csv", "get"),
            ("stream", "/warnings/stream", "get"),
            ("outcomes", "/outcomes", "get"),
            ("status", "/status", "get"),
        )
    }
    async with served() as api:
        await api.apply([an_order("ada", 1)])
        for data in (b"{", b"{}", request(of_orders([an_order("a", 1)]))):
            await api.ask(
                "/predict",
                "POST",
                data=io.BytesIO(data),
                headers={"Content-Type": "application/json"},
            )
        await api.ask("/predict", "POST", data="x", headers={"Content-Type": "text/plain"})
        paths = ["ada", "eve", "ada?as_of=x", "eve/history", "%ff/history", "ada/history"]
        asked = [f"/customers/{path}" for path in paths]
        lists = ["/warnings", "/outcomes", "/status", "/warnings?limit=0", "/warnings.csv?limit=1"]
        for path in [*asked, *lists]:
            await api.ask(path)
        for headers in ({}, {"Sec-Fetch-Site": "cross-site"}):
            await api.ask("/customers/eve", "DELETE", headers=headers)
        await api.ask("/warnings/stream", headers={"Last-Event-ID": "x"})
        api.store.away = True
        api.clock.advance(2_000)  # the number of partitions is known for a second
        for path in ["/customers/ada", "/customers/ada/history", "/warnings/stream", *lists]:
            await api.ask(path)
        other, _, _ = await api.ask("/customers/ada", headers={"Host": "evil.example"})
        seen = {*api.answered, ("customers", other)}
    assert {status for _, status in seen} >= {200, 400, 404, 415, 421, 422, 503}
    assert {status for page, status in seen if str(status) not in told[page]} == set()


# --- docs/api.md ----------------------------------------------------------------------------------


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", PAGE.read_text(), re.DOTALL)


async def ran(command: str, api: Served) -> Any:
    """What a command of the page prints, as JSON."""
    process = await asyncio.create_subprocess_shell(
        command.replace(":6066", f":{api.port}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    if process.returncode == 127:
        pytest.skip("curl is not installed")
    assert process.returncode == 0, err
    return json.loads(out)


async def test_the_commands_of_the_page_answer_as_the_page_says() -> None:
    async with served() as api:
        await api.apply([*every("ada", 5, 8, 1_000), an_order("bob", 75)], 0)
        orders, customer, wrong = [await ran(command, api) for command in blocks("sh")]
    (shown,) = json.loads(blocks("json")[0])
    assert {**orders[0], **of_the_model(shown)} == shown
    assert of_the_model(orders[0]).keys() == of_the_model(shown).keys()
    assert wrong == json.loads(blocks("json")[1])
    assert customer["user_id"] == "ada"
    page = PAGE.read_text()
    for name in customer:
        if name in ("orders", "frequency", "windows", "open_warning", "monetary_value"):
            assert f"`{name}`" in page


def of_the_model(prediction: dict[str, Any]) -> dict[str, Any]:
    """What of a prediction depends on the training population."""
    return {name: prediction[name] for name in ("baseline", "contributions")}


async def test_the_features_of_the_page_are_taken(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = blocks("python")
    exec(compile(script, "docs/api.md", "exec"), {})
    async with served() as api:
        status, _, found = await api.post(capsys.readouterr().out.encode())
    assert status == 200
    assert found[0]["clv"] == 0


def test_the_page_has_every_status_of_the_document() -> None:
    def statuses() -> Iterator[str]:
        for path in openapi()["paths"].values():
            for operation in path.values():
                yield from operation["responses"]

    rows = set(re.findall(r"^\| (\d{3}) \|", PAGE.read_text(), re.MULTILINE))
    assert set(statuses()) - {"200"} <= rows
