"""What the code says of itself, as Markdown: for `python -m streamer reference` and the site."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from features.columns.catalog import FEATURES
from features.columns.vector import FEATURE_VERSION
from streamer.ingest.metrics import INGEST_DECLARED
from streamer.metrics import metrics_table
from streamer.pipeline import messages
from streamer.settings import sections, told


def settings_page() -> str:
    """Every environment variable."""
    return f"""# Settings

Everything comes from the environment, read once at the start; all faults are named at once. An
empty variable counts as unset. Durations have a unit: `200ms`, `90s`, `15m`, `24h`, `7d`.

{settings_table()}"""


def metrics_page() -> str:
    """Every metric of `GET /metrics`."""
    return f"""# Metrics

`GET /metrics`, Prometheus text format. Counters start at 0 with the process. A write whose answer
was lost is applied but not counted. The usual `process_...` metrics are there too.

{metrics_table()}
## Of ingest

{metrics_table(INGEST_DECLARED)}"""


def features_page() -> str:
    """Every feature of the catalogue."""
    rows = (
        f"| `{feature.name}` | {feature.group} | {feature.unit} | {'-0+'[feature.sign + 1]} |"
        for feature in FEATURES
    )
    return f"""# Features

Version {FEATURE_VERSION}, in the order of the vector. The sign is the direction in which a feature
may move a CLV; 0: either.

| feature | group | unit | sign |
| --- | --- | --- | --- |
{_lines(rows)}"""


def messages_page() -> str:
    """Every field of every topic's records."""
    parts = ["# Messages\n\nThe JSON Schemas are in `streamer/pipeline/schemas/`.\n"]
    for path in sorted((Path(messages.__file__).parent / "schemas").glob("*.json")):
        schema = msgspec.json.decode(path.read_bytes())
        needed = schema.get("required", [])
        rows = (
            f"| `{name}` | {'yes' if name in needed else ''} | {_cell(of.get('description', ''))} |"
            for name, of in schema.get("properties", {}).items()
        )
        parts.append(
            f"## {schema['title']}\n\n`{path.stem}`: {_cell(schema['description'])}\n\n"
            f"| field | required | meaning |\n| --- | --- | --- |\n{_lines(rows)}"
        )
    return "\n".join(parts)


def http_page() -> str:
    """Every page of the API."""
    from streamer.http.openapi import document

    paths = msgspec.json.decode(document())["paths"]
    rows = (
        f"| `{method.upper()} {path}` | {_cell(of['summary'])} |"
        for path, methods in paths.items()
        for method, of in methods.items()
        if isinstance(of, dict) and "summary" in of
    )
    return f"""# HTTP

`GET /openapi.json` has parameters, answers and errors.

| page | |
| --- | --- |
{_lines(rows)}"""


def commands_page() -> str:
    """Every command with its options, as `--help` says it."""
    # Both groups import every command, this one too.
    from model.commands.cli import cli as model
    from streamer.commands.cli import cli as streamer

    parts = ["# Commands\n"]
    for name, group in (("streamer", streamer), ("model", model)):
        parts += _helps(group, click.Context(group, info_name=f"python -m {name}"))
    return "\n".join(parts)


def _helps(command: click.Command, context: click.Context) -> Iterator[str]:
    if not isinstance(command, click.Group):
        text = command.get_help(context)
        yield f"## `{context.command_path}`\n\n```text\n{text}\n```\n"
        return
    for name in command.list_commands(context):
        inner = command.get_command(context, name)
        assert inner is not None
        yield from _helps(inner, click.Context(inner, parent=context, info_name=name))


def _lines(rows: Iterable[str]) -> str:
    return "\n".join(rows) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "settings": settings_page,
    "commands": commands_page,
    "metrics": metrics_page,
    "features": features_page,
    "messages": messages_page,
    "http": http_page,
}
"""The pages of the reference, by name, as Markdown."""


@click.command("reference")
@click.argument("what", type=click.Choice([*PAGES, "openapi"]))
def reference_command(what: str) -> None:
    """Print what the code says of itself, as Markdown, or the API's OpenAPI document.

    \b
    Examples:
      python -m streamer reference settings
      python -m streamer reference openapi > docs/openapi.json
    """
    if what != "openapi":
        click.echo(PAGES[what](), nl=False)
        return
    # The document brings the pages' models along.
    from streamer.http.openapi import document

    click.echo(document(), nl=False)


def settings_table() -> str:
    """Every variable with its default and meaning, as Markdown tables by who sets them."""
    return "\n".join(_table(heading, fields) for heading, fields in sections().items())


def _table(heading: str, fields: list[FieldInfo]) -> str:
    rows = [f"## {heading}", "", "| variable | default | meaning |", "| --- | --- | --- |"]
    rows += [
        f"| `{field.validation_alias}` | {_default_text(field)} | {told(field)} |"
        for field in fields
    ]
    return "\n".join(rows) + "\n"


def _default_text(field: FieldInfo) -> str:
    extra = field.json_schema_extra
    if isinstance(extra, dict) and "default_text" in extra:
        return f"`{extra['default_text']}`"
    value: Any = field.default
    if isinstance(value, SecretStr) or value in ("", None):
        return "–"
    if isinstance(value, bool):
        value = "on" if value else "off"
    return f"`{value}`"
