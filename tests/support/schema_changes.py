"""What changed between two versions of a JSON Schema that a user of the old one cannot bear.

Two sides: whoever reads what we write relies on every value that fits the new schema fitting the
old one; whoever writes what we read relies on the opposite. The rules are those of
`docs/contract.md`. A change in a keyword that is not known here counts as one that breaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

Schema = Mapping[str, Any]
Side = Literal["written", "read"]

_ANNOTATIONS: Final = {"$comment", "$defs", "$id", "$schema", "default", "description", "examples"}
_ANNOTATIONS_TOO: Final = _ANNOTATIONS | {"title"}
_LOWER_BOUNDS: Final = {"minimum", "exclusiveMinimum", "minLength", "minItems"}
_UPPER_BOUNDS: Final = {"maximum", "exclusiveMaximum", "maxLength", "maxItems"}
_ALL_TYPES: Final = {"array", "boolean", "integer", "null", "number", "object", "string"}


def breaking_changes(old: Schema, new: Schema, side: Side) -> list[str]:
    """One line for each change that breaks; none where the new version may take the old one's
    name."""
    return list(_changes(old, new, old, new, side, "")) + _renamed(old, new)


def _renamed(old: Schema, new: Schema) -> list[str]:
    return [] if old.get("$id") == new.get("$id") else ["$id is another"]


def _changes(
    old: Schema, new: Schema, old_root: Schema, new_root: Schema, side: Side, at: str
) -> Iterator[str]:
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    here = at or "the value"
    yield from _of_values(old, new, side, here)
    yield from _of_bounds(old, new, side, here)
    yield from _of_required(old, new, side, here)
    before, after = old.get("properties", {}), new.get("properties", {})
    for name in before:
        inner = f"{at}.{name}" if at else name
        if name not in after:
            yield f"{inner} is gone"
        else:
            yield from _changes(before[name], after[name], old_root, new_root, side, inner)
    if "items" in old and "items" in new:
        yield from _changes(old["items"], new["items"], old_root, new_root, side, f"{at}[]")
    understood = {"type", "enum", "const", "required", "properties", *_LOWER_BOUNDS}
    understood |= {*_UPPER_BOUNDS, *_ANNOTATIONS_TOO}
    for keyword in sorted((set(old) | set(new)) - understood):
        if keyword == "items" and keyword in old and keyword in new:
            continue
        if _plain(old.get(keyword), old_root) != _plain(new.get(keyword), new_root):
            yield f"{here} has another {keyword}"


def _of_values(old: Schema, new: Schema, side: Side, here: str) -> Iterator[str]:
    """Types and enumerations, as the sets of what they allow."""
    pairs = [("type", _types(old), _types(new))]
    listed, listed_now = _listed(old), _listed(new)
    if listed is not None and listed_now is not None:
        pairs.append(("value", listed, listed_now))
    elif listed is not None and side == "written":
        yield f"{here} may be more than the values that were listed"
    elif listed_now is not None and side == "read":
        yield f"{here} may only be one of a list"
    for what, before, after in pairs:
        if side == "written" and (more := sorted(after - before)):
            yield f"{here} may be of a new {what}: {', '.join(more)}"
        if side == "read" and (fewer := sorted(before - after)):
            yield f"{here} may no longer be of the {what}: {', '.join(fewer)}"


def _of_bounds(old: Schema, new: Schema, side: Side, here: str) -> Iterator[str]:
    for keyword in sorted(_LOWER_BOUNDS | _UPPER_BOUNDS):
        before, after = old.get(keyword), new.get(keyword)
        if before == after:
            continue
        if before is None or after is None:
            wider = after is None
        else:
            wider = after < before if keyword in _LOWER_BOUNDS else after > before
        if wider == (side == "written"):
            yield f"{here} has another {keyword}: {before} became {after}"


def _of_required(old: Schema, new: Schema, side: Side, here: str) -> Iterator[str]:
    before, after = set(old.get("required", ())), set(new.get("required", ()))
    if side == "written":
        for name in sorted(before - after):
            yield f"{here} need no longer have {name}"
    else:
        for name in sorted(after - before):
            yield f"{here} must now have {name}"


def _resolved(schema: Schema, root: Schema) -> Schema:
    """The schema with its own `$ref` followed; what stands beside the `$ref` wins."""
    if "$ref" not in schema:
        return schema
    found: Any = root
    for part in str(schema["$ref"]).removeprefix("#/").split("/"):
        found = found[part]
    beside = {name: value for name, value in schema.items() if name != "$ref"}
    return {**_resolved(found, root), **beside}


def _plain(value: Any, root: Schema) -> Any:
    """A value with every `$ref` in it followed and every annotation left out."""
    if isinstance(value, Mapping):
        resolved = _resolved(value, root)
        return {k: _plain(v, root) for k, v in resolved.items() if k not in _ANNOTATIONS_TOO}
    return [_plain(one, root) for one in value] if isinstance(value, list) else value


def _types(schema: Schema) -> set[str]:
    given = schema.get("type")
    if given is None:
        return _ALL_TYPES
    found = {given} if isinstance(given, str) else set(given)
    # Every integer is a number.
    return found | {"integer"} if "number" in found else found


def _listed(schema: Schema) -> set[str] | None:
    if "const" in schema:
        return {repr(schema["const"])}
    return {repr(value) for value in schema["enum"]} if "enum" in schema else None
