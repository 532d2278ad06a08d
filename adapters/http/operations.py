"""Describes what a route of the API takes and answers; the OpenAPI document is made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Schema: TypeAlias = Mapping[str, Any]
"""A JSON Schema (2020-12), as OpenAPI 3.1 has it. One with a `title` becomes a component."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A value in the path, the query or the header of a request."""

    name: str
    text: str
    schema: Schema = field(default_factory=lambda: {"type": "string"})
    where: str = "query"
    is_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a body has: of a request, or of an answer."""

    text: str = ""
    media_type: str = "application/json"
    schema: Schema | None = None
    """None for an answer without a body."""
    more: Sequence[str] = ()
    """Other media types that the body may have, all of them binary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path of the API."""

    name: str
    """Its `operationId`: generated clients name their functions by it."""
    tag: str
    summary: str
    answers: Mapping[int, Content]
    parameters: Sequence[Parameter] = ()
    """Those in the path are added, unless they are described here."""
    body: Content | None = None
    problems: Sequence[int] = ()
    """Statuses of refusals, beside those that every route of its kind may have."""
    inside: Sequence[Schema] = ()
    """Schemas of what an answer that is no JSON has inside: they become components, too."""
