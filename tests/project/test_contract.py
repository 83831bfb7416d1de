"""The contract as published: its schemas against the released ones, its AsyncAPI file, its page."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from streamer.kafka.topics import TOPICS
from streamer.settings import Settings
from tests.support.schema_changes import Side, breaking_changes

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "streamer" / "pipeline" / "schemas"
RELEASED = ROOT / "tests" / "data" / "schemas"
ASYNCAPI = ROOT / "docs" / "asyncapi.yaml"
PUBLIC = {topic.name: topic for topic in TOPICS}

Change = Callable[[dict[str, Any]], object]


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def side_of(name: str) -> Side:
    return "read" if name.startswith("order-") else "written"


# --- compatibility --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(RELEASED.glob("*.json")), ids=lambda path: path.stem)
def test_no_change_breaks_what_was_released(path: Path) -> None:
    now = SCHEMAS / path.name
    assert now.exists(), f"{path.name} was released: keep it, and put a new version beside it"
    broken = breaking_changes(read(path), read(now), side_of(path.stem))
    assert broken == [], (
        f"others rely on {path.stem}: give the change a new version, a file of its own"
        " (docs/contract.md). Only while no release has had it: copy it to tests/data/schemas"
    )


def test_every_schema_has_a_copy_to_be_held_to() -> None:
    assert {path.name for path in SCHEMAS.glob("*.json")} == {
        path.name for path in RELEASED.glob("*.json")
    }


def test_a_schema_is_named_for_its_version() -> None:
    for path in SCHEMAS.glob("*.json"):
        schema = read(path)
        assert schema["$id"] == f"urn:clv-streamer:{path.stem}"
        said = schema["properties"].get("schema")
        assert said is None or said["const"] == "/".join(path.stem.rsplit("-", 1))


def property_(name: str, **keywords: Any) -> Change:
    return lambda schema: schema["properties"][name].update(keywords)


WRITTEN: list[tuple[str, Change, bool]] = [
    ("a field gone", lambda s: s["properties"].pop("holdout"), True),
    ("a field renamed", lambda s: s["properties"].update(fell=s["properties"].pop("drop")), True),
    ("a field of another type", property_("holdout", type="string"), True),
    ("a type more", property_("horizon_days", type=["integer", "null"]), True),
    ("an integer becomes a number", property_("horizon_days", type="number"), True),
    ("a field that may be absent", lambda s: s["required"].remove("holdout"), True),
    ("a value more", lambda s: s["properties"]["kind"]["enum"].append("maybe"), True),
    ("a list that ends", lambda s: s["properties"]["kind"].pop("enum"), True),
    ("a wider bound", property_("horizon_days", minimum=0), True),
    ("a bound gone", lambda s: s["properties"]["horizon_days"].pop("minimum"), True),
    ("a bound behind a reference", lambda s: s["$defs"]["share"].update(maximum=2), True),
    ("another pattern", property_("currency", pattern="^[a-z]{3}$"), True),
    ("a field of a list's items gone", lambda s: reason(s)["properties"].pop("share"), True),
    ("another name", lambda s: s.update({"$id": "urn:clv-streamer:other-1"}), True),
    ("a new field", lambda s: s["properties"].update(note={"type": "string"}), False),
    ("a new field always there", lambda s: added(s, "note"), False),
    ("a value fewer", lambda s: s["properties"]["kind"]["enum"].remove("recovered"), False),
    ("a narrower bound", property_("horizon_days", minimum=7), False),
    ("other words", property_("holdout", description="Left alone.", examples=[True]), False),
]
READ: list[tuple[str, Change, bool]] = [
    ("a field that must be there", lambda s: s["required"].append("type"), True),
    ("a new field that must be there", lambda s: added(s, "shop"), True),
    ("a value fewer", lambda s: s["properties"]["type"]["enum"].remove("refund"), True),
    ("a list that begins", property_("order_id", enum=["a", "b"]), True),
    ("a narrower bound", property_("order_id", maxLength=64), True),
    ("a bound that begins", lambda s: s["properties"]["amount"].update(multipleOf=0.01), True),
    ("a type fewer", property_("currency", type="string"), True),
    ("a field gone", lambda s: s["properties"].pop("currency"), True),
    ("one way fewer", lambda s: s["properties"]["ts"]["oneOf"].pop(), True),
    ("unknown fields refused", lambda s: s.update(additionalProperties=False), True),
    ("a new field", lambda s: s["properties"].update(shop={"type": "string"}), False),
    ("a value more", lambda s: s["properties"]["type"]["enum"].append("gift"), False),
    ("a wider bound", property_("order_id", maxLength=256), False),
    ("a field that may be absent", lambda s: s["required"].remove("amount"), False),
]


def reason(schema: dict[str, Any]) -> dict[str, Any]:
    items: dict[str, Any] = schema["properties"]["reasons"]["items"]
    return items


def added(schema: dict[str, Any], name: str) -> None:
    schema["properties"][name] = {"type": "string"}
    schema["required"].append(name)


@pytest.mark.parametrize(
    ("name", "change", "breaks"),
    [
        pytest.param(name, change, breaks, id=f"{name}: {what}")
        for name, table in (("churn-warning-1", WRITTEN), ("order-1", READ))
        for what, change, breaks in table
    ],
)
def test_the_check_finds_what_breaks_and_nothing_else(
    name: str, change: Change, breaks: bool
) -> None:
    old = read(RELEASED / f"{name}.json")
    new = copy.deepcopy(old)
    change(new)
    assert bool(breaking_changes(old, new, side_of(name))) is breaks


# --- AsyncAPI -------------------------------------------------------------------------------------


@cache
def asyncapi() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(ASYNCAPI.read_text())
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(reference: str) -> dict[str, Any]:
    """What a reference leads to: within the file, or a schema in a file beside it."""
    path, _, pointer = reference.partition("#")
    if path:
        assert not pointer, "schemas are referred to whole"
        return read((ASYNCAPI.parent / path).resolve())
    found: Any = asyncapi()
    for part in pointer.removeprefix("/").split("/"):
        found = found[part]
    assert isinstance(found, dict)
    return found


def messages() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = asyncapi()["components"]["messages"]
    return found


def test_it_is_asyncapi_3_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert asyncapi()["asyncapi"] == "3.0.0"
    assert asyncapi()["info"]["version"] == project["version"]
    assert set(asyncapi()) <= {
        *("asyncapi", "id", "info", "servers", "defaultContentType"),
        *("channels", "operations", "components"),
    }


def test_every_reference_leads_somewhere() -> None:
    found = list(references(asyncapi()))
    assert len(found) > 10
    for reference in found:
        assert resolved(reference)


def test_every_schema_is_referred_to() -> None:
    files = {Path(reference).name for reference in references(asyncapi()) if ".json" in reference}
    assert files == {path.name for path in SCHEMAS.glob("*.json")}


def test_the_channels_are_the_topics_as_we_make_them() -> None:
    channels = {channel["address"]: channel for channel in asyncapi()["channels"].values()}
    assert set(channels) == set(PUBLIC)
    for name, channel in channels.items():
        stated = channel["bindings"]["kafka"]["topicConfiguration"]
        made = {"cleanup.policy": ",".join(stated["cleanup.policy"])}
        for setting in ("retention.ms", "max.message.bytes"):
            if setting in stated:
                made[setting] = str(stated[setting])
        assert made == PUBLIC[name].config


def test_the_channels_are_the_settings_defaults() -> None:
    settings = Settings()
    assert {channel["address"] for channel in asyncapi()["channels"].values()} == {
        settings.orders_topic,
        settings.warnings_topic,
        settings.scores_topic,
        settings.dead_letter_topic,
        settings.erasures_topic,
    }


def test_we_receive_orders_and_erasures_and_send_all() -> None:
    actions: dict[str, set[str]] = {}
    for operation in asyncapi()["operations"].values():
        address = resolved(operation["channel"]["$ref"])["address"]
        actions.setdefault(address, set()).add(operation["action"])
    # Redriven dead letters go into orders.
    both = {"receive", "send"}
    assert actions == {name: {"send"} for name in PUBLIC} | {"orders": both, "clv-erasures": both}


def test_messages_are_named_for_their_schemas() -> None:
    for message in messages().values():
        reference = (message.get("payload") or message.get("headers"))["$ref"]
        assert message["name"] == "/".join(Path(reference).stem.rsplit("-", 1))


def test_every_example_fits_its_schema() -> None:
    for message in messages().values():
        assert message["examples"]
        for example in message["examples"]:
            for part in ("payload", "headers"):
                assert (part in message) == (part in example)
                if part in message:
                    schema = resolved(message[part]["$ref"])
                    Draft202012Validator(
                        schema, format_checker=Draft202012Validator.FORMAT_CHECKER
                    ).validate(example[part])


def test_examples_of_warnings_show_every_kind() -> None:
    kinds = {example["payload"]["kind"] for example in messages()["churnWarning"]["examples"]}
    schema = read(SCHEMAS / "churn-warning-1.json")
    assert kinds == set(schema["properties"]["kind"]["enum"])


# --- the page -------------------------------------------------------------------------------------


def test_the_page_names_every_topic_and_every_schema() -> None:
    page = (ROOT / "docs" / "contract.md").read_text()
    for name in PUBLIC:
        assert f"| `{name}`" in page
    for path in SCHEMAS.glob("*.json"):
        assert f"(../streamer/pipeline/schemas/{path.name})" in page
