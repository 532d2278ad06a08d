"""Builds the handlers of the API."""

from __future__ import annotations

from collections.abc import Sequence

from adapters.http.api.document import DocumentHandlers
from adapters.http.routes import Handlers


def build_api(others: Sequence[Handlers]) -> Sequence[Handlers]:
    """Build the handlers of the API; `others` are those that the server has beside it."""
    api: list[Handlers] = []
    document = DocumentHandlers(route for group in (*others, *api) for route in group.routes())
    return [*api, document]
