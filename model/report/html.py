"""An HTML page that needs no network, from a template in `templates/`; all values are escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from model.report import format as shown


def render(template: str, **values: object) -> str:
    """The page of a template. Its filters are those of `model.report.format`."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("model.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        money=shown.money, ratio=shown.ratio, share=shown.share, short=shown.short
    )
    return environment
