"""The OpenAPI document (version 3.1): what the routes of the API say of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from aiohttp import web

from adapters.http.api.problems import MEDIA_TYPE, PROBLEM
from adapters.http.cookies import NAME
from adapters.http.operations import Content, Operation
from adapters.http.routes import Route

OPENAPI = "3.1.0"
API_VERSION = "1"
"""Of the API, not of the program: strangers do not learn which faults that has."""
_IN_PATH = re.compile(r"\{(\w+)\}")
COMMON_PROBLEMS = (401, 403, 429, 503)
_DESCRIPTION = (
    "Everything a Gapless server knows. Times are UTC (RFC 3339), positions are samples per "
    "channel from the beginning of a recording. A request has a bearer token with the role that "
    "its operation names, or with the role admin. From pages of the server itself, the cookie that "
    "`POST /api/sign-in` sets takes its place. An id that does not exist and one that a token may "
    "not see are answered alike."
)


class DocumentHandlers:
    """Serves the document. It is public: it says nothing that the source code does not say."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._document = document_of([*routes, *self.routes()])

    def routes(self) -> Sequence[Route]:
        operation = Operation(
            name="getDocument",
            tag="document",
            summary="This document",
            answers={200: Content(text="The document.", schema={"type": "object"})},
        )
        return [Route("GET", "/api/openapi.json", self._get, role=None, operation=operation)]

    async def _get(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self._document)


def document_of(routes: Iterable[Route]) -> dict[str, Any]:
    """Make the document of all routes that have an operation."""
    components: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for route in routes:
        if route.operation is not None:
            described = _describe(route, route.operation, components)
            _lifted(list(route.operation.inside), components)
            paths.setdefault(route.path, {})[route.method.lower()] = described
    return {
        "openapi": OPENAPI,
        "info": {"title": "Gapless", "version": API_VERSION, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": NAME},
            },
        },
    }


def _describe(route: Route, operation: Operation, components: dict[str, Any]) -> dict[str, Any]:
    known = {parameter.name for parameter in operation.parameters}
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _IN_PATH.findall(route.path)
        if name not in known
    ]
    parameters += [
        {
            "name": item.name,
            "in": item.where,
            "required": item.is_required or item.where == "path",
            "description": item.text,
            "schema": _lifted(item.schema, components),
        }
        for item in operation.parameters
    ]
    described: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters,
        "responses": _responses(route, operation, components),
    }
    if route.role is not None:
        described["description"] = f"Needs the role `{route.role.value}`."
        described["security"] = [{"token": []}, {"cookie": []}]
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": _content(operation.body, components),
        }
    return described


def _responses(route: Route, operation: Operation, components: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, content in operation.answers.items():
        responses[str(status)] = {"description": content.text or operation.summary}
        if content.schema is not None:
            responses[str(status)]["content"] = _content(content, components)
    common = () if route.role is None else COMMON_PROBLEMS
    for status in sorted({*common, *operation.problems}):
        responses[str(status)] = {
            "description": "Refused, with the reason.",
            "content": {MEDIA_TYPE: {"schema": _lifted(PROBLEM, components)}},
        }
    return responses


def _content(content: Content, components: dict[str, Any]) -> dict[str, Any]:
    assert content.schema is not None
    found = {content.media_type: {"schema": _lifted(content.schema, components)}}
    for media_type in content.more:
        found[media_type] = {"schema": {"type": "string", "format": "binary"}}
    return found


def _lifted(schema: Any, components: dict[str, Any]) -> Any:
    """Return a schema in which each one that has a title is a reference to a component."""
    if isinstance(schema, Mapping):
        lifted = {key: _lifted(value, components) for key, value in schema.items()}
        title = schema.get("title")
        if not isinstance(title, str):
            return lifted
        components[title] = lifted
        return {"$ref": f"#/components/schemas/{title}"}
    return [_lifted(item, components) for item in schema] if isinstance(schema, list) else schema
