"""The reference pages: written anew for every request from what the code says of itself."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic_core import PydanticUndefined

from service.client import Client, GramHandle, JobHandle, SolveHandle
from service.jobs.registry import TASK_TYPES
from service.settings import ServiceSettings


def tasks(document: dict[str, Any]) -> str:
    """All task types of POST /v1/jobs: what they do, their fields, and their examples."""
    parts = ["What `POST /v1/jobs` and `POST /v1/estimates` take as `task`.\n"]
    for kind in TASK_TYPES:
        schema = kind.schema.model_json_schema()
        parts.append(f"## {kind.name}\n\n{inspect.getdoc(kind.schema)}\n")
        rows = [
            (f"`{name}`", _type(field), _default(name, field, schema), field.get("description", ""))
            for name, field in schema["properties"].items()
            if name != "type"
        ]
        parts.append(_table(("field", "type", "default", "meaning"), rows))
        for example in kind.examples.values():
            task = {"type": kind.name, **example["value"]}
            parts.append(f"{example['summary']}:\n\n```json\n{_members_on_lines(task)}\n```\n")
    return "\n".join(parts)


def rest(document: dict[str, Any]) -> str:
    """All routes, from the OpenAPI document of this service."""
    parts = [
        "From the OpenAPI document of this service; [/docs](/docs) has it with schemas, and lets"
        " you try. Errors are RFC 9457 problem documents with a stable `kind`.\n"
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(f"## {method.upper()} {path}\n\n**{operation['summary']}.**\n")
            parts.append(f"{operation.get('description', '')}\n")
            rows = [
                (f"`{p['name']}`", p["in"], _cell(p.get("description", "")))
                for p in operation.get("parameters", [])
            ]
            if rows:
                parts.append(_table(("parameter", "in", "meaning"), rows))
            answers = ", ".join(f"`{status}`" for status in operation["responses"])
            parts.append(f"Answers: {answers}.\n")
    return "\n".join(parts)


def client(document: dict[str, Any]) -> str:
    """The classes of the Python client, from their docstrings."""
    parts = ["```text\nfrom service.client import Client\n```\n"]
    for cls in (Client, JobHandle, GramHandle, SolveHandle):
        parts.append(f"## {cls.__name__}\n\n{inspect.getdoc(cls)}\n")
        for name, signature, text in _members(cls):
            parts.append(f"### {name}\n\n```text\n{signature}\n```\n\n{text}\n")
    return "\n".join(parts)


def settings(document: dict[str, Any]) -> str:
    """All settings with their defaults. Their reasons are in service/settings.py."""
    rows = []
    for name, field in ServiceSettings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "required" if default is PydanticUndefined else f"`{default!r}`"
        rows.append((f"`{name}`", f"`GRAMIAN_{name.upper()}`", _cell(shown)))
    text = (
        "Read from the environment when the service starts, or given with"
        " `gramian serve --set NAME=VALUE`. The unit is in the name; the reason for each default"
        " is in `service/settings.py`.\n\n"
    )
    return text + _table(("setting", "variable", "default"), rows)


def _members(cls: type) -> Iterator[tuple[str, str, str]]:
    """Public methods and properties that are not shown for a base class already."""
    shown_elsewhere = set(dir(JobHandle)) if cls in (GramHandle, SolveHandle) else set()
    for name in sorted(set(dir(cls)) - shown_elsewhere):
        member = inspect.getattr_static(cls, name)
        text = inspect.getdoc(member)
        if name.startswith("_") or text is None:
            continue
        if isinstance(member, property):
            yield name, name, text
        elif inspect.isfunction(member):
            yield name, f"{name}{inspect.signature(member)}", text


def _members_on_lines(value: dict[str, Any]) -> str:
    members = (f"  {json.dumps(name)}: {json.dumps(member)}" for name, member in value.items())
    return "{\n" + ",\n".join(members) + "\n}"


def _type(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{value}`" for value in field["enum"])
    if "anyOf" in field:
        return _cell(" or ".join(_type(option) for option in field["anyOf"]))
    if "const" in field:
        return f"`{field['const']}`"
    if "$ref" in field:
        return str(field["$ref"]).rsplit("/", 1)[1]
    return str(field.get("type", "any"))


def _default(name: str, field: dict[str, Any], schema: dict[str, Any]) -> str:
    if name in schema.get("required", []):
        return "required"
    return f"`{json.dumps(field.get('default'))}`"


def _table(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [names, ("---",) * len(names), *rows]
    return (
        "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines) + "\n"
    )


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("\\|", "|").replace("|", "\\|")
