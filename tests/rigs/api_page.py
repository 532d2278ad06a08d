"""Writes docs/api.md, the page of the API, from its OpenAPI document (``make api-page``)."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from adapters.http.api.document import COMMON_PROBLEMS, document_of
from adapters.http.api.problems import MEDIA_TYPE
from adapters.http.routes import DECLARED
from benchmarks.tables import heading, row
from entrypoints.config import resolve
from entrypoints.container import ServerContainer
from entrypoints.settings import ServerSettings
from entrypoints.subscribers import NO_EVENTS

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "api.md"
_METHODS = ("get", "put", "post", "delete")
_INTRODUCTION = """\
# The API

Programs, pages and the command line ask one server the same way: by HTTP, under `/api`. This page is
made from the OpenAPI document that each server serves at `/api/openapi.json` (`make api-page`), from
which generators make clients in most languages.

A request has a token: `Authorization: Bearer TOKEN`. It is the server's own (`--token`), or one that
`gapless token new` has made, with one of these roles:

| role | may |
|---|---|
| `publish` | record: open sessions, and change and end those whose secret it has |
| `watch` | see sessions and recordings, listen, download |
| `admin` | everything |

Without a token a server on a loopback address lets everybody on its machine do everything.
Refusals are problem details (RFC 9457, `application/problem+json`): `detail` says what is wrong. An id
that does not exist and one that a token may not see are answered alike. Each operation that needs a
token may be refused with 401 (no token, or a wrong one), 403 (without the role), 429 (too often) and 503
(the server is full, or a worker restarts); `Retry-After` says when to come back. Others are listed.
"""


def document(recordings: str) -> dict[str, Any]:
    """Return the OpenAPI document of a server; it makes nothing in the folder."""
    settings = resolve(
        ServerSettings, command_line={"recordings": recordings}, environ={}, config_file=None
    )
    container = ServerContainer(settings=settings, events=NO_EVENTS)
    return document_of(container.signaling().make_application()[DECLARED].values())


def page(found: dict[str, Any]) -> str:
    """Write the page of a document."""
    return _INTRODUCTION + "".join(_operations(found)) + "".join(_schemas(found))


def _operations(found: dict[str, Any]) -> Iterator[str]:
    tags: dict[str, list[str]] = {}
    for path, methods in found["paths"].items():
        for method in _METHODS:
            if method in methods:
                operation = methods[method]
                text = "".join(_operation(method.upper(), path, operation))
                tags.setdefault(operation["tags"][0], []).append(text)
    for tag, texts in tags.items():
        yield f"\n## {tag.capitalize()}\n"
        yield from texts


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"\n### `{method} {path}`\n\n{operation['summary']}. "
    yield operation.get("description", "Needs no token.") + "\n"
    if operation["parameters"]:
        yield "\n" + heading("parameter", "in", "type", "")
        for item in operation["parameters"]:
            yield row(
                f"`{item['name']}`", item["in"], _type(item["schema"]), item.get("description", "")
            )
    if "requestBody" in operation:
        yield "\nThe body: " + ", ".join(_contents(operation["requestBody"])) + ".\n"
    yield "\n" + heading("status", "answer", "")
    refusals = []
    for status, answer in operation["responses"].items():
        if MEDIA_TYPE in answer.get("content", {}):
            refusals.append(status)
        else:
            yield row(status, ", ".join(_contents(answer)), answer["description"])
    if own := [status for status in refusals if int(status) not in COMMON_PROBLEMS]:
        yield f"\nRefusals: {', '.join(own)}.\n"


def _contents(holder: dict[str, Any]) -> Iterator[str]:
    for media_type, content in holder.get("content", {}).items():
        schema = content["schema"]
        shown = _type(schema) if "$ref" in schema else ""
        yield f"{shown} (`{media_type}`)" if shown else f"`{media_type}`"


def _schemas(found: dict[str, Any]) -> Iterator[str]:
    yield "\n## Schemas\n"
    for name, schema in found["components"]["schemas"].items():
        yield f"\n### {name}\n\n"
        if "description" in schema:
            yield schema["description"] + "\n\n"
        yield heading("property", "type", "")
        needed = set(schema.get("required", ()))
        for key, value in schema.get("properties", {}).items():
            text = value.get("description", "")
            yield row(f"`{key}`" + ("" if key in needed else " (optional)"), _type(value), text)


def _type(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"array of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    text = " or ".join(kind) if isinstance(kind, list) else str(kind)
    return f"{text} ({schema['format']})" if "format" in schema else text


if __name__ == "__main__":
    PAGE.write_text(page(document("recordings")))
