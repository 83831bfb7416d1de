"""`python -m streamer reference`: what the code says of its settings, metrics and pages."""

from __future__ import annotations

from typing import Any

import click
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from streamer.metrics import metrics_table
from streamer.settings import sections, told


@click.command("reference")
@click.argument("what", type=click.Choice(["settings", "metrics", "openapi"]))
def reference_command(what: str) -> None:
    """Print every setting or metric as Markdown, or the API's OpenAPI document.

    \b
    Example:
      python -m streamer reference settings > docs/configuration.md
    """
    # The document brings the pages' models along.
    from streamer.http.openapi import document

    pages = {"settings": settings_page, "metrics": metrics_table}
    click.echo(pages[what]() if what in pages else document(), nl=False)


def settings_page() -> str:
    """docs/configuration.md."""
    return f"""# Configuration

Everything comes from the environment, read once at the start; all faults are named at once. An
empty variable counts as unset. Durations have a unit: `200ms`, `90s`, `15m`, `24h`, `7d`. This page
is what `python -m streamer reference settings` prints; a test holds the two together. What TLS,
logins and the token need is told in [security](security.md).

{settings_table()}"""


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
